"""Finished runs side by side, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merging.context import Context
from merging.errors import RunError
from merging.evaluation import Evaluator
from merging.paired import Comparison, compare, confusion
from merging.runs.predictions import evaluator_of, predictions_of
from merging.runs.store import Run
from merging.suites.suite import Split
from merging.workspace import Workspace

MAX_RUNS = 4  # more side by side can't be read


@dataclass(frozen=True)
class RunComparison:
    """Some runs on the same images; the first is the reference.

    Attributes:
        runs: the runs.
        split: which images.
        labels: task → true classes, int64 ``[N]``, for the tasks that all runs have in common.
        predictions: for each run the same of what it predicts.
        pairs: each run but the first against the first.
        classes: task → number of classes.
    """

    runs: tuple[Run, ...]
    split: Split
    labels: dict[str, np.ndarray]
    predictions: tuple[dict[str, np.ndarray], ...]
    pairs: tuple[Comparison, ...]
    classes: dict[str, int]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that all runs have in common."""
        return tuple(self.labels)

    @property
    def images(self) -> int:
        """Number of images over all tasks."""
        return sum(map(len, self.labels.values()))

    def right(self, run: int, task: str) -> np.ndarray:
        """Whether a run is right about each image of a task: bool ``[N]``."""
        answers: np.ndarray = self.predictions[run][task] == self.labels[task]
        return answers

    def accuracy(self, run: int, task: str) -> float:
        """Share of a task's images about which a run is right, 0 … 1."""
        return float(self.right(run, task).mean())

    def average(self, run: int) -> float:
        """Mean of a run's accuracies, each task counting the same."""
        return sum(self.accuracy(run, task) for task in self.tasks) / len(self.tasks)

    def confusion(self, run: int, task: str) -> np.ndarray:
        """How often a run takes class i (row) for class j (column): ``[classes, classes]``."""
        return confusion(self.labels[task], self.predictions[run][task], self.classes[task])

    def only_right(self, run: int, other: int, task: str) -> np.ndarray:
        """Indices of the images about which one run is right and another wrong."""
        return np.flatnonzero(self.right(run, task) & ~self.right(other, task))


def require_comparable(runs: Sequence[Run]) -> tuple[str, ...]:
    """The tasks that some runs have in common, in the order of the first.

    Raises:
        RunError: fewer than two runs or too many, one twice, one that is not done, different splits, or no task in
            common.
    """
    if not 2 <= len(runs) <= MAX_RUNS or len({run.id for run in runs}) < len(runs):
        raise RunError(f"expected two to {MAX_RUNS} different runs to compare, got {len(runs)}")
    for run in runs:
        if run.state != "done":
            raise RunError(f"run {run.id} is {run.state}; only finished runs can be compared")
    if len({run.spec.split for run in runs}) > 1:
        raise RunError("these runs were made for different splits; compare runs that share one")
    tasks = tuple(task for task in runs[0].spec.tasks if all(task in run.spec.tasks for run in runs))
    if not tasks:
        raise RunError("these runs have no task in common")
    return tasks


def compare_runs(
    runs: Sequence[Run], workspace: Workspace, context: Context | None = None, seed: int = 0
) -> RunComparison:
    """Set finished runs side by side on the images of the tasks that they have in common.

    Args:
        runs: two to :data:`MAX_RUNS`; the first is the reference.
        workspace: where they are.
        context: progress and cancellation, where predictions have to be measured.
        seed: of the resampling for intervals.

    Raises:
        RunError: as :func:`require_comparable`, or the runs' suites have other images or other heads for a task.
        MergingError: a run's weights are gone or its checkpoints have changed, or a task has no images or head.
    """
    tasks = require_comparable(runs)
    split, evaluators = runs[0].spec.split, [evaluator_of(run, workspace) for run in runs]
    for run, evaluator in zip(runs[1:], evaluators[1:], strict=True):
        _require_same_images(run, evaluators[0], evaluator, tasks, split)
    predictions = tuple(
        {task: found[task] for task in tasks}
        for found in (predictions_of(run, workspace, one, context) for run, one in zip(runs, evaluators, strict=True))
    )
    labels = {task: np.asarray(evaluators[0].image_set(task, split).labels) for task in tasks}
    right = [{task: found[task] == labels[task] for task in tasks} for found in predictions]
    classes = {task: len(evaluators[0].head(task)) for task in tasks}
    return RunComparison(tuple(runs), split, labels, predictions, tuple(compare(right[0], right[1:], seed)), classes)


def _require_same_images(run: Run, first: Evaluator, other: Evaluator, tasks: Sequence[str], split: Split) -> None:
    for task in tasks:
        sets = [evaluator.image_set(task, split).fingerprint for evaluator in (first, other)]
        if sets[0] != sets[1] or len(first.head(task)) != len(other.head(task)):
            raise RunError(
                f"run {run.id}: its suite has other images or classes for task {task!r} than the first run's"
            )
