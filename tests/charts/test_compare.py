import re
from dataclasses import replace

import numpy as np
import pytest

from merging.charts.accuracy import Series
from merging.charts.compare import confusion_figure, confusion_table, difference_figure, difference_table
from merging.charts.theme import distinct_styles
from merging.evaluation.paired import compare, in_points
from merging.runs.comparison.compare import MAX_CLASSES, shown_classes, subtracted
from merging.runs.jobs.merge_result import Coefficients

LABELS = {"a": "Task <A>", "b": "Task B"}


def pairs(count: int) -> list:
    random = np.random.default_rng(0)
    return compare({t: random.random(50) < 0.5 for t in LABELS}, [
        {t: random.random(50) < 0.4 + 0.3 * model for t in LABELS} for model in range(count)
    ])  # fmt: skip


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
        first.tolist(), second.tolist(), [[10, -10], [-20, 20]]
    ]  # fmt: skip
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-100, 100)
    assert figure.data[0].customdata[0] == ["&lt;cat&gt;, right", "&lt;cat&gt; taken for dog"]
    assert "B &lt;i&gt;" in [note.text for note in figure.layout.annotations]
    assert [re.sub("<.*?>", "", text) for text in figure.data[2].text[1]] == ["−20", "20"]
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
