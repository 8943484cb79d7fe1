"""A job: accuracy over λ, on validation and on test images."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from merging.core.errors import SpecError
from merging.evaluation.accuracy import Accuracy
from merging.methods.plan import plan
from merging.methods.planned import LocalisedMerge
from merging.methods.scaling import accuracy_along, computed, first_best, search_averages
from merging.runs.jobs.model_job import Bench, ModelJob, ModelResult
from merging.suites.suite import Split


class Curve(BaseModel):
    """Accuracy at every λ on one split: mean over tasks ``[n]``, task → ``[n]``, 0 … 1, and the number of images."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    average: list[float] = Field(default_factory=list)
    per_task: dict[str, list[float]] = Field(default_factory=dict)
    images: int = 0

    @classmethod
    def of(cls, found: Sequence[Accuracy], tasks: Sequence[str]) -> "Curve":
        """From the accuracies at every λ."""
        return cls(
            average=[one.average for one in found],
            per_task={task: [one.per_task[task] for one in found] for task in tasks},
            images=found[0].images,
        )


class ScalingCurveResult(ModelResult):
    """The λ tried, the one chosen on validation (the smallest of the best), and both curves."""

    scalings: list[float] = Field(default_factory=list)
    scaling: float = 0.0
    val: Curve = Field(default_factory=Curve)
    test: Curve = Field(default_factory=Curve)

    def curve(self, split: Split) -> Curve:
        """The curve on one split."""
        return self.val if split == "val" else self.test


class ScalingCurveJob(ModelJob):
    """Measure a method at every λ of its grid; its direction is computed once."""

    result: ClassVar[type[ScalingCurveResult]] = ScalingCurveResult
    without: ClassVar[str] = "Accuracy over λ can't be drawn for this method."
    job: Literal["scaling_curve"] = "scaling_curve"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"{super().label}, accuracy over λ"

    @model_validator(mode="after")
    def _has_one_scaling(self) -> Self:
        if not isinstance(self.pair.scaling, (int, float)):
            raise SpecError(f"job {self.kind}: merge {self.merge!r} has no single λ (merge.scaling) to vary")
        return self

    def measure(self, bench: Bench) -> ScalingCurveResult:
        """Validation accuracies are those that ``scaling: auto`` chooses by.

        On test the weights are rounded to the base's dtype, so that the accuracies are those of runs with these λ.

        Raises:
            MissingPart: a task has no images or head.
        """
        context, tasks = bench.context, self.tasks
        evaluator = context.need_images("accuracy over λ", tasks)
        splits: tuple[Split, ...] = ("val", "test")
        for split in splits:
            evaluator.prepare(tasks, split)
        planned = plan(bench.vectors, self.pair.with_scaling(1.0), context)
        merge = planned.merge
        assert not isinstance(merge, LocalisedMerge)  # they have no λ
        found = computed(planned.edited, lambda name, base, stack: merge(name, base, stack) - base, context)
        scalings, val = search_averages(
            self.pair.scaling_grid, accuracy_along(planned.edited, found, "val", context), context
        )
        on_test, test = accuracy_along(planned.edited, found, "test", context, stored=True), []
        for done, scaling in enumerate(scalings):
            context.step(done, len(scalings), f"measuring on test: {scaling:g}")
            test.append(on_test(scaling))
        return ScalingCurveResult(
            scalings=list(scalings),
            scaling=scalings[first_best([one.average for one in val])],
            val=Curve.of(val, tasks),
            test=Curve.of(test, tasks),
        )
