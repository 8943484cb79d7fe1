"""Charts as SVG text: well-formed, at the right places, and never markup from a name."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.runs.comparison.svg import Whisker, heat_map, whiskers

SVG = "{http://www.w3.org/2000/svg}"
names = st.text(
    st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=20,
)


def texts(chart: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart).iter(f"{SVG}text")]


@given(names, names, st.lists(st.floats(-100, 100), min_size=2, max_size=6))
def test_any_name_and_number_is_drawn_as_text(label: str, series: str, values: list[float]) -> None:
    rows = [(label, [Whisker(value, value - 1, value + 1)]) for value in values]
    for chart in (
        whiskers(rows, [series], "axis", label),
        heat_map(np.array([values]), [label], [series] * len(values), 100, series, numbers=True),
    ):
        assert label in texts(chart) and series in texts(chart)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_whiskers_lie_where_their_numbers_are(count: int) -> None:
    rows = [(f"row {i}", [Whisker(10 * i + s, 10 * i + s - 2, 10 * i + s + 3) for s in range(count)]) for i in range(3)]
    root = ElementTree.fromstring(whiskers(rows, ["a", "b", "c"][:count], "axis", "about"))
    lines = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "2"]
    assert len(lines) == 3 * count
    zero = next(float(line.get("x1", "")) for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "1.5")
    expected = [(one.low, one.high) for _, found in rows for one in found]
    scale = (float(lines[-1].get("x1", "")) - zero) / expected[-1][0]
    for line, (low, high) in zip(lines, expected, strict=True):
        assert float(line.get("x1", "")) == pytest.approx(zero + scale * low, abs=0.2)
        assert float(line.get("x2", "")) == pytest.approx(zero + scale * high, abs=0.2)
    assert len({line.get("y1") for line in lines}) == 3 * count


def test_whiskers_of_equal_models_can_be_drawn() -> None:
    assert "row" in texts(whiskers([("row", [Whisker(0, 0, 0)])], ["a"], "axis", "about"))


@pytest.mark.parametrize("value", range(-100, 101))
def test_numbers_in_cells_can_be_read(value: int) -> None:
    if value == 0:
        return
    root = ElementTree.fromstring(heat_map(np.array([[float(value)]]), ["a"], ["x"], 100, "t", numbers=True))
    cell = [rect.get("fill", "") for rect in root.iter(f"{SVG}rect")][-1]
    ink = next(text.get("fill", "") for text in root.iter(f"{SVG}text") if (text.text or "")[-1:].isdigit())
    high, low = sorted((luminance(cell), luminance(ink)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5


def luminance(color: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_cells_are_coloured_by_sign_and_size_and_zeros_are_left_out() -> None:
    values = np.array([[-100.0, 0, 50], [100, 0.2, 0]])
    root = ElementTree.fromstring(heat_map(values, ["a", "b"], list("xyz"), 100, "title", numbers=True))
    cells = [rect.get("fill", "") for rect in root.iter(f"{SVG}rect")][1:]
    assert len(cells) == 4
    blue, half, orange, faint = cells
    assert blue == "#2166ac" and orange == "#b35806"
    assert int(half[1:3], 16) > int(half[5:7], 16) > 0x06
    assert faint in ("#ffffff", "#fffffe")
    assert {"−100", "50", "100"} <= set(texts(ElementTree.tostring(root, encoding="unicode")))
