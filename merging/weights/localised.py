"""Files of localised models: one vector that all tasks share, and a mask of one bit a weight for every task.

Beside the base model such a file is all that is needed: task t's weights are ``θ₀ + s_t m_t ⊙ v``, see
:func:`task_weights`. For each floating-point tensor ``NAME`` of the base it holds ``vector.NAME`` in the base's shape
and dtype, and ``masks.NAME``, uint8 ``[T, ⌈n/8⌉]``, the flattened masks with eight entries a byte, the first in the
highest bit. The header names the tasks in order, the fingerprint of the base, and the factors s_t unless all are 1.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from merging.core.errors import CheckpointError, SpecError
from merging.core.gate import parse_json
from merging.core.places import path_of
from merging.weights.files import Checkpoint, open_checkpoint
from merging.weights.files.checkpoint import TensorInfo

_VECTOR, _MASKS = "vector.", "masks."


def task_weights(base: Checkpoint, file: Path | str, task: str) -> dict[str, torch.Tensor]:
    """All weights of one task's model, in the dtypes of the base: exactly those that the run was evaluated with.

    Args:
        base: the base model, as from :func:`merging.weights.files.open_checkpoint`.
        file: the ``.safetensors`` file that a localised merge wrote.
        task: which model.

    Raises:
        CheckpointError: the file is no such file, or was made from another base.
        SpecError: it holds no mask for this task.

    >>> import merging, tempfile
    >>> base = merging.load_suite("mini").base_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file, settings = f"{folder}/tall.safetensors", {"merge.threshold": 0.4}
    ...     merged = merging.merge(
    ...         "mini", "tall_masks", settings, tasks=["digits", "shapes"], evaluate=False, output=file
    ...     )
    ...     merging.task_weights(base, file, "digits").keys() == base.keys()
    True
    """
    path = path_of(file)
    stored = open_checkpoint(path, part="all")
    tasks, fingerprint, scales = _header(path, stored)
    if fingerprint != base.fingerprint:
        raise CheckpointError(
            f"{path.name}: made from another base model than {base.path.name}; its sums would be wrong"
        )
    if task not in tasks:
        raise SpecError(f"{path.name} holds no model for task {task!r}; it has {', '.join(tasks)}")
    index = tasks.index(task)
    return assembled(base, stored, index, scales[index])


def is_localised(file: Path | str) -> bool:
    """Whether a weight file holds one model for each of several tasks."""
    return path_of(file).suffix == ".safetensors" and _holds_masks(open_checkpoint(file, part="all"))


def _holds_masks(stored: Checkpoint) -> bool:
    return any(name.startswith(_MASKS) for name in stored)


def stored_infos(base: Checkpoint, tasks: int) -> dict[str, TensorInfo]:
    """Shapes and dtypes of a file's tensors, in the order in which they are written."""
    infos = {}
    for name, info in base.infos.items():
        if info.floating:
            infos[_VECTOR + name] = info
            infos[_MASKS + name] = TensorInfo((tasks, (torch.Size(info.shape).numel() + 7) // 8), torch.uint8)
    return infos


def stored(name: str, vector: torch.Tensor, masks: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The two tensors of a file that stand for one of the base, from its vector and its masks, bool ``[T, *shape]``."""
    flat = masks.reshape(len(masks), -1)
    packed = (
        torch.from_numpy(np.packbits(flat.numpy(), axis=1)) if flat.device.type == "cpu" else packed_bits(flat).cpu()
    )
    return [(_VECTOR + name, vector), (_MASKS + name, packed)]


def packed_bits(flat: torch.Tensor) -> torch.Tensor:
    """As ``numpy.packbits`` of every row, on a GPU: an eighth of the bytes to fetch from there."""
    whole = torch.nn.functional.pad(flat, (0, -flat.shape[1] % 8)).unflatten(1, (-1, 8))
    values = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=flat.device)
    packed: torch.Tensor = (whole * values).sum(dim=2, dtype=torch.uint8)
    return packed


def metadata(base: Checkpoint, tasks: Sequence[str], scales: Sequence[float] = ()) -> dict[str, str]:
    """What the header of a file says besides the tensors; with no scales they are all 1."""
    named = {"tasks": json.dumps(list(tasks)), "base": base.fingerprint}
    return named | ({"scales": json.dumps(list(scales))} if scales else {})


def assembled(
    base: Checkpoint, state: Mapping[str, torch.Tensor], index: int, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    """Weights of one model from a file's tensors: integer buffers are the base's."""
    return {
        name: masked_sum(base[name], state[_VECTOR + name], _unpacked(state[_MASKS + name][index], info.shape), scale)
        if info.floating
        else base[name]
        for name, info in base.infos.items()
    }


def masked_sum(base: torch.Tensor, vector: torch.Tensor, mask: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """``θ₀ + s m ⊙ v`` in float32, in the dtype of θ₀; where m is 0 it is θ₀."""
    return torch.where(mask, (base.float() + scale * vector.float()).to(base.dtype), base)


def _unpacked(row: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return torch.from_numpy(np.unpackbits(row.numpy(), count=count).astype(bool)).reshape(tuple(shape))


def _header(path: Path, stored: Checkpoint) -> tuple[list[str], str, list[float]]:
    """Tasks, fingerprint of the base, and the factor of every task's part."""
    if not _holds_masks(stored):
        raise CheckpointError(
            f"{path.name}: holds no masks; expected the file of a localised merge, such as tall_masks"
        )
    with safe_open(path, framework="pt") as opened:
        found = opened.metadata() or {}
    try:
        tasks = [str(task) for task in parse_json(found["tasks"])]
        scales = [float(scale) for scale in parse_json(found["scales"])] if "scales" in found else [1.0] * len(tasks)
        if len(scales) != len(tasks) or not all(map(math.isfinite, scales)):
            raise ValueError("scales")
        return tasks, found["base"], scales
    except (KeyError, ValueError, TypeError, OverflowError):
        raise CheckpointError(
            f"{path.name}: its header names no tasks and base, or wrong factors; export the run again"
        ) from None


@dataclass(frozen=True)
class MaskCount:
    """What one tensor's masks hold: active entries of each task, entries, and bytes after compression by zlib."""

    active: np.ndarray
    entries: int
    compressed: int


def count(masks: torch.Tensor, packed: torch.Tensor) -> MaskCount:
    """Count the masks of one tensor, bool ``[T, *shape]`` and as they are stored."""
    active = masks.reshape(len(masks), -1).sum(dim=1).cpu().numpy()
    return MaskCount(active, masks[0].numel(), len(zlib.compress(packed.numpy().tobytes())))


def storage_report(base: Checkpoint, tasks: int, counts: Sequence[MaskCount]) -> dict[str, Any]:
    """What is stored, in bits, and the share of active entries in each task's mask.

    Counted are the tensors of the visual tower, at the width of their dtypes, without headers of files. ``models`` is
    what the base and a fine-tuned model for every task take; ``localised`` the base, the vector and the masks.
    """
    bits = 8 * base.nbytes
    infos = stored_infos(base, tasks)

    def stored_bits(prefix: str) -> int:
        return 8 * sum(
            torch.Size(info.shape).numel() * info.dtype.itemsize
            for name, info in infos.items()
            if name.startswith(prefix)
        )

    vector, packed = stored_bits(_VECTOR), stored_bits(_MASKS)
    entries = sum(one.entries for one in counts)
    return {
        "active": (np.sum([one.active for one in counts], axis=0) / entries).tolist(),
        "storage": {
            "base": bits,
            "vector": vector,
            "masks": packed,
            "masks_compressed": 8 * sum(one.compressed for one in counts),
            "localised": bits + vector + packed,
            "models": (1 + tasks) * bits,
        },
    }
