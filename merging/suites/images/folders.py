"""Images in folders ``split/class/image``."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from merging.core.errors import SuiteError
from merging.suites.images.source import Source, open_image

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_DEPTH = 3  # split/class/image; deeper files are no images of the suite, and links can't lead in circles


def folder_source(root: Path, split: str, task: str, classes: Sequence[str]) -> Source | None:
    """Images of one split; labels follow the order of ``classes`` where folders are named as they are.

    Returns:
        None if there is no folder ``root/split``.

    Raises:
        SuiteError: it holds no images, or other folders than the classes.
    """
    folder = root / split
    name = f"{root.absolute().name}/{split}"  # the folder of a suite may be called "."
    if not folder.is_dir():
        return None
    files: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(class_folders(folder, task, classes)):
        found = images_in(class_folder)
        files += found
        labels += [label] * len(found)
    if not files:
        raise SuiteError(f"task {task!r}: no images under {name}")

    def read(rows: Sequence[int], size: int) -> Iterator[np.ndarray]:
        return (open_image(files[row], f"{files[row].parent.name}/{files[row].name}", size) for row in rows)

    return Source(name, np.array(labels, dtype=np.int64), folder_fingerprint(root, files), read)


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def folder_fingerprint(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names, sizes and times of files below ``root``: theirs, not their content's."""
    listing = []
    for path in sorted(paths):
        status = path.stat()
        listing.append(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def folder_state(folder: Path) -> tuple[int, int]:
    """Number of files in a folder of images and a hash of their names, sizes and times, by asking every one of them.

    Replacing an image in place changes no folder's time. The hash means something in this process only.
    """
    files = frozenset(_files(folder, _DEPTH))
    return len(files), hash(files)


def _files(folder: Path | str, depth: int) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of every file; what vanishes meanwhile or can't be read is left out."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir():
                    status = entry.stat()
                    yield entry.path, status.st_size, status.st_mtime_ns
                elif depth > 1:
                    yield from _files(entry.path, depth - 1)


def class_folders(folder: Path, task: str, classes: Sequence[str]) -> list[Path]:
    """Class folders in the order of the task's classes: by name if all match, sorted if none does."""
    present = sorted(path for path in folder.iterdir() if path.is_dir())
    by_name = {path.name.replace("_", " ").lower(): path for path in present}
    wanted = [name.replace("_", " ").lower() for name in classes]
    if wanted and all(name in by_name for name in wanted):
        return [by_name[name] for name in wanted]
    if wanted and (len(wanted) != len(present) or any(name in by_name for name in wanted)):
        raise SuiteError(
            f"task {task!r}: {len(present)} class folders in {folder.name}, {len(wanted)} classes in suite.yaml; "
            "expected one folder a class, all named as the classes or none; classes without a folder: "
            f"{sorted(set(wanted) - by_name.keys())[:5]}, "
            f"folders without a class: {sorted(by_name.keys() - set(wanted))[:5]}"
        )
    return present
