"""Any number of runs as one HTML file: the table of their accuracies, image by image if they are few, the protocol."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from merging.core.errors import MergingError
from merging.core.files import atomic_path
from merging.core.text import in_a_row
from merging.methods.context import Context
from merging.runs.comparison.compare import MAX_RUNS, compare_runs
from merging.runs.comparison.page import html_page, html_table, protocol_section, settings_that_differ
from merging.runs.comparison.ranked import RankedRuns, rank_runs
from merging.runs.comparison.report import comparison_sections
from merging.runs.comparison.svg import escaped
from merging.runs.comparison.tables import column_titles, percent, stands_out, table_text, untested
from merging.runs.jobs.predictions import evaluator_of
from merging.runs.naming import name_runs
from merging.runs.run import Run
from merging.runs.workspace import Workspace

ReportForm = Literal["html", "latex", "markdown"]
ENDINGS: Mapping[ReportForm, str] = {"html": ".html", "latex": ".tex", "markdown": ".md"}


def report_runs(
    runs: Sequence[Run],
    workspace: Workspace,
    form: ReportForm,
    context: Context | None = None,
    measure: bool = True,
) -> str:
    """A report of finished runs, as text of a form; two to four are in HTML also compared image by image.

    Args:
        runs: any number.
        workspace: where they are.
        form: HTML, or a table in LaTeX or Markdown with the protocol below it.
        context: progress and cancellation, where predictions have to be measured.
        measure: whether they are; else only runs whose predictions are known are tested, and compared.

    Raises:
        RunError: as :func:`merging.runs.comparison.ranked.require_rankable`.
    """
    names = name_runs(runs)
    found = rank_runs(runs, [names[run.id] for run in runs], workspace, context, measure)
    labels = _labels(found, workspace)
    if form != "html":
        return table_text(found, form, labels)
    body = _table(found, labels) + _about(found)
    few = 2 <= len(runs) <= MAX_RUNS and not found.untested
    return html_page(_title(found), body + (_compared(found, workspace, labels, context) if few else _apart(found)))


def write_runs_report(path: Path, text: str) -> None:
    """Write a report, whole or not at all.

    Raises:
        CheckpointError: the file can't be written; nothing was changed.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _labels(found: RankedRuns, workspace: Workspace) -> dict[str, str]:
    """Task → label, as the first suite that is here has them."""
    for run in found.runs:
        try:
            suite = evaluator_of(run, workspace).suite
        except MergingError:
            continue
        return suite.task_labels([task for task in found.tasks if task in suite.task_names])
    return {}


def _title(found: RankedRuns) -> str:
    suites = dict.fromkeys(run.spec.suite_name for run in found.runs)
    what = in_a_row(found.names) if len(found.names) <= MAX_RUNS else f"{len(found.names)} runs"
    return f"{in_a_row(suites)}: {what}"


def _table(found: RankedRuns, labels: Mapping[str, str]) -> str:
    head = "".join(
        f"<th{' class=n' if place else ''}>{escaped(title)}</th>"
        for place, title in enumerate(["Method", *column_titles(found, labels)])
    )
    rows = []
    for run, name in zip(found.runs, found.names, strict=True):
        cells = []
        for column in found.columns:
            cell = found.cells[run.id][column]
            text = escaped(percent(cell, found))
            cells.append(f"<td class=n>{f'<strong>{text}</strong>' if stands_out(cell, found) else text}</td>")
        rows.append(f"<tr><td>{escaped(name)}</td>{''.join(cells)}</tr>")
    notes = "".join(f"<p class='note'>{escaped(note)}</p>" for note in (found.how, *untested(found)))
    return f"<div class='wide'><table><tr>{head}</tr>{''.join(rows)}</table></div>{notes}"


def _about(found: RankedRuns) -> str:
    """Who made which run when, and what was written about it."""
    rows = [
        [
            name,
            run.id,
            run.fingerprint[:12],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(run.finished)) if run.finished else "",
            run.person,
            "" if run.shipped else run.machine,
            ", ".join(run.tags),
            run.note,
        ]
        for run, name in zip(found.runs, found.names, strict=True)
    ]
    head = ["Run", "Id", "Fingerprint", "Finished", "By", "Machine", "Tags", "Note"]
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    table = html_table([head[place] for place in kept], [[row[place] for place in kept] for row in rows], kind="text")
    return f"<h2>Runs</h2><div class='wide'>{table}</div>"


def _compared(found: RankedRuns, workspace: Workspace, labels: Mapping[str, str], context: Context | None) -> str:
    """Image by image, where the runs have tasks in common; the protocol is part of it."""
    try:
        compared = compare_runs(found.runs, workspace, context)
    except MergingError as error:
        return f"<p class='note'>Not compared image by image: {escaped(str(error))}.</p>{_apart(found)}"
    named = {task: labels.get(task, task) for task in compared.tasks}
    return comparison_sections(compared, found.names, named, evaluator_of(found.runs[0], workspace))


def _apart(found: RankedRuns) -> str:
    return settings_that_differ(found.runs, found.names) + protocol_section(found.runs, found.names)
