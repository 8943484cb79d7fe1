"""Sweeps: try many combinations of methods, parameter values and task subsets; the best on validation wins."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import streamlit as st

from merging.charts.sweeps import course_figure, objective_title, parallel_figure, trials_table
from merging.core.errors import MergingError
from merging.suites.suite import is_name
from merging.sweeps import Sweep, SweepDefinition, SweepStore, Trial, driver
from merging.sweeps.progress import Snapshot, look, trial_in_words
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, show, show_table
from ui.merge import sweep_form
from ui.runs.panel import ensure_worker, how_long
from ui.runs.text import when
from ui.shell import session, state
from ui.shell.entry import through_app
from ui.shell.rights import Act
from ui.shell.url import choice, not_found, warn

through_app()

_POLL_SECONDS = 1.5
_COUNTED = 200  # trials of a subset whose time is added up before the sweep is started
_FORM_LINKED = "sweep-form-linked"  # session state: a link filled the form, and nothing was started with it yet
_BADGES = {
    "running": ":blue-badge[:material/progress_activity: running]",
    "done": ":green-badge[:material/check: done]",
    "failed": ":red-badge[:material/error: failed]",
    "cancelled": ":gray-badge[:material/block: cancelled]",
}


def sweeps() -> SweepStore:
    """The tables of sweeps of this workspace."""
    return SweepStore(state.workspace().store)


def new_sweep(expanded: bool) -> None:
    """The form, what it comes to, and the button that starts it."""
    notes = st.container()
    with st.expander("New sweep", expanded=expanded, icon=":material/add:"):
        definition, scheduler = sweep_form.draw(notes)
        words, button = st.columns([0.75, 0.25], vertical_alignment="center")
        if definition is not None:
            words.markdown(plan(definition))
            words.caption(takes(definition))
            with st.popover("The same as a file", icon=":material/terminal:", type="tertiary"):
                st.code(definition.to_yaml(), language="yaml")
                st.code("merging sweep sweep.yaml", language=None)
        if (
            button.button(
                "Start the sweep",
                type="primary",
                icon=":material/play_arrow:",
                width="stretch",
                disabled=definition is None,
            )
            and definition is not None
        ):
            begin(definition, scheduler)


def first_sweep() -> None:
    """Where there is none: what would be here, and a button that starts one, of tasks that can be measured."""
    st.info(
        "No sweeps yet. Here stands what was tried, trial by trial: the best so far, which values do well, and what "
        "the best comes to on test images. `merging sweep FILE.yaml` fills this page, too.",
        icon=":material/travel_explore:",
    )
    if not set(state.selected_tasks()) <= set(measuring.measurable_tasks()):
        return
    definition = sweep_form.example()
    line, note = st.columns([0.3, 0.7], vertical_alignment="center")
    if line.button("Try λ from 0.1 to 1", type="primary", icon=":material/play_arrow:", width="stretch", key="fill"):
        begin(definition, "")
    note.caption(f"Task Arithmetic with and without AWD, {definition.total} trials. {takes(definition)}")


def plan(definition: SweepDefinition) -> str:
    """What will run, in words."""
    pairs, subsets = len(definition.pairs), max(1, len(definition.tasks))
    refused = len(definition.edits) * len(definition.merges) - pairs
    how = "A grid of" if definition.search == "grid" else "TPE with"
    parts = [
        f"**{how} {definition.trials_per_subset} trials** over {pairs} "
        f"{'pair' if pairs == 1 else 'pairs'} of edit and merge"
    ]
    if refused:
        parts.append(f" ({refused} that make no sense left out)")
    if subsets > 1:
        parts.append(f", for each of {subsets} task subsets: {definition.total} in all")
    return "".join(parts) + ". The best on validation is then measured on test, once."


def takes(definition: SweepDefinition) -> str:
    """How long that is likely to take, in words."""
    subsets = definition.tasks or (state.selected_tasks(),)
    trials = [definition.spec(subset, one) for subset in subsets for one in islice(settings_of(definition), _COUNTED)]
    more = definition.search == "tpe" or len(trials) < definition.total  # what is proposed may take longer
    return f"One after the other, they take {how_long(trials, more)}."


def settings_of(definition: SweepDefinition) -> Iterator[Mapping[str, Any]]:
    """Those of a subset's trials; where they are to be proposed, the lowest of what may be, pair by pair."""
    if definition.search == "grid":
        yield from definition.grid()
        return
    for pair in islice(cycle(definition.pairs), definition.trials_per_subset):
        lowest = {path: definition.lowest(path, domain) for path, domain in definition.space(pair).items()}
        yield {"edit": pair[0], "merge": pair[1], **lowest}


