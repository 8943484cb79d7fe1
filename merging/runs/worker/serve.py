"""The process that carries out queued runs: one at a time per device, each in a child of its own.

The parent imports torch once and forks for every run, so that a run starts at once, can be killed without harm to
anything else, and gives all its memory back. The parent itself never touches a tensor or a GPU: forking is then safe.
The child of a GPU stays for a while and takes the next run there: it has the driver loaded, and models on the card.
Where there is no forking, see :mod:`merging.core.process`.
"""

import logging
import math
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn, Protocol

from filelock import FileLock, Timeout

from merging.core import devices
from merging.core.errors import DeviceError, MergingError, RunError
from merging.core.files import remove_leftovers
from merging.core.places import method_places, methods_setting
from merging.core.process import Process, become_independent, orphaned
from merging.methods import own
from merging.runs.carrying import Ending, carry_out, record
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import Site
from merging.runs.jobs.job import FILE_LANE
from merging.runs.leftovers import clean
from merging.runs.reporting import LOG_LINES, Reporter
from merging.runs.run import Run
from merging.runs.stopping import StopSign
from merging.runs.table import RunStore
from merging.runs.worker.trace import TRACE, Trace
from merging.runs.worker.watch import Watch
from merging.runs.workspace import Workspace

POLL_SECONDS = 0.2
KEEP_SECONDS = 60.0  # how long the child of a GPU waits for the next run, with models on the card
GRACE_SECONDS = 8.0  # how long a cancelled run may take to stop by itself
# In the workspace: where its worker takes methods of one's own from, and that somebody waits for it to leave.
_PLACES, _LEAVE = "worker.methods", "worker.leave"
_MACHINE = "worker.machine"  # which the worker runs on, where a folder is one of several machines

log = logging.getLogger("merging.worker")


@contextmanager
def sole_worker(home: Path) -> Iterator[None]:
    """Hold the lock that only one worker of a workspace can hold; the system frees it if the process dies.

    On a folder that several machines reach it is one lock for all of them: there the system takes it at the server.

    Raises:
        RunError: another worker holds it.
    """
    with _lock(home):
        (home / _MACHINE).write_text(platform.node(), encoding="utf-8")
        yield


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "worker.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        where = elsewhere(home)
        raise RunError(f"another worker{where and f', on machine {where},'} already serves this workspace") from None
    try:
        yield
    finally:
        lock.release()


def elsewhere(home: Path) -> str:
    """The other machine whose worker has served a workspace last; empty if that was one of this machine, or none."""
    machine = next(iter(_lines(home / _MACHINE)), "")
    return "" if machine == platform.node() else machine


def is_working(home: Path) -> bool:
    """Whether some worker serves a workspace now."""
    try:
        with _lock(home):
            return False
    except RunError:
        return True


def make_way(home: Path) -> None:
    """Ask the worker that serves a workspace to end once its runs have, if it lacks methods that this process may have.

    It takes methods of one's own from the places that were named when it was started. No file can name others for it:
    whoever has more starts another worker, in whose place it must not stay.
    """
    here = {methods_setting([place]) for place in method_places()}
    if here - set(_lines(home / _PLACES)):
        (home / _LEAVE).touch()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


class Child:
    """A process that carries out a run and ends; one for a GPU stays for the next ones, see :func:`stays`.

    Attributes:
        process: it.
        run: what it is carrying out; None while it waits for more.
        killed: whether it was killed.
        too_much: why it was killed, if that was since its run took more than it may.
    """

    def __init__(self, workspace: Workspace, run: Run, keep: float) -> None:
        self.run: Run | None = run
        self.killed = False
        self.too_much = ""
        self._home = workspace.home
        self._talk, other = Pipe()
        self.process = Process(_carry_out, workspace, other, keep)
        other.close()
        self._talk.send(run)
        self._watch = Watch(run, self.process.pid, self._home)

    def take(self, run: Run) -> bool:
        """Give it another run, if it waits for one and is still there."""
        if self.run is not None or self.process.poll() is not None:
            return False
        with suppress(OSError):
            self._talk.send(run)
            self.run = run
            self._watch = Watch(run, self.process.pid, self._home)
        return self.run is run

    def takes_too_much(self) -> bool:
        """Whether its run has to be stopped for the time or the memory that it takes, which is noted."""
        self.too_much = self._watch.why_stop()
        return bool(self.too_much)

    def ended(self) -> int | None:
        """How its run ended, once it has: 0 for what its row says, else the exit status of a process that died."""
        code = self.process.poll()
        try:
            return int(self._talk.recv()) if self._talk.poll() else code
        except (EOFError, OSError):  # it died; its exit status may take another moment
            return code

    @property
    def gone(self) -> bool:
        """Whether there is no process any more."""
        return self.process.poll() is not None


