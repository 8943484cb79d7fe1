"""EMR, localised: one elected vector, and for every task a mask and a factor (arXiv 2405.17461)."""

from typing import Literal

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.looks import TEAL, Look
from merging.methods.params import Params
from merging.methods.planned import LocalisedMerge
from merging.methods.registry import Published, merge
from merging.weights.vectors import TaskVectors


class EmrParams(Params):
    """How a task's part is brought back to the size of its task vector."""

    rescale: Literal["tensors", "entries", "none"] = Field(
        "tensors",
        description="Mean magnitudes are compared tensor by tensor, each counting the same (tensors: the authors' "
        "code), over all entries (entries: the paper's formula), or not at all.",
    )


@merge(
    "emr",
    title="EMR (localised)",
    paper="https://arxiv.org/abs/2405.17461",
    published=(
        Published(
            "emr",
            "EMR (localised)",
            "merge=emr",
            note="Not one model: one a task, from one vector, a mask and a factor each.",
            look=Look(TEAL, "square", "\\"),
        ),
    ),
)
def emr(vectors: TaskVectors, params: EmrParams, context: Context) -> LocalisedMerge:
    """Serve every task by the base and one elected vector, behind the task's mask and times its factor.

    Elect: ``v = g max_t |τ_t|`` over the tasks of the elected sign ``g = sign Σ τ`` (that of 0 is −1, as in the
    authors' code). Mask: ``m_t = τ_t g > 0``. Rescale: ``s_t = Σ |τ_t| / Σ |m_t v|``, of means over tensors or of all
    entries; a task with nothing left has 1. Task t has ``θ₀ + s_t m_t ⊙ v``. With one task that is its model.
    """
    tasks = len(vectors.tasks)
    lengths, elected = (torch.zeros(tasks, dtype=torch.float64, device=context.device) for _ in range(2))
    for done, (name, _, stack) in enumerate(vectors.iterate(context.device) if params.rescale != "none" else ()):
        context.step(done, len(vectors.names), "measuring the tasks' parts")
        vector, masks = _elected(stack)
        share = 1 / stack[0].numel() if params.rescale == "tensors" else 1.0
        lengths += share * stack.abs().flatten(1).sum(dim=1)
        elected += share * (masks * vector.abs()).flatten(1).sum(dim=1)
        if not bool(torch.isfinite(lengths.sum())):
            raise vectors.owner_of_nonfinite(name)
    scales = torch.where(elected > 0, lengths / elected.clamp_min(1e-300), 1.0).tolist()
    return LocalisedMerge(lambda name, base, stack: _elected(stack), {"scales": scales}, tuple(scales))


def _elected(stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """v ``[*shape]`` and the masks, bool ``[T, *shape]``."""
    positive = stack.sum(dim=0) > 0
    masks = torch.where(positive, stack > 0, stack < 0)
    largest = (stack.abs() * masks).amax(dim=0)
    return torch.where(positive, largest, -largest), masks
