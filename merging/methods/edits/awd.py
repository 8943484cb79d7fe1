"""Adaptive Weight Disentanglement: subtract one redundant vector δ from all task vectors.

No reference code was ever published. The paper (arXiv 2411.18729) leaves open whether δ is one vector of the whole
model or one per layer, and whether plain descent or Adam finds it; both readings are here, as presets.

Vectors that are zero (over the model, the tensor or the row, by scope) take no part and stay zero, see
:mod:`merging.methods.edits.redundancy`.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from merging.core.streaming import COLUMNS, ordered
from merging.methods.adam import Adam
from merging.methods.context import Context
from merging.methods.edits.redundancy import (
    Redundancy,
    descent,
    directed,
    edited,
    exact,
    mixed,
    mixing,
    pulls_at_nothing,
)
from merging.methods.planned import Edit, LinearEdit, Report, RowEdit, RowMixing, TensorEdit
from merging.methods.registry import edit
from merging.methods.units import UNITS_OF_ADAM, InUnits, Size, Units, spread_factor
from merging.weights.geometry import ROUNDING, Geometry, gram_of
from merging.weights.roles import role_of
from merging.weights.vectors import TaskVectors

Scope = Literal["model", "layer", "row"]
Solver = Literal["descent", "exact", "adam"]
ADAM_BETA = 1e-5  # a step in units of a weight; descent's β multiplies a gradient and is far too large for that
READING_B = {  # of the paper
    "scope": "layer",
    "solver": "adam",
    "beta": ADAM_BETA,
    "tensors": "matrices",
    "units": "published",
}
TARGET_NORM = 2.0  # root mean square norm that layers and rows are scaled to: what α and β were chosen for
_SETTINGS = "AWD's α and β"
_NUDGE = 1e-7  # relative, about what float32 and another kernel make of an inner product
_STEADY = 1e-3  # of the result: moved by less than this it is the same for every purpose
AT_ONCE = 4096  # problems solved at once: enough that calls cost little, few enough to stay in cache


class AwdParams(InUnits):
    """How the redundant vector is found."""

    scope: Scope = Field("model", description="One redundant vector for the model, per tensor, or per output row.")
    solver: Solver = Field(
        "descent",
        description="descent: the published iteration. exact: its minimiser. adam: Adam on every weight of the vector.",
    )
    alpha: float = Field(0.1, ge=0, le=10, title="α", description="Weight of the norm of the redundant vector.")
    beta: float = Field(
        0.01,
        gt=0,
        le=10,
        title="β",
        description=f"Step size of descent; for adam about how far a step moves a weight, such as {ADAM_BETA:g}.",
    )
    steps: int = Field(300, ge=0, le=5000, description="Number of steps.")
    tensors: Literal["all", "matrices"] = Field("all", description="Which tensors are disentangled.")
    units: Units = UNITS_OF_ADAM

    @classmethod
    def has_units(cls, values: Mapping[str, Any]) -> bool:
        """Adam's step is that of a weight. Others: for the whole model as published, layers and rows scaled anyway."""
        return bool(values.get("solver", "descent") == "adam")


@dataclass(frozen=True)
class Disentangled:
    """What AWD found.

    Attributes:
        edit: the edit itself; linear unless scope is row or the solver adam.
        after: geometry of the edited vectors.
        coefficients: a, ``[T]`` for scope model, ``[L, T]`` for scope layer, None where δ is not of that form.
        multipliers: 1 − n a, for n vectors that are not zero: what AWD followed by a plain sum multiplies each task
            vector by. Shaped as ``coefficients``, None where they are.
        curve: objective before each step and at the end, mean over layers or rows.
        redundant_norm: ‖δ‖ over the whole model.
        doubt: why another machine may find something else, as a sentence without its end; empty if it will not.
    """

    edit: Edit
    after: Geometry
    coefficients: np.ndarray | None
    multipliers: np.ndarray | None
    curve: np.ndarray
    redundant_norm: float
    doubt: str = ""


