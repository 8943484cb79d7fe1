"""Many tasks: how methods do as the number of merged tasks grows."""

from functools import partial

import streamlit as st

from merging.charts.task_counts import task_counts_figure, task_counts_table, task_counts_takeaway
from merging.core.text import counted
from merging.runs.jobs.subsets import SubsetsResult
from merging.runs.task_counts import MOST_SUBSETS, rows_by_count, sizes_at_first, subsets_job, subsets_of
from ui.accuracy import view as accuracy_view
from ui.beyond.measuring import chosen_methods, measured, several_measurable
from ui.look.figure import escape_markdown, show
from ui.runs.jobs import known_of
from ui.shell import state
from ui.shell.url import choice, number, said_below, write_chosen

PARAMETERS = ("sizes", "subsets", "share")  # what the URL can hold
_SHARES = ("Accuracy", "Normalised accuracy")


def many_view(tasks: tuple[str, ...]) -> None:
    """Choice of numbers of tasks, the jobs, and the chart."""
    st.write(
        "The more tasks, the harder they are to merge. Subsets of the selected tasks are merged, λ chosen on their "
        "validation images, and measured on their test images."
    )
    if not several_measurable(tasks):
        return
    subsets = _subsets(tasks)
    methods = chosen_methods(localised=True)
    if not subsets or not methods:
        return
    reference, device = state.suite_reference(), str(state.device())
    jobs = [subsets_job(preset, reference, tasks, subsets, device) for preset in methods]
    found = measured(
        methods,
        known_of(jobs),
        SubsetsResult,
        key="many",
        note=f"Each is merged {counted(len(subsets), 'time')}.",
    )
    if not found:
        return
    rows, first = rows_by_count(found), found[0][1]
    share = choice(
        st.segmented_control,
        "Scale",
        _SHARES,
        default=_SHARES[0],
        required=True,
        key="share",
        help=accuracy_view.NORMALISED,
    )
    show(
        partial(task_counts_figure, rows, relative=share != _SHARES[0]),
        key="task-counts",
        takeaway=task_counts_takeaway(rows[2:]),
        table=task_counts_table(rows),
        file="accuracy-by-number-of-tasks",
    )
    st.caption(
        escape_markdown(
            f"{len(subsets)} subsets of {len(tasks)} tasks; {sum(first.counts.values()):,} clean test images of all. "
            f"Bars are the standard deviation over the subsets of a size. {first.about_images}".strip()
        )
    )


def _subsets(tasks: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The subsets that the widgets ask for."""
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        sizes = choice(
            st.pills,
            "Numbers of tasks",
            [str(size) for size in range(1, len(tasks) + 1)],
            selection_mode="multi",
            default=[str(size) for size in sizes_at_first(len(tasks))],
            key="sizes",
        )
        most = number(
            st.number_input,
            "Subsets at most",
            1,
            20,
            MOST_SUBSETS,
            1,
            key="subsets",
            width=160,
            help="Of each number of tasks; they are drawn, always the same",
        )
    if not sizes:
        write_chosen("sizes")
        st.info("Choose at least one number of tasks.")
        return []
    return subsets_of(tasks, [int(size) for size in sizes], most)
