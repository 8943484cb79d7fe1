"""The counted cost of a merge beside what was measured, and what it grows with."""

import re
from functools import cache
from pathlib import Path

import pytest

from benchmarks import cost_model, random_suite
from benchmarks.cost_model import H200, METHODS, TWO_CORES, Models, memory

DOCS = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
TASKS = tuple(f"task{number}" for number in range(8))
shapes_of = cache(random_suite.shapes_of)  # builds a tower


@pytest.fixture(scope="module")
def published() -> dict[str, list[str]]:
    """Rows of the table of counted and measured seconds in docs/performance.md, by method."""
    text = DOCS.read_text(encoding="utf-8").split("## What a merge costs", 1)[1]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.split("\n\n|", 1)[1].split("\n\n")[0].splitlines()]
    return {row[0]: row[1:] for row in rows[2:]}


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.title)
def test_what_docs_say_is_what_is_counted(published: dict[str, list[str]], method: cost_model.Method) -> None:
    """And it agrees with what was measured, to a third."""
    models = Models(shapes_of("ViT-B-32"), TASKS)
    counted = TWO_CORES.seconds(method.count(models)), H200.seconds(method.count(Models(models.shapes, TASKS, True)))
    cells = published[method.title]
    for seconds, said, measured in zip(counted, cells[2::2], cells[3::2], strict=True):
        assert seconds == pytest.approx(float(said), rel=0.06)
        if measured:
            assert 2 / 3 <= seconds / float(measured) <= 3 / 2


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.title)
def test_more_blocks_and_tasks_cost_more(method: cost_model.Method) -> None:
    small = Models(shapes_of("ViT-B-32", layers=2), TASKS)
    cost = method.count(small)
    deeper = Models(shapes_of("ViT-B-32", layers=4), TASKS)
    more = Models(small.shapes, (*TASKS, *(f"other{number}" for number in range(8))))
    for machine in (TWO_CORES, H200):
        assert machine.seconds(cost) < machine.seconds(method.count(deeper))
        assert machine.seconds(cost) < machine.seconds(method.count(more))
    assert memory(small, method.settings) <= memory(more, method.settings)
