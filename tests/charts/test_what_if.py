"""The charts of the page What if show the numbers that they were given, and the sentences say what the numbers say."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from merging.charts import theme
from merging.charts.accuracy import Series
from merging.charts.what_if import (
    Landmark,
    agreement_figure,
    curves_figure,
    direction_figure,
    interference_figure,
    landscape_figure,
    outcome_figure,
)
from merging.runs.jobs.interference import Agreement
from merging.runs.jobs.scaling_curve import Curve, ScalingCurveResult
from tests.hover_texts import all_hover_texts, hover_texts
from ui.what_if.interference_view import cost, verdict

TASKS = ("a", "<b>", "c")


def test_outcome_has_a_bar_and_marks_for_every_task() -> None:
    mine = Series("This merge", "Task Arithmetic", {"x": 0.5, "y": 0.9})
    zero = Series("Zero-shot", "Zero-shot", {"x": 0.1, "y": 0.3})
    figure = outcome_figure(mine, [zero], {"x": -0.1, "y": 0.02}, {"x": "X", "y": "Y"})
    bar, mark = figure.data
    np.testing.assert_allclose(bar.x, [70, 50, 90])
    np.testing.assert_allclose(mark.x, [20, 10, 30])
    assert [note.text for note in figure.layout.annotations] == [
        "<b>70.0</b>  −4.0",
        "<b>50.0</b>  −10.0",
        "<b>90.0</b>  +2.0",
    ]
    still = outcome_figure(mine, [], {}, {"x": "X", "y": "Y"})
    assert still.layout.annotations[0].text == "<b>70.0</b>"


def test_tasks_to_be_forgotten_count_in_no_average() -> None:
    accuracy = {"x": 0.5, "y": 0.1, "z": 0.7}
    mine = Series("This merge", "Task Arithmetic", accuracy, forgotten=frozenset("y"))
    zero = Series("Zero-shot", "Zero-shot", accuracy, forgotten=frozenset("y"))
    labels = {"x": "X", "y": "Y", "z": "Z"}
    figure = outcome_figure(mine, [zero], {"x": 0.02, "y": -0.3, "z": 0.0}, labels)
    np.testing.assert_allclose([trace.x[0] for trace in figure.data], 60)
    assert figure.layout.annotations[0].text == "<b>60.0</b>  +1.0"
    assert figure.layout.yaxis.ticktext[2] == "Y (forget)"
    nothing = outcome_figure(replace(mine, forgotten=frozenset("xyz")), [], {}, labels)
    assert nothing.data[0].x[0] is None
    assert nothing.layout.annotations[0].text == "–"


def test_directions_are_bars() -> None:
    figure = direction_figure(np.array([0.5, -0.2, 0.0]), TASKS)
    assert list(figure.data[0].x) == [0.5, -0.2, 0.0]
    assert "&lt;b&gt;" in figure.layout.yaxis.ticktext


def test_matrices_share_their_order_and_leave_the_diagonal_out() -> None:
    cosine = np.array([[1, 0.1, 0.2], [0.1, 1, 0.3], [0.2, 0.3, 1]])
    change = np.array([[0.5, -0.01, 0.02], [0.0, 0.5, -0.04], [0.03, 0.01, 0.5]])
    left, right = interference_figure(cosine, change, TASKS).data
    assert [left.z[i][i] for i in range(3)] == [None] * 3 == [right.z[i][i] for i in range(3)]
    assert left.z[1][2] == 0.3
    assert right.z[1][2] == pytest.approx(-4)
    assert (left.zmax, right.zmax) == pytest.approx((0.3, 4))
    points = agreement_figure(cosine, change, TASKS).data[0]
    assert (0.3, pytest.approx(-4)) in list(zip(points.x, points.y, strict=True))
    assert len(points.x) == 6
    said = cost(change, TASKS)
    assert "The largest single loss: <b>, −4.0 when c joins" in said
    assert "least welcome is c (−1.00 on average)" in said


def test_what_rounding_leaves_is_no_loss() -> None:
    assert "No task loses" in cost(np.array([[0.0, 0.1 + 0.2 - 0.3 - 1e-16], [-1e-17, 0.0]]), ("a", "b"))


def test_where_nobody_loses_no_loss_is_spoken_of() -> None:
    said = cost(np.array([[0.0, 0.015], [0.0, 0.0]]), ("a", "b"))
    assert "No task loses" in said and "loss" not in said


def test_the_verdict_follows_the_numbers() -> None:
    assert "does not predict" in verdict(Agreement(0.8, 0.7, 0.2, 6))
    assert "predicts a good part" in verdict(Agreement(-0.8, -0.7, 0.001, 56))
    assert "disturb each other more" in verdict(Agreement(-0.8, -0.7, 0.001, 56))
    assert "disturb each other less" in verdict(Agreement(0.3, 0.3, 0.001, 56))
    assert "predicts little" in verdict(Agreement(0.3, 0.3, 0.001, 56))
    assert "a few pairs carry" in verdict(Agreement(0.5, 0.1, 0.001, 56))
    assert "nothing to correlate" in verdict(Agreement(math.nan, math.nan, math.nan, 6))


def test_curves_mark_what_validation_chose() -> None:
    val_curve, test_curve = Curve(average=[0.2, 0.6, 0.4]), Curve(average=[0.1, 0.3, 0.7])
    result = ScalingCurveResult(scalings=[0, 0.5, 1], scaling=0.5, val=val_curve, test=test_curve)
    val, chosen, test = curves_figure([(Series("TIES", "TIES", {}), result)]).data
    np.testing.assert_allclose(val.y, [20, 60, 40])
    np.testing.assert_allclose(test.y, [10, 30, 70])
    assert (val.line.dash, test.line.dash) == ("solid", "dash")
    assert (list(chosen.x), list(chosen.y)) == ([0.5], [60])
    one_task = curves_figure([(Series("TIES", "TIES", {}), result)], "Accuracy on Cars (%)")
    assert one_task.layout.yaxis.title.text == "Accuracy on Cars (%)"


@pytest.mark.parametrize("low_is_good", [False, True])
def test_planes_share_one_scale_and_the_best_is_bright(low_is_good: bool) -> None:
    tables = [np.arange(9.0).reshape(3, 3), 2 * np.arange(9.0).reshape(3, 3)]
    place = Landmark("Base", 0.5, 1.0, theme.style_of("Zero-shot"))
    planes = [(title, table, [place], ("x", "y")) for title, table in zip("AB", tables, strict=True)]
    figure = landscape_figure([0, 1, 2], planes, "%", low_is_good=low_is_good)
    contours = [trace for trace in figure.data if trace.type == "contour"]
    marks = [trace for trace in figure.data if trace.type == "scatter"]
    for contour, table in zip(contours, tables, strict=True):
        np.testing.assert_array_equal(contour.z, table)
        assert contour.coloraxis == "coloraxis"
    assert [(mark.x[0], mark.y[0]) for mark in marks] == [(0.5, 1.0)] * 2
    assert [mark.showlegend for mark in marks] == [True, False]
    assert figure.layout.coloraxis.reversescale is low_is_good
    assert figure.layout.coloraxis.cmin == 0
    assert figure.layout.coloraxis.cmax == (pytest.approx(np.quantile(tables, 0.95)) if low_is_good else 16)


def test_a_model_of_one_plane_alone_is_named() -> None:
    base, merged = (Landmark(name, 0.5, 1.0, theme.style_of("Zero-shot")) for name in ("Base", "AWD"))
    planes = [(title, np.eye(3), models, ("x", "y")) for title, models in (("A", [base]), ("B", [base, merged]))]
    figure = landscape_figure([0, 1, 2], planes, "%", low_is_good=False)
    assert [(one.name, one.showlegend) for one in figure.data if one.type == "scatter"] == [
        ("Base", True),
        ("Base", False),
        ("AWD", True),
    ]


# --- every number where it belongs -----------------------------------------------------------------------------------

SHOWN = ("a", "&lt;b&gt;", "c")
CELLS = [(i, j) for i in range(3) for j in range(3) if i != j]
# Neither is symmetric, so that a swap of rows and columns shows.
COSINE = np.array([[1, 0.11, 0.12], [0.21, 1, 0.23], [0.31, -0.32, 1]])
CHANGE = np.array([[0.5, -0.01, 0.02], [0.03, 0.5, -0.04], [-0.05, 0.06, 0.5]])


def test_every_bar_and_mark_of_an_outcome_is_that_of_its_task() -> None:
    mine = Series("Mine", "Task Arithmetic", {"x": 0.51, "y": 0.92}, forgotten=frozenset("y"))
    others = [
        Series(name, name, {"x": x, "y": y}, forgotten=frozenset("y"))
        for name, x, y in (("Zero-shot", 0.13, 0.34), ("Individual", 0.75, 0.86))
    ]
    figure = outcome_figure(mine, others, {"x": -0.1, "y": 0.02}, {"x": "<X>", "y": "Y"})
    assert all_hover_texts(figure) == [
        [f"Average: <b>{x}</b> [{name}]", f"&lt;X&gt;: <b>{x}</b> [{name}]", f"Y (forget): <b>{y}</b> [{name}]"]
        for name, x, y in (("Mine", "51.0", "92.0"), ("Zero-shot", "13.0", "34.0"), ("Individual", "75.0", "86.0"))
    ]
    rows = list(figure.layout.yaxis.tickvals)
    assert list(figure.layout.yaxis.ticktext) == ["<b>Average</b>", "&lt;X&gt;", "Y (forget)"]
    assert [(note.y, note.text) for note in figure.layout.annotations] == list(
        zip(rows, ("<b>51.0</b>  −10.0", "<b>51.0</b>  −10.0", "<b>92.0</b>  +2.0"), strict=True)
    )
    assert all(list(trace.y) == rows for trace in figure.data)
    assert [trace.marker.color for trace in figure.data] == [
        theme.style_of(name).color for name in ("Task Arithmetic", "Zero-shot", "Individual")
    ]
    assert figure.layout.yaxis.range[0] > rows[-1] > rows[0] > figure.layout.yaxis.range[1]  # the average on top


def test_every_direction_is_that_of_its_task() -> None:
    figure = direction_figure(np.array([0.51, -0.22, 0.03]), TASKS)
    assert all_hover_texts(figure) == [["a<br>cosine 0.5100", "&lt;b&gt;<br>cosine −0.2200", "c<br>cosine 0.0300"]]
    assert list(figure.data[0].text) == ["0.51", "−0.22", "0.03"]
    assert list(figure.data[0].y) == list(figure.layout.yaxis.tickvals) == [0, 1, 2]
    assert list(figure.layout.yaxis.ticktext) == list(SHOWN) and figure.layout.yaxis.autorange == "reversed"


def signed(value: float, form: str) -> str:
    return format(value, form).replace("-", "−")


def test_every_cell_says_who_joins_whom() -> None:
    figure = interference_figure(COSINE, CHANGE, TASKS)
    assert all_hover_texts(figure) == [
        [f"{SHOWN[i]} · {SHOWN[j]}<br>{signed(COSINE[i, j], '.3f')}" for i, j in CELLS],
        [f"{SHOWN[i]} when {SHOWN[j]} joins<br>{signed(100 * CHANGE[i, j], '.3f')} points" for i, j in CELLS],
    ]
    for trace, matrix, form in zip(figure.data, (COSINE, 100 * CHANGE), (".2f", "+.1f"), strict=True):
        texts = [re.sub("<.*?>", "", trace.text[i][j]) for i, j in CELLS]
        assert texts == [signed(matrix[i, j], form) for i, j in CELLS]
        assert list(trace.x) == list(trace.y) == [0, 1, 2]
    left, right = figure.layout.annotations
    assert left.text.startswith("Cosine") and right.text.startswith("Change of the row's accuracy when the column")
    assert figure.layout.xaxis.domain[0] < left.x < figure.layout.xaxis.domain[1]
    assert figure.layout.xaxis2.domain[0] < right.x < figure.layout.xaxis2.domain[1]
    assert [trace.xaxis for trace in figure.data] == ["x", "x2"]
    for axis in (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.yaxis):
        assert list(axis.ticktext) == list(SHOWN)
    assert figure.layout.yaxis.autorange == "reversed"


@pytest.mark.parametrize("joining", [None, 1])
def test_every_point_of_the_agreement_is_its_pair(joining: int | None) -> None:
    figure = agreement_figure(COSINE, CHANGE, TASKS, joining=joining)
    points, line = figure.data
    assert hover_texts(points) == [
        f"{SHOWN[i]} when {SHOWN[j]} joins<br>cosine {signed(COSINE[i, j], '.3f')}, "
        f"<b>{signed(100 * CHANGE[i, j], '+.1f')}</b> points"
        for i, j in CELLS
    ]
    out = [color == theme.REDUNDANT.color for color in points.marker.color]
    assert out == [j == joining for _, j in CELLS]
    notes = [(note.text, note.x, note.y) for note in figure.layout.annotations]
    assert notes == ([("a", 0.11, pytest.approx(-1))] if joining == 1 else [])  # of b's pairs the closest
    x, y = np.array([COSINE[cell] for cell in CELLS]), np.array([100 * CHANGE[cell] for cell in CELLS])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert list(line.x) == [-0.32, 0.31]
    np.testing.assert_allclose(line.y, y.mean() + slope * (np.array(line.x) - x.mean()))
    assert "cosine" in figure.layout.xaxis.title.text and "accuracy" in figure.layout.yaxis.title.text


def test_every_curve_is_that_of_its_run_and_split() -> None:
    def result(chosen: float, val: list[float], test: list[float]) -> ScalingCurveResult:
        curves = {"val": Curve(average=val), "test": Curve(average=test)}
        return ScalingCurveResult(scalings=[0, 0.5, 1], scaling=chosen, **curves)

    figure = curves_figure(
        [
            (Series("<TIES>", "TIES", {}), result(0.5, [0.2, 0.6, 0.4], [0.1, 0.3, 0.7])),
            (Series("TA", "Task Arithmetic", {}), result(1, [0.21, 0.31, 0.41], [0.22, 0.32, 0.42])),
        ]
    )
    named = {
        "&lt;TIES&gt;": ((20, 60, 40), (10, 30, 70), ("0.5", 60)),
        "TA": ((21, 31, 41), (22, 32, 42), ("1", 41)),
    }
    expected = []
    for name, (val, test, (scaling, best)) in named.items():
        for split, values in (("validation", val), ("test", test)):
            along = zip(("0", "0.5", "1"), values, strict=True)
            expected.append([f"λ = {x}: <b>{y:.1f}</b> [{name}, {split}]" for x, y in along])
        expected.insert(-1, [f"chosen: λ = {scaling}, <b>{best:.1f}</b> [{name}]"])
    assert all_hover_texts(figure) == expected
    colors = [trace.line.color or trace.marker.color for trace in figure.data]
    assert colors == [theme.style_of(name).color for name in ("TIES",) * 3 + ("Task Arithmetic",) * 3]
    groups = [trace.legendgroup for trace in figure.data]
    assert groups[0] == groups[1] != groups[2] and groups[3] == groups[4] != groups[5]
    assert len(set(groups)) == 4


def test_every_value_of_a_plane_lies_at_its_coordinates() -> None:
    tables = [np.array([[1.0, 2.0], [3.0, 4.5]]), np.array([[5.0, 6.0], [7.0, 8.5]])]
    models = [Landmark("<Base>", 0.25, 0.75, theme.BASE), Landmark("AWD", 0.5, 0.0, theme.AFTER)]
    planes = [
        (title, table, models[: n + 1], names)
        for n, (title, table, names) in enumerate(zip(("One", "Two"), tables, (("u", "v"), ("p", "q")), strict=True))
    ]
    figure = landscape_figure([0.0, 1.0], planes, "% right", low_is_good=False)
    base, awd = "(0.25, 0.75) [&lt;Base&gt;]", "(0.50, 0.00) [AWD]"
    assert all_hover_texts(figure) == [
        ["(0.00, 0.00): <b>1</b>", "(1.00, 0.00): <b>2</b>", "(0.00, 1.00): <b>3</b>", "(1.00, 1.00): <b>4.5</b>"],
        [base],
        ["(0.00, 0.00): <b>5</b>", "(1.00, 0.00): <b>6</b>", "(0.00, 1.00): <b>7</b>", "(1.00, 1.00): <b>8.5</b>"],
        [base],
        [awd],
    ]
    assert [(trace.xaxis, trace.yaxis) for trace in figure.data] == [("x", "y")] * 2 + [("x2", "y2")] * 3
    layout = figure.layout
    axes = [axis.title.text for axis in (layout.xaxis, layout.yaxis, layout.xaxis2, layout.yaxis2)]
    assert axes == ["u", "v", "p", "q"]
    assert (layout.xaxis2.anchor, layout.yaxis2.anchor) == ("y2", "x2")
    for note, axis in zip(layout.annotations, (layout.xaxis, layout.xaxis2), strict=True):
        assert axis.domain[0] < note.x < axis.domain[1]
    assert [note.text for note in layout.annotations] == ["One", "Two"]
    colors = [trace.marker.color for trace in figure.data if trace.type == "scatter"]
    assert colors == [theme.BASE.color, theme.BASE.color, theme.AFTER.color]
    assert layout.coloraxis.colorbar.title.text == "% right"
