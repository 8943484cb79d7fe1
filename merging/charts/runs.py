"""Charts about single runs: coefficient table, AdaMerging's path, storage, timings."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from merging.charts.geometry import block_ticks
from merging.charts.theme import arrange, diverging_scale, plain, shorten, step_axis, style_of
from merging.runs.jobs.merge_result import Coefficients, Storage
from merging.weights.geometry import block_of, network_order

_RULE = "rgba(128, 128, 128, 0.55)"
# colour-blind-safe, 3 : 1 on both themes; tasks beyond the eighth repeat them with another dash
_TASK_COLORS = ("#2e93d1", "#cc7f00", "#0a9a72", "#b8609c", "#8c62c9", "#d1541f", "#8d8a1f", "#868686")
_DASHES = ("solid", "dash", "dot", "dashdot")


def coefficient_heatmap(coefficients: Coefficients, labels: Mapping[str, str], dark: bool = False) -> go.Figure:
    """The table c of a linear run: a row per task, a column per tensor in the order of the network.

    Args:
        coefficients: of a linear run.
        labels: task → what to call it.
        dark: whether the theme is dark.
    """
    order = network_order(coefficients.tensors)
    names = [coefficients.tensors[index] for index in order]
    table = np.array(coefficients.table)[:, order]
    limit = float(np.abs(table).max()) or 1.0
    rows = [plain(shorten(labels.get(task, task), 30)) for task in coefficients.tasks]
    figure = go.Figure(
        go.Heatmap(
            z=table,
            x=list(range(len(names))),
            y=list(range(len(rows))),
            zmin=-limit,
            zmax=limit,
            colorscale=diverging_scale(dark),
            customdata=[[f"{row}<br>{plain(name)}" for name in names] for row in rows],
            hovertemplate="%{customdata}<br>c = <b>%{z:.3f}</b><extra></extra>",
            # a bar as low as a row or two has room for nothing; the numbers are in the table
            showscale=len(rows) > 2,
            colorbar={"title": {"text": "c"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    blocks = [block_of(name) for name in names]
    for index in range(1, len(blocks)):
        if blocks[index] != blocks[index - 1]:
            figure.add_vline(x=index - 0.5, line={"color": _RULE, "width": 1})
    places, ticks = block_ticks(names)
    figure.update_xaxes(tickvals=places, ticktext=ticks, showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed", showgrid=False)
    return arrange(figure, height=110 + 30 * len(rows), legend=False)


def coefficient_table(coefficients: Coefficients, labels: Mapping[str, str]) -> pd.DataFrame:
    """The same as a table: a row per tensor, a column per task."""
    order = network_order(coefficients.tensors)
    columns = [labels.get(task, task) for task in coefficients.tasks]
    table = pd.DataFrame(np.array(coefficients.table).T[order], columns=columns)
    table.insert(0, "Tensor", [coefficients.tensors[index] for index in order])
    return table


def trajectory_figure(
    trajectory: Sequence[Sequence[float]],
    tasks: Sequence[str],
    labels: Mapping[str, str],
    steps: Sequence[int] | None = None,
) -> go.Figure:
    """Mean coefficient of every task over AdaMerging's steps.

    Args:
        trajectory: ``[N][T]``.
        tasks: T names.
        labels: task → what to call it.
        steps: after how many steps each was; all from 0 by default.
    """
    steps = range(len(trajectory)) if steps is None else steps
    figure = go.Figure()
    for index, (task, values) in enumerate(zip(tasks, np.array(trajectory).T, strict=True)):
        figure.add_scatter(
            x=list(steps),
            y=values,
            mode="lines",
            name=plain(labels.get(task, task)),
            line=_line(index),
            hovertemplate="step %{x}: <b>%{y:.3f}</b><extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(step_axis(steps[-1], "Step"))
    figure.update_yaxes(title="Coefficient, mean over layers", zeroline=False)
    return arrange(figure, height=380)


def accuracy_so_far_figure(steps: Sequence[int], averages: Sequence[float], total: int) -> go.Figure:
    """Average accuracy of a model that is learning.

    Args:
        steps: after how many steps each was measured.
        averages: in percent.
        total: steps that it will make.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=list(steps),
        y=list(averages),
        mode="lines+markers",
        line={"color": style_of("AdaMerging").color, "width": 2.5},
        hovertemplate="step %{x}: <b>%{y:.1f} %</b><extra></extra>",
    )
    figure.update_xaxes(step_axis(total, "Step"), range=[0, total])
    figure.update_yaxes(title="Average accuracy (%)")
    return arrange(figure, height=240, legend=False)


