"""Deleting runs on the page Runs, having them back or removing them for good, and what all of them take on disk."""

from collections.abc import Sequence
from contextlib import suppress

import streamlit as st

from merging.core.errors import RunError
from merging.core.guests import is_guest, read_limits
from merging.core.text import counted
from merging.runs import Run
from merging.runs.deleted import DeletedRun, Usage, deleted_runs, remove_for_good, restore, usage
from merging.runs.quotas import require_room
from ui.look.figure import escape_markdown
from ui.runs.text import when
from ui.shell import session, state
from ui.shell.rights import Act

_UNDO, _SAID, _BACK = "runs-undo", "runs-restored", "runs-back"  # session state
_SHOWN = 20


def offer_delete(run: Run, key: str) -> None:
    """Ask once, then delete; ``key`` is where the ids of chosen runs are."""
    st.write("For a day it can be had back, below the table; then it is gone with its files.")
    if st.button("Delete it", type="primary", icon=":material/delete:", key=f"delete-now-{run.id}"):
        state.workspace().store.delete(run.id)
        st.session_state[key] = [one for one in st.session_state[key] if one != run.id]
        st.session_state[_UNDO] = (run.id, run.name or run.label)
        st.query_params.pop("run", None)
        st.rerun()


def offer_undo() -> None:
    """Below the title: have back what was deleted last, as long as the page is open."""
    undo = st.session_state.get(_UNDO)
    said = st.session_state.pop(_SAID, None)
    if said:
        st.warning(escape_markdown(said), icon=":material/error:")
    back = st.session_state.pop(_BACK, None)
    if back:
        st.markdown(f":small[:material/check: {back}]")  # a line, as Streamlit's toasts have no name for screen readers
    if undo is None:
        return
    run_id, name = undo
    with st.container(horizontal=True, vertical_alignment="center", key="undo"):
        st.caption(f"{escape_markdown(name)} `{run_id}` was deleted.", width="content")
        st.button("Undo", icon=":material/undo:", key="undo-delete", on_click=_restore, args=(run_id,))


def _restore(run_id: str) -> None:
    undo = st.session_state.get(_UNDO)
    if undo is not None and undo[0] == run_id:
        del st.session_state[_UNDO]
    store, me = state.workspace().store, session.person()
    gone = next((one for one in deleted_runs(store) if one.id == run_id), None)
    if gone is not None:  # else it was removed for good meanwhile, which `restore` says
        session.require(Act.DELETE, gone.person)
    try:
        if gone is not None and gone.state == "queued" and is_guest(me):  # it waits again
            require_room(store, read_limits(store.home), me)
        restore(store, run_id)
    except RunError as error:
        st.session_state[_SAID] = f"{str(error)[:1].upper()}{str(error)[1:]}."
    else:
        name = f"{escape_markdown(gone.name or gone.label)} " if gone is not None else ""
        st.session_state[_BACK] = f"{name}`{run_id}` is back."


def deleted_and_disk() -> None:
    """What was deleted within a day, each with a way back, and what runs take on disk."""
    store = state.workspace().store
    gone = [one for one in deleted_runs(store) if session.may(Act.DELETE, one.person)]
    title = f"Deleted within a day ({len(gone)}), and disk space" if gone else "Disk space"
    with st.expander(title, icon=":material/restore_from_trash:" if gone else ":material/hard_drive:"):
        for one in gone[:_SHOWN]:
            _row(one)
        if len(gone) > _SHOWN:
            st.caption(f"{len(gone) - _SHOWN} more; `merging runs restore` lists all of them.")
        if len(gone) > 1:
            _offer_removal(f"Remove all {len(gone)}", [one.id for one in gone], key="remove-all")
        st.caption(_in_words(_usage(str(store.home), tuple(one.id for one in gone))))
        if store.journal.note:
            st.caption(escape_markdown(store.journal.note))


def _row(one: DeletedRun) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        name = escape_markdown(one.name or one.label)
        words = f"{name} `{one.id}`, {one.state}, deleted {when(one.at)}, gone {when(one.until)}"
        st.caption(words, width="content")
        st.space("stretch")
        st.button("Restore", key=f"restore-{one.id}", on_click=_restore, args=(one.id,))
        _offer_removal("Remove", [one.id], key=f"remove-{one.id}")


def _offer_removal(label: str, run_ids: Sequence[str], key: str) -> None:
    """Ask once, then remove deleted runs before their day is over; for whoever may."""
    if not session.may(Act.REMOVE):
        return
    with st.popover(label, icon=":material/delete_forever:", key=f"{key}-ask"):
        st.write(f"{counted(len(run_ids), 'run')} with all files, for good: nothing gives this back.")
        words = "Remove it for good" if len(run_ids) == 1 else "Remove them for good"
        st.button(words, type="primary", key=key, on_click=remove, args=(tuple(run_ids),))


def remove(run_ids: Sequence[str]) -> None:
    """Callback: remove deleted runs for good; those that somebody restored or removed meanwhile are left.

    Raises:
        NotAllowed: whoever asks may not.
    """
    session.require(Act.REMOVE)
    for run_id in run_ids:
        with suppress(RunError):
            remove_for_good(state.workspace().store, run_id)
        if st.session_state.get(_UNDO, ("",))[0] == run_id:
            del st.session_state[_UNDO]


@st.cache_data(ttl=300, max_entries=4, show_spinner=False)
def _usage(home: str, gone: tuple[str, ...]) -> Usage:
    """As :func:`merging.runs.deleted.usage`, looked at again every five minutes and when something is deleted."""
    return usage(state.workspace().store)


def _in_words(found: Usage) -> str:
    """What is on disk, as sentences.

    >>> _in_words(Usage(4_000_000, 1_500_000_000, 0, 2_000_000))
    'On disk: 1,500 MB of files of runs, 4 MB for the table, 2 MB of cache, which can be computed again.'
    """
    parts = [f"{found.runs / 1e6:,.0f} MB of files of runs"]
    if found.deleted:
        parts.append(f"{found.deleted / 1e6:,.0f} MB of deleted ones, which are freed a day after, or by removing them")
    parts += [f"{found.table / 1e6:,.0f} MB for the table", f"{found.cache / 1e6:,.0f} MB of cache"]
    return f"On disk: {', '.join(parts)}, which can be computed again."
