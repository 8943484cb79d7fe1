"""Task Arithmetic: add the task vectors to the base model, scaled."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from merging.core.errors import SpecError
from merging.methods.context import Context
from merging.methods.forgetting import CHOOSING_FORGETTING, search_forgetting
from merging.methods.params import GRID, OnValidation, Params
from merging.methods.planned import LinearMerge
from merging.methods.registry import merge
from merging.methods.scaling import CHOOSING_SCALING, Coefficient, computed, search_scaling
from merging.weights.vectors import TaskVectors


class TaskArithmeticParams(Params):
    """The scaling coefficients: task t's vector enters with λ · s_t."""

    scaling: Annotated[
        Coefficient | tuple[Coefficient, ...] | Literal["auto"], OnValidation(scaling=True, grid=GRID)
    ] = Field(
        0.3,
        title="λ",
        description="One coefficient for all tasks, one per task (negative ones forget), or auto: "
        "chosen on the validation split from 0 … 1, and on to 3 while that pays. With negative task weights auto "
        "forgets as much as leaves the tasks of the suite that are neither subtracted nor added (or, without such "
        "tasks, those added) 95 % of their zero-shot accuracy.",
    )
    # Left out of specifications where it is 1, so that they are the same as before there were weights.
    weights: Coefficient | tuple[Coefficient, ...] = Field(
        1.0,
        title="Task weights",
        description="s_t, multiplied by λ: one for all tasks or one per task; negative ones forget a task.",
        exclude_if=lambda value: value == 1.0,
    )

    def forgotten(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks whose coefficient is negative (with λ = auto: whose weight is).

        None where there are more or fewer numbers than tasks, which :meth:`signed` refuses.
        """
        if any(isinstance(value, tuple) and len(value) != len(tasks) for value in (self.scaling, self.weights)):
            return ()
        return tuple(task for task, value in zip(tasks, self.signed(len(tasks)), strict=True) if value < 0)

    def signed(self, tasks: int) -> np.ndarray:
        """λ · s_t of every task, float64 ``[T]``; s_t alone where λ is still to be chosen.

        Raises:
            SpecError: there are more or fewer numbers than tasks.
        """
        factors = np.ones(tasks)
        for name in ("scaling", "weights"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != tasks:
                raise SpecError(f"merge.{name}: {len(value)} coefficients for {tasks} tasks; give one or {tasks}")
            if value != "auto":
                factors *= value
        return factors


@merge("task_arithmetic", title="Task Arithmetic", paper="https://arxiv.org/abs/2212.04089")
def task_arithmetic(vectors: TaskVectors, params: TaskArithmeticParams, context: Context) -> LinearMerge:
    """Add all task vectors to the base model, scaled by λ."""
    weights = params.signed(len(vectors.tasks))
    forgotten = params.forgotten(vectors.tasks)
    report: dict[str, object] = {}
    if params.scaling == "auto":
        context.need_images(CHOOSING_FORGETTING if forgotten else CHOOSING_SCALING, forgotten or vectors.tasks)
        sums = computed(vectors, lambda name, base, stack: _weighted_sum(weights, stack), context)
        search = (
            search_forgetting(vectors, sums, dict(zip(vectors.tasks, weights.tolist(), strict=True)), context, GRID)
            if forgotten
            else search_scaling(vectors, sums, context)
        )
        weights, report = search.chosen * weights, search.report()
    if forgotten:
        report["weights"] = dict(zip(vectors.tasks, weights.tolist(), strict=True))
    return LinearMerge(dict.fromkeys(vectors.names, weights), report)


def _weighted_sum(weights: np.ndarray, stack: torch.Tensor) -> torch.Tensor:
    if bool((weights == 1).all()):
        return stack.sum(dim=0)
    return torch.einsum("t,t...->...", torch.as_tensor(weights, dtype=stack.dtype, device=stack.device), stack)
