"""DOGE: one learned update that closes the gaps of all task vectors, off what they share (arXiv 2501.01230).

Only the weight matrices of the transformer's blocks are merged; all other tensors stay those of the base. Per matrix
one δ is added to all task vectors, found with Adam on

    Σ_j ‖ rowsum( τ_j ⊙ (τ_j − Σ_i λ_i (τ_i + δ)) ) ‖²,      λ_i = 0.07/‖τ_i‖

with gradients projected off the subspace that the tasks share. ``τ_t + δ`` then keeps the entries where τ_t is among
its largest, over all of these matrices together. So does the authors' code, as FusionBench has it; for DOGE AM that
code finds a δ for each task and protects 1/T of the rank, in place of one δ and 1/6 here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field

from merging.core.errors import SpecError
from merging.methods.adam import Adam
from merging.methods.context import Context
from merging.methods.edits.magnitudes import largest_magnitudes
from merging.methods.layers import TOGETHER, matrices_of, of_equal_shape
from merging.methods.planned import Report, TensorEdit
from merging.methods.registry import Revision, edit
from merging.methods.units import UNITS, InUnits, Size, Units, length_factor, spread_factor
from merging.weights import spectra
from merging.weights.roles import Role, role_of
from merging.weights.spectra import nonzero, side_by_side, svd, top_triplets
from merging.weights.vectors import TaskVectors

_AT_FIRST = {"layers": "everything"}
_ENTRIES = 1 << 20  # of all tasks' rows at once: few enough to stay in the cache between two uses, few enough calls


class DogeParams(InUnits):
    """The descent, the shared subspace, and the layer-wise coefficients."""

    steps: int = Field(400, ge=0, le=10_000, description="Steps of Adam on δ.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Adam's learning rate, in units of a weight; see units.")
    shared: float = Field(1 / 6, ge=0, le=1, description="Share of the rank that is protected as common to the tasks.")
    keep: float = Field(0.3, gt=0, le=1, description="Share of entries kept of each task vector, over all layers.")
    strength: float = Field(0.07, gt=0, le=10, title="η", description="λ of a tensor and task is η/‖τ‖; see units.")
    scaled: bool = Field(
        True,
        description="Multiply each edited vector by its λ, so that Task Arithmetic with λ = 1 is DOGE TA. "
        "Off for AdaMerging, which learns the coefficients.",
    )
    layers: Literal["published", "all_linear", "everything"] = Field(
        "published",
        description="published: the weight matrices of the blocks; other tensors stay the base's. all_linear: conv1 "
        "and proj (stored with its inputs first) as well. everything: what this program did at first: other tensors "
        "are merged too, with η/‖τ‖, and every matrix is trimmed by itself.",
        exclude_if=lambda value: value == "published",
    )
    units: Units = UNITS


@edit(
    "doge",
    title="DOGE",
    paper="https://arxiv.org/abs/2501.01230",
    revisions=(Revision("merged all other tensors as well and trimmed every matrix by itself", _AT_FIRST),),
)
def doge(vectors: TaskVectors, params: DogeParams, context: Context) -> TensorEdit:
    """Add one learned update per matrix to all task vectors, off the subspace that they share, and trim them."""
    roles = {name: role_of(name, vectors.info(name).shape) for name in vectors.names}
    layers = {name: role for name, role in roles.items() if _is_layer(role, params)}
    together = params.layers != "everything"
    if together and not layers:
        raise SpecError(
            "DOGE merges the weight matrices of a transformer's blocks, and these models have none, so that the base "
            "would come out; choose another edit"
        )
    kept = max(1, math.floor(params.keep * sum(torch.Size(role.shape).numel() for role in layers.values()) + 1e-9))
    limits = largest_magnitudes(vectors, kept, context, tuple(layers)).tolist() if together else []

    geometry = context.geometry(vectors)
    size = Size.of_entries(geometry, layers, "DOGE's η and learning rate")
    relative = size.relative(params.units)
    strength = params.strength * (length_factor(geometry, layers) if relative else 1.0)
    sizes: dict[str, float] = {}
    found = _updates_together(vectors, layers, strength, params, sizes if relative else None, context)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        role = layers.get(name)
        if role is None and together:
            return torch.zeros_like(stack)
        weights = _weights(stack, strength)
        factors = weights if params.scaled else torch.ones_like(weights)
        edited = stack * factors.view(-1, *[1] * base.ndim)
        if role is not None:
            matrices = role.matrices(stack)
            if name in found:
                delta = found[name]
            elif relative:
                sizes[name] = factor = spread_factor(stack)
                delta = factor * _update(matrices / factor, weights, params, context)
            else:
                delta = _update(matrices, weights, params, context)
            delta = role.stored(delta)
            for task, vector in enumerate(stack):
                if weights[task] == 0:
                    continue  # all its entries are at the threshold
                magnitudes = vector.abs()
                limit = limits[task] if together else _limit(magnitudes, params.keep)
                edited[task].add_(factors[task] * delta).mul_(magnitudes >= limit)
        return edited

    report: Report = {"layers": len(layers), **size.report(params.units)}
    if together:
        report |= {"entries_kept": kept, "limits": limits}
    if relative:
        report |= {"strength": strength, "times_clip": sizes}
    return TensorEdit(apply, report)


def _is_layer(role: Role, params: DogeParams) -> bool:
    return role.linear if params.layers == "all_linear" else role.block_matrix


def _limit(magnitudes: torch.Tensor, share: float) -> torch.Tensor:
    """The smallest of so large a share of the entries."""
    size = magnitudes.numel()
    kept = max(1, math.floor(share * size + 1e-9))
    return magnitudes.flatten().kthvalue(size - kept + 1).values


def _weights(stack: torch.Tensor, strength: float) -> torch.Tensor:
    """λ ``[T]`` of the task vectors of a tensor, ``η/‖τ‖``; 0 where a task left it alone."""
    norms = stack.flatten(1).norm(dim=1)
    return torch.where(norms > 0, strength / norms.clamp_min(1e-30), 0.0)


def _update(stack: torch.Tensor, weights: torch.Tensor, params: DogeParams, context: Context) -> torch.Tensor:
    """δ ``[m, n]`` of one matrix; stack ``[T, m, n]``, λ ``[T]``."""
    if not float(weights.sum()):
        return torch.zeros_like(stack[0])
    return _descended(stack[None], weights[None], shared_basis(stack, params.shared)[None], params, context)[0]


def _updates_together(
    vectors: TaskVectors,
    layers: Mapping[str, Role],
    strength: float,
    params: DogeParams,
    sizes: dict[str, float] | None,
    context: Context,
) -> dict[str, torch.Tensor]:
    """δ of all layers, where a GPU finds those of equal shape together; nothing on the CPU.

    With relative settings ``sizes`` gets how many times as large as CLIP's the vectors of each layer are, else None.
    """
    if not spectra.multiplies(context.device):
        return {}

    found: dict[str, torch.Tensor] = {}
    for names in of_equal_shape(layers, len(vectors.tasks)):
        context.step(len(found), len(layers), "finding updates")
        stacks = matrices_of(vectors, names, layers, context.device)
        weights = torch.stack([_weights(stack, strength) for stack in stacks])
        factors = [1.0 if sizes is None else spread_factor(stack) for stack in stacks]
        if sizes is not None:
            sizes |= dict(zip(names, factors, strict=True))
            stacks = stacks / torch.tensor(factors, device=stacks.device)[:, None, None, None]
        some = max(1, TOGETHER // (32 * len(vectors.tasks) * min(stacks.shape[2:]) ** 2))  # Gram matrices in float64
        bases = torch.cat([_shared_bases(part, params.shared) for part in stacks.split(some)])
        deltas = _descended(stacks, weights, bases, params, context)
        found |= {name: factor * delta for name, factor, delta in zip(names, factors, deltas, strict=True)}
    return found


def _descended(
    stacks: torch.Tensor, weights: torch.Tensor, bases: torch.Tensor, params: DogeParams, context: Context
) -> torch.Tensor:
    """δ ``[B, m, n]`` of matrices ``[B, T, m, n]`` with λ ``[B, T]``, off the columns of ``bases [B, m, k]``."""
    delta = torch.zeros_like(stacks[:, 0])
    total = weights.sum(dim=1)[:, None, None]
    merged = torch.einsum("bt,btmn->bmn", weights, stacks)
    # rowsum(τ_j ⊙ (τ_j − Σ λ τ)), [B, T, m]
    gaps = torch.stack([(one * (one - merged)).sum(dim=2) for one in stacks.unbind(1)], dim=1)
    delta.grad = torch.empty_like(delta)
    gradient = _by_products if spectra.multiplies(delta.device) else _by_blocks
    add_gradient = gradient(stacks, gaps, total, delta)
    optimiser = Adam(delta, params.learning_rate, fused=True)
    for _ in range(params.steps):
        context.stop_if_cancelled("DOGE")
        add_gradient()
        delta.grad.baddbmm_(bases, bases.mT @ delta.grad, alpha=-1)
        optimiser.step()
    return delta


def _by_blocks(
    stacks: torch.Tensor, gaps: torch.Tensor, total: torch.Tensor, delta: torch.Tensor
) -> Callable[[], None]:
    """Sets the gradient of δ, some rows at a time: few enough to stay in the cache between two uses of an entry.

    Rows do not depend on each other but for the projection. Each takes one product with its task vectors for the
    residuals, ``2 Λ² ⟨τ_j, δ⟩ − 2 Λ gap_j``, and one with these for the gradient, ``Σ_j residual_j τ_j``.
    """
    assert delta.grad is not None
    size = max(1, _ENTRIES // (stacks.shape[1] * delta.shape[2]))
    matrices = stacks.transpose(1, 2)  # [B, m, T, n]
    aims = (-2 * total * gaps).mT[:, :, None]  # [B, m, 1, T]
    factors = (2 * total.square()).flatten().tolist()

    def add() -> None:
        assert delta.grad is not None
        for rows, aim, factor, at, to in zip(matrices, aims, factors, delta, delta.grad, strict=True):
            for start in range(0, len(at), size):
                some = slice(start, start + size)
                residual = torch.baddbmm(aim[some], at[some, None], rows[some].mT, alpha=factor)
                torch.bmm(residual, rows[some], out=to[some, None])

    return add


def _by_products(
    stacks: torch.Tensor, gaps: torch.Tensor, total: torch.Tensor, delta: torch.Tensor
) -> Callable[[], None]:
    """Sets the gradient of δ in two products over the rows of all matrices, for a GPU."""
    tasks, columns = stacks.shape[1], stacks.shape[3]
    rows = stacks.movedim(1, 2).reshape(-1, tasks, columns)  # [B·m, T, n]
    whole = total.expand(-1, delta.shape[1], 1).reshape(-1, 1, 1)
    aims, factors = -2 * whole * gaps.mT.reshape(-1, tasks, 1), 2 * whole.square()
    residual = torch.empty_like(aims)
    assert delta.grad is not None
    flat, to = delta.view(-1, columns, 1), delta.grad.view(-1, columns, 1)

    def add() -> None:
        torch.bmm(rows, flat, out=residual)
        torch.bmm(rows.mT, torch.addcmul(aims, residual, factors, out=residual), out=to)

    return add


def _shared_bases(stacks: torch.Tensor, share: float) -> torch.Tensor:
    """As :func:`shared_basis` of every stack of ``[B, T, m, n]``, with zeros for columns that lack."""
    tasks, rank = stacks.shape[1], min(stacks.shape[2:])
    wanted = int(share * rank)
    if tasks > 1 and wanted and bool(stacks.flatten(2).any(dim=2).all()):
        joined, _, _ = side_by_side(*top_triplets(stacks, max(1, rank // tasks)))
        found = list(top_triplets(joined, min(wanted, *joined.shape[1:]))[0])
    else:
        found = [shared_basis(stack, share) for stack in stacks]
    return torch.stack([torch.nn.functional.pad(one, (0, wanted - one.shape[1])) for one in found])


def shared_basis(stack: torch.Tensor, share: float) -> torch.Tensor:
    """Orthonormal columns ``[m, ⌊share · r⌋]`` that span what the tasks have in common.

    The top r/T left singular vectors of every task vector are joined; the main left singular vectors of that are taken.
    """
    rank = min(stack.shape[1:])
    count = max(1, rank // len(stack))
    some = nonzero(stack)
    if not len(some):
        return stack.new_zeros(stack.shape[1], 0)
    joined, _, _ = side_by_side(*top_triplets(some, count))
    wanted = min(int(share * rank), *joined.shape)
    if wanted and len(some) > 1 and spectra.multiplies(stack.device):  # of one task they are equal: any would be taken
        return top_triplets(joined, wanted)[0]
    left, _, _ = svd(joined)
    return left[:, :wanted]
