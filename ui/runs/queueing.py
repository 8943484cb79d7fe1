"""Several runs asked for by one button: all of them, or as many as there is room for, which is said then."""

from collections.abc import Sequence
from typing import NoReturn

from merging.core.errors import MergingError
from merging.runs.jobs import Job
from ui.runs.panel import ensure_worker
from ui.shell.state import workspace
from ui.shell.url import run_again, warn


def queue(jobs: Sequence[Job]) -> NoReturn:
    """Queue jobs, have them carried out and draw the page again; who may not queue all of them has the first ones.

    Raises:
        MergingError: not even the first could be queued.
    """
    for place, job in enumerate(jobs):
        try:
            workspace().submit(job)
        except MergingError as error:
            if not place:
                raise
            warn(f"Only {place} of {len(jobs)} could be asked for: {error}.")
            break
    ensure_worker()
    run_again()
