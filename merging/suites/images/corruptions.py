"""Seven corruptions of images at five severities, after Hendrycks & Dietterich (arXiv 1903.12261).

The same image, corruption, severity and seed give the same bytes on every machine: noise comes from a counter-based
generator's whole numbers, and all arithmetic is in integers but for what Pillow does in its own fixed point. Noise is
drawn by an image's content, so that it depends on no other image beside it; the severities of one image share it, so
that the damage grows and does not only change.

Levels are those of the authors' code: of its CIFAR-10-C for images up to :data:`SMALL` pixels, of its ImageNet-C for
larger ones (https://github.com/hendrycks/robustness). What differs: results are rounded where theirs are cut off, and

- motion blur, for which theirs takes ImageMagick, draws whole degrees; on small images its severity 4 is between 3 and
  5, where theirs has the σ of 3 and a longer reach, which changes nothing;
- spatter's water lacks the lighting of its edges, for which theirs takes OpenCV, and some of its thresholds are chosen
  here: with theirs the mean squared error does not rise from each severity to the next.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from statistics import NormalDist
from typing import Any

import numpy as np
from PIL import Image, features

from merging.core.errors import SpecError, SuiteError
from merging.core.wording import nearest

SMALL = 64  # pixels of the longer side up to which images are small
SEVERITIES = (1, 2, 3, 4, 5)
READY, READY_TEXT = -1, "ready"  # in place of a severity: images that come corrupted, nobody says how strongly
VERSION = 1  # raise when a change alters the bytes: prepared images and runs are known by it

_ONE = 2**12  # 1 in the fixed point of noise and of blurring kernels
_SIXTEEN_BITS = 2**16
_WATER, _MUD = (175, 238, 238), (63, 42, 20)  # RGB
_SOLID = 8 * _ONE**2 // 10  # of blurred mud, the share from which it is seen

Level = Any  # what a corruption takes for a severity: a number, or a tuple of numbers


class _Noise:
    """Whole numbers that an image, a corruption and a seed determine, whatever machine or library draws them."""

    def __init__(self, image: np.ndarray, corruption: str, seed: int) -> None:
        digest = hashlib.sha256(f"{corruption} {seed} {image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        self._bits = np.random.Philox(key=int.from_bytes(digest.digest()[:16], "little"))

    def below(self, limit: int) -> int:
        """One number from 0 to ``limit`` − 1."""
        return int(self._words(1)[0] % np.uint64(limit))

    def of_32_bits(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers from 0 to 2³² − 1, int64."""
        return self._parts(shape, 32)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of a standard normal distribution in units of 1 / :data:`_ONE`, int64."""
        drawn: np.ndarray = _quantiles()[self._parts(shape, 16)]
        return drawn

    def _parts(self, shape: tuple[int, ...], bits: int) -> np.ndarray:
        words = self._words(math.ceil(math.prod(shape) * bits / 64))
        shifts = np.arange(0, 64, bits, dtype=np.uint64)
        parts = (words[:, None] >> shifts) & np.uint64(2**bits - 1)
        return parts.reshape(-1)[: math.prod(shape)].astype(np.int64).reshape(shape)

    def _words(self, count: int) -> np.ndarray:
        words: np.ndarray = self._bits.random_raw(count)
        return words


@cache
def _quantiles() -> np.ndarray:
    """65,536 equally likely values of a standard normal distribution, rounded, so that no library's digits show."""
    upper = [NormalDist().inv_cdf((2 * step + 1) / (2 * _SIXTEEN_BITS)) for step in range(_SIXTEEN_BITS // 2, 2**16)]
    rounded = np.rint(np.array(upper) * _ONE).astype(np.int64)
    return np.concatenate([-rounded[::-1], rounded])


def _divided(above: np.ndarray, below: int | np.ndarray) -> np.ndarray:
    """Quotients of whole numbers, rounded, halves upwards."""
    quotients: np.ndarray = (2 * above + below) // (2 * below)
    return quotients


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)


def _gaussian_noise(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: standard deviation in hundredths of the range of values."""
    unit = 100 * _ONE
    return _as_pixels(_divided(unit * image.astype(np.int64) + 255 * level * noise.normal(image.shape), unit))


def _impulse_noise(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: share of the values that become black or white, in hundredths."""
    drawn = noise.of_32_bits(image.shape)
    hit = drawn // 2 < level * 2**31 // 100
    return np.where(hit, 255 * (drawn % 2), image).astype(np.uint8)


def _contrast(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: what is left of every value's distance from its channel's mean, in hundredths."""
    pixels = image.shape[0] * image.shape[1]
    values = image.astype(np.int64)
    mixed = level * pixels * values + (100 - level) * values.sum(axis=(0, 1))
    return _as_pixels(_divided(mixed, 100 * pixels))


def _jpeg_compression(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: Pillow's quality."""
    if not features.check_feature("libjpeg_turbo"):
        raise SuiteError(
            "jpeg_compression needs a Pillow that was built with libjpeg-turbo, as other libraries give other pixels; "
            "this one was not: install Pillow's own wheel, or leave this corruption out"
        )
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=level, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def _pixelate(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: the size, in hundredths, that an image is brought to and back from."""
    height, width = image.shape[:2]
    small = max(1, width * level // 100), max(1, height * level // 100)
    reduced = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(reduced.resize((width, height), Image.Resampling.BOX))


def _motion_blur(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: radius in pixels, and standard deviation in tenths of one; the direction is within 45° of level."""
    radius, sigma = level
    weights = _kernel(range(2 * radius + 1), sigma / 10)
    angle = math.radians(noise.below(91) - 45)
    rows, columns = (_steps(component, len(weights)) for component in (math.sin(angle), math.cos(angle)))
    reach = 2 * radius
    wider = np.pad(image.astype(np.int32), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    total = np.zeros(image.shape, dtype=np.int32)
    for weight, down, right in zip(weights, rows, columns, strict=True):
        total += weight * wider[reach + down :, reach + right :][:height, :width]
    return _as_pixels(_divided(total, _ONE))


def _steps(component: float, count: int) -> list[int]:
    """How far to go along one axis in each of so many steps, in whole pixels."""
    unit = round(component * _ONE)  # 30° goes half a pixel a step: libraries' last digits must not decide
    return [(2 * step * unit + _ONE) // (2 * _ONE) for step in range(count)]


def _spatter(image: np.ndarray, level: Level, noise: _Noise) -> np.ndarray:
    """``level``: what liquid; mean and deviation of noise, σ of its blurring, threshold; opacity, or blurring of mud.

    All in hundredths, those of blurring of a pixel.
    """
    liquid, mean, deviation, sigma, threshold, last = level
    blurred = _blurred(noise.normal(image.shape[:2]), sigma / 100)  # in units of 1 / _ONE³
    height = mean * _ONE**3 + deviation * blurred
    wet = height > threshold * _ONE**3
    values = image.astype(np.int64)
    if liquid == "water":
        seen = np.where(wet, height, 0)
        added = seen[:, :, None] * last * np.array(_WATER)
        return _as_pixels(values + _divided(added, 100 * max(1, int(seen.max()))))
    mud = _blurred(wet.astype(np.int64), last / 100)  # in units of 1 / _ONE²
    share = np.where(mud < _SOLID, 0, mud)[:, :, None]
    return _as_pixels(_divided((_ONE**2 - share) * values + share * np.array(_MUD), _ONE**2))


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values ``[H, W]`` times :data:`_ONE` ², blurred by a Gaussian; those at the edge count beyond it."""
    reach = math.ceil(4 * sigma)
    weights = _kernel(range(-reach, reach + 1), sigma)
    for axis in (0, 1):
        last = values.shape[axis] - 1
        places = np.arange(last + 1)
        steps = zip(range(-reach, reach + 1), weights, strict=True)
        shifted = [weight * values.take((places + step).clip(0, last), axis) for step, weight in steps]
        values = np.sum(shifted, axis=0)
    return values


def _kernel(offsets: range, sigma: float) -> list[int]:
    """Weights of a Gaussian at some offsets that sum to :data:`_ONE`."""
    exact = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in offsets]
    weights = [round(_ONE * weight / math.fsum(exact)) for weight in exact]
    weights[offsets.index(0)] += _ONE - sum(weights)
    return weights


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    Attributes:
        name: what the command line calls it.
        title: what people call it.
        short: the same over a narrow column.
        small: what it takes for each severity, for small images.
        large: the same for large ones.
        apply: makes of one image uint8 ``[H, W, 3]`` another.
    """

    name: str
    title: str
    short: str
    small: tuple[Level, ...]
    large: tuple[Level, ...]
    apply: Callable[[np.ndarray, Level, _Noise], np.ndarray]


_ALL = (
    Corruption(
        "motion_blur",
        "Motion blur",
        "motion",
        ((6, 10), (6, 15), (6, 20), (8, 22), (9, 25)),
        ((10, 30), (15, 50), (15, 80), (15, 120), (20, 150)),
        _motion_blur,
    ),
    Corruption("impulse_noise", "Impulse noise", "impulse", (1, 2, 3, 5, 7), (3, 6, 9, 17, 27), _impulse_noise),
    Corruption("gaussian_noise", "Gaussian noise", "gauss", (4, 6, 8, 9, 10), (8, 12, 18, 26, 38), _gaussian_noise),
    Corruption("pixelate", "Pixelate", "pixel", (95, 90, 85, 75, 65), (60, 50, 40, 30, 25), _pixelate),
    Corruption(
        "spatter",
        "Spatter",
        "spatter",
        (
            ("water", 62, 10, 70, 70, 50),
            ("water", 65, 10, 80, 71, 50),
            ("water", 65, 10, 80, 70, 50),
            ("mud", 65, 10, 70, 67, 60),
            ("mud", 65, 10, 70, 66, 60),
        ),
        (
            ("water", 65, 30, 400, 69, 60),
            ("water", 65, 30, 300, 69, 60),
            ("water", 65, 30, 200, 69, 50),
            ("mud", 65, 30, 100, 64, 150),
            ("mud", 65, 30, 100, 62, 150),
        ),
        _spatter,
    ),
    Corruption("contrast", "Contrast", "contrast", (75, 50, 40, 30, 15), (40, 30, 20, 10, 5), _contrast),
    Corruption(
        "jpeg_compression", "JPEG compression", "JPEG", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7), _jpeg_compression
    ),
)
CORRUPTIONS = {each.name: each for each in _ALL}  # in the order of published tables


def find_corruption(name: str) -> Corruption:
    """A corruption by name.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in CORRUPTIONS:
        raise SpecError(
            f"no corruption {name[:60]!r}{nearest(name, CORRUPTIONS)}: expected one of {', '.join(CORRUPTIONS)}"
        )
    return CORRUPTIONS[name]


def require_severity(severity: int) -> int:
    """A severity that there is.

    Raises:
        SpecError: there are five, whole numbers all of them.
    """
    if isinstance(severity, bool) or not isinstance(severity, int):
        raise SpecError(
            f"severity {str(severity)[:20]!r} is of type {type(severity).__name__}: expected int, a whole number from "
            f"{SEVERITIES[0]} to {SEVERITIES[-1]}"
        )
    if severity not in SEVERITIES:
        raise SpecError(f"severity {severity} is out of range: expected {SEVERITIES[0]} to {SEVERITIES[-1]}")
    return severity


def severity_of(text: str) -> int:
    """A severity as the command line takes it: a number, or ``ready``.

    Raises:
        SpecError: it is neither.

    >>> severity_of("3"), severity_of("ready") == READY
    (3, True)
    """
    text = text.strip()
    if text == READY_TEXT:
        return READY
    if not text.isdecimal():
        raise SpecError(
            f"severity {text[:20]!r}: expected a number from {SEVERITIES[0]} to {SEVERITIES[-1]}, or {READY_TEXT}: as "
            "a data set of the hub carries it"
        )
    return require_severity(int(text))


def severity_text(severity: int) -> str:
    """As :func:`severity_of` takes it."""
    return READY_TEXT if severity == READY else str(severity)


def corrupted(images: Iterable[np.ndarray], corruption: str, severity: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Images uint8 ``[H, W, 3]`` one after the other, each damaged by itself.

    Args:
        images: of any size from 1 × 1 on; each is small or large by its own longer side.
        corruption: one of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        seed: of what is drawn.

    Raises:
        SpecError: there is no such corruption or severity, or what is given is no such image.
        SuiteError: Pillow lacks what it needs.
    """
    kind, level = find_corruption(corruption), require_severity(severity) - 1
    return (_corrupted(image, kind, level, seed) for image in images)


def corrupt(images: np.ndarray, corruption: str, severity: int, seed: int = 0) -> np.ndarray:
    """The same of an array of images, uint8 ``[N, H, W, 3]``; what is given stays as it is.

    Raises:
        SpecError: there is no such corruption or severity, or what is given is no such array.
        SuiteError: Pillow lacks what it needs.
    """
    _require_pixels(images, "N, H, W, 3")
    result = np.empty_like(images)
    for place, image in enumerate(corrupted(images, corruption, severity, seed)):
        result[place] = image
    return result


def _require_pixels(values: Any, axes: str) -> None:
    """Insist on an array of images, or on one, by the names of its axes."""
    if isinstance(values, np.ndarray):
        shape = values.shape
        if values.dtype == np.uint8 and len(shape) == axes.count(",") + 1 and shape[-1] == 3 and min(shape[-3:]) > 0:
            return
        seen = f"{values.dtype} [{', '.join(map(str, shape))}]"
    else:
        seen = type(values).__name__
    raise SpecError(f"pixels to corrupt are {seen}; expected an array uint8 [{axes}] with H and W of at least 1")


def _corrupted(image: np.ndarray, kind: Corruption, level: int, seed: int) -> np.ndarray:
    _require_pixels(image, "H, W, 3")
    levels = kind.small if max(image.shape[:2]) <= SMALL else kind.large
    return kind.apply(image, levels[level], _Noise(image, kind.name, seed))
