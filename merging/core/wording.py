"""What is wrong with given values, in words.

pydantic's findings without its wording; names that were nearly right; tensors that are not those expected.
"""

import difflib
import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from merging.core.text import natural

# What a value must be, by pydantic's type of error, filled from its context.
_MUST = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "string_type": "text",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "string_pattern_mismatch": "text that fits {pattern}",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "dict_type": "names with values",
    "model_type": "names with values",
    "model_attributes_type": "names with values",
    "union_tag_invalid": "of one of the kinds {expected_tags}",
    "union_tag_not_found": "of a kind, named by {discriminator}",
}
# Errors that say only that a value is of another kind: of no interest where an alternative of the type fits better.
_OTHER_KIND = {"float_type", "float_parsing", "tuple_type", "list_type", "literal_error"}
# Steps that pydantic adds to a location for the alternatives of a type, such as constrained-float or tuple[float, ...]
_BRANCH = re.compile(r"(float|int|str|bool|HubFile|constrained-\w+|function-.*|\w+\[.*)$")
_SHOWN = 3
_LONGEST = 120  # letters of a name that are shown; a file may hold names of any length


@dataclass(frozen=True)
class HasNamesOf:
    """Marks a mapping whose names are those of a model that judges it later."""

    model: type[BaseModel]


def explain(error: ValidationError, prefix: str = "", known: Collection[str] | type[BaseModel] = ()) -> str:
    """A pydantic error in one line: where, what was seen, what it must be.

    Args:
        error: what pydantic found.
        prefix: put before every name, such as ``edit.``.
        known: the names at the top level, or the model that has them, of which the nearest are offered for an unknown
            one; of a model also below that level.
    """
    found: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        where = ".".join(str(step) for step in item["loc"] if not _BRANCH.match(str(step)))
        found.setdefault(where, []).append(item)
    whole = [where for where in found if not any(other.startswith(f"{where}.") for other in found if where)]
    said = [_sentence(prefix + where if where else "", found[where], known) for where in whole[:_SHOWN]]
    return "; ".join([*said, f"and {len(whole) - _SHOWN} more"] if len(whole) > _SHOWN else said)


def _sentence(where: str, items: list[Any], known: Collection[str] | type[BaseModel]) -> str:
    items = [item for item in items if item["type"] not in _OTHER_KIND] or items
    first = items[0]
    if first["type"] == "missing":
        return f"{where}: is missing"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown name{nearest(first['loc'][-1], _names_at(first['loc'], known))}"
    if first["type"] in ("value_error", "assertion_error"):
        said = re.sub(r"^(Value error|Assertion failed), ", "", first["msg"])
        return f"{where} = {reprlib.repr(first['input'])}: {said}" if where else said
    seen = f"{where} = {reprlib.repr(first['input'])}" if where else reprlib.repr(first["input"])
    return f"{seen}: must be {' or '.join(dict.fromkeys(map(_must, items)))}{_meant(first)}"


def _meant(item: Any) -> str:
    """Of a value that is none of several names, the nearest of these."""
    context = item.get("ctx", {})
    names = re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))
    return nearest(context.get("tag", item["input"]), names) if len(names) > 2 else ""


def _names_at(place: Sequence[str | int], known: Collection[str] | type[BaseModel]) -> Collection[str]:
    """The names that may stand where an unknown one stood."""
    if not isinstance(known, type):
        return known if len(place) == 1 else ()
    models = {known}
    for step in place[:-1]:
        fields = [model.model_fields[str(step)] for model in models if step in model.model_fields]
        inside = {one for field in fields for one in _models(field)}
        chosen = {one for one in models if step in (one.__name__, *_kind(one))}  # of a union of models
        models = inside or chosen or ({*models} if isinstance(step, int) else set())
    return {name for model in models for name in model.model_fields}


def _models(field: Any) -> set[type[BaseModel]]:
    """The models that a field may hold, in lists and unions, too."""
    left, found = [field.annotation, *field.metadata], set()
    while left:
        one = left.pop()
        if isinstance(one, HasNamesOf):
            found.add(one.model)
        elif isinstance(one, type) and issubclass(one, BaseModel):
            found.add(one)
        left.extend(get_args(one))
    return found


def _kind(model: type[BaseModel]) -> tuple[Any, ...]:
    """What tells a model from others of a union, if something does."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _must(item: Any) -> str:
    known = _MUST.get(item["type"])
    if known is None:
        return re.sub(r"^(Input|String|Value) should (be )?", "", item["msg"])
    return known.format(**{name: _bound(value) for name, value in item.get("ctx", {}).items()})


def _bound(value: Any) -> Any:
    """A bound as people write it: whole numbers with all digits."""
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else value


def differences(tensors: Mapping[str, Collection[str]]) -> str:
    """Which tensors are not as expected, by what they are; nothing is said of what has none.

    >>> differences({"missing": ["d", "a", "b"], "unexpected": []})
    "3 tensors missing (such as 'a', 'b')"
    >>> differences({"missing": ["proj"], "unexpected": ["head.weight"]})
    "1 tensor missing ('proj'), 1 tensor unexpected ('head.weight')"
    """
    parts = []
    for what, names in tensors.items():
        shown = ", ".join(repr(name[:_LONGEST]) for name in sorted(names, key=natural)[:2])
        if len(names) == 1:
            parts.append(f"1 tensor {what} ({shown})")
        elif names:
            parts.append(f"{len(names)} tensors {what} ({'such as ' if len(names) > 2 else ''}{shown})")
    return ", ".join(parts)


def nearest(name: object, known: Collection[str]) -> str:
    """The names that are nearest as a question in brackets, to be put behind an error; empty if none is near.

    >>> nearest("alhpa", ["alpha", "beta", "steps"])
    " (did you mean 'alpha'?)"
    """
    near = difflib.get_close_matches(str(name), list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
