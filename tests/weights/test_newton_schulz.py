"""Polar factors by matrix products, beside singular value decompositions in float64."""

import pytest
import torch

from merging.weights import spectra
from merging.weights.newton_schulz import polar_factors
from merging.weights.spectra import NOTHING, polar


def with_values(rows: int, values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A random matrix ``[rows, n]`` with given singular values ``[n]``."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    return ((left * values) @ right).float()


def exactly(matrix: torch.Tensor) -> torch.Tensor:
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return left @ right


SPECTRA = {
    "equal": torch.ones(24),
    "falling by 100": torch.logspace(0, -2, 24),
    "falling by 10 000": torch.logspace(0, -4, 24),
    "one large": torch.tensor([1000.0, *[1.0] * 23]),
    "huge": torch.full((24,), 1e12),
    "tiny": torch.full((24,), 1e-12),
}


@pytest.mark.kernels
@pytest.mark.parametrize("rows", [24, 60])
@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_they_are_those_of_a_decomposition(rows: int, values: torch.Tensor, device: torch.device) -> None:
    matrices = torch.stack([with_values(rows, values.double(), seed) for seed in range(3)])
    found, converged = polar_factors(matrices.to(device))
    assert bool(converged.all())
    apart = (found.cpu().double() - exactly(matrices)).flatten(1).norm(dim=1) / len(values) ** 0.5
    assert float(apart.max()) <= 3e-7 * float(values.max() / values.min()) + 1e-4


@pytest.mark.parametrize("values", [torch.zeros(24), torch.tensor([1.0] * 23 + [0.0]), torch.logspace(0, -7, 24)])
def test_what_does_not_converge_is_said(values: torch.Tensor, device: torch.device) -> None:
    _, converged = polar_factors(with_values(40, values.double()).to(device))
    assert not bool(converged)


def test_numbers_that_are_none_do_not_converge() -> None:
    assert not bool(polar_factors(torch.full((4, 4), torch.nan))[1])


@pytest.mark.parametrize("shape", [(30, 30), (70, 30), (30, 70)])
@pytest.mark.parametrize("rank", [30, 29, 1, 0])
def test_products_and_decompositions_give_the_same(
    shape: tuple[int, int], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.cat([torch.linspace(3, 1, 30)[:rank], torch.zeros(30 - rank)]).double()
    matrix = with_values(max(shape), values)
    matrix = matrix if shape[0] >= shape[1] else matrix.T
    expected = polar(matrix, NOTHING)
    monkeypatch.setattr(spectra, "multiplies", lambda device: True)
    found = polar(matrix, NOTHING)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=0)
