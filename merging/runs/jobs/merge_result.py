"""What came of a merge: accuracy, coefficients, what the methods report, and what was forgotten."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, computed_field, model_serializer

from merging.evaluation.accuracy import Accuracy
from merging.methods.forgetting import GROUPS, Group, grouped
from merging.runs.jobs.model_job import ModelResult
from merging.suites.images.shifts import CLEAN, Shift

_LENIENT = ConfigDict(frozen=True, extra="ignore")


class Coefficients(BaseModel):
    """The table c of a linear run: ``table[t][l]`` is what task t's vector is multiplied with in tensor l."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: list[str]
    tensors: list[str]
    table: list[list[Annotated[float, Field(strict=True)]]]


class DescribedGeometry(BaseModel):
    """Norms ``[T]``, cosines ``[T][T]`` and mean |cos| of task vectors over the whole model."""

    model_config = _LENIENT

    norms: list[float]
    cosine: list[list[float]]
    mean_abs: float


class ScalingSearchReport(BaseModel):
    """λ on validation: the values tried, mean accuracy at each, and whether the largest of them was the best."""

    model_config = _LENIENT

    scalings: list[float]
    average_accuracy: list[float]
    split: str = "val"
    images: int = 0
    at_edge: bool = False


class ForgettingSearchReport(BaseModel):
    """λ of a negation on validation; ``at_edge`` where a larger one than those tried may forget more."""

    model_config = ConfigDict(frozen=True, extra="allow")

    scalings: list[float]
    at_edge: bool = False


class AdaptedOn(BaseModel):
    """The images that an adaptive method learned from."""

    model_config = _LENIENT

    split: str
    images_seen: int = 0


class Storage(BaseModel):
    """Bits that localised models take, see :func:`merging.weights.localised.storage_report`."""

    model_config = _LENIENT

    base: int
    vector: int
    masks: int
    masks_compressed: int
    localised: int
    models: int


class MethodReport(BaseModel):
    """What an edit or a merge reports of itself: the parts that others read, and whatever else it says.

    Attributes:
        scaling: λ that was chosen on validation.
        scaling_search: how.
        forgetting_search: how, where task vectors are subtracted.
        thresholds: of masks, one a task, given or chosen.
        scales: factor of each task's part of a shared vector, where a localised merge has any.
        weights: task → coefficient, of a merge that weighs whole vectors.
        adapted_on: images that an adaptive method learned from.
        entropy: its mean prediction entropy a step, ``[steps][T]``.
        trajectory: its mean coefficient a step, ``[steps][T]``.
        snapshots: its coefficient tables now and then, ``[n][L][T]``.
        snapshot_every: steps between two of them.
        ended_after: the steps that it made, where somebody ended it before all of them.
        storage: what localised models take.
        active: share of active entries in each task's mask.
        units_because: what ``units`` came to and why, as a sentence without its end, see :mod:`merging.methods.units`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    scaling: float | None = None
    scaling_search: ScalingSearchReport | None = None
    forgetting_search: ForgettingSearchReport | None = None
    thresholds: list[float] | None = None
    scales: list[float] | None = None
    weights: dict[str, float] | None = None
    adapted_on: AdaptedOn | None = None
    entropy: list[list[float]] | None = None
    trajectory: list[list[float]] | None = None
    snapshots: list[list[list[float]]] | None = None
    snapshot_every: int | None = None
    ended_after: int | None = None
    storage: Storage | None = None
    active: list[float] | None = None
    units_because: str = ""

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said = {*self.model_fields_set, *(self.model_extra or {})}
        return {name: value for name, value in dump(self).items() if name in said}

    @property
    def at_edge(self) -> bool:
        """Whether the λ chosen is the largest that was tried, so that a larger one may do better."""
        search = self.scaling_search or self.forgetting_search
        return search is not None and search.at_edge


class BeforeAfter(BaseModel):
    """Accuracy of the base and of the merged model, 0 … 1."""

    model_config = _LENIENT

    before: float
    after: float


class TaskBeforeAfter(BeforeAfter):
    """The same on a task, with its number of images."""

    images: int = 0


class Remaining(BeforeAfter):
    """The same as a mean over so many tasks."""

    tasks: int


class Forgetting(BaseModel):
    """Accuracy of the base and of a merged model that subtracts task vectors.

    Attributes:
        split: which images.
        weights: merged task → the coefficient of its vector.
        forgotten: tasks that are to be forgotten.
        added: tasks whose vectors are added.
        kept: all others, which the model should leave alone.
        means: the three → their means, None where there is no such task.
    """

    model_config = _LENIENT

    split: str
    weights: dict[str, float]
    forgotten: dict[str, TaskBeforeAfter]
    added: dict[str, TaskBeforeAfter]
    kept: dict[str, TaskBeforeAfter]
    means: dict[Group, BeforeAfter | None]

    @classmethod
    def of(cls, before: Accuracy, after: Accuracy, weights: Mapping[str, float]) -> "Forgetting":
        """From zero-shot accuracy and the merged model's, on all tasks, and the coefficients of the merged ones."""
        groups = grouped(tuple(after.per_task), weights)
        rows: dict[str, Any] = {
            group: {
                task: {"before": before.per_task[task], "after": after.per_task[task], "images": after.counts[task]}
                for task in groups.get(group, ())
            }
            for group in GROUPS
        }
        means = {
            group: {"before": before.mean(groups[group]), "after": after.mean(groups[group])}
            if group in groups
            else None
            for group in GROUPS
        }
        return cls(split=after.split, weights=dict(weights), **rows, means=means)

    def rows(self, group: Group) -> dict[str, TaskBeforeAfter]:
        """The tasks of one group."""
        return {"forgotten": self.forgotten, "added": self.added, "kept": self.kept}[group]

    @property
    def images(self) -> int:
        """Number of images over all tasks."""
        return sum(row.images for group in GROUPS for row in self.rows(group).values())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def remaining(self) -> Remaining | None:
        """What the model is still good for: its mean over the tasks that are kept or added, each counting once.

        A mean with forgotten tasks in it would be the better the less was forgotten. None if all are to be forgotten.
        """
        rows = [row for group in GROUPS if group != "forgotten" for row in self.rows(group).values()]
        if not rows:
            return None
        means = {key: sum(getattr(row, key) for row in rows) / len(rows) for key in ("before", "after")}
        return Remaining(tasks=len(rows), **means)