def begin(definition: SweepDefinition, scheduler: str) -> None:
    """Start the sweep, or go to the one that is the same."""
    try:
        session.require(Act.SWEEP)
        sweep = driver.start(definition, state.workspace(), scheduler)
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    ensure_worker()
    st.session_state["sweep-started"] = sweep.id
    st.session_state[_FORM_LINKED] = False
    st.rerun()


def choose(found: dict[str, Sweep]) -> Snapshot:
    """The sweep to show: the one just started, that of the URL, the one looked at before, or the newest."""
    ids = list(found)
    linked, before = st.query_params.get("sweep"), st.session_state.get("sweep-linked")
    wanted = st.session_state.pop("sweep-started", None) or (linked if linked != before else None)
    if wanted not in ids and wanted is not None:
        warn(f"There is no sweep {wanted} here. The newest is shown instead.")
        wanted = ids[0]
    if wanted is None and "sweep-shown" not in st.session_state:
        wanted = before if before in ids else ids[0]
    if wanted is not None:
        st.session_state["sweep-shown"] = wanted
    choice, button = st.columns([0.82, 0.18], vertical_alignment="bottom")
    chosen = choice.selectbox("Sweep", ids, key="sweep-shown", format_func=lambda one: _title(found[one]))
    st.query_params["sweep"] = st.session_state["sweep-linked"] = chosen
    if found[chosen].state != "running" and session.may(Act.SWEEP):
        with button:
            delete(found[chosen])
    return look(chosen, sweeps())


def _title(sweep: Sweep) -> str:
    """With its id: browser and server tell choices apart by their text, and all else can be the same."""
    return f"{sweep.definition.label} · {sweep.state} · {when(sweep.created)} · {sweep.id}"


def watch(found: Snapshot) -> None:
    """State and progress; looks again by itself while the sweep goes on."""
    running = found.sweep.state == "running"
    if running:
        ensure_worker()
    drawn = (found.sweep.state, found.finished, len(found.tests))
    st.fragment(partial(_progress, found.sweep.id, drawn), run_every=_POLL_SECONDS if running else None)()


def _progress(sweep_id: str, drawn: tuple[str, int, int]) -> None:
    found = look(sweep_id, sweeps())
    sweep, total = found.sweep, found.sweep.definition.total
    title, middle, action = st.columns([0.2, 0.6, 0.2], vertical_alignment="center", gap="medium")
    title.markdown(f"{_BADGES[sweep.state]} &nbsp; `{sweep.id}`")
    failed = f", {found.failed} of them failed" if found.failed else ""
    middle.progress(found.finished / total, text=f"{found.finished} of {total} trials{failed}{_doing(found)}")
    if not session.may(Act.SWEEP):
        action.empty()
    elif sweep.state == "running":
        if action.button("Cancel", icon=":material/stop_circle:", width="stretch", key=f"cancel-{sweep.id}"):
            session.require(Act.SWEEP)
            driver.cancel(sweep.id, state.workspace())
            st.rerun()
    elif sweep.state != "done" and action.button(
        "Go on",
        icon=":material/play_arrow:",
        width="stretch",
        key=f"go-on-{sweep.id}",
        help="Takes up the sweep where it stopped; trials that failed are tried again",
    ):
        begin(sweep.definition, sweep.scheduler)
    if sweep.error:
        st.error(escape_markdown(sweep.error), icon=":material/error:")
    if (sweep.state, found.finished, len(found.tests)) != drawn:
        st.rerun()


def delete(sweep: Sweep) -> None:
    """Remove a sweep after asking."""
    with st.popover("Delete", icon=":material/delete:", key=f"delete-{sweep.id}", width="stretch"):
        st.write("This removes the sweep and what it proposed for good. Its trials stay as runs unless you say so.")
        runs = st.checkbox(
            "Delete its runs too", key=f"delete-runs-{sweep.id}", help="Those that were made for it alone"
        )
        st.button(
            "Delete it",
            type="primary",
            icon=":material/delete:",
            key=f"delete-now-{sweep.id}",
            on_click=_delete,
            args=(sweep.id, runs),
        )


def _delete(sweep_id: str, runs: bool) -> None:
    """Callback: remove a sweep, and forget that it was looked at."""
    try:
        session.require(Act.SWEEP)
        _, gone = sweeps().delete(sweep_id, runs)
    except MergingError as error:
        st.toast(escape_markdown(str(error)), icon=":material/error:")
        return
    for key in ("sweep-shown", "sweep-linked"):
        st.session_state.pop(key, None)
    st.query_params.pop("sweep", None)
    also = f", and {len(gone)} runs" if runs else ""
    st.toast(f"Sweep {sweep_id} was deleted{also}", icon=":material/check:")


def _doing(found: Snapshot) -> str:
    """What the first open trial's run does now."""
    waiting = [trial for trial in (*found.trials, *found.tests) if trial.state == "open"]
    run = sweeps().runs.find(waiting[0].fingerprint) if waiting and found.sweep.state == "running" else None
    if run is None or not run.active:
        return ""
    what = run.message if run.state == "running" else "waiting for the worker"
    return escape_markdown(f" · {'measuring the best on test' if waiting[0].role == 'test' else what}")


