"""Tables and figures of what the package's functions return: the same as on the pages of the dashboard."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from merging.charts.accuracy import Series, accuracy_figure, accuracy_table, scaling_curve, scaling_table, set_apart
from merging.charts.geometry import cosine_figure, cosine_limit, pair_table
from merging.charts.leaderboard import Standing, leaderboard_dots, leaderboard_table
from merging.charts.run_series import name_runs, series_of
from merging.charts.runs import coefficient_heatmap, coefficient_table
from merging.core.errors import SpecError
from merging.methods.presets import PRESETS
from merging.runs.from_python import Evaluated, Merged, Similarity
from merging.runs.jobs.merge_result import Coefficients, MethodReport
from merging.runs.leaderboard import Row, ranked

Result = Similarity | Merged | Evaluated | Sequence[Row]
Subject = Literal["accuracy", "coefficients", "search"]
_PRESETS = {preset.title: preset for preset in PRESETS.values()}


def table(*results: Result, of: Subject = "accuracy") -> pd.DataFrame:
    """The numbers of one or several results as a frame, accuracies in percent.

    Args:
        results: merges and evaluations, a row each; or one similarity, a row a pair of tasks; or one leaderboard, a row
            a method, best first.
        of: of merges also ``coefficients``, a row a tensor of one linear run, or ``search``, a row a λ that was tried.

    Raises:
        MergingError: nothing was measured, or these results can't stand in one table.

    >>> import merging
    >>> base = merging.evaluate("mini", "base", tasks=["digits", "shapes"])
    >>> merged = merging.merge("mini", "average", tasks=["digits", "shapes"])
    >>> frame = merging.table(base, merged)
    >>> list(frame.columns), list(frame["Method"])
    (['Method', 'Average', 'Handwritten digits', 'Plane shapes'], ['Zero-shot', 'Weight averaging'])
    """
    first = _only(results)
    if isinstance(first, Similarity):
        return pair_table(first.cosines_before, first.cosines_after, tuple(first.labels.values()))
    if isinstance(first, Sequence):
        return leaderboard_table(_standings(first), list(first[0].accuracy))
    models = _models(results)
    if of == "coefficients":
        one, coefficients = _linear(models)
        return coefficient_table(coefficients, one.labels)
    if of == "search":
        return scaling_table(_searches(models))
    return accuracy_table(*_series(models))


def figure(*results: Result, of: Subject = "accuracy", dark: bool = False) -> go.Figure:
    """One or several results as the figure that the pages draw of them.

    Args:
        results: as for :func:`table`: a similarity gives heat maps of cosines before, after and their difference;
            merges and evaluations a group of bars a task; a leaderboard its averages.
        of: of merges also ``coefficients``, a heat map of one linear run, or ``search``, accuracy over λ.
        dark: whether it is shown on a dark ground.

    Raises:
        MergingError: nothing was measured, or these results can't be drawn in one figure.

    >>> import merging
    >>> look = merging.similarity("mini", "awd", tasks=["digits", "letters", "shapes"])
    >>> [trace.type for trace in merging.figure(look).data]
    ['heatmap', 'heatmap', 'heatmap']
    """
    first = _only(results)
    if isinstance(first, Similarity):
        limit = cosine_limit(first.cosines_before, first.cosines_after, zoom=True)
        return cosine_figure(
            first.cosines_before, first.cosines_after, tuple(first.labels.values()), limit=limit, dark=dark
        )
    if isinstance(first, Sequence):
        return leaderboard_dots(_standings(first), dark)
    models = _models(results)
    if of == "coefficients":
        one, coefficients = _linear(models)
        return coefficient_heatmap(coefficients, one.labels, dark)
    if of == "search":
        return scaling_curve(_searches(models))
    return accuracy_figure(*_series(models))


def _only(results: Sequence[Result]) -> Result:
    """The first result, which is the only one if it is of a kind that is shown alone."""
    if not results:
        raise SpecError("nothing to show: expected a similarity, a leaderboard, or merges and evaluations")
    if len(results) > 1 and any(isinstance(one, Similarity | Sequence) for one in results):
        raise SpecError("a similarity or a leaderboard is shown by itself; give it alone")
    first = results[0]
    if isinstance(first, str) or not isinstance(first, Similarity | Merged | Evaluated | Sequence):
        raise SpecError(
            f"expected what similarity, merge, evaluate or leaderboard returned, got {type(first).__name__}"
        )
    if isinstance(first, Sequence) and not first:
        raise SpecError("an empty leaderboard: nothing was measured")
    return first


def _models(results: Sequence[Result]) -> list[Merged | Evaluated]:
    """Results with accuracies, one by one."""
    models = [one for one in results if isinstance(one, Merged | Evaluated)]
    if len(models) < len(results):
        raise SpecError("expected what merge and evaluate returned, and nothing else beside it")
    return models


def _series(models: Sequence[Merged | Evaluated]) -> tuple[list[Series], dict[str, str]]:
    """Series over the tasks that all models were measured on, no two of one name, with the tasks' labels."""
    unmeasured = [one.label for one in models if isinstance(one, Merged) and not one.accuracy]
    if unmeasured:
        raise SpecError(f"{', '.join(unmeasured)}: accuracy was not measured; merge with evaluate=True")
    kinds = sorted({one.images for one in models})
    if len(kinds) > 1:
        raise SpecError(f"accuracies on different images, {' and '.join(kinds)}, can't be compared; choose one kind")
    of_runs = iter(series_of([one.run for one in models if isinstance(one, Merged)]))
    found = [next(of_runs) if isinstance(one, Merged) else Series(one.name, one.name, one.accuracy) for one in models]
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"{', '.join(twice)}: given twice; two results of one name can't be told apart")
    shared = [task for task in found[0].accuracy if all(task in one.accuracy for one in found)]
    if not shared:
        raise SpecError("these results have no task in common, so there is nothing to compare")
    kept = [replace(one, accuracy={task: one.accuracy[task] for task in shared}) for one in found]
    return set_apart(kept), {task: models[0].labels.get(task, task) for task in shared}


def _linear(models: Sequence[Merged | Evaluated]) -> tuple[Merged, Coefficients]:
    """The one merge whose coefficients can be shown, and these."""
    one = models[0]
    if len(models) > 1 or not isinstance(one, Merged):
        raise SpecError("coefficients are those of one merge; give one that merge returned")
    if one.run.coefficients is None:
        raise SpecError(f"{one.label} is no weighted sum of task vectors, so it has no coefficients")
    return one, one.run.coefficients


def _searches(models: Sequence[Merged | Evaluated]) -> list[tuple[Series, MethodReport]]:
    """The merges that chose λ on validation images, with what their merge reports."""
    runs = [one.run for one in models if isinstance(one, Merged)]
    names = name_runs(runs)
    reports = [(run, run.merged.merge) for run in runs if run.merged]
    found = [(Series(names[run.id], run.spec.method, {}), report) for run, report in reports if report.scaling_search]
    if not found:
        raise SpecError("no λ was chosen on validation images here; merge with the parameter merge.scaling = 'auto'")
    return found


def _standings(rows: Sequence[Row]) -> list[Standing]:
    """The lines of the leaderboard, best average first."""
    lines = []
    for row in rows:
        preset = _PRESETS.get(row.method)
        lines.append(
            Standing(
                title=row.method,
                data=row.data,
                paper=preset.paper if preset else "",
                note=preset.note if preset else "",
                state="done" if preset else "",
                run=row.run,
                row=row,
                localised=row.localised,
                own=row.own,
            )
        )
    return ranked(lines)
