"""Runs side by side as the page Compare needs them: measured once, or by the worker where that takes long."""

from collections.abc import Sequence

import streamlit as st

from merging.charts.run_series import name_runs
from merging.core.errors import MergingError
from merging.methods.context import Context
from merging.runs import Run
from merging.runs.comparison.compare import RunComparison, compare_runs, require_comparable
from merging.runs.deleted import erase
from merging.runs.jobs.predictions import PredictionsJob, evaluator_of, known_predictions, predictions_of
from ui.accuracy import measuring
from ui.look.figure import escape_markdown
from ui.runs.jobs import run_of
from ui.runs.panel import run_panel
from ui.runs.queueing import queue
from ui.shell import state


def measured(runs: Sequence[Run]) -> tuple[RunComparison | None, dict[str, str]]:
    """Runs side by side, and id → reason of those that can't be, as their weights or checkpoints are gone.

    The first is None while predictions are missing that only the worker should measure, and with fewer than two runs.

    Raises:
        MergingError: as :func:`merging.runs.comparison.compare.compare_runs`.
    """
    require_comparable(runs)
    reference, version = state.suite_reference(), state.stamp()
    missing = [run for run in runs if not _is_measured(reference, version, run.id)]
    if missing and not measuring.baselines_are_quick():
        _offer(missing)
        return None, {}
    left_out = _measure(missing) if missing else {}
    kept = tuple(run.id for run in runs if run.id not in left_out)
    return (_compared(reference, version, kept) if len(kept) > 1 else None), left_out


def _is_measured(reference: str, version: state.Stamp, run_id: str) -> bool:
    """Whether a run has been seen on every present image."""
    done: set[tuple[str, state.Stamp, str]] = _measured_before()
    if (reference, version, run_id) not in done:
        run, space = state.workspace().store.get(run_id), state.workspace()
        if len(known_predictions(run, space, evaluator_of(run, space))) < len(run.spec.tasks):
            return False
        done.add((reference, version, run_id))
    return True


@st.cache_resource
def _measured_before() -> set[tuple[str, state.Stamp, str]]:
    """Runs whose predictions were found complete, so that nobody loads images to look again."""
    return set()


@st.cache_resource(max_entries=8, show_spinner=False)
def _compared(reference: str, version: state.Stamp, ids: tuple[str, ...]) -> RunComparison:
    space = state.workspace()
    return compare_runs([space.store.get(run_id) for run_id in ids], space)


def _measure(runs: Sequence[Run]) -> dict[str, str]:
    """Classify all images with runs here and now, one after the other; gives id → why not for those that can't."""
    names, space = name_runs(runs), state.workspace()
    left_out: dict[str, str] = {}
    bar = st.progress(0.0)
    try:
        for number, run in enumerate(runs):

            def report(done: int, total: int, message: str, name: str = names[run.id], number: int = number) -> None:
                share = (number + done / max(1, total)) / len(runs)
                bar.progress(share, text=escape_markdown(f"{name}: {message} …"))

            try:
                predictions_of(run, space, evaluator_of(run, space), Context(on_progress=report))
            except MergingError as error:
                left_out[run.id] = str(error)
    finally:
        bar.empty()
    return left_out


def _offer(runs: Sequence[Run]) -> None:
    """A button that has the worker classify all images with runs, then how far it is."""
    jobs = {run.id: _job(run) for run in runs}
    asked = [job for _, job in jobs.values() if job is not None]
    if asked:
        run_panel(
            asked,
            key="compare-jobs",
            names={
                job.id: f"Predictions of {name_runs(runs)[run_id]}"
                for run_id, (_, job) in jobs.items()
                if job is not None
            },
        )
    waiting = [spec for spec, job in jobs.values() if job is None]
    if not waiting:
        return
    st.info(
        "Comparing image by image needs every run's answer for every image; with these models that may take minutes.",
        icon=":material/hourglass:",
    )
    if st.button("Classify the images", key="compare-jobs-start", type="primary", icon=":material/image_search:"):
        queue(waiting)


def _job(run: Run) -> tuple[PredictionsJob, Run | None]:
    """The job that measures a run's predictions, and the row that does it, if anybody asked for it."""
    spec = PredictionsJob.like(run.spec)
    job = run_of(spec)
    if job is not None and job.state == "done":  # it measured a run that was deleted since, and made again
        erase(state.housekeeping().store, job.id)
        job = None
    return spec, job
