"""A job: loss and accuracy in the plane of two task vectors, before and after AWD."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from merging.core.progress import no_progress
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, disentangle
from merging.methods.mixing import WhatIf
from merging.methods.plan import plan
from merging.methods.registry import LinearEdit
from merging.methods.spec import MergeSpec
from merging.weights.geometry import Geometry
from merging.weights.vectors import TaskVectors

LOWEST, HIGHEST, STEPS = -0.5, 1.5, 17  # of the landscape's grid in each direction; 0 and 1 are on it
IMAGES = 100  # of each task that the landscape is measured on
_NEAR = 1e-6  # of a squared length: Gram matrices are sums of float32 products
# The points of a landscape; axes are τ₁, τ₂, φ₁, φ₂
BASE, FIRST, SECOND, TASK_ARITHMETIC, AWD = "base", "first", "second", "task_arithmetic", "awd"


def measure_landscape(spec: MergeSpec, vectors: TaskVectors, context: Context) -> dict[str, Any]:
    """Loss and accuracy of ``θ₀ + x u₁ + y u₂`` on some images of both tasks, over a grid of x and y.

    Twice: with the axes u = τ, and with u = φ, the task vectors after AWD was solved for these two.

    Returns:
        ``axis``, the values of x and y; ``planes``: ``before`` and ``after``, each with ``loss`` (nats) and
        ``accuracy`` (0 … 1) as task → ``[y][x]`` and ``places``, see :func:`places`; ``points``: name → ``loss``,
        ``accuracy``; ``scaling``: λ of ``before`` and ``after``, chosen on validation; ``split``, ``counts``.

    Raises:
        MissingPart: a task has no images or head.
    """
    evaluator = context.need_images("the landscape", spec.tasks)
    evaluator.prepare(spec.tasks, spec.split)
    geometry = context.geometry(vectors)
    params = registry.find("edit", spec.edit).parse(spec.edit_params)
    assert isinstance(params, AwdParams)
    before = WhatIf(vectors, LinearEdit({}))
    after = WhatIf(vectors, disentangle(vectors, geometry, params, context).edit).held(context)
    scaling = {"before": _chosen(spec, "none", {}, vectors, context),
               "after": _chosen(spec, "awd", spec.edit_params, vectors, context)}  # fmt: skip
    chosen = {task: evaluator.draw(task, spec.split, IMAGES, spec.seed) for task in spec.tasks}

    def measured(state: Mapping[str, torch.Tensor]) -> dict[str, dict[str, float]]:
        evaluator.load(state)
        both = {task: evaluator.loss_and_accuracy(task, spec.split, chosen[task]) for task in spec.tasks}
        return {"loss": {task: pair[0] for task, pair in both.items()},
                "accuracy": {task: pair[1] for task, pair in both.items()}}  # fmt: skip

    quiet = replace(context, on_progress=no_progress)  # hundreds of merges, each too quick to report on
    axis = np.linspace(LOWEST, HIGHEST, STEPS)
    planes: dict[str, dict[str, Any]] = {}
    for name, what_if in (("before", before), ("after", after)):
        cells = []
        for done, (y, x) in enumerate((y, x) for y in axis for x in axis):
            context.step(done, STEPS**2, f"measuring the plane {name} AWD")
            cells.append(measured(what_if.weights((x, y), quiet)))
        planes[name] = {
            quantity: {
                task: np.array([cell[quantity][task] for cell in cells]).reshape(STEPS, STEPS).tolist()
                for task in spec.tasks
            }
            for quantity in ("loss", "accuracy")
        }
    for name, found in places(after, geometry, scaling["before"], scaling["after"]).items():
        planes[name]["places"] = found
    models = {
        BASE: before.weights((0, 0), quiet), FIRST: before.weights((1, 0), quiet),
        SECOND: before.weights((0, 1), quiet),
        TASK_ARITHMETIC: before.weights((scaling["before"],) * 2, quiet),
        AWD: after.weights((scaling["after"],) * 2, quiet),
    }  # fmt: skip
    return {
        "axis": axis.tolist(), "planes": planes, "points": {name: measured(state) for name, state in models.items()},
        "scaling": scaling, "split": spec.split, "counts": {task: len(chosen[task]) for task in spec.tasks},
    }  # fmt: skip


def _chosen(spec: MergeSpec, edit: str, params: Mapping[str, Any], vectors: TaskVectors, context: Context) -> float:
    """λ that validation chooses for an edit with Task Arithmetic."""
    merged = MergeSpec.build(
        suite=spec.suite, tasks=spec.tasks, edit=edit, edit_params=dict(params), merge_params={"scaling": "auto"},
        split=spec.split, device=spec.device, dtype=spec.dtype, seed=spec.seed,
    )  # fmt: skip
    return float(plan(vectors, merged, context).merge.report["scaling"])


def places(what_if: WhatIf, geometry: Geometry, before: float, after: float) -> dict[str, dict[str, list[float]]]:
    """Where the models lie in both planes, from inner products.

    Args:
        what_if: the two task vectors with AWD planned.
        geometry: theirs before it.
        before: λ of Task Arithmetic.
        after: λ of AWD + Task Arithmetic.

    Returns:
        Plane (``before``, ``after``) → name → x, y of the nearest point of the plane, and the distance from it as a
        share of the distance from the base.
    """
    found = what_if.directions(what_if.vectors, geometry)
    gram = np.block([[geometry.gram, found.across.T], [found.across, found.among]])  # of τ₁, τ₂, φ₁, φ₂
    points = {
        BASE: np.zeros(4), FIRST: np.eye(4)[0], SECOND: np.eye(4)[1],
        TASK_ARITHMETIC: np.array([before, before, 0, 0]), AWD: np.array([0, 0, after, after]),
    }  # fmt: skip
    return {
        name: {point: _nearest(gram, axes, vector) for point, vector in points.items()}
        for name, axes in (("before", [0, 1]), ("after", [2, 3]))
    }


def _nearest(gram: np.ndarray, axes: list[int], vector: np.ndarray) -> list[float]:
    """x, y and relative distance of the projection onto a plane."""
    onto = gram[axes] @ vector
    x, y = np.linalg.lstsq(gram[np.ix_(axes, axes)], onto, rcond=None)[0]
    square = float(vector @ gram @ vector)
    left = max(0.0, square - float(np.array([x, y]) @ onto))
    return [float(x), float(y), float(np.sqrt(left / square)) if left > _NEAR * square else 0.0]
