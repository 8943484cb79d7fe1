"""The process that carries out queued runs: one at a time per device, each in a child of its own.

The parent imports torch once and forks for every run, so that a run starts at once, can be killed without harm to
anything else, and gives all its memory back. The parent itself never touches a tensor or a GPU: forking is then safe.
"""

import fcntl
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merging import devices
from merging.errors import Cancelled, DeviceError, MergingError, RunError
from merging.pipeline import MergeSpec
from merging.runs.execute import execute
from merging.runs.export import KEPT_WEIGHTS
from merging.runs.file_jobs import FILE_LANE
from merging.runs.file_work import carry_out_file_job
from merging.runs.reporting import Reporter, StopSign
from merging.runs.store import Run, RunStore
from merging.workspace import Workspace

POLL_SECONDS = 0.2
GRACE_SECONDS = 8.0  # how long a cancelled run may take to stop by itself
LOG_LINES = 30

log = logging.getLogger("merging.worker")


@contextmanager
def sole_worker(home: Path) -> Iterator[None]:
    """Hold the lock that only one worker of a workspace can hold; the system frees it if the process dies.

    Raises:
        RunError: another worker holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "worker.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError("another worker already serves this workspace") from None
        yield


def is_working(home: Path) -> bool:
    """Whether some worker serves a workspace now."""
    try:
        with sole_worker(home):
            return False
    except RunError:
        return True


@dataclass
class Child:
    """A run that is being carried out by a forked process, which leads a process group of its own."""

    pid: int
    run: Run
    killed: bool = False


class Worker:
    """Claims queued runs, one per device and one on files at a time, and looks after the children that do them."""

    def __init__(self, workspace: Workspace, grace: float = GRACE_SECONDS) -> None:
        self.workspace = workspace
        self.store: RunStore = workspace.store
        self.grace = grace
        self.children: dict[str, Child] = {}
        self.stopping = False

    def serve(self, once: bool = False) -> None:
        """Work until told to stop by SIGTERM or SIGINT, or, with ``once``, until nothing is queued any more."""
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # counting GPUs must not open them before forks
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        sweep(self.workspace.home / "runs")
        while not self.stopping:
            self.look_after()
            self.start_queued()
            if once and not self.children and not self.store.queued():
                return
            time.sleep(POLL_SECONDS)
        for child in self.children.values():
            self._kill(child)
            self.store.stop(child.run.id, "lost", "the worker was stopped; run it again")

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def start_queued(self) -> None:
        """Start the oldest queued run of every device that is free."""
        for run in self.store.queued():
            try:
                device = FILE_LANE if run.order.device == FILE_LANE else str(devices.resolve(run.order.device))
            except DeviceError as error:
                if self.store.claim(run.id):
                    self.store.stop(run.id, "failed", str(error))
                continue
            if device not in self.children and self.store.claim(run.id):
                self.children[device] = Child(self._fork(run), run)

    def _fork(self, run: Run) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _carry_out(run, self.workspace)
        log.info("run %s started in process %d: %s", run.id, pid, run.order.label)
        return pid

    def look_after(self) -> None:
        """Notice children that ended, keep the others' rows alive, and enforce cancellation."""
        for device, child in list(self.children.items()):
            ended, status = os.waitpid(child.pid, os.WNOHANG)
            if ended:
                del self.children[device]
                self._bury(child, os.waitstatus_to_exitcode(status))
                continue
            asked = self.store.beat(child.run.id)
            if asked is not None and not child.killed and time.time() - asked > self.grace:
                self._kill(child)

    def _kill(self, child: Child) -> None:
        child.killed = True
        log.warning("run %s: killing process group %d", child.run.id, child.pid)
        for target in (os.killpg, os.kill):  # the group exists once the child has called setsid
            try:
                target(child.pid, signal.SIGKILL)
                return
            except ProcessLookupError:
                continue

    def _bury(self, child: Child, code: int) -> None:
        """Give the row of a child that ended without saying why its last state. A row that has one is left alone."""
        folder = self.store.folder(child.run.id)
        sweep(folder)
        tail = log_tail(folder / "log.txt")
        if child.killed:
            self.store.stop(child.run.id, "cancelled", "cancelled; it did not stop by itself and was killed", tail)
        else:
            reason = f"signal {-code}, perhaps out of memory" if code < 0 else f"exit status {code}"
            self.store.stop(child.run.id, "failed", f"the process that carried out the run died ({reason})", tail)
        log.info("run %s ended: %s", child.run.id, self.store.get(child.run.id).state)


def sweep(folder: Path) -> None:
    """Remove what killed processes had half written below a folder."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def log_tail(path: Path) -> str:
    """The last lines of a log file, empty if there is none."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])


def _carry_out(run: Run, workspace: Workspace) -> None:
    """Body of the forked child; never returns."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        folder = workspace.store.folder(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w", encoding="utf-8", buffering=1) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout = sys.stderr = output  # line by line, so that the last words of a killed process are there
            code = _execute_and_record(run, workspace, folder)
    finally:
        os._exit(code)


def _execute_and_record(run: Run, workspace: Workspace, folder: Path) -> int:
    parent = os.getppid()
    sign = StopSign(workspace.store, run.id, abandoned=lambda: os.getppid() != parent)
    try:
        report = Reporter(workspace.store, run.id, print)
        if isinstance(run.order, MergeSpec):
            kept = folder / KEPT_WEIGHTS
            result = execute(
                run.order, workspace, keep=kept, on_progress=report, cancelled=sign, fingerprint=run.fingerprint
            )
        else:
            result = carry_out_file_job(run.order, workspace, report, sign)
        workspace.store.finish(run.id, result)
        return 0
    except Cancelled as error:
        if not sign.abandoned:  # else the row will be found lost
            workspace.store.stop(run.id, "cancelled", str(error))
    except MergingError as error:
        workspace.store.stop(run.id, "failed", str(error), log_tail(folder / "log.txt"))
    except BaseException as error:
        traceback.print_exc()
        workspace.store.stop(
            run.id, "failed", f"unexpected {type(error).__name__}: {error}", log_tail(folder / "log.txt")
        )
    return 1
