"""``python -m studies.awd``: where does AWD help, and what do its scope, its solver and the merge behind it change?

Runs the cases of :mod:`studies.cases`, and combinations of edits and merges without data, and writes what came out to
``studies/results/NAME.json``; :mod:`studies.page` makes the page of docs from it. Finished runs are never done again.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from merging.core import devices
from merging.core.files import atomic_path
from merging.runs.export.weights import require_done
from merging.runs.foreground import run_here
from merging.runs.jobs.merge import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, load_suite
from studies.cases import all_cases
from studies.combinations import shortlist_cases, subset_cases

RESULTS = Path(__file__).parent / "results"
COMBINATIONS = "combinations"
SECTIONS = ("solvers", "merges", "counts", COMBINATIONS)
Result = dict[str, Any]
Measure = Callable[[MergeSpec], Result]


def run_study(
    suite: Suite, reference: str, workspace: Workspace, device: str, sections: Sequence[str], say: Callable[[str], None]
) -> Result:
    """Results on one suite: ``tasks``, ``zero_shot``, ``individual``, ``before``, ``cases`` and ``combinations``."""
    tasks = suite.mergeable()
    evaluator = workspace.evaluator(suite)
    cases = [case for case in all_cases(tasks) if case.section in sections]
    done = []
    for number, case in enumerate(cases):
        say(f"{number + 1}/{len(cases)} {case.section}: {case.variant} before {case.merge}, {len(case.tasks)} tasks")
        done.append(
            {
                "section": case.section,
                "merge": case.merge,
                "variant": case.variant,
                "best": case.best,
                **measure(case.spec(reference, device), workspace),
            }
        )
    return {
        "suite": suite.label,
        "tasks": list(tasks),
        "zero_shot": workspace.base_accuracy(evaluator, tasks).per_task,
        "individual": workspace.individual_accuracy(evaluator, tasks).per_task,
        "before": workspace.geometry(suite, tasks).gram.tolist(),
        "cases": done,
        "combinations": combinations(tasks, reference, workspace, device, say) if COMBINATIONS in sections else [],
    }


def combinations(
    tasks: tuple[str, ...], reference: str, workspace: Workspace, device: str, say: Callable[[str], None]
) -> list[Result]:
    """Edits × merges without data: all of them on all tasks, then the best on validation on subsets of the tasks."""
    found = []
    pairs = shortlist_cases(tasks)
    for number, pair in enumerate(pairs):
        say(f"{number + 1}/{len(pairs)} combinations: {pair.label}")
        found.append(
            {
                "label": pair.label,
                "published": pair.published,
                **measure(pair.spec(reference, device, tasks), workspace),
            }
        )
    chosen = subset_cases(pairs, [result["validation"] for result in found], tasks)
    for number, (pair, subset) in enumerate(chosen):
        say(f"{number + 1}/{len(chosen)} subsets: {pair.label}, {len(subset)} tasks")
        found.append(
            {
                "label": pair.label,
                "published": pair.published,
                **measure(pair.spec(reference, device, subset), workspace),
            }
        )
    return found


def measure(spec: MergeSpec, workspace: Workspace) -> Result:
    """Carry out a run, unless it was done before, and keep of its result what the study needs."""
    result = require_done(run_here(spec, workspace, None, lambda done, total, message: None))
    search, after = result.merge.scaling_search, result.after
    return {
        "tasks": list(spec.tasks),
        "accuracy": result.accuracy,
        "scaling": result.merge.scaling,
        "validation": max(search.average_accuracy) if search else None,
        "search": {"scalings": search.scalings, "average_accuracy": search.average_accuracy} if search else None,
        "mean_abs_cosine": after.mean_abs if after else None,
        "norms": after.norms if after else None,
        "seconds": result.seconds["total"],
    }


@click.command()
@click.argument("suite", default="mini")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=Path("build/study"),
    show_default=True,
    help="Where runs are kept.",
)
@click.option("--name", help="Name of the results; default: the suite's.")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--section",
    "sections",
    type=click.Choice(SECTIONS),
    multiple=True,
    default=SECTIONS,
    help="Only this part; may be repeated.",
)
def main(suite: str, home: Path, name: str | None, device: str, sections: tuple[str, ...]) -> None:
    """Run the study on SUITE; one to two hours on two cores."""
    described = load_suite(suite)
    where = str(devices.resolve(device))
    results = run_study(described, suite, Workspace(home), where, sections, lambda text: click.echo(text, err=True))
    path = RESULTS / f"{name or described.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{path.name} is written; make the page by python -m studies.page", err=True)


if __name__ == "__main__":
    main()
