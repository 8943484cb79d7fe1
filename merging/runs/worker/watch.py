"""Stopping a guest's run that takes more time, memory or disk than the owner of a shared dashboard grants."""

import logging
import time
from contextlib import suppress
from pathlib import Path

from merging.core.errors import RunError
from merging.core.files import folder_bytes
from merging.core.guests import Limits, is_guest, read_limits
from merging.core.memory import anonymous_bytes
from merging.core.text import printed
from merging.runs.run import Run

log = logging.getLogger("merging.worker")


class Watch:
    """Watches the process that carries out a run, from its start.

    The worker looks several times a second: a run that takes memory faster than that can hold more for a moment.

    Args:
        run: what it carries out; nobody limits the owner's.
        process: its id.
        home: the workspace, which says what the limits are.
    """

    def __init__(self, run: Run, process: int, home: Path) -> None:
        self._process, self._folder = process, home / "runs" / run.id
        self._limits = _limits(home) if is_guest(run.person) else None
        self._started = time.monotonic()
        self._before = self._held()

    def why_stop(self) -> str:
        """Why the run has to end now; empty as long as it keeps to its limits."""
        limits = self._limits
        if limits is None:
            return ""
        if time.monotonic() - self._started > 60 * limits.minutes:
            return (
                f"it was over its time: a run may take {printed(limits.minutes)} minutes here; choose fewer tasks or "
                "steps, or ask the owner of this dashboard"
            )
        if limits.memory is not None and self._held() - self._before > limits.memory:
            return (
                f"it was over its memory: a run may hold {limits.memory / 2**30:.1f} GiB here; choose fewer tasks or "
                "smaller batches, or ask the owner of this dashboard"
            )
        if folder_bytes(self._folder) > limits.disk_per_person:
            return (
                f"it was over its room: files of a person may take {printed(limits.disk_per_person / 1e9)} GB here, "
                "and so may those of one run; ask the owner of this dashboard"
            )
        return ""

    def _held(self) -> int:
        with suppress(ProcessLookupError):
            return anonymous_bytes(self._process)
        return 0


def _limits(home: Path) -> Limits:
    try:
        return read_limits(home)
    except RunError as error:
        log.warning("%s; until then the usual limits hold", error)
        return Limits()
