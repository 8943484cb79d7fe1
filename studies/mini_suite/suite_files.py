"""The files of the suite: weights, heads, evaluation images and suite.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import yaml
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from merging.core.files import atomic_path
from studies.mini_suite.data import split_arrays
from studies.mini_suite.model import ARCHITECTURE, new_model, zero_shot_head
from studies.mini_suite.tasks import GENERIC_TEMPLATES, TASKS, Task

# Few enough that one model is measured on all tasks in under two seconds; noisy rendered images also hardly compress.
REAL_COUNTS = {"val": 250, "test": 400}
RENDERED_COUNTS = {"val": 200, "test": 300}


def save_tensors(tensors: dict[str, Tensor], target: Path) -> None:
    """Write a safetensors file."""
    with atomic_path(target) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in float16, as the suite ships them."""
    return {name: tensor.detach().to(torch.float16) for name, tensor in tensors.items()}


def image_tower(weights: Path) -> nn.Module:
    """An image tower with the weights of a file, in float32."""
    visual: nn.Module = new_model().visual
    visual.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    return visual


def write_towers(model: CLIP, output: Path) -> None:
    """base.safetensors, text.safetensors and the heads."""
    state = half(model.state_dict())
    save_tensors(
        {name[7:]: tensor for name, tensor in state.items() if name.startswith("visual.")}, output / "base.safetensors"
    )
    save_tensors({name: t for name, t in state.items() if not name.startswith("visual.")}, output / "text.safetensors")
    for task in TASKS:
        save_tensors({"weight": zero_shot_head(model, task)}, output / "heads" / f"{task.name}.safetensors")


def write_images(task: Task, seed: int, target: Path, counts: Mapping[str, int]) -> None:
    """The evaluation images of one task, so many of val and test."""
    val_images, val_labels = split_arrays(task, "val", counts["val"], seed)
    test_images, test_labels = split_arrays(task, "test", counts["test"], seed)
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, val_images=val_images, val_labels=val_labels, test_images=test_images, test_labels=test_labels
        )


def suite_description(logit_scale: float) -> dict[str, object]:
    """The contents of suite.yaml."""
    return {
        "name": "mini",
        "title": "Mini CLIP",
        "description": (
            "A CLIP with a small image tower, pre-trained on rendered and real 32 × 32 images with captions, "
            "and fine-tuned on eight tasks. Everything runs on a laptop's processor."
        ),
        "licence": "MIT; handwritten digits CC BY 4.0, see data/LICENSES.md",
        **common_description(logit_scale),
        "tasks": [task_description(task) for task in TASKS],
    }


def common_description(logit_scale: float, beside: str = "") -> dict[str, object]:
    """What the suites of this model have in common; its towers are in the folder `beside` (with its slash)."""
    return {
        "architecture": ARCHITECTURE,
        "logit_scale": round(logit_scale, 4),
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "base": f"{beside}base.safetensors",
        "text_tower": f"{beside}text.safetensors",
        "templates": list(GENERIC_TEMPLATES),
    }


def task_description(task: Task, beside: str = "") -> dict[str, object]:
    """A task's entry in suite.yaml; its files are in the folder `beside` (with its slash)."""
    return {
        "name": task.name,
        "title": task.title,
        "description": task.description,
        "source": task.source,
        "licence": task.licence,
        "checkpoint": f"{beside}{task.name}.safetensors",
        "head": f"{beside}heads/{task.name}.safetensors",
        "classes": list(task.classes),
        "templates": list(task.templates),
        "data": {"kind": "arrays", "path": f"{beside}data/{task.name}.npz"},
    }


def write_description(description: Mapping[str, object], target: Path) -> None:
    """suite.yaml."""
    text = yaml.safe_dump(dict(description), sort_keys=False, allow_unicode=True, width=120)
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
