"""Forms generated from a stage's ``Params``: one widget per field, with its title, bounds and description.

Widgets live in session state under ``prefix.field``, so presets and links can fill a form before it is drawn. Limits
are enforced by the browser only; :meth:`merging.methods.registry.Stage.parse` checks again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from merging.core.errors import SpecError
from merging.core.text import printed
from merging.methods.params import AUTO, bounds, excludes_low, is_coefficient, takes_auto, takes_each, title_of
from merging.methods.registry import Stage
from ui.look import marks
from ui.look.figure import escape_markdown

MODES = {"one": "One value", "each": "Per task", AUTO: "Auto"}
_SEGMENTS = 2  # more options than this become a drop-down: they would not fit in half a form's width
_MANY = 100  # integers with at least this default are counted in fifties
_ROW = 4  # coefficients per task side by side
_PRESET = ".preset"  # end of the keys of choices that fill other widgets

Tasks = Mapping[str, str]  # name → label


def stage_form(stage: Stage, prefix: str, tasks: Tasks) -> dict[str, Any]:
    """Draw widgets for all parameters of a stage, after a row of its presets.

    Args:
        stage: an edit or a merge.
        prefix: beginning of the widgets' keys, unique on the page.
        tasks: the tasks of the run, for parameters that can differ by task.

    Returns:
        Parameter name → value, as the widgets show them; not validated.
    """
    seed_defaults(stage, prefix, tasks)
    _presets(stage, prefix, tasks)
    fields = stage.params.model_fields
    if not fields:
        st.caption("Nothing to set.")
        return {}
    wide = [name for name, field in fields.items() if is_coefficient(field)]
    values = {name: _coefficient(fields[name], f"{prefix}.{name}", name, tasks) for name in wide}
    narrow = [name for name in fields if name not in wide]
    for start in range(0, len(narrow), 2):
        for name, column in zip(narrow[start : start + 2], st.columns(2), strict=False):
            with column:
                values[name] = _widget(fields[name], f"{prefix}.{name}", name)
    marks.remember(f"{prefix}{_PRESET}", widgets_of(prefix))
    return {name: values[name] for name in fields}


def widgets_of(prefix: str) -> list[str]:
    """Keys of all widgets whose key begins so, but for choices of presets."""
    keys = map(str, st.session_state)
    return [key for key in keys if key.startswith(f"{prefix}.") and not key.endswith(_PRESET)]


def seed_defaults(stage: Stage, prefix: str, tasks: Tasks) -> None:
    """Put defaults into those widgets that hold nothing yet."""
    for key, value in widget_values(stage, prefix, {}, tasks).items():
        st.session_state.setdefault(key, value)


def fill(stage: Stage, prefix: str, values: Mapping[str, Any], tasks: Tasks) -> None:
    """Make the widgets show given values, and defaults for all other parameters.

    Raises:
        SpecError: a value is out of bounds or a name unknown; then nothing is changed.
    """
    st.session_state.update(widget_values(stage, prefix, values, tasks))


def widget_values(stage: Stage, prefix: str, values: Mapping[str, Any], tasks: Tasks) -> dict[str, Any]:
    """Session-state key → value with which the widgets show these parameters.

    Raises:
        SpecError: a value is out of bounds or a name unknown.
    """
    parsed = stage.parse(values)
    state: dict[str, Any] = {}
    for name, field in stage.params.model_fields.items():
        key, value = f"{prefix}.{name}", getattr(parsed, name)
        if not is_coefficient(field):
            state[key] = value
            continue
        if isinstance(value, tuple) and len(value) != len(tasks):
            raise SpecError(f"{name}: {len(value)} coefficients for {len(tasks)} tasks; give one or {len(tasks)}")
        state[key] = "each" if isinstance(value, tuple) else AUTO if value == AUTO else "one"
        if not takes_each(field):
            state[f"{key}.one"] = _one_of(value, field)
            continue
        each = value if isinstance(value, tuple) else [_one_of(value, field)] * len(tasks)
        state[f"{key}.one"] = _one_of(value, field)
        state |= {f"{key}.{task}": float(own) for task, own in zip(tasks, each, strict=True)}
    return state


def _one_of(value: Any, field: FieldInfo) -> float:
    """A number to show where λ is a list or ``auto``."""
    if isinstance(value, (int, float)):
        return float(value)
    return float(field.default) if isinstance(field.default, (int, float)) else 0.3


def _widget(field: FieldInfo, key: str, name: str) -> Any:
    """The widget of one field.

    Raises:
        TypeError: there is no widget for the field's type yet.
    """
    title, description, kind = title_of(field, name), field.description, field.annotation
    if get_origin(kind) is Literal:
        return _choice(title, get_args(kind), key, description)
    if kind is bool:
        return st.toggle(title, key=key, help=description)
    if kind is int:
        return _integer(field, title, key)
    if kind is float:
        return _number(field, title, key)
    raise TypeError(f"no widget for parameter {name!r} of type {kind}")


def _choice(title: str, options: Sequence[Any], key: str, description: str | None) -> Any:
    if len(options) <= _SEGMENTS:
        return st.segmented_control(title, options, key=key, help=description, required=True, width="stretch")
    return st.selectbox(title, options, key=key, help=description)


def _integer(field: FieldInfo, title: str, key: str) -> Any:
    low, high = bounds(field)
    return st.number_input(
        title,
        None if low is None else math.ceil(low),
        None if high is None else math.floor(high),
        step=50 if isinstance(field.default, int) and field.default >= _MANY else 1,
        key=key,
        help=_with_range(field),
    )


def _number(field: FieldInfo, title: str, key: str, alone: bool = False) -> Any:
    low, high = bounds(field)
    return st.number_input(
        title,
        low,
        high,
        step=_step(field.default),
        format="%g",
        key=key,
        help=_with_range(field),
        label_visibility="collapsed" if alone else "visible",
    )


def _step(default: Any) -> float:
    """A step that moves a default by a sixth to a half of itself: 0.05 for 0.3, 0.005 for 0.01.

    >>> _step(0.3), _step(0.01)
    (0.05, 0.005)
    """
    if not isinstance(default, (int, float)) or default == 0:
        return 0.05
    return float(f"{10.0 ** math.floor(math.log10(abs(default))) / 2:g}")


def _with_range(field: FieldInfo) -> str:
    low, high = bounds(field)
    text = field.description or ""
    if low is not None and high is not None:
        text += f" {'Above' if excludes_low(field) else 'From'} {printed(round(low, 6))} to {printed(high)}."
    return text.strip()


def _coefficient(field: FieldInfo, key: str, name: str, tasks: Tasks) -> Any:
    """λ: how it is chosen, and then one number, one per task, or nothing."""
    title = title_of(field, name)
    offered = {"one": True, "each": takes_each(field), AUTO: takes_auto(field)}
    modes = [mode for mode in MODES if offered[mode]]
    mode = st.segmented_control(
        title,
        modes,
        format_func=MODES.__getitem__,
        key=key,
        help=field.description,
        required=True,
        width="stretch",
    )
    if mode == AUTO:
        st.caption("Chosen on the validation split, from a grid of values; the run says which it took.")
        return AUTO
    if mode == "one":
        return _number(field, title, f"{key}.one", alone=True)
    low, high = bounds(field)
    values = []
    names = list(tasks)
    for start in range(0, len(names), _ROW):
        for task, column in zip(names[start : start + _ROW], st.columns(_ROW), strict=False):
            values.append(
                column.number_input(
                    escape_markdown(tasks[task]), low, high, step=_step(field.default), format="%g", key=f"{key}.{task}"
                )
            )
    return values


def _presets(stage: Stage, prefix: str, tasks: Tasks) -> None:
    """A row of presets; the one that the widgets show now is marked."""
    if not stage.presets:
        return
    presets = {"Defaults": {}, **stage.presets}
    if any(not stage.presets[title] for title in stage.presets):
        del presets["Defaults"]  # a preset of that content has a better name
    key = f"{prefix}{_PRESET}"
    shown = {title: widget_values(stage, prefix, values, tasks) for title, values in presets.items()}
    st.session_state[key] = next(
        (title for title, state in shown.items() if all(st.session_state.get(k) == v for k, v in state.items())), None
    )

    def apply() -> None:
        chosen = st.session_state[key]
        if chosen is not None and marks.is_chosen(key):
            st.session_state.update(shown[chosen])

    st.pills("Presets", list(presets), key=key, on_change=apply)
