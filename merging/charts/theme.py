"""Colours, markers and layout of figures: the same on every page, in the light and in the dark theme.

Pure functions on plotly figures; whether the theme is dark is an argument, so that charts can be tested without a
browser.
"""

import hashlib
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from merging.core.colour import ink_on
from merging.methods.looks import PALETTE, PATTERNS, Look
from merging.methods.presets import PRESETS, TABLE
from merging.methods.registry import Stage, stages

Points = list[tuple[float, float]]
_OPEN = "-open"
RULE = "rgba(128, 128, 128, 0.45)"  # quiet lines, in both themes
SHADE = "rgba(128, 128, 128, 0.09)"  # behind what stands apart, such as averages


@dataclass(frozen=True)
class Style:
    """How one method is drawn everywhere.

    Attributes:
        color: hexadecimal; at least 3 : 1 against both themes' backgrounds.
        symbol: a plotly marker, so that colour is never the only difference; open (``square-open``) for variants.
        pattern: a plotly pattern for bars, which have no marker; no two methods of one colour have the same.
        pattern_size: of the pattern, in pixels.
        dash: a plotly dash for lines.
    """

    color: str
    symbol: str
    pattern: str = ""
    pattern_size: int = 6
    dash: str = "solid"

    @property
    def is_open(self) -> bool:
        """Whether its marker is an outline."""
        return self.symbol.endswith(_OPEN)


# The two baselines; methods bring their looks, after Okabe and Ito's palette, shifted until every colour has 3 : 1
# contrast on white and on near-black.
_BASELINES = {"Zero-shot": Style("#868686", "circle"), "Individual": Style("#b8609c", "diamond")}
_FREE_SYMBOLS = (
    *("hexagon", "pentagon", "hexagram", "star-diamond"),
    *("triangle-left", "triangle-right", "hourglass", "bowtie"),
)
_FREE_PATTERNS = ("-", "|", "+")
_PATTERNS = tuple(pattern for pattern in PATTERNS if pattern)
_DASHES = ("solid", "dot", "dash", "dashdot", "longdash", "longdashdot")
# What the table of published methods leaves for all others, whether stages bring them or nobody published them.
_TAKEN = {(one.look.color, one.look.symbol) for one in TABLE if one.look}
_FREE = tuple(
    Style(color, symbol, _FREE_PATTERNS[number % len(_FREE_PATTERNS)])
    for number, (symbol, color) in enumerate(product(_FREE_SYMBOLS, PALETTE))
    if (color, symbol) not in _TAKEN
)

BEFORE = Style("#868686", "circle-open")
AFTER = Style("#2e93d1", "circle")
REDUNDANT = Style("#d1541f", "diamond")
BASE = Style("#868686", "square-open")

# Negative blue, positive orange: told apart with every common kind of colour blindness. The middle is the background.
_COSINES_LIGHT = ((0.0, "#12508c"), (0.25, "#6fa6d6"), (0.5, "#ffffff"), (0.75, "#eda35c"), (1.0, "#a94a06"))
_COSINES_DARK = ((0.0, "#86c1f5"), (0.25, "#3672a8"), (0.5, "#171a21"), (0.75, "#b0652a"), (1.0, "#ffb877"))


def style_of(label: str) -> Style:
    """Colour and marker of a method by its label: a published one's own, derived from the label for others.

    >>> style_of("Task Arithmetic").symbol
    'square'
    """
    known = _known(stages())
    return known.get(label) or _next_free(label, _settled(stages()))


@cache
def _known(registered: tuple[Stage, ...]) -> dict[str, Style]:
    """How the baselines and the published methods are drawn; those that bring no look get one that is free.

    Methods of somebody's own come last, so that they change the looks of no others.
    """
    known = dict(_BASELINES)
    for own in (False, True):
        of_kind = [one for one in PRESETS.values() if (one.source is not None) == own]
        known |= {one.title: _style(one.look) for one in of_kind if one.look}
        for one in of_kind:
            if one.title not in known:
                known[one.title] = _next_free(one.title, known.values())
    return known


