"""Forgetting by negation: what subtracted task vectors take from their tasks, and from all others (arXiv 2212.04089).

A task whose vector enters with a negative weight is to be *forgotten*, one with a positive weight is *added*. All other
tasks of the suite whose accuracy can be measured are *kept*: bystanders that a good negation leaves as they were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from merging.core.errors import SpecError
from merging.core.text import printed
from merging.evaluation.accuracy import SAME_ACCURACY, Accuracy, best_first
from merging.methods.context import Context
from merging.methods.scaling import search_grid
from merging.suites.suite import Suite
from merging.weights.vectors import TaskVectors

Group = Literal["forgotten", "added", "kept"]
GROUPS: tuple[Group, ...] = ("forgotten", "added", "kept")
CHOOSING_FORGETTING = "choosing how far to forget (scaling: auto with negative weights)"  # what images are for
TO_FORGET = " (forget)"  # stands after the names of such tasks
KEPT_SHARE = 0.95  # of the bystanders' zero-shot accuracy that has to stay (section 3)


def group_of(weight: float) -> Group:
    """What is meant to happen to a task whose vector has this weight; one that is not merged has 0."""
    return "forgotten" if weight < 0 else "added" if weight > 0 else "kept"


def bystanders(suite: Suite, merged: Sequence[str], forgotten: Sequence[str]) -> tuple[str, ...]:
    """Tasks that are not merged but measured all the same, as their images and heads are there.

    None where nothing is to be forgotten.
    """
    return tuple(task for task in suite.task_names if task not in merged and suite.present(task)) if forgotten else ()


@dataclass(frozen=True)
class ForgettingSearch:
    """Mean validation accuracies at every λ tried; λ = 0, the base, comes first.

    Attributes:
        scalings: the values of λ.
        means: group → mean over its tasks, for each group that has tasks.
        images: how many were looked at.
    """

    scalings: tuple[float, ...]
    means: Mapping[Group, tuple[float, ...]]
    images: int

    @property
    def watched(self) -> Group:
        """The tasks that have to stay as accurate as they were: the bystanders, or those added if there are none."""
        return _watched(self.means)

    @property
    def chosen(self) -> float:
        """The smallest λ of those that forget most, while the tasks watched keep :data:`KEPT_SHARE`."""
        return self.scalings[most_forgetting(self.means["forgotten"], self.means[self.watched])]

    def report(self) -> dict[str, object]:
        """As kept with a run; ``at_edge`` says that a larger λ than those tried may forget more."""
        return {
            "scaling": self.chosen,
            "forgetting_search": {
                "scalings": list(self.scalings),
                **{str(group): list(values) for group, values in self.means.items()},
                "watched": self.watched,
                "kept_share": KEPT_SHARE,
                "split": "val",
                "images": self.images,
                "at_edge": self.chosen == self.scalings[-1],
            },
        }


def _watched(groups: Mapping[Group, object]) -> Group:
    return "kept" if "kept" in groups else "added"


def most_forgetting(forgotten: Sequence[float], watched: Sequence[float]) -> int:
    """Where the first of the lowest accuracies stands, among those that leave the tasks watched their share."""
    allowed = [index for index, kept in enumerate(watched) if kept >= KEPT_SHARE * watched[0] - SAME_ACCURACY]
    return allowed[best_first([-forgotten[index] for index in allowed])[0]]


def search_forgetting(
    vectors: TaskVectors,
    directions: Mapping[str, torch.Tensor],
    weights: Mapping[str, float],
    context: Context,
    grid: Sequence[float],
) -> ForgettingSearch:
    """Evaluate ``θ₀ + λ v`` on the validation images of the whole suite for every λ of a grid.

    The grid goes on as long as that pays, see :func:`~merging.methods.scaling.search_grid`.

    Args:
        vectors: the (edited) task vectors.
        directions: v = Σ s_t τ_t of every floating-point tensor.
        weights: merged task → s_t, some of them negative.
        context: device and the evaluator.
        grid: the values of λ; the first is 0.

    Raises:
        MissingPart: there are no validation images or heads of a forgotten task.
        SpecError: there is neither a bystander nor a task that is added, so nothing says how far to go.
    """
    forgotten = [task for task, weight in weights.items() if weight < 0]
    evaluator = context.need_images(CHOOSING_FORGETTING, forgotten)
    measured = [task for task in weights if task in forgotten or evaluator.suite.present(task)]
    groups = grouped((*measured, *bystanders(evaluator.suite, tuple(weights), forgotten)), weights)
    if _watched(groups) not in groups:
        raise SpecError(
            "scaling: auto with negative weights needs a task to be kept or added, and the suite has images and heads "
            "of none but those to be forgotten; give a number for scaling"
        )
    tasks = tuple(task for group in groups.values() for task in group)
    evaluator.require(tasks, "val")
    bases = {name: vectors.base[name].to(context.device, torch.float32) for name in vectors.names}

    def measure(scaling: float) -> Accuracy:
        state = {name: base + scaling * directions[name] for name, base in bases.items()}
        return evaluator.accuracy(state, tasks, "val")

    def means(found: Sequence[Accuracy], group: Group) -> tuple[float, ...]:
        return tuple(one.mean(groups[group]) for one in found)

    def best(found: Sequence[Accuracy]) -> int:
        return most_forgetting(means(found, "forgotten"), means(found, _watched(groups)))

    scalings, found = search_grid(grid, measure, best, context)
    return ForgettingSearch(scalings, {group: means(found, group) for group in groups}, found[0].images)


def grouped(tasks: Sequence[str], weights: Mapping[str, float]) -> dict[Group, tuple[str, ...]]:
    """The groups that have tasks, in the order of :data:`GROUPS`."""
    groups = {group: tuple(task for task in tasks if group_of(weights.get(task, 0)) == group) for group in GROUPS}
    return {group: members for group, members in groups.items() if members}


def weights_in_words(weights: Mapping[str, float], labels: Mapping[str, str] = {}) -> str:
    """What was done with which task vector; tasks are called by their labels, if they have one.

    >>> weights_in_words({"digits": -0.5, "roads": 1.0, "signs": 0.0})
    'digits subtracted (−0.5), roads added (1), signs left out (0)'
    """

    def words(task: str, weight: float) -> str:
        verb = "subtracted" if weight < 0 else "added" if weight > 0 else "left out"
        return f"{labels.get(task, task)} {verb} ({printed(weight or 0.0)})"

    return ", ".join(words(task, weight) for task, weight in weights.items())
