"""Charts of methods over the number of merged tasks. Values come in as 0 … 1; axes and tables show percent."""

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
import plotly.graph_objects as go

from merging.charts import theme
from merging.charts.accuracy import Series, line_of
from merging.core.text import signed
from merging.evaluation.accuracy import best_first
from merging.runs.beyond import average, spread
from merging.runs.task_counts import ByCount

_STEP = 0.007  # between bars that stand beside each other, as a share of the axis
_WIDEST = 0.4  # of the way to the next number of tasks, that all of them may take


def task_counts_figure(rows: Sequence[ByCount], relative: bool = False) -> go.Figure:
    """Mean accuracy over the number of merged tasks: a line a method, with the spread over the subsets as bars.

    Bars of one number of tasks stand beside each other around it, as on top of each other nobody could tell them apart.
    """
    looks = theme.distinct_styles([row.title for row in rows])
    step = _dodge(rows)
    traces = []
    for place, (row, look) in enumerate(zip(rows, looks, strict=True)):
        values = row.values(relative)
        deviations = [spread(of) or 0.0 for of in values.values()]
        hover = f"%{{customdata}} tasks: <b>%{{y:.1f}}</b>{' ± %{error_y.array:.1f}' if any(deviations) else ''}"
        beside = (place - (len(rows) - 1) / 2) * step
        places, means = [size + beside for size in values], [average(of) for of in values.values()]
        line = line_of(Series(row.title, row.title, {}, look), places, means, hover)
        bars = {
            "type": "data",
            "array": [100 * one for one in deviations],
            "thickness": 1,
            "width": 3,
            "color": look.color,
        }
        traces.append({**line, "customdata": list(values), "error_y": bars})
    sizes = sorted({size for row in rows for size in row.averages})
    return theme.compose(
        traces,
        height=460,
        xaxis={"title": {"text": "Number of merged tasks"}, "tickvals": sizes, "zeroline": False},
        yaxis={"title": {"text": f"{'Normalised' if relative else 'Mean'} accuracy (%)"}, "zeroline": False},
    )


def _dodge(rows: Sequence[ByCount]) -> float:
    """How far the bars of one row stand from those of the next, in tasks: all of one number stay close to it."""
    sizes = sorted({size for row in rows for size in row.averages})
    if len(sizes) < 2 or len(rows) < 2:
        return 0.0
    nearest = min(high - low for low, high in pairwise(sizes))
    return min(_WIDEST * nearest / (len(rows) - 1), _STEP * (sizes[-1] - sizes[0]))


def task_counts_table(rows: Sequence[ByCount]) -> pd.DataFrame:
    """A row a method and number of tasks: means in percent with their standard deviations over the subsets."""
    table = []
    for row in rows:
        for size, values in row.averages.items():
            cells: dict[str, object] = {"Method": row.title, "Tasks": size, "Subsets": len(values)}
            for name, of in (("Average (%)", values), ("Normalised (%)", row.normalised.get(size, []))):
                cells[name] = round(100 * average(of), 1) if of else None
                deviation = spread(of)
                cells[f"± {name.split()[0].lower()}"] = None if deviation is None else round(100 * deviation, 1)
            table.append(cells)
    return pd.DataFrame(table)


def task_counts_takeaway(rows: Sequence[ByCount]) -> str:
    """Which method is best with few and with many tasks, and which loses least on the way, from the numbers."""
    sizes = list(rows[0].averages)
    few, many = sizes[0], sizes[-1]

    def best(size: int) -> tuple[ByCount, float]:
        values = [average(row.averages[size]) for row in rows]
        place = best_first(values)[0]
        return rows[place], values[place]

    (last, reached), (first, began) = best(many), best(few)
    if few == many:
        best_of = f"reaches {100 * reached:.1f} %" if len(rows) == 1 else f"is best, {100 * reached:.1f} %"
        return f"With {many} tasks {last.title} {best_of}; more numbers of tasks show how it scales."
    changes = [average(row.averages[many]) - average(row.averages[few]) for row in rows]
    place = best_first(changes)[0]
    which = (
        f"{last.title} is best with {few} tasks and with {many}, {100 * began:.1f} and {100 * reached:.1f} %"
        if first is last
        else f"With {few} tasks {first.title} is best, {100 * began:.1f} %, with {many} tasks {last.title}, "
        f"{100 * reached:.1f} %"
    )
    if len(rows) == 1:
        return f"{last.title} goes from {100 * began:.1f} % with {few} tasks to {100 * reached:.1f} % with {many}."
    return f"{which}; {rows[place].title} holds up best on the way, {signed(100 * changes[place])} points."
