"""Colours can be told apart and read on both backgrounds; text from outside stays text."""

import tomllib
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.leaderboard import spec_of
from merging.presets import PRESETS
from ui import theme

FIXED = (
    "Zero-shot", "Individual", "Task Arithmetic", "AdaMerging", "AWD + Task Arithmetic", "AWD + AdaMerging",
    "TIES + Task Arithmetic", "Weight averaging",
)  # fmt: skip
CONFIG = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())


def luminance(color: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio as WCAG defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("label", [*FIXED, "DARE + Task Arithmetic", "Iso-C", "AWD + TSV-M"])
def test_marks_stand_out_from_both_backgrounds(label: str, mode: str) -> None:
    assert contrast(theme.style_of(label).color, CONFIG["theme"][mode]["backgroundColor"]) >= 3


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_is_readable_in_both_themes(mode: str) -> None:
    colors = CONFIG["theme"][mode]
    for background in (colors["backgroundColor"], colors["secondaryBackgroundColor"]):
        assert contrast(colors["textColor"], background) >= 7


def test_every_fixed_method_has_its_own_colour_and_marker() -> None:
    for one, other in combinations([theme.style_of(label) for label in FIXED], 2):
        assert one.color != other.color
        assert one.symbol != other.symbol


def test_other_methods_keep_their_style_and_never_borrow_a_fixed_one() -> None:
    style = theme.style_of("Somebody's new method")
    assert style == theme.style_of("Somebody's new method")
    assert style.color not in {theme.style_of(label).color for label in FIXED}


def test_no_two_published_methods_look_the_same() -> None:
    seen: dict[str, int] = {}
    looks = []
    for preset in PRESETS.values():
        label = spec_of(preset, "mini", ("digits",), "cpu").label
        style, is_open = theme.style_of(label), seen.get(label, 0) > 0
        looks.append((style.color, style.symbol, is_open))
        seen[label] = seen.get(label, 0) + 1
    assert len(set(looks)) == len(looks)


@given(st.text(max_size=30))
def test_every_method_has_a_character_for_its_marker(label: str) -> None:
    filled, opened = theme.glyph_of(label), theme.glyph_of(label, 1)
    assert len(filled) == len(opened) == 1 and filled != opened


def test_characters_of_different_markers_differ() -> None:
    by_symbol = {theme.style_of(str(number)).symbol: theme.glyph_of(str(number)) for number in range(200)}
    by_symbol |= {theme.style_of(label).symbol: theme.glyph_of(label) for label in FIXED}
    assert len(set(by_symbol.values())) == len(by_symbol) >= len(FIXED) + 4


def test_diverging_scale_is_neutral_in_the_middle() -> None:
    light, dark = theme.diverging_scale(), theme.diverging_scale(dark=True)
    for scale, mode in ((light, "light"), (dark, "dark")):
        assert [position for position, _ in scale] == [0, 0.25, 0.5, 0.75, 1]
        assert contrast(str(scale[2][1]), CONFIG["theme"][mode]["backgroundColor"]) < 1.1
        assert contrast(str(scale[0][1]), CONFIG["theme"][mode]["backgroundColor"]) > 4


def test_markup_in_names_is_escaped() -> None:
    assert theme.plain('<a href="x">cars</a>') == '&lt;a href="x"&gt;cars&lt;/a&gt;'


@pytest.mark.parametrize("length", [5, 8, 17])
def test_shortened_text_fits_and_keeps_both_ends(length: int) -> None:
    text = "transformer.resblocks.0.mlp.c_fc.weight"
    short = theme.shorten(text, length)
    assert len(short) == length
    assert text.startswith(short.split("…")[0])
    assert text.endswith(short.split("…")[1])
    assert theme.shorten("digits", length=6) == "digits"


def test_composed_figure_takes_layout_and_margins() -> None:
    figure = theme.compose([{"type": "scatter", "y": [1, 2]}], height=200, xaxis={"title": {"text": "step"}})
    assert figure.layout.height == 200
    assert figure.layout.xaxis.automargin is True
    assert figure.layout.xaxis.title.text == "step"
