"""How published methods do as the number of merged tasks grows, as jobs of :mod:`merging.runs.jobs.subsets`."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from merging.core.errors import SpecError
from merging.evaluation.accuracy import normalised_accuracy
from merging.methods.presets import Preset
from merging.runs.beyond import average, spread
from merging.runs.jobs.measuring import ByTask
from merging.runs.jobs.subsets import SubsetsJob, SubsetsResult
from merging.runs.leaderboard import spec_of

MOST_SUBSETS = 3  # of a size
_SIZES = 4  # of numbers of tasks, where nobody chose any


@dataclass(frozen=True)
class ByCount:
    """A method, the base, or the tasks' own models, on subsets of several sizes.

    Attributes:
        name: of the preset, ``zero_shot`` or ``individual``.
        title: what people call it.
        averages: number of tasks → mean accuracy over the tasks of every subset of that size, 0 … 1.
        normalised: the same for normalised accuracy; without subsets in which a task's own model is never right.
    """

    name: str
    title: str
    averages: dict[int, list[float]]
    normalised: dict[int, list[float]]

    def values(self, relative: bool) -> dict[int, list[float]]:
        """Accuracies, or normalised ones."""
        return self.normalised if relative else self.averages


def sizes_at_first(tasks: int) -> list[int]:
    """Numbers of tasks to begin with, from two to all of them.

    >>> sizes_at_first(8), sizes_at_first(20), sizes_at_first(3), sizes_at_first(1)
    ([2, 4, 6, 8], [2, 8, 14, 20], [2, 3], [1])
    """
    low = min(2, tasks)
    return sorted({round(low + (tasks - low) * step / (_SIZES - 1)) for step in range(_SIZES)})


def subsets_of(
    tasks: Sequence[str], sizes: Sequence[int], number: int = MOST_SUBSETS, seed: int = 0
) -> list[tuple[str, ...]]:
    """Subsets of some tasks, smaller ones first: of every size all, or as many as wanted, which the seed draws.

    Those of a size do not depend on the other sizes.

    Raises:
        SpecError: there are no subsets of such a size, or none is wanted.
    """
    strange = [size for size in sizes if not 1 <= size <= len(tasks)]
    if strange or not sizes:
        asked = ", ".join(map(str, strange)) or "none"
        raise SpecError(
            f"numbers of tasks: {asked}; expected numbers from 1 to {len(tasks)}, as there are so many tasks"
        )
    if number < 1:
        raise SpecError(f"at most {number} subsets of a size: expected at least one")
    found: list[tuple[str, ...]] = []
    for size in sorted(set(sizes)):
        if math.comb(len(tasks), size) <= number:
            found += itertools.combinations(tasks, size)
            continue
        draw, drawn = random.Random(f"{seed} {size}"), set[tuple[int, ...]]()
        while len(drawn) < number:
            drawn.add(tuple(sorted(draw.sample(range(len(tasks)), size))))
        found += [tuple(tasks[place] for place in places) for places in sorted(drawn)]
    return found


def subsets_job(
    preset: Preset, suite: str, tasks: Sequence[str], subsets: Sequence[Sequence[str]], device: str
) -> SubsetsJob:
    """What is to be done for a method."""
    return SubsetsJob.like(spec_of(preset, suite, tasks, device), subsets=tuple(map(tuple, subsets)))


def by_count(name: str, title: str, result: SubsetsResult, accuracy: Sequence[ByTask] | None = None) -> ByCount:
    """What a job found, by the number of tasks.

    Args:
        name: of the method.
        title: what people call it.
        result: what the job found.
        accuracy: task → accuracy in every subset; that of the merges by default.
    """
    averages: dict[int, list[float]] = {}
    normalised: dict[int, list[float]] = {}
    for subset, found in zip(result.subsets, accuracy or [one.accuracy for one in result.subsets], strict=True):
        here = {task: found[task] for task in subset.tasks}
        averages.setdefault(len(here), []).append(average(list(here.values())))
        share = normalised_accuracy(here, result.individual)
        if share is not None:
            normalised.setdefault(len(here), []).append(share)
    return ByCount(name, title, averages, normalised)


def baselines_by_count(result: SubsetsResult) -> tuple[ByCount, ByCount]:
    """The base model, and one model a task, on the same subsets."""
    several = len(result.subsets)
    return (
        by_count("zero_shot", "Zero-shot", result, [result.zero_shot] * several),
        by_count("individual", "Individual", result, [result.individual] * several),
    )


def rows_by_count(found: Sequence[tuple[Preset, SubsetsResult]]) -> list[ByCount]:
    """The base, the tasks' own models, and every method."""
    methods = (by_count(preset.name, preset.title, result) for preset, result in found)
    return [*baselines_by_count(found[0][1]), *methods]


def task_counts_report(found: Sequence[tuple[Preset, SubsetsResult]]) -> dict[str, Any]:
    """JSON-ready: the subsets, accuracy by method, subset and task, 0 … 1; means and spreads by size."""
    first, rows = found[0][1], rows_by_count(found)

    def said(values: dict[int, list[float]]) -> dict[str, Any]:
        return {str(size): {"average": average(of), "spread": spread(of)} for size, of in values.items()}

    return {
        "split": first.split,
        "methods": [preset.name for preset, _ in found],
        "titles": {preset.name: preset.title for preset, _ in found},
        "sizes": list(rows[0].averages),
        "subsets": [one.tasks for one in first.subsets],
        "accuracy": {preset.name: [dict(one.accuracy) for one in result.subsets] for preset, result in found},
        "zero_shot": dict(first.zero_shot),
        "individual": dict(first.individual),
        "averages": {row.name: said(row.averages) for row in rows},
        "normalised": {row.name: said(row.normalised) for row in rows},
    }
