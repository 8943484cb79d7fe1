"""What the models of the chosen suite can do unmerged: images and heads, and zero-shot and individual accuracy.

Pages measure both baselines themselves where that takes seconds; with larger models it is a job of the worker.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st
import torch

from merging.evaluation.accuracy import Accuracy, about_images
from merging.evaluation.evaluator import Evaluator
from merging.runs import Run
from merging.runs.jobs.baselines import BaselinesJob, BaselinesResult
from merging.suites.suite import FileReference, Split
from ui.runs.jobs import run_of
from ui.shell import state

# Images × weights up to which both baselines take a few seconds, by kind of device.
_QUICK = {"cpu": 2e10, "mps": 2e11, "cuda": 3e12}


@dataclass(frozen=True)
class Baselines:
    """Accuracy without any merging, per measurable task: of the base model, and of each fine-tuned model."""

    zero_shot: Accuracy
    individual: Accuracy


@dataclass
class _Measuring:
    """An evaluator holds one set of weights at a time, so sessions take turns."""

    evaluator: Evaluator
    lock: threading.Lock
    baselines: dict[Split, Baselines] = field(default_factory=dict)


@st.cache_resource(max_entries=2, show_spinner="Getting images and heads ready …")
def _measuring(reference: str, version: state.Stamp) -> _Measuring:
    return _Measuring(state.workspace().evaluator(state.suite(), state.device()), threading.Lock())


def evaluator() -> Evaluator:
    """Images and heads of the chosen suite. Shared by all sessions: read images from it, don't load weights."""
    return _measuring(state.suite_reference(), state.stamp()).evaluator


@state.once_a_run
def measurable_tasks() -> tuple[str, ...]:
    """Tasks of the suite that have usable weights, images and a head."""
    return tuple(task for task in state.usable_tasks() if not missing_parts(task))


def missing_parts(task_name: str) -> tuple[str, ...]:
    """What a task lacks for its accuracy to be measured: any of weights, images and head."""
    return _missing_parts()[task_name]


@state.once_a_run
def _missing_parts() -> dict[str, tuple[str, ...]]:
    """The same of every task."""
    described = state.suite()

    def present(reference: FileReference | None) -> bool:
        return reference is not None and described.path(reference).exists()

    found = {}
    for task in described.tasks:
        images = described.images_path(task.name)
        from_text = task.head is None and bool(task.classes) and present(described.text_tower)
        parts = {
            "weights": present(task.checkpoint),
            "images": images is not None and images.exists(),
            "head": present(task.head) or from_text,
        }
        found[task.name] = tuple(part for part, there in parts.items() if not there)
    return found


def baselines_are_quick() -> bool:
    """Whether both baselines take seconds on this device, so that a page may measure them unasked."""
    tasks = measurable_tasks()
    images = sum(evaluator().count(task, "test") for task in tasks)
    weights = sum(torch.Size(info.shape).numel() for info in state.suite().base_checkpoint.infos.values())
    return images * weights <= _QUICK[state.device().type]


def baseline_accuracy(split: Split = "test") -> Baselines | None:
    """Zero-shot and individual accuracy of all measurable tasks.

    Args:
        split: on which images.

    Returns:
        None if no task can be measured, or if measuring takes long and the worker has not done it (see
        :func:`ui.accuracy.view.offer_baselines`).
    """
    tasks = measurable_tasks()
    if not tasks:
        return None
    known = run_of(baseline_job(split))
    if known is not None and known.state == "done":
        return _baselines_of(known)
    measuring = _measuring(state.suite_reference(), state.stamp())
    if split not in measuring.baselines and not baselines_are_quick():
        return None
    if split not in measuring.baselines:
        with st.spinner("Measuring zero-shot and fine-tuned accuracy …"), measuring.lock:
            if split not in measuring.baselines:
                space = state.workspace()
                measuring.baselines[split] = Baselines(
                    space.base_accuracy(measuring.evaluator, tasks, split),
                    space.individual_accuracy(measuring.evaluator, tasks, split),
                )
    return measuring.baselines[split]


def baseline_job(split: Split) -> BaselinesJob:
    """The job that measures both baselines."""
    return BaselinesJob.build(
        suite=state.suite_reference(), tasks=measurable_tasks(), split=split, device=str(state.device())
    )


def shipped_baselines(split: Split) -> Run | None:
    """The run of both baselines that came with the suite, if pages show it; None if they were measured here."""
    run = run_of(baseline_job(split)) if measurable_tasks() else None
    return run if run is not None and run.shipped else None


def _baselines_of(run: Run | None) -> Baselines | None:
    found = None if run is None else run.result_as(BaselinesResult)
    if found is None:
        return None
    about = found.counts, found.split, found.skipped.get(found.split, {})
    return Baselines(Accuracy(found.zero_shot, *about), Accuracy(found.individual, *about))


def said_of_images(tasks: Sequence[str], split: Split) -> str:
    """What to know of these tasks' images: those that no number counts, as they can't be read, and what is odd."""
    known = evaluator()
    return about_images({split: known.skipped_of(tasks, split)}, known.data_warnings(tasks, split))
