"""Task Arithmetic: add the task vectors to the base model, scaled."""

from typing import Literal

import numpy as np
from pydantic import Field

from merging.context import Context
from merging.errors import SpecError
from merging.merges.scaling import Coefficient, computed, search_scaling
from merging.registry import LinearMerge, Params, merge
from merging.vectors import TaskVectors


class TaskArithmeticParams(Params):
    """The scaling coefficients."""

    scaling: Coefficient | tuple[Coefficient, ...] | Literal["auto"] = Field(
        0.3,
        title="λ",
        description="One coefficient for all tasks, one per task (negative ones forget), or auto: "
        "chosen on the validation split from 0 … 1.",
    )


@merge("task_arithmetic", title="Task Arithmetic", paper="https://arxiv.org/abs/2212.04089")
def task_arithmetic(vectors: TaskVectors, params: TaskArithmeticParams, context: Context) -> LinearMerge:
    """Add all task vectors to the base model, scaled by λ."""
    count = len(vectors.tasks)
    report: dict[str, object] = {}
    if params.scaling == "auto":
        sums = computed(vectors, lambda name, base, stack: stack.sum(dim=0), context)
        search = search_scaling(vectors, sums, context)
        weights, report = np.full(count, search.chosen), search.report()
    elif isinstance(params.scaling, tuple):
        if len(params.scaling) != count:
            raise SpecError(f"merge.scaling: {len(params.scaling)} coefficients for {count} tasks; give one or {count}")
        weights = np.array(params.scaling, dtype=np.float64)
    else:
        weights = np.full(count, params.scaling, dtype=np.float64)
    return LinearMerge(dict.fromkeys(vectors.names, weights), report)
