"""The decompositions that the benchmark compares are those of the methods, one by one and in batches."""

import pytest
import torch

from benchmarks.batches import Decomposition, isotropic, leading, ridge
from merging.weights.spectra import polar, top_triplets


def stacks() -> torch.Tensor:
    return torch.randn((3, 4, 24, 8), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("decomposition", [leading, ridge])
def test_a_batch_gives_what_single_matrices_give(decomposition: Decomposition) -> None:
    together = decomposition(stacks())
    for one, found in zip(stacks(), together, strict=True):
        torch.testing.assert_close(found @ found.mT, decomposition(one) @ decomposition(one).mT, rtol=1e-4, atol=1e-5)


def test_isotropic_is_the_polar_factor_times_the_mean() -> None:
    for one, found in zip(stacks()[:, 0], isotropic(stacks()[:, 0]), strict=True):
        factor, mean = polar(one)
        torch.testing.assert_close(found, mean * factor, rtol=1e-4, atol=1e-5)


def test_leading_vectors_are_those_of_the_largest_triplets() -> None:
    left = leading(stacks()[0])
    for vector, found in zip(stacks()[0], left, strict=True):
        exact = top_triplets(vector, 2)[0]
        torch.testing.assert_close(found @ found.T, exact @ exact.T, rtol=1e-4, atol=1e-4)


def test_ridge_solves_the_regularised_system() -> None:
    stack = stacks()[0].double()
    s = sum(t.T @ t / t.square().sum() for t in stack)
    r = sum(t @ t.T @ t / t.square().sum() for t in stack)
    strength = 0.01 * s.diagonal().mean()  # type: ignore[union-attr]
    exact = torch.linalg.solve((s + strength * torch.eye(8)).T, (r + strength * stack.sum(dim=0)).T).T
    torch.testing.assert_close(ridge(stacks()[0]).double(), exact, rtol=1e-3, atol=1e-4)
