"""Jobs that load the models of a suite: what they share, from files to the bill of time and memory."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import Field

from merging.core import devices
from merging.core.memory import PeakMemory, explain_out_of_memory, is_out_of_memory
from merging.core.progress import PhaseClock, no_numbers
from merging.evaluation.accuracy import about_images
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.forgetting import bystanders
from merging.methods.spec import Spec
from merging.runs.jobs.job import Job, JobResult, Site
from merging.suites.images.shifts import CLEAN, AnyShift, shift_version
from merging.suites.suite import Suite, load_suite
from merging.weights import resident
from merging.weights.vectors import TaskVectors

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace

_MEASURED_FIELDS = {"architecture", "logit_scale", "preprocess", "templates", "classes", "data"}


class ModelResult(JobResult):
    """What every such job tells besides what it found.

    Attributes:
        seconds: by phase, named after what happens, and in all as ``total``.
        peak_bytes: see :class:`merging.core.memory.PeakMemory`.
        device: where it was computed.
        fingerprints: file of the base, then tasks → SHA-256 of the files.
        skipped: split → task → number of images that can't be read and were left out, on request.
        data_warnings: what is odd or assumed about images and heads that were looked at, in sentences without ends.
    """

    seconds: dict[str, float] = Field(default_factory=dict)
    peak_bytes: int | None = None
    device: str = ""
    fingerprints: dict[str, str] = Field(default_factory=dict)
    skipped: dict[str, dict[str, int]] = Field(default_factory=dict)
    data_warnings: list[str] = Field(default_factory=list)

    @property
    def about_images(self) -> str:
        """What a reader of these numbers has to know of the images, in sentences; empty if nothing."""
        return about_images(self.skipped, self.data_warnings)


@dataclass(frozen=True)
class Bench:
    """What such a job works with.

    Attributes:
        site: where it is carried out.
        suite: whose models they are.
        vectors: the task vectors, with the fingerprints of their files.
        evaluator: of the suite, on the job's device.
        context: for methods.
        clock: told of phases that report no progress.
    """

    site: Site
    suite: Suite
    vectors: TaskVectors
    evaluator: Evaluator
    context: Context
    clock: PhaseClock

    @property
    def workspace(self) -> Workspace:
        """Where caches and earlier results are."""
        return self.site.workspace

    def with_geometry(self, spec: Spec) -> Bench:
        """The same with the task vectors' geometry at hand, for methods that ask for it."""
        geometry = self.workspace.geometry(self.suite, spec.tasks, self.context)
        return replace(self, context=replace(self.context, known_geometry=geometry))


