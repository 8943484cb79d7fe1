"""How task vectors lie to each other: Gram matrices, norms, cosines.

One streaming pass over the files gives the Gram matrix of every tensor; all that Adaptive Weight Disentanglement, the
heat maps and the 2-D map need follows from those few numbers. They are cached by the content of the files.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from merging.core.errors import SpecError
from merging.core.files import atomic_path
from merging.core.progress import Work
from merging.core.streaming import ordered
from merging.weights.resident import shelf
from merging.weights.vectors import TaskVectors

Level = Literal["model", "block", "layer"]
_VERSION = "gram-1"
# Of an inner product, as a share of both norms: 2^16 products summed in float32, the worst of several kernels. Of a
# cosine, whose norms come from the same sums.
ROUNDING = 5e-6
COSINE_ROUNDING = 2 * ROUNDING


@dataclass(frozen=True)
class Geometry:
    """Gram matrices of T task vectors, one a tensor.

    Attributes:
        tasks: T names.
        names: L tensor names.
        shapes: tensor name → shape.
        grams: inner products ⟨τ_i, τ_j⟩ over each tensor, float64 ``[L, T, T]``.
    """

    tasks: tuple[str, ...]
    names: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    grams: np.ndarray

    def select(self, tasks: Sequence[str]) -> "Geometry":
        """The same for some of the tasks, in the order given.

        Raises:
            SpecError: a task is not among them.
        """
        unknown = [task for task in tasks if task not in self.tasks]
        if unknown:
            raise SpecError(f"unknown tasks {unknown}; there are {list(self.tasks)}")
        index = [self.tasks.index(task) for task in tasks]
        return replace(self, tasks=tuple(tasks), grams=self.grams[:, index][:, :, index])

    def mixed(self, matrices: np.ndarray) -> "Geometry":
        """The geometry after a linear edit, ``E G Eᵀ`` for ``matrices`` E ``[L, T, T]`` or ``[T, T]``."""
        return self.with_grams(matrices @ self.grams @ np.swapaxes(matrices, -1, -2))

    def with_grams(self, grams: np.ndarray) -> "Geometry":
        """The same tasks and tensors with other inner products ``[L, T, T]``."""
        return replace(self, grams=grams)

    @property
    def gram(self) -> np.ndarray:
        """The whole model's Gram matrix ``[T, T]``."""
        total: np.ndarray = self.grams.sum(axis=0)
        return total

    @property
    def norms(self) -> np.ndarray:
        """‖τ_t‖ over the whole model, ``[T]``."""
        norms: np.ndarray = np.sqrt(np.clip(np.diagonal(self.gram), 0, None))
        return norms

    def at(self, level: Level) -> tuple[tuple[str, ...], np.ndarray]:
        """Labels and Gram matrices ``[N, T, T]`` for the whole model, each block, or each tensor."""
        if level == "model":
            return ("model",), self.gram[None]
        if level == "layer":
            return self.names, self.grams
        labels = [block_of(name) for name in self.names]
        order = tuple(sorted(set(labels), key=_block_order))
        grams = np.stack([self.grams[[label == wanted for label in labels]].sum(axis=0) for wanted in order])
        return order, grams


def block_of(name: str) -> str:
    """The part of the tower a tensor belongs to: ``stem``, ``block N`` or ``output``.

    >>> block_of("transformer.resblocks.3.ln_1.weight")
    'block 3'
    """
    parts = name.split(".")
    if "resblocks" in parts:
        return f"block {parts[parts.index('resblocks') + 1]}"
    return "output" if parts[0] in ("ln_post", "proj", "head") else "stem"


def network_order(names: Sequence[str]) -> list[int]:
    """Indices that bring tensor names from alphabetical order to stem, block 0, block 1, …, output."""

    def key(index: int) -> tuple[float, int]:
        block = block_of(names[index])
        return {"stem": -1.0, "output": np.inf}.get(block, float(block.split(" ")[-1]) if " " in block else 0.0), index

    return sorted(range(len(names)), key=key)


