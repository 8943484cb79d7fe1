"""The report on a suite's files as a table."""

from typing import Any

import pandas as pd

_MIB = 2**20


def report_table(report: dict[str, Any]) -> pd.DataFrame:
    """One row a file: errors first, then warnings, else in the order of the report."""
    order = ("error", "warning", "ok")
    return pd.DataFrame([_row(row) for row in sorted(report["files"], key=lambda row: order.index(status_of(row)))])


def status_of(row: dict[str, Any]) -> str:
    """``error``, ``warning`` or ``ok``."""
    return "ok" if row["ok"] and not row["warning"] else "warning" if row["ok"] else "error"


def summary(report: dict[str, Any]) -> str:
    """One sentence on the whole.

    >>> summary({"files": [{}, {}], "problems": 0, "warnings": 1})
    '2 files and settings looked at: no errors, 1 warning.'
    """
    parts = [
        f"{count or 'no'} {noun}" if count == 1 else f"{count or 'no'} {noun}s"
        for count, noun in ((report["problems"], "error"), (report["warnings"], "warning"))
    ]
    return f"{len(report['files'])} files and settings looked at: {', '.join(parts)}."


def _row(row: dict[str, Any]) -> dict[str, Any]:
    weights = row["weights"] or {}
    relative = weights.get("relative_difference")
    return {
        "Status": status_of(row), "File": row["file"], "Task": row["task"] or "",
        "Detail": "; ".join(row["warnings"]) if row["warning"] else _detail(row, weights),
        "MiB": weights["bytes"] / _MIB if weights else None,
        "Norm of τ": weights.get("difference"), "% of base": None if relative is None else 100 * relative,
        "SHA-256": weights.get("fingerprint", "")[:12],
    }  # fmt: skip


def _detail(row: dict[str, Any], weights: dict[str, Any]) -> str:
    """Layout and type of weights; what was found about anything else."""
    return f"{weights['layout']}, {weights['dtype']}" if weights else str(row["detail"])
