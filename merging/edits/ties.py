"""TIES: keep each task's largest entries, agree on a sign per entry, drop what disagrees."""

import math
from functools import cache
from typing import Literal

import torch
from pydantic import Field

from merging.context import Context
from merging.edits.thresholds import largest_magnitudes
from merging.registry import Params, TensorEdit, edit
from merging.vectors import TaskVectors


class TiesParams(Params):
    """How much is kept and how agreeing entries are combined."""

    keep: float = Field(0.2, gt=0, le=1, description="Share of entries kept of each task vector, by magnitude.")
    combine: Literal["sum", "mean"] = Field(
        "sum", description="sum: reference code for CLIP, λ = 0.3. mean over agreeing tasks: the paper, λ = 1."
    )


@edit("ties", title="TIES", paper="https://arxiv.org/abs/2306.01708")
def ties(vectors: TaskVectors, params: TiesParams, context: Context) -> TensorEdit:
    """Trim small entries, elect one sign per entry, drop what disagrees."""
    kept = max(1, math.floor(params.keep * vectors.size + 1e-9))
    thresholds = largest_magnitudes(vectors, kept, context)

    def trimmed(stack: torch.Tensor) -> torch.Tensor:
        limits = thresholds.to(stack.device).view(-1, *[1] * (stack.ndim - 1))
        return torch.where(stack.abs() >= limits, stack, 0.0)

    @cache
    def majority() -> float:
        """Sign of most entries, for those whose trimmed values cancel exactly. Costs a pass, so only on demand."""
        balance = sum(int(trimmed(stack).sum(0).sign().sum()) for _, _, stack in vectors.iterate(context.device))
        return float((balance > 0) - (balance < 0))

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        kept_stack = trimmed(stack)
        total = kept_stack.sum(dim=0)
        elected = total.sign()
        cancelled = (total == 0) & kept_stack.any(dim=0)
        if bool(cancelled.any()):
            elected[cancelled] = majority()
        agreeing = kept_stack * elected > 0
        result = torch.where(agreeing, kept_stack, 0.0)
        if params.combine == "mean":
            result /= agreeing.sum(dim=0).clamp_min(1)
        return result

    return TensorEdit(apply, {"thresholds": thresholds.tolist(), "entries_kept": kept}, elementwise=True)
