"""Colours can be told apart and read on both backgrounds; text from outside stays text."""

import json
import math
import tomllib
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.colors import sample_colorscale

from merging.charts import theme
from merging.methods.presets import PRESETS
from merging.methods.registry import edits, merges

FIXED = (
    "Zero-shot",
    "Individual",
    "Task Arithmetic",
    "AdaMerging",
    "AWD + Task Arithmetic",
    "AWD + AdaMerging",
    "TIES",
    "Weight averaging",
)
SHOWN = ("Zero-shot", "Individual", *(preset.title for preset in PRESETS.values()))
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
@pytest.mark.parametrize("label", [*SHOWN, "Somebody's new method", "AWD + TSV-M", "TIES + Task Arithmetic · keep 0.1"])
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


def test_no_two_published_methods_share_colour_and_marker() -> None:
    looks = {label: (theme.style_of(label).color, theme.style_of(label).symbol) for label in SHOWN}
    assert len(set(looks.values())) == len(looks) == len(PRESETS) + 2


def test_bars_of_published_methods_differ_too() -> None:
    looks = {(theme.style_of(label).color, theme.style_of(label).pattern) for label in SHOWN}
    assert len(looks) == len(SHOWN)


def seen_distance(one: str, other: str) -> float:
    """Distance in OKLab, in which 0.02 can just be told apart."""
    return math.dist(oklab(one), oklab(other))


def oklab(color: str) -> tuple[float, float, float]:
    """Björn Ottosson's OKLab."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def test_different_colours_look_different() -> None:
    colors = {theme.style_of(label).color for label in SHOWN}
    assert min(seen_distance(one, other) for one, other in combinations(colors, 2)) > 0.09


@given(st.text(max_size=30).filter(lambda label: label not in SHOWN))
def test_other_methods_keep_their_style_and_never_borrow_one_that_a_published_one_brings(label: str) -> None:
    style = theme.style_of(label)
    assert style == theme.style_of(label)
    brought = {(one.look.color, one.look.symbol) for one in PRESETS.values() if one.look}
    assert len(brought) > 30 and (style.color, style.symbol) not in brought
    assert style.color not in {theme.style_of(one).color for one in FIXED}


@given(st.lists(st.sampled_from([*SHOWN, "AWD + TSV-M", "DARE + Iso-C", "TIES + WUDI", "Mine"]), max_size=17))
def test_runs_in_one_chart_keep_their_methods_colour_and_differ(methods: list[str]) -> None:
    styles = theme.distinct_styles(methods)
    assert len({(style.color, style.symbol) for style in styles}) == len(methods)
    assert len({(style.color, style.pattern, style.pattern_size) for style in styles}) == len(methods)
    assert len({(method, style.color) for method, style in zip(methods, styles, strict=True)}) == len(set(methods))
    for method in set(methods) & set(SHOWN):
        look = styles[methods.index(method)]
        assert (look.color, look.symbol, look.pattern) == (
            theme.style_of(method).color,
            theme.style_of(method).symbol,
            theme.style_of(method).pattern,
        )


def test_methods_that_nobody_published_never_look_alike_in_one_chart() -> None:
    pairs = [f"{edit.title} + {merge.title}" for edit in edits().values() for merge in merges().values()]
    unknown = [pair for pair in pairs if pair not in SHOWN][:100]  # there are six colours with 17 markers each
    hashed = {(theme.style_of(pair).color, theme.style_of(pair).symbol) for pair in unknown}
    assert len(hashed) < len(unknown)  # so that it takes more than the label alone
    styles = theme.distinct_styles(unknown)
    assert len({(style.color, style.symbol) for style in styles}) == len(unknown)
    assert len({(style.color, style.pattern, style.pattern_size) for style in styles}) == len(unknown)


def test_lines_of_one_colour_have_different_dashes() -> None:
    styles = theme.distinct_styles(["TIES", "Iso-C", "Iso-CTS", "TIES", "TIES"])
    assert len({(style.color, style.dash) for style in styles}) == 5
    assert styles[0].dash == styles[1].dash == "solid"


@given(st.text(max_size=30))
def test_every_method_has_an_image_of_its_marker(label: str) -> None:
    for is_open, style in enumerate(theme.distinct_styles([label, label])):
        url = theme.marker_image(style)
        assert url.startswith("data:image/svg+xml;utf8,")
        root = ElementTree.fromstring(unquote(url.split(",", 1)[1]))
        (shape,) = root
        assert shape.attrib["fill"] == ("none" if is_open else theme.style_of(label).color)
        points = [tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split()]
        assert len(points) >= 3 and all(abs(value) <= 11 for pair in points for value in pair)


def test_images_of_different_markers_differ_and_plotly_knows_them() -> None:
    labels = [*SHOWN, *map(str, range(100))]
    by_symbol = {theme.style_of(label).symbol: label for label in labels}
    outlines = {
        theme.marker_image(theme.style_of(label)).split("points")[1].split("stroke")[0] for label in by_symbol.values()
    }
    assert len(outlines) == len(by_symbol)
    for symbol in by_symbol:
        go.scatter.Marker(symbol=symbol)  # raises if there is none of that name


def test_diverging_scale_is_neutral_in_the_middle() -> None:
    light, dark = theme.diverging_scale(), theme.diverging_scale(dark=True)
    for scale, mode in ((light, "light"), (dark, "dark")):
        assert [position for position, _ in scale] == [0, 0.25, 0.5, 0.75, 1]
        assert contrast(str(scale[2][1]), CONFIG["theme"][mode]["backgroundColor"]) < 1.1
        assert contrast(str(scale[0][1]), CONFIG["theme"][mode]["backgroundColor"]) > 4


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_can_be_read_on_every_colour_of_the_scale(dark: bool) -> None:
    for share in np.linspace(-1.1, 1.1, 2001):
        text = theme.on_cell("0.5", float(share), dark)
        ink = text.split("color:")[1][:7]
        assert text == f'<span style="color:{ink}">0.5</span>'
        assert contrast(ink, theme.color_at(float(share), dark)) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_colours_between_are_those_that_plotly_draws(dark: bool) -> None:
    scale = theme.diverging_scale(dark)
    shares = [-2.0, *np.linspace(-1, 1, 41), 2.0]
    drawn = sample_colorscale(scale, [min(1.0, max(0.0, (1 + share) / 2)) for share in shares])
    for share, color in zip(shares, drawn, strict=True):
        expected = [int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
        found = [int(theme.color_at(float(share), dark)[start : start + 2], 16) for start in (1, 3, 5)]
        assert found == pytest.approx(expected, abs=1)


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


def test_every_method_looks_as_it_did_when_looks_were_a_list_in_the_theme() -> None:
    known = json.loads(Path(__file__).with_name("earlier_styles.json").read_text(encoding="utf-8"))
    found = {label: theme.style_of(label) for label in known}
    assert {label: [style.color, style.symbol, style.pattern] for label, style in found.items()} == known
