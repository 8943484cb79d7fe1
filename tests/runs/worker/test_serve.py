"""The worker process: what happens to rows and files when runs end well, fail, are cancelled, or are killed."""

import logging
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from merging.core.errors import RunError
from merging.core.files import atomic_path
from merging.methods import plan
from merging.runs import table as store_module
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import MergeSpec, Site
from merging.runs.run import Run
from merging.runs.worker import serve
from merging.runs.worker.serve import Worker, elsewhere, is_working, sole_worker
from merging.runs.workspace import Workspace
from tests.copied import Copied, command_alone, copied
from tests.waiting import until

LONG = {"merge": "adamerging", "merge_params": {"steps": 20_000, "batch_size": 2}}


def spec(suite_file: Path, **choices: object) -> MergeSpec:
    return MergeSpec.build(suite=str(suite_file), tasks=("digits", "leaves"), device="cpu", **choices)


@pytest.fixture
def process(workspace: Workspace) -> Iterator[Copied]:
    """The command for a worker; ``tests/ui/test_killed_server.py`` has one that is started as users start it."""
    workspace.home.mkdir(parents=True, exist_ok=True)
    with copied(command_alone("worker", "--home", workspace.home), workspace.home / "worker.log") as child:
        yield child


def running_child(workspace: Workspace, run: Run) -> int:
    """Process id of the child that carries out a run, once it does."""
    until(lambda: workspace.store.get(run.id).done > 0)
    log = (workspace.home / "worker.log").read_text()
    return int(log.split(f"run {run.id} started in process ")[1].split(":")[0])


def alive(pid: int) -> bool:
    """Whether a process still runs; a dead one that nobody buried yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_queued_runs_are_carried_out_in_order(workspace: Workspace, suite_file: Path) -> None:
    first = workspace.submit(spec(suite_file))
    second = workspace.submit(spec(suite_file, edit="ties"))
    Worker(workspace).serve(once=True)
    done = [workspace.store.get(run.id) for run in (first, second)]
    assert [run.state for run in done] == ["done", "done"]
    assert done[0].finished is not None and done[1].started is not None and done[0].finished <= done[1].started
    assert done[0].result is not None and set(done[0].result.accuracy) == {"digits", "leaves"}
    assert not (workspace.store.folder(first.id) / KEPT_WEIGHTS).exists()  # its coefficient table is enough
    assert (workspace.store.folder(second.id) / KEPT_WEIGHTS).is_file()


def test_a_failing_run_keeps_its_reason_and_the_worker_goes_on(workspace: Workspace, own_suite: Path) -> None:
    failing = workspace.submit(spec(own_suite))
    (own_suite / "digits.safetensors").write_bytes(b"\0" * 100)
    Worker(workspace).serve(once=True)
    run = workspace.store.get(failing.id)
    assert run.state == "failed" and run.error is not None and "digits.safetensors" in run.error
    assert str(own_suite) not in run.error


def test_only_one_worker_serves_a_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    here = platform.node()
    assert not is_working(workspace.home)
    with sole_worker(workspace.home):
        assert is_working(workspace.home)
        with pytest.raises(RunError, match="another worker already"), sole_worker(workspace.home):
            pass
        assert not elsewhere(workspace.home)
        monkeypatch.setattr("merging.runs.worker.serve.platform.node", lambda: "another machine on this home")
        with pytest.raises(RunError, match=f"on machine {re.escape(here)}, already"), sole_worker(workspace.home):
            pass
        assert elsewhere(workspace.home) == here
    assert not is_working(workspace.home)


def test_cancelling_stops_a_running_run_and_stopping_the_worker_its_runs(
    process: Copied, workspace: Workspace, suite_file: Path
) -> None:
    run = workspace.submit(spec(suite_file, **LONG))
    running_child(workspace, run)
    workspace.store.cancel(run.id)
    until(lambda: workspace.store.get(run.id).state == "cancelled")
    assert "adapting" in (workspace.store.get(run.id).error or "")
    another = workspace.submit(spec(suite_file, seed=1, **LONG))
    child = running_child(workspace, another)
    process.terminate()
    assert process.wait() == 0
    until(lambda: not alive(child))
    assert workspace.store.get(another.id).state == "lost"


def test_cancelling_escalates_to_killing(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MergeSpec, "run", lambda *_: time.sleep(600))
    run = workspace.submit(spec(suite_file))
    worker = Worker(workspace, grace=0.2)
    worker.start_queued()
    (child,) = worker.children.values()
    workspace.store.cancel(run.id)
    until(lambda: worker.look_after() is None and not worker.children)
    assert not alive(child.process.pid)
    cancelled = workspace.store.get(run.id)
    assert cancelled.state == "cancelled" and "killed" in (cancelled.error or "")


def test_a_child_that_dies_fails_its_run_and_leaves_no_half_file(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(job: MergeSpec, site: Site) -> None:
        keep = site.keep
        assert keep is not None
        with atomic_path(keep) as temporary:
            temporary.write_bytes(b"half")
            print("the last words")
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(MergeSpec, "run", die)
    run = workspace.submit(spec(suite_file))
    Worker(workspace).serve(once=True)
    dead = workspace.store.get(run.id)
    assert dead.state == "failed" and "signal 9" in (dead.error or "") and "the last words" in (dead.log or "")
    assert [path.name for path in workspace.store.folder(run.id).iterdir()] == ["log.txt"]


def test_a_killed_worker_leaves_the_run_lost_and_it_can_be_retried(
    process: Copied, workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workspace.submit(spec(suite_file, **LONG))
    child = running_child(workspace, run)
    process.kill()
    process.wait()
    until(lambda: not alive(child))  # the orphan notices that its worker is gone
    monkeypatch.setattr(store_module, "STALE_SECONDS", -1.0)
    lost = workspace.store.get(run.id)
    assert lost.state == "lost" and "run it again" in (lost.error or "")
    assert not list(workspace.store.folder(run.id).glob("*.safetensors*"))
    again = workspace.retry(run.id)
    assert again.state == "queued" and again.id != run.id and again.fingerprint == run.fingerprint


def test_a_worker_killed_while_weights_are_written_leaves_no_half_file(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child notices between two tensors that it is alone, and takes its temporary file with it."""
    folder = workspace.home / "runs"
    run = workspace.submit(spec(suite_file, edit="ties", evaluate=False))
    stored = plan._as_stored
    monkeypatch.setattr(plan, "_as_stored", lambda *given: (time.sleep(0.3), stored(*given))[1])
    worker = Copied(command_alone("worker", "--home", workspace.home), workspace.home / "worker.log")
    until(lambda: bool(list(folder.rglob(".*.tmp"))))
    child = running_child(workspace, run)
    worker.kill()
    worker.wait()
    until(lambda: not alive(child))
    assert [path.name for path in workspace.store.folder(run.id).iterdir()] == ["log.txt"]


