"""Forgetting by negation: what subtracted task vectors take from their tasks, and from all others (arXiv 2212.04089).

A task whose vector enters with a negative weight is to be forgotten. All other tasks of the suite whose accuracy can be
measured are *controls*, whether they were merged or not: a good negation leaves them as they were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from merging.context import Context
from merging.errors import SpecError
from merging.evaluation import Accuracy
from merging.suites.suite import Suite
from merging.vectors import TaskVectors

KEPT_SHARE = 0.95  # of the controls' zero-shot accuracy that has to stay (section 3)


def controls(suite: Suite, forgotten: Sequence[str]) -> tuple[str, ...]:
    """The tasks that are to stay as they are: all others of the suite whose images and heads are there."""
    return tuple(task for task in suite.task_names if task not in forgotten and suite.present(task))


def bystanders(suite: Suite, merged: Sequence[str], forgotten: Sequence[str]) -> tuple[str, ...]:
    """Controls that are not merged but measured all the same; none where nothing is to be forgotten."""
    return tuple(task for task in controls(suite, forgotten) if task not in merged) if forgotten else ()


@dataclass(frozen=True)
class ForgettingSearch:
    """Mean validation accuracy of forgotten tasks and of controls at every λ tried; λ = 0, the base, comes first."""

    scalings: tuple[float, ...]
    forgotten: tuple[float, ...]
    kept: tuple[float, ...]
    images: int

    @property
    def chosen(self) -> float:
        """The smallest λ of those that forget most, while the controls keep :data:`KEPT_SHARE` of their accuracy."""
        allowed = [index for index, kept in enumerate(self.kept) if kept >= KEPT_SHARE * self.kept[0]]
        return self.scalings[min(allowed, key=lambda index: (self.forgotten[index], self.scalings[index]))]

    def report(self) -> dict[str, object]:
        """As kept with a run."""
        return {
            "scaling": self.chosen,
            "forgetting_search": {
                "scalings": list(self.scalings), "forgotten": list(self.forgotten), "kept": list(self.kept),
                "kept_share": KEPT_SHARE, "split": "val", "images": self.images,
            },
        }  # fmt: skip


def search_forgetting(
    vectors: TaskVectors,
    directions: Mapping[str, torch.Tensor],
    forgotten: Sequence[str],
    context: Context,
    grid: Sequence[float],
) -> ForgettingSearch:
    """Evaluate ``θ₀ + λ v`` on the validation images of forgotten tasks and controls for every λ of a grid.

    Args:
        vectors: the (edited) task vectors.
        directions: v = Σ s_t τ_t of every floating-point tensor.
        forgotten: tasks with s_t < 0.
        context: device and the evaluator.
        grid: the values of λ; the first is 0.

    Raises:
        MissingPart: there are no validation images or heads of a forgotten task.
        SpecError: the suite has no other task that could be kept.
    """
    evaluator = context.need_images("choosing how far to forget (scaling: auto with negative weights)", forgotten)
    kept = controls(evaluator.suite, forgotten)
    if not kept:
        raise SpecError(
            "scaling: auto with negative weights needs a task to be kept, and the suite has images and heads of none "
            "but those to be forgotten; give a number for scaling"
        )
    tasks = (*forgotten, *kept)
    evaluator.require(tasks, "val")
    bases = {name: vectors.base[name].to(context.device, torch.float32) for name in vectors.names}
    found = []
    for done, scaling in enumerate(grid):
        context.step(done, len(grid), f"choosing λ on validation: {scaling:g}")
        state = {name: base + scaling * directions[name] for name, base in bases.items()}
        found.append(evaluator.accuracy(state, tasks, "val"))
    return ForgettingSearch(
        tuple(grid), tuple(_mean(one, forgotten) for one in found), tuple(_mean(one, kept) for one in found),
        found[0].images,
    )  # fmt: skip


def forgetting_report(
    before: Accuracy, after: Accuracy, forgotten: Sequence[str], weights: Mapping[str, float]
) -> dict[str, Any]:
    """Accuracy of the base and of the merged model on the tasks to forget and on the controls.

    Args:
        before: zero-shot accuracy on all of them.
        after: the merged model's.
        forgotten: tasks whose vectors were subtracted.
        weights: merged task → the coefficient of its vector.

    Returns:
        ``split``; ``weights``; ``forgotten`` and ``kept``: task → ``before``, ``after`` (0 … 1) and ``images``;
        ``means``: the same two → ``before`` and ``after``, None where there is no such task.
    """
    groups = {"forgotten": tuple(forgotten), "kept": tuple(task for task in after.per_task if task not in forgotten)}
    rows = {
        group: {
            task: {"before": before.per_task[task], "after": after.per_task[task], "images": after.counts[task]}
            for task in tasks
        }
        for group, tasks in groups.items()
    }
    means = {
        group: {"before": _mean(before, tasks), "after": _mean(after, tasks)} if tasks else None
        for group, tasks in groups.items()
    }
    return {"split": after.split, "weights": dict(weights), **rows, "means": means}


def in_words(weights: Mapping[str, float], labels: Mapping[str, str] = {}) -> str:
    """What was done with which task vector; tasks are called by their labels, if they have one.

    >>> in_words({"digits": -0.5, "roads": 1.0, "signs": 0.0})
    'digits subtracted (−0.5), roads added (1), signs left out (0)'
    """

    def words(task: str, weight: float) -> str:
        verb = "subtracted" if weight < 0 else "added" if weight > 0 else "left out"
        return f"{labels.get(task, task)} {verb} ({format(weight or 0.0, 'g').replace('-', '−')})"

    return ", ".join(words(task, weight) for task, weight in weights.items())


def _mean(accuracy: Accuracy, tasks: Sequence[str]) -> float:
    return sum(accuracy.per_task[task] for task in tasks) / len(tasks)
