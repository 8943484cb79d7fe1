"""A job: what a merged model is worth on tasks that were left out of it.

As in the AdaMerging paper (arXiv 2310.02575): the models of the *seen* tasks are merged, and seen and unseen tasks are
measured. No method looks at an image of an unseen task, nor is anything chosen by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from merging.core.errors import SpecError
from merging.methods.spec import require_unseen
from merging.runs.jobs.measuring import ByTask, Measuring, require_clean_test
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.model_job import Bench, ModelResult
from merging.runs.jobs.parts import Effort, InParts
from merging.suites.images.shifts import CLEAN
from merging.suites.suite import Suite


class SplitAccuracy(BaseModel):
    """One way of leaving tasks out: which, and task → accuracy, 0 … 1, of the model merged from the others."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seen: list[str]
    unseen: list[str]
    accuracy: ByTask

    def mean(self, tasks: Sequence[str]) -> float:
        """Mean accuracy over some of its tasks."""
        return sum(self.accuracy[task] for task in tasks) / len(tasks)


class GeneralisationResult(ModelResult):
    """Every way of leaving tasks out; task → zero-shot accuracy of the base, number of images; which images."""

    splits: list[SplitAccuracy] = Field(default_factory=list)
    zero_shot: ByTask = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    split: str = "test"

    def split_of(self, unseen: Sequence[str]) -> SplitAccuracy:
        """That in which these tasks are unseen."""
        return next(one for one in self.splits if tuple(one.unseen) == tuple(unseen))


class GeneralisationJob(InParts):
    """Merge all but some tasks, in several ways, and measure all tasks each time.

    ``left_out`` are those ways: the unseen tasks of each, some of which may have no model of their own.
    """

    result: ClassVar[type[GeneralisationResult]] = GeneralisationResult
    without: ClassVar[str] = "What this method is worth on unseen tasks can't be shown."
    of: ClassVar[str] = "left_out"
    job: Literal["generalisation"] = "generalisation"
    left_out: tuple[tuple[str, ...], ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"{super().label}, on unseen tasks"

    @model_validator(mode="after")
    def _leaves_tasks_out(self) -> Self:
        require_clean_test(self, "measures all tasks on clean test images, those that it leaves out among them")
        for unseen in self.left_out:
            if not unseen:
                raise SpecError("unseen tasks: every way of leaving tasks out must name at least one")
            if not self._seen(unseen):
                raise SpecError(
                    f"unseen tasks {', '.join(unseen)}: these are all tasks, so that none is left to be merged"
                )
            self._merge(unseen)  # says what can't be measured on unseen tasks
        return self

    def _seen(self, unseen: Sequence[str]) -> tuple[str, ...]:
        return tuple(task for task in self.tasks if task not in unseen)

    def _merge(self, unseen: Sequence[str]) -> MergeSpec:
        require_unseen(unseen, self._seen(unseen))
        return MergeSpec.like(self, tasks=self._seen(unseen), unseen=tuple(unseen))

    def _watched(self, suite: Suite) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.tasks, *(task for unseen in self.left_out for task in unseen))))

    @property
    def effort(self) -> Effort:
        """A merge for each way."""
        ways = len(self.left_out)
        return Effort(ways, ways, sum(len(self._seen(unseen)) for unseen in self.left_out) / ways / len(self.tasks))

    def joined(self, found: Mapping[tuple[str, ...], GeneralisationResult]) -> dict[str, Any]:
        """The splits that are known, and the tasks that they are about."""
        splits = [result.split_of(unseen) for unseen, result in found.items()]
        zero_shot = {task: value for result in found.values() for task, value in result.zero_shot.items()}
        counts = {task: value for result in found.values() for task, value in result.counts.items()}
        tasks = dict.fromkeys((*self.tasks, *(task for unseen in found for task in unseen)))
        return {
            "splits": splits,
            "zero_shot": {task: zero_shot[task] for task in tasks},
            "counts": {task: counts[task] for task in tasks},
        }

    def measure(self, bench: Bench) -> GeneralisationResult:
        """As many merges as there are ways; accuracies that are known already are not measured again.

        Raises:
            MissingPart: a task has no images or head.
            MergingError: whatever the methods raise.
        """
        every = self._watched(bench.suite)
        evaluator = bench.context.need_images("accuracy on unseen tasks", every)
        evaluator.prepare(every, "test")
        specs = [self._merge(unseen) for unseen in self.left_out]
        measuring = Measuring(bench, len(every) + sum(len(spec.tasks) + len(spec.unseen) for spec in specs))
        zero_shot = measuring.zero_shot(every, CLEAN)
        splits = []
        for spec in specs:
            found = measuring.of(spec, (*spec.tasks, *spec.unseen), [CLEAN])[CLEAN]
            splits.append(SplitAccuracy(seen=list(spec.tasks), unseen=list(spec.unseen), accuracy=found))
        counts = {task: evaluator.count(task, "test") for task in every}
        return GeneralisationResult(splits=splits, zero_shot=zero_shot, counts=counts)
