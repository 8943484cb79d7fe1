"""Chosen run ids that stand in the URL, for widgets whose options streamlit can't bind by itself."""

from collections.abc import Sequence

import streamlit as st

from ui.figure import escape_markdown


def chosen_ids(parameter: str, key: str, options: Sequence[str], default: Sequence[str]) -> list[str]:
    """Ids to show as chosen: from the URL if it names any, else as before, else the default; put under ``key``.

    Ids that are not among the options are dropped, with a warning if the URL names them.
    """
    linked = st.query_params.get_all(parameter)
    unknown = [run_id for run_id in linked if run_id not in options]
    if unknown:
        st.warning(escape_markdown(f"There is no run {', '.join(unknown)} here; it may have been deleted."))
    if linked and linked != st.session_state.get(f"{key}-linked"):
        wanted: Sequence[str] = [run_id for run_id in linked if run_id in options] or default
    elif key in st.session_state:
        wanted = st.session_state[key]
    else:
        wanted = st.session_state.get(f"{key}-linked") or default
    ids = [run_id for run_id in dict.fromkeys(wanted) if run_id in options]
    st.session_state[key] = ids
    return ids


def remember_ids(parameter: str, key: str, ids: Sequence[str]) -> None:
    """Write the chosen ids into the URL and keep them for when the page is opened again."""
    st.session_state[f"{key}-linked"] = list(ids)
    if not ids:
        st.query_params.pop(parameter, None)
    elif st.query_params.get_all(parameter) != list(ids):
        st.query_params[parameter] = list(ids)
