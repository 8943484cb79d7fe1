"""Overlap-scaled WUDI: what its layer factors say and what becomes of the update without them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from merging.methods.context import Context
from merging.methods.merges.overlap import overlap_of
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.weights.vectors import TaskVectors
from tests.random_models import State, random_vectors, write_models

WIDE, TALL = "transformer.resblocks.0.mlp.c_proj.weight", "transformer.resblocks.0.mlp.c_fc.weight"
SHAPES = {"ln_post.bias": (7,), "conv1.weight": (6, 3, 2, 2), "proj": (12, 8), TALL: (16, 6), WIDE: (6, 16)}


def merged(vectors: TaskVectors, settings: str) -> State:
    return dict(plan(vectors, Pair.read(settings), Context()).tensors())


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (torch.zeros(3, 2, 4), None),
        (torch.eye(4)[None, :2], 0.0),
        (torch.eye(4)[:2, None], 0.0),
        (torch.ones(3, 2, 4) * torch.tensor([1.0, -2.0, 5.0])[:, None, None], 1.0),
        (torch.cat([torch.ones(2, 2, 4), torch.zeros(1, 2, 4)]), 1.0),
        (torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]), 0.5),
    ],
    ids=["zeros", "one task", "other inputs", "same inputs", "a task without any", "45 degrees"],
)
@pytest.mark.parametrize("rows", ["as they are", "many"])
def test_overlap_is_the_mean_cosine_of_what_tasks_see(stack: torch.Tensor, expected: float | None, rows: str) -> None:
    if rows == "many":  # more rows than columns, which are counted another way: rows of zeros change nothing
        stack = torch.cat([stack, stack.new_zeros(len(stack), 9, stack.shape[2])], dim=1)
    assert overlap_of(stack) == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_a_layer_whose_inputs_are_shared_takes_less(tmp_path: Path) -> None:
    """Two tasks that use the same input of one layer and different ones of another."""
    base = {name: torch.zeros(4, 8) for name in (WIDE, "proj")}
    models = []
    for task in range(2):
        apart, same = torch.zeros(4, 8), torch.zeros(4, 8)
        apart[0, 4 * task] = same[0, task] = 1.0  # inputs are the second index of one, the first of the other
        models.append({WIDE: apart, "proj": same})
    vectors = write_models(tmp_path, base, models)
    planned = plan(vectors, Pair.read("merge=overlap"), Context())
    report = planned.merge.report
    assert report["overlap"][WIDE] == pytest.approx(0)
    factors = report["layer_scaling"]
    assert factors[WIDE] > factors["proj"] > 0
    assert sum(factors.values()) / len(factors) == pytest.approx(1)
    found, plain = dict(planned.tensors()), merged(vectors, "merge=overlap merge.sharpness=0")
    for name, factor in factors.items():
        torch.testing.assert_close(found[name], factor * plain[name])


def test_without_the_overlap_it_is_wudi_over_all_linear_layers(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, 3, shapes=SHAPES)
    found = merged(vectors, "merge=overlap merge.sharpness=0 merge.ridge=0.01")
    for name, tensor in merged(vectors, "merge=wudi merge.solver=closed_form merge.layers=all_linear").items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_equal_models_are_taken_as_wudi_takes_them(make_vectors: Callable[..., TaskVectors]) -> None:
    """The overlap is one everywhere, which says nothing against any layer."""
    vectors = make_vectors(tasks=1)
    equal = TaskVectors(vectors.base, vectors.checkpoints * 3, ("a", "b", "c"))
    found = merged(equal, "merge=overlap")
    for name, tensor in merged(equal, "merge=overlap merge.sharpness=0").items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
