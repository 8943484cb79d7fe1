import itertools

import pytest

from merging.charts.accuracy import (
    Series,
    accuracy_bars,
    accuracy_dots,
    accuracy_radar,
    accuracy_table,
    forgetting_figure,
    forgetting_table,
    scaling_curve,
    scaling_table,
)
from merging.charts.theme import distinct_styles, style_of

TASKS = {"digits": "Digits", "signs": "Traffic signs"}
LOOKS = distinct_styles(["Task Arithmetic", "Task Arithmetic"])
SERIES = [
    Series("Zero-shot", "Zero-shot", {"digits": 0.4, "signs": 0.5}),
    Series("TA · λ 0.3", "Task Arithmetic", {"digits": 0.7, "signs": 0.6}),
    Series("TA · λ 0.4", "Task Arithmetic", {"digits": 0.75, "signs": 0.65}, LOOKS[1]),
]


def test_bars_put_the_average_first_and_apart() -> None:
    figure = accuracy_bars(SERIES, TASKS)
    bars = figure.data[1]
    assert list(bars.y) == pytest.approx([65, 70, 60])
    assert bars.x[1] - bars.x[0] > bars.x[2] - bars.x[1]
    assert list(figure.layout.xaxis.ticktext) == ["Average", "Digits", "Traffic<br>signs"]
    assert bars.text[0] == "65.0"


def test_tasks_to_be_forgotten_come_last_and_count_in_no_average() -> None:
    series = [
        SERIES[0],
        Series("negation", "Task Arithmetic", {"digits": 0.1, "signs": 0.6}, None, frozenset({"digits"})),
    ]
    bars = accuracy_bars(series, TASKS)
    assert [list(bar.y) for bar in bars.data] == [pytest.approx([50, 50, 40]), pytest.approx([60, 60, 10])]
    assert bars.layout.xaxis.ticktext[-1] == "Digits<br>(forget)"
    assert bars.data[0].x[2] - bars.data[0].x[1] > 1  # apart
    dots = accuracy_dots(series, TASKS)
    assert list(dots.data[0].x) == pytest.approx([50, 50, 40])
    table = accuracy_table(series, TASKS)
    assert list(table.columns) == ["Method", "Average", "Traffic signs", "Digits (forget)"]
    assert table["Average"].tolist() == [50, 60]
    only = [Series("all", "Task Arithmetic", {"digits": 0.1}, None, frozenset({"digits"}))]
    assert list(accuracy_bars(only, {"digits": "Digits"}).data[0].y) == [None, pytest.approx(10)]


def test_bars_of_a_group_neither_overlap_nor_touch() -> None:
    figure = accuracy_bars(SERIES, TASKS)
    for place in range(3):
        edges = [(bar.x[place] + bar.offset[place], bar.width[place]) for bar in figure.data]
        for (left, width), (following, _) in itertools.pairwise(edges):
            assert left + 1.05 * width < following < left + 1.2 * width


def test_a_group_of_bars_stands_on_its_label() -> None:
    figure = accuracy_bars(SERIES, TASKS)
    for place in range(3):
        edges = [bar.offset[place] + extra * bar.width[place] for bar in figure.data for extra in (0, 1)]
        assert min(edges) == pytest.approx(-max(edges))


def test_methods_keep_their_colour_and_variants_get_a_pattern() -> None:
    first, second = accuracy_bars(SERIES, TASKS).data[1:]
    assert first.marker.color == second.marker.color == style_of("Task Arithmetic").color
    assert not first.marker.pattern.shape
    assert second.marker.pattern.shape
    two = [Series(name, name, {"digits": 0.5}) for name in ("Consensus TA", "Consensus TIES")]
    one, other = accuracy_bars(two, TASKS).data
    assert one.marker.color == other.marker.color and one.marker.pattern.shape != other.marker.pattern.shape
    symbols = [trace.marker.symbol for trace in accuracy_dots(SERIES, TASKS).data]
    assert symbols == ["circle", "square", "square-open"]


def test_a_missing_task_leaves_a_gap_and_no_average() -> None:
    partial = Series("Partial", "AdaMerging", {"digits": 0.8})
    assert list(accuracy_bars([partial], TASKS).data[0].y) == [None, 80, None]


def test_names_from_outside_are_not_markup() -> None:
    figure = accuracy_bars([Series("<b>x</b>", "AdaMerging", {"a": 1.0})], {"a": "<i>y</i>"})
    assert "<i>" not in str(figure.layout.xaxis.ticktext)
    assert "<b>x" not in figure.data[0].name


def test_relative_values_are_shares_and_skip_zero() -> None:
    shares = SERIES[1].relative_to({"digits": 0.35, "signs": 0.0})
    assert shares.accuracy == {"digits": pytest.approx(2.0)}


