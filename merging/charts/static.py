"""A plotly figure as plain SVG, for pages that are printed and have no scripts: bars, points, lines and notes.

Drawn is what the lesson's charts are made of. Whatever else a figure holds is refused rather than left out.
"""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merging.core.text import printed
from merging.runs.comparison.svg import drawing, escaped, round_numbers

_SIZE = 13  # pixels of letters
_WIDE = 0.56  # of a letter, as a share of its height
_INK, _QUIET, _GRID = "#1c2128", "#5a6272", "#dfe3e8"
_DASHES = {"solid": "", "dot": "2 4", "dash": "8 5", "dashdot": "8 4 2 4"}
_DASHES |= {"longdash": "14 6", "longdashdot": "14 5 2 5"}
_BOLD, _BREAK = re.compile(r"(</?b>)"), "<br>"
_LINES = {"lines": (True, False), "markers": (False, True), "lines+markers": (True, True)}


@dataclass(frozen=True)
class _Axis:
    """Where values lie on one axis.

    Attributes:
        low: value at its start, the left or the lower end.
        high: value at its other end.
        start: pixel of ``low``.
        end: pixel of ``high``.
        settings: as plotly has them.
    """

    low: float
    high: float
    start: float
    end: float
    settings: Mapping[str, Any]

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def at(self, value: float, reference: str) -> float:
        """Of a note or a shape, whose numbers may be shares of the chart's width or height."""
        return self.start + value * (self.end - self.start) if reference == "paper" else self.place(value)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts of the ticks in sight."""
        if self.settings.get("showticklabels") is False or self.settings.get("visible") is False:
            return []
        low, high = sorted((self.low, self.high))
        values = self.settings.get("tickvals")
        if values is None:
            found = round_numbers(low, high)
            return [(value, printed(value)) for value in found]
        texts = self.settings.get("ticktext") or [printed(value) for value in values]
        room = 1e-9 * (high - low)
        return [(value, text) for value, text in zip(values, texts, strict=True) if low - room <= value <= high + room]


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
    labels = [text for _, text in _Axis(*y_ends, 0, 1, y_settings).ticks()]
    beside = [note["text"] for note in layout.get("annotations", ()) if note.get("xref") == "paper" and note["x"] > 1]
    left = 14 + max(map(_width, labels), default=0) + (22 if _title(y_settings) else 0)
    right = 14 + max(map(_width, beside), default=0)
    rows = _in_rows(named, width - left - 14)
    top = 14 + 22 * len(rows)
    bottom = 12 + (20 if _Axis(*x_ends, 0, 1, x_settings).ticks() else 0) + (22 if _title(x_settings) else 0)
    x = _Axis(*x_ends, left, width - right, x_settings)
    y = _Axis(*y_ends, height - bottom, top, y_settings)
    inside = [mark for trace in traces for mark in _marks(trace, x, y)]
    shapes = [(shape.get("layer") == "below", _shape(shape, x, y)) for shape in layout.get("shapes", ())]
    parts = [
        *_grid(x, y),
        *(drawn for below, drawn in shapes if below),
        _clipped(inside, x, y),
        *(drawn for below, drawn in shapes if not below),
        *(text for trace in traces for text in _values(trace, x, y)),
        *(_note(note, x, y) for note in layout.get("annotations", ())),
        *(part for number, row in enumerate(rows) for part in _legend(row, left, 16 + 22 * number)),
    ]
    return drawing(width, height, about, parts)


def _require_known(trace: Mapping[str, Any]) -> None:
    bars = trace["type"] == "bar" and trace.get("orientation") == "h"
    if not bars and (trace["type"] != "scatter" or trace.get("mode") not in _LINES):
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


def _grid(x: _Axis, y: _Axis) -> list[str]:
    """Lines, numbers and titles of both axes."""
    parts = []
    for value, text in x.ticks():
        place = x.place(value)
        if x.settings.get("showgrid") is not False:
            parts.append(_stroke(place, y.start, place, y.end, _GRID, 1))
        parts.append(_text(place, y.start + 17, text, "middle", _QUIET))
    for value, text in y.ticks():
        place = y.place(value)
        if y.settings.get("showgrid") is not False:
            parts.append(_stroke(x.start, place, x.end, place, _GRID, 1))
        parts.append(_text(x.start - 8, place + 4, text, "end", _QUIET))
    for axis, upright in ((x, True), (y, False)):
        if axis.settings.get("zeroline") is True and min(axis.low, axis.high) <= 0 <= max(axis.low, axis.high):
            zero = axis.place(0)
            ends = (zero, y.start, zero, y.end) if upright else (x.start, zero, x.end, zero)
            parts.append(_stroke(*ends, _QUIET, 1))
    if _title(x.settings):
        parts.append(_text((x.start + x.end) / 2, y.start + 38, _title(x.settings), "middle", _QUIET))
    if _title(y.settings):
        middle = (y.start + y.end) / 2
        turned = f' transform="rotate(-90 14 {middle:.1f})"'
        parts.append(_text(14, middle, _title(y.settings), "middle", _QUIET, turned))
    return parts


def _title(settings: Mapping[str, Any]) -> str:
    title = settings.get("title", "")
    return str(title.get("text", "") if isinstance(title, Mapping) else title)


def _marks(trace: Mapping[str, Any], x: _Axis, y: _Axis) -> list[str]:
    """Bars, or lines and points, of a trace."""
    if trace["type"] == "bar":
        return _bars(trace, x, y)
    lines, points = _LINES[trace["mode"]]
    faint = float(trace.get("opacity", 1))
    marker, size = trace.get("marker", {}), len(trace["x"])
    at = [
        (place, x.place(float(a)), y.place(float(b)))
        for place, (a, b) in enumerate(zip(trace["x"], trace["y"], strict=True))
        if a is not None and b is not None and isfinite(a) and isfinite(b)
    ]
    parts = []
    if lines:
        line = trace.get("line", {})
        path = " ".join(f"{a:.1f},{b:.1f}" for _, a, b in at)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{escaped(str(line.get("color", _INK)))}" '
            f'stroke-width="{line.get("width", 2)}" stroke-dasharray="{_DASHES[line.get("dash", "solid")]}" '
            f'opacity="{faint}"/>'
        )
    if points:
        colors = _each(marker.get("color", trace.get("line", {}).get("color", _INK)), size)
        sizes, opacity = _each(marker.get("size", 6), size), faint * float(marker.get("opacity", 1))
        symbol = marker.get("symbol", "circle")
        parts += [_point(symbol, a, b, float(sizes[n]), str(colors[n]), opacity) for n, a, b in at]
    return parts


def _bars(trace: Mapping[str, Any], x: _Axis, y: _Axis) -> list[str]:
    size = len(trace["x"])
    colors = _each(trace.get("marker", {}).get("color", _INK), size)
    opacities = _each(trace.get("marker", {}).get("opacity", 1), size)
    parts = []
    for n, (value, row) in enumerate(zip(trace["x"], trace["y"], strict=True)):
        if value is None or not isfinite(value):
            continue
        base, half = float(trace.get("base", 0)), float(trace.get("width", 0.8)) / 2
        a, b = sorted((x.place(base), x.place(base + float(value))))
        c, d = sorted((y.place(row - half), y.place(row + half)))
        parts.append(
            f'<rect x="{a:.1f}" y="{c:.1f}" width="{b - a:.1f}" height="{d - c:.1f}" '
            f'fill="{escaped(str(colors[n]))}" opacity="{opacities[n]}"/>'
        )
    return parts


def _values(trace: Mapping[str, Any], x: _Axis, y: _Axis) -> list[str]:
    """What stands at the ends of bars."""
    if trace["type"] != "bar" or trace.get("text") is None:
        return []
    parts = []
    for value, row, text in zip(trace["x"], trace["y"], trace["text"], strict=True):
        end, left = x.place(float(trace.get("base", 0)) + float(value)), float(value) < 0
        parts.append(_text(end + (-5 if left else 5), y.place(row) + 4, str(text), "end" if left else "start"))
    return parts


def _point(symbol: str, x: float, y: float, size: float, color: str, opacity: float) -> str:
    r, tip = size / 2, 0.6 * size
    shapes = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"',
        "square": f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{size:.1f}" height="{size:.1f}"',
        "diamond": f'<path d="M{x:.1f} {y - tip:.1f}l{r:.1f} {tip:.1f}l{-r:.1f} {tip:.1f}l{-r:.1f} {-tip:.1f}z"',
    }
    kind, is_open = symbol.removesuffix("-open"), symbol.endswith("-open")
    if kind not in shapes:
        raise ValueError(f"a marker {symbol} can't be drawn without plotly.js")
    ink = escaped(color)
    fill = f'fill="none" stroke="{ink}" stroke-width="2"' if is_open else f'fill="{ink}"'
    return f'{shapes[kind]} {fill} opacity="{opacity:g}"/>'


def _shape(shape: Mapping[str, Any], x: _Axis, y: _Axis) -> str:
    a, b = (x.at(shape[name], shape.get("xref", "x")) for name in ("x0", "x1"))
    c, d = (y.at(shape[name], shape.get("yref", "y")) for name in ("y0", "y1"))
    line = shape.get("line", {})
    if shape["type"] == "line":
        return _stroke(a, c, b, d, str(line.get("color", _QUIET)), line.get("width", 1), line.get("dash", "solid"))
    if shape["type"] != "rect":
        raise ValueError(f"a shape {shape['type']} can't be drawn without plotly.js")
    (a, b), (c, d) = sorted((a, b)), sorted((c, d))
    fill = escaped(str(shape.get("fillcolor", "none")))
    return f'<rect x="{a:.1f}" y="{c:.1f}" width="{b - a:.1f}" height="{d - c:.1f}" fill="{fill}"/>'


def _note(note: Mapping[str, Any], x: _Axis, y: _Axis) -> str:
    place = x.at(note["x"], note.get("xref", "x")) + note.get("xshift", 0)
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", "center"), "middle")
    color = str(note.get("font", {}).get("color", _INK))
    height = y.at(note["y"], note.get("yref", "y")) - note.get("yshift", 0)
    return _text(place, height + 4, note["text"], anchor, color)


def _in_rows(traces: Iterable[Mapping[str, Any]], width: float) -> list[list[Mapping[str, Any]]]:
    """Entries of the legend in as many rows as it takes."""
    rows: list[list[Mapping[str, Any]]] = []
    left = 0.0
    for trace in traces:
        if not rows or left + _entry(trace) > width:
            rows.append([])
            left = 0.0
        rows[-1].append(trace)
        left += _entry(trace)
    return rows


def _entry(trace: Mapping[str, Any]) -> float:
    """How wide an entry of the legend is."""
    return 42 + _width(trace["name"])


def _legend(traces: Iterable[Mapping[str, Any]], left: float, y: float) -> list[str]:
    parts, x = [], left
    for trace in traces:
        marker, line = trace.get("marker", {}), trace.get("line", {})
        if trace["type"] == "bar":
            parts.append(f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="16" height="11" fill="{_one(marker, "color")}"/>')
        elif "lines" in trace.get("mode", ""):
            color, dash = _one(line, "color"), line.get("dash", "solid")
            parts.append(_stroke(x, y, x + 18, y, color, line.get("width", 2), dash))
        else:
            parts.append(_point(marker.get("symbol", "circle"), x + 8, y, 10, _one(marker, "color"), 1))
        parts.append(_text(x + 24, y + 4, trace["name"]))
        x += _entry(trace)
    return parts


def _one(settings: Mapping[str, Any], name: str) -> str:
    """A setting, the first of several if it has one for each mark."""
    value = settings.get(name, _INK)
    return escaped(str(value if isinstance(value, str) else next(iter(value), _INK)))


def _each(value: Any, size: int) -> Sequence[Any]:
    """A value for each of the marks."""
    return [value] * size if isinstance(value, str | int | float) else list(value)


def _clipped(parts: Sequence[str], x: _Axis, y: _Axis) -> str:
    """Marks within the axes only: an element of its own cuts off what lies beyond."""
    box = f"{x.start:.1f} {y.end:.1f} {x.end - x.start:.1f} {y.start - y.end:.1f}"
    left, top, wide, high = box.split()
    return f'<svg x="{left}" y="{top}" width="{wide}" height="{high}" viewBox="{box}">{"".join(parts)}</svg>'


def _stroke(a: float, b: float, c: float, d: float, color: str, width: float, dash: str = "solid") -> str:
    dashes = f' stroke-dasharray="{_DASHES[dash]}"' if _DASHES[dash] else ""
    ends = f'x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"'
    return f'<line {ends} stroke="{escaped(color)}" stroke-width="{width}"{dashes}/>'


def _text(x: float, y: float, text: str, anchor: str = "start", color: str = _INK, more: str = "") -> str:
    """Text with plotly's two kinds of markup: bold, and several lines, which are centred on ``y``."""
    lines = text.split(_BREAK)
    first = y - (len(lines) - 1) * 0.6 * _SIZE
    drawn = "".join(
        f'<tspan x="{x:.1f}" y="{first + 1.2 * _SIZE * number:.1f}">{_bold(line)}</tspan>'
        for number, line in enumerate(lines)
    )
    return f'<text text-anchor="{anchor}" font-size="{_SIZE}" fill="{escaped(color)}"{more}>{drawn}</text>'


def _bold(line: str) -> str:
    parts, bold = [], False
    for piece in _BOLD.split(line):
        if _BOLD.fullmatch(piece):
            bold = piece == "<b>"
        elif piece:
            words = escaped(html.unescape(piece))
            parts.append(f'<tspan font-weight="bold">{words}</tspan>' if bold else words)
    return "".join(parts)


def _width(text: str) -> float:
    """About how wide text is, in pixels: its longest line."""
    return max(_WIDE * _SIZE * len(html.unescape(_BOLD.sub("", line))) for line in text.split(_BREAK))
