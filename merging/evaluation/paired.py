"""Two models on the same images: how much their accuracies differ, how sure that is, and on which images.

Both models answer for the same images, so only those count that one gets right and the other wrong. Images that both
get right, or both wrong, say nothing of a difference, and taking the two accuracies for independent would hide most
differences that there are.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from merging.core.text import printed

RESAMPLES = 10_000
LEVEL = 0.95  # of the intervals
SIGNIFICANCE = 0.05

Verdict = Literal["better", "worse", "same"]
VERDICTS: dict[Verdict, str] = {"better": "better", "worse": "worse", "same": "no difference shown"}


HOW = (
    f"Intervals ({100 * LEVEL:.0f} %): percentile bootstrap, {RESAMPLES:,} resamples of the images within each task, "
    "seed 0, both runs on the same ones; the average is the mean over tasks. p: McNemar's exact test, two-sided, on "
    "the images that one run gets right and the other wrong; corrected by Holm's method for all tests in the table. "
    f"A verdict needs a corrected p below {SIGNIFICANCE:g}. All of this is about these images, not about other seeds "
    "or checkpoints."
)


@dataclass(frozen=True)
class TaskDifference:
    """A model against a reference on one task's images.

    Attributes:
        images: how many.
        reference: accuracy of the reference, 0 … 1.
        accuracy: accuracy of the model.
        better: images that only the model gets right.
        worse: images that only the reference gets right.
        low: lower end of the interval of the difference of accuracies.
        high: its upper end.
        p: of the paired test, see :func:`mcnemar`.
        adjusted: the same after Holm's correction for all tests of the comparison, see :func:`holm`.
    """

    images: int
    reference: float
    accuracy: float
    better: int
    worse: int
    low: float
    high: float
    p: float
    adjusted: float

    @property
    def difference(self) -> float:
        """Accuracy of the model minus that of the reference."""
        return (self.better - self.worse) / self.images

    @property
    def verdict(self) -> Verdict:
        """What the test says at :data:`SIGNIFICANCE`, after the correction; ``same``: no difference is shown."""
        if self.adjusted >= SIGNIFICANCE:
            return "same"
        return "better" if self.better > self.worse else "worse"


@dataclass(frozen=True)
class Comparison:
    """A model against a reference.

    Means are over the tasks that count, each the same; without any they are NaN.

    Attributes:
        tasks: task → difference.
        low: lower end of the interval of the mean difference.
        high: its upper end.
        forgotten: tasks that one of the models compared is to forget; they count in no mean.
    """

    tasks: dict[str, TaskDifference]
    low: float
    high: float
    forgotten: frozenset[str] = frozenset()

    @property
    def counted(self) -> dict[str, TaskDifference]:
        """The tasks that are in the means."""
        return {task: one for task, one in self.tasks.items() if task not in self.forgotten}

    @property
    def reference(self) -> float:
        """Mean accuracy of the reference."""
        return _mean([one.reference for one in self.counted.values()])

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the model."""
        return _mean([one.accuracy for one in self.counted.values()])

    @property
    def difference(self) -> float:
        """Mean accuracy of the model minus that of the reference."""
        return _mean([one.difference for one in self.counted.values()])

    def count(self, verdict: Verdict) -> int:
        """Number of tasks with this verdict, of those that count."""
        return sum(one.verdict == verdict for one in self.counted.values())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def compare(
    reference: Mapping[str, np.ndarray],
    models: Sequence[Mapping[str, np.ndarray]],
    seed: int = 0,
    forgotten: Collection[str] = (),
) -> list[Comparison]:
    """Compare models with a reference, each on the same images; Holm's correction is over all tasks of all models.

    Args:
        reference: task → whether the reference is right, bool ``[N]``.
        models: the same for each model, with the same tasks.
        seed: of the resampling.
        forgotten: tasks that are compared and count in no mean.

    Raises:
        ValueError: other tasks, or other numbers of images.
    """
    sizes = {task: len(right) for task, right in reference.items()}
    if not sizes or any({task: len(right) for task, right in model.items()} != sizes for model in models):
        raise ValueError(f"expected answers for {sizes} images of each model")
    counts = [{task: _discordant(model[task], reference[task]) for task in sizes} for model in models]
    tests = [mcnemar(*pair) for one in counts for pair in one.values()]
    p_values = zip(tests, holm(tests), strict=True)
    found = []
    for model, pairs in zip(models, counts, strict=True):
        drawn = {task: resampled(*pairs[task], size, task, seed) for task, size in sizes.items()}
        tasks = {
            task: TaskDifference(
                size,
                float(reference[task].mean()),
                float(model[task].mean()),
                *pairs[task],
                *_interval(drawn[task]),
                *next(p_values),
            )
            for task, size in sizes.items()
        }
        counted = [differences for task, differences in drawn.items() if task not in forgotten]
        interval = _interval(np.mean(counted, axis=0)) if counted else (math.nan, math.nan)
        found.append(Comparison(tasks, *interval, frozenset(forgotten) & tasks.keys()))
    return found


