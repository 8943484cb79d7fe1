"""The pieces of work that are timed, each beside the naive code or the machine's limit that it is compared with.

Every function here is run in a fresh process by ``python -m benchmarks.work NAME SUITE``; it prints one JSON line
with seconds and peak anonymous memory.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.batches import TASKS, isotropic, leading, measured, ridge
from benchmarks.random_suite import with_images
from merging.core.memory import PeakMemory
from merging.core.progress import no_progress
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.edits.redundancy import descent
from merging.methods.merges.adamerging import AdaMergingParams, CoefficientLearner, mean_entropy
from merging.methods.plan import plan
from merging.runs.export.export import export_run
from merging.runs.foreground import run_here
from merging.runs.jobs.check import check_suite
from merging.runs.jobs.merge import MergeSpec
from merging.runs.similarity import similarity_report
from merging.runs.workspace import Workspace
from merging.suites.suite import DEFAULT, load_suite
from merging.weights.files import save_tensors
from merging.weights.geometry import measure
from merging.weights.roles import role_of
from merging.weights.vectors import TaskVectors

Work = Callable[[Path], float | None]  # seconds, where only a part of it is to be timed


def _vectors(suite: Path) -> TaskVectors:
    return load_suite(suite).vectors()


def sum_bytes(suite: Path) -> None:
    """The machine's limit: add up every number of all files once."""
    vectors = _vectors(suite)
    for checkpoint in (vectors.base, *vectors.checkpoints):
        for name in vectors.names:
            checkpoint[name].sum()


def gram_plain_loop(suite: Path) -> None:
    """What one writes first: stack the task vectors of a tensor, multiply."""
    vectors = _vectors(suite)
    for name in vectors.names:
        base = vectors.base[name].reshape(-1)
        stack = torch.stack([checkpoint[name].reshape(-1) - base for checkpoint in vectors.checkpoints])
        torch.mm(stack, stack.T)


def gram(suite: Path) -> None:
    """Gram matrices of all tensors."""
    measure(_vectors(suite))


def task_arithmetic_plain_loop(suite: Path) -> None:
    """The shortest plain torch loop that reads, accumulates and saves."""
    folder = suite.parent
    with safe_open(folder / "base.safetensors", framework="pt") as base:
        merged = {name: base.get_tensor(name).clone() for name in base.keys()}  # noqa: SIM118  not a mapping
        for number in range(1, 9):
            with safe_open(folder / f"task{number}.safetensors", framework="pt") as model:
                for name, total in merged.items():
                    total.add_(model.get_tensor(name) - base.get_tensor(name), alpha=0.3)
    save_file(merged, folder / "naive.safetensors")


def _merge(suite: Path, **choices: Any) -> None:
    loaded = load_suite(suite)
    vectors = loaded.vectors()
    spec = MergeSpec.build(suite=str(suite), tasks=vectors.tasks, evaluate=False, **choices)
    context = Context(evaluator=Evaluator(loaded) if spec.data.images else None)
    planned = plan(vectors, spec.pair, context)
    save_tensors(suite.parent / "merged.safetensors", planned.infos, planned.tensors(context), planned.metadata)


def task_arithmetic(suite: Path) -> None:
    """Task Arithmetic, files to file."""
    _merge(suite)


def awd(suite: Path) -> None:
    """AWD in Gram space, then Task Arithmetic; Gram matrices included."""
    _merge(suite, edit="awd")


def awd_rows(suite: Path) -> None:
    """AWD row by row, then Task Arithmetic."""
    _merge(suite, edit="awd", edit_params={"scope": "row"})


def check(suite: Path) -> None:
    """What ``merging check`` does."""
    if check_suite(load_suite(suite))["problems"]:
        raise ValueError(f"{suite}: the check found problems")


def similarity_seen(suite: Path) -> float:
    """The similarity report, AWD included, of a suite that was looked at before; seconds."""
    loaded, workspace = load_suite(suite), Workspace(suite.parent / "home")
    workspace.geometry(loaded)
    started = time.perf_counter()
    similarity_report(load_suite(suite), workspace, loaded.task_names, "awd", {"scope": "layer"})
    return time.perf_counter() - started


