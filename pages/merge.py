"""Merge: choose an edit and a merge, see what it will cost, run it, watch it."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from merging.charts.accuracy import Series, accuracy_figure, accuracy_table, set_apart
from merging.charts.run_series import scaling_of, series_of
from merging.core import devices
from merging.core.errors import MergingError, RunError
from merging.core.text import printed
from merging.methods.estimate import Estimate, estimate
from merging.runs import Run
from merging.runs.export.weights import require_done
from merging.runs.jobs.merge import MergeSpec
from merging.suites.images.shifts import CLEAN
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.history.details import warn_of_oddities
from ui.history.known import say_what_is_known
from ui.history.varied import show_variation
from ui.look.figure import escape_markdown, show
from ui.look.into_sight import bring_into_sight
from ui.look.metric import metric_change
from ui.merge import form as merge_form
from ui.merge.command import merge_command
from ui.runs.choice import warn_of_runs
from ui.runs.panel import ensure_worker, how_long, run_panel
from ui.runs.text import duration, provenance, state_in_words
from ui.shell import state
from ui.shell.entry import through_app

through_app()


def plan(draft: merge_form.Draft, tasks: tuple[str, ...]) -> None:
    """What will run, what it will need, and the button that runs it.

    The button is off where files are missing or broken as far as that shows without reading images. Task models that
    are broken can't be selected in the first place.
    """
    with st.container(border=True):
        words, cost = st.columns([0.72, 0.28], gap="medium")
        try:
            spec = draft.spec(state.suite_reference(), tasks)
            needed = memory_needed(spec, tasks)
        except MergingError as error:
            words.error(escape_markdown(str(error)), icon=":material/error:")
            merge_button(cost, disabled=True)
            return
        with words:
            st.markdown(f"**What will run** &nbsp; {escape_markdown(sentence(spec, tasks))}")
            show_variation(spec)
            named = state.suite().chosen()  # those the command takes by itself
            st.code(merge_command(spec, named, not unmeasurable(tasks)), language=None, wrap_lines=True)
        with cost:
            memory(needed, spec)
            pressing = st.empty()
            pressing.caption(f"Takes {how_long([spec])}")
            obstacle = why_not(spec, tasks)
            if merge_button(cost, disabled=bool(obstacle)):
                submit(spec)
        if obstacle:
            st.warning(escape_markdown(obstacle), icon=":material/image_not_supported:")
        else:
            with words:  # last, as files that nobody has read yet are read for it
                say_what_is_known(spec, pressing)


def merge_button(place: st.delta_generator.DeltaGenerator, disabled: bool) -> bool:
    """The one primary button."""
    return place.button("Merge", type="primary", icon=":material/merge:", width="stretch", disabled=disabled)


def unmeasurable(tasks: tuple[str, ...]) -> list[str]:
    """Those of the tasks that have no images or no head."""
    return [task for task in tasks if not state.suite().measurable(task)]


def sentence(spec: MergeSpec, tasks: tuple[str, ...]) -> str:
    """A specification in words."""
    labels = list(accuracy_view.task_labels(tasks).values())
    named = ", ".join(labels) if len(labels) <= 10 else f"{', '.join(labels[:9])} and {len(labels) - 9} more"
    split = "test" if spec.split == "test" else "validation"
    measured = "" if unmeasurable(tasks) else f", then accuracy of every task on the {split} split"
    return f"{spec.label} of {len(tasks)} task models ({named}) on {spec.device}{measured}; seed {spec.seed}."


def memory_needed(spec: MergeSpec, tasks: tuple[str, ...]) -> Estimate:
    """The estimate on the chosen device."""
    device, suite = devices.resolve(spec.device), state.suite()
    room = state.described(str(device)).memory if device.type == "cuda" else None
    return estimate(suite.vectors(tasks), spec, not unmeasurable(tasks), device, suite.quick_gelu, room)


def memory(needed: Estimate, spec: MergeSpec) -> None:
    """The estimate, and how it came about."""
    where = "GPU memory" if devices.resolve(spec.device).type == "cuda" else "Memory"
    st.metric(f"{where}, estimated", megabytes(needed.total))
    st.caption("on top of what the program holds before it runs")
    if needed.images is not None:
        st.caption(f"learning with {needed.images} images in a pass, since more would not fit")
    with st.popover("How this is estimated", type="tertiary", icon=":material/calculate:"):
        st.caption(
            "The largest of the phases, which follow each other, plus what is held throughout. D is the number of "
            "weights, T of task models, N of entries in the largest tensor; a number takes 4 bytes where nothing else "
            "is said. Memory-mapped files, images and weights, come on top: the system can take their memory back."
        )
        rows = [*needed.phases.items(), *((f"throughout: {what}", size) for what, size in needed.throughout.items())]
        table = pd.DataFrame([(what[0].upper() + what[1:], megabytes(size)) for what, size in rows])
        st.table(table.set_axis(["What", "Size"], axis=1).set_index("What"))


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def why_not(spec: MergeSpec, tasks: tuple[str, ...]) -> str:
    """Why this can't run on the chosen tasks; empty if it can."""
    lacking = unmeasurable(tasks)
    if not lacking:
        return unreadable(tasks)
    if not spec.data.images:
        return ""
    what = spec.label if spec.data.needs != "none" else f"{spec.label} with these parameters"
    labels = ", ".join(accuracy_view.task_labels(lacking).values())
    return f"{what} needs images and heads; {labels} lack them. Choose a data-free method or other tasks."


