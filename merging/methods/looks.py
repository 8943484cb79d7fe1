"""How a method is drawn in every chart: the part of it that a registration may choose."""

import re
from dataclasses import dataclass

from merging.core.colour import contrast

SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down", "triangle-left", "triangle-right", "pentagon"),
    *("hexagon", "star", "hexagram", "star-diamond", "cross", "x", "hourglass", "bowtie"),
)
PATTERNS = ("", "/", "\\", "x", "-", "|", "+", ".")
BACKGROUNDS = ("#ffffff", "#11151c")  # of the light and the dark theme, see .streamlit/config.toml
_COLOR = re.compile(r"#[0-9a-f]{6}")
_LEAST_CONTRAST = 3.0  # WCAG 2.1, section 1.4.11


@dataclass(frozen=True)
class Look:
    """Colour and shape of a method.

    Attributes:
        color: hexadecimal, ``#rrggbb``; at least 3 : 1 against both backgrounds.
        symbol: a plotly marker of :data:`SYMBOLS`, so that colour is never the only difference.
        pattern: a plotly pattern for bars, which have no marker; no two methods of one colour have the same.

    Raises:
        ValueError: one of them is something else.
    """

    color: str
    symbol: str
    pattern: str = ""

    def __post_init__(self) -> None:
        if not _COLOR.fullmatch(self.color):
            raise ValueError(f"colour {self.color!r}: expected #rrggbb in small letters")
        worst = min(contrast(self.color, background) for background in BACKGROUNDS)
        if worst < _LEAST_CONTRAST:
            raise ValueError(
                f"colour {self.color!r}: contrast to {' and '.join(BACKGROUNDS)} must be at least 3; got {worst:.1f}"
            )
        if self.symbol not in SYMBOLS:
            raise ValueError(f"marker {self.symbol!r}: expected one of {', '.join(SYMBOLS)}")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern {self.pattern!r}: expected one of {' '.join(PATTERNS)}, or none")


# The colours of most methods. They are, of all with that contrast, the farthest from those that a single method has
# (after Okabe and Ito's palette, see merging/methods/presets.py) and from each other, in OKLab.
PURPLE, LAVENDER, TEAL, PINK, BROWN, MOSS = PALETTE = (
    *("#8f45b5", "#9f7ee5", "#156e8a"),
    *("#e3246f", "#9a5757", "#5a6f3e"),
)
