"""The two stages of every method, edits and merges, and the table of all of them.

An *edit* looks at all task vectors once and returns a function on the stack of one tensor; a *merge* does the same
and reduces the stack to one tensor. Planning (looking at everything) is separate from applying (tensor by tensor), so
that applying can stream. What planning gives is in :mod:`merging.methods.planned`.

A stage is added by one file in ``merging/methods/edits`` or ``merging/methods/merges``: its registration says all that
forms, the command line, tables and charts need to know of it. Files of somebody's own, which lie elsewhere, are found
by :mod:`merging.methods.own`; their stages stand beside the built-in ones, each with its source.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import ValidationError

from merging.core.errors import SpecError
from merging.core.wording import explain, nearest
from merging.methods.context import Context
from merging.methods.contract import gives, require_sound
from merging.methods.looks import Look
from merging.methods.params import NEEDS, DataUse, Needs, Params
from merging.methods.planned import LinearEdit, LinearMerge, LocalisedMerge
from merging.weights.vectors import TaskVectors

Kind = Literal["edit", "merge"]
Planner = Callable[[TaskVectors, Any, Context], Any]
F = TypeVar("F", bound=Planner)


@dataclass(frozen=True)
class Published:
    """A published method as its stage declares it, or the table of :mod:`merging.methods.presets`.

    Attributes:
        name: what the command line calls it.
        title: what people call it.
        settings: stages and parameters, such as ``edit=ties edit.keep=0.1 merge.scaling=auto``; what is left out has
            its default.
        paper: URL of its source; empty for that of the stage which declares it.
        note: what the paper leaves open, or what differs here.
        iterative: whether it optimises in many steps, which takes far longer than the closed forms do.
        look: how charts draw it; None for the next look that is free.
        ours: whether it is this project's own, with no paper but a page in ``docs/``.
    """

    name: str
    title: str
    settings: str
    paper: str = ""
    note: str = ""
    iterative: bool = False
    look: Look | None = None
    ours: bool = False


@dataclass(frozen=True)
class Revision:
    """A change after which a stage gives other numbers with the same parameters.

    Attributes:
        before: what it did until then, to follow "an earlier version, which".
        former: the parameters with which it still does that, by name; None if it can't.
        recorded: whether runs said by then which revision had computed them.
    """

    before: str
    former: Mapping[str, Any] | None = None
    recorded: bool = True


@dataclass(frozen=True)
class OwnSource:
    """Where a stage of somebody's own comes from.

    Attributes:
        name: of its file, or of its package.
        sha256: of what is in it, 64 hex digits; with other content it is another stage.
    """

    name: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Stage:
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
        localised: whether it is a merge that gives a model for each task instead of one for all.
        linear: whether it only mixes task vectors; None where its parameters decide.
        unedited: for a merge that makes no sense after an edit: why.
        averages: whether it is a merge that divides by the number of tasks.
        revisions: the changes that altered the numbers which it gives, so that its earlier runs count no more.
        published: published methods that it brings.
        source: where it comes from if it is somebody's own; None of what is built in.
    """

    name: str
    kind: Kind
    title: str
    paper: str
    needs: Needs
    params: type[Params]
    plan: Planner
    presets: Mapping[str, Mapping[str, Any]]
    summary: str
    localised: bool
    linear: bool | None
    unedited: str = ""
    averages: bool = False
    revisions: tuple[Revision, ...] = ()
    published: tuple[Published, ...] = ()
    source: OwnSource | None = None

    @property
    def revision(self) -> int:
        """How often a change has altered the numbers that it gives."""
        return len(self.revisions)

    def changes_since(self, revision: int | None) -> tuple[Revision, ...]:
        """What was changed after a revision; None stands for one that was not recorded, the earliest it can be sure of.

        Where runs did not record their revision when a change was made, those without one may be of either side.
        """
        if revision is not None:
            return self.revisions[revision:]
        return tuple(one for one in self.revisions if one.recorded)

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

    def data(self, values: Mapping[str, Any]) -> DataUse:
        """The data that the stage looks at with these parameter values.

        Raises:
            SpecError: a name is unknown or a value out of bounds.
        """
        return self.data_of(self.parse(values))

    def data_of(self, params: Params) -> DataUse:
        """The data that the stage looks at with these parameters."""
        marks = params.on_validation()
        return DataUse(
            max(self.needs, params.needs(), key=NEEDS.index),
            tuple(f"{self.kind}.{name}" for name in params.chosen()),
            tuple("λ" if marks[name].scaling else name.replace("_", " ") for name in params.chosen()),
        )

    def changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that differ from their defaults, JSON-ready.

        Raises:
            SpecError: a value is out of bounds or a name unknown.
        """
        parsed = self.parse(values)
        given, defaults = parsed.everything(), self.parse({}).everything()
        found = {name: value for name, value in given.items() if value != defaults[name]}
        # Of what specifications leave out, such as units: it is named where it would not be understood, and only there.
        left_out = [name for name, field in self.params.model_fields.items() if field.exclude_if]
        if self.parse(found) != parsed:
            found |= {name: given[name] for name in left_out}
        found = found if self.parse(found) == parsed else given
        for name in left_out:
            others = {other: value for other, value in found.items() if other != name}
            found = others if self.parse(others) == parsed else found
        return found


_EDITS: dict[str, Stage] = {}
_MERGES: dict[str, Stage] = {}
_CHECKS: list[Callable[[tuple[Stage, ...]], object]] = []
_OWN: tuple[Stage, ...] | None = None  # replaced as a whole; None before anybody has looked
_TRIED: ContextVar[tuple[Stage, ...] | None] = ContextVar("_TRIED", default=None)  # in place of _OWN while loading
_LISTED: ContextVar[list[Stage] | None] = ContextVar("_LISTED", default=None)


def edit(
    name: str,
    *,
    title: str,
    paper: str = "",
    needs: Needs = "none",
    presets: Mapping[str, Mapping[str, Any]] = {},
    revisions: tuple[Revision, ...] = (),
    published: tuple[Published, ...] = (),
) -> Callable[[F], F]:
    """Register a function ``(vectors, params, context) → Edit``."""
    more = {"revisions": revisions, "published": published}
    return _register(_EDITS, "edit", name, title, paper, needs, presets, **more)


def merge(
    name: str,
    *,
    title: str,
    paper: str = "",
    needs: Needs = "none",
    presets: Mapping[str, Mapping[str, Any]] = {},
    unedited: str = "",
    averages: bool = False,
    revisions: tuple[Revision, ...] = (),
    published: tuple[Published, ...] = (),
) -> Callable[[F], F]:
    """Register a function ``(vectors, params, context) → Merge``; its vectors are the edited ones."""
    more = {"unedited": unedited, "averages": averages, "revisions": revisions, "published": published}
    return _register(_MERGES, "merge", name, title, paper, needs, presets, **more)


def _register(
    table: dict[str, Stage],
    kind: Kind,
    name: str,
    title: str,
    paper: str,
    needs: Needs,
    presets: Mapping[str, Mapping[str, Any]],
    **more: Any,
) -> Callable[[F], F]:
    """The decorator that puts a function into a table.

    Raises:
        ValueError: on decorating, if it breaks the contract; see :mod:`merging.methods.contract`.
    """

    def decorate(function: F) -> F:
        listed = _LISTED.get()
        others = table if listed is None else {one.name: one for one in (*stages(), *listed) if one.kind == kind}
        if listed is not None and name in table:
            raise ValueError(f"there is a built-in {kind} {name!r}; choose another name")
        if name in others:
            elsewhere = others[name].source  # a file or package that was loaded before; none yet of this one
            too = f": {elsewhere.name} has it, too; rename one of them" if elsewhere else ""
            raise ValueError(f"{kind} {name!r} is registered twice{too}")
        require_sound(kind, name, title, function, needs, {one.title: one.name for one in others.values()})
        given = gives(function)
        linear = {LinearEdit, LinearMerge} & given
        stage = Stage(
            name=name,
            kind=kind,
            title=title,
            paper=paper,
            needs=needs,
            params=get_type_hints(function)["params"],
            plan=function,
            presets=presets,
            summary=(inspect.getdoc(function) or "").splitlines()[0],
            localised=given == {LocalisedMerge},
            linear=(None if len(given) > 1 else True) if linear else False,
            **more,
        )
        for values in presets.values():
            stage.parse(values)
        if listed is not None:
            listed.append(stage)
            return function
        table[name] = stage
        try:
            for check in _CHECKS if _load_all.cache_info().currsize else ():  # while loading not all are there
                check(stages())
        except Exception:
            del table[name]
            raise
        return function

    return decorate


@cache
def _load_all() -> None:
    for package in ("merging.methods.edits", "merging.methods.merges"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
            importlib.import_module(module.name)


def edits() -> dict[str, Stage]:
    """All edits by name."""
    _load_all()
    return dict(sorted((_EDITS | _own("edit")).items(), key=lambda item: (item[0] != "none", item[0])))


def merges() -> dict[str, Stage]:
    """All merges by name."""
    _load_all()
    return dict(sorted((_MERGES | _own("merge")).items()))


def _own(kind: Kind) -> dict[str, Stage]:
    """Stages of somebody's own, which are looked for when they are first asked for."""
    tried = _TRIED.get()
    if tried is None and _OWN is None:
        from merging.methods import own  # which registers by means of this module

        own.refresh()
    return {stage.name: stage for stage in (_OWN or () if tried is None else tried) if stage.kind == kind}