def definition_of(sweep: Sweep) -> SweepDefinition:
    """What a sweep tries, without the folders that lead to its suite where somebody may not see them."""
    suite = sweep.definition.suite
    if session.may(Act.SEE_FOLDERS) or is_name(suite):
        return sweep.definition
    return sweep.definition.model_copy(update={"suite": f"path/to/{Path(suite).parent.name}/suite.yaml"})


def subset_of(found: Snapshot) -> int:
    """Which task subset to show."""
    subsets = found.sweep.definition.tasks
    if len(subsets) == 1:
        return 0
    labels = [", ".join(accuracy_view.task_labels(tasks).values()) for tasks in subsets]
    chosen = choice(
        st.selectbox,
        "Task subset",
        dict(enumerate(labels)),
        key="subset",
        help="Each is searched by itself: fewer tasks are easier to merge",
    )
    return int(chosen)


def winner(found: Snapshot, best: Trial, test: Trial | None) -> None:
    """The best trial, and what it comes to on test."""
    name = "average accuracy" if found.sweep.definition.objective == "average" else "normalised average accuracy"
    measured = test is not None and test.value is not None
    with st.container(border=True):
        words, on_val, on_test = st.columns([0.6, 0.2, 0.2], gap="medium", vertical_alignment="center")
        with words:
            st.markdown(
                f"**{'Best' if found.sweep.state == 'done' else 'Best so far'} by {name}: trial {best.number}**"
            )
            st.markdown(escape_markdown(trial_in_words(best)))
            st.page_link(
                "pages/runs.py",
                label="Details and export on Runs",
                icon=":material/history:",
                query_params={**state.shared_query(), "run": [str(test.run if test and measured else best.run)]},
            )
        on_val.metric("On validation", percent(best.value), help=f"The {name} by which trials are compared")
        on_test.metric(
            "On test", percent(test.value if test else None), help="Measured for the best alone; it chose nothing"
        )
        if test is not None and test.error:
            st.warning(escape_markdown(f"Measuring it on test failed: {test.error}"), icon=":material/error:")


def percent(value: float | None) -> str:
    """A share for people; a dash if it is not known."""
    return "–" if value is None else f"{100 * value:.1f} %"


def results(found: Snapshot) -> None:
    """Best trial, charts and table of one task subset."""
    definition, dark = found.sweep.definition, st.context.theme.type == "dark"
    subset = subset_of(found)
    trials, best = found.of_subset(subset), found.best(subset)
    if best is not None:
        winner(found, best, found.test(subset))
        table = trials_table(trials, definition)
        st.header("Best so far")
        show(
            partial(course_figure, trials, definition, dark),
            key="sweep-course",
            table=table,
            file="sweep-course",
            takeaway=f"{sum(trial.value is not None for trial in trials)} trials have a result; the best, trial "
            f"{best.number}, has {100 * (best.value or 0):.1f} % on validation.",
        )
        st.header("Parameters and accuracy")
        strong = "brighter" if dark else "darker"
        show(
            partial(parallel_figure, trials, definition, dark),
            key="sweep-parallel",
            table=table,
            file="sweep-parameters",
            takeaway=f"A line is a trial; the {strong} ones are better on validation. Drag along an axis to keep only "
            "the lines that pass there.",
        )
    if trials:
        st.header("Trials")
        st.caption("Every trial is a run on validation images; its coefficients and timings are on the page Runs.")
        show_table(
            trials_table(trials, definition).sort_values(objective_title(definition), ascending=False, kind="stable"),
            key="sweep-trials",
            file="sweep-trials",
            placeholder="–",
        )


st.title("Sweeps")
known = {sweep.id: sweep for sweep in sweeps().all()}
if not known and not_found("sweep", ()):
    warn(f"There is no sweep {', '.join(not_found('sweep', ()))} here.")
    st.query_params.pop("sweep", None)
st.write(
    "Tries many combinations of methods and parameter values. Trials are compared by accuracy on validation images, "
    "never on test images; only the best is measured on test."
)
if session.may(Act.SWEEP):
    by_link = st.session_state.setdefault(_FORM_LINKED, sweep_form.linked())
    if not known and not by_link:  # a link says what is to be tried
        first_sweep()
    new_sweep(expanded=by_link)
elif not known:
    st.info("No sweeps yet. The owner of this dashboard can start one.", icon=":material/travel_explore:")
if not known:
    st.stop()
shown = choose(known)
watch(shown)
results(shown)
with st.expander("Definition", icon=":material/description:"):
    st.code(definition_of(shown.sweep).to_yaml(), language="yaml")
