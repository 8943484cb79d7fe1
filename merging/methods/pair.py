"""A method: an edit and a merge with their parameters, as one value that is validated once."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from merging.core.errors import SpecError
from merging.methods import grammar, registry
from merging.methods.params import DataUse, Params
from merging.methods.refusals import reason_against
from merging.methods.registry import Kind, Revision, Stage

DEFAULTS: dict[Kind, str] = {"edit": "none", "merge": "task_arithmetic"}


@dataclass(frozen=True)
class Part:
    """One stage of a method with its parameters, those with defaults included."""

    stage: Stage
    params: Params

    @classmethod
    def of(cls, kind: Kind, name: str, values: Any) -> "Part":
        """A stage by name, with parameters by name.

        Raises:
            SpecError: a name is unknown or a value out of bounds.
        """
        if not isinstance(values, Mapping):
            raise SpecError(f"{kind}_params: expected names and values, got {str(values)[:60]!r}")
        stage = registry.find(kind, name)
        return cls(stage, stage.parse(values))

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return self.stage.name

    @property
    def title(self) -> str:
        """What people call it."""
        return self.stage.title

    @property
    def values(self) -> dict[str, Any]:
        """All parameters, JSON-ready, as specifications hold them."""
        return self.params.model_dump(mode="json")

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, JSON-ready."""
        return self.stage.changed(self.params.model_dump())

    @property
    def data(self) -> DataUse:
        """The images that it looks at."""
        return self.stage.data_of(self.params)

    def changes_since(self, revisions: Mapping[str, int] | None) -> tuple[Revision, ...]:
        """What changed after these revisions, by edit and merge, but for what its parameters ask for anyway."""
        revision = None if revisions is None else revisions.get(self.stage.kind, 0)
        return tuple(
            one
            for one in self.stage.changes_since(revision)
            if one.former is None or not one.former.items() <= self.params.model_dump().items()
        )

    def as_of(self, revisions: Mapping[str, int] | None) -> "Part":
        """The same with the parameters that give today what it gave then, as far as there are any."""
        values = self.params.model_dump()
        for one in reversed(self.changes_since(revisions)):
            values |= one.former or {}
        return Part(self.stage, self.stage.parse(values))


def _on_one_line(settings: Mapping[str, str]) -> str:
    return " ".join(shlex.quote(f"{name}={value}") for name, value in settings.items())


def _origin(part: Part) -> str:
    return part.stage.source.name if part.stage.source else "a file of its own"


