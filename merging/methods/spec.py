"""What to do: a specification, validated and complete."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from merging.core.errors import SpecError
from merging.core.wording import explain
from merging.methods import registry
from merging.methods.labels import label_of, method_of
from merging.methods.pairs import refusal

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
