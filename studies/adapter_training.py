"""Fine-tuning adapters on the tasks of the embedded suite, in two ways, as the suite's own models were fine-tuned.

What was trained is kept, by everything that determines it, so that a study that was stopped goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from merging.evaluation.evaluator import Evaluator
from merging.weights.files import file_fingerprint, open_checkpoint
from studies.adapter_models import Line
from studies.adapters import AdapterSettings, adapters_of, attach
from studies.mini_suite.build import EMBEDDED, BuildPlan
from studies.mini_suite.canvas import Pixels
from studies.mini_suite.data import Labels, split_arrays
from studies.mini_suite.finetune import FineTuningPlan, fine_tune
from studies.mini_suite.suite_files import image_tower, save_tensors
from studies.mini_suite.tasks import BY_NAME

SEED = 0  # of the adapters' first values, which all tasks share, and of batches and augmentation
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # tried in turn until one is worse than the best before it
RATE_TASKS = ("letters", "textures")  # the rate is chosen on these
RATE_STEPS = 80

Say = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """A way of fine-tuning adapters.

    Attributes:
        name: short name, as in files.
        title: what the page calls it.
        settings: what the adapters are like.
    """

    name: str
    title: str
    settings: AdapterSettings


WAYS = {
    way.name: way
    for way in (
        Way("lora", "LoRA", AdapterSettings()),
        Way("l_lora", "L-LoRA", AdapterSettings(linearised=True)),
    )
}


def tower(way: Way) -> nn.Module:
    """The suite's base with adapters at their first values, as this way trains it."""
    return attach(image_tower(EMBEDDED / "base.safetensors"), way.settings, SEED)


def start_file(way: Way, folder: Path) -> Path:
    """The adapters that training begins with, the base of all task vectors."""
    path = folder / f"{way.name}-start.safetensors"
    save_tensors(adapters_of(tower(way)), path)
    return path


def trained_file(way: Way, task: str, plan: FineTuningPlan, evaluator: Evaluator, folder: Path, say: Say) -> Path:
    """Adapters fine-tuned on a task, trained now unless they were before."""
    path = folder / f"{way.name}-{task}-{_key(way, task, plan)}.safetensors"
    if not path.exists():
        say(f"training {way.title} on {task}, rate {plan.learning_rate:g}, {plan.steps} steps")
        model = tower(way)
        images, labels = training_images(task)
        torch.manual_seed(SEED)  # dropout draws from torch's global generator
        scale = evaluator.suite.logit_scale
        fine_tune(model, evaluator.head(task), scale, images, labels, plan, SEED, lambda step: None)
        save_tensors(adapters_of(model), path)
    return path


@cache
def training_images(task: str) -> tuple[Pixels, Labels]:
    """The images that the suite's own model of a task was fine-tuned on, and their labels."""
    return split_arrays(BY_NAME[task], "train", BuildPlan.train_images, SEED)


def _key(way: Way, task: str, plan: FineTuningPlan) -> str:
    what = [asdict(way.settings), asdict(plan), SEED, BuildPlan.train_images]
    files = [
        file_fingerprint(EMBEDDED / "base.safetensors"),
        file_fingerprint(EMBEDDED / "heads" / f"{task}.safetensors"),
    ]
    return hashlib.sha256(json.dumps([*what, *files]).encode()).hexdigest()[:12]


def line(way: Way, evaluator: Evaluator) -> Line:
    """What evaluates adapters of this way, merged or not."""
    return Line(evaluator, adapters_of(tower(way)), way.settings)


def choose_rate(way: Way, evaluator: Evaluator, folder: Path, say: Say) -> tuple[float, dict[str, float]]:
    """The learning rate with the best validation accuracy after a short training on two tasks.

    Returns:
        the smallest of the best, and what every rate of the grid gave (as text → 0 … 1).
    """
    served = line(way, evaluator)
    start = open_checkpoint(start_file(way, folder), part="all")
    found: dict[float, float] = {}
    for rate in RATES:
        plan = replace(FineTuningPlan(), steps=RATE_STEPS, learning_rate=rate)
        reached = []
        for task in RATE_TASKS:
            trained = open_checkpoint(trained_file(way, task, plan, evaluator, folder, say), part="all")
            direction = {name: trained[name] - start[name] for name in start}
            reached.append(served.accuracy(direction, 1.0, [task], "val").average)
        found[rate] = sum(reached) / len(reached)
        say(f"{way.title}, rate {rate:g}: {found[rate]:.1%} on validation")
        if found[rate] < max(found.values()):
            break
    best = max(found, key=lambda rate: (found[rate], -rate))
    return best, {f"{rate:g}": value for rate, value in found.items()}
