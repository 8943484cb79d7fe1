"""The table of ``make gpu``."""

import pytest

from benchmarks.gpu.__main__ import named
from benchmarks.gpu.table import METHODS
from merging.methods import registry
from merging.methods.pair import Pair


def test_every_method_that_needs_no_images_is_in_the_table() -> None:
    pairs = [Pair.read(method.settings) for method in METHODS]
    assert {pair.edit.name for pair in pairs} == {n for n, s in registry.edits().items() if s.needs == "none"}
    assert {pair.merge.name for pair in pairs} == {n for n, s in registry.merges().items() if s.needs == "none"}


@pytest.mark.parametrize(
    ("parts", "titles"),
    [
        ("", [method.title for method in METHODS]),
        ("tsv-m, doge", ["TSV-M", "DOGE, 400 steps"]),
        ("wudi,", [method.title for method in METHODS if "WUDI" in method.title]),
        ("nobody's", []),
    ],
)
def test_methods_are_chosen_by_parts_of_their_titles(parts: str, titles: list[str]) -> None:
    assert [method.title for method in named(parts, METHODS)] == titles
