"""Small random checkpoints and suites that tests build for themselves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from merging.evaluation.clip import load_open_clip
from merging.methods import properties
from merging.methods.properties import State, write_models
from merging.weights.vectors import TaskVectors

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (6, 3, 2, 2),
    "ln_post.bias": (6,),
    "proj": (6, 5),
    "transformer.resblocks.0.mlp.c_fc.weight": (8, 6),
    "transformer.resblocks.1.mlp.c_fc.weight": (8, 6),
}
ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
        "mlp_ratio": 2.0,
    },
}
HUGGINGFACE_VISION = {  # the same tower as transformers describes it
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TASKS = ("circles", "digits", "leaves", "roads")
CLASSES = 5

open_clip = load_open_clip()


def random_state(
    seed: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES, spread: float = 1.0, dtype: torch.dtype = torch.float32
) -> State:
    """Normally distributed weights, by default of a part of a tower."""
    return properties.random_state(seed, shapes, spread, dtype)


def random_vectors(
    folder: Path, tasks: int = 3, seed: int = 0, spread: float = 0.1, shapes: Mapping[str, tuple[int, ...]] = SHAPES
) -> TaskVectors:
    """A random base and models near it whose task vectors have a part in common."""
    base, common = random_state(1000 + seed, shapes), random_state(2000 + seed, shapes, spread)
    models = []
    for task in range(tasks):
        own = random_state(3000 + 100 * seed + task, shapes, spread)
        models.append({name: base[name] + own[name] + 0.7 * common[name] for name in base})
    return write_models(folder, base, models)


def flattened(vectors: TaskVectors) -> torch.Tensor:
    """All task vectors as one float64 matrix ``[T, D]``, tensors in sorted order, without any streaming."""
    rows = []
    for checkpoint in vectors.checkpoints:
        rows.append(torch.cat([(checkpoint[n].double() - vectors.base[n].double()).flatten() for n in vectors.names]))
    return torch.stack(rows)


def write_suite(folder: Path, tasks: Sequence[str] = TASKS, seed: int = 0, images: int = 24) -> Path:
    """A complete suite on disk: a tiny random tower, models near it, images and heads; gives its suite.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    base = random_tower(seed)
    save_file(base, folder / "base.safetensors")
    write_config(folder)
    entries = []
    for number, task in enumerate(tasks):
        generator = torch.Generator().manual_seed(10 * seed + number)
        model = {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in base.items()}
        save_file(model, folder / f"{task}.safetensors")
        head = torch.nn.functional.normalize(
            torch.randn(CLASSES, ARCHITECTURE["embed_dim"], generator=generator), dim=1
        )
        save_file({"weight": head}, folder / f"{task}.head.safetensors")
        write_arrays(folder / f"{task}.npz", np.random.default_rng(10 * seed + number), images)
        entries.append(
            {
                "name": task,
                "checkpoint": f"{task}.safetensors",
                "head": f"{task}.head.safetensors",
                "classes": [f"class {index}" for index in range(CLASSES)],
                "data": {"kind": "arrays", "path": f"{task}.npz"},
            }
        )
    return write_yaml(folder, tasks=entries)


def random_tower(seed: int) -> State:
    """Weights of a visual tower of :data:`ARCHITECTURE`, drawn here so that they are the same for every open_clip."""
    text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
    shapes = {
        name: tuple(t.shape) for name, t in open_clip.CLIP(**ARCHITECTURE, text_cfg=text).visual.state_dict().items()
    }
    state = random_state(seed, dict(sorted(shapes.items())), spread=0.2)
    return {name: tensor + 1 if "ln" in name and name.endswith("weight") else tensor for name, tensor in state.items()}


def write_config(folder: Path, **changes: object) -> Path:
    """An ``open_clip_config.json`` that says of weights beside it what their tensors do not show."""
    content = {"model_cfg": {**ARCHITECTURE, "quick_gelu": False, **changes}, "preprocess_cfg": {}}
    path = folder / "open_clip_config.json"
    path.write_text(json.dumps(content))
    return path


def write_adapter(folder: Path, seed: int, layers: Sequence[str] = ("q_proj", "v_proj"), **config: object) -> State:
    """A LoRA adapter on towers of :data:`ARCHITECTURE`, as PEFT writes it; gives what it adds to ``in_proj_weight``."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": [*layers], **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(seed)
    state, added = {}, {}
    for number in (0, 1):
        rows = torch.zeros(96, 32)
        for layer in layers:
            a, b = (0.2 * torch.randn(shape, generator=generator) for shape in ((2, 32), (32, 2)))
            name = f"base_model.model.encoder.layers.{number}.self_attn.{layer}"
            state |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
            rows["qkv".index(layer[0]) * 32 :][:32] += 2 * b @ a
        added[f"transformer.resblocks.{number}.attn.in_proj_weight"] = rows
    save_file(state, folder / "adapter_model.safetensors")
    return added


def write_arrays(path: Path, random: np.random.Generator, images: int = 24) -> None:
    """Random images of both splits."""
    arrays = {}
    for split in ("val", "test"):
        arrays[f"{split}_images"] = random.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(0, CLASSES, images)
    np.savez(path, **arrays)


def write_yaml(folder: Path, /, **changes: object) -> Path:
    """A ``suite.yaml`` that is right but for the changes; a value of None leaves the field out."""
    folder.mkdir(parents=True, exist_ok=True)
    fields: dict[str, object] = {
        "name": "tiny",
        "architecture": ARCHITECTURE,
        "logit_scale": 20.0,
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "base": "base.safetensors",
        "tasks": [{"name": "digits", "checkpoint": "digits.safetensors"}],
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value is not None}))
    return path
