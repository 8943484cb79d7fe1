"""Similarity: how the task vectors lie to each other, before and after disentangling them."""

import time
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from merging.charts import geometry as charts
from merging.core.text import printed
from merging.methods.edits.awd import AwdParams, Disentangled
from merging.weights.geometry import COSINE_ROUNDING, Geometry, Level, cosines, first_largest, mean_abs_cosine
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, is_dark, show
from ui.look.metric import metric_change
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import choice, switch
from ui.similarity import awd

through_app()

_LEVELS: tuple[Level, ...] = ("model", "block", "layer")
# Seconds in which the browser draws the heat maps before the other charts reach it and keep it busy. While a slider
# moves, a newer value takes over after this pause, and the others are not drawn for every value on the way.
_HEAD_START = 0.12
_SIDE_BY_SIDE = 3  # tasks whose three heat maps fit beside each other on a phone
_WHOLE = "similarity-whole"  # session state: the whole page runs, not only the fragment


@st.fragment
def explorer(geometry: Geometry) -> None:
    """Controls and charts: only this part of the page runs again when a slider moves."""
    whole = st.session_state.pop(_WHOLE, False)
    with st.container(border=True):
        params = awd.controls()
    found = awd.solve(geometry, params)
    if found is None:
        return
    if found.doubt:
        st.warning(f"{escape_markdown(found.doubt)}.", icon=":material/warning:")
    summary(geometry, found)
    cosine_section(geometry, found)
    if not whole:
        time.sleep(_HEAD_START)
    left, right = st.columns(2, gap="large")
    with left:
        layer_section(geometry, found)
    with right:
        multiplier_section(geometry, found)
    left, right = st.columns(2, gap="large")
    with left:
        map_section(geometry, found)
    with right:
        norm_section(geometry, found)
    objective_section(found, params)


def labels_of(geometry: Geometry) -> tuple[str, ...]:
    """What to call its tasks, in their order."""
    return tuple(accuracy_view.task_labels(geometry.tasks).values())


def summary(geometry: Geometry, found: Disentangled) -> None:
    """The four numbers that say what AWD did."""
    cells = st.columns(4, gap="medium")
    before, after = float(mean_abs_cosine(geometry.gram)), float(mean_abs_cosine(found.after.gram))
    change(cells[0], "Mean |cos|", before, after, "Mean absolute cosine over all pairs of tasks; 0 is orthogonal")
    change(cells[1], "Mean norm", geometry.norms.mean(), found.after.norms.mean(), "Mean norm of the task vectors")
    change(cells[2], "Objective L", found.curve[0], found.curve[-1], "Mean |cos| plus α times the norm of δ")
    cells[3].metric("Norm of δ", f"{found.redundant_norm:.4f}", help="Of the redundant vector, over the whole model")


def change(place: st.delta_generator.DeltaGenerator, label: str, before: float, after: float, help: str) -> None:
    """A number after AWD with its change."""
    shown = round(after - before, 4) + 0.0  # no −0: what is not shown is no change
    place.metric(
        label,
        f"{after:.4f}",
        **metric_change(shown, 4, less_is_better=True),
        help=f"{help}. Before: {before:.4f}",
    )


def cosine_section(geometry: Geometry, found: Disentangled) -> None:
    """Heat maps of the model, a block or a layer."""
    bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
    bar.header("Cosine similarity", width="content")
    level: Level = choice(
        bar.segmented_control,
        "Level",
        _LEVELS,
        default="model",
        required=True,
        key="level",
        label_visibility="collapsed",
    )
    labels, grams = geometry.at(level)
    _, after_grams = found.after.at(level)
    index = 0
    if level != "model":
        order = range(len(labels)) if level == "block" else charts.tower_order(geometry)
        index = choice(
            bar.selectbox,
            level.title(),
            {place: labels[place] for place in order},
            key=level,
            label_visibility="collapsed",
            width=260,
        )
    zoom = switch(
        bar.toggle,
        "Zoom the scale",
        True,
        key="zoom",
        help="Colours span the largest cosine between different tasks instead of −1 … 1, the same in all three maps",
    )
    before, after = cosines(grams[index]), cosines(after_grams[index])
    names, limit = labels_of(geometry), charts.cosine_limit(before, after, zoom)
    chart = partial(charts.cosine_figure, before, after, names, limit=limit, dark=is_dark())
    # Only of three tasks or fewer are cells large enough side by side; a slider redraws both, of which one is hidden.
    many = len(names) > _SIDE_BY_SIDE
    show(
        chart,
        narrow=partial(chart, stacked=True) if many else None,
        key="cosines",
        file=f"cosines-{level}",
        takeaway=cosine_takeaway(grams[index], after_grams[index], names),
        table=charts.pair_table(before, after, names),
    )


def cosine_takeaway(before: np.ndarray, after: np.ndarray, tasks: tuple[str, ...]) -> str:
    """One sentence on the closest pair and the mean."""
    if len(tasks) < 2:
        return "One task only: choose at least two to compare."
    rows, columns = np.triu_indices(len(tasks), 1)
    pair = first_largest(np.abs(cosines(before))[rows, columns])
    i, j = rows[pair], columns[pair]
    mean = moved(float(mean_abs_cosine(before)), float(mean_abs_cosine(after)))
    closest = moved(float(cosines(before)[i, j]), float(cosines(after)[i, j]))
    return f"Mean |cos| {mean}; the cosine of the closest pair, {tasks[i]} and {tasks[j]}, {closest}."


