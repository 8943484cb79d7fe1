"""Overlap-scaled WUDI, this project's own: see docs/own-merge.md for how it was found and what is not known of it.

WUDI's closed form (arXiv 2503.08099) over all linear layers, with a multiplier for each layer that says how much the
tasks share that layer's inputs. Rows of a task vector lie near the inputs of its layer, so ``G_t = τ_tᵀ τ_t`` tells
which inputs task t has changed the layer for, and the cosine of two tasks' G how much they collide there.
"""

import math
from dataclasses import replace
from itertools import combinations_with_replacement

import torch
from pydantic import Field

from merging.core.streaming import ordered
from merging.methods.context import Context
from merging.methods.layers import matrix_by_matrix
from merging.methods.looks import Look
from merging.methods.merges.wudi import closed_form
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import Published, merge
from merging.methods.scaling import Scaling, scaled
from merging.weights.roles import role_of
from merging.weights.vectors import TaskVectors


class OverlapParams(Params):
    """How strongly the overlap counts; the defaults were chosen on validation images of the suite mini."""

    sharpness: float = Field(
        3.0,
        ge=0,
        le=20,
        title="κ",
        description="How much less layers take whose inputs the tasks share; 0 takes all layers alike. 3 was chosen on "
        "validation images of the suite mini, where 2 to 4 are much the same.",
    )
    ridge: float = Field(
        0.03,
        gt=0,
        le=100,
        description="Weight of the ridge towards the sum, relative to the mean eigenvalue of S. Chosen on validation "
        "images of the suite mini.",
    )
    scaling: Scaling = Field(
        1.0, title="λ", description="Multiplier of the merged update, or auto: chosen on the validation split."
    )


@merge(
    "overlap",
    title="Overlap-scaled WUDI",
    published=(
        Published(
            "overlap",
            "Overlap-scaled WUDI",
            "merge=overlap",
            note="This project's own, published nowhere else. Its two constants were chosen on validation images of "
            "the suite mini; no image is looked at when merging.",
            look=Look("#0a9a72", "star", "x"),
            ours=True,
        ),
    ),
)
def overlap(vectors: TaskVectors, params: OverlapParams, context: Context) -> TensorMerge:
    """Merge as WUDI does, with less of layers whose inputs the tasks share, more of those they don't.

    For a linear layer l with task vectors ``τ_t [out, in]`` and ``G_t = τ_tᵀ τ_t`` the update is ``λ c_l m_l`` where
    ``m_l = (R + ρ Σ τ)(S + ρ I)⁻¹`` is WUDI's closed form, ``S = Σ G_t/‖τ_t‖²``, ``R = Σ τ_t G_t/‖τ_t‖²``,
    ``ρ = ridge · tr(S)/in``, and

    ``c_l = L exp(−κ o_l) / Σ_k exp(−κ o_k)``, ``o_l`` the mean over pairs of tasks of ``⟨G_s, G_t⟩ / ‖G_s‖ ‖G_t‖``.

    The mean of c over the L linear layers is 1. Task vectors that are zero in a layer take no part there, and a layer
    without any does not count. Other tensors take λ times the mean. With one task, or equal ones, every c is 1.
    """
    shared: dict[str, float] = {}
    linear = [name for name in vectors.names if role_of(name, vectors.info(name).shape).linear]

    def measured(name: str) -> float | None:
        base, stack = vectors.stack(name, context.device, passing=True)
        return overlap_of(role_of(name, base.shape).matrices(stack))

    for done, found in enumerate(ordered(measured, linear, context.device)):
        context.step(done, len(linear), "measuring what the tasks share")
        if found is not None:
            shared[linear[done]] = found
    factors = layer_factors(shared, params.sharpness)

    def scaled_layer(name: str, stack: torch.Tensor) -> torch.Tensor:
        return closed_form(stack, params.ridge).mul_(factors.get(name, 1.0))

    direction = matrix_by_matrix("all_linear", lambda role: role.linear, scaled_layer)
    planned = scaled(vectors, params.scaling, direction, context)
    return replace(planned, report={**planned.report, "overlap": shared, "layer_scaling": factors})


def overlap_of(stack: torch.Tensor) -> float | None:
    """Mean cosine of ``τ_sᵀτ_s`` and ``τ_tᵀτ_t`` over pairs of tasks, 0 … 1; 0 for a single task.

    Args:
        stack: ``[T, out, in]``.

    Returns:
        None if all are zero.
    """
    vectors = [vector / vector.norm() for vector in stack if bool(vector.any())]
    if not vectors:
        return None
    rows, columns = stack.shape[1:]
    if rows < columns:  # ⟨AᵀA, BᵀB⟩ = ‖A Bᵀ‖², which is the smaller product
        inner = stack.new_zeros(len(vectors), len(vectors))
        for i, j in combinations_with_replacement(range(len(vectors)), 2):
            inner[i, j] = inner[j, i] = (vectors[i] @ vectors[j].T).square().sum()
    else:
        grams = torch.stack([vector.T @ vector for vector in vectors]).flatten(1)
        inner = grams @ grams.T
    lengths = inner.diagonal().sqrt()
    pairs = len(vectors) * (len(vectors) - 1)
    cosines = inner / lengths / lengths[:, None]
    return float((cosines.sum() - cosines.trace()) / pairs) if pairs else 0.0


def layer_factors(overlaps: dict[str, float], sharpness: float) -> dict[str, float]:
    """``exp(−κ o)`` of every layer, divided by the mean of all."""
    found = {name: math.exp(-sharpness * overlap) for name, overlap in overlaps.items()}
    mean = sum(found.values()) / max(len(found), 1)
    return {name: value / mean for name, value in found.items()}
