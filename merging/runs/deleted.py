"""Runs that were deleted: moved out of the table of runs, so that nothing counts them any more, and kept for a day.

Their files stay where they are until then, or until somebody removes them for good. What is older is removed whenever
somebody opens the table, deletes another run, or looks at what was deleted.
"""

import json
import shutil
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from merging.core.errors import MergingError, RunError
from merging.core.files import folder_bytes
from merging.runs.database import Database
from merging.runs.jobs import parse_job

UNDO_SECONDS = 86_400.0  # for which a deleted run can be had back
_LONG_AGO = 0.0  # when something was deleted that is to go at once


@dataclass(frozen=True)
class DeletedRun:
    """A run that can still be had back.

    Attributes:
        id: twelve hexadecimal digits.
        label: what its job is called.
        name: that somebody gave it.
        state: it was in.
        at: when it was deleted, seconds since the epoch.
        person: who asked for it, where several people share a dashboard.
    """

    id: str
    label: str
    name: str
    state: str
    at: float
    person: str = ""

    @property
    def until(self) -> float:
        """When it is gone for good, seconds since the epoch."""
        return self.at + UNDO_SECONDS


@dataclass(frozen=True)
class Usage:
    """Bytes on disk below a folder for runs.

    Attributes:
        table: the file of the table with its journals.
        runs: files of runs, weights above all.
        deleted: files of runs that were deleted and can still be had back.
        cache: what can be computed again.
    """

    table: int
    runs: int
    deleted: int
    cache: int


def move_aside(connection: sqlite3.Connection, run_id: str, at: float | None = None) -> bool:
    """Move a row out of the table of runs, within a transaction; False if it is running or gone.

    Args:
        connection: in a transaction.
        run_id: which.
        at: when it was deleted, in seconds since the epoch; now if not given.
    """
    row = connection.execute("select * from runs where id = ? and state != 'running'", (run_id,)).fetchone()
    if row is None:
        return False
    when = time.time() if at is None else at
    connection.execute("insert or replace into deleted values (?, ?, ?)", (run_id, when, json.dumps(dict(row))))
    connection.execute("delete from runs where id = ?", (run_id,))
    connection.execute("delete from listed where run = ?", (run_id,))
    return True


def restore(database: Database, run_id: str) -> str:
    """Put a deleted run back; gives its whole id.

    Args:
        database: where it was.
        run_id: its id or an unambiguous beginning of it.

    Raises:
        RunError: no such run was deleted within a day, or the same was asked for or done since.
    """
    purge(database)
    with database.writing() as connection:
        whole, values = _one(connection, run_id)
        same = connection.execute(
            "select id, state from runs where fingerprint = ? and state in ('queued', 'running', 'done')",
            (values["fingerprint"],),
        ).fetchone()
        if same is not None and values["state"] in ("queued", "running", "done"):
            raise RunError(
                f"run {whole} can't be restored, as run {same['id']} is the same and {same['state']} since; "
                "delete that one first if this is the one to keep"
            )
        known = {row["name"] for row in connection.execute("pragma table_info(runs)")}
        kept = {name: value for name, value in values.items() if name in known}
        marks = ", ".join("?" for _ in kept)
        connection.execute(f"insert into runs ({', '.join(kept)}) values ({marks})", tuple(kept.values()))
        connection.execute("delete from deleted where id = ?", (whole,))
    return whole


def _one(connection: sqlite3.Connection, beginning: str) -> tuple[str, dict[str, Any]]:
    rows = connection.execute(
        "select id, row from deleted where substr(id, 1, ?) = ? limit 2", (len(beginning), beginning)
    ).fetchall()
    if len(rows) != 1 or not beginning:
        found = "no run" if not rows or not beginning else "several runs"
        raise RunError(f"{found} beginning with {beginning!r} can be restored or removed for good; see `runs restore`")
    return str(rows[0]["id"]), json.loads(rows[0]["row"])


def deleted_runs(database: Database) -> list[DeletedRun]:
    """What can still be had back, the last first; merges and other jobs."""
    purge(database)
    with database.connect() as connection:
        rows = connection.execute("select id, at, row from deleted order by at desc").fetchall()
    found = []
    for row in rows:
        values = json.loads(row["row"])
        name, person = values.get("name", ""), values.get("person", "")
        found.append(DeletedRun(row["id"], _label(values), name, values["state"], row["at"], person))
    return found


def _label(values: dict[str, Any]) -> str:
    try:
        return parse_job(json.loads(values["spec"])).label
    except (ValueError, MergingError):
        return "of another version"


def purge(database: Database) -> None:
    """Remove for good what was deleted more than a day ago, with its files."""
    with database.connect() as connection:
        before = time.time() - UNDO_SECONDS
        rows = connection.execute("select id from deleted where at < ?", (before,)).fetchall()
    for row in rows:
        _remove(database, row["id"])


def remove_for_good(database: Database, run_id: str) -> tuple[str, int]:
    """Remove a run that was deleted, though its day is not over; gives its whole id and the bytes that its files took.

    Args:
        database: where it was.
        run_id: its id or an unambiguous beginning of it.

    Raises:
        RunError: no such run was deleted within a day.
    """
    with database.writing() as connection:
        whole, _ = _one(connection, run_id)
        connection.execute("update deleted set at = ? where id = ?", (_LONG_AGO, whole))
    freed = folder_bytes(database.folder(whole))
    _remove(database, whole)
    return whole, freed


def erase(database: Database, run_id: str) -> None:
    """Remove all there is of a run that is not running, for good, whether it was deleted before or not."""
    with database.writing() as connection:
        if not move_aside(connection, run_id, _LONG_AGO):
            connection.execute("update deleted set at = ? where id = ?", (_LONG_AGO, run_id))
    _remove(database, run_id)


def _remove(database: Database, run_id: str) -> None:
    """Remove the files of a deleted run, then what is known of it: if that is cut short, the next purge goes on."""
    with database.connect() as connection:
        if connection.execute("select 1 from runs where id = ?", (run_id,)).fetchone():
            return  # it is running, or was restored meanwhile
    shutil.rmtree(database.folder(run_id), ignore_errors=True)
    with database.writing() as connection:
        connection.execute("delete from predictions where run = ?", (run_id,))
        connection.execute("delete from deleted where id = ?", (run_id,))


def usage(database: Database) -> Usage:
    """What a folder for runs takes on disk; walks through it."""
    with database.connect() as connection:
        gone = [str(row["id"]) for row in connection.execute("select id from deleted")]
    deleted = sum(folder_bytes(database.folder(run_id)) for run_id in gone)
    table = sum(path.stat().st_size for path in database.home.glob(f"{database.path.name}*"))
    runs = folder_bytes(database.home / "runs") - deleted
    return Usage(table, runs, deleted, folder_bytes(database.home / "cache"))
