"""Charts that are drawn once for all who look at the same: by what they are found again, and what is in them."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
import streamlit as st

from merging.charts.accuracy import Series, accuracy_figure
from merging.charts.geometry import cosine_figure
from merging.methods import own
from tests.own_methods import method, write
from ui.look import figure
from ui.look.figure import Chart, drawn

LABELS = {"digits": "Digits", "signs": "Traffic signs"}
COSINES = np.array([[1.0, 0.25], [0.25, 1.0]])
_drawings: list[str] = []


def bars(values: np.ndarray, title: str, *, dark: bool = False) -> go.Figure:
    _drawings.append(title)
    return go.Figure(go.Bar(y=values, marker={"color": "#fff" if dark else "#000"}), {"title": {"text": title}})


def other_bars(values: np.ndarray, title: str, *, dark: bool = False) -> go.Figure:
    return bars(values, title, dark=dark).update_layout(height=100)


@pytest.fixture(autouse=True)
def nothing_drawn() -> Iterator[None]:
    st.cache_resource.clear()
    _drawings.clear()
    yield
    st.cache_resource.clear()


def spec(chart: Chart) -> dict[str, object]:
    return dict(drawn(chart).to_dict())


def test_the_same_is_drawn_once() -> None:
    first = spec(partial(bars, np.array([1.0, 2.0]), "A", dark=True))
    assert spec(partial(bars, np.array([1.0, 2.0]), "A", dark=True)) == first
    assert _drawings == ["A"]


@pytest.mark.parametrize(
    "other",
    [
        partial(bars, np.array([1.0, np.nextafter(2.0, 3.0)]), "A"),
        partial(bars, np.array([1.0, 2.0], dtype=np.float32), "A"),
        partial(bars, np.array([1.0, 2.0]), "Α"),  # a Greek capital
        partial(bars, np.array([1.0, 2.0]), "A", dark=True),
        partial(other_bars, np.array([1.0, 2.0]), "A"),
    ],
)
def test_whatever_a_figure_is_made_of_makes_it_another(other: Chart) -> None:
    spec(partial(bars, np.array([1.0, 2.0]), "A"))
    assert spec(other) == json.loads(plotly.io.to_json(figure._fit_theme(other(), False)))
    assert len(_drawings) == 3  # both, and what the second is compared with


def test_the_theme_makes_it_another(monkeypatch: pytest.MonkeyPatch) -> None:
    chart = partial(bars, np.array([1.0, 2.0]), "A")
    light = spec(chart)
    monkeypatch.setattr(figure, "is_dark", lambda: True)
    assert spec(chart)["layout"] != light["layout"]


def test_a_method_of_ones_own_that_comes_or_goes_makes_it_another(own_methods: Path) -> None:
    chart = partial(accuracy_figure, [Series("Mine", "Mine", {"digits": 0.5})], LABELS)
    before = spec(chart)
    look = 'published=(Published("mine", "Mine", "merge=mine", look=Look("#7a6fd0", "hexagram")),)'
    write(own_methods, "mine.py", method(more=f", {look}"))
    assert not own.problems()
    assert spec(chart) != before
    (own_methods / "mine.py").unlink()
    own.refresh()
    assert spec(chart) == before


def test_who_changes_what_was_drawn_changes_nobody_elses() -> None:
    chart = partial(bars, np.array([1.0, 2.0]), "A")
    mine = spec(chart)
    mine["layout"] = None
    assert spec(chart)["layout"] is not None


@pytest.mark.parametrize(
    "chart",
    [
        partial(cosine_figure, COSINES, -COSINES, list(LABELS.values()), limit=0.5, dark=False),
        partial(accuracy_figure, [Series("Mine", "TIES", {"digits": 0.5, "signs": 1 / 3})], LABELS),
    ],
)
def test_it_is_what_would_be_drawn_without(chart: Callable[[], go.Figure]) -> None:
    found = drawn(chart)  # type: ignore[arg-type]
    plain = json.loads(plotly.io.to_json(figure._fit_theme(chart(), False)))
    assert json.loads(plotly.io.to_json(found.to_dict(), validate=False)) == plain
