"""The leaderboard as table and chart: every published method on one suite, and those not run yet.

Values come in as 0 … 1; axes and tables show percent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from merging.charts.accuracy import Series, marker_of
from merging.charts.columns import AVERAGE, MARK, METHOD
from merging.charts.theme import RULE, compose, neutral, plain
from merging.methods.params import DataUse, Needs
from merging.runs.leaderboard import Row, ranked

NEEDS_WORDS: dict[Needs, str] = {"none": "no data", "unlabeled": "unlabeled images", "labelled": "labelled images"}
ONE_A_TASK = "a model for each task"
GROUPS = (*NEEDS_WORDS.values(), ONE_A_TASK)
NOT_RUN, UNDER_WAY = "not run", "under way"
_COLUMNS = (
    MARK,
    METHOD,
    AVERAGE,
    "Normalised (%)",
    "Data",
    "Chosen",
    "State",
    "λ",
    "Seconds",
    "Memory (MB)",
    "Paper",
    "Run",
    "Note",
)
_OF_A_RUN = ("Normalised (%)", "Seconds", "Memory (MB)")  # columns that are left out where no row has any
_CLOSE = 0.4  # of the width: names of lines nearer than that stand above each other, as phones are narrow
_LINE_HEIGHT, _GAP = 27, 0.5  # pixels a line of the chart; empty lines between groups
_NEAR_THE_EDGE = 0.25  # share of the width within which a text beside a line would be cut off on a phone
_LABEL = 0.07  # share of the width that a number beside a dot takes


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        title: the method's name in publications, different for every line; it picks colour and marker.
        data: what it looks at, by itself and to choose λ or thresholds.
        paper: URL of its source; empty for a baseline.
        note: what to know about it; may be empty.
        state: how its run ended, or :data:`UNDER_WAY` or :data:`NOT_RUN`; empty for a baseline.
        run: id of its run; None if there is none.
        row: what was measured; None if nothing was yet.
        localised: whether it gives a model for each task, and so can't be ranked among those that give one for all.
        own: whether it is this project's own method.
    """

    title: str
    data: DataUse
    paper: str
    note: str
    state: str
    run: str | None
    row: Row | None
    localised: bool = False
    own: bool = False

    @property
    def group(self) -> str:
        """With which other methods it can be compared: one of :data:`GROUPS`."""
        return ONE_A_TASK if self.localised else NEEDS_WORDS[self.data.needs]

    @property
    def baseline(self) -> bool:
        """Whether it is no method but the base model or one model per task."""
        return not self.state

    @property
    def average(self) -> float | None:
        """Mean accuracy over tasks, 0 … 1; None if nothing was measured yet."""
        return None if self.row is None else self.row.average

    @property
    def series(self) -> Series:
        """Its accuracies, ready to draw; it must have been measured."""
        assert self.row is not None
        return Series(self.title, self.title, self.row.accuracy)


def leaderboard_table(standings: Sequence[Standing], tasks: Sequence[str]) -> pd.DataFrame:
    """A row per line in the order given: accuracies in percent, seconds, megabytes, paper and run.

    The project's own is called so. Missing values are None. A column that is empty or the same for all methods is left
    out: ``State`` once everything is done, ``Normalised (%)`` without the individual models' accuracies, ``Seconds``
    and ``Memory (MB)`` where all results came with the suite, from another machine.
    """

    def value(one: Standing, read: Callable[[Row], float | None], scale: float = 100, digits: int = 1) -> float | None:
        found = None if one.row is None else read(one.row)
        return None if found is None else round(scale * found, digits)  # as Python rounds, not the browser

    columns: dict[str, list[Any]] = {
        METHOD: [one.title + " (own)" * one.own for one in standings],
        AVERAGE: [value(one, lambda row: row.average) for one in standings],
        "Normalised (%)": [value(one, lambda row: row.normalised) for one in standings],
    }
    for task in tasks:
        columns[task_column(task)] = [value(one, lambda row, task=task: row.accuracy[task]) for one in standings]  # type: ignore[misc]
    columns |= {
        "Data": [one.data.needs for one in standings],
        "Chosen": [one.data.chosen_words or None for one in standings],
        "State": [one.state for one in standings],
        "λ": [value(one, lambda row: row.scaling, 1, 6) for one in standings],
        "Seconds": [value(one, lambda row: row.seconds, 1) for one in standings],
        "Memory (MB)": [value(one, lambda row: row.peak_bytes, 1e-6, 0) for one in standings],
        "Paper": [one.paper or None for one in standings],
        "Run": [one.run for one in standings],
        "Note": [one.note or None for one in standings],
    }
    table = pd.DataFrame(columns)
    measured_only = {one.state for one in standings} <= {"", "done"}
    empty = [name for name in _OF_A_RUN if all(one is None for one in columns[name])]
    return table.drop(columns=["State"] * measured_only + empty)


