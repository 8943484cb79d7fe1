"""Carrying out jobs on files, in the worker's child process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from merging.core import devices
from merging.core.errors import Cancelled
from merging.core.progress import Progress
from merging.hub.cache import cache_folder
from merging.runs.jobs.check import check_suite
from merging.runs.jobs.download import download
from merging.runs.jobs.orders import CheckJob, ConvertJob, DownloadJob, FileJob
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite
from merging.weights.convert import convert, targets


def carry_out_file_job(
    job: FileJob, workspace: Workspace, on_progress: Progress, cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """Do it, and give the result as JSON-ready values, with ``label``.

    Args:
        job: what to do.
        workspace: where fingerprints and accuracies are remembered.
        on_progress: called with steps done, steps in all, and what is going on.
        cancelled: asked between steps.

    Returns:
        The report of :func:`merging.runs.jobs.download.download` or :func:`merging.runs.jobs.check.check_suite`, or
        ``files``, a list of :class:`merging.weights.convert.Converted` as objects.

    Raises:
        MergingError: it can't be done.
        Cancelled: somebody asked for the work to stop.
    """

    def step(done: int, total: int, message: str) -> None:
        on_progress(done, total, message)
        if cancelled():
            raise Cancelled("cancelled; what was finished before is kept")

    match job:
        case DownloadJob():
            result = download(job.suite, job.tasks or None, job.data, on_progress, cancelled)
            for row in result["files"]:  # the digest of a large file is its fingerprint: it need not be read again
                if len(row["digest"]) == 64:
                    workspace.store.remember_fingerprint(cache_folder() / row["place"], row["digest"])
        case CheckJob():
            result = check_suite(load_suite(job.suite), step, workspace, devices.resolve(job.measured_on))
        case ConvertJob():
            result = {"files": _converted(job, step)}
    return {**result, "label": job.label}


def _converted(job: ConvertJob, step: Progress) -> list[dict[str, Any]]:
    rows, folder, output = [], Path(job.folder), Path(job.output)
    wanted = targets([folder / file for file in job.files], output)
    for done, (file, target) in enumerate(wanted.items()):
        step(done, len(wanted), f"reading {file.name}")
        row = convert(file, target).as_json()
        row["file"] = file.relative_to(folder).as_posix()
        row["output"] = target.relative_to(output).as_posix() if row["ok"] else None
        rows.append(row)
    return rows
