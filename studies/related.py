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
from studies.tables import AWD_OF, Rows, gain, only, pick

STORED = RESULTS / "related.json"
SUITES = ("mini-related", "mini")
BEFORE = ("none", "row")  # what stands before a merge: nothing, or AWD by row, the scope that helps most on mini
MERGES = {
    "Task Arithmetic": "merge=task_arithmetic merge.scaling=auto",
    "Iso-C": "merge=iso_c merge.scaling=auto",
    "TSV-M": "merge=tsv_m merge.scaling=auto",
    "WUDI, closed form": "merge=wudi merge.solver=closed_form merge.scaling=auto",
    "Overlap-scaled WUDI": "merge=overlap merge.scaling=auto",
}
# What the own merge is compared with besides, without AWD, on the suite that had no part in finding it.
OTHERS = {
    "WUDI, closed form, all linear layers": "merge=wudi merge.solver=closed_form merge.layers=all_linear"
    " merge.scaling=auto",
    "ACE-Merging": "merge=ace merge.scaling=auto",
    "Overlap-scaled WUDI, λ = 1": "merge=overlap",
}
Result = dict[str, Any]


def cells(suite: str) -> Iterator[tuple[str, str, Pair]]:
    """Every merge with what stands before it: name, variant, method."""
    others = {} if suite == "mini" else OTHERS
    for variant in BEFORE:
        awd = VARIANTS[variant]
        edit = "" if awd is None else "edit=awd " + "".join(f"edit.{key}={value} " for key, value in awd.items())
        for name, settings in {**MERGES, **(others if awd is None else {})}.items():
            yield name, variant, Pair.read(edit + settings)


def chosen_before(suite: str, merge: str, variant: str) -> float | None:
    """λ as the leaderboard or :mod:`studies.awd` has chosen it on the same validation images; None if none has."""
    if suite != "mini":
        return None
    if variant == "none":
        row = only(json.loads((RESULTS / "leaderboard.json").read_text(encoding="utf-8"))["rows"], method=merge)
        return None if row is None else float(row["scaling"])
    cases = json.loads((RESULTS / "mini.json").read_text(encoding="utf-8"))["cases"]
    name = str(Pair.read(MERGES[merge]).merge.name) + (", closed form" if merge.startswith("WUDI") else "")
    case = only(cases, section="merges", merge=name, variant=variant, best=True)
    return None if case is None else float(case["scaling"])


def measure(reference: str, pair: Pair, workspace: Workspace) -> Result:
    """Carry a run out, and say which test images of each task it gets right, as bits written in hexadecimal."""
    suite = load_suite(reference)
    spec = MergeSpec.build(suite=reference, tasks=suite.mergeable(), device="cpu", **pair.fields)
    run = run_here(spec, workspace, None, no_progress)
    result, evaluator = require_done(run), evaluator_of(run, workspace)
    predicted = predictions_of(run, workspace, evaluator)
    right = {task: found == evaluator.image_set(task, spec.split).labels for task, found in predicted.items()}
    return {
        "scaling": result.merge.scaling,
        "mean_abs_cosine": result.after.mean_abs if result.after else None,
        "images": {task: len(found) for task, found in right.items()},
        "right": {task: np.packbits(found).tobytes().hex() for task, found in right.items()},
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


def stronger_table(study: Mapping[str, Any]) -> tuple[list[str], Rows]:
    """Accuracy of every merge without and with AWD before it, gains with their standard errors."""
    rows = []
    for merge in MERGES:
        plain = pick(study["cells"], merge=merge, variant="none")[0]
        row = [merge, f"{average(plain):.1f}", f"{plain['scaling']:g}"]
        for variant in BEFORE[1:]:
            cell = pick(study["cells"], merge=merge, variant=variant)[0]
            points, error = difference(cell, plain)
            row += [f"{average(cell):.1f} ({gain(points)} ± {error:.1f})", f"{cell['scaling']:g}"]
        rows.append(row)
    return ["merge", "no AWD", "λ", *(cell for name in BEFORE[1:] for cell in (AWD_OF[name], "λ"))], rows


def cosine_after(study: Mapping[str, Any], variant: str) -> float:
    """Mean |cos| of the task vectors after a variant of AWD."""
    return float(pick(study["cells"], variant=variant)[0]["mean_abs_cosine"])


@click.command()
@click.option("--home", type=click.Path(path_type=Path), default=Path("build/study"), show_default=True)
@click.argument("suites", nargs=-1)
def main(home: Path, suites: tuple[str, ...]) -> None:
    """Measure every cell on SUITES, both embedded ones by default; about half an hour of one core."""
    workspace = Workspace(home)
    results = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else {}
    for reference in suites or SUITES:
        found = []
        for name, variant, pair in cells(reference):
            click.echo(f"{reference}: {variant} before {name}", err=True)
            known = chosen_before(reference, name, variant) if name in MERGES else None
            cell = measure(reference, pair if known is None else pair.with_scaling(known), workspace)
            found.append({"merge": name, "variant": variant, **cell, "scaling": cell["scaling"] or known})
        suite = load_suite(reference)
        results[suite.name] = {"before": workspace.geometry(suite, suite.mergeable()).gram.tolist(), "cells": found}
        with atomic_path(STORED) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{STORED.name} is written; make the pages by python -m studies.page and studies.docs", err=True)


if __name__ == "__main__":
    main()
