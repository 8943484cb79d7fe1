"""A job: what a method is worth on fewer and on more tasks, each time on the tasks that were merged.

The more tasks, the harder they are to merge: papers report 8, 14 and 20 of them (TALL masks, arXiv 2405.07813).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from merging.core.errors import SpecError
from merging.runs.jobs.measuring import ByTask, Measuring, require_clean_test
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.model_job import Bench, ModelResult
from merging.runs.jobs.parts import Effort, InParts
from merging.suites.images.shifts import CLEAN


class SubsetAccuracy(BaseModel):
    """Some tasks, and task → accuracy, 0 … 1, of the model that was merged from theirs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tasks: list[str]
    accuracy: ByTask


class SubsetsResult(ModelResult):
    """Every subset; task → accuracy of the base and of the task's own model, number of images; which images."""

    subsets: list[SubsetAccuracy] = Field(default_factory=list)
    zero_shot: ByTask = Field(default_factory=dict)
    individual: ByTask = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    split: str = "test"


class SubsetsJob(InParts):
    """Merge several subsets of the tasks, and measure each merge on its own tasks."""

    result: ClassVar[type[SubsetsResult]] = SubsetsResult
    without: ClassVar[str] = "What this method is worth on other numbers of tasks can't be shown."
    of: ClassVar[str] = "subsets"
    job: Literal["subsets"] = "subsets"
    subsets: tuple[tuple[str, ...], ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"{super().label}, by the number of tasks"

    @model_validator(mode="after")
    def _of_its_tasks(self) -> Self:
        require_clean_test(self, "measures each subset on clean test images of its own tasks")
        for subset in self.subsets:
            strange = [task for task in subset if task not in self.tasks]
            if strange or not subset:
                lacks = f"{', '.join(strange)} in it" if strange else "no task in it"
                raise SpecError(f"subsets of tasks: a subset has {lacks}; expected some of {', '.join(self.tasks)}")
            MergeSpec.like(self, tasks=subset)  # says what is wrong with one
        if len(set(self.subsets)) < len(self.subsets):
            raise SpecError("subsets of tasks: each must be named once")
        return self

    @property
    def effort(self) -> Effort:
        """A merge for each subset."""
        passes = sum(map(len, self.subsets)) / len(self.tasks)
        return Effort(len(self.subsets), passes, passes / len(self.subsets))

    def joined(self, found: Mapping[tuple[str, ...], SubsetsResult]) -> dict[str, Any]:
        """The subsets that are known."""
        splits = ((subset, result.subsets) for subset, result in found.items())
        return {"subsets": [next(one for one in of if tuple(one.tasks) == subset) for subset, of in splits]}

    def measure(self, bench: Bench) -> SubsetsResult:
        """As many merges as there are subsets; accuracies that are known already are not measured again.

        Raises:
            MissingPart: a task has no images or head.
            MergingError: whatever the methods raise.
        """
        evaluator = bench.context.need_images("accuracy by the number of tasks", self.tasks)
        evaluator.prepare(self.tasks, "test")
        measuring = Measuring(bench, 2 * len(self.tasks) + sum(map(len, self.subsets)))
        zero_shot, individual = measuring.zero_shot(self.tasks, CLEAN), measuring.individual(self.tasks)
        found = []
        for subset in self.subsets:
            accuracy = measuring.of(MergeSpec.like(self, tasks=subset), subset, [CLEAN])[CLEAN]
            found.append(SubsetAccuracy(tasks=list(subset), accuracy=accuracy))
        counts = {task: evaluator.count(task, "test") for task in self.tasks}
        return SubsetsResult(subsets=found, zero_shot=zero_shot, individual=individual, counts=counts)
