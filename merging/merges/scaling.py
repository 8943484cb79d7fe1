"""The scaling coefficient λ: given, or chosen on the validation split.

Every merge that computes one direction v per tensor ends in ``θ₀ + λ v``. With λ = ``auto`` the direction is computed
once and the accuracy on validation images decides.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from merging.context import Context
from merging.registry import TensorMerge
from merging.streaming import ordered
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
    evaluator = context.need_images("choosing the scaling coefficient (scaling: auto)", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    bases = {name: vectors.base[name].to(context.device, torch.float32) for name in vectors.names}
    accuracies = []
    images = 0
    for done, scaling in enumerate(grid):
        context.step(done, len(grid), f"choosing λ on validation: {scaling:g}")
        result = evaluator.accuracy(
            {name: base + scaling * directions[name] for name, base in bases.items()}, vectors.tasks, "val"
        )
        accuracies.append(result.average)
        images = result.images
    best = max(range(len(grid)), key=lambda index: (accuracies[index], -grid[index]))
    return ScalingSearch(grid[best], grid, tuple(accuracies), "val", images)


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
