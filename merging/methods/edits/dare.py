"""DARE: drop entries at random, scale up the rest (arXiv 2311.03099)."""

import hashlib

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import TensorEdit
from merging.methods.registry import edit
from merging.weights.vectors import TaskVectors


class DareParams(Params):
    """How much is dropped."""

    drop: float = Field(0.5, ge=0, lt=1, description="Probability with which an entry is dropped.")


@edit("dare", title="DARE", paper="https://arxiv.org/abs/2311.03099")
def dare(vectors: TaskVectors, params: DareParams, context: Context) -> TensorEdit:
    """Drop entries at random and scale the rest by 1/(1 − p).

    What is dropped depends on the seed and the names of task and tensor alone: not on the order of either, nor on the
    device.
    """

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        if params.drop == 0:
            return stack
        kept = []
        for task in vectors.tasks:
            digest = hashlib.sha256(f"{context.seed}\n{task}\n{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            kept.append(torch.rand(base.shape, generator=generator) >= params.drop)
        return stack * torch.stack(kept).to(stack.device) / (1 - params.drop)

    return TensorEdit(apply)
