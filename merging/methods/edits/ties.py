"""TIES: keep each task's largest entries, agree on a sign per entry, drop what disagrees."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import hardshrink

from merging.core.streaming import ordered
from merging.methods.context import Context
from merging.methods.edits.magnitudes import largest_magnitudes
from merging.methods.params import Params
from merging.methods.planned import TensorEdit
from merging.methods.registry import edit
from merging.weights.vectors import TaskVectors


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

    below = torch.nextafter(thresholds, torch.zeros(())).tolist()

    def trimmed(stack: torch.Tensor) -> torch.Tensor:
        """The entries of at least the threshold, zero elsewhere; hardshrink keeps what is *above* its bound."""
        return torch.stack([hardshrink(row, bound) for row, bound in zip(stack, below, strict=True)])

    groups = vectors.groups(vectors.names, context.device)

    def balance(group: Sequence[str]) -> int:
        """Entries whose trimmed values sum to a positive number, less those with a negative sum."""
        return sum(int(trimmed(stack).sum(0).sign().sum()) for stack in vectors.entries(group, context.device))

    total_balance = 0
    for done, more in enumerate(ordered(balance, groups, context.device)):
        total_balance += more
        context.step(done + 1, len(groups), "electing signs")
    majority = math.copysign(1.0, total_balance) if total_balance else 0.0

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        kept_stack = trimmed(stack)
        total = kept_stack.sum(dim=0)
        elected = total.sign()
        cancelled = (total == 0) & (kept_stack.abs().sum(dim=0) > 0)
        if bool(cancelled.any()):
            elected[cancelled] = majority  # exact cancellations follow most entries
        result = kept_stack.mul_(elected).relu_().mul_(elected)  # what agrees stays, the rest is zero
        if params.combine == "mean":
            result /= (result != 0).sum(dim=0).clamp_min(1)
        return result

    return TensorEdit(apply, {"thresholds": thresholds.tolist(), "entries_kept": kept}, elementwise=True)
