"""Columns that several tables have in common: a method's marker, its name, and an average with a bar."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from merging.charts.columns import AVERAGE, MARK, METHOD

_LETTER, _NARROW, _WIDE = 6.4, 110, 420  # pixels: a letter, and the bounds of a column of names


def text_width(text: str) -> int:
    """Pixels of a column in which a text is not cut off."""
    return round(_LETTER * len(text)) + 20


def fitting(widths: Mapping[str, int], room: int, least_important: Iterable[str]) -> list[str]:
    """The columns of a table that fit beside each other, in their order.

    Args:
        widths: column → pixels.
        room: pixels for all of them.
        least_important: what to leave out, the first of these first, until the others fit.

    >>> fitting({"a": 60, "b": 50, "c": 40}, 100, ("b", "c"))
    ['a', 'c']
    """
    kept = dict(widths)
    for name in least_important:
        if sum(kept.values()) <= room:
            break
        kept.pop(name, None)
    return list(kept)


def method_columns(names: Sequence[str], pinned: bool = True, widest: int = _WIDE) -> dict[str, Any]:
    """Settings of the three columns, the names never cut off as long as they are of a sensible length.

    Args:
        names: what stands in the column :data:`METHOD`.
        pinned: whether mark and name stay in sight while the table is scrolled sideways.
        widest: pixels of the names' column at most.
    """
    width = text_width(max(names, key=len, default=""))
    return {
        MARK: st.column_config.ImageColumn("Key", width=42, pinned=pinned, help="Colour and marker in all charts"),
        METHOD: st.column_config.TextColumn(width=min(widest, max(_NARROW, width)), pinned=pinned),
        AVERAGE: st.column_config.ProgressColumn(
            "Average",
            min_value=0,
            max_value=100,
            format="%.1f",
            color="#2e93d1",
            width=80,
            help="Accuracy in percent, mean over the tasks",
        ),
    }
