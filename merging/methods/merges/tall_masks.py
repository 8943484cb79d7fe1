"""TALL masks, localised: one shared vector, and a mask for every task that takes its part (arXiv 2405.07813)."""

import torch

from merging.methods.context import Context
from merging.methods.edits.masks import MaskParams, choose_thresholds, masks, merged_vector
from merging.methods.planned import LocalisedMerge
from merging.methods.registry import merge
from merging.weights.vectors import TaskVectors


@merge("tall_masks", title="TALL masks (localised)", paper="https://arxiv.org/abs/2405.07813")
def tall_masks(vectors: TaskVectors, params: MaskParams, context: Context) -> LocalisedMerge:
    """Serve every task by a model of its own: the base and one shared vector behind the task's mask.

    Task t has ``θ₀ + m_t ⊙ τ_MT``: T models from one vector and one bit a weight and task.
    """
    summed = merged_vector(vectors, params, context)
    thresholds, report = choose_thresholds(vectors, params, summed, context)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vector = summed(name, base, stack).sum(dim=0)
        return vector, masks(stack, vector, thresholds)

    return LocalisedMerge(apply, {"thresholds": list(thresholds), **report})
