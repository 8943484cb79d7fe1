"""Work on files that the worker does beside merging: downloading a suite, checking one, converting pickled models.

They are rows of the table of runs as merges are, with progress, cancelling and a result, but no history: a page looks
up the one that it asked for.
"""

import hashlib
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FILE_LANE = "files"  # these jobs wait for each other, not for a device


class _FileJob(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    device: ClassVar[str] = FILE_LANE

    def fingerprint(self, version: str) -> str:
        """Identity of the job on files of a certain version, 64 hexadecimal digits."""
        return hashlib.sha256(f"{self.model_dump_json()}\n{version}".encode()).hexdigest()


class DownloadJob(_FileJob):
    """What :func:`merging.runs.jobs.download.download` takes; no tasks are all of them."""

    job: Literal["download"] = "download"
    suite: str
    tasks: tuple[str, ...] = ()
    data: bool = False

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"Download of {self.suite}"


class CheckJob(_FileJob):
    """A suite for :func:`merging.runs.jobs.check.check_suite`, and the device whose known accuracies it judges."""

    job: Literal["check"] = "check"
    suite: str
    measured_on: str = "cpu"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return "Check of all files"


class ConvertJob(_FileJob):
    """A folder whose pickled models :func:`merging.weights.convert.convert` is to read, and where the results go."""

    job: Literal["convert"] = "convert"
    folder: str
    output: str
    files: tuple[str, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"Conversion of {len(self.files)} file{'' if len(self.files) == 1 else 's'}"


FileJob = DownloadJob | CheckJob | ConvertJob
_ANY: TypeAdapter[FileJob] = TypeAdapter(Annotated[FileJob, Field(discriminator="job")])
_NAMES = {"download", "check", "convert"}


def is_file_job(stored: Any) -> bool:
    """Whether a row's specification, as parsed JSON, is that of such a job."""
    return isinstance(stored, dict) and stored.get("job") in _NAMES


def parse_file_job(stored: Any) -> FileJob:
    """The job that a row asks for; raises pydantic's ``ValidationError`` if another version wrote it."""
    return _ANY.validate_python(stored)
