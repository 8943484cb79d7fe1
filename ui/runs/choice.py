"""Which runs a page shows: chosen by the URL, or in a widget that streamlit can't bind to it by itself."""

from collections.abc import Sequence

import streamlit as st

from merging.core.errors import RunError
from merging.runs.listing import unreadable
from ui.shell import session
from ui.shell.rights import Act
from ui.shell.state import workspace
from ui.shell.url import warn

HIDDEN_REASON = "it was made by another version of this program"  # in place of one that may name folders
RUN_PARAMETERS = ("run", "runs")  # what names runs in the URL of Runs and of Accuracy; each page takes both


def warn_of_runs(missing: Sequence[str], instead: str = "") -> None:
    """Say why runs named by the URL are not shown.

    Args:
        missing: their ids; without any nothing is said.
        instead: a sentence on what is shown instead.
    """
    reasons = {run_id: _why_not(run_id) for run_id in missing}
    gone = [run_id for run_id, reason in reasons.items() if not reason]
    sentences = [f"There is no run {', '.join(gone)} here; it may have been deleted."] if gone else []
    sentences += filter(None, reasons.values())
    if sentences:
        warn(" ".join([*sentences, instead]).strip())


def _why_not(run_id: str) -> str:
    """Why a page can't show a run that is there; empty if there is no such run."""
    store = workspace().store
    hidden = not session.may(Act.SEE_FOLDERS)
    broken = {run.id: HIDDEN_REASON if hidden else run.reason for run in unreadable(store)}
    if run_id in broken:
        return f"Run {run_id} can't be read: {broken[run_id].rstrip('.')}."
    try:
        run = store.get(run_id)
        suite = run.spec.suite_name
    except RunError:
        return ""
    if run.id != run_id:  # the store takes beginnings of ids, links do not
        return ""
    if run.state != "done":
        return f"Run {run_id} has no result to show here, as it is {run.state}; the page Runs shows it."
    return (
        f"Run {run_id} can't be shown here: it was not measured, or is of suite {suite}, or of files "
        "that have changed since. The page Runs shows it."
    )


def linked_ids() -> list[str]:
    """The run ids that the URL names: by ``run`` or ``runs``, several times or with commas between them."""
    values = [value for parameter in RUN_PARAMETERS for value in st.query_params.get_all(parameter)]
    return list(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def chosen_ids(key: str, options: Sequence[str], default: Sequence[str], instead: str) -> list[str]:
    """Ids to show as chosen: from the URL if it names any, else as before, else the default; put under ``key``.

    Ids that are not among the options are dropped, with a warning if the URL names them; ``instead`` is its sentence
    on what is shown if the URL names no others.
    """
    linked = linked_ids()
    missing = [one for one in linked if one not in options]
    warn_of_runs(missing, "Only the others are shown." if len(missing) < len(linked) else instead)
    if linked and linked != st.session_state.get(f"{key}-linked"):
        wanted: Sequence[str] = [run_id for run_id in linked if run_id in options] or default
        st.session_state[f"{key}-by-link"] = list(wanted)
    elif key in st.session_state:
        wanted = st.session_state[key]
    else:
        wanted = st.session_state.get(f"{key}-linked") or default
    ids = [run_id for run_id in dict.fromkeys(wanted) if run_id in options]
    st.session_state[key] = ids
    return ids


def kept_ids(key: str) -> list[str] | None:
    """What was chosen under a key when the page was drawn last, also if another page was looked at since."""
    kept: list[str] | None = st.session_state.get(key, st.session_state.get(f"{key}-linked"))
    return kept


def came_by_link(key: str) -> bool:
    """Whether what is chosen under a key is what a link asked for."""
    return bool(st.session_state[key]) and st.session_state[key] == st.session_state.get(f"{key}-by-link")


def remember_ids(parameter: str, key: str, ids: Sequence[str]) -> None:
    """Write the chosen ids into the URL, under one name, and keep them for when the page is opened again."""
    st.session_state[f"{key}-linked"] = list(ids)
    for other in set(RUN_PARAMETERS) - {parameter}:
        st.query_params.pop(other, None)
    if not ids:
        st.query_params.pop(parameter, None)
    elif st.query_params.get_all(parameter) != list(ids):
        st.query_params[parameter] = list(ids)
