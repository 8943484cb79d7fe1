"""Loss and accuracy in the plane of two task vectors, before and after AWD."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from merging.charts import theme
from merging.charts.what_if import Landmark, landscape_figure
from merging.core.text import printed
from merging.evaluation.accuracy import best_first
from merging.runs.jobs.landscape import (
    AWD,
    BASE,
    FIRST,
    HIGHEST,
    IMAGES,
    LOWEST,
    SECOND,
    STEPS,
    TASK_ARITHMETIC,
    LandscapeJob,
    LandscapeResult,
    Quantity,
)
from merging.suites.suite import Split
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, show
from ui.runs import shipped
from ui.runs.jobs import result_of, run_of
from ui.shell import state
from ui.shell.url import choice, said_below

PARAMETERS = ("first", "second", "plane-scope", "plane-of", "plane-task")  # what the URL can hold
_MEAN = "mean"
_SCOPES = ("model", "layer")
_QUANTITIES: tuple[Quantity, ...] = ("accuracy", "loss")
_PANELS = {"before": "Before AWD: axes τ", "after": "After AWD: axes φ"}
_NEAR = 0.01  # distance from a plane, as a share of that from the base, up to which a model counts as in it


def landscape_view(tasks: tuple[str, ...], split: Split) -> None:
    """Choice of the two tasks, the job, and both planes."""
    st.write(
        "Every point of a plane is a model, θ₀ + x·u₁ + y·u₂. On the left the axes are two task vectors, on the right "
        "the same two after AWD, solved for these two alone."
    )
    if len(tasks) < 2:
        st.info("Choose at least two tasks in the sidebar.", icon=":material/checklist:")
        return
    labels = accuracy_view.task_labels(tasks)
    left, middle, right = st.columns(3, gap="medium", vertical_alignment="bottom")
    with said_below():
        first = choice(left.selectbox, "First task", labels, key="first")
        others = {task: label for task, label in labels.items() if task != first}
        second = choice(middle.selectbox, "Second task", others, key="second")
        scope = choice(
            right.segmented_control,
            "Scope of AWD",
            _SCOPES,
            default="model",
            required=True,
            key="plane-scope",
            help="One redundant vector for the model keeps both planes the same; one per layer does not",
        )
    pair = (first, second)
    if accuracy_view.explain_unmeasurable(pair):
        return
    job = LandscapeJob.build(
        suite=state.suite_reference(),
        tasks=pair,
        split=split,
        device=str(state.device()),
        edit="awd",
        edit_params={"scope": scope},
    )
    result = result_of(
        job,
        LandscapeResult,
        key="landscape",
        button="Measure the landscape",
        icon=":material/landscape:",
        reason=f"{2 * STEPS**2} models, {IMAGES} images of each task, have not been measured yet.",
    )
    if result is not None:
        _planes(result, {task: labels[task] for task in pair}, str(scope))
        shipped.say([run_of(job)], "landscape")


def _planes(result: LandscapeResult, labels: Mapping[str, str], scope: str) -> None:
    """Both planes, of the quantity and the task that the reader chooses."""
    choices = {_MEAN: "both, mean", **labels}
    with said_below(), st.container(horizontal=True, gap="medium"):
        quantity = choice(st.segmented_control, "Show", _QUANTITIES, default="accuracy", required=True, key="plane-of")
        of = choice(st.segmented_control, "Of", choices, default=_MEAN, required=True, key="plane-task")
    chosen = tuple(labels) if of == _MEAN else (of,)
    scale = 100 if quantity == "accuracy" else 1
    planes = {
        name: scale * np.mean([plane.of(quantity)[task] for task in chosen], axis=0)
        for name, plane in result.planes.items()
    }
    names = list(labels.values())
    chart = partial(
        landscape_figure,
        result.axis,
        [(title, planes[name], places(result, name, names), _axes(name, names)) for name, title in _PANELS.items()],
        "%" if quantity == "accuracy" else "nats",
        low_is_good=quantity == "loss",
    )
    show(
        chart,
        key="planes",
        file="landscape",
        takeaway=takeaway(result, planes, quantity, chosen),
        table=landscape_table(result, planes, quantity),
    )
    images = sum(result.counts.values())
    span = f"{STEPS} × {STEPS} points from {printed(LOWEST)} to {printed(HIGHEST)}"
    split = accuracy_view.SPLIT_WORDS["val" if result.split == "val" else "test"]
    note = f"{images} {split} images, drawn at random, at {span}. "
    note += f"{escape_markdown(result.about_images)} " if result.about_images else ""
    if scope == "model":
        note += (
            "With one redundant vector for the model, φ₁ and φ₂ are combinations of τ₁ and τ₂: both pictures show the "
            "same plane, in other coordinates. AWD + Task Arithmetic is Task Arithmetic with other coefficients."
        )
    else:
        note += "Models that do not lie in a plane are left out of its picture; the table says how far away they are."
    st.caption(note)


def _axes(plane: str, names: list[str]) -> tuple[str, str]:
    symbol = "τ" if plane == "before" else "φ"
    first, second = (f"coefficient of {symbol} of {theme.plain(name)}" for name in names)
    return first, second


def _models(result: LandscapeResult, names: list[str]) -> dict[str, tuple[str, theme.Style]]:
    """Name in the result → label and style."""
    scaling = result.scaling
    return {
        BASE: ("Base", theme.style_of("Zero-shot")),
        FIRST: (f"Model of {names[0]}", theme.style_of("Individual")),
        SECOND: (f"Model of {names[1]}", theme.Style(theme.style_of("Individual").color, "star")),
        TASK_ARITHMETIC: (f"Task Arithmetic, λ = {scaling['before']:g}", theme.style_of("Task Arithmetic")),
        AWD: (f"AWD + Task Arithmetic, λ = {scaling['after']:g}", theme.style_of("AWD + Task Arithmetic")),
    }


def places(result: LandscapeResult, plane: str, names: list[str]) -> list[Landmark]:
    """The models that lie in a plane."""
    found = result.planes[plane].places
    models = _models(result, names)
    return [
        Landmark(label, found[key][0], found[key][1], style)
        for key, (label, style) in models.items()
        if found[key][2] <= _NEAR
    ]


def takeaway(
    result: LandscapeResult, planes: Mapping[str, np.ndarray], quantity: Quantity, tasks: tuple[str, ...]
) -> str:
    """The best point of the grid against both merges at the λ that validation chose."""
    better = -planes["before"] if quantity == "loss" else planes["before"] / 100
    row, column = divmod(best_first(better.ravel().tolist())[0], STEPS)
    scale, unit = (100, " %") if quantity == "accuracy" else (1, " nats")

    def at(name: str) -> str:
        return f"{scale * float(np.mean([result.points[name].of(quantity)[task] for task in tasks])):.3g}{unit}"

    x, y = result.axis[column], result.axis[row]
    return (
        f"Before AWD the best {quantity} of the grid, {planes['before'][row, column]:.3g}{unit}, is at "
        f"({printed(x)}, {printed(y)}). "
        f"Task Arithmetic at λ = {result.scaling['before']:g} has {at(TASK_ARITHMETIC)}, AWD + Task Arithmetic at "
        f"λ = {result.scaling['after']:g} has {at(AWD)}, the base {at(BASE)}."
    )


def landscape_table(result: LandscapeResult, planes: Mapping[str, np.ndarray], quantity: str) -> pd.DataFrame:
    """A row per point of both grids, then one per model with its distance from the plane."""
    axis = result.axis
    rows: list[tuple[Any, ...]] = [
        (name, "", x, y, round(float(plane[i, j]), 4), 0.0)
        for name, plane in planes.items()
        for i, y in enumerate(axis)
        for j, x in enumerate(axis)
    ]
    rows += [
        (name, model, place[0], place[1], None, place[2])
        for name, plane in result.planes.items()
        for model, place in plane.places.items()
    ]
    return pd.DataFrame(rows, columns=["plane", "model", "x", "y", quantity, "distance from the plane"])
