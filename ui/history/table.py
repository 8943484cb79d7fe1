"""The table of the page Runs: a row a run, with a box to check for each."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from merging.charts.columns import AVERAGE, MARK, METHOD, mark
from merging.charts.run_series import scaling_of
from merging.charts.theme import distinct_styles
from merging.runs import Run
from ui.look.columns import fitting, method_columns, text_width
from ui.runs.text import BUILT_IN, STATE_COLORS, duration, when

_ROOM, _METHOD = 855, 230  # pixels: of the table beside its boxes in a window of 1280, and of the longest method
# Left out first; the CSV has them all.
_LEAST_IMPORTANT = ("Device", "Seed", "Tasks", "Run", "Took", "Split", "Asked by", "Tags", "Coefficients")


def history(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, in their order."""
    kinds = sorted({(run.spec.method, run.label) for run in runs}, key=lambda kind: (kind[0] != kind[1], kind))
    looks = dict(zip(kinds, distinct_styles([method for method, _ in kinds]), strict=True))
    rows = []
    for run in runs:
        average = run.merged.score if run.merged else None
        took = run.finished - run.started if run.finished and run.started and not run.shipped else None
        rows.append(
            {
                "State": [BUILT_IN if run.shipped else run.state],
                MARK: mark(looks[run.spec.method, run.label]),
                METHOD: run.label,
                "Name": ("★ " if run.star else "") + run.name,
                "Suite": run.spec.suite_name,
                AVERAGE: None if average is None else 100 * average,
                "Coefficients": scaling_of(run),
                "Took": "" if took is None else duration(took),
                "Started": BUILT_IN if run.shipped else when(run.started or run.created),
                "Machine": "" if run.shipped else run.machine,
                "Asked by": run.person,
                "Tags": list(run.tags),
                "Tasks": len(run.spec.tasks),
                "Run": run.id,
                "Split": run.spec.split,
                "Seed": run.spec.seed,
                "Device": run.spec.device,
            }
        )
    table = pd.DataFrame(rows)
    same = [name for name in ("Suite", "Split", "Seed", "Device") if table[name].nunique() < 2]
    same += ["Machine"] if len({*table["Machine"]} - {""}) < 2 else []
    empty = [name for name in ("Name", "Asked by", "Tags") if not table[name].map(bool).any()]
    return table.drop(columns=[*same, *empty])  # what is the same everywhere needs no column


def _left_out_first(frame: pd.DataFrame) -> list[str]:
    """The columns in which there is least to see, first; the seed is the last where nothing else tells runs apart."""
    settings = [name for name in (METHOD, "Suite", "Tasks", "Split", "Device") if name in frame]
    if "Seed" in frame and frame.groupby(settings)["Seed"].nunique().max() > 1:
        return [*(name for name in _LEAST_IMPORTANT if name != "Seed"), "Seed"]
    return list(_LEAST_IMPORTANT)


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Settings of the columns that only this table has."""
    text = st.column_config.TextColumn
    return {
        "State": st.column_config.MultiselectColumn(
            width=88, options=[*STATE_COLORS, BUILT_IN], color=[*STATE_COLORS.values(), "violet"]
        ),
        "Suite": text(width=min(104, text_width(max(frame.get("Suite", [""]), key=len)))),
        "Coefficients": text(width=172),
        "Name": text(width=130, help="With a star where somebody marked it"),
        "Machine": text(width=104, help="On which it was asked for"),
        "Asked by": text(width=84),
        "Tags": st.column_config.ListColumn(width=120),
        "Took": text(width=84, help="From start to end, waiting not counted; of what was run here"),
        "Started": text(width=72 if max(map(len, frame["Started"])) < 9 else 125),
        "Tasks": st.column_config.NumberColumn(width=52),
        "Run": text(width=106),
        "Split": text(width=46),
        "Seed": st.column_config.NumberColumn(width=46),
        "Device": text(width=58),
    }


def show_table(runs: Sequence[Run], key: str) -> pd.DataFrame:
    """Runs with a box to check for each; under ``key`` are the ids of those checked, shown here or not.

    Returns:
        The table for a file.
    """
    ids = [run.id for run in runs]
    rows = [ids.index(one) for one in st.session_state[key] if one in ids]
    st.session_state["runs-table"] = {"selection": {"rows": rows, "columns": [], "cells": []}}

    def take_over() -> None:
        rows = st.session_state["runs-table"]["selection"]["rows"]
        elsewhere = [one for one in st.session_state[key] if one not in ids]  # in another part, or not found
        st.session_state[key] = [*elsewhere, *(ids[row] for row in rows if row < len(ids))]

    frame = history(runs)
    settings = {**method_columns(frame[METHOD].tolist(), pinned=False, widest=_METHOD), **_columns(frame)}
    widths = {str(name): int(settings[str(name)]["width"]) for name in frame}
    # As Python rounds, not the browser.
    averages = [None if pd.isna(average) else round(average, 1) for average in frame[AVERAGE]]
    st.dataframe(
        frame.assign(**{AVERAGE: pd.Series(averages, index=frame.index)}),
        key="runs-table",
        on_select=take_over,
        selection_mode="multi-row",
        hide_index=True,
        width="stretch",
        height="content" if len(runs) <= 10 else 400,
        placeholder="–",
        column_config=settings,
        column_order=fitting(widths, _ROOM, _left_out_first(frame)),
    )
    if any(run.spec.forgotten for run in runs):
        st.caption("The average of a run that forgets is over all other tasks of the suite that can be measured.")
    return frame.assign(State=[BUILT_IN if run.shipped else run.state for run in runs])