@edit(
    "awd",
    title="AWD",
    paper="https://arxiv.org/abs/2411.18729",
    presets={
        "Reading A: one vector, plain descent (unverified)": {},
        "Reading B: one per matrix, Adam (unverified)": READING_B,
    },
)
def awd(vectors: TaskVectors, params: AwdParams, context: Context) -> Edit:
    """Subtract one redundant vector so that the task vectors become more orthogonal."""
    if params.scope == "row" and params.solver != "adam":
        return _row_edit(vectors, _of_kind(vectors, params), params, context)[0]  # measures what it needs itself
    return disentangle(vectors, context.geometry(vectors), params, context).edit


def is_live(params: AwdParams) -> bool:
    """Whether Gram matrices of tensors are all that is needed, so that :func:`from_geometry` will do."""
    return params.solver != "adam" and params.scope != "row"


def disentangle(vectors: TaskVectors, geometry: Geometry, params: AwdParams, context: Context) -> Disentangled:
    """Find the redundant vector and the edit that subtracts it.

    Args:
        vectors: the task vectors; read only for scope row and for adam.
        geometry: theirs.
        params: how.
        context: device, progress, cancellation.
    """
    if is_live(params):
        return from_geometry(geometry, params)
    if params.solver == "adam":
        return _adam(vectors, geometry, params, context)
    return _rows(vectors, geometry, params, context)


def from_geometry(geometry: Geometry, params: AwdParams) -> Disentangled:
    """Scopes model and layer in Gram space: milliseconds, for a model of any size."""
    chosen = _chosen(geometry, params)
    whole = params.scope == "model"
    grams = geometry.grams[chosen].sum(axis=0, keepdims=True) if whole else geometry.grams[chosen]
    size = Size.of_lengths(grams, TARGET_NORM, _SETTINGS) if whole else None
    grams = _normalised(grams) if size is None or size.relative(params.units) else grams
    found, solved, doubt = _solved_twice(grams, params)  # one for all layers, or one for each
    matrices = np.tile(np.eye(len(geometry.tasks)), (len(geometry.names), 1, 1))
    matrices[chosen] = solved
    per_layer = np.zeros(matrices.shape[:2])
    per_layer[chosen] = found.coefficients
    norm = _redundant_norm(geometry.grams, per_layer)
    coefficients, multipliers = per_layer, matrices.sum(axis=1)
    if whole:
        coefficients, multipliers = found.coefficients[0], solved[0].sum(axis=0)
    report = {
        **_report(params, found.curve, norm, size),
        "coefficients": coefficients.tolist(),
        "task_multipliers": multipliers.tolist(),
        "tensors": None if whole else list(geometry.names),
    }
    if doubt:
        report["warnings"] = [doubt]
    edit = LinearEdit(dict(zip(geometry.names, matrices, strict=True)), report)
    after = geometry.with_grams(mixed(geometry.grams, matrices))
    return Disentangled(edit, after, coefficients, multipliers, found.curve, norm, doubt)


def _solved_twice(grams: np.ndarray, params: AwdParams) -> tuple[Redundancy, np.ndarray, str]:
    """What is found, the matrices that apply it, and what to say where it hangs on the last digit of a Gram matrix.

    Descent of a sum of absolute cosines goes to and fro across its kinks. With a step size made for task vectors as
    long as CLIP's that stays small; on shorter ones the iterates wander, and each rounding leads them elsewhere. So the
    same problems with another last digit are solved beside them, in the same steps: of so few most of the time is that
    of calls.
    """
    there = directed(grams)
    if params.solver != "descent" or not len(grams):
        found = _solve(grams, params)
        return found, mixing(found.coefficients, there), ""
    noise = np.random.default_rng(0).standard_normal(grams.shape[1:])
    nudged = grams * (1 + _NUDGE * (noise + noise.T))
    both = _solve(np.concatenate([grams, nudged]), params, told=len(grams))
    first, again = np.split(both.coefficients, 2)
    solved = mixing(first, there)
    moved = float(np.linalg.norm(mixing(again, there) - solved) / np.linalg.norm(solved))
    return Redundancy(first, both.curve), solved, "" if moved <= _STEADY else _unsettled(grams, moved, params)


