"""The job that everything is about: merge as specified, and measure what came of it."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from merging.evaluation.accuracy import Accuracy, joined
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.forgetting import bystanders
from merging.methods.plan import Plan, plan, stays_on_device
from merging.methods.planned import LinearEdit
from merging.runs.jobs.answers import answers_key, packed
from merging.runs.jobs.job import JobResult
from merging.runs.jobs.merge_result import (
    Coefficients,
    DescribedGeometry,
    Forgetting,
    MergeResult,
    MethodReport,
    Unseen,
)
from merging.runs.jobs.model_job import Bench, ModelJob
from merging.suites.images.shifts import shift_text
from merging.weights import resident
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.geometry import Geometry, describe
from merging.weights.twins import oddities


class MergeSpec(ModelJob):
    """A merge: everything that determines the merged model besides the files themselves."""

    result: ClassVar[type[MergeResult]] = MergeResult
    without: ClassVar[str] = "There is no merged model and no accuracy of it."
    job: Literal["merge"] = "merge"

    def as_done(self, result: JobResult) -> "MergeSpec":
        """The same with as many steps as were made."""
        made = result.merge.ended_after if isinstance(result, MergeResult) else None
        return self if made is None else MergeSpec.like(self, merge_params={**self.merge_params, "steps": made})

    def measure(self, bench: Bench) -> MergeResult:
        """Plan, merge tensor by tensor, and measure accuracy if asked to.

        Weights go to the site's ``output``, or to ``keep`` where no table of coefficients can rebuild them.
        """
        warnings = oddities(bench.vectors)
        planned = plan(bench.vectors, self.pair, bench.context)
        warnings += planned.edit.report.get("warnings", [])
        stayed = self._stayed(planned, bench.context)
        if stayed is False:
            warnings.append(resident.Room.of(bench.vectors).streamed(bench.context.device))
        output = bench.site.output
        if output is None and planned.table is None:
            output = bench.site.keep
        measured = self._merge_and_measure(planned, bench, output)
        return MergeResult(
            **measured,
            coefficients=coefficient_columns(planned),
            edit=MethodReport.model_validate(planned.edit.report),
            merge=MethodReport.model_validate(planned.merge_report()),
            warnings=warnings,
            revisions=self.pair.revisions,
            sources=self.pair.sources or None,
            resident=stayed,
            output=output.name if output is not None else None,
        )

    def _stayed(self, planned: Plan, context: Context) -> bool | None:
        """Whether all models were on the device; None where they are not meant to be."""
        if not resident.worthwhile(context.device) or not stays_on_device(self.pair):
            return None
        return planned.vectors.resident is not None

    def _merge_and_measure(self, planned: Plan, bench: Bench, output: Path | None) -> dict[str, Any]:
        bench.clock.enter("merging")
        evaluator, context = bench.evaluator, bench.context
        evaluating = self.evaluating(bench.suite)
        state: Any = {}
        if output is not None:
            save_tensors(output, planned.infos, planned.tensors(context), {"method": self.label, **planned.metadata})
            state = open_checkpoint(output, part="all") if evaluating else {}
        elif evaluating:
            state = dict(planned.tensors(context))
        else:
            for _ in planned.tensors(context):  # the numbers below come from streaming, and errors must show
                pass
        result: dict[str, Any] = {"split": self.split, "shift": shift_text(self.shift)}
        if evaluating:
            bench.clock.enter("evaluating")
            accuracy = self._accuracy(planned, state, bench)
            result |= {
                "accuracy": accuracy.per_task,
                "average": accuracy.average,
                "images": accuracy.images,
                "counts": accuracy.counts,
            }
            if self.unseen:
                result["unseen"] = self._on_unseen(state, bench)
            if self.forgotten:
                result["forgetting"] = self._forgetting(planned, state, accuracy, evaluator, context)
        result["after"] = _after(planned, context)
        return result

    def _accuracy(self, planned: Plan, state: Any, bench: Bench) -> Accuracy:
        """Accuracy on every task, of the one model or of each task's own.

        What is predicted is kept where no table of coefficients gives the weights again: elsewhere, or once they are
        gone, the run can still be weighed against others image by image.
        """
        evaluator, context = bench.evaluator, bench.context

        def keep(task: str, classes: np.ndarray) -> None:
            if planned.table is None:
                run_id = bench.site.run_id
                bench.site.on_predicted(answers_key(run_id, self, evaluator, task), run_id, packed(classes))

        if not planned.per_task:
            return evaluator.accuracy(state, self.tasks, self.split, context, keep)
        parts = []
        for done, task in enumerate(self.tasks):
            context.step(done, len(self.tasks), f"evaluating on {task}")
            parts.append(evaluator.accuracy(planned.served(state, task), [task], self.split, on_predicted=keep))
        return joined(parts)

    def _on_unseen(self, state: Any, bench: Bench) -> Unseen:
        """Accuracy on tasks that were not merged, and the base's on all."""
        found = bench.evaluator.accuracy(state, self.unseen, self.split, bench.context)
        everything = (*self.tasks, *self.unseen)
        zero_shot = bench.workspace.base_accuracy(bench.evaluator, everything, self.split, bench.context)
        return Unseen(accuracy=found.per_task, counts=found.counts, zero_shot=zero_shot.per_task)

    def _forgetting(
        self, planned: Plan, state: Any, merged: Accuracy, evaluator: Evaluator, context: Context
    ) -> Forgetting:
        """What a run that subtracts task vectors took from their tasks and from all others."""
        others = bystanders(evaluator.suite, self.tasks, self.forgotten)
        after = joined([merged, *([evaluator.accuracy(state, others, self.split, context)] if others else [])])
        before = evaluator.accuracy(planned.vectors.base, tuple(after.per_task), self.split, context)
        return Forgetting.of(before, after, planned.merge.report["weights"])


def _after(planned: Plan, context: Context) -> DescribedGeometry | None:
    """Geometry of the edited task vectors over the whole model, if there was an edit."""
    if isinstance(planned.edit, LinearEdit):
        if not planned.edit.matrices:
            return None
        geometry: Geometry | None = planned.edited_geometry(context.geometry(planned.vectors))
    else:
        shapes = {name: planned.vectors.info(name).shape for name in planned.vectors.names}
        blank = np.zeros((len(shapes), len(planned.vectors.tasks), len(planned.vectors.tasks)))
        geometry = planned.edited_geometry(Geometry(planned.vectors.tasks, planned.vectors.names, shapes, blank))
    return None if geometry is None else DescribedGeometry.model_validate(describe(geometry))


def coefficient_columns(planned: Plan) -> Coefficients | None:
    """The coefficient table of a linear run, ``table[t][l]``, with the names of tasks and tensors."""
    if planned.table is None:
        return None
    return Coefficients(
        tasks=list(planned.vectors.tasks), tensors=list(planned.vectors.names), table=planned.table.T.tolist()
    )
