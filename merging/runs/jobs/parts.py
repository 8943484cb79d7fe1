"""Jobs that measure several things of one method, each of which another job on the same files may have measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from merging.runs.jobs.model_job import ModelJob


class Effort(NamedTuple):
    """What a job takes: so many merges, each of this share of its tasks; so many passes over the images of all."""

    merges: int
    passes: float
    share: float = 1.0


class InParts(ModelJob):
    """A job whose field :attr:`of` names what it measures, each part for itself.

    Attributes:
        of: the name of that field.
    """

    of: ClassVar[str]

    @property
    def parts(self) -> tuple[Any, ...]:
        """What is measured, in order."""
        found: tuple[Any, ...] = getattr(self, self.of)
        return found

    @property
    @abstractmethod
    def effort(self) -> Effort:
        """What all of it takes."""

    def with_parts(self, parts: Sequence[Any]) -> Self:
        """The same job for other parts."""
        return type(self).like(self, **{self.of: tuple(parts)})

    def is_like(self, other: object) -> bool:
        """Whether another job differs in nothing but its parts, and in where its suite is found."""
        if not isinstance(other, type(self)):
            return False
        return self.model_copy(update={"suite": other.suite, self.of: other.parts}) == other

    def gathered(self, found: Mapping[Any, Any]) -> Any:
        """The result of this job for the parts that are known, in its order.

        Args:
            found: part → the result of a job like this one that holds it; at least one.
        """
        results = list({id(result): result for result in found.values()}.values())
        skipped: dict[str, dict[str, int]] = {}
        for result in results:
            for split, tasks in result.skipped.items():
                skipped.setdefault(split, {}).update(tasks)
        warnings = dict.fromkeys(one for result in results for one in result.data_warnings)
        known = {part: found[part] for part in self.parts if part in found}
        said = {"label": self.label, "skipped": skipped, "data_warnings": list(warnings)}
        return results[0].model_copy(update=said | self.joined(known))

    @abstractmethod
    def joined(self, found: Mapping[Any, Any]) -> dict[str, Any]:
        """The fields of a result that are about parts, of those that are known."""
