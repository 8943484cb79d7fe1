"""What finished runs say of every image: weighed image by image, two runs show more than two averages do.

Predictions of a run that no table of coefficients gives again are kept as it is measured; those of others are measured
when they are asked for, on weights made again. Either are remembered per task in the workspace until the run is
deleted, under a key that names images and head by content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from merging.core import devices
from merging.core.errors import DeviceError, RunError
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.runs.export.weights import kept_weights, rebuilt, require_done
from merging.runs.jobs.answers import answers_key, packed, unpacked
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.model_job import Bench, ModelJob, ModelResult
from merging.suites.suite import load_suite
from merging.weights.files import open_checkpoint
from merging.weights.localised import task_weights

if TYPE_CHECKING:
    from merging.runs.run import Run
    from merging.runs.workspace import Workspace


def evaluator_of(run: Run, workspace: Workspace) -> Evaluator:
    """The evaluator with which a run's accuracy was measured: its suite, device, precision and shift.

    Of a run that was made on a device that this machine lacks, one on the CPU: its images are the same, and what the
    run predicts may be known.
    """
    spec = run.spec
    try:
        device = devices.resolve(spec.device)
    except DeviceError:
        device = torch.device("cpu")
    return workspace.evaluator(load_suite(spec.suite), device, spec.torch_dtype, spec.shift)


def known_predictions(run: Run, workspace: Workspace, evaluator: Evaluator) -> dict[str, np.ndarray]:
    """Class indices per task, int64 ``[N]``, for the tasks whose present images the run was seen on before."""
    found = {}
    for task in run.spec.tasks:
        stored = workspace.store.known_predictions(answers_key(run.id, run.spec, evaluator, task), run.id)
        if stored is not None:
            found[task] = unpacked(stored)
    return found


def predictions_of(
    run: Run, workspace: Workspace, evaluator: Evaluator, context: Context | None = None
) -> dict[str, np.ndarray]:
    """What a finished run predicts for all images of its split: task → class indices, int64 ``[N]``.

    Args:
        run: a finished run.
        workspace: where its weights are, and where predictions are remembered.
        evaluator: as :func:`evaluator_of` gives it; its tower gets the run's weights.
        context: progress and cancellation.

    Raises:
        RunError: the run is not done, or its weights are gone.
        DeviceError: they would have to be measured, on a device that this machine lacks.
        MissingPart: a task has no images or head.
        MergingError: the checkpoints have changed since.
    """
    context = context or Context()
    require_done(run)
    tasks, split = run.spec.tasks, run.spec.split
    evaluator.require(tasks, split)
    found = known_predictions(run, workspace, evaluator)
    missing = [task for task in tasks if task not in found]
    if missing:
        devices.resolve(run.spec.device)
    for done, (task, weights) in enumerate(served(run, workspace, evaluator, missing)):
        context.step(done, len(missing), f"classifying the images of {task}")
        if weights is not None:
            evaluator.load(weights)
        found[task] = evaluator.predictions(task, split)
        key = answers_key(run.id, run.spec, evaluator, task)
        workspace.store.remember_predictions(key, run.id, packed(found[task]))
    return {task: found[task] for task in tasks}


def served(
    run: Run, workspace: Workspace, evaluator: Evaluator, tasks: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, torch.Tensor] | None]]:
    """Each task with the weights of a finished run that serve it; None where those of the task before do.

    Raises:
        RunError: the weights are gone.
        MergingError: the checkpoints have changed since.
    """
    if not tasks:
        return
    if run.spec.pair.localised:
        base = evaluator.suite.base_checkpoint
        workspace.fingerprint(base)
        for task in tasks:
            yield task, task_weights(base, kept_weights(run, workspace.store), task)
        return
    yield tasks[0], _weights(run, workspace, evaluator)
    yield from ((task, None) for task in tasks[1:])


def _weights(run: Run, workspace: Workspace, evaluator: Evaluator) -> Mapping[str, torch.Tensor]:
    result = require_done(run)
    if result.coefficients is None:
        return open_checkpoint(kept_weights(run, workspace.store), part="all")
    return dict(rebuilt(result, run.spec, workspace.vectors(evaluator.suite, run.spec.tasks)))


class PredictionsResult(ModelResult):
    """The run that was measured, and task → accuracy, 0 … 1, of what it predicts."""

    run: str = ""
    accuracy: dict[str, float] = Field(default_factory=dict)


class PredictionsJob(ModelJob):
    """Have the predictions of a finished run measured: of the one with these fields."""

    result: ClassVar[type[PredictionsResult]] = PredictionsResult
    without: ClassVar[str] = "This run can't be compared with others image by image."
    uses_geometry: ClassVar[bool] = False
    stays: ClassVar[str] = "the finished run and its weights are in the folder for runs of this machine"
    job: Literal["predictions"] = "predictions"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"{super().label}, predictions"

    def measure(self, bench: Bench) -> PredictionsResult:
        """Rebuild the run's weights, unless they were kept, and classify all images.

        Raises:
            RunError: no finished run has this specification.
            MergingError: as :func:`predictions_of`.
        """
        workspace, evaluator = bench.workspace, bench.evaluator
        wanted = MergeSpec.like(self)
        runs = workspace.store.done_like(wanted)
        if not runs:
            raise RunError(f"there is no finished run of {wanted.label} with these settings any more; make it again")
        for earlier in runs[1:]:  # of former versions of the method, which have the same settings
            predictions_of(earlier, workspace, evaluator, bench.context)
        found = predictions_of(runs[0], workspace, evaluator, bench.context)
        labels = {task: evaluator.image_set(task, self.split).labels for task in found}
        accuracy = {task: float((found[task] == labels[task]).mean()) for task in found}
        return PredictionsResult(run=runs[0].id, accuracy=accuracy)
