"""Charts of the page What if: where a merge points, who disturbs whom, curves over λ, the plane of two task vectors."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merging.charts import theme
from merging.charts.accuracy import Series, marker_of
from merging.charts.geometry import MAX_NUMBERED, names_on_axis
from merging.core.text import printed
from merging.evaluation.paired import points
from merging.methods.forgetting import TO_FORGET
from merging.runs.jobs.scaling_curve import ScalingCurveResult
from merging.suites.suite import Split

_SPLITS: tuple[tuple[Split, str, str], ...] = (("val", "validation", "solid"), ("test", "test", "dash"))
_GAP = 0.16  # between planes, as a share of the width: room for the names of an axis


def outcome_figure(
    mine: Series, references: Sequence[Series], changes: Mapping[str, float], tasks: Mapping[str, str]
) -> go.Figure:
    """A bar per task, the average first and set apart; the references are marks, the change is written beside it.

    Tasks to be forgotten are named as such.

    Args:
        mine: accuracies of the merge, 0 … 1.
        references: what to compare with, on the same images.
        changes: task → change since the last position, where there is one.
        tasks: task → label, in the order to draw.
    """
    rows = [0.0, *(1.4 + index for index in range(len(tasks)))]
    apart = ["", *(TO_FORGET if task in mine.forgotten else "" for task in tasks)]
    names = ["Average", *tasks.values()]
    moved: list[float | None] = [changes.get(task) for task in tasks]
    known = [changes[task] for task in mine.counted if task in changes]
    moved.insert(0, sum(known) / len(known) if known and len(known) == len(mine.counted) else None)

    def percent(one: Series) -> list[float | None]:
        return [100 * one.average if one.counted else None, *(100 * one.accuracy[task] for task in tasks)]

    values = percent(mine)
    texts = [
        ("–" if value is None else f"<b>{value:.1f}</b>") + (f"  {points(change)}" if change else "")
        for value, change in zip(values, moved, strict=True)
    ]
    plain_names = [theme.plain(name) + note for name, note in zip(names, apart, strict=True)]
    traces: list[dict[str, object]] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": values,
            "y": rows,
            "width": 0.72,
            "name": theme.plain(mine.name),
            "marker": {"color": mine.style.color},
            "customdata": plain_names,
            "hovertemplate": "%{customdata}: <b>%{x:.1f}</b><extra>%{fullData.name}</extra>",
        }
    ]
    traces += [
        {
            "type": "scatter",
            "mode": "markers",
            "x": percent(one),
            "y": rows,
            "name": theme.plain(one.name),
            "marker": {**marker_of(one, 11), "line": {"width": 1.5, "color": "white"}},
            "customdata": plain_names,
            "hovertemplate": "%{customdata}: <b>%{x:.1f}</b><extra>%{fullData.name}</extra>",
        }
        for one in references
    ]
    notes = [
        {"x": 1.01, "xref": "paper", "y": row, "text": text, "showarrow": False, "xanchor": "left", "align": "left"}
        for row, text in zip(rows, texts, strict=True)
    ]
    short = [theme.plain(theme.shorten(name)) + note for name, note in zip(names, apart, strict=True)]
    ticks = [f"<b>{short[0]}</b>", *short[1:]]
    band = {
        "type": "rect",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": -0.6,
        "y1": 0.65,
        "layer": "below",
        "fillcolor": theme.SHADE,
        "line": {"width": 0},
    }
    return theme.compose(
        traces,
        height=110 + 36 * len(rows),
        annotations=notes,
        shapes=[band],
        margin={"l": 8, "r": 100, "t": 44, "b": 8},
        xaxis={"title": {"text": "Accuracy (%)"}, "range": [0, 102], "zeroline": False},
        yaxis={
            "tickvals": rows,
            "ticktext": ticks,
            "range": [rows[-1] + 0.6, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
    )


def direction_figure(cosines: np.ndarray, tasks: Sequence[str]) -> go.Figure:
    """Cosine of the merged vector with every task vector, ``[T]``, as bars from 0."""
    values = np.round(cosines, 5).tolist()
    bars = {
        "type": "bar",
        "x": values,
        "y": list(range(len(tasks))),
        "orientation": "h",
        "marker": {"color": theme.AFTER.color},
        "customdata": [theme.plain(task) for task in tasks],
        "text": [printed(value, ".2f") for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{customdata}<br>cosine %{x:.4f}<extra></extra>",
    }
    low, high = min(0.0, float(cosines.min())), max(0.1, float(cosines.max()))
    room = 0.12 * (high - low)
    return theme.compose(
        [bars],
        height=70 + 26 * len(tasks),
        legend=False,
        xaxis={
            "title": {"text": "cosine of the merged vector with τ"},
            "zeroline": True,
            "range": [low - room if low < 0 else 0.0, high + room],
        },
        yaxis={**names_on_axis(tasks), "autorange": "reversed", "showgrid": False},
    )


def interference_figure(
    cosine: np.ndarray, change: np.ndarray, tasks: Sequence[str], *, dark: bool = False
) -> go.Figure:
    """Cosines beside what each task does to the others' accuracy, in the same order; the diagonals are left out.

    Args:
        cosine: of the task vectors, ``[T, T]``.
        change: of accuracy of task i (row) when task j (column) joins, −1 … 1, ``[T, T]``.
        tasks: what to call them.
        dark: whether the page is dark.
    """
    hover = [theme.plain(task) for task in tasks]
    places = list(range(len(tasks)))
    panels = (
        ("Cosine of τ", cosine, ".2f", [[f"{a} · {b}" for b in hover] for a in hover], ""),
        (
            "Change of the row's accuracy when the column joins (points)",
            100 * change,
            "+.1f",
            [[f"{a} when {b} joins" for b in hover] for a in hover],
            " points",
        ),
    )
    traces: list[dict[str, object]] = []
    layout: dict[str, object] = {}
    titles = []
    for number, (title, matrix, form, pairs, unit) in enumerate(panels):
        suffix = "2" if number else ""
        start, end = (0.56, 1.0) if number else (0.0, 0.44)
        shown = _without_diagonal(matrix)
        limit = max((abs(value) for row in shown for value in row if value is not None), default=0.0) or 1.0
        texts = [
            ["" if one is None else theme.on_cell(printed(one, form), one / limit, dark) for one in row]
            for row in shown
        ]
        traces.append(
            {
                "type": "heatmap",
                "z": shown,
                "x": places,
                "y": places,
                "xaxis": f"x{suffix}",
                "yaxis": "y",
                "xgap": 1.5,
                "ygap": 1.5,
                "colorscale": theme.diverging_scale(dark),
                "zmin": -limit,
                "zmax": limit,
                "showscale": False,
                "text": texts if len(tasks) <= MAX_NUMBERED else None,
                "texttemplate": "%{text}",
                "textfont": {"size": 11 if len(tasks) <= 8 else 9},
                "customdata": pairs,
                "hoverongaps": False,
                "hovertemplate": "%{customdata}<br>%{z:.3f}" + unit + "<extra></extra>",
            }
        )
        layout[f"xaxis{suffix}"] = {
            **names_on_axis(tasks),
            "domain": [start, end],
            "anchor": "y",
            "showgrid": False,
            "tickangle": -45 if len(tasks) <= MAX_NUMBERED else -90,
        }
        titles.append(theme.caption(title, (start + end) / 2))
    return theme.compose(
        traces,
        height=160 + (34 if len(tasks) <= MAX_NUMBERED else 24) * len(tasks),
        legend=False,
        dragmode=False,
        annotations=titles,
        yaxis={**names_on_axis(tasks), "autorange": "reversed", "showgrid": False},
        **layout,
    )


def _without_diagonal(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if i == j else float(value) for j, value in enumerate(row)] for i, row in enumerate(matrix)]


def agreement_figure(
    cosine: np.ndarray, change: np.ndarray, tasks: Sequence[str], *, joining: int | None = None, dark: bool = False
) -> go.Figure:
    """Every pair of different tasks: its cosine and the change of accuracy, with the straight line of least squares.

    Args:
        cosine: of the task vectors, ``[T, T]``.
        change: of accuracy of task i (row) when task j (column) joins, −1 … 1, ``[T, T]``; NaN if not measured yet.
        tasks: what to call them.
        joining: a task j whose pairs stand out; the one closest to it is named.
        dark: whether the page is dark.
    """
    rows, columns = np.nonzero(~np.eye(len(tasks), dtype=bool) & np.isfinite(change))
    x, y = cosine[rows, columns], 100 * change[rows, columns]
    out = columns == joining
    notes = []
    if out.any():
        nearest = int(np.flatnonzero(out)[x[out].argmax()])
        notes = [
            {
                "x": float(x[nearest]),
                "y": float(y[nearest]),
                "text": theme.plain(tasks[rows[nearest]]),
                "showarrow": False,
                "xanchor": "right",
                "xshift": -12,
            }
        ]
    names = [theme.plain(task) for task in tasks]
    traces: list[dict[str, object]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": np.round(x, 5).tolist(),
            "y": np.round(y, 3).tolist(),
            "marker": {
                "color": np.where(out, theme.REDUNDANT.color, theme.AFTER.color).tolist(),
                "size": np.where(out, 14, 8).tolist(),
                "opacity": 0.75,
            },
            "customdata": [f"{names[i]} when {names[j]} joins" for i, j in zip(rows, columns, strict=True)],
            "hovertemplate": "%{customdata}<br>cosine %{x:.3f}, <b>%{y:+.1f}</b> points<extra></extra>",
        }
    ]
    if len(x) and np.ptp(x) > 0:
        slope, height = np.polyfit(x, y, 1)
        ends = [float(x.min()), float(x.max())]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": ends,
                "y": [slope * end + height for end in ends],
                "line": {"color": theme.neutral(dark), "width": 2, "dash": "dot"},
                "hoverinfo": "skip",
            }
        )
    return theme.compose(
        traces,
        height=380,
        legend=False,
        annotations=notes,
        xaxis={"title": {"text": "cosine of the two task vectors"}, "zeroline": True},
        yaxis={"title": {"text": "change of accuracy (points)"}, "zeroline": True},
    )


def curves_figure(curves: Sequence[tuple[Series, ScalingCurveResult]], axis: str = "Average accuracy (%)") -> go.Figure:
    """Accuracy over λ: validation as lines with the chosen λ marked, test dashed.

    Args:
        curves: a series (its accuracy is not drawn) and what was measured of it.
        axis: title of the value axis.
    """
    traces: list[dict[str, Any]] = []
    for one, found in curves:
        color, name = one.style.color, theme.plain(one.name)
        place = found.scalings.index(found.scaling)
        for split, words, dash in _SPLITS:
            values = [100 * value for value in found.curve(split).average]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": found.scalings,
                    "y": values,
                    "name": f"{name}, {words}",
                    "legendgroup": f"{one.name}-{split}",
                    "line": {"color": color, "width": 2.5 if split == "val" else 1.5, "dash": dash},
                    "hovertemplate": "λ = %{x:g}: <b>%{y:.1f}</b><extra>%{fullData.name}</extra>",
                }
            )
            if split == "val":
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "x": [found.scaling],
                        "y": [values[place]],
                        "legendgroup": f"{one.name}-{split}",
                        "showlegend": False,
                        "marker": marker_of(one, 13),
                        "cliponaxis": False,
                        "name": name,
                        "hovertemplate": "chosen: λ = %{x:g}, <b>%{y:.1f}</b><extra>%{fullData.name}</extra>",
                    }
                )
    return theme.compose(
        traces,
        height=460,
        xaxis={"title": {"text": "Scaling coefficient λ"}, "zeroline": False},
        yaxis={"title": {"text": axis}, "zeroline": False},
    )


@dataclass(frozen=True)
class Landmark:
    """A model in the plane of a landscape.

    Attributes:
        label: what to write beside it.
        x: coefficient of the first axis.
        y: that of the second.
        style: how it is drawn.
    """

    label: str
    x: float
    y: float
    style: theme.Style


def landscape_figure(
    axis: Sequence[float],
    planes: Sequence[tuple[str, np.ndarray, Sequence[Landmark], tuple[str, str]]],
    unit: str,
    *,
    low_is_good: bool,
) -> go.Figure:
    """Contours over the plane of two vectors, panels side by side on one scale, with models as marks.

    Args:
        axis: values of both coordinates.
        planes: title, values ``[y][x]``, models, and names of the axes of every panel.
        unit: of the values, for the colour bar.
        low_is_good: whether low values are better, as of a loss; the best is always the brightest.
    """
    values = np.concatenate([plane[1].ravel() for plane in planes])
    low = float(values.min())
    high = float(np.quantile(values, 0.95) if low_is_good else values.max())  # far out losses grow without end
    width = (1 - _GAP * (len(planes) - 1)) / len(planes)
    ends = [float(axis[0]), float(axis[-1])]
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    titles, named = [], set[str]()
    for number, (title, table, models, names) in enumerate(planes):
        suffix = str(number + 1) if number else ""
        start = number * (width + _GAP)
        traces += _plane_traces(axis, table, models, {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}, named)
        named |= {one.label for one in models}
        bare = {"range": ends, "zeroline": False, "showgrid": False}
        layout[f"xaxis{suffix}"] = {
            "title": {"text": names[0]},
            "domain": [start, start + width],
            "anchor": f"y{suffix}",
            **bare,
        }
        layout[f"yaxis{suffix}"] = {"title": {"text": names[1]}, "anchor": f"x{suffix}", **bare}
        titles.append(theme.caption(title, start + width / 2))
    figure = theme.compose(
        traces,
        height=520,
        annotations=titles,
        margin={"l": 8, "r": 8, "t": 80, "b": 8},
        **layout,
        coloraxis={
            "colorscale": "Cividis",
            "reversescale": low_is_good,
            "cmin": low,
            "cmax": high,
            "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"text": unit}},
        },
    )
    return figure.update_layout(legend_y=1.09)


def _plane_traces(
    axis: Sequence[float], table: np.ndarray, models: Sequence[Landmark], at: Mapping[str, str], named: Collection[str]
) -> list[dict[str, Any]]:
    """Contours of one panel and its models; those named already are not in the legend again."""
    contours = {
        "type": "contour",
        "x": list(axis),
        "y": list(axis),
        "z": np.round(table, 4).tolist(),
        **at,
        "coloraxis": "coloraxis",
        "contours": {"coloring": "heatmap"},
        "ncontours": 14,
        "line": {"width": 0.6, "color": "rgba(128, 128, 128, 0.7)"},
        "hovertemplate": "(%{x:.2f}, %{y:.2f}): <b>%{z:.3g}</b><extra></extra>",
    }
    marks = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [one.x],
            "y": [one.y],
            **at,
            "name": theme.plain(one.label),
            "showlegend": one.label not in named,
            "legendgroup": one.label,
            "cliponaxis": False,
            "marker": {
                "symbol": one.style.symbol,
                "size": 13,
                "color": one.style.color,
                "line": {"width": 2, "color": "white"},
            },
            "hovertemplate": "(%{x:.2f}, %{y:.2f})<extra>%{fullData.name}</extra>",
        }
        for one in models
    ]
    return [contours, *marks]
