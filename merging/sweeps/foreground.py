"""Carrying out a sweep here and now, as the command line does: as the worker of the workspace, unless there is one."""

import time

from merging.core.errors import RunError
from merging.core.progress import Progress
from merging.runs.worker.serve import Worker, make_way, sole_worker
from merging.runs.workspace import Workspace
from merging.sweeps import driver
from merging.sweeps.progress import Snapshot, look
from merging.sweeps.store import SweepStore

_POLL_SECONDS = 0.5
_WAY_SECONDS = 15.0  # in which a worker that was made way for is surely there


def follow(sweep_id: str, workspace: Workspace, on_progress: Progress) -> Snapshot:
    """See a sweep to its end. If another worker serves the workspace, it does the work.

    Args:
        sweep_id: a sweep that was started.
        workspace: where it is.
        on_progress: told how many trials are done and of the best so far.

    Returns:
        The sweep as it ended: done, failed or cancelled.

    Raises:
        KeyboardInterrupt: it was interrupted, and so the sweep is cancelled.
    """
    sweeps, told = SweepStore(workspace.store), -1

    def over() -> bool:
        nonlocal told
        found = look(sweep_id, sweeps)
        if found.finished != told:
            told = found.finished
            on_progress(told, found.sweep.definition.total, _message(found))
        return found.sweep.state != "running"

    try:
        while not over():
            try:
                with sole_worker(workspace.home):
                    worker = Worker(workspace, driver.SweepDrivers(workspace))
                    worker.serve(until=over)
                if worker.stopping:
                    raise KeyboardInterrupt
                if worker.left:
                    time.sleep(_WAY_SECONDS)
            except RunError:  # there is another worker
                make_way(workspace.home)
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        driver.cancel(sweep_id, workspace)
        raise
    return look(sweep_id, sweeps)


def _message(found: Snapshot) -> str:
    values = [trial.value for trial in found.trials if trial.value is not None]
    return f"trials, best so far {100 * max(values):.1f} % on validation" if values else "trials"