def unreadable(tasks: tuple[str, ...]) -> str:
    """What stops accuracy from being measured after the merge, though suite.yaml describes all it needs."""
    labels = accuracy_view.task_labels(tasks)
    missing = {labels[task]: parts for task in tasks if (parts := measuring.missing_parts(task))}
    if missing:
        named = "; ".join(f"{' and '.join(parts)} of {label}" for label, parts in missing.items())
        return f"Files are missing: {named}. Put them where suite.yaml says, or choose other tasks."
    try:
        for task in tasks:
            if state.suite().task(task).head is not None:  # made from a text tower, a head takes longer
                measuring.evaluator().head(task)
    except MergingError as error:
        return str(error)
    return ""


def submit(spec: MergeSpec) -> None:
    """Queue the run, or point to the one that did the same."""
    before = state.workspace().find(spec)
    run = state.workspace().submit(spec)
    if before is not None and before.id == run.id:
        st.session_state["merge-notice"] = (
            f"Exactly this was run before, with the same files: here is run {run.id}. {state_in_words(run.state)}"
        )
    show_run(run)
    st.session_state["merge-asked"] = True
    ensure_worker()
    st.rerun()


def show_run(run: Run) -> None:
    """Put a run into the URL."""
    st.query_params["run"] = run.id


def chosen_run() -> Run | None:
    """The run in the URL; one that is not there is named, and leaves the URL."""
    run_id = st.query_params.get("run")
    if not run_id:
        return None
    try:
        return state.workspace().store.get(run_id)
    except RunError:
        warn_of_runs([run_id], "The form starts a new one.")
        del st.query_params["run"]
        return None


def watch(run: Run | None) -> None:
    """The run in the URL, and everything else that goes on."""
    others = [one for one in state.workspace().store.active() if run is None or one.id != run.id]
    if run is None and not others:
        st.caption("Nothing is running. A merge shows its progress here; you may leave the page, it goes on.")
        return
    with st.container(key="merge-progress"):  # whose style leaves room for what will come of it
        st.header("Progress")
        notice = st.session_state.pop("merge-notice", None)
        if notice:
            st.info(escape_markdown(notice), icon=":material/info:")
        run_panel([*([run] if run else []), *others], key="merge", on_retry=show_run)
        if run is not None and run.state == "done":
            outcome(run)
    if st.session_state.pop("merge-asked", False):
        bring_into_sight("merge-progress")


def outcome(run: Run) -> None:
    """What came of a finished run."""
    result = require_done(run)
    warn_of_oddities(run)
    cards = st.columns([0.25, 0.31, 0.2, 0.24])
    tasks = tuple(result.measured) if result.accuracy else ()
    base = accuracy_view.baseline_series(tasks, run.spec.split) if tasks and run.spec.shift == CLEAN else []
    series = set_apart([*base[:1], *(series_of([run]) if tasks else []), *base[1:]])
    average_card(cards[0], series, result.score)
    cards[1].metric(
        "Coefficients",
        coefficients(run),
        border=True,
        height="stretch",
        help=scaling_of(run) or "c of each task and tensor",
    )
    cards[2].metric(
        "Time", duration(result.seconds["total"]), border=True, height="stretch", help="From files to accuracy"
    )
    cards[3].metric(
        "Peak memory",
        "–" if result.peak_bytes is None else megabytes(result.peak_bytes),
        border=True,
        height="stretch",
        help=f"Measured on {result.device}, on top of what the program held before",
    )
    if tasks:
        labels = accuracy_view.task_labels(tasks)
        show(
            partial(accuracy_figure, series, labels),
            key="merge-outcome",
            takeaway=accuracy_view.takeaway(series),
            table=accuracy_table(series, labels),
            file=f"run-{run.id}",
        )
        st.caption(f"{provenance([run])} {accuracy_view.note_on_forgotten(series)}".strip())
    query = state.shared_query()
    with st.container(horizontal=True):
        st.page_link(
            "pages/accuracy.py",
            label="Compare on Accuracy",
            icon=":material/bar_chart:",
            query_params={**query, "runs": run.id},
        )
        st.page_link(
            "pages/runs.py",
            label="Details and export on Runs",
            icon=":material/history:",
            query_params={**query, "run": run.id},
        )


def average_card(card: DeltaGenerator, series: Sequence[Series], average: float | None) -> None:
    """The mean accuracy, of the tasks that are not to be forgotten, and how far that is from zero-shot."""
    if average is None:
        why = "All its tasks are to be forgotten" if series else "These tasks have no images or heads"
        card.metric("Average accuracy", "–", border=True, height="stretch", help=why)
        return
    zero_shot = [one.average for one in series if one.name == accuracy_view.ZERO_SHOT]
    card.metric(
        "Average accuracy",
        f"{100 * average:.1f} %",
        **(metric_change(100 * (average - zero_shot[0]), words=" against zero-shot") if zero_shot else {}),
        border=True,
        height="stretch",
        help="Without the tasks to be forgotten" if any(one.forgotten for one in series) else None,
    )


def coefficients(run: Run) -> str:
    """The coefficients of a run in a few characters."""
    result = require_done(run)
    if result.merge.scaling is not None:
        return f"λ = {printed(result.merge.scaling)}"
    if result.coefficients is None:
        return "not linear"
    values = [value for row in result.coefficients.table for value in row]
    low, high = min(values), max(values)
    return printed(low, ".3g") if high - low < 1e-9 else f"{printed(low, '.2g')} … {printed(high, '.2g')}"


st.title("Merge")
linked = chosen_run()
st.markdown(
    "Every method is an **edit** of the task vectors followed by a **merge**. Take a published pair, or your own."
)
selected = state.selected_tasks()
shown = accuracy_view.task_labels(selected)
merge_form.restore(shown)
written = merge_form.draw(shown)
try:
    merge_form.remember(written)
except MergingError as error:
    st.error(escape_markdown(str(error)), icon=":material/error:")
else:
    plan(written, selected)
watch(linked)
