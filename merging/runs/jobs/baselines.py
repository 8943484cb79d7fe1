"""Jobs that merge nothing: what a page would have to wait for with large models, done by the worker instead."""

from typing import Any

import numpy as np

from merging.evaluation.evaluator import Evaluator
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, Disentangled, disentangle
from merging.methods.plan import MergeSpec
from merging.methods.registry import LinearEdit
from merging.runs.workspace import Workspace
from merging.weights.geometry import Geometry
from merging.weights.vectors import TaskVectors


def measure_baselines(spec: MergeSpec, workspace: Workspace, evaluator: Evaluator, context: Context) -> dict[str, Any]:
    """Accuracy of the unmerged models: ``zero_shot`` and ``individual`` (task → 0 … 1), ``counts``, ``split``.

    Raises:
        MissingPart: a task has no images or head.
    """
    zero_shot = workspace.base_accuracy(evaluator, spec.tasks, spec.split, context)
    individual = workspace.individual_accuracy(evaluator, spec.tasks, spec.split, context)
    return {
        "zero_shot": zero_shot.per_task, "individual": individual.per_task,
        "counts": zero_shot.counts, "split": spec.split,
    }  # fmt: skip


def disentangle_weights(spec: MergeSpec, vectors: TaskVectors, context: Context) -> dict[str, Any]:
    """What AWD does, without a merge: ``edit``, its report, and ``grams`` ``[L][T][T]`` of the edited vectors."""
    params = registry.find("edit", spec.edit).parse(spec.edit_params)
    assert isinstance(params, AwdParams)
    found = disentangle(vectors, context.geometry(vectors), params, context)
    return {"edit": found.edit.report, "grams": found.after.grams.tolist()}


def disentangled(result: dict[str, Any], before: Geometry) -> Disentangled:
    """What AWD found, from the result of the job ``disentangle``; its edit can't be applied, it has only the report.

    Args:
        result: of a finished run.
        before: geometry of the same task vectors.
    """
    report = result["edit"]
    after = before.with_grams(np.array(result["grams"]))
    curve = np.array(report["objective"])
    return Disentangled(LinearEdit({}, report), after, None, None, curve, report["redundant_norm"])
