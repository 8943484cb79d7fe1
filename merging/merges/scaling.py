"""The scaling coefficient λ: given, or chosen on the validation split.

Every merge that computes one direction v per tensor ends in ``θ₀ + λ v``. With λ = ``auto`` the direction is computed
once and the accuracy on validation images decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from merging.context import Context
from merging.evaluation import Accuracy
from merging.registry import TensorMerge
from merging.streaming import ordered
from merging.suites.suite import Split
from merging.vectors import StackFunction, TaskVectors

Coefficient = Annotated[float, Field(ge=-10, le=10)]
GRID = tuple(round(0.05 * step, 2) for step in range(21))  # 0 … 1, arXiv 2212.04089
WIDE_GRID = tuple(round(0.1 * step, 1) for step in range(21))  # 0 … 2, for merges whose own λ is 1


@dataclass(frozen=True)
class ScalingSearch:
    """Validation accuracy at every λ tried; the smallest of the best is chosen."""

    chosen: float
    scalings: tuple[float, ...]
    accuracies: tuple[float, ...]
    split: str
    images: int

    def report(self) -> dict[str, object]:
        """As kept with a run."""
        return {
            "scaling": self.chosen,
            "scaling_search": {
                "scalings": list(self.scalings),
                "average_accuracy": list(self.accuracies),
                "split": self.split,
                "images": self.images,
            },
        }


def search_scaling(
    vectors: TaskVectors, directions: dict[str, torch.Tensor], context: Context, grid: tuple[float, ...] = GRID
) -> ScalingSearch:
    """Evaluate ``θ₀ + λ v`` on the validation images of all tasks for every λ of a grid.

    Args:
        vectors: the (edited) task vectors.
        directions: v of every floating-point tensor.
        context: device and the evaluator.
        grid: the values of λ.

    Raises:
        MissingPart: the suite has no validation images or heads.
    """
    context.need_images("choosing the scaling coefficient (scaling: auto)", vectors.tasks)
    found = accuracies_along(vectors, directions, context, grid, "val", "choosing λ on validation")
    averages = tuple(accuracy.average for accuracy in found)
    return ScalingSearch(smallest_best(grid, averages), grid, averages, "val", found[0].images)


def smallest_best(grid: Sequence[float], averages: Sequence[float]) -> float:
    """The smallest of those λ whose accuracy is the best."""
    return grid[max(range(len(grid)), key=lambda index: (averages[index], -grid[index]))]


def accuracies_along(
    vectors: TaskVectors,
    directions: dict[str, torch.Tensor],
    context: Context,
    grid: Sequence[float],
    split: Split,
    what: str,
    stored: bool = False,
) -> list[Accuracy]:
    """Accuracy of ``θ₀ + λ v`` on all images of a split, at every λ of a grid.

    Args:
        vectors: the (edited) task vectors.
        directions: v of every floating-point tensor.
        context: device and the evaluator.
        grid: the values of λ.
        split: which images.
        what: what this is about, for progress and errors.
        stored: whether weights are rounded to the base's dtype first, as those of runs are.

    Raises:
        MissingPart: the suite has no such images or heads.
    """
    evaluator = context.need_images(what, vectors.tasks)
    evaluator.require(vectors.tasks, split)
    bases = {name: vectors.base[name].to(context.device, torch.float32) for name in vectors.names}
    found = []
    for done, scaling in enumerate(grid):
        context.step(done, len(grid), f"{what}: {scaling:g}")
        merged = {name: base + scaling * directions[name] for name, base in bases.items()}
        if stored:
            merged = {name: tensor.to(vectors.base[name].dtype) for name, tensor in merged.items()}
        found.append(evaluator.accuracy(merged, vectors.tasks, split))
    return found


def computed(vectors: TaskVectors, direction: StackFunction, context: Context) -> dict[str, torch.Tensor]:
    """The direction of every tensor, all of them in memory."""

    def one(name: str) -> torch.Tensor:
        base, stack = vectors.stack(name, context.device, passing=True)
        found = direction(name, base, stack)
        return found.clone() if found.untyped_storage().data_ptr() == stack.untyped_storage().data_ptr() else found

    found = {}
    for done, tensor in enumerate(ordered(one, vectors.names, context.device)):
        found[vectors.names[done]] = tensor
        context.step(done + 1, len(vectors.names), "computing the direction")
    return found


def scaled(
    vectors: TaskVectors, scaling: float | Literal["auto"], direction: StackFunction, context: Context
) -> TensorMerge:
    """The merge ``θ₀ + λ v`` with v computed tensor by tensor.

    Args:
        vectors: the (edited) task vectors.
        scaling: λ, or auto for the best of :data:`WIDE_GRID` on validation.
        direction: v of one tensor, from its name, θ₀ and the stack ``[T, *shape]``.
        context: device and evaluator.

    Raises:
        MissingPart: λ is to be chosen and the suite has no validation images or heads.
    """
    if scaling != "auto":
        return TensorMerge(lambda name, base, stack: base + scaling * direction(name, base, stack))
    context.need_images("choosing the scaling coefficient (scaling: auto)", vectors.tasks)  # before the work
    found = computed(vectors, direction, context)
    search = search_scaling(vectors, found, context, WIDE_GRID)
    return TensorMerge(lambda name, base, stack: base + search.chosen * found[name], search.report())
