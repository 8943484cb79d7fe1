"""Tensors side by side: torch is confined in the threads that work, and in no others."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch

from merging.core import devices
from merging.core.streaming import ordered, threads
from tests.waiting import until

Result = TypeVar("Result")


pytestmark = pytest.mark.usefixtures("three_threads")


def in_new_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_each_piece_of_work_has_one_thread_and_the_order_stays() -> None:
    found = list(ordered(lambda item: (item, torch.get_num_threads()), range(20), "cpu"))
    assert found == [(item, 1) for item in range(20)]


def test_other_threads_are_not_confined_while_work_goes_on_nor_after() -> None:
    results = ordered(lambda item: item, range(100), "cpu")
    assert next(results) == 0
    until(lambda: in_new_thread(torch.get_num_threads) == 3)  # others may be confining themselves at this moment
    assert in_new_thread(threads) == 3
    assert devices.describe(torch.device("cpu")).title == "CPU, 3 threads"
    assert list(results) == list(range(1, 100))
    assert torch.get_num_threads() == threads() == in_new_thread(torch.get_num_threads) == 3


def test_a_thread_that_began_confined_is_told_the_number_of_the_process() -> None:
    def begun_confined() -> int:
        torch.set_num_threads(1)
        assert torch.get_num_threads() == 1
        in_new_thread(lambda: torch.set_num_threads(3))
        return threads()

    assert in_new_thread(begun_confined) == 3


def test_a_piece_that_takes_long_does_not_keep_threads_from_those_after_it() -> None:
    later = threading.Event()

    def work(item: int) -> bool:
        return later.wait(60) if item == 0 else item != 10 or later.set() is None

    assert list(ordered(work, range(20), "cpu")) == [True] * 20


def test_work_within_work_stays_in_its_thread() -> None:
    def nested(item: int) -> set[int]:
        return set(ordered(lambda _: threading.get_ident(), range(5), "cpu")) ^ {threading.get_ident()}

    assert list(ordered(nested, range(6), "cpu")) == [set()] * 6
