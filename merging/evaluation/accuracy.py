"""Accuracy per task: what it is of, means of it, what is left out of it, and which is the best."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from merging.core.text import counted, in_a_row

SAME_ACCURACY = 1e-9  # means of shares, 0 … 1, that differ by less are the same: an image counts more, rounding less


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy, 0 … 1.

    Attributes:
        per_task: task → accuracy.
        counts: task → number of images.
        split: which images.
        skipped: task → number of images that can't be read and are left out, where there are some.
    """

    per_task: dict[str, float]
    counts: dict[str, int]
    split: str
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def average(self) -> float:
        """Mean over tasks, each counting the same."""
        return self.mean(tuple(self.per_task))

    def mean(self, tasks: Sequence[str]) -> float:
        """Mean over some of the tasks, at least one."""
        return sum(self.per_task[task] for task in tasks) / len(tasks)

    @property
    def images(self) -> int:
        """Number of images over all tasks."""
        return sum(self.counts.values())


def joined(parts: Sequence[Accuracy]) -> Accuracy:
    """Accuracies on different tasks and the same split as one."""
    per_task = {task: value for part in parts for task, value in part.per_task.items()}
    counts = {task: value for part in parts for task, value in part.counts.items()}
    skipped = {task: value for part in parts for task, value in part.skipped.items()}
    return Accuracy(per_task, counts, parts[0].split, skipped)


def skipped_in_words(skipped: Mapping[str, Mapping[str, int]]) -> str:
    """Images that are left out of results as they can't be read: split → task → number, as a sentence.

    >>> skipped_in_words({"test": {"roads": 2, "digits": 1}}), skipped_in_words({})
    ("Left out, as they can't be read: 2 test images of roads, 1 test image of digits.", '')
    """
    each = [
        f"{counted(number, f'{split} image')} of {task}"
        for split, tasks in skipped.items()
        for task, number in tasks.items()
    ]
    return f"Left out, as they can't be read: {', '.join(each)}." if each else ""


def about_images(skipped: Mapping[str, Mapping[str, int]], warnings: Iterable[str]) -> str:
    """What a reader of numbers has to know of the images behind them, in sentences; empty if nothing.

    >>> about_images({"test": {"roads": 2}}, ["val images of roads: nearly black"])
    "Left out, as they can't be read: 2 test images of roads. Val images of roads: nearly black."
    """
    return " ".join(filter(None, [skipped_in_words(skipped), *(f"{one[:1].upper()}{one[1:]}." for one in warnings)]))


def whose(places: Mapping[str, Iterable[str]]) -> str:
    """Split → tasks, in words.

    >>> whose({"test": ["roads"], "val": ["roads"]}), whose({"test": ["roads", "digits"], "val": ["roads"]})
    ('test and val images of roads', 'test images of roads and digits and val images of roads')
    """
    splits: dict[tuple[str, ...], list[str]] = {}
    for split, tasks in places.items():
        splits.setdefault(tuple(tasks), []).append(split)
    return in_a_row(f"{in_a_row(those)} images of {in_a_row(tasks)}" for tasks, those in splits.items())


def normalised_accuracy(accuracy: Mapping[str, float], individual: Mapping[str, float]) -> float | None:
    """Normalised accuracy: the mean over tasks of accuracy divided by that of the task's own model.

    As in the papers of TALL masks (arXiv 2405.07813) and TSV-M (arXiv 2412.00081): the mean of the ratios, not the
    ratio of the means, so that every task counts the same, however hard it is.

    Args:
        accuracy: task → accuracy of the merged model, 0 … 1.
        individual: task → accuracy of the model fine-tuned on it, 0 … 1, for at least the same tasks.

    Returns:
        1 for what one model a task reaches; None if a task's own accuracy is not known, or 0.
    """
    if not accuracy or not all(individual.get(task) for task in accuracy):
        return None
    return sum(value / individual[task] for task, value in accuracy.items()) / len(accuracy)


def best_first(values: Sequence[float]) -> list[int]:
    """Places of accuracies, the largest first; those that rounding alone sets apart stay in their order.

    The mean of 0.7 and 0.9 is not quite that of 0.8 and 0.8 in floating point, and which is larger is no finding.

    >>> best_first([0.5, 0.9 - 1e-16, 0.9])
    [1, 2, 0]
    """
    falling = sorted(range(len(values)), key=lambda index: -values[index])
    groups: list[list[int]] = []
    for index in falling:
        if groups and values[groups[-1][0]] - values[index] <= SAME_ACCURACY:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [index for group in groups for index in sorted(group)]
