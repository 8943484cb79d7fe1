"""A run that the form of the page Merge began with: what is set otherwise by now."""

import streamlit as st

from merging.core.errors import RunError
from merging.runs.comparison.settings import changed_settings
from merging.runs.jobs.merge import MergeSpec
from ui.look.figure import escape_markdown
from ui.merge.form import VARIED
from ui.runs.choice import warn_of_runs
from ui.shell import state


def show_variation(spec: MergeSpec) -> None:
    """Say in which settings what the form says differs from the run that the URL names; nothing if it names none."""
    run_id = st.query_params.get(VARIED)
    if not run_id:
        return
    try:
        run = state.workspace().store.get(run_id)
        before = run.spec
    except RunError:
        warn_of_runs([run_id], "The form is not compared with it.")
        del st.query_params[VARIED]
        return
    named = f"**{escape_markdown(run.name or run.label)}** `{run.id}`"
    changes = changed_settings(before, spec)
    if not changes:
        st.caption(f":material/tune: As in {named}, so far. What you change is marked here.")
        return
    parts = [
        f"{escape_markdown(name)} {escape_markdown(was)} → :orange-background[{escape_markdown(now)}]"
        for name, was, now in changes
    ]
    st.markdown(f":material/tune: Unlike {named}: {'; '.join(parts)}")
