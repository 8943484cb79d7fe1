"""What pages about runs show while there are none."""

from typing import NoReturn

import streamlit as st

from ui import state
from ui.url_choice import not_found, warn_of_runs


def no_runs(explanation: str, parameter: str) -> NoReturn:
    """Say why there is nothing to see, link to the two pages that start runs, and end the page.

    Args:
        explanation: why, and what to do.
        parameter: the query parameter that names runs on this page.
    """
    warn_of_runs(not_found(parameter, ()))
    st.query_params.pop(parameter, None)
    st.info(explanation)
    query = state.shared_query()
    with st.container(horizontal=True):
        st.page_link("pages/start.py", label="Run the comparison", icon=":material/play_arrow:", query_params=query)
        st.page_link("pages/merge.py", label="Merge", icon=":material/merge:", query_params=query)
    st.stop()
