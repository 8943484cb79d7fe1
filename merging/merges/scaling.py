"""Choosing the scaling coefficient λ on the validation split."""

from dataclasses import dataclass

import torch

from merging.context import Context
from merging.vectors import TaskVectors

GRID = tuple(round(0.05 * step, 2) for step in range(21))  # 0 … 1, arXiv 2212.04089


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
    vectors: TaskVectors, weights: torch.Tensor, context: Context, grid: tuple[float, ...] = GRID
) -> ScalingSearch:
    """Evaluate ``θ₀ + λ Σ_t s_t τ_t`` on the validation images of all tasks for every λ of a grid.

    Args:
        vectors: the (edited) task vectors.
        weights: s, float32 ``[T]``.
        context: device and the evaluator.
        grid: the values of λ.

    Raises:
        MissingPart: the suite has no validation images or heads.
    """
    evaluator = context.need_images("choosing the scaling coefficient (scaling: auto)", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    bases, sums = {}, {}
    for name, base, stack in vectors.iterate(context.device):
        signs = weights.to(stack.device).view(-1, *[1] * base.ndim)
        bases[name], sums[name] = base, (signs * stack).sum(dim=0)
    accuracies = []
    images = 0
    for done, scaling in enumerate(grid):
        context.step(done, len(grid), f"choosing λ on validation: {scaling:g}")
        result = evaluator.accuracy(
            {name: base + scaling * sums[name] for name, base in bases.items()}, vectors.tasks, "val"
        )
        accuracies.append(result.average)
        images = result.images
    best = max(range(len(grid)), key=lambda index: (accuracies[index], -grid[index]))
    return ScalingSearch(grid[best], grid, tuple(accuracies), "val", images)
