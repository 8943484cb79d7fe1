"""Results that came with a suite: said under every chart that is drawn from them, and a way to measure them here."""

from collections.abc import Sequence

import streamlit as st

from merging.runs import Run
from ui.runs.queueing import queue
from ui.runs.text import TIMES_ELSEWHERE, about, measured_before
from ui.shell import state

_DECLINED = "shipped-declined"  # session state
_LONG = 55  # seconds, from which on it is said beforehand


def declined() -> bool:
    """Whether somebody wants accuracies of single positions to be measured here, as long as the tab is open."""
    return bool(st.session_state.get(_DECLINED))


def say(runs: Sequence[Run | None], key: str, guess: float = 0.0) -> None:
    """Below a chart or a table: that it is drawn from results that came with the suite, and a button to be rid of that.

    Args:
        runs: what it is drawn from; those of nobody count as nothing.
        key: unique on the page.
        guess: how long all of it may take, in seconds, where the runs do not say how long they took.
    """
    there = [run for run in runs if run is not None]
    before = [run for run in there if run.shipped]
    if not before:
        return
    seconds = sum(run.finished - run.started for run in before if run.finished and run.started)
    again = seconds or guess
    takes = f" Again takes {about(again)}, depending on the machine." if again >= _LONG else ""
    there_it_took = f"; there it took {about(seconds)}{TIMES_ELSEWHERE}" if seconds else ""
    if _line(measured_before(there) + takes, "Run again", f"Here, on this machine{there_it_took}", key):
        queue([run.job.model_copy(update={"device": str(state.device())}) for run in before])


def say_measured_before(run: Run | None, key: str) -> None:
    """The same for accuracies of positions, which a page measures itself."""
    if run is not None and _line(measured_before([run]), "Measure again", "Here, while you watch", key):
        st.session_state[_DECLINED] = True
        st.rerun()


def _line(text: str, button: str, reason: str, key: str) -> bool:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{key}-shipped"):
        st.caption(f":material/inventory_2: {text}", width="content")
        return st.button(button, icon=":material/replay:", type="tertiary", key=f"{key}-shipped-again", help=reason)
