"""What is known already of the settings in the form of the page Merge: from a run of one's own, or from the suite."""

import streamlit as st

from merging.core.errors import MergingError
from merging.runs import Run
from merging.runs.jobs.merge import MergeSpec
from ui.runs.jobs import standing
from ui.runs.text import measured_before
from ui.shell import state


def say_what_is_known(spec: MergeSpec) -> None:
    """One sentence with the accuracy of a finished run with exactly these settings and files; nothing without one."""
    try:
        ((known,), _) = standing([spec])
    except MergingError:  # a file is missing or broken, which is said where the merge is asked for
        return
    if known is None or known.state != "done":
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="merge-known"):
        st.caption(f":material/{'inventory_2' if known.shipped else 'history'}: {in_words(known)}", width="content")
        if not known.shipped:
            st.page_link(
                "pages/runs.py",
                label=f"Run {known.id}",
                icon=":material/arrow_forward:",
                icon_position="right",
                query_params={**state.shared_query(), "run": known.id},
                width="content",
            )


def in_words(run: Run) -> str:
    """How good a finished merge was and what pressing *Merge* does now, as two sentences."""
    score = None if run.merged is None else run.merged.score
    found = "" if score is None else f": {100 * score:.1f} % on average"
    if run.shipped:
        return f"{measured_before([run]).removesuffix('.')}{found}. Merge measures it on this machine."
    return f"{'Merged' if score is None else 'Measured'} before{found}. Merge shows that run."
