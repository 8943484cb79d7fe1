"""Forms are generated from Params: every registered method must get one, and its defaults must come back out of it."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo
from streamlit.testing.v1 import AppTest

from merging.core.errors import SpecError
from merging.methods.params import Params, bounds, is_coefficient
from merging.methods.registry import Stage, edits, find, merges
from tests.waiting import PATIENCE
from ui.look.forms import widget_values

METHODS = [*edits().values(), *merges().values()]
TASKS = {"digits": "Digits", "signs": "Traffic_signs"}


def form(kind: str, name: str, tasks: dict[str, str], state: dict[str, object]) -> None:
    """Script of a page with nothing but one form."""
    import streamlit as st

    from merging.methods.registry import find
    from ui.look.forms import stage_form

    if "ready" not in st.session_state:
        st.session_state.update(state)
        st.session_state["ready"] = True
    st.session_state["values"] = stage_form(find(kind, name), "form", tasks)  # type: ignore[arg-type]


def draw(method: Stage, **state: Any) -> AppTest:
    arguments = {"kind": method.kind, "name": method.name, "tasks": TASKS, "state": state}
    app = AppTest.from_function(form, default_timeout=PATIENCE, kwargs=arguments).run()
    assert not app.exception
    return app


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_every_method_has_a_form_that_gives_its_defaults(method: Stage) -> None:
    app = draw(method)
    values = app.session_state["values"]
    assert values.keys() == method.params.model_fields.keys()
    assert method.parse(values) == method.parse({})


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_every_numeric_parameter_of_a_method_is_bounded(method: Stage) -> None:
    for name, field in method.params.model_fields.items():
        if field.annotation in (int, float) or is_coefficient(field):
            assert None not in bounds(field), name
        assert field.description, name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_the_ends_that_a_form_offers_are_values_that_the_method_takes(method: Stage) -> None:
    app = draw(method)
    for name, field in method.params.model_fields.items():
        if field.annotation in (int, float) or is_coefficient(field):
            box = app.number_input(key=f"form.{name}.one" if is_coefficient(field) else f"form.{name}")
            for end in (box.min, box.max):
                method.parse({name: int(end) if field.annotation is int else end})  # raises if it is refused


@pytest.mark.parametrize("method", [m for m in METHODS if m.presets], ids=lambda method: method.name)
def test_presets_fill_the_form_and_are_marked(method: Stage) -> None:
    for title, values in method.presets.items():
        app = draw(method)
        app.button_group(key="form.preset").set_value(title).run()
        assert not app.exception
        assert method.parse(app.session_state["values"]) == method.parse(values)
        assert app.session_state["form.preset"] == title


def test_a_preset_is_no_longer_marked_once_a_value_changed() -> None:
    app = draw(find("edit", "awd"))
    app.number_input(key="form.alpha").set_value(0.7).run()
    assert app.session_state["form.preset"] is None
    assert app.session_state["values"]["alpha"] == 0.7


@pytest.mark.parametrize(("scaling", "expected"), [(0.5, 0.5), ((0.4, -1.0), (0.4, -1.0)), ("auto", "auto")])
def test_scaling_can_be_one_number_one_per_task_or_auto(scaling: Any, expected: Any) -> None:
    method = find("merge", "task_arithmetic")
    app = draw(method, **widget_values(method, "form", {"scaling": scaling}, TASKS))
    assert method.parse(app.session_state["values"]).scaling == expected  # type: ignore[attr-defined]


def test_scaling_per_task_has_an_input_per_task_with_its_escaped_label() -> None:
    method = find("merge", "task_arithmetic")
    app = draw(method, **{"form.scaling": "each"})
    boxes = {box.key: box.label for box in app.number_input}
    assert list(boxes.items())[:-1] == [("form.scaling.digits", "Digits"), ("form.scaling.signs", "Traffic\\_signs")]
    assert list(boxes)[-1] == "form.weights.one"
    app.number_input(key="form.scaling.signs").set_value(-0.5).run()
    assert app.session_state["values"]["scaling"] == [0.3, -0.5]


def test_bounds_reach_the_widgets() -> None:
    app = draw(find("edit", "awd"))
    alpha, beta = app.number_input(key="form.alpha"), app.number_input(key="form.beta")
    assert (alpha.min, alpha.max) == (0, 10)
    assert 0 < beta.min < 1e-6


@pytest.mark.parametrize("values", [{"alpha": -1}, {"nonsense": 1}, {"scope": "galaxy"}])
def test_bad_values_change_nothing_and_say_why(values: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        widget_values(find("edit", "awd"), "form", values, TASKS)


def test_a_list_of_coefficients_must_fit_the_tasks() -> None:
    with pytest.raises(SpecError, match="3 coefficients for 2 tasks"):
        widget_values(find("merge", "task_arithmetic"), "form", {"scaling": (1, 2, 3)}, TASKS)


def test_only_what_differs_from_the_defaults_is_named() -> None:
    assert find("edit", "awd").changed({"alpha": 0.1, "steps": 10}) == {"steps": 10}


def test_an_unknown_type_of_parameter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ui.look import forms

    class Odd(Params):
        when: complex = Field(0j, description="Something no widget can show.")

    widget: Callable[..., Any] = forms._widget
    with pytest.raises(TypeError, match="no widget for parameter 'when'"):
        widget(Odd.model_fields["when"], "form.when", "when")


def excluded(field: FieldInfo) -> list[float]:
    """The bounds of a field that are themselves not allowed."""
    options = [field.metadata, *(get_args(option)[1:] for option in get_args(field.annotation))]
    items = [one for option in options for one in option]
    items += [one for item in items if isinstance(item, FieldInfo) for one in item.metadata]
    return [float(getattr(item, name)) for item in items for name in ("gt", "lt") if hasattr(item, name)]


EXCLUDING = [(stage, name) for stage in METHODS for name, field in stage.params.model_fields.items() if excluded(field)]


@pytest.mark.parametrize(("stage", "name"), EXCLUDING, ids=lambda value: getattr(value, "name", value))
def test_a_form_offers_no_bound_that_is_excluded(stage: Stage, name: str) -> None:
    field = stage.params.model_fields[name]
    low, high = bounds(field)
    assert low is not None and high is not None
    app = draw(stage)
    box = next(box for box in app.number_input if box.key in (f"form.{name}", f"form.{name}.one"))
    assert (box.min, box.max) == (low, high)
    for bound in excluded(field):
        assert low > bound or high < bound
        with pytest.raises(SpecError):
            stage.parse({name: bound})
    for end in (low, high):
        stage.parse({name: end})


def test_excluded_bounds_of_any_size_are_left_out() -> None:
    class Wide(Params):
        far: float = Field(0.0, gt=-1e12, lt=1e12, description="Far.")
        near: int = Field(2, gt=0, lt=4, description="Near.")

    low, high = bounds(Wide.model_fields["far"])
    assert low is not None and high is not None and -1e12 < low < -0.99e12 and 0.99e12 < high < 1e12
    low, high = bounds(Wide.model_fields["near"])
    assert low is not None and high is not None and 0 < low <= 1 and 3 <= high < 4
