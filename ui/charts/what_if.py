"""Charts of the page What if: where a merge points, who disturbs whom, curves over λ, the plane of two task vectors."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from ui import theme
from ui.charts.accuracy import Series, marker_of
from ui.charts.geometry import names_on_axis

_SHADE = "rgba(128, 128, 128, 0.09)"


def outcome_figure(
    mine: Series, references: Sequence[Series], changes: Mapping[str, float], tasks: Mapping[str, str]
) -> go.Figure:
    """A bar per task, the average first and set apart; the references are marks, the change is written beside it.

    Args:
        mine: accuracies of the merge, 0 … 1.
        references: what to compare with, on the same images.
        changes: task → change since the last position, where there is one.
        tasks: task → label, in the order to draw.
    """
    rows = [0.0, *(1.4 + index for index in range(len(tasks)))]
    names = ["Average", *tasks.values()]
    moved: list[float | None] = [changes.get(task) for task in tasks]
    known = [change for change in moved if change is not None]
    moved.insert(0, sum(known) / len(known) if len(known) == len(tasks) else None)

    def percent(one: Series) -> list[float]:
        return [100 * one.average, *(100 * one.accuracy[task] for task in tasks)]

    values = percent(mine)
    texts = [
        f"<b>{value:.1f}</b>" + ("" if not change else f"  {100 * change:+.1f}".replace("-", "−"))
        for value, change in zip(values, moved, strict=True)
    ]
    plain_names = [theme.plain(name) for name in names]
    traces: list[dict[str, object]] = [
        {
            "type": "bar", "orientation": "h", "x": values, "y": rows, "width": 0.72, "name": theme.plain(mine.name),
            "marker": {"color": theme.style_of(mine.method).color}, "customdata": plain_names,
            "hovertemplate": "%{customdata}: <b>%{x:.1f}</b><extra>%{fullData.name}</extra>",
        }
    ]  # fmt: skip
    traces += [
        {
            "type": "scatter", "mode": "markers", "x": percent(one), "y": rows, "name": theme.plain(one.name),
            "marker": {**marker_of(one, 11), "line": {"width": 1.5, "color": "white"}}, "customdata": plain_names,
            "hovertemplate": "%{customdata}: <b>%{x:.1f}</b><extra>%{fullData.name}</extra>",
        }
        for one in references
    ]  # fmt: skip
    notes = [
        {"x": 1.01, "xref": "paper", "y": row, "text": text, "showarrow": False, "xanchor": "left", "align": "left"}
        for row, text in zip(rows, texts, strict=True)
    ]
    ticks = [f"<b>{plain_names[0]}</b>", *(theme.plain(theme.shorten(name)) for name in names[1:])]
    band = {
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -0.6, "y1": 0.65, "layer": "below",
        "fillcolor": _SHADE, "line": {"width": 0},
    }  # fmt: skip
    return theme.compose(
        traces, height=110 + 36 * len(rows), annotations=notes, shapes=[band],
        margin={"l": 8, "r": 100, "t": 44, "b": 8},
        xaxis={"title": {"text": "Accuracy (%)"}, "range": [0, 102], "zeroline": False},
        yaxis={
            "tickvals": rows, "ticktext": ticks, "range": [rows[-1] + 0.6, -0.6], "showgrid": False, "zeroline": False,
        },
    )  # fmt: skip


def direction_figure(cosines: np.ndarray, tasks: Sequence[str]) -> go.Figure:
    """Cosine of the merged vector with every task vector, ``[T]``, as bars from 0."""
    values = np.round(cosines, 5).tolist()
    bars = {
        "type": "bar", "x": values, "y": list(range(len(tasks))), "orientation": "h",
        "marker": {"color": theme.AFTER.color}, "customdata": [theme.plain(task) for task in tasks],
        "text": [f"{value:.2f}".replace("-", "−") for value in values], "textposition": "outside", "cliponaxis": False,
        "hovertemplate": "%{customdata}<br>cosine %{x:.4f}<extra></extra>",
    }  # fmt: skip
    low, high = min(0.0, float(cosines.min())), max(0.1, float(cosines.max()))
    room = 0.12 * (high - low)
    return theme.compose(
        [bars], height=70 + 26 * len(tasks), legend=False,
        xaxis={
            "title": {"text": "cosine of the merged vector with τ"}, "zeroline": True,
            "range": [low - room if low < 0 else 0.0, high + room],
        },
        yaxis={**names_on_axis(tasks), "autorange": "reversed", "showgrid": False},
    )  # fmt: skip
