"""The charts of task vectors show the numbers that they were given, in the same order and on the same scale."""

import re

import numpy as np
import pytest

from merging.charts import geometry as charts
from merging.weights.geometry import Geometry


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


def test_panels_do_not_overlap() -> None:
    layout = charts.cosine_figure(np.eye(2), np.eye(2), ["a", "b"]).layout
    domains = [layout.xaxis.domain, layout.xaxis2.domain, layout.xaxis3.domain]
    edges = [edge for domain in domains for edge in domain]
    assert edges == sorted(edges)
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(1)


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
    places = charts._label_places(plane, ["alpha", "beta", "gamma", "delta", "far"])
    assert len(set(places[:4])) == 4


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
