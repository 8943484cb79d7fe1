"""The page Sweeps: its form, what it starts, what it shows of a sweep, stopping and going on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from merging.runs.expected import Expected
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.sweeps import Range, Sweep, SweepDefinition, SweepStore, driver, parse_definition
from tests.app import finished_runs
from tests.app.conftest import TASKS, build_suite, links, texts
from tests.sweeps.by_hand import ByHand, peak, to_the_end

Open = Callable[..., AppTest]


@pytest.fixture
def workspace(suites_folder: Path) -> Workspace:
    return Workspace(suites_folder.parent / "home")


def definition(suite: Suite, **changes: Any) -> SweepDefinition:
    fields = {
        "suite": str(suite.folder / "suite.yaml"),
        "tasks": [list(TASKS)],
        "device": "cpu",
        "edits": {"none": {}, "ties": {"keep": [0.1, 0.2]}},
        "merges": {"task_arithmetic": {"scaling": [0.2, 0.4]}},
        **changes,
    }
    return SweepDefinition.model_validate(fields)


def finished(suite: Suite, workspace: Workspace, **changes: Any) -> Sweep:
    sweep = driver.start(definition(suite, **changes), workspace)
    to_the_end(sweep, workspace, ByHand(workspace, peak))
    SweepStore(workspace.store).end(sweep.id, "done")
    return sweep


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def test_a_link_opens_the_form_that_it_fills_and_what_it_asks_for_in_vain_is_named(
    tiny: Suite, workspace: Workspace, open_page: Open
) -> None:
    def is_open(app: AppTest) -> bool:
        return bool(next(one for one in app.expander if one.label == "New sweep").proto.expanded)

    known = finished(tiny, workspace)
    app = open_page("sweeps", search="Genetic", edits="Bogus", trials="0", **{"merges.task_arithmetic.scaling": "0.5"})
    assert not app.exception
    assert is_open(app) and app.text_input(key="merges.task_arithmetic.scaling").value == "0.5"
    for said in (
        "search = Genetic, which is none of Grid, TPE. Grid is shown",
        "edits = Bogus, which is none of No edit",
        "trials = 0, which is no number from 1 to",
    ):
        assert any(said in one.value.replace("\\", "") for one in app.warning), said
    assert is_open(app.run())
    assert not is_open(open_page("sweeps"))
    assert not is_open(open_page("sweeps", sweep=known.id, search="TPE"))


def test_without_sweeps_it_says_what_to_do(standing: Suite, look: Open) -> None:
    app = look("sweeps")
    assert not app.exception
    assert "No sweeps yet" in texts(app) and "merging sweep" in texts(app)
    assert "A grid of 10 trials over 1 pair" in texts(app).replace("*", "")
    assert not button(app, "Start the sweep").disabled
    assert "Task Arithmetic with and without AWD, 20 trials. One after the other, they take" in texts(app)


def test_without_sweeps_one_button_starts_the_first(
    tiny: Suite, workspace: Workspace, open_page: Open, launched_workers: list[Path]
) -> None:
    app = open_page("sweeps", tasks=["apples", "cars"])
    assert not next(one for one in app.expander if one.label == "New sweep").proto.expanded
    button(app, "Try λ from 0.1 to 1").click().run()
    assert not app.exception and launched_workers and "No sweeps yet" not in texts(app)
    (sweep,) = SweepStore(workspace.store).all()
    assert sweep.state == "running" and sweep.definition.tasks == (("apples", "cars"),)
    assert sweep.definition.total == 20 and set(sweep.definition.edits) == {"none", "awd"}


def test_without_images_nothing_is_offered_to_be_tried(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("sweeps")
    assert not app.exception and "No sweeps yet" in texts(app)
    assert "Try λ from 0.1 to 1" not in [one.label for one in app.button]


@pytest.mark.parametrize(
    ("search", "searched", "said"),
    [
        ("Grid", False, "about 10 min"),
        ("Grid", True, "at most about 10 min"),
        ("TPE", False, "at least about 7 min"),
        ("TPE", True, "about 7 min"),
    ],
)
def test_how_long_a_sweep_takes_is_said_before_it_starts(
    search: str, searched: bool, said: str, standing: Suite, look: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[MergeSpec] = []

    def seconds(_: Expected, job: MergeSpec) -> float:
        asked.append(job)
        return 60.0

    monkeypatch.setattr(Expected, "seconds", seconds)
    monkeypatch.setattr(Expected, "at_most", lambda *_: searched)
    monkeypatch.setattr(Expected, "from_elsewhere", lambda *_: False)
    app = look("sweeps", search=search, trials="7")
    assert f"One after the other, they take {said}." in texts(app)
    assert len(asked) == (10 if search == "Grid" else 7) and {job.merge for job in asked} == {"task_arithmetic"}


def test_the_form_starts_what_it_says(
    tiny: Suite, workspace: Workspace, open_page: Open, launched_workers: list[Path]
) -> None:
    app = open_page("sweeps")
    app.multiselect(key="edits").set_value(["none", "ties"]).run()
    app.multiselect(key="merges").set_value(["task_arithmetic", "fisher"]).run()
    app.text_input(key="edits.ties.keep").set_value("0.1, 0.3").run()
    app.text_input(key="merges.task_arithmetic.scaling").set_value("0.2 to 0.4 by 0.1").run()
    app.text_area(key="subsets").set_value("apples, birds\napples, birds, cars").run()
    said = texts(app).replace("*", "")
    assert "A grid of 10 trials over 3 pairs of edit and merge (1 that make no sense left out)" in said
    assert "for each of 2 task subsets: 20 in all" in said
    written = parse_definition(app.code[0].value)
    app = button(app, "Start the sweep").click().run()
    assert not app.exception and not app.error
    sweeps = SweepStore(workspace.store)
    (sweep_id,) = sweeps.ids()
    started = sweeps.get(sweep_id).definition
    assert started.tasks == (("apples", "birds"), ("apples", "birds", "cars"))
    assert started.edits == {"none": {}, "ties": {"keep": (0.1, 0.3)}}
    assert started.merges == {"task_arithmetic": {"scaling": Range(low=0.2, high=0.4, step=0.1)}, "fisher": {}}
    assert started == written.model_copy(update={"device": started.device})
    assert launched_workers and app.query_params["sweep"] == sweep_id
    assert "0 of 20 trials" in str([one.proto.text for one in app.get("progress")])


def test_what_can_not_be_searched_is_said_before_it_starts(tiny: Suite, open_page: Open) -> None:
    app = open_page("sweeps")
    app.text_input(key="merges.task_arithmetic.scaling").set_value("0.1 to 1").run()
    assert "a grid needs a step" in app.error[0].value and button(app, "Start the sweep").disabled
    app.segmented_control(key="search").set_value("tpe").run()
    assert not app.error and "TPE with 30 trials" in texts(app).replace("*", "")
    app.text_input(key="merges.task_arithmetic.scaling").set_value("0.1, 50").run()
    assert "scaling = 50" in app.error[0].value.replace("\\", "")
    app.text_input(key="merges.task_arithmetic.scaling").set_value("0.1").run()
    app.text_area(key="subsets").set_value("apples, pears").run()
    app = button(app, "Start the sweep").click().run()
    assert "pears" in app.error[0].value


def test_yaml_can_be_typed_and_starts_as_the_form(tiny: Suite, workspace: Workspace, open_page: Open) -> None:
    app = open_page("sweeps")
    app.multiselect(key="edits").set_value(["ties"]).run()
    app.segmented_control(key="from").set_value("yaml").run()
    assert "ties" in app.text_area(key="sweep-yaml").value
    app.text_area(key="sweep-yaml").set_value("suite: tiny\nmerges: {tsv: }").run()
    assert "unknown merge 'tsv'" in app.error[0].value.replace("\\", "")
    app.text_area(key="sweep-yaml").set_value(definition(tiny).to_yaml()).run()
    app = button(app, "Start the sweep").click().run()
    assert not app.error and len(SweepStore(workspace.store).ids("running")) == 1


def test_a_finished_sweep_shows_its_best_by_validation_and_that_on_test(
    tiny: Suite, workspace: Workspace, open_page: Open
) -> None:
    sweep = finished(tiny, workspace)
    app = open_page("sweeps", sweep=sweep.id)
    assert not app.exception and not app.error
    assert {one.label: one.value for one in app.metric} == {"On validation": "97.0 %", "On test": "3.0 %"}
    said = texts(app).replace("*", "")
    assert "Best by average accuracy: trial 1" in said and "Task Arithmetic · λ 0.4" in said
    assert "6 trials have a result; the best, trial 1, has 97.0 % on validation" in said
    table: pd.DataFrame = app.dataframe[0].value
    assert list(table["Trial"]) == [1, 3, 5, 0, 2, 4]  # equal ones in their order
    assert table["TIES: keep"].tolist()[1:3] == [0.1, 0.2]
    (test,) = SweepStore(workspace.store).trials(sweep.id, "test")
    assert links(app)["Details and export on Runs"]["run"] == [test.run]


def test_task_subsets_are_shown_one_by_one(tiny: Suite, workspace: Workspace, open_page: Open) -> None:
    sweep = finished(tiny, workspace, tasks=[["apples", "birds"], ["apples"]])
    app = open_page("sweeps", sweep=sweep.id)
    assert app.selectbox(key="subset").options == ["Apples, Birds", "Apples"]
    app.selectbox(key="subset").set_value(1).run()
    assert sorted(app.dataframe[0].value["Trial"]) == [6, 7, 8, 9, 10, 11]


def test_a_sweep_can_be_cancelled_and_taken_up_again(tiny: Suite, workspace: Workspace, open_page: Open) -> None:
    sweep = driver.start(definition(tiny), workspace)
    to_the_end(sweep, workspace, ByHand(workspace, peak, state="running"), steps=1)
    app = open_page("sweeps")
    app = button(app, "Cancel").click().run()
    sweeps = SweepStore(workspace.store)
    assert sweeps.get(sweep.id).state == "cancelled"
    assert all(run.cancel_asked is not None for run in workspace.store.active())
    app = button(app, "Go on").click().run()
    assert not app.exception and sweeps.get(sweep.id).state == "running"


def test_a_failed_sweep_says_why(tiny: Suite, workspace: Workspace, open_page: Open) -> None:
    sweep = driver.start(definition(tiny), workspace)
    SweepStore(workspace.store).end(sweep.id, "failed", "the *reason* of it")
    app = open_page("sweeps")
    assert "the *reason* of it" in app.error[0].value.replace("\\", "")


def test_a_link_to_a_sweep_that_is_not_there_shows_the_newest(
    tiny: Suite, workspace: Workspace, open_page: Open
) -> None:
    assert "There is no sweep nonsense here." in texts(open_page("sweeps", sweep="nonsense"))
    finished(tiny, workspace)
    newest = finished(tiny, workspace, seed=1)
    app = open_page("sweeps", sweep="nonsense")
    assert "There is no sweep nonsense here. The newest is shown instead." in texts(app)
    assert app.selectbox(key="sweep-shown").value == newest.id
    assert app.query_params["sweep"] == newest.id


def test_trials_are_folded_away_among_the_runs_until_asked_for(
    tiny: Suite, workspace: Workspace, open_page: Open
) -> None:
    sweep = finished(tiny, workspace)
    trials, (test,) = (SweepStore(workspace.store).trials(sweep.id, role) for role in ("trial", "test"))
    app = open_page("runs")
    assert app.dataframe[0].value["Run"].tolist() == [test.run]
    app.toggle(key="trials").set_value(True).run()
    assert set(app.dataframe[0].value["Run"]) == {test.run, *(trial.run for trial in trials)}
    run = finished_runs.finished(workspace, tiny)
    SweepStore(workspace.store).add(sweep.id, [replace(trials[0], number=90, fingerprint=run.fingerprint)])
    app = open_page("runs", run=run.id)
    assert not app.exception
    listed = next(frame.value for frame in app.dataframe if "State" in frame.value)
    assert set(listed["Run"]) == {test.run, run.id}  # what is chosen is listed


@pytest.mark.parametrize("runs", [False, True])
def test_a_sweep_can_be_deleted(runs: bool, tiny: Suite, workspace: Workspace, open_page: Open) -> None:
    kept, sweep = finished(tiny, workspace, seed=1), finished(tiny, workspace)
    before = len(workspace.store.all())
    app = open_page("sweeps", sweep=sweep.id)
    app.checkbox(key=f"delete-runs-{sweep.id}").set_value(runs).run()
    app.button(key=f"delete-now-{sweep.id}").click().run()
    assert not app.exception and not app.warning
    assert SweepStore(workspace.store).ids() == [kept.id]
    assert app.selectbox(key="sweep-shown").value == app.query_params["sweep"] == kept.id
    assert len(workspace.store.all()) == before - 7 * runs
    app.button(key=f"delete-now-{kept.id}").click().run()
    assert not app.exception and "No sweeps yet" in texts(app) and "sweep" not in app.query_params
