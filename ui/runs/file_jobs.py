"""Jobs on files on a page: asking for one, and the conversion of pickled models."""

from pathlib import Path

import pandas as pd
import streamlit as st

from merging.core.places import suite_places
from merging.runs.jobs import Job
from merging.runs.jobs.convert import Conversion, ConvertedFile, ConvertJob
from merging.suites.folder import look
from merging.weights.files.folders import is_torch_file
from ui.look.figure import escape_markdown, show_table
from ui.runs.jobs import run_of, show_job
from ui.runs.panel import ensure_worker
from ui.shell import state


def ask_for(job: Job) -> None:
    """Callback: queue a job for the worker."""
    state.workspace().submit(job)
    ensure_worker()


def conversion_of(folder: Path) -> ConvertJob | None:
    """The job that converts the ``.pt`` files of a folder; None if it holds none.

    The results lie beside the folder; in it where it is one of those that are searched for suites, as what lies beside
    is no business of the dashboard.
    """
    found = look(folder)
    files = [path for path in (*found.weights, *found.heads.values()) if is_torch_file(path)]
    if not files:
        return None
    inside = folder in suite_places()
    output = folder / "converted" if inside else folder.with_name(f"{folder.name}-converted")
    return ConvertJob(folder=str(folder), output=str(output), files=tuple(path.as_posix() for path in sorted(files)))


def offer_conversion(folder: Path) -> None:
    """A button that converts the ``.pt`` files of a folder, and what each of them held."""
    job = conversion_of(folder)
    if job is None:
        return
    run = run_of(job)
    if run is None:
        count = f"{len(job.files)} .pt file" + ("s" if len(job.files) != 1 else "")
        st.button(
            f"Convert {count}",
            icon=":material/transform:",
            on_click=ask_for,
            args=(job,),
            key=f"convert-{folder}",
            help="Takes the tensors out of whole pickled models, without running anything in them, and writes them as "
            f".safetensors into a folder of their own, {Path(job.output).name}",
        )
    result = show_job(run, Conversion, key=f"conversion-{folder}")
    if result is not None:
        _show_conversion(result.files, Path(job.output))


def _show_conversion(rows: list[ConvertedFile], output: Path) -> None:
    good = sum(row.ok for row in rows)
    if good:
        st.success(
            escape_markdown(f"{good} of {len(rows)} files are converted; choose the folder {output.name} to go on."),
            icon=":material/check:",
        )
    broken = [row for row in rows if not row.ok]
    if broken:
        lines = "\n".join(f"- {escape_markdown(row.detail)}" for row in broken)
        st.error(lines, icon=":material/error:")
    show_table(conversion_table(rows), key=f"converted-{output}", file="conversion", placeholder="")


def conversion_table(rows: list[ConvertedFile]) -> pd.DataFrame:
    """What each file held and what was written."""
    return pd.DataFrame(
        [
            {
                "File": row.file,
                "Written": row.output or "",
                "Kind": row.kind or "error",
                "Held": row.held,
                "Detail": row.detail,
                "Named, not imported": ", ".join(row.classes),
            }
            for row in rows
        ]
    )
