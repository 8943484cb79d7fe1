"""The tables of sweeps and of their trials, beside the table of runs in the same file.

A sweep's row says what to try, its trials' rows what was proposed; what a trial came to is an ordinary run, found by
its fingerprint. Nothing of a search lives only in a process, so that one that was killed goes on where it stopped.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from merging.core.errors import MergingError, RunError
from merging.runs.jobs import parse_job
from merging.runs.jobs.model_job import ModelJob
from merging.runs.table import RunStore, beginning_with
from merging.sweeps.definition import Settings, SweepDefinition

SweepState = Literal["running", "done", "failed", "cancelled"]
Role = Literal["trial", "test", "individual"]
TrialState = Literal["open", "done", "failed"]

_SCHEMA = """
create table if not exists sweeps (
    id text primary key,
    fingerprint text not null unique,
    definition text not null,
    scheduler text not null,
    state text not null,
    created real not null,
    finished real,
    error text
);
create table if not exists trials (
    sweep text not null,
    role text not null,
    number integer not null,
    subset integer not null,
    settings text not null,
    spec text not null,
    fingerprint text not null,
    state text not null default 'open',
    run text,
    value real,
    error text,
    primary key (sweep, role, number)
);
"""


@dataclass(frozen=True)
class Sweep:
    """One sweep. Times are seconds since the epoch.

    Attributes:
        id: twelve hexadecimal digits.
        fingerprint: of the definition and all files that its runs read.
        definition: what to try, with tasks and device filled in.
        scheduler: address of the Dask scheduler whose workers carry out the trials; empty for this machine's worker.
        state: running, done, failed or cancelled.
        error: why it failed.
    """

    id: str
    fingerprint: str
    definition: SweepDefinition
    scheduler: str
    state: SweepState
    created: float
    finished: float | None
    error: str | None


@dataclass(frozen=True)
class Trial:
    """A run that a sweep asked for.

    Attributes:
        role: ``trial``; ``test``, the best trial of a subset on the test split; or ``individual``, the accuracy of
            the task models themselves, by which normalised objectives are divided.
        number: from 0 for each role: of trials in the order of the search, of tests the subset's.
        subset: which of the definition's task subsets.
        settings: edit, merge and the values proposed for their parameters.
        spec: the run.
        fingerprint: of the run.
        state: open until its run has ended.
        run: id of the run once it has ended.
        value: the objective, on the run's split; None if it failed.
        error: why it failed.
    """

    role: Role
    number: int
    subset: int
    settings: Settings
    spec: ModelJob
    fingerprint: str
    state: TrialState = "open"
    run: str | None = None
    value: float | None = None
    error: str | None = None


class SweepStore:
    """Sweeps in the file of a table of runs."""

    def __init__(self, runs: RunStore) -> None:
        self.runs = runs
        with runs.connect() as connection:
            connection.executescript(_SCHEMA)

    def start(self, definition: SweepDefinition, fingerprint: str, scheduler: str = "") -> Sweep:
        """Add a running sweep, or set the one that is the same going again unless it runs or is done.

        What it has found stays; trials that failed are tried again.
        """
        with self.runs.writing() as connection:
            connection.execute(
                "insert or ignore into sweeps (id, fingerprint, definition, scheduler, state, created) "
                "values (?, ?, ?, ?, 'running', ?)",
                (uuid.uuid4().hex[:12], fingerprint, definition.model_dump_json(), scheduler, time.time()),
            )
            connection.execute(
                "update trials set state = 'open', error = null where (state = 'failed' or role = 'individual') "
                "and sweep = (select id from sweeps where fingerprint = ? and state in ('failed', 'cancelled'))",
                (fingerprint,),
            )
            connection.execute(
                "update sweeps set state = 'running', finished = null, error = null, scheduler = ? "
                "where fingerprint = ? and state in ('failed', 'cancelled')",
                (scheduler, fingerprint),
            )
            row = connection.execute("select * from sweeps where fingerprint = ?", (fingerprint,)).fetchone()
        return _sweep(row)

    def get(self, sweep_id: str) -> Sweep:
        """One sweep, by its id or an unambiguous beginning of it.

        Raises:
            RunError: there is none, several begin so, or it is of another version of this program.
        """
        return _sweep(self._row(sweep_id))

    def _row(self, sweep_id: str) -> sqlite3.Row:
        with self.runs.connect() as connection:
            return beginning_with(connection, "sweep", sweep_id)

    def delete(self, sweep_id: str, runs: bool = False) -> tuple[str, list[str]]:
        """Remove a sweep and what it proposed; it may be one that can't be read.

        Args:
            sweep_id: its id or an unambiguous beginning of it.
            runs: remove the runs too that were made for it and that no other sweep looks at.

        Returns:
            Its whole id, and those of the runs removed.

        Raises:
            RunError: there is none, or it goes on; cancel it first.
        """
        row = self._row(sweep_id)
        whole = str(row["id"])
        with self.runs.writing() as connection:
            gone = connection.execute("delete from sweeps where id = ? and state != 'running'", (whole,)).rowcount
            if not gone:
                raise RunError(f"sweep {whole} goes on; cancel it before deleting it")
            own = connection.execute("delete from trials where sweep = ? returning fingerprint", (whole,)).fetchall()
            others = {trial["fingerprint"] for trial in connection.execute("select fingerprint from trials")}
        alone = {trial["fingerprint"] for trial in own} - others
        found = [self.runs.find(fingerprint) for fingerprint in sorted(alone)] if runs else []
        made_for_it = [run.id for run in found if run is not None and run.created >= row["created"] and not run.active]
        return whole, [self.runs.delete(run) for run in made_for_it]

    def all(self) -> list[Sweep]:
        """All sweeps, newest first, but for those of other versions of this program."""
        return [self.get(sweep_id) for sweep_id in self.ids() if self.readable(sweep_id)]

    def readable(self, sweep_id: str) -> bool:
        """Whether :meth:`get` can give a sweep, all of whose methods are known here."""
        try:
            self.get(sweep_id)
        except RunError:
            return False
        return True

    def ids(self, state: SweepState | None = None) -> list[str]:
        """Ids of all sweeps, or of those in a state, newest first."""
        with self.runs.connect() as connection:
            rows = connection.execute(
                "select id from sweeps where state = coalesce(?, state) order by created desc, rowid desc", (state,)
            )
            return [row["id"] for row in rows]

    def end(self, sweep_id: str, state: SweepState, error: str | None = None) -> None:
        """Say that a running sweep is done, failed or cancelled."""
        with self.runs.connect() as connection:
            connection.execute(
                "update sweeps set state = ?, finished = ?, error = ? where id = ? and state = 'running'",
                (state, time.time(), error, sweep_id),
            )

    def trials(self, sweep_id: str, role: Role | None = None, state: TrialState | None = None) -> list[Trial]:
        """Trials of a sweep in order: all, or those of a role, or in a state."""
        with self.runs.connect() as connection:
            rows = connection.execute(
                "select role, number, subset, settings, spec, fingerprint, state, run, value, error from trials "
                "where sweep = ? and role = coalesce(?, role) and state = coalesce(?, state) order by role, number",
                (sweep_id, role, state),
            ).fetchall()
        return [_trial(row) for row in rows]

    def trial_fingerprints(self) -> set[str]:
        """Fingerprints of the runs that are trials of any sweep; a best trial measured on test is none of them."""
        with self.runs.connect() as connection:
            rows = connection.execute("select distinct fingerprint from trials where role = 'trial'")
            return {row["fingerprint"] for row in rows}

    def add(self, sweep_id: str, trials: Sequence[Trial]) -> None:
        """Add trials; those that are there stay as they are."""
        with self.runs.connect() as connection:
            connection.executemany(
                "insert or ignore into trials (sweep, role, number, subset, settings, spec, fingerprint) "
                "values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        sweep_id,
                        trial.role,
                        trial.number,
                        trial.subset,
                        json.dumps(trial.settings),
                        trial.spec.model_dump_json(),
                        trial.fingerprint,
                    )
                    for trial in trials
                ],
            )

    def conclude(self, sweep_id: str, trial: Trial, run: str | None, value: float | None, error: str | None) -> None:
        """Say what an open trial came to: a value, or the reason why there is none."""
        with self.runs.connect() as connection:
            connection.execute(
                "update trials set state = ?, run = ?, value = ?, error = ? "
                "where sweep = ? and role = ? and number = ? and state = 'open'",
                ("failed" if value is None else "done", run, value, error, sweep_id, trial.role, trial.number),
            )


def _sweep(row: sqlite3.Row) -> Sweep:
    values = dict(row)
    try:
        values["definition"] = SweepDefinition.model_validate_json(values["definition"])
    except (ValidationError, MergingError):
        raise RunError(
            f"sweep {values['id']} was made by another version of this program and can't be read, or with a method of "
            "your own that is not here; name its file with --methods or in MERGING_METHODS"
        ) from None
    return Sweep(**values)


def _trial(row: sqlite3.Row) -> Trial:
    values = dict(row)
    spec = parse_job(json.loads(values["spec"]))
    return Trial(**{**values, "settings": json.loads(values["settings"]), "spec": spec})
