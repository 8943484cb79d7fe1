"""Carrying out a job: what whoever does it, wherever that is, has in common.

Three carry jobs out: the command line here and now (:class:`merging.runs.foreground.Here`), the worker of a workspace
by its :class:`Queue` (:mod:`merging.runs.worker.serve`), and the machines of a Dask cluster
(:class:`merging.runs.cluster.Cluster`). Each is a :class:`Carrier`, for jobs of every kind.
"""

from dataclasses import dataclass
from typing import Protocol

from merging.core.errors import Cancelled, MergingError
from merging.methods.spec import Spec
from merging.runs.jobs import Job, JobResult, Site
from merging.runs.run import Run, State
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace

ATTEMPTS = 3  # of a run whose worker is lost


class Carrier(Protocol):
    """Who has jobs carried out."""

    def submit(self, job: Job, fingerprint: str) -> None:
        """Have a job carried out, unless it is or was."""

    def look_after(self) -> None:
        """Take notice of what has happened to them."""

    def close(self) -> None:
        """Let go of what is still under way."""


class Queue:
    """The queue of a workspace, whose worker takes what is in it."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def submit(self, job: Job, fingerprint: str) -> None:
        """Queue a job."""
        self._store.submit(job, fingerprint)

    def look_after(self) -> None:
        """The worker does that."""

    def close(self) -> None:
        """Queued jobs stay queued."""


def carry_out(job: Job, fingerprint: str, site: Site) -> JobResult:
    """Do a job on the very files that it was asked for.

    Raises:
        MergingError: files have changed since, or what the job raises.
        Cancelled: somebody asked for the work to stop.
    """
    with site.workspace.store.kept_open():
        if job.fingerprint(site.workspace) != fingerprint:
            own = isinstance(job, Spec) and bool(job.pair.sources)
            which = "of the suite, or those of its methods of your own," if own else "of the suite"
            raise MergingError(f"files {which} have changed since this run was asked for; run it again")
        return job.run(site)


def record(run: Run, result: JobResult, workspace: Workspace) -> None:
    """Write the result of a run into its row, as a run of what was done where somebody ended it early."""
    job = run.job.as_done(result)
    if job != run.job:
        before = workspace.store.become(run.id, job, job.fingerprint(workspace))
        if before is not None:
            workspace.store.stop(run.id, "cancelled", f"ended early; run {before.id} has made just as many steps")
            return
        result = result.model_copy(update={"label": job.label})
    workspace.store.finish(run.id, result)


@dataclass(frozen=True)
class Ending:
    """How a job ended that did not come to a result: the state of its row, and why."""

    state: State
    reason: str

    @classmethod
    def of(cls, error: BaseException, where: str = "") -> "Ending":
        """What an exception means; one that nobody expected is named, with where it happened."""
        if isinstance(error, Cancelled):
            return cls("cancelled", str(error))
        if isinstance(error, MergingError):
            return cls("failed", str(error))
        return cls("failed", f"unexpected {type(error).__name__}{where}: {error}")
