"""The leaderboard as its page shows it: lines from runs, and the table with bars, markers and links."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from merging import registry
from merging.leaderboard import baseline_rows, data_looked_at, row_of
from merging.runs import Run
from merging.runs.store import ACTIVE
from ui import state
from ui.charts.accuracy import Series
from ui.charts.leaderboard import NOT_RUN, UNDER_WAY, Standing, ranked, task_column
from ui.comparison import Entry
from ui.figure import escape_markdown
from ui.run_text import STATE_COLORS
from ui.theme import glyph_of, style_of

_STATES = {NOT_RUN: "gray", UNDER_WAY: "blue"} | {
    name: color for name, color in STATE_COLORS.items() if name not in ACTIVE
}


def standings(entries: Sequence[Entry], baselines: Sequence[Series]) -> list[Standing]:
    """The lines of the leaderboard, best average first.

    Args:
        entries: the methods.
        baselines: zero-shot and individual accuracy on the same tasks, or nothing if they are not measured.
    """
    accuracies = [dict(one.accuracy) for one in baselines]
    lines = [
        Standing(
            title=row.method, method=row.method, variant=0, data=row.data, paper="", note="", state="", run=None,
            row=row,
        )
        for row in (baseline_rows(*accuracies) if accuracies else ())
    ]  # fmt: skip
    individual = accuracies[1] if accuracies else {}
    variants = variants_of(entries)
    for entry in entries:
        preset, run = entry.preset, entry.run
        row = row_of(preset, run, individual) if run is not None and entry.done else None
        lines.append(
            Standing(
                title=preset.title, method=entry.spec.label, variant=variants[preset.name], data=data_looked_at(preset),
                paper=preset.paper, note=preset.note, state=state_of(run), run=run.id if run else None, row=row,
                localised=registry.find("merge", preset.merge).localised,
            )
        )  # fmt: skip
    return ranked(lines)


def variants_of(entries: Sequence[Entry]) -> dict[str, int]:
    """Preset → 0 for the one that is called as its edit and merge are, or else the first of them; then 1, 2, …"""
    seen: dict[str, int] = {}
    variants = {}
    for entry in sorted(entries, key=lambda entry: entry.preset.title != entry.spec.label):
        variants[entry.preset.name] = seen.get(entry.spec.label, 0)
        seen[entry.spec.label] = variants[entry.preset.name] + 1
    return variants


def state_of(run: Run | None) -> str:
    """A run's state in the table, which is not drawn anew when a run that waits starts."""
    if run is None:
        return NOT_RUN
    return UNDER_WAY if run.active else run.state


def show_leaderboard(table: pd.DataFrame, lines: Sequence[Standing], labels: Mapping[str, str]) -> None:
    """The table on screen.

    Args:
        table: as :func:`~ui.charts.leaderboard.leaderboard_table` makes it.
        lines: its lines.
        labels: task → what to call it.
    """
    drawn = table.copy()
    drawn.insert(0, "Mark", [glyph_of(one.method, one.variant) for one in lines])
    drawn["Run"] = [link_to(one.run) if one.run else None for one in lines]
    if "State" in drawn:
        drawn["State"] = [[word] if word else [] for word in drawn["State"]]
    colors = [f"color: {style_of(one.method).color}" for one in lines]
    number = st.column_config.NumberColumn
    columns = {
        "Mark": st.column_config.TextColumn("", width=36, pinned=True, help="Colour and marker in all charts"),
        "Method": st.column_config.TextColumn(width=165, pinned=True),
        "Data": st.column_config.TextColumn(width=80, help="The images that the method needs by itself"),
        "Average (%)": st.column_config.ProgressColumn(
            min_value=0, max_value=100, format="%.1f", color="#2e93d1", width=120
        ),
        "Normalised (%)": number(
            "Normalised", format="%.1f", width=92, help="Mean of accuracy divided by that of each task's own model"
        ),
        "State": st.column_config.MultiselectColumn(
            width=85, options=list(_STATES), color=list(_STATES.values()), help="Of its run"
        ),
        **{
            task_column(task): number(format="%.1f", width=78, help=escape_markdown(label))
            for task, label in labels.items()
        },
        "Chosen": st.column_config.TextColumn(
            width=95, help="Its parameters that are chosen on labelled validation images"
        ),
        "λ": number(format="%g", width=50, help="Chosen on validation images"),
        "Seconds": number(format="%.1f", width=75, help="From files to accuracy, the search for λ included"),
        "Memory (MB)": number(format="%d", width=100, help="Peak of the process"),
        "Paper": st.column_config.LinkColumn(width=95, display_text=r"arxiv\.org/abs/(.+)"),
        "Run": st.column_config.LinkColumn(width=115, display_text=r"run=(\w+)", help="Opens the run in a new tab"),
        "Note": st.column_config.TextColumn(width=330),
    }
    st.dataframe(
        drawn.style.apply(lambda _: colors, subset=["Mark"]), key="leaderboard-table", hide_index=True, width="stretch",
        height="content", placeholder="–", column_config=columns,
    )  # fmt: skip


def link_to(run: str) -> str:
    """Where the page Runs shows a run, relative to the other pages, with suite and tasks as they are chosen."""
    return "runs?" + urlencode({"run": run, **state.shared_query()}, doseq=True)
