"""Evaluation images: read once, brought to the tower's size as 8-bit pixels, kept in memory or memory-mapped."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from merging.core.errors import MissingPart, SuiteError
from merging.suites.images.arrays import array_source
from merging.suites.images.cache import DEFAULT_LIMIT, Notes, prepared
from merging.suites.images.class_folders import FolderClasses, compare_names
from merging.suites.images.corruptions import CORRUPTIONS
from merging.suites.images.decoding import NEARLY_BLACK, RANGE_IN_VAIN, UPPER_BITS, hardly_filled, open_image
from merging.suites.images.folders import folder_fingerprint, folder_source, folders_instead, images_in, split_folders
from merging.suites.images.hub import has_split, hub_source
from merging.suites.images.hub_datasets import missing_dataset
from merging.suites.images.kinds import (
    ArraysData,
    HuggingFaceData,
    ImageFiles,
    ImageFolderData,
    ImageSource,
    TorchvisionData,
)
from merging.suites.images.source import ClassOrigins, Source, held_out
from merging.suites.images.torchvision_data import torchvision_source
from merging.suites.known_datasets import known_datasets
from merging.suites.suite import Split, Suite, Task


@dataclass(frozen=True)
class ImageSet:
    """Images of one task and split.

    Attributes:
        pixels: uint8 ``[N, size, size, 3]``.
        labels: int64 ``[N]``, indices into the task's classes.
        fingerprint: of content and size, and of what is unusual about how the images were read.
        origin: where they come from, and what there is to say of it.
        skipped: how many images can't be read and are left out, on request.
    """

    pixels: np.ndarray
    labels: np.ndarray
    fingerprint: str
    origin: ClassOrigins = field(default_factory=ClassOrigins)
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ClassCount:
    """A class of a task, or a folder of it, with its images in one split.

    Attributes:
        label: index of the class.
        name: what the class is called; its index where it has no name.
        folder: the folder with its images, where there are folders.
        images: how many there are.
    """

    label: int
    name: str
    folder: str | None
    images: int


def load_images(
    suite: Suite,
    task_name: str,
    split: Split,
    size: int,
    cache: Path | None = None,
    limit: int = DEFAULT_LIMIT,
    ready: str = "",
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
        ready: the corruption whose images are meant, of a data set of the hub that carries them beside its own.

    Raises:
        MissingPart: the task has no data, or not this split.
        SuiteError: the files are missing, or of other types or shapes than expected.
    """
    task = _corrupted(suite.task(task_name), ready) if ready else suite.task(task_name)
    source = _checked(suite, task, split)
    treatment = task.data.treatment.key if isinstance(task.data, ImageFiles) else ""
    digest = digest_of(f"{source.fingerprint}\n{source.labels.tolist()}\n{size}{treatment}")
    if source.pixels is not None and source.pixels.shape[1:3] == (size, size):
        return ImageSet(source.pixels, source.labels, digest, source.origin)
    entry = cache / "images" / f"{digest[:32]}.npy" if cache else None
    pixels, notes = prepared(source.read(range(len(source)), size), len(source), size, entry, limit)
    return _with_notes(source, pixels, notes, digest)


def _with_notes(source: Source, pixels: np.ndarray, notes: Notes, digest: str) -> ImageSet:
    """Images as they were read; where that was unusual, they are known by it as well."""
    skipped, count = len(notes.skipped), len(source)
    if skipped == count:
        raise SuiteError(f"{source.name}: none of {count} images can be read: {notes.reasons[0]}")
    said = {what: f"{number} of {count} images: {what}" for what, number in notes.said.items()}
    dark = [said.pop(NEARLY_BLACK)] if NEARLY_BLACK in said and UPPER_BITS not in said else []  # one may be a night
    dark += [said.pop(RANGE_IN_VAIN)] if RANGE_IN_VAIN in said else []
    dark += filter(None, ["" if notes.peak is None else hardly_filled(notes.peak)])
    unread = f"{skipped} of {count} images can't be read and are left out: {'; '.join(notes.reasons)}"
    origin = replace(
        source.origin,
        said=(*source.origin.said, *said.values()),
        odd=(*source.origin.odd, *dark),
        unread=unread if skipped else "",
    )
    labels = np.delete(source.labels, notes.skipped) if skipped else source.labels
    return ImageSet(pixels, labels, digest_of(digest + notes.key) if notes.key else digest, origin, skipped)


