"""Equal-shaped matrices in one batch, or one by one in threads: the decompositions of Iso-C, TSV-M and WUDI.

Written once, for any number of leading dimensions, so that both ways run the same operations. The matrices are random,
with the shapes of ViT-B/32's blocks (those of a wide one transposed, as the methods do it).
"""

import time
from collections.abc import Callable

import torch

from merging.core.streaming import ordered

BLOCKS, TASKS = 12, 8
SHAPES = ((2304, 768), (768, 768), (3072, 768), (3072, 768))

Decomposition = Callable[[torch.Tensor], torch.Tensor]


def isotropic(summed: torch.Tensor) -> torch.Tensor:
    """Iso-C's update of sums of task vectors ``[..., m, n]``, from Gram matrices."""
    squares, axes = torch.linalg.eigh(summed.mT @ summed)
    lengths = squares.clamp_min(1e-12).sqrt()
    mean = lengths.mean(dim=-1)[..., None, None]
    return mean * (summed @ ((axes / lengths[..., None, :]) @ axes.mT))


def leading(vectors: torch.Tensor) -> torch.Tensor:
    """The left singular vectors of TSV-M, from task vectors ``[..., T, m, n]``: ``[..., T, m, n/T]``."""
    count = vectors.shape[-1] // vectors.shape[-3]
    squares, axes = torch.linalg.eigh(vectors.mT @ vectors)
    return (vectors @ axes[..., -count:]) / squares[..., None, -count:].sqrt()


def ridge(vectors: torch.Tensor) -> torch.Tensor:
    """WUDI's closed form of task vectors ``[..., T, m, n]``."""
    squares = vectors.mT @ vectors / vectors.square().sum(dim=(-2, -1), keepdim=True)
    s, r = squares.sum(dim=-3), (vectors @ squares).sum(dim=-3)
    strength = 0.01 * s.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None]
    factor = torch.linalg.cholesky(s + strength * torch.eye(s.shape[-1], device=s.device))
    return torch.cholesky_solve((r + strength * vectors.sum(dim=-3)).mT, factor).mT


def measured(decomposition: Decomposition, tasks: int, batched: bool) -> float:
    """Seconds for all matrices of a model, a shape after the other; matrices of one shape are in memory at once."""
    total = 0.0
    for shape in SHAPES:
        matrices = torch.randn((BLOCKS, *((tasks,) if tasks else ()), *shape))
        started = time.perf_counter()
        if batched:
            decomposition(matrices)
        else:
            for _ in ordered(decomposition, matrices, "cpu"):
                pass
        total += time.perf_counter() - started
    return total
