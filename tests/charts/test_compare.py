import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from merging.charts.accuracy import Series
from merging.charts.compare import confusion_figure, confusion_table, difference_figure, difference_table
from merging.charts.theme import distinct_styles
from merging.evaluation.paired import Comparison, TaskDifference, compare, in_points
from merging.runs.comparison.compare import MAX_CLASSES, shown_classes, subtracted
from merging.runs.jobs.merge_result import Coefficients
from tests.hover_texts import all_hover_texts

LABELS = {"a": "Task <A>", "b": "Task B"}


def pairs(count: int) -> list:
    random = np.random.default_rng(0)
    return compare(
        {t: random.random(50) < 0.5 for t in LABELS},
        [{t: random.random(50) < 0.4 + 0.3 * model for t in LABELS} for model in range(count)],
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_whiskers_end_where_the_intervals_do(count: int) -> None:
    found = pairs(count)
    looks = distinct_styles(["TIES"] * count)
    series = [Series(f"run {index} <b>", "TIES", {}, look) for index, look in enumerate(looks)]
    figure = difference_figure(series, found, LABELS, "reference")
    assert len(figure.data) == count
    places = set()
    for trace, pair in zip(figure.data, found, strict=True):
        assert trace.name.endswith("&lt;b&gt;")
        everything = [pair, *pair.tasks.values()]
        assert list(trace.x) == pytest.approx([100 * one.difference for one in everything])
        ends = np.array(trace.x) + np.array(trace.error_x.array)
        starts = np.array(trace.x) - np.array(trace.error_x.arrayminus)
        assert ends == pytest.approx([100 * one.high for one in everything])
        assert starts == pytest.approx([100 * one.low for one in everything])
        places |= set(trace.y)
    assert len(places) == 3 * count
    assert list(figure.layout.yaxis.ticktext) == ["<b>Average</b>", "Task &lt;A&gt;", "Task B"]


def test_the_table_has_a_row_a_task_and_one_for_the_average() -> None:
    (pair,) = pairs(1)
    table = difference_table(["run"], [pair], LABELS)
    assert table["Task"].tolist() == ["Task <A>", "Task B", "Average"]
    assert "Run" not in table
    assert table["Difference"].tolist() == pytest.approx(
        [100 * pair.tasks["a"].difference, 100 * pair.tasks["b"].difference, 100 * pair.difference], abs=0.01
    )
    assert table["Gained"].tolist()[:2] == [pair.tasks["a"].better, pair.tasks["b"].better]
    assert difference_table(["x", "y"], pairs(2), LABELS)["Run"].tolist() == ["x"] * 3 + ["y"] * 3


def test_the_table_says_what_the_sentences_say() -> None:
    pair = replace(pairs(1)[0], low=-0.000521, high=0.0094)
    table = difference_table(["run"], [pair], LABELS, digits=1)
    assert table[["From", "To"]].iloc[-1].tolist() == [-0.1, 0.9]
    assert in_points(pair).endswith("(−0.1 to +0.9)")


def test_confusions_share_one_symmetric_scale_and_the_third_is_the_difference() -> None:
    first, second = np.array([[90.0, 10], [40, 60]]), np.array([[100.0, 0], [20, 80]])
    figure = confusion_figure(first, second, ["A", "B <i>"], ["<cat>", "dog"])
    assert [np.asarray(trace.z).tolist() for trace in figure.data] == [
        first.tolist(),
        second.tolist(),
        [[10, -10], [-20, 20]],
    ]
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-100, 100)
    assert figure.data[0].customdata[0] == ["&lt;cat&gt;, right", "&lt;cat&gt; taken for dog"]
    assert "B &lt;i&gt;" in [note.text for note in figure.layout.annotations]
    assert [re.sub("<.*?>", "", text) for text in figure.data[2].text[1]] == ["−20", "20"]
    narrow = confusion_figure(first, second, ["A", "B <i>"], ["<cat>", "dog"], stacked=True)
    assert [(trace.xaxis, trace.yaxis) for trace in narrow.data] == [("x", "y"), ("x", "y2"), ("x", "y3")]
    assert [np.asarray(trace.z).tolist() for trace in narrow.data] == [
        np.asarray(trace.z).tolist() for trace in figure.data
    ]
    below = [narrow.layout[f"yaxis{suffix}"].domain for suffix in ("", "2", "3")]
    assert all(upper[0] > lower[1] for upper, lower in pairwise(below))
    table = confusion_table(first, second, np.array([10, 5]), ["A", "B"], ["cat", "dog"])
    assert table.iloc[0].tolist() in (["dog", "cat", 5, 40, 20, -20], ["dog", "dog", 5, 60, 80, 20])
    assert len(table) == 4


def test_of_many_classes_those_that_change_are_shown() -> None:
    first = 100 * np.eye(100)
    second = first.copy()
    second[70, 70], second[70, 3] = 20, 80
    kept = shown_classes(first, second)
    assert len(kept) == MAX_CLASSES and kept == sorted(kept) and {3, 70} <= set(kept)
    assert shown_classes(first[:5, :5], first[:5, :5]) == [0, 1, 2, 3, 4]


def test_coefficients_are_subtracted_by_name() -> None:
    first = Coefficients(tasks=["a", "b"], tensors=["x", "y"], table=[[1.0, 2.0], [3.0, 4.0]])
    second = Coefficients(tasks=["c", "b", "a"], tensors=["y", "x"], table=[[9.0, 9.0], [40.0, 30.0], [20.0, 10.0]])
    assert subtracted(first, second) == Coefficients(
        tasks=["a", "b"], tensors=["x", "y"], table=[[9.0, 18.0], [27.0, 36.0]]
    )
    assert subtracted(first, second.model_copy(update={"tasks": ["c", "d", "e"]})) is None
    assert subtracted(first, second.model_copy(update={"tensors": ["v", "w"]})) is None
    assert subtracted(first, None) is None


