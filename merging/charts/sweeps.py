"""Charts of a sweep: the best so far over the trials, and all trials as lines through their parameters.

Values come in as 0 … 1; axes and tables show percent.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from merging.charts.theme import arrange, compose, distinct_styles, neutral, plain, shorten, step_axis
from merging.core.text import printed
from merging.sweeps import Range, SweepDefinition, Trial
from merging.sweeps.progress import best_so_far, method_title, parameters, titles

_LIGHT, _DARK = ("#c4cfdb", "#6fa6d6", "#12508c"), ("#39434f", "#3672a8", "#9fd0ff")  # weak to strong on their ground
_NOT_THERE = "–"  # a parameter of a method that the trial does not use
_TICKS = 5


def objective_title(definition: SweepDefinition) -> str:
    """What is maximised, as the title of an axis or a column."""
    return "Average (%)" if definition.objective == "average" else "Normalised average (%)"


def course_figure(trials: Sequence[Trial], definition: SweepDefinition, dark: bool = False) -> go.Figure:
    """Validation objective of every trial, and the best so far as a staircase."""
    traces: list[dict[str, Any]] = []
    methods = list(dict.fromkeys(method_title(trial) for trial in trials))
    for label, style in zip(methods, distinct_styles(methods), strict=True):
        own = [trial for trial in trials if method_title(trial) == label and trial.value is not None]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(label),
                "x": [trial.number for trial in own],
                "y": [100 * (trial.value or 0) for trial in own],
                "marker": {"color": style.color, "symbol": style.symbol, "size": 8},
                "hovertemplate": "trial %{x}: <b>%{y:.1f} %</b><extra>%{fullData.name}</extra>",
            }
        )
    best = best_so_far(trials)
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Best so far",
            "x": [trial.number for trial in trials],
            "y": [None if value is None else 100 * value for value in best],
            "line": {"shape": "hv", "color": neutral(dark), "width": 2},
            "hovertemplate": "best up to trial %{x}: <b>%{y:.1f} %</b><extra></extra>",
        }
    )
    last = max((trial.number for trial in trials), default=0)
    return compose(
        traces,
        height=360,
        xaxis=step_axis(last, "Trial"),
        yaxis={"title": {"text": f"{objective_title(definition)}, validation"}, "zeroline": False},
    )


def parallel_figure(trials: Sequence[Trial], definition: SweepDefinition, dark: bool = False) -> go.Figure:
    """Every finished trial as a line through method, parameters and objective; the best are the strongest.

    A parameter that a trial's method does not have stands below the others, at a dash.
    """
    done = [trial for trial in trials if trial.value is not None]
    values = [100 * (trial.value or 0) for trial in done]
    domains = {path: domain for pair in definition.pairs for path, domain in definition.space(pair).items()}
    varied = [path for path, domain in domains.items() if isinstance(domain, Range) or len(domain) > 1]
    dimensions = [_categories("Method", [method_title(trial) for trial in done])] if len(definition.pairs) > 1 else []
    for path in varied:
        own = [parameters(trial).get(path) for trial in done]
        method, name = titles(path)
        title = f"{shorten(method, 22)}: {name}"
        dimensions.append(_numbers(title, own, domains[path]) if _is_number(own) else _categories(title, own))
    dimensions.append({"label": objective_title(definition), "values": values})
    text = {"color": "#e6e9ef" if dark else "#1c2430", "size": 12}
    scale = [[index / 2, color] for index, color in enumerate(_DARK if dark else _LIGHT)]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            labelfont=text,
            tickfont={**text, "shadow": "none"},
            rangefont={"size": 1, "color": "rgba(0, 0, 0, 0)"},  # ends of the axes, which have ticks already
            line={"color": values, "colorscale": scale},
        )
    )
    arrange(figure, height=380, legend=False)
    widest = max((len(text) for text in dimensions[0].get("ticktext", [])), default=0)
    return figure.update_layout(margin={"l": max(70, 12 + 7 * widest), "r": 50, "t": 60, "b": 20})


def _is_number(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values if value is not None)


def _categories(title: str, values: Sequence[Any]) -> dict[str, Any]:
    """A dimension whose values have no order of their own."""
    texts = [_NOT_THERE if value is None else str(value) for value in values]
    names = list(dict.fromkeys(sorted(texts, key=lambda text: text != _NOT_THERE)))
    return {
        "label": plain(title),
        "values": [names.index(text) for text in texts],
        "tickvals": list(range(len(names))),
        "ticktext": [plain(shorten(name, 24)) for name in names],
        "range": [-0.3, len(names) - 0.7],
    }


def _numbers(title: str, values: Sequence[Any], domain: Any) -> dict[str, Any]:
    """A dimension of numbers, on a log scale where the range has one."""
    log = isinstance(domain, Range) and domain.log
    places = [None if value is None else math.log10(value) if log else float(value) for value in values]
    known = sorted({place for place in places if place is not None})
    low, high = (known[0], known[-1]) if known else (0.0, 1.0)
    gap = 0.2 * (high - low) or 0.5
    ticks = known if len(known) <= _TICKS else [low + i * (high - low) / (_TICKS - 1) for i in range(_TICKS)]
    absent = [low - gap] if None in places else []
    return {
        "label": plain(title),
        "values": [low - gap if place is None else place for place in places],
        "tickvals": [*absent, *ticks],
        "ticktext": [*(_NOT_THERE for _ in absent), *(printed(10**tick if log else tick, ".3g") for tick in ticks)],
        "range": [low - (gap if absent else 0.05 * gap), high + 0.05 * gap],
    }


def trials_table(trials: Sequence[Trial], definition: SweepDefinition) -> pd.DataFrame:
    """A row a trial in their order; a column for every parameter that any of them has."""
    paths = list(dict.fromkeys(path for trial in trials for path in parameters(trial)))
    rows = []
    for trial in trials:
        own = parameters(trial)
        rows.append(
            {
                "Trial": trial.number,
                "State": trial.state,
                "Method": method_title(trial),
                objective_title(definition): None if trial.value is None else round(100 * trial.value, 2),
                **{": ".join(titles(path)): _cell(own.get(path)) for path in paths},
                "Run": trial.run,
                "Error": trial.error,
            }
        )
    table = pd.DataFrame(rows)
    return table if table.empty or table["Error"].notna().any() else table.drop(columns="Error")


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
