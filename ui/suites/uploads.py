"""What browsers send: Streamlit holds it in memory until it is copied; within a bound, and only from who is asked."""

from collections.abc import Sequence
from typing import Any

import psutil
import streamlit as st
from starlette.exceptions import HTTPException
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec

_ROUND, _TAKEN, _GONE = "_drop_round", "_drop_taken", "_drop_gone"  # session state


_SMALL = 5 * 2**20  # bytes of a session that is not asked for models: as much as other pages take


class _Bounded:
    """Takes a file in if memory has room: all of them together get half of it, and few bytes who was not asked here."""

    def __init__(self, manager: MemoryUploadedFileManager) -> None:
        self._manager, self._add = manager, manager.add_file
        self.asked: set[str] = set()

    def __call__(self, session_id: str, file: UploadedFileRec) -> None:
        theirs = sum(len(one.data) for one in [*self._manager.file_storage.get(session_id, {}).values()])
        if session_id not in self.asked and theirs + len(file.data) > _SMALL:
            raise HTTPException(413, "nobody asked this session for files of this size")
        held = sum(len(one.data) for files in [*self._manager.file_storage.values()] for one in [*files.values()])
        if held + len(file.data) > (psutil.virtual_memory().available + held + len(file.data)) // 2:
            raise HTTPException(413, "no memory left for this file; send it once others are taken in")
        self._add(session_id, file)


def bound() -> None:
    """Let no session keep large files in memory that was not asked for them, and all together no more than half of it.

    To be called on every page: any session may send files, whether or not a page asks for some.
    """
    manager = _manager()
    if manager is not None and not isinstance(manager.add_file, _Bounded):
        setattr(manager, "add_file", _Bounded(manager))  # noqa: B010  mypy takes it for a method


def ask(label: str, *, folder: bool, key: str, help: str) -> list[UploadedFile]:
    """Draw a place to drop files on; what was dropped since, once all of it is here.

    Args:
        label: of it.
        folder: whether whole folders are dropped.
        key: unique on the page.
        help: shown beside the label.
    """
    manager, context = _manager(), get_script_run_ctx()
    if context is not None and manager is not None and isinstance(manager.add_file, _Bounded):
        manager.add_file.asked.add(context.session_id)
    many: Any = "directory" if folder else True
    key = f"{key}-{st.session_state.get(_ROUND, 0)}"
    found = st.file_uploader(
        label, accept_multiple_files=many, key=key, help=help, on_change=_compare, args=(key,), width="stretch"
    )
    st.session_state[f"_shown-{key}"] = _ids(key)
    taken = st.session_state.get(_TAKEN, frozenset())
    return [file for file in found or () if file.file_id not in taken]


def forget(files: Sequence[UploadedFile]) -> None:
    """Free the memory of files that were taken in; their names stay on the page, beside those of what did not come."""
    manager, context = _manager(), get_script_run_ctx()
    if manager is not None and context is not None:
        for file in files:
            manager.remove_file(context.session_id, file.file_id)
    st.session_state[_TAKEN] = st.session_state.get(_TAKEN, frozenset()) | {file.file_id for file in files}


def crossed_out() -> set[str]:
    """Ids of the files whose names somebody took off the page since this was last asked."""
    gone: set[str] = st.session_state.pop(_GONE, set())
    return gone


def _compare(key: str) -> None:
    """Callback: note which names are not there any more that were drawn before."""
    gone = st.session_state.get(f"_shown-{key}", set()) - _ids(key)
    st.session_state[_GONE] = st.session_state.get(_GONE, set()) | gone


def _ids(key: str) -> set[str]:
    """Those of all names on the page, of files that were freed too."""
    return {file.file_id for file in st.session_state.get(key) or ()}


def clear() -> None:
    """Let all places be empty again."""
    st.session_state[_ROUND] = int(st.session_state.get(_ROUND, 0)) + 1


def _manager() -> MemoryUploadedFileManager | None:
    context = get_script_run_ctx()
    found = None if context is None else context.uploaded_file_mgr
    return found if isinstance(found, MemoryUploadedFileManager) else None
