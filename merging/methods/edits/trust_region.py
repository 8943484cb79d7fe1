"""TATR: merge only where no task is sensitive to what the others bring (arXiv 2501.15065).

Sensitivity of entry d is ``Ω_d = Σ_{i≠j} |g_i|_d |τ_j|_d``; entries with the largest sensitivity leave the merge.
"""

import math
from typing import Literal

import torch
from pydantic import Field

from merging.evaluation.gradients import mean_absolute_gradients
from merging.methods.context import Context
from merging.methods.edits.magnitudes import largest_magnitudes
from merging.methods.params import Needs, Params
from merging.methods.planned import TensorEdit
from merging.methods.registry import edit
from merging.weights.vectors import StackFunction, TaskVectors

_COLUMNS = 1 << 13  # entries of one task vector: those of all tasks, and their squares, stay in a core's cache


class TrustRegionParams(Params):
    """What sensitivity is, and how much of it is left out."""

    sensitivity: Literal["zero_shot", "gradient"] = Field(
        "zero_shot",
        description="|g_i| is |τ_i| (zero_shot, no data), or the mean absolute gradient at the base model "
        "over labelled validation images.",
    )
    drop: float = Field(0.01, ge=0, lt=1, description="Share of entries, the most sensitive ones, that are left out.")
    images: int = Field(128, ge=1, le=10_000, description="Labelled images a task, for gradient.")

    def needs(self) -> Needs:
        """Gradients are taken on labelled images."""
        return "labelled" if self.sensitivity == "gradient" else "none"


@edit("trust_region", title="TATR", paper="https://arxiv.org/abs/2501.15065")
def trust_region(vectors: TaskVectors, params: TrustRegionParams, context: Context) -> TensorEdit:
    """Leave out the entries where one task's change meets another task's sensitivity."""
    sensitivity = _zero_shot if params.sensitivity == "zero_shot" else _by_gradient(vectors, params, context)
    dropped = math.floor(params.drop * vectors.size + 1e-9)
    if dropped == 0:
        return TensorEdit(lambda name, base, stack: stack, {"dropped": 0}, elementwise=True)
    elementwise = params.sensitivity == "zero_shot"
    measured = vectors.edited(TensorEdit(lambda *one: sensitivity(*one)[None], elementwise=elementwise))
    limit = float(largest_magnitudes(measured, dropped + 1, context)[0])  # the largest that stays

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        return stack * (sensitivity(name, base, stack) <= limit)

    return TensorEdit(apply, {"threshold": limit, "dropped": dropped}, elementwise=elementwise)


def _zero_shot(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
    """Σ_{i≠j} |τ_i| |τ_j| = (Σ|τ|)² − Σ τ²."""
    found = torch.empty_like(base)
    flat, columns = found.view(-1), stack.reshape(len(stack), -1)
    size = _COLUMNS if stack.device.type == "cpu" else max(1, flat.numel())
    for start in range(0, flat.numel(), size):
        part = columns[:, start : start + size]
        torch.sub(part.abs().sum(dim=0).square_(), part.square().sum(dim=0), out=flat[start : start + size])
    return found


def _by_gradient(vectors: TaskVectors, params: TrustRegionParams, context: Context) -> StackFunction:
    """Σ_{i≠j} |g_i| |τ_j| = Σ_j |τ_j| (Σ_i |g_i| − |g_j|), from two sums over tasks instead of T gradients."""
    evaluator = context.need_images("TATR with sensitivity: gradient", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    total: dict[str, torch.Tensor] = {}  # Σ_i |g_i|
    own: dict[str, torch.Tensor] = {}  # Σ_i |g_i| |τ_i|
    for index, task in enumerate(vectors.tasks):
        context.step(index, len(vectors.tasks), f"gradients of {task}")
        gradients = mean_absolute_gradients(evaluator, task, params.images, context)
        for name in vectors.names:
            gradient = gradients.get(name, torch.zeros(vectors.info(name).shape)).to("cpu", torch.float32)
            product = gradient * vectors.stack(name)[1][index].abs()
            total[name] = gradient + total.get(name, 0)
            own[name] = product + own.get(name, 0)

    def sensitivity(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        g, gt = total[name].to(stack.device), own[name].to(stack.device)
        return (g * stack.abs().sum(dim=0) - gt).clamp_min(0)

    return sensitivity
