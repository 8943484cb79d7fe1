"""Cosine similarity of task vectors before and after an edit, as one JSON-ready report."""

from collections.abc import Sequence
from typing import Any

from merging.core import devices
from merging.core.progress import Progress, no_progress
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, disentangle
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite
from merging.weights.geometry import describe, measure


def similarity_report(
    suite: Suite,
    workspace: Workspace,
    tasks: Sequence[str],
    edit: str = "none",
    edit_params: dict[str, Any] | None = None,
    device: str = "auto",
    on_progress: Progress = no_progress,
) -> dict[str, Any]:
    """``tasks``, ``norms``, ``before``, ``after`` (the same without an edit) and, for AWD, ``awd``.

    Raises:
        MergingError: an unknown task, edit or parameter, or a broken checkpoint.
    """
    method = registry.find("edit", edit)
    params = method.parse(edit_params or {})
    where = devices.resolve(device)
    evaluator = workspace.evaluator(suite, where) if method.data(edit_params or {}).images else None
    context = Context(where, on_progress=on_progress, evaluator=evaluator)
    before = workspace.geometry(suite, tasks, Context(on_progress=on_progress))
    report: dict[str, Any] = {
        "suite": suite.name,
        "tasks": list(tasks),
        "norms": before.norms.tolist(),
        "before": describe(before),
        "after": describe(before),
    }
    if edit == "none":
        return report
    vectors = workspace.vectors(suite, tasks)
    if isinstance(params, AwdParams):
        found = disentangle(vectors, before, params, context)
        report["after"] = describe(found.after)
        report["awd"] = found.edit.report
        return report
    planned = method.plan(vectors, params, context)
    report["after"] = describe(measure(vectors.edited(planned), context))
    return report
