"""Runs: the history, what differs between runs, and everything about one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from merging.charts.columns import AVERAGE, MARK, METHOD, mark
from merging.charts.run_series import name_runs, scaling_of
from merging.charts.runs import timing_figure
from merging.charts.theme import distinct_styles
from merging.core.errors import MergingError
from merging.runs import Run
from merging.runs.comparison.compare import MAX_RUNS
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.run import UnreadableRun
from merging.sweeps import SweepStore
from ui.accuracy.no_runs import no_runs
from ui.history.details import belongs_here, details
from ui.history.differences import show_differences
from ui.history.export import MAX_DOWNLOAD, offer
from ui.look.columns import fitting, method_columns, text_width
from ui.look.figure import escape_markdown, offer_csv, show
from ui.merge.form import Draft
from ui.runs.choice import HIDDEN_REASON, came_by_link, chosen_ids, remember_ids
from ui.runs.panel import ensure_worker, run_panel
from ui.runs.text import BUILT_IN, STATE_COLORS, badge, duration, measured_before, phases, when
from ui.shell import session, state
from ui.shell.entry import through_app
from ui.shell.rights import Act
from ui.shell.url import switch

through_app()

_KEY = "runs-chosen"
_ROOM, _METHOD = 855, 230  # pixels: of the table beside its boxes in a window of 1280, and of the longest method
_LEAST_IMPORTANT = ("Device", "Seed", "Tasks", "Run", "Took", "Split")  # left out first; the CSV has them all
_IN_FULL = 4  # runs that are shown one below the other; of more, only the first


def history(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, newest first."""
    kinds = sorted({(run.spec.method, run.label) for run in runs}, key=lambda kind: (kind[0] != kind[1], kind))
    looks = dict(zip(kinds, distinct_styles([method for method, _ in kinds]), strict=True))
    rows = []
    for run in runs:
        average = run.merged.score if run.merged else None
        took = run.finished - run.started if run.finished and run.started else None
        rows.append(
            {
                "State": [BUILT_IN if run.shipped else run.state],
                MARK: mark(looks[run.spec.method, run.label]),
                METHOD: run.label,
                "Suite": run.spec.suite_name,
                AVERAGE: None if average is None else 100 * average,
                "Coefficients": scaling_of(run),
                "Took": "" if took is None else duration(took),
                "Started": BUILT_IN if run.shipped else when(run.started or run.created),
                "Tasks": len(run.spec.tasks),
                "Run": run.id,
                "Split": run.spec.split,
                "Seed": run.spec.seed,
                "Device": run.spec.device,
            }
        )
    table = pd.DataFrame(rows)
    same = [name for name in ("Suite", "Split", "Seed", "Device") if table[name].nunique() < 2]
    return table.drop(columns=same)  # what is the same everywhere needs no column


