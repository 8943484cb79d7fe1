"""Carrying jobs out in tests, here and now."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from merging.core.progress import Numbers, Progress, no_numbers, no_progress
from merging.runs.carrying import carry_out
from merging.runs.jobs import Job, Site
from merging.runs.workspace import Workspace


def execute(
    job: Job,
    workspace: Workspace,
    output: Path | None = None,
    keep: Path | None = None,
    on_progress: Progress = no_progress,
    cancelled: Callable[[], bool] = lambda: False,
    fingerprint: str = "",
    on_numbers: Numbers = no_numbers,
) -> Any:
    """The result of a job; with a fingerprint it is refused if files have changed since."""
    site = Site(workspace, on_progress, cancelled, on_numbers, output, keep)
    with workspace.store.kept_open():
        return carry_out(job, fingerprint, site) if fingerprint else job.run(site)
