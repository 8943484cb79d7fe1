"""The SQLite file of a folder for runs: its tables, and how it is opened.

Every piece of work has a connection to itself, so that threads and processes never share one. None stays open after
it, so that another machine may change the journal in between, unless there is more to come
(:meth:`Database.kept_open`). Which journal is kept, and so whether readers go on while somebody writes, is for
:mod:`merging.runs.journal`.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from merging.core.errors import RunError
from merging.core.files import require_folder
from merging.runs.journal import Journal, take_journal

# Columns of the table of runs that stores of earlier versions lack.
_LATER_COLUMNS = {
    "person": "text not null default ''",
    "machine": "text not null default ''",
    "name": "text not null default ''",
    "note": "text not null default ''",
    "tags": "text not null default '[]'",
    "star": "integer not null default 0",
}

_SCHEMA = """
create table if not exists runs (
    id text primary key,
    fingerprint text not null,
    spec text not null,
    state text not null,
    message text not null default '',
    done integer not null default 0,
    total integer not null default 0,
    phase_started real,
    created real not null,
    started real,
    finished real,
    heartbeat real,
    cancel_asked real,
    error text,
    log text,
    result text
);
create unique index if not exists one_live_run_per_fingerprint
    on runs (fingerprint) where state in ('queued', 'running', 'done');
create index if not exists runs_of_fingerprint on runs (fingerprint);
create index if not exists runs_in_state on runs (state, finished);
create index if not exists runs_by_time on runs (created, id, state, fingerprint);
create index if not exists runs_of_kind on runs (case when json_valid(spec) then json_extract(spec, '$.job') end);
create table if not exists deleted (id text primary key, at real not null, row text not null);
create table if not exists listed (
    number integer primary key autoincrement, run text not null unique, stamp text not null,
    kind text not null, suite text not null default '',
    method text not null default '', score real, base text not null default '', took real,
    person text not null default '', machine text not null default '', name text not null default '',
    note text not null default '', tags text not null default '[]', star integer not null default 0
);
create table if not exists accuracies (key text primary key, value text not null);
create table if not exists predictions (key text primary key, run text not null, value blob not null);
create index if not exists predictions_of_run on predictions (run);
create table if not exists fingerprints (
    path text primary key, size integer not null, changed integer not null, fingerprint text not null
);
"""


class _Kept(threading.local):
    """What a thread that has more to do keeps open between two pieces of work.

    Attributes:
        blocks: how many blocks say that there is more to come.
        connection: that waits for the next piece of work.
        state: of the file when it was last used: none goes on once something other than SQLite has changed the file.
        process: that opened it, the only one that may use or close it (https://www.sqlite.org/howtocorrupt.html).
    """

    blocks = 0
    connection: sqlite3.Connection | None = None
    state: tuple[int, ...] | None = None
    process = 0

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Another process, which a table is sent to, begins with nothing."""
        return type(self), ()

    def take(self, path: Path) -> sqlite3.Connection | None:
        """The connection, if it can be used."""
        connection, self.connection = self.connection, None
        if connection is None:
            return None
        if self.process != os.getpid():
            _LEFT.append(connection)
            return None
        if self.state is None or self.state != _state(path):
            connection.close()
            return None
        return connection

    def give(self, path: Path, connection: sqlite3.Connection) -> None:
        """Take back one whose work is done."""
        if self.blocks and self.connection is None and not connection.in_transaction:
            self.connection, self.state, self.process = connection, _state(path), os.getpid()
        else:
            connection.close()


_LEFT: list[sqlite3.Connection] = []  # of the process that this one is a copy of; open as long as this one lives


def _state(path: Path) -> tuple[int, ...] | None:
    """By which a file is told from another in its place; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Database:
    """``runs.sqlite`` in a folder.

    Attributes:
        home: the folder.
        path: the file.
        journal: how it is kept, as it was when it was opened.
    """

    def __init__(self, home: Path | str) -> None:
        self.home = Path(home)
        require_folder(self.home)
        self.path = self.home / "runs.sqlite"
        self._kept = _Kept()
        with self.connect() as connection:
            self.journal: Journal = take_journal(connection, self.home)
        with self.connect() as connection:
            connection.executescript(_SCHEMA)
            _add_columns(connection)

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for one piece of work.

        Raises:
            RunError: the file can't be written (permissions, a full disk), or is no database.
        """
        try:
            connection = self._kept.take(self.path)
            if connection is None:
                connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
                connection.row_factory = sqlite3.Row
            try:
                yield connection
            except BaseException:
                connection.close()  # and with it what was begun
                raise
            self._kept.give(self.path, connection)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise RunError(
                    f"{self.path.name}: lacks what was in it ({error}): the file was moved away or replaced while it "
                    "was in use; put it back, or do the same again to begin with no runs"
                ) from None
            raise RunError(
                f"{self.path.name}: can't be opened for writing ({error}); make room or choose another folder"
            ) from None
        except sqlite3.DatabaseError as error:
            raise RunError(f"{self.path.name}: can't be used ({error}); move it away to start with no runs") from None

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep this thread's connection between pieces of work: to open one takes longer than most of these."""
        self._kept.blocks += 1
        try:
            yield
        finally:
            self._kept.blocks -= 1
            left = None if self._kept.blocks else self._kept.take(self.path)
            if left is not None:
                left.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection for what is to happen whole or not at all, and with nobody else writing in between.

        Raises:
            RunError: as :meth:`connect`.
        """
        with self.connect() as connection:
            connection.execute("begin immediate")  # what is read at the start must still be so at the end
            yield connection
            connection.execute("commit")

    def folder(self, run_id: str) -> Path:
        """Where the files of a run are kept."""
        return self.home / "runs" / run_id


def _add_columns(connection: sqlite3.Connection) -> None:
    """Bring the table of an earlier version up to date; two programs may do so at once."""
    there = {row["name"] for row in connection.execute("pragma table_info(runs)")}
    for name in _LATER_COLUMNS.keys() - there:
        with suppress(sqlite3.OperationalError):  # another was faster
            connection.execute(f"alter table runs add column {name} {_LATER_COLUMNS[name]}")
