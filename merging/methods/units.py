"""Settings that were made for the size of CLIP's task vectors, and how they are carried over to other towers.

A learning rate, a penalty or a length that a paper gives suits task vectors of the size that the paper had: ViT-B/32
fine-tuned at small rates. With ``relative`` a problem is solved on task vectors brought to that size, and what comes
out is brought back, so that the result does not depend on the unit of the weights. ``by_size`` takes settings as
printed where task vectors are about as large as CLIP's, and ``relative`` where they are not: once for all layers, by
the models' own task vectors, before any edit. Presets are named for published settings and take ``published``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from merging.core.text import short
from merging.methods.params import Params
from merging.methods.planned import Report
from merging.weights.geometry import Geometry

Units = Literal["by_size", "published", "relative"]
CLIP_SPREAD = 2.5e-4  # root mean square entry of a task vector of ViT-B/32: a rate of 1e-5 is 0.04 of it
CLIP_LENGTH = 0.29  # root mean square norm of its task vectors in one weight matrix of the blocks: 2.0/√48
# How many times larger or smaller than CLIP's task vectors may be for settings as printed. It is this project's choice:
# fine-tuned CLIP models differ by less, and 300 steps of 1e-5, WUDI's, still cover three times an entry of that size.
FACTOR = 4.0

_WHAT = (
    "published: settings that have a unit as they are printed, made for CLIP's weights. relative: as if the task "
    "vectors had the size of CLIP's, for towers whose task vectors are of another size."
)
_BY_SIZE = f"by_size: published where they are within {FACTOR:g} times the size of CLIP's, else relative"


def _units(default: Units, description: str) -> Any:
    return Field(default, description=description, exclude_if=lambda value: bool(value == "published"))


# Of the parameter ``units``, in a class that is InUnits.
UNITS: Any = _units("by_size", f"{_WHAT} {_BY_SIZE}; the run says which.")
UNITS_OF_ADAM: Any = _units("by_size", f"{_WHAT} {_BY_SIZE}, for solver adam; published for the others.")
UNITS_AS_PRINTED: Any = _units("published", _WHAT)  # where it is ``published`` or ``relative``, in any class


class InUnits(Params):
    """Parameters with ``units: Units = UNITS`` among them: what it means where it is not given.

    Specifications hold all parameters, those of versions that had no ``by_size`` too, but ``published`` is left out of
    them: complete parameters without ``units`` mean that. Where others are left out as well, ``by_size``.
    """

    @classmethod
    def has_units(cls, values: Mapping[str, Any]) -> bool:
        """Whether anything has a unit with these values; where nothing has, ``by_size`` is as good as ``published``."""
        return True

    @model_validator(mode="before")
    @classmethod
    def _where_not_given(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        always = {name for name, field in cls.model_fields.items() if field.exclude_if is None}
        asked = values.get("units", "published" if always <= values.keys() else "by_size")
        if asked == "by_size" and not cls.has_units(values):
            asked = "published"
        return {**values, "units": asked}


@dataclass(frozen=True)
class Size:
    """How large task vectors are, by what settings with a unit are made for.

    Attributes:
        times: how many times as large as CLIP's.
        what: of what, such as entries.
        settings: the settings that have a unit, as a method's users know them.
    """

    times: float
    what: str
    settings: str

    @classmethod
    def of_entries(cls, geometry: Geometry, names: Iterable[str], settings: str) -> Self:
        """By the root mean square entry of the task vectors in some tensors, those that are zero not counted."""
        return cls(_root_mean_square(geometry, names, each_entry=True) / CLIP_SPREAD, "entries", settings)

    @classmethod
    def of_lengths(cls, grams: np.ndarray, usual: float, settings: str) -> Self:
        """By the root mean square norm of whole task vectors, from their Gram matrices ``[B, T, T]``."""
        squares = np.diagonal(grams, axis1=1, axis2=2)
        there = squares > 0
        return cls(float(np.sqrt(squares[there].mean())) / usual if there.any() else 1.0, "norms", settings)

    def relative(self, asked: Units) -> bool:
        """Whether settings are carried over."""
        return self.far if asked == "by_size" else asked == "relative"

    @property
    def far(self) -> bool:
        """Whether it is another size than CLIP's."""
        return not 1 / FACTOR <= self.times <= FACTOR

    def report(self, asked: Units) -> Report:
        """What a run keeps: what ``units`` came to, how many times as large as CLIP's task vectors are, and why."""
        return {
            "units": "relative" if self.relative(asked) else "published",
            "units_asked": asked,
            "size": self.times,
            "units_because": self._because(asked),
        }

    def _because(self, asked: Units) -> str:
        """A sentence, without its end."""
        seen = f"the {self.what} here are {short(round(self.times, 2))} times those of CLIP's"
        carried, printed = "carried over to the size of the task vectors", "as published for task vectors like CLIP's"
        if asked == "by_size":
            done, where = (carried, "outside") if self.far else (printed, "within")
            return f"{self.settings} {done}: {seen}, {where} 1/{FACTOR:g} to {FACTOR:g} (units=by_size)"
        if asked == "relative":
            return f"{self.settings} {carried}, as asked: {seen}"
        advice = "; units=relative carries it over" if self.far else ""
        return f"{self.settings} {printed}; {seen}{advice}"


def _root_mean_square(geometry: Geometry, names: Iterable[str], each_entry: bool) -> float:
    """Over tensors and tasks, of those that are not zero; CLIP's if there is none."""
    squares, entries = 0.0, 0
    for name in names:
        own = np.diagonal(geometry.grams[geometry.names.index(name)])
        there = own > 0
        squares += float(own[there].sum())
        entries += int(there.sum()) * (torch.Size(geometry.shapes[name]).numel() if each_entry else 1)
    return float(np.sqrt(squares / entries)) if entries else (CLIP_SPREAD if each_entry else CLIP_LENGTH)


def length_factor(geometry: Geometry, names: Iterable[str]) -> float:
    """How many times longer task vectors are in one layer of some than CLIP's: root mean square of those not zero."""
    return _root_mean_square(geometry, names, each_entry=False) / CLIP_LENGTH


def spread_factor(stack: torch.Tensor) -> float:
    """How many times larger the entries of task vectors ``[T, ...]`` are than CLIP's, zero vectors not counted."""
    squares = stack.flatten(1).double().square().mean(dim=1)
    there = squares > 0
    return float(squares[there].mean().sqrt()) / CLIP_SPREAD if bool(there.any()) else 1.0
