"""Differences below the number of an ``st.metric``."""

from typing import Any

from merging.core.text import shown_as, signed


def metric_change(value: float, digits: int = 1, words: str = "", *, less_is_better: bool = False) -> dict[str, Any]:
    """Arguments of ``st.metric`` for a difference: its text, and the arrow and colour that go with it.

    Streamlit itself finds out which way a difference goes only where it begins with a hyphen, not with a minus sign.

    Args:
        value: the difference.
        digits: after the point; a difference that is 0 with so many is none.
        words: what follows the number.
        less_is_better: whether a fall is good.

    >>> metric_change(-0.25, 2)
    {'delta': '−0.25', 'delta_arrow': 'down', 'delta_color': 'red'}
    >>> metric_change(0.04, words=" points", less_is_better=True)
    {'delta': '+0.0 points', 'delta_arrow': 'off', 'delta_color': 'off'}
    """
    shown = shown_as(value, digits)
    text = signed(shown, digits) + words
    if not shown:
        return {"delta": text, "delta_arrow": "off", "delta_color": "off"}
    good = (shown > 0) != less_is_better
    return {"delta": text, "delta_arrow": "up" if shown > 0 else "down", "delta_color": "green" if good else "red"}
