"""The report on a suite's files as a table."""

from typing import Any

import pandas as pd

from merging.core.text import counted
from merging.runs.jobs.check import CheckedClass, CheckedFile, CheckReport

_MIB = 2**20


def report_table(report: CheckReport) -> pd.DataFrame:
    """One row a file: errors first, then warnings, else in the order of the report."""
    order = ("error", "warning", "ok")
    return pd.DataFrame([_row(row) for row in sorted(report.files, key=lambda row: order.index(row.status))])


def class_folders_table(report: CheckReport) -> pd.DataFrame:
    """One row a folder of images, with the class that it holds; empty where no task has such folders."""
    return pd.DataFrame(
        [{"Task": one.task, "Folder": one.folder, "Class": one.name, **_by_split(one)} for one in report.folders]
    )


def _by_split(one: CheckedClass) -> dict[str, int | None]:
    return {"Validation": one.images.get("val"), "Test": one.images.get("test")}


def summary(report: CheckReport) -> str:
    """One sentence on the whole.

    >>> summary(CheckReport(files=[], problems=0, warnings=1))
    '0 files and settings looked at: no errors, 1 warning.'
    """
    parts = [
        f"{count or 'no'} {noun}" if count == 1 else f"{count or 'no'} {noun}s"
        for count, noun in ((report.problems, "error"), (report.warnings, "warning"))
    ]
    return f"{counted(len(report.files), 'file')} and settings looked at: {', '.join(parts)}."


def _row(row: CheckedFile) -> dict[str, Any]:
    weights = row.weights
    relative = weights.relative_difference if weights else None
    found = f"{weights.layout}, {weights.dtype}" if weights else row.detail
    return {
        "Status": row.status,
        "File": row.file,
        "Task": row.task or "",
        "Detail": "; ".join(row.warnings) if row.warning else found,
        "MiB": weights.bytes / _MIB if weights else None,
        "Norm of τ": weights.difference if weights else None,
        "% of base": None if relative is None else 100 * relative,
        "SHA-256": weights.fingerprint[:12] if weights else "",
    }
