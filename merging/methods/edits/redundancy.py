"""Finding the redundant vector of Adaptive Weight Disentanglement from inner products alone.

The objective (arXiv 2411.18729), for T task vectors τ_i and one vector δ, is

    L(δ) = 1/(T(T−1)) Σ_{i≠j} |cos(τ_i − δ, τ_j − δ)| + α ‖δ‖₂

It depends on δ only through inner products, so a problem in D dimensions is one in the T coefficients of
``δ = Σ_k a_k τ_k``. Problems are solved in batches: the whole model is a batch of one, scope ``layer`` a batch of L,
scope ``row`` one of all rows.

A zero vector (a model equal to the base, a tensor or row that one task did not change) has no direction, so it takes no
part: T counts the others. If it did, its φ would be −δ as soon as δ is not 0, parallel to nothing before and to
everything δ touches after: descent would end far above where it began. It also has nothing redundant to lose, and stays
zero: with δ subtracted from it, an unchanged model in the set would subtract a δ more from every sum.

Inner products of weights are summed in float32, each library and processor in an order of its own, so that they carry
rounding of up to :data:`~merging.weights.geometry.ROUNDING` times ‖τ_i‖ ‖τ_j‖. What is smaller counts as none: vectors
that coincide that nearly are one vector (:func:`resolved`), pairs that are that nearly parallel or orthogonal have no
slope, a φ that short is zero. Otherwise descent would walk along rounding, and of a δ of 1e-9 the norm's kink makes
one of length α β.

So the result depends on the library by (each tested with rounding of 2e-6)

- at most 1e-6 ‖τ‖ in δ where all vectors coincide to 1e-3 of their length, or are parallel or opposite;
- at most 5e-3 ‖τ‖ in δ and in L otherwise, typically 1e-6: descent ends by going to and fro across kinks of the
  objective in steps of about that length, and on which side it stops hangs on the last digit;
- up to 2e-2 ‖τ‖ for the exact minimum of vectors that differ by about 1 % where α is so small that all they share is
  redundant: of what is left, float32 knows the cosines only roughly.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from merging.core.streaming import ordered
from merging.weights.geometry import ROUNDING

_TINY = 1e-30
_ZERO = 1e-24  # share of the largest squared norm up to which a vector is zero: less than any type of weights resolves
_SMOOTHINGS = (1e-1, 1e-2, 1e-3, 1e-5)  # of the absolute values that exact minimises, one stage each
_DEPENDENT = 1e-12  # of the largest eigenvalue: what vectors that depend on each other leave of the smallest
_PART, _PART_ON_GPU = 1 << 12, 1 << 15  # problems that are looked at together
_AT_ONCE = 1 << 15  # entries of Gram matrices: of more, a step goes through the vectors one by one
_DIVERGED = 1e6  # a coefficient this large means that β was too large; beyond it rounding is all that is left


@dataclass(frozen=True)
class Redundancy:
    """A batch of B solutions.

    Attributes:
        coefficients: a, float64 ``[B, T]``: δ = Σ_k a_k τ_k.
        curve: mean objective over the batch before each step and after the last one.
    """

    coefficients: np.ndarray
    curve: np.ndarray


_Solver = Callable[[np.ndarray, int], Redundancy]  # of how many of the first problems the curve is


def directed(gram: np.ndarray) -> np.ndarray:
    """Which of the vectors have a direction, that is are not zero: ``[…, T, T]`` → bool ``[…, T]``."""
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    found: np.ndarray = squares > _ZERO * squares.max(axis=-1, keepdims=True)
    return found


def resolved(gram: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Gram matrices of what rounding leaves apart, ``[B, T, T]``; the very same where it leaves all vectors apart.

    Directions are dropped in which the normalised vectors differ by no more than their inner products are rounded.
    Vectors that are then no farther apart than that become equal, to the last bit.
    """
    limit = gram.shape[-1] * ROUNDING
    hidden = _in_parts(functools.partial(_hidden, limit=limit), gram, device=device)
    if not hidden.any():
        return gram
    result = gram.copy()
    for index in np.flatnonzero(hidden):
        lengths, cosine = (part.numpy() for part in _normalised(torch.as_tensor(gram[index])))
        values, axes = np.linalg.eigh(cosine)
        points = lengths[:, None] * axes * np.sqrt(np.where(values > limit, values, 0))
        result[index] = _with_equal_points(points, np.sqrt(ROUNDING) * lengths)
    return result


