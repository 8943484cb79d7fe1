"""Runs carried out here and now, beside others that may do the same."""

import signal
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from merging.core.errors import CheckpointError, RunError, SpecError
from merging.runs import table as store_module
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec, Site
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.workspace import Workspace


def spec(suite_file: Path) -> MergeSpec:
    return MergeSpec.build(suite=str(suite_file), tasks=("digits", "leaves"), device="cpu")


def quietly(done: int, total: int, message: str) -> None:
    """Progress that nobody looks at."""


def test_what_is_done_is_not_done_again(workspace: Workspace, suite_file: Path) -> None:
    first = run_here(spec(suite_file), workspace, None, quietly)
    assert first.state == "done"
    assert run_here(spec(suite_file), workspace, None, quietly) == first


def test_a_run_that_somebody_else_carries_out_is_waited_for(workspace: Workspace, suite_file: Path) -> None:
    run = workspace.submit(spec(suite_file))
    assert workspace.store.claim(run.id)
    other = threading.Timer(0.3, workspace.store.finish, (run.id, MergeResult(output="elsewhere")))
    other.start()
    assert run_here(spec(suite_file), workspace, None, quietly).result == MergeResult(output="elsewhere")
    other.join()


def test_a_run_that_somebody_else_lost_is_taken_over(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workspace.submit(spec(suite_file))
    assert workspace.store.claim(run.id)
    monkeypatch.setattr(store_module, "STALE_SECONDS", 1.0)
    done = run_here(spec(suite_file), workspace, None, quietly)
    assert done.id != run.id and done.state == "done"
    assert workspace.store.get(run.id).state == "lost"


def test_a_run_that_failed_elsewhere_says_why(workspace: Workspace, suite_file: Path) -> None:
    run = workspace.submit(spec(suite_file))
    assert workspace.store.claim(run.id)
    other = threading.Timer(0.3, workspace.store.stop, (run.id, "failed", "the disk is full"))
    other.start()
    with pytest.raises(RunError, match="the disk is full"):
        run_here(spec(suite_file), workspace, None, quietly)
    other.join()


@pytest.mark.parametrize("name", ["base", "digits"])
def test_a_model_of_the_suite_is_never_overwritten(workspace: Workspace, own_suite: Path, name: str) -> None:
    file = own_suite / f"{name}.safetensors"
    before = file.read_bytes()
    with pytest.raises(SpecError, match=f"{name}.safetensors is a model of suite"):
        run_here(spec(own_suite), workspace, own_suite / "." / file.name, quietly)
    assert file.read_bytes() == before and not workspace.store.all()


@pytest.mark.parametrize("error", [CheckpointError("the disk is full"), ZeroDivisionError("no such luck")])
def test_a_run_that_fails_here_keeps_its_last_words(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(job: MergeSpec, site: Site) -> NoReturn:
        site.on_progress(1, 2, "adapting, entropy 3")
        raise error

    monkeypatch.setattr(MergeSpec, "run", fail)
    with pytest.raises(type(error)):
        run_here(spec(suite_file), workspace, None, quietly)
    (run,) = workspace.store.all()
    lines = (run.log or "").splitlines()
    assert run.state == "failed" and lines[0].endswith(" adapting, entropy 3 (1/2)")
    unexpected = isinstance(error, ZeroDivisionError)
    assert lines[-1].startswith("ZeroDivisionError: no such luck") == unexpected and (len(lines) == 1) != unexpected


class _Interrupted:
    """Is interrupted as it is destroyed, where Python prints an exception and goes on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_got_lost_ends_the_work_at_its_next_step(workspace: Workspace, suite_file: Path) -> None:
    steps = []

    def report(done: int, total: int, message: str) -> None:
        steps.append(message)
        _Interrupted()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of an earlier test had its own
    try:
        with pytest.raises(KeyboardInterrupt):
            run_here(spec(suite_file), workspace, None, report)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) == 1 and [run.state for run in workspace.store.all()] == ["cancelled"]