@contextmanager
def listing() -> Iterator[list[Stage]]:
    """Have what is registered in this thread meanwhile listed, checked like all others, and entered nowhere."""
    listed: list[Stage] = []
    token = _LISTED.set(listed)
    try:
        yield listed
    finally:
        _LISTED.reset(token)


@contextmanager
def trying(own: Sequence[Stage]) -> Iterator[None]:
    """Take these for the stages of somebody's own in this thread meanwhile."""
    token = _TRIED.set(tuple(own))
    try:
        yield
    finally:
        _TRIED.reset(token)


def require_fitting() -> None:
    """Insist that all stages go together, those that are being tried included.

    Raises:
        MergingError: two of them could be taken for each other.
    """
    for check in _CHECKS:
        check(stages())


def set_own(own: Sequence[Stage]) -> None:
    """Let these be the stages of somebody's own, in place of those there were."""
    global _OWN
    _OWN = tuple(own)


def check_with(check: Callable[[tuple[Stage, ...]], object]) -> None:
    """Have all stages looked at by a function whenever one is registered; what makes it raise is refused."""
    _CHECKS.append(check)


def stages() -> tuple[Stage, ...]:
    """All edits, then all merges."""
    return (*edits().values(), *merges().values())


def find(kind: Kind, name: str) -> Stage:
    """One stage.

    Raises:
        SpecError: there is none of that name.
    """
    table, others = (edits(), merges()) if kind == "edit" else (merges(), edits())
    if not isinstance(name, str) or name not in table:
        from merging.methods import own

        is_other = isinstance(name, str) and name in others
        hint = f", which is {'an edit' if kind == 'merge' else 'a merge'}" if is_other else nearest(name, table)
        raise SpecError(f"unknown {kind} {name!r}{hint}{own.aside()}; there are: {', '.join(table)}")
    return table[name]
