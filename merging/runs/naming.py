"""What several runs are called where they stand side by side: no two alike, and each as short as that allows."""

from collections import Counter
from collections.abc import Mapping, Sequence

from merging.core.text import printed
from merging.methods.params import AUTO
from merging.runs.jobs.merge_result import MethodReport
from merging.runs.run import Run

BASELINES = ("Zero-shot", "Individual")  # what stands beside runs and is compared with them, by these names


def name_runs(runs: Sequence[Run]) -> dict[str, str]:
    """Run id → a name that no other of these runs has.

    What somebody called it, with its label behind where a baseline is called so, else its label; where runs come from
    several machines, which one; then, of equal names, how λ was chosen, the seed if it differs, and the beginning of
    the id.
    """
    several = len({machine_of(run) for run in runs} - {""}) > 1
    names = {run.id: _called(run) for run in runs}
    if several:
        names = {run.id: " · ".join(filter(None, [names[run.id], machine_of(run)])) for run in runs}
    return told_apart(names, {run.id: scaling_of(run) for run in runs}, _seeds(runs, names))


def _seeds(runs: Sequence[Run], names: Mapping[str, str]) -> dict[str, str]:
    """Run id → its seed in words; empty where runs of its name have the same."""
    drawn: dict[str, set[int]] = {}
    for run in runs:
        drawn.setdefault(names[run.id], set()).add(run.spec.seed)
    return {run.id: f"seed {run.spec.seed}" if len(drawn[names[run.id]]) > 1 else "" for run in runs}


def _called(run: Run) -> str:
    is_taken = run.name.casefold() in map(str.casefold, BASELINES)
    return f"{run.name} · {run.label}" if is_taken else run.name or run.label


def machine_of(run: Run) -> str:
    """The machine on which a run was asked for; empty of those that came with a suite, and where nobody noted it."""
    return "" if run.shipped else run.machine


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
