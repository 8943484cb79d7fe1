"""From a specification to merged weights: plan the edit, plan the merge, stream the tensors."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from merging.core.errors import NonFiniteWeights, SpecError
from merging.core.streaming import COLUMNS, ordered
from merging.core.wording import explain
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.labels import label_of, method_of
from merging.methods.pairs import refusal
from merging.methods.registry import Edit, LinearEdit, LinearMerge, LocalisedMerge, Merge, Report, TensorMerge
from merging.weights import localised
from merging.weights.files.reading import TensorInfo
from merging.weights.geometry import Geometry, gram_of
from merging.weights.localised import MaskCount
from merging.weights.vectors import TaskVectors

_VERSION = 2  # raise when a change alters the numbers of all methods; of a single merge: its `revision`


Job = Literal["merge", "baselines", "disentangle", "interference", "scaling_curve", "landscape", "predictions"]
# What jobs are called that are not about one method alone
_JOB_LABELS: dict[Job, str] = {
    "baselines": "Zero-shot and individual accuracy",
    "disentangle": "AWD on the weights",
    "landscape": "Landscape of two task vectors",
}
_JOB_SUFFIXES: dict[Job, str] = {
    "interference": ", leaving out each task",
    "scaling_curve": ", accuracy over λ",
    "predictions": ", predictions",
}


class MergeSpec(BaseModel):
    """Everything that determines a merged model besides the files themselves. Parameters are filled with defaults.

    Other jobs for the worker are asked for in the same form: ``baselines``, the accuracy of the unmerged models,
    ``disentangle``, what AWD does to the task vectors, without a merge, ``interference``, what each task costs the
    others, ``scaling_curve``, accuracy over λ, ``landscape``, loss and accuracy in the plane of two task vectors, and
    ``predictions``, what the finished run of this specification says of every image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    tasks: tuple[str, ...] = Field(min_length=1)
    job: Job = "merge"
    edit: str = "none"
    edit_params: dict[str, Any] = Field(default_factory=dict)
    merge: str = "task_arithmetic"
    merge_params: dict[str, Any] = Field(default_factory=dict)
    split: Literal["test", "val"] = "test"
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    evaluate: bool = True

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        complete = dict(values)
        for kind, default in (("edit", "none"), ("merge", "task_arithmetic")):
            method = registry.find(kind, complete.get(kind, default))  # type: ignore[arg-type]
            given = complete.get(f"{kind}_params") or {}
            if not isinstance(given, Mapping):
                raise SpecError(f"{kind}_params: expected names and values, got {str(given)[:60]!r}")
            complete[f"{kind}_params"] = method.parse(given).model_dump(mode="json")
        reason = refusal(
            complete.get("edit", "none"), complete["edit_params"], complete.get("merge", "task_arithmetic")
        )
        if reason:
            raise SpecError(reason)
        _require_doable(complete)
        return complete

    @classmethod
    def build(cls, **values: Any) -> "MergeSpec":
        """Validate, with every problem as a :class:`~merging.core.errors.SpecError`."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise SpecError(f"merge specification: {explain(error, known=cls.model_fields)}") from None

    @cached_property
    def label(self) -> str:
        """Name of the method as :func:`merging.methods.labels.label_of` gives it, or of the other job."""
        if self.job in _JOB_LABELS:
            return _JOB_LABELS[self.job]
        method = label_of(self.edit, self.edit_params, self.merge, self.merge_params)
        return method + _JOB_SUFFIXES.get(self.job, "")

    @cached_property
    def method(self) -> str:
        """The method that this is a variant of, see :func:`merging.methods.labels.method_of`, or the other job."""
        if self.job in _JOB_LABELS:
            return _JOB_LABELS[self.job]
        return method_of(self.edit, self.edit_params, self.merge, self.merge_params)

    @property
    def data(self) -> registry.Data:
        """The data that edit and merge look at, besides what accuracy is measured on."""
        return registry.data_of(self.edit, self.edit_params, self.merge, self.merge_params)

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Tasks whose vectors are subtracted, so that the model forgets them."""
        return registry.find("merge", self.merge).parse(self.merge_params).forgotten(self.tasks)

    @property
    def suite_name(self) -> str:
        """The suite's built-in name, or the name of the folder that its ``suite.yaml`` is in."""
        path = Path(self.suite)
        return path.parent.name if path.suffix == ".yaml" else path.name

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of forward passes."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def fingerprint(self, contents: Sequence[str]) -> str:
        """Identity of the result: this specification and fingerprints of all files it reads, 64 hex digits."""
        fields = self.model_dump(mode="json", exclude={"suite"} if self.job != "merge" else {"suite", "job"})
        revision = registry.find("merge", self.merge).revision
        version = f"{_VERSION}.{revision}" if revision else _VERSION
        text = json.dumps([version, fields, list(contents)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _require_doable(complete: Mapping[str, Any]) -> None:
    """Insist that a job other than a merge gets a method and tasks that it can work with; parameters are complete."""
    job, edit, tasks = complete.get("job", "merge"), complete.get("edit", "none"), complete.get("tasks") or ()
    if job in ("disentangle", "landscape") and edit != "awd":
        raise SpecError(f"job {job}: only edit awd disentangles; got edit {edit!r}")
    if job == "landscape" and len(tasks) != 2:
        raise SpecError(f"job landscape: a plane is spanned by two task vectors; got {len(tasks)} tasks")
    if job == "interference" and len(tasks) < 2:
        raise SpecError(f"job interference: expected at least two tasks, got {list(tasks)}")
    merge_params: Mapping[str, Any] = complete.get("merge_params", {})
    searched = [
        f"{kind}.{name}"
        for kind in ("edit", "merge")
        for name, value in complete.get(f"{kind}_params", {}).items()
        if value == "auto"
    ]
    if job == "interference" and searched:
        raise SpecError(f"job interference: {', '.join(searched)} must be fixed, or every subset would get its own")
    if job == "scaling_curve" and not isinstance(merge_params.get("scaling"), (int, float)):
        raise SpecError(f"job scaling_curve: merge {complete.get('merge')!r} has no single λ (merge.scaling) to vary")


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
        return localised.metadata(self.vectors.base, self.vectors.tasks) if self.per_task else {}

    def served(self, tensors: Mapping[str, torch.Tensor], task: str) -> Mapping[str, torch.Tensor]:
        """Weights of the model that serves a task, from what :meth:`tensors` gave."""
        if not self.per_task:
            return tensors
        return localised.assembled(self.vectors.base, tensors, self.vectors.tasks.index(task))

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
        for done, tensors in enumerate(ordered(one, names, context.device)):
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
        _as_stored(name, base + vector.float() * masks.any(dim=0), vector.dtype)  # overflows where a model would
        stored = localised.stored(name, vector, masks)
        self.mask_counts[name] = localised.count(masks, stored[1][1])
        return stored

    def _apply(self, name: str, merge: LinearMerge | TensorMerge, context: Context) -> torch.Tensor:
        """Edit and merge one tensor, in pieces where both allow it."""
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


def plan(vectors: TaskVectors, spec: MergeSpec, context: Context) -> Plan:
    """Plan the edit and the merge of a specification; may take long for methods that learn.

    Raises:
        MergingError: whatever the methods raise.
    """
    edit_method, merge_method = registry.find("edit", spec.edit), registry.find("merge", spec.merge)
    edit: Edit = edit_method.plan(vectors, edit_method.parse(spec.edit_params), context)
    merge: Merge = merge_method.plan(vectors.edited(edit), merge_method.parse(spec.merge_params), context)
    return Plan(vectors, edit, merge, coefficient_table(vectors, edit, merge))


def coefficient_table(vectors: TaskVectors, edit: Edit, merge: Merge) -> np.ndarray | None:
    """c ``[L, T]`` with θ*^l = θ₀^l + Σ_t c[l,t] τ_t^l, if edit and merge are both linear."""
    if not isinstance(edit, LinearEdit) or not isinstance(merge, LinearMerge):
        return None
    eye = np.eye(len(vectors.tasks))
    return np.stack([merge.coefficients[name] @ edit.matrices.get(name, eye) for name in vectors.names])


def replay(
    vectors: TaskVectors, table: np.ndarray, context: Context | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The merged tensors of a linear run from its coefficient table ``[L, T]`` alone.

    Raises:
        SpecError: the table is of another shape than these vectors.
    """
    expected = (len(vectors.names), len(vectors.tasks))
    if table.shape != expected:
        raise SpecError(f"coefficient table of shape {table.shape}; these checkpoints need {expected}")
    return Plan(vectors, LinearEdit({}), LinearMerge({}), table).tensors(context)


def combine(vectors: TaskVectors, name: str, weights: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """``θ₀ + Σ_t w_t τ_t`` of one tensor, float32, reading every file once.

    Written as ``(1 − Σ w) θ₀ + Σ w_t θ_t``, so that no task vector is ever stored; one task with w = 1 gives
    exactly that task's weights.
    """
    base = vectors.base[name].reshape(-1)
    models = [(float(w), c[name].reshape(-1)) for w, c in zip(weights, vectors.checkpoints, strict=True) if w != 0]
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


def _as_stored(name: str, merged: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert to the base's dtype.

    Raises:
        NonFiniteWeights: the weights are too large for float16.
    """
    stored = merged.to(dtype)
    if dtype == torch.float16 and not bool(torch.isfinite(stored).all()):
        raise NonFiniteWeights(f"tensor {name!r}: merged weights overflow float16; use smaller coefficients")
    return stored
