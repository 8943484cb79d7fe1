"""A job: what AWD does to the task vectors, on the weights, without a merge."""

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from merging.core.errors import SpecError
from merging.methods import registry
from merging.methods.edits.awd import AwdParams, Disentangled, disentangle
from merging.methods.registry import LinearEdit
from merging.runs.jobs.merge_result import MethodReport
from merging.runs.jobs.model_job import Bench, ModelJob, ModelResult
from merging.weights.geometry import Geometry


class DisentangleResult(ModelResult):
    """What AWD reports, and the Gram matrices ``[L][T][T]`` of the edited vectors."""

    edit: MethodReport = Field(default_factory=MethodReport)
    grams: list[list[list[float]]] = Field(default_factory=list)

    def disentangled(self, before: Geometry) -> Disentangled:
        """What AWD found; its edit can't be applied, it has only the report.

        Args:
            before: geometry of the same task vectors.
        """
        report = self.edit.model_dump(mode="json")
        after = before.with_grams(np.array(self.grams))
        curve = np.array(report["objective"])
        return Disentangled(LinearEdit({}, report), after, None, None, curve, report["redundant_norm"])


class DisentangleJob(ModelJob):
    """Solve AWD where its Gram matrices do not tell it all: with rows as its scope, or a descent on the weights."""

    result: ClassVar[type[DisentangleResult]] = DisentangleResult
    without: ClassVar[str] = "The cosines after AWD can't be shown for these settings."
    job: Literal["disentangle"] = "disentangle"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return "AWD on the weights"

    @model_validator(mode="after")
    def _disentangles(self) -> Self:
        require_awd(self)
        return self

    def measure(self, bench: Bench) -> DisentangleResult:
        """Read all weights once, or several times where the descent is on them."""
        params = registry.find("edit", self.edit).parse(self.edit_params)
        assert isinstance(params, AwdParams)
        found = disentangle(bench.vectors, bench.context.geometry(bench.vectors), params, bench.context)
        return DisentangleResult(edit=MethodReport.model_validate(found.edit.report), grams=found.after.grams.tolist())


def require_awd(job: ModelJob) -> None:
    """Insist on the one edit that disentangles.

    Raises:
        SpecError: it is another.
    """
    if job.edit != "awd":
        raise SpecError(f"job {job.kind}: only edit awd disentangles; got edit {job.edit!r}")
