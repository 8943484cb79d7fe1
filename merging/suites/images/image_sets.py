"""Evaluation images: read once, brought to the tower's size as 8-bit pixels, kept in memory or memory-mapped."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from merging.core.errors import MissingPart, SuiteError
from merging.suites.images.arrays import array_source
from merging.suites.images.cache import DEFAULT_LIMIT, prepared
from merging.suites.images.folders import class_folders, folder_fingerprint, folder_source, images_in
from merging.suites.images.hub import hub_source
from merging.suites.images.hub_datasets import missing_dataset
from merging.suites.images.kinds import ArraysData, HuggingFaceData, ImageFolderData, TorchvisionData
from merging.suites.images.source import Source, held_out, open_image
from merging.suites.images.torchvision_data import torchvision_source
from merging.suites.suite import Split, Suite, Task


@dataclass(frozen=True)
class ImageSet:
    """Images of one task and split.

    Attributes:
        pixels: uint8 ``[N, size, size, 3]``.
        labels: int64 ``[N]``, indices into the task's classes.
        fingerprint: of content and size.
    """

    pixels: np.ndarray
    labels: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)


def load_images(
    suite: Suite, task_name: str, split: Split, size: int, cache: Path | None = None, limit: int = DEFAULT_LIMIT
) -> ImageSet:
    """Images of a task and split at ``size`` × ``size`` pixels (shorter side resized, centre cropped).

    Where data has a training but no validation split, :func:`merging.suites.images.source.held_out` says which training
    images serve for validation.

    Args:
        suite: the suite.
        task_name: one of its tasks.
        split: val or test.
        size: side of the tower's input.
        cache: folder for prepared images; arrays that have the right size are taken from their file instead.
        limit: bytes that the prepared images of all data sets together may take there.

    Raises:
        MissingPart: the task has no data, or not this split.
        SuiteError: the files are missing, or of other types or shapes than expected.
    """
    task = suite.task(task_name)
    if task.data is None:
        raise MissingPart(f"suite {suite.name!r}: task {task_name!r} has no images; add `data` in suite.yaml")
    source = _source(suite, task, split)
    _check_labels(source, task)
    digest = hashlib.sha256(f"{source.fingerprint}\n{source.labels.tolist()}\n{size}".encode()).hexdigest()
    if source.pixels is not None and source.pixels.shape[1:3] == (size, size):
        return ImageSet(source.pixels, source.labels, digest)
    entry = cache / "images" / f"{digest[:32]}.npy" if cache else None
    pixels = prepared(source.read(range(len(source)), size), len(source), size, entry, limit)
    return ImageSet(pixels, source.labels, digest)


def sample_images(suite: Suite, task_name: str, size: int, limit: int = 10) -> list[tuple[str, np.ndarray]]:
    """One test image of each of the first classes, ``(class name, uint8 [size, size, 3])``, to look at.

    Raises:
        MissingPart: the task has no data.
        SuiteError: the files are missing or unreadable.
    """
    task = suite.task(task_name)
    if isinstance(task.data, ImageFolderData):  # of a large folder only the first images are listed
        folder = suite.path(task.data.path) / "test"
        folders = class_folders(folder, task.name, task.classes)[:limit] if folder.is_dir() else []
        firsts = [(each.name, found[0]) for each in folders if (found := images_in(each))]
        return [(name, open_image(path, f"{name}/{path.name}", size)) for name, path in firsts]
    source = _source(suite, task, "test")
    _check_labels(source, task)
    labels, rows = (found[:limit].tolist() for found in np.unique(source.labels, return_index=True))
    order = np.argsort(rows)
    pictures = dict(zip(order.tolist(), source.read(sorted(rows), size), strict=True))
    return [(task.classes[label] if task.classes else str(label), pictures[n]) for n, label in enumerate(labels)]


def _source(suite: Suite, task: Task, split: Split) -> Source:
    """Images of a split as they lie on disk; for validation some of training if there is nothing else."""
    found = _stored(suite, task, split)
    if found is None and split == "val":
        train = _stored(suite, task, "train")
        found = None if train is None else train.select(held_out(len(train)))
    if found is None:
        raise MissingPart(f"task {task.name!r}: {_expected(task, split)}")
    return found


def _stored(suite: Suite, task: Task, split: str) -> Source | None:
    data, path = task.data, suite.images_path(task.name)
    if isinstance(data, HuggingFaceData) and path is None:
        raise missing_dataset(data.dataset or "")
    if data is None or path is None:
        return None
    if isinstance(data, ArraysData | HuggingFaceData | TorchvisionData) and not path.exists():
        raise SuiteError(f"task {task.name!r}: images {path.name} are missing; check `data` in suite.yaml")
    match data:
        case ArraysData():
            return array_source(path, split)
        case ImageFolderData():
            return folder_source(path, split, task.name, task.classes)
        case HuggingFaceData():
            return hub_source(path, split, data.config, data.image, data.label)
        case TorchvisionData():
            return torchvision_source(data.name, path, split, folder_fingerprint(path, path.rglob("*")))


def _expected(task: Task, split: Split) -> str:
    """What to say of a split that is not there."""
    data = task.data
    if isinstance(data, ArraysData):
        name = Path(data.path).name
        return f"no {split}_images and {split}_labels in {name}; expected both for each of val and test"
    if isinstance(data, ImageFolderData):
        place = (Path(Path(data.path).name) / split).as_posix()
        return f"no folder {place}; expected {place}/class/image"
    return f"no {split} split in {data.title if data else 'its data'}"


def _check_labels(source: Source, task: Task) -> None:
    labels = source.labels
    if not len(labels):
        raise SuiteError(f"{source.name}: holds no images")
    if labels.min() < 0 or (task.classes and labels.max() >= len(task.classes)):
        raise SuiteError(
            f"{source.name}: labels run from {labels.min()} to {labels.max()}; "
            f"task {task.name!r} has {len(task.classes)} classes, so expected 0 to {len(task.classes) - 1}"
        )
    stated, named = source.classes, task.classes
    if stated and named and len(stated) != len(named):
        raise SuiteError(
            f"{source.name}: {len(stated)} class names in the file, {len(named)} in suite.yaml for task {task.name!r}"
        )
    theirs, ours = ([re.sub(r"[\W_]", "", name).lower() for name in names] for names in (stated, named))
    if theirs != ours and sorted(theirs) == sorted(ours):
        raise SuiteError(
            f"{source.name}: task {task.name!r} has the class names of the file in another order; "
            "write them in suite.yaml in the file's order, which is that of the labels"
        )
