"""The file in which runs travel: a zip archive with a line of JSON a run, and weights where they were asked for.

Whoever opens one may have it from anybody: every line is checked for itself, nothing in it names a path of this
machine, and none of it is code.
"""

import base64
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from merging.core.archive import open_archive
from merging.core.errors import MergingError, RunError
from merging.core.gate import parse_json
from merging.core.limits import MAX_MOVED_LINE, MAX_MOVED_RUNS, MAX_MOVED_TEXT
from merging.runs.annotations import fitting_name, fitting_note, fitting_tags
from merging.runs.jobs import MergeSpec, parse_job
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.run import Run

LINES = "runs.jsonl"  # in the archive
FORMAT, VERSION = "merging runs", 1
_WEIGHTS = "weights/{}.safetensors"
_NOT_IN_A_NAME = re.compile(r"[/\\:\x00]")  # which would make a path of it
_LOG_LETTERS = 20_000
_TOLERANCE = 1e-6

Seconds = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
Digits = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class MovedRun(BaseModel):
    """A run as it travels, checked.

    Attributes:
        id: that it had where it was made.
        fingerprint: of its specification and all files that it read.
        job: what was merged; its suite is a name, never a path.
        result: of a run that is done.
        predictions: key, as :func:`merging.evaluation.evaluator.evaluation_key` gives it → class indices as stored.
        weights: SHA-256 of its weights, where the archive has them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    fingerprint: Digits
    job: MergeSpec
    state: Literal["done", "failed", "cancelled", "lost"]
    created: Seconds
    started: Seconds | None = None
    finished: Seconds | None = None
    error: Annotated[str, Field(max_length=_LOG_LETTERS)] | None = None
    log: Annotated[str, Field(max_length=_LOG_LETTERS)] | None = None
    result: MergeResult | None = None
    person: str = ""
    machine: str = ""
    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    star: bool = False
    predictions: dict[Digits, bytes] = Field(default_factory=dict)
    weights: Digits | None = None

    @field_validator("job", mode="before")
    @classmethod
    def _a_merge(cls, value: object) -> object:
        job = parse_job(value) if isinstance(value, dict) else value
        if not isinstance(job, MergeSpec):
            raise ValueError("no merge")
        if _NOT_IN_A_NAME.search(job.suite) or job.suite.startswith("."):
            raise ValueError("its suite is a path; expected a name")
        return job

    @field_validator("result", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        return MergeResult.read(json.dumps(value)) if isinstance(value, dict) else value

    @field_validator("person", "machine", "name")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return fitting_name(value)

    @field_validator("note")
    @classmethod
    def _note(cls, value: str) -> str:
        return fitting_note(value)

    @field_validator("tags", mode="before")
    @classmethod
    def _tags(cls, value: object) -> object:
        return tuple(fitting_tags(map(str, value))) if isinstance(value, list | tuple) else value

    @field_validator("predictions", mode="before")
    @classmethod
    def _answers(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: base64.b64decode(str(text), validate=True) for key, text in value.items()}

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        if (self.state == "done") != (self.result is not None):
            raise ValueError(f"it is {self.state} and has {'a' if self.result else 'no'} result")
        if any(len(answers) % 4 for answers in self.predictions.values()):
            raise ValueError("predictions that are no 32-bit numbers")
        if self.result is not None:
            _require_sense(self.result, self.job)
        return self


def _require_sense(result: MergeResult, spec: MergeSpec) -> None:
    """Insist on numbers that can be what they are called; whether they were measured, nobody can see."""
    measured = list((result.accuracy or {}).values())
    if any(not 0 <= value <= 1 for value in result.measured.values()):
        raise ValueError("an accuracy is not between 0 and 1")
    if result.accuracy is not None and set(result.accuracy) != set(spec.tasks):
        raise ValueError("accuracies of other tasks than were merged")
    mean = sum(measured) / len(measured) if measured else None
    if (mean is None) != (result.average is None) or abs((mean or 0.0) - (result.average or 0.0)) > _TOLERANCE:
        raise ValueError("its average is not the mean of its accuracies")
    if result.split != spec.split and result.accuracy:
        raise ValueError("it was measured on another split than was asked for")
    table = result.coefficients
    if table and [len(row) for row in table.table] != [len(table.tensors)] * len(table.tasks):
        raise ValueError("a table of coefficients that is no rectangle of tasks and tensors")


def line_of(run: Run, predictions: Mapping[str, bytes], weights: str | None) -> str:
    """A run as a line of the file, without paths of the machine that it was made on."""
    result = run.merged
    light = result.model_copy(update={"kept": None, "output": None}) if result else None
    values: dict[str, Any] = {
        **{name: getattr(run, name) for name in ("id", "fingerprint", "state", "created", "started", "finished")},
        **{name: getattr(run, name) for name in ("person", "machine", "name", "note", "tags", "star")},
        "error": _end(run.error),
        "log": _end(run.log),
        "job": {**run.spec.model_dump(mode="json"), "suite": _NOT_IN_A_NAME.sub("-", run.spec.suite_name) or "suite"},
        "result": light.stored() if light else None,
        "predictions": {key: base64.b64encode(value).decode() for key, value in predictions.items()},
        "weights": weights,
    }
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"


def _end(text: str | None) -> str | None:
    return text and text[-_LOG_LETTERS:]


def write_lines(archive: zipfile.ZipFile, lines: Iterable[str], made_on: str) -> None:
    """Write the lines into an archive.

    Raises:
        RunError: they would be more than is read.
    """
    head = json.dumps({"format": FORMAT, "version": VERSION, "machine": made_on}) + "\n"
    written = 0
    with archive.open(LINES, "w", force_zip64=True) as member:
        for number, line in enumerate(chain([head], lines)):
            packed = line.encode()
            written += len(packed)
            if number > MAX_MOVED_RUNS or written > MAX_MOVED_TEXT or len(packed) > MAX_MOVED_LINE:
                raise RunError(
                    f"{number} runs are {written / 1e6:,.0f} MB; a file holds at most {MAX_MOVED_RUNS:,} runs and "
                    f"{MAX_MOVED_TEXT / 1e6:,.0f} MB; export fewer at once"
                )
            member.write(packed)


def weights_member(run_id: str) -> str:
    """What the weights of a run are called in the archive."""
    return _WEIGHTS.format(run_id)


class MovedFile:
    """Such an archive, opened; made by :func:`open_moved`.

    Attributes:
        machine: where it was written, as it says.
        archive: the archive.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self.archive = path, archive
        head = next(self._lines(), b"")
        try:
            values = parse_json(head)
            known = values["format"] == FORMAT and values["version"] == VERSION
            self.machine = fitting_name(str(values.get("machine", "")))
        except (ValueError, TypeError, KeyError, RunError):
            known = False
        if not known:
            raise RunError(
                f"{path.name}: not a file of runs of this version; expected one that `merging runs export FILE` wrote"
            )

    def runs(self) -> Iterator[MovedRun | str]:
        """Every run, or why a line holds none that can be taken over.

        Raises:
            RunError: the file is larger than what is read.
        """
        for number, line in enumerate(self._lines()):
            if number:
                yield _checked(number, line)

    def _lines(self) -> Iterator[bytes]:
        total = 0
        with self.archive.open(LINES) as member:
            for number in range(MAX_MOVED_RUNS + 2):
                line = member.readline(MAX_MOVED_LINE + 1)
                total += len(line)
                if not line:
                    return
                if len(line) > MAX_MOVED_LINE or total > MAX_MOVED_TEXT or number > MAX_MOVED_RUNS:
                    break
                yield line
        raise RunError(
            f"{self._path.name}: more than {MAX_MOVED_RUNS:,} runs, {MAX_MOVED_LINE} bytes for one or "
            f"{MAX_MOVED_TEXT} bytes in all; nothing that `merging runs export` writes is that large"
        )


@contextmanager
def open_moved(path: Path) -> Iterator[MovedFile]:
    """Open a file of runs.

    Raises:
        RunError: it is none, damaged, or larger than what is read.
    """
    with open_archive(path, RunError, "a readable file of runs") as archive:
        if LINES not in archive.namelist():
            raise RunError(f"{path.name}: a zip archive without {LINES}; expected one of `merging runs export FILE`")
        yield MovedFile(path, archive)


def _checked(number: int, line: bytes) -> MovedRun | str:
    try:
        return MovedRun.model_validate(parse_json(line))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "run"
        return f"run {number}: {where}: {str(first['msg'])[:200]}"
    except (MergingError, ValueError, TypeError, RecursionError) as error:
        return f"run {number}: {str(error)[:300]}"
