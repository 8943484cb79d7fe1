"""Charts of accuracies: bars, dots and radar per task, and the search for λ.

Values come in as 0 … 1; axes and tables show percent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from merging.charts.theme import RULE, SHADE, Style, arrange, compose, plain, shorten, style_of
from merging.methods.forgetting import GROUPS, TO_FORGET, Group
from merging.runs.jobs.merge_result import Forgetting, MethodReport

MAX_RADAR = 4  # more outlines than this can't be told apart
MANY_TASKS = 10  # from so many on, bars are too many
MIN_RADAR_TASKS = 3  # with fewer an outline is a line
_AVERAGE_WIDTH = 2.7  # the average group, in widths of a task's group: room for numbers over its bars
_MAX_NUMBERED = 7  # series up to which those numbers fit
_BAR = 0.9  # width of a bar in its place: patterns of neighbours must not touch
_GAP = 0.5  # before tasks that are to be forgotten, in widths of a task's group
_MEANT: dict[Group, str] = {"forgotten": "forget", "added": "add", "kept": "keep"}  # what is to happen to a task


@dataclass(frozen=True)
class Series:
    """Accuracies of one model, or of one set of models, on several tasks.

    Attributes:
        name: the legend's text, different for every series of a chart.
        method: what picks colour and marker, such as ``Task Arithmetic``.
        accuracy: task → 0 … 1.
        look: how it is drawn, where that is not as its method; see :func:`merging.charts.theme.distinct_styles`.
        forgotten: tasks that count in no average, as they are to be forgotten; see :func:`set_apart`.
    """

    name: str
    method: str
    accuracy: Mapping[str, float]
    look: Style | None = None
    forgotten: frozenset[str] = frozenset()

    @property
    def style(self) -> Style:
        """How it is drawn."""
        return self.look or style_of(self.method)

    @property
    def counted(self) -> dict[str, float]:
        """The accuracies that are in the average: those of tasks that are not to be forgotten."""
        return {task: value for task, value in self.accuracy.items() if task not in self.forgotten}

    @property
    def average(self) -> float:
        """Mean over the tasks that count, each the same; NaN if there are none."""
        return sum(self.counted.values()) / len(self.counted) if self.counted else math.nan

    def relative_to(self, reference: Mapping[str, float]) -> "Series":
        """The same as shares of a reference's accuracies; tasks in which the reference is at 0 are left out."""
        shares = {task: value / reference[task] for task, value in self.accuracy.items() if reference.get(task)}
        return replace(self, accuracy=shares)


def set_apart(series: Sequence[Series]) -> list[Series]:
    """The same with averages over the same tasks: those that none of them is to forget.

    A mean with forgotten tasks in it would be the better the less was forgotten, and means of models side by side have
    to be over the same tasks.
    """
    forgotten = frozenset[str]().union(*(one.forgotten for one in series))
    return [replace(one, forgotten=forgotten & one.accuracy.keys()) for one in series]


