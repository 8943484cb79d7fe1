"""One step of the lesson on screen: what it gets, what it gives, and how its question is asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from merging.charts.lesson import enlarge
from merging.runs import Run
from merging.runs.positions import Need, Position
from merging.suites.suite import Split
from ui.lesson.questions import Question
from ui.look.figure import Chart, escape_markdown, is_dark, show
from ui.shell.url import choice, number
from ui.what_if import live_accuracy

SHOWN = "Show the answer"
_LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Lesson:
    """What the steps look at, and where they draw.

    Attributes:
        labels: task → what to call it.
        counts: task → number of its validation images.
        whole: whether the whole page runs, and not only its fragment.
    """

    labels: Mapping[str, str]
    counts: Mapping[str, int]
    whole: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the lesson."""
        return tuple(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """What to call them."""
        return tuple(self.labels.values())

    @property
    def dark(self) -> bool:
        """Whether the ground of the charts is."""
        raise NotImplementedError

    def task(self, label: str, key: str) -> str:
        """Which task is chosen, by a control if there are any."""
        raise NotImplementedError

    def number(self, label: str, low: float, high: float, start: float, step: float, key: str) -> float:
        """A number that is chosen, by a control if there are any."""
        raise NotImplementedError

    def draw(self, chart: Chart, *, key: str, file: str, takeaway: str, table: pd.DataFrame) -> None:
        """The chart of a step, as :func:`ui.look.figure.show` takes it."""
        raise NotImplementedError


@dataclass(frozen=True)
class OnScreen(Lesson):
    """The lesson on its page.

    Attributes:
        control: where the live control goes.
        chart: where the chart goes.
    """

    control: DeltaGenerator
    chart: DeltaGenerator

    @property
    def dark(self) -> bool:
        """Whether the reader's theme is dark."""
        return is_dark()

    def task(self, label: str, key: str) -> str:
        """A control for one task."""
        return str(choice(self.control.selectbox, label, self.labels, key=key))

    def number(self, label: str, low: float, high: float, start: float, step: float, key: str) -> float:
        """A slider."""
        return float(number(self.control.slider, label, low, high, start, step, key=key))

    def draw(self, chart: Chart, *, key: str, file: str, takeaway: str, table: pd.DataFrame) -> None:
        """In large type, as high as there is room."""
        with self.chart:
            show(**large(chart), key=key, file=file, takeaway=takeaway, table=table)


@dataclass(frozen=True)
class DrawnChart:
    """A chart of a step, and the sentence below it."""

    figure: go.Figure
    takeaway: str


@dataclass(frozen=True)
class OnPaper(Lesson):
    """The lesson as it is printed: every control where it starts, the charts kept.

    Attributes:
        drawn: the last chart of a step, if there is one.
    """

    drawn: list[DrawnChart] = field(default_factory=list)

    @property
    def dark(self) -> bool:
        """Paper is white."""
        return False

    def task(self, label: str, key: str) -> str:
        """The first task."""
        return self.tasks[0]

    def number(self, label: str, low: float, high: float, start: float, step: float, key: str) -> float:
        """Where a slider starts."""
        return start

    def draw(self, chart: Chart, *, key: str, file: str, takeaway: str, table: pd.DataFrame) -> None:
        """Keep it; the chart of a step that is drawn again, with more numbers, replaces the one before."""
        self.drawn[:] = [DrawnChart(chart(), takeaway)]


@dataclass(frozen=True)
class Asked:
    """What a step ends with.

    Attributes:
        question: what to ask.
        needs: accuracies that are wanted soon; the page measures them while nobody moves anything.
        runs: what else chart and question are drawn from.
    """

    question: Question
    needs: Sequence[Need] = field(default_factory=tuple)
    runs: Sequence[Run | None] = field(default_factory=tuple)


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        title: its one idea.
        text: the same in a sentence or two.
        show: draws control and chart.
        tasks: how many it needs.
        measures: whether it needs accuracies of new merges in a moment, so models that are not too large.
    """

    title: str
    text: str
    show: Callable[[Lesson], Asked]
    tasks: int = 1
    measures: bool = True


def large(chart: Chart) -> dict[str, Any]:
    """A chart as :func:`ui.look.figure.show` takes it, in large type, as high as there is room."""
    return {"chart": partial(_enlarged, chart, is_dark()), "height": "stretch"}


def _enlarged(chart: Chart, dark: bool) -> go.Figure:
    return enlarge(chart(), dark)


def answered() -> bool:
    """Whether somebody chose an answer; for what is drawn before the question."""
    key = _answer_key()
    return st.session_state[key] is not None if key in st.session_state else key in st.query_params


def _answer_key() -> str:
    """Of the answer to the question of this step, in session state and in the URL."""
    return f"answer.{st.session_state['step']}"


def average(position: Position, tasks: Iterable[str]) -> float | None:
    """Mean accuracy of a position over tasks, on all images; None as long as one is not measured."""
    needs = live_accuracy.full(position, tuple(tasks))
    found = live_accuracy.known(needs)
    return sum(found.values()) / len(found) if len(found) == len(needs) else None


def merged(
    tasks: Iterable[str],
    scaling: float | Sequence[float],
    *,
    split: Split = "val",
    edit: str = "none",
    edit_params: Mapping[str, float] | None = None,
) -> Position:
    """The merge of some tasks with one coefficient for all of them, or with one each."""
    names = tuple(tasks)
    values = [scaling] * len(names) if isinstance(scaling, float) else scaling
    pairs = tuple((task, float(value)) for task, value in zip(names, values, strict=True))
    return Position(edit, pairs, split, tuple((edit_params or {}).items()))


def ask(question: Question) -> None:
    """The question, its choices with the right one marked once somebody chose, and the numbers that say so."""
    letters = _LETTERS[: len(question.choices)]
    options = [*letters, SHOWN]
    st.markdown(f"**{escape_markdown(question.text)}**")
    choices = st.container()
    answer = choice(
        st.pills,
        "Your answer",
        options,
        key=_answer_key(),
        nothing="No answer",
        label_visibility="collapsed",
        wrap=True,
    )
    told = answer is not None and question.right is not None
    lines = [
        _choice(letter, text, told and index == question.right, told and letter == answer)
        for index, (letter, text) in enumerate(zip(letters, question.choices, strict=True))
    ]
    choices.markdown("  \n".join(lines))
    if answer is not None:
        with st.container(key="lesson-answer"):
            st.markdown(escape_markdown(question.because or "Still being measured …"))


def _choice(letter: str, text: str, right: bool, chosen: bool) -> str:
    """One choice as a line of markdown."""
    words = f"**{letter}**&ensp;{escape_markdown(text)}"
    if right:
        return f":green[:material/check_circle: {words}]"
    return f":red[:material/cancel: {words}]" if chosen else f":material/radio_button_unchecked: {words}"
