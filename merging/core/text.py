"""Values and lists of names as sentences and labels show them."""

from collections.abc import Iterable
from typing import Any


def in_a_row(names: Iterable[str]) -> str:
    """Names as a sentence lists them.

    >>> in_a_row(["TIES"]), in_a_row(["TIES", "DARE"]), in_a_row(["TIES", "DARE", "TATR"])
    ('TIES', 'TIES and DARE', 'TIES, DARE and TATR')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def short(value: Any) -> str:
    """A parameter's value in a few characters.

    >>> short(0.30000000001), short([0.3, -1.0]), short("row")
    ('0.3', '[0.3, -1]', 'row')
    """
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(short(item) for item in value) + "]"
    return str(value)
