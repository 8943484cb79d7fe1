from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.charts.leaderboard import (
    NOT_RUN,
    Standing,
    leaderboard_dots,
    leaderboard_table,
    ranked,
    takeaway,
)
from merging.charts.theme import style_of
from merging.methods.params import DataUse, Needs
from merging.runs.leaderboard import Row
from tests.hover_texts import all_hover_texts

TASKS = ("digits", "signs")


def line(
    title: str,
    values: Sequence[float] | None,
    needs: Needs = "none",
    state: str = "done",
    normalised: float | None = 0.5,
    note: str = "",
) -> Standing:
    data, row = DataUse(needs, ("merge.scaling",), ("λ",)), None
    if values is not None:
        row = Row(title, data, dict(zip(TASKS, values, strict=True)), normalised, 0.35, 12.34, 512_400_000, "abc")
    run = None if state == NOT_RUN else "abc"
    return Standing(title, data, "https://arxiv.org/abs/1", note, state, run, row)


def baseline(title: str, values: Sequence[float]) -> Standing:
    row = Row(title, DataUse("none"), dict(zip(TASKS, values, strict=True)), 1.0)
    return Standing(title, DataUse("none"), "", "", "", None, row)


LINES = [
    baseline("Zero-shot", (0.4, 0.5)),
    line("Task Arithmetic", (0.7, 0.6)),
    line("TSV-M", None, state=NOT_RUN, note="a note"),
    line("AdaMerging", (0.9, 0.7), "unlabeled"),
    line("Iso-C", (0.8, 0.7)),
    baseline("Individual", (0.95, 0.9)),
]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_best_average_first_and_what_is_not_measured_last_in_its_order(averages: list[float | None]) -> None:
    lines = [line(str(number), None if value is None else (value, value)) for number, value in enumerate(averages)]
    found = ranked(lines)
    measured = [one.row.average for one in found if one.row]
    assert measured == sorted((value for value in averages if value is not None), reverse=True)
    assert [one.title for one in found[len(measured) :]] == [str(n) for n, v in enumerate(averages) if v is None]


def test_the_table_holds_percent_and_leaves_gaps_where_nothing_was_measured() -> None:
    table = leaderboard_table(LINES, TASKS)
    assert list(table.columns) == [
        "Method",
        "Average (%)",
        "Normalised (%)",
        "digits",
        "signs",
        "Data",
        "Chosen",
        "State",
        "λ",
        "Seconds",
        "Memory (MB)",
        "Paper",
        "Run",
        "Note",
    ]
    row = table.iloc[3]
    assert row["Method"] == "AdaMerging" and row["Data"] == "unlabeled" and row["State"] == "done"
    numbers = row[["Average (%)", "Normalised (%)", "digits", "signs", "λ", "Seconds", "Memory (MB)"]]
    assert numbers.tolist() == pytest.approx([80, 50, 90, 70, 0.35, 12.3, 512])
    missing = table.iloc[2]
    assert missing[["Average (%)", "Normalised (%)", "digits", "λ", "Seconds", "Run"]].isna().all()
    assert missing["State"] == NOT_RUN and missing["Note"] == "a note"


def test_columns_that_say_nothing_are_left_out() -> None:
    lines = [line("a", (0.1, 0.2), normalised=None), line("b", (0.2, 0.3), normalised=None)]
    shipped = [replace(one, row=replace(one.row, seconds=None, peak_bytes=None)) for one in lines]
    some = {"Seconds", "Memory (MB)"}
    assert {"State", "Normalised (%)", *some} & set(leaderboard_table(lines, TASKS).columns) == some
    assert not some & set(leaderboard_table(shipped, TASKS).columns)


def test_a_task_named_like_a_column_stays_apart() -> None:
    row = Row("a", DataUse("none"), {"Run": 0.25, "Method": 0.75}, None)
    table = leaderboard_table([Standing("a", DataUse("none"), "", "", "done", "abc", row)], ("Run", "Method"))
    assert table.columns.is_unique
    assert table.iloc[0][["Run (task)", "Method (task)", "Run"]].tolist() == [25, 75, "abc"]


def test_dots_are_grouped_by_data_and_ranked_within_a_group() -> None:
    figure = leaderboard_dots(LINES)
    assert [trace.name for trace in figure.data] == ["Iso-C", "Task Arithmetic", "AdaMerging"]
    assert [trace.x[0] for trace in figure.data] == pytest.approx([75, 65, 80])
    ticks = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    assert list(ticks.values()) == [
        "<b>No data</b>",
        "Iso-C",
        "Task Arithmetic",
        "<b>Unlabeled images</b>",
        "AdaMerging",
    ]
    assert all(ticks[trace.y[0]] == trace.name for trace in figure.data)
    assert list(ticks) == sorted(ticks)
    assert [note.text for note in figure.layout.annotations] == ["Zero-shot 45.0", "Individual 92.5"]
    low, high = figure.layout.xaxis.range
    assert low < 45 and high > 92.5


def test_methods_that_give_a_model_for_each_task_stand_apart() -> None:
    figure = leaderboard_dots([*LINES, replace(line("Masks", (0.9, 0.9)), localised=True)])
    assert list(figure.layout.yaxis.ticktext)[-2:] == ["<b>A model for each task</b>", "Masks"]