def entropy_figure(entropy: Sequence[Sequence[float]], tasks: Sequence[str], labels: Mapping[str, str]) -> go.Figure:
    """Entropy of the predictions over AdaMerging's steps ``[steps][T]``: the mean, smoothed, over each task's own."""
    table = smoothed(np.array(entropy))
    steps = list(range(len(table)))
    figure = go.Figure()
    for index, (task, values) in enumerate(zip(tasks, table.T, strict=True)):
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines",
            name=plain(labels.get(task, task)),
            opacity=0.6,
            line={**_line(index), "width": 1.25},
            hovertemplate="step %{x}: <b>%{y:.3f}</b><extra>%{fullData.name}</extra>",
        )
    figure.add_scatter(
        x=steps,
        y=table.mean(axis=1),
        mode="lines",
        name="Mean of all tasks",
        line={"color": "#7F7F7F", "width": 4},
        hovertemplate="step %{x}: <b>%{y:.3f}</b><extra>%{fullData.name}</extra>",
    )
    figure.update_xaxes(step_axis(len(entropy) - 1, "Step"))
    figure.update_yaxes(title="Prediction entropy (nats)", rangemode="tozero", zeroline=False)
    return arrange(figure, height=380)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Running mean over the last twentieth of the steps (single batches are noisy): ``[steps, T]``."""
    window = max(1, len(values) // 20)
    padded = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    mean: np.ndarray = (padded[ends] - padded[starts]) / (ends - starts)[:, None]
    return mean


def steps_table(values: Sequence[Sequence[float]], tasks: Sequence[str], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per step, a column per task, as recorded."""
    return pd.DataFrame(values, columns=[labels.get(task, task) for task in tasks]).rename_axis("Step").reset_index()


# None of them is a method's.
_PHASE_COLORS = ("#6b7280", "#9a8fb5", "#7f9c96", "#b39a6b", "#6f8fae", "#a87f86", "#8a8f5c", "#a59a8f")


def timing_figure(seconds: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Seconds by phase, one bar per run.

    Args:
        seconds: run's name → phase → seconds.
    """
    phases = list(dict.fromkeys(phase for times in seconds.values() for phase in times))
    figure = go.Figure()
    for index, phase in enumerate(phases):
        figure.add_bar(
            y=[plain(name) for name in seconds],
            x=[times.get(phase, 0.0) for times in seconds.values()],
            name=phase.capitalize(),
            orientation="h",
            marker={"color": _PHASE_COLORS[index % len(_PHASE_COLORS)]},
            hovertemplate="%{fullData.name}: <b>%{x:.2f} s</b><extra></extra>",
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(title="Seconds")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return arrange(figure, height=130 + 42 * len(seconds))


def storage_table(storage: Storage, tasks: int) -> pd.DataFrame:
    """What is stored for T localised models and for T fine-tuned ones, part by part, in megabytes of 10⁶ bytes.

    Args:
        storage: bits, as :func:`merging.weights.localised.storage_report` gives them.
        tasks: T.
    """
    base = storage.base
    ways = {
        "Vector and masks": {"Base": base, "Shared vector": storage.vector, "Masks": storage.masks},
        "Masks compressed": {"Base": base, "Shared vector": storage.vector, "Masks": storage.masks_compressed},
        f"Base and {tasks} models": {"Base": base, "Fine-tuned models": storage.models - base},
    }
    rows = [(way, part, bits / 8e6) for way, parts in ways.items() for part, bits in parts.items()]
    return pd.DataFrame(rows, columns=["Stored as", "Part", "MB"])


def storage_figure(table: pd.DataFrame) -> go.Figure:
    """The table of :func:`storage_table` as one stacked bar for each way of storing."""
    figure = go.Figure()
    for index, (part, rows) in enumerate(table.groupby("Part", sort=False)):
        figure.add_bar(
            y=rows["Stored as"],
            x=rows["MB"],
            name=str(part),
            orientation="h",
            marker={"color": _PHASE_COLORS[index % len(_PHASE_COLORS)]},
            hovertemplate="%{fullData.name}: <b>%{x:,.2f} MB</b><extra></extra>",
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(title="Megabytes")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return arrange(figure, height=130 + 42 * table["Stored as"].nunique())


def _line(index: int) -> dict[str, object]:
    count = len(_TASK_COLORS)
    return {"color": _TASK_COLORS[index % count], "dash": _DASHES[index // count % len(_DASHES)], "width": 2}
