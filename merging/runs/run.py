"""A run as the table holds it: what to do, how far it is, and what came of it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from merging.core.errors import RunError
from merging.runs.jobs import Job, JobResult, MergeSpec
from merging.runs.jobs.merge_result import Coefficients, MergeResult

State = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
Result = TypeVar("Result", bound=JobResult)
ACTIVE: tuple[State, ...] = ("queued", "running")


@dataclass(frozen=True)
class Run:
    """One row. Times are seconds since the epoch.

    Attributes:
        id: twelve hexadecimal digits.
        fingerprint: of the specification and all files it reads.
        job: what to do.
        state: queued, running, done, failed, cancelled or lost.
        message: what it is doing, in words.
        done: finished steps of the present phase.
        total: steps of the present phase.
        error: why it failed, in one paragraph.
        log: last lines of output of a run that failed.
        result_json: what came of it, as stored.
        person: who asked for it, where several people share a dashboard; empty if nobody said.
        machine: the name of the machine on which it was asked for; empty of runs of earlier versions.
        name: that somebody gave it; empty if nobody did, as the next two.
        note: what somebody wrote about it, as Markdown, see :mod:`merging.runs.annotations`.
        tags: words by which it is found again.
        star: whether somebody marked it.
        shipped: whether it came with the suite, see :mod:`merging.runs.shipped`, and is nobody's own.
    """

    id: str
    fingerprint: str
    job: Job
    state: State
    message: str
    done: int
    total: int
    phase_started: float | None
    created: float
    started: float | None
    finished: float | None
    heartbeat: float | None
    cancel_asked: float | None
    error: str | None
    log: str | None
    result_json: str | None
    person: str = ""
    machine: str = ""
    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    star: bool = False
    shipped: bool = False

    @property
    def spec(self) -> MergeSpec:
        """What to merge, of a run that is a merge.

        Raises:
            RunError: it is another job.
        """
        if not isinstance(self.job, MergeSpec):
            raise RunError(f"run {self.id} is no merge but a {self.job.label.lower()}")
        return self.job

    @property
    def outdated(self) -> str:
        """Of a merge that is done: what an earlier version of its method did in another way; empty if nothing."""
        return self.spec.pair.outdated(self.merged.revisions, self.merged.sources) if self.merged else ""

    @property
    def label(self) -> str:
        """What the method of a merge is called, marked where an earlier version of it was at work."""
        return f"{self.spec.label} (earlier version)" if self.outdated else self.spec.label

    @property
    def warnings(self) -> list[str]:
        """Sentences, without their ends, on what was hardly meant, or is computed in another way today."""
        found = [*self.merged.warnings, *self.merged.data_warnings] if self.merged else []
        return [*found, self.outdated] if self.outdated else found

    @cached_property
    def result(self) -> JobResult | None:
        """What came of it, as the job's own model of results; read when first asked for.

        Raises:
            RunError: another version wrote it, and it can't be read.
        """
        return self.job.result.read(self.result_json) if self.result_json else None

    @property
    def merged(self) -> MergeResult | None:
        """What came of a merge; None if it is not done, or no merge."""
        return self.result_as(MergeResult)

    @property
    def coefficients(self) -> Coefficients | None:
        """The table of a linear run that is done."""
        return self.merged.coefficients if self.merged else None

    def result_as(self, kind: type[Result]) -> Result | None:
        """What came of it, if it is of some kind; None if it is not done, or of another."""
        return self.result if isinstance(self.result, kind) else None

    @property
    def active(self) -> bool:
        """Whether it is still to change by itself."""
        return self.state in ACTIVE

    @property
    def share(self) -> float:
        """Progress within the present phase, 0 … 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Estimated time until the present phase ends, from its pace so far; None before there is any."""
        if self.state != "running" or self.phase_started is None or not 0 < self.done < self.total:
            return None
        return (now - self.phase_started) / self.done * (self.total - self.done)


@dataclass(frozen=True)
class UnreadableRun:
    """A row that this version of the program can't read: its method is gone, or its specification is damaged.

    Attributes:
        id: twelve hexadecimal digits.
        state: as in :class:`Run`.
        created: seconds since the epoch.
        reason: why it can't be read, and what to do.
    """

    id: str
    state: State
    created: float
    reason: str