@cache
def _settled(registered: tuple[Stage, ...]) -> list[Style]:
    """Looks of the baselines, and of the published methods that bring one.

    By these alone others are told what is free, so that a method more changes the looks of no label.
    """
    return [*_BASELINES.values(), *(_style(one.look) for one in PRESETS.values() if one.look and not one.source)]


def _style(look: Look) -> Style:
    return Style(look.color, look.symbol, look.pattern)


@cache
def _somebodys_own(registered: tuple[Stage, ...]) -> frozenset[str]:
    """Titles of the methods that files of somebody's own bring."""
    return frozenset(one.title for one in PRESETS.values() if one.source)


def _next_free(label: str, taken: Iterable[Style]) -> Style:
    """The free look that a label's digest points at, or the next that is none of some."""
    start = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big") % len(_FREE)
    looks = {(style.color, style.symbol) for style in taken}
    free = (style for style in (*_FREE[start:], *_FREE[:start]) if (style.color, style.symbol) not in looks)
    return next(free, _FREE[start])


def distinct_styles(methods: Sequence[str]) -> list[Style]:
    """How to draw runs of these methods in one chart, no two of them alike.

    The first run of a method looks as :func:`style_of` says, unless a method that nobody published comes out like
    another one; further runs keep the colour and get another marker, pattern and dash. Of one colour there are 17
    markers and 6 dashes; after those they repeat.

    >>> [style.symbol for style in distinct_styles(["TIES", "AdaMerging", "TIES"])]
    ['cross', 'triangle-up', 'cross-open']
    """
    first: dict[str, Style] = {}
    for method in sorted(set(methods), key=lambda method: (_rank(method), methods.index(method))):
        wanted, taken = style_of(method), list(first.values())
        if _rank(method) == 1:
            wanted = _next_free(method, (*_settled(stages()), *taken))
        first[method] = _apart(wanted, taken)
    found, used = [], list(first.values())
    for place, method in enumerate(methods):
        style = first[method]
        if method in methods[:place]:
            style = _apart(style, used)
            used.append(style)
        found.append(style)
    return found


def _rank(label: str) -> int:
    """Who chooses a look first: what is published, then what nobody published, then what somebody's own file did."""
    registered = stages()
    return 2 if label in _somebodys_own(registered) else 0 if label in _known(registered) else 1


def _apart(wanted: Style, taken: Sequence[Style]) -> Style:
    """A style, or one of its colour that differs from those taken in marker, pattern and dash."""
    alike = [style for style in taken if style.color == wanted.color]
    outlines = [wanted.symbol.removesuffix(_OPEN), *_OUTLINES]
    symbols = [wanted.symbol, *(f"{outline}{_OPEN}" for outline in outlines)]
    sizes = range(wanted.pattern_size, wanted.pattern_size + 4 * len(taken) + 1, 4)
    patterns = [(wanted.pattern, wanted.pattern_size), *((shape, size) for size in sizes for shape in _PATTERNS)]
    used = {(style.pattern, style.pattern_size) for style in alike}
    pattern, size = next(one for one in patterns if one not in used)
    return Style(
        wanted.color,
        _first_free(symbols, [style.symbol for style in alike]),
        pattern,
        size,
        _first_free(_DASHES, [style.dash for style in alike]),
    )


def _first_free(options: Sequence[str], used: Sequence[str]) -> str:
    """The first option that was not used; when all were, the one used least often."""
    return min(options, key=used.count)


def _around(corners: int, outer: float, inner: float | None = None, turn: float = 0.0) -> Points:
    """Corners of a regular polygon, from the top; with an inner radius those of a star."""
    radii = [outer] if inner is None else [outer, inner]
    count = corners * len(radii)
    angles = [2 * math.pi * index / count + math.radians(turn) for index in range(count)]
    return [
        (radii[index % len(radii)] * math.sin(angle), -radii[index % len(radii)] * math.cos(angle))
        for index, angle in enumerate(angles)
    ]


