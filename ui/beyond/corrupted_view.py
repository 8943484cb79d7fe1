"""Corrupted images: how they look, what they cost each method, and whether adapting on them helps."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from merging.charts.beyond import (
    robustness_figure,
    robustness_table,
    robustness_takeaway,
    severity_figure,
)
from merging.core.text import counted
from merging.runs.beyond import Robustness, robustness_job, robustness_of, shifts_of, zero_shot_of
from merging.runs.jobs.robustness import RobustnessResult
from merging.suites.images.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from merging.suites.images.thumbnails import picture
from merging.suites.protocols import CORRUPTED, CORRUPTED_COLUMNS, CORRUPTED_TASKS, SOURCE, has_published_protocols
from ui.accuracy import view as accuracy_view
from ui.accuracy.measuring import evaluator
from ui.beyond.measuring import Work, chosen_methods, measured
from ui.look.figure import escape_markdown, is_dark, show, show_table
from ui.shell import state
from ui.shell.url import choice, number, said_below, write_chosen

PARAMETERS = ("severities", "severity", "samples", "sample")  # what the URL can hold
_LEVELS = {str(level): level for level in SEVERITIES}
_AT_FIRST = "3"
_SHOWN = 64  # pixels of an image on the page


def corrupted_view(tasks: tuple[str, ...]) -> None:
    """Choice of severities, the jobs, the charts, and samples."""
    st.write(
        "All test images are corrupted in seven ways. Weights are made once, λ chosen on clean validation images; a "
        "method that adapts on test images adapts on the corrupted ones, as published, and on clean ones to compare."
    )
    if accuracy_view.explain_unmeasurable(tasks):
        return
    levels = _severities()
    methods = chosen_methods(localised=True)
    if levels and methods:
        reference, device, shifts = state.suite_reference(), str(state.device()), shifts_of(severities=levels)
        jobs = [robustness_job(preset, reference, tasks, shifts, device) for preset in methods]
        found = measured(
            methods,
            jobs,
            RobustnessResult,
            Work([1 + len(shifts) * job.pair.adapts_on_test for job in jobs], 1 + len(shifts)),
            key="corrupted",
            note=f"Each is measured on {counted(len(shifts) + 1, 'set')} of the test images; what adapts on them is "
            "made anew for each.",
        )
        if found:
            _charts([row for preset, one in found for row in robustness_of(preset, one)], found[0][1], levels)
    _published()
    _samples(tasks)


def _severities() -> list[int]:
    """The severities to measure."""
    chosen = choice(
        st.pills,
        "Severities",
        list(_LEVELS),
        selection_mode="multi",
        default=[_AT_FIRST],
        key="severities",
        help="How strong the corruptions are, from 1 to 5",
    )
    if not chosen:
        write_chosen("severities")
        st.info("Choose at least one severity.")
    return sorted(_LEVELS[level] for level in chosen)


def _charts(measured_rows: list[Robustness], first: RobustnessResult, levels: list[int]) -> None:
    """The heat map of one severity, and lines over several."""
    rows, names = [zero_shot_of(first), *measured_rows], list(CORRUPTIONS)
    level = levels[0]
    if len(levels) > 1:
        shown = [str(one) for one in levels]
        level = _LEVELS[
            choice(st.segmented_control, "Severity shown", shown, default=shown[0], required=True, key="severity")
        ]
    show(
        partial(robustness_figure, rows, names, level, is_dark()),
        key="robustness",
        takeaway=robustness_takeaway(rows[1:], names, level),
        table=robustness_table(rows, names, levels),
        file="corrupted-images",
    )
    st.caption(
        escape_markdown(
            f"Mean accuracy over {counted(len(first.clean), 'task')}, {sum(first.counts.values()):,} test images, "
            f"corrupted at the size that the model sees. {first.about_images}".strip()
        )
    )
    if len(levels) > 1:
        show(
            partial(severity_figure, rows, names, levels),
            key="robustness-lines",
            takeaway="Mean over the tasks and the seven corruptions, at each severity; clean images on the left.",
            table=robustness_table(rows, names, levels),
            file="accuracy-over-severity",
        )


def _published() -> None:
    """The table of the literature, where it is about these checkpoints."""
    if not has_published_protocols(state.suite()):
        return
    st.subheader("Published results")
    titles = ["Clean (%)", *(f"{CORRUPTIONS[name].title} (%)" for name in CORRUPTED_COLUMNS[1:])]
    table = pd.DataFrame([(method, *values) for method, values in CORRUPTED.items()], columns=["Method", *titles])
    show_table(table, key="published-corrupted", file="published-corrupted-images", height="content")
    st.caption(
        escape_markdown(
            f"Means over {', '.join(CORRUPTED_TASKS)}, as printed. Their corruptions are of another make than those "
            f"above. Source: {SOURCE}."
        )
    )


def _samples(tasks: tuple[str, ...]) -> None:
    """One image of a task, clean and under every corruption at every severity."""
    st.subheader("What the images look like")
    labels = accuracy_view.task_labels(tasks)
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        task = choice(st.selectbox, "Images of", labels, key="samples", width=320)
        images = evaluator().image_set(task, "test")
        place = number(st.number_input, "Image", 1, len(images), 1, 1, key="sample", width=140)
    clean = np.array(images.pixels[place - 1 : place])
    heads = st.columns([0.22, *[0.13] * (1 + len(SEVERITIES))])
    for head, words in zip(heads[1:], ("clean", *(f"severity {level}" for level in SEVERITIES)), strict=True):
        head.caption(words)
    for kind in CORRUPTIONS.values():
        cells = st.columns([0.22, *[0.13] * (1 + len(SEVERITIES))], vertical_alignment="center")
        cells[0].markdown(kind.title)
        cells[1].image(picture(clean[0]), width=_SHOWN, alt="clean")
        for cell, level in zip(cells[2:], SEVERITIES, strict=True):
            damaged = corrupt(clean, kind.name, level)[0]
            cell.image(picture(damaged), width=_SHOWN, alt=f"{kind.title}, severity {level}")
