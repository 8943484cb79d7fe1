"""The door to the runs of a shared dashboard: what pages ask of it is done only if whoever sits there may do it.

It stands in the place of the workspace, so that no page can forget to ask, and hidden buttons are no protection to
rely on. What is done for no one in particular goes past it (:func:`ui.shell.state.housekeeping`).
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from merging.core.guests import is_guest, read_limits
from merging.runs import Run
from merging.runs.jobs import Job
from merging.runs.jobs.file_job import FileJob
from merging.runs.quotas import require_room
from merging.runs.shipped import Shipped
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace
from ui.shell import session
from ui.shell.rights import Act

_one_at_a_time = threading.RLock()  # between looking whether there is room and taking it


class GuardedStore(RunStore):
    """The table of runs, where everybody can look and few can change."""

    def __init__(self, home: Path, shipped: Shipped) -> None:
        super().__init__(home, shipped)
        self._unguarded = RunStore(home, shipped)

    def _require(self, act: Act, run_id: str) -> None:
        shipped = self.shipped.get(run_id)
        session.require(act, shipped or str(self._row(run_id)["person"]))

    def submit(self, job: Job, fingerprint: str, person: str = "") -> Run:
        """As without a guard, by whoever asks."""
        session.require(Act.QUEUE)
        return super().submit(job, fingerprint, session.person())

    def take(self, job: Job, fingerprint: str) -> tuple[Run, bool]:
        """As without a guard."""
        session.require(Act.QUEUE)
        return super().take(job, fingerprint)

    def cancel(self, run_id: str) -> Run:
        """As without a guard."""
        self._require(Act.CANCEL, run_id)
        return super().cancel(run_id)

    def ask_for_what_it_has(self, run_id: str) -> None:
        """As without a guard."""
        self._require(Act.CANCEL, run_id)
        super().ask_for_what_it_has(run_id)

    def delete(self, run_id: str) -> str:
        """As without a guard."""
        self._require(Act.DELETE, run_id)
        return super().delete(run_id)

    def replace(self, run_id: str, job: Job, fingerprint: str, person: str = "") -> Run:
        """As without a guard, by whoever asks."""
        self._require(Act.DELETE, run_id)
        session.require(Act.QUEUE)
        return super().replace(run_id, job, fingerprint, session.person())

    def forget(self, job: Job) -> None:
        """As without a guard: what a job replaces goes, whoever asked for it."""
        self._unguarded.forget(job)


@dataclass(frozen=True)
class GuardedWorkspace(Workspace):
    """The workspace of a shared dashboard.

    Attributes:
        suites: gives the references of the suites that are shown.
    """

    suites: Callable[[], Collection[str]] = tuple

    @cached_property
    def store(self) -> RunStore:
        """The table of runs, guarded."""
        return GuardedStore(self.home, Shipped(self.shipped))

    def submit(self, job: Job, person: str = "") -> Run:
        """As without a guard, by whoever asks and within the limits.

        Raises:
            NotAllowed: they may not ask for this.
            RunError: the suite is not shown, or there is no room for one run more.
            MergingError: a file is missing or broken.
        """
        session.require(Act.ADD_SUITES if isinstance(job, FileJob) else Act.QUEUE)
        session.require_known(str(getattr(job, "suite", "")), self.suites())
        me = session.person()
        with _one_at_a_time:
            if is_guest(me) and not self._is_there(job):
                require_room(self.store, read_limits(self.home), me)
            return super().submit(job, me)

    def again(self, run_id: str, person: str = "") -> Run:
        """As without a guard, by whoever asks and within the limits.

        Raises:
            NotAllowed: they may not replace this run.
            RunError: as :meth:`submit`, or there is no such run.
            MergingError: a file is missing or broken.
        """
        session.require_known(str(getattr(self.store.get(run_id).job, "suite", "")), self.suites())
        me = session.person()
        with _one_at_a_time:
            if is_guest(me):
                require_room(self.store, read_limits(self.home), me)
            return super().again(run_id, me)

    def _is_there(self, job: Job) -> bool:
        """Whether asking for a job queues nothing, since it is or was done."""
        known = self.find(job)
        return known is not None and (known.active or known.state == "done")
