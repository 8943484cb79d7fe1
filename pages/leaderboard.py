"""Leaderboard: every published method on the chosen suite and tasks, and what others published."""

from functools import partial

import streamlit as st

from merging.charts.leaderboard import NEEDS_WORDS, Standing, leaderboard_dots, leaderboard_table, takeaway
from merging.methods.params import NEEDS, Needs
from merging.methods.presets import PRESETS
from merging.runs import Run
from merging.runs.leaderboard import cheapest_first, data_looked_at, two_settings
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.accuracy.leaderboard_view import show_leaderboard, standings
from ui.accuracy.preset_runs import MethodEntry, look_up
from ui.accuracy.reported_view import published_section
from ui.look.figure import offer_csv, show
from ui.runs import shipped
from ui.runs.panel import how_long, run_panel
from ui.runs.queueing import queue
from ui.runs.text import provenance
from ui.shell import session, state
from ui.shell.entry import through_app
from ui.shell.rights import Act
from ui.shell.url import choice

through_app()

_NEXT = 2  # waiting runs that are shown with their progress; the others are counted
_COMPARED = 6  # methods that the page Accuracy can show side by side


def controls() -> list[Needs]:
    """The kinds of data that methods may look at."""
    chosen: list[Needs] = choice(
        st.pills,
        "Data needed",
        {needs: _needs_text(needs) for needs in NEEDS},
        selection_mode="multi",
        default=NEEDS,
        key="data",
        help="By the method itself. λ, and what else is marked as chosen, takes labelled validation images besides.",
    )
    return list(chosen)


def _needs_text(needs: Needs) -> str:
    return NEEDS_WORDS[needs].capitalize()


def action(entries: list[MethodEntry]) -> None:
    """The one primary button: queue what is missing."""
    missing = [entry for entry in entries if entry.missing]
    if not missing:
        return
    button, note = st.columns([0.3, 0.7], vertical_alignment="center")
    label = "Run all" if len(missing) == len(entries) else "Run the missing ones"
    if button.button(label, type="primary", icon=":material/play_arrow:", width="stretch"):
        queue([entry.spec for entry in missing])
    note.caption(
        f"{len(missing)} of {len(entries)} methods have no result yet. They are carried out one after the other, what "
        f"is quick first. This takes {how_long([entry.spec for entry in missing])}. Results stay when you leave."
    )


def watch(entries: list[MethodEntry]) -> None:
    """Progress of what goes on and what is next, and what failed with its reason."""
    runs = [(entry, entry.under_way) for entry in entries if entry.under_way is not None]
    waiting = in_turn([pair for pair in runs if pair[1].state == "queued"])
    shown = [pair for pair in runs if pair[1].state in ("running", "failed", "lost")] + waiting[:_NEXT]
    if not shown:
        return
    run_panel([run for _, run in shown], key="board", names={run.id: entry.preset.title for entry, run in shown})
    if len(waiting) > _NEXT:
        note, button = st.columns([0.8, 0.2], vertical_alignment="center")
        names = " · ".join(entry.preset.title for entry, _ in waiting[_NEXT:])
        note.caption(f"{len(waiting) - _NEXT} more wait: {names}.")
        own = [run for _, run in waiting if session.may(Act.CANCEL, run)]
        if own and button.button("Cancel all waiting", icon=":material/stop_circle:", width="stretch"):
            for run in own:
                state.workspace().store.cancel(run.id)
            st.rerun()


def in_turn(waiting: list[tuple[MethodEntry, Run]]) -> list[tuple[MethodEntry, Run]]:
    """Those that wait, in the order in which they are carried out."""
    order = {run.id: place for place, run in enumerate(state.workspace().store.queued())} if waiting else {}
    return sorted(waiting, key=lambda pair: order.get(pair[1].id, -1))


def results(lines: list[Standing], tasks: tuple[str, ...], entries: list[MethodEntry]) -> None:
    """The table and the chart."""
    table = leaderboard_table(lines, tasks)
    done = [entry.run for entry in entries if entry.run is not None and entry.done]
    before = table["Run"].isin([run.id for run in done if run.shipped])
    table.loc[before, "Seconds"] = None  # of a machine that did other things besides
    show_leaderboard(table, lines, accuracy_view.task_labels(tasks))
    shipped.say([measuring.shipped_baselines("test"), *done], "board")
    with st.container(horizontal=True, vertical_alignment="center"):
        offer_csv(table, key="leaderboard", file="leaderboard")
        best = [line.run for line in lines if line.row and line.run][:_COMPARED]
        if best:
            st.page_link(
                "pages/accuracy.py",
                label="Compare the best task by task",
                icon=":material/bar_chart:",
                query_params={**state.shared_query(), "runs": best},
            )
    if not done:
        return
    st.caption(provenance(done))
    st.header("On average")
    show(
        partial(leaderboard_dots, lines, st.context.theme.type == "dark"),
        key="leaderboard-dots",
        takeaway=takeaway(lines),
        table=table.drop(columns=["Paper", "Run", "Note"]),
        file="leaderboard-averages",
    )


def board(tasks: tuple[str, ...]) -> None:
    """The suite's own leaderboard."""
    wanted = controls()
    every = look_up(cheapest_first(PRESETS.values()), tasks)
    entries = [entry for entry in every if data_looked_at(entry.preset).needs in wanted]
    if not entries:
        st.info("No kind of data is chosen, so there is no method to show. Choose at least one.")
        return
    action(entries)
    watch(entries)
    baselines = accuracy_view.baseline_series(tasks)
    if not baselines:
        accuracy_view.offer_baselines(tasks)
    lines = [line for line in standings(every, baselines) if line.baseline or line.data.needs in wanted]
    results(lines, tasks, entries)


st.title("Leaderboard")
st.write(
    "Every published method, this project's own and yours on the chosen suite and tasks, each with the parameters that "
    "its paper or author gives and λ chosen on labelled validation images, ranked by average accuracy on test images."
)
st.markdown(f":small[{two_settings()}]")  # a caption would be too faint for the command in it
selected = state.selected_tasks()
if not accuracy_view.explain_unmeasurable(selected):
    board(selected)
published_section(state.suite(), selected)
