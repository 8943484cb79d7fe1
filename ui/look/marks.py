"""Choices that a page marks by itself: the preset that other widgets amount to, the mean of sliders.

Who moves one of those widgets quickly has a browser that has not heard yet that the mark has changed, and sends the old
one along with the next move. To Streamlit that is a choice like any other; it counts only where nothing else was moved.
"""

from collections.abc import Iterable
from typing import Any

import streamlit as st


def remember(mark: str, others: Iterable[str]) -> None:
    """Keep where the widgets stand that a mark speaks of, once they are drawn.

    Args:
        mark: key of the choice.
        others: keys of those widgets.
    """
    st.session_state[_place(mark)] = {key: st.session_state[key] for key in others if key in st.session_state}


def is_chosen(mark: str) -> bool:
    """Callback: whether a mark was chosen, as all widgets that it speaks of stand where they were drawn."""
    return standing(mark) == [*_drawn(mark).values()]


def standing(mark: str) -> list[Any]:
    """What the widgets that a mark speaks of say now; of one that is gone, what it said last."""
    return [st.session_state.get(key, value) for key, value in _drawn(mark).items()]


def _drawn(mark: str) -> dict[str, Any]:
    found: dict[str, Any] = st.session_state.get(_place(mark), {})
    return found


def _place(mark: str) -> str:
    return f"_stood-{mark}"
