"""Rows of runs as a worker leaves them: made up, without the time that it takes, or really carried out."""

from typing import Any

import numpy as np

from merging.core.errors import MergingError
from merging.evaluation.accuracy import Accuracy
from merging.runs import Run
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import Forgetting, MergeResult
from merging.runs.workspace import Workspace
from merging.suites import Suite
from tests.carrying import execute


def spec_of(suite: Suite, **changes: Any) -> MergeSpec:
    """Task Arithmetic of all tasks of a suite on the CPU, with changes."""
    return MergeSpec.build(
        **{"suite": str(suite.folder / "suite.yaml"), "tasks": suite.task_names, "device": "cpu", **changes}
    )


def result_of(suite: Suite, spec: MergeSpec, workspace: Workspace, level: float = 0.6) -> MergeResult:
    """A result with made-up numbers."""
    rng = np.random.default_rng(len(spec.label) + int(1000 * level))
    vectors = workspace.vectors(suite, spec.tasks)
    count, layers = len(spec.tasks), len(vectors.names)
    accuracy = {task: float(np.clip(level + rng.normal(0, 0.08), 0, 1)) for task in spec.tasks}
    table = np.full((count, layers), 0.3)
    merge: dict[str, Any] = {}
    if spec.merge == "adamerging":
        table = np.clip(0.3 + 0.1 * rng.normal(size=(count, layers)).cumsum(axis=1) / 3, 0, 1)
        steps = 40
        merge = {
            "entropy": (1.5 * np.exp(-np.arange(steps)[:, None] / 15) + rng.uniform(0.1, 0.4, (steps, count))).tolist(),
            "trajectory": np.linspace(np.full(count, 0.3), table.mean(axis=1), steps + 1).tolist(),
            "snapshots": [table.T.tolist()],
            "snapshot_every": 4,
            "adapted_on": {"split": "test", "images_seen": steps * 32 * count},
        }
    elif spec.merge_params.get("scaling") == "auto":
        scalings = [round(0.05 * step, 2) for step in range(21)]
        curve = [level - (value - 0.4) ** 2 for value in scalings]
        search = {"scalings": scalings, "average_accuracy": curve, "split": "val", "images": 24}
        merge = {"scaling": 0.4, "scaling_search": search}
    elif spec.merge == "tall_masks":
        storage = {"base": 8e6, "vector": 8e6, "masks": 2e6, "masks_compressed": 1e6, "localised": 18e6, "models": 40e6}
        merge = {"thresholds": [0.4] * count, "active": [0.25] * count, "storage": storage}
    forgetting = None
    if spec.forgotten:
        counts = dict.fromkeys(suite.task_names, 12)
        before = Accuracy({task: 0.5 if task in spec.forgotten else 0.4 for task in counts}, counts, spec.split)
        after = Accuracy({**dict.fromkeys(counts, 0.38), **accuracy}, counts, spec.split)
        weights = {task: -0.5 if task in spec.forgotten else 0.3 for task in spec.tasks}
        forgetting = Forgetting.of(before, after, weights).model_dump()
    linear = spec.edit != "ties" and spec.merge != "tall_masks"
    after = None
    if spec.edit != "none":
        cosine = 0.02 * np.ones((count, count)) + 0.98 * np.eye(count)
        after = {"norms": [1.5] * count, "cosine": cosine.tolist(), "mean_abs": 0.02}
    columns = {"tasks": list(spec.tasks), "tensors": list(vectors.names), "table": table.tolist()}
    values = {
        "accuracy": accuracy,
        "average": sum(accuracy.values()) / count,
        "split": spec.split,
        "images": 12 * count,
        "counts": dict.fromkeys(spec.tasks, 12),
        "after": after,
        "label": spec.label,
        "coefficients": columns if linear else None,
        "edit": {},
        "merge": merge,
        "forgetting": forgetting,
        "seconds": {"preparing": 0.05, "adapting": 1.5, "merging": 0.25, "evaluating": 0.5, "total": 2.3},
        "peak_bytes": 400 * 2**20,
        "device": "cpu",
        "fingerprints": {
            str(suite.base): vectors.base.fingerprint,
            **{task: c.fingerprint for task, c in zip(vectors.tasks, vectors.checkpoints, strict=True)},
        },
        "output": None,
    }
    return MergeResult.model_validate(values)


def finished(workspace: Workspace, suite: Suite, level: float = 0.6, **changes: Any) -> Run:
    """A run that is done."""
    spec = spec_of(suite, **changes)
    run = workspace.submit(spec)
    workspace.store.claim(run.id)
    workspace.store.finish(run.id, result_of(suite, spec, workspace, level))
    return workspace.store.get(run.id)


def carry_out_queued(workspace: Workspace) -> None:
    """Do what is queued, here and now, as the worker does."""
    for run in workspace.store.queued():
        assert workspace.store.claim(run.id)
        kept = workspace.store.folder(run.id) / KEPT_WEIGHTS
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            workspace.store.finish(run.id, execute(run.job, workspace, keep=kept, fingerprint=run.fingerprint))
        except MergingError as error:
            workspace.store.stop(run.id, "failed", str(error))


def ended(workspace: Workspace, suite: Suite, state: Any, error: str, log: str = "", **changes: Any) -> Run:
    """A run that failed, was cancelled or lost."""
    run = workspace.submit(spec_of(suite, **changes))
    workspace.store.claim(run.id)
    workspace.store.stop(run.id, state, error, log)
    return workspace.store.get(run.id)