class Drivers(Protocol):
    """What asks for many runs over time, such as sweeps; a child drives each and queues runs like anybody else."""

    def going_on(self) -> list[str]:
        """Ids of those that want a driver now."""

    def drive(self, name: str, workspace: Workspace, stopped: Callable[[], bool]) -> None:
        """Drive one to its end, in a child process, or until stopped."""

    def fail(self, name: str, reason: str) -> None:
        """Take notice that the driver of one has died."""


class NoDrivers:
    """Nothing to drive: runs alone are carried out."""

    def going_on(self) -> list[str]:
        """None."""
        return []

    def drive(self, name: str, workspace: Workspace, stopped: Callable[[], bool]) -> None:
        """Never called."""

    def fail(self, name: str, reason: str) -> None:
        """Never called."""


class Worker:
    """Claims queued runs, one per device and one on files at a time, and looks after the children that do them.

    Attributes:
        workspace: whose runs it carries out.
        drivers: what else is going on there that asks for runs.
        grace: seconds that a cancelled run may take to stop by itself.
        left: whether it has made way for another worker, see :func:`make_way`.
    """

    def __init__(self, workspace: Workspace, drivers: Drivers | None = None, grace: float = GRACE_SECONDS) -> None:
        self.workspace = workspace
        self.store: RunStore = workspace.store
        self.drivers = drivers or NoDrivers()
        self.grace = grace
        self.children: dict[str, Child] = {}
        self.driven: dict[str, Process] = {}
        self.stopping = False
        self.left = False

    def serve(self, once: bool = False, until: Callable[[], bool] = lambda: False) -> None:
        """Work until told to stop by SIGTERM or SIGINT.

        Args:
            once: or until nothing is queued and nothing is to be driven any more.
            until: or until this is so and the runs that were started by then have ended.
        """
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # counting GPUs must not open them before forks
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        home = self.workspace.home
        clean(self.store)
        (home / _LEAVE).unlink(missing_ok=True)
        places = [methods_setting([place]) for place in method_places()]
        (home / _PLACES).write_text("\n".join(places), encoding="utf-8")
        known: tuple[own.Problem, ...] = ()
        while not self.stopping:
            self.look_after()
            own.refresh()
            if own.problems() != known:
                known = own.problems()
                for problem in known:
                    log.warning("%s", problem)
            self.left = (home / _LEAVE).exists()
            if self.left:
                self._stop_drivers()  # which the next worker starts again where they were
            enough = self.left or until() or (once and not self.store.queued() and not self.drivers.going_on())
            if enough and not self.driven and all(child.run is None for child in self.children.values()):
                break
            if not enough:
                self.start_queued()
                self.start_drivers()
            time.sleep(POLL_SECONDS)
        self._stop_drivers()
        for child in self.children.values():
            self._kill(child)
            if child.run is not None:
                self.store.stop(child.run.id, "lost", "the worker was stopped; run it again")

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def _stop_drivers(self) -> None:
        for process in self.driven.values():
            process.kill()
        self.driven.clear()

    def start_queued(self) -> None:
        """Start the oldest queued run of every device that is free."""
        for run in self.store.queued():
            try:
                lane = FILE_LANE if run.job.lane == FILE_LANE else str(devices.resolve(run.job.lane))
            except DeviceError as error:
                if self.store.claim(run.id):
                    self.store.stop(run.id, "failed", str(error))
                continue
            child = self.children.get(lane)
            if (child is None or child.run is None) and self.store.claim(run.id):
                if child is None or not child.take(run):
                    child = self.children[lane] = Child(self.workspace, run, stays(lane))
                log.info("run %s started in process %d: %s", run.id, child.process.pid, run.job.label)

    def start_drivers(self) -> None:
        """See to it that everything that is going on has a driver."""
        for name in self.drivers.going_on():
            if name not in self.driven:
                self.driven[name] = Process(_drive, name, self.workspace, self.drivers)
                log.info("%s driven by process %d", name, self.driven[name].pid)

    def look_after(self) -> None:
        """Notice children that ended, keep the others' rows alive, and enforce cancellation."""
        for name, process in list(self.driven.items()):
            if (code := process.poll()) is not None:
                del self.driven[name]
                if code:
                    self.drivers.fail(name, _reason(code))
        for device, child in list(self.children.items()):
            if child.run is not None:
                if (code := child.ended()) is not None:
                    self._bury(child, child.run, code)
                    child.run = None
                else:
                    asked = self.store.beat(child.run.id)
                    cancelled_in_vain = asked is not None and time.time() - asked > self.grace
                    if not child.killed and (cancelled_in_vain or child.takes_too_much()):
                        self._kill(child)
            if child.run is None and child.gone:
                del self.children[device]

    def _kill(self, child: Child) -> None:
        child.killed = True
        if child.run is not None:
            log.warning("run %s: killing process %d", child.run.id, child.process.pid)
        child.process.kill()

    def _bury(self, child: Child, run: Run, code: int) -> None:
        """Give the row of a run that ended without saying why its last state. A row that has one is left alone."""
        folder = self.store.folder(run.id)
        remove_leftovers(folder)
        tail = log_tail(folder / "log.txt")
        if child.too_much:
            self.store.stop(run.id, "failed", child.too_much, tail)
        elif child.killed:
            self.store.stop(run.id, "cancelled", "cancelled; it did not stop by itself and was killed", tail)
        else:
            reason = f"the process that carried out the run died ({_reason(code)})"
            self.store.stop(run.id, "failed", reason, tail)
        log.info("run %s ended: %s", run.id, self.store.get(run.id).state)