def _unsettled(grams: np.ndarray, moved: float, params: AwdParams) -> str:
    """What to say where the steps are too large to settle; ``moved`` is by how much a nudge moves the result."""
    there = directed(grams)
    length = float(np.sqrt(np.diagonal(grams, axis1=1, axis2=2)[there].mean())) if there.any() else 0.0
    return (
        f"AWD does not settle: {_NUDGE:g} of a change in the inner products moves its result by {moved:.1g} of itself, "
        f"so that another machine may find another merge; β = {params.beta:g} is too large a step for task vectors of "
        f"root mean square norm {length:.2g} (CLIP's have about {TARGET_NORM:g}): take edit.units=relative, or a "
        "smaller β"
    )


def rose(before: float, after: float) -> bool:
    """Whether an objective is larger than it was, by more than inner products in float32 can make of nothing.

    >>> rose(0.3, 0.3 + 1e-16), rose(0.3, 0.31)
    (False, True)
    """
    return after - before > ROUNDING * max(1.0, abs(before))


def _report(params: AwdParams, curve: np.ndarray, norm: float, size: Size | None = None) -> Report:
    """What a run keeps of AWD; scopes and solvers with coefficients fill those in."""
    everywhere = f"AWD's α and β carried over to the size of the task vectors, as in every {params.scope} by itself"
    return {
        "scope": params.scope,
        "solver": params.solver,
        "coefficients": None,
        "task_multipliers": None,
        "tensors": None,
        "objective_before": float(curve[0]),
        "objective_after": float(curve[-1]),
        "objective": curve.tolist(),
        "redundant_norm": norm,
        **(size.report(params.units) if size else {"units": "relative", "units_because": everywhere}),
    }


def _chosen(geometry: Geometry, params: AwdParams) -> list[int]:
    """Indices of the tensors to disentangle: of the kind asked for, and not all zero."""
    return [
        i
        for i, name in enumerate(geometry.names)
        if np.trace(geometry.grams[i]) > 0 and _is_of_kind(name, geometry.shapes[name], params)
    ]


def _is_of_kind(name: str, shape: tuple[int, ...], params: AwdParams) -> bool:
    return params.tensors == "all" or role_of(name, shape).two_dimensional


def _of_kind(vectors: TaskVectors, params: AwdParams) -> list[str]:
    """The tensors of the kind asked for."""
    return [name for name in vectors.names if _is_of_kind(name, vectors.info(name).shape, params)]


def _normalised(grams: np.ndarray) -> np.ndarray:
    """Gram matrices rescaled to the root mean square norm that α and β are meant for, zero vectors not counted."""
    squares = np.diagonal(grams, axis1=1, axis2=2).sum(axis=1) / np.maximum(directed(grams).sum(axis=1), 1)
    factors = np.divide(TARGET_NORM**2, squares, out=np.ones_like(squares), where=squares > 0)
    scaled: np.ndarray = grams * factors[:, None, None]
    return scaled


def _solve(
    grams: np.ndarray, params: AwdParams, device: torch.device | str = "cpu", told: int | None = None
) -> Redundancy:
    """Solve a batch of any size ``[B, T, T]``: a cache-sized part at a time, several in parallel; whole on a GPU.

    The curve is that of the first ``told`` problems, or of all.
    """
    if not len(grams):
        return Redundancy(np.zeros((0, grams.shape[-1])), np.zeros(1))
    where = torch.device("cpu" if params.solver == "exact" else device)
    size = AT_ONCE if where.type == "cpu" else len(grams)

    def solved(start: int) -> Redundancy:
        given = grams[start : start + size], params.alpha, params.beta, params.steps
        return exact(*given) if params.solver == "exact" else descent(*given, where, among(start))

    def among(start: int) -> int:
        return min(max(0, (len(grams) if told is None else told) - start), size, len(grams) - start)

    starts = range(0, len(grams), size)
    parts, weights = list(ordered(solved, starts, where)), [among(start) for start in starts]
    curve = np.average([part.curve for part in parts], axis=0, weights=weights)
    return Redundancy(np.concatenate([part.coefficients for part in parts]), curve)


