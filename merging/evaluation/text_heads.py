"""Heads made from class names: each is built once for the same text tower, classes and templates."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import torch

from merging.core.errors import CheckpointError
from merging.evaluation import clip
from merging.suites.suite import Suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.checkpoint import TensorInfo


def text_head(suite: Suite, task_name: str, cache: Path | None, device: torch.device | None = None) -> torch.Tensor:
    """As :func:`merging.evaluation.clip.build_head`, kept under ``cache`` by content of all that goes into it.

    Raises:
        MissingPart: the suite has no text tower, or the task no class names.
    """
    if cache is None or suite.text_tower is None:
        return clip.build_head(suite, task_name, device)
    entry = cache / "heads" / f"{_identity(suite, task_name)}.safetensors"
    known = _stored(entry, len(suite.task(task_name).classes))
    if known is not None:
        return known
    head = clip.build_head(suite, task_name, device)
    save_tensors(entry, {"weight": TensorInfo(tuple(head.shape), head.dtype)}, [("weight", head)])
    return head


def _identity(suite: Suite, task_name: str) -> str:
    task = suite.task(task_name)
    parts = [
        suite.text_checkpoint.fingerprint,
        suite.architecture,
        task.classes,
        task.templates or suite.templates,
        version("open_clip_torch"),  # of the tokenizer
        *suite.beside_architecture.items(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _stored(entry: Path, classes: int) -> torch.Tensor | None:
    """A cache entry; None if there is none, or it is damaged."""
    try:
        weight = open_checkpoint(entry, part="all")["weight"].clone()
    except (CheckpointError, KeyError):
        return None
    return weight if weight.ndim == 2 and len(weight) == classes else None
