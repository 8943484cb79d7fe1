"""The table of runs, jobs of every kind, in one SQLite file that pages, command line and worker share.

Pages write queued rows and read; the worker claims rows and writes progress.
"""

import itertools
import json
import platform
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from merging.core.errors import MergingError, RunError
from merging.runs import deleted
from merging.runs.expected import Expected
from merging.runs.jobs import Job, JobResult, MergeSpec, parse_job
from merging.runs.jobs.parts import InParts
from merging.runs.remembered import Remembered
from merging.runs.run import Run, State
from merging.runs.shipped import Shipped

_ENOUGH = "enough"  # in a run's folder: somebody has asked for what it has
_LATELY = 200  # finished runs by which others' times are guessed
STALE_SECONDS = 15.0  # a running row whose worker has not been heard of for this long is lost
_KIND = "case when json_valid(spec) then json_extract(spec, '$.job') end"
_COLUMNS = frozenset(field.name for field in fields(Run))


class RunStore(Remembered):
    """Runs in ``home/runs.sqlite``, their files in ``home/runs/ID``.

    Args:
        home: the folder.
        shipped: results that came with suites. Who looks for something to show finds them below the runs made here;
            who has work done does not.
    """

    def __init__(self, home: Path | str, shipped: Shipped | None = None) -> None:
        self.shipped = shipped or Shipped()
        super().__init__(home)
        deleted.purge(self)

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
        with self.writing() as connection:  # the row found must still be there when it is read
            row = _live_row(connection, run_id, job, fingerprint, state, person)
            if not any(_readable([row])):
                connection.execute("delete from runs where id = ? and state != 'running'", (row["id"],))
                row = _live_row(connection, run_id, job, fingerprint, state, person)
        return run_of_row(row), row["id"] == run_id

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
        """Move a run out of the table, so that nobody sees it any more; gives its whole id.

        For a day it can be had back, see :func:`merging.runs.deleted.restore`; then it is removed with its files.

        Raises:
            RunError: there is none, or it is running; cancel it first.
        """
        if self.shipped.get(run_id):
            raise RunError(f"run {run_id} came with its suite and can't be deleted")
        deleted.purge(self)
        run_id = str(self._row(run_id)["id"])
        with self.writing() as connection:
            gone = deleted.move_aside(connection, run_id)
        if not gone:
            raise RunError(f"run {run_id} is running; cancel it before deleting it")
        return run_id

    def replace(self, run_id: str, job: Job, fingerprint: str, person: str = "") -> Run:
        """Queue the same in the place of a run that has ended, which is deleted by that; both or neither.

        What people wrote about it is written about the new one.

        Args:
            run_id: the run that goes, by its id or an unambiguous beginning of it.
            job: as in :meth:`submit`, as are the following.
            fingerprint: of the job.
            person: who asks.

        Raises:
            RunError: there is no such run, or it is running.
        """
        self.mark_lost()
        fresh = uuid.uuid4().hex[:12]
        with self.writing() as connection:
            before = beginning_with(connection, "run", run_id)
            if not deleted.move_aside(connection, before["id"]):
                raise RunError(f"run {before['id']} is running; it can't be done again before it has ended")
            row = _live_row(connection, fresh, job, fingerprint, "queued", person)
            connection.execute(
                "update runs set name = ?, note = ?, tags = ?, star = ? where id = ?",
                (before["name"], before["note"], before["tags"], before["star"], fresh),
            )
        return self.get(row["id"])

    def forget(self, job: Job) -> None:
        """Remove ended rows of jobs that this one replaces, for good."""
        if type(job).replaces is Job.replaces:
            return  # of this kind, none does
        with self.connect() as connection:
            rows = connection.execute(
                f"select * from runs where {_KIND} = ? and state not in ('queued', 'running')",
                (job.kind,),
            ).fetchall()
        for run in _readable(rows):
            if job.replaces(run.job):
                deleted.erase(self, run.id)

    # --- looking ---------------------------------------------------------------------------------------------------

    def get(self, run_id: str) -> Run:
        """One run, by its id or an unambiguous beginning of it; one that came with a suite by its whole id.

        Raises:
            RunError: there is none, several begin so, or it is of another version of this program.
        """
        return self.shipped.get(run_id) or run_of_row(self._row(run_id))

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
        """The newest merges, newest first; :mod:`merging.runs.listing` finds any of them."""
        self.mark_lost()
        with self.connect() as connection:
            rows = connection.execute(
                f"select * from runs where {_KIND} is null or {_KIND} = 'merge' "
                "order by created desc, rowid desc limit ?",
                (limit,),
            ).fetchall()
        return list(_readable(rows))

    def done_like(self, job: Job) -> list[Run]:
        """Finished merges with exactly this specification, newest first: of several where files or methods differed."""
        with self.connect() as connection:
            rows = connection.execute(
                f"select * from runs where ({_KIND} is null or {_KIND} = 'merge') and state = 'done' "
                "and json_valid(spec) and json_extract(spec, '$.suite') = json_extract(?1, '$.suite') "
                "and json_extract(spec, '$.seed') = json_extract(?1, '$.seed') order by created desc, rowid desc",
                (job.model_dump_json(),),
            ).fetchall()
        return [run for run in _readable(rows) if run.job == job]

    def alike(self, job: InParts) -> list[Run]:
        """Finished and active runs that do the same as a job but for their parts, finished ones first, newest first."""
        self.mark_lost()
        with self.connect() as connection:
            rows = connection.execute(
                f"select * from runs where {_KIND} = ?1 and state in ('queued', 'running', 'done') "
                "and json_valid(spec) and json_extract(spec, '$.merge') = ?2 "
                "order by state = 'done' desc, created desc, rowid desc",
                (job.kind, job.merge),
            ).fetchall()
        return [run for run in _readable(rows) if job.is_like(run.job)]

    def measured_by(self, job: InParts, most: int = 20) -> list[Run]:
        """Finished merges and jobs in parts by the method of a job on its suite, of any tasks, newest first."""
        method = method_of(job.model_dump(mode="json"))
        with self.connect() as connection:
            rows = connection.execute(
                "select * from runs where state = 'done' and json_valid(spec) and json_extract(spec, '$.suite') = ? "
                "and json_extract(spec, '$.edit') = ? and json_extract(spec, '$.merge') = ? "
                "order by created desc, rowid desc",
                (job.suite, job.edit, job.merge),
            )
            like = (row for row in rows if method_of(json.loads(row["spec"])) == method)
            found = (run for run in _readable(like) if isinstance(run.job, MergeSpec | InParts))
            return list(itertools.islice(found, most))

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
        return Expected((one for one in done if isinstance(one[0], dict)), self.shipped.seconds)

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


