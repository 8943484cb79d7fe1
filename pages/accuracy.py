"""Accuracy: chosen runs against the baselines, per task and on average."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from merging.charts.accuracy import (
    MANY_TASKS,
    MAX_RADAR,
    MIN_RADAR_TASKS,
    Series,
    accuracy_dots,
    accuracy_figure,
    accuracy_radar,
    accuracy_table,
    scaling_curve,
    scaling_table,
    set_apart,
)
from merging.charts.run_series import name_runs, series_of
from merging.evaluation.accuracy import best_first
from merging.runs import Run
from merging.runs.comparison.compare import MAX_RUNS
from merging.suites.images.shifts import CLEAN, shift_text
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.accuracy.no_runs import no_runs, ways_to_run
from ui.accuracy.preset_runs import comparison
from ui.look.figure import escape_markdown, show
from ui.runs import shipped
from ui.runs.choice import chosen_ids, kept_ids, remember_ids
from ui.runs.text import chosen_on_validation, mixtures, option_labels, provenance
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import choice, said_below, write_chosen

through_app()

Heading = Callable[[str], object]  # st.header, or st.subheader below one

TASK_ARITHMETIC, ADAMERGING = "Task Arithmetic", "AdaMerging"
_DEFAULT_RUNS = 6  # more bars a group are hard to tell apart
_KEY, _DEFAULT = "accuracy-runs", "accuracy-runs-default"
_SCALES, _VIEWS = ("Absolute", "Normalised"), ("Bars", "Dots", "Radar")
BASELINES = (accuracy_view.ZERO_SHOT, TASK_ARITHMETIC, ADAMERGING, accuracy_view.INDIVIDUAL)


def default_choice(runs: Sequence[Run], tasks: tuple[str, ...]) -> list[str]:
    """One run of every method for exactly these tasks on the test split, newest methods first; at most six.

    Among runs of one method that with λ chosen on validation comes before those with a λ given, then the newest. Runs
    that forget are for those who ask for them.
    """
    fitting: dict[str, Run] = {}
    for run in runs:
        if run.spec.tasks == tasks and run.spec.images == "test" and not run.spec.forgotten:
            known = fitting.setdefault(run.label, run)
            if chosen_on_validation(run) and not chosen_on_validation(known):
                fitting[run.label] = run
    return [run.id for run in fitting.values()][:_DEFAULT_RUNS]


def choose(runs: Sequence[Run]) -> list[Run]:
    """Which runs to compare; stands in the URL. As long as nobody chose, they follow the selected tasks."""
    by_id = {run.id: run for run in runs}
    tasks = state.selected_tasks()
    default = default_choice(runs, tasks)
    kept = kept_ids(_KEY)
    if kept is not None and kept == st.session_state.get(_DEFAULT):
        st.session_state[_KEY] = default
    st.session_state[_DEFAULT] = default
    chosen_ids(_KEY, list(by_id), default, "The newest runs are shown instead." if default else "")
    ids = st.multiselect(
        "Runs",
        list(by_id),
        format_func=option_labels(runs, tasks).__getitem__,
        key=_KEY,
        placeholder="Choose finished runs",
        help="Finished runs on the weights of this suite, newest first",
    )
    remember_ids("runs", _KEY, ids)
    return [by_id[run_id] for run_id in ids]


def explain_nothing_chosen(runs: Sequence[Run]) -> None:
    """Why nothing is compared: the selected tasks were never merged, or nobody chose a run."""
    tasks = state.selected_tasks()
    if default_choice(runs, tasks):
        st.info("Choose at least one run above.")
        return
    names = escape_markdown(", ".join(accuracy_view.task_labels(tasks).values()))
    st.info(
        f"No finished run merges exactly the selected tasks ({names}). Run the comparison or a merge on them, select "
        f"other tasks in the sidebar, or choose above among {len(runs)} runs of other tasks."
    )
    ways_to_run()


def explain_other_tasks(runs: Sequence[Run]) -> None:
    """Say so if runs merge other tasks than those selected in the sidebar."""
    tasks = state.selected_tasks()
    others = [run for run in runs if set(run.spec.tasks) != set(tasks)]
    if others:
        which = "The chosen runs merge" if len(others) == len(runs) else f"{len(others)} of the chosen runs merge"
        counts = sorted({len(run.spec.tasks) for run in others})
        st.caption(
            f":material/info: {which} other tasks than the {len(tasks)} selected in the sidebar: "
            f"{' or '.join(map(str, counts))} task{'' if counts == [1] else 's'}."
        )


def controls() -> tuple[list[str], bool, str]:
    """Baselines, whether to show normalised accuracy, and the view."""
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom"):
        baselines = choice(st.pills, "Baselines", BASELINES, selection_mode="multi", default=BASELINES, key="baselines")
        scale = choice(
            st.segmented_control,
            "Scale",
            _SCALES,
            default="Absolute",
            required=True,
            key="scale",
            help=accuracy_view.NORMALISED,
        )
        view = choice(st.segmented_control, "View", _VIEWS, default="Bars", required=True, key="view")
    if not baselines:
        write_chosen("baselines")
    return list(baselines), scale == "Normalised", str(view)


def baseline_runs(names: Sequence[str], tasks: Sequence[str]) -> list[Run]:
    """Task Arithmetic at its best validation λ and AdaMerging with its defaults, as far as they have been run."""
    return [entry.run for entry in comparison(tasks) if entry.run and entry.done and entry.spec.label in names]


def compare(runs: list[Run], baselines: list[str], relative: bool, view: str, heading: Heading) -> None:
    """Charts and tables of runs on the same images, with headings of one level."""
    found = [run.merged.measured for run in runs if run.merged]
    tasks = [task for task in state.suite().task_names if all(task in accuracy for accuracy in found)]
    if not tasks:
        st.warning("The chosen runs have no task in common, so there is nothing to compare. Choose others.")
        return
    for reason in mixtures(runs):
        st.warning(reason, icon=":material/balance:")
    split, shift = runs[0].spec.split, runs[0].spec.shift
    clean, which = shift == CLEAN, split if shift == CLEAN else f"{split}-{shift_text(shift).replace(':', '-')}"
    if runs[0].spec.images == "test" and all(set(run.spec.tasks) == set(tasks) for run in runs):
        known = {run.id for run in runs}
        runs = [*(run for run in baseline_runs(baselines, runs[0].spec.tasks) if run.id not in known), *runs]
    references = accuracy_view.baseline_series(tasks, split) if clean else []
    if clean:
        absent_baselines(baselines, runs)
    else:
        st.caption("Baselines were measured on clean images and are not drawn beside these.")
    if clean and not references:
        accuracy_view.offer_baselines(tasks, split)
    series = restricted([*references, *series_of(runs)], tasks, baselines)
    chart(series, references, tasks, relative, view, which)
    shipped.say([measuring.shipped_baselines(split) if references else None, *runs], f"accuracy-{which}")
    names = name_runs(runs)
    by_name = {names[run.id]: run for run in runs}
    heading("On average")
    accuracy_view.show_ranking(accuracy_view.ranking(series, by_name), f"averages-{which}")
    st.caption(f"{provenance(runs)} {accuracy_view.note_on_forgotten(series)}".strip())
    if len(runs) > 1:
        st.page_link(
            "pages/compare.py",
            label="Compare image by image",
            icon=":material/compare_arrows:",
            query_params={**state.shared_query(), "run": [run.id for run in runs[:MAX_RUNS]]},
        )
    searches(runs, series, which, heading)


def absent_baselines(wanted: Sequence[str], runs: Sequence[Run]) -> None:
    """Say which baselines were asked for and never run on these tasks and this split, and where to run them."""
    labels = {run.spec.label for run in runs}
    absent = [name for name in (TASK_ARITHMETIC, ADAMERGING) if name in wanted and name not in labels]
    if absent:
        note, way = st.columns([0.72, 0.28], vertical_alignment="center")
        note.caption(f"Not drawn, as there is no such run on all of these tasks and this split: {', '.join(absent)}.")
        way.page_link(
            "pages/start.py",
            label="Run the comparison",
            icon=":material/play_arrow:",
            query_params=state.shared_query(),
        )


def restricted(series: Sequence[Series], tasks: Sequence[str], baselines: Sequence[str]) -> list[Series]:
    """Only the common tasks, those to be forgotten apart, without baselines that nobody wants, from zero-shot up."""
    place = {accuracy_view.ZERO_SHOT: 0, accuracy_view.INDIVIDUAL: 2}
    kept = [
        replace(one, accuracy={task: one.accuracy[task] for task in tasks})
        for one in series
        if one.method not in place or one.method in baselines
    ]
    return sorted(set_apart(kept), key=lambda one: place.get(one.method, 1))


def chart(
    series: list[Series], references: Sequence[Series], tasks: Sequence[str], relative: bool, view: str, split: str
) -> None:
    """The chart of the view that was chosen."""
    labels = accuracy_view.task_labels(tasks)
    individual = next((one for one in references if one.name == accuracy_view.INDIVIDUAL), None)
    shown, axis = series, "Accuracy (%)"
    if relative and individual is not None:
        shown, axis = [one.relative_to(individual.accuracy) for one in series], "Normalised accuracy (%)"
    elif relative:
        st.info(
            "Normalised accuracy needs the individual models' accuracy on the same images, which is missing. Shown as "
            "measured."
        )
    drawn = shown
    if view == "Radar" and len(tasks) < MIN_RADAR_TASKS:
        st.caption(f"A radar needs at least {MIN_RADAR_TASKS} tasks, here are {len(tasks)}: bars are shown.")
        view = "Bars"
    if view == "Bars" and len(tasks) >= MANY_TASKS:
        st.caption(f"Bars of {len(tasks)} tasks can't be told apart: dots are shown.")
    if view == "Radar":
        drawn = shown if len(shown) <= MAX_RADAR else radar_choice(shown)
        chart = partial(accuracy_radar, drawn, labels)
    else:
        chart = partial(accuracy_figure if view == "Bars" else accuracy_dots, shown, labels, axis)
    show(
        chart,
        key=f"accuracy-{split}",
        takeaway=accuracy_view.takeaway(series),
        table=accuracy_table(drawn, labels),
        file=f"accuracy-{split}",
    )


def radar_choice(series: Sequence[Series]) -> list[Series]:
    """Floor, ceiling and the best merges: as many as a radar can show."""
    ends = [one for one in series if one.method in (accuracy_view.ZERO_SHOT, accuracy_view.INDIVIDUAL)]
    merged = [one for one in series if one not in ends]
    merged = [merged[place] for place in best_first([one.average for one in merged])]
    st.caption(f"A radar stays readable with {MAX_RADAR} outlines: the best merges are shown.")
    kept = [*ends, *merged[: MAX_RADAR - len(ends)]]
    return [one for one in series if one in kept]


def searches(runs: Sequence[Run], series: Sequence[Series], split: str, heading: Heading) -> None:
    """How λ was chosen, for the runs that searched it."""
    by_name = {one.name: one for one in series}
    names = name_runs(runs)
    found = [
        (by_name[names[run.id]], run.merged.merge)
        for run in runs
        if run.merged and run.merged.merge.scaling_search and names[run.id] in by_name
    ]
    if not found:
        return
    heading("How λ was chosen")
    images = max(report.scaling_search.images for _, report in found if report.scaling_search)
    edge = {True: " (the largest tried, so a larger one may do better)", False: ""}
    chosen = ", ".join(f"{report.scaling:g} for {one.name}{edge[report.at_edge]}" for one, report in found)
    show(
        partial(scaling_curve, found),
        key=f"accuracy-search-{split}",
        takeaway=f"Best λ on {images:,} validation images: {chosen}. Test images played no part.",
        table=scaling_table(found),
        file="lambda-search",
    )
    shipped.say([run for run in runs if run.merged and run.merged.merge.scaling_search], f"search-{split}")


st.title("Accuracy")
offered = accuracy_view.measured_runs(kept_ids(_KEY) or ())
available = offered.runs
if not available:
    no_runs(
        "Here the accuracy of every run stands beside that of the unmerged models, task by task. "
        "No run on this suite is finished yet."
    )
picked = choose(available)
if offered.left_out:
    st.caption(offered.left_out)
shown_baselines, as_shares, chosen_view = controls()
if not picked:
    explain_nothing_chosen(available)
    st.stop()
explain_other_tasks(picked)
kinds = dict.fromkeys(sorted(run.spec.images for run in picked))
if len({run.spec.split for run in picked}) > 1:
    st.warning("Some runs were measured on test images, others on validation images: they get a chart each.")
elif len(kinds) > 1:
    st.warning("The runs were measured on images that were corrupted in different ways: they get a chart each.")
for kind in kinds:
    if len(kinds) > 1:
        st.header({"test": "Test split", "val": "Validation split"}.get(kind, f"Test split{kind.removeprefix('test')}"))
    below = st.subheader if len(kinds) > 1 else st.header
    compare([run for run in picked if run.spec.images == kind], shown_baselines, as_shares, chosen_view, below)
