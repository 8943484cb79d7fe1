"""The table of runs, jobs of every kind, in one SQLite file that pages, command line and worker share.

Pages write queued rows and read; the worker claims rows and writes progress. Every call opens its own connection, so
that threads and processes never share one. Write-ahead logging lets readers go on while somebody writes.
"""

import json
import platform
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from merging.core.errors import MergingError, RunError
from merging.core.files import require_folder
from merging.runs.expected import Expected
from merging.runs.jobs import Job, JobResult, parse_job
from merging.runs.run import Run, State, UnreadableRun
from merging.runs.shipped import Shipped

_ENOUGH = "enough"  # in a run's folder: somebody has asked for what it has
_LATELY = 200  # finished runs by which others' times are guessed
STALE_SECONDS = 15.0  # a running row whose worker has not been heard of for this long is lost

# Columns of the table of runs that stores of earlier versions lack.
_LATER_COLUMNS = {"person": "text not null default ''", "machine": "text not null default ''"}

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
    result text,
    person text not null default '',
    machine text not null default ''
);
create unique index if not exists one_live_run_per_fingerprint
    on runs (fingerprint) where state in ('queued', 'running', 'done');
create table if not exists accuracies (key text primary key, value text not null);
create table if not exists predictions (key text primary key, run text not null, value blob not null);
create table if not exists fingerprints (
    path text primary key, size integer not null, changed integer not null, fingerprint text not null
);
"""


class RunStore:
    """Runs in ``home/runs.sqlite``, their files in ``home/runs/ID``.

    Args:
        home: the folder.
        shipped: results that came with suites. Who looks for something to show finds them below the runs made here;
            who has work done does not.
    """

    def __init__(self, home: Path | str, shipped: Shipped | None = None) -> None:
        self.home = Path(home)
        self.shipped = shipped or Shipped()
        require_folder(self.home)
        self.path = self.home / "runs.sqlite"
        with self.connect() as connection:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(_SCHEMA)
            _add_columns(connection)

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for one piece of work.

        Raises:
            RunError: the file can't be written (permissions, a full disk), or is no database.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.OperationalError as error:
            raise RunError(
                f"{self.path.name}: can't be opened for writing ({error}); make room or choose another folder"
            ) from None
        except sqlite3.DatabaseError as error:
            raise RunError(f"{self.path.name}: can't be used ({error}); move it away to start with no runs") from None

    def folder(self, run_id: str) -> Path:
        """Where the files of a run are kept."""
        return self.home / "runs" / run_id

    # --- asking for work -------------------------------------------------------------------------------------------

    def submit(self, job: Job, fingerprint: str, person: str = "") -> Run:
        """Queue a run, or give the one that already does, or did, exactly this. One that can't be read is replaced.

        Args:
            job: what to do.
            fingerprint: of the job and all files it reads.
            person: who asks, where several people share a dashboard.
        """
        return self._enter(job, fingerprint, "queued", person)[0]

    def take(self, job: Job, fingerprint: str) -> tuple[Run, bool]:
        """As :meth:`submit`, but a new run is running at once, by the caller; also says whether it is new."""
        return self._enter(job, fingerprint, "running")

    def _enter(self, job: Job, fingerprint: str, state: State, person: str = "") -> tuple[Run, bool]:
        self.mark_lost()
        run_id = uuid.uuid4().hex[:12]
        with self.connect() as connection:
            connection.execute("begin immediate")  # the row found must still be there when it is read
            row = _live_row(connection, run_id, job, fingerprint, state, person)
            if not any(_readable([row])):
                connection.execute("delete from runs where id = ? and state != 'running'", (row["id"],))
                row = _live_row(connection, run_id, job, fingerprint, state, person)
            connection.execute("commit")
        return _run(row), row["id"] == run_id

    def cancel(self, run_id: str) -> Run:
        """Ask for a run to stop: a queued one is cancelled at once, a running one by its worker."""
        run_id, now = self.get(run_id).id, time.time()
        with self.connect() as connection:
            connection.execute(
                "update runs set state = 'cancelled', finished = ?, cancel_asked = ? where id = ? and state = 'queued'",
                (now, now, run_id),
            )
            connection.execute(
                "update runs set cancel_asked = coalesce(cancel_asked, ?) where id = ? and state = 'running'",
                (now, run_id),
            )
        return self.get(run_id)

    def delete(self, run_id: str) -> str:
        """Remove a run and its files; gives its whole id.

        Raises:
            RunError: there is none, or it is running; cancel it first.
        """
        if self.shipped.get(run_id):
            raise RunError(f"run {run_id} came with its suite and can't be deleted")
        run_id = str(self._row(run_id)["id"])
        with self.connect() as connection:
            gone = connection.execute("delete from runs where id = ? and state != 'running'", (run_id,)).rowcount
            if gone:
                connection.execute("delete from predictions where run = ?", (run_id,))
        if not gone:
            raise RunError(f"run {run_id} is running; cancel it before deleting it")
        shutil.rmtree(self.folder(run_id), ignore_errors=True)
        return run_id

    def forget(self, job: Job) -> None:
        """Remove ended rows of jobs that this one replaces."""
        with self.connect() as connection:
            rows = connection.execute(
                "select * from runs where state not in ('queued', 'running') "
                "and case when json_valid(spec) then json_extract(spec, '$.job') end = ?",
                (job.kind,),
            ).fetchall()
        for run in _readable(rows):
            if job.replaces(run.job):
                self.delete(run.id)

    # --- looking ---------------------------------------------------------------------------------------------------

    def get(self, run_id: str) -> Run:
        """One run, by its id or an unambiguous beginning of it; one that came with a suite by its whole id.

        Raises:
            RunError: there is none, several begin so, or it is of another version of this program.
        """
        return self.shipped.get(run_id) or _run(self._row(run_id))

    def _row(self, run_id: str) -> sqlite3.Row:
        self.mark_lost()
        with self.connect() as connection:
            return beginning_with(connection, "run", run_id)

    def find(self, fingerprint: str) -> Run | None:
        """The run of a fingerprint that waits, runs or is done; else the newest that ended otherwise; None if none."""
        return self.find_each([fingerprint])[0]

    def find_each(self, fingerprints: Sequence[str]) -> list[Run | None]:
        """As :meth:`find`, of several fingerprints in one look at the table."""
        self.mark_lost()
        with self.connect() as connection:
            rows = [
                connection.execute(
                    "select * from runs where fingerprint = ? "
                    "order by state in ('queued', 'running', 'done') desc, created desc, rowid desc limit 1",
                    (fingerprint,),
                ).fetchone()
                for fingerprint in fingerprints
            ]
        return [next(_readable([row] if row else []), None) for row in rows]

    def to_show(self, fingerprints: Sequence[str]) -> list[Run | None]:
        """As :meth:`find_each`; where nothing was done here, or it was cancelled, what came with the suite."""
        return [
            own if own is not None and own.state != "cancelled" else self.shipped.find(fingerprint) or own
            for fingerprint, own in zip(fingerprints, self.find_each(fingerprints), strict=True)
        ]

    def active(self) -> list[Run]:
        """Runs that wait or are running, oldest first."""
        self.mark_lost()
        with self.connect() as connection:
            rows = connection.execute("select * from runs where state in ('queued', 'running') order by created, rowid")
            return list(_readable(rows))

    def all(self, limit: int = 500) -> list[Run]:
        """Merges, newest first; the other jobs are looked up by whoever asked for them."""
        return list(_readable(self._merges(limit)))

    def all_to_show(self) -> list[Run]:
        """The same, and below them the merges that came with suites and that nobody has done here."""
        own = self.all()
        done = {run.fingerprint for run in own if run.state == "done"}
        return [*own, *(run for run in self.shipped.merges() if run.fingerprint not in done)]

    def unreadable(self, limit: int = 500) -> list[UnreadableRun]:
        """Rows that :meth:`all` leaves out since they can't be read, newest first; they can still be deleted."""
        found = []
        for row in self._merges(limit):
            try:
                _run(row)
            except RunError as error:
                found.append(UnreadableRun(row["id"], row["state"], row["created"], str(error)))
        return found

    def _merges(self, limit: int) -> list[sqlite3.Row]:
        self.mark_lost()
        with self.connect() as connection:
            return connection.execute(
                "select * from runs where case when json_valid(spec) then json_extract(spec, '$.job') end is null "
                "or json_extract(spec, '$.job') = 'merge' order by created desc, rowid desc limit ?",
                (limit,),
            ).fetchall()

    # --- doing -----------------------------------------------------------------------------------------------------

    def queued(self) -> list[Run]:
        """Runs that wait, in the order in which they are to be carried out."""
        with self.connect() as connection:
            rows = connection.execute("select * from runs where state = 'queued' order by created, rowid").fetchall()
            waiting = list(_readable(rows))
            if len(waiting) < 2:
                return waiting
            # Turns that were taken before the oldest of them was asked for passed nobody who is waiting now.
            turns = connection.execute(
                "select person, max(started) as turn from runs where started >= ? group by person",
                (waiting[0].created,),
            ).fetchall()
        return self.expected().in_order(waiting, {row["person"]: row["turn"] for row in turns})

    def expected(self) -> Expected:
        """How long jobs are likely to take, from those done here lately and from those that came with suites."""
        with self.connect() as connection:
            rows = connection.execute(
                "select spec, finished - started as seconds from runs where state = 'done' and json_valid(spec) "
                "and started is not null order by finished desc limit ?",
                (_LATELY,),
            ).fetchall()
        done = [(json.loads(row["spec"]), float(row["seconds"])) for row in rows]
        return Expected([*(one for one in done if isinstance(one[0], dict)), *self.shipped.seconds])

    def claim(self, run_id: str) -> bool:
        """Take a queued run for oneself; False if somebody else was faster or it was cancelled."""
        now = time.time()
        with self.connect() as connection:
            return bool(
                connection.execute(
                    "update runs set state = 'running', started = ?, heartbeat = ?, phase_started = ?, done = 0, "
                    "total = 0, message = 'starting' where id = ? and state = 'queued'",
                    (now, now, now, run_id),
                ).rowcount
            )

    def progress(self, run_id: str, done: int, total: int, message: str, new_phase: bool) -> None:
        """Write how far a running run is."""
        now = time.time()
        with self.connect() as connection:
            connection.execute(
                "update runs set done = ?, total = ?, message = ?, heartbeat = ?, "
                "phase_started = case when ? then ? else phase_started end where id = ? and state = 'running'",
                (done, total, message, now, new_phase, now, run_id),
            )

    def beat(self, run_id: str) -> float | None:
        """Say that the worker of a running run is alive; gives the time at which cancelling was asked for, if so.

        A run that was taken for lost, because its machine was too busy for a while, is running again by this, unless
        somebody has queued the same since.
        """
        with self.connect() as connection:
            connection.execute(
                "update or ignore runs set heartbeat = ?, state = 'running', finished = null, error = null "
                "where id = ? and state in ('running', 'lost')",
                (time.time(), run_id),
            )
            row = connection.execute("select cancel_asked from runs where id = ?", (run_id,)).fetchone()
        return None if row is None else row["cancel_asked"]

    def ask_for_what_it_has(self, run_id: str) -> None:
        """Ask a running method that learns to end with what it has learned so far."""
        (self.folder(run_id) / _ENOUGH).touch()

    def enough(self, run_id: str) -> bool:
        """Whether somebody has asked for that."""
        return (self.folder(run_id) / _ENOUGH).exists()

    def finish(self, run_id: str, result: JobResult) -> None:
        """Mark a run as done."""
        text = json.dumps(result.stored(), allow_nan=False)
        self._end(run_id, "done", result=text)

    def become(self, run_id: str, job: Job, fingerprint: str) -> Run | None:
        """Let a running run be another job, since that is what was done; gives the run that did it before, if any."""
        with self.connect() as connection:
            changed = connection.execute(
                "update or ignore runs set spec = ?, fingerprint = ? where id = ?",
                (job.model_dump_json(), fingerprint, run_id),
            ).rowcount
        return None if changed else self.find(fingerprint)

    def stop(self, run_id: str, state: State, error: str, log: str = "") -> None:
        """Mark a running run as failed, cancelled or lost, with the reason."""
        self._end(run_id, state, error=error, log=log)

    def _end(
        self, run_id: str, state: State, result: str | None = None, error: str | None = None, log: str | None = None
    ) -> None:
        with self.connect() as connection:
            connection.execute(
                "update or ignore runs set state = ?, finished = ?, result = ?, error = ?, log = ? where id = ? "
                "and state in ('running', 'lost')",
                (state, time.time(), result, error, log, run_id),
            )

    def mark_lost(self) -> None:
        """Mark running rows as lost whose worker has fallen silent."""
        with self.connect() as connection:
            connection.execute(
                "update runs set state = 'lost', finished = ?, error = ? where state = 'running' and heartbeat < ?",
                (
                    time.time(),
                    "the worker stopped without a word (killed, or the machine restarted); run it again",
                    time.time() - STALE_SECONDS,
                ),
            )

    # --- what was computed once ------------------------------------------------------------------------------------

    def known_accuracy(self, key: str) -> dict[str, Any] | None:
        """A remembered accuracy."""
        with self.connect() as connection:
            row = connection.execute("select value from accuracies where key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def remember_accuracy(self, key: str, value: dict[str, Any]) -> None:
        """Remember an accuracy under a key that names weights, images and head by content."""
        with self.connect() as connection:
            connection.execute("insert or replace into accuracies values (?, ?)", (key, json.dumps(value)))

    def known_predictions(self, key: str) -> bytes | None:
        """What :meth:`remember_predictions` was given."""
        with self.connect() as connection:
            row = connection.execute("select value from predictions where key = ?", (key,)).fetchone()
        return self.shipped.predictions(key) if row is None else bytes(row["value"])

    def remember_predictions(self, key: str, run_id: str, value: bytes) -> None:
        """Remember what a run predicts, under a key that names images and head by content, until it is deleted."""
        with self.connect() as connection:
            connection.execute("insert or replace into predictions values (?, ?, ?)", (key, run_id, value))

    def known_fingerprint(self, path: Path) -> str | None:
        """The fingerprint of a file that has not changed since it was taken."""
        status = path.stat()
        with self.connect() as connection:
            row = connection.execute(
                "select fingerprint from fingerprints where path = ? and size = ? and changed = ?",
                (str(path.resolve()), status.st_size, status.st_mtime_ns),
            ).fetchone()
        return None if row is None else str(row["fingerprint"])

    def remember_fingerprint(self, path: Path, fingerprint: str) -> None:
        """Remember the fingerprint of a file as it is now."""
        status = path.stat()
        with self.connect() as connection:
            connection.execute(
                "insert or replace into fingerprints values (?, ?, ?, ?)",
                (str(path.resolve()), status.st_size, status.st_mtime_ns, fingerprint),
            )


def beginning_with(connection: sqlite3.Connection, kind: Literal["run", "sweep"], beginning: str) -> sqlite3.Row:
    """The row of a run or a sweep, by its id or an unambiguous beginning of it.

    Raises:
        RunError: there is none, or several begin so.
    """
    rows = connection.execute(
        f"select * from {kind}s where substr(id, 1, ?) = ? limit 2", (len(beginning), beginning)
    ).fetchall()
    if len(rows) != 1 or not beginning:
        listing = "runs list" if kind == "run" else "sweep list"
        raise RunError(f"{f'no {kind}' if not rows else f'several {kind}s begin with'} {beginning!r}; see `{listing}`")
    row: sqlite3.Row = rows[0]
    return row


def _add_columns(connection: sqlite3.Connection) -> None:
    """Bring the table of an earlier version up to date; two programs may do so at once."""
    there = {row["name"] for row in connection.execute("pragma table_info(runs)")}
    for name in _LATER_COLUMNS.keys() - there:
        with suppress(sqlite3.OperationalError):  # another was faster
            connection.execute(f"alter table runs add column {name} {_LATER_COLUMNS[name]}")


def _live_row(
    connection: sqlite3.Connection, run_id: str, job: Job, fingerprint: str, state: State, person: str
) -> sqlite3.Row:
    """The live row of a fingerprint; a new one in a state if there is none."""
    now = time.time()
    begun = now if state == "running" else None
    connection.execute(
        "insert or ignore into runs "
        "(id, fingerprint, spec, state, created, started, heartbeat, phase_started, person, machine) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run_id, fingerprint, job.model_dump_json(), state, now, begun, begun, begun, person, platform.node()),
    )
    row: sqlite3.Row = connection.execute(
        "select * from runs where fingerprint = ? and state in ('queued', 'running', 'done')", (fingerprint,)
    ).fetchone()
    return row


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    try:
        job = parse_job(json.loads(values.pop("spec")))
    except (ValueError, MergingError) as error:
        raise RunError(
            f"run {values['id']} was made by another version of this program and can't be read ({error}), or with a "
            "method of your own that is not here; name its file with --methods or in MERGING_METHODS, or delete it"
        ) from None
    return Run(job=job, result_json=values.pop("result"), **values)


def _readable(rows: Iterable[sqlite3.Row]) -> Iterator[Run]:
    """The runs of some rows; one that another version wrote must not hide the others."""
    for row in rows:
        with suppress(RunError):
            yield _run(row)
