"""Forms are generated from Params: every registered method must get one, and its defaults must come back out of it."""

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from merging.core.errors import SpecError
from merging.methods.registry import Method, edits, find, merges
from tests.waiting import PATIENCE
from ui.look.forms import bounds, changed, from_text, is_scaling, to_text, widget_values

METHODS = [*edits().values(), *merges().values()]
TASKS = {"digits": "Digits", "signs": "Traffic_signs"}


def form(kind: str, name: str, tasks: dict[str, str], state: dict[str, object]) -> None:
    """Script of a page with nothing but one form."""
    import streamlit as st

    from merging.methods.registry import find
    from ui.look.forms import method_form

    if "ready" not in st.session_state:
        st.session_state.update(state)
        st.session_state["ready"] = True
    st.session_state["values"] = method_form(find(kind, name), "form", tasks)  # type: ignore[arg-type]


def draw(method: Method, **state: Any) -> AppTest:
    arguments = {"kind": method.kind, "name": method.name, "tasks": TASKS, "state": state}
    app = AppTest.from_function(form, default_timeout=PATIENCE, kwargs=arguments).run()
    assert not app.exception
    return app


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_every_method_has_a_form_that_gives_its_defaults(method: Method) -> None:
    app = draw(method)
    values = app.session_state["values"]
    assert values.keys() == method.params.model_fields.keys()
    assert method.parse(values) == method.parse({})


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_every_numeric_parameter_of_a_method_is_bounded(method: Method) -> None:
    for name, field in method.params.model_fields.items():
        if field.annotation in (int, float) or is_scaling(field):
            assert None not in bounds(field), name
        assert field.description, name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_the_ends_that_a_form_offers_are_values_that_the_method_takes(method: Method) -> None:
    app = draw(method)
    for name, field in method.params.model_fields.items():
        if field.annotation in (int, float) or is_scaling(field):
            box = app.number_input(key=f"form.{name}.one" if is_scaling(field) else f"form.{name}")
            for end in (box.min, box.max):
                method.parse({name: int(end) if field.annotation is int else end})  # raises if it is refused


@pytest.mark.parametrize("method", [m for m in METHODS if m.presets], ids=lambda method: method.name)
def test_presets_fill_the_form_and_are_marked(method: Method) -> None:
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
    assert changed(find("edit", "awd"), {"alpha": 0.1, "steps": 10}) == {"steps": 10}


@pytest.mark.parametrize("value", [0.25, 3, True, "layer", [0.3, -1.0], "auto"])
def test_values_survive_a_url(value: Any) -> None:
    assert from_text(to_text(value)) == value


def test_an_unknown_type_of_parameter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import Field

    from merging.methods.registry import Params
    from ui.look import forms

    class Odd(Params):
        when: complex = Field(0j, description="Something no widget can show.")

    widget: Callable[..., Any] = forms._widget
    with pytest.raises(TypeError, match="no widget for parameter 'when'"):
        widget(Odd.model_fields["when"], "form.when", "when")
