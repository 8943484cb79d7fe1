"""Accuracies of merges beyond the usual, each measured once: what jobs share that make and measure several merges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from merging.core.errors import RunError, SpecError
from merging.core.progress import Progress
from merging.evaluation.evaluator import Evaluator, evaluation_key
from merging.methods.pair import Pair
from merging.methods.params import AUTO
from merging.methods.plan import plan, rebuilt_from
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.model_job import Bench, ModelJob
from merging.runs.jobs.predictions import served
from merging.suites.images.shifts import CLEAN, AnyShift, Shift, shift_text

if TYPE_CHECKING:
    from merging.runs.run import Run

Served = Iterator[tuple[str, Mapping[str, torch.Tensor] | None]]
ByTask = dict[str, float]


@dataclass
class Measuring:
    """Accuracies of merges on test images, each measured once per weights, images and head, and remembered.

    Attributes:
        bench: what there is to work with.
        passes: how many pairs of a shift and a task there are to be measured, for the progress.
        done: how many of them were.
    """

    bench: Bench
    passes: int
    done: int = field(default=0)

    def of(self, spec: MergeSpec, tasks: Sequence[str], shifts: Sequence[AnyShift]) -> dict[str, ByTask]:
        """Accuracy of one merge: shift → task → accuracy. Weights are made only if something is not known.

        Args:
            spec: the merge; its own shift is that of the images that it adapts on.
            tasks: what to measure it on.
            shifts: of the images that it is measured on.
        """
        store, runs = self.bench.workspace.store, self._runs(spec)
        fingerprint = self._weights(spec)
        under = {shift_text(shift): self.bench.evaluator.under(shift) for shift in shifts}
        keys = {
            (shift, task): evaluation_key([fingerprint], evaluator, task, "test")
            for shift, evaluator in under.items()
            for task in tasks
        }
        known = {place: store.known_accuracy(key) for place, key in keys.items()}
        found = {place: float(value["accuracy"]) for place, value in known.items() if value is not None}
        for task, accuracy in _measured_by(runs).items():
            if (shift_text(spec.shift), task) in keys:
                found.setdefault((shift_text(spec.shift), task), accuracy)
        self.done += len(found)
        missing = [task for task in tasks if any((shift, task) not in found for shift in under)]
        for task, weights in self._served(spec, missing, runs) if missing else ():
            if weights is not None:
                self.bench.evaluator.load(weights)
            for shift, evaluator in under.items():
                if (shift, task) not in found:
                    self._step(f"measuring on {task}, {_said(shift)}")
                    found[shift, task] = evaluator.share_right(task, "test")
                    store.remember_accuracy(keys[shift, task], {"accuracy": found[shift, task]})
        return {shift: {task: found[shift, task] for task in tasks} for shift in under}

    def zero_shot(self, tasks: Sequence[str], shift: AnyShift) -> ByTask:
        """Accuracy of the base on some tasks under a shift."""
        self._step(f"measuring the base, {_said(shift_text(shift))}", len(tasks))
        evaluator = self.bench.evaluator.under(shift)
        return self.bench.workspace.base_accuracy(evaluator, tasks, "test").per_task

    def individual(self, tasks: Sequence[str]) -> ByTask:
        """Accuracy of every task's own model on clean images."""
        self._step("measuring the tasks' own models", len(tasks))
        return self.bench.workspace.individual_accuracy(self.bench.evaluator, tasks, "test").per_task

    def _step(self, message: str, passes: int = 1) -> None:
        self.bench.context.step(self.done, self.passes, message)
        self.done += passes

    def _runs(self, spec: MergeSpec) -> list[Run]:
        """Finished merges with these weights: of the same tasks, whether or not others were measured besides."""
        plain = MergeSpec.like(spec, unseen=())
        found = [self.bench.workspace.find(one) for one in ([plain] if plain == spec else [plain, spec])]
        return [run for run in found if run is not None and run.state == "done"]

    def _served(self, spec: MergeSpec, tasks: Sequence[str], runs: Sequence[Run]) -> Served:
        """Each task with the weights that serve it: those of a finished run if there is one, else made now."""
        workspace, evaluator = self.bench.workspace, self.bench.evaluator.under(spec.shift)
        for run in runs:
            weights = served(run, workspace, evaluator, tasks)
            try:
                return chain([next(weights)], weights)
            except RunError:
                pass  # it kept its numbers, and its weights were deleted
        return self._merged(spec, tasks, evaluator)

    def _merged(self, spec: MergeSpec, tasks: Sequence[str], evaluator: Evaluator) -> Served:
        suite, workspace = evaluator.suite, self.bench.workspace
        context = replace(self.bench.context, evaluator=evaluator, on_progress=self._as_part(spec), known_geometry=None)
        if spec.edit == "awd":
            context = replace(context, known_geometry=workspace.geometry(suite, spec.tasks, context))
        vectors, fingerprint = workspace.vectors(suite, spec.tasks), self._weights(spec)
        known = workspace.store.known_coefficients(fingerprint)
        if known is not None:
            state = dict(rebuilt_from(vectors, np.array(known), context))
            yield from _one_model(tasks, state)
            return
        planned = plan(vectors, self._as_chosen(spec, fingerprint), context)
        state = dict(planned.tensors(context))
        if planned.table is not None:
            workspace.store.remember_coefficients(fingerprint, planned.table.tolist())
        elif (chosen := planned.merge.report.get("scaling")) is not None and _chooses_scaling_alone(spec.pair):
            workspace.store.remember_scaling(fingerprint, chosen)
        if planned.per_task:
            yield from ((task, planned.served(state, task)) for task in tasks)
        else:
            yield from _one_model(tasks, state)

    def _as_chosen(self, spec: MergeSpec, fingerprint: str) -> Pair:
        """The method, with the λ that was chosen for the very same merge before, if any was."""
        chosen = self.bench.workspace.store.known_scaling(fingerprint)
        return spec.pair if chosen is None else spec.pair.with_scaling(chosen)

    def _weights(self, spec: MergeSpec) -> str:
        """Fingerprint of a merge by what its weights depend on, whatever is measured besides."""
        return MergeSpec.like(spec, unseen=()).fingerprint(self.bench.workspace)

    def _as_part(self, spec: MergeSpec) -> Progress:
        """Reports of one merge as reports of the whole job."""
        context = self.bench.context
        parts = [f"{len(spec.tasks)} tasks", *([] if spec.shift == CLEAN else [_said(shift_text(spec.shift))])]

        def report(done: int, total: int, message: str) -> None:
            context.on_progress(self.done, self.passes, f"merging, {', '.join(parts)}: {message}")

        return report