_FIRST_EIGHT = ("SUN397", "Cars", "RESISC45", "EuroSAT", "SVHN", "GTSRB", "MNIST", "DTD")


def digest_of(text: str) -> str:
    """By what prepared images are known: SHA-256 of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def reading(data: ImageSource | None, folders: FolderClasses) -> str:
    """What a run's identity says of how images are read, besides their files and ``suite.yaml``.

    Empty where every version read them alike. Folders were matched with classes in another way once, and images of
    more than 8 bits became white; those of the first eight published tasks have 8.
    """
    if isinstance(data, ImageFolderData):
        return f"folders by name, scaled to 8 bits {dict(folders)}"
    published = {known_datasets()[name]["data"]["dataset"] for name in _FIRST_EIGHT}
    if isinstance(data, HuggingFaceData) and data.dataset not in published:
        return "scaled to 8 bits"
    return ""


def class_counts(suite: Suite, task_name: str, split: Split) -> tuple[ClassOrigins, list[ClassCount]]:
    """Which folder or label is which class, with the images that are there, none of them decoded.

    Raises:
        MissingPart: the task has no data, or not this split.
        SuiteError: the files are missing, or of other types or shapes than expected.
    """
    task = suite.task(task_name)
    source = _checked(suite, task, split)
    if source.folder_of is not None:
        found: list[tuple[int, str | None]] = [(label, folder) for folder, label in source.origin.folders]
        counts = np.bincount(source.folder_of, minlength=len(found))
    else:
        counts = np.bincount(source.labels, minlength=len(task.classes))
        found = [(label, None) for label in range(len(counts))]
    rows = [
        ClassCount(label, task.classes[label] if task.classes else str(label), folder, int(images))
        for (label, folder), images in zip(found, counts, strict=True)
    ]
    return source.origin, rows


def sample_images(suite: Suite, task_name: str, size: int, limit: int = 10) -> list[tuple[str, np.ndarray]]:
    """One test image of each of the first classes, ``(class name, uint8 [size, size, 3])``, to look at.

    Raises:
        MissingPart: the task has no data.
        SuiteError: the files are missing or unreadable.
    """
    task = suite.task(task_name)
    if isinstance(task.data, ImageFolderData):  # of a large folder only the first images are listed
        split = split_folders(suite.path(task.data.path), "test", task.name, task.classes, task.folders)
        folders = split.class_folders[:limit] if split else []
        firsts = [(label, found[0]) for folder, label in folders if (found := images_in(folder))]
        names = [f"{path.parent.name}/{path.name}" for _, path in firsts]
        opened = [
            open_image(path, name, size, task.data.treatment) for (_, path), name in zip(firsts, names, strict=True)
        ]
        labels = [label for label, _ in firsts]
    else:
        source = _checked(suite, task, "test")
        labels, rows = (found[:limit].tolist() for found in np.unique(source.labels, return_index=True))
        order = np.argsort(rows)
        read = dict(zip(order.tolist(), source.read(sorted(rows), size), strict=True))
        opened = [read[number] for number in range(len(labels))]
    named = [task.classes[label] if task.classes else str(label) for label in labels]
    return [(name, each.pixels) for name, each in zip(named, opened, strict=True) if each.pixels is not None]


def require_ready(suite: Suite, task_name: str, corruption: str) -> None:
    """Insist on test images that the data set of a task carries corrupted; none of them is decoded.

    Raises:
        MissingPart: it carries none, or not here.
        SuiteError: the files are damaged, or their labels not those of the task's classes.
    """
    _checked(suite, _corrupted(suite.task(task_name), corruption), "test")


def ready_corruptions(suite: Suite, tasks: Sequence[str]) -> list[str]:
    """The corruptions of which the data sets of all of some tasks carry images here; no file is opened."""

    def carried(task: str, corruption: str) -> bool:
        data, path = suite.task(task).data, suite.images_path(task)
        if not isinstance(data, HuggingFaceData) or path is None:
            return False
        return has_split(path, corruption, data.config)

    return [name for name in CORRUPTIONS if tasks and all(carried(task, name) for task in tasks)]


def _corrupted(task: Task, corruption: str) -> Task:
    """The task with the split in place of its test split that holds the same images corrupted."""
    if not isinstance(task.data, HuggingFaceData):
        raise MissingPart(
            f"task {task.name!r}: only data sets of the hub can carry corrupted images; take {corruption}:3, or "
            "another severity, to have its images corrupted here"
        )
    return task.model_copy(update={"data": task.data.model_copy(update={"test": corruption})})


def _checked(suite: Suite, task: Task, split: Split) -> Source:
    """Images of a split as they lie on disk, with labels that are those of the task's classes."""
    if task.data is None:
        raise MissingPart(f"suite {suite.name!r}: task {task.name!r} has no images; add `data` in suite.yaml")
    source = _source(suite, task, split)
    _check_labels(source, task)
    stated = source.classes
    if isinstance(task.data, TorchvisionData) and len(stated) != len(task.classes):
        stated = ()  # torchvision names those of other splits too, or only those that a split has
    names = compare_names(source.name, stated, task.classes, task.name)
    return replace(source, origin=replace(source.origin, said=(*source.origin.said, names))) if names else source


