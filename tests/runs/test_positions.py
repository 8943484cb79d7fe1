"""Measuring by hand-set coefficients: who asks for the same at once gets one evaluation, and whose turn it is."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from merging.core.errors import SuiteError
from merging.evaluation.evaluator import Evaluator
from merging.runs.positions import Bench, Need, Position
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.random_models import write_suite
from tests.waiting import PATIENCE, until

TASKS = ("apples", "birds")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    write_suite(tmp_path / "suite", TASKS)
    return load_suite(str(tmp_path / "suite" / "suite.yaml"))


@pytest.fixture
def bench(suite: Suite, tmp_path: Path) -> Bench:
    return Bench(Workspace(tmp_path / "home"), suite, torch.device("cpu"))


def needs(coefficient: float, images: int | None = None) -> list[Need]:
    where = Position("none", tuple((task, coefficient) for task in TASKS), "val")
    return [Need(where, task, images) for task in TASKS]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], threading.Event]:
    """What evaluators measure, and an event without which they do not go on."""
    measured: list[str] = []
    go_on = threading.Event()
    real: Callable[..., dict[str, float]] = Evaluator.shares_right

    def shares_right(evaluator: Evaluator, asked: dict[str, object], *rest: object) -> dict[str, float]:
        measured.extend(asked)
        assert go_on.wait(PATIENCE)
        return real(evaluator, asked, *rest)

    monkeypatch.setattr(Evaluator, "shares_right", shares_right)
    return measured, go_on


def waiting(bench: Bench) -> int:
    return len(bench._line._waiting)


def test_what_several_ask_for_at_once_is_measured_once(bench: Bench, held: tuple[list[str], threading.Event]) -> None:
    measured, go_on = held
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(bench.measure, needs(0.3)) for _ in range(8)]
        until(lambda: waiting(bench) == 7)
        go_on.set()
        assert all(one.result() for one in asked)
    assert measured == list(TASKS)
    assert bench.known.keys() == set(needs(0.3))


def test_they_get_what_one_alone_would(suite: Suite, bench: Bench, tmp_path: Path) -> None:
    several = [needs(coefficient, images) for coefficient in (0.1, 0.9) for images in (5, None)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda some: bench.measure(some), several))
    alone = Bench(Workspace(tmp_path / "alone"), suite, torch.device("cpu"))
    for some in several:
        assert alone.measure(some)
    assert bench.known == alone.known


def test_samples_of_a_position_are_measured_together_and_are_those_of_each_task(bench: Bench) -> None:
    sample = needs(0.7, 7)
    assert bench.measure(sample, 0.0)  # one turn is enough
    for need in sample:
        chosen = bench.evaluator.draw(need.task, "val", 7, seed=0)
        assert bench.evaluator.share_right(need.task, "val", chosen) == bench.known[need]


def test_it_is_crowded_as_long_as_somebody_waits_who_can_not(
    bench: Bench, held: tuple[list[str], threading.Event]
) -> None:
    _, go_on = held
    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(bench.measure, needs(0.1), can_wait=True)
        until(lambda: bench._line._busy)
        assert not bench.is_crowded
        other = pool.submit(bench.measure, needs(0.2))
        until(lambda: waiting(bench) == 1)
        assert bench.is_crowded
        go_on.set()
        assert patient.result() and other.result()
    assert not bench.is_crowded


def test_who_can_wait_lets_all_others_go_first(bench: Bench, held: tuple[list[str], threading.Event]) -> None:
    _, go_on = held
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(bench.measure, needs(0.1))]
        until(lambda: not waiting(bench) and bench._line._busy)
        for number, (coefficient, can_wait) in enumerate(((0.2, True), (0.3, False), (0.4, False)), start=1):
            asked.append(pool.submit(bench.measure, needs(coefficient), can_wait=can_wait))
            until(lambda number=number: waiting(bench) == number)  # type: ignore[misc]
        assert not bench.measure(needs(0.5), can_wait=True, patience=0.0)
        go_on.set()
        assert all(one.result() for one in asked)
    assert list(bench.known) == [*needs(0.1), *needs(0.3), *needs(0.4), *needs(0.2)]


def test_a_turn_measures_something_and_no_more_than_it_may(bench: Bench) -> None:
    assert not bench.measure(needs(0.3), 0.0)
    assert list(bench.known) == needs(0.3)[:1]
    assert bench.measure(needs(0.3), 0.0)


def test_who_fails_holds_up_nobody(bench: Bench) -> None:
    with pytest.raises(SuiteError, match="no task 'cars'"):
        bench.measure([Need(Position("none", (("cars", 1.0),), "val"), "cars", None)])
    assert bench.measure(needs(0.3))
