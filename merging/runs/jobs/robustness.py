"""A job: what corrupted images cost a merged model.

A method is planned once on clean images, and its weights are measured under every shift. One that adapts on the images
it is measured on is planned anew for each shift besides, as published (AdaMerging, arXiv 2310.02575): the difference
says how much of its robustness comes from adapting. λ and whatever else is chosen on validation is chosen on clean
images in either case.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from merging.core.errors import SpecError
from merging.runs.jobs.measuring import ByTask, Measuring, require_clean_test
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.model_job import Bench, ModelResult
from merging.runs.jobs.parts import Effort, InParts
from merging.suites.images.shifts import CLEAN, AnyShift, Shift, shift_of, shift_text


class RobustnessResult(ModelResult):
    """Accuracy, 0 … 1, on clean and on corrupted test images.

    Attributes:
        shifts: as :meth:`merging.suites.images.shifts.Shift.read` takes them.
        clean: task → accuracy on clean images.
        accuracy: shift → task → accuracy of the same weights.
        adapted: the same of weights that were adapted on the shift; None where nothing is adapted on test images.
        zero_shot: ``clean`` or shift → task → accuracy of the base.
        counts: task → number of images.
        split: which images.
    """

    shifts: list[str] = Field(default_factory=list)
    clean: ByTask = Field(default_factory=dict)
    accuracy: dict[str, ByTask] = Field(default_factory=dict)
    adapted: dict[str, ByTask] | None = None
    zero_shot: dict[str, ByTask] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    split: str = "test"


class RobustnessJob(InParts):
    """Merge once, and measure on clean images and under several shifts."""

    result: ClassVar[type[RobustnessResult]] = RobustnessResult
    without: ClassVar[str] = "What corrupted images cost this method can't be shown."
    of: ClassVar[str] = "shifts"
    job: Literal["robustness"] = "robustness"
    shifts: tuple[Shift, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"{super().label}, on corrupted images"

    @field_validator("shifts", mode="before")
    @classmethod
    def _shifts_from_text(cls, values: Any) -> Any:
        return [shift_of(value) for value in values] if isinstance(values, list | tuple) else values

    @model_validator(mode="after")
    def _on_test_images(self) -> Self:
        require_clean_test(self, "measures the merged tasks on test images, clean and under its shifts")
        if len(set(self.shifts)) < len(self.shifts):
            named = ", ".join(map(shift_text, self.shifts))
            raise SpecError(f"corrupted images: each shift must be named once, got {named}")
        return self

    @property
    def _shifts(self) -> Sequence[AnyShift]:
        return self.shifts

    @property
    def effort(self) -> Effort:
        """One merge, and where it adapts on test images another for each shift."""
        adapted = len(self.shifts) if self.pair.adapts_on_test else 0
        return Effort(1 + adapted, 1 + len(self.shifts) + adapted)

    def joined(self, found: Mapping[Shift, RobustnessResult]) -> dict[str, Any]:
        """Accuracy under the shifts that are known."""
        by_text = {shift.text: result for shift, result in found.items()}
        adapted = {text: of[text] for text, result in by_text.items() if (of := result.adapted) is not None}
        clean = {CLEAN: next(iter(by_text.values())).zero_shot[CLEAN]}
        return {
            "shifts": list(by_text),
            "accuracy": {text: result.accuracy[text] for text, result in by_text.items()},
            "adapted": adapted or None,
            "zero_shot": clean | {text: result.zero_shot[text] for text, result in by_text.items()},
        }

    def measure(self, bench: Bench) -> RobustnessResult:
        """Accuracies that are known already are not measured again.

        Raises:
            MissingPart: a task has no images or head.
            MergingError: whatever the methods raise.
        """
        evaluator = bench.context.need_images("accuracy on corrupted images", self.tasks)
        evaluator.prepare(self.tasks, "test")
        shifts: tuple[AnyShift, ...] = (CLEAN, *self.shifts)
        adapted = [MergeSpec.like(self, shift=shift) for shift in self.shifts] if self.pair.adapts_on_test else []
        passes = len(self.tasks) * (2 * len(shifts) + len(adapted))
        measuring = Measuring(bench, passes)
        found = measuring.of(MergeSpec.like(self), self.tasks, shifts)
        on_shift: dict[str, ByTask] = {}
        for spec in adapted:
            on_shift |= measuring.of(spec, self.tasks, [spec.shift])
        zero_shot = {shift_text(shift): measuring.zero_shot(self.tasks, shift) for shift in shifts}
        return RobustnessResult(
            shifts=[*map(shift_text, self.shifts)],
            clean=found.pop(CLEAN),
            accuracy=found,
            adapted=on_shift or None,
            zero_shot=zero_shot,
            counts={task: evaluator.count(task, "test") for task in self.tasks},
        )
