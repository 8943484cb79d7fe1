"""The charts of the page What if show the numbers that they were given, and the sentences say what the numbers say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from merging.charts import theme
from merging.charts.accuracy import Series
from merging.charts.what_if import (
    Place,
    agreement_figure,
    curves_figure,
    direction_figure,
    interference_figure,
    landscape_figure,
    outcome_figure,
)
from merging.runs.jobs.interference import Agreement
from merging.runs.jobs.scaling_curve import Curve, ScalingCurveResult
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
        "<b>70.0</b>  −4.0", "<b>50.0</b>  −10.0", "<b>90.0</b>  +2.0",
    ]  # fmt: skip
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
    place = Place("Base", 0.5, 1.0, theme.style_of("Zero-shot"))
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
    base, merged = (Place(name, 0.5, 1.0, theme.style_of("Zero-shot")) for name in ("Base", "AWD"))
    planes = [(title, np.eye(3), models, ("x", "y")) for title, models in (("A", [base]), ("B", [base, merged]))]
    figure = landscape_figure([0, 1, 2], planes, "%", low_is_good=False)
    assert [(one.name, one.showlegend) for one in figure.data if one.type == "scatter"] == [
        ("Base", True), ("Base", False), ("AWD", True),
    ]  # fmt: skip
