"""Runs: the history, what differs between runs, and everything about one."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from merging.errors import MergingError
from merging.runs import Run
from merging.runs.compare import MAX_RUNS
from merging.runs.weights import KEPT_WEIGHTS
from ui import state
from ui.charts.runs import timing_figure
from ui.entry import through_app
from ui.figure import escape_markdown, show
from ui.merge_form import Draft
from ui.no_runs import no_runs
from ui.run_details import belongs_here, details
from ui.run_differences import show_differences
from ui.run_export import MAX_DOWNLOAD, to_folder, zipped
from ui.run_panel import ensure_worker, run_panel
from ui.run_text import STATE_COLORS, badge, duration, name_runs, scaling_of, when
from ui.url_choice import chosen_ids, remember_ids

through_app()


def history(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, newest first."""
    rows = []
    for run in runs:
        result = run.result or {}
        average = result.get("average")
        took = run.finished - run.started if run.finished and run.started else None
        rows.append(
            {
                "State": [run.state], "Method": run.spec.label,
                "Average (%)": None if average is None else 100 * average, "Coefficients": scaling_of(run),
                "Tasks": len(run.spec.tasks), "Took": "" if took is None else duration(took), "Run": run.id,
                "Started": when(run.started or run.created), "Suite": run.spec.suite_name, "Split": run.spec.split,
                "Seed": run.spec.seed, "Device": run.spec.device,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    same = [name for name in ("Suite", "Split", "Seed", "Device") if table[name].nunique() < 2]
    return table.drop(columns=same)  # what is the same everywhere needs no column


def choose(runs: Sequence[Run]) -> list[Run]:
    """The table; the runs that are checked stand in the URL."""
    ids = [run.id for run in runs]
    chosen = chosen_ids("run", "runs-chosen", ids, [], "The table holds all there are.")
    st.session_state["runs-table"] = {
        "selection": {"rows": [ids.index(one) for one in chosen], "columns": [], "cells": []}
    }

    def take_over() -> None:
        rows = st.session_state["runs-table"]["selection"]["rows"]
        st.session_state["runs-chosen"] = [ids[row] for row in rows if row < len(ids)]

    st.dataframe(
        history(runs), key="runs-table", on_select=take_over, selection_mode="multi-row", hide_index=True,
        width="stretch", height="content" if len(runs) <= 10 else 400, placeholder="–",
        column_config={
            "State": st.column_config.MultiselectColumn(
                width=85, options=list(STATE_COLORS), color=list(STATE_COLORS.values())
            ),
            "Method": st.column_config.TextColumn(width=155),
            "Average (%)": st.column_config.ProgressColumn(
                min_value=0, max_value=100, format="%.1f", color="#2e93d1", width=100
            ),
            "Coefficients": st.column_config.TextColumn(width=145),
            "Tasks": st.column_config.NumberColumn(width=40),
            "Run": st.column_config.TextColumn(width=95),
            "Started": st.column_config.TextColumn(width=70),
            "Took": st.column_config.TextColumn(width=70, help="From start to end, waiting not counted"),
        },
    )  # fmt: skip
    remember_ids("run", "runs-chosen", chosen)
    return [run for run in runs if run.id in chosen]


def compare(runs: list[Run]) -> None:
    """What differs between several runs, and how long each took."""
    names = name_runs(runs)
    st.subheader(f"{len(runs)} runs compared")
    show_differences(runs)
    seconds = {names[run.id]: run.result["seconds"] for run in runs if run.result}
    if len(seconds) > 1:
        totals = {name: times["total"] for name, times in seconds.items()}
        fastest, slowest = min(totals, key=lambda n: totals[n]), max(totals, key=lambda n: totals[n])
        show(
            timing_figure(seconds), key="runs-timing", file="timings",
            takeaway=f"{fastest} took {duration(totals[fastest])}, {slowest} {duration(totals[slowest])}.",
            table=pd.DataFrame(seconds).T.rename_axis("Run").reset_index(),
        )  # fmt: skip
        ids = [run.id for run in runs if run.result]
        with st.container(horizontal=True):
            st.page_link(
                "pages/accuracy.py", label="Compare their accuracy", icon=":material/bar_chart:",
                query_params={**state.shared_query(), "runs": ids},
            )  # fmt: skip
            st.page_link(
                "pages/compare.py", label="Compare image by image", icon=":material/compare_arrows:",
                query_params={**state.shared_query(), "run": ids[:MAX_RUNS]},
            )  # fmt: skip


def heading(run: Run) -> None:
    """Name, state and what can be done with a run."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(escape_markdown(run.spec.label), width="content")
        st.markdown(f"{badge(run.state)} &nbsp; `{run.id}`", width="content")
        st.space("stretch")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            actions(run)


def actions(run: Run) -> None:
    """What can be done with a run."""
    if run.state == "done":
        export(run)
    # No link: suite and tasks are widgets that are there already, which take nothing from the URL any more.
    if st.button(
        "Adjust", icon=":material/tune:", key=f"adjust-{run.id}", help="Opens the page Merge with these settings",
        on_click=state.choose, args=(run.spec.suite, run.spec.tasks),
    ):  # fmt: skip
        st.switch_page("pages/merge.py", query_params=form_of(run))
    if run.state == "done":
        with st.popover("Run again", icon=":material/replay:", key=f"again-{run.id}"):
            again(run)
    if run.state != "running":
        with st.popover("Delete", icon=":material/delete:", key=f"delete-{run.id}"):
            delete(run)


def form_of(run: Run) -> dict[str, str]:
    """Query parameters that open the page Merge with a run's settings."""
    spec = run.spec
    return Draft(
        {"edit": spec.edit, "merge": spec.merge},
        {"edit": spec.edit_params, "merge": spec.merge_params},
        {"device": spec.device, "seed": spec.seed, "split": spec.split, "dtype": spec.dtype},
    ).query()


def export(run: Run) -> None:
    """Weights, recipe and description as a download; large ones into a folder."""
    linear = bool(run.result and run.result.get("coefficients"))
    kept = state.workspace().store.folder(run.id) / KEPT_WEIGHTS
    if linear and not belongs_here(run):
        st.button(
            "Export", icon=":material/download:", disabled=True,
            help="Choose this run's suite in the sidebar; its checkpoints must not have changed since.",
        )  # fmt: skip
    elif (state.suite().base_checkpoint.nbytes if linear else file_size(kept)) <= MAX_DOWNLOAD:
        st.download_button(
            "Export", lambda: zipped(run, state.workspace()), f"{run.id}.zip", "application/zip", on_click="ignore",
            icon=":material/download:", key=f"export-{run.id}", help="Merged weights, recipe and a description, zipped",
        )  # fmt: skip
    elif st.button("Export", icon=":material/folder:", help="Writes weights, recipe and a description to a folder"):
        with st.spinner("Writing the weights …"):
            folder = to_folder(run, state.workspace())
        st.toast(f"Written to {escape_markdown(folder)}", icon=":material/check:")


def file_size(path: Path) -> int:
    """Bytes of a file, 0 if it is gone."""
    return path.stat().st_size if path.is_file() else 0


def select(run: Run) -> None:
    """Show this run next."""
    st.session_state["runs-chosen"] = [run.id]


def again(run: Run) -> None:
    """Queue the specification of a finished run once more."""
    st.write("The same settings and files give the same numbers. This replaces the result.")
    if st.button("Run it again", type="primary", key=f"again-now-{run.id}"):
        space = state.workspace()
        if space.spec_fingerprint(run.spec) == run.fingerprint:
            space.store.delete(run.id)
        fresh = space.submit(run.spec)
        ensure_worker()
        select(fresh)
        st.rerun()


def delete(run: Run) -> None:
    """Remove a run after asking."""
    st.write("This removes the run and its files for good.")
    if st.button("Delete it", type="primary", icon=":material/delete:", key=f"delete-now-{run.id}"):
        state.workspace().store.delete(run.id)
        st.session_state["runs-chosen"] = []
        st.query_params.pop("run", None)
        st.toast(f"Run {run.id} was deleted", icon=":material/check:")
        st.rerun()


st.title("Runs")
every = state.workspace().store.all()
if not every:
    no_runs("No runs yet. Run the comparison on Start, or a merge of your own; every run is kept here.", "run")
active = [run.id for run in state.workspace().store.active()]
if active:
    run_panel(active, key="runs-active")
picked = choose(every)
if not picked:
    st.caption("Check one run to see everything about it, or several to compare them.")
    st.stop()
if len(picked) > 1:
    compare(picked)
for one in picked[:1] if len(picked) > 4 else picked:
    heading(one)
    try:
        if one.state == "done":
            details(one)
        elif one.id not in active:
            run_panel([one.id], key=f"ended-{one.id}", on_retry=select)
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
