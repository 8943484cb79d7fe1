"""The scaling coefficient λ: given, or chosen on the validation split.

Every merge that computes one direction v per tensor ends in ``θ₀ + λ v``. With λ = ``auto`` the direction is computed
once and the accuracy on validation images decides. The grid of λ is made for sums of many task vectors; fewer of them,
or trimmed or averaged ones, may need more. So a grid whose last value is the best goes on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import Field

from merging.core.errors import SpecError
from merging.core.streaming import ordered
from merging.evaluation.accuracy import Accuracy, best_first
from merging.methods.context import Context
from merging.methods.params import GRID, WIDE_GRID, OnValidation
from merging.methods.planned import TensorMerge
from merging.suites.suite import Split
from merging.weights.resident import at_once
from merging.weights.vectors import StackFunction, TaskVectors

Coefficient = Annotated[float, Field(ge=-10, le=10)]
CHOOSING_SCALING = "choosing the scaling coefficient (scaling: auto)"  # what images are for
Scaling = Annotated[Coefficient | Literal["auto"], OnValidation(scaling=True)]
FARTHEST = 3.0  # where a grid ends at the latest
PATIENCE = 3  # values in a row that are no better than the best, after which a grid goes on no more

Found = TypeVar("Found")


@dataclass(frozen=True)
class ScalingSearch:
    """Validation accuracy at every λ tried; the smallest of the best is chosen."""

    scalings: tuple[float, ...]
    accuracies: tuple[float, ...]
    split: str
    images: int

    @property
    def chosen(self) -> float:
        """The smallest of the best λ."""
        return self.scalings[first_best(self.accuracies)]

    def report(self) -> dict[str, object]:
        """As kept with a run; ``at_edge`` says that a larger λ than those tried may do better."""
        return {
            "scaling": self.chosen,
            "scaling_search": {
                "scalings": list(self.scalings),
                "average_accuracy": list(self.accuracies),
                "split": self.split,
                "images": self.images,
                "at_edge": self.chosen == self.scalings[-1],
            },
        }


def first_best(accuracies: Sequence[float]) -> int:
    """Where the first of the largest values stands, of those that differ by more than rounding."""
    return best_first(accuracies)[0]


def search_grid(
    grid: Sequence[float],
    measure: Callable[[float], Found],
    best: Callable[[Sequence[Found]], int],
    context: Context,
) -> tuple[tuple[float, ...], tuple[Found, ...]]:
    """What was found at every λ of a grid, which goes on in its last step where its last value is the best.

    It goes on until :data:`PATIENCE` values in a row are no better than the best, as accuracy on few images is no
    smooth curve, and at most to :data:`FARTHEST`.

    Args:
        grid: rising values.
        measure: gives what is found at one λ.
        best: gives the place of the best of what was found so far.
        context: told of progress.

    Returns:
        every λ tried, and what was found there.
    """
    step = grid[-1] - grid[-2] if len(grid) > 1 else math.inf  # a single value is tried alone
    beyond = range(1, 1 + int((FARTHEST - grid[-1]) / step + 1e-9))
    scalings = [*grid, *(round(grid[-1] + step * number, 6) for number in beyond)]
    found: list[Found] = []
    for done, scaling in enumerate(scalings):
        if done == len(grid) and best(found) < done - 1:
            break  # the best lies within the grid
        if done > len(grid) and done - 1 - best(found) >= PATIENCE:
            break
        context.step(done, max(len(grid), done + 1), f"choosing λ on validation: {scaling:g}")
        found.append(measure(scaling))
    return tuple(scalings[: len(found)]), tuple(found)


def search_scaling(
    vectors: TaskVectors, directions: dict[str, torch.Tensor], context: Context, grid: tuple[float, ...] = GRID
) -> ScalingSearch:
    """Evaluate ``θ₀ + λ v`` on the validation images of all tasks for every λ of a grid, see :func:`search_grid`.

    Args:
        vectors: the (edited) task vectors.
        directions: v of every floating-point tensor.
        context: device and the evaluator.
        grid: the values of λ.

    Raises:
        MissingPart: the suite has no validation images or heads.
    """
    context.need_images(CHOOSING_SCALING, vectors.tasks)
    scalings, found = search_averages(grid, accuracy_along(vectors, directions, "val", context), context)
    return ScalingSearch(scalings, tuple(one.average for one in found), "val", found[0].images)


def search_averages(
    grid: Sequence[float], measure: Callable[[float], Accuracy], context: Context
) -> tuple[tuple[float, ...], tuple[Accuracy, ...]]:
    """:func:`search_grid` for the best average accuracy."""
    return search_grid(grid, measure, lambda seen: first_best([one.average for one in seen]), context)


def accuracy_along(
    vectors: TaskVectors, directions: dict[str, torch.Tensor], split: Split, context: Context, stored: bool = False
) -> Callable[[float], Accuracy]:
    """Accuracy of ``θ₀ + λ v`` on all images of a split, as a function of λ.

    Args:
        vectors: the (edited) task vectors.
        directions: v of every floating-point tensor.
        split: which images.
        context: device and the evaluator.
        stored: whether weights are rounded to the base's dtype first, as those of runs are.

    Raises:
        MissingPart: the suite has no such images or heads.
    """
    evaluator = context.need_images("accuracy over λ", vectors.tasks)
    evaluator.require(vectors.tasks, split)
    bases = {name: vectors.base[name].to(context.device, torch.float32) for name in vectors.names}

    def measure(scaling: float) -> Accuracy:
        state = {name: base + scaling * directions[name] for name, base in bases.items()}
        if stored:
            state = {name: tensor.to(vectors.base[name].dtype) for name, tensor in state.items()}
        return evaluator.accuracy(state, vectors.tasks, split)

    return measure


def computed(vectors: TaskVectors, direction: StackFunction, context: Context) -> dict[str, torch.Tensor]:
    """The direction of every tensor, all of them in memory."""

    def one(name: str) -> torch.Tensor:
        base, stack = vectors.stack(name, context.device, passing=True)
        found = _one_a_weight(direction(name, base, stack), name, base)
        return found.clone() if found.untyped_storage().data_ptr() == stack.untyped_storage().data_ptr() else found

    found = {}
    for done, tensor in enumerate(ordered(one, vectors.names, context.device, at_once(vectors, context.device))):
        found[vectors.names[done]] = tensor
        context.step(done + 1, len(vectors.names), "computing the direction")
    return found


def _one_a_weight(direction: torch.Tensor, name: str, base: torch.Tensor) -> torch.Tensor:
    """A direction that is added to a tensor, if its shape is the tensor's: others would be spread over it unseen."""
    if direction.shape != base.shape:
        raise SpecError(
            f"of tensor {name!r} the direction has shape {list(direction.shape)}; expected {list(base.shape)}, "
            "a number for each weight"
        )
    return direction


def scaled(
    vectors: TaskVectors, scaling: float | Literal["auto"], direction: StackFunction, context: Context
) -> TensorMerge:
    """The merge ``θ₀ + λ v`` with v computed tensor by tensor.

    Args:
        vectors: the (edited) task vectors.
        scaling: λ, or auto for the best on validation, from :data:`WIDE_GRID` on.
        direction: v of one tensor, from its name, θ₀ and the stack ``[T, *shape]``.
        context: device and evaluator.

    Raises:
        MissingPart: λ is to be chosen and the suite has no validation images or heads.
        SpecError: when it merges a tensor, where v is of another shape.
    """
    if scaling != "auto":
        return TensorMerge(
            lambda name, base, stack: base + scaling * _one_a_weight(direction(name, base, stack), name, base)
        )
    context.need_images(CHOOSING_SCALING, vectors.tasks)  # before the work
    found = computed(vectors, direction, context)
    search = search_scaling(vectors, found, context, WIDE_GRID)
    return TensorMerge(lambda name, base, stack: base + search.chosen * found[name], search.report())
