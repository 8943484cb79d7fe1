"""What differs between the settings of several runs, as a table."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from merging.charts.run_series import name_runs
from merging.runs import Run
from merging.runs.comparison.settings import differing
from ui.look.figure import offer_csv

_HIGHLIGHT = "background-color: rgba(204, 127, 0, 0.22)"


def differences(runs: Sequence[Run]) -> pd.DataFrame:
    """The settings in which runs differ: a row per setting, a column per run, values as text."""
    names = name_runs(runs)
    columns = [names[run.id] for run in runs]
    return pd.DataFrame(
        [{"Setting": name, **dict(zip(columns, values, strict=True))} for name, values in differing(runs)]
    )


def show_differences(runs: Sequence[Run]) -> None:
    """The table of :func:`differences` with values unlike the first run's marked."""
    table = differences(runs)
    if table.empty:
        st.caption("These runs have the same settings and files.")
        return
    st.caption("Only what differs; values unlike the first run's are marked.")
    columns = list(table.columns[1:])
    marked = table.style.apply(
        lambda row: ["", *(_HIGHLIGHT if row[name] != row[columns[0]] else "" for name in columns)], axis=1
    )
    st.dataframe(marked, hide_index=True, width="stretch", height="content" if len(table) <= 25 else 800)
    offer_csv(table, key="differences", file="differences")
