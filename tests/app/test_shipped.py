"""Pages on a machine that never ran anything, with results that came with the suite."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging.methods.presets import PRESETS
from merging.runs.beyond import generalisation_job, ways_of_leaving_out
from merging.runs.foreground import Here, have_done
from merging.runs.jobs.baselines import BaselinesJob
from merging.runs.jobs.generalisation import GeneralisationJob
from merging.runs.leaderboard import spec_of
from merging.runs.positions import Need
from merging.runs.shipped import FILE, write
from merging.runs.worker.trace import TRACE, Trace
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.app.conftest import build_suite, texts
from tests.app.finished_runs import finished, result_of
from tests.carrying import execute
from ui.accuracy.preset_runs import METHODS
from ui.lesson.at_first import needs_at_first
from ui.shell import state

Open = Callable[..., AppTest]
MEASURED = "easured when the suite was built, on "


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


@pytest.fixture
def shipped(tiny: Suite, own_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The tiny suite with results beside it: comparison, baselines, and what the lesson asks for at first."""
    space, reference, runs = Workspace(tmp_path / "built"), str(tiny.folder / "suite.yaml"), []
    baselines = [
        BaselinesJob.build(suite=reference, tasks=tiny.task_names, split=split, device="cpu")
        for split in ("test", "val")
    ]
    merges = [spec_of(PRESETS[name], reference, tiny.task_names, "cpu") for name in METHODS]
    for job in [*merges, *baselines]:
        run = space.submit(job)
        space.store.claim(run.id)
        space.store.finish(run.id, result_of(tiny, job, space) if job in merges else execute(job, space))
        runs.append(space.store.get(run.id))
    needs: list[Need] = needs_at_first(space.geometry(tiny, tiny.task_names))
    write(tiny.folder / FILE, runs, {}, {runs[-1].fingerprint: [(need.written(), 0.5) for need in needs]})
    monkeypatch.setattr("merging.runs.shipped.suites.builtin_suites", lambda: {"tiny": tiny.folder})
    return tiny


def test_what_came_with_another_suite_is_nothing_that_somebody_misses(shipped: Suite, open_page: Open) -> None:
    other = load_suite(build_suite(shipped.folder.parent / "other", tasks=("roads", "signs")))
    finished(state.workspace(), other, 0.6)
    app = open_page("accuracy", suite="other")
    assert not app.exception and len(app.multiselect(key="accuracy-runs").options) == 1
    assert "more runs belong" not in texts(app)


def test_the_page_merge_says_what_came_with_the_suite_until_it_was_done_here(shipped: Suite, open_page: Open) -> None:
    linked = {"merge.scaling": "auto"}
    app = open_page("merge", **linked)
    (said,) = (line for line in texts(app).splitlines() if MEASURED in line)
    assert not app.exception and re.search(r"on a CPU: \d+\.\d % on average\. Merge measures it", said)
    press(app, "Merge")  # what came with the suite keeps nobody from measuring here
    assert MEASURED in texts(app) and "Merge measures it" not in texts(app) and "Queued already" in texts(app)
    (run,) = state.workspace().store.queued()
    state.workspace().store.claim(run.id)
    state.workspace().store.finish(run.id, result_of(shipped, run.spec, state.workspace(), level=0.9))
    app = open_page("merge", **linked)
    assert "Measured before: " in texts(app) and MEASURED not in texts(app)