def test_dots_have_the_methods_own_colour_and_marker() -> None:
    figure = leaderboard_dots([line("TSV-M", (0.5, 0.5)), line("AdaMerging", (0.4, 0.4))])
    for trace, label in zip(figure.data, ("TSV-M", "AdaMerging"), strict=True):
        assert (trace.marker.color, trace.marker.symbol) == (style_of(label).color, style_of(label).symbol)


def test_names_from_outside_are_not_markup() -> None:
    figure = leaderboard_dots([line("<b>x</b>", (0.5, 0.5))])
    assert "<b>x" not in figure.data[0].name + "".join(figure.layout.yaxis.ticktext)


def test_equal_averages_stay_in_their_order() -> None:
    assert (0.1 + 0.7) / 2 < (0.4 + 0.4) / 2
    first, second = line("a", (0.1, 0.7)), line("b", (0.4, 0.4))
    assert takeaway(ranked([first, second])).startswith("Best on average: a ")
    assert takeaway(ranked([second, first])).startswith("Best on average: b ")


def test_the_takeaway_names_the_best_of_every_kind_of_data() -> None:
    assert takeaway(LINES) == (
        "Best on average: AdaMerging (unlabeled images) with 80.0 %; Iso-C (no data) with 75.0 %. "
        "Normalised accuracy of the first: 50.0 %."
    )
    many = replace(line("Masks", (0.9, 0.9)), localised=True)
    assert takeaway([*LINES, many]).startswith(
        "Best on average: AdaMerging (unlabeled images) with 80.0 %; Iso-C (no data) with 75.0 %; "
        "Masks (a model for each task) with 90.0 %. Normalised accuracy of the first: 50.0 %."
    )
    assert takeaway([LINES[0], LINES[2]]) == "No method has been measured here yet."
    assert takeaway([line("a", (0.5, 0.5), normalised=None)]) == "Best on average: a (no data) with 50.0 %."


# --- every number where it belongs -----------------------------------------------------------------------------------


def test_every_dot_is_the_average_of_the_method_beside_it() -> None:
    figure = leaderboard_dots(LINES)
    assert all_hover_texts(figure) == [
        ["<b>75.0</b> % [Iso-C]"],
        ["<b>65.0</b> % [Task Arithmetic]"],
        ["<b>80.0</b> % [AdaMerging]"],
    ]
    assert [trace.text[0].strip() for trace in figure.data] == ["75.0", "65.0", "80.0"]
    heights = [trace.y[0] for trace in figure.data]
    rules = [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes]
    gains, baselines = rules[:3], rules[3:]
    assert gains == [  # from the worst baseline to the dot
        pytest.approx((45, average, at, at)) for average, at in zip((75, 65, 80), heights, strict=True)
    ]
    assert [(x0, x1) for x0, x1, *_ in baselines] == [pytest.approx((45, 45)), pytest.approx((92.5, 92.5))]
    assert {note.text: note.x for note in figure.layout.annotations} == pytest.approx(
        {"Zero-shot 45.0": 45, "Individual 92.5": 92.5}
    )
    assert figure.layout.yaxis.range[0] > max(heights) > figure.layout.yaxis.range[1]  # the best on top


def test_no_line_crosses_the_number_of_a_dot() -> None:
    figure = leaderboard_dots([*LINES, line("Near", (0.91, 0.91))])
    (height,) = (trace.y[0] for trace in figure.data if trace.name == "Near")
    ((top, bottom),) = [(shape.y0, shape.y1) for shape in figure.layout.shapes if shape.x0 == shape.x1 == 45]
    pieces = [(shape.y0, shape.y1) for shape in figure.layout.shapes if shape.x0 == shape.x1 == 92.5]
    assert (pieces[0][0], pieces[-1][1]) == (top, bottom)
    assert all(start < end <= height - 0.4 or height + 0.4 <= start < end for start, end in pieces)


def test_every_column_of_every_row_is_its_own() -> None:
    table = leaderboard_table(LINES, TASKS).set_index("Method")
    assert table[["Average (%)", "digits", "signs"]].dropna().T.to_dict("list") == {
        "Zero-shot": [45, 40, 50],
        "Task Arithmetic": [65, 70, 60],
        "AdaMerging": [80, 90, 70],
        "Iso-C": [75, 80, 70],
        "Individual": [92.5, 95, 90],
    }
    assert table["Normalised (%)"].dropna().to_dict() == {
        "Zero-shot": 100,
        "Task Arithmetic": 50,
        "AdaMerging": 50,
        "Iso-C": 50,
        "Individual": 100,
    }
    assert table["State"].to_dict() == {
        "Zero-shot": "",
        "Task Arithmetic": "done",
        "TSV-M": NOT_RUN,
        "AdaMerging": "done",
        "Iso-C": "done",
        "Individual": "",
    }
    assert table.loc["AdaMerging", ["Data", "Chosen", "Paper", "Run"]].tolist() == [
        "unlabeled",
        "λ",
        "https://arxiv.org/abs/1",
        "abc",
    ]
    assert table.loc["Zero-shot", ["Chosen", "Paper", "Run", "Note", "λ", "Seconds"]].isna().all()


@pytest.mark.parametrize(("individual", "shifts"), [(0.9, [0, 0]), (0.5, [0, 13])])
def test_names_of_baselines_that_are_close_stand_above_each_other(individual: float, shifts: list[int]) -> None:
    lines = [baseline("Zero-shot", (0.4, 0.4)), baseline("Individual", (individual, individual))]
    notes = leaderboard_dots([*lines, line("TSV-M", (0.8, 0.8))]).layout.annotations
    assert [note.yshift for note in notes] == shifts
