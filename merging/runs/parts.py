"""Jobs in parts: what of them is known, whichever job measured it, and having the rest done.

Also how long that may take, by earlier merges.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from merging.core.errors import MergingError
from merging.core.progress import Progress
from merging.methods.presets import Preset
from merging.methods.spec import Spec
from merging.runs.carrying import Carrier
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import Job, MergeSpec
from merging.runs.jobs.model_job import Contents, ModelResult
from merging.runs.jobs.parts import InParts
from merging.runs.run import Run
from merging.runs.workspace import Workspace

Result = TypeVar("Result", bound=ModelResult)
_LATELY = 100  # merges by which others' times are guessed
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
        unknown: titles of those that were never run, whose time is not in it.
        elsewhere: whether some of those earlier runs came with the suite, from another machine.
    """

    methods: list[str]
    merges: int
    seconds: float | None
    unknown: list[str]
    elsewhere: bool = False

    @property
    def in_words(self) -> str:
        """How long that may take, as a part of a sentence."""
        if self.seconds is None:
            return "how long that takes is not known, as none of these methods was run here before"
        without = f", without {'; '.join(self.unknown)}, never run here" if self.unknown else ""
        whose = ", depending on the machine" if self.elsewhere else ""
        return f"about {_minutes(self.seconds)} by the times of earlier runs{whose}{without}"


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
    earlier = _earlier(jobs, workspace)
    return Outlook(
        list(jobs),
        sum(job.effort.merges for job in jobs.values()),
        sum(_seconds(jobs[title], run) for title, run in earlier.items()) if earlier else None,
        [title for title in jobs if title not in earlier],
        any(run.shipped for run in earlier.values()),
    )


def _seconds(job: InParts, earlier: Run) -> float:
    """How long a job may take by a merge with its method."""
    (merges, passes, share), spent = job.effort, earlier.merged.seconds if earlier.merged else {}
    measuring = spent.get("evaluating", 0.0)
    alike = merges * share * (spent.get("total", 0.0) - measuring) + passes * measuring
    return alike * len(job.tasks) / len(earlier.spec.tasks)


def _earlier(jobs: Mapping[str, InParts], workspace: Workspace) -> dict[str, Run]:
    """Title → a finished merge by the same method on the same suite: of the very tasks and device if there is one."""
    exact = {title: workspace.find(MergeSpec.like(job)) for title, job in jobs.items()}
    found = {title: run for title, run in exact.items() if run is not None and run.merged is not None}
    if len(found) == len(jobs):
        return found
    store = workspace.store
    others = {_method(run.spec): run for run in reversed((*store.all(_LATELY), *store.shipped.merges())) if run.merged}
    return {
        title: run for title, job in jobs.items() if (run := found.get(title) or others.get(_method(job))) is not None
    }


def _method(spec: Spec) -> str:
    """Suite and method, as text."""
    return json.dumps([spec.suite, spec.edit, spec.edit_params, spec.merge, spec.merge_params], sort_keys=True)
