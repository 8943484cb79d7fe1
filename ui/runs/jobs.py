"""Jobs whose results pages show: looked up by what they do, on the files as they are."""

import json
from collections.abc import Sequence
from typing import TypeVar

import streamlit as st

from merging.core.errors import MergingError
from merging.runs import Run
from merging.runs.jobs import Job, JobResult, parse_job
from merging.runs.jobs.file_job import FileJob
from merging.runs.jobs.model_job import Contents, ModelJob
from merging.runs.jobs.parts import InParts
from merging.runs.parts import Known, known
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
    return runs_of([job])[0]


def runs_of(jobs: Sequence[Job]) -> list[Run | None]:
    """The same of jobs on the chosen suite's models, looked up in one go; below own runs what came with the suite.

    That was measured on a CPU, and stands in for the same on another device until somebody runs it there.
    """
    store, found = state.workspace().store, _looked_up(jobs)
    if state.device().type == "cpu" or not store.shipped.files:
        return found
    on_cpu = _looked_up([job.model_copy(update={"device": "cpu"}) for job in jobs])
    return [
        run if run is not None or other is None or not other.shipped else other
        for run, other in zip(found, on_cpu, strict=True)
    ]


def standing(jobs: Sequence[Job]) -> tuple[list[Run | None], list[Run | None]]:
    """What is there to show of each job, and, beside what came with the suite, the own run that is to replace it.

    As :func:`runs_of`, but that what came with the suite stands until an own run is done.
    """
    found = runs_of(jobs)
    shipped = state.workspace().store.shipped
    if not shipped.files:
        return found, [None] * len(found)
    on_cpu = [job.model_copy(update={"device": "cpu"}) for job in jobs]
    prints = _fingerprints(tuple(job.model_dump_json() for job in on_cpu), state.stamp())
    came = [
        None if run is None or run.shipped or run.state == "done" else shipped.find(print_)
        for run, print_ in zip(found, prints, strict=True)
    ]
    return (
        [other or run for run, other in zip(found, came, strict=True)],
        [run if other else None for run, other in zip(found, came, strict=True)],
    )


def known_of(jobs: Sequence[InParts]) -> list[Known]:
    """What is known of jobs in parts on the chosen suite's models, whatever asked for it, or came with the suite."""
    return [known(job, state.workspace(), _fingerprints_here, shipped=True) for job in jobs]


def _fingerprints_here(jobs: Sequence[Job]) -> list[str]:
    """On the present files; of a job whose files are gone, empty."""

    def fingerprint(job: Job) -> str:
        try:
            return _fingerprints((job.model_dump_json(),), state.stamp())[0]
        except MergingError:
            return ""

    return [fingerprint(job) for job in jobs]


def _looked_up(jobs: Sequence[Job]) -> list[Run | None]:
    prints = _fingerprints(tuple(job.model_dump_json() for job in jobs), state.stamp())
    return state.workspace().store.to_show(prints)


@st.cache_data(max_entries=128, show_spinner=state.READING)
def _fingerprints(jobs: tuple[str, ...], version: state.Stamp) -> list[str]:
    """On the present files, remembered until one of them changes."""
    parsed = [parse_job(json.loads(job)) for job in jobs]
    return [
        job.fingerprint_on(_contents(version)) if isinstance(job, ModelJob) else job.fingerprint(state.workspace())
        for job in parsed
    ]


@st.cache_resource(max_entries=8, show_spinner=False)
def _contents(version: state.Stamp) -> Contents:
    """The present files, looked at once for all that is asked of them until one of them changes."""
    return Contents(state.workspace())


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
