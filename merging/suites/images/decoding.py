"""Image files as 8-bit pixels of a tower's size, and what is said of those that are unusual."""

import re
import warnings
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from merging.core.errors import SuiteError
from merging.core.gate import DAMAGE, damage_in_words, require_file_itself, require_regular
from merging.core.limits import MAX_IMAGE_BYTES, MAX_PIXELS

# Those that are no programs (JPEG is MPO, too): Pillow hands EPS to Ghostscript, whatever the file is called.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "PPM", "TIFF", "AVIF", "JPEG2000")
EpsImagePlugin.gs_binary = False
# What has too many pixels is refused or left out below, and said there.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0
_MOST_OF_16_BITS = 2**16 - 1
UPPER_BITS = "16 bits a colour, of which the upper 8 are taken"
NEARLY_BLACK = f"{UPPER_BITS}; these hardly fill 14 bits, and are nearly black then"
_MOST_USUAL_BITS = 14  # of cameras and scanners that write files of 16 bits without filling them


@dataclass(frozen=True)
class Treatment:
    """How image files are read, as ``data`` in ``suite.yaml`` says.

    Attributes:
        on_error: whether an image that can't be read is an error, or left out and counted.
        range: the values that stand for black and white in images of more than 8 bits; without it those of their type.
    """

    on_error: Literal["refuse", "skip"] = "refuse"
    range: tuple[float, float] | None = None

    @property
    def key(self) -> str:
        """What prepared images are known by besides their files; empty as long as nothing is asked for."""
        return "" if self == Treatment() else f"{self.on_error} {self.range}"


AS_USUAL = Treatment()


@dataclass(frozen=True)
class Picture:
    """An image at a tower's size.

    Attributes:
        pixels: uint8 ``[size, size, 3]``; None if it can't be read and is left out.
        said: what is unusual about it, or why it is left out; empty of most images.
        peak: its largest value, if it has 16 bits and nothing says what is white but that type.
    """

    pixels: np.ndarray | None
    said: str = ""
    peak: int | None = None


class _Unreadable(SuiteError):
    """An image that can be skipped on request."""


def open_image(file: Path | bytes, name: str, size: int, treatment: Treatment = AS_USUAL) -> Picture:
    """Decode an image file, or its bytes.

    Raises:
        SuiteError: it can't be decoded, and is not to be skipped, or its values are not in their range; the message
            calls it ``name``.
    """
    try:
        return _opened(file, name, size, treatment.range)
    except _Unreadable as error:
        if treatment.on_error == "skip":
            return Picture(None, str(error))
        raise SuiteError(
            f"{error}; mend or remove it, or write on_error: skip into `data` of the task, and such images are left "
            "out and counted"
        ) from None


@cache
def _formats() -> tuple[str, ...]:
    """Those of them that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(file: Path | bytes, name: str, size: int, given: tuple[float, float] | None) -> Picture:
    if isinstance(file, Path):
        require_regular(file, _Unreadable, MAX_IMAGE_BYTES)
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(name, image.width * image.height)
            if size * size * max(image.size) > MAX_PIXELS * min(image.size):
                raise _Unreadable(
                    f"{name}: not a readable image: {image.width} × {image.height} pixels; it is so long that it would "
                    f"be too large with a shorter side of {size}"
                )
            several = "several frames, of which the first is taken" if getattr(image, "is_animated", False) else ""
            eight_bits, scaled, peak = _in_eight_bits(image, name, given)
            return Picture(fit(eight_bits, size), scaled or several or _transparency(image), peak)
    except _TOO_LARGE as error:
        pixels = re.search(r"[0-9]+", str(error))
        raise _too_large(name, int(pixels[0]) if pixels else MAX_PIXELS) from None
    except DAMAGE as error:
        if isinstance(file, Path):
            require_file_itself(file, _Unreadable, name)
        why = (
            "nothing in it is known as an image"
            if isinstance(error, UnidentifiedImageError)
            else damage_in_words(error)
        )
        raise _Unreadable(f"{name}: not a readable image ({why})") from None


RANGE_IN_VAIN = "8 bits, to which range does not apply"


def hardly_filled(peak: int) -> str:
    """What to say of a set of images of 16 bits whose largest value this is; empty where it is no surprise.

    >>> hardly_filled(4000)
    'no image of 16 bits is brighter than 4000 of 65535; if they are of 12 bits, write range: [0, 4095] into `data`'
    >>> hardly_filled(40000)
    ''
    """
    bits = max(peak.bit_length(), 8)
    if bits > _MOST_USUAL_BITS:
        return ""
    return (
        f"no image of 16 bits is brighter than {peak} of {_MOST_OF_16_BITS}; if they are of {bits} bits, write range: "
        f"[0, {2**bits - 1}] into `data`"
    )


def _transparency(image: Image.Image) -> str:
    """What to say of an image that is transparent somewhere; CLIP's transform takes its colours as if it were not."""
    if not image.has_transparency_data or image.convert("RGBA").getchannel("A").getextrema()[0] == 255:
        return ""
    return "transparency, which is left out; colours count as they are stored"


