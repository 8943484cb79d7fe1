"""A table of runs for a paper: LaTeX with booktabs, or Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from merging.runs.comparison.protocol import protocol, settings_lines
from merging.runs.comparison.ranked import AVERAGE, Cell, RankedRuns

TableForm = Literal["latex", "markdown"]
ABSENT = "–"
# What stands for itself in LaTeX only when escaped (The Comprehensive LaTeX Symbol List, and the TeXbook, ch. 7).
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "−": "$-$",
    "≈": r"$\approx$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "…": r"\ldots{}",
    "–": "--",
}


def table_text(found: RankedRuns, form: TableForm, labels: Mapping[str, str] | None = None) -> str:
    """The table, and below it how its numbers came about.

    Args:
        found: the runs.
        form: of the text.
        labels: task → what to call it.
    """
    titles = column_titles(found, labels)
    notes = [found.how, *untested(found)]
    told = [*protocol(found.runs, found.names), *settings_lines(found.runs, found.names)]
    write = _latex if form == "latex" else _markdown
    return write(found, titles, notes, told)


def column_titles(found: RankedRuns, labels: Mapping[str, str] | None = None) -> list[str]:
    """What stands above the columns: tasks by their labels, and the average."""
    return [column if column == AVERAGE else (labels or {}).get(column, column) for column in found.columns]


def untested(found: RankedRuns) -> list[str]:
    """Which runs could not be tested and why, as sentences."""
    names = dict(zip((run.id for run in found.runs), found.names, strict=True))
    return [
        f"{names[run_id]} could not be tested, nor others against it where it is the best: {reason.rstrip('.')}."
        for run_id, reason in found.untested.items()
    ]


def _rows(found: RankedRuns, written: Callable[[Cell], str]) -> list[list[str]]:
    return [
        [name, *(written(found.cells[run.id][column]) for column in found.columns)]
        for run, name in zip(found.runs, found.names, strict=True)
    ]


def percent(cell: Cell, found: RankedRuns) -> str:
    """An accuracy in percent with its mark."""
    return ABSENT if cell.value is None else f"{100 * cell.value:.1f} {found.mark(cell)}".strip()


def stands_out(cell: Cell, found: RankedRuns) -> bool:
    """Whether an accuracy is to be in bold."""
    return cell.best and cell.value is not None and len(found.runs) > 1


def _markdown(found: RankedRuns, titles: Sequence[str], notes: Sequence[str], told: Sequence[tuple[str, str]]) -> str:
    def written(cell: Cell) -> str:
        return f"**{percent(cell, found)}**" if stands_out(cell, found) else percent(cell, found)

    lines = [_pipes(["Method", *titles]), _pipes(["---", *("---:" for _ in titles)])]
    lines += [_pipes([_in_markdown(row[0]), *row[1:]]) for row in _rows(found, written)]
    lines += ["", *(_in_markdown(note) for note in notes), ""]
    lines += [f"- {_in_markdown(title)}: {_in_markdown(text)}" for title, text in told]
    return "\n".join(lines) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", text)


def _latex(found: RankedRuns, titles: Sequence[str], notes: Sequence[str], told: Sequence[tuple[str, str]]) -> str:
    def written(cell: Cell) -> str:
        text = in_latex(percent(cell, found))
        return rf"\textbf{{{text}}}" if stands_out(cell, found) else text

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    rows = [[in_latex(row[0]), *row[1:]] for row in _rows(found, written)]
    comments = ["% " + " ".join(f"{title}: {text}".split()) for title, text in told]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            *comments,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{in_latex(' '.join(notes))}}}",
            rf"\begin{{tabular}}{{l{'r' * len(titles)}}}",
            r"\toprule",
            line(["Method", *map(in_latex, titles)]),
            r"\midrule",
            *(line(row) for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def in_latex(text: str) -> str:
    r"""Text that LaTeX sets as it stands.

    >>> in_latex("50 % of a_b · λ 0.3")
    '50 \\% of a\\_b $\\cdot$ $\\lambda$ 0.3'
    """
    return "".join(_LATEX.get(letter, letter) for letter in text).replace("\n", " ")
