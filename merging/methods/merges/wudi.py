"""WUDI: the merged update whose differences to the task vectors interfere least (arXiv 2503.08099).

For every linear weight, find m that minimises ``Σ_t ‖(m − τ_t) τ_tᵀ‖² / ‖τ_t‖²``: rows of τ_t lie near the inputs of
the layer, so the loss is what task t would notice. It is quadratic: with ``S = Σ τ_tᵀτ_t/‖τ_t‖²`` and
``R = Σ τ_t τ_tᵀτ_t/‖τ_t‖²`` its gradient is ``2 (m S − R)``, and S and R are computed once.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field

from merging.methods.adam import Adam
from merging.methods.calibration import CALIBRATION
from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers, matrices_of, matrix_by_matrix, of_equal_shape
from merging.methods.planned import TensorMerge
from merging.methods.registry import merge
from merging.methods.scaling import Scaling, scaled
from merging.methods.units import UNITS_OF_ADAM, InUnits, Size, Units, spread_factor
from merging.weights.roles import Role, role_of
from merging.weights.spectra import add_moments, mirror, multiplies, nonzero, solve_positive
from merging.weights.vectors import TaskVectors


class WudiParams(InUnits):
    """The solver, and how far to go along its result."""

    solver: Literal["adam", "closed_form"] = Field(
        "adam", description="adam: the published iteration. closed_form: the minimum, with a ridge towards the sum."
    )
    steps: int = Field(300, ge=0, le=10_000, description="Steps of adam, which regularises by stopping early.")
    learning_rate: float = Field(1e-5, gt=0, le=1, description="Adam's learning rate, in units of a weight; see units.")
    ridge: float = Field(
        0.01, gt=0, le=100, description="Weight of the ridge of closed_form, relative to the mean eigenvalue of S."
    )
    scaling: Scaling = Field(
        1.0, title="λ", description="Multiplier of the merged update, or auto: chosen on the validation split."
    )
    layers: Layers = LAYERS
    units: Units = UNITS_OF_ADAM
    calibration: float = CALIBRATION

    @classmethod
    def has_units(cls, values: Mapping[str, Any]) -> bool:
        """Only the iteration has a learning rate."""
        return bool(values.get("solver", "adam") == "adam")


@merge("wudi", title="WUDI", paper="https://arxiv.org/abs/2503.08099")
def wudi(vectors: TaskVectors, params: WudiParams, context: Context) -> TensorMerge:
    """Find for every linear layer the update that interferes least with all task vectors.

    The closed form is ``(R + ρ Σ τ)(S + ρ I)⁻¹`` with ``ρ = ridge · tr(S)/n``; where inputs say nothing it gives the
    sum, from which the iteration starts too. Other tensors take the mean. The learning rate is a step of a weight;
    where ``units`` come to ``relative`` it is carried over to the size of each matrix's task vectors, see
    :mod:`merging.methods.units`.
    """

    factors: dict[str, float] = {}
    size = None if params.solver == "closed_form" else _size(vectors, params, context)
    relative = size is not None and size.relative(params.units)
    found_before = {} if size is None else _by_adam_together(vectors, params, relative, factors, context)

    def least_interfering(name: str, stack: torch.Tensor) -> torch.Tensor:
        if params.solver == "closed_form":
            return closed_form(stack, params.ridge)
        if name in found_before:
            return found_before[name]
        total, weights = stack.sum(dim=0), inverse_squares(stack)
        if int((weights > 0).sum()) < 2:
            return total  # is the minimum; Adam would walk along rounding errors
        s, r = normal_equations(stack, weights)
        factors[name] = factor = spread_factor(stack) if relative else 1.0
        return _adam(total.div_(factor), s, r.div_(factor), params, context).mul_(factor)

    direction = matrix_by_matrix(params.layers, lambda role: role.block_matrix, least_interfering, params.calibration)
    found = scaled(vectors, params.scaling, direction, context)
    if size is None:
        return found
    each = {"times_clip": factors} if relative else {}
    return replace(found, report={**found.report, **size.report(params.units), **each})


def _size(vectors: TaskVectors, params: WudiParams, context: Context) -> Size:
    """How large the task vectors of the layers are, before any edit."""
    taken = [name for name in vectors.names if _is_taken(role_of(name, vectors.info(name).shape), params)]
    return Size.of_entries(context.geometry(vectors.unedited), taken, "WUDI's learning rate")


def closed_form_parts(stack: torch.Tensor, ridge: float) -> torch.Tensor:
    """What each task vector of a matrix brings to the closed form, ``[T, m, n]``; the sum over tasks is the result.

    ``p_t = (τ_t τ_tᵀτ_t/‖τ_t‖² + ρ τ_t)(S + ρ I)⁻¹``. Where there is but one vector other than zero it is its part.
    """
    some = nonzero(stack)
    if len(some) < 2:
        return stack
    tasks, rows, columns = stack.shape
    squares, products = stack.new_zeros(columns, columns), torch.zeros_like(stack)
    for vector, product in zip(stack, products, strict=True):
        length = float(vector.square().sum())
        if length:
            add_moments(squares, product, vector, 1 / length)
    level = ridge * mirror(squares).diagonal().mean()
    squares.diagonal().add_(level)
    flat = products.add_(level * stack).reshape(tasks * rows, columns)
    return solve_positive(squares, flat, "; or raise edit.ridge").reshape(stack.shape)


def normal_equations(stack: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """S ``[n, n]`` and R ``[m, n]`` of the loss ``Σ_t w_t ‖(m − τ_t) τ_tᵀ‖²``, whose gradient is ``2 (m S − R)``.

    Args:
        stack: τ of every task, ``[T, m, n]``.
        weights: w, ``[T]``.
    """
    _, rows, columns = stack.shape
    s, r = stack.new_zeros(columns, columns), stack.new_zeros(rows, columns)
    for vector, weight in zip(stack, weights.tolist(), strict=True):
        add_moments(s, r, vector, weight)
    return mirror(s), r


def inverse_squares(stack: torch.Tensor) -> torch.Tensor:
    """``1/‖τ_t‖²`` of every task ``[T]``, 0 where it left the matrix alone."""
    squares = stack.flatten(1).square().sum(dim=1)
    return torch.where(squares > 0, 1 / squares.clamp_min(1e-30), 0.0)


def closed_form(stack: torch.Tensor, ridge: float) -> torch.Tensor:
    """``(R + ρ Σ τ)(S + ρ I)⁻¹`` with ``ρ = ridge · tr(S)/n``; the sum where fewer than two tasks changed the matrix.

    Args:
        stack: τ of every task, ``[T, m, n]``.
        ridge: relative to the mean eigenvalue of S.
    """
    total, weights = stack.sum(dim=0), inverse_squares(stack)
    if int((weights > 0).sum()) < 2:
        return total
    s, r = normal_equations(stack, weights)
    rho = ridge * s.diagonal().mean()
    s.diagonal().add_(rho)
    return solve_positive(s, r + rho * total, "; or raise merge.ridge")


def _by_adam_together(
    vectors: TaskVectors, params: WudiParams, relative: bool, factors: dict[str, float], context: Context
) -> dict[str, torch.Tensor]:
    """The updates of all layers that a GPU finds together; those of matrices that few tasks changed are left out.

    Where settings are relative, ``factors`` gets how many times as large as CLIP's the vectors of each layer are.
    """
    if not multiplies(context.device):
        return {}
    roles = {name: role_of(name, vectors.info(name).shape) for name in vectors.names}
    taken = {name: one for name, one in roles.items() if _is_taken(one, params)}
    found: dict[str, torch.Tensor] = {}
    for names in of_equal_shape(taken, len(vectors.tasks)):
        context.step(len(found), len(taken), "finding updates")
        stacks = matrices_of(vectors, names, taken, context.device)
        weights = [inverse_squares(stack) for stack in stacks]
        several = [index for index, weight in enumerate(weights) if int((weight > 0).sum()) >= 2]
        if several:
            equations = [normal_equations(stacks[index], weights[index]) for index in several]
            s, r = (torch.stack(parts) for parts in zip(*equations, strict=True))
            sizes = {names[index]: spread_factor(stacks[index]) for index in several} if relative else {}
            factors |= sizes
            factor = torch.tensor([*sizes.values()] or [1.0], device=s.device)[:, None, None]
            merged = _adam(stacks[several].sum(dim=1) / factor, s, r / factor, params, context) * factor
            found |= {names[index]: one for index, one in zip(several, merged, strict=True)}
    return found


def _is_taken(role: Role, params: WudiParams) -> bool:
    return role.linear if params.layers == "all_linear" else role.block_matrix


def _adam(start: torch.Tensor, s: torch.Tensor, r: torch.Tensor, params: WudiParams, context: Context) -> torch.Tensor:
    """The iteration from ``start [..., m, n]``, of one matrix or of several at once."""
    merged = start.clone()
    merged.grad = torch.empty_like(merged)
    optimiser = Adam(merged, params.learning_rate, fused=True)
    product = torch.addmm if merged.ndim == 2 else torch.baddbmm
    for _ in range(params.steps):
        context.stop_if_cancelled()
        product(r, merged, s, beta=-2, alpha=2, out=merged.grad)
        optimiser.step()
    return merged