def _too_large(name: str, pixels: int) -> _Unreadable:
    return _Unreadable(
        f"{name}: not a readable image: {pixels / 1e6:.0f} megapixels, more than the {MAX_PIXELS / 1e6:.0f} that are "
        "decoded here; make it smaller"
    )


def _in_eight_bits(
    image: Image.Image, name: str, given: tuple[float, float] | None
) -> tuple[Image.Image, str, int | None]:
    """An image whose values Pillow would cut off at 255, scaled; any other as it is. Then what to say, and its peak."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image, _of_colours(image, name, given), None
    values = np.asarray(image)
    kind, usual = _kind(image)
    lowest, highest = given or usual or (0.0, 0.0)
    seen = f"{name}: {kind}, values from {values.min():g} to {values.max():g}"
    if given is None and usual is None:
        raise SuiteError(f"{seen}; no type says what is white; {_SAY_RANGE}")
    if not np.isfinite(values).all() or values.min() < lowest or values.max() > highest:
        raise SuiteError(f"{seen}; expected {lowest:g} to {highest:g}; {_SAY_RANGE}")
    grey = np.rint((values.astype(np.float64) - lowest) * (255 / (highest - lowest))).astype(np.uint8)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    peak = int(values.max()) if given is None and highest == _MOST_OF_16_BITS else None
    return Image.fromarray(grey), f"{kind}, scaled from {lowest:g} … {highest:g} to 8 bits", peak


def _of_colours(image: Image.Image, name: str, given: tuple[float, float] | None) -> str:
    """What to say of an image that Pillow reads with 8 bits a colour, however many it has.

    Raises:
        SuiteError: it has 16, and what stands for black and white in them is given.
    """
    if ";16" not in str(getattr(image, "tile", "")):  # the kinds of values that the file has
        return RANGE_IN_VAIN if given else ""
    if given:
        raise SuiteError(
            f"{name}: 16 bits a colour, of which the upper 8 are read, so that range can't be applied; convert such "
            "images to 8 bits, or to grey ones, or leave range out"
        )
    brightest = int(np.asarray(image.convert("RGB")).max())
    return UPPER_BITS if brightest >= 2 ** (_MOST_USUAL_BITS - 8) else NEARLY_BLACK


_SAY_RANGE = "write range: [black, white] into `data` of the task, what stands for black and white in all images"


def _kind(image: Image.Image) -> tuple[str, tuple[float, float] | None]:
    """What the values of an image are, and the range of that type; None if the type does not tell."""
    if image.mode == "F":
        return "floating point", (0.0, 1.0)
    if image.mode != "I":  # the kinds of I;16
        stated = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
        bits = int(stated[0] if isinstance(stated, tuple) else stated)
        return f"{bits} bits", (0.0, 2.0**bits - 1)
    if image.format in ("PNG", "PPM"):  # which Pillow brings to 16 bits
        return "16 bits", (0.0, 65535.0)
    return "whole numbers with a sign or of 32 bits", None


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
