"""Carrying out one specification from files to result. The command line and the worker both come through here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from merging.core import devices
from merging.core.errors import MergingError
from merging.core.memory import PeakMemory, explain_out_of_memory, is_out_of_memory
from merging.core.progress import Numbers, Progress, no_numbers, no_progress
from merging.evaluation.evaluator import Accuracy, Evaluator, joined
from merging.methods.context import Context
from merging.methods.forgetting import bystanders
from merging.methods.plan import Plan, plan
from merging.methods.registry import LinearEdit
from merging.methods.spec import Job, MergeSpec
from merging.runs.jobs.baselines import measure_baselines
from merging.runs.jobs.disentangle import disentangle_weights
from merging.runs.jobs.interference import measure_interference
from merging.runs.jobs.landscape import measure_landscape
from merging.runs.jobs.predictions import measure_predictions
from merging.runs.jobs.scaling_curve import measure_scaling_curve
from merging.runs.result import forgetting_report
from merging.runs.worker.reporting import PhaseClock
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, load_suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.geometry import Geometry, describe
from merging.weights.twins import oddities
from merging.weights.vectors import TaskVectors

_Measurement = Callable[[MergeSpec, TaskVectors, Workspace, Evaluator, Context], dict[str, Any]]
# What jobs other than a merge do; each takes what it needs of the same things.
_MEASUREMENTS: dict[Job, _Measurement] = {
    "baselines": lambda spec, _, workspace, evaluator, context: measure_baselines(spec, workspace, evaluator, context),
    "disentangle": lambda spec, vectors, _, __, context: disentangle_weights(spec, vectors, context),
    "predictions": lambda spec, _, workspace, __, context: measure_predictions(spec, workspace, context),
    "interference": lambda spec, _, workspace, __, context: measure_interference(spec, workspace, context),
    "scaling_curve": lambda spec, vectors, _, __, context: measure_scaling_curve(spec, vectors, context),
    "landscape": lambda spec, vectors, _, __, context: measure_landscape(spec, vectors, context),
}


def execute(
    spec: MergeSpec,
    workspace: Workspace,
    output: Path | None = None,
    keep: Path | None = None,
    on_progress: Progress = no_progress,
    cancelled: Callable[[], bool] = lambda: False,
    fingerprint: str = "",
    on_numbers: Numbers = no_numbers,
) -> dict[str, Any]:
    """Merge as specified, evaluate if asked to, and give the result as JSON-ready values.

    Args:
        spec: what to do.
        workspace: where caches are.
        output: file for the merged weights, ``.safetensors``.
        keep: file for the weights of a run that no coefficient table can rebuild; ignored for linear runs and
            when ``output`` is given.
        on_progress: called with steps done, steps in all, and what is going on.
        cancelled: asked between steps.
        fingerprint: identity of the run that was asked for; files that have changed since are an error.
        on_numbers: called with what a method that learns has learned so far.

    Returns:
        For every job ``label``, ``seconds`` by phase, named after what happens, and in all (``total``),
        ``peak_bytes`` (see :class:`merging.core.memory.PeakMemory`), ``device`` and ``fingerprints`` of the files. For
        a merge ``accuracy`` (task → 0 … 1), ``average``, ``split``, ``images``; ``coefficients`` (``tensors``,
        ``tasks``, ``table`` ``[T][L]``) if linear; ``edit`` and ``merge`` reports; ``after``, the geometry of the
        edited vectors; ``forgetting``, see :func:`merging.runs.result.forgetting_report`, if task vectors are
        subtracted; ``warnings``, sentences on what was hardly meant; ``output``.
        For ``baselines`` and ``disentangle`` see :mod:`merging.runs.jobs.baselines`, for ``interference``
        :mod:`merging.runs.jobs.interference`, for ``scaling_curve`` and ``landscape``
        :mod:`merging.runs.jobs.landscape`, for ``predictions`` :mod:`merging.runs.jobs.predictions`.

    Raises:
        MergingError: anything that is the input's fault, a device out of memory, or cancellation.
    """
    clock = PhaseClock(on_progress)
    if fingerprint and workspace.spec_fingerprint(spec) != fingerprint:
        raise MergingError("files of the suite have changed since this run was asked for; run it again")
    device = devices.resolve(spec.device)
    suite = load_suite(spec.suite)
    try:
        with PeakMemory(device) as memory:
            vectors = workspace.vectors(suite, spec.tasks)
            evaluator = workspace.evaluator(suite, device, spec.torch_dtype)
            context = Context(
                device, spec.seed, clock, cancelled, dtype=spec.torch_dtype, evaluator=evaluator, on_numbers=on_numbers
            )
            if _evaluating(spec, suite):
                evaluator.prepare((*spec.tasks, *bystanders(suite, spec.tasks, spec.forgotten)), spec.split)
            if spec.edit == "awd" and spec.job != "predictions":
                context = replace(context, known_geometry=workspace.geometry(suite, spec.tasks, context))
            if spec.job == "merge":
                result = _merge(vectors, spec, context, output, keep, clock)
            else:
                result = _MEASUREMENTS[spec.job](spec, vectors, workspace, evaluator, context)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise explain_out_of_memory(device) from None
        raise
    prints = {task: c.fingerprint for task, c in zip(vectors.tasks, vectors.checkpoints, strict=True)}
    return {
        **result,
        "label": spec.label,
        "seconds": clock.seconds(), "peak_bytes": memory.peak, "device": str(device),
        "fingerprints": {str(suite.base): vectors.base.fingerprint, **prints},
    }  # fmt: skip


def _merge(
    vectors: TaskVectors,
    spec: MergeSpec,
    context: Context,
    output: Path | None,
    keep: Path | None,
    clock: PhaseClock,
) -> dict[str, Any]:
    """The merge itself, and the accuracy of what came of it."""
    warnings = oddities(vectors)
    planned = plan(vectors, spec, context)
    if output is None and planned.table is None:
        output = keep
    return {
        **_merge_and_measure(planned, spec, context, output, clock),
        "coefficients": coefficient_columns(planned),
        "edit": planned.edit.report, "merge": planned.merge_report(), "warnings": warnings,
        "output": output.name if output is not None else None,
    }  # fmt: skip


def _evaluating(spec: MergeSpec, suite: Suite) -> bool:
    """Whether accuracy is asked for and can be measured."""
    return spec.evaluate and all(map(suite.measurable, spec.tasks))


def _merge_and_measure(
    planned: Plan, spec: MergeSpec, context: Context, output: Path | None, clock: PhaseClock
) -> dict[str, Any]:
    clock.enter("merging")
    evaluator = context.evaluator
    evaluating = evaluator is not None and _evaluating(spec, evaluator.suite)
    state: Any = {}
    if output is not None:
        save_tensors(output, planned.infos, planned.tensors(context), {"method": spec.label, **planned.metadata})
        state = open_checkpoint(output, part="all") if evaluating else {}
    elif evaluating:
        state = dict(planned.tensors(context))
    else:
        for _ in planned.tensors(context):  # the numbers below come from streaming, and errors must show
            pass
    result: dict[str, Any] = {
        "accuracy": None, "average": None, "split": spec.split, "images": None, "counts": None, "forgetting": None,
    }  # fmt: skip
    if evaluating and evaluator is not None:
        clock.enter("evaluating")
        accuracy = _accuracy(planned, state, spec, evaluator, context)
        result |= {
            "accuracy": accuracy.per_task, "average": accuracy.average,
            "images": accuracy.images, "counts": accuracy.counts,
        }  # fmt: skip
        if spec.forgotten:
            result["forgetting"] = _forgetting(planned, state, accuracy, spec, evaluator, context)
    result["after"] = _after(planned, context)
    return result


def _accuracy(planned: Plan, state: Any, spec: MergeSpec, evaluator: Evaluator, context: Context) -> Accuracy:
    """Accuracy on every task, of the one model or of each task's own."""
    if not planned.per_task:
        return evaluator.accuracy(state, spec.tasks, spec.split, context)
    parts = []
    for done, task in enumerate(spec.tasks):
        context.step(done, len(spec.tasks), f"evaluating on {task}")
        parts.append(evaluator.accuracy(planned.served(state, task), [task], spec.split))
    return joined(parts)


