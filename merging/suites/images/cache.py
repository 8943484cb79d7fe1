"""Prepared images on disk, memory-mapped, within a limit: those that were not used for longest go first."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from merging.core.files import atomic_path

DEFAULT_LIMIT = 20 * 2**30  # bytes


def prepared(
    images: Iterator[np.ndarray], count: int, size: int, entry: Path | None, limit: int = DEFAULT_LIMIT
) -> np.ndarray:
    """Pixels of ``count`` images, uint8 ``[count, size, size, 3]``: memory-mapped from the cache, else made now.

    Args:
        images: what to store where the cache has nothing; not touched otherwise.
        count: how many there are.
        size: side in pixels.
        entry: file of the cache, named after the content; without one the pixels are kept in memory.
        limit: bytes that the folder of ``entry`` may hold. One set alone may be larger.

    Raises:
        CheckpointError: the cache can't be written.
    """
    shape = (count, size, size, 3)
    if entry is None:
        pixels = np.empty(shape, dtype=np.uint8)
        for row, image in zip(pixels, images, strict=True):
            row[:] = image
        return pixels
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


def _write(file: IO[bytes], images: Iterator[np.ndarray], shape: tuple[int, ...]) -> None:
    """An ``.npy`` file, an image at a time: a whole test set can be larger than memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    written = 0
    for image in images:
        file.write(np.ascontiguousarray(image).data)
        written += 1
    assert written == shape[0]


def _mapped(entry: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """A cache entry; None if there is none, or it is damaged."""
    try:
        pixels: np.ndarray = np.load(entry, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.shape == shape else None


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