def _in_order(series: Sequence[Series], tasks: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The tasks with those to be forgotten last, and named as such; how many of them there are."""
    forgotten = {task for one in series for task in one.forgotten}
    counted = {task: label for task, label in tasks.items() if task not in forgotten}
    apart = {task: f"{label}{TO_FORGET}" for task, label in tasks.items() if task in forgotten}
    return {**counted, **apart}, len(apart)


def accuracy_bars(series: Sequence[Series], tasks: Mapping[str, str], axis: str = "Accuracy (%)") -> go.Figure:
    """Grouped bars: the average first and set apart, then one group per task; those to be forgotten last, and apart.

    Args:
        series: what to compare.
        tasks: task → label, in the order to draw.
        axis: title of the value axis.
    """
    series = set_apart(series)
    tasks, apart = _in_order(series, tasks)
    edge = _AVERAGE_WIDTH / 2 + 0.1
    starts = [index + (_GAP if index >= len(tasks) - apart else 0.0) for index in range(len(tasks))]
    centres = [0.0, *(edge + 0.6 + start for start in starts)]
    labels = ["Average", *tasks.values()]
    traces = []
    for index, one in enumerate(series):
        values = _percent(one, tasks)
        places = [width / len(series) for width in (_AVERAGE_WIDTH * 0.84, *[0.84] * len(tasks))]
        widths = [_BAR * place for place in places]
        offsets = [place * (index - len(series) / 2 + (1 - _BAR) / 2) for place in places]
        traces.append(
            {
                "type": "bar",
                "x": centres,
                "y": values,
                "width": widths,
                "offset": offsets,
                "name": plain(one.name),
                "marker": {"color": one.style.color, "line": {"width": 0}, "pattern": _pattern(one.style)},
                "text": [_number(values[0]) if len(series) <= _MAX_NUMBERED else "", *[""] * len(tasks)],
                "textposition": "outside",
                "textangle": 0,
                "textfont": {"size": 10},
                "cliponaxis": False,
                "customdata": [plain(label) for label in labels],
                "hovertemplate": "%{customdata}: <b>%{y:.1f}</b><extra>%{fullData.name}</extra>",
            }
        )
    shapes = [_band("rect", -edge, edge, fillcolor=SHADE, line={"width": 0}, layer="below")]
    if apart:
        rule = centres[-apart] - (1 + _GAP) / 2
        shapes.append(_band("line", rule, rule, line={"color": RULE, "width": 1, "dash": "dot"}))
    return compose(
        traces,
        height=430,
        shapes=shapes,
        xaxis={
            "tickvals": centres,
            "ticktext": [_on_axis(label) for label in labels],
            "range": [-edge, centres[-1] + 0.55],
            "showgrid": False,
            "zeroline": False,
        },
        yaxis={"title": {"text": axis}, "range": [0, _ceiling(series)], "ticksuffix": " ", "rangemode": "tozero"},
    )


def accuracy_figure(series: Sequence[Series], tasks: Mapping[str, str], axis: str = "Accuracy (%)") -> go.Figure:
    """Bars, or from :data:`MANY_TASKS` tasks on, where a hundred of them could not be told apart, dots."""
    return (accuracy_bars if len(tasks) < MANY_TASKS else accuracy_dots)(series, tasks, axis)


def _band(kind: str, start: float, end: float, **look: Any) -> dict[str, Any]:
    """A shape over the whole height of a chart, from one place of the x axis to another."""
    return {"type": kind, "x0": start, "x1": end, "y0": 0, "y1": 1, "xref": "x", "yref": "y domain", **look}


def accuracy_dots(series: Sequence[Series], tasks: Mapping[str, str], axis: str = "Accuracy (%)") -> go.Figure:
    """One row per task, one marker per method, the average on top and set apart; reads well with many methods."""
    series = set_apart(series)
    tasks, apart = _in_order(series, tasks)
    rows = [0.0, *(1.4 + index + (_GAP if index >= len(tasks) - apart else 0.0) for index in range(len(tasks)))]
    labels = ["<b>Average</b>", *(plain(label) for label in tasks.values())]
    figure = go.Figure()
    columns = [_percent(one, tasks) for one in series]
    for index, row in enumerate(rows):
        seen = [value for column in columns if (value := column[index]) is not None]
        if seen:
            figure.add_shape(_span(row, min(seen), max(seen)))
    figure.add_traces([_dots(one, values, rows, labels) for one, values in zip(series, columns, strict=True)])
    _rows_of_dots(figure, rows, labels, shaded_to=0.65)
    figure.update_xaxes(title=axis, range=[0, _ceiling(series)], showgrid=True)
    return arrange(figure, height=round(150 + (34 if len(tasks) < MANY_TASKS else 26) * (rows[-1] + 0.6)))


def _span(row: float, start: float, end: float) -> dict[str, Any]:
    """A line along a row, from one dot to another."""
    line = {"color": RULE, "width": 2}
    return {"type": "line", "x0": start, "x1": end, "y0": row, "y1": row, "layer": "below", "line": line}


def _dots(one: Series, values: Sequence[float | None], rows: Sequence[float], labels: Sequence[str]) -> dict[str, Any]:
    """A series as a marker on every row."""
    return {
        "type": "scatter",
        "x": values,
        "y": rows,
        "mode": "markers",
        "name": plain(one.name),
        "marker": marker_of(one, 12),
        "customdata": labels,
        "hovertemplate": "%{customdata}: <b>%{x:.1f}</b><extra>%{fullData.name}</extra>",
    }


def _rows_of_dots(figure: go.Figure, rows: Sequence[float], ticks: Sequence[str], shaded_to: float) -> None:
    """The first row on top, with a shade behind the rows down to a place."""
    figure.add_hrect(y0=-0.6, y1=shaded_to, fillcolor=SHADE, line_width=0, layer="below")
    figure.update_yaxes(tickvals=rows, ticktext=ticks, range=[rows[-1] + 0.6, -0.6], showgrid=False, zeroline=False)


def accuracy_radar(series: Sequence[Series], tasks: Mapping[str, str]) -> go.Figure:
    """Outlines over the tasks, a second view for at most :data:`MAX_RADAR` methods.

    Raises:
        ValueError: there are more, or fewer than :data:`MIN_RADAR_TASKS` tasks.
    """
    if len(series) > MAX_RADAR:
        raise ValueError(f"{len(series)} series; a radar stays readable with at most {MAX_RADAR}")
    if len(tasks) < MIN_RADAR_TASKS:
        raise ValueError(f"{len(tasks)} tasks; a radar needs at least {MIN_RADAR_TASKS}")
    series = set_apart(series)
    tasks, _ = _in_order(series, tasks)
    # Angles as numbers: as categories, equal short forms of labels would fall together.
    angles = [360 * index / len(tasks) for index in range(len(tasks))]
    labels = [plain(label) for label in tasks.values()]
    figure = go.Figure()
    for one in series:
        values = _percent(one, tasks)[1:]
        figure.add_scatterpolar(
            r=[*values, values[0]],
            theta=[*angles, angles[0]],
            name=plain(one.name),
            mode="lines+markers",
            line={"color": one.style.color, "width": 2, "dash": one.style.dash},
            marker=marker_of(one, 8),
            customdata=[*labels, labels[0]],
            hovertemplate="%{customdata}: <b>%{r:.1f}</b><extra>%{fullData.name}</extra>",
        )
    figure.update_polars(
        radialaxis={"range": [0, _ceiling(series)], "gridcolor": RULE, "tickfont": {"size": 11}},
        angularaxis={
            "gridcolor": RULE,
            "tickvals": angles,
            "ticktext": [_on_axis(label) for label in tasks.values()],
        },
        bgcolor="rgba(0, 0, 0, 0)",
    )
    # Plotly keeps no room for the labels around a radar: two lines of them above and below, then the legend.
    arrange(figure, height=560, margin={"l": 8, "r": 8, "t": 84, "b": 44})
    return figure.update_layout(legend_y=1.1)


def accuracy_table(series: Sequence[Series], tasks: Mapping[str, str]) -> pd.DataFrame:
    """A row per series: average, then every task, those to be forgotten last and named as such; in percent."""
    series = set_apart(series)
    tasks, _ = _in_order(series, tasks)
    columns = ["Average", *tasks.values()]
    table = pd.DataFrame([_percent(one, tasks) for one in series], columns=columns, dtype="float64").round(2)
    table.insert(0, "Method", [one.name for one in series])
    return table


def forgetting_figure(report: Forgetting, method: str, tasks: Mapping[str, str]) -> go.Figure:
    """A row per task with its accuracy before and after a merge; those forgotten, added and kept in groups.

    Args:
        report: what a run that subtracts task vectors found.
        method: what picks colour and marker of the merged model.
        tasks: task → label.
    """
    groups = [group for group in GROUPS if report.rows(group)]
    placed = [(number, group, item) for number, group in enumerate(groups) for item in report.rows(group).items()]
    gaps, words, found = zip(*((0.4 * number, _MEANT[group], item) for number, group, item in placed), strict=True)
    rows = [index + gap for index, gap in enumerate(gaps)]
    labels = [plain(tasks[task]) for task, _ in found]
    figure = go.Figure()
    for row, (_, values) in zip(rows, found, strict=True):
        figure.add_shape(_span(row, 100 * values.before, 100 * values.after))
    before, after = (Series(name, name, {}) for name in ("Zero-shot", method))
    figure.add_trace(_dots(before, [100 * values.before for _, values in found], rows, labels))
    figure.add_trace(_dots(after, [100 * values.after for _, values in found], rows, labels))
    ticks = [f"{label} ({word})" if word != "keep" else label for label, word in zip(labels, words, strict=True)]
    _rows_of_dots(figure, rows, ticks, shaded_to=len(report.forgotten) - 0.35)
    figure.update_xaxes(title="Accuracy (%)", range=[0, 104], showgrid=True)
    return arrange(figure, height=150 + 34 * len(rows))


def forgetting_table(report: Forgetting, tasks: Mapping[str, str]) -> pd.DataFrame:
    """A row per task: what was meant to happen, the weight of its vector if it was merged, accuracies in percent."""
    rows = [
        (tasks[task], words, report.weights.get(task), 100 * values.before, 100 * values.after)
        for group, words in _MEANT.items()
        for task, values in report.rows(group).items()
    ]
    return pd.DataFrame(rows, columns=["Task", "Meant to", "Weight", "Zero-shot (%)", "After (%)"]).round(2)


def scaling_curve(searches: Sequence[tuple[Series, MethodReport]]) -> go.Figure:
    """Average validation accuracy at every λ that was tried, the chosen one marked, and named in the legend.

    Beside the markers there is no room for it: of many methods the best λ is much the same.

    Args:
        searches: a series (its accuracy is not drawn) with ``scaling`` and ``scaling_search`` of its merge report.
    """
    traces: list[dict[str, Any]] = []
    for one, report in searches:
        search = report.scaling_search
        if search is None or report.scaling is None:
            continue
        values = [100 * value for value in search.average_accuracy]
        best = search.scalings.index(report.scaling)
        traces += [
            {
                "type": "scatter",
                "x": search.scalings,
                "y": values,
                "mode": "lines",
                "legendgroup": one.name,
                "name": f"{plain(one.name)}, λ = {report.scaling:g}",
                "line": {"color": one.style.color, "width": 2, "dash": one.style.dash},
                "hovertemplate": "λ = %{x:g}: <b>%{y:.1f}</b><extra>" + plain(one.name) + "</extra>",
            },
            {
                "type": "scatter",
                "x": [search.scalings[best]],
                "y": [values[best]],
                "mode": "markers",
                "legendgroup": one.name,
                "showlegend": False,
                "marker": marker_of(one, 13),
                "hovertemplate": "chosen: λ = %{x:g}, <b>%{y:.1f}</b><extra></extra>",
                "cliponaxis": False,
            },
        ]
    return compose(
        traces,
        height=360,
        xaxis={"title": {"text": "Scaling coefficient λ"}, "zeroline": False},
        yaxis={"title": {"text": "Average accuracy, validation (%)"}, "zeroline": False},
    )


def scaling_table(searches: Sequence[tuple[Series, MethodReport]]) -> pd.DataFrame:
    """A row per λ, a column per run, in percent."""
    columns = {
        one.name: dict(zip(report.scaling_search.scalings, report.scaling_search.average_accuracy, strict=True))
        for one, report in searches
        if report.scaling_search is not None
    }
    table = 100 * pd.DataFrame(columns).sort_index()
    return table.round(2).rename_axis("λ").reset_index()


def marker_of(one: Series, size: int) -> dict[str, object]:
    """The plotly marker of a series."""
    style = one.style
    return {
        "color": style.color,
        "symbol": style.symbol,
        "size": size,
        "line": {"width": 2 if style.is_open else 0.5},
    }


def line_of(one: Series, places: Sequence[float], values: Sequence[float], hover: str) -> dict[str, Any]:
    """A series as a line with a marker at every place; values are 0 … 1, and percent in the chart."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(places),
        "y": [100 * value for value in values],
        "name": plain(one.name),
        "marker": marker_of(one, 9),
        "line": {"color": one.style.color, "width": 2, "dash": one.style.dash},
        "hovertemplate": f"{hover}<extra>%{{fullData.name}}</extra>",
    }


