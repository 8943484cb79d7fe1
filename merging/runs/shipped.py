"""Results that come with a suite: measured when it was built, found by the same fingerprints as runs.

They lie in one file beside ``suite.yaml``, lines of JSON in gzip, which ``python -m studies.shipped`` writes. Nothing
is ever written into it: whoever runs the same again has a run of their own, which counts from then on.
"""

import gzip
import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from merging.core.errors import MergingError, RunError
from merging.core.files import atomic_path
from merging.core.gate import read_bytes
from merging.core.limits import MAX_SHIPPED_BYTES, MAX_SHIPPED_TEXT
from merging.runs.jobs import MergeSpec, parse_job
from merging.runs.jobs.parts import InParts
from merging.runs.run import Run
from merging.suites import suite as suites

FILE = "measured.jsonl.gz"  # beside suite.yaml
_ID_LENGTH = 12  # of a fingerprint, that name a run

log = logging.getLogger("merging.shipped")


def shipped_files() -> tuple[Path, ...]:
    """The files of results that come with built-in suites."""
    return tuple(path for folder in suites.builtin_suites().values() if (path := folder / FILE).is_file())


@dataclass(frozen=True)
class Shipped:
    """What some such files hold; read when it is first asked for, and each line of it when that is.

    A file that is damaged holds nothing, and a line that another version wrote is left out: what is missing is measured
    as if it had never been there.

    Attributes:
        files: see :func:`shipped_files`.
    """

    files: tuple[Path, ...] = ()

    def find(self, fingerprint: str) -> Run | None:
        """The result of exactly this job on exactly these files, as a run that is done; None if there is none."""
        if fingerprint not in self._runs:
            content = self._content("run", fingerprint)
            self._runs[fingerprint] = None if content is None else _run_or_none(fingerprint, content)
        return self._runs[fingerprint]

    def get(self, run_id: str) -> Run | None:
        """By its whole id."""
        return next((self.find(one) for one in self._lines["run"] if one[:_ID_LENGTH] == run_id), None)

    def merges(self) -> list[Run]:
        """All merges, in the order of the files."""
        return [run for run in self._every if isinstance(run.job, MergeSpec)]

    def alike(self, job: InParts) -> list[Run]:
        """As :meth:`merging.runs.table.RunStore.alike` gives them."""
        kind = f'"job":"{job.kind}"'.encode()  # most lines are of other kinds, and need not be read
        found = (self.find(one) for one, line in self._lines["run"].items() if kind in line)
        return [run for run in found if run is not None and job.is_like(run.job)]

    def predictions(self, key: str) -> bytes | None:
        """As :meth:`merging.runs.table.RunStore.known_predictions` gives them."""
        found = self._content("predictions", key)
        return None if found is None else np.array(found, "<i4").tobytes()

    def accuracies(self, fingerprint: str) -> list[Any]:
        """Pairs of a :meth:`merging.runs.positions.Need.written` and its accuracy, 0 … 1.

        Args:
            fingerprint: of a job on the same files, under which they were written; without any there are no pairs.
        """
        found: list[Any] = self._content("accuracies", fingerprint) or []
        return found

    @cached_property
    def seconds(self) -> list[tuple[Mapping[str, Any], float]]:
        """A job's fields, and how long it took on the machine that measured it."""
        return [
            (run.job.model_dump(mode="json"), run.finished - run.started)
            for run in self._every
            if run.started is not None and run.finished is not None
        ]

    @cached_property
    def _runs(self) -> dict[str, Run | None]:
        """Fingerprint → run, of those that were asked for; None where there is none, or none that can be read."""
        return {}

    @property
    def _every(self) -> list[Run]:
        """All that can be read, in the order of the files."""
        return [run for fingerprint in self._lines["run"] if (run := self.find(fingerprint)) is not None]

    def _content(self, kind: str, key: str) -> Any:
        """What a line says; None if there is none, or it is damaged."""
        line = self._lines[kind].get(key)
        try:
            return None if line is None else json.loads(line)
        except ValueError as error:
            log.warning("a line of what came with a suite can't be read: %s", error)
            return None

    @cached_property
    def _lines(self) -> Mapping[str, dict[str, bytes]]:
        """Kind of line → key → what it says, as JSON."""
        found: dict[str, dict[str, bytes]] = {"run": {}, "predictions": {}, "accuracies": {}}
        for file in self.files:
            try:
                lines = list(_read(file))
            except (MergingError, ValueError, OSError, EOFError, zlib.error) as error:
                log.warning("%s can't be read, and counts as empty: %s", file.name, error)
                continue
            for kind, key, content in lines:
                found.get(kind, {})[key] = content
        return found


