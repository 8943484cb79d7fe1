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
from merging.evaluation.accuracy import Accuracy
from merging.runs.jobs.merge_result import Forgetting, MethodReport, ScalingSearchReport
from tests.hover_texts import all_hover_texts, hover_texts

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
    search = {"scalings": [0.3, 0.4, 0.5], "average_accuracy": [0.6, 0.7, 0.65]}
    report = MethodReport.model_validate({"scaling": 0.4, "scaling_search": search})
    curve, chosen = scaling_curve([(SERIES[1], report)]).data
    assert list(curve.y) == pytest.approx([60, 70, 65])
    assert (chosen.x[0], chosen.y[0]) == pytest.approx((0.4, 70))
    assert curve.name == "TA · λ 0.3, λ = 0.4" and not chosen.text  # texts at neighbouring points would overlap
    assert scaling_table([(SERIES[1], report)])["TA · λ 0.3"].tolist() == [60, 70, 65]


FORGETTING = Forgetting.of(
    Accuracy({"signs": 0.5, "roads": 0.3, "digits": 0.4}, {"signs": 9, "roads": 9, "digits": 9}, "test"),
    Accuracy({"signs": 0.2, "roads": 0.6, "digits": 0.39}, {"signs": 9, "roads": 9, "digits": 9}, "test"),
    {"signs": -0.5, "roads": 0.5},
)
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
    figure = forgetting_figure(FORGETTING.model_copy(update={"added": {}, "kept": {}}), "Task Arithmetic", LABELS)
    assert list(figure.data[0].y) == [0]


def test_forgetting_table_says_what_was_meant_to_happen() -> None:
    table = forgetting_table(FORGETTING, LABELS)
    assert table["Task"].tolist() == ["Traffic <signs>", "Roads", "Digits"]
    assert table["Meant to"].tolist() == ["forget", "add", "keep"]
    assert table["After (%)"].tolist() == [20.0, 60.0, 39.0]
    assert table["Weight"].isna().tolist() == [False, False, True]


# --- every number where it belongs -----------------------------------------------------------------------------------

FORGETFUL = [
    Series("Zero-shot", "Zero-shot", {"digits": 0.41, "signs": 0.52, "roads": 0.33}),
    Series("<TA>", "Task Arithmetic", {"digits": 0.78, "signs": 0.14, "roads": 0.65}, None, frozenset({"signs"})),
]
THREE = {"digits": "Digits", "signs": "Traffic <signs>", "roads": "Roads"}
SAID = [  # signs last, as they are to be forgotten, and in no average
    [
        "Average: <b>37.0</b>",
        "Digits: <b>41.0</b>",
        "Roads: <b>33.0</b>",
        "Traffic &lt;signs&gt; (forget): <b>52.0</b>",
    ],
    [
        "Average: <b>71.5</b>",
        "Digits: <b>78.0</b>",
        "Roads: <b>65.0</b>",
        "Traffic &lt;signs&gt; (forget): <b>14.0</b>",
    ],
]


def test_every_bar_is_the_value_of_its_series_and_task() -> None:
    figure = accuracy_bars(FORGETFUL, THREE, "Shares")
    assert all_hover_texts(figure) == [
        [f"{text} [{name}]" for text in texts] for texts, name in zip(SAID, ("Zero-shot", "&lt;TA&gt;"), strict=True)
    ]
    under = ["Average", "Digits", "Roads", "Traffic<br>&lt;signs&gt;<br>(forget)"]
    for bars in figure.data:
        assert list(bars.x) == list(figure.layout.xaxis.tickvals) == sorted(bars.x)
    assert list(figure.layout.xaxis.ticktext) == under and figure.layout.yaxis.title.text == "Shares"
    assert [list(bars.text) for bars in figure.data] == [["37.0", "", "", ""], ["71.5", "", "", ""]]
    left, right = figure.data  # in the order given, from left to right
    assert all(a < c for a, c in zip(left.offset, right.offset, strict=True))
    (line,) = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert left.x[2] < line.x0 == line.x1 < left.x[3]  # before what is to be forgotten


