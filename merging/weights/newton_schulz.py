"""Polar factors by matrix products alone, which a GPU is made for: Newton–Schulz, scaled.

With singular values of X in ``[ℓ, 1]`` the step ``X ← μ/2 · X (3 I − μ² XᵀX)``, ``μ = √(3/(1 + ℓ + ℓ²))``, brings them
into ``[ℓ', 1]`` with ``ℓ' = μ ℓ (3 − μ² ℓ²)/2`` (Chen and Chow 2014): small ones grow by up to 2.6 a step instead of by
1.5. ℓ is not known; it is assumed to be small, and the last steps, which are not scaled, converge quadratically. What
did not converge is said, so that it can be decomposed instead: matrices without full rank, or nearly so.
"""

import torch

_SMALLEST = 1e-5  # ℓ that is assumed; singular values below it may not arrive
_LAST = 3  # steps that are not scaled
_MOST = 40
CONVERGED = 2e-5  # root mean square of XᵀX − I, per row: rounding of the products leaves about 1e-6


def polar_factors(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The polar factors of a batch, and of which of them they are right.

    Args:
        matrices: ``[..., m, n]``, float32, with m ≥ n.

    Returns:
        ``[..., m, n]``, and bool ``[...]``: where the columns of the factor are orthonormal.
    """
    columns = matrices.shape[-1]
    eye = torch.eye(columns, device=matrices.device)
    # No singular value is above √(‖M‖₁ ‖M‖_∞), nor above the Frobenius norm.
    magnitudes = matrices.abs()
    bound = (magnitudes.sum(dim=-2).amax(dim=-1) * magnitudes.sum(dim=-1).amax(dim=-1)).sqrt()
    bound = torch.minimum(bound, matrices.flatten(-2).norm(dim=-1)).clamp_min(1e-30)
    x = matrices / bound[..., None, None]
    for factor in _factors():
        square = (factor * factor) * (x.mT @ x)
        x = (0.5 * factor) * (x @ (3 * eye - square))
    apart = (x.mT @ x - eye).flatten(-2).norm(dim=-1) / columns**0.5
    return x, apart <= CONVERGED


def _factors() -> list[float]:
    """μ of every step."""
    factors: list[float] = []
    smallest = _SMALLEST
    while smallest < 0.99 and len(factors) < _MOST:
        factor = (3 / (1 + smallest + smallest**2)) ** 0.5
        factors.append(factor)
        smallest = factor * smallest * (3 - (factor * smallest) ** 2) / 2
    return [*factors, *[1.0] * _LAST]
