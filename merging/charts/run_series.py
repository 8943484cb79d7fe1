"""Finished runs as series of a chart: what they are called, how they are drawn, no two alike."""

from collections.abc import Sequence

from merging.charts.accuracy import Series
from merging.charts.theme import Style, distinct_styles
from merging.runs.naming import name_runs, scaling_of, told_apart
from merging.runs.run import Run

__all__ = ["looks_of", "name_runs", "scaling_of", "series_of", "told_apart"]


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
