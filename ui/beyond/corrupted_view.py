"""Corrupted images: how they look, what they cost each method, and whether adapting on them helps."""

from collections.abc import Mapping, Sequence
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
from merging.core.text import counted, in_a_row
from merging.methods.presets import Preset
from merging.runs.beyond import measured_for_all, robustness_job, robustness_of, shifts_of, zero_shot_of
from merging.runs.jobs.robustness import RobustnessResult
from merging.suites.images.corruptions import CORRUPTIONS, READY, READY_TEXT, SEVERITIES, corrupt, severity_text
from merging.suites.images.suite_images import ready_corruptions
from merging.suites.images.thumbnails import picture
from merging.suites.protocols import CORRUPTED, CORRUPTED_COLUMNS, CORRUPTED_TASKS, SOURCE, has_published_protocols
from ui.accuracy import view as accuracy_view
from ui.accuracy.measuring import evaluator
from ui.beyond.measuring import chosen_methods, measured, say_shipped
from ui.look.figure import escape_markdown, is_dark, show, show_table
from ui.runs.jobs import known_of
from ui.shell import state
from ui.shell.url import choice, number, said_below, write_chosen

PARAMETERS = ("severities", "severity", "samples", "sample")  # what the URL can hold
DEFAULT_SEVERITY = "3"
_SHOWN = 56  # pixels of an image on the page: six of them beside each other on a phone


def corrupted_view(tasks: tuple[str, ...]) -> None:
    """Choice of severities, the jobs, the charts, and samples."""
    st.write(
        "All test images are corrupted in seven ways. Weights are made once, λ chosen on clean validation images; a "
        "method that adapts on test images adapts on the corrupted ones, as published, and on clean ones to compare."
    )
    if accuracy_view.explain_unmeasurable(tasks):
        return
    ready = ready_corruptions(state.suite(), tasks)
    levels = _severities(ready)
    methods = chosen_methods(localised=True)
    if levels and methods:
        _measured(tasks, levels, methods, ready)
    _published()
    _samples(tasks)


def _severities(ready: Sequence[str]) -> list[int]:
    """The severities to measure; corrupted images that come with data sets among them, where there are any."""
    chosen = choice(
        st.pills,
        "Severities",
        [*map(str, SEVERITIES), *([READY_TEXT] if ready else [])],
        selection_mode="multi",
        default=[DEFAULT_SEVERITY],
        key="severities",
        help="How strong the corruptions are, from 1 to 5"
        + (f"; {READY_TEXT}: images that the data sets carry corrupted" if ready else ""),
    )
    if not chosen:
        write_chosen("severities")
        st.info("Choose at least one severity.")
    return [READY if level == READY_TEXT else int(level) for level in sorted(chosen)]


def _measured(tasks: tuple[str, ...], levels: list[int], methods: Sequence[Preset], ready: Sequence[str]) -> None:
    """The jobs, and charts of what is known."""
    reference, device = state.suite_reference(), str(state.device())
    shifts = [one for one in shifts_of(severities=levels) if not one.ready or one.corruption in ready]
    jobs = [robustness_job(preset, reference, tasks, shifts, device) for preset in methods]
    before = known_of(jobs)
    found = measured(
        methods,
        before,
        RobustnessResult,
        key="corrupted",
        note=f"Each is measured on {counted(len(shifts) + 1, 'set')} of the test images; what adapts on them is made "
        "anew for each.",
        in_part=True,
    )
    besides = {shift.severity for one in before for shift in one.besides} - set(levels)
    if besides:
        at = in_a_row([severity_text(one) for one in sorted(besides)])
        st.caption(f"Measured for some of these methods as well: severity {at}.")
    if found:
        known = {shift for _, one in found for shift in one.shifts}
        names = {level: [one.corruption for one in shifts if one.severity == level] for level in levels}
        some = [level for level in levels if any(one.text in known for one in shifts if one.severity == level)]
        _charts(found, {level: names[level] for level in some})
        say_shipped(before, key="corrupted", in_part=True)


def _charts(found: Sequence[tuple[Preset, RobustnessResult]], levels: Mapping[int, list[str]]) -> None:
    """The heat map of one severity, and lines over several.

    Args:
        found: what is known.
        levels: severity → the corruptions that there are at it; only severities at which something is measured.
    """
    measured_rows = [row for preset, one in found for row in robustness_of(preset, one)]
    first = found[0][1]
    rows, level = [zero_shot_of(*(one for _, one in found)), *measured_rows], next(iter(levels))
    if len(levels) > 1:
        shown = {severity_text(one): one for one in levels}
        names, label = list(shown), "Severity shown"
        level = shown[choice(st.segmented_control, label, names, default=names[0], required=True, key="severity")]
    figure = partial(robustness_figure, rows, levels[level], level, is_dark())
    show(
        figure,
        narrow=partial(figure, narrow=True),
        key="robustness",
        takeaway=robustness_takeaway(measured_rows, levels[level], level),
        table=robustness_table(rows, levels[level], [level]),
        file="corrupted-images",
    )
    gaps = not all(one.text in row.accuracy for row in measured_rows for one in shifts_of(levels[level], [level]))
    of = "as their data sets carry them" if level == READY else "corrupted at the size that the model sees"
    st.caption(
        escape_markdown(
            f"Mean accuracy over {counted(len(first.clean), 'task')}, {sum(first.counts.values()):,} test images, "
            f"{of}. {'What is empty was not measured yet. ' if gaps else ''}{first.about_images}".strip()
        )
    )
    made = [one for one in levels if one != READY]
    names = measured_for_all(measured_rows, list(CORRUPTIONS), made)
    if len(made) > 1 and names:
        over = "the seven corruptions" if len(names) == len(CORRUPTIONS) else in_a_row(_titles(names))
        show(
            partial(severity_figure, rows, names, made),
            key="robustness-lines",
            takeaway=f"Mean over the tasks and {over}, at each severity; clean images on the left.",
            table=robustness_table(rows, names, made),
            file="accuracy-over-severity",
        )


def _titles(corruptions: Sequence[str]) -> list[str]:
    """What to call some corruptions on screen."""
    return [CORRUPTIONS[name].title for name in corruptions]


def _published() -> None:
    """The table of the literature, where it is about these checkpoints."""
    if not has_published_protocols(state.suite()):
        return
    st.header("Published results")
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
    st.header("What the images look like")
    labels = accuracy_view.task_labels(tasks)
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        task = choice(st.selectbox, "Images of", labels, key="samples", width=320)
        images = evaluator().image_set(task, "test")
        place = number(st.number_input, "Image", 1, len(images), 1, 1, key="sample", width=140)
    clean = np.array(images.pixels[place - 1 : place])
    st.caption("From left to right: clean, and severities 1 to 5.")
    for kind in CORRUPTIONS.values():
        title, row = st.columns([0.2, 0.8], vertical_alignment="center")
        title.markdown(kind.title)
        damaged = [corrupt(clean, kind.name, level)[0] for level in SEVERITIES]
        row.image(
            [picture(image) for image in (clean[0], *damaged)],
            caption=["clean", *map(str, SEVERITIES)],
            width=_SHOWN,
            alt=["clean", *(f"{kind.title}, severity {level}" for level in SEVERITIES)],
        )