def task_column(task: str) -> str:
    """The column of a task's accuracies, never called as one of the others is.

    >>> task_column("digits"), task_column("Run")
    ('digits', 'Run (task)')
    """
    return f"{task} (task)" if task in _COLUMNS else task


def leaderboard_dots(standings: Sequence[Standing], dark: bool = False) -> go.Figure:
    """Average accuracy of every measured method, by the data needed, best first; localised ones apart.

    The baselines are vertical lines, with gaps for the numbers of dots; from zero-shot to each dot goes a thin rule,
    the gain by merging.
    """
    methods = [one for one in ranked(standings) if one.row and not one.baseline]
    lines = {one.title: 100 * one.row.average for one in standings if one.row and one.baseline}
    ticks: dict[float, str] = {}
    traces: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    start, place = min(lines.values(), default=0.0), 0.0
    for name in GROUPS:
        group = [one for one in methods if one.group == name]
        if not group:
            continue
        ticks[place] = f"<b>{name.capitalize()}</b>"
        for one in group:
            place += 1
            ticks[place] = plain(one.title)
            average = 100 * one.series.average
            shapes.append(_rule(start, average, place, place, 2))
            traces.append(
                {
                    "type": "scatter",
                    "x": [average],
                    "y": [place],
                    "mode": "markers+text",
                    "name": plain(one.title),
                    "marker": marker_of(one.series, 12),
                    "text": [f"\u2002{average:.1f}"],
                    "textposition": "middle right",
                    "cliponaxis": False,
                    "hovertemplate": "<b>%{x:.1f}</b> %<extra>%{fullData.name}</extra>",
                }
            )
        place += 1 + _GAP
    shown = [*lines.values(), *(trace["x"][0] for trace in traces)]
    low, high = max(0.0, min(shown, default=0) - 4), min(104.0, max(shown, default=100) + 5)
    for value in lines.values():
        numbers = [trace["y"][0] for trace in traces if 0 < (value - trace["x"][0]) / (high - low) < _LABEL]
        pieces = _around(numbers, -0.6, place - _GAP - 0.4)
        shapes += [_rule(value, value, top, bottom, 1, "dot", neutral(dark)) for top, bottom in pieces]
    close = len(lines) > 1 and max(lines.values()) - min(lines.values()) < _CLOSE * (high - low)
    notes = [
        {
            "x": value,
            "y": -0.6,
            "text": f"{plain(name)} {value:.1f}",
            "showarrow": False,
            "xanchor": _anchor((value - low) / (high - low)),
            "yanchor": "bottom",
            "yshift": 13 * place if close else 0,
            "font": {"size": 11},
        }
        for place, (name, value) in enumerate(sorted(lines.items(), key=lambda line: line[1]))
    ]
    return compose(
        traces,
        height=round(90 + _LINE_HEIGHT * place),
        legend=False,
        shapes=shapes,
        annotations=notes,
        xaxis={
            "title": {"text": "Average accuracy (%)"},
            "zeroline": False,
            "range": [low, high],
        },
        yaxis={
            "tickvals": list(ticks),
            "ticktext": list(ticks.values()),
            "range": [place - _GAP - 0.4, -0.7],
            "showgrid": False,
            "zeroline": False,
        },
    )


def _around(places: Sequence[float], top: float, bottom: float) -> list[tuple[float, float]]:
    """What is left of a line from top to bottom with a gap at each of some places, which are in order.

    >>> _around([2], -0.5, 3.5)
    [(-0.5, 1.6), (2.4, 3.5)]
    """
    tops, bottoms = [top, *(place + 0.4 for place in places)], [*(place - 0.4 for place in places), bottom]
    return [(one, other) for one, other in zip(tops, bottoms, strict=True) if one < other]


def _anchor(share: float) -> str:
    """Which side of a text stands at a share of the axis, so that it stays within a narrow chart."""
    return "left" if share < _NEAR_THE_EDGE else "right" if share > 1 - _NEAR_THE_EDGE else "center"


def _rule(
    x0: float, x1: float, y0: float, y1: float, width: int, dash: str = "solid", color: str = RULE
) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": x0,
        "x1": x1,
        "y0": y0,
        "y1": y1,
        "layer": "below",
        "line": {"color": color, "width": width, "dash": dash},
    }


def takeaway(standings: Sequence[Standing]) -> str:
    """What the leaderboard shows, in one or two sentences, from the numbers."""
    measured = [(one, one.row) for one in ranked(standings) if one.row is not None and not one.baseline]
    if not measured:
        return "No method has been measured here yet."
    measured.sort(key=lambda pair: pair[0].localised)  # those that give one model for all come first
    best: dict[str, str] = {}
    for one, row in measured:
        best.setdefault(one.group, f"{one.title} ({one.group}) with {100 * row.average:.1f} %")
    text = f"Best on average: {'; '.join(best.values())}."
    normalised = measured[0][1].normalised
    return text if normalised is None else f"{text} Normalised accuracy of the first: {100 * normalised:.1f} %."