def _discordant(model: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
    """Images that only the model gets right, and that only the reference does."""
    return int((model & ~reference).sum()), int((reference & ~model).sum())


def resampled(better: int, worse: int, images: int, task: str, seed: int = 0) -> np.ndarray:
    """Differences of accuracy on images drawn again with replacement, both models on the same ones: ``[RESAMPLES]``.

    An image adds 1, −1 or 0 to the difference, so a resample is fully described by how many of each kind it holds;
    those counts are multinomial, which is what is drawn here. Every task has a stream of its own: for the mean over
    tasks, images are drawn within each task (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8, 13).

    Args:
        better: images that only the model gets right.
        worse: images that only the reference gets right.
        images: all images.
        task: seeds the stream together with the seed.
        seed: of all streams.
    """
    random = np.random.default_rng([seed, *task.encode()])
    shares = np.array([better, worse, images - better - worse]) / images
    drawn = random.multinomial(images, shares, RESAMPLES)
    difference: np.ndarray = (drawn[:, 0] - drawn[:, 1]) / images
    return difference


def _interval(differences: np.ndarray) -> tuple[float, float]:
    """The percentile interval at :data:`LEVEL`; of equal models it is [0, 0]."""
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mcnemar(better: int, worse: int) -> float:
    """p-value of McNemar's test in its exact form, two-sided: are the discordant images a fair coin's tosses?

    ``min(1, 2 · P(X ≤ min(better, worse)))`` with X binomial of n = better + worse and ½ (McNemar 1947,
    doi:10.1007/BF02295996; recommended for two classifiers on one test set by Dietterich 1998,
    doi:10.1162/089976698300017197). Without discordant images it is 1.

    >>> mcnemar(0, 0), mcnemar(5, 5), mcnemar(6, 0)
    (1.0, 1.0, 0.03125)
    """
    tosses, ways, tail = better + worse, 1, 0  # Python's whole numbers: exact for any number of images
    for heads in range(min(better, worse) + 1):
        tail += ways
        ways = ways * (tosses - heads) // (heads + 1)  # the next binomial coefficient
    return min(1.0, tail / (1 << tosses) * 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them: the k-th smallest of m times m − k + 1, never falling, at most 1.

    Rejecting where the adjusted value is below a level keeps the chance of any false rejection below it (Holm 1979,
    A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6).

    >>> holm([0.01, 0.04, 0.5])
    [0.03, 0.08, 0.5]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often images of class i (row) are taken for class j (column): int64 ``[classes, classes]``."""
    table: np.ndarray = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return table


def points(share: float) -> str:
    """A difference of accuracies in points.

    >>> points(-0.0052), points(0.25)
    ('−0.5', '+25.0')
    """
    return printed(100 * share, "+.1f")


def in_points(one: Comparison | TaskDifference) -> str:
    """A difference with its interval, in points.

    >>> in_points(TaskDifference(9, 0.0, 1.0, 9, 0, 1.0, 1.0, 0.004, 0.008))
    '+100.0 points (+100.0 to +100.0)'
    """
    return f"{points(one.difference)} points ({points(one.low)} to {points(one.high)})"


def comparison_in_words(comparison: Comparison, name: str, reference: str) -> str:
    """What came of a comparison, as a sentence.

    >>> one = TaskDifference(9, 0.0, 1.0, 9, 0, 1.0, 1.0, 0.004, 0.008)
    >>> two = TaskDifference(9, 0.5, 0.5, 1, 1, -0.3, 0.3, 1.0, 1.0)
    >>> comparison_in_words(Comparison({"a": one, "b": two}, 0.4, 0.6), "B", "A")[:74]
    'B against A: better on 1 task, no difference that these images show on 1; '
    """
    said: dict[Verdict, str] = {
        "better": "better on",
        "worse": "worse on",
        "same": "no difference that these images show on",
    }
    left_out = len(comparison.forgotten)
    apart = f"{left_out} {'task' if left_out == 1 else 'tasks'} to be forgotten" if left_out else ""
    counts = {verdict: comparison.count(verdict) for verdict in said if comparison.count(verdict)}
    if not counts:
        return f"{name} against {reference}: there is no average, as all that is compared is {apart}."
    parts = [f"{said[verdict]} {count}" for verdict, count in counts.items()]
    parts[0] += " task" if next(iter(counts.values())) == 1 else " tasks"
    without = f", without {apart}" if apart else ""
    return f"{name} against {reference}: {', '.join(parts)}; on average {in_points(comparison)}{without}."
