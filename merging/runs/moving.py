"""Runs from one machine, or person, to another: written into a file, and taken over from one.

Results are merged by fingerprint: what was done here already stays as it is. Queued and running runs stay where they
are, and so do jobs that are no merges.
"""

import hashlib
import json
import platform
import shutil
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from merging.core.errors import MergingError, RunError
from merging.core.files import atomic_path, scratch_folder
from merging.core.progress import Progress, no_progress
from merging.runs.export.weights import KEPT_WEIGHTS, kept_weights
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.listing import Facts, listing, read_runs
from merging.runs.moved_file import MovedFile, MovedRun, line_of, open_moved, weights_member, write_lines
from merging.runs.run import Run
from merging.runs.table import RunStore
from merging.suites.suite import Suite, builtin_suites
from merging.weights.files import open_checkpoint

_ENDED = ("done", "failed", "cancelled", "lost")
_AT_ONCE = 100  # runs in memory
_PIECE = 2**20
_ALIKE = 1e-9  # averages


@dataclass
class Taken:
    """What became of the runs of a file.

    Attributes:
        machine: where it was written, as it says.
        new: ids of the runs that are here now.
        known: how many were here before.
        differing: ids of runs that stay as they are though the file has another average for the same work.
        refused: why others were not taken over.
        without_suite: how many are of suites that are not known here.
    """

    machine: str
    new: list[str] = field(default_factory=list)
    known: int = 0
    differing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    without_suite: int = 0


def export_runs(
    store: RunStore,
    path: Path,
    facts: Sequence[Facts],
    weights: bool = False,
    on_progress: Progress = no_progress,
) -> int:
    """Write runs that have ended into a file; gives how many.

    Args:
        store: where they are.
        path: the file.
        facts: which, as :func:`merging.runs.listing.listing` gives them; those that came with suites are left out.
        weights: take the weights along that no table of coefficients gives again.
        on_progress: told how many are written.

    Raises:
        RunError: none of them has ended, weights are gone, or the file would be larger than what is read.
        CheckpointError: the file can't be written.
    """
    wanted = [one for one in facts if one.state in _ENDED and not one.shipped]
    if not wanted:
        raise RunError("none of these runs has ended, so there is nothing to export; see `runs list`")
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        taken: list[Run] = []
        write_lines(archive, _lines(store, wanted, weights, taken, on_progress), platform.node())
        for run in taken:
            archive.write(kept_weights(run, store), weights_member(run.id), zipfile.ZIP_STORED)
    return len(wanted)


def _lines(
    store: RunStore, wanted: Sequence[Facts], weights: bool, taken: list[Run], on_progress: Progress
) -> Iterator[str]:
    for start in range(0, len(wanted), _AT_ONCE):
        on_progress(start, len(wanted), "writing runs")
        for run in read_runs(store, wanted[start : start + _AT_ONCE]):
            print_ = None
            if weights and run.merged and run.merged.coefficients is None:
                print_ = _sha256(kept_weights(run, store))
                taken.append(run)
            yield line_of(run, _predictions(store, run.id), print_)


def _predictions(store: RunStore, run_id: str) -> dict[str, bytes]:
    with store.connect() as connection:
        rows = connection.execute("select key, value from predictions where run = ?", (run_id,)).fetchall()
    return {row["key"]: bytes(row["value"]) for row in rows}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_runs(
    store: RunStore, path: Path, suites: Mapping[str, Suite] | None = None, on_progress: Progress = no_progress
) -> Taken:
    """Take over the runs of a file that :func:`export_runs` wrote; from anybody, so that every line is checked.

    Args:
        store: where to.
        path: the file.
        suites: reference → suite, on whose files the runs may have been made; those of runs that are here already are
            known anyway.
        on_progress: told how many were looked at.

    Raises:
        RunError: the file is none, damaged, or larger than what is read.
    """
    with open_moved(path) as moved:
        taken = Taken(moved.machine)
        places = _Places(store, suites or {})
        for number, one in enumerate(moved.runs()):
            on_progress(number, number + 1, "reading runs")
            if isinstance(one, str):
                taken.refused.append(one)
                continue
            try:
                _take(store, moved, one, places, taken)
            except MergingError as error:
                taken.refused.append(f"run {one.id}: {error}")
    return taken


def _take(store: RunStore, moved: MovedFile, one: MovedRun, places: "_Places", taken: Taken) -> None:
    known = store.find(one.fingerprint)
    if known is not None and (known.active or known.state == "done" or known.state == one.state):
        taken.known += 1
        there, here = one.result, known.merged
        if there and here and abs((there.average or 0.0) - (here.average or 0.0)) > _ALIKE:
            taken.differing.append(known.id)
        return
    suite = places.suite_of(one)
    taken.without_suite += suite is None
    job = one.job.model_copy(update={"suite": suite}) if suite else one.job
    run_id = one.id if _is_free(store, one.id) else uuid.uuid4().hex[:12]
    if one.weights:
        _unpack(moved.archive, one, store.home, store.folder(run_id) / KEPT_WEIGHTS)
    if not _enter(store, run_id, one, job):
        taken.known += 1
        return
    taken.new.append(run_id)


