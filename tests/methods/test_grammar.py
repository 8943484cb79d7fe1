"""One grammar for values of parameters: what is written reads back, and what can't be read is refused."""

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import SpecError
from merging.methods.grammar import read_settings, read_value, read_values, write_value

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
TEXTS = st.text(st.sampled_from('[],"\\ 01.-etrunfals'), max_size=12)
VALUES = SCALARS | TEXTS | st.lists(SCALARS | TEXTS | st.lists(SCALARS, max_size=3), max_size=4)


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    found = read_value(write_value(value))
    assert found == value
    assert repr(found) == repr(value)  # 1, 1.0 and true are three values


@given(st.lists(SCALARS | TEXTS, min_size=1, max_size=3).map(tuple))
def test_tuples_read_back_as_lists(value: tuple[Any, ...]) -> None:
    assert read_value(write_value(value)) == list(value)


@given(st.text() | TEXTS)
def test_any_text_is_read_or_refused_and_its_value_reads_back(text: str) -> None:
    try:
        value = read_value(text)
    except SpecError:
        return
    assert repr(read_value(write_value(value))) == repr(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("-1", -1),
        ("1e-05", 1e-5),
        ("true", True),
        ("auto", "auto"),
        (" layer ", "layer"),
        ("", ""),
        ('"0.1"', "0.1"),
        ('"a,b"', "a,b"),
        ('"a", "b"', ["a", "b"]),
        ('["a,b", c]', ["a,b", "c"]),
        ("0.3,-1", [0.3, -1]),
        ("[0.3,-1]", [0.3, -1]),
        ("[ 0.3 , -1 ]", [0.3, -1]),
        ("[0.3]", [0.3]),
        ("0.3,", [0.3]),
        ("[]", []),
        ("[0.3,-1],[1]", [[0.3, -1], [1]]),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_how_values_are_written_by_hand(text: str, value: Any) -> None:
    assert repr(read_value(text)) == repr(value)


@pytest.mark.parametrize("text", ["[0.3", "0.3]", "[1]2", "1,,2", ",1", "[[[[1]]]]", "]["])
def test_what_does_not_fit_is_refused_with_what_was_seen(text: str) -> None:
    for read in (read_value, read_values):
        with pytest.raises(SpecError, match=r"bracket|comma"):
            read(text)


@pytest.mark.parametrize("text", ["0,3", " 0,3 ", "-0,3", "1,2", "0,3,0,5", "0,3,-0,5"])
def test_what_may_have_decimal_commas_is_asked_about(text: str) -> None:
    for read in (read_value, read_values):
        with pytest.raises(SpecError, match="numbers with decimal commas, or a list"):
            read(text)
    assert read_value(f"[{text}]") == read_value(text.replace(",", ", "))  # brackets or a blank say that it is a list


@pytest.mark.parametrize("text", ["0.3,1", "0,3.5", "0, 3", "1,2,3", "0,-3", "0,", "[0],[3]"])
def test_other_commas_are_those_of_lists(text: str) -> None:
    assert isinstance(read_value(text), list)


def test_values_to_try_are_split_at_commas_outside_of_brackets() -> None:
    assert read_values("0.1, 0.2") == [0.1, 0.2]
    assert read_values("[0.3,-1], [1,1]") == [[0.3, -1], [1, 1]]
    assert read_values("") == []


def test_settings_are_sorted_by_stage() -> None:
    assert read_settings({"edit.alpha": "0.1", "merge.scaling": "[0.3,-1]"}) == {
        "edit": {"alpha": 0.1},
        "merge": {"scaling": [0.3, -1]},
    }
    for wrong in ("alpha", "edit.", "sweep.x", ".x"):
        with pytest.raises(SpecError, match=r"expected edit\.NAME=VALUE or merge\.NAME=VALUE"):
            read_settings({wrong: "1"})
    with pytest.raises(SpecError, match=r"^edit\.alpha: '\[1'"):
        read_settings({"edit.alpha": "[1"})


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_coefficients_need_no_quotes_in_a_shell(values: list[float]) -> None:
    assert shlex.quote(write_value(values)) == write_value(values)
