"""Prepared images on disk, memory-mapped, within a limit: those that were not used for longest go first."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from merging.core.files import atomic_path
from merging.suites.images.decoding import Picture

DEFAULT_LIMIT = 20 * 2**30  # bytes


@dataclass
class Notes:
    """What was seen while images were decoded.

    Attributes:
        skipped: indices of those that can't be read, ascending.
        reasons: why not, of the first of them.
        said: sentence → number of images that it is said of.
        peak: the largest value of images of 16 bits, see :class:`Picture`; None without any.
    """

    skipped: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    peak: int | None = None

    def add(self, row: int, picture: Picture) -> None:
        """Take note of one image."""
        if picture.pixels is None:
            self.skipped.append(row)
            if len(self.reasons) < _REASONS:
                self.reasons.append(picture.said)
        elif picture.said:
            self.said[picture.said] = self.said.get(picture.said, 0) + 1
        if picture.peak is not None:
            self.peak = max(self.peak or 0, picture.peak)

    @property
    def key(self) -> str:
        """What the images are known by besides their files; empty if nothing was unusual."""
        return json.dumps([self.skipped, self.said]) if self.skipped or self.said else ""


_REASONS = 3


def prepared(
    images: Iterator[Picture], count: int, size: int, entry: Path | None, limit: int = DEFAULT_LIMIT
) -> tuple[np.ndarray, Notes]:
    """Pixels of images, uint8 ``[N, size, size, 3]``: memory-mapped from the cache, else made now.

    ``N`` is ``count`` without those that can't be read and are skipped.

    Args:
        images: what to store where the cache has nothing; not touched otherwise.
        count: how many there are, with those that can't be read.
        size: side in pixels.
        entry: file of the cache, named after the content; without one the pixels are kept in memory.
        limit: bytes that the folder of ``entry`` may hold. One set alone may be larger.

    Raises:
        CheckpointError: the cache can't be written.
    """
    shape = (count, size, size, 3)
    if entry is None:
        pixels, notes = np.empty(shape, dtype=np.uint8), Notes()
        for row, picture in enumerate(images):
            notes.add(row, picture)
            if picture.pixels is not None:
                pixels[row - len(notes.skipped)] = picture.pixels
        return pixels[: count - len(notes.skipped)], notes
    known = _mapped(entry, shape)
    if known is None:
        with atomic_path(entry) as temporary, temporary.open("wb") as file:
            _write(file, images, shape)
        known = _mapped(entry, shape)
        assert known is not None
    with suppress(OSError):  # another process may be making room
        os.utime(entry, ns=(time.time_ns(), entry.stat().st_mtime_ns))
    _make_room(entry, limit)
    return known


def _write(file: IO[bytes], images: Iterator[Picture], shape: tuple[int, ...]) -> None:
    """An ``.npy`` file, an image at a time: a whole test set can be larger than memory. The notes follow the pixels.

    Entries of earlier versions have no notes. They are not taken: images of more than 8 bits are white in them.
    """
    start, notes, count = _header(file, shape), Notes(), 0
    for count, picture in enumerate(images, 1):
        notes.add(count - 1, picture)
        if picture.pixels is not None:
            file.write(np.ascontiguousarray(picture.pixels).data)
    assert count == shape[0]
    file.write(json.dumps(asdict(notes)).encode())
    if notes.skipped:
        file.seek(0)
        again = _header(file, (count - len(notes.skipped), *shape[1:]))
        assert again == start  # numpy leaves room for the first number to grow


def _header(file: IO[bytes], shape: tuple[int, ...]) -> int:
    """Write the head of an ``.npy`` file; gives where it ends."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()


def _mapped(entry: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, Notes] | None:
    """A cache entry; None if there is none, or it is damaged."""
    try:
        pixels: np.ndarray = np.load(entry, mmap_mode="r", allow_pickle=False)
        with entry.open("rb") as file:
            file.seek(pixels.offset + pixels.nbytes)  # type: ignore[attr-defined]  # of a memory map
            stored = json.loads(file.read())
            notes = Notes(**stored)
    except (OSError, ValueError, EOFError, TypeError, AttributeError):
        return None
    if "peak" not in stored and any(what.startswith("16 bits,") for what in notes.said):
        return None  # of an earlier version, which did not note what shows that they are of fewer bits
    whole = (shape[0] - len(notes.skipped), *shape[1:])
    return (pixels, notes) if pixels.dtype == np.uint8 and pixels.shape == whole else None


def _make_room(used: Path, limit: int) -> None:
    """Remove what was not used for longest; whoever has it mapped keeps it until then."""
    with suppress(OSError):
        entries = [(path.stat(), path) for path in used.parent.glob("*.npy")]
        total = sum(status.st_size for status, _ in entries)
        for status, path in sorted(entries, key=lambda entry: entry[0].st_atime_ns):
            if total <= limit:
                return
            if path != used:
                path.unlink(missing_ok=True)
                total -= status.st_size
