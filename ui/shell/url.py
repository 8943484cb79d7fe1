"""What the URL chooses: names and values that nobody knows, and what streamlit does not write into it by itself."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from merging.core.text import short
from ui.look.figure import escape_markdown

_SAID, _REPEAT = "warnings-said", "warnings-repeat"  # session state
_later: ContextVar[list[tuple[list["Refused"], Callable[[Any], str]]] | None] = ContextVar("later", default=None)


def not_found(parameter: str, options: Collection[str]) -> list[str]:
    """What the URL names and is not there; streamlit drops it without a word when it draws a widget bound to that."""
    return [name for name in st.query_params.get_all(parameter) if name and name not in options]


def unknown_page(known: Collection[str]) -> str:
    """The page that the URL names and that is not there, or nothing; to be asked before ``st.navigation``.

    The page to begin with is opened in its place. Streamlit does that, too, but says so in a dialog over the page that
    does not name what was asked for.

    Args:
        known: what URLs call the pages that there are.
    """
    context = get_script_run_ctx()
    if context is None or context.pages_manager.intended_page_script_hash:  # opened by a click, or shown already
        return ""
    asked = context.pages_manager.intended_page_name or ""
    if asked in known:
        return ""
    context.pages_manager.set_script_intent("", "")
    return asked


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
        allowed: what the widget takes, in words that follow *which is*, or *which are* of several values.
    """

    parameter: str
    value: str
    allowed: str


def refused_options(parameter: str, options: Iterable[str], texts: Iterable[str] | None = None) -> list[Refused]:
    """What the URL names that is no option of a widget; to be asked before that widget is drawn.

    Args:
        parameter: in the URL.
        options: what it may name.
        texts: what people read of these; the same by default.
    """
    known = list(options)
    said = known if texts is None else list(texts)
    allowed = f"none of {', '.join(said)}" if said else "nothing that there is here"
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
    together: dict[tuple[str, str], list[str]] = {}
    for one in refused:
        together.setdefault((one.parameter, one.allowed), []).append(one.value)
    for (parameter, allowed), values in together.items():
        shown, verb = in_words(st.session_state[parameter]), "is" if len(values) == 1 else "are"
        warn(f"The link asks for {parameter} = {', '.join(values)}, which {verb} {allowed}. {shown} is shown instead.")


def called(labels: Mapping[Any, str], nothing: str = "Nothing") -> Callable[[Any], str]:
    """How to say what a widget of options shows: an option, several, or none.

    >>> called({"a": "Apples", "b": "Birds"})(["a", "b"]), called({"a": "Apples"})([])
    ('Apples, Birds', 'Nothing')
    """

    def shown(value: Any) -> str:
        values = value if isinstance(value, list) else [] if value is None else [value]
        return ", ".join(labels[one] for one in values) or nothing

    return shown


_WORDS = re.compile(  # text that markdown leaves alone
    r"\(?[^\W_]+(?:(?:(?:[ ,·/()+%&=−]|-(?!-)|: )+|_|(?<=\d)\.(?=\d))[^\W_]+)*[)%]?"
)


def as_option(text: str) -> str:
    r"""Text from outside as an option of pills or segments, which read markdown, and as it stands in the URL.

    >>> as_option("stanford_cars")
    'stanford_cars'
    >>> as_option("TALL masks (localised) · threshold 0.4"), as_option("*svhn*: SVHN")
    ('TALL masks (localised) · threshold 0.4', '\\*svhn\\*\\: SVHN')
    """
    return text if _WORDS.fullmatch(text) else escape_markdown(text)


def choice(
    draw: Callable[..., Any],
    label: str,
    options: Mapping[Any, str] | Iterable[str],
    *,
    key: str,
    nothing: str = "Nothing",
    also: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """A widget of options that is bound to the URL; says so if the URL asks for what is no option.

    A link may give an option's text as people read it, or as the widget holds it: with marks that markdown needs.

    Args:
        draw: ``st.selectbox``, ``st.pills`` …, of a page or of a container.
        label: of the widget.
        options: option → its text, by which the URL names it too; or texts that are options themselves.
        key: of the widget, and its name in the URL.
        nothing: what to call it if none is chosen.
        also: what else a link may call an option → the option.
        settings: further arguments of the widget.

    Returns:
        What the widget returns.
    """
    texts = dict(options) if isinstance(options, Mapping) else {text: text for text in options}
    labels = texts
    if draw.__name__ != "selectbox":  # the others read markdown
        labels = {option: as_option(text) for option, text in texts.items()}
    several = draw.__name__ == "multiselect" or settings.get("selection_mode") == "multi"
    names = {text: option for option, text in texts.items() if text != labels[option]} | dict(also or {})
    refused = refused_options(key, (*labels.values(), *names), texts.values())
    renamed = _choose_by_name(key, labels, names, several)
    chosen = draw(label, list(labels), key=key, bind="query-params", format_func=labels.__getitem__, **settings)
    if renamed:
        write_chosen(key, [labels[one] for one in (chosen if several else [chosen])])
    _say(refused, called(texts, nothing))
    return chosen


def _choose_by_name(key: str, labels: Mapping[Any, str], names: Mapping[str, Any], several: bool) -> bool:
    """Let a widget hold what the URL calls by other names than the labels of options; says whether it does."""
    values = st.query_params.get_all(key)
    options = dict(names) | {text: option for option, text in labels.items()}
    if all(value not in names or value in labels.values() for value in values):
        return False
    found = list(dict.fromkeys(options[value] for value in values if value in options))
    st.session_state[key] = found if several else found[0]
    return True


def number(draw: Callable[..., Any], label: str, low: float, high: float, *settings: Any, key: str, **more: Any) -> Any:
    """A slider or an input of a number that is bound to the URL; says so if the URL asks for none within its bounds.

    Args:
        draw: ``st.slider`` or ``st.number_input``, of a page or of a container.
        label: of the widget.
        low: the smallest number allowed.
        high: the largest.
        settings: further arguments of the widget by their place: value, step.
        key: of the widget, and its name in the URL.
        more: further arguments of the widget by name.
    """
    refused = refused_numbers(key, low, high)
    chosen = draw(label, low, high, *settings, key=key, bind="query-params", **more)
    _say(refused, short)
    return chosen


def switch(draw: Callable[..., Any], label: str, on: bool, *, key: str, **settings: Any) -> bool:
    """A toggle that is bound to the URL, as ``true`` or ``false``; says so if the URL asks for anything else."""
    refused = refused_options(key, ("true", "false"))
    chosen = bool(draw(label, on, key=key, bind="query-params", **settings))
    _say(refused, lambda shown: str(shown).lower())
    return chosen


@contextmanager
def said_below(place: DeltaGenerator | None = None) -> Iterator[None]:
    """What links ask the widgets within for in vain is said after all of these, and not between them.

    Args:
        place: where; right below by default.
    """
    waiting: list[tuple[list[Refused], Callable[[Any], str]]] = []
    token = _later.set(waiting)
    try:
        yield
    finally:
        _later.reset(token)
    with place or nullcontext():
        for refused, in_words in waiting:
            warn_of_values(refused, in_words)


def _say(refused: list[Refused], in_words: Callable[[Any], str]) -> None:
    waiting = _later.get()
    if waiting is None:
        warn_of_values(refused, in_words)
    else:
        waiting.append((refused, in_words))


@contextmanager
def named_in_url(parameter: str, labels: Mapping[Any, str]) -> Iterator[None]:
    """Around the drawing of tabs that are bound to the URL: what names none is said below them.

    Args:
        parameter: their key.
        labels: tab → its text, by which the URL names it.
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
