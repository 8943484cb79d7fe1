"""Singular vectors and polar factors of weight matrices, at a fraction of the cost of a full decomposition."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from merging.core.errors import NonFiniteWeights
from merging.core.streaming import cores
from merging.weights.newton_schulz import polar_factors
from merging.weights.subspace import leading_axes, pays

_BLOCK = 128  # columns of a Gram matrix computed at once on the CPU: few enough to skip half, enough for fast products
_WELL_CONDITIONED = 1e-3  # smallest over largest eigenvalue of the Gram matrix: below it float32 loses the small ones
_LEFT_OVER = 1e-2  # of the Gram matrix of a whole: from here on float32 knows what is left when a part is taken off
_COUNTED_ON = 1e-8  # the same of a triplet that is counted on, where the Gram matrix is in float64
NOTHING = 1e-5  # of the largest singular value: about what rounding leaves where there should be zero


def add_gram(total: torch.Tensor, matrix: torch.Tensor, weight: float = 1.0) -> None:
    """Adds ``weight · MᵀM`` of ``M [..., m, n]`` to the blocks of ``total [..., n, n]`` from the diagonal up.

    :func:`mirror` completes it. Libraries compute all of a symmetric product; leaving out most of the lower half saves
    up to 40 % of the time.
    """
    columns = matrix.shape[-1]
    width = _BLOCK if matrix.device.type == "cpu" else columns
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        part = matrix[..., :stop].mT @ matrix[..., start:stop]
        total[..., :stop, start:stop].add_(part, alpha=weight)


def mirror(total: torch.Tensor) -> torch.Tensor:
    """Completes what :func:`add_gram` has added up: the blocks below the diagonal, in place."""
    for stop in range(_BLOCK, total.shape[-1], _BLOCK):
        total[..., stop:, stop - _BLOCK : stop] = total[..., stop - _BLOCK : stop, stop:].mT
    return total


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """``MᵀM`` of ``[..., m, n]``, ``[..., n, n]``."""
    total = matrix.new_zeros(*matrix.shape[:-2], matrix.shape[-1], matrix.shape[-1])
    add_gram(total, matrix)
    return mirror(total)


def add_moments(squares: torch.Tensor, cubes: torch.Tensor, matrix: torch.Tensor, weight: float) -> None:
    """Adds ``weight · MᵀM`` to ``squares [n, n]``, as :func:`add_gram`, and ``weight · M MᵀM`` to ``cubes [m, n]``."""
    rows, columns = matrix.shape
    if 2 * rows < columns:  # then the product of the rows is the smaller one
        add_gram(squares, matrix, weight)
        cubes.addmm_(gram(matrix.T), matrix, alpha=weight)
    else:
        square = gram(matrix)
        squares.add_(square, alpha=weight)
        cubes.addmm_(matrix, square, alpha=weight)


def nonzero(stack: torch.Tensor) -> torch.Tensor:
    """The matrices of a stack ``[T, m, n]`` that are not all zero; the stack itself if that is all of them."""
    some = stack.flatten(1).any(dim=1)
    return stack if bool(some.all()) else stack[some]


def multiplies(device: torch.device) -> bool:
    """Whether a device does many matrix products sooner than it decomposes one matrix."""
    return device.type != "cpu"


def polar(matrix: torch.Tensor, nothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The polar factor ``U Vᵀ`` of ``U S Vᵀ``, and the mean of S.

    A GPU gets it by matrix products, see :mod:`merging.weights.newton_schulz`. On the CPU a well-conditioned oblong
    matrix needs only the Gram matrix of its shorter side, ``M (MᵀM)^(−1/2)``. What neither gives is decomposed. Zero
    gives zero.

    Args:
        matrix: ``[m, n]``, float32.
        nothing: directions whose share of the largest singular value is at most this are left out of the factor; what
            a decomposition gives for them is arbitrary.

    Returns:
        ``[m, n]`` and a scalar.

    Raises:
        NonFiniteWeights: the matrix is too large to be decomposed.
    """
    if matrix.shape[0] < matrix.shape[1]:
        factor, mean = polar(matrix.T, nothing)
        return factor.T, mean
    rows, columns = matrix.shape
    if multiplies(matrix.device):
        factor, converged = polar_factors(matrix)
        if bool(converged):
            return factor, (factor * matrix).sum() / columns
    if rows >= 2 * columns:
        squares, axes = _eigh(gram(matrix))
        if squares[0] > _WELL_CONDITIONED * squares[-1]:
            lengths = squares.sqrt()
            return matrix @ ((axes / lengths) @ axes.T), lengths.mean()
    left, lengths, right = svd(matrix)
    if float(lengths[0]) == 0:
        return torch.zeros_like(matrix), lengths.mean()
    rank = int((lengths > nothing * lengths[0]).sum()) if nothing else columns
    return left[:, :rank] @ right[:rank], lengths.mean()