def _source(suite: Suite, task: Task, split: Split) -> Source:
    """Images of a split as they lie on disk; for validation some of training if there is nothing else."""
    found = _stored(suite, task, split)
    if found is None and split == "val":
        train = _stored(suite, task, "train")
        found = None if train is None else _held_out_of(train)
    if found is None:
        raise MissingPart(f"task {task.name!r}: {_expected(suite, task, split)}")
    return found


def _held_out_of(train: Source) -> Source:
    """Some of the training images for validation, and a word on that: the models may have seen them."""
    chosen = train.select(held_out(len(train)))
    said = (
        f"there is no validation split: {len(chosen)} of {len(train)} training images serve, which models may have seen"
    )
    return replace(chosen, origin=replace(chosen.origin, said=(said, *chosen.origin.said)))


def _stored(suite: Suite, task: Task, split: str) -> Source | None:
    data, path = task.data, suite.images_path(task.name)
    if isinstance(data, HuggingFaceData) and path is None:
        raise missing_dataset(data.dataset or "", data.revision)
    if data is None or path is None:
        return None
    if isinstance(data, ArraysData | HuggingFaceData | TorchvisionData) and not path.exists():
        raise SuiteError(f"task {task.name!r}: images {path.name} are missing; check `data` in suite.yaml")
    match data:
        case ArraysData():
            return array_source(path, split)
        case ImageFolderData():
            borrowed = any(task.folders == known.get("folders") for known in known_datasets().values())
            return folder_source(path, split, task.name, task.classes, task.folders, data.treatment, borrowed)
        case HuggingFaceData():
            return hub_source(path, split, data.config, data.image, data.label, data.treatment, data.test)
        case TorchvisionData():
            return torchvision_source(data.name, path, split, folder_fingerprint(path, path.rglob("*")))


def _expected(suite: Suite, task: Task, split: Split) -> str:
    """What to say of a split that is not there."""
    data = task.data
    if isinstance(data, ArraysData):
        name = Path(data.path).name
        return f"no {split}_images and {split}_labels in {name}; expected both for each of val and test"
    if isinstance(data, ImageFolderData):
        root = suite.path(data.path)
        place = (Path(Path(data.path).name) / split).as_posix()
        return f"no folder {place}; expected {place}/class/image{folders_instead(root, split)}"
    named = data.test if isinstance(data, HuggingFaceData) and split == "test" else split
    return f"no {named} split in {data.title if data else 'its data'}"


def _check_labels(source: Source, task: Task) -> None:
    labels = source.labels
    if not len(labels):
        raise SuiteError(f"{source.name}: holds no images")
    if labels.min() < 0 or (task.classes and labels.max() >= len(task.classes)):
        raise SuiteError(
            f"{source.name}: labels run from {labels.min()} to {labels.max()}; "
            f"task {task.name!r} has {len(task.classes)} classes, so expected 0 to {len(task.classes) - 1}"
        )
