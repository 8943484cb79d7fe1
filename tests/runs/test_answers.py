"""What runs predict is kept as they are measured, where no table gives their weights again, and goes where they go."""

from pathlib import Path

import numpy as np
import pytest

from merging.runs.comparison.ranked import rank_runs
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.predictions import evaluator_of, known_predictions, predictions_of
from merging.runs.listing import listing
from merging.runs.moving import export_runs, import_runs
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite
from tests.random_models import TASKS

LINEAR = {"merge_params": {"scaling": 0.4}}
TRIMMED = {"edit": "ties", "merge_params": {"scaling": 0.7}}
LOCALISED = {"merge": "tall_masks", "merge_params": {"threshold": 0.4}}


def done(suite_file: Path, workspace: Workspace, **choices: object) -> Run:
    job = MergeSpec.build(**{"suite": str(suite_file), "tasks": TASKS, "device": "cpu", **choices})
    return have_done(job, workspace, Here(workspace, lambda done, total, message: None, None))


@pytest.mark.parametrize("choices", [TRIMMED, LOCALISED])
def test_what_is_kept_is_what_the_kept_weights_predict(
    choices: dict[str, object], suite_file: Path, workspace: Workspace
) -> None:
    run = done(suite_file, workspace, **choices)
    evaluator = evaluator_of(run, workspace)
    kept = known_predictions(run, workspace, evaluator)
    with workspace.store.connect() as connection:
        connection.execute("delete from predictions")
    measured = predictions_of(run, workspace, evaluator)
    assert set(kept) == set(TASKS)
    assert all(np.array_equal(kept[task], measured[task]) for task in TASKS)


def test_runs_that_a_table_gives_again_take_no_room(suite_file: Path, workspace: Workspace) -> None:
    run = done(suite_file, workspace, **LINEAR)
    assert known_predictions(run, workspace, evaluator_of(run, workspace)) == {}


def test_a_run_is_tested_on_another_machine_though_its_weights_did_not_come_along(
    suite_file: Path, workspace: Workspace, tmp_path: Path
) -> None:
    run = done(suite_file, workspace, **TRIMMED)
    export_runs(workspace.store, tmp_path / "runs.zip", listing(workspace.store))
    there = Workspace(tmp_path / "there")
    import_runs(there.store, tmp_path / "runs.zip", {str(suite_file): load_suite(suite_file)})
    arrived, names = there.store.get(run.id), ("linear", "trimmed")
    found = rank_runs([done(suite_file, there, **LINEAR), arrived], names, there)
    assert not found.untested and found.tests > 0
    here = rank_runs([done(suite_file, workspace, **LINEAR), run], names, workspace)
    assert found.cells[arrived.id] == here.cells[run.id]
