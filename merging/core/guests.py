"""Guests of a dashboard that is shared: who is one, and what they may ask of it.

``merging serve`` writes the limits into the workspace, where pages and the worker read them. They hold for guests;
whoever owns the dashboard asks for what they like, as without it. Nothing here loads torch, as that process waits for
the server as long as it runs.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merging.core.errors import RunError
from merging.core.files import atomic_path

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
