"""What a function has to be to become a stage; what is not is refused when its file is imported, with the reason.

Forms, command-line flags, tables and links are made from the function's docstring and the types of its parameters, so
that what they can't show is no stage.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from merging.methods.params import NEEDS, Params, bounds, is_coefficient, takes_auto
from merging.methods.planned import LinearEdit, LinearMerge, LocalisedMerge, TensorEdit, TensorMerge

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ARGUMENTS = ("vectors", "params", "context")
_GIVES: dict[str, frozenset[Any]] = {
    "edit": frozenset({LinearEdit, TensorEdit}),
    "merge": frozenset({LinearMerge, TensorMerge, LocalisedMerge}),
}


def is_name(name: str) -> bool:
    """Whether specifications and the command line can call something so."""
    return _NAME.fullmatch(name) is not None


def gives(function: Callable[..., Any]) -> frozenset[Any]:
    """The classes, of :mod:`merging.methods.planned`, that a function says it returns."""
    hint = get_type_hints(function).get("return")
    return frozenset(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))


def require_sound(
    kind: str, name: str, title: str, function: Callable[..., Any], needs: str, titles: Mapping[str, str]
) -> None:
    """Insist that a function can be registered; ``titles`` are those of the stages of its kind, and their names.

    Raises:
        ValueError: it breaks the contract; the message says how.
    """
    reason = _fault_of_function(kind, name, title, function) or _fault_of_params(kind, function)
    if not reason and needs not in NEEDS:
        reason = f"needs {needs!r}; expected one of {', '.join(NEEDS)}"
    if not reason and title in titles:
        reason = f"{kind} {titles[title]!r} has the title {title!r} already"
    if reason:
        raise ValueError(f"{kind} {name!r} can't be registered: {reason}")


def _fault_of_function(kind: str, name: str, title: str, function: Callable[..., Any]) -> str:
    if not is_name(name):
        return "a name is made of small letters, digits and _, and begins with a letter"
    if not title.strip():
        return "it has no title"
    summary = (inspect.getdoc(function) or "").strip().partition("\n")[0]
    if not summary.endswith("."):
        return f"its docstring must begin with one line that is a sentence; got {summary!r}"
    arguments = tuple(inspect.signature(function).parameters)
    if arguments != _ARGUMENTS:
        return f"its arguments must be {', '.join(_ARGUMENTS)}; got {', '.join(arguments) or 'none'}"
    if not gives(function) <= _GIVES[kind]:
        known = sorted(one.__name__ for one in _GIVES[kind])
        return f"its return type must be one or several of {', '.join(known)}"
    return ""


def _fault_of_params(kind: str, function: Callable[..., Any]) -> str:
    params = get_type_hints(function).get("params")
    if not (isinstance(params, type) and issubclass(params, Params) and params is not Params):
        return f"the type of params must be a subclass of Params; got {params}"
    if not params.model_config.get("frozen") or params.model_config.get("extra") != "forbid":
        return f"{params.__name__} must stay frozen and refuse unknown names, as Params does"
    faults = ((name, _fault_of_field(params, name, field)) for name, field in params.model_fields.items())
    found = next(((name, fault) for name, fault in faults if fault), None)
    if found:
        return f"parameter {found[0]!r} {found[1]}"
    scalings = [name for name, mark in params.on_validation().items() if mark.scaling]
    if len(scalings) > 1 or (scalings and kind == "edit"):
        return f"only a merge has λ, and only one; marked are {', '.join(scalings)}"
    try:
        params.model_validate(params().model_dump())  # a default by itself is not validated
    except ValidationError as error:
        return f"its defaults are not valid: {error.errors()[0]['msg']}"
    return ""


def _fault_of_field(params: type[Params], name: str, field: FieldInfo) -> str:
    marked = name in params.on_validation()
    if marked and not takes_auto(field):
        return "is chosen on validation, so its type must allow 'auto'"
    if takes_auto(field) and not marked:
        return "allows 'auto', which means chosen on validation: mark it with OnValidation, or use another word"
    if not field.description:
        return "has no description, which forms and tables show"
    if field.is_required():
        return "has no default"
    if not _can_be_shown(field):
        return f"has a type that no form can show: {field.annotation}"
    if (field.annotation in (int, float) or is_coefficient(field)) and None in bounds(field):
        return "needs a smallest and a largest value (ge or gt, le or lt)"
    return ""


def _can_be_shown(field: FieldInfo) -> bool:
    if is_coefficient(field):
        return all(_is_coefficient_option(option) for option in get_args(field.annotation))
    return field.annotation in (bool, int, float) or get_origin(field.annotation) is Literal


def _is_coefficient_option(option: Any) -> bool:
    """A number, a list of numbers of any length, or ``auto``."""
    if get_origin(option) is Literal:
        return get_args(option) == ("auto",)
    if get_origin(option) is tuple:
        inner, *rest = get_args(option)
        return rest == [...] and _is_coefficient_option(inner)
    return option is float or (get_args(option)[:1] == (float,))
