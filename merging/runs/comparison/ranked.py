"""Any number of finished runs as one table of accuracies: the best of every column, and what can't be told from it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from merging.core.errors import MergingError, RunError
from merging.evaluation.evaluator import Evaluator
from merging.evaluation.paired import LEVEL, RESAMPLES, SIGNIFICANCE, compare, holm, mcnemar
from merging.methods.context import Context
from merging.runs.jobs.predictions import evaluator_of, known_predictions, predictions_of
from merging.runs.run import Run
from merging.runs.workspace import Workspace

AVERAGE = "Average"
TIE, UNTESTED = "≈", "?"


@dataclass(frozen=True)
class Cell:
    """An accuracy in its column.

    Attributes:
        value: 0 … 1; None where the run was not measured on the task.
        best: whether no other of the column is higher.
        tied: whether the paired test shows no difference to the best one; None where that could not be tested.
    """

    value: float | None
    best: bool = False
    tied: bool | None = None


@dataclass(frozen=True)
class RankedRuns:
    """Some runs on the same images.

    Attributes:
        runs: the runs, in the order in which they were chosen.
        names: what to call them, no two the same.
        tasks: the tasks that any of them was measured on.
        averaged: those that all of them were measured on and none is to forget; the average is over these.
        cells: run's id → column, a task or :data:`AVERAGE` → its cell.
        tests: number of paired tests that the marks are corrected for.
        untested: run's id → why it could not be tested.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    tasks: tuple[str, ...]
    averaged: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    tests: int
    untested: Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The tasks, and the average if there is one."""
        return (*self.tasks, AVERAGE) if self.averaged else self.tasks

    @property
    def _shown(self) -> list[Cell]:
        return [self.cells[run.id][column] for run in self.runs for column in self.columns]

    def mark(self, cell: Cell) -> str:
        """What stands behind an accuracy that is not the best: whether the test tells it from that, and was made."""
        if cell.best or cell.value is None or not self.tests:
            return ""
        return UNTESTED if cell.tied is None else TIE if cell.tied else ""

    @property
    def how(self) -> str:
        """What the marks stand for, in whole sentences."""
        average = ""
        if self.averaged:
            over = "all tasks" if self.averaged == self.tasks else f"the {len(self.averaged)} tasks that all runs share"
            average = f" The average is the mean over {over}."
        if len(self.runs) < 2:
            return f"Top-1 accuracy in percent.{average}"
        said = f"Top-1 accuracy in percent; the best of each column in bold.{average}"
        if not self.tests:
            return f"{said} No paired test was made."
        said += (
            f" {TIE}: no difference from the best is shown, by McNemar's exact test, two-sided, on the same images "
            f"(p of {SIGNIFICANCE:g} or more after Holm's correction for {self.tests} tests)"
        )
        if self.averaged:
            said += (
                f"; of averages, where the {100 * LEVEL:.0f} % interval of the difference holds 0 (paired bootstrap, "
                f"{RESAMPLES:,} resamples of the images within each task)"
            )
        if any(cell.tied is None and not cell.best and cell.value is not None for cell in self._shown):
            said += f". {UNTESTED}: not tested"
        return f"{said}. All of this is about these images, not about other seeds or checkpoints."


def require_rankable(runs: Sequence[Run]) -> None:
    """Insist on runs whose accuracies may stand in one table.

    Raises:
        RunError: there is none, one twice or not measured, or they were measured on different images.
    """
    if not runs or len({run.id for run in runs}) < len(runs):
        raise RunError("expected one or more different runs")
    for run in runs:
        if run.merged is None or not run.merged.accuracy:
            raise RunError(f"run {run.id} has no accuracies ({run.state}); choose finished runs that were measured")
    kinds = sorted({run.spec.images for run in runs})
    if len(kinds) > 1:
        raise RunError(
            f"these runs were measured on different images ({'; '.join(kinds)}); a table needs the same ones"
        )
    counts: dict[str, tuple[str, int]] = {}
    for run in runs:
        for task, count in ((run.merged.counts if run.merged else None) or {}).items():
            other, before = counts.setdefault(task, (run.id, count))
            if before != count:
                raise RunError(
                    f"runs {other} and {run.id} were measured on {before} and {count} images of task {task!r}; a table "
                    "needs the same ones"
                )


def rank_runs(
    runs: Sequence[Run],
    names: Sequence[str],
    workspace: Workspace,
    context: Context | None = None,
    measure: bool = True,
) -> RankedRuns:
    """Set finished runs side by side, and test what differs from the best on the same images.

    Runs whose weights, checkpoints or suite are not here stand in the table, untested.

    Args:
        runs: any number.
        names: what to call them.
        workspace: where they are.
        context: progress and cancellation, where predictions have to be measured.
        measure: whether they are; else only runs whose predictions are known are tested.

    Raises:
        RunError: as :func:`require_rankable`.
    """
    require_rankable(runs)
    measured = {run.id: run.merged.measured for run in runs if run.merged}
    tasks = tuple(dict.fromkeys(task for found in measured.values() for task in found))
    forgotten = {task for run in runs for task in run.spec.forgotten}
    averaged = tuple(
        task for task in tasks if task not in forgotten and all(task in found for found in measured.values())
    )
    right, untested = _answers(runs, workspace, context or Context(), measure) if len(runs) > 1 else ({}, {})
    values: dict[str, dict[str, float]] = {
        run.id: {
            **measured[run.id],
            **({AVERAGE: sum(measured[run.id][task] for task in averaged) / len(averaged)} if averaged else {}),
        }
        for run in runs
    }
    tied, tests = _ties(values, right, averaged)
    columns = (*tasks, AVERAGE)
    best = {column: max(found.get(column, -math.inf) for found in values.values()) for column in columns}
    cells = {
        run.id: {
            column: Cell(
                values[run.id].get(column),
                values[run.id].get(column) == best[column],
                tied.get((run.id, column)),
            )
            for column in columns
        }
        for run in runs
    }
    return RankedRuns(tuple(runs), tuple(names), tasks, averaged, cells, tests, untested)


Answers = Mapping[str, np.ndarray]  # task → whether a run is right about each image, bool [N]


def _answers(
    runs: Sequence[Run], workspace: Workspace, context: Context, measure: bool
) -> tuple[dict[str, Answers], dict[str, str]]:
    """What each run is right about, and why that is not known of others."""
    right: dict[str, Answers] = {}
    untested: dict[str, str] = {}
    first: Evaluator | None = None
    for run in runs:
        try:
            evaluator = evaluator_of(run, workspace)
            found = known_predictions(run, workspace, evaluator)
            if len(found) < len(run.spec.tasks):
                if not measure:
                    raise RunError("its answers for every image are not measured yet; the page Compare measures them")
                found = predictions_of(run, workspace, evaluator, context)
            first = first or evaluator
            answers = {}
            for task, predicted in found.items():
                images = evaluator.image_set(task, run.spec.split)
                if task in first.suite.task_names and first.suite.measurable(task):
                    _require_same(task, images.fingerprint, first.image_set(task, run.spec.split).fingerprint)
                answers[task] = predicted == np.asarray(images.labels)
                _require_agreement(run, task, answers[task])
            right[run.id] = answers
        except MergingError as error:
            untested[run.id] = str(error)
    return right, untested


def _require_same(task: str, one: str, other: str) -> None:
    if one != other:
        raise RunError(f"its suite has other images of task {task!r} than the first run's")


def _require_agreement(run: Run, task: str, right: np.ndarray) -> None:
    """Insist on predictions that give the accuracy that the run has: numbers from elsewhere may not fit the images."""
    said = (run.merged.accuracy or {}).get(task) if run.merged else None
    if said is not None and abs(float(right.mean()) - said) > 0.5 / max(1, len(right)):
        raise RunError(
            f"its answers on task {task!r} give {100 * float(right.mean()):.1f} %, while its result says "
            f"{100 * said:.1f} %; it may be of other images"
        )


def _ties(
    values: Mapping[str, Mapping[str, float]], right: Mapping[str, Answers], averaged: Sequence[str]
) -> tuple[dict[tuple[str, str], bool], int]:
    """Run and column → whether it can't be told from the best of the column; and the number of tests for that."""
    places: list[tuple[str, str]] = []
    tests: list[float] = []
    tied: dict[tuple[str, str], bool] = {}
    columns = dict.fromkeys(column for found in values.values() for column in found if column != AVERAGE)
    for column in columns:
        leader = _leader(values, column, right)
        for run_id, answers in right.items():
            if run_id != leader and column in answers and column in right.get(leader, {}):
                ours, best = answers[column], right[leader][column]
                places.append((run_id, column))
                tests.append(mcnemar(int((ours & ~best).sum()), int((best & ~ours).sum())))
    tied |= dict(zip(places, (p >= SIGNIFICANCE for p in holm(tests)), strict=True))
    leader = _leader(values, AVERAGE, right) if averaged else ""
    if leader in right and set(averaged) <= right[leader].keys():
        others = [run_id for run_id in right if run_id != leader and set(averaged) <= right[run_id].keys()]
        cut = {run_id: {task: right[run_id][task] for task in averaged} for run_id in (leader, *others)}
        for run_id, one in zip(others, compare(cut[leader], [cut[other] for other in others]), strict=True):
            tied[run_id, AVERAGE] = one.low <= 0 <= one.high
    return tied, len(tests)


def _leader(values: Mapping[str, Mapping[str, float]], column: str, right: Collection[str]) -> str:
    """The run with the highest value of a column; of several the first, rather one that can be tested."""
    return max(values, key=lambda run_id: (values[run_id].get(column, -math.inf), run_id in right))