def test_every_dot_is_the_value_of_its_series_and_task() -> None:
    figure = accuracy_dots(FORGETFUL, THREE, "Shares")
    texts = [["<b>Average</b>" + one[0].removeprefix("Average"), *one[1:]] for one in SAID]
    assert all_hover_texts(figure) == [
        [f"{text} [{name}]" for text in one] for one, name in zip(texts, ("Zero-shot", "&lt;TA&gt;"), strict=True)
    ]
    ticks = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    for dots in figure.data:
        assert [ticks[row] for row in dots.y] == list(dots.customdata)
    low, high = figure.layout.yaxis.range
    assert low > max(ticks) and high < 0  # downwards
    lines = {shape.y0: (shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "line"}
    assert [lines[row] for row in ticks] == [pytest.approx(ends) for ends in ((37, 71.5), (41, 78), (33, 65), (14, 52))]
    assert figure.layout.xaxis.title.text == "Shares"


def test_every_corner_of_the_radar_is_the_value_of_its_series_and_task() -> None:
    figure = accuracy_radar(FORGETFUL, THREE)
    for outline, texts in zip(figure.data, SAID, strict=True):
        assert hover_texts(outline) == [f"{text} [{outline.name}]" for text in (*texts[1:], texts[1])]
        angles = dict(zip(figure.layout.polar.angularaxis.tickvals, ("Digits", "Roads", "Traffic"), strict=True))
        assert all(text.startswith(angles[at]) for at, text in zip(outline.theta, outline.customdata, strict=True))
    assert [outline.name for outline in figure.data] == ["Zero-shot", "&lt;TA&gt;"]
    assert [text.split("<")[0] for text in figure.layout.polar.angularaxis.ticktext] == ["Digits", "Roads", "Traffic"]


def test_what_a_merge_did_to_each_task_runs_from_before_to_after() -> None:
    figure = forgetting_figure(FORGETTING, "Task Arithmetic", LABELS)
    names = ["Traffic &lt;signs&gt;", "Roads", "Digits"]
    assert all_hover_texts(figure) == [
        [f"{name}: <b>{value}</b> [Zero-shot]" for name, value in zip(names, ("50.0", "30.0", "40.0"), strict=True)],
        [
            f"{name}: <b>{value}</b> [Task Arithmetic]"
            for name, value in zip(names, ("20.0", "60.0", "39.0"), strict=True)
        ],
    ]
    lines = [(shape.x0, shape.x1, shape.y0) for shape in figure.layout.shapes if shape.type == "line"]
    assert lines == list(zip((50, 30, 40), (20, 60, 39), figure.data[0].y, strict=True))
    table = forgetting_table(FORGETTING, LABELS).set_index("Task")
    assert table.loc["Traffic <signs>"].tolist() == ["forget", -0.5, 50, 20]
    assert table.loc["Roads"].tolist() == ["add", 0.5, 30, 60]
    assert table.loc["Digits", ["Zero-shot (%)", "After (%)"]].tolist() == [40, 39]


def test_every_search_has_its_own_name_curve_and_choice() -> None:
    def report(chosen: float, scalings: list[float], values: list[float]) -> MethodReport:
        return MethodReport(
            scaling=chosen, scaling_search=ScalingSearchReport(scalings=scalings, average_accuracy=values, images=9)
        )

    searches = [
        (SERIES[1], report(0.3, [0.2, 0.3, 0.5], [0.61, 0.72, 0.63])),
        (SERIES[0], report(1.0, [1.0, 1.2], [0.31, 0.44])),  # not the largest, as of a search that also watches others
    ]
    figure = scaling_curve(searches)
    assert all_hover_texts(figure) == [
        [f"λ = {x}: <b>{y}</b> [TA · λ 0.3]" for x, y in (("0.2", "61.0"), ("0.3", "72.0"), ("0.5", "63.0"))],
        ["chosen: λ = 0.3, <b>72.0</b>"],
        [f"λ = {x}: <b>{y}</b> [Zero-shot]" for x, y in (("1", "31.0"), ("1.2", "44.0"))],
        ["chosen: λ = 1, <b>31.0</b>"],
    ]
    groups = ["TA · λ 0.3", "TA · λ 0.3", "Zero-shot", "Zero-shot"]
    assert [trace.legendgroup for trace in figure.data] == groups
    assert [trace.name for trace in figure.data[::2]] == ["TA · λ 0.3, λ = 0.3", "Zero-shot, λ = 1"]
    colors = [style_of(name).color for name in ("Task Arithmetic", "Task Arithmetic", "Zero-shot", "Zero-shot")]
    assert [trace.line.color or trace.marker.color for trace in figure.data] == colors
    table = scaling_table(searches)
    assert list(table.columns) == ["λ", "TA · λ 0.3", "Zero-shot"]
    assert table["λ"].tolist() == [0.2, 0.3, 0.5, 1.0, 1.2]
    assert table["TA · λ 0.3"].dropna().to_dict() == {0: 61, 1: 72, 2: 63}
    assert table["Zero-shot"].dropna().to_dict() == {3: 31, 4: 44}
