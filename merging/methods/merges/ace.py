"""ACE-Merging: every layer's weights averaged in the metric of its inputs, which the updates show (arXiv 2603.02945).

With the covariance Σ_t of a layer's inputs in task t, ``(Σ_t τ_t Σ_t)(Σ_t Σ_t)⁻¹`` changes what the tasks' layers give
least; RegMean measures Σ_t on images. Here the rows of an update stand for inputs, as gradients are sums of them:
``Σ_t = τ̃_tᵀ τ̃_t`` with ``τ̃_t``, τ_t less the mean of its rows (equations 5 and 6). WUDI's closed form is the same solve
with ``Σ_t = τ_tᵀ τ_t/‖τ_t‖²`` and a ridge towards the sum; here it goes towards the mean.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from merging.methods.calibration import CALIBRATION
from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers, matrix_by_matrix
from merging.methods.looks import LAVENDER, Look
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import Published, merge
from merging.methods.scaling import Scaling, scaled
from merging.methods.units import UNITS_AS_PRINTED, spread_factor
from merging.weights.spectra import add_moments, mirror, nonzero, solve_positive, top_triplets
from merging.weights.vectors import TaskVectors

_LEAST = 1e-30  # of what is divided by: rows that are all equal leave nothing when their mean is taken away


class AceParams(Params):
    """The authors' code's defaults."""

    epsilon: float = Field(
        0.01, gt=0, le=1e4, title="ε", description="Added to every task's covariance; has a unit, see units."
    )
    threshold: float = Field(
        0.3,
        ge=0,
        le=1e4,
        title="τ",
        description="Tasks whose updates differ more than this in size have their covariances brought to trace 1, and "
        "the result's main directions raised. The measure has a unit, see units.",
    )
    refined: float = Field(0.3, ge=0, le=1, description="Share of the singular directions that are raised then.")
    scaling: Scaling = Field(
        1.0, title="λ", description="Multiplier of the merged update, or auto: chosen on the validation split."
    )
    layers: Layers = LAYERS
    units: Literal["published", "relative"] = UNITS_AS_PRINTED
    calibration: float = CALIBRATION


@merge(
    "ace",
    title="ACE-Merging",
    paper="https://arxiv.org/abs/2603.02945",
    published=(Published("ace", "ACE-Merging", "merge=ace", look=Look(LAVENDER, "square", "\\")),),
)
def ace(vectors: TaskVectors, params: AceParams, context: Context) -> TensorMerge:
    """Average the task vectors of every matrix in the metric of the inputs that their rows show.

    With ``Σ̂_t = Σ_t + ε I`` and the tasks' common prior ``C = 1 cᵀ``, c the mean of the rows of ``Σ_t Σ_t``, the update
    is ``W = (Σ_t τ̃_t Σ̂_t)(Σ_t Σ̂_t + C)⁻¹`` (equation 14). Where the sizes of the updates differ by more than the
    threshold, ``Var(log ‖τ_t‖²) / Mean(log ‖τ_t‖²)² > τ``, Σ_t and ε are divided by the trace of Σ_t, C by the mean
    ``‖τ_t‖²``, and ``σ U_k V_kᵀ`` is added: the first k singular directions of ``W + Σ_t τ_t (Σ_t − mean Σ̂)`` with the
    mean of their singular values (equations 17 to 19). A tensor that one task alone has changed takes its task vector;
    tensors that are no matrices take the mean. Both ε and the measure depend on the unit of the weights; with units
    ``relative`` they are taken as if the task vectors had CLIP's size, see :mod:`merging.methods.units`.
    """
    sizes: dict[str, float] = {}
    unequal: dict[str, float] = {}

    def averaged(name: str, stack: torch.Tensor) -> torch.Tensor:
        some = nonzero(stack)
        if len(some) < 2:
            return stack.sum(dim=0)
        factor = 1.0
        if params.units == "relative":
            sizes[name] = factor = spread_factor(some)
            some = some / factor
        logs = some.flatten(1).square().sum(dim=1).double().log()
        unequal[name] = float(logs.var() / (logs.mean().square() + 1e-12))
        return _averaged(some, unequal[name] > params.threshold, params).mul_(factor)

    direction = matrix_by_matrix(params.layers, lambda role: role.two_dimensional, averaged, params.calibration)
    found = scaled(vectors, params.scaling, direction, context)
    units = {"units": "relative", "times_clip": sizes} if params.units == "relative" else {}
    return replace(found, report={**found.report, "unequal": unequal, **units})


def _averaged(stack: torch.Tensor, unequal: bool, params: AceParams) -> torch.Tensor:
    """W of one matrix from task vectors ``[T, m, n]``, none of them zero; if unequal, the main directions raised."""
    tasks, rows, columns = stack.shape
    squares, cubes = stack.new_zeros(columns, columns), stack.new_zeros(rows, columns)  # Σ Σ_t, Σ τ̃_t Σ_t
    ridged, shift = torch.zeros_like(cubes), stack.new_zeros(columns)  # Σ ε_t τ̃_t, Σ Σ_t μ_t
    epsilon = 0.0
    for vector in stack:
        mean = vector.mean(dim=0)
        centred = vector - mean
        weight = 1 / max(float(centred.square().sum()), _LEAST) if unequal else 1.0
        add_moments(squares, cubes, centred, weight)
        ridged.add_(centred, alpha=params.epsilon * weight)
        shift.addmv_(centred.T, centred @ mean, alpha=weight)
        epsilon += params.epsilon * weight
    prior = mirror(squares).mean(dim=0)
    if unequal:
        prior = prior * tasks / stack.square().sum()
    regular = squares.clone()
    regular.diagonal().add_(epsilon)
    merged = _divided(cubes + ridged, regular, prior)
    count = int(params.refined * min(rows, columns))
    if not unequal or not count:
        return merged
    structure = cubes + shift - stack.sum(dim=0) @ (regular / tasks)  # Σ τ_t (Σ_t − mean)
    left, values, right = top_triplets(merged + structure, count)
    return merged + values.mean() * (left @ right)


def _divided(product: torch.Tensor, regular: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """``B (S + 1 cᵀ)⁻¹`` of ``B [m, n]``, a positive definite ``S [n, n]`` and ``c [n]``, by one solve.

    That is Sherman and Morrison's formula. Its denominator is at least 1, as c is the mean of the rows of S without ε.
    """
    solved = solve_positive(regular, torch.cat([product, prior[None]]), "; or raise merge.epsilon")
    inner, row = solved[:-1], solved[-1]
    return inner - torch.outer(inner.sum(dim=1), row) / (1 + row.sum())
