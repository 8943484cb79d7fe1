"""Task Arithmetic and weight averaging, and the search for λ."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from merging.core.errors import MissingPart, SpecError
from merging.methods.context import Context
from merging.methods.merges.task_arithmetic import TaskArithmeticParams
from merging.methods.params import GRID
from merging.methods.planned import LinearMerge
from merging.methods.registry import find
from merging.methods.scaling import computed, search_scaling
from merging.suites import Suite
from merging.weights.vectors import TaskVectors


def merged(plan: LinearMerge, vectors: TaskVectors) -> dict[str, torch.Tensor]:
    return {name: plan(name, base, stack) for name, base, stack in vectors.iterate()}


def task_arithmetic(vectors: TaskVectors, scaling: object, context: Context | None = None) -> LinearMerge:
    return find("merge", "task_arithmetic").plan(vectors, TaskArithmeticParams(scaling=scaling), context or Context())


def test_one_coefficient_scales_the_sum(vectors: TaskVectors) -> None:
    for name, tensor in merged(task_arithmetic(vectors, 0.3), vectors).items():
        base, stack = vectors.stack(name)
        torch.testing.assert_close(tensor, base + 0.3 * stack.sum(dim=0))


def test_one_coefficient_a_task_negative_ones_included(vectors: TaskVectors) -> None:
    for name, tensor in merged(task_arithmetic(vectors, (1.0, -0.5, 0.0)), vectors).items():
        base, stack = vectors.stack(name)
        torch.testing.assert_close(tensor, base + stack[0] - 0.5 * stack[1])


@pytest.mark.parametrize("scaling", [(0.1, 0.2), (0.1,), (0.1, 0.2, 0.3, 0.4)])
def test_another_number_of_coefficients_than_tasks_is_refused(vectors: TaskVectors, scaling: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match=f"{len(scaling)} coefficients for 3 tasks"):
        task_arithmetic(vectors, scaling)


def test_weights_multiply_the_coefficient(vectors: TaskVectors) -> None:
    method = find("merge", "task_arithmetic")
    for scaling, expected in ((0.5, (0.5, -0.25, 0.0)), ((1.0, 2.0, 3.0), (1.0, -1.0, 0.0))):
        plan = method.plan(vectors, method.parse({"scaling": scaling, "weights": (1.0, -0.5, 0.0)}), Context())
        for row in plan.coefficients.values():
            np.testing.assert_allclose(row, expected)
    with pytest.raises(SpecError, match=r"merge\.weights: 2 coefficients for 3 tasks"):
        method.plan(vectors, method.parse({"weights": (1.0, 2.0)}), Context())


def test_weights_of_one_do_not_change_specifications() -> None:
    method = find("merge", "task_arithmetic")
    assert method.parse({"weights": 1}).model_dump(mode="json") == {"scaling": 0.3}
    assert method.parse({"weights": -1}).model_dump(mode="json") == {"scaling": 0.3, "weights": -1.0}


@pytest.mark.parametrize("scaling", [11, -10.5, "best", (0.1, 99.0), float("nan"), None])
def test_scalings_out_of_bounds_are_refused(scaling: object) -> None:
    with pytest.raises(SpecError, match="scaling"):
        find("merge", "task_arithmetic").parse({"scaling": scaling})


def test_the_average_is_the_mean_of_the_models(vectors: TaskVectors) -> None:
    plan = find("merge", "average").plan(vectors, find("merge", "average").parse({}), Context())
    for name, tensor in merged(plan, vectors).items():
        torch.testing.assert_close(tensor, torch.stack([c[name] for c in vectors.checkpoints]).mean(dim=0))


def test_auto_takes_the_smallest_of_the_best_on_validation(suite: Suite, context: Context) -> None:
    vectors = suite.vectors()
    plan = task_arithmetic(vectors, "auto", context)
    search = plan.report["scaling_search"]
    assert search["split"] == "val"
    assert search["images"] == 4 * 24
    tried = search["scalings"]
    assert tried[:21] == list(GRID) == [round(0.05 * step, 2) for step in range(21)]
    evaluator = context.need_images("the test", ())
    for scaling, found in zip(tried, search["average_accuracy"], strict=True):
        state = merged(task_arithmetic(vectors, scaling), vectors)
        assert found == pytest.approx(evaluator.accuracy(state, vectors.tasks, "val").average, abs=0.02)
    best = int(np.argmax(search["average_accuracy"]))
    assert plan.report["scaling"] == tried[best]
    assert search["at_edge"] == (best == len(tried) - 1)
    assert all((row == tried[best]).all() for row in plan.coefficients.values())


def test_the_search_can_be_given_signs_and_a_grid(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits", "roads"])
    signed = computed(vectors, lambda name, base, stack: stack[0] - stack[1], context)
    search = search_scaling(vectors, signed, context, grid=(0.5,))
    state = merged(task_arithmetic(vectors, (0.5, -0.5)), vectors)
    accuracy = context.need_images("the test", ()).accuracy(state, vectors.tasks, "val")
    assert search.accuracies == (pytest.approx(accuracy.average, abs=0.03),)
    assert search.chosen == 0.5


def test_auto_needs_images(suite: Suite, context: Context) -> None:
    with pytest.raises(MissingPart, match="scaling: auto"):
        task_arithmetic(suite.vectors(), "auto", replace(context, evaluator=None))