def _block_order(label: str) -> tuple[int, int]:
    kind, _, number = label.partition(" ")
    return {"stem": 0, "block": 1, "output": 2}[kind], int(number or 0)


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosine similarity from Gram matrices ``[…, T, T]``; a zero vector has cosine 0 with everything, never NaN."""
    norms = np.sqrt(np.clip(np.diagonal(gram, axis1=-2, axis2=-1), 0, None))
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    clipped: np.ndarray = np.clip(gram * inverse[..., :, None] * inverse[..., None, :], -1.0, 1.0)
    return clipped


def first_largest(cosine: np.ndarray) -> int:
    """Where the first of the largest cosines ``[N]`` stands, of those that rounding leaves apart."""
    return int(np.flatnonzero(cosine >= cosine.max() - COSINE_ROUNDING)[0])


def mean_abs_cosine(gram: np.ndarray) -> np.ndarray:
    """Mean of |cos| over pairs i ≠ j of vectors that are not zero, shape ``[…]``; 0 where there is no such pair.

    A zero vector has no direction. Counted as orthogonal to all others, one unchanged model in a set would make the
    set look more orthogonal than it is.
    """
    tasks = gram.shape[-1]
    directed = (np.diagonal(gram, axis1=-2, axis2=-1) > 0).sum(axis=-1)
    off_diagonal = np.abs(cosines(gram)) * (1 - np.eye(tasks))
    mean: np.ndarray = off_diagonal.sum(axis=(-2, -1)) / np.maximum(directed * (directed - 1), 1)
    return mean


def describe(geometry: Geometry) -> dict[str, Any]:
    """Norms, cosines and mean |cos| of the whole model, JSON-ready."""
    return {
        "norms": geometry.norms.tolist(),
        "cosine": cosines(geometry.gram).tolist(),
        "mean_abs": float(mean_abs_cosine(geometry.gram)),
    }


def gram_of(pieces: Iterable[torch.Tensor]) -> np.ndarray:
    """Gram matrix ``[T, T]`` of a stack that comes in pieces ``[T, n]``; added up in float64."""
    return sum(((piece @ piece.T).double().cpu() for piece in pieces), torch.zeros((), dtype=torch.float64)).numpy()


def measure(vectors: TaskVectors, context: Work | None = None) -> Geometry:
    """Gram matrices of all tensors in one pass over the files (or over the edited vectors, if an edit is set).

    Raises:
        NonFiniteWeights: a weight is NaN or infinite; the message names file and tensor.
        Cancelled: on request.
    """
    context = context or Work()
    vectors = shelf.held(vectors, context)
    grams = np.empty((len(vectors.names), len(vectors.tasks), len(vectors.tasks)))

    def one(name: str) -> np.ndarray:
        return gram_of(stack for _, _, stack in vectors.pieces(name, context.device))

    for index, gram in enumerate(ordered(one, vectors.names, context.device)):
        if not np.isfinite(gram).all():
            raise vectors.owner_of_nonfinite(vectors.names[index])
        grams[index] = gram
        context.step(index + 1, len(vectors.names), "measuring task vectors")
    return Geometry(vectors.tasks, vectors.names, _shapes(vectors), grams)


def _shapes(vectors: TaskVectors) -> dict[str, tuple[int, ...]]:
    return {name: vectors.info(name).shape for name in vectors.names}


def cached(vectors: TaskVectors, folder: Path, context: Work | None = None) -> Geometry:
    """As :func:`measure`, kept in ``folder`` under the fingerprints of the files. Unedited vectors only."""
    prints = [vectors.base.fingerprint, *(checkpoint.fingerprint for checkpoint in vectors.checkpoints)]
    key = hashlib.sha256("\n".join([_VERSION, *prints]).encode()).hexdigest()[:32]
    path = folder / "geometry" / f"{key}.npz"
    grams = _read_grams(path, vectors)
    if grams is not None:
        return Geometry(vectors.tasks, vectors.names, _shapes(vectors), grams)
    geometry = measure(vectors, context)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, names=np.array(geometry.names), grams=geometry.grams)
    return geometry


def _read_grams(path: Path, vectors: TaskVectors) -> np.ndarray | None:
    """A cache entry; None if there is none. A damaged one, or one of other tensors, counts as none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            grams: np.ndarray = stored["grams"]
            fits = tuple(stored["names"].tolist()) == vectors.names
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    tasks = len(vectors.tasks)
    return grams if fits and grams.shape == (len(vectors.names), tasks, tasks) else None
