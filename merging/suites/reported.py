"""ReportedTables accuracies of merging methods on CLIP, as orientation beside one's own.

They come in families of fine-tuned checkpoints: the same tasks and architectures, but other weights. A number of one
family says nothing about a method on another, so tables are kept, shown and returned by family; and as more tasks are
harder to merge, by the number of tasks.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from merging.core.errors import MergingError, SpecError
from merging.core.gate import damage_in_words
from merging.core.wording import explain

FILE = Path(__file__).with_name("reported.json")
_ROUNDING = 0.005  # of a printed average against the mean of the printed tasks; three rows are 0.0015 … 0.004 apart

Family = Literal["task_arithmetic", "fusion_bench", "fusion_bench_lora", "fusion_bench_l_lora"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _share(percent: float) -> float:
    return round(percent / 100, 6)


_Accuracy = Annotated[float, Field(ge=0, le=100), AfterValidator(_share)]  # percent in the file, 0 … 1 here


class FamilyInfo(_Part):
    """What a family of checkpoints is called, and what it is."""

    title: str = Field(min_length=1)
    description: str = Field(min_length=1)


class PublishedRow(_Part):
    """One method.

    Attributes:
        method: its name as in the source.
        accuracy: task → test accuracy, 0 … 1.
        average: over the tasks, as printed, 0 … 1.
    """

    method: str = Field(min_length=1)
    accuracy: dict[str, _Accuracy]
    average: _Accuracy


class PublishedTable(_Part):
    """What one source says about one architecture and one family of checkpoints.

    Attributes:
        checkpoints: the family.
        architecture: as open_clip calls it, without its activation.
        tasks: those of every row; empty in the file for the usual ones.
        source: where the numbers are from.
        rows: a method each.
    """

    checkpoints: Family
    architecture: str
    tasks: tuple[str, ...] = ()
    source: str = Field(min_length=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)

    def ranked(self) -> list[PublishedRow]:
        """Rows by average, best first."""
        return sorted(self.rows, key=lambda row: -row.average)


class ReportedTables(_Part):
    """All published tables.

    Attributes:
        note: how they were measured.
        families: what each family is.
        tasks: the tasks of most tables, in the usual order.
        tables: at most one a family, architecture and number of tasks.
    """

    note: str
    families: dict[Family, FamilyInfo]
    tasks: tuple[str, ...] = Field(min_length=1)
    tables: tuple[PublishedTable, ...] = Field(min_length=1)

    @field_validator("tables")
    @classmethod
    def _of_usual_tasks(cls, tables: tuple[PublishedTable, ...], info: ValidationInfo) -> tuple[PublishedTable, ...]:
        usual = info.data.get("tasks", ())
        return tuple(table if table.tasks else table.model_copy(update={"tasks": usual}) for table in tables)

    @model_validator(mode="after")
    def _consistent(self) -> "ReportedTables":
        kinds = [(table.checkpoints, table.architecture, len(table.tasks)) for table in self.tables]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"several tables of one family, architecture and number of tasks among {kinds}")
        for table in self.tables:
            where = f"{table.checkpoints} {table.architecture}"
            if table.checkpoints not in self.families:
                raise ValueError(f"{where}: the family is not described under families")
            names = [row.method for row in table.rows]
            if len(set(names)) != len(names):
                raise ValueError(f"{where}: methods must differ, got {names}")
            for row in table.rows:
                self._check(row, table.tasks, f"{where}, {row.method}")
        return self

    def _check(self, row: PublishedRow, tasks: tuple[str, ...], where: str) -> None:
        if set(row.accuracy) != set(tasks):
            raise ValueError(f"{where}: tasks {sorted(row.accuracy)}, expected {sorted(tasks)}")
        mean = sum(row.accuracy.values()) / len(row.accuracy)
        if abs(mean - row.average) > _ROUNDING:
            raise ValueError(f"{where}: average {100 * row.average:.1f}, but its tasks have {100 * mean:.1f}")

    def architectures(self, family: str | None = None) -> tuple[str, ...]:
        """Architectures with a table, of one family or of any."""
        return tuple(dict.fromkeys(t.architecture for t in self.tables if family in (None, t.checkpoints)))

    def select(self, family: str | None = None, architecture: str | None = None) -> tuple[PublishedTable, ...]:
        """Tables of a family, of an architecture, or both; all of them without a wish.

        Raises:
            SpecError: there is none.
        """
        found = tuple(
            table
            for table in self.tables
            if family in (None, table.checkpoints) and architecture in (None, table.architecture)
        )
        if not found:
            kinds = ", ".join(f"{table.checkpoints} {table.architecture}" for table in self.tables)
            wish = " ".join(part for part in (family, architecture) if part)
            raise SpecError(f"no published table of {wish!r}; there are: {kinds}")
        return found


def load_published(path: Path) -> ReportedTables:
    """ReportedTables tables from a file.

    Raises:
        MergingError: it can't be read, or does not hold such tables; the message says where.
    """
    try:
        return ReportedTables.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise MergingError(f"{path.name}: {explain(error)}") from None
    except (OSError, ValueError) as error:
        raise MergingError(f"{path.name}: can't be read as JSON ({damage_in_words(error)}); restore it") from None


@cache
def reported_tables() -> ReportedTables:
    """The tables that ship with the package."""
    return load_published(FILE)


def published_architecture(architecture: str | dict[str, Any]) -> str | None:
    """The name under which an architecture has published tables; None if it has none.

    The suffix ``-quickgelu`` of open_clip marks the activation that these models were trained with.

    >>> published_architecture("ViT-B-32-quickgelu")
    'ViT-B-32'
    """
    name = architecture.removesuffix("-quickgelu") if isinstance(architecture, str) else None
    return name if name in reported_tables().architectures() else None


def _how_many(table: PublishedTable) -> str:
    """The number of tasks behind a heading, where it is not the usual one."""
    return "" if table.tasks == reported_tables().tasks else f", {len(table.tasks)} tasks"


def to_markdown(tables: Iterable[PublishedTable]) -> str:
    """The note, then every table under a heading of its own with its source, best average first, in percent."""
    known = reported_tables()
    parts = [known.note + "\n"]
    for table in tables:
        family = known.families[table.checkpoints]
        lines = [
            f"## {table.architecture}, {family.title} checkpoints{_how_many(table)}",
            f"Accuracy in percent on {family.description}. Source: {table.source}.",
            f"| method | {' | '.join(table.tasks)} | **average** |\n|---|{'---:|' * (len(table.tasks) + 1)}",
        ]
        rows = [
            f"| {row.method} | {' | '.join(f'{100 * row.accuracy[task]:.1f}' for task in table.tasks)} "
            f"| **{100 * row.average:.1f}** |"
            for row in table.ranked()
        ]
        parts.append("\n\n".join(lines) + "\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)
