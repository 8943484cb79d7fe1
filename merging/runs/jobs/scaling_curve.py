"""A job: accuracy over λ."""

from collections.abc import Sequence
from typing import Any

from merging.evaluation.evaluator import Accuracy
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.plan import plan
from merging.methods.registry import LocalisedMerge
from merging.methods.scaling import GRID, WIDE_GRID, accuracy_along, computed, first_best, search_averages
from merging.methods.spec import MergeSpec
from merging.suites.suite import Split
from merging.weights.vectors import TaskVectors


def measure_scaling_curve(spec: MergeSpec, vectors: TaskVectors, context: Context) -> dict[str, Any]:
    """Accuracy over λ on validation and on test images; the merge's direction is computed once.

    Validation accuracies are those that ``scaling: auto`` chooses by. On test the weights are rounded to the base's
    dtype, so that the accuracies are those of runs with these λ.

    Returns:
        ``scalings``, ``scaling`` (chosen on validation: the smallest of the best), and by split ``average`` ``[n]``,
        ``per_task`` (task → ``[n]``) and ``images``.

    Raises:
        MissingPart: a task has no images or head.
    """
    evaluator = context.need_images("accuracy over λ", spec.tasks)
    splits: tuple[Split, ...] = ("val", "test")
    for split in splits:
        evaluator.prepare(spec.tasks, split)
    unit = MergeSpec.build(
        **spec.model_dump() | {"job": "merge", "merge_params": {**spec.merge_params, "scaling": 1.0}}
    )
    planned = plan(vectors, unit, context)
    merge = planned.merge
    assert not isinstance(merge, LocalisedMerge)  # they have no λ
    found = computed(planned.edited, lambda name, base, stack: merge(name, base, stack) - base, context)
    own = registry.find("merge", spec.merge).parse({}).model_dump()["scaling"]
    grid = WIDE_GRID if own == 1 else GRID
    scalings, val = search_averages(grid, accuracy_along(planned.edited, found, "val", context), context)
    measure, test = accuracy_along(planned.edited, found, "test", context, stored=True), []
    for done, scaling in enumerate(scalings):
        context.step(done, len(scalings), f"measuring on test: {scaling:g}")
        test.append(measure(scaling))
    return {
        "scalings": list(scalings), "scaling": scalings[first_best([one.average for one in val])],
        "val": _curve(val, spec.tasks), "test": _curve(test, spec.tasks),
    }  # fmt: skip


def _curve(found: Sequence[Accuracy], tasks: tuple[str, ...]) -> dict[str, Any]:
    return {
        "average": [one.average for one in found],
        "per_task": {task: [one.per_task[task] for one in found] for task in tasks},
        "images": found[0].images,
    }
