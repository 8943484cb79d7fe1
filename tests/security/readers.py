"""Every reader of files that others wrote, as one function of a path, and a sound file for each."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml
from pyarrow import parquet
from safetensors.torch import save

from merging.core.errors import MergingError
from merging.core.gate import read_json
from merging.runs.export.recipe import read_recipe
from merging.suites import load_suite
from merging.suites.images.suite_images import load_images
from merging.sweeps import read_definition
from merging.weights.files import open_checkpoint
from merging.weights.files.pickled_modules import open_pickled_module
from tests.random_models import ARCHITECTURE, random_state

SIZE = 8


@dataclass(frozen=True)
class Reader:
    """A kind of input file.

    Attributes:
        file: what it is called.
        sound: a file of the kind that is read without complaint.
        read: reads all of it.
    """

    file: str
    sound: Callable[[], bytes]
    read: Callable[[Path], object]


def suite_text(data: dict[str, str]) -> str:
    task = {"name": "t", "classes": ["a", "b"], "data": data}
    return yaml.safe_dump({"name": "s", "architecture": ARCHITECTURE, "base": "base.safetensors", "tasks": [task]})


def _images(data: dict[str, str]) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        top = path.parents[len(Path(data["path"]).parts) - 1] if data["kind"] == "arrays" else None
        top = top or next(parent for parent in path.parents if parent.name == data["path"]).parent
        (top / "suite.yaml").write_text(suite_text(data))
        return load_images(load_suite(top), "t", "test", SIZE).pixels.sum()

    return read


def _weights(path: Path) -> object:
    return [tensor.sum() for tensor in open_checkpoint(path, part="all").values()]


def _pickled(path: Path) -> object:
    return [tensor.sum() for tensor in open_pickled_module(path).tensors.values()]


def torch_bytes(content: object, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG whose header may say other sizes than there are rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    count = height if rows is None else rows
    pixels = zlib.compress((b"\0" + b"\0" * width) * count if count else b"")
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, test_images=np.zeros((2, SIZE, SIZE, 3), np.uint8), test_labels=np.array([0, 1]))
    return file.getvalue()


def parquet_bytes(images: list[bytes | None] | None = None, labels: pa.Array | None = None) -> bytes:
    file = io.BytesIO()
    pictures = pa.array([{"bytes": one, "path": None} for one in images or [png(SIZE, SIZE)] * 2])
    parquet.write_table(pa.table({"image": pictures, "label": pa.array([0, 1]) if labels is None else labels}), file)
    return file.getvalue()


def recipe_text() -> str:
    coefficients = {"tasks": ["t"], "tensors": ["proj"], "table": [[0.5]]}
    spec = {
        "suite": "mini",
        "tasks": ["t"],
        "edit": "none",
        "merge": "task_arithmetic",
        "merge_params": {"scaling": 0.5},
    }
    return yaml.safe_dump(
        {
            "label": "Task Arithmetic",
            "run": "0123456789ab",
            "spec": spec,
            "fingerprints": {"base.safetensors": "0" * 64, "t": "1" * 64},
            "coefficients": coefficients,
            "weights": {"sha256": "2" * 64},
        }
    )


_SWEEP = "suite: mini\ntasks: [[digits]]\nmerges: {task_arithmetic: {scaling: {low: 0.1, high: 0.5, step: 0.1}}}\n"
_STATE = random_state(0)
_ARRAYS = {"kind": "arrays", "path": "images.npz"}
_FOLDER = {"kind": "imagefolder", "path": "images"}
_PARQUET = {"kind": "huggingface", "path": "rows"}

READERS = {
    "suite": Reader("suite.yaml", lambda: suite_text(_ARRAYS).encode(), load_suite),
    "sweep": Reader("sweep.yaml", _SWEEP.encode, read_definition),
    "recipe": Reader("recipe.yaml", lambda: recipe_text().encode(), read_recipe),
    "json": Reader(
        "config.json", lambda: json.dumps({"a": [1, {"b": 2.5}]}).encode(), lambda p: read_json(p, MergingError)
    ),
    "safetensors": Reader("model.safetensors", lambda: save(_STATE), _weights),
    "torch": Reader("model.pt", lambda: torch_bytes(_STATE), _weights),
    "old torch": Reader("model.pt", lambda: torch_bytes(_STATE, zipped=False), _weights),
    "pickled model": Reader("model.pt", lambda: torch_bytes(_STATE), _pickled),
    "arrays": Reader("images.npz", npz_bytes, _images(_ARRAYS)),
    "image": Reader("images/test/a/x.png", lambda: png(SIZE, SIZE), _images(_FOLDER)),
    "parquet": Reader("rows/test-00000-of-00001.parquet", parquet_bytes, _images(_PARQUET)),
}


def write(kind: str, folder: Path, content: bytes | None) -> Path:
    """A file of a kind in its place; None leaves it to the caller to put something there."""
    path = folder / READERS[kind].file
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "image":
        (folder / "images/test/b").mkdir(parents=True, exist_ok=True)
        (folder / "images/test/b/y.png").write_bytes(png(SIZE, SIZE))
    if content is not None:
        path.write_bytes(content)
    return path
