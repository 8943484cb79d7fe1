"""Isotropic merging: make all singular values of the merged update equal (arXiv 2502.04959)."""

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers, matrix_by_matrix, merged_together
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import Revision, merge
from merging.methods.scaling import Scaling, scaled
from merging.weights.roles import Role
from merging.weights.spectra import NOTHING, decomposed_sum, polar, polar_of_each, side_by_side, top_triplets
from merging.weights.vectors import TaskVectors

_PAPER = "https://arxiv.org/abs/2502.04959"


class IsotropicParams(Params):
    """How far to go along the merged update, and for which tensors it is made."""

    scaling: Scaling = Field(
        1.0,
        title="α",
        description="Multiplier of the merged update (1 to 1.5), or auto: chosen on the validation split.",
    )
    layers: Layers = LAYERS


class CommonSubspaceParams(IsotropicParams):
    """As Iso-C, and the share of directions that are common to all tasks."""

    common: float = Field(0.8, ge=0, le=1, description="Share of the rank that is taken from the summed task vectors.")


@merge("iso_c", title="Iso-C", paper=_PAPER)
def iso_c(vectors: TaskVectors, params: IsotropicParams, context: Context) -> TensorMerge:
    """Give the summed task vectors of every matrix equal singular values.

    With ``Σ τ = U S Vᵀ`` the update is ``α mean(S) U Vᵀ``; tensors that are no matrices take ``α mean(τ)``.
    """

    def equalised(name: str, stack: torch.Tensor) -> torch.Tensor:
        factor, mean = polar(stack.sum(dim=0))
        return mean * factor

    direction = matrix_by_matrix(params.layers, lambda role: role.two_dimensional, equalised)
    return scaled(vectors, params.scaling, direction, context)


@merge(
    "iso_cts",
    title="Iso-CTS",
    paper=_PAPER,
    revisions=(Revision("rounded the number of a task's own directions down", recorded=False),),
)
def iso_cts(vectors: TaskVectors, params: CommonSubspaceParams, context: Context) -> TensorMerge:
    """Iso-C whose least important directions make room for directions of single tasks.

    The top k left singular vectors of the sum are common; what a task has outside of them gives its own top
    ``(r − k)/T`` triplets: their number is rounded to the nearest, as in the authors' code, and k is what is left.
    Both sets together are made orthogonal, with equal singular values.
    """

    def equalised(stack: torch.Tensor) -> torch.Tensor:
        return _equalised(stack, params.common)

    together = merged_together(vectors, params.layers, _is_matrix, equalised, context)

    def either(name: str, stack: torch.Tensor) -> torch.Tensor:
        return together[name] if name in together else equalised(stack)

    return scaled(vectors, params.scaling, matrix_by_matrix(params.layers, _is_matrix, either), context)


def _is_matrix(role: Role) -> bool:
    return role.two_dimensional


def _equalised(stack: torch.Tensor, share: float) -> torch.Tensor:
    """Common directions and those of single tasks with equal singular values, of ``[T, m, n]`` or ``[B, T, m, n]``."""
    tasks, rank = stack.shape[-3], min(stack.shape[-2:])
    own = min(round((rank - int(share * rank)) / tasks), rank // tasks)  # triplets a task
    common = rank - own * tasks
    left, lengths, right = decomposed_sum(stack, common)
    if not bool(lengths[..., 0].all()):
        return torch.zeros_like(stack[0]) if stack.ndim == 3 else _each(stack, share)
    us, values, vs = left[..., :common], lengths[..., :common], right[..., :common, :]
    if not own:
        return values.mean(dim=-1)[..., None, None] * (us @ vs)
    u, s, v = side_by_side(*_outside(stack, left, common, own))
    some = s > 1e-6 * lengths[..., :1]  # nothing is left of a task that lies within the common directions
    if stack.ndim == 3:
        u, s, v = u[:, some], s[some], v[some]
    elif not bool(some.all()):
        return _each(stack, share)
    mean = torch.cat([values, s], dim=-1).mean(dim=-1)[..., None, None]
    common_rows, rows = _polar_beside(vs, v)
    # What lies outside of the common directions is orthogonal to them: each has its polar factor by itself.
    return mean * (us @ common_rows + polar_of_each(u, NOTHING) @ rows)


def _each(stacks: torch.Tensor, share: float) -> torch.Tensor:
    """One after the other, where they are not all of one kind."""
    return torch.stack([_equalised(stack, share) for stack in stacks])


def _outside(
    stack: torch.Tensor, left: torch.Tensor, common: int, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The ``count`` largest singular triplets of every matrix outside of the first ``common`` columns of ``left``.

    Where those columns and the others span everything, what lies outside has coordinates in the others, which are few.
    """
    left = left if stack.ndim == 3 else left[:, None]
    if left.shape[-2] == left.shape[-1]:
        others = left[..., common:]
        u, s, v = top_triplets(others.mT @ stack, count)
        return others @ u, s, v
    return top_triplets(stack, count, left[..., :common])


def _polar_beside(fixed: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The polar factor of orthonormal rows ``[..., k, n]`` with others ``[..., c, n]`` below them, in these two parts.

    Of the orthonormal ones only those c combinations change that are not orthogonal to the others.
    """
    turned, _ = torch.linalg.qr(fixed @ rows.mT)  # [..., k, min(k, c)]
    met = turned.mT @ fixed
    factor = polar_of_each(torch.cat([met, rows], dim=-2), NOTHING)
    split = met.shape[-2]
    return fixed + turned @ (factor[..., :split, :] - met), factor[..., split:, :]
