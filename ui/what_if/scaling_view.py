"""Accuracy over λ for several methods in one chart."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from merging.charts import theme
from merging.charts.accuracy import Series
from merging.charts.what_if import curves_figure
from merging.methods.pair import Pair
from merging.methods.presets import PRESETS, Preset
from merging.runs import Run
from merging.runs.jobs.scaling_curve import Curve, ScalingCurveJob, ScalingCurveResult
from merging.suites.suite import Split
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, show
from ui.runs import shipped
from ui.runs.jobs import run_of
from ui.runs.panel import how_long, run_panel
from ui.runs.queueing import queue
from ui.shell import state
from ui.shell.url import choice, write_chosen

PARAMETERS = ("curves", "curve-task")  # what the URL can hold
_ALL = "all"
AT_FIRST = ("task_arithmetic", "ties", "awd_ta")


def scaling_view(tasks: tuple[str, ...], split: Split) -> None:
    """Choice of the methods, a job for each, and the curves of those that are done."""
    st.write(
        "λ is chosen where the validation curve is highest. The test curves are dashed and for display only: nothing "
        "is chosen by them."
    )
    if accuracy_view.explain_unmeasurable(tasks):
        return
    offered = {name: preset for name, preset in PRESETS.items() if has_curve(preset)}
    titles = {name: preset.title for name, preset in offered.items()}
    names = choice(
        st.pills,
        "Methods",
        titles,
        selection_mode="multi",
        default=AT_FIRST,
        key="curves",
        wrap=True,
        help="Published methods with one λ whose other parameters need not be searched",
    )
    if not names:
        write_chosen("curves")
        st.info("Choose at least one method.")
        return
    where = state.suite_reference(), tasks, str(state.device())
    jobs = [(offered[name], job_of(offered[name], *where)) for name in offered if name in names]
    runs = [(preset, spec, run_of(spec)) for preset, spec in jobs]
    _offer([spec for _, spec, run in runs if run is None], [(p, run) for p, _, run in runs if run is not None])
    done = [(preset, run.result_as(ScalingCurveResult)) for preset, _, run in runs if run is not None]
    _curves([(preset, result) for preset, result in done if result is not None], tasks)
    shipped.say([run for _, _, run in runs], "curves")


def has_curve(preset: Preset) -> bool:
    """Whether a preset has one λ to vary and leaves nothing else to be searched."""
    return preset.pair.scaling is not None and not _fixed(preset).data.chosen


def _fixed(preset: Preset) -> Pair:
    """Its method with the merge's own λ."""
    return preset.pair.with_scaling(preset.pair.usual.scaling)


def job_of(preset: Preset, suite: str, tasks: tuple[str, ...], device: str) -> ScalingCurveJob:
    """The job that measures a preset's curve."""
    return ScalingCurveJob.build(suite=suite, tasks=tasks, device=device, split="val", **_fixed(preset).fields)


def _offer(missing: Sequence[ScalingCurveJob], asked: Sequence[tuple[Preset, Run]]) -> None:
    """A button for what nobody has asked for, and how far the rest is."""
    if missing:
        button, note = st.columns([0.3, 0.7], vertical_alignment="center")
        if button.button("Measure the curves", type="primary", icon=":material/show_chart:", width="stretch"):
            queue(missing)
        note.caption(
            f"{len(missing)} of the chosen methods have no curve yet. Each is measured at 21 values of λ or "
            f"more, on all validation and all test images; results stay. This takes {how_long(missing)}."
        )
    going = [(preset, run) for preset, run in asked if run.state != "done"]
    if going:
        run_panel([run for _, run in going], key="curves", names={run.id: preset.title for preset, run in going})


def _curves(found: Sequence[tuple[Preset, ScalingCurveResult]], tasks: Sequence[str]) -> None:
    """The chart of the finished curves, and each task's own at the choice of the reader."""
    if not found:
        return
    labels = accuracy_view.task_labels(tasks)
    choices = {_ALL: "all tasks, on average", **labels}
    chosen = choice(
        st.selectbox,
        "Accuracy of",
        choices,
        key="curve-task",
        width=320,
        help="λ is chosen by the average in any case",
    )
    task = None if chosen == _ALL else chosen
    drawn = [
        (Series(preset.title, preset.title, {}), result if task is None else _of_task(result, task))
        for preset, result in found
    ]
    first = found[0][1]
    best = "; ".join(f"{series.name}: λ = {one.scaling:g}, test {_at(one):.1f} %" for series, one in drawn)
    what = "On average" if task is None else f"On {labels[task]}"
    axis = "Average accuracy (%)" if task is None else f"Accuracy on {theme.plain(labels[task])} (%)"
    show(
        partial(curves_figure, drawn, axis),
        key="curves-figure",
        file="accuracy-over-lambda",
        table=curve_table(drawn),
        takeaway=f"{what}, with λ chosen on validation: {best}. {first.val.images:,} validation and "
        f"{first.test.images:,} test images in all.",
    )
    if first.about_images:
        st.caption(escape_markdown(first.about_images))


def _of_task(result: ScalingCurveResult, task: str) -> ScalingCurveResult:
    """One task's curves, with the λ that the average chose."""

    def alone(curve: Curve) -> Curve:
        return curve.model_copy(update={"average": curve.per_task[task]})

    return result.model_copy(update={"val": alone(result.val), "test": alone(result.test)})


def _at(result: ScalingCurveResult) -> float:
    """Test accuracy at the chosen λ, in percent."""
    return float(100 * result.test.average[result.scalings.index(result.scaling)])


def curve_table(drawn: Sequence[tuple[Series, ScalingCurveResult]]) -> pd.DataFrame:
    """A row per method and λ: validation and test accuracy in percent, and whether validation chose it."""
    rows = [
        (series.name, scaling, round(100 * val, 2), round(100 * test, 2), scaling == one.scaling)
        for series, one in drawn
        for scaling, val, test in zip(one.scalings, one.val.average, one.test.average, strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "λ", "validation (%)", "test (%)", "chosen"])
