"""A job, drop one out: what each task costs the others in a merge with fixed parameters.

Entry (i, j) of the matrix is the accuracy of task i with all tasks minus that with all but j: negative where j disturbs
i, positive where it helps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from merging.core.errors import SpecError
from merging.core.progress import Progress
from merging.evaluation.accuracy import SAME_ACCURACY
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.plan import plan
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.model_job import Bench, ModelJob, ModelResult
from merging.weights.geometry import COSINE_ROUNDING

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace

_LIKELY = 0.05  # chance up to which a correlation counts as more than chance


@dataclass(frozen=True)
class Agreement:
    """How far a symmetric matrix of similarities goes along with a matrix of changes, over all pairs i ≠ j.

    Attributes:
        pearson: linear correlation coefficient; NaN where one side is constant.
        spearman: the same of ranks.
        chance: share of relabellings of the tasks (a Mantel test) with at least this |pearson|. Pairs share tasks, so
            they are not independent, and the usual test of a correlation would promise too much.
        pairs: T (T − 1).
    """

    pearson: float
    spearman: float
    chance: float
    pairs: int

    @property
    def beyond_chance(self) -> bool:
        """Whether the correlation counts as more than chance; one that is NaN does not."""
        return self.chance <= _LIKELY


class InterferenceResult(ModelResult):
    """What each task costs the others.

    Attributes:
        tasks: T names.
        accuracy: of the merge of all, 0 … 1, ``[T]``.
        without: ``[T][T]``, whose row j is accuracy of all tasks where j was left out.
        change: ``[T][T]``, entry (i, j) as in :mod:`merging.runs.jobs.interference`.
        counts: task → number of images.
        split: which images.
        images: their number over all tasks.
    """

    tasks: list[str] = Field(default_factory=list)
    accuracy: list[float] = Field(default_factory=list)
    without: list[list[float]] = Field(default_factory=list)
    change: list[list[float]] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    split: str = "val"
    images: int = 0


class InterferenceJob(ModelJob):
    """Merge all tasks, then all but each one, and measure every task each time."""

    result: ClassVar[type[InterferenceResult]] = InterferenceResult
    without: ClassVar[str] = "Who disturbs whom can't be shown for this method."
    job: Literal["interference"] = "interference"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"{super().label}, leaving out each task"

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        if len(self.tasks) < 2:
            raise SpecError(f"job {self.kind}: expected at least two tasks, got {list(self.tasks)}")
        if self.data.chosen:
            names = ", ".join(self.data.chosen)
            raise SpecError(f"job {self.kind}: {names} must be fixed, or every subset would get its own")
        return self

    def measure(self, bench: Bench) -> InterferenceResult:
        """As many merges as there are tasks, and one.

        Raises:
            MissingPart: a task has no images or head.
            MergingError: whatever the methods raise.
        """
        context = bench.context
        evaluator = context.need_images("Drop one out", self.tasks)
        evaluator.prepare(self.tasks, self.split)
        all_tasks = MergeSpec.like(self)
        merges = {"all tasks": all_tasks, **{f"without {task}": _without(all_tasks, task) for task in self.tasks}}
        rows = []
        for done, (what, part) in enumerate(merges.items()):
            inner = replace(context, on_progress=_as_part_of(context, done, len(merges), what))
            rows.append(_measured(part, self.tasks, bench.workspace, evaluator, inner))
        together, apart = np.array(rows[0]), np.array(rows[1:])
        counts = {task: evaluator.count(task, self.split) for task in self.tasks}
        return InterferenceResult(
            tasks=list(self.tasks),
            accuracy=together.tolist(),
            without=apart.tolist(),
            change=(together[:, None] - apart.T).tolist(),
            counts=counts,
            split=self.split,
            images=sum(counts.values()),
        )


def _without(spec: MergeSpec, left_out: str) -> MergeSpec:
    """The same merge without one task; parameters that list a number for each task lose its number."""
    place = spec.tasks.index(left_out)

    def shortened(params: Mapping[str, Any]) -> dict[str, Any]:
        def lists(value: Any) -> bool:
            return isinstance(value, (list, tuple)) and len(value) == len(spec.tasks)

        return {
            name: [one for index, one in enumerate(value) if index != place] if lists(value) else value
            for name, value in params.items()
        }

    return MergeSpec.like(
        spec,
        tasks=tuple(task for task in spec.tasks if task != left_out),
        edit_params=shortened(spec.edit_params),
        merge_params=shortened(spec.merge_params),
    )


def _as_part_of(context: Context, done: int, total: int, what: str) -> Progress:
    """Reports of one merge as reports of the whole job, which counts merges."""

    def report(inner_done: int, inner_total: int, message: str) -> None:
        context.on_progress(done, total, f"leaving out, {what}: {message}")

    return report


def _measured(
    spec: MergeSpec, tasks: tuple[str, ...], workspace: "Workspace", evaluator: Evaluator, context: Context
) -> list[float]:
    """Accuracy of one merge on some tasks; one that a localised merge has no model for is served by the base."""
    suite = evaluator.suite
    if spec.edit == "awd":
        context = replace(context, known_geometry=workspace.geometry(suite, spec.tasks, context))
    planned = plan(workspace.vectors(suite, spec.tasks), spec.pair, context)
    state = dict(planned.tensors(context))
    if not planned.per_task:
        found = evaluator.accuracy(state, tasks, spec.split, context).per_task
        return [found[task] for task in tasks]
    served = [planned.served(state, task) if task in spec.tasks else suite.base_checkpoint for task in tasks]
    pairs = zip(served, tasks, strict=True)
    return [evaluator.accuracy(one, [task], spec.split, context).per_task[task] for one, task in pairs]


def agreement(similarity: np.ndarray, change: np.ndarray, relabellings: int = 2000, seed: int = 0) -> Agreement:
    """Whether similar tasks change each other's accuracy more than others do.

    Args:
        similarity: symmetric ``[T, T]``, such as cosines.
        change: ``[T, T]``, see :mod:`merging.runs.jobs.interference`.
        relabellings: how many random orders of the tasks are compared with theirs.
        seed: draws them.

    Raises:
        SpecError: fewer than three tasks: there is nothing to correlate.
    """
    tasks = len(similarity)
    if tasks < 3:
        raise SpecError(f"correlation over pairs of tasks: expected at least three tasks, got {tasks}")
    off = ~np.eye(tasks, dtype=bool)
    x, y = similarity[off], change[off]
    alike = np.ptp(x) <= COSINE_ROUNDING or np.ptp(y) <= SAME_ACCURACY  # else rounding would be correlated
    found = float("nan") if alike else _pearson(x, y)
    random = np.random.default_rng(seed)
    orders = [random.permutation(tasks) for _ in range(relabellings)]
    # Cosines carry rounding, so an order that only swaps equals is as strong, whatever the last digits say.
    as_strong = sum(abs(_pearson(similarity[np.ix_(o, o)][off], y)) >= abs(found) - COSINE_ROUNDING for o in orders)
    chance = (1 + as_strong) / (1 + relabellings) if np.isfinite(found) else float("nan")
    return Agreement(found, _pearson(_ranks(x, COSINE_ROUNDING), _ranks(y, SAME_ACCURACY)), chance, len(x))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    a, b = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 1e-15 else float("nan")


def _ranks(values: np.ndarray, rounding: float) -> np.ndarray:
    """Rank of every value from 0; values that are equal but for ``rounding`` share the mean of theirs."""
    below = (values[None] < values[:, None] - rounding).sum(axis=1)
    equal = (np.abs(values[None] - values[:, None]) <= rounding).sum(axis=1)
    ranks: np.ndarray = below + (equal - 1) / 2
    return ranks
