"""How far the grid of λ goes."""

import itertools
import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import SpecError
from merging.methods.context import Context
from merging.methods.params import GRID, WIDE_GRID
from merging.methods.scaling import FARTHEST, PATIENCE, ScalingSearch, computed, first_best, scaled, search_grid
from merging.weights.vectors import TaskVectors


def searched(
    accuracy: Callable[[float], float], grid: tuple[float, ...] = GRID
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return search_grid(grid, accuracy, first_best, Context())


@pytest.mark.parametrize("grid", [GRID, WIDE_GRID])
@pytest.mark.parametrize("peak", [0.0, 0.5, 0.9])
def test_a_grid_with_its_best_inside_is_left_as_it_is(grid: tuple[float, ...], peak: float) -> None:
    assert searched(lambda scaling: -((scaling - peak) ** 2), grid)[0] == grid


def test_a_flat_curve_does_not_go_on() -> None:
    assert searched(lambda scaling: 0.5)[0] == GRID


@pytest.mark.parametrize(("grid", "peak"), [(GRID, 1.0), (GRID, 1.3), (WIDE_GRID, 2.4)])
def test_a_grid_with_its_best_at_the_end_goes_on_in_its_step(grid: tuple[float, ...], peak: float) -> None:
    tried, found = searched(lambda scaling: -((scaling - peak) ** 2), grid)
    assert tried[first_best(found)] == peak
    step = round(grid[1] - grid[0], 6)
    assert tried[-1] == pytest.approx(peak + PATIENCE * step)
    assert {round(b - a, 6) for a, b in itertools.pairwise(tried)} == {step}


def test_equal_accuracies_are_a_tie_however_they_were_added_up() -> None:
    """0.1 and 0.7 have the mean of 0.4 and 0.4, which rounds to a little more: no reason for a larger λ."""
    means = ((0.1 + 0.7) / 2, (0.4 + 0.4) / 2)
    assert means[0] < means[1]
    search = ScalingSearch((0.5, 1.0), means, "val", 20)
    assert search.chosen == 0.5 and search.report()["scaling_search"]["at_edge"] is False  # type: ignore[index]


def test_a_dip_on_the_way_up_is_passed() -> None:
    tried, found = searched(lambda scaling: scaling - 0.2 * (1.05 <= scaling <= 1.1) if scaling <= 1.3 else 0.0)
    assert tried[first_best(found)] == 1.3


def test_an_endless_rise_ends_and_is_told() -> None:
    for grid in (GRID, WIDE_GRID):
        tried, found = searched(lambda scaling: scaling, grid)
        assert tried[-1] == FARTHEST
        search = ScalingSearch(tried, found, "val", 1)
        assert search.chosen == FARTHEST and search.report()["scaling_search"]["at_edge"] is True  # type: ignore[index]
    assert ScalingSearch((0.0, 0.1), (0.5, 0.5), "val", 1).report()["scaling_search"]["at_edge"] is False  # type: ignore[index]


@given(st.lists(st.integers(0, 30), min_size=61, max_size=61))
def test_every_value_up_to_the_last_is_tried_once_and_the_best_of_them_taken(values: list[int]) -> None:
    curve = {round(0.05 * step, 2): value / 30 for step, value in enumerate(values)}
    tried, found = searched(curve.__getitem__)
    assert tried == tuple(curve)[: len(tried)] and found == tuple(curve[scaling] for scaling in tried)
    best = first_best(found)
    assert found[best] == max(found) and max(found[:best], default=-1) < found[best]
    assert len(tried) == 21 or best >= 20
    assert best < len(tried) - 1 or tried[-1] == FARTHEST


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_a_direction_of_another_shape_is_refused_and_not_spread_over_a_tensor(
    vectors: TaskVectors, shape: tuple[int, ...]
) -> None:
    name = vectors.names[0]
    base, stack = vectors.stack(name)

    def odd(*_: object) -> torch.Tensor:
        return torch.zeros(shape)

    told = re.escape(f"of tensor {name!r} the direction has shape {list(shape)}; expected {list(base.shape)}, a number")
    with pytest.raises(SpecError, match=told):
        scaled(vectors, 0.5, odd, Context())(name, base, stack)
    with pytest.raises(SpecError, match=told):  # where λ is searched for
        computed(vectors, odd, Context())
