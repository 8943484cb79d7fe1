import numpy as np
import pytest

from merging.charts.runs import (
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
from merging.weights.geometry import network_order

TENSORS = [
    "ln_post.bias", "positional_embedding", "transformer.resblocks.0.ln_1.bias",
    "transformer.resblocks.10.ln_1.bias", "transformer.resblocks.2.ln_1.bias",
]  # fmt: skip
COLUMNS = {"tasks": ["a", "b"], "tensors": TENSORS, "table": [[0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 0, 0, -0.6]]}


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
    assert coefficient_heatmap({**COLUMNS, "table": np.zeros((2, 5)).tolist()}, {}).data[0].zmax == 1


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
    storage = {"base": 8e6, "vector": 8e6, "masks": 4e6, "masks_compressed": 2e6, "localised": 20e6, "models": 48e6}
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
