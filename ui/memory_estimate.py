"""How much memory a run needs above the bare process, from the sizes of the tensors. Pure arithmetic, no I/O.

Counted are the arrays that the methods are known to hold at once (see :mod:`merging.edits`, :mod:`merging.merges`).
Images and activations of one batch come on top; they depend on the architecture and are not counted.
"""

from dataclasses import dataclass

import torch

from merging import registry
from merging.pipeline import MergeSpec
from merging.vectors import TaskVectors, is_linear_weight

_FLOAT = 4  # merging arithmetic is float32
_LINEAR_MERGES = ("average", "task_arithmetic")


@dataclass(frozen=True)
class Estimate:
    """Peak memory of a run.

    Attributes:
        parts: what is held, and its bytes; the phases do not overlap, so the largest counts, plus the tower.
        tower: bytes of the visual tower used for images, 0 if none are looked at.
    """

    parts: dict[str, int]
    tower: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return max(self.parts.values()) + self.tower


def estimate(vectors: TaskVectors, spec: MergeSpec, measurable: bool) -> Estimate:
    """Memory that a specification needs.

    Args:
        vectors: the task vectors; only their shapes are looked at.
        spec: what to run.
        measurable: whether the suite has images and heads for all tasks.
    """
    tasks = len(vectors.tasks)
    weights = vectors.size
    shapes = {name: vectors.info(name).shape for name in vectors.names}
    largest = max(torch.Size(shape).numel() for shape in shapes.values())
    squares = sum(shape[1] ** 2 for name, shape in shapes.items() if is_linear_weight(name, shape))
    parts = {
        f"edit: {_edit_text(spec)}": _FLOAT * _edit_numbers(spec, tasks, weights, largest),
        f"merge: {_merge_text(spec)}": _FLOAT * _merge_numbers(spec, tasks, weights, largest, squares),
    }
    if measurable and spec.evaluate:
        parts["evaluation: the merged weights, 4·D"] = _FLOAT * weights
    looks = measurable and (spec.evaluate or spec.data.images)
    return Estimate(parts, spec.torch_dtype.itemsize * weights if looks else 0)


def _is_full_adam(spec: MergeSpec) -> bool:
    return spec.edit == "awd" and spec.edit_params.get("solver") == "adam"


def _edit_numbers(spec: MergeSpec, tasks: int, weights: int, largest: int) -> int:
    if _is_full_adam(spec):
        held = weights if spec.edit_params.get("scope") == "model" else largest
        return (2 * tasks + 5) * held + weights  # stack and its joined copy, δ, gradient, two moments, one temporary
    if _edit_is_mixing(spec):
        return 0
    return 3 * tasks * largest + (3 * weights if _edit_needs(spec) else 0)


def _edit_text(spec: MergeSpec) -> str:
    if spec.edit == "none":
        return "nothing"
    if _is_full_adam(spec):
        what = "D" if spec.edit_params.get("scope") == "model" else "N"
        return f"Adam on δ, 4·((2T + 5)·{what} + D)"
    if _edit_is_mixing(spec):
        return "Gram matrices only"
    stacks = "three stacks of the largest tensor, 4·3·T·N"
    return f"{stacks}, and what is computed on images, 4·3·D" if _edit_needs(spec) else stacks


def _edit_is_mixing(spec: MergeSpec) -> bool:
    """Whether the edit mixes whole task vectors, so that coefficients are all it holds."""
    return spec.edit == "none" or (spec.edit == "awd" and spec.edit_params.get("scope") != "row")


def _edit_needs(spec: MergeSpec) -> bool:
    return registry.find("edit", spec.edit).data(spec.edit_params).images


def _merge_numbers(spec: MergeSpec, tasks: int, weights: int, largest: int, squares: int) -> int:
    if spec.merge == "adamerging":
        return (tasks + 3) * weights
    if spec.merge == "fisher":
        return 4 * weights
    if spec.merge == "regmean":
        return 3 * squares + 2 * weights
    streamed = largest if spec.merge in _LINEAR_MERGES and _edit_is_mixing(spec) else 3 * tasks * largest
    return max(streamed, 3 * weights) if _searches(spec) else streamed


def _searches(spec: MergeSpec) -> bool:
    """Whether λ, of the sum or of masks, is chosen on validation."""
    return "auto" in (spec.merge_params.get("scaling"), spec.merge_params.get("threshold"))


def _merge_text(spec: MergeSpec) -> str:
    if spec.merge == "adamerging":
        return "all task vectors, base, merged weights and their gradient, 4·(T + 3)·D"
    if spec.merge == "fisher":
        return "two weighted sums, a gradient and its square, 4·4·D"
    if spec.merge == "regmean":
        return "Gram matrices of the layers' inputs, their sum and products in float64, 4·(3·Σ in² + 2·D)"
    if _searches(spec):
        return "base, sum and merged weights while λ is searched, 4·3·D"
    return "tensor by tensor"
