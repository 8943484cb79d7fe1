"""A job: converting the pickled models of a folder."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from merging.core.errors import CheckpointError
from merging.core.progress import Progress
from merging.core.text import counted
from merging.runs.jobs.file_job import FileJob
from merging.runs.jobs.job import JobResult, Site
from merging.weights.convert import convert, targets
from merging.weights.files.folders import weight_files


class ConvertedFile(BaseModel):
    """What a file held and what was written, see :class:`merging.weights.convert.Converted`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: str
    ok: bool
    kind: str | None = None
    output: str | None = None
    held: str = ""
    detail: str = ""
    classes: list[str] = Field(default_factory=list)


class Conversion(JobResult):
    """A row a file."""

    files: list[ConvertedFile] = Field(default_factory=list)


class ConvertJob(FileJob):
    """A folder whose pickled models :func:`merging.weights.convert.convert` is to read, and where the results go."""

    result: ClassVar[type[Conversion]] = Conversion
    without: ClassVar[str] = "What was converted before is kept."
    job: Literal["convert"] = "convert"
    folder: str
    output: str
    files: tuple[str, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"Conversion of {counted(len(self.files), 'file')}"

    def version(self) -> str:
        """Sizes and times of the files.

        Raises:
            CheckpointError: one is gone.
        """
        try:
            states = [file.stat() for name in self.files for file in weight_files(Path(self.folder) / name)]
        except OSError as error:
            raise CheckpointError(f"{Path(str(error.filename)).name}: can't be read ({error.strerror})") from None
        return repr([(status.st_size, status.st_mtime_ns) for status in states])

    def run(self, site: Site) -> Conversion:
        """Convert one after the other; one that can't be read does not stop the others."""
        return Conversion(files=self._rows(self.step(site)), label=self.label)

    def _rows(self, step: Progress) -> list[ConvertedFile]:
        rows, folder, output = [], Path(self.folder), Path(self.output)
        wanted = targets([folder / file for file in self.files], output)
        for done, (file, target) in enumerate(wanted.items()):
            step(done, len(wanted), f"reading {file.name}")
            found = convert(file, target).as_json()
            found["file"] = file.relative_to(folder).as_posix()
            found["output"] = target.relative_to(output).as_posix() if found["ok"] else None
            rows.append(ConvertedFile.model_validate(found))
        return rows
