"""What becomes of a run's row when it is done, or was ended early."""

from pathlib import Path

import pytest

from merging.runs import Run
from merging.runs.carrying import record
from merging.runs.jobs import MergeSpec, Site
from merging.runs.workspace import Workspace


def job(suite_file: Path, steps: int) -> MergeSpec:
    return MergeSpec.build(
        suite=str(suite_file),
        tasks=("digits", "leaves"),
        device="cpu",
        merge="adamerging",
        merge_params={"steps": steps, "batch_size": 2},
    )


def ended_at_once(workspace: Workspace, asked: MergeSpec) -> Run:
    """A run that makes one step, as somebody has enough then."""
    run = workspace.submit(asked)
    workspace.store.claim(run.id)
    workspace.store.folder(run.id).mkdir(parents=True)
    assert not workspace.store.enough(run.id)
    workspace.store.ask_for_what_it_has(run.id)
    record(run, run.job.run(Site(workspace, enough=lambda: workspace.store.enough(run.id))), workspace)
    return workspace.store.get(run.id)


def test_a_run_that_was_ended_early_is_one_of_so_many_steps(workspace: Workspace, suite_file: Path) -> None:
    run = ended_at_once(workspace, job(suite_file, 100))
    assert run.state == "done" and run.spec == job(suite_file, 1)
    assert run.merged is not None and run.merged.label == run.spec.label and run.merged.merge.trajectory is not None
    assert workspace.find(job(suite_file, 1)) == run and workspace.find(job(suite_file, 100)) is None


def test_where_there_is_such_a_run_already_it_says_so(workspace: Workspace, suite_file: Path) -> None:
    first = ended_at_once(workspace, job(suite_file, 100))
    second = ended_at_once(workspace, job(suite_file, 200))
    assert second.state == "cancelled" and second.error is not None and first.id in second.error
    assert workspace.store.find(first.fingerprint) == first


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_that_was_not_is_what_was_asked_for(steps: int, workspace: Workspace, suite_file: Path) -> None:
    run = workspace.submit(job(suite_file, steps))
    workspace.store.claim(run.id)
    record(run, run.job.run(Site(workspace)), workspace)
    assert workspace.store.get(run.id).spec == job(suite_file, steps)
