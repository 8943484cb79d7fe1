"""Random checkpoints with the exact tensor names and shapes of a CLIP visual tower."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
import yaml

from merging.weights.files import save_tensors
from merging.weights.files.checkpoint import TensorInfo


def shapes_of(architecture: str, layers: int | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the visual tower of one of open_clip's architectures; with so many blocks, if said."""
    config = open_clip.get_model_config(architecture)
    if layers is not None:
        config["vision_cfg"]["layers"] = layers
    used = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    with torch.device("meta"):
        tower = open_clip.CLIP(**{key: config[key] for key in used if key in config}).visual
    return {name: tuple(tensor.shape) for name, tensor in sorted(tower.state_dict().items())}


def make_suite(folder: Path, architecture: str = "ViT-B-32", tasks: int = 8, layers: int | None = None) -> Path:
    """Write a base model, ``tasks`` fine-tuned ones (base + shared + own noise) and a suite.yaml; gives its path.

    Files that are there already are kept. With ``layers`` the models have so many blocks.
    """
    suite = folder / "suite.yaml"
    if suite.is_file():
        return suite
    infos = {name: TensorInfo(shape, torch.float32) for name, shape in shapes_of(architecture, layers).items()}

    def noise(seed: int, scale: float) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.randn(info.shape, generator=generator) * scale for name, info in infos.items()}

    base, shared = noise(0, 0.02), noise(1, 0.0005)
    save_tensors(folder / "base.safetensors", infos, base.items())
    names = [f"task{number}" for number in range(1, tasks + 1)]

    def write(number: int) -> None:
        own = noise(2 + number, 0.001)
        file = folder / f"{names[number]}.safetensors"
        save_tensors(file, infos, ((key, base[key] + shared[key] + own[key]) for key in infos))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(write, range(tasks)))
    description = {
        "name": f"random-{architecture}",
        "architecture": architecture,
        "base": "base.safetensors",
        "tasks": [{"name": name, "checkpoint": f"{name}.safetensors"} for name in names],
    }
    suite.write_text(yaml.safe_dump(description), encoding="utf-8")
    return suite


def with_images(suite: Path, images: int = 256, size: int = 32) -> Path:
    """A description beside a suite.yaml, of the same models, with random images and heads; gives its path.

    So many validation images a task, ``size`` pixels wide: they are brought to the tower's size when they are read.
    """
    file = suite.with_name("with-images.yaml")
    if file.is_file():
        return file
    described = yaml.safe_load(suite.read_text(encoding="utf-8"))
    folder = suite.parent / "images"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    features = int(open_clip.get_model_config(described["architecture"])["embed_dim"])
    for task in described["tasks"]:
        head, arrays = f"{task['name']}.head.safetensors", f"{task['name']}.npz"
        weight = torch.from_numpy(random.standard_normal((4, features), dtype=np.float32))
        weight = torch.nn.functional.normalize(weight, dim=1)
        save_tensors(folder / head, {"weight": TensorInfo((4, features), torch.float32)}, [("weight", weight)])
        pixels = random.integers(0, 256, (images, size, size, 3), np.uint8)
        np.savez(folder / arrays, val_images=pixels, val_labels=random.integers(0, 4, images))
        data = {"kind": "arrays", "path": f"images/{arrays}"}
        task |= {"head": f"images/{head}", "data": data, "classes": [f"class {number}" for number in range(4)]}
    file.write_text(yaml.safe_dump(described), encoding="utf-8")
    return file
