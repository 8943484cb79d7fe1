"""AdaMerging while it learns: how accurate it is by now, and a button that keeps what it has."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from merging.charts.accuracy import Series
from merging.charts.runs import accuracy_so_far_figure
from merging.charts.theme import distinct_styles
from merging.methods.merges.adamerging import WATCHED_IMAGES
from merging.runs import Run
from merging.runs.jobs.merge import MergeSpec
from merging.runs.worker.trace import TRACE, read_trace
from ui.look.figure import show
from ui.shell import session
from ui.shell.rights import Act
from ui.shell.state import workspace


def is_growing(run: Run) -> bool:
    """Whether a run is one of a method that learns, and is doing so."""
    return run.state == "running" and isinstance(run.job, MergeSpec) and run.job.merge == "adamerging"


def so_far(run: Run) -> list[tuple[int, dict[str, float]]]:
    """After how many steps, and task → accuracy on a sample of images; empty as long as there is none."""
    lines = read_trace(workspace().store.folder(run.id) / TRACE)
    return [(int(line["step"]), line["accuracy"]) for line in lines if "accuracy" in line]


def series_so_far(run: Run, beside: Sequence[Run]) -> Series | None:
    """The last of them, for a chart of accuracies; its name says how far it is.

    Args:
        run: that learns.
        beside: the other runs of the chart, such as an earlier one of the same, from which it is told apart.
    """
    points = so_far(run) if is_growing(run) else []
    if not points:
        return None
    step, accuracy = points[-1]
    name = f"{run.label}, step {step} of {run.spec.merge_params['steps']}"
    look = distinct_styles([one.spec.method for one in (*beside, run)])[-1]
    return Series(name, run.spec.method, accuracy, look)


def growing(run: Run, key: str) -> None:
    """The chart of the average over the steps, as far as it is, and the button."""
    points, steps = so_far(run), int(run.spec.merge_params["steps"])
    if len(points) < 2:
        return
    made = [step for step, _ in points]
    averages = [100 * sum(accuracy.values()) / len(accuracy) for _, accuracy in points]
    split = {"val": "validation", "test": "test"}[run.spec.split]
    show(
        partial(accuracy_so_far_figure, made, averages, steps),
        key=f"{key}-growing-{run.id}",
        file=f"accuracy-so-far-{run.id}",
        takeaway=f"{averages[-1]:.1f} % on average after {made[-1]} of {steps} steps, {averages[0]:.1f} % before the "
        f"first, on a sample of at most {WATCHED_IMAGES} {split} images a task.",
        table=pd.DataFrame({"step": made, "average (%)": averages}),
    )
    st.button(
        "Stop here and keep it",
        key=f"{key}-enough-{run.id}",
        icon=":material/flag:",
        disabled=workspace().store.enough(run.id) or not session.may(Act.CANCEL, run),
        on_click=workspace().store.ask_for_what_it_has,
        args=(run.id,),
        help="Ends with the coefficients learned so far: a run of as many steps as it has made by then",
    )