def method_of(fields: Mapping[str, Any]) -> list[Any]:
    """Suite and method among the fields of a job, as JSON has them."""
    return [fields.get(name) for name in ("suite", "edit", "edit_params", "merge", "merge_params")]


def beginning_with(connection: sqlite3.Connection, kind: Literal["run", "sweep"], beginning: str) -> sqlite3.Row:
    """The row of a run or a sweep, by its id or an unambiguous beginning of it.

    Raises:
        RunError: there is none, or several begin so.
    """
    rows = connection.execute(
        f"select * from {kind}s where id >= ?1 and id < ?1 || char(1114111) limit 2", (beginning,)
    ).fetchall()
    if len(rows) != 1 or not beginning:
        listing = "runs list" if kind == "run" else "sweep list"
        raise RunError(f"{f'no {kind}' if not rows else f'several {kind}s begin with'} {beginning!r}; see `{listing}`")
    row: sqlite3.Row = rows[0]
    return row


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


def run_of_row(row: sqlite3.Row) -> Run:
    """A row of the table as a run.

    Raises:
        RunError: another version of this program wrote it, and it can't be read.
    """
    values = dict(row)
    try:
        job = parse_job(json.loads(values.pop("spec")))
    except (ValueError, MergingError) as error:
        why = str(error).partition("; there are: ")[0]  # with all names of methods nobody would read on
        raise RunError(
            f"run {values['id']} can't be read: {why}; another version of this program made it, or it is of a "
            "method of your own that is not here; name its file with --methods or in MERGING_METHODS, or delete it"
        ) from None
    tags = tuple(json.loads(values.pop("tags", "[]")))
    known = {name: value for name, value in values.items() if name in _COLUMNS}  # a later version may have more
    return Run(job=job, result_json=values.pop("result"), **{**known, "tags": tags, "star": bool(values.get("star"))})


def _readable(rows: Iterable[sqlite3.Row]) -> Iterator[Run]:
    """The runs of some rows; one that another version wrote must not hide the others."""
    for row in rows:
        with suppress(RunError):
            yield run_of_row(row)
