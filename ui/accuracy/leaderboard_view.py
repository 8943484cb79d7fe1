"""The leaderboard as its page shows it: lines from runs, and the table with bars, markers and links."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from merging.charts.accuracy import Series
from merging.charts.columns import MARK, METHOD, mark
from merging.charts.leaderboard import NOT_RUN, UNDER_WAY, Standing, task_column
from merging.charts.theme import shorten, style_of
from merging.runs import Run
from merging.runs.leaderboard import ONE_A_TASK, baseline_rows, data_looked_at, ranked, row_of
from merging.runs.run import ACTIVE
from ui.accuracy import view as accuracy_view
from ui.accuracy.preset_runs import MethodEntry
from ui.look.columns import method_columns, text_width
from ui.look.figure import escape_markdown
from ui.runs.text import STATE_COLORS
from ui.shell import state

_NARROWEST = 54  # pixels of a task's column
_TASK_LETTERS = 16  # of a task's name over its column; the rest is in the column's help
_STATES = {NOT_RUN: "gray", UNDER_WAY: "blue"} | {
    name: color for name, color in STATE_COLORS.items() if name not in ACTIVE
}


def standings(entries: Sequence[MethodEntry], baselines: Sequence[Series]) -> list[Standing]:
    """The lines of the leaderboard, best average first; those that give a model for each task come behind.

    Args:
        entries: the methods.
        baselines: zero-shot and individual accuracy on the same tasks, or nothing if they are not measured.
    """
    accuracies = [dict(one.accuracy) for one in baselines]
    lines = [
        Standing(title=row.method, data=row.data, paper="", note="", state="", run=None, row=row)
        for row in (baseline_rows(*accuracies) if accuracies else ())
    ]
    individual = accuracies[1] if accuracies else {}
    for entry in entries:
        preset, run = entry.preset, entry.run
        row = row_of(preset, run, individual) if run is not None and entry.done else None
        lines.append(
            Standing(
                title=preset.title,
                data=data_looked_at(preset),
                paper=preset.paper,
                note=preset.note,
                state=state_of(run),
                run=run.id if run else None,
                row=row,
                localised=preset.pair.localised,
                own=preset.ours,
            )
        )
    return sorted(ranked(lines), key=lambda line: line.localised)


def state_of(run: Run | None) -> str:
    """A run's state in the table, which is not drawn anew when a run that waits starts."""
    if run is None:
        return NOT_RUN
    return UNDER_WAY if run.active else run.state


def show_leaderboard(table: pd.DataFrame, lines: Sequence[Standing], labels: Mapping[str, str]) -> None:
    """The table on screen, and one of the methods that give a model for each task below.

    Args:
        table: as :func:`~merging.charts.leaderboard.leaderboard_table` makes it.
        lines: its lines.
        labels: task → what to call it.
    """
    apart = [line.localised for line in lines]
    _show_table(table[[not one for one in apart]], [line for line in lines if not line.localised], labels)
    if any(apart):
        st.caption(ONE_A_TASK)
        _show_table(table[apart], [line for line in lines if line.localised], labels, "leaderboard-localised")


def _show_table(
    table: pd.DataFrame, lines: Sequence[Standing], labels: Mapping[str, str], key: str = "leaderboard-table"
) -> None:
    drawn = table.copy()
    drawn.insert(0, MARK, [mark(style_of(one.title)) for one in lines])
    drawn["Run"] = [link_to(one.run) if one.run else None for one in lines]
    if "State" in drawn:
        drawn["State"] = [[word] if word else [] for word in drawn["State"]]
    number = st.column_config.NumberColumn
    columns = {
        **method_columns(table[METHOD].tolist()),
        "Normalised (%)": number("Norm.", format="%.1f", width=62, help=accuracy_view.NORMALISED),
        **{
            task_column(task): number(
                shorten(task, _TASK_LETTERS),
                format="%.1f",
                width=task_width(task),
                help=escape_markdown(f"{label}: accuracy in percent"),
            )
            for task, label in labels.items()
        },
        "Data": st.column_config.TextColumn(width=85, help="The images that the method needs by itself"),
        "Chosen": st.column_config.TextColumn(
            width=95, help="Its parameters that are chosen on labelled validation images"
        ),
        "State": st.column_config.MultiselectColumn(
            width=85, options=list(_STATES), color=list(_STATES.values()), help="Of its run"
        ),
        "λ": number(format="%g", width=50, help="Chosen on validation images"),
        "Seconds": number(
            format="%.1f",
            width=80,
            help="From files to accuracy, the search for λ included; of what was run here",
        ),
        "Memory (MB)": number(format="%d", width=110, help="The most held while it ran, above what was before"),
        "Paper": st.column_config.LinkColumn(width=95, display_text=r"arxiv\.org/abs/(.+)"),
        "Run": st.column_config.LinkColumn(width=115, display_text=r"run=(\w+)", help="Opens the run in a new tab"),
        "Note": st.column_config.TextColumn(width=360),
    }
    st.dataframe(
        drawn,
        key=key,
        hide_index=True,
        width="stretch",
        height="content",
        placeholder="–",
        column_config=columns,
    )


def task_width(task: str) -> int:
    """Pixels of a task's column: its name fits, and eight of the usual length fit into a window of 1280."""
    return max(_NARROWEST, text_width(shorten(task, _TASK_LETTERS)))


def link_to(run: str) -> str:
    """Where the page Runs shows a run, relative to the other pages, with suite and tasks as they are chosen."""
    return "runs?" + urlencode({"run": run, **state.shared_query()}, doseq=True)
