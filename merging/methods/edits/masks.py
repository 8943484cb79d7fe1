"""TALL masks: which entries of a merged vector each task needs (arXiv 2405.07813).

The merged vector ``τ_MT`` holds what task t needs where ``m_t = |τ_t| > λ_t |τ_MT − τ_t|`` (equation 5).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.edits.ties import TiesParams, ties
from merging.methods.params import OnValidation, Params
from merging.methods.planned import TensorEdit
from merging.methods.scaling import computed
from merging.weights.vectors import TaskVectors

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)


class MaskParams(Params):
    """How masks are made."""

    threshold: Annotated[Annotated[float, Field(gt=0, le=10)] | Literal["auto"], OnValidation()] = Field(
        0.4,
        title="λ",
        description="Of the masks: the larger, the fewer entries count as a task's own. "
        "auto: the best of 0.2 … 0.6 for each task on validation.",
    )
    total: Literal["sum", "ties"] = Field("sum", description="The merged vector: the sum, or the TIES sum.")
    keep: float = Field(0.2, gt=0, le=1, description="Share of entries that TIES keeps, where total is ties.")


def masks(stack: torch.Tensor, merged: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    """``m_t = |τ_t| > λ_t |τ_MT − τ_t|``, bool ``[T, *shape]``."""
    limits = torch.tensor(thresholds, device=stack.device).view(-1, *[1] * (stack.ndim - 1))
    return stack.abs() > limits * (merged - stack).abs()


def merged_vector(vectors: TaskVectors, params: MaskParams, context: Context) -> TensorEdit:
    """The edit whose sum over tasks is τ_MT."""
    if params.total == "sum":
        return TensorEdit(lambda name, base, stack: stack, elementwise=True)
    return ties(vectors, TiesParams(keep=params.keep), context)


def choose_thresholds(
    vectors: TaskVectors, params: MaskParams, summed: TensorEdit, context: Context
) -> tuple[tuple[float, ...], dict[str, object]]:
    """λ of every task, and how they were chosen: as given, or by the accuracy of ``θ₀ + m_t ⊙ τ_MT`` on validation.

    Raises:
        MissingPart: they are to be chosen and the suite has no validation images or heads.
    """
    if params.threshold != "auto":
        return (params.threshold,) * len(vectors.tasks), {}
    evaluator = context.need_images("choosing the masks' thresholds (threshold: auto)", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    merged = computed(vectors, lambda name, base, stack: summed(name, base, stack).sum(dim=0), context)
    chosen, accuracies = [], []
    for index, task in enumerate(vectors.tasks):
        found = []
        own = {name: stack[index : index + 1].clone() for name, _, stack in vectors.iterate(context.device)}
        for number, threshold in enumerate(THRESHOLDS):
            context.step(index * len(THRESHOLDS) + number, len(vectors.tasks) * len(THRESHOLDS), "choosing masks")
            state = {
                name: vectors.base[name].to(context.device, torch.float32)
                + masks(own[name], total, (threshold,))[0] * total
                for name, total in merged.items()
            }
            found.append(evaluator.accuracy(state, [task], "val").average)
        chosen.append(THRESHOLDS[max(range(len(found)), key=lambda i: (found[i], -abs(THRESHOLDS[i] - 0.4)))])
        accuracies.append(found)
    return tuple(chosen), {"threshold_search": {"thresholds": list(THRESHOLDS), "accuracy": accuracies, "split": "val"}}
