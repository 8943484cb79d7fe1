"""Jobs on files on a page: asking for one, how far it is, and the conversion of pickled models."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from merging.runs import Run
from merging.runs.jobs.orders import ConvertJob, FileJob
from merging.suites.folder import look
from merging.weights.files.reading import TORCH_SUFFIXES
from ui.look.figure import escape_markdown, show_table
from ui.runs.panel import ensure_worker, run_panel
from ui.shell import state


def find_job(job: FileJob, version: str = "") -> Run | None:
    """The run that does this, or did, or ended badly; None if nobody has asked for it."""
    return state.workspace().store.find(job.fingerprint(version))


def ask_for(job: FileJob, version: str = "") -> None:
    """Callback: queue a job for the worker."""
    state.workspace().submit_file_job(job, version)
    ensure_worker()


def show_job(run: Run | None, *, key: str) -> dict[str, Any] | None:
    """How far a job is, if it is not done; its result if it is."""
    if run is None:
        return None
    if run.state != "done":
        run_panel([run], key=key)
        return None
    return run.result


def conversion_of(folder: Path) -> tuple[ConvertJob, str] | None:
    """The job that converts the ``.pt`` files of a folder, and their version; None if it holds none.

    The results lie beside the folder; in it where it is one of those that are searched for suites, as what lies beside
    is no business of the dashboard.
    """
    found = look(folder)
    files = [path for path in (*found.weights, *found.heads.values()) if path.suffix in TORCH_SUFFIXES]
    if not files:
        return None
    inside = folder in state.suite_roots()
    output = folder / "converted" if inside else folder.with_name(f"{folder.name}-converted")
    states = [(folder / path).stat() for path in files]
    version = repr([(status.st_size, status.st_mtime_ns) for status in states])
    job = ConvertJob(folder=str(folder), output=str(output), files=tuple(path.as_posix() for path in sorted(files)))
    return job, version


def offer_conversion(folder: Path) -> None:
    """A button that converts the ``.pt`` files of a folder, and what each of them held."""
    wanted = conversion_of(folder)
    if wanted is None:
        return
    job, version = wanted
    run = find_job(job, version)
    if run is None:
        count = f"{len(job.files)} .pt file" + ("s" if len(job.files) != 1 else "")
        st.button(
            f"Convert {count}", icon=":material/transform:", on_click=ask_for, args=(job, version),
            key=f"convert-{folder}",
            help="Takes the tensors out of whole pickled models, without running anything in them, and writes them as "
            f".safetensors into a folder of their own, {Path(job.output).name}",
        )  # fmt: skip
    result = show_job(run, key=f"conversion-{folder}")
    if result is not None:
        _show_conversion(result["files"], Path(job.output))


def _show_conversion(rows: list[dict[str, Any]], output: Path) -> None:
    good = sum(row["ok"] for row in rows)
    if good:
        st.success(
            escape_markdown(f"{good} of {len(rows)} files are converted; choose the folder {output.name} to go on."),
            icon=":material/check:",
        )
    broken = [row for row in rows if not row["ok"]]
    if broken:
        lines = "\n".join(f"- {escape_markdown(row['detail'])}" for row in broken)
        st.error(lines, icon=":material/error:")
    show_table(conversion_table(rows), key=f"converted-{output}", file="conversion", placeholder="")


def conversion_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """What each file held and what was written."""
    return pd.DataFrame(
        [
            {
                "File": row["file"], "Written": row["output"] or "", "Kind": row["kind"] or "error",
                "Held": row["held"], "Detail": row["detail"], "Named, not imported": ", ".join(row["classes"]),
            }
            for row in rows
        ]
    )  # fmt: skip
