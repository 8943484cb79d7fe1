"""Jobs of the worker whose results pages show: looked up by what they do, on the files as they are."""

import streamlit as st

from merging.pipeline import MergeSpec
from merging.runs import Run
from ui import state


def run_of(spec: MergeSpec) -> Run | None:
    """The run that does, did, or last failed to do exactly this on the present files; None if nobody asked for it.

    Raises:
        MergingError: a file is missing or broken.
    """
    return state.workspace().store.find(_fingerprint(spec.model_dump_json(), state.stamp()))


@st.cache_data(max_entries=128, show_spinner=state.READING)
def _fingerprint(spec: str, version: state.Stamp) -> str:
    return state.workspace().spec_fingerprint(MergeSpec.model_validate_json(spec))