def _read(file: Path) -> Iterator[tuple[str, str, bytes]]:
    """Kind, key and content of every line, which is as :func:`write` makes it: ``["kind","key",content]``."""
    with gzip.open(BytesIO(read_bytes(file, RunError, MAX_SHIPPED_BYTES))) as stream:
        text = stream.read(MAX_SHIPPED_TEXT + 1)
    if len(text) > MAX_SHIPPED_TEXT:
        raise RunError(f"{file.name}: more than {MAX_SHIPPED_TEXT} bytes once unpacked")
    for line in text.splitlines():
        kind, key, content = line.split(b",", 2)
        yield json.loads(kind[1:]), json.loads(key), content[:-1]


def _run_or_none(fingerprint: str, row: Any) -> Run | None:
    try:
        return run_of(fingerprint, row)
    except (MergingError, TypeError, ValueError, LookupError) as error:
        log.warning("a result that came with a suite can't be read: %s", error)
        return None


def run_of(fingerprint: str, row: Mapping[str, Any]) -> Run:
    """A finished run, from what its line says; where that has no seconds, nobody knows how long it took.

    Raises:
        MergingError: it is of another version of this program.
    """
    when, seconds = float(row["finished"]), row["seconds"]
    return Run(
        id=fingerprint[:_ID_LENGTH],
        fingerprint=fingerprint,
        job=parse_job(row["spec"]),
        state="done",
        message="",
        done=0,
        total=0,
        phase_started=None,
        created=when,
        started=None if seconds is None else when - float(seconds),
        finished=when,
        heartbeat=None,
        cancel_asked=None,
        error=None,
        log=None,
        result_json=json.dumps(row["result"]),
        shipped=True,
    )


def write(
    file: Path,
    runs: Sequence[Run],
    predictions: Mapping[str, Sequence[int]],
    accuracies: Mapping[str, Sequence[Any]],
) -> None:
    """Write such a file, whole or not at all; the same content gives the same bytes.

    Args:
        file: where.
        runs: finished ones, in the order in which pages list them.
        predictions: as in :meth:`Shipped.predictions`, but class indices.
        accuracies: as in :meth:`Shipped.accuracies`.

    Raises:
        RunError: it would be larger than what is read.
    """
    lines: list[tuple[str, str, Any]] = [("run", run.fingerprint, _row(run)) for run in runs]
    lines += [("predictions", key, list(map(int, found))) for key, found in sorted(predictions.items())]
    lines += [("accuracies", key, list(found)) for key, found in sorted(accuracies.items())]
    text = "".join(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines)
    packed = gzip.compress(text.encode(), mtime=0)
    if len(packed) > MAX_SHIPPED_BYTES or len(text) > MAX_SHIPPED_TEXT:
        raise RunError(f"{file.name}: {len(packed)} bytes; at most {MAX_SHIPPED_BYTES} are read")
    with atomic_path(file) as temporary:
        temporary.write_bytes(packed)


def _row(run: Run) -> dict[str, Any]:
    if run.result is None or run.finished is None:
        raise RunError(f"run {run.id} is {run.state}; only finished runs can come with a suite")
    return {
        "spec": run.job.model_dump(mode="json"),
        "finished": round(run.finished),
        "seconds": None if run.started is None else round(run.finished - run.started, 1),
        "result": run.result.stored(),
    }
