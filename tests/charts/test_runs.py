import numpy as np
import pytest

from merging.charts.runs import (
    accuracy_so_far_figure,
    coefficient_heatmap,
    coefficient_table,
    entropy_figure,
    smoothed,
    steps_table,
    storage_figure,
    storage_table,
    timing_figure,
    trajectory_figure,
)
from merging.runs.jobs.merge_result import Coefficients, Storage
from merging.weights.geometry import network_order
from tests.hover_texts import all_hover_texts, hover_texts

TENSORS = [
    "ln_post.bias",
    "positional_embedding",
    "transformer.resblocks.0.ln_1.bias",
    "transformer.resblocks.10.ln_1.bias",
    "transformer.resblocks.2.ln_1.bias",
]
COLUMNS = Coefficients(tasks=["a", "b"], tensors=TENSORS, table=[[0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 0, 0, -0.6]])


def test_tensors_stand_in_the_order_of_the_network() -> None:
    assert network_order(TENSORS) == [1, 2, 4, 3, 0]


def test_heatmap_is_centred_on_zero_and_follows_the_network() -> None:
    figure = coefficient_heatmap(COLUMNS, {"a": "Task <A>"})
    heat = figure.data[0]
    assert heat.zmin == -heat.zmax == -0.6
    assert np.asarray(heat.z)[0].tolist() == [0.2, 0.3, 0.5, 0.4, 0.1]
    assert figure.layout.yaxis.ticktext[0] == "Task &lt;A&gt;"
    assert list(figure.layout.xaxis.ticktext) == ["stem", "block 0", "block 2", "block 10", "out"]


def test_heatmap_of_zeros_can_be_drawn() -> None:
    assert coefficient_heatmap(COLUMNS.model_copy(update={"table": np.zeros((2, 5)).tolist()}), {}).data[0].zmax == 1


def test_coefficient_table_has_a_row_per_tensor() -> None:
    table = coefficient_table(COLUMNS, {"a": "A"})
    assert table.columns.tolist() == ["Tensor", "A", "b"]
    assert table["Tensor"].tolist()[0] == "positional_embedding"
    assert table["b"].tolist() == [0, 0, -0.6, 0, 0]


def test_smoothing_is_a_running_mean_of_the_past() -> None:
    values = np.arange(60.0)[:, None]
    assert smoothed(values)[:4, 0].tolist() == [0, 0.5, 1.0, 2.0]
    assert smoothed(values)[-1, 0] == pytest.approx((57 + 58 + 59) / 3)


def test_entropy_shows_every_task_and_the_mean() -> None:
    figure = entropy_figure([[1.0, 3.0], [0.5, 2.5]], ["a", "b"], {"a": "A"})
    assert [trace.name for trace in figure.data] == ["A", "b", "Mean of all tasks"]
    assert list(figure.data[2].y) == pytest.approx([2.0, 1.5])


def test_trajectory_has_a_line_per_task_even_beyond_the_palette() -> None:
    tasks = [f"t{index}" for index in range(20)]
    figure = trajectory_figure([[0.3] * 20, [0.4] * 20], tasks, {})
    looks = {(trace.line.color, trace.line.dash) for trace in figure.data}
    assert len(looks) == 20


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10])
def test_few_steps_are_ticked_at_whole_numbers(steps: int) -> None:
    for figure in (trajectory_figure([[0.3]] * (steps + 1), ["a"], {}), entropy_figure([[0.3]] * steps, ["a"], {})):
        assert (figure.layout.xaxis.tick0, figure.layout.xaxis.dtick) == (0, 1)


def test_many_steps_are_not_all_ticked() -> None:
    assert trajectory_figure([[0.3]] * 501, ["a"], {}).layout.xaxis.dtick is None


def test_steps_table_names_the_tasks() -> None:
    assert steps_table([[1, 2], [3, 4]], ["a", "b"], {"a": "A"}).columns.tolist() == ["Step", "A", "b"]


def test_storage_compares_ways_part_by_part() -> None:
    parts = {"base": 8e6, "vector": 8e6, "masks": 4e6, "masks_compressed": 2e6, "localised": 20e6, "models": 48e6}
    storage = Storage.model_validate(parts)
    table = storage_table(storage, 5)
    sums = table.groupby("Stored as", sort=False)["MB"].sum().to_dict()
    assert sums == {"Vector and masks": 2.5, "Masks compressed": 2.25, "Base and 5 models": 6.0}
    figure = storage_figure(table)
    assert [trace.name for trace in figure.data] == ["Base", "Shared vector", "Masks", "Fine-tuned models"]
    assert list(figure.data[3].x) == [5.0] and list(figure.data[3].y) == ["Base and 5 models"]


def test_timings_stack_phases() -> None:
    figure = timing_figure({"x": {"adapting": 1.0, "merging": 2.0}, "y": {"adapting": 0.5}})
    assert [trace.name for trace in figure.data] == ["Adapting", "Merging"]
    assert list(figure.data[1].x) == [2.0, 0.0]


# --- every number where it belongs -----------------------------------------------------------------------------------

LABELS = {"a": "Task <A>", "b": "B"}
SHOWN = ("Task &lt;A&gt;", "B")


