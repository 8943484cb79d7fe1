"""Evaluation images: read once, brought to the tower's size as 8-bit pixels, kept in memory or memory-mapped."""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from merging.checkpoints.writing import atomic_path
from merging.errors import MissingPart, SuiteError
from merging.suites.suite import ImageFolderData, Split, Suite, Task

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_BROKEN_ARRAYS = (
    OSError, ValueError, EOFError, RuntimeError, NotImplementedError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_BROKEN_IMAGE = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, IndexError, KeyError, OverflowError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


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


def load_images(suite: Suite, task_name: str, split: Split, size: int, cache: Path | None = None) -> ImageSet:
    """Images of a task and split at ``size`` × ``size`` pixels (shorter side resized, centre cropped).

    Args:
        suite: the suite.
        task_name: one of its tasks.
        split: val or test.
        size: side of the tower's input.
        cache: folder for preprocessed image folders.

    Raises:
        MissingPart: the task has no data.
        SuiteError: the files are missing, or of other types or shapes than expected.
    """
    task = suite.task(task_name)
    if task.data is None:
        raise MissingPart(f"suite {suite.name!r}: task {task_name!r} has no images; add `data` in suite.yaml")
    path = suite.path(task.data.path)
    if isinstance(task.data, ImageFolderData):
        return _from_folder(path, task, split, size, cache)
    return _from_arrays(path, task, split, size)


def sample_images(suite: Suite, task_name: str, size: int, limit: int = 10) -> list[tuple[str, np.ndarray]]:
    """One test image of each of the first classes, ``(class name, uint8 [size, size, 3])``, to look at.

    Raises:
        MissingPart: the task has no data.
        SuiteError: the files are missing or unreadable.
    """
    task = suite.task(task_name)
    if isinstance(task.data, ImageFolderData):
        found = []
        folder = suite.path(task.data.path) / "test"
        for class_folder in _class_folders(folder, task)[:limit] if folder.is_dir() else []:
            first = next((p for p in sorted(class_folder.iterdir()) if p.suffix.lower() in _SUFFIXES), None)
            if first is not None:
                found.append((class_folder.name, _open_image(first, size)))
        return found
    images = load_images(suite, task_name, "test", size)
    labels, first_rows = np.unique(images.labels, return_index=True)
    return [
        (task.classes[label] if task.classes else str(label), images.pixels[row])
        for label, row in list(zip(labels.tolist(), first_rows.tolist(), strict=True))[:limit]
    ]


def _from_arrays(path: Path, task: Task, split: Split, size: int) -> ImageSet:
    if not path.is_file():
        raise SuiteError(f"task {task.name!r}: images {path.name} are missing; check `data.path` in suite.yaml")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > psutil.virtual_memory().available // 2:
            raise SuiteError(f"{path.name}: unpacks to {unpacked} bytes, over half of the free memory")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            pixels, labels = stored[f"{split}_images"], stored[f"{split}_labels"]
    except KeyError:
        raise MissingPart(
            f"{path.name}: no {split}_images and {split}_labels; expected both for each of val and test"
        ) from None
    except _BROKEN_ARRAYS as error:
        raise SuiteError(f"{path.name}: not a readable .npz file ({type(error).__name__})") from None
    _check(path.name, task, pixels, labels)
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes() + str(size).encode()).hexdigest()
    if pixels.shape[1:3] != (size, size):
        pixels = np.stack([_fit(Image.fromarray(image), size) for image in pixels])
    return ImageSet(pixels, labels.astype(np.int64), digest)


def _check(file: str, task: Task, pixels: np.ndarray, labels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise SuiteError(f"{file}: images are {pixels.dtype} {list(pixels.shape)}; expected uint8 [N, H, W, 3]")
    if labels.ndim != 1 or len(labels) != len(pixels) or labels.dtype.kind not in "iu":
        raise SuiteError(f"{file}: labels are {labels.dtype} {list(labels.shape)}; expected integers [{len(pixels)}]")
    if not len(labels):
        raise SuiteError(f"{file}: holds no images")
    if labels.min() < 0 or (task.classes and labels.max() >= len(task.classes)):
        raise SuiteError(
            f"{file}: labels run from {labels.min()} to {labels.max()}; "
            f"task {task.name!r} has {len(task.classes)} classes, so expected 0 to {len(task.classes) - 1}"
        )


def folder_fingerprint(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names, sizes and times of files below ``root``: theirs, not their content's."""
    listing = []
    for path in sorted(paths):
        status = path.stat()
        listing.append(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def _from_folder(root: Path, task: Task, split: Split, size: int, cache: Path | None) -> ImageSet:
    folder = root / split
    if not folder.is_dir():
        raise MissingPart(
            f"task {task.name!r}: no folder {root.name}/{split}; expected {root.name}/{split}/class/image"
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(_class_folders(folder, task)):
        found = sorted(path for path in class_folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        files += found
        labels += [label] * len(found)
    if not files:
        raise SuiteError(f"task {task.name!r}: no images under {root.name}/{split}")
    digest = hashlib.sha256(f"{folder_fingerprint(root, files)}\n{labels}\n{size}".encode()).hexdigest()
    stored = cache / "images" / f"{digest[:32]}.npy" if cache else None
    pixels = _read_pixels(stored, len(files), size)
    if pixels is None:
        pixels = np.empty((len(files), size, size, 3), dtype=np.uint8)
        for row, path in zip(pixels, files, strict=True):
            row[:] = _open_image(path, size)
        if stored is not None:
            with atomic_path(stored) as temporary, temporary.open("wb") as file:
                np.save(file, pixels)
            pixels = _read_pixels(stored, len(files), size)
            assert pixels is not None
    return ImageSet(pixels, np.array(labels), digest)


def _read_pixels(path: Path | None, count: int, size: int) -> np.ndarray | None:
    """A memory-mapped cache entry; None if there is none, or it is damaged."""
    try:
        pixels: np.ndarray | None = None if path is None else np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = pixels is not None and pixels.dtype == np.uint8 and pixels.shape == (count, size, size, 3)
    return pixels if fits else None


def _class_folders(folder: Path, task: Task) -> list[Path]:
    """Class folders in the order of the task's classes: by name if all match, sorted if none does."""
    present = sorted(path for path in folder.iterdir() if path.is_dir())
    by_name = {path.name.replace("_", " ").lower(): path for path in present}
    wanted = [name.replace("_", " ").lower() for name in task.classes]
    if wanted and all(name in by_name for name in wanted):
        return [by_name[name] for name in wanted]
    if wanted and (len(wanted) != len(present) or any(name in by_name for name in wanted)):
        raise SuiteError(
            f"task {task.name!r}: {len(present)} class folders in {folder.name}, {len(wanted)} classes in suite.yaml; "
            "expected one folder a class, all named as the classes or none; classes without a folder: "
            f"{sorted(set(wanted) - by_name.keys())[:5]}, "
            f"folders without a class: {sorted(by_name.keys() - set(wanted))[:5]}"
        )
    return present


def _open_image(path: Path, size: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return _fit(image, size)
    except _BROKEN_IMAGE as error:
        raise SuiteError(f"{path.parent.name}/{path.name}: not a readable image ({type(error).__name__})") from None


def _fit(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to ``size`` with bicubic resampling, then the central square: CLIP's evaluation transform."""
    image = image.convert("RGB")
    if image.size != (size, size):
        factor = size / min(image.size)
        image = image.resize((max(size, round(image.width * factor)), max(size, round(image.height * factor))),
                             Image.Resampling.BICUBIC)  # fmt: skip
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)