def test_a_new_worker_sweeps_up(workspace: Workspace) -> None:
    """What is left by a process that is gone, also of earlier versions, which named no machine; not what is written."""
    folder = workspace.store.folder("0123456789ab")
    folder.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [f".model.safetensors.{gone.pid}.tmp", f".log.txt.{platform.node()[:32]}-{gone.pid}.tmp"]
    for name in left:
        (folder / name).write_bytes(b"half")
    (folder / f".0123.{platform.node()[:32]}-{gone.pid}.tmp").mkdir()
    stays = ["model.safetensors", f".model.safetensors.{platform.node()[:32]}-{os.getpid()}.tmp", ".x.elsewhere-1.tmp"]
    for name in stays:
        (folder / name).write_bytes(b"whole")
    Worker(workspace).serve(once=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(stays)


def test_files_that_change_after_submitting_fail_the_run(workspace: Workspace, own_suite: Path) -> None:
    run = workspace.submit(spec(own_suite, evaluate=False))
    (own_suite / "leaves.safetensors").write_bytes((own_suite / "roads.safetensors").read_bytes())
    Worker(workspace).serve(once=True)
    failed = workspace.store.get(run.id)
    assert failed.state == "failed" and "changed since this run was asked for" in (failed.error or "")
    again = workspace.retry(run.id)
    assert again.fingerprint == run.spec.fingerprint(workspace) != run.fingerprint
    Worker(workspace).serve(once=True)
    assert workspace.store.get(again.id).state == "done"
    with pytest.raises(RunError, match="is done; only failed, cancelled or lost runs"):
        workspace.retry(again.id)


class Heard(logging.Handler):
    """What is said in logs."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What the worker says."""
    handler, level = Heard(), serve.log.level
    serve.log.setLevel("INFO")
    serve.log.addHandler(handler)
    yield handler.said
    serve.log.removeHandler(handler)
    serve.log.setLevel(level)


def processes_of(heard: list[str], runs: list[Run]) -> list[str]:
    """Ids of the processes in which runs were started."""
    said = " ".join(heard)
    return [said.split(f"run {run.id} started in process ")[1].split(":")[0] for run in runs]


@pytest.mark.parametrize("stays", [True, False])
def test_the_child_of_a_gpu_takes_the_next_run(
    workspace: Workspace,
    suite_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    heard: list[str],
    stays: bool,
) -> None:
    monkeypatch.setattr(serve, "stays", lambda lane: 60.0 if stays else 0.0)
    runs = [workspace.submit(spec(suite_file, seed=seed)) for seed in (1, 2, 3)]
    worker = Worker(workspace)
    worker.serve(once=True)
    found = [workspace.store.get(run.id) for run in runs]
    assert [run.state for run in found] == ["done"] * 3
    pids = processes_of(heard, runs)
    assert len({*pids}) == (1 if stays else 3)
    assert all((workspace.store.folder(run.id) / "log.txt").read_text() for run in runs)
    until(lambda: not any(alive(int(pid)) for pid in pids))  # who waits ends with the worker


def test_a_child_that_stays_and_dies_fails_only_the_run_that_it_was_doing(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "stays", lambda lane: 60.0)
    carried_out = MergeSpec.run

    def die(job: MergeSpec, site: Site) -> object:
        return os.kill(os.getpid(), signal.SIGKILL) if job.seed == 2 else carried_out(job, site)

    monkeypatch.setattr(MergeSpec, "run", die)
    runs = [workspace.submit(spec(suite_file, seed=seed)) for seed in (1, 2, 3)]
    Worker(workspace).serve(once=True)
    assert [workspace.store.get(run.id).state for run in runs] == ["done", "failed", "done"]


def test_a_child_waits_for_its_run_however_busy_the_worker_is(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: it left after a fifth of a second, and the worker died of that."""

    class Slow(serve.Process):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            time.sleep(20 * serve.POLL_SECONDS)

    monkeypatch.setattr(serve, "Process", Slow)
    run = workspace.submit(spec(suite_file))
    Worker(workspace).serve(once=True)
    assert workspace.store.get(run.id).state == "done"


def test_a_child_that_waits_too_long_leaves(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "stays", lambda lane: 0.1)
    run = workspace.submit(spec(suite_file))
    worker = Worker(workspace)
    worker.start_queued()
    (child,) = worker.children.values()
    until(lambda: worker.look_after() is None and not worker.children)
    assert workspace.store.get(run.id).state == "done"
    assert not alive(child.process.pid)
