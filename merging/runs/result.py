"""What a finished run says of accuracy, and of what was forgotten."""

from collections.abc import Mapping
from typing import Any

from merging.evaluation.evaluator import Accuracy
from merging.methods.forgetting import GROUPS, grouped


def forgetting_report(before: Accuracy, after: Accuracy, weights: Mapping[str, float]) -> dict[str, Any]:
    """Accuracy of the base and of the merged model on the tasks that are forgotten, added and kept.

    Args:
        before: zero-shot accuracy on all of them.
        after: the merged model's.
        weights: merged task → the coefficient of its vector.

    Returns:
        ``split``; ``weights``; ``forgotten``, ``added`` and ``kept``: task → ``before``, ``after`` (0 … 1) and
        ``images``; ``means``: the same three → ``before`` and ``after``, None where there is no such task;
        ``remaining``, see :func:`remaining`.
    """
    groups = grouped(tuple(after.per_task), weights)
    rows: dict[str, Any] = {
        group: {
            task: {"before": before.per_task[task], "after": after.per_task[task], "images": after.counts[task]}
            for task in groups.get(group, ())
        }
        for group in GROUPS
    }
    means = {
        group: {"before": before.mean(groups[group]), "after": after.mean(groups[group])} if group in groups else None
        for group in GROUPS
    }
    return {"split": after.split, "weights": dict(weights), **rows, "means": means, "remaining": remaining(rows)}


def remaining(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a model that forgets is still good for: its mean over the tasks that are kept or added, each counting once.

    A mean with forgotten tasks in it would be the better the less was forgotten.

    Args:
        report: as :func:`forgetting_report` gives it.

    Returns:
        ``before`` and ``after``, 0 … 1, and ``tasks``, how many; None if all tasks are to be forgotten.
    """
    rows = [row for group in GROUPS if group != "forgotten" for row in report[group].values()]
    if not rows:
        return None
    return {"tasks": len(rows), **{key: sum(row[key] for row in rows) / len(rows) for key in ("before", "after")}}


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """Task → accuracy of a finished run, 0 … 1: of the tasks merged and, of a run that forgets, of the bystanders.

    Args:
        result: as :func:`merging.runs.jobs.merge.execute` gives it for a merge that was evaluated.
    """
    kept = (result.get("forgetting") or {}).get("kept", {})
    return {**result["accuracy"], **{task: row["after"] for task, row in kept.items()}}


def average_of(result: Mapping[str, Any]) -> float | None:
    """What to look at first of a finished run: its mean accuracy, 0 … 1, without tasks to be forgotten.

    None where nothing was measured, or nothing but tasks to be forgotten.
    """
    if not result.get("forgetting"):
        average: float | None = result.get("average")
        return average
    rest = remaining(result["forgetting"])
    return None if rest is None else float(rest["after"])
