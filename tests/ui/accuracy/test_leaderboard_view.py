"""Lines of the leaderboard from presets and runs."""

from pathlib import Path

import pytest

from merging.charts.accuracy import Series
from merging.charts.columns import AVERAGE, MARK, METHOD
from merging.charts.leaderboard import NOT_RUN, UNDER_WAY
from merging.methods.presets import PRESETS
from merging.runs import Run, RunStore, State
from merging.runs.jobs.merge_result import MergeResult, MethodReport
from merging.runs.leaderboard import cheapest_first, spec_of
from merging.suites import load_suite
from ui.accuracy.leaderboard_view import standings, state_of, task_width
from ui.accuracy.preset_runs import MethodEntry
from ui.look.columns import method_columns, text_width

TASKS = ("digits", "signs")
BASELINES = [
    Series("Zero-shot", "Zero-shot", {"digits": 0.2, "signs": 0.3}),
    Series("Individual", "Individual", {"digits": 0.8, "signs": 1.0}),
]
RESULT = MergeResult(
    accuracy={"digits": 0.4, "signs": 0.7},
    merge=MethodReport(scaling=0.3),
    seconds={"total": 2.0},
    peak_bytes=10**8,
)


def entry(name: str, run: Run | None = None) -> MethodEntry:
    return MethodEntry(PRESETS[name], spec_of(PRESETS[name], "mini", TASKS, "cpu"), run)


def run_in(store: RunStore, name: str, state: State) -> Run:
    run = store.submit(entry(name).spec, name)
    if state != "queued":
        store.claim(run.id)
    if state == "done":
        store.finish(run.id, RESULT)
    elif state not in ("queued", "running"):
        store.stop(run.id, state, "why")
    return store.get(run.id)


def test_a_finished_run_is_measured_against_each_tasks_own_model(tmp_path: Path) -> None:
    run = run_in(RunStore(tmp_path), "iso_c", "done")
    lines = standings([entry("tsv_m"), entry("iso_c", run)], BASELINES)
    assert [one.title for one in lines] == ["Individual", "Iso-C", "Zero-shot", "TSV-M"]
    iso, tsv = lines[1], lines[3]
    assert iso.row is not None and iso.run == run.id and not iso.baseline
    assert iso.row.average == pytest.approx(0.55) and iso.row.normalised == pytest.approx((0.4 / 0.8 + 0.7 / 1.0) / 2)
    assert (tsv.row, tsv.run, tsv.state) == (None, None, NOT_RUN)
    assert lines[0].baseline and lines[2].baseline


def test_without_baselines_there_is_nothing_to_normalise_by(tmp_path: Path) -> None:
    (line,) = standings([entry("iso_c", run_in(RunStore(tmp_path), "iso_c", "done"))], [])
    assert line.row is not None and line.row.normalised is None


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("queued", UNDER_WAY),
        ("running", UNDER_WAY),
        ("done", "done"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("lost", "lost"),
    ],
)
def test_states_in_words(state: State, said: str, tmp_path: Path) -> None:
    assert state_of(run_in(RunStore(tmp_path), "iso_c", state)) == said
    assert state_of(None) == NOT_RUN


def test_every_method_has_the_name_under_which_other_pages_show_its_run() -> None:
    entries = [entry(preset.name) for preset in cheapest_first(PRESETS.values())]
    assert {one.title for one in standings(entries, [])} == {one.spec.label for one in entries}


def test_what_gives_a_model_for_each_task_is_called_localised_and_comes_behind() -> None:
    lines = standings([entry(name) for name in PRESETS], [])
    assert [one.title for one in lines if one.localised] == [PRESETS[name].title for name in ("tall_masks", "emr")]
    assert all(one.localised for one in lines[-2:])
    assert [one.title for one in lines if one.own] == ["Overlap-scaled WUDI"]


def test_names_of_tasks_are_not_cut_off_and_fit_beside_the_averages() -> None:
    tasks = load_suite("mini").task_names
    assert all(task_width(task) >= text_width(task) for task in tasks)
    fixed = method_columns([preset.title for preset in PRESETS.values()])
    left = sum(int(fixed[name]["width"]) for name in (MARK, METHOD, AVERAGE)) + 62  # and normalised accuracy
    assert left + sum(map(task_width, tasks)) <= 892  # what a window of 1280 pixels leaves
    assert task_width("a task with a name that nobody reads to its end") <= 150
