"""From a method to merged weights: plan the edit, plan the merge, stream the tensors."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from merging.core.errors import NonFiniteWeights, SpecError
from merging.core.streaming import COLUMNS, ordered
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.planned import Edit, LinearEdit, LinearMerge, LocalisedMerge, Merge, Report, RowEdit, TensorMerge
from merging.weights import localised
from merging.weights.files.checkpoint import TensorInfo
from merging.weights.geometry import Geometry, gram_of
from merging.weights.localised import MaskCount
from merging.weights.resident import at_once, shelf
from merging.weights.vectors import TaskVectors


@dataclass
class Plan:
    """A planned merge, ready to stream.

    Attributes:
        vectors: the unedited task vectors.
        edit: the planned edit.
        merge: the planned merge.
        table: the coefficients c ``[L, T]`` if the whole run is linear, else None.
        edited_grams: Gram matrix of each edited stack seen while a non-linear run streamed.
        mask_counts: what the masks of each tensor held while a localised run streamed.
    """

    vectors: TaskVectors
    edit: Edit
    merge: Merge
    table: np.ndarray | None
    edited_grams: dict[str, np.ndarray] = field(default_factory=dict)
    mask_counts: dict[str, MaskCount] = field(default_factory=dict)

    @cached_property
    def edited(self) -> TaskVectors:
        """The edited task vectors."""
        return self.vectors.edited(self.edit)

    @property
    def per_task(self) -> bool:
        """Whether every task gets a model of its own."""
        return isinstance(self.merge, LocalisedMerge)

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Names, shapes and dtypes of what :meth:`tensors` gives."""
        base = self.vectors.base
        return localised.stored_infos(base, len(self.vectors.tasks)) if self.per_task else base.infos

    @property
    def metadata(self) -> dict[str, str]:
        """What a file of these tensors has to say besides them."""
        if not isinstance(self.merge, LocalisedMerge):
            return {}
        return localised.metadata(self.vectors.base, self.vectors.tasks, self.merge.scales)

    def served(self, tensors: Mapping[str, torch.Tensor], task: str) -> Mapping[str, torch.Tensor]:
        """Weights of the model that serves a task, from what :meth:`tensors` gave."""
        if not isinstance(self.merge, LocalisedMerge):
            return tensors
        index = self.vectors.tasks.index(task)
        scale = self.merge.scales[index] if self.merge.scales else 1.0
        return localised.assembled(self.vectors.base, tensors, index, scale)

    def merge_report(self) -> Report:
        """The merge's report, with what was seen while the tensors streamed."""
        if not self.per_task:
            return self.merge.report
        counts = [self.mask_counts[name] for name in self.vectors.names]
        return {**self.merge.report, **localised.storage_report(self.vectors.base, len(self.vectors.tasks), counts)}

    def tensors(self, context: Context | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """What is written: merged tensors in the base's dtype, in sorted order; integer buffers are the base's.

        Of a localised merge these are vectors and packed masks instead, see :mod:`merging.weights.localised`.

        Raises:
            NonFiniteWeights: NaN or infinity in a file, or an overflow.
        """
        context = context or Context()
        rows = None if self.table is None else dict(zip(self.vectors.names, self.table, strict=True))

        def one(name: str) -> list[tuple[str, torch.Tensor]]:
            info = self.vectors.info(name)
            if isinstance(self.merge, LocalisedMerge):
                return self._localise(name, self.merge, context) if info.floating else []
            if not info.floating:
                return [(name, self.vectors.base[name])]
            if rows is not None:
                merged = combine(self.vectors, name, rows[name], context.device)
            else:
                merged = self._apply(name, self.merge, context)
            return [(name, _as_stored(name, merged, info.dtype))]

        names = tuple(self.vectors.base)
        for done, tensors in enumerate(ordered(one, names, context.device, at_once(self.vectors, context.device))):
            context.step(done, len(names), "merging")
            yield from tensors

    def _localise(self, name: str, merge: LocalisedMerge, context: Context) -> list[tuple[str, torch.Tensor]]:
        """Edit one tensor, and its shared vector and masks as they are stored."""
        base, stack = self.edited.stack(name, context.device, passing=True)
        if not isinstance(self.edit, LinearEdit):
            self.edited_grams[name] = gram_of([stack.reshape(len(stack), -1)])
        vector, masks = merge.apply(name, base, stack)
        if not bool(torch.isfinite(vector.sum())):
            raise self.vectors.owner_of_nonfinite(name)
        vector = _as_stored(name, vector, self.vectors.info(name).dtype)
        farthest = max(merge.scales, default=1.0) * vector.float() * masks.any(dim=0)
        _as_stored(name, base + farthest, vector.dtype)  # overflows where a model would
        stored = localised.stored(name, vector, masks)
        self.mask_counts[name] = localised.count(masks, stored[1][1])
        return stored

    def _apply(self, name: str, merge: LinearMerge | TensorMerge, context: Context) -> torch.Tensor:
        """Edit and merge one tensor, in pieces where both allow it."""
        if isinstance(self.edit, RowEdit) and isinstance(merge, LinearMerge) and name in self.edit.rows:
            mixing = self.edit.rows[name]
            self.edited_grams[name] = mixing.gram
            return combine_rows(self.vectors, name, mixing.multipliers(merge.coefficients[name]), context.device)
        shape = self.vectors.info(name).shape
        merged = torch.empty(torch.Size(shape).numel(), device=context.device)

        def stacks() -> Iterator[torch.Tensor]:
            if isinstance(merge, LinearMerge):
                for where, base, stack in self.edited.pieces(name, context.device):
                    merged[where] = merge(name, base, stack)
                    yield stack
            else:
                base, stack = self.edited.stack(name, context.device, passing=True)
                merged.copy_(merge(name, base, stack).reshape(-1))
                yield stack.reshape(len(stack), -1)

        if isinstance(self.edit, LinearEdit):
            deque(stacks(), maxlen=0)  # the geometry after it follows from that before
        else:
            self.edited_grams[name] = gram_of(stacks())
        if not bool(torch.isfinite(merged.sum())):
            raise self.vectors.owner_of_nonfinite(name)
        return merged.view(shape)

    def edited_geometry(self, before: Geometry) -> Geometry | None:
        """Geometry of the edited vectors, once all tensors have streamed; None if it was not seen."""
        if isinstance(self.edit, LinearEdit):
            eye = np.eye(len(self.vectors.tasks))
            return before.mixed(np.stack([self.edit.matrices.get(name, eye) for name in before.names]))
        if len(self.edited_grams) == len(before.names):
            return before.with_grams(np.stack([self.edited_grams[name] for name in before.names]))
        return None


def plan(vectors: TaskVectors, pair: Pair, context: Context) -> Plan:
    """Plan the edit and the merge of a method; may take long for methods that learn.

    Raises:
        MergingError: whatever the methods raise.
    """
    if stays_on_device(pair):
        vectors = shelf.held(vectors, context)
    edit: Edit = pair.edit.stage.plan(vectors, pair.edit.params, context)
    merge: Merge = pair.merge.stage.plan(vectors.edited(edit), pair.merge.params, context)
    return Plan(vectors, edit, merge, coefficient_table(vectors, edit, merge))


def stays_on_device(pair: Pair) -> bool:
    """Whether a method is to find all models on the device; those that learn on images hold what they need there."""
    return pair.data.needs == "none"


def coefficient_table(vectors: TaskVectors, edit: Edit, merge: Merge) -> np.ndarray | None:
    """c ``[L, T]`` with θ*^l = θ₀^l + Σ_t c[l,t] τ_t^l, if edit and merge are both linear."""
    if not isinstance(edit, LinearEdit) or not isinstance(merge, LinearMerge):
        return None
    eye = np.eye(len(vectors.tasks))
    return np.stack([merge.coefficients[name] @ edit.matrices.get(name, eye) for name in vectors.names])


def rebuilt_from(
    vectors: TaskVectors, table: np.ndarray, context: Context | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The merged tensors of a linear run from its coefficient table ``[L, T]`` alone.

    Raises:
        SpecError: the table is of another shape than these vectors.
    """
    if context is not None:
        vectors = shelf.held(vectors, context)
    expected = (len(vectors.names), len(vectors.tasks))
    if table.shape != expected:
        raise SpecError(f"coefficient table of shape {table.shape}; these checkpoints need {expected}")
    return Plan(vectors, LinearEdit({}), LinearMerge({}), table).tensors(context)


def combine(vectors: TaskVectors, name: str, weights: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """``θ₀ + Σ_t w_t τ_t`` of one tensor, float32, reading every file once.

    Written as ``(1 − Σ w) θ₀ + Σ w_t θ_t``, so that no task vector is ever stored; one task with w = 1 gives
    exactly that task's weights.
    """
    base, *stored = (tensor.reshape(-1) for tensor in vectors.stored(name, device))
    models = [(float(w), model) for w, model in zip(weights, stored, strict=True) if w != 0]
    merged = torch.empty(base.numel(), device=device)
    size = COLUMNS if merged.device.type == "cpu" else max(1, base.numel())
    own = 1.0 - sum(w for w, _ in models)
    for start in range(0, base.numel(), size):
        part = merged[start : start + size]
        part.copy_(base[start : start + size])
        if own != 1.0:
            part.mul_(own)
        for weight, model in models:
            part.add_(model[start : start + size].to(part.device, torch.float32), alpha=weight)
        if not bool(torch.isfinite(part.sum())):
            raise vectors.owner_of_nonfinite(name)
    return merged.view(vectors.info(name).shape)


def combine_rows(
    vectors: TaskVectors, name: str, weights: np.ndarray, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """As :func:`combine` with weights of every output row, ``[T, R]``."""
    each = torch.as_tensor(weights, dtype=torch.float32, device=device)
    own = torch.as_tensor(1.0 - weights.sum(axis=0), dtype=torch.float32, device=device)
    base, *models = (tensor.reshape(len(own), -1) for tensor in vectors.stored(name, device))
    merged = torch.empty(base.shape, device=device)
    size = max(1, COLUMNS // max(1, base.shape[1])) if merged.device.type == "cpu" else len(own)
    for start in range(0, len(own), size):
        rows = slice(start, start + size)
        part = torch.mul(base[rows].to(merged.device), own[rows, None], out=merged[rows])
        for weight, model in zip(each, models, strict=True):
            part.addcmul_(model[rows].to(part.device, torch.float32), weight[rows, None])
        if not bool(torch.isfinite(part.sum())):
            raise vectors.owner_of_nonfinite(name)
    return merged.view(vectors.info(name).shape)


def _as_stored(name: str, merged: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert to the base's dtype.

    Raises:
        NonFiniteWeights: the weights are too large for float16.
    """
    stored = merged.to(dtype)
    if dtype == torch.float16 and not bool(torch.isfinite(stored).all()):
        raise NonFiniteWeights(f"tensor {name!r}: merged weights overflow float16; use smaller coefficients")
    return stored
