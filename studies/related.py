"""``python -m studies.related``: AWD before the stronger merges, where task vectors are related and where they are not.

On the embedded suites `mini` and `mini-related`, λ the best on validation in each cell. Of every run it is kept which
test images it gets right, so that any two can be compared image by image. Writes ``studies/results/related.json``, of
which :mod:`studies.page` and :mod:`studies.docs` make tables. Finished runs are never done again.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from merging.core.files import atomic_path
from merging.core.progress import no_progress
from merging.methods.pair import Pair
from merging.runs.export.weights import require_done
from merging.runs.foreground import run_here
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.predictions import evaluator_of, predictions_of
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite
from studies.awd import RESULTS
from studies.cases import VARIANTS

STORED = RESULTS / "related.json"
SUITES = ("mini", "mini-related")
MERGES = {
    "Task Arithmetic": "merge=task_arithmetic merge.scaling=auto",
    "Iso-C": "merge=iso_c merge.scaling=auto",
    "TSV-M": "merge=tsv_m merge.scaling=auto",
    "WUDI, closed form": "merge=wudi merge.solver=closed_form merge.scaling=auto",
    "Overlap-scaled WUDI": "merge=overlap merge.scaling=auto",
}
# What the own merge is compared with besides, without AWD.
OTHERS = {
    "WUDI, closed form, all linear layers": "merge=wudi merge.solver=closed_form merge.layers=all_linear"
    " merge.scaling=auto",
    "ACE-Merging": "merge=ace merge.scaling=auto",
    "Overlap-scaled WUDI, λ = 1": "merge=overlap",
}
Result = dict[str, Any]


def cells() -> Iterator[tuple[str, str, Pair]]:
    """Every merge with every variant of AWD before it: name, variant, method."""
    for name, settings in MERGES.items():
        for variant, awd in VARIANTS.items():
            edit = "".join(f" edit.{key}={value}" for key, value in (awd or {}).items())
            yield name, variant, Pair.read(settings if awd is None else f"edit=awd{edit} {settings}")
    for name, settings in OTHERS.items():
        yield name, "none", Pair.read(settings)


def measure(reference: str, pair: Pair, workspace: Workspace) -> Result:
    """Carry a run out, and say which test images of each task it gets right, as bits written in hexadecimal."""
    suite = load_suite(reference)
    spec = MergeSpec.build(suite=reference, tasks=suite.mergeable(), device="cpu", **pair.fields)
    run = run_here(spec, workspace, None, no_progress)
    result, evaluator = require_done(run), evaluator_of(run, workspace)
    predicted = predictions_of(run, workspace, evaluator)
    right = {task: found == evaluator.image_set(task, spec.split).labels for task, found in predicted.items()}
    search = result.merge.scaling_search
    return {
        "scaling": result.merge.scaling,
        "validation": max(search.average_accuracy) if search else None,
        "images": {task: len(found) for task, found in right.items()},
        "right": {task: np.packbits(found).tobytes().hex() for task, found in right.items()},
        "mean_abs_cosine": result.after.mean_abs if result.after else None,
    }


def answers(cell: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Task → whether a run is right about each test image: bool ``[N]``."""
    bits = {task: np.frombuffer(bytes.fromhex(text), np.uint8) for task, text in cell["right"].items()}
    return {task: np.unpackbits(found)[: cell["images"][task]].astype(bool) for task, found in bits.items()}


def average(cell: Mapping[str, Any]) -> float:
    """Mean test accuracy over the tasks, in percent."""
    return 100 * float(np.mean([right.mean() for right in answers(cell).values()]))


def difference(cell: Mapping[str, Any], reference: Mapping[str, Any]) -> tuple[float, float]:
    """How much better a run is than another on the same images, in points, and the standard error of that.

    The mean over tasks of the mean over images; the error is that of drawing images, tasks and models being given.
    """
    ours, theirs = answers(cell), answers(reference)
    steps = [ours[task].astype(float) - theirs[task] for task in ours]
    error = np.sqrt(sum(step.var(ddof=1) / len(step) for step in steps)) / len(steps)
    return 100 * float(np.mean([step.mean() for step in steps])), 100 * float(error)


@click.command()
@click.option("--home", type=click.Path(path_type=Path), default=Path("build/study"), show_default=True)
@click.argument("suites", nargs=-1)
def main(home: Path, suites: tuple[str, ...]) -> None:
    """Measure every cell on SUITES, both embedded ones by default; about half an hour of one core."""
    workspace = Workspace(home)
    results = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else {}
    for reference in suites or SUITES:
        found = []
        for name, variant, pair in cells():
            click.echo(f"{reference}: {variant} before {name}", err=True)
            found.append({"merge": name, "variant": variant, **measure(reference, pair, workspace)})
        suite = load_suite(reference)
        results[load_suite(reference).name] = {
            "tasks": list(suite.mergeable()),
            "before": workspace.geometry(suite, suite.mergeable()).gram.tolist(),
            "cells": found,
        }
    with atomic_path(STORED) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{STORED.name} is written; make the pages by python -m studies.page and studies.docs", err=True)


if __name__ == "__main__":
    main()