class Unseen(BaseModel):
    """Accuracy, 0 … 1, on tasks that were not merged and that no method has looked at.

    Attributes:
        accuracy: unseen task → accuracy of the merged model.
        counts: unseen task → number of images.
        zero_shot: every task, merged or not → accuracy of the base.
    """

    model_config = _LENIENT

    accuracy: dict[str, float]
    counts: dict[str, int]
    zero_shot: dict[str, float]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def average(self) -> float:
        """Mean of the merged model over the unseen tasks."""
        return sum(self.accuracy.values()) / len(self.accuracy)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def zero_shot_average(self) -> float:
        """The base's mean over the unseen tasks."""
        return sum(self.zero_shot[task] for task in self.accuracy) / len(self.accuracy)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def zero_shot_seen(self) -> float:
        """The base's mean over the tasks that were merged."""
        seen = [value for task, value in self.zero_shot.items() if task not in self.accuracy]
        return sum(seen) / len(seen)


class MergeResult(ModelResult):
    """What came of a merge.

    Attributes:
        accuracy: task → top-1 accuracy, 0 … 1; None where nothing was measured, as the three that follow.
        average: their mean.
        images: number of images over all tasks.
        counts: task → number of images.
        split: which images.
        shift: what was done to them, see :mod:`merging.suites.images.shifts`; ``clean`` if nothing.
        forgetting: where task vectors are subtracted.
        unseen: where further tasks were asked for.
        after: geometry of the edited vectors; None without an edit.
        coefficients: of a linear run.
        edit: what the edit reports.
        merge: what the merge reports.
        warnings: sentences on what was hardly meant.
        revisions: of the edit and the merge that computed it, see :class:`merging.methods.registry.Revision`; None
            of runs made before that was recorded.
        sources: of an edit or a merge that is somebody's own: kind → SHA-256 of its source; None if both are built in.
        resident: whether base and models stayed on the device while they were merged; None on the CPU, and of methods
            that learn on images.
        output: name of the file that the weights were written to.
        kept: size and time of the file of weights that is kept with the run, where somebody else may write into it.
    """

    accuracy: dict[str, float] | None = None
    average: float | None = None
    split: str = "test"
    shift: str = CLEAN
    images: int | None = None
    counts: dict[str, int] | None = None
    forgetting: Forgetting | None = None
    unseen: Unseen | None = None
    after: DescribedGeometry | None = None
    coefficients: Coefficients | None = None
    edit: MethodReport = Field(default_factory=MethodReport)
    merge: MethodReport = Field(default_factory=MethodReport)
    warnings: list[str] = Field(default_factory=list)
    revisions: dict[str, int] | None = None
    sources: dict[str, str] | None = None
    resident: bool | None = None
    output: str | None = None
    kept: list[int] | None = None

    @property
    def shift_in_words(self) -> str:
        """What was done to the test images, as a sentence; empty if nothing."""
        return "" if self.shift == CLEAN else f"All test images are corrupted: {Shift.read(self.shift).label}."

    @property
    def measured(self) -> dict[str, float]:
        """Task → accuracy, 0 … 1: of the tasks merged and, of a run that forgets, of the bystanders."""
        kept = self.forgetting.kept if self.forgetting else {}
        return {**(self.accuracy or {}), **{task: row.after for task, row in kept.items()}}

    @property
    def score(self) -> float | None:
        """What to look at first: mean accuracy, 0 … 1, without tasks to be forgotten.

        None where nothing was measured, or nothing but tasks to be forgotten.
        """
        if self.forgetting is None:
            return self.average
        return None if self.forgetting.remaining is None else self.forgetting.remaining.after

    @property
    def units(self) -> list[str]:
        """What ``units`` came to, of the edit and of the merge, as sentences; empty if they have no such settings."""
        return [f"{one.units_because}." for one in (self.edit, self.merge) if one.units_because]

    @property
    def chosen(self) -> dict[str, Any]:
        """What ``auto`` stands for in the specification: the values that were chosen on validation images."""
        reports = (self.merge, self.edit)
        found = {name: [getattr(one, name) for one in reports] for name in ("scaling", "thresholds")}
        return {name: next(v for v in both if v is not None) for name, both in found.items() if both != [None, None]}
