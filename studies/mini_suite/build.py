"""`python -m studies.mini_suite.build`: everything the suite ships, from seeds.

Rendering and pre-training leave files in the work folder, so a build that was stopped goes on where it was; the rest
takes a few minutes and is done again. Delete the work folder to start afresh.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file

from studies.mini_suite.captions import CaptionMix
from studies.mini_suite.data import REAL, load_pool, make_pool, save_pool, split_arrays
from studies.mini_suite.finetune import FineTuningPlan, fine_tune
from studies.mini_suite.model import accuracy
from studies.mini_suite.pretrain import PretrainingPlan, pretrain
from studies.mini_suite.suite_files import (
    REAL_COUNTS,
    RENDERED_COUNTS,
    half,
    image_tower,
    save_tensors,
    suite_description,
    write_description,
    write_images,
    write_towers,
)
from studies.mini_suite.tasks import TASKS, Task

EMBEDDED = Path(__file__).parents[2] / "merging" / "suites" / "mini"


@dataclass(frozen=True)
class BuildPlan:
    """Sizes of a build. The defaults are those of the shipped suite."""

    seed: int = 0
    pool_per_task: int = 7000
    train_images: int = 3000
    mix: CaptionMix = field(default_factory=CaptionMix)
    pretraining: PretrainingPlan = field(default_factory=PretrainingPlan)
    fine_tuning: FineTuningPlan = field(default_factory=FineTuningPlan)
    device: str = "cpu"


class Reporter:
    """Progress on stderr: stage, share done, time left in the stage. A line at most every few seconds."""

    def __init__(self, interval: float = 5.0) -> None:
        self._interval = interval
        self._began = self._last = time.monotonic()
        self._first = 0

    def stage(self, title: str) -> None:
        """Begin a stage."""
        self._began = self._last = time.monotonic()
        self._first = -1
        print(title, file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int, message: str) -> None:
        """Say how far the stage is, unless something was said just now."""
        now = time.monotonic()
        if self._first < 0:
            self._first = done  # a resumed stage starts in the middle
        if now - self._last < self._interval and done < total:
            return
        self._last = now
        progressed = max(1, done - self._first)
        left = (now - self._began) / progressed * (total - done)
        print(f"  {message}: {done}/{total}, about {left / 60:.0f} min left", file=sys.stderr, flush=True)


def pretrain_towers(plan: BuildPlan, work: Path, report: Reporter) -> CLIP:
    """Render the pool and pre-train on it, or load what is there; weights are rounded to float16, as shipped."""
    if not (work / "pool.json").exists():
        report.stage("1/4 rendering images for pre-training")
        save_pool(make_pool(plan.pool_per_task, plan.seed, report), work)
    report.stage("2/4 pre-training both towers")
    checkpoint = work / "pretraining.pt"
    model = pretrain(
        load_pool(work), plan.mix, plan.pretraining, plan.seed, checkpoint, torch.device(plan.device), report
    )
    model.load_state_dict({name: tensor.float() for name, tensor in half(model.state_dict()).items()})
    return model


def fine_tune_all(
    tasks: Sequence[Task], plan: BuildPlan, logit_scale: float, base: Path, output: Path, report: Reporter
) -> None:
    """Fine-tune the shipped base on each task and write the results beside the heads in `output`."""
    steps = plan.fine_tuning.steps
    for number, task in enumerate(tasks):
        say = partial(_say, report, number * steps, len(tasks) * steps, f"fine-tuning on {task.name}")
        _fine_tune_task(task, plan, logit_scale, base, output, say)


def _say(report: Reporter, before: int, total: int, message: str, step: int) -> None:
    report(before + step, total, message)


def _fine_tune_task(
    task: Task, plan: BuildPlan, logit_scale: float, base: Path, output: Path, on_step: Callable[[int], None]
) -> None:
    visual = image_tower(base).to(plan.device)
    head = load_file(output / "heads" / f"{task.name}.safetensors")["weight"]
    images, labels = split_arrays(task, "train", plan.train_images, plan.seed)
    fine_tune(visual, head, logit_scale, images, labels, plan.fine_tuning, plan.seed, on_step)
    save_tensors(half(visual.cpu().state_dict()), output / f"{task.name}.safetensors")


def accuracies(output: Path, split: str) -> dict[str, tuple[float, float]]:
    """Per task the accuracy of the base (zero-shot) and of the task's own model."""
    base = image_tower(output / "base.safetensors")
    found = {}
    for task in TASKS:
        head = load_file(output / "heads" / f"{task.name}.safetensors")["weight"]
        with np.load(output / "data" / f"{task.name}.npz") as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        own = image_tower(output / f"{task.name}.safetensors")
        found[task.name] = (accuracy(base, head, images, labels), accuracy(own, head, images, labels))
    return found


def build(plan: BuildPlan, work: Path, output: Path, report: Reporter) -> dict[str, tuple[float, float]]:
    """Make the whole suite in `output`, intermediate files in `work`; returns `accuracies` on the test split."""
    model = pretrain_towers(plan, work, report)
    write_towers(model, output)
    logit_scale = math.exp(model.logit_scale.item())
    report.stage("3/4 rendering images for evaluation")
    for task in TASKS:
        counts = REAL_COUNTS if task.name in REAL else RENDERED_COUNTS
        write_images(task, plan.seed, output / "data" / f"{task.name}.npz", counts)
    report.stage("4/4 fine-tuning on each task")
    fine_tune_all(TASKS, plan, logit_scale, output / "base.safetensors", output, report)
    write_description(suite_description(logit_scale), output / "suite.yaml")
    return accuracies(output, "test")


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("build/mini"), show_default=True, help="Intermediate files."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=EMBEDDED,
    help="Where the suite goes; by default its place in the package.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--steps", type=int, default=PretrainingPlan.steps, show_default=True, help="Pre-training steps.")
@click.option("--fine-tuning-steps", type=int, default=FineTuningPlan.steps, show_default=True)
@click.option(
    "--images", type=int, default=BuildPlan.pool_per_task, show_default=True, help="Pre-training images a task."
)
@click.option(
    "--train-images", type=int, default=BuildPlan.train_images, show_default=True, help="Fine-tuning images a task."
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where to train; what is shipped was trained on a processor."
)
def main(
    work: Path,
    output: Path,
    seed: int,
    steps: int,
    fine_tuning_steps: int,
    images: int,
    train_images: int,
    device: str,
) -> None:
    """Build the embedded suite: render, pre-train, fine-tune, write. About an hour on two cores."""
    plan = BuildPlan(
        seed=seed,
        pool_per_task=images,
        train_images=train_images,
        pretraining=replace(PretrainingPlan(), steps=steps),
        fine_tuning=replace(FineTuningPlan(), steps=fine_tuning_steps),
        device=device,
    )
    found = build(plan, work, output, Reporter())
    for name, (zero_shot, individual) in found.items():
        click.echo(f"{name:14s} zero-shot {zero_shot:6.1%}  fine-tuned {individual:6.1%}")
    means = [sum(values) / len(values) for values in zip(*found.values(), strict=True)]
    click.echo(f"{'average':14s} zero-shot {means[0]:6.1%}  fine-tuned {means[1]:6.1%}")


if __name__ == "__main__":
    main()
