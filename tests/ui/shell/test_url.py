"""Widgets bound to the URL: what they take from it, and what they say of the rest."""

import pytest
from streamlit.testing.v1 import AppTest

from ui.look.figure import escape_markdown


def page() -> None:
    import streamlit as st

    from ui.shell.url import choice, number, said_below, switch

    fruit = {1: "Apples", 2: "Birds"}
    st.caption(f"one {choice(st.selectbox, 'One', fruit, key='one')}")
    with said_below():
        st.caption(f"many {choice(st.pills, 'Many', fruit, key='many', selection_mode='multi', nothing='No fruit')}")
        st.caption(f"plain {choice(st.segmented_control, 'Plain', ('a', 'b'), key='plain', default='b')}")
        st.caption(f"number {number(st.slider, 'Number', 0.0, 1.0, 0.5, 0.1, key='number')}")
    choice(st.multiselect, "Empty", (), key="empty")
    odd = {"pp": "C++", "star": "*s*"}
    st.caption(f"odd {choice(st.pills, 'Odd', odd, key='odd', selection_mode='multi', also={'plus': 'pp'})}")
    st.caption(f"strange {choice(st.segmented_control, 'Strange', odd, key='strange')}")
    st.caption(f"switch {switch(st.toggle, 'Switch', True, key='switch')}")


def opened(**query: str | list[str]) -> AppTest:
    app = AppTest.from_function(page)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def said(app: AppTest) -> list[str]:
    """Captions and warnings in the order of the page."""
    return [one.value.replace("\\", "") for one in app.main if one.type in ("caption", "warning")]


DEFAULTS = ["one 1", "many []", "plain b", "number 0.5", "odd []", "strange None", "switch True"]


def test_without_a_link_widgets_have_their_defaults() -> None:
    assert said(opened()) == DEFAULTS


def test_what_a_link_asks_for_by_the_texts_of_options_is_taken() -> None:
    app = opened(one="Birds", many=["Birds", "Apples"], plain="a", number="0.2", switch="false")
    assert said(app) == ["one 2", "many [2, 1]", "plain a", "number 0.2", *DEFAULTS[4:6], "switch False"]


@pytest.mark.parametrize("names", [["C++"], ["C\\+\\+"], ["plus"], ["plus", "C++"]])
def test_texts_as_people_read_them_and_other_names_are_taken_too(names: list[str]) -> None:
    app = opened(odd=names, strange="*s*")
    assert said(app) == [*DEFAULTS[:4], "odd ['pp']", "strange star", DEFAULTS[-1]]
    assert said(app.run()) == said(app)


@pytest.mark.parametrize(
    ("name", "value", "allowed", "shown", "place"),
    [
        ("one", "Cars", "none of Apples, Birds", "Apples", 0),
        ("one", "1", "none of Apples, Birds", "Apples", 0),
        ("many", "Cars", "none of Apples, Birds", "No fruit", 4),
        ("plain", "c", "none of a, b", "b", 4),
        ("number", "1.5", "no number from 0 to 1", "0.5", 4),
        ("number", "much", "no number from 0 to 1", "0.5", 4),
        ("empty", "x", "nothing that there is here", "Nothing", 4),
        ("odd", "C", "none of C++, *s*", "Nothing", 4),
        ("strange", "C", "none of C++, *s*", "Nothing", 5),
        ("switch", "maybe", "none of true, false", "true", 6),
    ],
)
def test_what_it_asks_for_in_vain_is_said_below(name: str, value: str, allowed: str, shown: str, place: int) -> None:
    found = said(opened(**{name: value}))
    sentence = f"The link asks for {name} = {value}, which is {allowed}. {shown} is shown instead."
    assert found == [*DEFAULTS[:place], sentence, *DEFAULTS[place:]]


def test_several_values_that_are_refused_are_one_warning_and_escaped_once() -> None:
    app = opened(odd=["C--", "plus", "D"])
    (warning,) = [one.value for one in app.main if one.type == "warning"]
    assert warning == escape_markdown(
        "The link asks for odd = C--, D, which are none of C++, *s*. C++ is shown instead."
    )
    assert "odd ['pp']" in said(app)