def polar_of_each(matrices: torch.Tensor, nothing: float = 0.0) -> torch.Tensor:
    """The factor that :func:`polar` gives of ``[m, n]``, or those of a batch ``[B, m, n]`` together, for a GPU."""
    if matrices.ndim == 2:
        return polar(matrices, nothing)[0]
    if matrices.shape[1] < matrices.shape[2]:
        return polar_of_each(matrices.mT, nothing).mT
    factors, converged = polar_factors(matrices)
    for index in (~converged).nonzero()[:, 0].tolist():
        factors[index] = polar(matrices[index], nothing)[0]
    return factors


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Thin singular value decomposition ``U [..., m, r]``, ``S [..., r]``, ``Vᵀ [..., r, n]``."""
    with _decomposing():
        left, lengths, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, lengths, right


def all_triplets(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`svd` of one matrix, for who asks nothing of directions in which there is next to nothing.

    A GPU takes them from the Gram matrix of the shorter side in float64, in a tenth of the time. The singular vectors
    of the longer side are zero where singular values are.
    """
    if not _by_products(matrix.device):
        return svd(matrix)
    if matrix.shape[0] < matrix.shape[1]:
        left, lengths, right = all_triplets(matrix.T)
        return right.T, lengths, left.T
    exact = matrix.double()
    squares, axes = (part.flip(-1) for part in _eigh(exact.T @ exact))
    lengths = squares.clamp_min(0).sqrt()
    left = (exact @ axes) * torch.where(lengths > NOTHING**2 * lengths[0], 1 / lengths, 0.0)
    return left.to(matrix.dtype), lengths.to(matrix.dtype), axes.T.to(matrix.dtype)


