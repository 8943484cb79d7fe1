"""Coefficients set by hand: the weights, the geometry and the accuracies are those of plain arithmetic and of runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merging.evaluation.evaluator import Evaluator
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.mixing import WhatIf, plan_edit, specification
from merging.methods.planned import TensorEdit
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.weights.geometry import measure
from merging.weights.vectors import TaskVectors
from tests.carrying import execute
from tests.random_models import flattened

COEFFICIENTS = (0.4, -0.25, 1.5)
DATA_FREE = [name for name, method in registry.edits().items() if not method.data({}).images]


def edited_rows(vectors: TaskVectors, edit: str) -> torch.Tensor:
    """All edited task vectors as one matrix ``[T, D]``, tensors in sorted order."""
    method = registry.find("edit", edit)
    planned = method.plan(vectors, method.parse({}), Context())
    parts = [planned(name, base, stack).reshape(len(stack), -1).double() for name, base, stack in vectors.iterate()]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("edit", DATA_FREE)
def test_weights_are_a_plain_sum(edit: str, held: bool, vectors: TaskVectors) -> None:
    what_if = plan_edit(vectors, edit)
    if held:
        what_if = what_if.held()
    weights = what_if.weights(COEFFICIENTS)
    found = torch.cat([weights[name].double().flatten() for name in vectors.names])
    base = torch.cat([vectors.base[name].double().flatten() for name in vectors.names])
    expected = base + torch.tensor(COEFFICIENTS, dtype=torch.float64) @ edited_rows(vectors, edit)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_zeros_give_the_base_and_a_one_gives_that_model(vectors: TaskVectors) -> None:
    what_if = plan_edit(vectors, "none")
    for coefficients, model in (((0, 0, 0), vectors.base), ((0, 1, 0), vectors.checkpoints[1])):
        weights = what_if.weights(coefficients)
        assert all(torch.equal(weights[name], model[name]) for name in vectors.names)


def test_held_vectors_are_not_edited_again(vectors: TaskVectors) -> None:
    edited: list[str] = []

    def doubled(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        edited.append(name)
        return 2 * stack

    held = WhatIf(vectors, TensorEdit(doubled)).held()
    for _ in range(2):
        held.weights(COEFFICIENTS)
    assert edited == list(vectors.names)
    linear = plan_edit(vectors, "awd")
    assert linear.held() is linear


@pytest.mark.parametrize("edit", ["none", "awd", "ties"])
@pytest.mark.parametrize("chosen", [(0, 1, 2), (2, 0)])
def test_directions(edit: str, chosen: tuple[int, ...], make_vectors: Callable[..., TaskVectors]) -> None:
    everything = make_vectors(tasks=4)
    part = TaskVectors(
        everything.base, tuple(everything.checkpoints[i] for i in chosen), tuple(everything.tasks[i] for i in chosen)
    )
    coefficients = np.array(COEFFICIENTS[: len(chosen)])
    found = plan_edit(part, edit).directions(everything, measure(everything))
    merged = coefficients @ edited_rows(part, edit).numpy()
    rows = flattened(everything).numpy()
    expected = rows @ merged / np.linalg.norm(rows, axis=1) / np.linalg.norm(merged)
    assert found.norm(coefficients.tolist()) == pytest.approx(np.linalg.norm(merged), rel=1e-5)
    np.testing.assert_allclose(found.cosines(coefficients.tolist()), expected, atol=1e-5)


def test_nothing_merged_points_nowhere(vectors: TaskVectors) -> None:
    found = plan_edit(vectors, "none").directions(vectors, measure(vectors))
    assert found.norm((0, 0, 0)) == 0
    assert found.cosines((0, 0, 0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("edit", ["none", "awd", "ties", "dare"])
def test_accuracies_are_those_of_a_run(
    edit: str, suite: Suite, suite_file: Path, evaluator: Evaluator, workspace: Workspace
) -> None:
    tasks = suite.mergeable()[:3]
    run = execute(
        MergeSpec.like(specification(str(suite_file), dict(zip(tasks, COEFFICIENTS, strict=True)), edit, split="val")),
        workspace,
    )
    context = Context(known_geometry=workspace.geometry(suite, tasks))
    what_if = plan_edit(suite.vectors(tasks), edit, context=context).held()
    evaluator.load(what_if.weights(COEFFICIENTS))
    assert {task: evaluator.share_right(task, "val") for task in tasks} == run.accuracy


def test_a_part_of_the_images(suite: Suite, evaluator: Evaluator) -> None:
    evaluator.load(suite.checkpoint("roads"))
    chosen = evaluator.draw("roads", "val", 7, seed=0)
    labels = evaluator.image_set("roads", "val").labels
    whole = evaluator.predictions("roads", "val")
    np.testing.assert_array_equal(evaluator.predictions("roads", "val", chosen), whole[chosen])
    assert evaluator.share_right("roads", "val", chosen) == np.mean(whole[chosen] == labels[chosen])
    logits = evaluator.logits("roads", evaluator.features(evaluator.images("roads", "val", chosen))).detach()
    probabilities = torch.softmax(logits.double(), dim=1)[torch.arange(7), torch.as_tensor(labels[chosen]).long()]
    loss, accuracy = evaluator.loss_and_accuracy("roads", "val", chosen)
    assert loss == pytest.approx(float(-probabilities.log().mean()), rel=1e-4)
    assert accuracy == pytest.approx(np.mean(whole[chosen] == labels[chosen]))


def test_equal_models_that_cancel_have_no_direction(make_vectors: Callable[..., TaskVectors]) -> None:
    """What is left of τ − τ in inner products that were summed in float32 points nowhere."""
    vectors = make_vectors(tasks=2)
    twins = replace(vectors, checkpoints=(vectors.checkpoints[0],) * 2)
    found = plan_edit(twins, "none").directions(twins, measure(twins))
    blurred = replace(found, among=found.among * (1 + 1e-7 * np.array([[1, -1], [-1, 1]])))
    assert blurred.norm((0.3, -0.3)) == 0 and not blurred.cosines((0.3, -0.3)).any()
    assert blurred.norm((0.3, -0.2)) == pytest.approx(0.1 * blurred.norms[0], rel=1e-5)