def moved(was: float, now: float) -> str:
    """How a cosine changes, as far as three decimals show it."""
    one, other = (printed(round(value, 3) + 0.0, ".3f") for value in (was, now))
    return f"stays at {one}" if one == other else f"{'falls' if now < was else 'rises'} from {one} to {other}"


def layer_section(geometry: Geometry, found: Disentangled) -> None:
    """Mean |cos| along the tower."""
    st.header("Along the tower")
    level = st.session_state.get("level", "model")
    if level == "block":
        labels, grams = geometry.at("block")
        after_grams = found.after.at("block")[1]
    else:
        order = charts.tower_order(geometry)
        labels = tuple(geometry.names[i] for i in order)
        grams, after_grams = geometry.grams[order], found.after.grams[order]
    before, after = mean_abs_cosine(grams), mean_abs_cosine(after_grams)
    chosen = None
    if level != "model" and level in st.session_state:
        chosen = geometry.at(level)[0][st.session_state[level]]
    lower = int((after < before - COSINE_ROUNDING).sum())
    show(
        partial(charts.layer_figure, labels, before, after, chosen=chosen, dark=is_dark()),
        key="layers",
        file="mean-cosine-per-layer",
        takeaway=f"Task vectors are closest in {labels[first_largest(before)]}; "
        f"mean |cos| falls in {lower} of {len(labels)} {'blocks' if level == 'block' else 'tensors'}.",
        table=pd.DataFrame({"part": labels, "before": before, "after": after}),
    )


def map_section(geometry: Geometry, found: Disentangled) -> None:
    """The plane through the base model."""
    st.header("Map of the task models")
    plane = charts.planar_map(geometry.gram, found.after.gram, found.redundant_norm)
    names = labels_of(geometry)
    points = {"before": plane.before, "after": plane.after, "redundant vector": plane.redundant[None]}
    table = pd.concat(
        [
            pd.DataFrame({"what": label, "task": names if len(xy) > 1 else "", "x": xy[:, 0], "y": xy[:, 1]})
            for label, xy in points.items()
        ]
    )
    show(
        partial(charts.map_figure, plane, names, dark=is_dark()),
        key="map",
        file="map-of-task-vectors",
        takeaway=f"The plane holds {100 * plane.shown:.0f} % of the squared norms; every task that differs from the "
        "base moves by the same −δ.",
        table=table,
    )


def multiplier_section(geometry: Geometry, found: Disentangled) -> None:
    """What AWD followed by a plain sum comes down to."""
    st.header("Equivalent coefficients")
    multipliers = found.multipliers
    if multipliers is None:
        st.info(
            "With this scope or solver the redundant vector is no combination of whole task vectors, "
            "so no table of coefficients stands for it.",
            icon=":material/info:",
        )
        return
    names = labels_of(geometry)
    if multipliers.ndim == 1:
        chart = partial(charts.multiplier_figure, multipliers, names, dark=is_dark())
        table = pd.DataFrame({"task": names, "multiplier": multipliers})
        span = "its own number"
    else:
        order = charts.tower_order(geometry)
        labels = [geometry.names[i] for i in order]
        chart = partial(charts.multiplier_table_figure, multipliers[order], labels, names, dark=is_dark())
        table = pd.DataFrame(multipliers[order], columns=list(names))
        table.insert(0, "tensor", labels)
        span = "its own number in every layer"
    show(
        chart,
        key="multipliers",
        file="task-multipliers",
        table=table,
        takeaway=f"AWD + Task Arithmetic is Task Arithmetic with λ multiplied, for each task, by {span} (1 − T·a), "
        f"here {printed(multipliers.min(), '.3f')} to {printed(multipliers.max(), '.3f')}.",
    )


def norm_section(geometry: Geometry, found: Disentangled) -> None:
    """Norms of the vectors."""
    st.header("Norms")
    before, after, names = geometry.norms, found.after.norms, labels_of(geometry)
    show(
        partial(charts.norm_figure, before, after, names, dark=is_dark()),
        key="norms",
        file="norms",
        takeaway=f"Mean norm {before.mean():.3f} before, {after.mean():.3f} after: "
        "part of what AWD does at a fixed λ is scaling.",
        table=pd.DataFrame({"task": names, "before": before, "after": after}),
    )


def objective_section(found: Disentangled, params: AwdParams) -> None:
    """The objective on its way down."""
    st.header("Objective")
    unit = "stage" if params.solver == "exact" else "step"
    mean = {"model": "", "layer": ", mean over tensors", "row": ", mean over rows"}[params.scope]
    show(
        partial(charts.objective_figure, found.curve, unit=unit),
        key="objective",
        file="objective",
        takeaway=f"L from {found.curve[0]:.4f} to {found.curve[-1]:.4f} in {len(found.curve) - 1} {unit}s{mean}.",
        table=pd.DataFrame({unit: range(len(found.curve)), "objective": found.curve}),
    )


st.title("Similarity")
st.write(
    "Task vectors that point the same way disturb each other when they are added. Adaptive Weight Disentanglement "
    "subtracts one redundant vector δ from all of them so that they become more orthogonal."
)
selected = state.selected_tasks()
if len(selected) < 2:
    only = accuracy_view.task_labels(selected)[selected[0]]
    st.info(
        f"Only {escape_markdown(only)} is selected. Choose at least two tasks in the sidebar to compare them.",
        icon=":material/checklist:",
    )
else:
    st.session_state[_WHOLE] = True
    explorer(state.geometry(selected))
