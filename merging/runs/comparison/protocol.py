"""How the numbers of some runs came about, so that others can judge them and make them again: lines of a table."""

import time
from collections.abc import Callable, Sequence

from merging.core.text import counted, printed
from merging.runs.comparison.settings import base_weights
from merging.runs.run import Run

_IMAGES = {"none": "no images", "unlabeled": "unlabeled images", "labelled": "labelled images"}


def protocol(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[str, str]]:
    """What was measured on what, and what was chosen how: title and sentence.

    Args:
        runs: finished ones.
        names: what to call them.
    """
    named = list(zip(runs, names, strict=True))
    lines = [
        ("Suite", _each(named, lambda run: f"{run.spec.suite_name}, base weights {base_weights(run)[:12]}")),
        ("Tasks merged", _each(named, lambda run: ", ".join(run.spec.tasks))),
        ("Measured on", _each(named, _measured_on)),
        ("Chosen on validation", _each(named, _chosen)),
        ("Learned from", _each(named, _learned_from)),
        ("Seed", _each(named, lambda run: str(run.spec.seed))),
        ("Precision of forward passes", _each(named, lambda run: run.spec.dtype)),
        ("Computed on", _each(named, _computed_on)),
        ("When", _when(runs)),
        ("Asked for by", _each(named, lambda run: run.person)),
    ]
    lines += [(f"Mind, {name}", f"{'; '.join(run.warnings)}.") for run, name in named if run.warnings]
    return [(title, text) for title, text in lines if text]


def settings_lines(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[str, str]]:
    """Name of a run and its method as the command line takes it, with every parameter: readers know no defaults."""
    return [(name, run.spec.pair.full_text) for run, name in zip(runs, names, strict=True)]


def _each(named: Sequence[tuple[Run, str]], what: Callable[[Run], str]) -> str:
    """What is the same of all runs, once; else of each, those that agree together."""
    found: dict[str, list[str]] = {}
    for run, name in named:
        found.setdefault(what(run), []).append(name)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{text or 'not said'} ({', '.join(names)})" for text, names in found.items())


def _measured_on(run: Run) -> str:
    result = run.merged
    if result is None:
        return ""
    counts = result.counts or {}
    images = ", ".join(f"{task} {count:,}" for task, count in counts.items())
    total = f"{result.images:,} images" if result.images is not None else "images"
    parts = [f"{result.split} split, {total}" + (f" ({images})" if images else ""), result.shift_in_words]
    return " ".join(filter(None, [*parts, result.about_images])).rstrip(".")


def _chosen(run: Run) -> str:
    result = run.merged
    search = result.merge.scaling_search if result else None
    if result is None or not result.chosen:
        return "nothing"
    values = ", ".join(f"{_name(name)} {_value(value)}" for name, value in result.chosen.items())
    if search is None:
        return f"{values}, on labelled validation images"
    edge = ", the largest value tried" if search.at_edge else ""
    return (
        f"{values}, the best of {len(search.scalings)} on {search.images:,} labelled images of the {search.split} "
        f"split{edge}"
    )


def _name(field: str) -> str:
    return "λ" if field == "scaling" else field


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return printed(value) if isinstance(value, float | int) else str(value)


def _learned_from(run: Run) -> str:
    result = run.merged
    adapted = result.merge.adapted_on if result else None
    if result is None or adapted is None:
        return {"none": "no images", "unlabeled": "unlabeled images", "labelled": "labelled images"}[
            run.spec.data.needs
        ]
    same = ", the same that accuracy is measured on (the published protocol)" if adapted.split == result.split else ""
    steps = f", ended after {counted(result.merge.ended_after, 'step')}" if result.merge.ended_after else ""
    return f"unlabeled {adapted.split} images{same}{steps}"


def _computed_on(run: Run) -> str:
    device = run.merged.device if run.merged and run.merged.device else run.spec.device
    where = "when the suite was built" if run.shipped else f"on {run.machine}" if run.machine else ""
    return f"{device} {where}".strip()


def _when(runs: Sequence[Run]) -> str:
    days = sorted({time.strftime("%Y-%m-%d", time.localtime(run.finished)) for run in runs if run.finished})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
