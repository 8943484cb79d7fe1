"""Images of one split before they are brought to a tower's size, and what all kinds of data share in reading them."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from merging.core.errors import SuiteError

_BROKEN_IMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    OverflowError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_HELD_OUT_SHARE, _HELD_OUT_MOST, _HELD_OUT_SEED = 10, 5000, 0


@dataclass(frozen=True)
class Source:
    """Images of one split, not yet decoded.

    Attributes:
        name: what errors call it.
        labels: int64 ``[N]``.
        fingerprint: changes when the images do.
        read: ascending indices, size → those images, uint8 ``[size, size, 3]`` each, one after the other.
        pixels: uint8 ``[N, H, W, 3]``, where they lie decoded in memory.
        classes: names of the classes in the order of the labels, where the files state them.
    """

    name: str
    labels: np.ndarray
    fingerprint: str
    read: Callable[[Sequence[int], int], Iterator[np.ndarray]]
    pixels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> "Source":
        """Only some of the images, by ascending indices."""
        return Source(
            self.name,
            self.labels[indices],
            f"{self.fingerprint} {indices.tolist()}",
            lambda rows, size: self.read(indices[list(rows)].tolist(), size),
            None if self.pixels is None else self.pixels[indices],
            self.classes,
        )


def held_out(count: int) -> np.ndarray:
    """Which of ``count`` training images serve for validation where data has no validation split.

    Returns:
        Sorted indices of a tenth of them, at least one and at most 5000: those that the code of Task Arithmetic
        (arXiv 2212.04089, ``split_train_into_train_val``) holds out with its seed 0, so that a model trained by it on
        images in the same order has not seen them. Any other model most likely has.
    """
    wanted = min(max(count // _HELD_OUT_SHARE, 1), _HELD_OUT_MOST)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HELD_OUT_SEED))
    return np.sort(order[count - wanted :].numpy())


def open_image(file: Path | bytes, name: str, size: int) -> np.ndarray:
    """Decode an image file, or its bytes, to uint8 ``[size, size, 3]``.

    Raises:
        SuiteError: it can't be decoded; the message calls it ``name``.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            return fit(image, size)
    except _BROKEN_IMAGE as error:
        raise SuiteError(f"{name}: not a readable image ({type(error).__name__})") from None


def fit(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to ``size`` with bicubic resampling, then the central square: CLIP's evaluation transform."""
    image = image.convert("RGB")
    if image.size != (size, size):
        factor = size / min(image.size)
        image = image.resize(
            (max(size, round(image.width * factor)), max(size, round(image.height * factor))), Image.Resampling.BICUBIC
        )
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)