def chosen(runs: Sequence[Run]) -> list[Run]:
    """The runs that are checked in the table; they stand in the URL."""
    ids = chosen_ids(_KEY, [run.id for run in runs], [], "The table holds all there are.")
    remember_ids("run", _KEY, ids)
    return [run for run in runs if run.id in ids]


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Settings of the columns that only this table has."""
    text = st.column_config.TextColumn
    return {
        "State": st.column_config.MultiselectColumn(
            width=88, options=[*STATE_COLORS, BUILT_IN], color=[*STATE_COLORS.values(), "violet"]
        ),
        "Suite": text(width=min(104, text_width(max(frame.get("Suite", [""]), key=len)))),
        "Coefficients": text(width=172),
        "Took": text(width=84, help="From start to end, waiting not counted"),
        "Started": text(width=72 if max(map(len, frame["Started"])) < 9 else 125),
        "Tasks": st.column_config.NumberColumn(width=52),
        "Run": text(width=106),
        "Split": text(width=46),
        "Seed": st.column_config.NumberColumn(width=46),
        "Device": text(width=58),
    }


def table(runs: Sequence[Run]) -> None:
    """All runs, with a box to check for each."""
    if not runs:
        st.caption("All runs are trials of sweeps.")
        return
    ids = [run.id for run in runs]
    rows = [ids.index(one) for one in st.session_state[_KEY]]
    st.session_state["runs-table"] = {"selection": {"rows": rows, "columns": [], "cells": []}}

    def take_over() -> None:
        rows = st.session_state["runs-table"]["selection"]["rows"]
        st.session_state[_KEY] = [ids[row] for row in rows if row < len(ids)]

    frame = history(runs)
    settings = {**method_columns(frame[METHOD].tolist(), pinned=False, widest=_METHOD), **_columns(frame)}
    widths = {str(name): int(settings[str(name)]["width"]) for name in frame}
    st.dataframe(
        frame,
        key="runs-table",
        on_select=take_over,
        selection_mode="multi-row",
        hide_index=True,
        width="stretch",
        height="content" if len(runs) <= 10 else 400,
        placeholder="–",
        column_config=settings,
        column_order=fitting(widths, _ROOM, _LEAST_IMPORTANT),
    )
    if any(run.spec.forgotten for run in runs):
        st.caption("The average of a run that forgets is over all other tasks of the suite that can be measured.")
    offer_csv(frame.assign(State=[BUILT_IN if run.shipped else run.state for run in runs]), key="runs", file="runs")


def listed(runs: Sequence[Run]) -> list[Run]:
    """The runs to list: trials of sweeps only where somebody asks for them, or has chosen them."""
    trials = SweepStore(state.workspace().store).trial_fingerprints()
    count = sum(run.fingerprint in trials for run in runs)
    if not count or switch(
        st.toggle,
        f"Trials of sweeps ({count})",
        False,
        key="trials",
        help="Every trial is a run too; the page Sweeps lists them with what was tried",
    ):
        return list(runs)
    return [run for run in runs if run.fingerprint not in trials or run.id in st.session_state[_KEY]]


def compare(runs: list[Run]) -> None:
    """What differs between several runs, and how long each took."""
    names = name_runs(runs)
    st.subheader(f"{len(runs)} runs compared")
    show_differences(runs)
    totals = {names[run.id]: run.merged.seconds["total"] for run in runs if run.merged}
    if len(totals) > 1:
        seconds = {names[run.id]: phases(run) for run in runs if run.result}
        fastest, slowest = min(totals, key=lambda n: totals[n]), max(totals, key=lambda n: totals[n])
        show(
            timing_figure(seconds),
            key="runs-timing",
            file="timings",
            takeaway=f"{fastest} took {duration(totals[fastest])}, {slowest} {duration(totals[slowest])}.",
            table=pd.DataFrame(seconds).T.assign(total=list(totals.values())).rename_axis("Run").reset_index(),
        )
        ids = [run.id for run in runs if run.result]
        with st.container(horizontal=True):
            st.page_link(
                "pages/accuracy.py",
                label="Compare their accuracy",
                icon=":material/bar_chart:",
                query_params={**state.shared_query(), "runs": ids},
            )
            st.page_link(
                "pages/compare.py",
                label="Compare image by image",
                icon=":material/compare_arrows:",
                query_params={**state.shared_query(), "run": ids[:MAX_RUNS]},
            )


def heading(run: Run) -> None:
    """Name, state and what can be done with a run."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(escape_markdown(run.label), width="content")
        st.markdown(f"{badge(run.state)} &nbsp; `{run.id}`", width="content")
        if run.shipped:
            st.caption(measured_before([run]), width="content")
        st.space("stretch")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            actions(run)