def _is_free(store: RunStore, run_id: str) -> bool:
    with store.connect() as connection:
        there = connection.execute(
            "select id from runs where id = ?1 union select id from deleted where id = ?1", (run_id,)
        ).fetchone()
    return there is None and store.shipped.get(run_id) is None


def _enter(store: RunStore, run_id: str, one: MovedRun, job: MergeSpec) -> bool:
    """Add a row with what the run predicts; False if the same work was entered in the meantime."""
    values = {
        "id": run_id,
        "fingerprint": one.fingerprint,
        "spec": job.model_dump_json(),
        "state": one.state,
        "created": one.created,
        "started": one.started,
        "finished": one.finished,
        "error": one.error,
        "log": one.log,
        "result": json.dumps(one.result.stored(), allow_nan=False) if one.result else None,
        "person": one.person,
        "machine": one.machine,
        "name": one.name,
        "note": one.note,
        "tags": json.dumps(one.tags, ensure_ascii=False),
        "star": int(one.star),
    }
    marks = ", ".join("?" for _ in values)
    # They are kept under a key that the id is part of; under one that another run has, only a forged file could.
    predictions = [(key, run_id, value) for key, value in one.predictions.items()] if run_id == one.id else []
    with store.writing() as connection:
        entered = connection.execute(
            f"insert or ignore into runs ({', '.join(values)}) values ({marks})", tuple(values.values())
        ).rowcount
        if entered:
            connection.executemany("insert or ignore into predictions values (?, ?, ?)", predictions)
    return bool(entered)


def _unpack(archive: zipfile.ZipFile, one: MovedRun, home: Path, place: Path) -> None:
    """Write the weights of a run, once they are what the file says and a file of weights.

    Raises:
        MergingError: they are not.
    """
    try:
        member = archive.getinfo(weights_member(one.id))
    except KeyError:
        raise RunError("its weights are not in the file, though it says so") from None
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise RunError("its weights are compressed; weights are stored as they are")
    with scratch_folder(home) as folder, archive.open(member) as source:
        unpacked = folder / place.name
        with unpacked.open("wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
        if _sha256(unpacked) != one.weights:
            raise RunError("its weights are not those that were exported; the file is damaged")
        open_checkpoint(unpacked, part="all")
        place.parent.mkdir(parents=True, exist_ok=True)
        unpacked.replace(place)


class _Places:
    """Which suite of this machine the runs of another were made on, by the content of base and task models.

    The base alone does not tell: suites share it.
    """

    def __init__(self, store: RunStore, suites: Mapping[str, Suite]) -> None:
        self._suites = suites
        self._built_in: Collection[str] = builtin_suites()
        self._seen: dict[tuple[str, str], set[tuple[str, str]]] = {}  # base, reference → tasks with their models
        for run in read_runs(store, _one_of_each(store)):
            base, models = _files(run.merged)
            self._seen.setdefault((base, run.spec.suite), set()).update(models.items())

    def suite_of(self, one: MovedRun) -> str | None:
        """Its reference; None if it is not known here."""
        base, models = _files(one.result)
        for reference, suite in self._suites.items():
            if base and suite.base_checkpoint.fingerprint == base and _has(suite, models):
                return reference
        alike = {
            reference: len(models.items() & seen)
            for (known, reference), seen in self._seen.items()
            if known == base and (not models or _agree(models, seen))
        }
        if base and alike:
            return max(alike, key=lambda reference: (alike[reference], reference == one.job.suite))
        return one.job.suite if one.job.suite in self._built_in else None


def _one_of_each(store: RunStore) -> list[Facts]:
    """A measured run of every base, suite and choice of tasks; all that came with suites, which are few."""
    with store.connect() as connection:
        found = "iif(json_valid(spec), json_extract(spec, '$.tasks'), '')"  # of a row that is damaged none
        rows = connection.execute(f"select id, {found} as tasks from runs").fetchall()
    tasks = {row["id"]: row["tasks"] for row in rows}
    facts = (one for one in listing(store) if one.base)
    return list({(one.base, one.suite, tasks.get(one.id, one.id)): one for one in facts}.values())


def _files(result: MergeResult | None) -> tuple[str, dict[str, str]]:
    """Content of the base of a result, and task → content of its model; empty where that is not known."""
    prints = list(result.fingerprints.items()) if result else []
    return (prints[0][1], dict(prints[1:])) if prints else ("", {})


def _agree(models: Mapping[str, str], seen: Collection[tuple[str, str]]) -> bool:
    """Whether some of the models were seen, and none was seen otherwise."""
    known = {task for task, _ in seen} & set(models)
    return bool(known) and all((task, models[task]) in seen for task in known)


def _has(suite: Suite, models: Mapping[str, str]) -> bool:
    """Whether a suite has these very models."""
    return set(models) <= set(suite.mergeable()) and all(
        suite.checkpoint(task).fingerprint == content for task, content in models.items()
    )
