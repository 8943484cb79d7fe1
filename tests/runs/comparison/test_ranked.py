"""Any number of runs in one table: the best, what the paired test can't tell from it, and how it is written."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import RunError
from merging.evaluation.paired import SIGNIFICANCE, mcnemar
from merging.runs.annotations import annotate
from merging.runs.comparison.protocol import settings_lines
from merging.runs.comparison.ranked import AVERAGE, rank_runs
from merging.runs.comparison.runs_report import report_runs
from merging.runs.comparison.tables import in_latex, table_text
from merging.runs.deleted import erase
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.predictions import evaluator_of, predictions_of
from merging.runs.naming import name_runs
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from tests.carrying import execute
from tests.random_models import TASKS
from tests.runs.comparison.test_report import EVIL, Page

SCALINGS = (0.2, 0.4, 0.9, 1.5, 3.0)


def run_of(suite_file: Path, workspace: Workspace, **choices: Any) -> Run:
    run = workspace.submit(MergeSpec.build(**{"suite": str(suite_file), "tasks": TASKS, "device": "cpu", **choices}))
    if workspace.store.claim(run.id):
        keep = workspace.store.folder(run.id) / KEPT_WEIGHTS
        keep.parent.mkdir(parents=True, exist_ok=True)
        workspace.store.finish(run.id, execute(run.spec, workspace, keep=keep))
    return workspace.store.get(run.id)


@pytest.fixture(scope="module")
def made(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with five runs, and what they predict, that no test changes."""
    space = Workspace(tmp_path_factory.mktemp("five"))
    ranked([run_of(suite_file, space, merge_params={"scaling": scaling}) for scaling in SCALINGS], space)
    return space


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One whose folder is not there yet."""
    return Workspace(tmp_path / "home")


@pytest.fixture
def five(made: Workspace, workspace: Workspace) -> list[Run]:
    """The five runs, in a workspace of the test's own."""
    shutil.copytree(made.home, workspace.home)
    return workspace.store.all()[::-1]


def ranked(runs: list[Run], workspace: Workspace) -> Any:
    names = name_runs(runs)
    return rank_runs(runs, [names[run.id] for run in runs], workspace)


def test_the_best_is_marked_and_what_is_no_different_by_the_paired_test(five: list[Run], workspace: Workspace) -> None:
    found = ranked(five, workspace)
    assert found.columns == (*TASKS, AVERAGE) and not found.untested
    right = {}
    for run in five:
        evaluator = evaluator_of(run, workspace)
        answers = predictions_of(run, workspace, evaluator)
        right[run.id] = {task: answers[task] == np.asarray(evaluator.image_set(task, "test").labels) for task in TASKS}
    for task in TASKS:
        accuracies = {run.id: right[run.id][task].mean() for run in five}
        best = max(accuracies.values())
        leader = next(run_id for run_id, value in accuracies.items() if value == best)
        for run in five:
            cell = found.cells[run.id][task]
            assert cell.value == accuracies[run.id] and cell.best == (cell.value == best)
            if run.id != leader:
                ours, theirs = right[run.id][task], right[leader][task]
                p = mcnemar(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()))
                assert cell.tied or p < SIGNIFICANCE  # the correction only adds ties
                assert p * found.tests >= SIGNIFICANCE or not cell.tied
    assert found.tests == len(TASKS) * (len(five) - 1)


def test_a_run_that_answers_all_as_the_best_is_tied_and_one_without_weights_untested(
    suite_file: Path, workspace: Workspace
) -> None:
    first = run_of(suite_file, workspace, merge_params={"scaling": 0.4})
    same = run_of(suite_file, workspace, merge_params={"scaling": 0.4}, seed=1)
    gone = run_of(suite_file, workspace, edit="ties")
    (workspace.store.folder(gone.id) / KEPT_WEIGHTS).unlink()
    alike = ranked([first, same], workspace)
    assert all(alike.cells[same.id][column].tied and alike.cells[same.id][column].best for column in alike.columns)
    found = ranked([first, same, gone], workspace)
    cells = found.cells
    assert all(cells[gone.id][column].tied is None and cells[gone.id][column].value is not None for column in TASKS)
    assert "its weights are gone" in found.untested[gone.id]
    written = table_text(found, "markdown")
    assert "could not be tested, nor others against it" in written and "?: not tested" in written.replace("\\", "")
    marks = {found.mark(cells[gone.id][task]) for task in TASKS if not cells[gone.id][task].best}
    assert marks == {"?"}


