"""The page Compare: runs image by image, each against the first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from merging.charts.run_series import name_runs
from merging.runs import Run
from merging.runs.comparison.compare import compare_runs
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.suites import Suite
from tests.app.conftest import TASKS, links, texts
from tests.app.finished_runs import carry_out_queued, finished, spec_of
from ui.shell import state

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


def really_run(suite: Suite, **changes: object) -> Run:
    space = state.workspace()
    run = space.submit(spec_of(suite, **changes))
    carry_out_queued(space)
    return space.store.get(run.id)


def two_runs(suite: Suite) -> list[Run]:
    return [really_run(suite, merge_params={"scaling": scaling}) for scaling in (0.2, 1.5)]


def test_without_two_runs_it_says_what_to_do(tiny: Suite, open_page: Open) -> None:
    finished(state.workspace(), tiny)
    app = open_page("compare")
    assert not app.exception
    assert "two finished runs" in texts(app)
    assert "Merge" in links(app) and "Run the comparison" in [one.label for one in app.button]


def test_two_runs_are_compared_on_every_image(tiny: Suite, open_page: Open) -> None:
    runs = two_runs(tiny)
    app = open_page("compare", run=[run.id for run in runs])
    assert not app.exception
    found = compare_runs(runs, state.workspace())
    table = app.dataframe[0].value
    assert table["Task"].tolist() == ["Apples", "Birds", "Cars", "Doors", "Average"]
    for task, row in zip(TASKS, table.to_dict("records"), strict=False):
        one = found.pairs[0].tasks[task]
        assert (row["Gained"], row["Lost"], row["p"], row["Images"]) == (one.better, one.worse, one.p, 24)
        assert row["Difference"] == pytest.approx(100 * one.difference, abs=0.0501)
    assert table["Run (%)"].iloc[-1] == pytest.approx(100 * runs[1].merged.average, abs=0.0501)
    assert f"{100 * found.pairs[0].difference:+.1f} points" in texts(app)
    assert "McNemar" in texts(app)
    assert "merge: scaling" in app.dataframe[1].value["Setting"].tolist()


def test_all_images_of_a_task_that_the_runs_disagree_about_can_be_seen(tiny: Suite, open_page: Open) -> None:
    runs = two_runs(tiny)
    found = compare_runs(runs, state.workspace())
    task = max(TASKS, key=lambda name: len(found.only_right(0, 1, name)))
    expected = sum(len(found.only_right(*pair, task)) for pair in ((0, 1), (1, 0)))
    app = open_page("compare", run=[run.id for run in runs], task=task.title())
    assert app.selectbox(key="task").value == task.title()
    for _ in range(2):
        for button in [one for one in app.button if one.label.endswith(" more")]:
            app = button.click().run()
    captions = [str(one.value) for one in app.caption]
    assert sum(", not class" in caption for caption in captions) == expected > 0
    index = found.only_right(0, 1, task)[0]
    true, guess = found.labels[task][index], found.predictions[1][task][index]
    assert f"class {true}, not class {guess}" in captions


def test_the_first_run_is_the_reference(tiny: Suite, open_page: Open) -> None:
    runs = two_runs(tiny)
    there, back = (
        open_page("compare", run=[run.id for run in order]).dataframe[0].value for order in (runs, runs[::-1])
    )
    assert np.allclose(there["Difference"], -back["Difference"])


def test_more_runs_get_a_choice_of_which_to_look_at(tiny: Suite, open_page: Open) -> None:
    runs = [*two_runs(tiny), really_run(tiny, merge="tall_masks", merge_params={"threshold": 0.4})]
    app = open_page("compare", run=[run.id for run in runs])
    assert not app.exception
    assert [len(app.dataframe[place].value) for place in range(2)] == [5, 5]  # a table against the reference each
    assert "Run" not in app.dataframe[0].value
    app = app.segmented_control(key="other").set_value(runs[2].id).run()
    assert not app.exception
    assert "is no table of coefficients" in texts(app)
    ids = [run.id for run in runs]
    again = open_page("compare", run=ids, other=name_runs(runs)[runs[2].id])
    assert "is no table of coefficients" in texts(again) and not again.warning
    again = open_page("compare", run=ids, other="Nonsense")
    assert "other = Nonsense, which is none of" in texts(again)
    app.multiselect(key="compare-runs").set_value([runs[0].id, runs[1].id]).run()
    assert not app.exception


def test_by_default_task_arithmetic_is_compared_with_the_best_run(tiny: Suite, open_page: Open) -> None:
    reference = really_run(tiny)
    others = [really_run(tiny, edit="awd"), really_run(tiny, merge="average")]
    best = max(run.merged.average for run in others)
    app = open_page("compare")
    first, second = app.query_params["run"]
    assert first == reference.id
    assert state.workspace().store.get(second).merged.average == best


def test_where_it_takes_long_the_worker_classifies(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch, launched_workers: list[Path]
) -> None:
    runs = two_runs(tiny)
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0})
    app = open_page("compare", run=[run.id for run in runs])
    assert not app.exception and not app.dataframe
    app = next(one for one in app.button if one.label == "Classify the images").click().run()
    assert launched_workers
    queued = state.workspace().store.queued()
    assert {run.job.label for run in queued} == {"Task Arithmetic, predictions"} and len(queued) == 2
    carry_out_queued(state.workspace())
    app = app.run()
    assert not app.exception
    assert len(app.dataframe) == 2


def test_a_job_of_a_run_that_was_made_again_is_asked_for_again(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0})
    runs = two_runs(tiny)
    app = open_page("compare", run=[run.id for run in runs])
    next(one for one in app.button if one.label == "Classify the images").click().run()
    carry_out_queued(state.workspace())
    state.workspace().store.delete(runs[0].id)
    again = really_run(tiny, merge_params={"scaling": 0.2})
    app = open_page("compare", run=[again.id, runs[1].id])
    assert not app.exception
    assert [one.label for one in app.button if one.label == "Classify the images"]


def test_runs_that_cannot_be_compared_are_named(tiny: Suite, open_page: Open) -> None:
    runs = [really_run(tiny, tasks=TASKS[:1]), really_run(tiny, tasks=TASKS[1:2])]
    app = open_page("compare", run=[run.id for run in runs])
    assert not app.exception
    assert "no task in common" in texts(app)
    app = open_page("compare", run=["feedbeef", runs[0].id])
    assert "no run feedbeef here" in texts(app)


def test_an_unknown_task_in_the_url_is_said_so(tiny: Suite, open_page: Open) -> None:
    app = open_page("compare", run=[run.id for run in two_runs(tiny)], task="<b>nonsense</b>")
    assert not app.exception
    assert "no task <b>nonsense</b> in common" in texts(app)


def test_runs_and_accuracy_link_to_it(tiny: Suite, open_page: Open) -> None:
    ids = [run.id for run in two_runs(tiny)]
    assert links(open_page("runs", run=ids))["Compare image by image"]["run"] == list(reversed(ids))
    assert links(open_page("accuracy", runs=ids))["Compare image by image"]["run"] == ids


def test_a_run_whose_weights_are_gone_is_left_out_with_the_reason(tiny: Suite, open_page: Open) -> None:
    first, second = two_runs(tiny)
    third = really_run(tiny, edit="ties", merge_params={"scaling": 0.4})
    (state.workspace().store.folder(third.id) / KEPT_WEIGHTS).unlink()
    app = open_page("compare", run=[first.id, second.id, third.id])
    assert not app.exception and not app.error
    assert "TIES is left out: " in texts(app)
    assert [box.value for box in app.header][-1] == "Settings" and "Task by task" in texts(app)
    app = open_page("compare", run=[first.id, third.id])
    assert not app.exception and not app.error
    assert "TIES is left out: " in texts(app) and "Fewer than two" in texts(app)
    assert "edit" in app.dataframe[0].value["Setting"].tolist()
