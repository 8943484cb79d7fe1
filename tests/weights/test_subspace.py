"""Leading eigenvectors by matrix products, beside decompositions in float64."""

import pytest
import torch

from merging.weights import spectra
from merging.weights.spectra import all_triplets, top_triplets
from merging.weights.subspace import _one_by_one, leading_axes, pays

SIZE, COUNT = 120, 15
_INDEX = torch.arange(1.0, SIZE + 1).double()


def with_values(rows: int, values: torch.Tensor, seed: int) -> torch.Tensor:
    """A random matrix ``[rows, n]`` in float64 with given singular values ``[n]``."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    return (left * values) @ right


def random(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).double()


SPECTRA = {
    "flat": torch.linalg.svdvals(random(SIZE, SIZE, 0)),
    "nearly flat": 1 + 0.3 * torch.linspace(1, 0, SIZE).double(),
    "as the root": _INDEX**-0.5,
    "as a power": 1 / _INDEX,
    "exponential": torch.exp(-0.05 * _INDEX),
    "few large": torch.cat([torch.linspace(300, 100, 5), torch.linspace(2, 1, SIZE - 5)]).double(),
    "a gap at the cut": torch.cat([torch.ones(COUNT), torch.full((SIZE - COUNT,), 0.5)]).double(),
    "tied above the cut": torch.cat([torch.ones(COUNT), torch.linspace(0.9, 0.1, SIZE - COUNT)]).double(),
}


@pytest.mark.kernels
@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_subspaces_are_those_of_a_decomposition(values: torch.Tensor, device: torch.device) -> None:
    matrices = torch.stack([with_values(SIZE, values, seed) for seed in range(3)])
    squares = matrices.mT @ matrices
    found, axes, arrived = leading_axes(squares.to(device), COUNT)
    assert bool(arrived.all())
    exact, vectors = torch.linalg.eigh(squares)
    vectors = vectors[..., -COUNT:]
    torch.testing.assert_close(found.cpu(), exact[:, -COUNT:].flip(-1), rtol=1e-8, atol=0)
    axes = axes.cpu()
    assert float((axes @ axes.mT - vectors @ vectors.mT).flatten(1).norm(dim=1).max()) <= 1e-5 * COUNT**0.5


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(SIZE),
        torch.cat([torch.ones(COUNT - 1), torch.zeros(SIZE - COUNT + 1)]),
        torch.full((SIZE,), torch.nan),
        1 + 1e-4 * torch.linspace(1, 0, SIZE),
    ],
    ids=["zero", "too few directions", "no numbers", "too close"],
)
def test_what_does_not_arrive_is_said(values: torch.Tensor, device: torch.device) -> None:
    matrix = with_values(SIZE, values.double(), 0)
    assert leading_axes((matrix.mT @ matrix)[None].to(device), COUNT)[2].tolist() == [False]


@pytest.mark.parametrize("shape", [(2, SIZE, SIZE), (2, 200, SIZE), (2, SIZE, 200), (SIZE, SIZE)], ids=str)
def test_triplets_from_products_are_those_of_decompositions(
    shape: tuple[int, ...], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch one of whose matrices has not so many directions."""
    matrices = random(2 * SIZE, 200, 0).flatten()[: torch.Size(shape).numel()].view(shape).float()
    if len(shape) > 2:
        matrices[1] = random(*shape[1:], 1)[:, :5].float() @ random(*shape[1:], 2)[:5].float()
    left, lengths, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    monkeypatch.setattr(spectra, "multiplies", lambda device: True)
    found = [part.cpu().double() for part in top_triplets(matrices.to(device), COUNT)]
    torch.testing.assert_close(found[1], lengths[..., :COUNT], rtol=1e-5, atol=1e-4)
    expected = (left[..., :COUNT] * lengths[..., None, :COUNT]) @ right[..., :COUNT, :]
    torch.testing.assert_close((found[0] * found[1][..., None, :]) @ found[2], expected, rtol=0, atol=1e-4)
    eye = torch.eye(COUNT).double().expand(*shape[:-2], COUNT, COUNT)
    torch.testing.assert_close(found[0].mT @ found[0], eye, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 40), (60, 40), (40, 60)])
@pytest.mark.parametrize("rank", [40, 10, 0])
def test_all_triplets_are_those_of_a_decomposition(
    shape: tuple[int, int], rank: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = (random(shape[0], rank, 0) @ random(rank, shape[1], 1)).float()
    monkeypatch.setattr(spectra, "multiplies", lambda device: True)
    left, lengths, right = (part.cpu() for part in all_triplets(matrix.to(device)))
    torch.testing.assert_close(lengths, torch.linalg.svdvals(matrix.double()).float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close((left * lengths) @ right, matrix, rtol=0, atol=1e-4)
    for some in (left[:, :rank], right[:rank].T):
        torch.testing.assert_close(some.T @ some, torch.eye(rank), rtol=0, atol=1e-4)


def test_small_matrices_are_decomposed_by_all_cores() -> None:
    matrices = torch.stack([one + one.mT for one in (random(20, 20, seed) for seed in range(5))])
    for one, other in zip(torch.linalg.eigh(matrices), _one_by_one(matrices), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_few_of_many_are_worth_it() -> None:
    assert pays(96, 768) and not pays(384, 768) and not pays(4, 16)
