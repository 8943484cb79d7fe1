"""Charts of what merged models are good for beyond clean images of their own tasks: unseen tasks, corrupted images.

Values come in as 0 … 1; axes and tables show percent.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from merging.charts import theme
from merging.charts.accuracy import Series, line_of, marker_of
from merging.core.text import in_a_row, printed, shown_as, signed
from merging.evaluation.accuracy import best_first
from merging.runs.beyond import Generalisation, Robustness, average, gains, measured_for_all, spread
from merging.suites.images.corruptions import CORRUPTIONS, READY, READY_TEXT
from merging.suites.images.shifts import Shift

_BESIDE_ON_PHONES = 7  # methods whose numbers have room beside each other on a narrow screen


def seen_unseen_figure(rows: Sequence[Generalisation], base: Generalisation, dark: bool = False) -> go.Figure:
    """Mean accuracy on unseen tasks over that on seen tasks: a marker a method, with its spread over the splits.

    Zero-shot is a dotted line on either axis: left of one, or below the other, merging did harm.
    """
    traces: list[dict[str, Any]] = []
    for row in rows:
        one, name = Series(row.title, row.title, {}), theme.plain(row.title)
        bars = {
            f"error_{axis}": {"type": "data", "array": [100 * deviation], "thickness": 1, "width": 3}
            for axis, deviation in (("x", spread(row.seen)), ("y", spread(row.unseen)))
            if deviation is not None
        }
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [100 * average(row.seen)],
                "y": [100 * average(row.unseen)],
                "name": name,
                "marker": marker_of(one, 13),
                "hovertemplate": "seen <b>%{x:.1f}</b>, unseen <b>%{y:.1f}</b><extra>%{fullData.name}</extra>",
                **bars,
            }
        )
    x, y = 100 * average(base.seen), 100 * average(base.unseen)
    line = {"color": theme.neutral(dark), "width": 1, "dash": "dot"}
    shapes = [
        {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line},
        {"type": "line", "y0": y, "y1": y, "xref": "paper", "x0": 0, "x1": 1, "line": line},
    ]
    quiet: dict[str, Any] = {"showarrow": False, "font": {"size": 11}}
    notes = [
        {
            "x": x,
            "yref": "paper",
            "y": 0,
            "yanchor": "bottom",
            "xanchor": "left",
            "text": f" zero-shot {x:.1f}",
            **quiet,
        },
        {
            "y": y,
            "xref": "paper",
            "x": 1,
            "yanchor": "bottom",
            "xanchor": "right",
            "text": f"zero-shot {y:.1f}",
            **quiet,
        },
    ]
    return theme.compose(
        traces,
        height=460,
        shapes=shapes,
        annotations=notes,
        xaxis={"title": {"text": "Mean accuracy on seen tasks (%)"}, "zeroline": False},
        yaxis={"title": {"text": "Mean accuracy on unseen tasks (%)"}, "zeroline": False},
    )


def seen_unseen_table(rows: Sequence[Generalisation], base: Generalisation) -> pd.DataFrame:
    """A row a method, zero-shot first: means in percent, their standard deviations over the splits, and gains.

    The deviation of a gain is that of the differences within the splits.
    """
    table = []
    for row in (base, *rows):
        cells: dict[str, Any] = {"Method": row.title}
        for part, values, reference in (("seen", row.seen, base.seen), ("unseen", row.unseen, base.unseen)):
            deviation = spread(values)
            cells[f"{part.capitalize()} (%)"] = round(100 * average(values), 1)
            cells[f"± {part}"] = None if deviation is None else round(100 * deviation, 1)
            gained = gains(values, reference)
            paired = None if row is base else spread(gained)
            cells[f"{part.capitalize()} vs zero-shot"] = None if row is base else shown_as(100 * average(gained))
            cells[f"± {part} vs zero-shot"] = None if paired is None else round(100 * paired, 1)
        table.append(cells)
    return pd.DataFrame(table)


def seen_unseen_takeaway(rows: Sequence[Generalisation], base: Generalisation) -> str:
    """Which method is best on either kind of tasks, and which fall below zero-shot on unseen ones, from the numbers."""
    seen, unseen = ([average(values) for values in of] for of in ([r.seen for r in rows], [r.unseen for r in rows]))
    first, last = rows[best_first(seen)[0]], rows[best_first(unseen)[0]]
    gain = [value - average(base.unseen) for value in unseen]
    alone = len(rows) == 1
    best = (
        first.title
        if alone
        else f"{first.title} is best on seen and on unseen tasks"
        if first is last
        else f"{first.title} is best on seen tasks, {last.title} on unseen ones"
    )
    below = [row.title for row, value in zip(rows, gain, strict=True) if value < 0]
    harm = (
        f"{'it falls' if below else 'it does not fall'} below zero-shot on unseen tasks"
        if alone
        else "no method falls below zero-shot on unseen tasks"
        if not below
        else "all methods fall below zero-shot on unseen tasks"
        if len(below) == len(rows)
        else f"below zero-shot on unseen tasks: {in_a_row(below)}"
    )
    splits = len(base.seen)
    if below and splits > 2 and not any(_clearly_below(row, base) for row in rows):
        harm += f", {'not' if alone else 'none'} by more than twice its standard error over the splits"
    over = f"over {splits} splits" if splits > 1 else "in one split"
    return (
        f"{best}: {100 * max(seen):.1f} % seen, and {100 * max(unseen):.1f} % unseen, "
        f"{signed(100 * max(gain))} points against zero-shot, {over}; {harm}."
    )


def _clearly_below(row: Generalisation, base: Generalisation) -> bool:
    """Whether a method is below the base on unseen tasks by more than twice the standard error over the splits."""
    losses = gains(base.unseen, row.unseen)
    error = (spread(losses) or 0.0) / math.sqrt(len(losses))
    return average(losses) > 2 * error


def _texts(corruptions: Sequence[str], severity: int) -> list[str]:
    return [Shift(corruption=name, severity=severity).text for name in corruptions]


def severity_words(severity: int) -> str:
    """What to call a severity in running text.

    >>> severity_words(3), severity_words(READY)
    ('severity 3', 'the strength of the data sets')
    """
    return "the strength of the data sets" if severity == READY else f"severity {severity}"


def robustness_figure(
    rows: Sequence[Robustness], corruptions: Sequence[str], severity: int, dark: bool = False, narrow: bool = False
) -> go.Figure:
    """Methods × corruptions: mean accuracy over the tasks as numbers, what is lost against clean images as colours.

    What is not measured is empty; the mean is over the corruptions that are measured for all rows. For a narrow screen
    methods stand beside each other, of which there are fewer; with too many for numbers, colours alone are left.
    """
    shared = _texts(measured_for_all(rows, corruptions, [severity]), severity)
    values = np.array([_in_percent(row, _texts(corruptions, severity), shared) for row in rows])
    change = values - values[:, :1]
    limit = max(1.0, float(np.nanmax(np.abs(change))))
    titles = ["Clean", *(CORRUPTIONS[name].title for name in corruptions), _mean_title(shared, corruptions)]
    names = [theme.plain(row.title) for row in rows]
    hover = [
        [f"{name}, {title}: <b>{value:.1f}</b> %" for title, value in zip(titles, line, strict=True)]
        for name, line in zip(names, values, strict=True)
    ]
    text = [
        [
            "" if np.isnan(value) else theme.on_cell(f"{value:.1f}", lost / limit, dark)
            for value, lost in zip(line, of, strict=True)
        ]
        for line, of in zip(values, change, strict=True)
    ]
    cells = [[None if np.isnan(lost) else shown_as(lost) for lost in of] for of in change]
    if narrow:
        cells, hover, text = (list(map(list, zip(*table, strict=True))) for table in (cells, hover, text))
        titles, names = names, titles
    axis = {"showgrid": False, "zeroline": False}
    trace = {
        "type": "heatmap",
        "z": cells,
        "xgap": 1,
        "ygap": 1,
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "text": text,
        "texttemplate": "" if narrow and len(rows) > _BESIDE_ON_PHONES else "%{text}",
        "textfont": {"size": 11},  # else plotly.js fits the markup, colours and all, into the cell
        "customdata": hover,
        "hovertemplate": "%{customdata}<br>%{z:+.1f} points against clean<extra></extra>",
    }
    return theme.compose(
        [trace],
        height=max(280, 150 + 30 * len(names)),  # names of columns stand upright on phones
        legend=False,
        dragmode=False,
        xaxis={**axis, "tickvals": [*range(len(titles))], "ticktext": titles, "side": "top"},
        yaxis={**axis, "tickvals": [*range(len(names))], "ticktext": names, "autorange": "reversed"},
        coloraxis={
            "colorscale": theme.diverging_scale(dark),
            "cmin": -limit,
            "cmax": limit,
            "cmid": 0,
            "colorbar": {
                "thickness": 8,
                "outlinewidth": 0,
                "xpad": 6,
                "tickvals": [-limit, 0, limit],
                "ticktext": [printed(-limit, ".0f"), "0", printed(limit, "+.0f")],
                "title": {"text": "points against clean", "side": "right"},
            },
        },
    )


def _in_percent(row: Robustness, shifts: Sequence[str], shared: Sequence[str]) -> list[float]:
    """Accuracy on clean images, under every shift, and on average over some; not a number where nothing is measured."""
    under = (row.mean(shift) for shift in shifts)
    mean = row.over(shared) if shared else math.nan
    return [100 * value for value in (row.on_average, *(math.nan if one is None else one for one in under), mean)]


def _mean_title(shared: Sequence[str], corruptions: Sequence[str]) -> str:
    return "Mean corrupted" if len(shared) in (0, len(corruptions)) else f"Mean of {len(shared)}"


def robustness_table(rows: Sequence[Robustness], corruptions: Sequence[str], severities: Sequence[int]) -> pd.DataFrame:
    """A row a method and severity: mean accuracy in percent, clean and under every corruption; relative to clean."""
    table = []
    for severity in severities:
        shared = _texts(measured_for_all(rows, corruptions, [severity]), severity)
        for row in rows:
            clean, *means, middle = _in_percent(row, _texts(corruptions, severity), shared)
            named = zip((CORRUPTIONS[name].title for name in corruptions), means, strict=True)
            table.append(
                {
                    "Method": row.title,
                    "Severity": READY_TEXT if severity == READY else severity,
                    "Clean (%)": _cell(clean),
                    **{f"{title} (%)": _cell(value) for title, value in named},
                    f"{_mean_title(shared, corruptions)} (%)": _cell(middle),
                    "Relative (%)": _cell(100 * middle / clean) if clean else None,
                }
            )
    return pd.DataFrame(table)


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 1)


def robustness_takeaway(rows: Sequence[Robustness], corruptions: Sequence[str], severity: int) -> str:
    """Who is best on corrupted images, who keeps most, and what adapting on the shift is worth, from the numbers.

    All of it over the corruptions that are measured for all methods.
    """
    names = measured_for_all(rows, corruptions, [severity])
    if not names:
        return f"At {severity_words(severity)} no corruption is measured for all of these methods yet."
    shifts = _texts(names, severity)
    means = {row.name: row.over(shifts) for row in rows}
    clean = {row.name: row.on_average for row in rows}
    kept = {name: means[name] / clean[name] if clean[name] else 0.0 for name in means}
    titles = {row.name: row.title for row in rows}
    order = list(means)
    alone = len({row.published_name for row in rows}) == 1
    best = order[0] if alone else order[best_first([means[name] for name in order])[0]]
    most = order[best_first([kept[name] for name in order])[0]]
    over = (
        "the corruptions" if len(names) == len(corruptions) else in_a_row([CORRUPTIONS[each].title for each in names])
    )
    text = (
        f"At {severity_words(severity)} {titles[best]} {'reaches' if alone else 'is best with'} "
        f"{100 * means[best]:.1f} % over {over} ({100 * clean[best]:.1f} % clean)"
    )
    if not alone:
        text += f"; {titles[most]} keeps most of its clean accuracy, {100 * kept[most]:.0f} %"
    text += "."
    if len(names) > 1:
        costs = [sum(row.over([shift]) - row.on_average for row in rows) / len(rows) for shift in shifts]
        worst = names[best_first([-cost for cost in costs])[0]]
        text += f" {CORRUPTIONS[worst].title} costs most, {printed(100 * min(costs), '+.1f')} points on average."
    for row in rows:
        if row.on_clean and row.published_name in means:
            gain = 100 * (means[row.published_name] - means[row.name])
            text += f" Adapting {row.method} on the corrupted images is worth {signed(gain)} points over clean ones."
    return text


def severity_figure(rows: Sequence[Robustness], corruptions: Sequence[str], severities: Sequence[int]) -> go.Figure:
    """Mean accuracy over tasks and corruptions at every severity, clean images as severity 0: a line a method.

    The corruptions have to be measured for all methods at all of these severities.
    """
    looks = theme.distinct_styles([row.method for row in rows])
    traces = []
    for row, look in zip(rows, looks, strict=True):
        values = [row.on_average, *(row.over(_texts(corruptions, level)) for level in severities)]
        one = Series(row.title, row.method, {}, look)
        traces.append(line_of(one, [0, *severities], values, "severity %{x}: <b>%{y:.1f}</b>"))
    places = [0, *severities]
    return theme.compose(
        traces,
        height=420,
        xaxis={
            "title": {"text": "Severity"},
            "tickvals": places,
            "ticktext": ["clean", *map(str, severities)],
            "zeroline": False,
        },
        yaxis={"title": {"text": "Mean accuracy (%)"}, "zeroline": False},
    )
