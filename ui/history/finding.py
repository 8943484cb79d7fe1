"""Finding runs on the page Runs: what is searched, filtered and sorted by. It stands in the URL: a view is a link."""

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from merging.core.text import counted
from merging.runs.listing import Facts, Sort, View, choices
from ui.look.figure import escape_markdown
from ui.runs.text import STATE_COLORS
from ui.shell.url import choice, number, said_below, switch

PART = 100  # runs that the table shows at once
_SORTS: dict[Sort, str] = {
    "newest": "Newest first",
    "oldest": "Oldest first",
    "best": "Best average first",
    "longest": "Longest first",
    "name": "By name",
}
_DAY = 86_400.0
_TIMES: dict[str, tuple[str, float | None]] = {
    "any": ("Any time", None),
    "day": ("Last day", _DAY),
    "week": ("Last week", 7 * _DAY),
    "month": ("Last 30 days", 30 * _DAY),
    "year": ("Last year", 365 * _DAY),
}
# Field of a view → parameter of the URL and title.
_FILTERS = {
    "suites": ("of", "Suite"),
    "methods": ("method", "Method"),
    "tags": ("tag", "Tags"),
    "states": ("state", "State"),
    "people": ("who", "Asked for by"),
    "machines": ("machine", "Machine"),
}
PARAMETERS = ("search", "sort", "since", "star", "part", *(parameter for parameter, _ in _FILTERS.values()))


def chosen_view(facts: Sequence[Facts]) -> View:
    """What somebody wants to see, by widgets that stand in the URL.

    Args:
        facts: all runs that could be.
    """
    there = choices(facts)
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search",
            key="search",
            bind="query-params",
            placeholder="Name, note, tag, method, suite, person or id",
            width=340,
        )
        sort: Sort = choice(st.selectbox, "Order", _SORTS, key="sort", width=190)
        with st.popover("Filter", icon=":material/filter_list:"):
            values = {field: _several(field, there[field]) for field in _FILTERS}
            since = choice(st.selectbox, "When", {key: words for key, (words, _) in _TIMES.items()}, key="since")
            starred = switch(st.toggle, "With a star", False, key="star")
    seconds = _TIMES[since][1]
    return View(
        search=str(search or "")[:200],
        **values,
        since=None if seconds is None else time.time() - seconds,
        starred=starred,
        sort=sort,
    )


def _several(field: str, there: Sequence[str]) -> Any:
    """The values of a filter that are chosen; no widget where there is nothing to choose between."""
    parameter, title = _FILTERS[field]
    if field == "states":  # a link may ask for one that no run is in, such as failed: then it shows none
        asked = {*st.query_params.get_all(parameter), *st.session_state.get(parameter, ())}
        there = [*there, *(state for state in STATE_COLORS if state in asked and state not in there)]
    if len(there) < 2 and not (there and field == "tags") and parameter not in st.query_params:
        return ()
    chosen = choice(st.multiselect, title, list(there), key=parameter, nothing="Every run", placeholder="Any")
    return tuple(chosen)


def nothing_found(every: int, view: View) -> None:
    """Say that no run is so, and offer to take search and filters away."""
    with st.container(horizontal=True, vertical_alignment="center"):
        asked = _filters_in_words(view)
        st.caption(escape_markdown(f"None of {counted(every, 'run')} is so: {asked}."), width="content")
        st.button("Show every run", icon=":material/filter_list_off:", key="unfilter", on_click=_unfilter)


def _unfilter() -> None:
    """Callback: nothing is searched or filtered by any more."""
    nothing: dict[str, Any] = {"search": "", "since": "any", "star": False}
    for key in ("search", "since", "star", *(parameter for parameter, _ in _FILTERS.values())):
        if key in st.session_state:
            st.session_state[key] = nothing.get(key, [])


def count_in_words(wanted: Sequence[Facts], every: int, view: View) -> str:
    """How many runs are shown, and how many there are; empty if that is all of a few."""
    if len(wanted) == every and every <= PART:
        return ""
    found = f"{len(wanted):,} of {counted(every, 'run')}" if len(wanted) < every else f"{every:,} runs"
    what = _filters_in_words(view)
    return f"{found}{': ' if what else ''}{what}"


def _filters_in_words(view: View) -> str:
    parts = [f"“{view.search.strip()}”"] if view.search.strip() else []
    parts += [" or ".join(getattr(view, field)) for field in _FILTERS if getattr(view, field) and field != "tags"]
    parts += [f"tagged {' and '.join(view.tags)}"] if view.tags else []
    parts += ["since " + time.strftime("%Y-%m-%d %H:%M", time.localtime(view.since))] if view.since else []
    return ", ".join([*parts, *(["with a star"] if view.starred else [])])


def chosen_part(wanted: Sequence[Facts]) -> tuple[list[Facts], str]:
    """The runs that the table shows, and which of all those are in words; empty if it shows all."""
    parts = max(1, -(-len(wanted) // PART))
    held = st.session_state.get("part")
    if held is not None and held > parts:  # fewer are found than before
        st.session_state["part"] = parts
    if parts == 1:
        return list(wanted), ""
    start = (int(number(st.number_input, f"Part of {parts}", 1, parts, key="part", width=150)) - 1) * PART
    shown = list(wanted[start : start + PART])
    return shown, f"{start + 1:,} to {start + len(shown):,} are in the table."
