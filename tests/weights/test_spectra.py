"""Polar factors and leading singular triplets against full decompositions."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import NonFiniteWeights
from merging.weights.spectra import (
    NOTHING,
    add_gram,
    decomposed_sum,
    gram,
    mirror,
    nonzero,
    polar,
    side_by_side,
    solve_positive,
    top_triplets,
)

shapes = st.tuples(st.integers(1, 24), st.integers(1, 24))


def matrix(shape: tuple[int, int], seed: int, decay: float = 0.0) -> torch.Tensor:
    """Random, with singular values that fall off as ``exp(−decay · k)``."""
    generator = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator).double(), full_matrices=False)
    return (u * torch.exp(-decay * torch.arange(min(shape)))) @ v


@given(shapes, st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([1e-6, 1.0, 1e4]))
def test_the_polar_factor_is_that_of_the_full_decomposition(
    shape: tuple[int, int], seed: int, decay: float, scale: float
) -> None:
    exact = scale * matrix(shape, seed, decay)
    u, s, v = torch.linalg.svd(exact, full_matrices=False)
    factor, mean = polar(exact.float())
    torch.testing.assert_close(factor.double(), u @ v, rtol=0, atol=2e-3 if decay > 0.1 else 1e-4)
    assert float(mean) == pytest.approx(float(s.mean()), rel=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (20, 8), (8, 20)])
@pytest.mark.parametrize("work", [polar, lambda huge: top_triplets(huge, 2)])
def test_what_is_too_large_to_be_decomposed_is_said(
    shape: tuple[int, int], work: Callable[[torch.Tensor], object]
) -> None:
    huge = torch.full(shape, torch.inf)
    with pytest.raises(NonFiniteWeights, match=r"could not be decomposed.*leave out a task"):
        work(huge)


def test_a_system_is_solved_or_the_reason_is_said() -> None:
    factor, right = matrix((6, 6), 0, 0.1), matrix((3, 6), 1, 0.1)
    square = factor @ factor.T
    torch.testing.assert_close(solve_positive(square, right), right @ torch.linalg.inv(square))
    with pytest.raises(NonFiniteWeights, match=r"could not be decomposed.*; or raise it$"):
        solve_positive(-square, right, "; or raise it")


def test_zero_has_no_polar_factor() -> None:
    factor, mean = polar(torch.zeros(4, 9))
    assert not factor.any() and float(mean) == 0


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (14, 12)])
def test_directions_with_nothing_in_them_can_be_left_out_of_the_factor(shape: tuple[int, int]) -> None:
    u, _, v = torch.linalg.svd(matrix(shape, 2), full_matrices=False)
    lengths = torch.tensor([3.0, 2.0, 1.0, 1e-3], dtype=torch.float64)
    few = (u[:, :4] * lengths) @ v[:4]
    factor, mean = polar(few.float(), NOTHING)
    torch.testing.assert_close(factor.double(), u[:, :4] @ v[:4], rtol=0, atol=1e-3)
    assert float(mean) == pytest.approx(float(lengths.sum()) / 12, rel=1e-4)
    assert float(polar(few.float())[0].norm()) == pytest.approx(12**0.5, rel=1e-4)  # else as many as there can be


@given(shapes, st.integers(0, 99), st.data())
def test_leading_triplets_are_those_of_the_full_decomposition(
    shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    exact = matrix(shape, seed, decay=0.1)
    count = data.draw(st.integers(1, min(shape)))
    left, lengths, right = top_triplets(exact.float(), count)
    u, s, v = torch.linalg.svd(exact, full_matrices=False)
    assert left.shape == (shape[0], count) and right.shape == (count, shape[1])
    torch.testing.assert_close(lengths.double(), s[:count], rtol=1e-4, atol=1e-7)
    expected = (u[:, :count] * s[:count]) @ v[:count]
    torch.testing.assert_close(((left * lengths) @ right).double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(left.T @ left, torch.eye(count), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 1), (40, 256), (300, 257), (70, 600)])
def test_the_gram_matrix_is_the_product_whatever_its_blocks(shape: tuple[int, int]) -> None:
    one, two = (matrix(shape, seed).float() for seed in (0, 1))
    exact = one.double().T @ one.double()
    torch.testing.assert_close(gram(one).double(), exact, rtol=0, atol=1e-5)
    assert torch.equal(gram(one), gram(one).T)
    total = torch.zeros(shape[1], shape[1])
    add_gram(total, one, 0.5)
    add_gram(total, two, 2.0)
    torch.testing.assert_close(
        mirror(total).double(), 0.5 * exact + 2 * two.double().T @ two.double(), rtol=0, atol=1e-5
    )


def test_the_same_matrix_gives_the_same_bits() -> None:
    one = matrix((600, 300), 3).float()
    for first, second in zip(polar(one), polar(one.clone()), strict=True):
        assert torch.equal(first, second)
    for first, second in zip(top_triplets(one, 40), top_triplets(one.clone(), 40), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(("shape", "count"), [((30, 12), 3), ((12, 30), 3), ((12, 12), 9), ((300, 260), 20)])
def test_a_batch_gives_what_its_matrices_give_one_by_one(shape: tuple[int, int], count: int) -> None:
    batch = torch.stack([matrix(shape, seed, decay=0.1).float() for seed in range(3)])
    left, lengths, right = top_triplets(batch, count)
    for index, one in enumerate(batch):
        u, s, v = top_triplets(one, count)
        torch.testing.assert_close(lengths[index], s, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close((left[index] * lengths[index]) @ right[index], (u * s) @ v, rtol=0, atol=1e-4)
    joined = side_by_side(left, lengths, right)
    torch.testing.assert_close(
        (joined[0] * joined[1]) @ joined[2], ((left * lengths[:, None]) @ right).sum(dim=0), rtol=0, atol=1e-5
    )


def test_an_ill_conditioned_matrix_does_not_spoil_its_batch() -> None:
    """Its smaller values are lost in a Gram matrix in float32."""
    gentle, steep = matrix((20, 8), 0, decay=0.1).float(), matrix((20, 8), 1, decay=8.0).float()
    left, lengths, right = top_triplets(torch.stack([gentle, steep]), 3)
    for index, exact in enumerate((gentle, steep)):
        u, s, v = torch.linalg.svd(exact.double(), full_matrices=False)
        torch.testing.assert_close(lengths[index].double(), s[:3], rtol=1e-4, atol=1e-8)
        found = ((left[index] * lengths[index]) @ right[index]).double()
        torch.testing.assert_close(found, (u[:, :3] * s[:3]) @ v[:3], rtol=0, atol=1e-5)


def test_only_matrices_that_are_not_zero_are_kept() -> None:
    stack = torch.stack([matrix((3, 2), 0), torch.zeros(3, 2), matrix((3, 2), 1)]).float()
    assert torch.equal(nonzero(stack), stack[[0, 2]])
    assert nonzero(stack[[0, 2]]).shape == (2, 3, 2) and not len(nonzero(stack[1:2]))


@pytest.mark.parametrize("shape", [(40, 40), (90, 40), (40, 90)])
@pytest.mark.parametrize("spread", [1.0, 1e-5])
def test_a_cut_between_close_singular_values_is_where_float64_makes_it(shape: tuple[int, int], spread: float) -> None:
    """The subspaces above the cut; at a spread of 1e-5 a decomposition in float32 knows nothing of it."""
    count = 25
    u, _, v = torch.linalg.svd(matrix(shape, 0), full_matrices=False)
    whole = (u * (1 + spread * torch.linspace(1, 0, 40))) @ v
    stack = torch.stack([matrix(shape, 1), whole - matrix(shape, 1)]).float()
    left, lengths, right = torch.linalg.svd(stack.double().sum(dim=0), full_matrices=False)
    found = [part.double() for part in decomposed_sum(stack, count)]
    torch.testing.assert_close(found[1], lengths, rtol=1e-6, atol=1e-6)
    for ours, exact in ((found[0][:, :count], left[:, :count]), (found[2][:count].T, right[:count].T)):
        torch.testing.assert_close(ours @ ours.T, exact @ exact.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 10])
def test_a_sum_of_low_rank_is_decomposed_all_the_same(rank: int) -> None:
    whole = (matrix((40, 60), 0)[:, :rank] @ matrix((60, 60), 1)[:rank]).float()
    left, lengths, right = decomposed_sum(whole[None], 30)
    torch.testing.assert_close((left * lengths) @ right, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(left.T @ left, torch.eye(40), rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.01, 0.0])
def test_leading_triplets_outside_of_columns_are_those_of_what_is_outside(share: float) -> None:
    """Whether that is most of a matrix, a small part, or nothing."""
    columns = matrix((60, 60), 0)[:, :30]
    inside = columns @ matrix((30, 24), 1)
    stack = torch.stack([inside + share * matrix((60, 24), seed) for seed in (2, 3)])
    outside = stack - columns @ (columns.T @ stack)
    _, exact, _ = torch.linalg.svd(outside)
    u, s, v = (part.double() for part in top_triplets(stack.float(), 5, columns.float()))
    torch.testing.assert_close(s, exact[:, :5], rtol=1e-4, atol=1e-6)
    assert float((columns.T @ u).abs().max()) < 1e-3 or not share
    torch.testing.assert_close(
        (u.mT @ outside @ v.mT), torch.diag_embed(exact[:, :5]), rtol=0, atol=1e-4 * max(share, 0.1)
    )
