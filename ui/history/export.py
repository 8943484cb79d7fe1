"""Handing out a run: weights in a form, recipe and description as one zip file, or as a folder in the workspace."""

import zipfile

import streamlit as st

from merging.core.errors import MergingError
from merging.core.files import scratch_folder
from merging.runs import Run
from merging.runs.export.export import export_run, require_form
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from merging.weights.files.writing import PLAIN, Form, WrittenDtype, WrittenLayout
from ui.look.figure import escape_markdown
from ui.shell import session, state
from ui.shell.rights import Act

_LAYOUTS: dict[WrittenLayout, str] = {"open_clip": "open_clip", "huggingface": "Hugging Face"}
_DTYPES: dict[WrittenDtype, str] = {
    "as-base": "As the base",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
_SMALLEST_SHARD = 100  # MB
_TOO_LARGE = "These weights are too large for a download; the owner of this dashboard can write them to a folder"
MAX_DOWNLOAD = 400 * 2**20  # a download passes through the server's memory; larger weights are written to a folder


def zipped(run: Run, workspace: Workspace, form: Form = PLAIN) -> bytes:
    """The exported files as a zip file, its weights in a form; stored, since weights hardly compress.

    Raises:
        MergingError: the run is not done, its weights are gone, or the checkpoints have changed.
    """
    with scratch_folder(workspace.home) as folder:
        files = export_run(run, workspace, folder / "files", form)
        archive = folder / "run.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
            for file in files:
                target.write(file, f"{run.id}/{file.name}")
        return archive.read_bytes()


def to_folder(run: Run, workspace: Workspace, form: Form = PLAIN) -> str:
    """Write the files under ``exports`` in the workspace, a folder for each form; gives it as it is called there.

    Raises:
        MergingError: the run is not done, its weights are gone, or the checkpoints have changed.
    """
    session.require(Act.TYPE_PATHS)
    name = run.id
    if not form.plain:
        name += f"-{form.layout}-{form.dtype}" + (f"-{form.shard_bytes}" if form.shard_bytes else "")
    export_run(run, workspace, workspace.home / "exports" / name, form)
    return f"{workspace.home.name}/exports/{name}"


def offer(run: Run, to_disk: bool) -> None:
    """Choose how the weights of a run are written, and hand them out.

    Args:
        run: a finished one.
        to_disk: into a folder of the workspace, as they are too large to be sent to the browser.
    """
    session.require(Act.EXPORT, run)
    if to_disk and not session.may(Act.TYPE_PATHS):
        st.button("Export", icon=":material/download:", disabled=True, help=_TOO_LARGE, key=f"export-{run.id}")
        return
    with st.popover("Export", icon=":material/download:", key=f"export-{run.id}"):
        form = _chosen_form(run)
        if form is not None and to_disk:
            _offer_folder(run, form)
        elif form is not None:
            st.download_button(
                "Download",
                lambda: zipped(run, state.workspace(), form),
                f"{run.id}.zip",
                "application/zip",
                type="primary",
                on_click="ignore",
                icon=":material/download:",
                key=f"download-{run.id}",
                help="Merged weights, recipe and a description, zipped",
            )


def _chosen_form(run: Run) -> Form | None:
    """How the weights are to be written; None, with the reason shown, if these can't be written so."""
    if run.spec.pair.localised:
        return PLAIN  # models for all tasks in one file, which has one form only
    layout = st.selectbox(
        "Layout",
        list(_LAYOUTS),
        key=f"layout-{run.id}",
        format_func=_LAYOUTS.__getitem__,
        help="Names and shapes of the weights: as open_clip's model.visual loads them, or transformers",
    )
    dtype = st.selectbox(
        "Type",
        list(_DTYPES),
        key=f"dtype-{run.id}",
        format_func=_DTYPES.__getitem__,
        help="What the weights are rounded to",
    )
    largest = st.number_input(
        "Largest file in MB",
        min_value=_SMALLEST_SHARD,
        value=None,
        step=_SMALLEST_SHARD,
        key=f"shards-{run.id}",
        placeholder="One file",
        help="Larger weights go into several files and an index",
    )
    form = Form(layout, dtype, None if largest is None else largest * 10**6)
    try:
        require_form(run.spec, load_suite(run.spec.suite), form)
    except MergingError as error:
        st.warning(escape_markdown(str(error)), icon=":material/warning:")
        return None
    return form


def _offer_folder(run: Run, form: Form) -> None:
    if st.button(
        "Write to a folder",
        type="primary",
        icon=":material/folder:",
        key=f"to-disk-{run.id}",
        help="Merged weights, recipe and a description, which are too large to be sent to the browser",
    ):
        with st.spinner("Writing the weights …"):
            folder = to_folder(run, state.workspace(), form)
        st.toast(f"Written to {escape_markdown(folder)}", icon=":material/check:")
