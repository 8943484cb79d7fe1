"""What every job is: something to be done, by whom it may be done, and what comes of it.

A job is data (a row of the table of runs holds it as JSON) that knows how it is carried out. Whoever carries it out,
the command line, the worker or a machine of a cluster, does so by :meth:`Job.run` and needs to know nothing else of it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from merging.core.errors import RunError
from merging.core.progress import Numbers, Progress, no_numbers, no_progress

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace

FILE_LANE = "files"  # jobs in it wait for each other, not for a device


@dataclass(frozen=True)
class Site:
    """Where a job is carried out, who is told how far it is, and who may stop it.

    Attributes:
        workspace: where caches and earlier results are.
        on_progress: called with steps done, steps in all, and what is going on.
        cancelled: asked between steps.
        on_numbers: called with what a method that learns has learned so far.
        output: file for the merged weights, ``.safetensors``; None if nobody wants them.
        keep: file for weights that no coefficient table can rebuild; of no use where there is an ``output``.
        enough: asked by a method that learns between its steps: whether to end with what it has.
        run_id: of the run that the job is done for; empty where there is none.
        on_predicted: called with a key, the run's id and what it predicts, as
            :meth:`merging.runs.remembered.Remembered.remember_predictions` is.
    """

    workspace: Workspace
    on_progress: Progress = no_progress
    cancelled: Callable[[], bool] = lambda: False
    on_numbers: Numbers = no_numbers
    output: Path | None = None
    keep: Path | None = None
    enough: Callable[[], bool] = lambda: False
    run_id: str = ""
    on_predicted: Callable[[str, str, bytes], None] = lambda key, run_id, value: None


class JobResult(BaseModel):
    """What came of a job, as the table keeps it.

    Rows of earlier versions open as well: what they lack has its default, what they have besides is left out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str = ""

    @classmethod
    def read(cls, stored: str) -> Self:
        """A result from its JSON; a value that is not what is expected counts as missing.

        Raises:
            RunError: what is left is no such result.
        """
        values = json.loads(stored)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            odd = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        try:
            return cls.model_validate({name: value for name, value in values.items() if name not in odd})
        except (ValidationError, AttributeError) as error:
            raise RunError(
                f"its result was written by another version of this program and can't be read: {error}"
            ) from None

    def stored(self) -> dict[str, Any]:
        """JSON-ready values, as the table keeps them and the command line prints them."""
        return self.model_dump(mode="json")


class Job(BaseModel, ABC):
    """Something to be done.

    Attributes:
        result: the model of what comes of it.
        without: what there is to be missed where it failed, in a sentence.
        anew: whether it is done again where it was done before on the same files.
        stays: why no other machine can do it, as a clause; empty if any can that has the suite.

    Every kind has a field ``job`` besides, its name: by it a row's JSON finds the class again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: ClassVar[type[JobResult]]
    without: ClassVar[str]
    anew: ClassVar[bool] = False
    stays: ClassVar[str] = ""

    @property
    def kind(self) -> str:
        """The name of this kind of job."""
        return str(type(self).model_fields["job"].default)

    @property
    @abstractmethod
    def label(self) -> str:
        """What to call it on screen."""

    @property
    @abstractmethod
    def lane(self) -> str:
        """What it waits for: a device as :func:`merging.core.devices.resolve` takes it, or :data:`FILE_LANE`."""

    @abstractmethod
    def fingerprint(self, workspace: Workspace) -> str:
        """Identity of the job on the files as they are now, 64 hexadecimal digits.

        Raises:
            MergingError: a file is missing or broken, so that bad input is refused before anything is queued.
        """

    def as_done(self, result: JobResult) -> Job:
        """What was done, where somebody ended it with what it had by then; else this job."""
        return self

    def replaces(self, other: Job) -> bool:
        """Whether the row of another job that has ended is of no use any more once this one is asked for."""
        return False

    @abstractmethod
    def run(self, site: Site) -> JobResult:
        """Do it.

        Raises:
            MergingError: anything that is the input's fault, or a device out of memory.
            Cancelled: somebody asked for the work to stop.
        """