def _reason(code: int) -> str:
    return f"signal {-code}, perhaps out of memory" if code < 0 else f"exit status {code}"


def log_tail(path: Path) -> str:
    """The last lines of a log file, empty if there is none."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])


def stays(lane: str) -> float:
    """Seconds that the child of a lane waits for the next run; the memory of a CPU is given back at once."""
    return KEEP_SECONDS if lane.startswith("cuda") else 0.0


def _carry_out(workspace: Workspace, talk: Connection, keep: float) -> NoReturn:
    """Body of a process that carries out the runs that it is sent, until none came for so many seconds."""
    code = 1
    patience = math.inf  # the first is about to be sent, however long a busy machine takes for it
    try:
        become_independent()
        alone = orphaned()
        while True:
            waited = 0.0
            while not talk.poll(POLL_SECONDS):
                waited += POLL_SECONDS
                if waited > patience or alone():
                    os._exit(0)
            patience = keep
            run: Run = talk.recv()
            folder = workspace.store.folder(run.id)
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "log.txt").open("w", encoding="utf-8", buffering=1) as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.stdout = sys.stderr = output  # line by line, so that the last words of a killed process are there
                code = _carry_out_and_record(run, workspace, folder)
            if not keep:
                break
            talk.send(code)
    finally:
        os._exit(code)


def _drive(name: str, workspace: Workspace, drivers: Drivers) -> NoReturn:
    """Body of a process that drives something, such as a sweep."""
    code = 1
    try:
        become_independent()
        drivers.drive(name, workspace, stopped=orphaned())
        code = 0
    except BaseException:
        traceback.print_exc()  # goes where the worker logs
    finally:
        os._exit(code)


def _carry_out_and_record(run: Run, workspace: Workspace, folder: Path) -> int:
    own.refresh()  # a page may have seen a file change that the worker has not
    sign = StopSign(workspace.store, run.id, abandoned=orphaned())
    site = Site(
        workspace,
        on_progress=Reporter(workspace.store, run.id, print),
        cancelled=sign,
        on_numbers=Trace(folder / TRACE),
        enough=lambda: workspace.store.enough(run.id),
        keep=folder / KEPT_WEIGHTS,
        run_id=run.id,
        on_predicted=workspace.store.remember_predictions,
    )
    try:
        record(run, carry_out(run.job, run.fingerprint, site), workspace)
        return 0
    except BaseException as error:
        if not isinstance(error, MergingError) or error.__cause__ is not None:  # the latter: somebody's own method
            traceback.print_exc()
        ending = Ending.of(error)
        if not sign.abandoned:  # else the row will be found lost
            log_lines = log_tail(folder / "log.txt") if ending.state == "failed" else ""
            workspace.store.stop(run.id, ending.state, ending.reason, log_lines)
        return 1
