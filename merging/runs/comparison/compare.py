"""Finished runs side by side, image by image."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from merging.core.errors import RunError
from merging.evaluation.evaluator import Evaluator
from merging.evaluation.paired import LEVEL, RESAMPLES, Comparison, compare, confusion
from merging.methods.context import Context
from merging.runs.jobs.merge_result import Coefficients
from merging.runs.jobs.predictions import evaluator_of, predictions_of
from merging.runs.naming import name_runs
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites.suite import Split

MAX_RUNS = 4  # more side by side can't be read
MAX_CLASSES = 40  # of a drawn confusion matrix; more cells can't be told apart


@dataclass(frozen=True)
class RunComparison:
    """Some runs on the same images; the first is the reference.

    Attributes:
        runs: the runs.
        split: which images.
        labels: task → true classes, int64 ``[N]``, for the tasks that all runs have in common.
        predictions: for each run the same of what it predicts.
        pairs: each run but the first against the first; tasks that any of the runs is to forget count in no mean.
        classes: task → names of its classes, numbered where the suite does not name them.
    """

    runs: tuple[Run, ...]
    split: Split
    labels: dict[str, np.ndarray]
    predictions: tuple[dict[str, np.ndarray], ...]
    pairs: tuple[Comparison, ...]
    classes: dict[str, tuple[str, ...]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that all runs have in common."""
        return tuple(self.labels)

    @property
    def images(self) -> int:
        """Number of images over all tasks."""
        return sum(map(len, self.labels.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """What to call the runs, no two the same."""
        named = name_runs(self.runs)
        return tuple(named[run.id] for run in self.runs)

    def right(self, run: int, task: str) -> np.ndarray:
        """Whether a run is right about each image of a task: bool ``[N]``."""
        answers: np.ndarray = self.predictions[run][task] == self.labels[task]
        return answers

    def accuracy(self, run: int, task: str) -> float:
        """Share of a task's images about which a run is right, 0 … 1."""
        return float(self.right(run, task).mean())

    @property
    def forgotten(self) -> frozenset[str]:
        """The tasks that any of the runs is to forget."""
        return self.pairs[0].forgotten

    def average(self, run: int) -> float:
        """Mean of a run's accuracies over the tasks that no run is to forget, each counting the same; else NaN."""
        return self.pairs[0].reference if run == 0 else self.pairs[run - 1].accuracy

    def confusion(self, run: int, task: str) -> np.ndarray:
        """How often a run takes class i (row) for class j (column): ``[classes, classes]``."""
        return confusion(self.labels[task], self.predictions[run][task], len(self.classes[task]))

    def shares(self, run: int, task: str) -> np.ndarray:
        """The same in percent of the images of each class; 0 for classes without any."""
        table = self.confusion(run, task).astype(float)
        counts = table.sum(axis=1, keepdims=True)
        percent: np.ndarray = 100 * np.divide(table, counts, out=np.zeros_like(table), where=counts > 0)
        return percent

    def only_right(self, run: int, other: int, task: str) -> np.ndarray:
        """Indices of the images about which one run is right and another wrong."""
        return np.flatnonzero(self.right(run, task) & ~self.right(other, task))


def require_comparable(runs: Sequence[Run]) -> tuple[str, ...]:
    """The tasks that some runs have in common, in the order of the first.

    Raises:
        RunError: fewer than two runs or too many, one twice, one that is not done, different splits or shifts, or no
            task in common.
    """
    if not 2 <= len(runs) <= MAX_RUNS or len({run.id for run in runs}) < len(runs):
        raise RunError(f"expected two to {MAX_RUNS} different runs to compare, got {len(runs)}")
    for run in runs:
        if run.state != "done":
            raise RunError(f"run {run.id} is {run.state}; only finished runs can be compared")
    if len({run.spec.split for run in runs}) > 1:
        raise RunError("these runs were made for different splits; compare runs that share one")
    seen = {run.spec.images for run in runs}
    if len(seen) > 1:
        raise RunError(
            f"these runs were measured on images corrupted in different ways ({'; '.join(sorted(seen))}); compare runs "
            "on the same images"
        )
    tasks = tuple(task for task in runs[0].spec.tasks if all(task in run.spec.tasks for run in runs))
    if not tasks:
        raise RunError("these runs have no task in common")
    return tasks


def compare_runs(runs: Sequence[Run], workspace: Workspace, context: Context | None = None) -> RunComparison:
    """Set finished runs side by side on the images of the tasks that they have in common.

    Args:
        runs: two to :data:`MAX_RUNS`; the first is the reference.
        workspace: where they are.
        context: progress and cancellation, where predictions have to be measured.

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
    classes = {task: _class_names(evaluators[0], task) for task in tasks}
    forgotten = {task for run in runs for task in run.spec.forgotten}
    pairs = compare(right[0], right[1:], forgotten=forgotten)
    return RunComparison(tuple(runs), split, labels, predictions, tuple(pairs), classes)


def _class_names(evaluator: Evaluator, task: str) -> tuple[str, ...]:
    return evaluator.suite.task(task).classes or tuple(f"class {index}" for index in range(len(evaluator.head(task))))


def _require_same_images(run: Run, first: Evaluator, other: Evaluator, tasks: Sequence[str], split: Split) -> None:
    for task in tasks:
        sets = [evaluator.image_set(task, split).fingerprint for evaluator in (first, other)]
        if sets[0] != sets[1] or len(first.head(task)) != len(other.head(task)):
            raise RunError(
                f"run {run.id}: its suite has other images or classes for task {task!r} than the first run's"
            )


def shown_classes(first: np.ndarray, second: np.ndarray) -> list[int]:
    """Which classes of two confusion matrices ``[C, C]`` to draw: at most :data:`MAX_CLASSES`, in order.

    Kept are those whose rows and columns differ most.
    """
    change = np.abs(second - first)
    by_change = np.argsort(-(change.sum(axis=0) + change.sum(axis=1)), kind="stable")
    return sorted(int(index) for index in by_change[:MAX_CLASSES])


def subtracted(first: Coefficients | None, second: Coefficients | None) -> Coefficients | None:
    """Coefficients of the second of two linear runs minus those of the first, for the tasks and tensors of both.

    Returns:
        None if one is not linear, or they have no tensor or no task in common.
    """
    if first is None or second is None:
        return None
    tasks = [task for task in first.tasks if task in second.tasks]
    tensors = [name for name in first.tensors if name in set(second.tensors)]
    if not tasks or not tensors:
        return None

    def cut(coefficients: Coefficients) -> np.ndarray:
        rows = [coefficients.tasks.index(task) for task in tasks]
        places = {name: index for index, name in enumerate(coefficients.tensors)}
        return np.array(coefficients.table)[np.ix_(rows, [places[name] for name in tensors])]

    return Coefficients(tasks=tasks, tensors=tensors, table=(cut(second) - cut(first)).tolist())


def comparison_row(found: RunComparison) -> dict[str, Any]:
    """A comparison as JSON-ready values; mean differences are None where all tasks are to be forgotten."""
    pairs = [
        {
            "run": run.id,
            "name": name,
            **{key: getattr(pair, key) if pair.counted else None for key in ("difference", "low", "high")},
            "tasks": {
                task: {**asdict(one), "difference": one.difference, "verdict": one.verdict}
                for task, one in pair.tasks.items()
            },
        }
        for run, name, pair in zip(found.runs[1:], found.names[1:], found.pairs, strict=True)
    ]
    return {
        "reference": found.runs[0].id,
        "split": found.split,
        "images": found.images,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "forgotten": sorted(found.forgotten),
        "runs": pairs,
    }
