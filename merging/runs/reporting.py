"""A run's progress on its way into the table of runs; the worker and the command line both report through here."""

import time
from collections.abc import Callable

from merging.core.progress import phase_of
from merging.runs.table import RunStore

LOG_LINES = 30  # of a run that failed, kept with it
_WRITE_SECONDS = 0.25  # progress goes to the table at most this often


class Reporter:
    """Writes progress to the row of a run.

    Args:
        store: the table.
        run_id: the row.
        log: told of every new phase, and of progress within one every two seconds.
    """

    def __init__(self, store: RunStore, run_id: str, log: Callable[[str], None] | None = None) -> None:
        self._store = store
        self._run_id = run_id
        self._log = log
        self._phase = ""
        self._written = self._logged = 0.0

    def __call__(self, done: int, total: int, message: str) -> None:
        """As :data:`merging.core.progress.Progress`; for phases see :func:`merging.core.progress.phase_of`."""
        phase, now = phase_of(message), time.monotonic()
        fresh = phase != self._phase
        if not (fresh or done == total or now - self._written > _WRITE_SECONDS):
            return
        if self._log is not None and (fresh or now - self._logged > 2):
            self._log(f"{time.strftime('%H:%M:%S')} {message} ({done}/{total})")
            self._logged = now
        self._store.progress(self._run_id, done, total, message, fresh)
        self._phase, self._written = phase, now
