"""Whoever comes while the server still loads sees results that came with the project; once it has, nothing of it."""

import pytest
from streamlit.testing.v1 import AppTest


def at_first(state: str) -> None:
    import streamlit as st

    from ui.shell import first_look

    if state == "loading":
        first_look.shown_until(lambda: False, st.stop)
    else:
        first_look.shown_until(lambda: state == "loaded", lambda: None)
    st.title("Start")


@pytest.mark.parametrize(
    ("state", "asked", "environment", "looks", "titles"),
    [
        ("loading", {}, {}, 1, 0),
        ("loading", {"suite": "mini"}, {}, 1, 0),
        ("loading", {"suite": "another"}, {}, 0, 0),
        ("loading", {}, {"MERGING_SHIPPED": "0"}, 0, 0),
        ("loaded meanwhile", {}, {}, 0, 1),
        ("loaded", {}, {}, 0, 1),
    ],
)
def test_it_is_there_while_the_server_loads(
    state: str,
    asked: dict[str, str],
    environment: dict[str, str],
    looks: int,
    titles: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    page = AppTest.from_function(at_first, args=(state,))
    for name, value in asked.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    assert len(page.title) == titles
    shown = [one.proto.body for one in page.get("html")]
    assert len(shown) == looks and all("Task Arithmetic" in one for one in shown)