@dataclass(frozen=True)
class Pair:
    """A method: what is done to the task vectors, and how they are merged then.

    >>> pair = Pair.of("ties", {"keep": 0.1}, merge_params={"scaling": "auto"})
    >>> pair.label, pair.method, pair.data.chosen, pair.text
    ('TIES + Task Arithmetic · keep 0.1', 'TIES', ('merge.scaling',), 'edit=ties merge=task_arithmetic edit.keep=0.1 \
merge.scaling=auto')
    >>> Pair.read(pair.text) == pair
    True
    """

    edit: Part
    merge: Part

    @classmethod
    def of(
        cls,
        edit: str = DEFAULTS["edit"],
        edit_params: Mapping[str, Any] | None = None,
        merge: str = DEFAULTS["merge"],
        merge_params: Mapping[str, Any] | None = None,
    ) -> "Pair":
        """A method from names and values; parameters that are not given have their defaults.

        Raises:
            SpecError: a name is unknown, a value out of bounds, or the two make no sense together.
        """
        pair = cls(Part.of("edit", edit, edit_params or {}), Part.of("merge", merge, merge_params or {}))
        reason = reason_against(pair.edit.stage, pair.edit.params, pair.merge.stage)
        if reason:
            raise SpecError(reason)
        return pair

    @classmethod
    def of_settings(cls, settings: Mapping[str, str]) -> "Pair":
        """A method from text by name, as :attr:`settings` gives it.

        Raises:
            SpecError: as :meth:`of`, or a text can't be read.
        """
        names = {kind: settings.get(kind, default) for kind, default in DEFAULTS.items()}
        values = grammar.read_settings({path: text for path, text in settings.items() if path not in names})
        return cls.of(names["edit"], values["edit"], names["merge"], values["merge"])

    @classmethod
    def read(cls, text: str) -> "Pair":
        """A method from one line, as :attr:`text` gives it.

        Raises:
            SpecError: as :meth:`of_settings`.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise SpecError(f"{text[:60]!r}: {error}") from None
        odd = [word for word in words if "=" not in word]
        if odd:
            raise SpecError(f"{odd[0]!r}: expected NAME=VALUE, such as merge=tsv_m or edit.keep=0.1")
        return cls.of_settings(dict(word.split("=", 1) for word in words))

    @property
    def parts(self) -> tuple[Part, Part]:
        """The edit, then the merge."""
        return self.edit, self.merge

    @property
    def settings(self) -> dict[str, str]:
        """The merge, the edit if there is one, and all parameters that differ from their defaults, as text by name."""
        names = {"edit": self.edit.name} if self.edit.name != DEFAULTS["edit"] else {}
        return {
            **names,
            "merge": self.merge.name,
            **{
                f"{part.stage.kind}.{name}": grammar.write_value(value)
                for part in self.parts
                for name, value in part.changed.items()
            },
        }

    @property
    def full_text(self) -> str:
        """Those on one line, and the parameters that are at their defaults, but for what changes no result."""
        names = {name: value for name, value in self.settings.items() if "." not in name}
        values = {
            f"{part.stage.kind}.{name}": grammar.write_value(value)
            for part in self.parts
            for name, value in part.values.items()
            if name not in part.stage.params.changing_nothing
        }
        return _on_one_line({**names, **values})

    @cached_property
    def telling(self) -> dict[tuple[str, str], Any]:
        """Both stages by kind, with their parameters by kind and name: what makes another method of it.

        Without λ, as the same method is run with a λ given and with the best on validation, and without what changes no
        result.
        """
        values: dict[tuple[str, str], Any] = {(part.stage.kind, ""): part.name for part in self.parts}
        for part in self.parts:
            left_out = {part.stage.params.scaling_name(), *part.stage.params.changing_nothing}
            values |= {(part.stage.kind, name): value for name, value in part.values.items() if name not in left_out}
        return values

    @property
    def text(self) -> str:
        """The same on one line."""
        return _on_one_line(self.settings)

    @property
    def fields(self) -> dict[str, Any]:
        """As the fields of a specification, JSON-ready, defaults included."""
        return {
            "edit": self.edit.name,
            "edit_params": self.edit.values,
            "merge": self.merge.name,
            "merge_params": self.merge.values,
        }

    @property
    def title(self) -> str:
        """What people call the two, whatever their parameters."""
        return self.merge.title if self.edit.name == DEFAULTS["edit"] else f"{self.edit.title} + {self.merge.title}"

    @property
    def usual(self) -> "Pair":
        """The same two with the defaults of all parameters, whether those make sense together or not."""
        edit, merge = (Part(part.stage, part.stage.parse({})) for part in self.parts)
        return Pair(edit, merge)

    @cached_property
    def label(self) -> str:
        """What it is called, see :func:`merging.methods.labels.label_of`."""
        from merging.methods.labels import label_of  # knows all published pairs

        return label_of(self)

    @cached_property
    def method(self) -> str:
        """The published method that it is a variant of, see :func:`merging.methods.labels.method_of`; else its title.

        By it charts choose the colour.
        """
        from merging.methods.labels import method_of  # knows all published pairs

        return method_of(self)

    @property
    def data(self) -> DataUse:
        """The images that it looks at, besides those that accuracy is measured on."""
        return self.edit.data | self.merge.data

    @property
    def adapts_on_test(self) -> bool:
        """Whether it adapts on the unlabeled images that its accuracy is measured on."""
        return any(part.params.learns_from() == "test" for part in self.parts)

    @property
    def localised(self) -> bool:
        """Whether it gives a model for each task instead of one for all."""
        return self.merge.stage.localised

    @property
    def linear(self) -> bool | None:
        """Whether the merged model is a weighted sum of task vectors; None where only planning tells."""
        kinds = [part.stage.linear for part in self.parts]
        return False if False in kinds else None if None in kinds else True

    @property
    def scaling(self) -> Any:
        """λ, as JSON holds it: a number, a list, or ``auto``; None if the merge has none."""
        name = self.merge.stage.params.scaling_name()
        return None if name is None else self.merge.values[name]

    @property
    def scaling_grid(self) -> tuple[float, ...]:
        """The values of λ that ``auto`` tries first; none if the merge has no λ."""
        params = self.merge.stage.params
        name = params.scaling_name()
        return () if name is None else params.on_validation()[name].grid

    def with_scaling(self, value: Any) -> "Pair":
        """The same with another λ.

        Raises:
            SpecError: the merge has none, or the value is out of bounds.
        """
        name = self.merge.stage.params.scaling_name()
        if name is None:
            raise SpecError(f"merge {self.merge.name!r} has no λ that could be {value!r}")
        return replace(self, merge=Part.of("merge", self.merge.name, {**self.merge.params.model_dump(), name: value}))

    @property
    def revisions(self) -> dict[str, int]:
        """How often the numbers of its edit and its merge were altered, by kind; those that never were are left out."""
        return {part.stage.kind: part.stage.revision for part in self.parts if part.stage.revision}

    def as_of(self, revisions: Mapping[str, int] | None) -> "Pair":
        """The method that computes today what this one did, as far as that is possible.

        Args:
            revisions: by edit and merge, as :attr:`revisions` gave them then; None if that was not recorded.
        """
        edit, merge = (part.as_of(revisions) for part in self.parts)
        return Pair(edit, merge)

    @property
    def sources(self) -> dict[str, str]:
        """Kind → SHA-256 of the file or package of a stage that is somebody's own; what is built in is left out."""
        return {part.stage.kind: part.stage.source.sha256 for part in self.parts if part.stage.source}

    def outdated(self, revisions: Mapping[str, int] | None, sources: Mapping[str, str] | None = None) -> str:
        """What an earlier version did in another way, as a sentence without its end; empty if that is today's.

        Args:
            revisions: by edit and merge, as :attr:`revisions` gave them then; None if that was not recorded.
            sources: as :attr:`sources` gave them then; None or empty if both were built in.
        """
        parts = [
            f"computed by an earlier version of {part.title}, which {one.before}"
            for part in self.parts
            for one in part.changes_since(revisions)
        ]
        parts += [
            f"computed by an earlier version of {part.title}, with another content of {_origin(part)}"
            for part in self.parts
            if (sources or {}).get(part.stage.kind) != self.sources.get(part.stage.kind)
        ]
        return f"{'; '.join(parts)}: the same settings give other numbers today" if parts else ""

    def forgotten(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks, of those merged, whose vectors are subtracted, so that the model forgets them."""
        return self.merge.params.forgotten(tasks)
