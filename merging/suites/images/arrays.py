"""Images in an ``.npz`` file: ``val_images``, ``val_labels`` and so on."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import psutil
from PIL import Image

from merging.core.archive import open_archive
from merging.core.errors import SuiteError
from merging.core.limits import MAX_GROWTH, MAX_SMALL_BYTES
from merging.suites.images.decoding import Picture, fit
from merging.suites.images.source import ClassOrigins, Source

_DARK = 32  # of 255: floats of 0 … 1 that were cast as they are, or pixels of 4 bits
_LONGEST = 500  # times as long as wide
_WHAT = "a readable .npz file"


def array_source(path: Path, split: str) -> Source | None:
    """Images of one split, ``{split}_images`` uint8 ``[N, H, W, 3]`` and ``{split}_labels`` ``[N]``.

    Returns:
        None if the file has no such split.

    Raises:
        SuiteError: the file is damaged, too large for memory, or holds other types or shapes.
    """
    stored = _members(path, split)
    if stored is None:
        return None
    pixels, labels = stored
    _check(path.name, pixels, labels)

    def read(rows: Sequence[int], size: int) -> Iterator[Picture]:
        return (Picture(fit(Image.fromarray(pixels[row]), size)) for row in rows)

    digest = hashlib.sha256(np.ascontiguousarray(pixels).reshape(-1).data)
    digest.update(str(pixels.shape).encode())
    origin = ClassOrigins(odd=tuple(filter(None, [nearly_black(pixels)])))
    return Source(path.name, labels.astype(np.int64), digest.hexdigest(), read, pixels, origin=origin)


def nearly_black(pixels: np.ndarray) -> str:
    """What to say of images uint8 of which none is brighter than black, to the eye; empty of others.

    >>> nearly_black(np.ones((1, 2, 2, 3), np.uint8))
    'no value of the images is above 1 of 255, so that all look black; bring white to 255 before they are made uint8'
    """
    peak = int(pixels.max(initial=0))
    if not 0 < peak < _DARK:
        return ""
    return (
        f"no value of the images is above {peak} of 255, so that all look black; bring white to 255 before they are "
        "made uint8"
    )


def _members(path: Path, split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Images and labels of a split, none of which is unpacked before its size is known to be bearable."""
    with open_archive(path, SuiteError, _WHAT) as archive:
        wanted = [archive.NameToInfo.get(f"{split}_{part}.npy") for part in ("images", "labels")]
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > psutil.virtual_memory().available // 2:
            raise SuiteError(f"{path.name}: unpacks to {unpacked} bytes, over half of the free memory")
        packed = sum(member.compress_size for member in archive.infolist())
        if unpacked > max(MAX_SMALL_BYTES, MAX_GROWTH * packed):
            raise SuiteError(
                f"{path.name}: unpacks to {unpacked} bytes from {packed}, more than {MAX_GROWTH} times as many; no "
                "images do that"
            )
        images, labels = wanted
        return None if images is None or labels is None else (_array(archive, images), _array(archive, labels))


def _array(archive: ZipFile, member: ZipInfo) -> np.ndarray:
    """An array, once it is sure that all the numbers that its header declares are there.

    Raises:
        SuiteError: they are not, or it holds Python objects.
    """
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        wrong = ""
        if dtype.hasobject:
            wrong = "holds Python objects, which are not read; save images as uint8 and labels as whole numbers"
        elif min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
            wrong = "declares more numbers than there are; save or download it again"
        if wrong:
            raise SuiteError(f"{Path(str(archive.filename)).name}: not {_WHAT}: {member.filename[:80]} {wrong}")
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _check(file: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape[1:3]:
        seen = f"{file}: images are {pixels.dtype} {list(pixels.shape)}; expected uint8 [N, H, W, 3]"
        raise SuiteError(seen + _how_to_mend(pixels))
    shorter, longer = sorted(pixels.shape[1:3])
    if longer > _LONGEST * shorter:
        raise SuiteError(
            f"{file}: images of {pixels.shape[2]} × {pixels.shape[1]} pixels; nothing of them would be seen"
        )
    if labels.ndim != 1 or len(labels) != len(pixels) or labels.dtype.kind not in "iu":
        raise SuiteError(
            f"{file}: labels are {labels.dtype} {list(labels.shape)}; expected integers [{len(pixels)}], indices of "
            "the task's classes"
        )


def _how_to_mend(pixels: np.ndarray) -> str:
    """What to do about images of another type or order; empty of what can't be told."""
    steps = []
    if pixels.ndim == 4 and pixels.shape[1] == 3 and pixels.shape[3] != 3:
        steps.append("put the channels last, .transpose(0, 2, 3, 1)")
    elif pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 1):
        steps.append("repeat grey values in three channels")
    if pixels.dtype.kind == "f":
        steps.append("bring black to 0 and white to 255, and round to uint8")
    elif pixels.dtype == np.uint16:
        steps.append("bring white to 255, and convert to uint8")
    return f"; {' and '.join(steps)}" if steps else ""
