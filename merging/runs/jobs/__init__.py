"""The jobs: what the command line, the worker, pages and clusters can have done, a file a kind.

:data:`AnyJob` is the union of all kinds; its JSON is what a row of the table of runs holds.
"""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from merging.runs.jobs.baselines import BaselinesJob
from merging.runs.jobs.check import CheckJob
from merging.runs.jobs.convert import ConvertJob
from merging.runs.jobs.disentangle import DisentangleJob
from merging.runs.jobs.download import DownloadJob
from merging.runs.jobs.download_models import DownloadModelsJob
from merging.runs.jobs.generalisation import GeneralisationJob
from merging.runs.jobs.interference import InterferenceJob
from merging.runs.jobs.job import Job, JobResult, Site
from merging.runs.jobs.landscape import LandscapeJob
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.predictions import PredictionsJob
from merging.runs.jobs.robustness import RobustnessJob
from merging.runs.jobs.scaling_curve import ScalingCurveJob
from merging.runs.jobs.subsets import SubsetsJob

AnyJob = Annotated[
    MergeSpec
    | BaselinesJob
    | DisentangleJob
    | InterferenceJob
    | ScalingCurveJob
    | LandscapeJob
    | PredictionsJob
    | RobustnessJob
    | GeneralisationJob
    | SubsetsJob
    | DownloadJob
    | DownloadModelsJob
    | CheckJob
    | ConvertJob,
    Field(discriminator="job"),
]
_ANY: TypeAdapter[Job] = TypeAdapter(AnyJob)

__all__ = ["AnyJob", "Job", "JobResult", "MergeSpec", "Site", "parse_job"]


def parse_job(stored: Any) -> Job:
    """The job that parsed JSON asks for; rows of the first versions, which knew only merges, name no kind.

    Raises:
        ValidationError: another version wrote it (pydantic's).
        MergingError: it names a method or parameter that there is not.
    """
    if isinstance(stored, dict) and "job" not in stored:
        stored = {**stored, "job": MergeSpec.model_fields["job"].default}
    return _ANY.validate_python(stored)
