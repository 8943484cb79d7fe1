"""DARE: drop entries at random, scale up the rest (arXiv 2311.03099)."""

import hashlib
from collections.abc import Sequence

import torch
from pydantic import Field

from merging.core.streaming import COLUMNS, cores
from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import TensorEdit
from merging.methods.registry import edit
from merging.weights.vectors import TaskVectors

_DRAWN = 1 << 20  # numbers at a time for a GPU: cores that draw side by side wait for each other between two calls


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
        kept = _kept(vectors.tasks, name, stack[0].numel(), params.drop, context)
        return stack * kept.view(stack.shape).to(stack.device, non_blocking=True) / (1 - params.drop)

    return TensorEdit(apply)


def _kept(tasks: Sequence[str], name: str, size: int, drop: float, context: Context) -> torch.Tensor:
    """What each task keeps of a tensor, bool ``[T, size]`` on the CPU; for a GPU all cores draw it."""
    on_gpu = context.device.type == "cuda"
    kept = torch.empty((len(tasks), size), dtype=torch.bool, pin_memory=on_gpu)
    at_once = max(1, min(size, _DRAWN if on_gpu else COLUMNS))

    def draw(row: torch.Tensor, task: str) -> None:
        """Numbers that stay in the cache until they are compared: the same ones as all at once."""
        digest = hashlib.sha256(f"{context.seed}\n{task}\n{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        numbers = torch.empty(at_once)
        for part in row.split(at_once):
            torch.ge(numbers[: len(part)].uniform_(generator=generator), drop, out=part)

    list((cores().map if on_gpu else map)(draw, kept, tasks))
    return kept
