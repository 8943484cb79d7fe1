"""Runs: the history, what differs between runs, and everything about one."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from merging.charts.run_series import name_runs
from merging.charts.runs import timing_figure
from merging.core.errors import MergingError
from merging.runs import Run
from merging.runs.comparison.compare import MAX_RUNS
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.listing import Facts, hide, listing, read_runs, unreadable
from merging.runs.run import UnreadableRun
from merging.sweeps import SweepStore
from ui.accuracy.no_runs import no_runs
from ui.history.deleting import deleted_and_disk, offer_delete, offer_undo
from ui.history.details import belongs_here, details
from ui.history.differences import show_differences
from ui.history.export import MAX_DOWNLOAD, offer
from ui.history.finding import chosen_part, chosen_view, count_in_words, nothing_found
from ui.history.notes import offer_notes, show_notes
from ui.history.table import show_table
from ui.history.taking_away import offer_moving, offer_report
from ui.look.figure import escape_markdown, offer_csv, show
from ui.merge.form import VARIED, Draft
from ui.runs.choice import HIDDEN_REASON, came_by_link, chosen_ids, kept_ids, linked_ids, remember_ids
from ui.runs.panel import ensure_worker, run_panel
from ui.runs.text import badge, duration, measured_before, phases, when
from ui.shell import session, state
from ui.shell.entry import through_app
from ui.shell.rights import Act
from ui.shell.url import switch

through_app()

_KEY = "runs-chosen"
_DAMAGED = 20  # runs that can't be read, of which so many are shown
_IN_FULL = 4  # runs that are shown one below the other; of more, only the first


def chosen(facts: Sequence[Facts]) -> list[Run]:
    """The runs that are checked in the table; they stand in the URL."""
    wanted = {*linked_ids(), *(kept_ids(_KEY) or ())}
    there = {one.id: one for one in facts if one.id in wanted}
    ids = chosen_ids(_KEY, list(there), [], "The table holds all there are.")
    remember_ids("run", _KEY, ids)
    return read_runs(state.workspace().store, [one for one in there.values() if one.id in ids])


def listed(facts: Sequence[Facts]) -> list[Facts]:
    """The runs to list: trials of sweeps only where somebody asks for them, or has chosen them."""
    trials = SweepStore(state.workspace().store).trial_fingerprints()
    count = sum(one.fingerprint in trials for one in facts)
    if not count or switch(
        st.toggle,
        f"Trials of sweeps ({count})",
        False,
        key="trials",
        help="Every trial is a run too; the page Sweeps lists them with what was tried",
    ):
        return list(facts)
    return hide(facts, trials, st.session_state[_KEY])


def table(facts: Sequence[Facts]) -> None:
    """The runs that somebody wants to see, a part of them at once, and ways to take them along."""
    view = chosen_view(facts)
    candidates = listed(facts)
    wanted = view.of(candidates)
    if not candidates:
        st.caption("All runs are trials of sweeps.")
        return
    if not wanted:
        nothing_found(len(candidates), view)
        return
    place = st.empty()
    part, which = chosen_part(wanted)
    said = [count_in_words(wanted, len(candidates), view), which]
    if any(said):
        place.caption(escape_markdown(". ".join(filter(None, said))))
    shown = show_table(read_runs(state.workspace().store, part), _KEY)
    with st.container(horizontal=True):
        offer_csv(shown, key="runs", file="runs")
        offer_moving(wanted)


def compare(runs: list[Run]) -> None:
    """What differs between several runs, and how long each took."""
    names = name_runs(runs)
    st.header(f"{len(runs)} runs compared")
    show_differences(runs)
    here = [run for run in runs if run.merged and not run.shipped]  # times of other machines are no comparison
    totals = {names[run.id]: run.merged.seconds["total"] for run in here if run.merged}
    if len(totals) > 1:
        seconds = {names[run.id]: phases(run) for run in here}
        fastest, slowest = min(totals, key=lambda n: totals[n]), max(totals, key=lambda n: totals[n])
        show(
            partial(timing_figure, seconds),
            key="runs-timing",
            file="timings",
            takeaway=f"{fastest} took {duration(totals[fastest])}, {slowest} {duration(totals[slowest])}.",
            table=pd.DataFrame(seconds).T.assign(total=list(totals.values())).rename_axis("Run").reset_index(),
        )
    ids = [run.id for run in runs if run.merged]
    if len(ids) > 1:
        with st.container(horizontal=True, vertical_alignment="center"):
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
            offer_report(runs)


def heading(run: Run) -> None:
    """Name, state and what can be done with a run."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(escape_markdown(run.name or run.label), width="content")
        method = f"{escape_markdown(run.label)} &nbsp; " if run.name else ""
        st.markdown(f"{method}{badge(run.state)} &nbsp; `{run.id}`", width="content")
        if run.shipped:
            st.caption(measured_before([run]), width="content")
        st.space("stretch")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            offer_notes(run)
            actions(run)
    show_notes(run)


