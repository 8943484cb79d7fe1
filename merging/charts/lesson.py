"""Charts of the page Learn, to be read from the last row: few marks, large type."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merging.charts import theme

TYPE = 18  # pixels of every letter in a chart of the lesson
_NAMED = 3  # closest pairs that are named in the chart of slopes
_GAP = 0.15  # least distance of their names, on two lines, as a share of the height


def enlarge(figure: go.Figure, dark: bool, size: int = TYPE) -> go.Figure:
    """The same figure with all of its text large and in full contrast, as high as the page gives it room.

    Made anew of plain values: updating a figure part by part takes several times as long as making it.
    """
    font = {"size": size, "color": "#e6eaf0" if dark else "#0d141d"}
    described = figure.to_plotly_json()
    layout = described["layout"]
    for name in ("height", "template"):  # the template is plotly's own, which a figure has by itself
        layout.pop(name, None)
    layout["font"] = {**layout.get("font", {}), **font}
    layout["legend"] = {**layout.get("legend", {}), "font": font}
    layout["hoverlabel"] = {**layout.get("hoverlabel", {}), "font": {"size": size}}
    for name, axis in layout.items():
        if name.startswith(("xaxis", "yaxis")):
            layout[name] = {**axis, "tickfont": font, "title": {**axis.get("title", {}), "font": font}}
    layout["annotations"] = [
        {**note, "font": {**note.get("font", {}), "size": size}} for note in layout.get("annotations", [])
    ]
    for trace in described["data"]:
        if "text" in trace:
            trace["textfont"] = {**trace.get("textfont", {}), "size": size}
    return go.Figure(described)


def weights_figure(base: np.ndarray, tuned: np.ndarray, *, dark: bool = False) -> go.Figure:
    """Some weights before (x) and after fine-tuning (y), ``[N]`` each: what did not move lies on the dashed line.

    Args:
        base: weights of the base model.
        tuned: the same weights of a task model.
        dark: whether the page is dark.
    """
    reach = float(np.quantile(np.abs(np.concatenate([base, tuned])), 0.995)) or 1.0
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": np.round(base, 5).tolist(),
        "y": np.round(tuned, 5).tolist(),
        "marker": {"color": theme.AFTER.color, "size": 5, "opacity": 0.6},
        "hovertemplate": "base %{x:.4f}<br>fine-tuned %{y:.4f}<extra></extra>",
    }
    line = {
        "type": "line",
        "x0": -reach,
        "x1": reach,
        "y0": -reach,
        "y1": reach,
        "layer": "below",
        "line": {"color": theme.neutral(dark), "width": 2, "dash": "dash"},
    }
    return theme.compose(
        [points],
        height=400,
        legend=False,
        shapes=[line],
        xaxis={"title": {"text": "a weight in the base model"}, "range": [-reach, reach], "zeroline": False},
        yaxis={"title": {"text": "after fine-tuning"}, "range": [-reach, reach], "zeroline": False},
    )


def slopes_figure(before: np.ndarray, after: np.ndarray, tasks: Sequence[str], *, dark: bool = False) -> go.Figure:
    """A line for every pair of tasks, from its cosine before an edit to that after it; the closest pairs are named.

    Args:
        before: cosines ``[T, T]``.
        after: likewise.
        tasks: what to call them.
        dark: whether the page is dark.
    """
    pairs = [(i, j) for i in range(len(tasks)) for j in range(i)]
    names = [f"{theme.plain(tasks[j])} ·<br>{theme.plain(tasks[i])}" for i, j in pairs]
    starts, ends = ([round(float(matrix[pair]), 5) for pair in pairs] for matrix in (before, after))
    closest = sorted(range(len(pairs)), key=lambda n: -abs(starts[n]))[:_NAMED]
    traces: list[dict[str, Any]] = []
    for n, (name, *ys) in enumerate(zip(names, starts, ends, strict=True)):
        named = n in closest
        color = theme.REDUNDANT.color if named else theme.AFTER.color
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [0, 1],
                "y": ys,
                "opacity": 1 if named else 0.6,
                "line": {"color": color, "width": 3 if named else 1.5},
                "marker": {"size": 9 if named else 6},
                "hovertemplate": f"{name}<br>%{{y:.3f}}<extra></extra>",
            }
        )
    low, high = min(0.0, *starts, *ends), max(0.05, *starts, *ends)
    room = 0.06 * (high - low)
    places = apart([ends[n] for n in closest], _GAP * (high - low))
    notes = [
        {
            "x": 1.03,
            "y": place,
            "text": names[n],
            "showarrow": False,
            "xanchor": "left",
            "align": "left",
            "font": {"color": theme.REDUNDANT.color},
        }
        for n, place in zip(closest, places, strict=True)
    ]
    zero = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 0,
        "y1": 0,
        "layer": "below",
        "line": {"color": theme.neutral(dark), "width": 2, "dash": "dash"},
    }
    return theme.compose(
        traces,
        height=400,
        legend=False,
        annotations=notes,
        shapes=[zero],
        xaxis={
            "tickvals": [0, 1],
            "ticktext": ["before", "after AWD"],
            "range": [-0.12, 2.1],
            "showgrid": False,
            "zeroline": False,
        },
        yaxis={"title": {"text": "cosine of two task vectors"}, "range": [low - room, high + room], "zeroline": False},
    )


def apart(values: Sequence[float], gap: float) -> list[float]:
    """The values moved up, as little as it takes for any two to be at least ``gap`` apart; their order stays.

    >>> apart([1.0, 0.0, 0.25], 0.5)
    [1.0, 0.0, 0.5]
    """
    moved = list(values)
    order = sorted(range(len(values)), key=lambda index: values[index])
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    return moved


@dataclass(frozen=True)
class Bar:
    """One row of the chart of candidates.

    Attributes:
        name: what it is called.
        method: what picks the colour.
        value: in percent.
        cost: what it takes, in words.
        out: whether it is out of the question.
    """

    name: str
    method: str
    value: float
    cost: str
    out: bool = False


def candidates_figure(bars: Sequence[Bar], axis: str, *, dark: bool = False) -> go.Figure:
    """Models as bars, each below its name and what it costs; those that are out of the question are faint.

    Args:
        bars: the models.
        axis: title of the value axis.
        dark: whether the page is dark.
    """
    rows = list(range(len(bars)))
    rest = theme.neutral(dark)
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [round(bar.value, 2) for bar in bars],
            "y": rows,
            "width": 0.36,
            "marker": {
                "color": [theme.style_of(bar.method).color for bar in bars],
                "opacity": [0.25 if bar.out else 1 for bar in bars],
            },
            "customdata": [[theme.plain(bar.name), theme.plain(bar.cost)] for bar in bars],
            "hovertemplate": "%{customdata[0]}: <b>%{x:.1f}</b><br>%{customdata[1]}<extra></extra>",
        }
    ]
    texts = [
        {
            "x": 0,
            "y": row - 0.38,
            "text": f"<b>{theme.plain(bar.name)}</b>  {theme.plain(bar.cost)}",
            "showarrow": False,
            "xanchor": "left",
            "align": "left",
            "font": {"color": rest} if bar.out else {},
        }
        for row, bar in zip(rows, bars, strict=True)
    ]
    texts += [  # at the edge: text of the bars themselves is as small as they are thin, or meets the costs
        {
            "x": 112,
            "y": row,
            "text": f"<b>{bar.value:.1f}</b>",
            "showarrow": False,
            "xanchor": "right",
            "font": {"color": rest} if bar.out else {},
        }
        for row, bar in zip(rows, bars, strict=True)
    ]
    return theme.compose(
        traces,
        height=400,
        legend=False,
        annotations=texts,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis={"title": {"text": axis}, "range": [0, 112], "zeroline": False, "tickvals": [0, 25, 50, 75, 100]},
        yaxis={"showticklabels": False, "range": [len(bars) - 0.6, -0.7], "showgrid": False, "zeroline": False},
    )


def answers_figure(
    choices: Sequence[str], counts: Sequence[int], right: int | None = None, *, dark: bool = False
) -> go.Figure:
    """How many chose each choice; a choice known to be right has a check mark, and the others are faint.

    Args:
        choices: what could be chosen, two to eight.
        counts: how often each was.
        right: index of the one that is right; None as long as nobody is to know.
        dark: whether the page is dark.
    """
    rows, most = list(range(len(choices))), max(1, *counts)
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": list(counts),
        "y": rows,
        "width": 0.4,
        "marker": {
            "color": [theme.AFTER.color if right in (None, row) else theme.neutral(dark) for row in rows],
            "opacity": [1 if right in (None, row) else 0.4 for row in rows],
        },
        "customdata": [theme.plain(choice) for choice in choices],
        "hovertemplate": "%{customdata}: <b>%{x}</b><extra></extra>",
    }
    names = [
        {
            "x": 0,
            "y": row - 0.36,
            "text": f"{'✓ ' if row == right else ''}<b>{letter}</b>  {theme.plain(choice)}",
            "showarrow": False,
            "xanchor": "left",
            "align": "left",
        }
        for row, (letter, choice) in enumerate(zip("ABCDEFGH", choices, strict=False))
    ]
    numbers = [
        {"x": count, "y": row, "text": f"<b>{count}</b>", "showarrow": False, "xanchor": "left", "xshift": 8}
        for row, count in enumerate(counts)
    ]
    return theme.compose(
        [bars],
        height=400,
        legend=False,
        annotations=[*names, *numbers],
        xaxis={"visible": False, "range": [0, 1.12 * most], "fixedrange": True},
        yaxis={"visible": False, "range": [len(choices) - 0.6, -0.8], "fixedrange": True},
    )
