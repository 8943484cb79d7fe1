"""What to do: a specification, validated and complete."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from merging.core.errors import SpecError
from merging.core.wording import explain
from merging.methods.pair import Pair
from merging.methods.params import DataUse
from merging.suites.images.shifts import CLEAN, AnyShift, Shift, shift_of

_PAIR: dict[str, type] = {"edit": str, "edit_params": Mapping, "merge": str, "merge_params": Mapping}
_VERSION = 2  # raise when a change alters the numbers of all methods; of a single stage: see its `revisions`


class Spec(BaseModel):
    """A method for some tasks of a suite, and how it is computed and measured. Parameters are filled with defaults.

    ``shift`` corrupts all test images, those that adaptive methods learn from among them; what is chosen on validation
    is chosen on clean images. ``unseen`` are further tasks, of which no model is merged and no image is learned from,
    that accuracy is measured on. What is to be done with it says a job, see :mod:`merging.runs.jobs`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    tasks: tuple[str, ...] = Field(min_length=1)
    edit: str = "none"
    edit_params: dict[str, Any] = Field(default_factory=dict)
    merge: str = "task_arithmetic"
    merge_params: dict[str, Any] = Field(default_factory=dict)
    split: Literal["test", "val"] = "test"
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    evaluate: bool = True
    # Left out at their defaults: runs of versions without them are known by the other fields.
    shift: AnyShift = Field(CLEAN, exclude_if=lambda value: value == CLEAN)
    unseen: tuple[str, ...] = Field((), exclude_if=lambda value: not value)

    @field_validator("shift", mode="before")
    @classmethod
    def _shift_from_text(cls, value: Any) -> Any:
        return shift_of(value)

    @model_validator(mode="after")
    def _measured_as_asked(self) -> Self:
        if isinstance(self.shift, Shift) and self.split == "val":
            raise SpecError(
                f"shift {self.shift.text}: only test images are corrupted; validation images, by which parameters are "
                "chosen, stay clean. Take split test"
            )
        require_unseen(self.unseen, self.tasks)
        if self.unseen and not self.evaluate:
            raise SpecError("unseen tasks are there to be measured, and accuracy is not asked for: evaluate is false")
        if self.unseen and self.pair.localised:
            raise SpecError(
                f"unseen tasks need one model for all tasks; merge {self.merge!r} gives each merged task its own, and "
                "none for others"
            )
        if self.unseen and self.forgotten:
            raise SpecError(
                "unseen tasks can't be asked for where task vectors are subtracted: all tasks that are not merged are "
                "measured there anyway"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {name: values[name] for name, kind in _PAIR.items() if isinstance(values.get(name), kind)}
        if given.keys() != _PAIR.keys() & values.keys() or not all(isinstance(name, str) for name in values):
            return values  # the fields' own types say what is wrong
        complete = {**values, **Pair.of(**given).fields}
        return complete

    @classmethod
    def build(cls, **values: Any) -> Self:
        """Validate, with every problem as a :class:`~merging.core.errors.SpecError`."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise SpecError(f"merge specification: {explain(error, known=cls.model_fields)}") from None

    @property
    def label(self) -> str:
        """Name of the method as :func:`merging.methods.labels.label_of` gives it, and the shift if there is one."""
        return self._label

    @cached_property
    def _label(self) -> str:
        return f"{self.pair.label} · {self.shift.label}" if isinstance(self.shift, Shift) else self.pair.label

    @property
    def images(self) -> str:
        """What accuracy is measured on, in words: the split, and the shift if there is one."""
        return f"{self.split} · {self.shift.label}" if isinstance(self.shift, Shift) else self.split

    @property
    def pair(self) -> Pair:
        """Edit and merge with their parameters, as one value."""
        return Pair.of(self.edit, self.edit_params, self.merge, self.merge_params)

    @cached_property
    def method(self) -> str:
        """The method that this is a variant of, see :func:`merging.methods.labels.method_of`."""
        return self.pair.method

    @property
    def data(self) -> DataUse:
        """The data that edit and merge look at, besides what accuracy is measured on."""
        return self.pair.data

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Tasks whose vectors are subtracted, so that the model forgets them."""
        return self.pair.forgotten(self.tasks)

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

    def identity(self, contents: Sequence[str], job: str = "merge") -> str:
        """Identity of what comes of it: the fields, the job, and fingerprints of all files it reads, 64 hex digits."""
        fields = {name: value for name, value in self.model_dump(mode="json").items() if name not in ("suite", "job")}
        if job != "merge":
            fields["job"] = job
        edit, merge = (part.stage.revision for part in self.pair.parts)
        version: str | int = f"{_VERSION}.{merge}" if merge else _VERSION
        version = f"{version}.edit{edit}" if edit else version
        own = [self.pair.sources] if self.pair.sources else []  # what is built in is identified by its revisions
        text = json.dumps([version, fields, list(contents), *own], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def require_unseen(unseen: Sequence[str], merged: Sequence[str]) -> None:
    """Insist on tasks that are really unseen.

    Raises:
        SpecError: one is merged, or named twice.
    """
    both = [task for task in unseen if task in merged]
    if both:
        raise SpecError(
            f"unseen tasks {', '.join(both)}: they are merged as well, so that the model has seen them; leave them out "
            "of one or the other"
        )
    if len(set(unseen)) < len(unseen):
        raise SpecError(f"unseen tasks {', '.join(unseen)}: each must be named once")
