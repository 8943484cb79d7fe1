"""Charts of runs side by side: differences per task with their intervals, confusions, coefficients subtracted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from merging.charts import theme
from merging.charts.accuracy import Series, marker_of
from merging.core.text import printed
from merging.evaluation.paired import LEVEL, VERDICTS, Comparison, TaskDifference, points
from merging.methods.forgetting import TO_FORGET

AVERAGE = "Average"
_NUMBERED = 12  # classes up to which cells carry their number
_SPREAD = 0.36  # of the rows between two tasks, over which several runs' markers are spread
_RULE = "rgba(128, 128, 128, 0.7)"


def difference_figure(
    series: Sequence[Series], pairs: Sequence[Comparison], labels: Mapping[str, str], reference: str
) -> go.Figure:
    """A row per task with each run's difference from the reference as a dot and its interval as a line.

    Args:
        series: name and style of each run but the reference.
        pairs: the same runs against the reference.
        labels: task → label.
        reference: the reference's name.
    """
    rows = [0.0, *(1.4 + index for index in range(len(labels)))]
    names = [
        f"<b>{AVERAGE}</b>",
        *(
            theme.plain(theme.shorten(label, 26)) + (TO_FORGET if task in pairs[0].forgotten else "")
            for task, label in labels.items()
        ),
    ]
    offsets = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(pairs)) if len(pairs) > 1 else np.zeros(1)
    traces = []
    for one, pair, offset in zip(series, pairs, offsets, strict=True):
        found: list[Comparison | TaskDifference] = [pair, *(pair.tasks[task] for task in labels)]
        middles = np.array([100 * item.difference for item in found])
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": theme.plain(one.name),
                "x": middles,
                "y": [row + offset for row in rows],
                "marker": marker_of(one, 11),
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "thickness": 2,
                    "width": 5,
                    "array": [100 * item.high - middle for item, middle in zip(found, middles, strict=True)],
                    "arrayminus": [middle - 100 * item.low for item, middle in zip(found, middles, strict=True)],
                },
                "customdata": [
                    [name, f"{points(item.low)} … {points(item.high)}"] for name, item in zip(names, found, strict=True)
                ],
                "hovertemplate": "%{customdata[0]}: <b>%{x:+.1f}</b> (%{customdata[1]})<extra>%{fullData.name}</extra>",
            }
        )
    return theme.compose(
        traces,
        height=150 + (28 + 8 * len(pairs)) * len(rows),
        shapes=[
            {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": _RULE, "width": 2}},
            {
                "type": "rect",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": -0.6,
                "y1": 0.65,
                "fillcolor": theme.SHADE,
                "line": {"width": 0},
                "layer": "below",
            },
        ],
        xaxis={
            "title": {"text": f"Points more than {theme.plain(reference)},<br>with {100 * LEVEL:.0f} % intervals"},
            "zeroline": False,
        },
        yaxis={
            "tickvals": rows,
            "ticktext": names,
            "range": [rows[-1] + 0.6, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
    )


def difference_table(
    names: Sequence[str], pairs: Sequence[Comparison], labels: Mapping[str, str], digits: int = 2
) -> pd.DataFrame:
    """A row per run and task, then each run's average, empty without tasks that count; in percent and in points.

    They are rounded once, as Python prints them: rounded again, or by a browser, they would not be those of the text.
    """
    rows: list[dict[str, Any]] = []
    for name, pair in zip(names, pairs, strict=True):
        for task, label in labels.items():
            one = pair.tasks[task]
            rows.append(
                {
                    "Run": name,
                    "Task": f"{label}{TO_FORGET if task in pair.forgotten else ''}",
                    "Verdict": VERDICTS[one.verdict],
                    "Difference": 100 * one.difference,
                    "From": 100 * one.low,
                    "To": 100 * one.high,
                    "p": one.p,
                    "p, corrected": one.adjusted,
                    "Reference (%)": 100 * one.reference,
                    "Run (%)": 100 * one.accuracy,
                    "Gained": one.better,
                    "Lost": one.worse,
                    "Images": one.images,
                }
            )
        rows.append(
            {
                "Run": name,
                "Task": AVERAGE,
                "Verdict": "",
                "Difference": 100 * pair.difference,
                "From": 100 * pair.low,
                "To": 100 * pair.high,
                "Reference (%)": 100 * pair.reference,
                "Run (%)": 100 * pair.accuracy,
                "Images": sum(one.images for one in pair.counted.values()),
            }
        )
    table = pd.DataFrame(rows)
    points = ["Reference (%)", "Run (%)", "Difference", "From", "To"]
    table[points] = table[points].map(lambda value: round(float(value), digits))
    return table.drop(columns="Run") if len(pairs) == 1 else table


def confusion_figure(
    first: np.ndarray,
    second: np.ndarray,
    titles: Sequence[str],
    classes: Sequence[str],
    *,
    dark: bool = False,
    stacked: bool = False,
) -> go.Figure:
    """Two confusion matrices ``[C, C]`` in percent of each row, and the second minus the first: side by side.

    Args:
        first: of the reference.
        second: of the other run.
        titles: names of both.
        classes: what to call the classes.
        dark: whether the page is dark.
        stacked: whether they stand one below the other, for a narrow screen.
    """
    names = [theme.plain(theme.shorten(name, 16)) for name in classes]
    axis = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False, "zeroline": False}
    full = [theme.plain(name) for name in classes]
    hover = [[f"{true} taken for {guess}" if true != guess else f"{true}, right" for guess in full] for true in full]
    traces: list[dict[str, Any]] = []
    across, down = {**axis, "tickangle": -60}, {**axis, "autorange": "reversed", "title": {"text": "true class"}}
    axes: dict[str, Any] = {"xaxis": {**across, "anchor": "y3"}} if stacked else {"yaxis": down}
    annotations = []
    numbered = len(classes) <= _NUMBERED
    panels = [*zip(titles, (first, second), strict=True), ("Difference", second - first)]
    for number, (title, matrix) in enumerate(panels):
        suffix = str(number + 1) if number else ""
        start, end = number * 1.03 / 3, number * 1.03 / 3 + 0.94 / 3
        caption = theme.caption(theme.plain(theme.shorten(title, 34)), 0.5 if stacked else (start + end) / 2)
        if stacked:
            axes[f"yaxis{suffix}"] = {**down, "domain": [1 - end, 1 - start]}
            caption["y"] = 1 - start
        else:
            axes[f"xaxis{suffix}"] = {**across, "domain": [start, end], "anchor": "y"}
        annotations.append(caption)
        traces.append(
            {
                "type": "heatmap",
                "z": np.round(matrix, 2),
                "xaxis": "x" if stacked else f"x{suffix}",
                "yaxis": f"y{suffix}" if stacked else "y",
                "xgap": 1,
                "ygap": 1,
                "coloraxis": "coloraxis",
                "text": _numbers(matrix, dark) if numbered else None,
                "texttemplate": "%{text}",
                "textfont": {"size": 10},
                "customdata": hover,
                "hovertemplate": "%{customdata}<br>%{z:.1f} %<extra></extra>",
            }
        )
    return theme.compose(
        traces,
        height=130 + 3 * (30 + 19 * max(4, len(classes))) if stacked else max(360, 130 + 17 * len(classes)),
        legend=False,
        dragmode=False,
        annotations=annotations,
        **axes,
        coloraxis={
            "showscale": not (stacked and numbered),
            "colorscale": theme.diverging_scale(dark),
            "cmin": -100,
            "cmax": 100,
            "cmid": 0,
            "colorbar": {"thickness": 8, "outlinewidth": 0, "xpad": 6, "title": {"text": "%"}},
        },
    )


def _numbers(matrix: np.ndarray, dark: bool) -> list[list[str]]:
    """Whole percents, nothing for zeros."""

    def cell(value: float) -> str:
        text = "" if abs(value) < 0.5 else printed(value, ".0f")
        return theme.on_cell(text, value / 100, dark)

    return [[cell(value) for value in row] for row in matrix]


def confusion_table(
    first: np.ndarray, second: np.ndarray, counts: np.ndarray, titles: Sequence[str], classes: Sequence[str]
) -> pd.DataFrame:
    """A row per true and predicted class that either run has, those that differ most first; shares in percent.

    Args:
        first: of the reference, as :meth:`merging.runs.comparison.compare.RunComparison.shares` gives it.
        second: of the other run.
        counts: images of each true class.
        titles: names of both.
        classes: what to call the classes.
    """
    rows = [
        (classes[i], classes[j], int(counts[i]), first[i, j], second[i, j], second[i, j] - first[i, j])
        for i, j in np.argwhere((first > 0) | (second > 0)).tolist()
    ]
    rows.sort(key=lambda row: -abs(row[-1]))
    columns = ["True class", "Predicted", "Images of the class", f"{titles[0]} (%)", f"{titles[1]} (%)", "Difference"]
    return pd.DataFrame(rows, columns=columns).round(2)
