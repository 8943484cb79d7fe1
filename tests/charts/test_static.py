"""Charts on paper: marks stand where the numbers are, text is text, and what can't be drawn is refused."""

import re
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest

from merging.charts import theme
from merging.charts.accuracy import Series
from merging.charts.geometry import multiplier_figure
from merging.charts.lesson import Bar, candidates_figure, slopes_figure, weights_figure
from merging.charts.runs import trajectory_figure
from merging.charts.static import svg_of
from merging.charts.what_if import agreement_figure, outcome_figure

NAMES = ("<b>digits</b>", "signs & more", "shapes")


def element(figure: go.Figure) -> ElementTree.Element:
    return ElementTree.fromstring(svg_of(figure, "a <chart>"))


def tagged(root: ElementTree.Element, name: str) -> list[dict[str, str]]:
    return [dict(one.attrib) for one in root.iter(f"{{http://www.w3.org/2000/svg}}{name}")]


def text(root: ElementTree.Element) -> str:
    return " ".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))


def figures() -> dict[str, go.Figure]:
    generator = np.random.default_rng(0)
    tasks = {name: name for name in NAMES}
    matrix = np.array([[1, 0.2, 0.1], [0.2, 1, -0.3], [0.1, -0.3, 1]])
    mine = Series("this model", "Task Arithmetic", dict.fromkeys(NAMES, 0.5))
    base, own = (Series(name, name, dict.fromkeys(NAMES, 0.7)) for name in ("Zero-shot", "Individual"))
    path = [[0.3, 0.3, 0.3], [0.2, 0.4, 0.5]]
    return {
        "weights": weights_figure(generator.normal(size=50), generator.normal(size=50)),
        "bars": outcome_figure(mine, [base, own], {}, tasks),
        "agreement": agreement_figure(matrix, matrix / 10, NAMES, joining=1),
        "slopes": slopes_figure(matrix, matrix / 2, NAMES),
        "multipliers": multiplier_figure(np.array([0.9, 1.1, 0.8]), NAMES),
        "trajectory": trajectory_figure(path, NAMES, tasks, [0, 5]),
        "candidates": candidates_figure([Bar(NAMES[0], "TIES", 71.5, "1 MB", out=True)], "Accuracy (%)"),
    }


@pytest.mark.parametrize("name", sorted(figures()))
def test_every_chart_of_the_lesson_can_be_printed(name: str) -> None:
    root = element(figures()[name])
    assert root.attrib["aria-label"] == "a <chart>"
    marks = tagged(root, "circle") + tagged(root, "rect") + tagged(root, "polyline") + tagged(root, "path")
    assert len(marks) >= (50 if name == "weights" else 1)
    if name not in ("weights", "agreement"):
        assert "<b>digits</b>" in text(root)  # as it was called, not as markup


def test_marks_stand_where_the_numbers_are() -> None:
    axis = {"range": [0, 10], "tickvals": [0, 10], "ticktext": ["none", "all"]}
    points = {"type": "scatter", "mode": "markers", "x": [0, 5, 10, 20, float("nan")], "y": [10, 5, 0, 5, 1]}
    root = element(theme.compose([points], height=300, legend=False, xaxis=axis, yaxis=axis))
    across, up = ([float(one[name]) for one in tagged(root, "circle")] for name in ("cx", "cy"))
    inner = next(one for one in tagged(root, "svg") if "x" in one)
    left, top, wide, high = map(float, inner["viewBox"].split())
    assert across[:3] == pytest.approx([left, left + wide / 2, left + wide], abs=0.1)
    assert up[:3] == pytest.approx([top, top + high / 2, top + high], abs=0.1)
    assert len(across) == 4 and across[3] > left + wide  # beyond the axis, where the inner picture ends
    assert text(root).split() == ["none", "all", "none", "all"]


def test_bars_begin_at_their_base() -> None:
    root = element(figures()["multipliers"])
    inner = next(one for one in tagged(root, "svg") if "x" in one)
    bars = [one for one in tagged(root, "rect") if one["fill"] == theme.AFTER.color]
    ends = [(float(one["x"]), float(one["x"]) + float(one["width"])) for one in bars]
    one_at = ends[0][1]
    assert ends[1][0] == pytest.approx(one_at, abs=0.1) and ends[2][1] == pytest.approx(one_at, abs=0.1)
    assert one_at - ends[2][0] == pytest.approx(2 * (one_at - ends[0][0]), abs=0.2)  # 0.8 and 0.9
    assert float(inner["x"]) <= min(low for low, _ in ends)


def test_a_long_legend_takes_several_rows() -> None:
    tasks = [f"a task with a long name, number {n}" for n in range(8)]
    svg = svg_of(trajectory_figure([[0.3] * 8] * 2, tasks, {}, [0, 5]), "")
    ends = [float(x) for x in re.findall(r'<tspan x="([\d.]+)" y="[\d.]+">a task with', svg)]
    assert len(ends) == 8 and max(ends) < 600


@pytest.mark.parametrize(
    "figure",
    [
        go.Figure(go.Heatmap(z=[[1]])),
        go.Figure(go.Bar(x=[1], y=[1])),
        go.Figure(go.Scatter(x=[1], y=[1], mode="text")),
        go.Figure(go.Scatter(x=[1], y=[1], mode="markers", marker={"symbol": "star"})),
        go.Figure(layout={"shapes": [{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}),
    ],
)
def test_what_it_can_not_draw_is_refused(figure: go.Figure) -> None:
    with pytest.raises(ValueError, match=r"plotly\.js"):
        svg_of(figure, "")
