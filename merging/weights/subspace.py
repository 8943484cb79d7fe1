"""Leading eigenvectors of a batch of Gram matrices by matrix products, which a GPU is made for.

Block subspace iteration with a Chebyshev filter (Zhou, Saad, Tiago and Chelikowsky 2006), in float64. A block of half
as many columns again as are wanted is multiplied by a polynomial of the matrices that is small below a bound a and
grows fast above it, made orthonormal by its Gram matrix (Cholesky, twice), and turned to the Ritz vectors that it
holds. Only matrices of the block's size are decomposed; a processor's cores do that sooner than a GPU. What did not
arrive is said, so that it can be decomposed instead: matrices without so many directions, or whose cut lies among
values that are as good as equal.
"""

import math

import torch

from merging.core.streaming import cores

_SPARE = 8  # columns besides those wanted, at least
_POWERS = 2  # products before anything is known of the values
_DEGREE = 24  # of the polynomial, at most
_GROWTH = 1e10  # of the largest value against those below the bound, in one polynomial: float64 keeps the others
_ROUNDS = 7
_SETTLED = 1e-9  # residual of a vector over the bound: taken off the matrix, it leaves nothing that would be seen
_APART = 3e-6  # sine of the angle to the subspace, estimated, at which a vector has arrived
_ROUNDING = 1e-13  # of the largest value: no residual has to be smaller
SMALLEST = 1e-8  # value over the largest one below which rounding is too large a part of it
_WITHOUT = 1e-12  # the same that says that there are not so many directions


def pays(count: int, size: int) -> bool:
    """Whether so few eigenvectors are wanted of matrices of this size that products are sooner done than all."""
    return 2 * _width(count, size) <= size


def leading_axes(squares: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The largest eigenvalues of Gram matrices, their eigenvectors, and of which matrices they are right.

    Args:
        squares: ``[B, n, n]``, symmetric and positive semidefinite, float64.
        count: how many, k, for which :func:`pays` holds.

    Returns:
        ``[B, k]`` from the largest down, ``[B, n, k]``, and bool ``[B]`` on the CPU.
    """
    size, width = squares.shape[-1], _width(count, squares.shape[-1])
    scales = squares.diagonal(dim1=-2, dim2=-1).amax(dim=-1).clamp_min(1e-300)[:, None, None]
    matrices = squares / scales
    generator = torch.Generator(squares.device).manual_seed(0)
    start = torch.randn(size, width, generator=generator, device=squares.device, dtype=squares.dtype)
    block = start.expand(len(squares), size, width)
    for _ in range(_POWERS):
        block = _orthonormal(matrices @ block)
    for last in range(_ROUNDS, 0, -1):
        image = matrices @ block
        values, turn = _decomposed(block.mT @ image)
        turn = turn.to(block.device)
        block, image = block @ turn, image @ turn
        residuals = (image - block * values.to(block.device)[:, None]).norm(dim=-2).cpu()
        arrived = _arrived(values, residuals, count)
        without = ~(values[:, count - 1] > _WITHOUT * values[:, 0])
        if last == 1 or bool((arrived | without).all()):
            break
        block = _orthonormal(_filtered(matrices, block, values, residuals, count))
    return values[:, :count].to(scales) * scales[..., 0], block[..., :count], arrived


def _width(count: int, size: int) -> int:
    """Columns of the block."""
    return min(size, count + max(_SPARE, count // 2))


def _arrived(values: torch.Tensor, residuals: torch.Tensor, count: int) -> torch.Tensor:
    """Where a block's first vectors are those of the matrix, from Ritz values and residuals ``[B, b]``.

    A residual is the sine of the angle times the distance of a value from those outside of the block.
    """
    distances = values[:, :count] - values[:, -1:]
    right = residuals[:, :count] <= (_APART * distances).clamp_min(_ROUNDING * values[:, :1])
    found: torch.Tensor = right.all(dim=-1) & (values[:, count - 1] > SMALLEST * values[:, 0])
    return found


def _filtered(
    matrices: torch.Tensor, block: torch.Tensor, values: torch.Tensor, residuals: torch.Tensor, count: int
) -> torch.Tensor:
    """``T_d(2 G/a − 1)`` times Ritz vectors, for matrices G and bounds a ``[B]`` between the cut and what is left out.

    Vectors that have arrived are taken off G, so that large values do not limit the degree.
    """
    bounds = torch.minimum(values[:, count - 1], values[:, -1] + residuals[:, -1]).clamp_min(1e-30)[:, None]
    settled = residuals <= _SETTLED * bounds
    steepest = float((2 * values.masked_fill(settled, 0) / bounds - 1).nan_to_num(1.0).amax().clamp_min(1.0))
    growing = math.acosh(steepest)
    degree = _DEGREE if growing * _DEGREE < math.log(2 * _GROWTH) else max(1, int(math.log(2 * _GROWTH) / growing))
    factors = (2 / bounds).to(block)
    taken = (values * settled).nan_to_num().to(block) * factors
    shifted = torch.baddbmm(matrices * factors[:, None], block * taken[:, None], block.mT, alpha=-1)
    shifted.diagonal(dim1=-2, dim2=-1).sub_(1)
    before, now = block, shifted @ block
    for _ in range(degree - 1):
        before, now = now, torch.baddbmm(before, shifted, now, beta=-1, alpha=2)
    return now


def _orthonormal(block: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the columns of ``[B, n, b]``; directions that they lack are made up of rounding."""
    for shift in (1e-13, 0.0):
        block = block / block.norm(dim=-2, keepdim=True).clamp_min(1e-300)
        square = block.mT @ block
        square.diagonal(dim1=-2, dim2=-1).add_(shift * block.shape[-1])
        factor = torch.linalg.cholesky_ex(square).L
        eye = torch.eye(block.shape[-1], dtype=block.dtype, device=block.device).expand_as(factor)
        # A product with the small inverse: a GPU solves for tall blocks in thousands of small steps.
        block = block @ torch.linalg.solve_triangular(factor, eye, upper=False).mT
    return block


def _decomposed(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues from the largest down and eigenvectors of small matrices ``[B, b, b]``, on the CPU.

    Of one with NaN or infinity the values are NaN.
    """
    here = matrices.cpu()
    finite = torch.isfinite(here).flatten(1).all(dim=-1)
    here = torch.where(finite[:, None, None], here, 0.0)
    values, axes = (torch.linalg.eigh if matrices.device.type == "cpu" else _one_by_one)(here)
    return torch.where(finite[:, None], values, torch.nan).flip(-1), axes.flip(-1)


def _one_by_one(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``eigh``, a matrix on each core."""
    values, axes = zip(*cores().map(torch.linalg.eigh, matrices), strict=True)
    return torch.stack(values), torch.stack(axes)
