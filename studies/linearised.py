"""``python -m studies.linearised``: does linearising adapters make what was fine-tuned easier to merge (L-LoRA)?

Fine-tunes adapters on the tasks of the embedded suite (:mod:`studies.adapter_training`), merges them with the package's
own methods, λ chosen on validation images, and writes what came out to ``studies/results/linearised.json``;
:mod:`studies.linearised_page` makes the page of docs from it. What was trained or measured before is not done again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from merging.core.files import atomic_path
from merging.evaluation.evaluator import Evaluator
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.params import GRID
from merging.methods.scaling import computed, search_averages
from merging.suites.suite import load_suite
from merging.weights.files import Checkpoint, open_checkpoint
from merging.weights.geometry import measure as measure_geometry
from merging.weights.vectors import TaskVectors
from studies.adapter_models import Line, Tensors
from studies.adapter_training import WAYS, Say, Way, choose_rate, line, start_file, trained_file
from studies.adapters import folded
from studies.awd import RESULTS
from studies.cases import subsets
from studies.mini_suite.finetune import FineTuningPlan
from studies.mini_suite.suite_files import save_tensors

NAME = "linearised"
FULL, FOLDED = "full", "lora_weights"
ALL_WAYS = (FULL, "lora", FOLDED, "l_lora")
EDITS = {"task_arithmetic": "none", "ties": "ties"}  # the edit before the sum of the task vectors
SUBSET_SIZES = (3, 5)

Result = dict[str, Any]


@dataclass(frozen=True)
class Models:
    """Models that were fine-tuned in one way.

    Attributes:
        title: what the page calls the way.
        vectors: their task vectors, in weights or in adapters.
        line: what evaluates points between them.
        added: task vectors of what they add to the tower's weights.
        rate: the learning rate; None for the suite's own models.
        rates: validation accuracy after a short training by rate, as text.
    """

    title: str
    vectors: TaskVectors
    line: Line
    added: TaskVectors
    rate: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


def models_of(name: str, evaluator: Evaluator, folder: Path, say: Say) -> Models:
    """The models of a way, trained now unless they were before."""
    suite = evaluator.suite
    base = suite.base_checkpoint
    if name == FULL:
        own = suite.vectors()
        return Models("full fine-tuning", own, Line(evaluator, base), own)
    way = WAYS["lora" if name == FOLDED else name]
    rate, rates = choose_rate(way, evaluator, folder, say)
    vectors = adapter_vectors(way, rate, evaluator, folder, say)
    added = added_vectors(way, vectors, base, folder)
    if name == FOLDED:
        return Models(f"{way.title}, merged as weights", added, Line(evaluator, added.base), added, rate, rates)
    return Models(way.title, vectors, line(way, evaluator), added, rate, rates)


def adapter_vectors(way: Way, rate: float, evaluator: Evaluator, folder: Path, say: Say) -> TaskVectors:
    """Task vectors of adapters, in the suite's order of tasks."""
    plan = replace(FineTuningPlan(), learning_rate=rate)
    tasks = evaluator.suite.mergeable()
    files = [trained_file(way, task, plan, evaluator, folder, say) for task in tasks]
    start = open_checkpoint(start_file(way, folder), part="all")
    return TaskVectors(start, tuple(open_checkpoint(file, part="all") for file in files), tasks)


def added_vectors(way: Way, vectors: TaskVectors, base: Checkpoint, folder: Path) -> TaskVectors:
    """Task vectors of the towers that adapters are folded into."""

    def opened(name: str, adapters: Tensors) -> Checkpoint:
        path = folder / "weights" / f"{name}.safetensors"
        save_tensors(folded(base, vectors.base, adapters, way.settings), path)
        return open_checkpoint(path)

    models = tuple(opened(one.path.stem, one) for one in vectors.checkpoints)
    return TaskVectors(opened(vectors.base.path.stem, vectors.base), models, vectors.tasks)


def run_study(evaluator: Evaluator, folder: Path, say: Say) -> Result:
    """Results on one suite: ``suite``, ``tasks``, ``zero_shot`` (test) and ``ways``, see :func:`measure_way`."""
    suite = evaluator.suite
    tasks = suite.mergeable()
    full = models_of(FULL, evaluator, folder, say)
    nowhere = {name: torch.zeros(full.vectors.info(name).shape) for name in full.vectors.names}
    return {
        "suite": suite.label,
        "tasks": list(tasks),
        "zero_shot": full.line.accuracy(nowhere, 0.0, tasks, "test").per_task,
        "ways": {name: measure_way(models_of(name, evaluator, folder, say), folder, say) for name in ALL_WAYS},
    }


