"""What every localised merge owes: a task's own model alone, the base from the base, no order of tasks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, write_models

METHODS = ["merge=tall_masks", *(f"merge=emr merge.rescale={how}" for how in ("tensors", "entries", "none"))]
pytestmark = pytest.mark.parametrize("method", METHODS)


def models(vectors: TaskVectors, method: str) -> list[dict[str, torch.Tensor]]:
    made = plan(vectors, Pair.read(method), Context())
    tensors = dict(made.tensors())
    return [dict(made.served(tensors, task)) for task in vectors.tasks]


def test_one_task_gives_its_model(make_vectors: Callable[..., TaskVectors], method: str) -> None:
    vectors = make_vectors(tasks=1)
    (model,) = models(vectors, method)
    for name, tensor in model.items():
        torch.testing.assert_close(tensor, vectors.checkpoints[0][name])


def test_models_equal_to_the_base_give_the_base(tmp_path: Path, method: str) -> None:
    base = random_state(0)
    for model in models(write_models(tmp_path, base, [base, base]), method):
        assert all(torch.equal(model[name], base[name]) for name in base)


def test_the_order_of_tasks_only_orders_the_models(vectors: TaskVectors, method: str) -> None:
    turned = TaskVectors(vectors.base, vectors.checkpoints[::-1], vectors.tasks[::-1])
    for one, other in zip(models(vectors, method), models(turned, method)[::-1], strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name])
