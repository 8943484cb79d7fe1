"""What the URL chooses: names and values that nobody knows, and what streamlit does not write into it by itself."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from merging.core.text import short
from ui.look.figure import escape_markdown

_SAID, _REPEAT = "warnings-said", "warnings-repeat"  # session state


def not_found(parameter: str, options: Collection[str]) -> list[str]:
    """What the URL names and is not there; streamlit drops it without a word when it draws a widget bound to that."""
    return [name for name in st.query_params.get_all(parameter) if name and name not in options]


def write_chosen(parameter: str, options: Sequence[str] = ()) -> None:
    """Let the URL say which options a widget bound to it holds, or none: ``parameter=``.

    To be called after it was drawn. Streamlit writes what a click in the widget itself chose. Emptied by a button, or
    restored on another page, it leaves the parameter out, and a reload shows the
    default; so it does where a link's words had to be read first.
    """
    values = list(options) or [""]
    context = get_script_run_ctx()
    if context is not None and st.query_params.get_all(parameter) != values:
        with context.session_state.query_params() as parameters:
            parameters.set_corrected_value(parameter, list(options) or "", "string_array_value")


def warn(sentence: str) -> None:
    """Say what a link asked for in vain, and what is shown instead."""
    st.session_state[_SAID] = [*st.session_state.get(_SAID, []), sentence]
    st.warning(escape_markdown(sentence), icon=":material/search_off:")


def run_again() -> NoReturn:
    """Run the page again by itself; what it has warned of stays in sight, though the URL is in order by then."""
    st.session_state[_REPEAT] = True
    st.rerun()


def said_before() -> list[str]:
    """What the run before this one warned of, if this one follows it by itself; to be called once, at the start."""
    said: list[str] = st.session_state.pop(_SAID, [])
    return said if st.session_state.pop(_REPEAT, False) else []


@dataclass(frozen=True)
class Refused:
    """A value in the URL that a widget does not take.

    Attributes:
        parameter: its name in the URL, which is the widget's key too.
        value: as it stands there.
        allowed: what the widget takes, in words that follow *which is*.
    """

    parameter: str
    value: str
    allowed: str


def refused_options(parameter: str, options: Iterable[str]) -> list[Refused]:
    """What the URL names that is no option of a widget; to be asked before that widget is drawn."""
    known = list(options)
    allowed = f"none of {', '.join(known)}"
    return [Refused(parameter, value, allowed) for value in not_found(parameter, known)]


def refused_numbers(parameter: str, low: float, high: float) -> list[Refused]:
    """What the URL names that is no number within bounds, both allowed; to be asked before the widget is drawn."""
    allowed = f"no number from {low:g} to {high:g}"
    values = st.query_params.get_all(parameter)
    return [Refused(parameter, value, allowed) for value in values if value and not _within(value, low, high)]


def _within(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def warn_of_values(refused: Iterable[Refused], in_words: Callable[[Any], str] = short) -> None:
    """Say what the URL asked for in vain, what is allowed, and what is shown; to be called once the widget is drawn.

    Args:
        refused: what was asked for.
        in_words: what the reader sees for a value of the widget.
    """
    for one in refused:
        shown = in_words(st.session_state[one.parameter])
        warn(f"The link asks for {one.parameter} = {one.value}, which is {one.allowed}. {shown} is shown instead.")


def called(labels: Mapping[Any, str]) -> Callable[[Any], str]:
    """How to say what a widget of options shows: an option, several, or none.

    >>> called({"a": "Apples", "b": "Birds"})(["a", "b"]), called({"a": "Apples"})([])
    ('Apples, Birds', 'Nothing')
    """

    def in_words(value: Any) -> str:
        values = value if isinstance(value, list) else [] if value is None else [value]
        return ", ".join(labels[one] for one in values) or "Nothing"

    return in_words


@contextmanager
def named_in_url(parameter: str, labels: Mapping[Any, str]) -> Iterator[None]:
    """Around the drawing of one widget of options that is bound to the URL: what is no option is said below it.

    Args:
        parameter: the widget's key.
        labels: option → what the URL calls it, the widget's text for it.
    """
    refused = refused_options(parameter, labels.values())
    yield
    warn_of_values(refused, called(labels))


def drop_unknown(page: str, known: Collection[str], prefixes: tuple[str, ...] = ()) -> list[str]:
    """Take parameters out of the URL that a page does not know.

    Args:
        page: its title.
        known: the parameters that it knows.
        prefixes: beginnings of others.

    Returns:
        A sentence on each, to warn of.
    """
    unknown = [name for name in st.query_params if name not in known and not name.startswith(prefixes or ("\0",))]
    sentences = []
    for name in unknown:
        value = ", ".join(st.query_params.get_all(name))
        takes = ", ".join([*known, *(f"{prefix}…" for prefix in prefixes)])
        sentences.append(f"The page {page} takes no {name} = {value}; a link to it can hold {takes}.")
        del st.query_params[name]
    return sentences
