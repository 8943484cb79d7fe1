"""What pages about runs show while there are none."""

from typing import NoReturn

import streamlit as st

from ui.runs.choice import RUN_PARAMETERS, linked_ids, warn_of_runs
from ui.shell import state


def no_runs(explanation: str) -> NoReturn:
    """Say why there is nothing to see, link to the two pages that start runs, and end the page.

    Args:
        explanation: why, and what to do.
    """
    warn_of_runs(linked_ids())
    for parameter in RUN_PARAMETERS:
        st.query_params.pop(parameter, None)
    st.info(explanation)
    ways_to_run()
    st.stop()


def ways_to_run() -> None:
    """Links to the two pages that start runs, with suite and tasks as they are chosen."""
    query = state.shared_query()
    with st.container(horizontal=True):
        st.page_link("pages/start.py", label="Run the comparison", icon=":material/play_arrow:", query_params=query)
        st.page_link("pages/merge.py", label="Merge", icon=":material/merge:", query_params=query)
