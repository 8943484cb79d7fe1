"""Start: what this is, the suite at hand, and the comparison of the main methods on it."""

from functools import partial

import streamlit as st

from merging.charts.accuracy import Series, accuracy_figure, accuracy_table
from merging.charts.run_series import series_of
from merging.core.errors import MergingError
from merging.core.text import signed
from merging.methods.merges.adamerging import WATCHED_IMAGES
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.accuracy.preset_runs import MethodEntry, comparison
from ui.look.figure import escape_markdown, show
from ui.runs import shipped
from ui.runs.growing import series_so_far
from ui.runs.panel import how_long, run_panel
from ui.runs.queueing import queue
from ui.runs.text import provenance
from ui.shell import state
from ui.shell.entry import through_app

through_app()

_LOOK_AGAIN = 4.0  # seconds, while a method learns


def introduction() -> None:
    """What this is, in three sentences."""
    st.title("One model from many")
    st.markdown(
        "CLIP models that were fine-tuned on different tasks can be merged into **one** model by arithmetic on their "
        "*task vectors*, the differences to the base model: no training, no extra cost when the model is used. "
        "The tasks interfere, though, and **Adaptive Weight Disentanglement** subtracts what the task vectors share, "
        "so that they become more orthogonal before they are added up. "
        "This dashboard shows how the task vectors lie to each other, merges them in any way you choose, and measures "
        "what each task keeps."
    )
    st.page_link(
        "pages/learn.py",
        label="New to merging? A lesson in eight steps",
        icon=":material/school:",
        query_params=state.shared_query(),
    )


def facts(tasks: tuple[str, ...]) -> None:
    """The suite at hand in four numbers."""
    suite = state.suite()
    weights = suite.vectors(tasks[:1]).size
    with st.spinner("Counting the images …"):
        images = sum(measuring.evaluator().count(task, "test") for task in tasks if suite.measurable(task))
    classes = sum(len(suite.task(task).classes) for task in tasks)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(escape_markdown(suite.label), width="content")
        state.device_badge()
    if suite.description:
        st.caption(escape_markdown(suite.description))
    cards = st.columns(4)
    cards[0].metric("Tasks", f"{len(tasks)} of {len(suite.tasks)}", border=True, help="Chosen in the sidebar")
    cards[1].metric("Classes", f"{classes:,}", border=True, help="Over all chosen tasks")
    cards[2].metric("Weights", short_count(weights), border=True, help=suite.architecture_label)
    cards[3].metric("Test images", f"{images:,}", border=True, help="Accuracy is measured on these")


def short_count(number: int) -> str:
    """A count in thousands or millions."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def action(entries: list[MethodEntry]) -> None:
    """The one primary button, or that there is nothing left to run."""
    missing = [entry for entry in entries if entry.missing]
    if not missing:
        return
    label = "Run the comparison" if len(missing) == len(entries) else f"Run the {len(missing)} that are missing"
    line, note = st.columns([0.3, 0.7], vertical_alignment="center")
    if line.button(label, type="primary", icon=":material/play_arrow:", width="stretch"):
        baselines = [measuring.baseline_job("test")] if measuring.baseline_accuracy() is None else []
        queue([*baselines, *(entry.spec for entry in missing)])
    names = ", ".join(entry.spec.label for entry in missing)
    note.caption(
        f"{names}. λ is chosen on validation images, all else as published. "
        f"This takes {how_long([entry.spec for entry in missing])}; what is quick comes first. "
        "Results stay when you leave."
    )


def results_or_error(entries: list[MethodEntry], tasks: tuple[str, ...]) -> None:
    """As :func:`results`; what goes wrong in a fragment does not reach those who look after pages."""
    try:
        results(entries, tasks)
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")


def results(entries: list[MethodEntry], tasks: tuple[str, ...]) -> None:
    """The chart of what is there so far, and the ranking."""
    runs = [entry.run for entry in entries if entry.run and entry.done]
    under_way = [one for entry in entries if entry.under_way and (one := series_so_far(entry.under_way, runs))]
    merged = series_of(runs)
    by_name = dict(zip((one.name for one in merged), runs, strict=True))
    ended = [*accuracy_view.baseline_series(tasks), *merged]
    series = ordered([*ended, *under_way])
    accuracy_view.offer_baselines(tasks)
    if not series:
        return
    labels = accuracy_view.task_labels(tasks)
    st.header("Accuracy per task")
    show(
        partial(accuracy_figure, series, labels),
        key="start-accuracy",
        takeaway=accuracy_view.takeaway(ended),  # what still learns is measured on a sample
        table=accuracy_table(series, labels),
        file="comparison",
    )
    if under_way:
        names = ", ".join(one.name for one in under_way)
        st.caption(escape_markdown(f"Still learning, on a sample of {WATCHED_IMAGES} images a task: {names}."))
    shipped.say([measuring.shipped_baselines("test"), *runs], "start")
    st.header("On average")
    accuracy_view.show_ranking(accuracy_view.ranking(series, by_name), "comparison-averages")
    st.caption(provenance(runs) or baseline_provenance(tasks))
    lesson(merged)
    if runs:
        st.page_link(
            "pages/accuracy.py",
            label="Compare in detail",
            icon=":material/bar_chart:",
            icon_position="right",
            query_params={**state.shared_query(), "runs": [run.id for run in runs]},
        )


def ordered(series: list[Series]) -> list[Series]:
    """Zero-shot first, the merges, one model per task last: from the floor to the ceiling."""
    place = {accuracy_view.ZERO_SHOT: 0, accuracy_view.INDIVIDUAL: 2}
    return sorted(series, key=lambda one: place.get(one.name, 1))


def baseline_provenance(tasks: tuple[str, ...]) -> str:
    """Split and number of images of the baselines."""
    images = sum(measuring.evaluator().count(task, "test") for task in tasks)
    said = escape_markdown(measuring.said_of_images(tasks, "test"))
    return f"Top-1 accuracy on the test split, {images:,} images. {said}".strip()


def lesson(merged: list[Series]) -> None:
    """What AWD did, at each method's best λ, from the numbers."""
    averages = {one.method: 100 * one.average for one in merged}
    sentences = [
        f"AWD changes {method} by {signed(averages[f'AWD + {method}'] - averages[method])} points"
        + (" at each one's best λ" if method == "Task Arithmetic" else "")
        for method in ("Task Arithmetic", "AdaMerging")
        if method in averages and f"AWD + {method}" in averages
    ]
    if sentences:
        st.caption("; ".join(sentences) + ".")


introduction()
chosen = state.selected_tasks()
facts(chosen)
if accuracy_view.explain_unmeasurable(chosen):
    st.stop()
entries = comparison(chosen)
action(entries)
unfinished = [entry.under_way for entry in entries if entry.under_way is not None]
if unfinished:
    run_panel(unfinished, key="start")
learning = any(entry.under_way and entry.under_way.active and entry.spec.merge == "adamerging" for entry in entries)
st.fragment(
    partial(results_or_error, entries, chosen), run_every=_LOOK_AGAIN if learning else None, key="start-results"
)()
