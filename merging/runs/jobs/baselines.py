"""A job: accuracy of the models that are not merged."""

from typing import Any

from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.spec import MergeSpec
from merging.runs.workspace import Workspace


def measure_baselines(spec: MergeSpec, workspace: Workspace, evaluator: Evaluator, context: Context) -> dict[str, Any]:
    """Accuracy of the unmerged models: ``zero_shot`` and ``individual`` (task → 0 … 1), ``counts``, ``split``.

    Raises:
        MissingPart: a task has no images or head.
    """
    zero_shot = workspace.base_accuracy(evaluator, spec.tasks, spec.split, context)
    individual = workspace.individual_accuracy(evaluator, spec.tasks, spec.split, context)
    return {
        "zero_shot": zero_shot.per_task, "individual": individual.per_task,
        "counts": zero_shot.counts, "split": spec.split,
    }  # fmt: skip
