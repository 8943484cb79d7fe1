"""Jobs whose results pages show: looked up by what they do, on the files as they are."""

import json
from typing import TypeVar

import streamlit as st

from merging.runs import Run
from merging.runs.jobs import Job, JobResult, parse_job
from merging.runs.jobs.file_job import FileJob
from ui.runs.panel import offer_job, run_panel
from ui.shell import state

Result = TypeVar("Result", bound=JobResult)


def run_of(job: Job) -> Run | None:
    """The run that does, did, or last failed to do exactly this on the present files; None if nobody asked for it.

    Raises:
        MergingError: a file is missing or broken.
    """
    if isinstance(job, FileJob):  # its files need not be the chosen suite's, and their version is quickly found
        return state.workspace().find(job)
    return state.workspace().store.find(fingerprint_of(job))


def fingerprint_of(job: Job) -> str:
    """A job's fingerprint on the present files of the chosen suite, remembered until one of them changes."""
    return _fingerprint(job.model_dump_json(), state.stamp())


@st.cache_data(max_entries=256, show_spinner=state.READING)
def _fingerprint(job: str, version: state.Stamp) -> str:
    return parse_job(json.loads(job)).fingerprint(state.workspace())


def result_of(job: Job, kind: type[Result], *, key: str, button: str, icon: str, reason: str) -> Result | None:
    """What a job found; None if it is not done, and then a button offers it, or a panel says how far it is.

    Args:
        job: what to do.
        kind: the model of its result.
        key: unique on the page.
        button: what the button says.
        icon: its icon.
        reason: why the page has nothing to show yet.

    Raises:
        MergingError: a file is missing or broken.
    """
    run = run_of(job)
    found = None if run is None else run.result_as(kind)
    if found is None:
        offer_job(job, run, key=key, button=button, icon=icon, reason=reason)
    return found


def show_job(run: Run | None, kind: type[Result], *, key: str) -> Result | None:
    """How far a job is, if it is not done; its result if it is."""
    if run is None:
        return None
    if run.state != "done":
        run_panel([run], key=key)
        return None
    return run.result_as(kind)