def decomposed_sum(stack: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`svd` of the sum of a stack, with the first ``count`` triplets the same on every device.

    Neighbouring singular values of weights differ by a thousandth or less, so that float32 turns the last direction
    above a cut and the first below it into each other. The Gram matrix of the shorter side in float64 leaves them
    apart, at a smaller cost. The singular vectors of the longer side are good for the first ``count``.

    Args:
        stack: ``[..., T, m, n]``, float32.
        count: how many triplets are counted on, at most min(m, n).
    """
    if stack.shape[-2] > stack.shape[-1]:
        left, lengths, right = decomposed_sum(stack.mT, count)
        return right.mT, lengths, left.mT
    where = "cpu" if stack.device.type == "mps" else stack.device  # Apple's GPUs have no float64
    first, *others = stack.unbind(-3)
    total = first.to(where, torch.float64)
    for vector in others:
        total += vector.to(where)
    decomposed = _eigh(gram(total.mT)) if total.ndim == 2 else _eigh_of_each(gram(total.mT))
    squares, axes = (part.flip(-1).to(stack.device, torch.float32) for part in decomposed)
    matrix = total.to(stack.device, torch.float32)
    if count and not bool((squares[..., count - 1] > _COUNTED_ON * squares[..., 0]).all()):
        return svd(matrix)
    lengths = squares.clamp_min(0).sqrt()
    return axes, lengths, (axes.mT @ matrix) / lengths.clamp_min(1e-30)[..., None]


def solve_positive(matrix: torch.Tensor, right: torch.Tensor, advice: str = "") -> torch.Tensor:
    """``R M⁻¹`` of a symmetric positive definite ``M [n, n]`` and ``R [m, n]``; what else to do where it is not.

    Raises:
        NonFiniteWeights: M is not positive definite: a sum of squares that overflowed, or with too small a ridge.
    """
    with _decomposing(advice):
        factor = torch.linalg.cholesky(matrix)
    return torch.cholesky_solve(right.T, factor).T


def _eigh(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with _decomposing():
        squares, axes = torch.linalg.eigh(matrix)
    return squares, axes


def _eigh_of_each(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`_eigh` of a batch ``[B, n, n]``."""
    with _decomposing():
        parts = zip(*_beside_cores(torch.linalg.eigh, matrices), strict=True)
        values, axes = (torch.cat([one.to(matrices.device) for one in part]) for part in parts)
    return values, axes


def _beside_cores(function: Callable[[torch.Tensor], Any], matrices: torch.Tensor) -> list[Any]:
    """What a decomposition gives of batches that make up ``[B, n, n]``, in order.

    Where they lie on a GPU the processor's cores take half of them, and leave the results on the CPU: a GPU decomposes
    one at a time.
    """
    ours = len(matrices) // 2 if matrices.device.type == "cuda" else 0
    waiting = cores().map(function, matrices[:ours, None].cpu()) if ours else ()
    rest = function(matrices[ours:])
    return [*waiting, rest]


def effective_ranks(grams: torch.Tensor) -> list[float]:
    """``exp(−Σ p log p)`` of the shares p of singular values' squares, from Gram matrices ``[B, n, n]``; 0 of zero."""
    with _decomposing():
        parts = _beside_cores(torch.linalg.eigvalsh, grams.double())
    squares = torch.cat([part.cpu() for part in parts]).clamp_min(0)
    shares = squares / squares.sum(dim=-1, keepdim=True).clamp_min(1e-300)
    ranks = torch.special.entr(shares).sum(dim=-1).exp()
    return torch.where(shares.any(dim=-1), ranks, 0.0).tolist()


@contextmanager
def _decomposing(advice: str = "") -> Iterator[None]:
    """What LAPACK refuses are mostly matrices with infinities, from weights whose squares overflow."""
    try:
        yield
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise NonFiniteWeights(
            "a matrix could not be decomposed, most likely since the squares of its weights overflow; `check` gives "
            f"the norm of each task vector; leave out a task whose norm is far larger than the others'{advice}"
        ) from None


def top_triplets(
    matrices: torch.Tensor, count: int, inside: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The largest singular triplets of a batch: ``U [..., m, count]``, ``S [..., count]``, ``Vᵀ [..., count, n]``.

    A small part of them is taken from the Gram matrix of the shorter side: large singular values are accurate there.

    Args:
        matrices: ``[..., m, n]``, float32, such as the task vectors of one tensor.
        count: how many, at most min(m, n).
        inside: orthonormal columns ``[..., m, k]``, of matrices with m ≥ n: the triplets of what lies outside of them.
    """
    batch = matrices.shape[:-2]
    if batch and not multiplies(matrices.device):  # Gram matrices of all at once take more than is kept of them
        each = [top_triplets(matrix, count, inside) for matrix in matrices.flatten(0, -3)]
        left, lengths, right = (torch.stack(parts).unflatten(0, batch) for parts in zip(*each, strict=True))
        return left, lengths, right
    rows, columns = matrices.shape[-2:]
    if rows < columns:
        left, lengths, right = top_triplets(matrices.mT, count)
        return right.mT, lengths, left.mT
    if inside is not None:
        if _by_products(matrices.device) and pays(count, columns):
            return top_triplets(_outside(matrices, inside), count)
        found = _top_triplets_outside(matrices, count, inside) if 2 * count <= columns else None
        return found or top_triplets(_outside(matrices, inside), count)
    if _by_products(matrices.device) and pays(count, columns):
        return _top_triplets_by_products(matrices, count)
    return _top_triplets_decomposed(matrices, count)


def _by_products(device: torch.device) -> bool:
    """Whether a device takes leading triplets from products; Apple's GPUs have no float64."""
    return multiplies(device) and device.type != "mps"


def _top_triplets_by_products(matrices: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`top_triplets` by :func:`leading_axes`; matrices whose vectors did not arrive are decomposed."""
    batch = matrices.shape[:-2]
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    exact = map(torch.Tensor.double, flat)  # one at a time: float64 of all of them would be twice their room
    values, axes, arrived = leading_axes(torch.stack([one.mT @ one for one in exact]), count)
    lengths = values.clamp_min(0).sqrt()
    left = torch.stack([one.double() @ own for one, own in zip(flat, axes, strict=True)])
    left.div_(lengths.clamp_min(1e-300)[:, None])
    found = tuple(part.to(matrices.dtype) for part in (left, lengths, axes.mT))
    if not bool(arrived.all()):
        rest = (~arrived).nonzero()[:, 0].to(flat.device)
        for part, other in zip(found, _top_triplets_decomposed(flat[rest], count), strict=True):
            part[rest] = other
    left, lengths, right = (part.unflatten(0, batch) if batch else part[0] for part in found)
    return left, lengths, right


def _top_triplets_decomposed(matrices: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`top_triplets`, of matrices with m ≥ n, from a decomposition."""
    if 2 * count <= matrices.shape[-1]:
        squares, axes = _eigh(gram(matrices))
        right = axes[..., -count:].flip(-1)
        lengths = squares[..., -count:].flip(-1).clamp_min(0).sqrt()
        if bool((lengths[..., -1] > _WELL_CONDITIONED * lengths[..., 0]).all()):
            return (matrices @ right) / lengths[..., None, :], lengths, right.mT
    left, lengths, right = svd(matrices)
    return left[..., :count], lengths[..., :count], right[..., :count, :]


def _top_triplets_outside(
    matrices: torch.Tensor, count: int, inside: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """From the difference of two Gram matrices; None where little of a matrix is outside, so that rounding tells."""
    whole = gram(matrices)
    least = _LEFT_OVER * whole.diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    squares, axes = _eigh(whole.sub_(gram(inside.mT @ matrices)))
    if not bool((squares[..., -count] > least).all()):
        return None
    lengths, right = squares[..., -count:].flip(-1).sqrt(), axes[..., -count:].flip(-1)
    return _outside(matrices @ right, inside) / lengths[..., None, :], lengths, right.mT


def _outside(matrices: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """What of ``[..., m, n]`` lies outside of orthonormal columns ``[..., m, k]``."""
    return (inside @ (inside.mT @ matrices)).neg_().add_(matrices)


def side_by_side(
    left: torch.Tensor, lengths: torch.Tensor, right: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Triplets of a batch ``[…, T, m, c]``, ``[…, T, c]``, ``[…, T, c, n]`` joined, ``[…, m, T·c]`` and so on."""
    return left.movedim(-3, -2).flatten(-2), lengths.flatten(-2), right.flatten(-3, -2)
