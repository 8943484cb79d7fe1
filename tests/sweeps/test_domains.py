"""What is typed for a parameter of a sweep."""

from typing import Any

import pytest

from merging.core.errors import SpecError
from merging.sweeps.domains import read_domain


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("0.01 to 1 log", {"low": 0.01, "high": 1.0, "log": True}),
        ("1e-3 to 1 log", {"low": 0.001, "high": 1.0, "log": True}),
        (" 0.1 to 1 ", {"low": 0.1, "high": 1.0}),
        ("-1 to 1 by .5", {"low": -1.0, "high": 1.0, "step": 0.5}),
        ("sum, mean", ["sum", "mean"]),
        ("true,false", [True, False]),
        ("-1, 2", [-1, 2]),
        ("[0.3,-1], [1,1], auto", [[0.3, -1], [1, 1], "auto"]),
    ],
)
def test_values_and_ranges_are_read(text: str, domain: Any) -> None:
    assert read_domain(text) == domain


def test_a_bracket_that_is_not_closed_is_refused() -> None:
    with pytest.raises(SpecError, match="a bracket is not closed"):
        read_domain("[0.3, -1")
