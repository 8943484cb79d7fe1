"""The page Similarity: sliders change the numbers, and the numbers are the package's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, Disentangled, disentangle, from_geometry
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.weights.geometry import Geometry, mean_abs_cosine
from tests.app.conftest import TASKS, links, texts
from tests.app.finished_runs import carry_out_queued
from ui.shell import state

Open = Callable[..., AppTest]


@pytest.fixture
def geometry(untouched: Suite, tmp_path: Path) -> Geometry:
    """Gram matrices of the tiny suite, measured apart from the dashboard."""
    return Workspace(tmp_path / "elsewhere").geometry(untouched)


def numbers(app: AppTest) -> list[str]:
    """Values of the four metrics: mean |cos|, mean norm, objective, norm of δ."""
    return [metric.value for metric in app.metric]


def expected(geometry: Geometry, **params: object) -> list[str]:
    """The same from the package."""
    found = from_geometry(geometry, AwdParams(**params))
    after = [float(mean_abs_cosine(found.after.gram)), found.after.norms.mean(), found.curve[-1], found.redundant_norm]
    return [f"{value:.4f}" for value in after]


def test_it_opens_with_reading_a(geometry: Geometry, look: Open) -> None:
    app = look("similarity")
    assert not app.exception
    assert numbers(app) == expected(geometry)
    assert app.button_group(key="preset").value == "Reading A"
    assert "unverified" in texts(app)
    assert "AWD + Task Arithmetic is Task Arithmetic with λ multiplied" in texts(app)


@pytest.mark.parametrize(
    ("widget", "key", "value"),
    [
        ("slider", "alpha", 0.4),
        ("slider", "steps", 50),
        ("select_slider", "beta", 0.05),
        ("button_group", "scope", "layer"),
        ("button_group", "solver", "exact"),
    ],
)
def test_every_control_changes_the_numbers(
    widget: str, key: str, value: object, geometry: Geometry, look: Open
) -> None:
    app = look("similarity")
    before = numbers(app)
    getattr(app, widget)(key=key).set_value(value).run()
    assert not app.exception
    assert numbers(app) == expected(geometry, **{key: value})
    assert numbers(app) != before
    assert app.button_group(key="preset").value is None


def test_a_shared_link_opens_the_same_view(geometry: Geometry, look: Open) -> None:
    app = look(
        "similarity", tasks=["apples", "cars", "doors"], alpha="0.25", scope="layer", level="block", block="block 1"
    )
    assert not app.exception
    assert numbers(app) == expected(geometry.select(["apples", "cars", "doors"]), alpha=0.25, scope="layer")
    assert app.selectbox(key="block").value is not None


@pytest.mark.parametrize("level", ["block", "layer"])
def test_levels_have_a_picker(level: str, geometry: Geometry, look: Open) -> None:
    app = look("similarity")
    app.button_group(key="level").set_value(level).run()
    assert not app.exception
    options = app.selectbox(key=level).options
    assert sorted(options) == sorted(geometry.at(level)[0])  # type: ignore[arg-type]


def test_rows_are_solved_on_the_weights(geometry: Geometry, standing: Suite, look: Open) -> None:
    app = look("similarity")
    app.button_group(key="scope").set_value("row").run()
    assert not app.exception
    found = disentangle(standing.vectors(), geometry, AwdParams(scope="row"), Context())
    assert float(numbers(app)[0]) == pytest.approx(float(mean_abs_cosine(found.after.gram)), abs=1e-4)
    assert "no table of coefficients stands for it" in texts(app)


def test_reading_b_sets_all_controls(standing: Suite, look: Open) -> None:
    app = look("similarity")
    app.button_group(key="preset").set_value("Reading B").run()
    assert not app.exception
    chosen = [app.button_group(key=key).value for key in ("scope", "solver", "tensors", "preset")]
    assert chosen == ["layer", "adam", "matrices", "Reading B"]
    assert app.select_slider(key="beta").value == 1e-5


def test_a_reading_that_a_browser_still_shows_while_something_else_is_moved_undoes_nothing(
    standing: Suite, look: Open
) -> None:
    app = look("similarity")
    app.slider(key="alpha").set_value(0.11).run()
    assert app.button_group(key="preset").value is None
    app.slider(key="alpha").set_value(0.12)
    app.button_group(key="preset").set_value("Reading A").run()
    assert app.slider(key="alpha").value == 0.12 and app.button_group(key="preset").value is None
    app.button_group(key="preset").set_value("Reading A").run()
    assert app.slider(key="alpha").value == 0.1 and app.button_group(key="preset").value == "Reading A"


@pytest.mark.parametrize("params", [{"scope": "row"}, {"solver": "adam", "beta": 1e-4, "steps": 20}])
def test_large_solves_are_the_workers(
    tiny: Suite,
    geometry: Geometry,
    open_page: Open,
    monkeypatch: pytest.MonkeyPatch,
    launched_workers: list[Path],
    params: dict[str, object],
) -> None:
    monkeypatch.setattr("ui.similarity.awd._CHEAP", 0)
    app = open_page("similarity", **{name: str(value) for name, value in params.items()})
    assert not app.metric
    assert "GiB of memory" in texts(app)
    assert not launched_workers
    next(button for button in app.button if button.label == "Solve on the weights").click().run()
    assert not app.exception and not app.metric
    assert "Waiting for the worker" in "".join(bar.proto.text for bar in app.get("progress"))
    assert launched_workers
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    found = disentangle(tiny.vectors(), geometry, AwdParams(**params, units="published"), Context())
    assert float(numbers(app)[0]) == pytest.approx(float(mean_abs_cosine(found.after.gram)), abs=1e-4)
    assert float(numbers(app)[3]) == pytest.approx(found.redundant_norm, abs=1e-4)
    assert not state.workspace().store.all()  # the history is one of merges


def test_beta_left_at_its_default_moves_with_the_solver(standing: Suite, look: Open) -> None:
    app = look("similarity")
    for solver, beta in (("adam", 1e-5), ("exact", 0.01), ("descent", 0.01), ("adam", 1e-5), ("descent", 0.01)):
        app.button_group(key="solver").set_value(solver).run()
        assert not app.exception
        assert app.select_slider(key="beta").value == beta
    assert app.button_group(key="preset").value == "Reading A"


def test_beta_chosen_by_the_user_stays_with_every_solver(standing: Suite, look: Open) -> None:
    app = look("similarity", beta="0.0001")
    for solver in ("adam", "exact", "descent"):
        app.button_group(key="solver").set_value(solver).run()
        assert app.select_slider(key="beta").value == 1e-4
    app.select_slider(key="beta").set_value(1e-5).run()
    app.button_group(key="solver").set_value("exact").run()
    assert app.select_slider(key="beta").value == 1e-5  # Adam's default, but chosen for descent


def test_beta_of_a_link_is_taken_as_it_is(standing: Suite, look: Open) -> None:
    app = look("similarity", solver="adam", beta="0.001", steps="10")
    assert app.select_slider(key="beta").value == 0.001
    app = look("similarity", solver="adam", beta=f"{1e-5:g}", steps="10")
    assert app.select_slider(key="beta").value == 1e-5
    app.button_group(key="solver").set_value("descent").run()
    assert app.select_slider(key="beta").value == 0.01


def test_settings_travel_to_the_merge_page(standing: Suite, look: Open) -> None:
    app = look("similarity", tasks=["apples", "doors"], alpha="0.25", scope="layer")
    query = links(app)["Merge with these settings"]
    assert query["tasks"] == ["apples", "doors"]
    assert query["edit"] == ["awd"]
    given = {name.removeprefix("edit."): value[0] for name, value in query.items() if name.startswith("edit.")}
    assert AwdParams.model_validate(given) == AwdParams(alpha=0.25, scope="layer")


@pytest.mark.parametrize("scope", ["model", "layer"])
def test_charts_call_tasks_by_their_titles(scope: str, standing: Suite, look: Open) -> None:
    app = look("similarity", scope=scope)
    figures = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert len(figures) == 7  # the maps of cosines twice, once for phones
    for task in TASKS:
        assert sum(task.title() in figure for figure in figures) == 5  # not along the tower, not in the objective
        assert not any(task in figure for figure in figures)


def test_charts_that_all_share_show_nobody_what_another_chose(standing: Suite, look: Open) -> None:
    def specs(*tasks: str) -> list[str]:
        return [chart.proto.spec for chart in look("similarity", tasks=list(tasks)).get("plotly_chart")]

    mine, others, again = specs("apples", "birds"), specs("cars", "doors"), specs("apples", "birds")
    assert "Apples" in "".join(mine) and again == mine
    assert "Cars" in "".join(others) and "Apples" not in "".join(others)


def test_where_nothing_moved_nothing_is_said_to_move(standing: Suite, look: Open) -> None:
    app = look("similarity", steps="0")
    assert not app.exception
    assert "Mean |cos| stays" in texts(app) and "mean |cos| falls in 0 of" in texts(app)
    assert {metric.delta for metric in app.metric[:3]} == {"+0.0000"}


@pytest.mark.usefixtures("own_files")
def test_rounding_is_no_change(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a library sums after the edit in another order than before it."""
    monkeypatch.setattr("ui.similarity.awd.from_geometry", lambda geometry, params: _blurred(geometry))
    app = open_page("similarity")
    assert not app.exception
    assert "Mean |cos| stays" in texts(app) and "mean |cos| falls in 0 of" in texts(app)
    assert {metric.delta for metric in app.metric[:3]} == {"+0.0000"}
    assert not any(metric.delta.startswith("-") for metric in app.metric[:3])