def test_axis_grows_beyond_100_for_shares_above_one() -> None:
    high = SERIES[1].relative_to({"digits": 0.5, "signs": 0.5})
    assert accuracy_bars([high], TASKS).layout.yaxis.range[1] > 140


ROUND = {"digits": "Digits", "signs": "Traffic signs", "a": "A very long title of a task, first", "b": "<b>Bold</b>"}


def on_all(name: str, level: float) -> Series:
    return Series(name, "AdaMerging", {task: level + index / 10 for index, task in enumerate(ROUND)})


def test_radar_refuses_what_it_cannot_show() -> None:
    five = [on_all(str(index), 0.5) for index in range(5)]
    with pytest.raises(ValueError, match="at most 4"):
        accuracy_radar(five, ROUND)
    with pytest.raises(ValueError, match="2 tasks; a radar needs at least 3"):
        accuracy_radar(SERIES, TASKS)


def test_radar_goes_once_around_the_tasks() -> None:
    figure = accuracy_radar([on_all("x", 0.5)], ROUND)
    outline, axis = figure.data[0], figure.layout.polar.angularaxis
    assert list(outline.r) == pytest.approx([50, 60, 70, 80, 50])
    assert list(outline.theta) == pytest.approx([0, 90, 180, 270, 0])
    assert list(axis.tickvals) == list(outline.theta)[:-1]
    assert list(outline.customdata)[2] == ROUND["a"]
    assert "<b>" not in str(outline.customdata) + str(axis.ticktext)


def test_radar_leaves_room_for_two_lines_of_label_above_and_below() -> None:
    figure = accuracy_radar([on_all("x", 0.5)], ROUND)
    lines = max(text.count("<br>") + 1 for text in figure.layout.polar.angularaxis.ticktext)
    assert lines == 2
    height, margin = 1.3 * figure.layout.font.size * lines, figure.layout.margin
    assert margin.b > height
    below_legend = (figure.layout.legend.y - 1) * (figure.layout.height - margin.t - margin.b)
    assert margin.t - 30 > below_legend > height


def test_table_has_a_row_per_series_in_percent() -> None:
    table = accuracy_table(SERIES, TASKS)
    assert list(table.columns) == ["Method", "Average", "Digits", "Traffic signs"]
    assert table.iloc[1].tolist() == ["TA · λ 0.3", 65.0, 70.0, 60.0]


def test_search_marks_the_chosen_scaling() -> None:
    report = {"scaling": 0.4, "scaling_search": {"scalings": [0.3, 0.4, 0.5], "average_accuracy": [0.6, 0.7, 0.65]}}
    curve, chosen = scaling_curve([(SERIES[1], report)]).data
    assert list(curve.y) == pytest.approx([60, 70, 65])
    assert (chosen.x[0], chosen.y[0]) == pytest.approx((0.4, 70))
    assert curve.name == "TA · λ 0.3, λ = 0.4" and not chosen.text  # texts at neighbouring points would overlap
    assert scaling_table([(SERIES[1], report)])["TA · λ 0.3"].tolist() == [60, 70, 65]


FORGETTING = {
    "weights": {"signs": -0.5, "roads": 0.5},
    "forgotten": {"signs": {"before": 0.5, "after": 0.2}},
    "added": {"roads": {"before": 0.3, "after": 0.6}},
    "kept": {"digits": {"before": 0.4, "after": 0.39}},
}
LABELS = TASKS | {"signs": "Traffic <signs>", "roads": "Roads"}


def test_forgetting_has_a_row_per_task_in_groups() -> None:
    figure = forgetting_figure(FORGETTING, "Task Arithmetic", LABELS)
    before, after = figure.data
    assert list(before.x) == [50.0, 30.0, 40.0] and list(after.x) == [20.0, 60.0, 39.0]
    assert list(figure.layout.yaxis.ticktext) == ["Traffic &lt;signs&gt; (forget)", "Roads (add)", "Digits"]
    assert list(before.y) == list(after.y) == list(figure.layout.yaxis.tickvals)
    assert list(before.y) == sorted(before.y) and min(b - a for a, b in itertools.pairwise(before.y)) >= 1
    assert (before.marker.color, after.marker.color) == tuple(
        style_of(method).color for method in ("Zero-shot", "Task Arithmetic")
    )


def test_forgetting_of_everything_has_one_group() -> None:
    figure = forgetting_figure(FORGETTING | {"added": {}, "kept": {}}, "Task Arithmetic", LABELS)
    assert list(figure.data[0].y) == [0]


def test_forgetting_table_says_what_was_meant_to_happen() -> None:
    table = forgetting_table(FORGETTING, LABELS)
    assert table["Task"].tolist() == ["Traffic <signs>", "Roads", "Digits"]
    assert table["Meant to"].tolist() == ["forget", "add", "keep"]
    assert table["After (%)"].tolist() == [20.0, 60.0, 39.0]
    assert table["Weight"].isna().tolist() == [False, False, True]
