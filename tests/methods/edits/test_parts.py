"""What each task brings to a merge, against the formulas written out in numpy; sums are tested beside the merges."""

from collections.abc import Callable

import numpy as np
import pytest

from merging.methods.context import Context
from merging.methods.registry import find
from merging.weights.vectors import TaskVectors

LAYER = "transformer.resblocks.0.mlp.c_fc.weight"


def found_parts(vectors: TaskVectors, **params: object) -> dict[str, np.ndarray]:
    stage = find("edit", "parts")
    planned = stage.plan(vectors, stage.parse(params), Context())
    return {name: planned(name, base, stack).double().numpy() for name, base, stack in vectors.iterate()}


def wudi_parts(stack: np.ndarray) -> list[np.ndarray]:
    squares = [vector.T @ vector / (vector**2).sum() for vector in stack]
    ridge = 0.05 * np.trace(sum(squares)) / stack.shape[2]
    inverse = np.linalg.inv(sum(squares) + ridge * np.eye(stack.shape[2]))
    return [(vector @ square + ridge * vector) @ inverse for vector, square in zip(stack, squares, strict=True)]


def tsv_parts(stack: np.ndarray) -> list[np.ndarray]:
    count = max(1, min(stack.shape[1:]) // len(stack))
    lefts, lengths, rights = zip(*(np.linalg.svd(vector, full_matrices=False) for vector in stack), strict=True)

    def orthogonal(matrix: np.ndarray) -> np.ndarray:
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        return left @ right

    left = orthogonal(np.hstack([one[:, :count] for one in lefts]))
    right = orthogonal(np.vstack([one[:count] for one in rights]))
    mine = [slice(task * count, (task + 1) * count) for task in range(len(stack))]
    return [left[:, part] @ np.diag(s[:count]) @ right[part] for part, s in zip(mine, lengths, strict=True)]


@pytest.mark.parametrize("tasks", [2, 3, 8])
@pytest.mark.parametrize(("of", "plain"), [("wudi", wudi_parts), ("tsv_m", tsv_parts)])
def test_every_task_has_its_part(
    make_vectors: Callable[..., TaskVectors], tasks: int, of: str, plain: Callable[[np.ndarray], list[np.ndarray]]
) -> None:
    vectors = make_vectors(tasks=tasks)
    found = found_parts(vectors, of=of, ridge=0.05)
    np.testing.assert_allclose(found[LAYER], plain(vectors.stack(LAYER)[1].double().numpy()), rtol=1e-3, atol=1e-4)
    stack = vectors.stack("ln_post.bias")[1].double().numpy()
    np.testing.assert_allclose(found["ln_post.bias"], stack / tasks, rtol=1e-6)


@pytest.mark.parametrize("of", ["wudi", "tsv_m"])
def test_a_single_task_is_its_own_part(make_vectors: Callable[..., TaskVectors], of: str) -> None:
    vectors = make_vectors(tasks=1)
    for name, found in found_parts(vectors, of=of).items():
        np.testing.assert_allclose(found, vectors.stack(name)[1].double().numpy(), rtol=1e-4, atol=1e-5)