def actions(run: Run) -> None:
    """What can be done with a run."""
    if run.state == "done" and session.may(Act.EXPORT, run):
        export(run)
    # No link: suite and tasks are widgets that are there already, which take nothing from the URL any more.
    if st.button(
        "Again with …",
        icon=":material/tune:",
        key=f"adjust-{run.id}",
        help="Opens the page Merge with these settings, and marks what you change",
        on_click=state.choose,
        args=(run.spec.suite, run.spec.tasks),
    ):
        st.switch_page("pages/merge.py", query_params={**form_of(run), VARIED: run.id})
    if run.state == "done" and (run.shipped or session.may(Act.DELETE, run)):
        with st.popover("Run again", icon=":material/replay:", key=f"again-{run.id}"):
            again(run)
    if run.state != "running" and not run.shipped and session.may(Act.DELETE, run):
        with st.popover("Delete", icon=":material/delete:", key=f"delete-{run.id}"):
            offer_delete(run, _KEY)


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
            key=f"export-elsewhere-{run.id}",
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
        fresh = state.workspace().again(run.id)
        ensure_worker()
        select(fresh)
        st.rerun()


def damaged_runs(runs: Sequence[UnreadableRun]) -> None:
    """Rows that can't be read, each with the reason and a way to be rid of it."""
    title = "1 run can't be read" if len(runs) == 1 else f"{len(runs)} runs can't be read"
    with st.expander(title, icon=":material/unknown_document:", expanded=True):
        for run in runs[:_DAMAGED]:
            words, button = st.columns([0.82, 0.18], vertical_alignment="center")
            reason = run.reason if session.may(Act.SEE_FOLDERS) else HIDDEN_REASON
            words.caption(escape_markdown(f"{run.id}, {when(run.created)}, {run.state}: {reason}"))
            if (
                run.state != "running"
                and session.may(Act.DELETE)
                and button.button(
                    "Delete", icon=":material/delete:", key=f"delete-unreadable-{run.id}", width="stretch"
                )
            ):
                state.workspace().store.delete(run.id)
                st.rerun()
        if len(runs) > _DAMAGED:
            st.caption(f"{len(runs) - _DAMAGED:,} more; `merging runs list` names them all.")


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
offer_undo()
with st.spinner("Reading what runs there are, once as long as they stay the same …", show_time=True):
    every, damaged = listing(state.workspace().store), unreadable(state.workspace().store)
if damaged:
    damaged_runs(damaged)
if not every:
    deleted_and_disk()
    no_runs(
        "No runs yet. Here every run is kept: its settings, coefficients and timings, and its weights to take away."
    )
going_on = state.workspace().store.active()
if going_on:
    run_panel(going_on, key="runs-active")
picked = chosen(every)
if came_by_link(_KEY):  # what a link names comes first, not below a table in which it would have to be looked for
    everything(picked)
    st.header("All runs")
table(every)
if not picked:
    st.caption("Check one run to see everything about it, or several to compare them.")
if not came_by_link(_KEY):
    everything(picked)
deleted_and_disk()
