"""What an edit and a merge are, and the table of all of them.

An *edit* looks at all task vectors once and returns a function on the stack of one tensor; a *merge* does the same
and reduces the stack to one tensor. Planning (looking at everything) is separate from applying (tensor by tensor), so
that applying can stream.

Methods that only rescale task vectors say so by returning :class:`LinearEdit` or :class:`LinearMerge`; two of those
compose to a table of coefficients ``c[t, l]``, which *is* the run. A :class:`LocalisedMerge` gives not one model but
one a task.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from merging.core.errors import SpecError
from merging.core.wording import explain, nearest
from merging.methods.context import Context
from merging.weights.vectors import StackFunction, TaskVectors

Needs = Literal["none", "unlabeled", "labelled"]
NEEDS: tuple[Needs, ...] = ("none", "unlabeled", "labelled")
Report = dict[str, Any]


class Params(BaseModel):
    """Base of every method's parameters: validated, frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    changing_nothing: ClassVar[frozenset[str]] = frozenset()
    """Names of parameters that say how to compute and not what: no name of a method holds them."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("must be a number or a name")
        return value

    def needs(self) -> Needs:
        """The data that these values ask for, apart from choosing any of them."""
        return "none"

    def chosen(self) -> tuple[str, ...]:
        """The parameters that are ``auto``, which always means: chosen on labelled validation images."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) == "auto")

    def forgotten(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks, of those merged, whose vectors these values subtract."""
        return ()


@dataclass(frozen=True)
class Data:
    """The images that a method looks at, besides those that accuracy is measured on.

    Attributes:
        needs: what it needs by itself.
        chosen: its parameters that are chosen on labelled validation images, such as ``merge.scaling``.
    """

    needs: Needs
    chosen: tuple[str, ...] = ()

    @property
    def images(self) -> bool:
        """Whether it looks at any images at all."""
        return self.needs != "none" or bool(self.chosen)

    @property
    def chosen_words(self) -> str:
        """What is chosen, as people call it.

        >>> Data("none", ("edit.threshold", "merge.scaling")).chosen_words
        'threshold, λ'
        """
        names = [name.split(".")[1] for name in self.chosen]
        return ", ".join("λ" if name == "scaling" else name for name in names)


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
    """A merge that serves every task by a model of its own, ``θ₀ + m_t ⊙ v``: one shared vector and a mask a task.

    ``apply`` gives v ``[*shape]`` and the masks, bool ``[T, *shape]``, of one tensor from its name, θ₀ and the stack.
    """

    apply: Callable[[str, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    report: Report = field(default_factory=dict)


Edit = LinearEdit | TensorEdit
Merge = LinearMerge | TensorMerge | LocalisedMerge
Plan = Callable[[TaskVectors, Any, Context], Any]
F = TypeVar("F", bound=Plan)


@dataclass(frozen=True)
class Method:
    """A registered edit or merge.

    Attributes:
        name: what specs and the command line call it.
        title: what people call it.
        paper: URL of its source, empty if it has none.
        needs: the data it looks at besides weights, whatever its parameters.
        params: its parameter model.
        plan: the function itself.
        presets: named parameter sets, as ``title → values``.
        summary: first line of its docstring.
        unedited: for a merge that makes no sense after an edit: why.
        localised: whether it is a merge that gives a model for each task instead of one for all.
        revision: raised when a change alters the numbers that it gives, so that its earlier runs count no more.
    """

    name: str
    kind: Literal["edit", "merge"]
    title: str
    paper: str
    needs: Needs
    params: type[Params]
    plan: Plan
    presets: Mapping[str, Mapping[str, Any]]
    summary: str
    unedited: str = ""
    localised: bool = False
    revision: int = 0

    def data(self, values: Mapping[str, Any]) -> Data:
        """The data that the method looks at with these parameter values.

        Raises:
            SpecError: a name is unknown or a value out of bounds.
        """
        params = self.parse(values)
        asked: tuple[Needs, ...] = (self.needs, params.needs())
        return Data(max(asked, key=NEEDS.index), tuple(f"{self.kind}.{name}" for name in params.chosen()))

    def parse(self, values: Mapping[str, Any]) -> Params:
        """Validate parameter values and fill in defaults.

        Raises:
            SpecError: a name is unknown or a value out of bounds.
        """
        try:
            return self.params.model_validate(dict(values))
        except ValidationError as error:
            names = list(self.params.model_fields)
            has = f"parameters of {self.kind} {self.name!r}: {', '.join(names) or 'none'}"
            raise SpecError(f"{explain(error, f'{self.kind}.', names)}; {has}") from None


_EDITS: dict[str, Method] = {}
_MERGES: dict[str, Method] = {}


def edit(
    name: str, *, title: str, paper: str = "", needs: Needs = "none", presets: Mapping[str, Mapping[str, Any]] = {}
) -> Callable[[F], F]:
    """Register a function ``(vectors, params, context) → Edit``."""
    return _register(_EDITS, "edit", name, title, paper, needs, presets)


def merge(
    name: str, *, title: str, paper: str = "", needs: Needs = "none", presets: Mapping[str, Mapping[str, Any]] = {},
    unedited: str = "", revision: int = 0,
) -> Callable[[F], F]:  # fmt: skip
    """Register a function ``(vectors, params, context) → Merge``; its vectors are the edited ones."""
    return _register(_MERGES, "merge", name, title, paper, needs, presets, unedited, revision)


def _register(
    table: dict[str, Method],
    kind: Literal["edit", "merge"],
    name: str,
    title: str,
    paper: str,
    needs: Needs,
    presets: Mapping[str, Mapping[str, Any]],
    unedited: str = "",
    revision: int = 0,
) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if name in table:
            raise ValueError(f"{kind} {name!r} is registered twice")
        hints = get_type_hints(function)
        summary = (inspect.getdoc(function) or "").splitlines()[0]
        localised = hints.get("return") is LocalisedMerge
        table[name] = Method(
            name, kind, title, paper, needs, hints["params"], function, presets, summary, unedited, localised, revision
        )
        return function

    return decorate


@cache
def _load_all() -> None:
    for package in ("merging.methods.edits", "merging.methods.merges"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
            importlib.import_module(module.name)


def edits() -> dict[str, Method]:
    """All edits by name."""
    _load_all()
    return dict(sorted(_EDITS.items(), key=lambda item: (item[0] != "none", item[0])))


def merges() -> dict[str, Method]:
    """All merges by name."""
    _load_all()
    return dict(sorted(_MERGES.items()))


def find(kind: Literal["edit", "merge"], name: str) -> Method:
    """One method.

    Raises:
        SpecError: there is none of that name.
    """
    table = edits() if kind == "edit" else merges()
    if not isinstance(name, str) or name not in table:
        raise SpecError(f"unknown {kind} {name!r}{nearest(name, table)}; there are: {', '.join(table)}")
    return table[name]


def data_of(edit: str, edit_params: Mapping[str, Any], merge: str, merge_params: Mapping[str, Any]) -> Data:
    """The data that an edit and a merge look at together with these parameters."""
    parts = (find("edit", edit).data(edit_params), find("merge", merge).data(merge_params))
    return Data(max((part.needs for part in parts), key=NEEDS.index), parts[0].chosen + parts[1].chosen)
