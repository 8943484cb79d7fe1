"""What merged models are good for beyond clean images of their own tasks, for several published methods at once.

One job a method (:mod:`merging.runs.jobs.robustness`, :mod:`merging.runs.jobs.generalisation`); what was done before is
taken from the table of runs, and the methods are those of the leaderboard, λ chosen on clean validation images.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merging.core.errors import MissingPart, SpecError
from merging.core.text import counted
from merging.methods.presets import Preset
from merging.runs.jobs.generalisation import GeneralisationJob, GeneralisationResult
from merging.runs.jobs.measuring import ByTask
from merging.runs.jobs.robustness import RobustnessJob, RobustnessResult
from merging.runs.leaderboard import spec_of
from merging.suites.images.corruptions import (
    CORRUPTIONS,
    READY,
    READY_TEXT,
    SEVERITIES,
    find_corruption,
    require_severity,
    severity_text,
)
from merging.suites.images.shifts import CLEAN, Shift
from merging.suites.images.suite_images import require_ready
from merging.suites.suite import Suite

AT_FIRST = ("task_arithmetic", "awd_ta", "adamerging", "wudi_closed_form")  # methods, where nobody chose any
MOST_SPLITS = 10
ON_CLEAN = "_on_clean"  # ends the name of a method that adapted on clean images, beside the one as published
_ON_CLEAN_TITLE = " (on clean)"  # where it adapted


@dataclass(frozen=True)
class Robustness:
    """A method on clean and on corrupted test images.

    Attributes:
        name: of the preset, with :data:`ON_CLEAN` at its end where it adapted on clean images.
        title: what people call it.
        method: the published method, whose look charts take.
        clean: task → accuracy on clean images, 0 … 1.
        accuracy: shift → task → accuracy.
    """

    name: str
    title: str
    method: str
    clean: ByTask
    accuracy: Mapping[str, ByTask]

    @property
    def on_clean(self) -> bool:
        """Whether it adapted on clean images in place of those that it is measured on."""
        return self.name.endswith(ON_CLEAN)

    @property
    def published_name(self) -> str:
        """The name of the same method as published."""
        return self.name.removesuffix(ON_CLEAN)

    @property
    def on_average(self) -> float:
        """Mean over the tasks on clean images."""
        return mean(self.clean)

    def mean(self, shift: str) -> float | None:
        """Mean over the tasks, on clean images or under a shift; None where that is not measured."""
        found = self.clean if shift == CLEAN else self.accuracy.get(shift)
        return None if found is None else mean(found)

    def over(self, shifts: Sequence[str]) -> float:
        """Mean over shifts that are measured."""
        return sum(mean(self.accuracy[shift]) for shift in shifts) / len(shifts)

    def relative(self, shift: str) -> float | None:
        """Mean accuracy under a shift over that on clean images; None where that is 0, or nothing is measured."""
        found = self.mean(shift)
        return found / self.on_average if found is not None and self.on_average else None


def mean(accuracy: ByTask) -> float:
    """Mean over tasks, each counting the same."""
    return sum(accuracy.values()) / len(accuracy)


def robustness_of(preset: Preset, result: RobustnessResult) -> list[Robustness]:
    """What a job found of a method: one row, or two of a method that adapts, as published and on clean images."""
    plain = Robustness(preset.name, preset.title, preset.title, result.clean, result.accuracy)
    if result.adapted is None:
        return [plain]
    name, title = f"{preset.name}{ON_CLEAN}", f"{preset.title}{_ON_CLEAN_TITLE}"
    return [
        Robustness(preset.name, preset.title, preset.title, result.clean, result.adapted),
        Robustness(name, title, preset.title, result.clean, result.accuracy),
    ]


def zero_shot_of(*results: RobustnessResult) -> Robustness:
    """The base model on the same images, under every shift of any of some results on the same tasks."""
    found = {shift: accuracy for result in results for shift, accuracy in result.zero_shot.items()}
    return Robustness("zero_shot", "Zero-shot", "Zero-shot", found.pop(CLEAN), found)


def measured_for_all(rows: Sequence[Robustness], corruptions: Sequence[str], severities: Sequence[int]) -> list[str]:
    """Those of some corruptions under which all rows are measured, at every one of some severities."""

    def known(corruption: str) -> bool:
        shifts = (Shift(corruption=corruption, severity=severity).text for severity in severities)
        return all(shift in row.accuracy for shift in shifts for row in rows)

    return [corruption for corruption in corruptions if known(corruption)]


def shifts_of(corruptions: Sequence[str] = tuple(CORRUPTIONS), severities: Sequence[int] = SEVERITIES) -> list[Shift]:
    """Every corruption at every severity, each once, in the order of published tables.

    Raises:
        SpecError: there is no such corruption or severity, or none is named.
    """
    wanted = {find_corruption(name).name for name in corruptions}
    levels = sorted({severity if severity == READY else require_severity(severity) for severity in severities})
    if not wanted or not levels:
        raise SpecError("expected at least one corruption and one severity")
    return [Shift(corruption=name, severity=level) for name in CORRUPTIONS if name in wanted for level in levels]


def ways_of_leaving_out(
    tasks: Sequence[str], number: int, most: int = MOST_SPLITS, seed: int = 0
) -> list[tuple[str, ...]]:
    """The ways to leave a number of tasks out; of more than ``most`` a sample that the seed draws, in their order.

    A larger sample holds all of a smaller one, so that what was measured for that counts.

    Raises:
        SpecError: that many can't be left out.
    """
    if not 1 <= number < len(tasks):
        raise SpecError(_not_left_out(number, len(tasks)))
    if most < 1:
        raise SpecError(f"at most {most} ways of leaving tasks out: expected at least one")
    every = list(itertools.combinations(tasks, number))
    shuffled = random.Random(seed).sample(range(len(every)), len(every))
    return [every[place] for place in sorted(shuffled[:most])]


def _not_left_out(number: int, tasks: int) -> str:
    if tasks < 2:
        return f"of {counted(tasks, 'task')} none can be left out, as at least one has to be merged; choose more tasks"
    few = "1" if tasks == 2 else f"1 to {tasks - 1}"
    return f"{counted(number, 'task')} can't be left out of {tasks}: leave out {few}, so that at least one is merged"


def robustness_job(
    preset: Preset, suite: str, tasks: Sequence[str], shifts: Sequence[Shift], device: str
) -> RobustnessJob:
    """What is to be done for a method."""
    return RobustnessJob.like(spec_of(preset, suite, tasks, device), shifts=tuple(shifts))


def generalisation_job(
    preset: Preset, suite: str, tasks: Sequence[str], left_out: Sequence[Sequence[str]], device: str
) -> GeneralisationJob:
    """What is to be done for a method.

    Raises:
        SpecError: it gives each task a model of its own, so that there is none for unseen tasks, or the tasks that are
            left out can't be.
    """
    return GeneralisationJob.like(spec_of(preset, suite, tasks, device), left_out=tuple(map(tuple, left_out)))


def require_measurable(suite: Suite, tasks: Sequence[str], shifts: Sequence[Shift] = ()) -> None:
    """Insist on images and heads before anything is computed, and on corrupted ones where data sets are to carry them.

    Raises:
        MissingPart: a task has none, or its data set does not carry them.
        SuiteError: those are damaged, or not of its classes.
    """
    lacking = [task for task in tasks if not suite.measurable(task)]
    if lacking:
        raise MissingPart(
            f"suite {suite.name!r}: {', '.join(lacking)} lack images or a head, so their accuracy can't be measured; "
            "add `data` and `head` in suite.yaml, or leave these tasks out"
        )
    for shift in shifts:
        if shift.ready:
            for task in tasks:
                require_ready(suite, task, shift.corruption)


def robustness_report(rows: Sequence[Robustness], zero_shot: Robustness, shifts: Sequence[Shift]) -> dict[str, Any]:
    """JSON-ready: accuracy by method, corruption, severity and task, 0 … 1, and relative to that on clean images."""

    def by_place(row: Robustness, value: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for shift in shifts:
            found.setdefault(shift.corruption, {})[severity_text(shift.severity)] = value(row, shift.text)
        return found

    def accuracy(row: Robustness) -> dict[str, dict[str, Any]]:
        return by_place(row, lambda one, shift: dict(one.accuracy[shift]))

    return {
        "split": "test",
        "methods": [row.name for row in rows],
        "titles": {row.name: row.title for row in rows},
        "corruptions": list(dict.fromkeys(shift.corruption for shift in shifts)),
        "severities": [
            READY_TEXT if severity == READY else severity for severity in sorted({shift.severity for shift in shifts})
        ],
        "accuracy": {row.name: accuracy(row) for row in rows},
        "clean": {row.name: dict(row.clean) for row in rows},
        "relative": {row.name: by_place(row, Robustness.relative) for row in rows},
        "zero_shot": {"clean": dict(zero_shot.clean), "accuracy": accuracy(zero_shot)},
    }


@dataclass(frozen=True)
class Generalisation:
    """A method on tasks that were merged and on tasks that were not.

    Attributes:
        name: of the preset.
        title: what people call it.
        seen: mean accuracy over the seen tasks in every split, 0 … 1.
        unseen: the same over the unseen ones.
        accuracy: task → accuracy in every split.
    """

    name: str
    title: str
    seen: list[float]
    unseen: list[float]
    accuracy: list[ByTask]


def generalisation_of(preset: Preset, result: GeneralisationResult) -> Generalisation:
    """What a job found of a method."""
    splits = result.splits
    return Generalisation(
        preset.name,
        preset.title,
        [one.mean(one.seen) for one in splits],
        [one.mean(one.unseen) for one in splits],
        [one.accuracy for one in splits],
    )


def base_on(result: GeneralisationResult) -> Generalisation:
    """The base model in the same splits."""
    splits = [one.model_copy(update={"accuracy": result.zero_shot}) for one in result.splits]
    return Generalisation(
        "zero_shot",
        "Zero-shot",
        [one.mean(one.seen) for one in splits],
        [one.mean(one.unseen) for one in splits],
        [result.zero_shot for _ in splits],
    )


def average(values: Sequence[float]) -> float:
    """Mean over the splits."""
    return sum(values) / len(values)


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over the splits; None where there is but one."""
    if len(values) < 2:
        return None
    middle = average(values)
    return float((sum((value - middle) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def gains(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    """What a method gains over the base in every split: pairs, so that how hard a split is does not count."""
    return [value - other for value, other in zip(values, reference, strict=True)]


def generalisation_report(rows: Sequence[Generalisation], result: GeneralisationResult) -> dict[str, Any]:
    """JSON-ready: the splits, and accuracy by method, split (in their order) and task, 0 … 1; means and spreads.

    Of methods also the gain over zero-shot, and its spread: that of the differences within the splits.
    """
    base = base_on(result)

    def said(row: Generalisation) -> dict[str, dict[str, Any]]:
        return {
            part: {"average": average(values), "spread": spread(values)}
            for part, values in (("seen", row.seen), ("unseen", row.unseen))
        }

    averages = {row.name: said(row) for row in (*rows, base)}
    for row in rows:
        for part, values, reference in (("seen", row.seen, base.seen), ("unseen", row.unseen, base.unseen)):
            gained = gains(values, reference)
            averages[row.name][part] |= {"gain": average(gained), "gain_spread": spread(gained)}

    return {
        "split": result.split,
        "methods": [row.name for row in rows],
        "titles": {row.name: row.title for row in rows},
        "splits": [{"seen": one.seen, "unseen": one.unseen} for one in result.splits],
        "accuracy": {row.name: [dict(found) for found in row.accuracy] for row in rows},
        "zero_shot": dict(result.zero_shot),
        "averages": averages,
    }
