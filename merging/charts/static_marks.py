"""The parts of a chart as plain SVG: bars, points, lines, shapes and notes, placed on two axes."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from merging.core.text import printed
from merging.runs.comparison.svg import escaped, line_between, round_numbers

_SIZE = 13  # pixels of letters
_WIDE = 0.56  # of a letter, as a share of its height
INK, QUIET, GRID = "#1c2128", "#5a6272", "#dfe3e8"
_DASHES = {"solid": "", "dot": "2 4", "dash": "8 5", "dashdot": "8 4 2 4"}
_DASHES |= {"longdash": "14 6", "longdashdot": "14 5 2 5"}
_BOLD, _BREAK = re.compile(r"(</?b>)"), "<br>"
LINES = {"lines": (True, False), "markers": (False, True), "lines+markers": (True, True)}


@dataclass(frozen=True)
class Axis:
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
        """Pixel of a value."""
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


def marks_of(trace: Mapping[str, Any], x: Axis, y: Axis) -> list[str]:
    """Bars, or lines and points, of a trace."""
    if trace["type"] == "bar":
        return _bars(trace, x, y)
    lines, points = LINES[trace["mode"]]
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
            f'<polyline points="{path}" fill="none" stroke="{escaped(str(line.get("color", INK)))}" '
            f'stroke-width="{line.get("width", 2)}" stroke-dasharray="{_DASHES[line.get("dash", "solid")]}" '
            f'opacity="{faint}"/>'
        )
    if points:
        colors = _each(marker.get("color", trace.get("line", {}).get("color", INK)), size)
        sizes, opacity = _each(marker.get("size", 6), size), faint * float(marker.get("opacity", 1))
        symbol = marker.get("symbol", "circle")
        parts += [point_of(symbol, a, b, float(sizes[n]), str(colors[n]), opacity) for n, a, b in at]
    return parts


def _bars(trace: Mapping[str, Any], x: Axis, y: Axis) -> list[str]:
    size = len(trace["x"])
    colors = _each(trace.get("marker", {}).get("color", INK), size)
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


def values_of(trace: Mapping[str, Any], x: Axis, y: Axis) -> list[str]:
    """What stands at the ends of bars."""
    if trace["type"] != "bar" or trace.get("text") is None:
        return []
    parts = []
    for value, row, text in zip(trace["x"], trace["y"], trace["text"], strict=True):
        end, left = x.place(float(trace.get("base", 0)) + float(value)), float(value) < 0
        parts.append(words_at(end + (-5 if left else 5), y.place(row) + 4, str(text), "end" if left else "start"))
    return parts


def point_of(symbol: str, x: float, y: float, size: float, color: str, opacity: float) -> str:
    """A disc, a square or a diamond."""
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


def shape_of(shape: Mapping[str, Any], x: Axis, y: Axis) -> str:
    """A line or a rectangle over or under the marks."""
    a, b = (x.at(shape[name], shape.get("xref", "x")) for name in ("x0", "x1"))
    c, d = (y.at(shape[name], shape.get("yref", "y")) for name in ("y0", "y1"))
    line = shape.get("line", {})
    if shape["type"] == "line":
        return stroke(a, c, b, d, str(line.get("color", QUIET)), line.get("width", 1), line.get("dash", "solid"))
    if shape["type"] != "rect":
        raise ValueError(f"a shape {shape['type']} can't be drawn without plotly.js")
    (a, b), (c, d) = sorted((a, b)), sorted((c, d))
    fill = escaped(str(shape.get("fillcolor", "none")))
    return f'<rect x="{a:.1f}" y="{c:.1f}" width="{b - a:.1f}" height="{d - c:.1f}" fill="{fill}"/>'


def note_of(note: Mapping[str, Any], x: Axis, y: Axis) -> str:
    """Text somewhere in the chart."""
    place = x.at(note["x"], note.get("xref", "x")) + note.get("xshift", 0)
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", "center"), "middle")
    color = str(note.get("font", {}).get("color", INK))
    height = y.at(note["y"], note.get("yref", "y")) - note.get("yshift", 0)
    return words_at(place, height + 4, note["text"], anchor, color)


def entry_width(trace: Mapping[str, Any]) -> float:
    """How wide an entry of the legend is."""
    return 42 + width_of(trace["name"])


def legend_of(traces: Iterable[Mapping[str, Any]], left: float, y: float) -> list[str]:
    """A row of the legend."""
    parts, x = [], left
    for trace in traces:
        marker, line = trace.get("marker", {}), trace.get("line", {})
        if trace["type"] == "bar":
            parts.append(f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="16" height="11" fill="{_one(marker, "color")}"/>')
        elif "lines" in trace.get("mode", ""):
            color, dash = _one(line, "color"), line.get("dash", "solid")
            parts.append(stroke(x, y, x + 18, y, color, line.get("width", 2), dash))
        else:
            parts.append(point_of(marker.get("symbol", "circle"), x + 8, y, 10, _one(marker, "color"), 1))
        parts.append(words_at(x + 24, y + 4, trace["name"]))
        x += entry_width(trace)
    return parts


def _one(settings: Mapping[str, Any], name: str) -> str:
    """A setting, the first of several if it has one for each mark."""
    value = settings.get(name, INK)
    return escaped(str(value if isinstance(value, str) else next(iter(value), INK)))


def _each(value: Any, size: int) -> Sequence[Any]:
    """A value for each of the marks."""
    return [value] * size if isinstance(value, str | int | float) else list(value)


def stroke(a: float, b: float, c: float, d: float, color: str, width: float, dash: str = "solid") -> str:
    """A straight line."""
    return line_between(a, b, c, d, escaped(color), width, _DASHES[dash])


def words_at(x: float, y: float, text: str, anchor: str = "start", color: str = INK, more: str = "") -> str:
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


def width_of(text: str) -> float:
    """About how wide text is, in pixels: its longest line."""
    return max(_WIDE * _SIZE * len(html.unescape(_BOLD.sub("", line))) for line in text.split(_BREAK))
