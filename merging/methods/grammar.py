"""Values of parameters as text: the same after ``--set``, in links and in what is typed into a form.

::

    value = item | item "," item [","] …         a comma makes a list
    item  = "[" [value] "]" | number | true | false | "text in quotes" | text

Numbers and quoted text are JSON's. Text stands bare, unless it would read as something else. ``0,3`` is refused, as it
may be 0.3 or a list of 0 and 3; ``[0,3]`` and ``0, 3`` are lists.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from merging.core.errors import SpecError

_QUOTED = re.compile(r'\s*"(?:[^"\\]|\\.)*"')
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+(,[-+]?[0-9]+,[0-9]+)*")
_PAIR = re.compile(r"([0-9]+),([0-9]+)")
_DEEPEST = 3  # brackets in brackets; the values of a sweep, lists of lists of numbers, need two
_STEPS = {"[": 1, "]": -1}


def read_value(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        SpecError: brackets or commas do not fit.

    >>> read_value("0.1"), read_value("layer"), read_value("0.3,-1"), read_value("[0.3]")
    (0.1, 'layer', [0.3, -1], [0.3])
    """
    _refuse_decimal_comma(text)
    items = list(_items(text))
    if len(items) == 1 and not text.rstrip().endswith(","):
        return _item(items[0])
    return [_item(item) for item in items] if items else text.strip()


def read_values(text: str) -> list[Any]:
    """The values between a text's commas, one by one.

    Raises:
        SpecError: brackets or commas do not fit.

    >>> read_values("layer"), read_values("[0.3,-1], auto")
    (['layer'], [[0.3, -1], 'auto'])
    """
    _refuse_decimal_comma(text)
    return [_item(item) for item in _items(text)]


def write_value(value: Any) -> str:
    """The reverse of :func:`read_value`; a tuple comes back as a list.

    >>> write_value("layer"), write_value((0.3, -1.0)), write_value([0.3]), write_value("0.1")
    ('layer', '0.3,-1.0', '[0.3]', '"0.1"')
    """
    if isinstance(value, (list, tuple)) and len(value) > 1:
        bare = ",".join(map(_written, value))
        return f"[{bare}]" if _DECIMAL_COMMA.fullmatch(bare) else bare
    return _written(value)


def read_settings(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """``{"edit.alpha": "0.1", …}`` → stage → parameter → value.

    Raises:
        SpecError: a name is not ``edit.NAME`` or ``merge.NAME``, or a value can't be read.
    """
    found: dict[str, dict[str, Any]] = {"edit": {}, "merge": {}}
    for path, text in texts.items():
        stage, dot, name = path.partition(".")
        if not dot or stage not in found or not name:
            raise SpecError(f"{path!r}: expected edit.NAME=VALUE or merge.NAME=VALUE")
        try:
            found[stage][name] = read_value(text)
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from None
    return found


def _refuse_decimal_comma(text: str) -> None:
    """Ask what is meant where a comma can be that of a number, as much of the world writes it."""
    if _DECIMAL_COMMA.fullmatch(text.strip()):
        spelt = text.strip()[:60]
        points = _PAIR.sub(r"\1.\2", spelt)
        raise SpecError(f"{spelt!r}: numbers with decimal commas, or a list? write {points}, or [{spelt}]")


def _written(item: Any) -> str:
    if isinstance(item, (list, tuple)):
        return f"[{','.join(map(_written, item))}]"
    if not isinstance(item, str):
        return json.dumps(item)
    plain = item and not any(letter in item for letter in '[],"') and _item(item) == item
    return item if plain else json.dumps(item)


def _items(text: str) -> Iterator[str]:
    """What stands between the commas outside of brackets and quotes; nothing for blank text.

    Raises:
        SpecError: a bracket is not closed or not opened, or nothing stands before a comma.
    """
    depth = start = place = 0
    while place < len(text):
        quoted = _QUOTED.match(text, place) if place == start or text[place - 1] in "[," else None
        if quoted:
            place = quoted.end()
            continue
        letter = text[place]
        depth += _STEPS.get(letter, 0)
        if depth < 0 or depth > _DEEPEST:
            raise SpecError(f"{text[:60]!r}: brackets do not fit; a list is written as 0.3,-1 or [0.3,-1]")
        if letter == "," and depth == 0:
            if not text[start:place].strip():
                raise SpecError(f"{text[:60]!r}: nothing stands before a comma")
            yield text[start:place]
            start = place + 1
        place += 1
    if depth:
        raise SpecError(f"{text[:60]!r}: a bracket is not closed; a list is written as 0.3,-1 or [0.3,-1]")
    if text[start:].strip():
        yield text[start:]


def _item(text: str) -> Any:
    text = text.strip()
    if text.startswith("["):
        if not text.endswith("]"):
            raise SpecError(f"{text[:60]!r}: something stands behind a bracket; expected a comma")
        return [_item(item) for item in _items(text[1:-1])]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, dict) else value