def actions(run: Run) -> None:
    """What can be done with a run."""
    if run.state == "done" and session.may(Act.EXPORT, run):
        export(run)
    # No link: suite and tasks are widgets that are there already, which take nothing from the URL any more.
    if st.button(
        "Adjust",
        icon=":material/tune:",
        key=f"adjust-{run.id}",
        help="Opens the page Merge with these settings",
        on_click=state.choose,
        args=(run.spec.suite, run.spec.tasks),
    ):
        st.switch_page("pages/merge.py", query_params=form_of(run))
    if run.state == "done" and (run.shipped or session.may(Act.DELETE, run)):
        with st.popover("Run again", icon=":material/replay:", key=f"again-{run.id}"):
            again(run)
    if run.state != "running" and not run.shipped and session.may(Act.DELETE, run):
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
    """Weights, in the form that is chosen, recipe and description as a download; large ones into a folder."""
    linear = run.coefficients is not None
    kept = state.workspace().store.folder(run.id) / KEPT_WEIGHTS
    if linear and not belongs_here(run):
        st.button(
            "Export",
            icon=":material/download:",
            disabled=True,
            help="Choose this run's suite in the sidebar; its checkpoints must not have changed since.",
        )
    else:
        offer(run, to_disk=(state.suite().base_checkpoint.nbytes if linear else file_size(kept)) > MAX_DOWNLOAD)


def file_size(path: Path) -> int:
    """Bytes of a file, 0 if it is gone."""
    return path.stat().st_size if path.is_file() else 0


def select(run: Run) -> None:
    """Show this run next."""
    st.session_state[_KEY] = [run.id]


def again(run: Run) -> None:
    """Queue the specification of a finished run once more."""
    then = "From then on its result is shown" if run.shipped else "This replaces the result"
    st.write(f"The same settings and files give the same numbers. {then}.")
    if st.button("Run it again", type="primary", key=f"again-now-{run.id}"):
        space = state.workspace()
        if not run.shipped and run.spec.fingerprint(space) == run.fingerprint:
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
        st.session_state[_KEY] = []
        st.query_params.pop("run", None)
        st.toast(f"Run {run.id} was deleted", icon=":material/check:")
        st.rerun()


def unreadable(runs: Sequence[UnreadableRun]) -> None:
    """Rows that can't be read, each with the reason and a way to be rid of it."""
    title = "1 run can't be read" if len(runs) == 1 else f"{len(runs)} runs can't be read"
    with st.expander(title, icon=":material/unknown_document:", expanded=True):
        for run in runs:
            words, button = st.columns([0.82, 0.18], vertical_alignment="center")
            reason = run.reason if session.may(Act.SEE_FOLDERS) else HIDDEN_REASON
            words.caption(escape_markdown(f"{when(run.created)}, {run.state}: {reason}"))
            if (
                run.state != "running"
                and session.may(Act.DELETE)
                and button.button(
                    "Delete", icon=":material/delete:", key=f"delete-unreadable-{run.id}", width="stretch"
                )
            ):
                state.workspace().store.delete(run.id)
                st.rerun()


def everything(runs: list[Run]) -> None:
    """All about the runs that are checked: what differs between several, then each."""
    if len(runs) > 1:
        compare(runs)
    for one in runs[:1] if len(runs) > _IN_FULL else runs:
        heading(one)
        try:
            if one.state == "done":
                details(one)
            elif not one.active:
                run_panel([one], key=f"ended-{one.id}", on_retry=select)
        except MergingError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")


st.title("Runs")
every, damaged = state.workspace().store.all_to_show(), state.workspace().store.unreadable()
if damaged:
    unreadable(damaged)
if not every:
    no_runs(
        "No runs yet. Here every run is kept: its settings, coefficients and timings, and its weights to take away."
    )
going_on = state.workspace().store.active()
if going_on:
    run_panel(going_on, key="runs-active")
picked = chosen(every)
if came_by_link(_KEY):  # what a link names comes first, not below a table in which it would have to be looked for
    everything(picked)
    st.subheader("All runs")
    table(listed(every))
    st.stop()
table(listed(every))
if not picked:
    st.caption("Check one run to see everything about it, or several to compare them.")
everything(picked)
