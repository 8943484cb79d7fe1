"""A plotly figure as plain SVG, for pages that are printed and have no scripts: bars, points, lines and notes.

Drawn is what the lesson's charts are made of. Whatever else a figure holds is refused rather than left out.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merging.charts.static_marks import (
    GRID,
    LINES,
    QUIET,
    Axis,
    entry_width,
    legend_of,
    marks_of,
    note_of,
    shape_of,
    stroke,
    values_of,
    width_of,
    words_at,
)
from merging.runs.comparison.svg import drawing


def svg_of(figure: go.Figure, about: str, width: int = 720, height: int | None = None) -> str:
    """The figure as an SVG element.

    Args:
        figure: bars along the x axis, points and lines on one pair of axes.
        about: what it shows, for those who can't see it.
        width: in pixels.
        height: in pixels; that of the figure by default.

    Raises:
        ValueError: it holds what can't be drawn so.
    """
    described = _decoded(figure.to_plotly_json())
    traces, layout = described["data"], described["layout"]
    for trace in traces:
        _require_known(trace)
    height = int(height or layout.get("height") or 400)
    named = [trace for trace in traces if trace.get("name")] if layout.get("showlegend") else []
    x_settings, y_settings = layout.get("xaxis", {}), layout.get("yaxis", {})
    x_ends, y_ends = _ends(x_settings, traces, "x"), _ends(y_settings, traces, "y")
    labels = [text for _, text in Axis(*y_ends, 0, 1, y_settings).ticks()]
    beside = [note["text"] for note in layout.get("annotations", ()) if note.get("xref") == "paper" and note["x"] > 1]
    left = 14 + max(map(width_of, labels), default=0) + (22 if _title(y_settings) else 0)
    right = 14 + max(map(width_of, beside), default=0)
    rows = _in_rows(named, width - left - 14)
    top = 14 + 22 * len(rows)
    bottom = 12 + (20 if Axis(*x_ends, 0, 1, x_settings).ticks() else 0) + (22 if _title(x_settings) else 0)
    x = Axis(*x_ends, left, width - right, x_settings)
    y = Axis(*y_ends, height - bottom, top, y_settings)
    inside = [mark for trace in traces for mark in marks_of(trace, x, y)]
    shapes = [(shape.get("layer") == "below", shape_of(shape, x, y)) for shape in layout.get("shapes", ())]
    parts = [
        *_grid(x, y),
        *(drawn for below, drawn in shapes if below),
        _clipped(inside, x, y),
        *(drawn for below, drawn in shapes if not below),
        *(text for trace in traces for text in values_of(trace, x, y)),
        *(note_of(note, x, y) for note in layout.get("annotations", ())),
        *(part for number, row in enumerate(rows) for part in legend_of(row, left, 16 + 22 * number)),
    ]
    return drawing(width, height, about, parts)


def _require_known(trace: Mapping[str, Any]) -> None:
    bars = trace["type"] == "bar" and trace.get("orientation") == "h"
    if not bars and (trace["type"] != "scatter" or trace.get("mode") not in LINES):
        raise ValueError(f"a trace {trace['type']} {trace.get('mode', '')} can't be drawn without plotly.js")


def _decoded(value: Any) -> Any:
    """A figure's plain values, with the numbers that plotly packs into text as lists."""
    if isinstance(value, Mapping):
        if {"dtype", "bdata"} <= value.keys():
            return np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).tolist()
        return {name: _decoded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_decoded(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _ends(settings: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], axis: str) -> tuple[float, float]:
    """Values at the ends of an axis."""
    if settings.get("range") is not None:
        low, high = settings["range"]
        return float(low), float(high)
    values = [float(value) for trace in traces for value in trace[axis] if value is not None and isfinite(value)]
    bars = any(trace["type"] == "bar" for trace in traces)
    if bars and axis == "x":
        values.append(0.0)
    room = 0.6 if bars and axis == "y" else 0.06 * (max(values, default=0) - min(values, default=0)) or 1.0
    ends = min(values, default=0.0) - room, max(values, default=0.0) + room
    return ends[::-1] if settings.get("autorange") == "reversed" else ends


def _grid(x: Axis, y: Axis) -> list[str]:
    """Lines, numbers and titles of both axes."""
    parts = []
    for value, text in x.ticks():
        place = x.place(value)
        if x.settings.get("showgrid") is not False:
            parts.append(stroke(place, y.start, place, y.end, GRID, 1))
        parts.append(words_at(place, y.start + 17, text, "middle", QUIET))
    for value, text in y.ticks():
        place = y.place(value)
        if y.settings.get("showgrid") is not False:
            parts.append(stroke(x.start, place, x.end, place, GRID, 1))
        parts.append(words_at(x.start - 8, place + 4, text, "end", QUIET))
    for axis, upright in ((x, True), (y, False)):
        if axis.settings.get("zeroline") is True and min(axis.low, axis.high) <= 0 <= max(axis.low, axis.high):
            zero = axis.place(0)
            ends = (zero, y.start, zero, y.end) if upright else (x.start, zero, x.end, zero)
            parts.append(stroke(*ends, QUIET, 1))
    if _title(x.settings):
        parts.append(words_at((x.start + x.end) / 2, y.start + 38, _title(x.settings), "middle", QUIET))
    if _title(y.settings):
        middle = (y.start + y.end) / 2
        turned = f' transform="rotate(-90 14 {middle:.1f})"'
        parts.append(words_at(14, middle, _title(y.settings), "middle", QUIET, turned))
    return parts


def _title(settings: Mapping[str, Any]) -> str:
    title = settings.get("title", "")
    return str(title.get("text", "") if isinstance(title, Mapping) else title)


def _in_rows(traces: Iterable[Mapping[str, Any]], width: float) -> list[list[Mapping[str, Any]]]:
    """Entries of the legend in as many rows as it takes."""
    rows: list[list[Mapping[str, Any]]] = []
    left = 0.0
    for trace in traces:
        if not rows or left + entry_width(trace) > width:
            rows.append([])
            left = 0.0
        rows[-1].append(trace)
        left += entry_width(trace)
    return rows


def _clipped(parts: Sequence[str], x: Axis, y: Axis) -> str:
    """Marks within the axes only: an element of its own cuts off what lies beyond."""
    box = f"{x.start:.1f} {y.end:.1f} {x.end - x.start:.1f} {y.start - y.end:.1f}"
    left, top, wide, high = box.split()
    return f'<svg x="{left}" y="{top}" width="{wide}" height="{high}" viewBox="{box}">{"".join(parts)}</svg>'
