"""Which tensors methods that work matrix by matrix take, and how such a method becomes one of any tensor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from merging.core.streaming import ordered
from merging.methods.calibration import calibrated
from merging.methods.context import Context
from merging.methods.planned import LinearEdit
from merging.weights import spectra
from merging.weights.resident import at_once
from merging.weights.roles import Role, role_of
from merging.weights.vectors import StackFunction, TaskVectors

Layers = Literal["published", "all_linear"]
TOGETHER = 2**30  # bytes of task vectors of the matrices that a GPU takes at once


LAYERS: Any = Field(
    "published",
    description="published: the tensors that the method's own code takes. all_linear: the weight of every linear "
    "layer and no other, conv1 (a layer on patches) and proj (stored with its inputs first) among them.",
    exclude_if=lambda value: value == "published",
)  # of the parameter ``layers``


def of_equal_shape(roles: Mapping[str, Role], tasks: int) -> Iterator[list[str]]:
    """Layers whose matrices have one shape, such as those of all blocks, as many at a time as a GPU has room for.

    A step of an iteration on all of them takes it hardly longer than one on a single matrix, which leaves it idle.
    """
    yield from _grouped(
        {name: role.matrices(torch.empty(role.shape, device="meta")[None]).shape[1:] for name, role in roles.items()},
        lambda shape: TOGETHER // (4 * tasks * max(1, torch.Size(shape).numel())),
    )


def _grouped(shapes: Mapping[str, Sequence[int]], most: Callable[[Sequence[int]], int]) -> Iterator[list[str]]:
    """Names of equal shape, at most so many at a time, and at least one."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, shape in shapes.items():
        groups.setdefault(tuple(shape), []).append(name)
    for shape, names in groups.items():
        size = max(1, most(shape))
        for start in range(0, len(names), size):
            yield names[start : start + size]


def matrices_of(
    vectors: TaskVectors, names: list[str], roles: Mapping[str, Role], device: torch.device
) -> torch.Tensor:
    """Task vectors of layers of one shape, ``[B, T, out, in]``."""
    return torch.stack([roles[name].matrices(vectors.stack(name, device)[1]) for name in names])


def matrix_by_matrix(
    layers: Layers,
    published: Callable[[Role], bool],
    merged: Callable[[str, torch.Tensor], torch.Tensor],
    calibration: float = 0.0,
) -> StackFunction:
    """The merged update of any tensor, from a rule for matrices; tensors that are not taken have their mean.

    Args:
        layers: which tensors are taken.
        published: tells which ones the method's own code takes, as they are stored.
        merged: a tensor's name and ``[T, out, in]`` → ``[out, in]``; as published, a tensor comes as it is stored.
        calibration: α of singular value calibration of what comes out, see :func:`calibrated_tensor`; 0 for none.
    """

    def direction(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        role = role_of(name, base.shape)
        if layers == "all_linear" and role.linear:
            update = role.stored(merged(name, role.matrices(stack)))
        elif layers == "published" and published(role):
            update = merged(name, stack)
        else:
            update = stack.mean(dim=0)
        return calibrated_tensor(layers, role, update, stack, calibration) if calibration else update

    return direction


def merged_together(
    vectors: TaskVectors,
    layers: Layers,
    published: Callable[[Role], bool],
    merged: Callable[[torch.Tensor], torch.Tensor],
    context: Context,
) -> dict[str, torch.Tensor]:
    """What :func:`matrix_by_matrix` asks a rule for, where a GPU takes matrices of equal shape together; else nothing.

    Not where task vectors are edited by more than a mixing of whole ones: all would be edited twice.

    Args:
        vectors: the (edited) task vectors.
        layers: which tensors are taken.
        published: as in :func:`matrix_by_matrix`.
        merged: ``[B, T, m, n]`` → ``[B, m, n]``.
        context: device, and told of progress.
    """
    if not spectra.multiplies(context.device) or not isinstance(vectors.edit, LinearEdit | None):
        return {}
    roles = {name: role_of(name, vectors.info(name).shape) for name in vectors.names}
    linear = layers == "all_linear"
    taken = {name: role for name, role in roles.items() if (role.linear if linear else published(role))}
    shapes = {
        name: role.matrices(torch.empty(role.shape, device="meta")[None]).shape[1:] if linear else role.shape
        for name, role in taken.items()
    }

    def stack_of(name: str) -> torch.Tensor:
        stack = vectors.stack(name, context.device)[1]
        return taken[name].matrices(stack) if linear else stack

    def of_all(names: list[str]) -> dict[str, torch.Tensor]:
        return dict(zip(names, merged(torch.stack([stack_of(name) for name in names])), strict=True))

    def most(shape: Sequence[int]) -> int:
        """As many as have room in their float32 copies, and in four Gram matrices of each in float64."""
        rows, columns = shape
        return TOGETHER // (len(vectors.tasks) * (8 * rows * columns + 32 * min(shape) ** 2))

    found: dict[str, torch.Tensor] = {}
    groups = list(_grouped(shapes, most))
    for more in ordered(of_all, groups, context.device, max(1, at_once(vectors, context.device) // 2)):
        context.step(len(found), len(taken), "merging matrices of equal shape")
        found |= more
    return found


def calibrated_tensor(
    layers: Layers, role: Role, update: torch.Tensor, stack: torch.Tensor, alpha: float
) -> torch.Tensor:
    """A tensor's merged update after singular value calibration: of all matrices as published, or of linear layers."""
    if layers == "all_linear" and role.linear:
        matrix = role.matrices(update[None])[0]
        return role.stored(calibrated(matrix, role.matrices(stack), alpha))
    if layers == "published" and role.two_dimensional:
        return calibrated(update, stack, alpha)
    return update