def _pattern(style: Style) -> dict[str, object]:
    """The plotly pattern of bars; the bar stays the more of it."""
    return {
        "shape": style.pattern,
        "size": style.pattern_size,
        "solidity": 0.25,
        "fillmode": "overlay",
        "fgcolor": "#ffffff",
        "fgopacity": 0.6,
    }


def _percent(one: Series, tasks: Mapping[str, str]) -> list[float | None]:
    """Average over the tasks drawn that count, then each task; None where the series has no value."""
    values = [one.accuracy.get(task) for task in tasks]
    counted = [value for task, value in zip(tasks, values, strict=True) if task not in one.forgotten]
    seen = [value for value in counted if value is not None]
    average = sum(seen) / len(seen) if seen and len(seen) == len(counted) else None
    return [None if value is None else 100 * value for value in (average, *values)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _on_axis(label: str) -> str:
    """A task's name under its group, on two lines if it has two words; that it is to be forgotten is below."""
    name = label.removesuffix(TO_FORGET)
    below = f"<br>{TO_FORGET.strip()}" if name != label else ""
    return plain(shorten(name, 24)).replace(" ", "<br>", 1) + below


def _ceiling(series: Sequence[Series]) -> float:
    """Upper end of a percent axis, with room for a number above a full bar."""
    return max([104.0, *(100 * value + 6 for one in series for value in one.accuracy.values() if value > 1)])