@pytest.fixture
def shipped_beyond(tiny: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GeneralisationJob:
    """What comes with the tiny suite: Weight averaging on unseen tasks, as nobody knows how long it took."""
    space, reference, tasks = Workspace(tmp_path / "built"), str(tiny.folder / "suite.yaml"), tiny.task_names
    job = generalisation_job(PRESETS["average"], reference, tasks, ways_of_leaving_out(tasks, 2, 4), "cpu")
    run = replace(have_done(job, space, Here(space)), started=None)
    write(tiny.folder / FILE, [run], {}, {})
    monkeypatch.setattr("merging.runs.shipped.suites.builtin_suites", lambda: {"tiny": tiny.folder})
    return job


@pytest.mark.usefixtures("own_files")
def test_beyond_the_benchmark_it_stands_until_it_was_measured_here(
    shipped_beyond: GeneralisationJob, open_page: Open, launched_workers: list[Path]
) -> None:
    chosen = {"beyond-methods": [PRESETS[name].title for name in ("average", "ties")]}
    app = open_page("beyond", **chosen)
    assert not app.exception and len(app.get("plotly_chart")) == 1
    assert MEASURED in texts(app) and "1 of 2 methods is not measured yet" in texts(app)
    assert "Again takes" not in texts(app)  # which nothing tells
    store = state.workspace().store
    press(app, "Run again")
    (own,) = store.queued()
    assert own.job == shipped_beyond and launched_workers
    app = open_page("beyond", **chosen)
    assert MEASURED in texts(app) and "Cancel" in [one.label for one in app.button]
    store.claim(own.id)
    store.finish(own.id, store.shipped.find(own.fingerprint).result)
    app = open_page("beyond", **chosen)
    assert len(app.get("plotly_chart")) == 1 and MEASURED not in texts(app)


@pytest.mark.usefixtures("own_files")
def test_beyond_the_benchmark_it_is_said_how_long_again_takes_by_the_merge_that_came_too(
    tiny: Suite, tmp_path: Path, shipped_beyond: GeneralisationJob, open_page: Open
) -> None:
    chosen = {"beyond-methods": [PRESETS["average"].title]}
    space = Workspace(tmp_path / "built")
    merge = space.submit(spec_of(PRESETS["average"], shipped_beyond.suite, tiny.task_names, "cpu"))
    space.store.claim(merge.id)
    slow = result_of(tiny, merge.spec, space).model_copy(update={"seconds": {"total": 3600.0}})
    space.store.finish(merge.id, slow)
    before = replace(have_done(shipped_beyond, space, Here(space)), started=None)
    write(tiny.folder / FILE, [before, space.store.get(merge.id)], {}, {})
    assert "Again takes about" in texts(open_page("beyond", **chosen))


def press(app: AppTest, label: str) -> AppTest:
    return next(one for one in app.button if one.label == label).click().run()


def test_pages_show_it_and_say_when_it_was_measured(shipped: Suite, open_page: Open) -> None:
    for page in ("start", "accuracy", "leaderboard", "task_models"):
        app = open_page(page)
        assert not app.exception and MEASURED in texts(app), page
    assert state.workspace().store.all() == [] and state.workspace().store.active() == []


def test_a_user_who_wants_none_of_it_has_none(shipped: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_SHIPPED", "0")
    app = open_page()
    assert MEASURED not in texts(app) and "Run the comparison" in [one.label for one in app.button]


def test_run_again_makes_it_ones_own(shipped: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    app = press(open_page(), "Run again")
    assert not app.exception and launched_workers
    store = state.workspace().store
    assert {run.spec.method for run in store.all()} == {PRESETS[name].title for name in METHODS}
    assert MEASURED in texts(app) and "Cancel" in [one.label for one in app.button]  # it stands until there is another
    first = store.all()[0]
    store.claim(first.id)
    store.stop(first.id, "failed", "the disk is full")
    app = open_page()
    assert MEASURED in texts(app) and "the disk is full" in texts(app)
    store.delete(first.id)
    press(open_page(), "Run again")
    for run in store.all():
        store.claim(run.id)
        store.finish(run.id, result_of(shipped, run.spec, state.workspace(), 0.9))
    app = open_page()
    chart_caption = next(one.value for one in app.caption if "Top-1 accuracy" in one.value)
    assert MEASURED not in chart_caption


def test_what_was_measured_stands_while_the_same_is_learnt_again(shipped: Suite, open_page: Open) -> None:
    """Beside it, with a look of its own, is how far the run is that will take its place."""

    def shown(app: AppTest) -> dict[str, float]:
        table = next(frame.value for frame in app.dataframe if "Average (%)" in frame.value)
        return dict(zip(table["Method"], table["Average (%)"], strict=True))

    before = shown(open_page())
    store = state.workspace().store
    suite = str(shipped.folder / "suite.yaml")
    run = state.workspace().submit(spec_of(PRESETS["adamerging"], suite, shipped.task_names, "cpu"))
    assert shown(open_page()) == before
    store.claim(run.id)
    store.folder(run.id).mkdir(parents=True, exist_ok=True)
    Trace(store.folder(run.id) / TRACE)({"step": 40, "accuracy": dict.fromkeys(shipped.task_names, 0.25)})
    app = open_page()
    steps = run.spec.merge_params["steps"]
    assert shown(app) == before | {f"AdaMerging, step 40 of {steps}": 25.0}
    assert MEASURED in texts(app) and "Still learning" in texts(app)
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    marks = [json.dumps(one["marker"]) for one in figure["data"] if "AdaMerging" in one.get("name", "")]
    assert len(set(marks)) == len(marks) == 3
    Trace(store.folder(run.id) / TRACE)({"step": 60, "accuracy": dict.fromkeys(shipped.task_names, 1.0)})
    app = open_page()
    assert shown(app)[f"AdaMerging, step 60 of {steps}"] == 100
    (best,) = [one.value for one in app.caption if "is the best merge" in one.value]
    assert not best.startswith("AdaMerging, step")  # what is measured on a sample is none yet
    store.finish(run.id, result_of(shipped, run.spec, state.workspace(), 0.9))
    assert shown(open_page())["AdaMerging"] != before["AdaMerging"]


def test_the_comparison_takes_what_is_quick_first(tiny: Suite, open_page: Open) -> None:
    app = press(open_page(), "Run the comparison")
    order = [run.job.label for run in state.workspace().store.queued() if run.job.kind == "merge"]
    assert order == ["Task Arithmetic", "AWD + Task Arithmetic", "AdaMerging", "AWD + AdaMerging"]
    shown = [one.key.removeprefix("start-cancel-") for one in app.button if "start-cancel-" in (one.key or "")]
    assert shown == [run.id for run in state.workspace().store.queued() if run.job.kind == "merge"]


def test_runs_that_came_with_the_suite_are_listed_as_such_and_not_deleted(shipped: Suite, open_page: Open) -> None:
    fingerprint = spec_of(PRESETS["task_arithmetic"], str(shipped.folder / "suite.yaml"), shipped.task_names, "cpu")
    app = open_page("runs", run=fingerprint.fingerprint(state.workspace())[:12])
    assert not app.exception and MEASURED in texts(app)
    assert next(one.value["State"].tolist() for one in app.dataframe if "State" in one.value) == [["with suite"]] * 4
    assert not any("Delete" in str(one.proto) for one in app.get("popover"))


def test_no_step_of_the_lesson_has_to_measure_anything_first(
    shipped: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("the page measures")

    monkeypatch.setattr("merging.runs.positions.Bench.measure", refuse)
    for step in range(2, 8):
        app = open_page("learn", step=str(step))
        assert not app.exception and MEASURED in texts(app), step
