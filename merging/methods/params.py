"""Parameters of a stage: validated values, which of them validation images may choose, and what their types allow."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

Needs = Literal["none", "unlabeled", "labelled"]
NEEDS: tuple[Needs, ...] = ("none", "unlabeled", "labelled")
AUTO = "auto"
_INSIDE = 1e-9  # how far inside an excluded bound a form stops
# The values of λ that are tried first where validation images choose it.
GRID = tuple(round(0.05 * step, 2) for step in range(21))  # 0 … 1, arXiv 2212.04089
WIDE_GRID = tuple(round(0.1 * step, 1) for step in range(21))  # 0 … 2, for merges whose own λ is 1


@dataclass(frozen=True)
class OnValidation:
    """Marks a parameter that takes ``auto``: its value is then chosen on labelled validation images.

    Attributes:
        scaling: whether it is λ, the factor of the whole merged update. With another λ a method is still the same
            method: no label holds it, and leaderboards always choose it. Only a merge has one.
        grid: of λ, the values that are tried first, rising.
    """

    scaling: bool = False
    grid: tuple[float, ...] = WIDE_GRID


class Params(BaseModel):
    """Base of every stage's parameters: validated, frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    changing_nothing: ClassVar[frozenset[str]] = frozenset()
    """Names of parameters that say how to compute and not what: no name of a method holds them."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("must be a number or a name")
        return value

    @classmethod
    def on_validation(cls) -> dict[str, OnValidation]:
        """The parameters that validation images may choose, by name."""
        fields = cls.model_fields.items()
        return {name: one for name, field in fields for one in field.metadata if isinstance(one, OnValidation)}

    @classmethod
    def scaling_name(cls) -> str | None:
        """The parameter that is λ, if there is one."""
        return next((name for name, mark in cls.on_validation().items() if mark.scaling), None)

    def everything(self) -> dict[str, Any]:
        """All values by name, JSON-ready, those included that specifications leave out."""
        return {name: getattr(self, name) for name in type(self).model_fields} | self.model_dump(mode="json")

    def needs(self) -> Needs:
        """The data that these values ask for, apart from choosing any of them."""
        return "none"

    def chosen(self) -> tuple[str, ...]:
        """The parameters that are ``auto``."""
        return tuple(name for name in type(self).on_validation() if getattr(self, name) == AUTO)

    def learns_from(self) -> Literal["val", "test"] | None:
        """The split whose images, without their labels, a method with these values adapts on; None if on none.

        Those of test are the very images that accuracy is measured on, so that they are corrupted where those are.
        """
        return None

    def forgotten(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks, of those merged, whose vectors these values subtract."""
        return ()


@dataclass(frozen=True)
class DataUse:
    """The images that a method looks at, besides those that accuracy is measured on.

    Attributes:
        needs: what it needs by itself.
        chosen: its parameters that are chosen on labelled validation images, such as ``merge.scaling``.
        words: the same as people call them, such as λ.
    """

    needs: Needs
    chosen: tuple[str, ...] = ()
    words: tuple[str, ...] = field(default=(), compare=False)

    @property
    def images(self) -> bool:
        """Whether it looks at any images at all."""
        return self.needs != "none" or bool(self.chosen)

    @property
    def chosen_words(self) -> str:
        """What is chosen, as people call it."""
        return ", ".join(self.words)

    def __or__(self, other: "DataUse") -> "DataUse":
        """What two stages look at together."""
        needs = max(self.needs, other.needs, key=NEEDS.index)
        return DataUse(needs, self.chosen + other.chosen, self.words + other.words)


def title_of(field: FieldInfo, name: str) -> str:
    """What people call a parameter."""
    return field.title or name.replace("_", " ").capitalize()


def is_coefficient(field: FieldInfo) -> bool:
    """Whether a field takes one number, or else one a task or ``auto`` as far as its type allows that."""
    return get_origin(field.annotation) in (Union, UnionType)


def takes_each(field: FieldInfo) -> bool:
    """Whether a field takes a list, one number a task."""
    return any(get_origin(option) is tuple for option in get_args(field.annotation))


def takes_auto(field: FieldInfo) -> bool:
    """Whether a field takes ``auto``."""
    options = get_args(field.annotation) if is_coefficient(field) else (field.annotation,)
    return any(get_origin(option) is Literal and AUTO in get_args(option) for option in options)


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The smallest and the largest value that a form may offer, both allowed: bounds that are excluded moved inside."""
    low = high = None
    for item in _constraints(field):
        if isinstance(item, annotated_types.Ge):
            low = float(item.ge)  # type: ignore[arg-type]
        elif isinstance(item, annotated_types.Gt):
            low = _beside(float(item.gt), math.inf)  # type: ignore[arg-type]
        elif isinstance(item, annotated_types.Le):
            high = float(item.le)  # type: ignore[arg-type]
        elif isinstance(item, annotated_types.Lt):
            high = _beside(float(item.lt), -math.inf)  # type: ignore[arg-type]
    return low, high


def excludes_low(field: FieldInfo) -> bool:
    """Whether a field's lower bound is itself not allowed."""
    return any(isinstance(item, annotated_types.Gt) for item in _constraints(field))


def _beside(bound: float, towards: float) -> float:
    """A number next to a bound, however large that is."""
    moved = bound + math.copysign(_INSIDE, towards)
    return moved if moved != bound else math.nextafter(bound, towards)


def _constraints(field: FieldInfo) -> Iterator[Any]:
    """Constraints of a field, and of the first annotated option of a union."""
    yield from field.metadata
    for option in get_args(field.annotation):
        if get_origin(option) is Annotated:
            for extra in get_args(option)[1:]:
                yield from extra.metadata if isinstance(extra, FieldInfo) else [extra]
            return
