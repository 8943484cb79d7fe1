"""A small random suite with images, on which methods that look at images are tried."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from merging.evaluation.clip import load_open_clip
from merging.suites import Suite, load_suite
from merging.weights.files import save_tensors
from merging.weights.files.checkpoint import TensorInfo

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
}
CLASSES = 4
IMAGES = 8  # a task and split
# What methods that learn, or look at many images, take of these: enough to see a property, and seconds in all.
FEW = {"steps": 3, "images": 4, "batch_size": 4}


def tower_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of a visual tower of :data:`ARCHITECTURE`."""
    text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
    with torch.device("meta"):
        tower = load_open_clip().CLIP(**ARCHITECTURE, text_cfg=text).visual
    return {name: tuple(tensor.shape) for name, tensor in sorted(tower.state_dict().items())}


def complete_suite(folder: Path, tasks: Sequence[str], seed: int) -> Suite:
    """Heads, images of both splits and a ``suite.yaml`` beside ``base.safetensors`` and a file for each task."""
    entries = []
    for number, task in enumerate(tasks):
        random = np.random.default_rng((seed, number))
        head = torch.from_numpy(random.standard_normal((CLASSES, int(ARCHITECTURE["embed_dim"])), dtype=np.float32))  # type: ignore[call-overload]
        head = torch.nn.functional.normalize(head, dim=1)
        save_tensors(
            folder / f"{task}.head.safetensors",
            {"weight": TensorInfo(tuple(head.shape), head.dtype)},
            [("weight", head)],
        )
        images = {f"{split}_images": random.integers(0, 256, (IMAGES, 16, 16, 3), np.uint8) for split in _SPLITS}
        labels = {f"{split}_labels": random.integers(0, CLASSES, IMAGES) for split in _SPLITS}
        np.savez(folder / f"{task}.npz", **images, **labels)  # type: ignore[arg-type]
        files = {"checkpoint": f"{task}.safetensors", "head": f"{task}.head.safetensors"}
        data = {"kind": "arrays", "path": f"{task}.npz"}
        entries.append({"name": task, **files, "data": data, "classes": [f"class {index}" for index in range(CLASSES)]})
    described = {
        "name": "random",
        "architecture": ARCHITECTURE,
        "activation": "gelu",
        "logit_scale": 20.0,
        "base": "base.safetensors",
        "tasks": entries,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(described), encoding="utf-8")
    return load_suite(path)


_SPLITS = ("val", "test")
