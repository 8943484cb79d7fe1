"""Colours, markers and layout of figures: the same on every page, in the light and in the dark theme.

Pure functions on plotly figures; whether the theme is dark is an argument, so that charts can be tested without a
browser.
"""

import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Style:
    """How one method is drawn everywhere.

    Attributes:
        color: hexadecimal; at least 3 : 1 against both themes' backgrounds.
        symbol: a plotly marker, so that colour is never the only difference.
    """

    color: str
    symbol: str


# After Okabe and Ito's palette, shifted until every colour has 3 : 1 contrast on white and on near-black.
_FIXED = {
    "Zero-shot": Style("#868686", "circle"),
    "Individual": Style("#b8609c", "diamond"),
    "Task Arithmetic": Style("#cc7f00", "square"),
    "AdaMerging": Style("#2e93d1", "triangle-up"),
    "AWD + Task Arithmetic": Style("#d1541f", "triangle-down"),
    "AWD + AdaMerging": Style("#4a6fd4", "star"),
    "TIES + Task Arithmetic": Style("#0a9a72", "cross"),
    "Weight averaging": Style("#8d8a1f", "x"),
}
_OTHER_COLORS = ("#8c62c9", "#a8703d", "#2a94a0", "#c2577a", "#5f8f3e", "#7d7f9e")
_OTHER_SYMBOLS = ("hexagon", "pentagon", "star-diamond", "triangle-left", "triangle-right", "square-cross")
# The other published methods: no two of them look the same, which a style derived from the label can't promise.
_PUBLISHED = {
    "Iso-C": Style(_OTHER_COLORS[0], "hexagon"),
    "Iso-CTS": Style(_OTHER_COLORS[0], "pentagon"),
    "DARE + Task Arithmetic": Style(_OTHER_COLORS[1], "square-cross"),
    "DOGE + Task Arithmetic": Style(_OTHER_COLORS[1], "hexagon"),
    "DOGE + AdaMerging": Style(_OTHER_COLORS[1], "star-diamond"),
    "TSV-M": Style(_OTHER_COLORS[2], "star-diamond"),
    "RegMean": Style(_OTHER_COLORS[2], "square-cross"),
    "Consensus + Task Arithmetic": Style(_OTHER_COLORS[3], "triangle-left"),
    "TALL masks (localised)": Style(_OTHER_COLORS[3], "square-cross"),
    "Fisher merging": Style(_OTHER_COLORS[3], "hexagon"),
    "WUDI": Style(_OTHER_COLORS[4], "triangle-right"),
    "TIES + AdaMerging": Style(_OTHER_COLORS[4], "pentagon"),
    "TATR + Task Arithmetic": Style(_OTHER_COLORS[5], "pentagon"),
}

BEFORE = Style("#868686", "circle-open")
AFTER = Style("#2e93d1", "circle")
REDUNDANT = Style("#d1541f", "diamond")
BASE = Style("#868686", "square")

# The same markers as characters, filled and open, for tables.
_GLYPHS = {
    "circle": "●○", "diamond": "◆◇", "square": "■□", "triangle-up": "▲△", "triangle-down": "▼▽", "star": "★☆",
    "cross": "✚✛", "x": "✖✕", "hexagon": "⬢⬡", "pentagon": "⬟⬠", "star-diamond": "✦✧", "triangle-left": "◄◁",
    "triangle-right": "►▷", "square-cross": "▣▢",
}  # fmt: skip

# Negative blue, positive orange: told apart with every common kind of colour blindness. The middle is the background.
_COSINES_LIGHT = ((0.0, "#12508c"), (0.25, "#6fa6d6"), (0.5, "#ffffff"), (0.75, "#eda35c"), (1.0, "#a94a06"))
_COSINES_DARK = ((0.0, "#86c1f5"), (0.25, "#3672a8"), (0.5, "#171a21"), (0.75, "#b0652a"), (1.0, "#ffb877"))


def style_of(label: str) -> Style:
    """Colour and marker of a method by its label: fixed for published ones, derived from the label for others.

    >>> style_of("Task Arithmetic").symbol
    'square'
    """
    known = _FIXED.get(label) or _PUBLISHED.get(label)
    if known is not None:
        return known
    number = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big")
    color = _OTHER_COLORS[number % len(_OTHER_COLORS)]
    return Style(color, _OTHER_SYMBOLS[number // len(_OTHER_COLORS) % len(_OTHER_SYMBOLS)])


def glyph_of(label: str, variant: int = 0) -> str:
    """The marker of a method as a character; open for a variant.

    >>> glyph_of("Task Arithmetic"), glyph_of("Task Arithmetic", 1)
    ('■', '□')
    """
    return _GLYPHS[style_of(label).symbol][bool(variant)]


def diverging_scale(dark: bool = False) -> list[list[object]]:
    """Plotly colour scale for values on both sides of a neutral middle: negative blue, positive orange."""
    return [[position, color] for position, color in (_COSINES_DARK if dark else _COSINES_LIGHT)]


def neutral(dark: bool = False) -> str:
    """Colour of reference lines and quiet marks."""
    return "#8b93a1" if dark else "#7a808a"


def plain(text: str) -> str:
    """Text from outside for use inside a figure, where plotly would read it as markup.

    >>> plain("<b>digits</b>")
    '&lt;b&gt;digits&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def shorten(text: str, length: int = 18) -> str:
    """Text of at most ``length`` characters for an axis, its middle left out.

    >>> shorten("transformer.resblocks.0.mlp", 13)
    'transf….0.mlp'
    """
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def step_axis(last: int, title: str) -> dict[str, Any]:
    """Settings of an axis that counts steps from 0 to ``last``: ticks at whole numbers only.

    >>> step_axis(4, "Step")["dtick"]
    1
    """
    few = {"tick0": 0, "dtick": 1} if last <= 10 else {}  # of more steps, plotly finds whole numbers by itself
    return {"title": {"text": title}, "zeroline": False, **few}


def compose(traces: Sequence[Mapping[str, Any]], *, height: int, legend: bool = True, **layout: Any) -> go.Figure:
    """A figure with the common layout: transparent background, tight margins, legend on top.

    Everything is handed to plotly at once, as plain values: building up a figure with ``add_trace`` and
    ``update_layout`` takes five times as long, which is felt when a slider redraws six of them.

    Args:
        traces: plain plotly traces, with their ``type``.
        height: in pixels; the width is the page's.
        legend: whether there is one.
        layout: further layout; axes (``xaxis``, ``yaxis2`` …) get margins that fit their labels.
    """
    axes = {name: {"automargin": True, **axis} for name, axis in layout.items() if name.startswith(("xaxis", "yaxis"))}
    return go.Figure([dict(trace) for trace in traces], {**_common_layout(height, legend), **layout, **axes})


def arrange(figure: go.Figure, *, height: int, legend: bool = True, **layout: Any) -> go.Figure:
    """The layout of :func:`compose` on a figure that was built up step by step."""
    figure.update_layout({**_common_layout(height, legend), **layout})
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _common_layout(height: int, legend: bool) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 44 if legend else 28, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": legend,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0, "itemwidth": 30},
        "hoverlabel": {"namelength": -1},
        "uirevision": "keep",  # zoom and hidden traces survive when the numbers change
        "font": {"size": 12},
    }
