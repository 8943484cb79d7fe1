"""The seventh step: AdaMerging in the time that a class has, watched while it learns."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from merging.charts.runs import trajectory_figure
from merging.core.text import printed
from merging.methods.merges.adamerging import AdaMergingParams
from merging.runs import Run
from merging.runs.jobs.merge import MergeSpec
from merging.runs.worker.trace import TRACE, read_trace
from ui.lesson import questions
from ui.lesson.screen import Asked, Lesson, OnScreen, average, large, merged
from ui.look.figure import show
from ui.runs.jobs import run_of
from ui.runs.panel import ensure_worker, find_runs, how_long, run_panel
from ui.shell import state
from ui.shell.url import warn
from ui.what_if import live_accuracy
from ui.what_if.coefficients_view import START

# A tenth of the published steps at ten times the published learning rate, on half as many images a step.
STEPS, RATE, IMAGES = 60, 0.01, 16
_ENDS = 5  # first and last steps whose entropy is compared
_POLL = 1.0  # seconds


def let_the_data_choose(lesson: Lesson) -> Asked:
    """A button, the coefficients on their way, and what came of them on test images."""
    spec = short_run(state.suite_reference(), lesson.tasks, str(state.device()))
    run = _linked(lesson.tasks) or run_of(spec)
    if isinstance(lesson, OnScreen):
        run = _watched(lesson, spec, run)
    else:
        _path(lesson, run)
    return _question(lesson, run)


def _watched(lesson: OnScreen, spec: MergeSpec, run: Run | None) -> Run | None:
    """The button that queues the run, the run, and its path as it grows."""
    with lesson.control:
        if run is None and st.button("Let it learn", type="primary", icon=":material/play_arrow:", key="lesson-learn"):
            run = state.workspace().submit(spec)
            ensure_worker()
            st.rerun()
        takes = f" This takes {how_long([spec])}." if run is None else ""
        st.caption(_settings(spec if run is None else run.spec) + takes)
    if run is not None and st.query_params.get("run") != run.id:
        st.query_params["run"] = run.id
    with lesson.chart:
        if run is not None and run.state != "done":
            run_panel([run], key="lesson-run", names={run.id: "AdaMerging"})
        going = run is not None and run.active
        st.fragment(partial(_path, lesson, run), run_every=_POLL if going else None, key="lesson-path")()
    return run


def short_run(suite: str, tasks: tuple[str, ...], device: str) -> MergeSpec:
    """AdaMerging with few large steps, on validation images, measured on test."""
    return MergeSpec.build(
        suite=suite,
        tasks=tasks,
        device=device,
        merge="adamerging",
        merge_params={
            "steps": STEPS,
            "learning_rate": RATE,
            "batch_size": IMAGES,
            "initial": START,
            "split": "val",
        },
    )


def _settings(spec: MergeSpec) -> str:
    """What a run does, in a line."""
    given = spec.merge_params
    split = {"val": "validation", "test": "test"}[given["split"]]
    published = AdaMergingParams()
    short = given["steps"] < published.steps
    return (
        f"{given['steps']} steps, {given['batch_size']} unlabeled {split} images a task each, learning rate "
        f"{given['learning_rate']:g}"
        + (f"; the paper takes {published.steps} steps at {published.learning_rate:g}" if short else "")
        + f". It starts at {printed(given['initial'])}."
    )


def _linked(tasks: tuple[str, ...]) -> Run | None:
    """The run that the URL names, if it is one of AdaMerging, by itself, on these tasks."""
    wanted = st.query_params.get("run")
    if not wanted:
        return None
    found = [
        run
        for run in find_runs([wanted])
        if isinstance(run.job, MergeSpec)
        and run.spec.merge == "adamerging"
        and run.spec.edit == "none"
        and run.spec.suite == state.suite_reference()
        and run.spec.tasks == tasks
    ]
    if not found:
        del st.query_params["run"]
        warn(f"There is no run {wanted} of AdaMerging alone on these tasks. The lesson's own is shown instead.")
    return found[0] if found else None


def path_so_far(run: Run, folder: Path) -> tuple[list[int], list[list[float]]]:
    """Steps, and mean coefficients ``[T]`` after each, as far as they are known.

    Args:
        run: one of AdaMerging.
        folder: of the run.
    """
    path = run.merged.merge.trajectory if run.merged else None
    if path is not None:
        return list(range(len(path))), path
    lines = read_trace(folder / TRACE)
    start = [float(run.spec.merge_params["initial"])] * len(run.spec.tasks)
    return [0, *(line["step"] for line in lines)], [start, *(line["coefficients"] for line in lines)]


def _path(lesson: Lesson, run: Run | None) -> None:
    """The chart of the coefficients; runs again by itself while they move."""
    steps, path = [0], [[START] * len(lesson.tasks)]
    if run is not None:
        steps, path = path_so_far(run, state.workspace().store.folder(run.id))
    last = STEPS if run is None else run.spec.merge_params["steps"]
    chart = partial(_trajectory, path, lesson.tasks, lesson.labels, steps, last)
    takeaway = "The coefficients have not moved yet." if len(path) == 1 else _summary(lesson, path[-1])
    table = pd.DataFrame(path, columns=list(lesson.names)).assign(step=steps)
    if isinstance(lesson, OnScreen):  # a fragment draws where it stands
        show(**large(chart), key="lesson-7", file="coefficients", takeaway=takeaway, table=table)
    else:
        lesson.draw(chart, key="lesson-7", file="coefficients", takeaway=takeaway, table=table)


def _trajectory(
    path: list[list[float]], tasks: Sequence[str], labels: Mapping[str, str], steps: list[int], last: int
) -> go.Figure:
    """The chart, with room for what is still to come."""
    figure = trajectory_figure(path, tasks, labels, steps)
    figure.update_xaxes(range=[0, last], tick0=None, dtick=None)
    figure.update_yaxes(range=[0, max(2 * START, 1.05 * float(np.max(path)))])
    return figure


def _summary(lesson: Lesson, ends: list[float]) -> str:
    """Where the coefficients are."""
    high, low = int(np.argmax(ends)), int(np.argmin(ends))
    return (
        f"Means over layers: {lesson.names[high]} is highest at {printed(ends[high], '.2f')}, {lesson.names[low]} "
        f"lowest at {printed(ends[low], '.2f')}."
    )


def _question(lesson: Lesson, run: Run | None) -> Asked:
    """Asked on test images, which the run of the lesson itself never saw."""
    plain, edited = merged(lesson.tasks, START, split="test"), merged(lesson.tasks, START, split="test", edit="awd")
    adapted, entropy = None, (0.0, 0.0)
    result = None if run is None else run.merged
    if result is not None and result.merge.entropy:
        means = np.array(result.merge.entropy).mean(axis=1)
        adapted, entropy = result.average, (float(means[:_ENDS].mean()), float(means[-_ENDS:].mean()))
    question = questions.surer_and_better(
        average(plain, lesson.tasks), average(edited, lesson.tasks), adapted, entropy, START
    )
    busy = run is not None and run.active  # the worker needs the cores more
    needs = [need for one in (plain, edited) for need in live_accuracy.full(one, lesson.tasks)]
    return Asked(question, [] if busy else needs, [run])
