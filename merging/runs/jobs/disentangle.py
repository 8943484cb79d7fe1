"""A job: what AWD does to the task vectors, on the weights, without a merge."""

from typing import Any

import numpy as np

from merging.methods import registry
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, Disentangled, disentangle
from merging.methods.registry import LinearEdit
from merging.methods.spec import MergeSpec
from merging.weights.geometry import Geometry
from merging.weights.vectors import TaskVectors


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
