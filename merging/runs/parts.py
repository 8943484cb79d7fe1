"""Jobs in parts: what of them is known, whichever job measured it, and having the rest done.

Also how long that may take, by what was done before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from merging.core.errors import MergingError
from merging.core.progress import Progress
from merging.methods.presets import Preset
from merging.runs.carrying import Carrier
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import Job, MergeSpec
from merging.runs.jobs.model_job import Contents, ModelResult
from merging.runs.jobs.parts import Effort, InParts
from merging.runs.run import Run
from merging.runs.table import method_of
from merging.runs.workspace import Workspace

Result = TypeVar("Result", bound=ModelResult)
_MEASURING = ("evaluating", "measuring", "measuring the base")  # phases in which jobs measure accuracy
Fingerprints = Callable[[Sequence[Job]], Sequence[str]]


@dataclass(frozen=True)
class Known:
    """What is known of a job.

    Attributes:
        job: what is asked for.
        done: part → the finished run that measured it.
        active: part that is not done here → the run that is to measure it, or does.
        besides: parts that were measured, too, and are not asked for.
    """

    job: InParts
    done: Mapping[Any, Run]
    active: Mapping[Any, Run]
    besides: frozenset[Any] = frozenset()

    @property
    def left(self) -> InParts | None:
        """The job for what is not done; None where all is."""
        return self._of([part for part in self.job.parts if part not in self.done])

    @property
    def missing(self) -> InParts | None:
        """The job for what nobody has asked for; None where somebody has asked for all."""
        return self._of([part for part in self.job.parts if part not in self.done and part not in self.active])

    def joined_by(self, run: Run) -> "Known":
        """The same once another run is done."""
        assert isinstance(run.job, InParts)
        return replace(self, done={**dict.fromkeys(run.job.parts, run), **self.done})

    def _of(self, parts: Sequence[Any]) -> InParts | None:
        return self.job.with_parts(parts) if parts else None

    def result(self, kind: type[Result]) -> Result | None:
        """What is known, as the result of the job; None if nothing is."""
        found = {part: result for part, run in self.done.items() if (result := run.result_as(kind)) is not None}
        if not found:
            return None
        gathered: Result = self.job.gathered(found)
        return gathered


def known(job: InParts, workspace: Workspace, fingerprints: Fingerprints | None = None, shipped: bool = False) -> Known:
    """What was measured of a job before, whatever was asked for besides, on the files as they are.

    Args:
        job: what is asked for.
        workspace: where runs are.
        fingerprints: of jobs on the present files; they are looked at by default.
        shipped: whether to look below runs made here at what came with the suite, measured on a CPU, too: to show it.

    Raises:
        MergingError: a file is missing or broken.
    """
    store = workspace.store
    came = store.shipped.alike(job.model_copy(update={"device": "cpu"})) if shipped else []
    runs = [*store.alike(job), *came]
    here = [run.job.model_copy(update={"suite": job.suite}) for run in runs]
    found = fingerprints(here) if fingerprints else _fingerprints(here, workspace)
    done: dict[Any, Run] = {}
    active: dict[Any, Run] = {}
    besides: set[Any] = set()
    for run, fingerprint in zip(runs, found, strict=True):
        if run.fingerprint == fingerprint and isinstance(run.job, InParts):
            for part in set(run.job.parts) & set(job.parts):
                (done if run.state == "done" else active).setdefault(part, run)
            besides |= set(run.job.parts) - set(job.parts) if run.state == "done" else set()
    going = {part: run for part, run in active.items() if part not in done or done[part].shipped}
    return Known(job, done, going, frozenset(besides))


def _fingerprints(jobs: Sequence[Any], workspace: Workspace) -> list[str]:
    files = Contents(workspace)

    def fingerprint(job: Any) -> str:
        try:
            return str(job.fingerprint_on(files))
        except MergingError:  # of tasks besides, whose files are gone
            return ""

    return [fingerprint(job) for job in jobs]


def results(
    jobs: Mapping[str, InParts],
    kind: type[Result],
    workspace: Workspace,
    on_progress: Progress,
    carrier: Carrier | None = None,
) -> Iterator[Result]:
    """The results of some jobs, in order, as they are done; what was measured before is not measured again.

    Args:
        jobs: title → job.
        kind: the model of their results.
        workspace: where runs are kept.
        on_progress: told of every job's progress.
        carrier: who carries them out, all at once if it can, in place of this process.

    Raises:
        MergingError: whatever a job raises.
    """
    looked = {title: known(job, workspace) for title, job in jobs.items()}
    if carrier is not None:
        for left in filter(None, (one.left for one in looked.values())):
            carrier.submit(left, left.fingerprint(workspace))
    for number, (title, now) in enumerate(looked.items(), 1):
        head = f"{title} ({number} of {len(jobs)})"

        def report(done: int, total: int, message: str, head: str = head) -> None:
            on_progress(done, total, f"{head}: {message}")

        job = now.left
        if job is not None:
            now = now.joined_by(have_done(job, workspace, carrier or Here(workspace, report), report))
        found = now.result(kind)
        assert found is not None  # of runs that are done
        yield found


@dataclass(frozen=True)
class Outlook:
    """What is still to be done.

    Attributes:
        methods: titles of the methods of which something is.
        merges: how many merges they make, those adapted anew among them.
        seconds: how long that may take by earlier runs of the same methods; None if none of them was ever run.
        unknown: titles of those that were never run on this suite, whose time is not in it.
        here: whether some of those earlier runs were made here.
        elsewhere: whether some of them came with the suite, from another machine.
    """

    methods: list[str]
    merges: int
    seconds: float | None
    unknown: list[str]
    here: bool = True
    elsewhere: bool = False

    @property
    def in_words(self) -> str:
        """How long that may take, as a part of a sentence."""
        if self.seconds is None:
            return "how long that takes is not known, as none of these methods was run on this suite before"
        without = f", without {'; '.join(self.unknown)}, never run on this suite" if self.unknown else ""
        sources = [*["earlier runs"] * self.here, *["the results that came with the suite"] * self.elsewhere]
        whose = ", depending on the machine" if self.elsewhere else ""
        return f"about {_minutes(self.seconds)} by the times of {' and '.join(sources)}{whose}{without}"


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def outlook(presets: Sequence[Preset], left: Sequence[InParts | None], workspace: Workspace) -> Outlook:
    """What is still to be done for some methods.

    Args:
        presets: which.
        left: what is left to be measured of each; None where nothing is.
        workspace: where runs are kept.
    """
    jobs = {preset.title: job for preset, job in zip(presets, left, strict=True) if job is not None}
    found = {title: _earlier(job, workspace) for title, job in jobs.items()}
    earlier = {title: run for title, run in found.items() if run is not None}
    return Outlook(
        list(jobs),
        sum(job.effort.merges for job in jobs.values()),
        sum(_seconds(jobs[title], run) for title, run in earlier.items()) if earlier else None,
        [title for title in jobs if title not in earlier],
        any(not run.shipped for run in earlier.values()),
        any(run.shipped for run in earlier.values()),
    )


def seconds_of(job: InParts, workspace: Workspace) -> float | None:
    """How long a job may take by an earlier run of its method; None where none tells."""
    earlier = _earlier(job, workspace)
    return None if earlier is None else _seconds(job, earlier)


def _seconds(job: InParts, earlier: Run) -> float:
    """How long a job may take by another with its method: a merge, or one in parts."""
    done = earlier.job
    assert isinstance(done, MergeSpec | InParts)
    (merges, passes, share), before = job.effort, done.effort if isinstance(done, InParts) else Effort(1, 1)
    spent = _spent(earlier)
    measuring = sum(spent.get(phase, 0.0) for phase in _MEASURING)
    merging = (spent.get("total", 0.0) - measuring) / (before.merges * before.share)
    return (merges * share * merging + passes * measuring / before.passes) * len(job.tasks) / len(done.tasks)


def _spent(run: Run) -> Mapping[str, float]:
    result = run.result_as(ModelResult)
    return result.seconds if result is not None else {}


def _earlier(job: InParts, workspace: Workspace) -> Run | None:
    """The finished run by the same method on the same suite that tells best how long a job takes; None without any.

    One made here rather than one that came with the suite, on the same device, a merge that was measured, of the very
    tasks. What a job in parts found done before took it no time: of several the slowest tells.
    """
    store, method = workspace.store, method_of(job.model_dump(mode="json"))
    shipped = (run for run in store.shipped.merges() if method_of(run.job.model_dump(mode="json")) == method)
    runs = [run for run in store.measured_by(job) or shipped if _spent(run)]

    def tells(run: Run) -> tuple[Any, ...]:
        done = run.job
        assert isinstance(done, MergeSpec | InParts)
        whole = isinstance(done, MergeSpec) and done.evaluate
        return done.device == job.device, whole, done.tasks == job.tasks, 0.0 if whole else _seconds(job, run)

    return max(runs, key=tells, default=None)
