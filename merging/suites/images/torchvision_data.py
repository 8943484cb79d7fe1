"""Data sets that torchvision has a reader for, from files that are there; nothing is downloaded."""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merging.core.errors import MissingPart, SuiteError
from merging.core.gate import damage_in_words
from merging.suites.images.decoding import Picture, fit
from merging.suites.images.source import Source

_BROKEN = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    SyntaxError,
    pickle.UnpicklingError,
)
_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: dict[str, dict[str, Any]] = {**_TWO, "val": {"split": "val"}}


@dataclass(frozen=True)
class Reader:
    """How torchvision's class is asked for a split, and where it keeps the labels.

    Attributes:
        splits: our name of a split → arguments.
        labels: attribute with the labels, or with pairs that end in them.
    """

    splits: dict[str, dict[str, Any]]
    labels: str


# Those with a test split. EuroSAT and SUN397 have none in torchvision, and RESISC45 is not there.
READERS = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100"), Reader(_FLAG, "targets")),
    **dict.fromkeys(("SVHN", "STL10"), Reader(_TWO, "labels")),
    **dict.fromkeys(("GTSRB", "StanfordCars"), Reader(_TWO, "_samples")),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102"), Reader(_THREE, "_labels")),
    "Food101": Reader(_TWO, "_labels"),
    "OxfordIIITPet": Reader({"train": {"split": "trainval"}, "test": {"split": "test"}}, "_labels"),
}


def torchvision_source(name: str, root: Path, split: str, fingerprint: str) -> Source | None:
    """Images of one split.

    Args:
        name: of the class in ``torchvision.datasets``, one of :data:`READERS`.
        root: what that class calls so.
        split: ``train``, ``val`` or ``test``.
        fingerprint: of the files under ``root``.

    Returns:
        None if the data set has no such split.

    Raises:
        MissingPart: the files are not there.
        SuiteError: they can't be read, or a package for it is missing.
    """
    reader = READERS[name]
    if split not in reader.splits:
        return None
    from torchvision import datasets

    try:
        data = getattr(datasets, name)(root, download=False, **reader.splits[split])
        stored = getattr(data, reader.labels)
        if len(stored) and isinstance(stored[0], tuple | list):
            stored = [pair[-1] for pair in stored]
        labels = np.asarray(stored).astype(np.int64)
    except ImportError as error:
        raise SuiteError(f"torchvision's {name} needs {error.name}: python -m pip install {error.name}") from None
    except _BROKEN:
        raise MissingPart(
            f"torchvision's {name} is not in {root.name}, or not whole; nothing is downloaded "
            f"here; get it with: python -c \"from torchvision.datasets import {name}; {name}('{root.name}', "
            'download=True)" in the folder around it'
        ) from None

    def read(rows: Sequence[int], size: int) -> Iterator[Picture]:
        for row in rows:
            try:
                yield Picture(fit(data[row][0], size))
            except _BROKEN as error:
                raise SuiteError(
                    f"torchvision's {name}, image {row}: not readable ({damage_in_words(error)})"
                ) from None

    stated = tuple(map(str, getattr(data, "classes", ())))
    return Source(f"torchvision's {name}", labels, f"torchvision {name} {split} {fingerprint}", read, classes=stated)
