"""TSV-M: keep each task's largest singular triplets and make them orthogonal to the others' (arXiv 2412.00081)."""

import torch

from merging.methods.calibration import CALIBRATION
from merging.methods.context import Context
from merging.methods.layers import matrix_by_matrix, merged_together
from merging.methods.merges.isotropic import IsotropicParams
from merging.methods.planned import TensorMerge
from merging.methods.registry import merge
from merging.methods.scaling import scaled
from merging.weights.roles import Role
from merging.weights.spectra import NOTHING, nonzero, polar, polar_of_each, side_by_side, top_triplets
from merging.weights.vectors import TaskVectors


class TsvParams(IsotropicParams):
    """As Iso-C's, and what comes after the merge."""

    calibration: float = CALIBRATION


@merge("tsv_m", title="TSV-M", paper="https://arxiv.org/abs/2412.00081")
def tsv_m(vectors: TaskVectors, params: TsvParams, context: Context) -> TensorMerge:
    """Join the top singular triplets of all task vectors, with their singular vectors decorrelated.

    Every task gets ``r/T`` of the rank r of a matrix. The joined U and V are replaced by their polar factors, the
    singular values stay. A direction that equal models bring several times counts once. Tensors that are no matrices
    take ``α mean(τ)``.
    """

    together = merged_together(vectors, params.layers, _is_matrix, _joined_together, context)

    def joined(name: str, stack: torch.Tensor) -> torch.Tensor:
        return together[name] if name in together else _joined(stack)

    direction = matrix_by_matrix(params.layers, _is_matrix, joined, params.calibration)
    return scaled(vectors, params.scaling, direction, context)


def _is_matrix(role: Role) -> bool:
    return role.two_dimensional


def _joined(stack: torch.Tensor) -> torch.Tensor:
    some = nonzero(stack)
    if not len(some):
        return torch.zeros_like(stack[0])
    left, lengths, right = _triplets(some, len(stack))
    return (left * lengths) @ right


def _joined_together(stacks: torch.Tensor) -> torch.Tensor:
    """As :func:`_joined` of every stack of ``[B, T, m, n]``, ``[B, m, n]``."""
    if not bool(stacks.flatten(2).any(dim=2).all()):
        return torch.stack([_joined(stack) for stack in stacks])
    count = max(1, min(stacks.shape[2:]) // stacks.shape[1])
    left, lengths, right = side_by_side(*top_triplets(stacks, count))
    return (polar_of_each(left, NOTHING) * lengths[:, None]) @ polar_of_each(right, NOTHING)


def joined_parts(stack: torch.Tensor) -> torch.Tensor:
    """What each task vector of a matrix brings to TSV-M, its triplets, ``[T, m, n]``: their sum is the result."""
    parts = torch.zeros_like(stack)
    there = stack.flatten(1).any(dim=1)
    if bool(there.any()):
        left, lengths, right = _triplets(stack[there], len(stack))
        count = len(lengths) // int(there.sum())
        weighted = (left * lengths).unflatten(1, (-1, count)).movedim(1, 0)
        parts[there] = weighted @ right.unflatten(0, (-1, count))
    return parts


def _triplets(stack: torch.Tensor, tasks: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The top ``r/T`` triplets of every vector side by side, decorrelated: ``[m, c]``, ``[c]``, ``[c, n]``."""
    count = max(1, min(stack.shape[1:]) // tasks)
    left, lengths, right = side_by_side(*top_triplets(stack, count))
    return polar(left, NOTHING)[0], lengths, polar(right, NOTHING)[0]