# --- every number where it belongs -----------------------------------------------------------------------------------


# Differences of +10 and −2 points, mean +4; every interval is wider on one side.
PAIR = Comparison(
    {
        "a": TaskDifference(100, 0.40, 0.50, better=12, worse=2, low=0.07, high=0.19, p=0.01, adjusted=0.03),
        "b": TaskDifference(50, 0.42, 0.40, better=1, worse=2, low=-0.11, high=0.01, p=0.6, adjusted=0.7),
    },
    low=0.03,
    high=0.08,
)


def test_intervals_are_read_off_as_they_were_given() -> None:
    figure = difference_figure([Series("run", "TIES", {})], [PAIR], LABELS, "<ref>")
    assert all_hover_texts(figure) == [
        [
            "<b>Average</b>: <b>+4.0</b> (+3.0 … +8.0) [run]",
            "Task &lt;A&gt;: <b>+10.0</b> (+7.0 … +19.0) [run]",
            "Task B: <b>−2.0</b> (−11.0 … +1.0) [run]",
        ]
    ]
    (trace,) = figure.data
    assert list(trace.error_x.array) == pytest.approx([4, 9, 3])
    assert list(trace.error_x.arrayminus) == pytest.approx([1, 3, 9])
    assert not trace.error_x.symmetric
    assert list(figure.layout.yaxis.tickvals) == list(trace.y)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the average on top
    assert figure.layout.xaxis.title.text == "Points more than &lt;ref&gt;,<br>with 95 % intervals"


def test_every_run_has_its_own_intervals() -> None:
    other = replace(PAIR, tasks={"a": PAIR.tasks["b"], "b": PAIR.tasks["a"]})
    looks = distinct_styles(["TIES", "AdaMerging"])
    series = [Series(name, name, {}, look) for name, look in zip(("TIES", "AdaMerging"), looks, strict=True)]
    first, second = difference_figure(series, [PAIR, other], LABELS, "reference").data
    assert (first.name, list(first.x)) == ("TIES", pytest.approx([4, 10, -2]))
    assert (second.name, list(second.x)) == ("AdaMerging", pytest.approx([4, -2, 10]))
    assert [one.marker.color for one in (first, second)] == [look.color for look in looks]
    assert all(a < b for a, b in zip(first.y, second.y, strict=True))


def test_the_table_tells_from_and_to_gained_and_lost_reference_and_run_apart() -> None:
    table = difference_table(["run"], [PAIR], LABELS).set_index("Task")
    assert table.loc["Task <A>"].to_dict() == {
        "Verdict": "better",
        "Difference": 10,
        "From": 7,
        "To": 19,
        "p": 0.01,
        "p, corrected": 0.03,
        "Reference (%)": 40,
        "Run (%)": 50,
        "Gained": 12,
        "Lost": 2,
        "Images": 100,
    }
    columns = ["Difference", "From", "To", "Reference (%)", "Run (%)", "Gained", "Lost", "Images"]
    assert table.loc["Task B", columns].tolist() == [-2, -11, 1, 42, 40, 1, 2, 50]
    assert table.loc["Average", columns[:5]].tolist() == [4, 3, 8, 41, 45]
    assert table.loc["Average", "Images"] == 150


def test_cells_of_confusions_say_which_class_was_taken_for_which() -> None:
    first, second = np.array([[90.0, 10], [40, 60]]), np.array([[97.0, 3], [25, 75]])
    figure = confusion_figure(first, second, ["reference", "run"], ["<cat>", "dog"])
    cells = ["&lt;cat&gt;, right", "&lt;cat&gt; taken for dog", "dog taken for &lt;cat&gt;", "dog, right"]
    assert all_hover_texts(figure) == [
        [f"{cell}<br>{value} %" for cell, value in zip(cells, values, strict=True)]
        for values in (
            ("90.0", "10.0", "40.0", "60.0"),
            ("97.0", "3.0", "25.0", "75.0"),
            ("7.0", "−7.0", "−15.0", "15.0"),
        )
    ]
    assert [[re.sub("<.*?>", "", text) for row in trace.text for text in row] for trace in figure.data] == [
        ["90", "10", "40", "60"],
        ["97", "3", "25", "75"],
        ["7", "−7", "−15", "15"],
    ]
    layout = figure.layout
    above = {note.text: note.x for note in layout.annotations}
    assert list(above) == ["reference", "run", "Difference"]
    for trace, axis, middle in zip(
        figure.data, (layout.xaxis, layout.xaxis2, layout.xaxis3), above.values(), strict=True
    ):
        assert axis.domain[0] < middle < axis.domain[1] and trace.xaxis == axis.plotly_name.replace("axis", "").strip(
            "1"
        )
        assert list(axis.ticktext) == ["&lt;cat&gt;", "dog"]
    assert list(layout.yaxis.ticktext) == ["&lt;cat&gt;", "dog"]
    assert layout.yaxis.autorange == "reversed" and layout.yaxis.title.text == "true class"
    table = confusion_table(first, second, np.array([10, 5]), ["reference", "run"], ["cat", "dog"])
    assert list(table.columns) == [
        "True class",
        "Predicted",
        "Images of the class",
        "reference (%)",
        "run (%)",
        "Difference",
    ]
    assert sorted(table.to_numpy().tolist()) == [
        ["cat", "cat", 10, 90, 97, 7],
        ["cat", "dog", 10, 10, 3, -7],
        ["dog", "cat", 5, 40, 25, -15],
        ["dog", "dog", 5, 60, 75, 15],
    ]
    assert table["Difference"].abs().tolist() == [15, 15, 7, 7]
