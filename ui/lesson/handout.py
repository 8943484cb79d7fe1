"""The lesson on paper: one HTML file with a chart and a question a step, answers on the last page."""

from collections.abc import Sequence
from dataclasses import dataclass

from merging.charts.static import svg_of
from merging.core.markdown import to_html
from merging.core.page import static_page
from merging.runs.comparison.svg import escaped
from ui.lesson.questions import Question
from ui.lesson.screen import DrawnChart
from ui.shell.poll.polls import LETTERS

_HEIGHT = 236  # pixels of a chart that has no more rows than fit
_STYLE = """
@page { size: A4; margin: 14mm 15mm; }
body { font: 14px/1.4 system-ui, sans-serif; color: #1c2128; background: #fff; max-width: 760px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 0 0 .4rem; }
h3 { font-size: 1rem; margin: .6rem 0 .2rem; }
section { break-inside: avoid; border-top: 1px solid #ccd1d8; padding-top: .6rem; margin-top: 1rem; }
.answers { break-before: page; } .note { color: #5a6272; font-size: 13px; } svg { max-width: 100%; height: auto; }
.question { break-inside: avoid; } ol.choices { list-style: upper-alpha; padding-left: 1.6rem; }
.line { border-bottom: 1px solid #8b93a1; height: 1.9rem; }
pre { background: #f3f5f8; padding: .5rem; white-space: pre-wrap; } p { margin: .4rem 0; }
@media print { body { max-width: none; margin: 0; padding: 0; } a { color: inherit; } }
"""


@dataclass(frozen=True)
class Sheet:
    """One step on paper.

    Attributes:
        title: its one idea.
        text: in Markdown.
        drawn: its chart; None if there are no numbers for one.
        question: what is asked; None if there is none.
        note: where numbers come from, or why something is missing.
    """

    title: str
    text: str
    drawn: DrawnChart | None = None
    question: Question | None = None
    note: str = ""


def handout(title: str, about: str, sheets: Sequence[Sheet]) -> str:
    """The page.

    Args:
        title: plain text.
        about: what the charts were measured on, plain text.
        sheets: the steps, in order.
    """
    asked = [(number, one.question) for number, one in enumerate(sheets, 1) if one.question is not None]
    answers = "".join(f"<dt><b>{number}</b></dt>{_answer(question)}" for number, question in asked)
    last = f'<section class="answers"><h2>Answers</h2><dl>{answers}</dl></section>' if asked else ""
    body = "".join(_step(number, one) for number, one in enumerate(sheets, 1))
    return static_page(title, _STYLE, f'<h1>{escaped(title)}</h1><p class="note">{escaped(about)}</p>{body}{last}')


def _step(number: int, sheet: Sheet) -> str:
    parts = [f"<h2>{number}. {escaped(sheet.title)}</h2>{to_html(sheet.text)}"]
    if sheet.drawn is not None:
        rows = max((len(trace.y) for trace in sheet.drawn.figure.data if trace.type == "bar"), default=0)
        chart = svg_of(sheet.drawn.figure, sheet.drawn.takeaway, height=max(_HEIGHT, 80 + 40 * rows))
        parts.append(f'{chart}<p class="note">{escaped(sheet.drawn.takeaway)}</p>')
    if sheet.note:
        parts.append(f'<p class="note">{escaped(sheet.note)}</p>')
    if sheet.question is not None:
        choices = "".join(f"<li>{escaped(choice)}</li>" for choice in sheet.question.choices)
        parts.append(
            f'<div class="question"><p><b>{escaped(sheet.question.text)}</b></p><ol class="choices">{choices}</ol>'
            '<div class="line"></div></div>'
        )
    return f"<section>{''.join(parts)}</section>"


def _answer(question: Question) -> str:
    """The choice that is right, and the numbers that say so."""
    if question.right is None:
        return f"<dd>{escaped(question.because or 'Not measured.')}</dd>"
    right = f"{LETTERS[question.right]} {question.choices[question.right]}"
    return f"<dd><b>{escaped(right)}.</b> {escaped(question.because)}</dd>"