class Contents:
    """What is in the files of suites, each looked at once: for a moment in which nobody changes them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.suite = cache(load_suite)
        self.weights = cache(self._weights)
        self.measured = cache(self._measured)

    def _weights(self, suite: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """Fingerprints of the base and of the models of some tasks."""
        vectors = self._workspace.vectors(self.suite(suite), tasks)
        return tuple(one.fingerprint for one in (vectors.base, *vectors.checkpoints))

    def _measured(self, suite: str, task: str) -> tuple[str, ...]:
        """Fingerprints of what accuracy on a task is measured with."""
        return tuple(self._workspace.evaluation_files(self.suite(suite), task))


class ModelJob(Spec, Job):
    """A job on the models of a suite.

    Attributes:
        uses_geometry: whether AWD, where it is the edit, is solved in it, so that geometry known already serves.
    """

    uses_geometry: ClassVar[bool] = True

    @classmethod
    def like(cls, spec: Spec, **changes: Any) -> Self:
        """This job with the fields of another specification, but for some."""
        fields = {name: getattr(spec, name) for name in Spec.model_fields}
        return cls.build(**{**fields, **changes})

    @property
    def lane(self) -> str:
        """Its device."""
        return self.device

    def fingerprint(self, workspace: Workspace) -> str:
        """Identity of the specification and the content of every file that it will read."""
        return self.fingerprint_on(Contents(workspace))

    def fingerprint_on(self, files: Contents) -> str:
        """The same, for several jobs on files that are looked at once."""
        suite = files.suite(self.suite)
        for task in (*self.tasks, *self.unseen):
            suite.task(task)
        contents = [*files.weights(self.suite, self.tasks)]
        watched = self._watched(suite)
        tasks = [suite.task(name).model_dump(mode="json", include=_MEASURED_FIELDS) for name in watched]
        measured = suite.model_dump(mode="json", include=_MEASURED_FIELDS) | suite.beside_architecture
        contents.append(json.dumps([measured, tasks]))
        for task in watched:
            contents += files.measured(self.suite, task)
        contents += sorted({*map(shift_version, self._shifts)} - {""})
        return self.identity(contents, self.kind)

    def run(self, site: Site) -> JobResult:
        """Load what is needed, do the work, and count its time and memory."""
        clock = PhaseClock(site.on_progress)
        device = devices.resolve(self.device)
        suite = load_suite(self.suite)
        try:
            with PeakMemory(device) as memory:
                bench = self._bench(site, suite, device, clock)
                result = self._measured(bench)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise explain_out_of_memory(device) from None
            raise
        vectors = bench.vectors
        prints = {task: c.fingerprint for task, c in zip(vectors.tasks, vectors.checkpoints, strict=True)}
        bill: Mapping[str, Any] = {
            "label": self.label,
            "seconds": clock.seconds(),
            "peak_bytes": memory.peak,
            "device": str(device),
            "fingerprints": {str(suite.base): vectors.base.fingerprint, **prints},
            "skipped": bench.evaluator.skipped,
            "data_warnings": bench.evaluator.data_warnings(),
        }
        return result.model_copy(update=bill)

    def _measured(self, bench: Bench) -> ModelResult:
        """The work; where memory runs out beside models that stay on the device, once more without."""
        try:
            return self.measure(bench)
        except (RuntimeError, MemoryError) as error:
            if not resident.wanted(bench.context) or not is_out_of_memory(error):
                raise
        resident.shelf.clear(bench.context.device)  # outside of the handler, whose error keeps the failed try alive
        return self.measure(replace(bench, context=replace(bench.context, resident=False)))

    def _bench(self, site: Site, suite: Suite, device: torch.device, clock: PhaseClock) -> Bench:
        vectors = site.workspace.vectors(suite, self.tasks)
        evaluator = site.workspace.evaluator(suite, device, self.torch_dtype, self.shift)
        if self.evaluating(suite):
            evaluator.prepare(self._watched(suite), self.split)
        context = Context(
            device,
            self.seed,
            clock,
            site.cancelled,
            dtype=self.torch_dtype,
            evaluator=evaluator,
            on_numbers=site.on_numbers,
            watched_split=self.split if site.on_numbers is not no_numbers and self.evaluating(suite) else None,
            enough=site.enough,
        )
        bench = Bench(site, suite, vectors, evaluator, context, clock)
        return bench.with_geometry(self) if self.edit == "awd" and self.uses_geometry else bench

    @property
    def _shifts(self) -> Sequence[AnyShift]:
        """What is done to the test images."""
        return (self.shift,)

    def _watched(self, suite: Suite) -> tuple[str, ...]:
        """The tasks that accuracy is measured on: those merged, further ones that are asked for, and bystanders."""
        return *self.tasks, *self.unseen, *bystanders(suite, self.tasks, self.forgotten)

    def evaluating(self, suite: Suite) -> bool:
        """Whether accuracy is asked for and can be measured; where more than usual is asked for, it has to be."""
        asked = bool(self.unseen) or self.shift != CLEAN
        return self.evaluate and (asked or all(map(suite.measurable, self.tasks)))

    @abstractmethod
    def measure(self, bench: Bench) -> ModelResult:
        """Do the work; time, memory and fingerprints are added by :meth:`run`."""
