"""Handing out a run: weights, recipe and description as one zip file, or as a folder in the workspace."""

import tempfile
import zipfile
from pathlib import Path

from merging.runs import Run
from merging.runs.export.export import export_run
from merging.runs.workspace import Workspace

MAX_DOWNLOAD = 400 * 2**20  # a download passes through the server's memory; larger weights are written to a folder


def zipped(run: Run, workspace: Workspace) -> bytes:
    """The exported files as a zip file; stored, since weights hardly compress.

    Raises:
        MergingError: the run is not done, its weights are gone, or the checkpoints have changed.
    """
    with tempfile.TemporaryDirectory(dir=workspace.home) as folder:
        files = export_run(run, workspace, Path(folder) / "files")
        archive = Path(folder) / "run.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
            for file in files:
                target.write(file, f"{run.id}/{file.name}")
        return archive.read_bytes()


def to_folder(run: Run, workspace: Workspace) -> str:
    """Write the files under ``exports`` in the workspace; gives the folder as it is called there.

    Raises:
        MergingError: the run is not done, its weights are gone, or the checkpoints have changed.
    """
    export_run(run, workspace, workspace.home / "exports" / run.id)
    return f"{workspace.home.name}/exports/{run.id}"