def export(suite: Path) -> float:
    """Weights of a linear run, rebuilt from its coefficient table; seconds without the run."""
    workspace, loaded = Workspace(suite.parent / "home"), load_suite(suite)
    spec = MergeSpec.build(suite=str(suite), tasks=loaded.task_names, evaluate=False, seed=1)
    run = run_here(spec, workspace, None, no_progress)
    started = time.perf_counter()
    export_run(run, workspace, suite.parent / "export")
    return time.perf_counter() - started


def ties(suite: Path) -> None:
    """TIES with its exact global threshold, files to file."""
    _merge(suite, edit="ties")


def dare(suite: Path) -> None:
    """DARE, files to file."""
    _merge(suite, edit="dare")


def consensus(suite: Path) -> None:
    """Consensus TA with the masks' threshold given, files to file."""
    _merge(suite, edit="consensus")


def trust_region(suite: Path) -> None:
    """TATR without data, its exact global threshold included, files to file."""
    _merge(suite, edit="trust_region")


def tall_masks(suite: Path) -> None:
    """TALL masks with their threshold given, files to one file."""
    _merge(suite, merge="tall_masks")


def iso_c(suite: Path) -> None:
    """Iso-C, files to file."""
    _merge(suite, merge="iso_c")


def iso_c_full_decompositions(suite: Path) -> None:
    """Iso-C as its formula says: a full singular value decomposition of every summed matrix; nothing is saved."""
    vectors = _vectors(suite)
    for name, base, stack in vectors.iterate():
        if role_of(name, base.shape).two_dimensional:
            left, lengths, right = torch.linalg.svd(stack.sum(dim=0), full_matrices=False)
            lengths.mean() * (left @ right)


def iso_cts(suite: Path) -> None:
    """Iso-CTS, files to file."""
    _merge(suite, merge="iso_cts")


def tsv_m(suite: Path) -> None:
    """TSV-M, files to file."""
    _merge(suite, merge="tsv_m")


def wudi_closed_form(suite: Path) -> None:
    """WUDI in closed form, files to file."""
    _merge(suite, merge="wudi", merge_params={"solver": "closed_form"})


def wudi_adam(suite: Path) -> None:
    """WUDI by the published iteration, 300 steps, files to file."""
    _merge(suite, merge="wudi", merge_params={"units": "published"})


def doge(suite: Path) -> None:
    """DOGE TA, 400 steps, files to file."""
    _merge(suite, edit="doge", edit_params={"units": "published"}, merge_params={"scaling": 1.0})


def ace(suite: Path) -> None:
    """ACE-Merging, files to file."""
    _merge(suite, merge="ace")


def larv(suite: Path) -> None:
    """LARV, then Task Arithmetic, files to file."""
    _merge(suite, edit="larv")


def svc(suite: Path) -> None:
    """Task Arithmetic with singular value calibration, files to file."""
    _merge(suite, merge="svc")


def tsv_m_svc(suite: Path) -> None:
    """TSV-M with singular value calibration, files to file."""
    _merge(suite, merge="tsv_m", merge_params={"calibration": 1.0})


def overlap(suite: Path) -> None:
    """Overlap-scaled WUDI, files to file."""
    _merge(suite, merge="overlap")


def parts(suite: Path) -> None:
    """The parts of WUDI's closed form, from which AdaMerging starts, added up, files to file."""
    _merge(suite, edit="parts", merge_params={"scaling": 1.0})


def emr(suite: Path) -> None:
    """EMR, files to one file."""
    _merge(suite, merge="emr")


def regmean(suite: Path) -> None:
    """RegMean with its 256 images a task, random ones, files to file."""
    _merge(with_images(suite), merge="regmean")


def regmean_plus_plus(suite: Path) -> None:
    """RegMean++ with its 256 images a task, random ones, files to file."""
    _merge(with_images(suite), merge="regmean_plus_plus")


def isotropic_batches(suite: Path) -> float:
    """Iso-C's decompositions, equal shapes in one batch; seconds."""
    return measured(isotropic, 0, batched=True)


def isotropic_threads(suite: Path) -> float:
    """The same, a matrix a thread."""
    return measured(isotropic, 0, batched=False)


def leading_batches(suite: Path) -> float:
    """TSV-M's decompositions, equal shapes in one batch; seconds."""
    return measured(leading, TASKS, batched=True)