def _chooses_scaling_alone(pair: Pair) -> bool:
    """Whether λ is all that is chosen on validation: what is chosen with it may be another with a fixed one."""
    return pair.scaling == AUTO and len(pair.data.chosen) == 1


def _one_model(tasks: Sequence[str], state: Mapping[str, torch.Tensor]) -> Served:
    """The same weights for all of some tasks."""
    yield tasks[0], state
    yield from ((task, None) for task in tasks[1:])


def _measured_by(runs: Sequence[Run]) -> ByTask:
    """What finished merges say of the tasks that they were measured on."""
    found: ByTask = {}
    for run in runs:
        if run.merged is not None:
            found |= run.merged.accuracy or {}
            found |= run.merged.unseen.accuracy if run.merged.unseen is not None else {}
    return found


def require_clean_test(spec: ModelJob, why: str) -> None:
    """Insist that a specification asks for clean test images of its tasks and for nothing besides.

    Raises:
        SpecError: it asks for validation images, corrupted ones or unseen tasks.
    """
    if spec.split != "test" or spec.shift != CLEAN or spec.unseen:
        raise SpecError(f"{spec.kind}: this {why}; leave out split, shift and unseen")


def _said(shift: str) -> str:
    return "clean" if shift == CLEAN else Shift.read(shift).label