def test_answers_that_do_not_give_the_runs_accuracy_are_not_tested_with(five: list[Run], workspace: Workspace) -> None:
    merged = five[0].merged
    assert merged is not None
    claims = {task: min(1.0, value + 0.3) for task, value in (merged.accuracy or {}).items()}
    forged = replace(five[0], result_json=merged.model_copy(update={"accuracy": claims}).model_dump_json())
    assert "while its result says" in ranked([forged, five[1]], workspace).untested[forged.id]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"split": "val"}, "different images"), ({"evaluate": False}, "has no accuracies")],
)
def test_what_can_not_stand_in_one_table_is_refused(
    change: dict[str, Any], said: str, suite_file: Path, workspace: Workspace
) -> None:
    one, other = run_of(suite_file, workspace), run_of(suite_file, workspace, seed=5, **change)
    with pytest.raises(RunError, match=said):
        ranked([one, other], workspace)
    with pytest.raises(RunError, match="different runs"):
        ranked([one, one], workspace)


def test_runs_of_other_tasks_share_an_average_over_what_they_have_in_common(
    suite_file: Path, workspace: Workspace
) -> None:
    runs = [run_of(suite_file, workspace), run_of(suite_file, workspace, tasks=TASKS[:2])]
    found = ranked(runs, workspace)
    assert found.averaged == TASKS[:2] and "the 2 tasks that all runs share" in found.how
    assert found.cells[runs[1].id][TASKS[2]].value is None
    for run in runs:
        values = [found.cells[run.id][task].value for task in TASKS[:2]]
        assert found.cells[run.id][AVERAGE].value == sum(values) / 2


def test_latex_and_markdown_hold_the_same_numbers_and_the_protocol(five: list[Run], workspace: Workspace) -> None:
    annotate(workspace.store, five[0].id, name="50 % | <a_b> \\ ~ $")
    found = ranked([workspace.store.get(run.id) for run in five], workspace)
    markdown, latex = table_text(found, "markdown"), table_text(found, "latex")
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(five) and all(row.count(" | ") == len(found.columns) for row in rows)
    assert r"50 % \| \<a\_b\> \\ \~ \$" in rows[2]
    name = r"50 \% \textbar{} \textless{}a\_b\textgreater{} \textbackslash{} \textasciitilde{} \$ & "
    assert name in latex and latex.count(r" \\") == 1 + len(five)
    for run in five:
        for column in found.columns:
            shown = f"{100 * found.cells[run.id][column].value:.1f}"
            assert shown in markdown and shown in latex
    assert markdown.count("**") == 2 * latex.count(r"\textbf{") >= 2 * len(found.columns)
    for text in ("test split", "Seed: 0", "merge.scaling=0.4"):
        assert text in markdown.replace("\\", "") and text in latex
    assert in_latex("α ≤ β") == r"$\alpha$ $\leq$ $\beta$"


def test_a_report_says_what_is_at_its_default_too(five: list[Run]) -> None:
    usual = replace(
        five[0], job=MergeSpec.like(five[0].spec, edit="awd", edit_params={}, merge="tsv_m", merge_params={})
    )
    ((name, text),) = settings_lines([usual], ["one"])
    assert name == "one" and {"merge.scaling=1.0", "edit.alpha=0.1", "edit.scope=model"} < set(text.split())


def test_the_html_report_is_whole_and_texts_stay_text(five: list[Run], workspace: Workspace) -> None:
    annotate(workspace.store, five[0].id, name=EVIL, note=f"see {EVIL}", tags=["paper"])
    runs = [workspace.store.get(run.id) for run in five]
    page = Page(report_runs(runs, workspace, "html"))
    assert page.count("script") == page.count("link") == 0 and page.count("strong") >= len(TASKS)
    assert EVIL in page.text and f"see {EVIL}" in page.text and "paper" in page.text
    assert "Protocol" in page.text and all(run.fingerprint[:12] in page.text for run in runs)
    few = Page(report_runs(runs[:2], workspace, "html"))
    assert "Image by image" in few.text and few.count("svg") >= 2 and few.text.count("Protocol") == 1


def test_on_the_command_line_it_is_printed_or_written(five: list[Run], workspace: Workspace, tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        ids = [run.id[:8] for run in five]
        return CliRunner().invoke(main, ["runs", "report", *ids, "--home", str(workspace.home), *arguments])

    printed = call()
    assert printed.exit_code == 0 and printed.stdout.startswith("| Method | ")
    file = tmp_path / "report.html"
    assert call("--format", "html", "--output", str(file)).exit_code == 0 and "<table>" in file.read_text()
    refused = call("--format", "html")
    assert refused.exit_code == 2 and "name it with --output" in refused.stderr
    erase(workspace.store, five[0].id)
    assert call().exit_code == 1
