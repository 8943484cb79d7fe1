"""Answers from the class: a code for phones, how many answered, and what, when the teacher wants it known."""

import html
from collections.abc import Sequence
from functools import partial

import pandas as pd
import segno
import streamlit as st

from merging.charts.lesson import answers_figure
from merging.core.errors import RunError
from merging.core.networks import own_networks
from merging.core.text import counted
from ui.lesson.questions import Question
from ui.lesson.screen import answered, large
from ui.look.figure import escape_markdown, is_dark, show
from ui.shell import session
from ui.shell.poll.address import address_of, what_lets_others_in
from ui.shell.poll.polls import LETTERS, askable
from ui.shell.poll.web import POLLS, REACH
from ui.shell.rights import Act

_CODE, _VIEW = "class-code", "class-view"  # session state: the open code; what stands in the chart's place
_PROBLEM = "class-problem"  # session state: the step, and why no code is open there
PARAMETER = "class"  # in the URL: the open code, so that a page that is loaded anew goes on with it
CHART, LINK, BARS = "chart", "link", "answers"
_OFFERED = 2  # codes that can be taken up; who has more open closes some
_LONGEST = 12  # letters of a code that is repeated
_EVERY = 1.0  # seconds after which the number of answers is looked at again


def may_open_poll() -> bool:
    """Whether whoever looks at this page may ask the class; the one place where that is decided."""
    return session.may(Act.TEACH)


def in_place_of_chart() -> str:
    """What the right half of the lesson shows: its chart, the link for phones, or the answers."""
    return str(st.session_state.get(_VIEW, CHART)) if _open_code() else CHART


def _open_code() -> str | None:
    """The code that this teacher opened, as long as it is open; says so once it is not."""
    code: str | None = st.session_state.get(_CODE)
    if code is not None and POLLS.look(code) is None:  # nobody looked for hours, or the server is another
        _forget()
        _say(_GONE.format(code) if may_open_poll() else f"{_GONE.format(code)} {_WHO}")
        return None
    return code


def take_up() -> None:
    """Go on with the code that the URL names, as after the page was loaded anew; to be called before all else."""
    named = st.query_params.get(PARAMETER)
    if _CODE in st.session_state:
        st.query_params[PARAMETER] = st.session_state[_CODE]
    elif named is not None and (may_open_poll() or POLLS.question(named) is None):
        st.session_state[_CODE] = named[:_LONGEST]
    elif named is not None:  # who may not ask is asked
        del st.query_params[PARAMETER]


def _open(code: str, view: str) -> None:
    st.session_state[_CODE], st.session_state[_VIEW] = code, view
    st.query_params[PARAMETER] = code
    st.session_state.pop(_PROBLEM, None)


def _forget() -> None:
    for key in (_CODE, _VIEW, _PROBLEM):
        st.session_state.pop(key, None)
    if PARAMETER in st.query_params:
        del st.query_params[PARAMETER]


def _say(problem: str) -> None:
    """Say why no code is open, until another step is looked at."""
    st.session_state[_PROBLEM] = (st.session_state.get("step"), problem)


def controls(question: Question) -> None:
    """Below a question: open a code for it; then how many answered, and what to show of it."""
    code = _open_code()
    step, problem = st.session_state.get(_PROBLEM, (None, ""))
    if problem and step == st.session_state.get("step"):
        st.warning(escape_markdown(problem), icon=":material/error:")
    if not may_open_poll():
        return
    row = st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="lesson-class-controls")
    with row:
        if code is None:
            st.button(
                "Ask the class",
                icon=":material/qr_code_2:",
                key="class-open",
                on_click=_ask,
                args=(question,),
                disabled=not REACH.beside or not askable(question.choices),
                help=_NOT_SERVED if not REACH.beside else _OPENS if askable(question.choices) else _NO_CHOICE,
            )
            for other in POLLS.codes()[:_OFFERED]:
                words = "Phones that opened this code are still asked, with what they answered"
                st.button(f"Go on with {other}", key=f"class-go-on-{other}", on_click=_go_on, args=(other,), help=words)
            return
        if _is_asked(code, question):
            st.fragment(_number, run_every=_EVERY)(code)
            for view, title, icon, key in _VIEWS:
                shown = in_place_of_chart() == view
                words, drawn = ("Chart", ":material/scatter_plot:") if shown else (title, icon)
                st.button(words, icon=drawn, key=f"class-{view}", on_click=_turn, args=(view,), shortcut=key)
        else:
            can = askable(question.choices)
            words = _FOLLOWS if can else _NO_CHOICE
            st.button("Ask this one", key="class-open", on_click=_ask, args=(question,), disabled=not can, help=words)
        st.button("Close", key="class-close", on_click=_close, help="Forget the code and all answers")


