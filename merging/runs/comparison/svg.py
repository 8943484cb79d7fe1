"""Two kinds of charts as plain SVG text, for pages that must do without scripts: whiskers and heat maps.

Texts may come from anywhere; they are escaped.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merging.core.colour import ink_on
from merging.core.text import printed

COLORS = ("#1f78b4", "#b35a00", "#00795c")  # told apart by the colour-blind; markers differ too
_LOW, _MIDDLE, _HIGH = (33, 102, 172), (255, 255, 255), (179, 88, 6)
LETTER = 6.3  # pixels that a letter takes on average at 12 pixels


@dataclass(frozen=True)
class Whisker:
    """A value with an interval around it."""

    value: float
    low: float
    high: float


def escaped(text: str) -> str:
    """Text that neither HTML nor SVG takes for markup, also inside attributes."""
    return html.escape(text, quote=True)


def whiskers(
    rows: Sequence[tuple[str, Sequence[Whisker]]], names: Sequence[str], axis: str, about: str, width: int = 760
) -> str:
    """A row per entry with a marker and a line for each series, around a line at 0.

    Args:
        rows: label and a value for each series.
        names: of the series, at most as many as there are :data:`COLORS`.
        axis: title of the value axis.
        about: what the chart shows, for those who can't see it.
        width: in pixels.
    """
    step, top = 20 + 10 * len(names), 34
    left = 24 + LETTER * max(len(label) for label, _ in rows)
    height = top + step * len(rows) + 52
    everything = [end for _, found in rows for one in found for end in (one.low, one.high)]
    low, high = min(0.0, *everything), max(0.0, *everything)
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 16)

    parts = [line_between(place(0), top - 6, place(0), height - 48, "#555", 1.5)]
    for tick in round_numbers(low, high):
        parts.append(line_between(place(tick), top, place(tick), height - 48, "#ddd", 1))
        parts.append(text_at(place(tick), height - 32, printed(tick, "+g") if tick else "0", "middle"))
    parts.append(text_at((left + width) / 2, height - 10, axis, "middle"))
    for index, (label, found) in enumerate(rows):
        middle = top + step * (index + 0.5)
        if index % 2:
            parts.insert(0, f'<rect x="0" y="{middle - step / 2:.1f}" width="{width}" height="{step}" fill="#f4f5f7"/>')
        parts.append(text_at(left - 10, middle + 4, label, "end"))
        for series, one in enumerate(found):
            y = middle + 10 * (series - (len(found) - 1) / 2)
            parts.append(line_between(place(one.low), y, place(one.high), y, COLORS[series], 2))
            parts.append(_marker(series, place(one.value), y))
    x = left
    for series, name in enumerate(names):
        parts.append(_marker(series, x + 6, 14))
        parts.append(text_at(x + 16, 18, name))
        x += 34 + LETTER * len(name)
    return drawing(max(width, int(x)), height, about, parts)


def heat_map(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    limit: float,
    title: str,
    *,
    cell: int = 22,
    numbers: bool = False,
) -> str:
    """Cells coloured from −limit (blue) over 0 (white) to limit (orange).

    Args:
        matrix: values ``[R, C]``.
        rows: what to call the rows.
        columns: what to call the columns; empty for none.
        limit: end of the scale, above 0.
        title: stands above, and is read out.
        cell: height of a cell in pixels; the width too, but for maps with many columns.
        numbers: whether cells carry their value, rounded.
    """
    across = float(cell) if columns else max(4.0, min(cell, 620 / matrix.shape[1]))
    left = 12 + LETTER * max(map(len, rows), default=0)
    below = 16 + 0.75 * LETTER * max(map(len, columns), default=0)
    width = left + across * matrix.shape[1] + 24
    width = max(width, 16 + 1.1 * LETTER * len(title))
    height = 28 + cell * len(rows) + below
    parts = [text_at(left, 16, title)]
    parts += [text_at(left - 6, 28 + cell * (i + 0.5) + 4, name, "end", 11) for i, name in enumerate(rows)]
    for j, name in enumerate(columns):
        x, y = left + across * (j + 0.6), 28 + cell * len(rows) + 10
        parts.append(text_at(x, y, name, "end", 11, f' transform="rotate(-50 {x:.1f} {y:.1f})"'))
    frame = f'width="{across * matrix.shape[1]:.1f}" height="{cell * len(rows)}" fill="#fff" stroke="#bbb"'
    parts.append(f'<rect x="{left:.1f}" y="28" {frame}/>')
    for i, j in np.argwhere(matrix != 0).tolist():
        value = float(matrix[i, j])
        x, y = left + across * j, 28 + cell * i
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{across:.1f}" height="{cell}" fill="{_color(value / limit)}"/>')
        if numbers and abs(value) >= 0.5:
            ink = f' fill="{ink_on(_color(value / limit))}"'
            parts.append(text_at(x + across / 2, y + cell / 2 + 3.5, printed(value, ".0f"), "middle", 10, ink))
    return drawing(int(width) + 1, int(height) + 1, title, parts)


def drawing(width: int, height: int, about: str, parts: Sequence[str]) -> str:
    """A picture of its parts; ``about`` is read out."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escaped(about)}" font-family="system-ui, sans-serif" font-size="12">'
        + "".join(parts)
        + "</svg>"
    )


def text_at(x: float, y: float, text: str, anchor: str = "start", size: int = 12, more: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{more}>{escaped(text)}</text>'


def line_between(x1: float, y1: float, x2: float, y2: float, color: str, width: float, dashes: str = "") -> str:
    """A straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    drawn = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line {ends} stroke="{color}" stroke-width="{width}"{drawn}/>'


def _marker(series: int, x: float, y: float) -> str:
    """A disc, a square or a triangle."""
    color = COLORS[series]
    if series == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{color}"/>'
    if series == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>'
    return f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{color}"/>'


def round_numbers(low: float, high: float) -> list[float]:
    """Round numbers between two, about six of them."""
    rough = (high - low) / 6
    size = 10 ** np.floor(np.log10(rough))
    step = float(next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough))
    first = int(np.ceil(low / step))
    return [round(step * count, 10) for count in range(first, int(np.floor(high / step)) + 1)]


def _color(share: float) -> str:
    """The colour of a value between −1 and 1; beyond them that of the nearer end."""
    end, weight = (_HIGH if share > 0 else _LOW), min(1.0, abs(share))
    red, green, blue = (round(m + weight * (e - m)) for m, e in zip(_MIDDLE, end, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"