def test_every_coefficient_is_in_the_cell_of_its_task_and_tensor() -> None:
    figure = coefficient_heatmap(COLUMNS, LABELS)
    order = [1, 2, 4, 3, 0]
    assert all_hover_texts(figure) == [
        [
            f"{label}<br>{TENSORS[index]}<br>c = <b>{COLUMNS.table[row][index]:.3f}</b>".replace("= <b>-", "= <b>−")
            for row, label in enumerate(SHOWN)
            for index in order
        ]
    ]
    heat = figure.data[0]
    assert list(heat.y) == list(figure.layout.yaxis.tickvals) == [0, 1]
    assert list(figure.layout.yaxis.ticktext) == list(SHOWN) and figure.layout.yaxis.autorange == "reversed"
    assert list(heat.x) == list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3, 4]
    assert [line.x0 for line in figure.layout.shapes] == [0.5, 1.5, 2.5, 3.5]  # between blocks
    table = coefficient_table(COLUMNS, LABELS).set_index("Tensor")
    assert table["Task <A>"].to_dict() == dict(zip(TENSORS, COLUMNS.table[0], strict=True))
    assert table["B"].to_dict() == dict(zip(TENSORS, COLUMNS.table[1], strict=True))


def test_every_line_of_a_course_has_its_own_task() -> None:
    paths = [[0.3, 0.31], [0.4, 0.2], [0.5, 0.1]]
    assert all_hover_texts(trajectory_figure(paths, ["a", "b"], LABELS, steps=[0, 10, 25])) == [
        [f"step {step}: <b>{value}</b> [{SHOWN[0]}]" for step, value in ((0, "0.300"), (10, "0.400"), (25, "0.500"))],
        [f"step {step}: <b>{value}</b> [{SHOWN[1]}]" for step, value in ((0, "0.310"), (10, "0.200"), (25, "0.100"))],
    ]
    assert list(trajectory_figure(paths, ["a", "b"], LABELS).data[1].x) == [0, 1, 2]
    entropy = entropy_figure([[1.0, 3.0], [0.5, 2.0]], ["a", "b"], LABELS)
    assert all_hover_texts(entropy) == [
        [f"step 0: <b>1.000</b> [{SHOWN[0]}]", f"step 1: <b>0.500</b> [{SHOWN[0]}]"],
        [f"step 0: <b>3.000</b> [{SHOWN[1]}]", f"step 1: <b>2.000</b> [{SHOWN[1]}]"],
        ["step 0: <b>2.000</b> [Mean of all tasks]", "step 1: <b>1.250</b> [Mean of all tasks]"],
    ]
    table = steps_table(paths, ["a", "b"], LABELS)
    assert table.to_dict("list") == {"Step": [0, 1, 2], "Task <A>": [0.3, 0.4, 0.5], "B": [0.31, 0.2, 0.1]}


def test_accuracy_so_far_stands_at_its_step_on_the_way_to_the_last() -> None:
    figure = accuracy_so_far_figure([0, 25, 50], [71.0, 74.5, 76.25], 500)
    assert all_hover_texts(figure) == [
        ["step 0: <b>71.0 %</b>", "step 25: <b>74.5 %</b>", "step 50: <b>76.2 %</b>"],
    ]
    assert list(figure.data[0].y) == [71.0, 74.5, 76.25] and figure.layout.xaxis.range == (0, 500)


def test_every_second_is_in_the_bar_of_its_run_and_phase() -> None:
    figure = timing_figure({"<x>": {"adapting": 1.25, "merging": 2.0}, "y": {"evaluating": 0.5, "merging": 0.75}})
    assert {trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in figure.data} == {
        "Adapting": {"&lt;x&gt;": 1.25, "y": 0},
        "Merging": {"&lt;x&gt;": 2, "y": 0.75},
        "Evaluating": {"&lt;x&gt;": 0, "y": 0.5},
    }
    assert hover_texts(figure.data[1]) == ["Merging: <b>2.00 s</b>", "Merging: <b>0.75 s</b>"]
    assert figure.layout.barmode == "stack" and len({trace.marker.color for trace in figure.data}) == 3


def test_every_part_of_what_is_stored_is_in_the_bar_of_its_way() -> None:
    parts = {"base": 8e6, "vector": 16e6, "masks": 4e6, "masks_compressed": 2e6, "localised": 28e6, "models": 48e6}
    storage = Storage.model_validate(parts)
    table = storage_table(storage, 5)
    ways = {
        "Vector and masks": {"Base": 1, "Shared vector": 2, "Masks": 0.5},
        "Masks compressed": {"Base": 1, "Shared vector": 2, "Masks": 0.25},
        "Base and 5 models": {"Base": 1, "Fine-tuned models": 5},
    }
    assert {way: dict(zip(rows["Part"], rows["MB"], strict=True)) for way, rows in table.groupby("Stored as")} == ways
    figure = storage_figure(table)
    for trace in figure.data:
        expected = {way: parts[trace.name] for way, parts in ways.items() if trace.name in parts}
        assert dict(zip(trace.y, trace.x, strict=True)) == expected
    assert hover_texts(figure.data[2]) == ["Masks: <b>0.50 MB</b>", "Masks: <b>0.25 MB</b>"]