def _blurred(geometry: Geometry) -> Disentangled:
    """What AWD of no steps finds, its numbers a little smaller by rounding."""
    found = from_geometry(geometry, AwdParams(steps=0))
    lower = geometry.grams - 1e-6 * np.abs(geometry.grams) * (1 - np.eye(len(geometry.tasks)))
    return replace(found, after=geometry.with_grams(lower), curve=np.array([0.3, 0.3 - 1e-16]))


def test_one_task_is_told_what_to_do(standing: Suite, look: Open) -> None:
    app = look("similarity", tasks=["cars"])
    assert not app.exception
    assert "Only Cars is selected. Choose at least two tasks" in texts(app)
    assert not app.metric


@pytest.mark.usefixtures("own_files")
def test_two_identical_models(tiny: Suite, open_page: Open) -> None:
    (tiny.folder / "birds.safetensors").write_bytes((tiny.folder / "apples.safetensors").read_bytes())
    app = open_page("similarity", tasks=["apples", "birds"])
    assert not app.exception
    assert all(np.isfinite(float(value)) for value in numbers(app))
    assert "the closest pair, Apples and Birds, stays at 1.000" in texts(app)


@pytest.mark.usefixtures("own_files")
def test_a_model_equal_to_the_base(tiny: Suite, open_page: Open) -> None:
    (tiny.folder / "birds.safetensors").write_bytes((tiny.folder / "base.safetensors").read_bytes())
    app = open_page("similarity")
    assert not app.exception
    assert all(np.isfinite(float(value)) for value in numbers(app))


@pytest.mark.usefixtures("own_files")
def test_a_broken_model_that_is_not_selected_does_no_harm(tiny: Suite, open_page: Open) -> None:
    broken = load_file(tiny.folder / "doors.safetensors")
    name = next(iter(broken))
    broken[name] = torch.full_like(broken[name], float("nan"))
    save_file(broken, tiny.folder / "doors.safetensors")
    app = open_page("similarity", tasks=["apples", "birds"])
    assert not app.exception and not app.error
    assert len(app.metric) == 4
    app = open_page("similarity", tasks=["apples", "doors"])
    assert "doors.safetensors" in texts(app) and "NaN" in texts(app)
