"""Pickled models among files that wait: converted where they are, and thrown away once that is done."""

from pathlib import Path

import streamlit as st

from merging.core.errors import MergingError, UnsafeCheckpoint
from merging.core.text import counted
from merging.runs.jobs.convert import Conversion, ConvertJob
from merging.suites.folder import look
from merging.suites.incoming.staging import Staging
from merging.weights.files import open_checkpoint
from merging.weights.files.folders import is_torch_file
from ui.look.figure import escape_markdown
from ui.runs.file_jobs import ask_for
from ui.runs.jobs import run_of, show_job
from ui.shell.url import run_again
from ui.suites import added


def offer_conversion(staging: Staging) -> None:
    """A button that converts the pickled models among the files; what could not be converted is said."""
    files = _pickled(staging.files)
    if not files:
        return
    job = ConvertJob(folder=str(staging.files), output=str(staging.converted), files=tuple(files))
    run = run_of(job)
    if run is None:
        st.button(
            f"Convert {counted(len(files), 'pickled model')}",
            icon=":material/transform:",
            on_click=ask_for,
            args=(job,),
            key="convert-incoming",
            help="Takes the tensors out of them, without running anything in them, and replaces them here",
        )
    result = show_job(run, Conversion, key="conversion-incoming")
    if result is None:
        return
    wrong = "\n".join(f"- {row.detail}" for row in result.files if not row.ok)
    done = {row.file: row.output for row in result.files if row.output is not None}
    if not done:
        st.error(escape_markdown(wrong), icon=":material/error:")
        return
    for file, output in done.items():
        staging.exchange(file, output)
    if wrong:
        added.refuse(wrong)
    run_again()


def _pickled(folder: Path) -> list[str]:
    """Weight files that can't be opened without running what is in them, and that nothing was made of so far."""
    found = look(folder)
    torchs = [path for path in (*found.weights, *found.heads.values()) if is_torch_file(path)]
    pickled = []
    for path in sorted(torchs):
        try:
            open_checkpoint(folder / path, part="all")
        except UnsafeCheckpoint:
            if not (folder / path.with_suffix(".safetensors")).exists():
                pickled.append(path.as_posix())
        except MergingError:
            continue
    return pickled
