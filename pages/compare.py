"""Compare: two to four runs image by image, each against the first."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from merging.charts.compare import (
    confusion_figure,
    confusion_table,
    difference_figure,
    difference_table,
)
from merging.charts.run_series import name_runs, series_of
from merging.charts.runs import coefficient_heatmap, coefficient_table
from merging.charts.theme import shorten
from merging.core.errors import MergingError
from merging.core.text import signed
from merging.evaluation.paired import HOW, SIGNIFICANCE, comparison_in_words, in_points
from merging.runs import Run
from merging.runs.comparison.compare import MAX_RUNS, RunComparison, shown_classes, subtracted
from merging.runs.comparison.report import comparison_report, report_title
from merging.suites.images.thumbnails import picture
from ui.accuracy import view as accuracy_view
from ui.accuracy.compare_view import measured
from ui.accuracy.measuring import evaluator
from ui.accuracy.no_runs import no_runs
from ui.history.differences import show_differences
from ui.look.columns import text_width
from ui.look.figure import escape_markdown, is_dark, show
from ui.runs import shipped
from ui.runs.choice import chosen_ids, kept_ids, remember_ids
from ui.runs.text import chosen_on_validation, mixtures, option_labels, provenance
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import choice, not_found, said_below, warn

through_app()

_KEY = "compare-runs"
FIRST_IMAGES = 12
MORE_IMAGES = 24
NAMED_FROM = 0.5 - 1e-9  # percent of a class's images: one of 200 is half a percent, but for rounding
SHOWN = 64  # pixels of an image on the page


def default_choice(runs: Sequence[Run], tasks: tuple[str, ...]) -> list[str]:
    """Task Arithmetic as the reference if it was run, and the best of the other runs on the same tasks and split.

    Runs of exactly these tasks on the test split come first; of Task Arithmetic, those with λ chosen on validation.
    Runs that forget are left out as long as there are others.
    """
    runs = [run for run in runs if not run.spec.forgotten] or runs
    fitting = [run for run in runs if run.spec.tasks == tasks and run.spec.images == "test"]
    runs = fitting if len(fitting) > 1 else runs
    plain = sorted((run for run in runs if run.spec.label == "Task Arithmetic"), key=chosen_on_validation)
    reference = plain[-1] if plain else runs[-1]
    others = [run for run in runs if run.id != reference.id]
    same = reference.spec.tasks, reference.spec.images
    alike = [run for run in others if (run.spec.tasks, run.spec.images) == same]
    best = max(alike or others, key=lambda run: (run.merged and run.merged.average) or 0.0)
    return [reference.id, best.id]


def choose(runs: Sequence[Run]) -> list[Run]:
    """Which runs to compare, the reference first; stands in the URL."""
    by_id, tasks = {run.id: run for run in runs}, state.selected_tasks()
    chosen = chosen_ids(_KEY, list(by_id), default_choice(runs, tasks), "Two others are shown instead.")
    st.session_state[_KEY] = chosen[:MAX_RUNS]
    ids = st.multiselect(
        "Runs",
        list(by_id),
        format_func=option_labels(runs, tasks).__getitem__,
        key=_KEY,
        max_selections=MAX_RUNS,
        placeholder="Choose two to four finished runs",
        help="The first one is the reference that the others are compared with",
    )
    remember_ids("run", _KEY, ids)
    return [by_id[run_id] for run_id in ids]


def verdicts(found: RunComparison, names: Sequence[str], labels: dict[str, str]) -> None:
    """Per task, how much better or worse than the reference, and how sure that is."""
    reference, others = names[0], names[1:]
    st.header("Task by task")
    for name, pair in zip(others, found.pairs, strict=True):
        st.markdown(escape_markdown(comparison_in_words(pair, name, reference)))
    show(
        partial(difference_figure, series_of(found.runs)[1:], found.pairs, labels, reference),
        key="compare-differences",
        takeaway=largest_difference(found, others, labels),
        table=difference_table(others, found.pairs, labels),
        file="compare-differences",
    )
    shipped.say(found.runs, "compare")
    for name, pair in zip(others, found.pairs, strict=True):
        if len(others) > 1:
            st.markdown(f"**{escape_markdown(f'{name} against {reference}')}**")
        one_against_reference(difference_table([name], [pair], labels, digits=1))
    st.caption(f"{provenance(found.runs)} {HOW}")


def one_against_reference(table: pd.DataFrame) -> None:
    """The tests of one run, in columns that fit into a window of 1280 pixels."""
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        height="content" if len(table) <= 24 else 460,
        placeholder="–",
        column_config={
            "Task": st.column_config.TextColumn(width=min(150, text_width(max(table["Task"], key=len)))),
            "Verdict": st.column_config.TextColumn(width=130, help=f"At a corrected p below {SIGNIFICANCE:g}"),
            "Difference": number("Diff.", format="%+.1f", width=52, help="In points"),
            **{name: number(format="%+.1f", width=52, help="Of the interval, in points") for name in ("From", "To")},
            "p": number(format="%.2g", width=66),
            "p, corrected": number("p, corr.", format="%.2g", width=66, help="Corrected for the number of tests"),
            "Reference (%)": number("Reference", format="%.1f", width=78, help="Its accuracy in percent"),
            "Run (%)": number("Run", format="%.1f", width=50, help="Its accuracy in percent"),
            "Gained": number(width=58, help="Images that only this run gets right"),
            "Lost": number(width=48, help="Images that only the reference gets right"),
            "Images": number(width=58),
        },
    )


def take_away(found: RunComparison, names: Sequence[str], labels: dict[str, str]) -> None:
    """The whole comparison as one file, and the command that writes it."""
    title, images = report_title(state.suite().label, names), evaluator()  # no session is at hand when it is clicked
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Report",
            lambda: comparison_report(found, names, labels, images, title),
            "comparison.html",
            "text/html",
            on_click="ignore",
            icon=":material/docs:",
            key="compare-report",
            help="One HTML file with all tables, charts and images of all tasks; it needs no script and no network",
        )
        with st.popover("Command", icon=":material/terminal:"):
            ids = " ".join(run.id for run in found.runs)
            st.code(f"merging runs compare {ids} --html comparison.html", language=None, wrap_lines=True)


def largest_difference(found: RunComparison, names: Sequence[str], labels: dict[str, str]) -> str:
    """The task on which any run differs most from the reference, as a sentence."""
    all_of_them = [
        (name, labels[task], one)
        for name, pair in zip(names, found.pairs, strict=True)
        for task, one in pair.tasks.items()
    ]
    name, label, one = max(all_of_them, key=lambda item: abs(item[2].difference))
    return f"The largest difference is that of {name} on {label}: {in_points(one)}."


def choose_task(found: RunComparison, names: Sequence[str], labels: dict[str, str]) -> tuple[str, int]:
    """A task, and the run to set beside the reference: its place among the runs."""
    by_label = {labels[task]: task for task in found.tasks}
    unknown = not_found("task", by_label)
    if unknown:
        warn(f"These runs have no task {', '.join(unknown)} in common. Another is shown instead.")
    changes = [abs(one.difference) for one in found.pairs[0].tasks.values()]
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox(
            "Task", list(by_label), index=int(np.argmax(changes)), key="task", bind="query-params", width=280
        )
        other = 1
        if len(found.runs) > 2:
            ids = {run.id: name for run, name in zip(found.runs[1:], names[1:], strict=True)}
            chosen = choice(
                st.segmented_control,
                f"Against {escape_markdown(names[0])}",
                ids,
                default=next(iter(ids)),
                required=True,
                key="other",
            )
            other = 1 + list(ids).index(chosen)
    return by_label[label], other


def confusions(
    found: RunComparison, pair: tuple[int, int], titles: Sequence[str], task: str, classes: Sequence[str]
) -> None:
    """Which classes each run takes for which, and the difference."""
    first, second = (found.shares(run, task) for run in pair)
    kept = shown_classes(first, second)
    takeaway = recognition(np.diag(second - first), titles, classes)
    if len(kept) < len(classes):
        st.caption(f"Drawn are the {len(kept)} of {len(classes)} classes that differ most; the data hold all.")
    names = [classes[index] for index in kept]
    cut = np.ix_(kept, kept)
    counts = np.bincount(found.labels[task], minlength=len(classes))
    chart = partial(confusion_figure, first[cut], second[cut], titles, names, dark=is_dark())
    show(
        chart,
        narrow=partial(chart, stacked=True),
        key="compare-confusion",
        takeaway=takeaway,
        table=confusion_table(first, second, counts, titles, classes),
        file=f"confusion-{task}",
    )


def recognition(change: np.ndarray, titles: Sequence[str], classes: Sequence[str]) -> str:
    """The classes of which more or fewer images are recognised than by the reference, most, as a sentence."""
    extremes = map(int, (change.argmax(), change.argmin()))
    ends = dict.fromkeys(place for place in extremes if abs(change[place]) >= NAMED_FROM)
    if not ends:
        return f"{titles[1]} recognises as many images of every class as {titles[0]}."
    named = " and ".join(f"{classes[place]} ({signed(change[place], 0)} points)" for place in ends)
    return f"The share that is recognised changes most from {titles[0]} to {titles[1]} for {named}."


def disagreements(
    found: RunComparison, pair: tuple[int, int], titles: Sequence[str], task: str, classes: Sequence[str]
) -> None:
    """Images about which one run is right and the other wrong."""
    first, second = pair
    for column, (winner, loser), name in zip(
        st.columns(2, gap="medium"), ((second, first), (first, second)), reversed(titles), strict=True
    ):
        with column:
            gallery(found, winner, loser, name, task, classes)


def gallery(found: RunComparison, winner: int, loser: int, name: str, task: str, classes: Sequence[str]) -> None:
    """Images that only one run gets right, with what they are and what the other run takes them for."""
    indices = found.only_right(winner, loser, task)
    st.markdown(f"**Only {escape_markdown(name)} is right** about {len(indices)} of {len(found.labels[task])} images")
    key = f"compare-images-{found.runs[winner].id}-{found.runs[loser].id}-{task}"
    limit = st.session_state.get(key, FIRST_IMAGES)
    pixels = evaluator().under(found.runs[0].spec.shift).image_set(task, found.split).pixels
    with st.container(horizontal=True, gap="small"):
        for index in indices[:limit]:
            true, guess = classes[found.labels[task][index]], classes[found.predictions[loser][task][index]]
            with st.container(width=SHOWN + 34, gap="xxsmall"):
                st.image(picture(pixels[index]), width=SHOWN, alt=f"{true}, taken for {guess}")
                st.caption(f"{escape_markdown(shorten(true))}, not {escape_markdown(shorten(guess))}")
    if limit < len(indices):
        rest = min(MORE_IMAGES, len(indices) - limit)
        st.button(f"{rest} more", icon=":material/expand_more:", key=f"{key}-more", on_click=more, args=(key,))


def more(key: str) -> None:
    """Show more images of a gallery."""
    st.session_state[key] = st.session_state.get(key, FIRST_IMAGES) + MORE_IMAGES


def coefficients(found: RunComparison, other: int, titles: Sequence[str], labels: dict[str, str]) -> None:
    """Coefficient tables subtracted, where both runs are linear."""
    tables = [found.runs[place].coefficients for place in (0, other)]
    st.header("Coefficients")
    lacking = [name for name, table in zip(titles, tables, strict=True) if table is None]
    if lacking:
        which = " and ".join(lacking)
        st.caption(escape_markdown(f"{which} is no table of coefficients, so there is nothing to subtract."))
        return
    change = subtracted(*tables)
    if change is None:
        return
    means = np.array(change.table).mean(axis=1)
    most = int(np.abs(means).argmax())
    show(
        partial(coefficient_heatmap, change, labels, is_dark()),
        key="compare-coefficients",
        file="coefficients-difference",
        takeaway=f"Coefficients of {titles[1]} minus those of {titles[0]}: averaged over the tensors, "
        f"{labels.get(change.tasks[most], change.tasks[most])} changes most ({signed(means[most], 3)}).",
        table=coefficient_table(change, labels),
    )


def comparison(runs: list[Run]) -> None:
    """Everything about the chosen runs."""
    for reason in mixtures(runs):
        st.warning(reason, icon=":material/balance:")
    found, left_out = measured(runs)
    named = name_runs(runs)
    for run_id, reason in left_out.items():
        st.warning(escape_markdown(f"{named[run_id]} is left out: {reason}"), icon=":material/error:")
    if found is not None:
        image_by_image(found, [named[run.id] for run in found.runs])
    elif left_out:
        st.info(
            "Fewer than two of these runs can be compared image by image. The page Accuracy shows what was "
            "measured of them.",
            icon=":material/info:",
        )
    if found is not None or left_out:
        st.header("Settings")
        show_differences(runs)


def image_by_image(found: RunComparison, names: Sequence[str]) -> None:
    """What needs every run's answer for every image, and the coefficients."""
    labels = accuracy_view.task_labels(found.tasks)
    verdicts(found, names, labels)
    take_away(found, names, labels)
    st.header("One task, image by image")
    task, other = choose_task(found, names, labels)
    classes = found.classes[task]
    titles = (names[0], names[other])
    confusions(found, (0, other), titles, task, classes)
    disagreements(found, (0, other), titles, task, classes)
    coefficients(found, other, titles, labels)


st.title("Compare")
offered = accuracy_view.measured_runs(kept_ids(_KEY) or ())
available = offered.runs
if len(available) < 2:
    no_runs(
        "Here two to four models stand side by side, image by image: what each gets right that the "
        "others do not, and whether the difference is more than chance. It takes two finished runs on this suite."
    )
picked = choose(available)
if offered.left_out:
    st.caption(offered.left_out)
if len(picked) < 2:
    st.info("Choose two to four runs above; the first is the reference.")
    st.stop()
try:
    comparison(picked)
except MergingError as error:
    st.error(escape_markdown(str(error)), icon=":material/error:")
