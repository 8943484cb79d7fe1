"""Merges with coefficients set by hand: θ₀ + Σ_t c_t φ_t, where φ are the task vectors after an edit.

The edit is planned once; what it makes of the task vectors is held in memory where it is not linear. After that a
merge with other coefficients takes milliseconds for a small model. The weights come through
:class:`merging.methods.plan.Plan`, so they are those of a run of Task Arithmetic with one λ a task.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from merging.core.streaming import ordered
from merging.methods.context import Context
from merging.methods.pair import Pair, Part
from merging.methods.plan import Plan, coefficient_table
from merging.methods.planned import Edit, LinearEdit, LinearMerge, TensorEdit
from merging.methods.spec import Spec
from merging.weights.geometry import ROUNDING, Geometry
from merging.weights.resident import shelf
from merging.weights.vectors import TaskVectors


@dataclass(frozen=True)
class WhatIf:
    """Task vectors with a planned edit, ready to be merged with any coefficients.

    Attributes:
        vectors: the unedited task vectors.
        edit: what is done to them before they are merged.
    """

    vectors: TaskVectors
    edit: Edit

    def weights(self, coefficients: Sequence[float], context: Context | None = None) -> dict[str, torch.Tensor]:
        """θ₀ + Σ_t c_t φ_t in the base's dtype.

        Args:
            coefficients: c ``[T]``, in the order of the tasks.
            context: where to compute.

        Raises:
            NonFiniteWeights: the coefficients are so large that the weights overflow.
        """
        merge = LinearMerge(dict.fromkeys(self.vectors.names, np.array(coefficients, dtype=np.float64)))
        plan = Plan(self.vectors, self.edit, merge, coefficient_table(self.vectors, self.edit, merge))
        return dict(plan.tensors(context))

    def held(self, context: Context | None = None) -> "WhatIf":
        """The same with the edited vectors in memory, 4 · T · D bytes; of a linear edit the models stay on a GPU."""
        context = context or Context()
        if isinstance(self.edit, LinearEdit):
            held = shelf.held(self.vectors, context)
            return self if held is self.vectors else replace(self, vectors=held)
        device = context.device
        edited = self.vectors.edited(self.edit)
        stacks = {name: stack for name, _, stack in edited.iterate(device)}
        return replace(self, edit=TensorEdit(lambda name, base, stack: stacks[name], self.edit.report))

    def directions(self, everything: TaskVectors, geometry: Geometry, context: Context | None = None) -> "Directions":
        """Inner products of the edited vectors with each other and with every task vector.

        Without reading weights where the edit is linear; else in one pass over the files.

        Args:
            everything: task vectors to compare with, those merged here among them.
            geometry: theirs.
            context: where to compute, cancellation.
        """
        context = context or Context()
        chosen = [everything.tasks.index(task) for task in self.vectors.tasks]
        if isinstance(self.edit, LinearEdit):
            eye = np.eye(len(chosen))
            mixing = np.stack([self.edit.matrices.get(name, eye) for name in geometry.names])  # [L, S, S]
            mixed = mixing @ geometry.grams[:, chosen]  # [L, S, T], ⟨φ_i, τ_j⟩
            among = mixed[:, :, chosen] @ np.swapaxes(mixing, 1, 2)
            return Directions(among.sum(axis=0), mixed.sum(axis=0), geometry.norms)

        def one(name: str) -> tuple[np.ndarray, np.ndarray]:
            base, stack = everything.stack(name, context.device)
            unedited = stack.reshape(len(stack), -1)
            edited = self.edit(name, base, stack[chosen]).reshape(len(chosen), -1)
            products = (edited @ edited.T, edited @ unedited.T)
            return products[0].double().cpu().numpy(), products[1].double().cpu().numpy()

        among, across = np.zeros((len(chosen),) * 2), np.zeros((len(chosen), len(everything.tasks)))
        for done, (inner, outer) in enumerate(ordered(one, everything.names, context.device)):
            among, across = among + inner, across + outer
            context.step(done + 1, len(everything.names), "measuring the edited vectors")
        return Directions(among, across, geometry.norms)


@dataclass(frozen=True)
class Directions:
    """Where the merged vector v = Σ c_t φ_t points, for any c, from inner products alone.

    Attributes:
        among: ⟨φ_i, φ_j⟩ of the S merged vectors, ``[S, S]``.
        across: ⟨φ_i, τ_j⟩ with all T task vectors, ``[S, T]``.
        norms: ‖τ_j‖, ``[T]``.
    """

    among: np.ndarray
    across: np.ndarray
    norms: np.ndarray

    def norm(self, coefficients: Sequence[float]) -> float:
        """‖v‖ for coefficients c ``[S]``; 0 where no more than rounding of the inner products is left."""
        c = np.array(coefficients, dtype=np.float64)
        square = float(c @ self.among @ c)
        summed = np.abs(c) @ np.sqrt(np.clip(np.diagonal(self.among), 0, None))
        return math.sqrt(square) if square > ROUNDING * summed**2 else 0.0

    def cosines(self, coefficients: Sequence[float]) -> np.ndarray:
        """cos(v, τ_j) for every task vector, ``[T]``; 0 where either is zero."""
        lengths = self.norm(coefficients) * self.norms
        products = np.array(coefficients, dtype=np.float64) @ self.across
        found = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        clipped: np.ndarray = np.clip(found, -1, 1)
        return clipped


def plan_edit(
    vectors: TaskVectors, edit: str, params: Mapping[str, object] | None = None, context: Context | None = None
) -> WhatIf:
    """Plan an edit, whatever is merged after it.

    Args:
        vectors: the task vectors to merge.
        edit: name of the edit.
        params: its parameters, where they differ from the defaults.
        context: geometry, if known; images, for edits that look at some.

    Raises:
        MergingError: an unknown edit or parameter, or whatever the edit raises.
    """
    part = Part.of("edit", edit, params or {})
    return WhatIf(vectors, part.stage.plan(vectors, part.params, context or Context()))


def specification(
    suite: str, coefficients: Mapping[str, float], edit: str, params: Mapping[str, object] | None = None, **options: str
) -> Spec:
    """The run that merges with these coefficients: Task Arithmetic with one λ a task.

    Args:
        suite: its name or the path of its ``suite.yaml``.
        coefficients: task → c, at least one.
        edit: name of the edit.
        params: its parameters.
        options: further fields, such as split and device.

    Raises:
        SpecError: something is out of bounds.
    """
    pair = Pair.of(edit, params).with_scaling(tuple(coefficients.values()))
    return Spec.build(suite=suite, tasks=tuple(coefficients), **pair.fields, **options)
