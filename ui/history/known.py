"""What is known already of the settings in the form of the page Merge: from a run of one's own, or from the suite."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from merging.core.errors import MergingError
from merging.runs import Run
from merging.runs.jobs.merge import MergeSpec
from ui.runs.jobs import standing
from ui.runs.text import measured_before
from ui.shell import state

# State of the run with these settings → what pressing *Merge* does, and why no time is said.
_SHOWS = {
    "done": "Done before: shows that run",
    "running": "Running already: shows that run",
    "queued": "Queued already: shows that run",
}


def say_what_is_known(spec: MergeSpec, pressing: DeltaGenerator) -> None:
    """One sentence with the accuracy of a finished run with exactly these settings and files; nothing without one.

    Args:
        spec: the settings.
        pressing: where it says what pressing *Merge* takes; if there is a run that it shows instead, that is said.
    """
    try:
        ((known,), (replacing,)) = standing([spec])
    except MergingError:  # a file is missing or broken, which is said where the merge is asked for
        return
    own = replacing if known is None or known.shipped else known
    shown = None if own is None else _SHOWS.get(own.state)  # of one that failed or was cancelled, it makes another
    if shown is not None:
        pressing.caption(shown)
    if known is None or known.state != "done":
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="merge-known"):
        st.caption(
            f":material/{'inventory_2' if known.shipped else 'history'}: {in_words(known, shown is None)}",
            width="content",
        )
        if not known.shipped:
            st.page_link(
                "pages/runs.py",
                label=f"Run {known.id}",
                icon=":material/arrow_forward:",
                icon_position="right",
                query_params={**state.shared_query(), "run": known.id},
                width="content",
            )


def in_words(run: Run, measures: bool) -> str:
    """How good a finished merge was.

    Args:
        run: the merge.
        measures: whether pressing *Merge* measures again what came with the suite, which is said then.
    """
    score = None if run.merged is None else run.merged.score
    found = "" if score is None else f": {100 * score:.1f} % on average"
    if run.shipped:
        again = " Merge measures it on this machine." if measures else ""
        return f"{measured_before([run]).removesuffix('.')}{found}.{again}"
    return f"{'Merged' if score is None else 'Measured'} before{found}."
