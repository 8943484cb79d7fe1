"""Unseen tasks: which methods buy accuracy on the tasks that they merge with accuracy on those that they don't."""

import math
from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from merging.charts.beyond import seen_unseen_figure, seen_unseen_table, seen_unseen_takeaway
from merging.core.text import counted
from merging.methods.presets import Preset
from merging.runs.beyond import (
    base_on,
    generalisation_job,
    generalisation_of,
    ways_of_leaving_out,
)
from merging.runs.jobs.generalisation import GeneralisationResult
from merging.suites.protocols import SOURCE, SPLITS, PublishedSplit, has_published_protocols, published_split
from ui.accuracy import view as accuracy_view
from ui.beyond.measuring import chosen_methods, measured, say_shipped, several_measurable
from ui.look.figure import escape_markdown, is_dark, show, show_table
from ui.runs.jobs import known_of
from ui.shell import state
from ui.shell.url import choice, number, said_below

PARAMETERS = ("left-out", "leave", "most")  # what the URL can hold
_DRAWN = "drawn"
# Where nobody chose: those of the study, which come with the embedded suites.
DEFAULT_LEFT_OUT, DEFAULT_WAYS = 2, 4


def unseen_view(tasks: tuple[str, ...]) -> None:
    """Choice of what is left out, the jobs, and the chart."""
    st.write(
        "Some tasks are left out of the merge, in several ways, and measured all the same. No method sees an image of "
        "them, and λ is chosen on validation images of the merged ones."
    )
    if not several_measurable(tasks):
        return
    split = _split_of_the_literature()
    if split is None:
        merged, left_out = tasks, _left_out(tasks)
    else:
        merged, left_out = tuple(state.suite().chosen(split.seen)), [split.unseen]
    methods = chosen_methods(localised=False)
    if not methods:
        return
    reference, device = state.suite_reference(), str(state.device())
    jobs = [generalisation_job(preset, reference, merged, left_out, device) for preset in methods]
    every = tuple(dict.fromkeys((*merged, *left_out[0])))
    before = known_of(jobs)
    found = measured(
        methods,
        before,
        GeneralisationResult,
        key="unseen",
        note=f"Each is merged {counted(len(left_out), 'time')} and measured on all {len(every)} tasks.",
    )
    if found:
        _chart(found, every)
        say_shipped(before, key="unseen")
    _published()


def _split_of_the_literature() -> PublishedSplit | None:
    """The split of the literature that is chosen, where the suite has its models and images; None if ways are drawn."""
    suite = state.suite()
    found = {name: split for name in SPLITS if (split := published_split(suite, name)) is not None}
    here = {
        name: split
        for name, split in found.items()
        if set(split.seen) <= set(suite.mergeable()) and all(map(suite.measurable, (*split.seen, *split.unseen)))
    }
    if not here:
        return None
    labels = {_DRAWN: "Of the selected tasks", **{name: f"{name} of the literature" for name in here}}
    return here.get(choice(st.segmented_control, "Left out", labels, default=_DRAWN, required=True, key="left-out"))


def _chart(found: Sequence[tuple[Preset, GeneralisationResult]], tasks: tuple[str, ...]) -> None:
    """The chart of the methods that are measured."""
    first = found[0][1]
    rows, base = [generalisation_of(preset, result) for preset, result in found], base_on(first)
    show(
        partial(seen_unseen_figure, rows, base, is_dark()),
        key="seen-unseen",
        takeaway=seen_unseen_takeaway(rows, base),
        table=seen_unseen_table(rows, base),
        file="seen-and-unseen",
    )
    labels = accuracy_view.task_labels(tasks)
    ways = "; ".join(", ".join(labels[task] for task in one.unseen) for one in first.splits)
    st.caption(
        escape_markdown(
            f"{sum(first.counts.values()):,} clean test images. Bars are the standard deviation over the splits. Left "
            f"out: {ways}. {first.about_images}".strip()
        )
    )


def _published() -> None:
    """The splits of the literature, where they are about these checkpoints; in tables of their own."""
    if not has_published_protocols(state.suite()):
        return
    st.header("Published results")
    for name, split in SPLITS.items():
        st.markdown(f"**{name}**: unseen {' and '.join(split.unseen)}")
        columns = ["Method", "Seen (%)", *(f"{task} (%)" for task in split.unseen), "Unseen (%)"]
        table = pd.DataFrame([(method, *values) for method, values in split.rows.items()], columns=columns)
        show_table(table, key=f"published-{name}", file=f"published-{name}", height="content")
    st.caption(
        escape_markdown(
            f"As printed. Source: {SOURCE}. The same splits can be chosen above where all of their models and images "
            "are here, as with merging generalise … --unseen exp1."
        )
    )


def _left_out(tasks: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The ways of leaving tasks out that the widgets ask for."""
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        leave = number(
            st.number_input,
            "Tasks left out",
            1,
            len(tasks) - 1,
            min(DEFAULT_LEFT_OUT, len(tasks) - 1),
            1,
            key="leave",
            width=160,
        )
        most = number(
            st.number_input,
            "Ways at most",
            1,
            100,
            DEFAULT_WAYS,
            1,
            key="most",
            width=160,
            help="Of more ways so many are drawn, always the same",
        )
    every = math.comb(len(tasks), leave)
    if every > most:
        st.caption(f"There are {every} ways to leave out {counted(leave, 'task')}; {most} of them are drawn by a seed.")
    return ways_of_leaving_out(tasks, leave, most)
