"""Jobs on files beside merging: they have progress, cancelling and a result as merges do, but no history."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from merging.core.errors import Cancelled
from merging.core.progress import Progress
from merging.runs.jobs.job import FILE_LANE, Job, Site

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace


class FileJob(Job):
    """A job on files: it waits for no device, and is done again whenever its files have another version."""

    stays: ClassVar[str] = "it reads and writes files of this machine"

    @property
    def lane(self) -> str:
        """Such jobs wait for each other alone."""
        return FILE_LANE

    def version(self) -> str:
        """Of the files that it reads; empty where that is no question."""
        return ""

    def replaces(self, other: Job) -> bool:
        """There is no history: a job replaces earlier ones like it."""
        return self == other

    def fingerprint(self, workspace: Workspace) -> str:
        """Identity of the job on the present version of its files."""
        return hashlib.sha256(f"{self.model_dump_json()}\n{self.version()}".encode()).hexdigest()

    def step(self, site: Site) -> Progress:
        """Progress that stops the job once somebody has asked for that."""

        def step(done: int, total: int, message: str) -> None:
            site.on_progress(done, total, message)
            if site.cancelled():
                raise Cancelled("cancelled; what was finished before is kept")

        return step
