"""A job: loss and accuracy in the plane of two task vectors, before and after AWD."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from merging.core.errors import SpecError
from merging.core.progress import no_progress
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, disentangle
from merging.methods.mixing import WhatIf
from merging.methods.pair import Pair
from merging.methods.params import AUTO
from merging.methods.plan import plan
from merging.methods.planned import LinearEdit
from merging.runs.jobs.disentangle import require_awd
from merging.runs.jobs.model_job import Bench, ModelJob, ModelResult
from merging.weights.geometry import Geometry
from merging.weights.vectors import TaskVectors

Quantity = Literal["loss", "accuracy"]
Task = str
LOWEST, HIGHEST, STEPS = -0.5, 1.5, 17  # of the landscape's grid in each direction; 0 and 1 are on it
IMAGES = 100  # of each task that the landscape is measured on
_NEAR = 1e-6  # of a squared length: Gram matrices are sums of float32 products
# The points of a landscape; axes are τ₁, τ₂, φ₁, φ₂
BASE, FIRST, SECOND, TASK_ARITHMETIC, AWD = "base", "first", "second", "task_arithmetic", "awd"


class Plane(BaseModel):
    """Loss (nats) and accuracy (0 … 1) over a plane, task → ``[y][x]``, and :func:`places` of the models."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    loss: dict[Task, list[list[float]]]
    accuracy: dict[Task, list[list[float]]]
    places: dict[str, list[float]]

    def of(self, quantity: Quantity) -> dict[Task, list[list[float]]]:
        """Loss or accuracy."""
        return self.loss if quantity == "loss" else self.accuracy


class Point(BaseModel):
    """Loss and accuracy of one model, by task."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    loss: dict[Task, float]
    accuracy: dict[Task, float]

    def of(self, quantity: Quantity) -> dict[Task, float]:
        """Loss or accuracy."""
        return self.loss if quantity == "loss" else self.accuracy


class LandscapeResult(ModelResult):
    """Loss and accuracy of ``θ₀ + x u₁ + y u₂`` on some images of both tasks, over a grid of x and y.

    Attributes:
        axis: the values of x and y.
        planes: ``before``, with the axes u = τ, and ``after``, with u = φ, the task vectors after AWD was solved for
            these two.
        points: the models named in :mod:`merging.runs.jobs.landscape`.
        scaling: λ of ``before`` and ``after``, chosen on validation.
        split: which images.
        counts: task → how many.
    """

    axis: list[float] = Field(default_factory=list)
    planes: dict[str, Plane] = Field(default_factory=dict)
    points: dict[str, Point] = Field(default_factory=dict)
    scaling: dict[str, float] = Field(default_factory=dict)
    split: str = "val"
    counts: dict[Task, int] = Field(default_factory=dict)


class LandscapeJob(ModelJob):
    """Measure models over the plane of two task vectors, before and after AWD."""

    result: ClassVar[type[LandscapeResult]] = LandscapeResult
    without: ClassVar[str] = "The plane of these two task vectors can't be drawn."
    job: Literal["landscape"] = "landscape"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return "Landscape of two task vectors"

    @model_validator(mode="after")
    def _spans_a_plane(self) -> Self:
        require_awd(self)
        if len(self.tasks) != 2:
            raise SpecError(f"job {self.kind}: a plane is spanned by two task vectors; got {len(self.tasks)} tasks")
        return self

    def measure(self, bench: Bench) -> LandscapeResult:
        """Hundreds of merges and measurements on a few images.

        Raises:
            MissingPart: a task has no images or head.
        """
        vectors, context = bench.vectors, bench.context
        evaluator = context.need_images("the landscape", self.tasks)
        evaluator.prepare(self.tasks, self.split)
        geometry = context.geometry(vectors)
        params = self.pair.edit.params
        assert isinstance(params, AwdParams)
        before = WhatIf(vectors, LinearEdit({}))
        after = WhatIf(vectors, disentangle(vectors, geometry, params, context).edit).held(context)
        scaling = {
            "before": _chosen(Pair.of(), vectors, context),
            "after": _chosen(Pair.of("awd", self.edit_params), vectors, context),
        }
        chosen = {task: evaluator.draw(task, self.split, IMAGES, self.seed) for task in self.tasks}

        def measured(state: Mapping[str, torch.Tensor]) -> Point:
            evaluator.load(state)
            both = {task: evaluator.loss_and_accuracy(task, self.split, chosen[task]) for task in self.tasks}
            return Point(
                loss={task: pair[0] for task, pair in both.items()},
                accuracy={task: pair[1] for task, pair in both.items()},
            )

        quiet = replace(context, on_progress=no_progress)  # hundreds of merges, each too quick to report on
        axis = np.linspace(LOWEST, HIGHEST, STEPS)
        found = places(after, geometry, scaling["before"], scaling["after"])
        planes = {}
        for name, what_if in (("before", before), ("after", after)):
            cells = []
            for done, (y, x) in enumerate((y, x) for y in axis for x in axis):
                context.step(done, STEPS**2, f"measuring the plane {name} AWD")
                cells.append(measured(what_if.weights((x, y), quiet)))
            planes[name] = Plane(
                loss=_grids([cell.loss for cell in cells]),
                accuracy=_grids([cell.accuracy for cell in cells]),
                places=found[name],
            )
        models = {
            BASE: before.weights((0, 0), quiet),
            FIRST: before.weights((1, 0), quiet),
            SECOND: before.weights((0, 1), quiet),
            TASK_ARITHMETIC: before.weights((scaling["before"],) * 2, quiet),
            AWD: after.weights((scaling["after"],) * 2, quiet),
        }
        return LandscapeResult(
            axis=axis.tolist(),
            planes=planes,
            points={name: measured(state) for name, state in models.items()},
            scaling=scaling,
            split=self.split,
            counts={task: len(chosen[task]) for task in self.tasks},
        )


def _grids(cells: Sequence[Mapping[Task, float]]) -> dict[Task, list[list[float]]]:
    """Values of cells, row after row, as a square a task."""
    return {task: np.array([cell[task] for cell in cells]).reshape(STEPS, STEPS).tolist() for task in cells[0]}


def _chosen(pair: Pair, vectors: TaskVectors, context: Context) -> float:
    """λ that validation chooses for a method."""
    return float(plan(vectors, pair.with_scaling(AUTO), context).merge.report["scaling"])


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
        BASE: np.zeros(4),
        FIRST: np.eye(4)[0],
        SECOND: np.eye(4)[1],
        TASK_ARITHMETIC: np.array([before, before, 0, 0]),
        AWD: np.array([0, 0, after, after]),
    }
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