_VIEWS = ((LINK, "Link", ":material/qr_code_2:", "L"), (BARS, "Answers", ":material/bar_chart:", "A"))
_OPENS = "Opens a link and a QR code: phones show this question alone and answer it, without names"
_FOLLOWS = "Phones that have answered show it by themselves; what they answered before is forgotten"
_NO_CHOICE = f"There are two to {len(LETTERS)} choices where a class is asked"
_GONE = (
    "The code {} is closed, and what phones answered is gone: that was in the memory of the server alone, which was "
    "started again, or closed it. Phones that look again say that there is no question."
)
_WHO = "Open your owner's link again to ask the class."
_NOT_SERVED = "Phones are served where the dashboard was started with make app or merging app"


def _ask(question: Question) -> None:
    """Callback: open a code with a question, or put it under the code that is open."""
    session.require(Act.TEACH)
    code = _open_code()
    try:
        if code is None:
            _open(POLLS.open(question.text, question.choices), LINK)
        else:
            POLLS.ask(code, question.text, question.choices)
            _open(code, CHART)
    except RunError as error:
        _say(str(error))


def _go_on(code: str) -> None:
    """Callback: take up a code that is open, after the page was loaded anew or from another screen."""
    session.require(Act.TEACH)
    _open(code, CHART)


def _turn(target: str) -> None:
    """Callback: show something in the chart's place, or the chart again."""
    st.session_state[_VIEW] = CHART if in_place_of_chart() == target else target


def _close() -> None:
    """Callback: forget code and answers."""
    code = st.session_state.get(_CODE)
    if code is not None:
        POLLS.close(code)
    _forget()


def _is_asked(code: str, question: Question) -> bool:
    looked = POLLS.look(code)
    return looked is not None and (looked[0].text, looked[0].choices) == (question.text, question.choices)


def _number(code: str) -> None:
    """How many answered; looks again by itself."""
    looked = POLLS.look(code)
    st.markdown(f"**{counted(sum(looked[1]), 'answer')}**" if looked else "Closed", width="content")


def instead(question: Question) -> None:
    """What stands in the chart's place: the link for phones, or the answers."""
    code, view = _open_code(), in_place_of_chart()
    if code is None or view == CHART:
        return
    if view == LINK:
        _link(code)
    elif _is_asked(code, question):
        st.fragment(_bars, run_every=_EVERY)(code, question)
    else:
        st.info("Phones show another question still.", icon=":material/smartphone:")


def _link(code: str) -> None:
    """The code as a picture and as text, with the address that phones reach."""
    networks = own_networks()
    if len(networks) > 1:
        chosen = st.selectbox("Phones reach this machine at", networks, key="class-network")
        networks = [chosen]
    address = address_of(st.context.url or "", st.get_option("server.address"), REACH, networks)
    if not address.reachable:
        st.warning(_why_unreachable(networks), icon=":material/wifi_off:")
    link = address.of(code)
    shown = html.escape(link.removeprefix("http://"))
    st.html(f'<div class="class-link">{_picture(link)}<p>{shown}</p></div>')


def _why_unreachable(networks: Sequence[str]) -> str:
    """Why phones can't open the link, and what lets them, in Markdown."""
    if session.shared():
        ways = what_lets_others_in(st.context.url or "", list(networks), shared=True)
        return f"Phones can't get here: you see this dashboard at an address of this machine only. {ways}"
    there = f" at `http://{networks[0]}:8600`" if networks else ""
    return (
        "Phones can't get here: the dashboard listens on this machine only. Start it with `merging app --phones 8600`; "
        f"then these questions, and nothing else, are open to the network{there}."
    )


def _picture(link: str) -> str:
    """A QR code as an image that a sanitiser leaves alone: black on white also on a dark page, as cameras need it."""
    drawn = segno.make(link, error="m", micro=False).svg_data_uri(border=3, dark="#000", light="#fff", scale=8)
    return f'<img src="{html.escape(drawn)}" alt="QR code of the link below">'


def _bars(code: str, question: Question) -> None:
    """What was answered, growing; the right choice is marked once the answer is told."""
    looked = POLLS.look(code)
    counts: Sequence[int] = looked[1] if looked else [0] * len(question.choices)
    right = question.right if answered() else None
    show(
        **large(partial(answers_figure, question.choices, counts, right, dark=is_dark())),
        key="lesson-class-bars",
        file="answers",
        takeaway=f"{counted(sum(counts), 'answer')}.",
        table=pd.DataFrame(
            {
                "choice": [f"{letter} {text}" for letter, text in zip(LETTERS, question.choices, strict=False)],
                "answers": counts,
            }
        ),
    )
