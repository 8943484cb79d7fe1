"""Charts of sweeps: what is drawn where, and what a missing value looks like."""

import doctest
from typing import Any

import pytest

from merging.charts.sweeps import course_figure, parallel_figure, trials_table
from merging.charts.theme import style_of
from merging.sweeps import SweepDefinition, Trial
from tests.hover_texts import all_hover_texts
from ui.merge import sweep_form

DEFINITION = SweepDefinition.model_validate(
    {
        "suite": "mini",
        "tasks": [["digits"]],
        "search": "tpe",
        "trials": 4,
        "edits": {"none": {}, "ties": {"keep": {"low": 0.01, "high": 1, "log": True}, "combine": ["sum", "mean"]}},
        "merges": {"task_arithmetic": {"scaling": {"low": 0, "high": 1}, "weights": 1.0}},
    }
)
SCALING, KEEP, COMBINE = "merges.task_arithmetic.scaling", "edits.ties.keep", "edits.ties.combine"


def trial(number: int, value: float | None, **settings: Any) -> Trial:
    chosen = {"edit": "none", "merge": "task_arithmetic", "merges.task_arithmetic.weights": 1.0, **settings}
    state = "failed" if value is None else "done"
    spec = DEFINITION.spec(("digits",), chosen)
    return Trial("trial", number, 0, chosen, spec, "f", state, "abc", value, "broke" if value is None else None)


TRIALS = [
    trial(0, 0.5, **{SCALING: 0.2}),
    trial(1, 0.4, **{"edit": "ties", SCALING: 0.4, KEEP: 0.1, COMBINE: "mean"}),
    trial(2, None, **{SCALING: 0.9}),
    trial(3, 0.8, **{"edit": "ties", SCALING: 0.6, KEEP: 1.0, COMBINE: "sum"}),
]


def test_the_best_so_far_is_a_staircase_over_all_trials() -> None:
    figure = course_figure(TRIALS, DEFINITION)
    stairs = figure.data[-1]
    assert stairs.name == "Best so far" and stairs.line.shape == "hv"
    assert (list(stairs.x), list(stairs.y)) == ([0, 1, 2, 3], [50, 50, 50, 80])
    points = {one.name: (list(one.x), list(one.y)) for one in figure.data[:-1]}
    assert points == {"Task Arithmetic": ([0], [50]), "TIES": ([1, 3], [40, 80])}
    assert "validation" in figure.layout.yaxis.title.text


@pytest.mark.parametrize("dark", [False, True])
def test_lines_pass_through_what_was_varied(dark: bool) -> None:
    figure = parallel_figure(TRIALS, DEFINITION, dark)
    axes = {axis.label: axis for axis in figure.data[0].dimensions}
    assert list(axes) == ["Method", "Task Arithmetic: λ", "TIES: keep", "TIES: combine", "Average (%)"]  # no weights
    assert list(axes["Average (%)"].values) == [50, 40, 80] == list(figure.data[0].line.color)  # not the failed one
    assert list(axes["Task Arithmetic: λ"].values) == [0.2, 0.4, 0.6]
    assert [axes["Method"].ticktext[place] for place in axes["Method"].values] == [
        "Task Arithmetic",
        "TIES",
        "TIES",
    ]


def test_a_parameter_that_a_method_lacks_stands_at_a_dash_below_the_others() -> None:
    axes = {axis.label: axis for axis in parallel_figure(TRIALS, DEFINITION).data[0].dimensions}
    keep = axes["TIES: keep"]
    absent, tenth, whole = keep.values
    assert (tenth, whole) == pytest.approx((-1, 0))  # log₁₀
    assert absent < tenth and keep.tickvals[0] == absent and keep.ticktext[0] == "–"
    assert keep.ticktext[1] == "0.1" and keep.ticktext[-1] == "1"
    assert keep.range[0] <= absent and keep.range[1] >= whole
    combine = axes["TIES: combine"]
    assert [combine.ticktext[place] for place in combine.values] == ["–", "mean", "sum"]


def test_the_table_has_every_trial_and_why_one_failed() -> None:
    table = trials_table(TRIALS, DEFINITION)
    assert list(table["Trial"]) == [0, 1, 2, 3]
    assert list(table["State"]) == ["done", "done", "failed", "done"]
    assert table["Average (%)"].tolist()[3] == 80 and table["Error"].tolist()[2] == "broke"
    assert "Error" not in trials_table(TRIALS[:2], DEFINITION)


def test_examples_of_the_form() -> None:
    found = doctest.testmod(sweep_form)
    assert (found.attempted, found.failed) == (1, 0)


# --- every number where it belongs -----------------------------------------------------------------------------------


def test_every_point_is_its_trial_s_value_and_the_stairs_are_the_best_up_to_it() -> None:
    assert all_hover_texts(course_figure(TRIALS, DEFINITION)) == [
        ["trial 0: <b>50.0 %</b> [Task Arithmetic]"],
        ["trial 1: <b>40.0 %</b> [TIES]", "trial 3: <b>80.0 %</b> [TIES]"],
        [f"best up to trial {number}: <b>{best} %</b>" for number, best in enumerate(("50.0", "50.0", "50.0", "80.0"))],
    ]
    points = course_figure(TRIALS, DEFINITION).data[:-1]
    assert [one.marker.color for one in points] == [style_of(name).color for name in ("Task Arithmetic", "TIES")]
    nothing_yet = course_figure([TRIALS[2], TRIALS[3]], DEFINITION).data[-1]
    assert (list(nothing_yet.x), list(nothing_yet.y)) == ([2, 3], [None, 80])


def test_every_line_passes_the_same_trial_on_all_axes() -> None:
    axes = {axis.label: axis for axis in parallel_figure(TRIALS, DEFINITION).data[0].dimensions}

    def read(label: str, place: float) -> str:
        axis = axes[label]
        return axis.ticktext[list(axis.tickvals).index(place)]

    lines = list(zip(*(axis.values for axis in axes.values()), strict=True))
    texts = [
        [
            f"{place:g}" if label == "Average (%)" else read(label, place)
            for label, place in zip(axes, line, strict=True)
        ]
        for line in lines
    ]
    assert texts == [
        ["Task Arithmetic", "0.2", "–", "–", "50"],
        ["TIES", "0.4", "0.1", "mean", "40"],
        ["TIES", "0.6", "1", "sum", "80"],
    ]
    for axis in list(axes.values())[:-1]:
        assert axis.range[0] <= min(axis.values) and max(axis.values) <= axis.range[1]


def test_every_row_of_the_table_is_its_trial() -> None:
    table = trials_table(TRIALS, DEFINITION).set_index("Trial")
    columns = ["Method", "Average (%)", "Task Arithmetic: λ", "TIES: keep", "TIES: combine", "Run"]
    assert table.loc[1, columns].tolist() == ["TIES", 40, 0.4, 0.1, "mean", "abc"]
    assert table.loc[3, columns].tolist() == ["TIES", 80, 0.6, 1.0, "sum", "abc"]
    assert table.loc[2, ["Method", "State", "Error", "Task Arithmetic: λ"]].tolist() == [
        "Task Arithmetic",
        "failed",
        "broke",
        0.9,
    ]
    assert table.loc[0, ["TIES: keep", "TIES: combine", "Error"]].isna().all() and table.loc[0, "Average (%)"] == 50
