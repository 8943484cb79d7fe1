"""Singular value calibration: take back what tasks that share a direction count several times (arXiv 2602.05536).

It follows a merge and needs no images: along a direction to which several tasks contribute, a sum is longer than any of
them meant it to be.
"""

from typing import Any

import torch
from pydantic import Field

from merging.weights.spectra import NOTHING, all_triplets, nonzero

CALIBRATION: Any = Field(
    0.0,
    ge=0,
    le=10,
    title="SVC α",
    description="Singular value calibration of the merged matrices, before λ: below this α no task's share in a "
    "direction is taken to be. 0: none; 1, as published after this merge, only shortens.",
    exclude_if=lambda value: value == 0,
)  # of the parameter ``calibration``


def calibrated(update: torch.Tensor, stack: torch.Tensor, alpha: float) -> torch.Tensor:
    """A merged update with every singular value divided by how often the tasks have counted its direction.

    With ``update = Σ_r σ_r u_r v_rᵀ``, task t's share in direction r is ``s = ⟨u_rᵀ update, u_rᵀ τ_t⟩ / ‖u_rᵀ τ_t‖²``
    (equation 8), α if that is less or the task has nothing there, and σ_r is divided by the mean of the shares. Tasks
    that left the matrix alone have none. Where singular values are equal, as Iso-C makes them, u_r is arbitrary and so
    is the result.

    Args:
        update: ``[m, n]``.
        stack: the task vectors that were merged, ``[T, m, n]``.
        alpha: above 0.
    """
    some = nonzero(stack)
    if not len(some):
        return update
    left, lengths, right = all_triplets(update)
    along = lengths[:, None] * right  # u_rᵀ update
    shares = torch.zeros_like(lengths)
    for vector in some:
        own = left.T @ vector
        squares = own.square().sum(dim=1)
        there = squares > NOTHING**2 * squares.sum()
        share = torch.where(there, (along * own).sum(dim=1) / squares.clamp_min(1e-30), 0.0)
        shares += share.clamp_min(alpha)
    return (left * (lengths * len(some) / shares)) @ right
