"""What the first visitor sees while the server still loads: results that came with the project, as plain HTML.

Nothing but Streamlit is loaded by then, so that it is on screen as soon as a browser is connected.
"""

import os
from collections.abc import Callable
from pathlib import Path

import streamlit as st

_FILE = Path(__file__).parents[1] / "look" / "first_look.html"
_SUITE = "mini"  # whose results these are


def shown_until(loaded: Callable[[], bool], wait: Callable[[], None]) -> None:
    """Wait until all is loaded, with something to look at; takes no room once it is.

    Args:
        loaded: whether it is.
        wait: returns once it is.
    """
    spot = st.empty()
    if loaded():
        return
    theirs = st.query_params.get("suite", _SUITE) == _SUITE  # whoever asks for another would take it for that one's
    if theirs and os.environ.get("MERGING_SHIPPED") != "0":
        spot.html(_FILE)
    wait()
    spot.empty()
