"""Images in an ``.npz`` file: ``val_images``, ``val_labels`` and so on."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from merging.core.errors import SuiteError
from merging.suites.images.decoding import Picture, fit
from merging.suites.images.source import Source

_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def array_source(path: Path, split: str) -> Source | None:
    """Images of one split, ``{split}_images`` uint8 ``[N, H, W, 3]`` and ``{split}_labels`` ``[N]``.

    Returns:
        None if the file has no such split.

    Raises:
        SuiteError: the file is damaged, too large for memory, or holds other types or shapes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > psutil.virtual_memory().available // 2:
            raise SuiteError(f"{path.name}: unpacks to {unpacked} bytes, over half of the free memory")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            pixels, labels = stored[f"{split}_images"], stored[f"{split}_labels"]
    except KeyError:
        return None
    except _BROKEN as error:
        raise SuiteError(f"{path.name}: not a readable .npz file ({type(error).__name__})") from None
    _check(path.name, pixels, labels)

    def read(rows: Sequence[int], size: int) -> Iterator[Picture]:
        return (Picture(fit(Image.fromarray(pixels[row]), size)) for row in rows)

    digest = hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()).hexdigest()
    return Source(path.name, labels.astype(np.int64), digest, read, pixels)


def _check(file: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise SuiteError(f"{file}: images are {pixels.dtype} {list(pixels.shape)}; expected uint8 [N, H, W, 3]")
    if labels.ndim != 1 or len(labels) != len(pixels) or labels.dtype.kind not in "iu":
        raise SuiteError(f"{file}: labels are {labels.dtype} {list(labels.shape)}; expected integers [{len(pixels)}]")
