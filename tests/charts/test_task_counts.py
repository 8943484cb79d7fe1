"""Charts of methods over the number of merged tasks: their numbers, and the sentence with them."""

import pytest

from merging.charts.task_counts import task_counts_figure, task_counts_table, task_counts_takeaway
from merging.runs.task_counts import ByCount
from tests.hover_texts import all_hover_texts

FEW, MANY = [0.9, 0.7], [0.5]
ROWS = [
    ByCount("tsv_m", "TSV-M", {2: FEW, 8: MANY}, {2: [0.95, 0.85], 8: [0.6]}),
    ByCount("task_arithmetic", "Task Arithmetic", {2: [0.6, 0.6], 8: [0.55]}, {2: [0.7], 8: []}),
]


@pytest.mark.parametrize(
    ("relative", "values", "spreads"), [(False, [80, 50], [14.14, 0]), (True, [90, 60], [7.07, 0])]
)
def test_a_line_a_method_with_its_spread(relative: bool, values: list[float], spreads: list[float]) -> None:
    figure = task_counts_figure(ROWS[:1], relative)
    (line,) = figure.data
    assert list(line.x) == [2, 8] and list(line.y) == pytest.approx(values)
    assert list(line.error_y.array) == pytest.approx(spreads, abs=0.01)
    assert figure.layout.xaxis.tickvals == (2, 8)


def test_every_line_has_its_own_method() -> None:
    assert all_hover_texts(task_counts_figure(ROWS)) == [
        ["2 tasks: <b>80.0</b> ± 14.1 [TSV-M]", "8 tasks: <b>50.0</b> ± 0.0 [TSV-M]"],
        ["2 tasks: <b>60.0</b> [Task Arithmetic]", "8 tasks: <b>55.0</b> [Task Arithmetic]"],
    ]


@pytest.mark.parametrize(("methods", "sizes"), [(2, (2, 8, 14, 20)), (9, (2, 3)), (30, (1, 2, 20)), (3, (5,))])
def test_bars_stand_beside_each_other_and_nearest_to_their_number(methods: int, sizes: tuple[int, ...]) -> None:
    averages = {size: [0.5, 0.6] for size in sizes}
    figure = task_counts_figure([ByCount(f"m{place}", f"m{place}", averages, {}) for place in range(methods)])
    assert figure.layout.xaxis.tickvals == sizes
    for line in figure.data:
        assert list(line.customdata) == list(sizes)
        assert [min(sizes, key=lambda size: abs(size - x)) for x in line.x] == list(sizes)
    for size, found in zip(sizes, zip(*(line.x for line in figure.data), strict=True), strict=True):
        assert len(set(found)) == (methods if len(sizes) > 1 else 1)
        assert sum(found) / methods == pytest.approx(size)


def test_a_row_a_method_and_size() -> None:
    table = task_counts_table(ROWS).set_index(["Method", "Tasks"])
    assert table.loc[("TSV-M", 2)].tolist() == [2, 80.0, 14.1, 90.0, 7.1]
    assert table["Normalised (%)"].isna().tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ROWS,
            "With 2 tasks TSV-M is best, 80.0 %, with 8 tasks Task Arithmetic, 55.0 %; Task Arithmetic holds up best",
        ),
        (ROWS[:1], "TSV-M goes from 80.0 % with 2 tasks to 50.0 % with 8."),
        ([ROWS[0], ROWS[0]], "TSV-M is best with 2 tasks and with 8, 80.0 and 50.0 %"),
        ([ByCount("a", "A", {4: MANY}, {})], "With 4 tasks A reaches 50.0 %"),
        ([ByCount("a", "A", {4: MANY}, {})] * 2, "With 4 tasks A is best, 50.0 %"),
    ],
)
def test_what_the_chart_shows_is_said_from_the_numbers(rows: list[ByCount], said: str) -> None:
    assert said in task_counts_takeaway(rows)
