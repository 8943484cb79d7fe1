"""What the URL chooses: names that nobody knows, and run ids for widgets that streamlit can't bind by itself."""

from collections.abc import Collection, Sequence

import streamlit as st

from ui.figure import escape_markdown


def not_found(parameter: str, options: Collection[str]) -> list[str]:
    """What the URL names and is not there; streamlit drops it without a word when it draws a widget bound to that."""
    return [name for name in st.query_params.get_all(parameter) if name and name not in options]


def warn(sentence: str) -> None:
    """Say what a link asked for in vain, and what is shown instead."""
    st.warning(escape_markdown(sentence), icon=":material/search_off:")


def warn_of_runs(missing: Sequence[str], instead: str = "") -> None:
    """Say that runs named by the URL are not there.

    Args:
        missing: their ids; without any nothing is said.
        instead: a sentence on what is shown instead.
    """
    if missing:
        warn(f"There is no run {', '.join(missing)} here; it may have been deleted. {instead}".strip())


def chosen_ids(parameter: str, key: str, options: Sequence[str], default: Sequence[str], instead: str) -> list[str]:
    """Ids to show as chosen: from the URL if it names any, else as before, else the default; put under ``key``.

    Ids that are not among the options are dropped, with a warning if the URL names them; ``instead`` is its sentence
    on what is shown if the URL names no others.
    """
    linked = st.query_params.get_all(parameter)
    missing = not_found(parameter, options)
    warn_of_runs(missing, "Only the others are shown." if set(linked) & set(options) else instead)
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
