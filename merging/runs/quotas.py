"""What others may ask of a dashboard that is shared: how many runs, how long, how much memory and disk.

``merging serve`` writes the limits into the workspace, where pages and the worker read them. They hold for guests;
whoever owns the dashboard asks for what they like, as without it.
"""

import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merging.core.errors import RunError
from merging.core.files import atomic_path
from merging.core.text import counted
from merging.runs.deleted import deleted_runs
from merging.runs.table import RunStore

OWNER = "owner"  # who asked for a run, where that was the owner of a shared dashboard
LIMITS_FILE = "limits.json"  # in the workspace


class Limits(BaseModel):
    """Limits of a shared dashboard.

    Attributes:
        runs_per_person: runs of one person that may wait at once.
        runs: runs that may wait in all.
        minutes: that a run may take.
        memory: bytes that a run may hold above what its process starts with, on the CPU; None for any number.
        disk: bytes in the workspace from which on nothing is queued any more.
        disk_per_person: bytes of the files of one person's runs from which on nothing of theirs is queued any more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs_per_person: int = Field(5, ge=1)
    runs: int = Field(30, ge=1)
    minutes: float = Field(30.0, gt=0, allow_inf_nan=False)
    memory: int | None = Field(None, gt=0)
    disk: int = Field(20 * 10**9, gt=0)
    disk_per_person: int = Field(2 * 10**9, gt=0)


def is_guest(person: str) -> bool:
    """Whether somebody else than the owner asked for a run."""
    return person not in ("", OWNER)


def write_limits(home: Path, limits: Limits) -> None:
    """Let these limits hold in a workspace from now on."""
    with atomic_path(home / LIMITS_FILE) as temporary:
        temporary.write_text(limits.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_limits(home: Path) -> Limits:
    """The limits of a workspace; those that :class:`Limits` has by default where none were written.

    Raises:
        RunError: the file can't be read.
    """
    path = home / LIMITS_FILE
    try:
        return Limits.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Limits()
    except (OSError, UnicodeDecodeError, ValidationError):
        raise RunError(f"{path.name}: holds no limits; start `merging serve` again, which writes it") from None


def require_room(store: RunStore, limits: Limits, person: str) -> None:
    """Insist that a person may queue one run more.

    Raises:
        RunError: too many wait, or the disk is full; with what to do.
    """
    waiting = _waiting(store)
    own, every = waiting.get(person, 0), sum(waiting.values())
    if own >= limits.runs_per_person:
        raise RunError(
            f"{counted(own, 'run')} of yours {'waits' if own == 1 else 'wait'} already, and a person may have "
            f"{limits.runs_per_person} waiting here; ask again once one has started, or cancel one"
        )
    if every >= limits.runs:
        raise RunError(
            f"{counted(every, 'run')} {'waits' if every == 1 else 'wait'} already, and {limits.runs} may wait here in "
            "all; ask again later"
        )
    held = _bytes_below(store.home)
    if held >= limits.disk:
        raise RunError(
            f"the dashboard's folder holds {held / 1e9:.3g} GB and may hold {limits.disk / 1e9:.3g} GB, so that "
            "nothing is queued any more; the owner can delete runs and remove what was deleted for good"
        )
    mine = sum(_bytes_below(store.folder(run_id)) for run_id in _runs_of(store, person))
    if mine >= limits.disk_per_person:
        raise RunError(
            f"your runs hold {mine / 1e9:.3g} GB here, and those of a person may hold "
            f"{limits.disk_per_person / 1e9:.3g} GB; delete some of them, whose files go a day "
            "later, or when the owner removes them for good"
        )


def _waiting(store: RunStore) -> dict[str, int]:
    """Person → how many runs of theirs wait."""
    with store.connect() as connection:
        rows = connection.execute(
            "select person, count(*) as number from runs where state = 'queued' group by person"
        ).fetchall()
    return {row["person"]: row["number"] for row in rows}


def _runs_of(store: RunStore, person: str) -> list[str]:
    """Ids of somebody's runs, and of those that were deleted within a day, whose files are still there."""
    with store.connect() as connection:
        rows = connection.execute("select id from runs where person = ?", (person,)).fetchall()
    return [*(row["id"] for row in rows), *(one.id for one in deleted_runs(store) if one.person == person)]


def _bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; those that go meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
