"""Singular vectors and polar factors of weight matrices, at a fraction of the cost of a full decomposition."""

import torch

_BLOCK = 256  # columns of a Gram matrix computed at once on the CPU: few enough to skip half, enough for fast products
_WELL_CONDITIONED = 1e-3  # smallest over largest eigenvalue of the Gram matrix: below it float32 loses the small ones


def add_gram(total: torch.Tensor, matrix: torch.Tensor, weight: torch.Tensor | float = 1.0) -> None:
    """Adds ``weight · MᵀM`` of ``M [m, n]`` to the blocks of ``total [n, n]`` from the diagonal up; see :func:`mirror`.

    Libraries compute all of a symmetric product; leaving out most of the lower half saves up to 40 % of the time.
    """
    columns = matrix.shape[1]
    width = _BLOCK if matrix.device.type == "cpu" else columns
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        total[:stop, start:stop].addmm_(matrix[:, :stop].T, matrix[:, start:stop], alpha=float(weight))


def mirror(total: torch.Tensor) -> torch.Tensor:
    """Completes what :func:`add_gram` has added up: the blocks below the diagonal, in place."""
    for stop in range(_BLOCK, len(total), _BLOCK):
        total[stop:, stop - _BLOCK : stop] = total[stop - _BLOCK : stop, stop:].T
    return total


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """``MᵀM`` of ``[m, n]``, ``[n, n]``."""
    total = matrix.new_zeros(matrix.shape[1], matrix.shape[1])
    add_gram(total, matrix)
    return mirror(total)


def polar(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The polar factor ``U Vᵀ`` of ``U S Vᵀ``, and the mean of S.

    A well-conditioned oblong matrix needs only the Gram matrix of its shorter side, ``M (MᵀM)^(−1/2)``; others are
    decomposed. Zero gives zero.

    Args:
        matrix: ``[m, n]``, float32.

    Returns:
        ``[m, n]`` and a scalar.
    """
    if matrix.shape[0] < matrix.shape[1]:
        factor, mean = polar(matrix.T)
        return factor.T, mean
    rows, columns = matrix.shape
    if rows >= 2 * columns:
        squares, axes = torch.linalg.eigh(gram(matrix))
        if squares[0] > _WELL_CONDITIONED * squares[-1]:
            lengths = squares.sqrt()
            return matrix @ ((axes / lengths) @ axes.T), lengths.mean()
    left, lengths, right = svd(matrix)
    if float(lengths[0]) == 0:
        return torch.zeros_like(matrix), lengths.mean()
    return left @ right, lengths.mean()


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Thin singular value decomposition ``U [m, r]``, ``S [r]``, ``Vᵀ [r, n]``."""
    left, lengths, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, lengths, right


def top_triplets(matrix: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The ``count`` largest singular triplets: ``U [m, count]``, ``S [count]``, ``Vᵀ [count, n]``.

    A small part of them is taken from the Gram matrix of the shorter side: large singular values are accurate there.
    """
    rows, columns = matrix.shape
    if rows < columns:
        left, lengths, right = top_triplets(matrix.T, count)
        return right.T, lengths, left.T
    if 2 * count > columns:
        left, lengths, right = svd(matrix)
        return left[:, :count], lengths[:count], right[:count]
    squares, axes = torch.linalg.eigh(gram(matrix))
    right = axes[:, -count:].flip(1)
    lengths = squares[-count:].flip(0).clamp_min(0).sqrt()
    if not float(lengths[-1]) > _WELL_CONDITIONED * float(lengths[0]):
        left, lengths, transposed = svd(matrix)
        return left[:, :count], lengths[:count], transposed[:count]
    return (matrix @ right) / lengths, lengths, right.T
