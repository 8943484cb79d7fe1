"""What pages about runs show while there are none: what would be here, and the button that fills them."""

from typing import NoReturn

import streamlit as st

from merging.core.errors import MergingError
from ui.accuracy import measuring
from ui.accuracy.preset_runs import comparison
from ui.runs.choice import RUN_PARAMETERS, linked_ids, warn_of_runs
from ui.runs.panel import how_long, run_panel
from ui.runs.queueing import queue
from ui.shell import state


def no_runs(explanation: str) -> NoReturn:
    """Say why there is nothing to see, offer the comparison and the page Merge, and end the page.

    Args:
        explanation: what would be here, and what it takes.
    """
    warn_of_runs(linked_ids())
    for parameter in RUN_PARAMETERS:
        st.query_params.pop(parameter, None)
    st.info(explanation)
    active = state.workspace().store.active()
    if active:
        run_panel(active, key="no-runs-yet")
    else:
        ways_to_run()
    st.stop()


def ways_to_run() -> None:
    """The button that queues the comparison of Start, and a link to the page Merge with these tasks."""
    _run_comparison()
    st.page_link("pages/merge.py", label="Merge", icon=":material/merge:", query_params=state.shared_query())


def _run_comparison() -> None:
    """The button, where these tasks can be measured and the comparison is not there already."""
    try:
        tasks = state.selected_tasks()
        if not set(tasks) <= set(measuring.measurable_tasks()):
            return
        missing = [entry for entry in comparison(tasks) if entry.missing]
    except MergingError:  # a broken suite, of which other pages speak
        return
    if not missing:
        return
    line, note = st.columns([0.3, 0.7], vertical_alignment="center")
    if line.button("Run the comparison", type="primary", icon=":material/play_arrow:", width="stretch", key="fill"):
        queue([entry.spec for entry in missing])
    names = ", ".join(entry.spec.label for entry in missing)
    note.caption(f"{names}. This takes {how_long([entry.spec for entry in missing])}.")