def measure_way(models: Models, folder: Path, say: Say) -> Result:
    """What is known of one way of fine-tuning.

    Returns:
        ``title``, ``numbers`` (how many are learned), ``rate`` and ``rates``, ``gram`` of the task vectors,
        ``gram_added`` of what they add to weights, ``individual`` (test) and ``merges``, see :func:`measure_merge`.
    """
    vectors = models.vectors
    return {
        "title": models.title,
        "numbers": vectors.size,
        "rate": models.rate,
        "rates": dict(models.rates),
        "gram": measure_geometry(vectors).gram.tolist(),
        "gram_added": measure_geometry(models.added).gram.tolist(),
        "individual": {task: kept(models, "own", (task,), folder, say)["accuracy"][task] for task in vectors.tasks},
        "merges": [
            kept(models, edit, tasks, folder, say)
            for tasks in (vectors.tasks, *(subsets(vectors.tasks, size, 1)[0] for size in SUBSET_SIZES))
            for edit in EDITS
        ],
    }


def kept(models: Models, merge: str, tasks: tuple[str, ...], folder: Path, say: Say) -> Result:
    """What :func:`measure_merge` gives, measured now unless it was before."""
    chosen = [models.vectors.tasks.index(task) for task in tasks]
    vectors = replace(models.vectors, tasks=tasks, checkpoints=tuple(models.vectors.checkpoints[i] for i in chosen))
    files = [vectors.base.fingerprint, *(checkpoint.fingerprint for checkpoint in vectors.checkpoints)]
    key = hashlib.sha256(json.dumps([models.title, merge, tasks, files]).encode()).hexdigest()[:16]
    path = folder / "measured" / f"{key}.json"
    if not path.exists():
        say(f"measuring {models.title}, {merge}, {len(tasks)} tasks")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(measure_merge(vectors, models.line, merge)), encoding="utf-8")
    known: Result = json.loads(path.read_text(encoding="utf-8"))
    return known


def measure_merge(vectors: TaskVectors, line: Line, merge: str) -> Result:
    """Merge task vectors, λ chosen on validation, and measure on test.

    Returns:
        ``merge``, ``tasks``, ``accuracy`` (test, by task). For ``own``, a single model, that is all. Else ``scaling``,
        ``validation`` (mean accuracy at it), ``search`` (``scalings``, ``average_accuracy``), ``average`` (test, by
        task, at λ = 1/T) and ``disturbed``, see :func:`disturbed`.
    """
    context, tasks = Context(), vectors.tasks
    method = registry.find("edit", EDITS.get(merge, "none"))
    edited = vectors.edited(method.plan(vectors, method.parse({}), context))
    total = computed(edited, lambda name, base, stack: stack.sum(dim=0), context)
    common = {"merge": merge, "tasks": list(tasks)}
    if merge == "own":
        return {**common, "accuracy": line.accuracy(total, 1.0, tasks, "test").per_task}
    scalings, found = search_averages(GRID, lambda scaling: line.accuracy(total, scaling, tasks, "val"), context)
    means = [one.average for one in found]
    best = scalings[means.index(max(means))]
    return {
        **common,
        "accuracy": line.accuracy(total, best, tasks, "test").per_task,
        "scaling": best,
        "validation": max(means),
        "search": {"scalings": list(scalings), "average_accuracy": means},
        "average": line.accuracy(total, 1 / len(tasks), tasks, "test").per_task,
        "disturbed": disturbed(vectors, line, total, best),
    }


def disturbed(vectors: TaskVectors, line: Line, total: Tensors, scaling: float) -> dict[str, float]:
    """Share of a task's test images that the merged model puts in another class than the task's own vector alone would.

    Both at the same λ: θ₀ + λ v against θ₀ + λ τ_t. This is the disentanglement error of arXiv 2305.12827 (equation 4)
    with all coefficients equal: 0 where task vectors do not touch each other's images.
    """
    found = {}
    merged = line.predictions(total, scaling, vectors.tasks)
    for task, checkpoint in zip(vectors.tasks, vectors.checkpoints, strict=True):
        one = replace(vectors, tasks=(task,), checkpoints=(checkpoint,))
        alone = computed(one, lambda name, base, stack: stack.sum(dim=0), Context())
        said = line.predictions(alone, scaling, [task])[task]
        found[task] = float(np.mean(said != merged[task]))
    return found


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("build/linearised"),
    show_default=True,
    help="Where adapters and measurements are kept.",
)
def main(folder: Path) -> None:
    """Run the study; about 35 minutes of one core."""
    torch.set_num_threads(1)
    results = run_study(Evaluator(load_suite("mini")), folder, lambda text: click.echo(text, err=True))
    path = RESULTS / f"{NAME}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{path.name} is written; make the page by python -m studies.linearised_page", err=True)


if __name__ == "__main__":
    main()
