"""The charts of task vectors show the numbers that they were given, in the same order and on the same scale."""

import re
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest

from merging.charts import geometry as charts
from merging.charts import theme
from merging.weights.geometry import Geometry
from tests.hover_texts import all_hover_texts, hover_texts


@pytest.fixture
def vectors() -> np.ndarray:
    """Five task vectors that share a direction, ``[T, D]``."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(5, 400)) + 0.4 * rng.normal(size=400)


def test_heat_maps_share_scale_and_order() -> None:
    before, after = np.eye(3), np.full((3, 3), -0.5)
    figure = charts.cosine_figure(before, after, ["a", "b", "c"])
    assert [trace.coloraxis for trace in figure.data] == ["coloraxis"] * 3
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)
    assert figure.layout.yaxis.autorange == "reversed"
    for axis in (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.xaxis3, figure.layout.yaxis):
        assert list(axis.ticktext) == ["a", "b", "c"]
    np.testing.assert_allclose(figure.data[0].z, before)
    np.testing.assert_allclose(figure.data[1].z, after)
    np.testing.assert_allclose(figure.data[2].z, after - before)


def test_the_table_of_pairs_holds_what_is_gained_on_the_way_from_before_to_after() -> None:
    before, after = np.arange(9.0).reshape(3, 3), np.full((3, 3), 10.0)
    table = charts.pair_table(before, after, ["a", "b", "c"])
    assert table.to_dict("split")["data"] == [
        ["a", "b", 1, 10, 9],
        ["a", "c", 2, 10, 8],
        ["b", "c", 5, 10, 5],
    ]


def test_panels_do_not_overlap() -> None:
    layout = charts.cosine_figure(np.eye(2), np.eye(2), ["a", "b"]).layout
    domains = [layout.xaxis.domain, layout.xaxis2.domain, layout.xaxis3.domain]
    edges = [edge for domain in domains for edge in domain]
    assert edges == sorted(edges)
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(1)


def test_below_each_other_every_map_has_the_whole_width_and_its_names() -> None:
    names = [f"task {number}" for number in range(20)]
    wide, narrow = (charts.cosine_figure(np.eye(20), np.eye(20) / 2, names, stacked=one) for one in (False, True))
    assert [trace.z.tolist() for trace in narrow.data] == [trace.z.tolist() for trace in wide.data]
    assert [(trace.xaxis, trace.yaxis) for trace in narrow.data] == [("x", "y"), ("x2", "y2"), ("x3", "y3")]
    downs = [narrow.layout[f"yaxis{suffix}"] for suffix in ("", "2", "3")]
    for across, down in zip((narrow.layout[f"xaxis{suffix}"] for suffix in ("", "2", "3")), downs, strict=True):
        assert list(across.domain) == [0, 1] and list(across.ticktext) == list(down.ticktext) == names
    assert all(upper.domain[0] > lower.domain[1] for upper, lower in pairwise(downs))
    assert [title.y for title in narrow.layout.annotations] == [down.domain[1] for down in downs]


@pytest.mark.parametrize(("tasks", "numbered"), [(12, True), (13, False)])
def test_cells_carry_numbers_while_they_fit(tasks: int, numbered: bool) -> None:
    figure = charts.cosine_figure(np.eye(tasks), np.eye(tasks), [f"t{i}" for i in range(tasks)])
    assert (figure.data[0].text is not None) is numbered


def test_numbers_in_cells_are_short() -> None:
    matrix = np.array([[1.0, -0.068], [0.1234, -0.004]])
    drawn = charts.cosine_figure(matrix, matrix, ["a", "b"]).data[0].text
    assert [[re.sub("<.*?>", "", text) for text in row] for row in drawn] == [
        ["1", "−.07"],
        [".12", "0"],
    ]


def test_names_from_outside_are_not_markup() -> None:
    figure = charts.cosine_figure(np.eye(2), np.eye(2), ["<b>x</b>", "y"])
    assert "<b>" not in str(figure.layout.xaxis.ticktext) + str(figure.data[0].customdata)


def test_zoom_is_symmetric_and_covers_all_three_maps() -> None:
    before = np.array([[1, 0.21], [0.21, 1]])
    after = np.array([[1, -0.14], [-0.14, 1]])
    assert charts.cosine_limit(before, after, zoom=False) == 1
    assert charts.cosine_limit(before, after, zoom=True) == pytest.approx(0.35)
    assert charts.cosine_limit(np.eye(2), np.eye(2), zoom=True) == pytest.approx(0.05)


@pytest.mark.parametrize("size", [0.0, 0.3])
def test_map_is_the_projection_of_the_vectors_themselves(vectors: np.ndarray, size: float) -> None:
    # δ has a part outside the span of the task vectors, as element-wise Adam gives.
    redundant = 0.2 * vectors.mean(axis=0) + size * np.random.default_rng(1).normal(size=vectors.shape[1])
    edited = vectors - redundant
    plane = charts.planar_map(vectors @ vectors.T, edited @ edited.T, float(np.linalg.norm(redundant)))
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    axes = axes[:2] * np.sign(((vectors @ axes[:2].T) * plane.before).sum(axis=0))[:, None]  # either sign is right
    np.testing.assert_allclose(plane.before, vectors @ axes.T, atol=1e-8)
    np.testing.assert_allclose(plane.after, edited @ axes.T, atol=1e-8)
    np.testing.assert_allclose(plane.redundant, axes @ redundant, atol=1e-8)
    assert plane.shown == pytest.approx(((vectors @ axes.T) ** 2).sum() / (vectors**2).sum())


def test_map_of_one_task_and_of_none_that_moved() -> None:
    plane = charts.planar_map(np.array([[4.0]]), np.array([[4.0]]), 0.0)
    np.testing.assert_allclose(plane.before, [[2, 0]])
    np.testing.assert_allclose(plane.after, plane.before)
    assert np.isfinite(charts.planar_map(np.zeros((3, 3)), np.zeros((3, 3)), 0.0).before).all()


def geometry_of(names: tuple[str, ...], vectors: np.ndarray) -> Geometry:
    """The same Gram matrix in every tensor."""
    grams = np.stack([vectors @ vectors.T] * len(names))
    return Geometry(tuple(f"t{i}" for i in range(len(vectors))), names, dict.fromkeys(names, (1,)), grams)


def test_tensors_run_from_input_to_output(vectors: np.ndarray) -> None:
    names = ("conv1.weight", "proj", "transformer.resblocks.10.ln_1.bias", "transformer.resblocks.2.ln_1.bias")
    geometry = geometry_of(names, vectors)
    order = [geometry.names[index] for index in charts.tower_order(geometry)]
    assert order == [names[0], names[3], names[2], names[1]]
    assert charts.block_ticks(order) == ([0, 1, 2, 3], ["stem", "block 2", "block 10", "out"])


def test_block_labels_are_their_own_ticks() -> None:
    assert charts.block_ticks(["stem", "block 0", "block 1"]) == ([0, 1, 2], ["stem", "block 0", "block 1"])


def test_layer_chart_marks_the_chosen_layer() -> None:
    labels = ["conv1.weight", "proj"]
    figure = charts.layer_figure(labels, np.array([0.3, 0.2]), np.array([0.1, 0.1]), chosen="proj")
    assert [trace.name for trace in figure.data if trace.name] == ["before", "after"]
    assert figure.layout.shapes[0].x0 == 1
    assert not charts.layer_figure(labels, np.zeros(2), np.zeros(2)).layout.shapes


def test_multiplier_bars_end_at_the_multiplier() -> None:
    multipliers = np.array([0.4, 1.2, -0.1])
    bars = charts.multiplier_figure(multipliers, ["a", "b", "c"]).data[0]
    np.testing.assert_allclose(bars.base + np.array(bars.x), multipliers)


def test_multiplier_table_is_centred_on_one() -> None:
    figure = charts.multiplier_table_figure(np.array([[0.5, 1.1]]), ["proj"], ["a", "b"])
    cells = figure.data[0]
    assert cells.zmin + cells.zmax == pytest.approx(2)
    np.testing.assert_allclose(cells.z, [[0.5], [1.1]])


def test_names_on_the_map_keep_clear_of_each_other() -> None:
    points = np.array([[0.0, 0.0], [0.05, 0.02], [-0.05, 0.01], [0.02, -0.04], [2.0, 1.0]])
    plane = charts.PlanarMap(points, points, np.array([0.01, 0.0]), 0.5)
    names = ["alpha", "beta", "gamma", "delta", "far"]
    places, texts = charts._label_places(plane, names)
    assert len(set(places[:4])) == 4 and texts == names


def test_of_many_points_those_without_room_are_named_on_hovering_alone() -> None:
    points = np.array([[0.01 * place, 0.0] for place in range(19)] + [[2.0, 1.0]])
    names = [f"task number {place}" for place in range(20)]
    figure = charts.map_figure(charts.PlanarMap(points, points, np.zeros(2), 0.5), names)
    after = next(trace for trace in figure.data if trace.name == "after")
    assert after.text[19] == names[19] and 1 < sum(map(bool, after.text)) < 12
    assert [text.split("<br>")[0] for text in hover_texts(after)] == names


def test_names_on_a_wide_map_keep_clear_of_each_other() -> None:
    """Both axes have one scale, which the wider one sets."""
    points = np.array([[place, 0.05 * (place % 2)] for place in range(20)])
    names = [f"task number {place}" for place in range(20)]
    _, texts = charts._label_places(charts.PlanarMap(points, points, np.zeros(2), 0.5), names)
    assert 1 < sum(map(bool, texts)) < 16  # all of them take more than what there is around a line of 560 pixels


def test_charts_with_a_row_a_task_have_room_for_every_name() -> None:
    few, many = np.ones(8), np.ones(20)
    for draw in (charts.norm_figure, lambda one, other, names: charts.multiplier_figure(one, names)):
        heights = [draw(values, values, [f"t{i}" for i in range(len(values))]).layout.height for values in (few, many)]
        assert heights[0] == 340 and heights[1] >= 17 * 20 + 100


def test_norms_and_objective_are_the_given_numbers(vectors: np.ndarray) -> None:
    before, after = np.linalg.norm(vectors, axis=1), np.ones(5)
    figure = charts.norm_figure(before, after, list("abcde"))
    shown = {trace.name: trace.x for trace in figure.data if trace.name}
    np.testing.assert_allclose(shown["before"], before, atol=1e-5)
    np.testing.assert_allclose(shown["after"], after)
    curve = np.array([0.5, 0.25, 0.2])
    np.testing.assert_allclose(charts.objective_figure(curve, unit="step").data[0].y, curve)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10])
def test_few_steps_of_the_objective_are_ticked_at_whole_numbers(steps: int) -> None:
    axis = charts.objective_figure(np.linspace(0.5, 0.2, steps + 1), unit="stage").layout.xaxis
    assert (axis.tick0, axis.dtick) == (0, 1)
    assert charts.objective_figure(np.zeros(301), unit="step").layout.xaxis.dtick is None


def test_map_shows_everything_that_is_on_it(vectors: np.ndarray) -> None:
    gram = vectors @ vectors.T
    figure = charts.map_figure(charts.planar_map(gram, gram, 0.0), list("abcde"))
    assert {trace.name for trace in figure.data if trace.name} == {"before", "after", "δ", "base"}


def test_the_redundant_vector_can_be_seen_where_the_base_is() -> None:
    *_, base, delta = charts.map_figure(charts.planar_map(np.eye(3), np.eye(3), 0.0), list("abc")).data
    assert (base.name, delta.name) == ("base", "δ")  # drawn in this order
    assert (base.x[0], base.y[0]) == (delta.x[0], delta.y[0])
    assert base.marker.symbol.endswith("-open") and base.marker.size > 1.5 * delta.marker.size


# --- every number where it belongs -----------------------------------------------------------------------------------

NAMES = ["Aa", "<b>", "Cc"]
SHOWN = ["Aa", "&lt;b&gt;", "Cc"]
LABELS = ["conv1.weight", "transformer.resblocks.0.ln_1.bias", "proj"]


def axis_of(layout: go.Layout, axis: str) -> go.layout.XAxis:
    """``x2`` → the layout of that axis."""
    return layout[f"{axis[0]}axis{axis[1:]}"]


def test_every_cell_of_the_three_maps_is_that_of_its_row_and_column() -> None:
    # No cosines: a table that is not symmetric shows which index is which.
    before = np.array([[0.99, 0.11, 0.12], [0.21, 0.98, 0.23], [0.31, 0.32, 0.97]])
    after = before - np.array([[0.01, 0.02, 0.03], [0.04, 0.05, 0.06], [0.07, 0.08, 0.09]])
    figure = charts.cosine_figure(before, after, NAMES)
    pairs = [f"{row} · {column}" for row in SHOWN for column in SHOWN]
    for trace, matrix in zip(figure.data, (before, after, after - before), strict=True):
        expected = [f"{pair}<br>{value:.4f}".replace("-", "−") for pair, value in zip(pairs, matrix.flat, strict=True)]
        assert hover_texts(trace) == expected
        assert list(trace.x) == list(trace.y) == [0, 1, 2]
        texts = [re.sub("<.*?>", "", text) for row in trace.text for text in row]
        assert texts == [f"{value:.2f}".replace("0.", ".", 1).replace("-", "−") for value in matrix.flat]
    titles = ["Before", "After", "Difference, after − before"]
    assert [note.text for note in figure.layout.annotations] == titles
    for trace, note in zip(figure.data, figure.layout.annotations, strict=True):  # the title is over its own map
        start, end = axis_of(figure.layout, trace.xaxis).domain
        assert start < note.x < end
    assert list(figure.layout.yaxis.ticktext) == SHOWN


@pytest.mark.parametrize("number", [0, 1])
def test_zoom_is_decided_by_the_largest_of_any_map(number: int) -> None:
    maps = [np.eye(3), np.eye(3)]
    maps[number] = np.array([[1, 0.42, 0], [0.42, 1, 0], [0, 0, 1]])
    assert charts.cosine_limit(*maps, zoom=True) == pytest.approx(0.45)


def test_every_layer_has_its_own_mean_before_and_after() -> None:
    before, after = np.array([0.31, 0.22, 0.13]), np.array([0.11, 0.02, 0.05])
    figure = charts.layer_figure(LABELS, before, after, chosen=LABELS[1])
    assert all_hover_texts(figure) == [
        [
            f"{name}<br>mean |cos| {value} [before]"
            for name, value in zip(LABELS, ("0.3100", "0.2200", "0.1300"), strict=True)
        ],
        [
            f"{name}<br>mean |cos| {value} [after]"
            for name, value in zip(LABELS, ("0.1100", "0.0200", "0.0500"), strict=True)
        ],
    ]
    links, *marks = figure.data
    assert [(mark.name, mark.marker.color) for mark in marks] == [
        ("before", theme.BEFORE.color),
        ("after", theme.AFTER.color),
    ]
    np.testing.assert_allclose(np.array(links.x, dtype=float), [0, 0, np.nan, 1, 1, np.nan, 2, 2, np.nan])
    np.testing.assert_allclose(np.array(links.y, float), [0.31, 0.11, np.nan, 0.22, 0.02, np.nan, 0.13, 0.05, np.nan])
    assert list(figure.layout.xaxis.ticktext) == ["stem", "block 0", "out"]
    assert list(figure.layout.xaxis.tickvals) == list(marks[0].x)
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 1


def test_every_norm_has_its_own_task() -> None:
    figure = charts.norm_figure(np.array([3.0, 1.5, 2.0]), np.array([2.5, 0.5, 1.75]), NAMES)
    assert all_hover_texts(figure) == [
        [f"{name}<br>norm {value} [before]" for name, value in zip(SHOWN, ("3.0000", "1.5000", "2.0000"), strict=True)],
        [f"{name}<br>norm {value} [after]" for name, value in zip(SHOWN, ("2.5000", "0.5000", "1.7500"), strict=True)],
    ]
    links, before, after = figure.data
    assert (list(before.x), list(after.x)) == ([3, 1.5, 2], [2.5, 0.5, 1.75])
    assert list(before.y) == list(after.y) == list(figure.layout.yaxis.tickvals) == [0, 1, 2]
    assert list(figure.layout.yaxis.ticktext) == SHOWN and figure.layout.yaxis.autorange == "reversed"
    np.testing.assert_allclose(np.array(links.x, float), [3, 2.5, np.nan, 1.5, 0.5, np.nan, 2, 1.75, np.nan])
    np.testing.assert_allclose(np.array(links.y, float), [0, 0, np.nan, 1, 1, np.nan, 2, 2, np.nan])
    assert (before.marker.color, after.marker.color) == (theme.BEFORE.color, theme.AFTER.color)


def test_every_multiplier_has_its_own_task_and_layer() -> None:
    bars = charts.multiplier_figure(np.array([0.4, 1.2, -0.1]), NAMES)
    assert all_hover_texts(bars) == [
        [f"{name}<br>× {value}" for name, value in zip(SHOWN, ("0.4000", "1.2000", "−0.1000"), strict=True)]
    ]
    assert list(bars.data[0].text) == ["0.400", "1.200", "−0.100"] and list(bars.data[0].y) == [0, 1, 2]
    assert list(bars.layout.yaxis.ticktext) == SHOWN
    table = np.array([[0.5, 0.6, 0.7], [0.8, 0.9, 1.0], [1.1, 1.2, 1.3]])  # [L, T]
    cells = charts.multiplier_table_figure(table, LABELS, NAMES)
    assert all_hover_texts(cells) == [
        [f"{task}<br>{label}<br>× {table[i, j]:.4f}" for j, task in enumerate(SHOWN) for i, label in enumerate(LABELS)]
    ]
    assert list(cells.layout.yaxis.ticktext) == SHOWN
    assert list(cells.layout.xaxis.ticktext) == ["stem", "block 0", "out"]
    assert list(cells.data[0].x) == list(cells.data[0].y) == [0, 1, 2]


def test_the_objective_is_that_of_its_step() -> None:
    figure = charts.objective_figure(np.array([0.5, 0.25, 0.2]), unit="stage")
    assert all_hover_texts(figure) == [["stage 0<br>L = 0.50000", "stage 1<br>L = 0.25000", "stage 2<br>L = 0.20000"]]
    assert figure.layout.xaxis.title.text == "stage"


def test_every_point_of_the_map_is_the_one_that_it_is_called() -> None:
    before = np.array([[1.0, 2.0], [3.0, 5.0], [-2.0, 0.5]])
    after, delta = before - np.array([0.25, 0.75]), np.array([0.25, 0.75])
    figure = charts.map_figure(charts.PlanarMap(before, after, delta, 0.5), NAMES)
    first, second, *marks = figure.data
    assert [hover_texts(mark) for mark in marks] == [
        [
            f"{name}<br>({x}, {y}) [before]"
            for name, (x, y) in zip(SHOWN, (("1.000", "2.000"), ("3.000", "5.000"), ("−2.000", "0.500")), strict=True)
        ],
        [
            f"{name}<br>({x}, {y}) [after]"
            for name, (x, y) in zip(SHOWN, (("0.750", "1.250"), ("2.750", "4.250"), ("−2.250", "−0.250")), strict=True)
        ],
        ["base model<br>(0.000, 0.000) [base]"],
        ["δ<br>(0.250, 0.750) [δ]"],
    ]
    assert [mark.marker.color for mark in marks] == [
        style.color for style in (theme.BEFORE, theme.AFTER, theme.BASE, theme.REDUNDANT)
    ]
    for number, point in enumerate(before):  # from each point before to the same task's after
        assert (first.x[3 * number], first.y[3 * number]) == tuple(point)
        assert (first.x[3 * number + 1], first.y[3 * number + 1]) == tuple(after[number])
    assert (list(second.x)[:2], list(second.y)[:2]) == ([0, 0.25], [0, 0.75])
    assert figure.layout.xaxis.title.text == "first principal axis"
    assert figure.layout.yaxis.title.text == "second principal axis"
