"""Finished runs as series of a chart: what they are called, how they are drawn, no two alike."""

from collections import Counter
from collections.abc import Mapping, Sequence

from merging.charts.accuracy import Series
from merging.charts.theme import Style, distinct_styles
from merging.core.text import printed
from merging.methods.params import AUTO
from merging.runs.jobs.merge_result import MethodReport
from merging.runs.run import Run


def name_runs(runs: Sequence[Run]) -> dict[str, str]:
    """Run id → a name no other of these runs has: its label, then how λ was chosen, then the beginning of the id."""
    return told_apart({run.id: run.label for run in runs}, {run.id: scaling_of(run) for run in runs})


def told_apart(names: Mapping[str, str], *details: Mapping[str, str]) -> dict[str, str]:
    """Names of runs, equal ones with their details, and if that is not enough with the beginning of their ids."""
    told = dict(names)
    for detail in (*details, {run_id: run_id[:6] for run_id in names}):
        taken = Counter(told.values())
        for run_id, name in list(told.items()):
            if taken[name] > 1 and detail[run_id]:
                told[run_id] = f"{name} · {detail[run_id]}"
    return told


def scaling_of(run: Run) -> str:
    """Which coefficients a run uses and how they were chosen, in a few words; empty if that is no question for it."""
    if run.spec.pair.localised:
        threshold = run.spec.merge_params.get("threshold")
        masks = "" if threshold is None else ", validated masks" if threshold == AUTO else f", masks λ {threshold:g}"
        return f"{len(run.spec.tasks)} models{masks}"
    report = run.merged.merge if run.merged else MethodReport()
    if run.spec.forgotten:
        names = run.spec.forgotten
        what = f"forgets {names[0] if len(names) == 1 else f'{len(names)} tasks'}"
        return what if report.scaling is None else f"{what}, λ {report.scaling:g} by validation"
    chosen = run.spec.pair.scaling
    if chosen == AUTO:
        return "λ chosen on validation" if report.scaling is None else f"λ {report.scaling:g}, best on validation"
    if isinstance(chosen, list):
        return "λ set per task"
    if chosen is not None:
        return f"λ {printed(chosen)}, set by hand"
    if report.adapted_on:
        per = run.spec.merge_params.get("granularity", "layer")
        return f"per {per}, on {report.adapted_on.split} images"
    return ""


def series_of(runs: Sequence[Run]) -> list[Series]:
    """Accuracies of finished and evaluated runs, ready to draw in one chart, no two of them alike.

    Runs that forget have those of the tasks that they were to leave alone too.
    """
    names, looks = name_runs(runs), looks_of(runs)
    return [
        Series(names[run.id], run.spec.method, run.merged.measured, looks[run.id], frozenset(run.spec.forgotten))
        for run in runs
        if run.merged and run.merged.accuracy
    ]


def looks_of(runs: Sequence[Run]) -> dict[str, Style]:
    """Run id → how to draw it beside the others, no two alike.

    Of the runs of a method, the first that is no variant of it has the method's own marker.
    """
    order = sorted(runs, key=lambda run: run.label != run.spec.method)
    return dict(zip((run.id for run in order), distinct_styles([run.spec.method for run in order]), strict=True))
