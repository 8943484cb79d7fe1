"""Jobs of the worker whose results pages show: looked up by what they do, on the files as they are."""

from typing import Any

import streamlit as st

from merging.runs.jobs.merge import MergeSpec
from merging.runs import Run
from ui.runs.panel import offer_job
from ui.shell import state


def run_of(spec: MergeSpec) -> Run | None:
    """The run that does, did, or last failed to do exactly this on the present files; None if nobody asked for it.

    Raises:
        MergingError: a file is missing or broken.
    """
    return state.workspace().store.find(_fingerprint(spec.model_dump_json(), state.stamp()))


def result_of(spec: MergeSpec, *, key: str, button: str, icon: str, reason: str) -> dict[str, Any] | None:
    """What a job found; None if it is not done, and then a button offers it, or a panel says how far it is.

    Args:
        spec: the job.
        key: unique on the page.
        button: what the button says.
        icon: its icon.
        reason: why the page has nothing to show yet.

    Raises:
        MergingError: a file is missing or broken.
    """
    run = run_of(spec)
    if run is None or run.result is None:
        offer_job(spec, run, key=key, button=button, icon=icon, reason=reason)
        return None
    return run.result


@st.cache_data(max_entries=128, show_spinner=state.READING)
def _fingerprint(spec: str, version: state.Stamp) -> str:
    return state.workspace().spec_fingerprint(MergeSpec.model_validate_json(spec))