_PLUS: Points = [
    (-0.4, -1.2),
    (0.4, -1.2),
    (0.4, -0.4),
    (1.2, -0.4),
    (1.2, 0.4),
    (0.4, 0.4),
    (0.4, 1.2),
    (-0.4, 1.2),
    (-0.4, 0.4),
    (-1.2, 0.4),
    (-1.2, -0.4),
    (-0.4, -0.4),
]
# Plotly's markers as polygons, y downwards, in units of half a marker's size.
_OUTLINES: dict[str, Points] = {
    "circle": _around(32, 1.0),
    "square": _around(4, math.sqrt(2), turn=45),
    "diamond": _around(4, 1.3),
    "triangle-up": _around(3, 1.15),
    "triangle-down": _around(3, 1.15, turn=180),
    "triangle-left": _around(3, 1.15, turn=-90),
    "triangle-right": _around(3, 1.15, turn=90),
    "pentagon": _around(5, 1.0),
    "hexagon": _around(6, 1.0),
    "star": _around(5, 1.4, 0.54),
    "hexagram": _around(6, 1.2, 0.69),
    "star-diamond": _around(4, 1.4, 0.5),
    "cross": _PLUS,
    "x": [((x - y) / math.sqrt(2), (x + y) / math.sqrt(2)) for x, y in _PLUS],
    "hourglass": [(-1, -1), (1, -1), (-1, 1), (1, 1)],
    "bowtie": [(-1, -1), (1, 1), (1, -1), (-1, 1)],
}


def marker_image(style: Style) -> str:
    """A marker as an image for tables, a data URL.

    An image keeps its colour where text does not: streamlit fades the text of columns that are pinned.

    >>> marker_image(style_of("Task Arithmetic")).startswith("data:image/svg+xml")
    True
    """
    points = " ".join(f"{7 * x:.2f},{7 * y:.2f}" for x, y in _OUTLINES[style.symbol.removesuffix(_OPEN)])
    fill = "none" if style.is_open else style.color
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32" viewBox="-16 -16 32 32">'
        f'<polygon points="{points}" stroke="{style.color}" stroke-width="2" fill="{fill}"/></svg>'
    )
    return "data:image/svg+xml;utf8," + quote(svg)


def diverging_scale(dark: bool = False) -> list[list[object]]:
    """Plotly colour scale for values on both sides of a neutral middle: negative blue, positive orange."""
    return [[position, color] for position, color in (_COSINES_DARK if dark else _COSINES_LIGHT)]


def color_at(share: float, dark: bool = False) -> str:
    """The colour of the diverging scale for a value from −1 to 1, its ends; beyond them that of the nearer end."""
    scale = _COSINES_DARK if dark else _COSINES_LIGHT
    position = (1 + min(1.0, max(-1.0, share))) / 2
    low, high = next(pair for pair in pairwise(scale) if position <= pair[1][0])
    weight = (position - low[0]) / (high[0] - low[0])
    ends = [[int(color[start : start + 2], 16) for start in (1, 3, 5)] for _, color in (low, high)]
    return "#" + "".join(f"{round(a + weight * (b - a)):02x}" for a, b in zip(*ends, strict=True))


def on_cell(text: str, share: float, dark: bool = False) -> str:
    """Text in a cell of a heat map on the diverging scale, black or white, whichever is easier to read there.

    Args:
        text: what to write, empty for nothing.
        share: the cell's value over the end of the scale.
        dark: whether the theme is dark.
    """
    return f'<span style="color:{ink_on(color_at(share, dark))}">{text}</span>' if text else ""


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


def caption(text: str, x: float) -> dict[str, Any]:
    """A title above a part of a figure, centred at ``x``, a share of the figure's width."""
    return {
        "text": text,
        "x": x,
        "y": 1,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "center",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13},
    }


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