def _hidden(gram: torch.Tensor, limit: float) -> torch.Tensor:
    """In which problems ``[B]`` the normalised vectors span a direction of at most so small a square."""
    lengths, cosine = _normalised(gram)
    cosine.diagonal(dim1=-2, dim2=-1).add_((lengths == 0).to(gram.dtype) - limit)
    return ~_definite(cosine)


def _normalised(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths ``[…, T]``, and the Gram matrices of the vectors at length 1, of those that have any."""
    lengths = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    return lengths, gram * inverse[..., :, None] * inverse[..., None, :]


def _definite(matrices: torch.Tensor) -> torch.Tensor:
    """Which symmetric matrices ``[B, T, T]`` are positive definite, ``[B]``; a tenth of the work of eigenvalues."""
    found: torch.Tensor = torch.linalg.cholesky_ex(matrices).info == 0
    return found


def _with_equal_points(points: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """The Gram matrix of points ``[T, K]``; those within both margins ``[T]`` of each other are one and the same."""
    first = np.arange(len(points))
    for one in range(len(points)):
        near = np.linalg.norm(points - points[one], axis=1) <= margins + margins[one]
        first[one:][near[one:] & (first[one:] == np.arange(one, len(points)))] = first[one]
    same: np.ndarray = (points @ points.T)[np.ix_(first, first)]
    return same


def mixed(gram: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Gram matrices of ``φ = E τ``, ``[B, T, T]``; a φ that is too short for rounding to tell it from zero is zero.

    Args:
        gram: ⟨τ_i, τ_j⟩, ``[B, T, T]``.
        matrices: E, ``[B, T, T]``, see :func:`mixing`.
    """
    grams = matrices @ gram @ np.swapaxes(matrices, 1, 2)
    lengths = np.sqrt(np.clip(np.diagonal(gram, axis1=1, axis2=2), 0, None))
    summed = np.einsum("bij,bj->bi", np.abs(matrices), lengths)
    told = np.diagonal(grams, axis1=1, axis2=2) > ROUNDING * np.square(summed)
    found: np.ndarray = np.where(told[:, :, None] & told[:, None, :], grams, 0)
    return found


def edited(gram: torch.Tensor, coefficients: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """As :func:`mixed` by the matrices of :func:`mixing`, in a tenth of the work, on the device of its arguments.

    Args:
        gram: ⟨τ_i, τ_j⟩, ``[B, T, T]``.
        coefficients: a, ``[B, T]``.
        there: from which vectors δ is subtracted, bool ``[B, T]``.
    """
    moved = there.to(gram.dtype)
    along = (gram * coefficients[:, None, :]).sum(dim=2)  # ⟨τ_i, δ⟩
    square = (along * coefficients).sum(dim=1)[:, None]
    half = along - 0.5 * square * moved  # each half of ‖δ‖² goes to one of the two below
    grams = gram - moved[:, :, None] * half[:, None, :] - half[:, :, None] * moved[:, None, :]
    lengths = gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    parts = coefficients.abs() * lengths
    own = (1 - moved * coefficients).abs() * lengths
    summed = own + moved * (parts.sum(dim=1, keepdim=True) - parts)
    told = grams.diagonal(dim1=1, dim2=2) > ROUNDING * summed.square()
    return torch.where(told[:, :, None] & told[:, None, :], grams, 0.0)


def objective(gram: np.ndarray, coefficients: np.ndarray, alpha: float) -> np.ndarray:
    """L for each problem, ``[B]``; vectors that are zero in ``gram`` are left out.

    Args:
        gram: ⟨τ_i, τ_j⟩, ``[B, T, T]``.
        coefficients: a, ``[B, T]``.
        alpha: weight of ‖δ‖.
    """
    return _objective(resolved(gram), coefficients, alpha)


def _objective(
    gram: np.ndarray, coefficients: np.ndarray, alpha: float, device: torch.device | str = "cpu"
) -> np.ndarray:
    """As :func:`objective`, of Gram matrices that are resolved."""
    return _in_parts(functools.partial(_objective_of, alpha=alpha), gram, coefficients, device=device)


def _objective_of(gram: torch.Tensor, coefficients: torch.Tensor, alpha: float) -> torch.Tensor:
    squares = gram.diagonal(dim1=1, dim2=2)
    there = squares > _ZERO * squares.amax(dim=1, keepdim=True)
    counts = there.sum(dim=1)
    cosine = _normalised(edited(gram, coefficients, there))[1].clamp_(-1, 1).abs_()
    counted = there[:, :, None] & there[:, None, :]
    counted.diagonal(dim1=1, dim2=2).fill_(False)
    mean = (cosine * counted).sum(dim=(1, 2)) / (counts * (counts - 1)).clamp_min(1)
    square = ((gram * coefficients[:, None, :]).sum(dim=2) * coefficients).sum(dim=1)
    return mean + alpha * square.clamp_min(0).sqrt()


def _in_parts(
    function: Callable[..., torch.Tensor], *arrays: np.ndarray, device: torch.device | str = "cpu"
) -> np.ndarray:
    """A function of every problem of a batch, some at a time: on the CPU few enough for a cache, by several threads."""
    size = _PART if torch.device(device).type == "cpu" else _PART_ON_GPU

    def part(start: int) -> np.ndarray:
        given = (torch.as_tensor(array[start : start + size], device=device) for array in arrays)
        found: np.ndarray = function(*given).cpu().numpy()
        return found

    starts = range(0, max(1, len(arrays[0])), size)
    return np.concatenate(list(ordered(part, starts, device) if len(starts) > 1 else map(part, starts)))


def mixing(coefficients: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The matrices E with φ = E τ: ``I − 1 aᵀ``, whose 1 is 0 for vectors that stay as they are, ``[…, T, T]``.

    Args:
        coefficients: a, ``[…, T]``.
        there: from which vectors δ is subtracted, ``[…, T]``, see :func:`directed`.
    """
    matrices: np.ndarray = np.eye(coefficients.shape[-1]) - there[..., :, None] * coefficients[..., None, :]
    return matrices


def descent(
    gram: np.ndarray,
    alpha: float,
    rate: float,
    steps: int,
    device: torch.device | str = "cpu",
    told: int | None = None,
) -> Redundancy:
    """Plain gradient descent ``δ ← δ − β ∇L`` from δ = 0, iterated on the coefficients a.

    ∇L is a combination of the τ's, so one step in D dimensions is one update of T numbers: the same iterates, to
    rounding. With ``P`` the Gram matrix of the φ_i, ``v_i = 1/‖φ_i‖`` and ``s_ij = sign P_ij``,

        h_j = v_j Σ_i s_ij v_i − v_j³ Σ_i |P_ij| v_i            (the terms i = j cancel)
        a ← a + β [2/(T(T−1)) (h − (Σ_j h_j) a) − α a / ‖δ‖]

    A problem that diverges (β much too large for the norms) stops where it is, so that all numbers stay finite.

    Args:
        gram: ``[B, T, T]``.
        alpha: weight of ‖δ‖, whose sub-gradient at δ = 0 is taken as 0.
        rate: β.
        steps: number of steps.
        device: where the steps are taken. In float64: float32 would move most problems by 1e-7, and those at a kink
            by as much as a step.
        told: of how many of the first problems the curve is; of all if None or 0.
    """

    def solved(gram: np.ndarray, told: int) -> Redundancy:
        return _descent(gram, alpha, rate, steps, device, told or len(gram))

    return _without_zeros(solved, gram, told or len(gram), device)


def _without_zeros(solver: _Solver, gram: np.ndarray, told: int, device: torch.device | str = "cpu") -> Redundancy:
    """Solve each problem on its non-zero vectors alone, all problems with the same number of those together."""
    gram = resolved(gram, device)
    there = directed(gram)
    if there.all():
        return solver(gram, told)
    first = np.argsort(~there, axis=1, kind="stable")  # those that take part, in their order, then the others
    count = there.sum(axis=1)
    coefficients = np.zeros(there.shape)
    curves, weights = [], []
    for number in np.unique(count):
        (problems,) = np.nonzero(count == number)
        own = first[problems, :number]  # [b, number]
        weights.append(int((problems < told).sum()))
        part = solver(gram[problems[:, None, None], own[:, :, None], own[:, None, :]], weights[-1])
        coefficients[problems[:, None], own] = part.coefficients
        curves.append(part.curve)
    return Redundancy(coefficients, np.average(curves, axis=0, weights=weights))


class _Pairs:
    """What a step of descent takes from all pairs of vectors, of problems ``[T, T, B]``: long rows are fast.

    On the CPU the pairs of many problems are gone through vector by vector, so that what a step needs of them at a
    time stays in the cache; of few problems, and on a GPU, all at once, in fewer calls.
    """

    def __init__(self, gram: torch.Tensor) -> None:
        self.gram = gram
        self._by_vector = gram.device.type == "cpu" and gram.numel() > _AT_ONCE
        self._shared, self._signed = gram.new_empty(2, *(gram.shape[1:] if self._by_vector else gram.shape))

    def times(self, coefficients: torch.Tensor, out: torch.Tensor) -> None:
        """``G a``. Sums over the first index of symmetric matrices: they go through memory in one direction."""
        if not self._by_vector:
            torch.sum(torch.mul(self.gram, coefficients[:, None], out=self._shared), dim=0, out=out)
            return
        torch.mul(self.gram[0], coefficients[0], out=out)
        for row, coefficient in zip(self.gram[1:], coefficients[1:], strict=True):
            out.addcmul_(row, coefficient)

    def pulls(self, u: torch.Tensor, inverse: torch.Tensor, pulled: torch.Tensor, weighted: torch.Tensor) -> None:
        """``Σ_i s_ij v_i`` and ``Σ_i |P_ij| v_i``, with ``P = G − u_i − u_j`` and v ``inverse``, all ``[T, B]``."""
        if not self._by_vector:
            torch.sub(self.gram, u[:, None], out=self._shared).sub_(u)
            torch.copysign(inverse[:, None], self._shared, out=self._signed)
            torch.sum(self._signed, dim=0, out=pulled)
            torch.sum(self._shared.mul_(self._signed), dim=0, out=weighted)
            return
        pulled.zero_()
        weighted.zero_()
        for row, own, length in zip(self.gram, u, inverse, strict=True):
            torch.sub(row, u, out=self._shared).sub_(own)
            pulled.add_(torch.copysign(length, self._shared, out=self._signed))
            weighted.addcmul_(self._shared, self._signed)


def _descent(
    gram: np.ndarray, alpha: float, rate: float, steps: int, device: torch.device | str = "cpu", told: int | None = None
) -> Redundancy:
    """As :func:`descent`, on vectors that are not zero."""
    batch, tasks, _ = gram.shape
    if tasks < 2:
        return Redundancy(np.zeros((batch, tasks)), np.zeros(steps + 1))
    pairs = _Pairs(torch.as_tensor(gram, device=device).movedim(0, -1).contiguous())
    g = pairs.gram
    a = g.new_zeros(tasks, batch)
    pull = 2 / (tasks * (tasks - 1))
    curve = g.new_empty(steps + 1)
    u, pulled, weighted, inverse, spare = g.new_empty(5, tasks, batch)  # mapping fresh memory would take longer
    projection = _range_projection(gram, device)
    into_range = None if projection is None else torch.as_tensor(projection).to(g).movedim(0, -1)
    squares = g.diagonal().T.contiguous()
    lengths = squares.sqrt()
    # A vector and itself always pull at nothing; only problems where others do are looked at in every step.
    pulling = pulls_at_nothing(g, 1 / lengths, lengths).sum(dim=(0, 1)) > tasks
    watched = pulling.nonzero()[:, 0]
    few = g[:, :, watched]

    for step in range(steps + 1):
        pairs.times(a, out=u)  # G a
        square = torch.mul(a, u, out=spare).sum(dim=0).clamp_min_(0)  # ‖δ‖²
        length = square.sqrt()
        u.sub_(square.mul_(0.5))  # P = G − u_i − u_j
        torch.threshold_(torch.sub(squares, u, alpha=2, out=inverse), _TINY, torch.inf).rsqrt_()  # 1/‖φ‖; 0 where 0
        pairs.pulls(u, inverse, pulled, weighted)
        weighted.mul_(inverse)  # v_j Σ_i |P_ij| v_i
        present = torch.sign(inverse, out=spare).sum(dim=0)
        curve[step] = weighted.sum(dim=0).sub_(present).mul_(pull / 2).add_(length, alpha=alpha)[:told].mean()
        if step == steps:
            break
        if len(watched):
            near, far = few - u[:, None, watched] - u[:, watched], inverse[:, watched]
            idle = pulls_at_nothing(near, far, lengths[:, watched] + (a.abs() * lengths).sum(dim=0)[watched])
            signs = torch.copysign(far[:, None], near).masked_fill_(idle, 0)
            pulled[:, watched] = signs.sum(dim=0)
            weighted[:, watched] = near.mul_(signs).sum(dim=0).mul_(far)
        h = pulled.addcmul_(weighted, inverse, value=-1).mul_(inverse)
        shrink = h.sum(dim=0).mul_(pull).add_(torch.where(length > 0, alpha / length, 0.0))
        if into_range is not None:
            h = (into_range * h).sum(dim=1)
        rates = (torch.abs(a, out=spare).amax(dim=0) < _DIVERGED).to(a.dtype).mul_(rate)
        a.mul_(shrink.mul_(rates).neg_().add_(1)).addcmul_(h, rates.mul_(pull))
    found = a.T.cpu().numpy().copy()
    values = curve.cpu().numpy()
    # Both ends of the very numbers that are given, and in the same words: where nothing moved they are equal.
    values[0], values[-1] = (
        np.mean(_objective(gram[:told], end[:told], alpha, device)) for end in (np.zeros_like(found), found)
    )
    return Redundancy(found, values)


def pulls_at_nothing(shared: torch.Tensor, inverse: torch.Tensor, summed: torch.Tensor) -> torch.Tensor:
    """Which pairs are parallel or orthogonal as far as rounding lets one see, so that |cos| has no slope there.

    Args:
        shared: ⟨φ_i, φ_j⟩, ``[T, T, B]``.
        inverse: 1/‖φ‖, ``[T, B]``.
        summed: lengths that the φ are summed up from, ``[T, B]``; ``shared`` is off by ROUNDING of their products.
    """
    cosine = (shared * inverse[:, None] * inverse).abs_()
    share = summed * inverse
    orthogonal = cosine <= ROUNDING * share[:, None] * share
    parallel = 1 - cosine <= ROUNDING * (share[:, None] + share).square() / 2
    return orthogonal | parallel


def _range_projection(gram: np.ndarray, device: torch.device | str) -> np.ndarray | None:
    """Projections ``[B, T, T]`` onto the ranges of Gram matrices, None if all of them are regular.

    Where task vectors depend on each other, δ has many coefficients; the part of a that makes no δ would grow until
    it drowns the part that does.
    """
    doubtful = np.flatnonzero(~_in_parts(_independent, gram, device=device))
    values, axes = np.linalg.eigh(gram[doubtful])
    kept = values > _DEPENDENT * values[:, -1:]
    if kept.all():
        return None
    projection = np.tile(np.eye(gram.shape[-1]), (len(gram), 1, 1))
    projection[doubtful] = (axes * kept[:, None, :]) @ np.swapaxes(axes, 1, 2)
    return projection


def _independent(gram: torch.Tensor) -> torch.Tensor:
    """In which problems ``[B]`` the vectors surely do not depend on each other."""
    shifted = gram.clone()
    diagonal = shifted.diagonal(dim1=1, dim2=2)
    diagonal -= 2 * _DEPENDENT * diagonal.sum(dim=1, keepdim=True)
    return _definite(shifted)


def exact(gram: np.ndarray, alpha: float, rate: float, steps: int) -> Redundancy:
    """Minimise L over δ in the span of the task vectors.

    Quasi-Newton (BFGS) from four starts on a smoothed objective whose smoothing goes to zero; the best point by the
    true objective is kept. Descent's end point is a start and a candidate: the result is never above it. A part of δ
    orthogonal to all task vectors never lowered the optimum (the tests let an optimiser try), so none is offered.

    Args:
        gram: ``[B, T, T]``.
        alpha: weight of ‖δ‖.
        rate: β of the descent that gives one of the starts.
        steps: its number of steps.
    """
    return _without_zeros(lambda gram, _: _exact(gram, alpha, rate, steps), gram, len(gram))


def _exact(gram: np.ndarray, alpha: float, rate: float, steps: int) -> Redundancy:
    """As :func:`exact`, on vectors that are not zero."""
    batch, tasks, _ = gram.shape
    if tasks < 2:
        return Redundancy(np.zeros((batch, tasks)), np.zeros(len(_SMOOTHINGS) + 2))
    walked = _descent(gram, alpha, rate, steps)
    # Coordinates of the task vectors in an orthonormal basis of their span, at root mean square norm 1.
    values, axes = np.linalg.eigh(gram)
    exactly = values > 1e-14 * values[:, -1:]  # smaller ones are rounding of vectors that depend on each other
    roots = np.sqrt(np.where(exactly, values, 0))
    unit = np.sqrt(np.clip(np.diagonal(gram, axis1=1, axis2=2).mean(axis=1), _TINY, None))
    x = axes * roots[:, None, :] / unit[:, None, None]
    mean = x.mean(axis=1)
    descended = np.einsum("bij,bi->bj", x, walked.coefficients)
    current = np.concatenate([descended, np.zeros_like(mean), 0.5 * mean, mean])
    count = len(current) // batch
    points, weight = np.tile(x, (count, 1, 1)), np.tile(alpha * unit, count)
    best, best_value = current.copy(), _smoothed(current, points, weight, 0.0)[0]
    curve = [float(walked.curve[0])]
    for smoothing in _SMOOTHINGS:
        current = _bfgs(current, points, weight, smoothing, iterations=30)
        value = _smoothed(current, points, weight, 0.0)[0]
        better = value < best_value
        best[better], best_value[better] = current[better], value[better]
        curve.append(float(np.mean(best_value.reshape(count, batch).min(axis=0))))
    choice = best_value.reshape(count, batch).argmin(axis=0)
    delta = best.reshape(count, batch, tasks)[choice, np.arange(batch)] * unit[:, None]
    solved = np.divide(delta, roots, out=np.zeros_like(roots), where=roots > 1e-9 * roots.max(axis=1)[:, None])
    coefficients = np.einsum("bij,bj->bi", axes, solved)
    # Changing coordinates rounds; where that matters, descent's own numbers, or none at all, win.
    for candidate in (walked.coefficients, np.zeros_like(coefficients)):
        worse = _objective(gram, coefficients, alpha) > _objective(gram, candidate, alpha)
        coefficients[worse] = candidate[worse]
    curve.append(float(np.mean(_objective(gram, coefficients, alpha))))
    return Redundancy(coefficients, np.array(curve))


def _smoothed(delta: np.ndarray, x: np.ndarray, weight: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """L with |c| and ‖δ‖ replaced by √(·² + ε²), and its gradient, for δ ``[B, K]`` and vectors ``[B, T, K]``."""
    tasks = x.shape[1]
    phi = x - delta[:, None, :]
    squares = np.einsum("btk,btk->bt", phi, phi)
    if not smoothing:  # the very objective, in which a φ that may be rounding is zero
        summed = np.linalg.norm(x, axis=2) + np.linalg.norm(delta, axis=1)[:, None]
        squares = np.where(squares > ROUNDING * np.square(summed), squares, 0)
    inverse = _inverse_sqrt(squares)
    n = phi * inverse[:, :, None]
    c = (n @ np.swapaxes(n, 1, 2)) * (1 - np.eye(tasks))
    soft = np.sqrt(c * c + smoothing**2)
    length = np.sqrt(np.einsum("bk,bk->b", delta, delta) + smoothing**2)
    off_diagonal = soft.sum(axis=(1, 2)) - tasks * smoothing
    value = off_diagonal / (tasks * (tasks - 1)) + weight * (length - smoothing)
    slope = np.divide(c, soft, out=np.zeros_like(c), where=soft > 0)
    turned = slope @ n - (slope * c).sum(axis=2)[:, :, None] * n
    pull = -2 / (tasks * (tasks - 1)) * np.einsum("bik,bi->bk", turned, inverse)
    grown = np.divide(weight, length, out=np.zeros_like(length), where=length > 0)
    return value, pull + grown[:, None] * delta


def _bfgs(delta: np.ndarray, x: np.ndarray, weight: np.ndarray, smoothing: float, iterations: int) -> np.ndarray:
    """BFGS with backtracking on a batch of small independent problems, ``[B, K]`` → ``[B, K]``."""
    result = delta.copy()
    index = np.arange(len(delta))  # problems still moving
    identity = np.eye(delta.shape[1])
    inverse_hessian = np.tile(identity, (len(delta), 1, 1))
    value, gradient = _smoothed(delta, x, weight, smoothing)
    for _ in range(iterations):
        direction = -np.einsum("bij,bj->bi", inverse_hessian, gradient)
        downhill = np.einsum("bi,bi->b", direction, gradient)
        lost = downhill >= 0
        direction[lost], inverse_hessian[lost] = -gradient[lost], identity
        downhill[lost] = -np.einsum("bi,bi->b", gradient[lost], gradient[lost])
        moved, new_value, new_gradient = _line_search(
            delta, direction, downhill, value, gradient, x[index], weight[index], smoothing
        )
        s, y = moved - delta, new_gradient - gradient
        curvature = np.einsum("bi,bi->b", s, y)
        usable = curvature > 1e-14
        rho = np.divide(1, curvature, out=np.zeros_like(curvature), where=usable)
        left = identity - rho[:, None, None] * s[:, :, None] * y[:, None, :]
        update = left @ inverse_hessian @ np.swapaxes(left, 1, 2) + rho[:, None, None] * s[:, :, None] * s[:, None, :]
        inverse_hessian = np.where(usable[:, None, None], update, identity)
        result[index] = moved
        moving = np.abs(s).max(axis=1) > 1e-7
        if not moving.any():
            break
        index, inverse_hessian = index[moving], inverse_hessian[moving]
        delta, value, gradient = moved[moving], new_value[moving], new_gradient[moving]
    return result


def _line_search(
    delta: np.ndarray,
    direction: np.ndarray,
    downhill: np.ndarray,
    value: np.ndarray,
    gradient: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    smoothing: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve the step of each problem until it satisfies Armijo's condition; a problem that can't moves nowhere."""
    moved, new_value, new_gradient = delta.copy(), value.copy(), gradient.copy()
    scale = np.minimum(1.0, 1.0 / np.maximum(np.linalg.norm(direction, axis=1), _TINY))
    left = np.arange(len(delta))
    for _ in range(15):
        trial = delta[left] + scale[left, None] * direction[left]
        trial_value, trial_gradient = _smoothed(trial, x[left], weight[left], smoothing)
        good = trial_value <= value[left] + 1e-4 * scale[left] * downhill[left]
        accepted = left[good]
        moved[accepted], new_value[accepted], new_gradient[accepted] = (
            trial[good],
            trial_value[good],
            trial_gradient[good],
        )
        left = left[~good]
        if not left.size:
            break
        scale[left] *= 0.5
    return moved, new_value, new_gradient


def _inverse_sqrt(squares: np.ndarray) -> np.ndarray:
    """1/√x, and 0 where x is (numerically) 0."""
    inverse: np.ndarray = np.zeros_like(squares)
    np.divide(1.0, np.sqrt(np.clip(squares, _TINY, None)), out=inverse, where=squares > _TINY)
    return inverse
