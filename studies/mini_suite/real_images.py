"""The two tasks with real images: UCI digits (from scikit-learn) and Fashion-MNIST (a subset is shipped here)."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from studies.mini_suite.canvas import SIZE, Facts, Pixels

Labels = npt.NDArray[np.int64]
Split = tuple[Pixels, Labels]

FASHION_SUBSET = Path(__file__).parent / "data" / "fashion-mnist-subset.npz"
FASHION_FULL = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
FASHION_COUNTS = {"train": 6000, "val": 250, "test": 500}
DIGITS_COUNTS = {"val": 250, "test": 450}  # all others train


def _enlarge(images: Pixels) -> Pixels:
    """Grey images [N, h, w] as colour images [N, 32, 32, 3]."""
    grown = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in images]
    return np.repeat(np.stack(grown)[..., None], 3, axis=-1)


@functools.cache
def digits() -> dict[str, Split]:
    """The 1797 digits as train, val and test, shuffled once with a fixed seed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ModuleNotFoundError("the handwritten digits come with scikit-learn: pip install scikit-learn") from None
    bunch = load_digits()
    order = np.random.default_rng(1998).permutation(len(bunch.target))
    images = _enlarge(np.clip(bunch.images[order] * 16, 0, 255).astype(np.uint8))
    labels = bunch.target[order].astype(np.int64)
    val, test = DIGITS_COUNTS["val"], DIGITS_COUNTS["test"]
    bounds = {"val": slice(0, val), "test": slice(val, val + test), "train": slice(val + test, None)}
    return {split: (images[where], labels[where]) for split, where in bounds.items()}


@functools.cache
def fashion() -> dict[str, Split]:
    """The shipped subset of Fashion-MNIST as train, val and test."""
    if not FASHION_SUBSET.exists():
        raise FileNotFoundError(f"{FASHION_SUBSET} is missing; `python -m studies.mini_suite.real_images` makes it")
    with np.load(FASHION_SUBSET) as archive:
        return {
            split: (_enlarge(archive[f"{split}_images"]), archive[f"{split}_labels"].astype(np.int64))
            for split in FASHION_COUNTS
        }


def describe(name: str, image: Pixels) -> Facts:
    """What a caption can say about a real image besides its class."""
    mean = float(image.mean())
    return (
        {"weight": "bold" if mean > 80 else "thin"} if name == "digits" else {"tone": "light" if mean > 75 else "dark"}
    )


def _read_idx(path: Path) -> Pixels:
    with gzip.open(path) as file:
        content = file.read()
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def build_fashion_subset(source: Path = FASHION_FULL, target: Path = FASHION_SUBSET) -> None:
    """Cut the subset out of the full Fashion-MNIST: train and val from its training set, test from its test set."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is missing: install Debian's package dataset-fashion-mnist")
    rng = np.random.default_rng(2017)
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    for prefix, splits in (("train", ("train", "val")), ("t10k", ("test",))):
        images = _read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
        labels = _read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")
        order, start = rng.permutation(len(labels)), 0
        for split in splits:
            chosen = order[start : start + FASHION_COUNTS[split]]
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = images[chosen], labels[chosen]
            start += len(chosen)
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    build_fashion_subset()