def leading_threads(suite: Path) -> float:
    """The same, the matrices of a layer a thread."""
    return measured(leading, TASKS, batched=False)


def ridge_batches(suite: Path) -> float:
    """WUDI's linear systems, equal shapes in one batch; seconds."""
    return measured(ridge, TASKS, batched=True)


def ridge_threads(suite: Path) -> float:
    """The same, the matrices of a layer a thread."""
    return measured(ridge, TASKS, batched=False)


def awd_resolve(suite: Path) -> float:
    """AWD of 152 layers, 8 tasks, 300 steps, from given Gram matrices, not for the first time; seconds."""
    random = np.random.default_rng(0)
    stacks = random.normal(size=(152, 8, 64)) + random.normal(size=(152, 1, 64))
    gram = stacks @ stacks.transpose(0, 2, 1) / 32
    descent(gram, 0.1, 0.01, 300)
    started = time.perf_counter()
    descent(gram, 0.1, 0.01, 300)
    return time.perf_counter() - started


_STEPS = 5


def adamerging_step(suite: Path) -> float:
    """One step of layer-wise AdaMerging on the embedded suite, 8 tasks, 32 images each; seconds a step."""
    learner, batch = _learner()
    learner.step(batch)
    started = time.perf_counter()
    for _ in range(_STEPS):
        learner.step(batch)
    return (time.perf_counter() - started) / _STEPS


def eight_batches(suite: Path) -> float:
    """Forward and backward passes of the same 8 batches, one after the other, and nothing else; seconds for all."""
    learner, batch = _learner()
    evaluator = learner.evaluator

    def all_batches() -> None:
        for task, images in batch.items():
            mean_entropy(evaluator.logits(task, evaluator.features(images))).backward()

    all_batches()
    started = time.perf_counter()
    for _ in range(_STEPS):
        all_batches()
    return (time.perf_counter() - started) / _STEPS


def _learner() -> tuple[CoefficientLearner, dict[str, torch.Tensor]]:
    suite = load_suite(DEFAULT)
    vectors, evaluator = suite.vectors(), Evaluator(suite)
    batch = {task: evaluator.images(task, "test", slice(0, 32)) for task in vectors.tasks}
    return CoefficientLearner(vectors, AdaMergingParams(), Context(), evaluator), batch


def mini_accuracy(suite: Path) -> float:
    """Test accuracy of one model on all tasks of the embedded suite, images and tower loaded; seconds."""
    evaluator = Evaluator(load_suite(DEFAULT))
    tasks = evaluator.suite.task_names
    evaluator.require(tasks, "test")
    evaluator.accuracy(evaluator.suite.base_checkpoint, tasks[:1])  # builds the tower
    started = time.perf_counter()
    evaluator.accuracy(evaluator.suite.base_checkpoint, tasks)
    return time.perf_counter() - started


WORKS: dict[str, Work] = {
    work.__name__: work
    for work in (
        check,
        sum_bytes,
        gram_plain_loop,
        gram,
        similarity_seen,
        awd,
        awd_rows,
        export,
        task_arithmetic_plain_loop,
        task_arithmetic,
        ties,
        dare,
        consensus,
        trust_region,
        tall_masks,
        iso_c,
        iso_c_full_decompositions,
        iso_cts,
        tsv_m,
        wudi_closed_form,
        wudi_adam,
        doge,
        ace,
        larv,
        svc,
        tsv_m_svc,
        overlap,
        parts,
        emr,
        regmean,
        regmean_plus_plus,
        isotropic_batches,
        isotropic_threads,
        leading_batches,
        leading_threads,
        ridge_batches,
        ridge_threads,
        awd_resolve,
        adamerging_step,
        eight_batches,
        mini_accuracy,
    )
}


def main() -> None:
    """Time one piece of work after a run that warms the page cache."""
    work, suite = WORKS[sys.argv[1]], Path(sys.argv[2])
    with PeakMemory() as memory:
        started, processor = time.perf_counter(), time.process_time()
        own = work(suite)
        seconds = time.perf_counter() - started if own is None else own
        processor = time.process_time() - processor
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": memory.peak}))


if __name__ == "__main__":
    main()
