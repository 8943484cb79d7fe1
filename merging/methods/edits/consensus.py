"""Consensus merging: keep the entries that matter to several tasks (arXiv 2405.07813).

Entries that only one task's mask holds are *selfish*, those that none holds are noise; both are taken out.
"""

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.edits.masks import MaskParams, choose_thresholds, masks, merged_vector
from merging.methods.planned import TensorEdit
from merging.methods.registry import edit
from merging.weights.vectors import TaskVectors


class ConsensusParams(MaskParams):
    """How masks are made and how many have to agree."""

    agree: int = Field(2, ge=1, le=1000, description="Masks in which an entry must be active to stay.")


@edit("consensus", title="Consensus", paper="https://arxiv.org/abs/2405.07813")
def consensus(vectors: TaskVectors, params: ConsensusParams, context: Context) -> TensorEdit:
    """Keep only entries that the masks of several tasks agree on."""
    summed = merged_vector(vectors, params, context)
    thresholds, report = choose_thresholds(vectors, params, summed, context)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        merged = summed(name, base, stack)
        active = masks(stack, merged.sum(dim=0), thresholds).sum(dim=0)
        return merged * (active >= min(params.agree, len(stack)))

    return TensorEdit(apply, {"thresholds": list(thresholds), **report}, elementwise=True)
