"""Drop one out: what each task costs the others, beside the cosines of their task vectors."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from merging.charts.what_if import agreement_figure, interference_figure
from merging.core.errors import MergingError
from merging.core.text import signed
from merging.evaluation.accuracy import SAME_ACCURACY, best_first
from merging.methods import registry
from merging.methods.pair import Pair
from merging.runs.jobs.interference import Agreement, InterferenceJob, InterferenceResult, agreement
from merging.suites.suite import Split
from merging.weights.geometry import cosines
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, is_dark, show
from ui.runs import shipped
from ui.runs.jobs import result_of, run_of
from ui.shell import state
from ui.shell.url import choice, number, said_below

PARAMETERS, PREFIXES = ("out-edit", "out-merge"), ("out-scaling-",)  # what the URL can hold
_LOWEST, _HIGHEST = -1.0, 3.0  # λ
_STRONG = 0.25  # share of the variance that cosine has to explain for it to predict anything


def interference_view(tasks: tuple[str, ...], split: Split) -> None:
    """Choice of the method, the job, and both matrices."""
    st.write(
        "The merge is made once with all tasks, and once without each of them. What a task loses when another joins is "
        "their interference. Parameters stay fixed."
    )
    if len(tasks) < 2:
        st.info("Choose at least two tasks in the sidebar.", icon=":material/checklist:")
        return
    if accuracy_view.explain_unmeasurable(tasks):
        return
    try:
        job = _job(tasks, split)
        result = result_of(
            job,
            InterferenceResult,
            key="interference",
            button="Drop one out",
            icon=":material/group_remove:",
            reason=f"{len(tasks) + 1} merges, each measured on all {len(tasks)} tasks, have not been made yet.",
        )
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    if result is not None:
        _matrices(result, tasks)
        shipped.say([run_of(job)], "interference")


def _job(tasks: tuple[str, ...], split: Split) -> InterferenceJob:
    """The job for the method that the widgets show.

    Raises:
        SpecError: the merge takes no edit.
    """
    edits, merges = registry.edits(), registry.merges()
    left, middle, right = st.columns([0.35, 0.4, 0.25], gap="medium", vertical_alignment="bottom")
    with said_below():
        edit = choice(left.selectbox, "Edit", {name: stage.title for name, stage in edits.items()}, key="out-edit")
        merge = choice(
            middle.selectbox,
            "Merge",
            {name: stage.title for name, stage in merges.items()},
            index=list(merges).index("task_arithmetic"),
            key="out-merge",
        )
    usual = Pair.of(merge=merge).scaling
    scaling = None
    if isinstance(usual, (int, float)):
        with said_below():
            scaling = number(
                right.number_input,
                "λ",
                _LOWEST,
                _HIGHEST,
                float(usual),
                0.05,
                key=f"out-scaling-{merge}",
                help="All other parameters have their defaults",
            )
    pair = Pair.of(edit, merge=merge)
    return InterferenceJob.build(
        suite=state.suite_reference(),
        tasks=tasks,
        split=split,
        device=str(state.device()),
        **(pair if scaling is None else pair.with_scaling(scaling)).fields,
    )


def _matrices(result: InterferenceResult, tasks: tuple[str, ...]) -> None:
    """Both heat maps, the scatter, and what they say."""
    change = np.array(result.change)
    cosine = cosines(state.geometry(tasks).gram)
    names = list(accuracy_view.task_labels(tasks).values())
    show(
        partial(interference_figure, cosine, change, names, dark=is_dark()),
        key="interference",
        file="interference",
        takeaway=cost(change, names),
        table=pair_table(cosine, change, names),
    )
    split = accuracy_view.SPLIT_WORDS["val" if result.split == "val" else "test"]
    fewest = min(result.counts.values())
    st.caption(
        f"{result.images:,} {split} images. With {fewest} of a task one image is {100 / fewest:.2g} points, so "
        "differences of a few of them say little. The diagonals, a task with itself, are left out of both maps. "
        + escape_markdown(result.about_images)
    )
    if len(tasks) < 3:
        return
    st.header("Does cosine predict interference?")
    found = agreement(cosine, change)
    show(
        partial(agreement_figure, cosine, change, names, dark=is_dark()),
        key="agreement",
        file="cosine-and-interference",
        takeaway=verdict(found),
        table=pair_table(cosine, change, names),
    )


def cost(change: np.ndarray, tasks: Sequence[str]) -> str:
    """The most and least welcome task, from the means over the others, and the worst pair."""
    off = np.where(np.eye(len(tasks), dtype=bool), np.nan, 100 * change)
    means = np.nanmean(off, axis=0)
    liked = best_first((means / 100).tolist())
    disliked = best_first((-means / 100).tolist())
    losses = np.where(np.isnan(off), -np.inf, -off / 100).ravel()
    i, j = divmod(best_first(losses.tolist())[0], len(tasks))
    single = (
        f"The largest single loss: {tasks[i]}, {signed(off[i, j])} when {tasks[j]} joins."
        if off[i, j] < -100 * SAME_ACCURACY
        else "No task loses by another's joining."
    )
    return (
        f"On average a task changes another's accuracy by {signed(float(np.nanmean(off)), 2)} points by joining. The "
        f"least welcome is {tasks[disliked[0]]} ({signed(means.min(), 2)} on average), the most "
        f"{tasks[liked[0]]} ({signed(means.max(), 2)}). {single}"
    )


def verdict(found: Agreement) -> str:
    """Whether cosine predicts interference, said plainly from the coefficients."""
    if not math.isfinite(found.pearson):
        return "All cosines or all changes are the same, so there is nothing to correlate."
    numbers = (
        f"Pearson r = {signed(found.pearson, 2)}, Spearman ρ = {signed(found.spearman, 2)} over {found.pairs} pairs; "
        f"{100 * found.chance:.1f} % of random relabellings of the tasks reach such an r."
    )
    if abs(found.spearman) < abs(found.pearson) / 2:
        numbers += " The ranks agree far less: a few pairs carry the correlation."
    explained = found.pearson**2
    if not found.beyond_chance:
        return f"Cosine does not predict interference here beyond chance. {numbers}"
    direction = "closer tasks disturb each other more" if found.pearson < 0 else "closer tasks disturb each other less"
    strength = "predicts a good part of" if explained >= _STRONG else "predicts little of"
    return f"Cosine {strength} the interference here ({100 * explained:.0f} % of its variance): {direction}. {numbers}"


def pair_table(cosine: np.ndarray, change: np.ndarray, tasks: Sequence[str]) -> pd.DataFrame:
    """Every ordered pair as a row, a task with itself included: what it gains by joining."""
    rows, columns = np.indices(change.shape).reshape(2, -1)
    return pd.DataFrame(
        {
            "task": [tasks[i] for i in rows],
            "joining": [tasks[j] for j in columns],
            "cosine": cosine[rows, columns],
            "change (points)": (100 * change[rows, columns]).round(3),
        }
    )
