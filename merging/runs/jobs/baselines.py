"""A job: accuracy of the models that are not merged."""

from typing import ClassVar, Literal

from pydantic import Field

from merging.runs.jobs.model_job import Bench, ModelJob, ModelResult


class BaselinesResult(ModelResult):
    """Task → accuracy, 0 … 1, of the base and of every task's own model; the number of images; which."""

    zero_shot: dict[str, float] = Field(default_factory=dict)
    individual: dict[str, float] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    split: str = "test"


class BaselinesJob(ModelJob):
    """Measure the base and every fine-tuned model; the method plays no part."""

    result: ClassVar[type[BaselinesResult]] = BaselinesResult
    without: ClassVar[str] = "Accuracies can't be compared with the base and the individual models, nor normalised."
    job: Literal["baselines"] = "baselines"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return "Zero-shot and individual accuracy"

    def measure(self, bench: Bench) -> BaselinesResult:
        """Accuracies that are known already are not measured again.

        Raises:
            MissingPart: a task has no images or head.
        """
        args = bench.evaluator, self.tasks, self.split, bench.context
        zero_shot = bench.workspace.base_accuracy(*args)
        individual = bench.workspace.individual_accuracy(*args)
        return BaselinesResult(
            zero_shot=zero_shot.per_task, individual=individual.per_task, counts=zero_shot.counts, split=self.split
        )
