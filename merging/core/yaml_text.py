"""YAML as descriptions of suites, sweeps and recipes are written in: plain values, each name once, nothing huge.

YAML has more than these need, and some of it takes people by surprise: ``010`` is 8 in it, ``1:30`` is 90, a date is no
text, a name that stands there twice counts as it stands there last. Such things are refused with their line.
"""

import copy
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from merging.core.errors import MergingError
from merging.core.gate import DAMAGE, read_text
from merging.core.limits import MAX_YAML_DEPTH, MAX_YAML_VALUES
from merging.core.yaml_problems import yaml_problem_in_words

_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML's wheels have it; one built without libyaml has not
_TAG = "tag:yaml.org,2002:"
_MARKS = "-:?,[{"  # every value but the first stands behind one of these, two at most behind one
_SLOW_BYTES, _SLOW_MARKS = 256 * 2**10, 10_000  # of what PyYAML's own parser reads in a moment
_REMEMBERED_BYTES = 2**17  # of text whose meaning is remembered
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)")
_LARGEST = 2**63
_OTHER_NUMBER = "{!r} is read as another number in YAML; write it in decimals, or in quotes"
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OTHERS = {
    "timestamp": "a date",
    "binary": "binary data",
    "set": "a set",
    "omap": "an ordered map",
    "pairs": "pairs",
}


def read_yaml(path: Path, error: type[MergingError], most: int) -> Any:
    """What a file of YAML says.

    Args:
        path: the file.
        error: what to raise.
        most: bytes that it may have.

    Raises:
        MergingError: as ``error``, if it can't be read, is larger, or :func:`parse_yaml` refuses it.
    """
    text = read_text(path, error, most)
    try:
        return parse_yaml(text)
    except yaml.YAMLError as problem:
        raise error(f"{path.name}: not valid YAML: {yaml_problem_in_words(problem)}") from None


def parse_yaml(text: str) -> Any:
    """What YAML text says: mappings, lists, text, numbers, true, false and null; no tag makes anything else of it.

    libyaml reads tenfold faster than Python, and pages of the dashboard read a suite more than once. What it refuses is
    read again by PyYAML's own parser, which takes a few things more and whose complaints are the ones shown.

    Raises:
        yaml.YAMLError: it is no YAML, has a name twice in one mapping, values that are surprises, or too many of them.

    >>> parse_yaml("name: tiny\\ntasks: [digits, {name: signs}]")
    {'name': 'tiny', 'tasks': ['digits', {'name': 'signs'}]}
    """
    return copy.deepcopy(_parsed(text) if len(text) <= _REMEMBERED_BYTES else _parsed.__wrapped__(text))


@lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """The same, remembered: pages read the description of a suite many times."""
    marks = sum(map(text.count, _MARKS))
    try:
        if 2 * marks + 2 > MAX_YAML_VALUES:
            _count(text)
        try:
            return _loaded(text, _Loader)
        except (_Refused, yaml.constructor.ConstructorError):
            raise
        except yaml.YAMLError:
            if len(text) > _SLOW_BYTES or marks > _SLOW_MARKS:
                raise
            return _loaded(text, _SlowLoader)
    except RecursionError:
        raise _Refused(f"nested more than {MAX_YAML_DEPTH} deep") from None
    except DAMAGE:
        raise _Refused("a value can't be read: a date, number or text that is not possible") from None


class _Refused(yaml.YAMLError):
    """What this module itself has to say."""


class _Loader(_FAST):  # type: ignore[misc]
    pass


class _SlowLoader(yaml.SafeLoader):
    pass


def _loaded(text: str, kind: type[Any]) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(text: str) -> None:
    """Refuse what has too many values before any of them is kept."""
    values = 0
    for event in yaml.parse(text, Loader=_FAST):
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_YAML_VALUES:
            raise _Refused(f"more than {MAX_YAML_VALUES} values")


def _check(root: yaml.Node) -> None:
    """Refuse names that stand twice in a mapping, and aliases that unfold to something huge, deep or endless."""
    known: dict[int, tuple[int, int] | None] = {}  # values and depth of what was seen; None while it is looked into
    left = [(root, False)]
    while left:
        node, done = left.pop()
        if done:
            inside = [known[id(child)] or (0, 0) for child in _children(node)]
            values = 1 + sum(count for count, _ in inside)
            depth = 1 + max((level for _, level in inside), default=0)
            if values > MAX_YAML_VALUES:
                raise _refused(node, f"unfolds to more than {MAX_YAML_VALUES} values; remove aliases (*name)")
            if depth > MAX_YAML_DEPTH:
                raise _refused(node, f"nested more than {MAX_YAML_DEPTH} deep")
            known[id(node)] = values, depth
        elif id(node) not in known:
            known[id(node)] = None
            left.append((node, True))
            left.extend((child, False) for child in _children(node))
            if isinstance(node, yaml.MappingNode):
                _check_names(node)
        elif known[id(node)] is None:
            raise _refused(node, "holds itself; remove aliases (*name)")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _check_names(node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refused(key, "a list or a mapping can't be a name")
        name = key.tag, key.value
        if name in lines:
            raise _refused(key, f"{key.value[:80]!r} stands on line {lines[name]} already; each name may stand once")
        lines[name] = key.start_mark.line + 1


def _refused(node: yaml.Node, what: str) -> _Refused:
    return _Refused(f"line {node.start_mark.line + 1}: {what}")


def _text(loader: Any, node: Any) -> str:
    unseen = CONTROL.search(node.value)
    if unseen:
        raise _refused(node, f"holds the control character {unseen[0]!a}, which no name or text needs")
    return str(loader.construct_scalar(node))


def _whole(loader: Any, node: Any) -> int:
    written = node.value
    if not _WHOLE.fullmatch(written):
        raise _refused(node, _OTHER_NUMBER.format(written[:40]))
    number = int(loader.construct_yaml_int(node)) if len(written) <= 80 else _LARGEST
    if abs(number) >= _LARGEST:
        raise _refused(node, f"a whole number of {len(written)} digits; nothing here is that large")
    return number


def _number(loader: Any, node: Any) -> float:
    if ":" in node.value:
        raise _refused(node, _OTHER_NUMBER.format(node.value[:40]))
    try:
        return float(loader.construct_yaml_float(node))
    except (ValueError, OverflowError):
        raise _refused(node, f"{node.value[:40]!r} is no number") from None


def _truth(loader: Any, node: Any) -> bool:
    try:
        return bool(loader.construct_yaml_bool(node))
    except KeyError:
        raise _refused(node, f"{node.value[:40]!r} is neither true nor false") from None


def _other(loader: Any, node: Any) -> Any:
    kind = _OTHERS[node.tag.removeprefix(_TAG)]
    seen = f" ({node.value[:40]})" if isinstance(node, yaml.ScalarNode) else ""
    raise _refused(node, f"read as {kind}{seen}, which stands nowhere here; write text in quotes")


for _kind in (_Loader, _SlowLoader):
    for _tag, _constructor in {
        "str": _text,
        "int": _whole,
        "float": _number,
        "bool": _truth,
        **dict.fromkeys(_OTHERS, _other),
    }.items():
        _kind.add_constructor(_TAG + _tag, _constructor)