def _forgetting(
    planned: Plan, state: Any, merged: Accuracy, spec: MergeSpec, evaluator: Evaluator, context: Context
) -> dict[str, Any]:
    """What a run that subtracts task vectors took from their tasks and from all others."""
    others = bystanders(evaluator.suite, spec.tasks, spec.forgotten)
    after = joined([merged, *([evaluator.accuracy(state, others, spec.split, context)] if others else [])])
    before = evaluator.accuracy(planned.vectors.base, tuple(after.per_task), spec.split, context)
    return forgetting_report(before, after, planned.merge.report["weights"])


def _after(planned: Plan, context: Context) -> dict[str, Any] | None:
    """Geometry of the edited task vectors over the whole model, if there was an edit."""
    if isinstance(planned.edit, LinearEdit):
        if not planned.edit.matrices:
            return None
        geometry: Geometry | None = planned.edited_geometry(context.geometry(planned.vectors))
    else:
        shapes = {name: planned.vectors.info(name).shape for name in planned.vectors.names}
        blank = np.zeros((len(shapes), len(planned.vectors.tasks), len(planned.vectors.tasks)))
        geometry = planned.edited_geometry(Geometry(planned.vectors.tasks, planned.vectors.names, shapes, blank))
    return None if geometry is None else describe(geometry)


def coefficient_columns(planned: Plan) -> dict[str, Any] | None:
    """The coefficient table as stored: ``table[t][l]``, with the names of tasks and tensors."""
    if planned.table is None:
        return None
    return {
        "tasks": list(planned.vectors.tasks),
        "tensors": list(planned.vectors.names),
        "table": planned.table.T.tolist(),
    }