def _redundant_norm(grams: np.ndarray, coefficients: np.ndarray) -> float:
    """‖δ‖ over all problems of a batch."""
    return float(np.sqrt(max(0.0, np.einsum("bi,bij,bj->", coefficients, grams, coefficients))))


def _as_rows(stack: torch.Tensor) -> torch.Tensor:
    """``[T, *shape]`` → ``[T, R, N]``: output rows of a matrix or kernel; a vector counts as one row."""
    return stack.reshape(len(stack), 1 if stack.ndim <= 2 else stack.shape[1], -1)


def _rows(vectors: TaskVectors, geometry: Geometry, params: AwdParams, context: Context) -> Disentangled:
    """Scope row: one redundant vector per output row."""
    chosen = [geometry.names[index] for index in _chosen(geometry, params)]
    edit, curve, norm = _row_edit(vectors, chosen, params, context)
    after = geometry.grams.copy()
    for name, mixing_of_rows in edit.rows.items():
        after[geometry.names.index(name)] = mixing_of_rows.gram
    return Disentangled(edit, geometry.with_grams(after), None, None, curve, norm)


def _row_edit(
    vectors: TaskVectors, chosen: Sequence[str], params: AwdParams, context: Context
) -> tuple[RowEdit, np.ndarray, float]:
    """The edit of the rows of the chosen tensors from the Gram matrix of every row, the curve, ‖δ‖ over all rows."""

    def measured(name: str) -> np.ndarray:
        shape = vectors.info(name).shape
        length = math.prod(shape[1:] if len(shape) > 1 else shape)
        pieces = vectors.pieces(name, context.device, unit=length)
        grams: np.ndarray = torch.cat([_grams(stack.unflatten(1, (-1, length))) for *_, stack in pieces]).cpu().numpy()
        if not np.isfinite(grams).all():
            raise vectors.owner_of_nonfinite(name)
        return grams

    grams = []
    for done, more in enumerate(ordered(measured, chosen, context.device)):
        grams.append(more)
        context.step(done + 1, len(chosen), "measuring rows")
    joined = np.concatenate(grams) if grams else np.zeros((0, len(vectors.tasks), len(vectors.tasks)))
    alive = np.einsum("bii->b", joined) > 0
    context.step(0, 1, "solving rows")
    found = _solve(_normalised(joined[alive]), params, context.device)
    coefficients, there = np.zeros(joined.shape[:2]), directed(joined)
    coefficients[alive] = found.coefficients

    ends = np.cumsum([0, *map(len, grams)])
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    after = _edited_grams(joined, coefficients, there, parts, context.device)
    rows = {
        name: RowMixing(coefficients[part], there[part], gram)
        for name, part, gram in zip(chosen, parts, after, strict=True)
    }

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        if name not in rows:
            return stack
        weights = torch.as_tensor(rows[name].coefficients.T, dtype=torch.float32).to(stack.device)  # [T, R]
        units = _as_rows(stack)
        phi = torch.empty_like(units)
        size = max(1, COLUMNS // units.shape[2]) if stack.device.type == "cpu" else units.shape[1]
        for start in range(0, units.shape[1], size):  # rows that stay in the cache until they are subtracted from
            some = slice(start, start + size)
            redundant = torch.einsum("tr,trn->rn", weights[:, some], units[:, some])
            torch.sub(units[:, some], redundant, out=phi[:, some])
        moving = torch.as_tensor(rows[name].there.T).to(stack.device)
        return _with_still(phi, units, moving).reshape(stack.shape)

    norm = _redundant_norm(joined, coefficients)
    return RowEdit(apply, _report(params, found.curve, norm), rows=rows), found.curve, norm


def _edited_grams(
    grams: np.ndarray, coefficients: np.ndarray, there: np.ndarray, parts: Sequence[slice], device: torch.device
) -> list[np.ndarray]:
    """Gram matrices ``[T, T]`` of edited tensors, each the sum of some rows', from those before the edit."""
    if device.type == "cpu":

        def of_part(part: slice) -> np.ndarray:
            found: np.ndarray = (
                edited(*map(torch.as_tensor, (grams[part], coefficients[part], there[part]))).sum(0).numpy()
            )
            return found

        return list(ordered(of_part, parts, device))
    whole = edited(*(torch.as_tensor(array, device=device) for array in (grams, coefficients, there)))
    sums = torch.stack([whole[part].sum(dim=0) for part in parts]) if parts else whole
    return [*sums.cpu().numpy()]


def _subtracted(units: torch.Tensor, delta: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """φ = τ − δ of the vectors ``[T, U, N]`` that have a direction, by ``there`` ``[T, U]``; the others as they are."""
    return _with_still(units - delta, units, there)


def _with_still(phi: torch.Tensor, units: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """φ with the vectors that have no direction as they were."""
    if not bool(there.all()):
        phi[~there] = units[~there]
    return phi


def _adam(vectors: TaskVectors, geometry: Geometry, params: AwdParams, context: Context) -> Disentangled:
    """Element-wise Adam on the full δ. Its steps leave the span of the task vectors, so δ itself is kept: D numbers.

    α weighs ‖δ‖ in the scaled units of the scope, as for the other solvers; β is a step in units of a weight.
    """
    chosen = [geometry.names[index] for index in _chosen(geometry, params)]
    groups = [chosen] if params.scope == "model" and chosen else [[name] for name in chosen]
    size = Size.of_entries(geometry, chosen, _SETTINGS)
    relative = size.relative(params.units)
    after = geometry.grams.copy()
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # δ [U, N] and which vectors it is subtracted from [T, U]
    curves, weights = [], []
    square = 0.0

    def units(stack: torch.Tensor) -> torch.Tensor:
        return _as_rows(stack) if params.scope == "row" else stack.reshape(len(stack), 1, -1)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        if name not in found:
            return stack
        delta, there = (part.to(stack.device) for part in found[name])
        return _subtracted(units(stack), delta, there).reshape(stack.shape)

    for done, group in enumerate(groups):
        stacks = [units(vectors.stack(name, context.device)[1]) for name in group]
        flat = torch.cat(stacks, dim=2)  # [T, U, N]
        gram = _grams(flat)
        there = torch.as_tensor(directed(gram.cpu().numpy()), device=flat.device)  # [U, T]
        factor = spread_factor(flat) if relative else 1.0
        scaled = relative or params.scope != "model"
        delta, curve = _adam_on(flat.div_(factor), gram / factor**2, there, params, scaled, context, done, len(groups))
        delta *= factor
        curves.append(curve)
        weights.append(flat.shape[1])
        square += float(delta.double().square().sum())
        for name, stack, part in zip(group, stacks, _split(delta, stacks), strict=True):
            found[name] = part, there.T
            phi = _subtracted(stack, part, there.T).reshape(len(stack), -1)
            after[geometry.names.index(name)] = gram_of(phi.split(COLUMNS, dim=1))

    curve = np.average(curves, axis=0, weights=weights) if curves else np.zeros(1)
    edit = TensorEdit(apply, _report(params, curve, square**0.5, size))
    return Disentangled(edit, geometry.with_grams(after), None, None, curve, square**0.5)


def _grams(units: torch.Tensor) -> torch.Tensor:
    """Gram matrices ``[U, T, T]`` of units ``[T, U, N]``: summed in pieces that rounding allows for."""
    parts = ((part.movedim(0, 1) @ part.permute(1, 2, 0)).double() for part in units.split(COLUMNS, dim=2))
    grams: torch.Tensor = functools.reduce(torch.add, parts)
    return grams


def _split(delta: torch.Tensor, units: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Cut ``[units, N]`` back into the tensors it was joined from."""
    yield from delta.split([unit.shape[2] for unit in units], dim=1)


def _idle_pairs(shared: torch.Tensor, summed: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """As :func:`pulls_at_nothing` for ``[U, T, T]`` and ``[U, T]``, of vectors that are not zero."""
    roots = torch.where(there, shared.diagonal(dim1=1, dim2=2).clamp_min(1e-30).rsqrt(), 0.0)
    idle = pulls_at_nothing(*(part.movedim(0, -1) for part in (shared, roots, summed))).movedim(-1, 0)
    return idle & there[:, :, None] & there[:, None, :]


def _adam_on(
    stack: torch.Tensor,
    gram: torch.Tensor,
    there: torch.Tensor,
    params: AwdParams,
    scaled: bool,
    context: Context,
    group: int,
    groups: int,
) -> tuple[torch.Tensor, np.ndarray]:
    """Adam on one δ per unit, ``[T, U, N]`` → δ ``[U, N]`` and the mean objective over the iterations.

    The gradient is written out: with h as in :func:`~merging.methods.edits.redundancy.descent`,
    ∇L_O = −2/(T(T−1)) Σ_j h_j φ_j, so a step costs two passes over the stack. T counts the vectors that have a
    direction, by ``there`` ``[U, T]``; ``gram`` is that of every unit, ``[U, T, T]``. If ``scaled``, α weighs the norm
    as if that of the task vectors were :data:`TARGET_NORM`.
    """
    x = stack.movedim(0, 1)  # [U, T, N]
    counts = there.sum(dim=1)
    scale = TARGET_NORM / (gram.diagonal(dim1=1, dim2=2).sum(dim=1) / counts.clamp_min(1)).clamp_min(1e-30).sqrt()
    if not scaled:
        scale = torch.ones_like(scale)
    pairs = (counts * (counts - 1)).clamp_min(1)
    shares = counts > 1  # else Adam would blow rounding errors up to whole steps
    lengths = gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    watched = _idle_pairs(gram, lengths, there).sum(dim=(1, 2)) > counts  # a vector and itself always are
    delta = torch.zeros_like(x[:, 0]).requires_grad_()
    optimiser = Adam(delta, params.beta)
    curve = np.empty(params.steps + 1)
    for step in range(params.steps + 1):
        d = delta.detach()
        u = torch.einsum("utn,un->ut", x, d).double()
        square = d.double().square().sum(dim=1)
        shared = gram - u[:, :, None] - u[:, None, :] + square[:, None, None]
        squares = shared.diagonal(dim1=1, dim2=2)
        inverse = torch.where(there & (squares > 1e-30), squares.clamp_min(1e-30).rsqrt(), 0.0)
        weighted = (shared.abs() * inverse[:, None, :]).sum(dim=2)  # Σ_j |P_ij| v_j
        mean_cosine = ((inverse * weighted).sum(dim=1) - (inverse > 0).sum(dim=1)) / pairs
        length = square.sqrt()
        curve[step] = float((mean_cosine + params.alpha * scale * length).mean())
        if step == params.steps:
            break
        if watched.any():
            idle = watched[:, None, None] & _idle_pairs(shared, lengths + length[:, None], there)
            shared = shared.masked_fill(idle, 0.0)
            weighted = (shared.abs() * inverse[:, None, :]).sum(dim=2)
        h = inverse * (shared.sign() * inverse[:, None, :]).sum(dim=2) - inverse.pow(3) * weighted
        grow = torch.where(length > 0, params.alpha * scale / length.clamp_min(1e-30), 0.0)
        pull = (2 * shares / pairs)[:, None] * h
        own = (pull.sum(dim=1) + grow).to(d.dtype)
        delta.grad = own[:, None] * d - torch.einsum("ut,utn->un", pull.to(d.dtype), x)
        optimiser.step()
        if step % 25 == 0:
            context.step(group * params.steps + step, groups * params.steps, "disentangling")
    return delta.detach(), curve
