"""A folder of checkpoints below those that are searched becomes a suite where it lies."""

from pathlib import Path

import streamlit as st

from merging.core.errors import MergingError
from merging.core.places import suite_places
from merging.suites.folder import checkpoint_folders, look
from merging.suites.initialise import init_suite
from ui.runs.file_jobs import offer_conversion
from ui.shell import state
from ui.suites import added
from ui.suites.permission import require_permission
from ui.suites.preview import preview
from ui.suites.questions import Wishes, ask, understood

_BY_NAME = "found by its name"


def folders() -> dict[str, Path]:
    """Folders with checkpoints that belong to no suite yet, by what they are called on screen."""
    roots, used = suite_places(), state.files_of_suites()
    found = [
        (root, folder)
        for root in roots
        for folder in checkpoint_folders(root)
        if not any(file.is_relative_to(folder.resolve()) for file in used)
    ]
    return {(Path(root.name) / folder.relative_to(root)).as_posix(): folder for root, folder in found}


def add() -> None:
    """Choose a folder and write its suite.yaml."""
    if not suite_places():
        st.info(
            "The dashboard looks for folders below those named in the environment variable `MERGING_SUITES`, and it is "
            "not set. Start it with `MERGING_SUITES=/folder/with/checkpoints make app`.",
            icon=":material/folder_off:",
        )
        return
    choices = folders()
    if not choices:
        st.info(
            "There is no folder with checkpoints that has no suite.yaml yet. Put one below a folder of "
            "MERGING_SUITES, at most two levels down.",
            icon=":material/folder_off:",
        )
        return
    left, right = st.columns(2)
    chosen = choices[left.selectbox("Folder", list(choices), key="folder", help="Checkpoints without a suite.yaml")]
    weights = [path.as_posix() for path in look(chosen).weights]
    base = right.selectbox("Base model", [_BY_NAME, *weights], key="base", help="The one the others were tuned from")
    given = None if base == _BY_NAME else Path(base)
    wishes = ask(chosen, given, str(chosen))
    preview(*understood(chosen, wishes), chosen, key="folder-preview")
    st.button(
        "Write suite.yaml",
        type="primary",
        icon=":material/note_add:",
        on_click=_write,
        args=(chosen, wishes),
        help="Chooses the new suite too",
    )
    offer_conversion(chosen)


def _write(folder: Path, wishes: Wishes) -> None:
    """Callback: write a folder's suite.yaml and choose that suite, or keep the reason why not."""
    try:
        require_permission()
        made = init_suite(
            folder,
            wishes.base,
            datasets=wishes.datasets,
            checkpoints=wishes.checkpoints,
            take=wishes.take,
            answers=wishes.answers,
        )
    except MergingError as error:
        added.refuse(str(error))
        return
    added.choose(folder / "suite.yaml", made)
