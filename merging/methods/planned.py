"""What planning an edit or a merge gives: a function of one tensor's stack of task vectors, or a table of coefficients.

Methods that only rescale task vectors say so by returning :class:`LinearEdit` or :class:`LinearMerge`; two of those
compose to a table of coefficients ``c[t, l]``, which *is* the run. A :class:`LocalisedMerge` gives not one model but
one a task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from merging.weights.vectors import StackFunction

Report = dict[str, Any]


@dataclass(frozen=True)
class LinearEdit:
    """An edit that mixes task vectors: the edited stack is ``matrices[name] @ stack``, ``[T, T]`` a tensor.

    A tensor that is not listed stays as it is.
    """

    matrices: Mapping[str, np.ndarray]
    report: Report = field(default_factory=dict)

    def __call__(self, name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        """Apply to one stack ``[T, *shape]``."""
        matrix = self.matrices.get(name)
        if matrix is None:
            return stack
        mixing = torch.as_tensor(matrix, dtype=stack.dtype, device=stack.device)
        return (mixing @ stack.reshape(len(stack), -1)).reshape(stack.shape)


@dataclass(frozen=True)
class TensorEdit:
    """Any other edit: a function of one tensor's stack.

    ``elementwise`` says that entries are treated one by one, so that it may be given any piece of a tensor.
    """

    apply: StackFunction
    report: Report = field(default_factory=dict)
    elementwise: bool = False

    def __call__(self, name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        """Apply to one stack ``[T, *shape]``."""
        return self.apply(name, base, stack)


@dataclass(frozen=True)
class RowMixing:
    """How the rows of one tensor are mixed: ``φ_t = τ_t − Σ_s a_s τ_s`` in every row, of vectors that have a direction.

    Attributes:
        coefficients: a, ``[R, T]``.
        there: from which vectors that is subtracted, bool ``[R, T]``.
        gram: Gram matrix of the edited vectors over the tensor, ``[T, T]``.
    """

    coefficients: np.ndarray
    there: np.ndarray
    gram: np.ndarray

    def multipliers(self, weights: np.ndarray) -> np.ndarray:
        """What ``Σ_t weights_t φ_t`` multiplies the rows of each τ_t by, ``[T, R]``."""
        found: np.ndarray = weights[:, None] - (self.there @ weights) * self.coefficients.T
        return found


@dataclass(frozen=True)
class RowEdit(TensorEdit):
    """An edit that mixes the rows of task vectors; tensors that are not listed stay as they are.

    With a merge that is a weighted sum nothing but the models has to be read, see :func:`~merging.methods.plan.plan`.
    """

    rows: Mapping[str, RowMixing] = field(default_factory=dict)


@dataclass(frozen=True)
class LinearMerge:
    """A merge that is a weighted sum: ``θ₀ + Σ_t coefficients[name][t] τ_t``, ``[T]`` a tensor."""

    coefficients: Mapping[str, np.ndarray]
    report: Report = field(default_factory=dict)

    def __call__(self, name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        """Merge one stack ``[T, *shape]`` to ``[*shape]``."""
        weights = torch.as_tensor(self.coefficients[name], dtype=stack.dtype, device=stack.device)
        return base + (weights @ stack.reshape(len(stack), -1)).reshape(base.shape)


@dataclass(frozen=True)
class TensorMerge:
    """Any other merge: a function of base and stack of one tensor that gives the merged tensor."""

    apply: StackFunction
    report: Report = field(default_factory=dict)

    def __call__(self, name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        """Merge one stack ``[T, *shape]`` to ``[*shape]``."""
        return self.apply(name, base, stack)


@dataclass(frozen=True)
class LocalisedMerge:
    """A merge that serves every task by a model of its own, ``θ₀ + s_t m_t ⊙ v``: one shared vector and a mask a task.

    ``apply`` gives v ``[*shape]`` and the masks, bool ``[T, *shape]``, of one tensor from its name, θ₀ and the stack.
    ``scales`` are the factors s_t, all 1 if there are none.
    """

    apply: Callable[[str, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    report: Report = field(default_factory=dict)
    scales: tuple[float, ...] = ()


Edit = LinearEdit | TensorEdit
Merge = LinearMerge | TensorMerge | LocalisedMerge
