"""Corruptions against obvious ones in floating point, their growth, and that nothing but the image decides them."""

import hashlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import decode_jpeg, encode_jpeg

from merging.core.errors import SpecError, SuiteError
from merging.suites.images import corruptions
from merging.suites.images.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt, corrupted
from merging.suites.images.suite_images import load_images
from merging.suites.suite import load_suite
from tests.lightly import ndimage, stats

NAMES = tuple(CORRUPTIONS)
SIZES = [(1, 1), (1, 5), (7, 1), (2, 2), (9, 16), (32, 32), (64, 33), (65, 2), (1, 90), (96, 80)]


def picture(height: int, width: int, number: int = 0) -> np.ndarray:
    """Waves and edges of whole numbers, uint8 ``[H, W, 3]``."""
    rows, columns, channels = np.indices((height, width, 3), dtype=np.int64)
    waves = (rows * (3 + number) + columns * columns // 5 + 40 * channels) % 256
    return np.where((rows // 8 + columns // 8) % 3 == 0, 230 - 50 * channels, waves).astype(np.uint8)


def words(image: np.ndarray, name: str, count: int) -> list[int]:
    """Whole numbers of 64 bits that the image, the corruption and seed 0 stand for."""
    digest = hashlib.sha256(f"{name} 0 {image.shape}".encode() + image.tobytes()).digest()
    return [int(word) for word in np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)]


def parts(image: np.ndarray, name: str, shape: tuple[int, ...], bits: int) -> np.ndarray:
    count = int(np.prod(shape))
    found = [word >> shift & (2**bits - 1) for word in words(image, name, count) for shift in range(0, 64, bits)]
    return np.array(found[:count]).reshape(shape)


def normal(image: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    return stats.norm.ppf((parts(image, name, shape, 16) + 0.5) / 2**16)


def gaussian_noise(image: np.ndarray, level: float) -> np.ndarray:
    return image / 255 + level / 100 * normal(image, "gaussian_noise", image.shape)


def impulse_noise(image: np.ndarray, level: float) -> np.ndarray:
    drawn = parts(image, "impulse_noise", image.shape, 32)
    return np.where(drawn / 2**32 < level / 100, drawn % 2, image / 255)


def contrast(image: np.ndarray, level: float) -> np.ndarray:
    means = image.mean(axis=(0, 1)) / 255
    return means + level / 100 * (image / 255 - means)


def jpeg_compression(image: np.ndarray, level: float) -> np.ndarray:
    stored = encode_jpeg(torch.from_numpy(image.copy()).permute(2, 0, 1), quality=int(level))
    return decode_jpeg(stored).permute(1, 2, 0).numpy() / 255


def pixelate(image: np.ndarray, level: float) -> np.ndarray:
    height, width = (max(1, side * int(level) // 100) for side in image.shape[:2])
    return box(box(image / 255, height, width), *image.shape[:2])


def box(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every pixel the mean of those of the other size whose centres it covers, or the one that covers its own."""
    for axis, size in enumerate((height, width)):
        old = values.shape[axis]
        centres, means = np.arange(old) + 0.5, []
        for place in range(size):
            inside = (centres > place * old / size) & (centres <= (place + 1) * old / size)
            near = [int((place + 0.5) * old / size)]
            means.append(values.take(np.flatnonzero(inside) if old >= size else near, axis).mean(axis))
        values = np.stack(means, axis)
    return values


def motion_blur(image: np.ndarray, level: tuple[int, int]) -> np.ndarray:
    radius, sigma = level
    angle = np.deg2rad(words(image, "motion_blur", 1)[0] % 91 - 45)
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1))
    for step in range(2 * radius + 1):
        place = np.floor(step * np.round(np.array([np.sin(angle), np.cos(angle)]), 4) + 0.5).astype(int)
        kernel[tuple(place + 2 * radius)] += np.exp(-(step**2) / (2 * (sigma / 10) ** 2))
    return ndimage.correlate(image / 255, kernel[:, :, None] / kernel.sum(), mode="nearest")


def spatter(image: np.ndarray, level: tuple[str, int, int, int, int, int]) -> np.ndarray:
    liquid, (mean, deviation, sigma, threshold, last) = level[0], np.array(level[1:]) / 100
    layer = mean + deviation * blurred(normal(image, "spatter", image.shape[:2]), sigma)
    wet = layer > threshold
    if liquid == "water":
        seen = np.where(wet, layer, 0)[:, :, None]
        return image / 255 + seen / (seen.max() or 1) * last * np.array([175, 238, 238]) / 255
    mud = blurred(wet.astype(float), last)[:, :, None]
    mud[mud < 0.8] = 0
    return image / 255 * (1 - mud) + mud * np.array([63, 42, 20]) / 255


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    reach = int(np.ceil(4 * sigma))
    return ndimage.gaussian_filter(values, sigma, mode="nearest", radius=reach)


OBVIOUS: dict[str, Callable[..., np.ndarray]] = {
    each.__name__: each
    for each in (motion_blur, impulse_noise, gaussian_noise, pixelate, spatter, contrast, jpeg_compression)
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_it_does_what_is_obvious_in_floating_point(name: str, size: tuple[int, int]) -> None:
    kind: Corruption = CORRUPTIONS[name]
    images = np.stack([picture(*size, number) for number in range(2)])
    before = images.copy()
    for severity in (1, 3, 5):
        level = (kind.small if max(size) <= 64 else kind.large)[severity - 1]
        found = corrupt(images, name, severity)
        for image, damaged in zip(images, found, strict=True):
            expected = np.rint(255 * np.clip(OBVIOUS[name](image, level), 0, 1))
            apart = np.abs(damaged - expected)
            # Fixed point rounds: a step of 255, and here and there a drop's edge where noise is near its threshold.
            assert np.mean(apart > 2) <= (0.01 if name == "spatter" else 0)
            assert damaged.shape == image.shape and damaged.dtype == np.uint8
    assert np.array_equal(images, before)


def images_of_mini() -> np.ndarray:
    suite = load_suite("mini")
    return np.concatenate([load_images(suite, task, "test", 32).pixels[:12] for task in suite.task_names])


def enlarged(images: np.ndarray) -> np.ndarray:
    """Large ones with the little noise that photographs have."""
    large = [np.asarray(Image.fromarray(each).resize((160, 160), Image.Resampling.BICUBIC)) for each in images]
    noise = np.random.default_rng(0).integers(-5, 6, (len(large), 160, 160, 3))
    return (np.stack(large) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("name", NAMES)
def test_damage_rises_with_severity(name: str, size: str) -> None:
    images = images_of_mini() if size == "small" else enlarged(images_of_mini()[::8])
    damage = [((corrupt(images, name, severity).astype(float) - images) ** 2).mean() for severity in SEVERITIES]
    assert damage[0] > 0 and all(more > less for less, more in pairwise(damage))


# Of two pictures at severities 2 and 4, as another process on another day made them: other bytes would make old
# numbers other numbers.
GOLDEN = {
    "motion_blur": "8c05dce0cdec4e59",
    "impulse_noise": "612f7631309121c5",
    "gaussian_noise": "1b93bc7d6cf724d3",
    "pixelate": "9f4a07156273e3cc",
    "spatter": "f4eeaf534c40428b",
    "contrast": "028cb82e7a48cd2c",
    "jpeg_compression": "3ca3901b6a7b23a9",
}


def digest_of(name: str) -> str:
    digest = hashlib.sha256()
    for size in ((32, 32), (70, 96)):
        for severity in (2, 4):
            digest.update(corrupt(picture(*size)[None], name, severity).tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_every_other_process_and_machine(name: str) -> None:
    assert digest_of(name) == GOLDEN[name]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_and_a_seed_decide_and_not_what_lies_beside_it(name: str) -> None:
    images = np.stack([picture(24, 24, number) for number in range(3)])
    together = corrupt(images, name, 4)
    assert np.array_equal(together[2], corrupt(images[2:], name, 4)[0])
    assert np.array_equal(together, np.stack(list(corrupted(iter(images), name, 4))))
    drawn = name in ("motion_blur", "impulse_noise", "gaussian_noise", "spatter")
    assert np.array_equal(together, corrupt(images, name, 4, seed=1)) != drawn


@pytest.mark.parametrize(
    ("name", "severity", "said"),
    [
        ("gausian_noise", 3, r"no corruption 'gausian_noise' \(did you mean 'gaussian_noise'\?\): expected one of"),
        ("fog", 3, "no corruption 'fog': expected one of motion_blur, "),
        ("contrast", 0, "severity 0 is out of range: expected 1 to 5"),
        ("contrast", 6, "severity 6 is out of range"),
    ],
)
def test_what_there_is_not_is_refused_before_any_image(name: str, severity: int, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        corrupted(iter(()), name, severity)


@pytest.mark.parametrize(
    ("images", "severity", "said"),
    [
        (picture(4, 5), 1, r"pixels to corrupt are uint8 \[4, 5, 3\]; expected an array uint8 \[N, H, W, 3\]"),
        (np.zeros((1, 4, 5, 3)), 1, r"float64 \[1, 4, 5, 3\]; expected"),
        (np.zeros((1, 3, 4, 5), np.uint8), 1, r"uint8 \[1, 3, 4, 5\]; expected"),
        (np.zeros((1, 0, 5, 3), np.uint8), 1, r"\[1, 0, 5, 3\]; expected .* with H and W of at least 1"),
        ([[1, 2, 3]], 1, "pixels to corrupt are list; expected"),
        (picture(4, 5)[None], True, "severity 'True' is of type bool: expected int, a whole number from 1 to 5"),
        (picture(4, 5)[None], "3", "severity '3' is of type str"),
        (picture(4, 5)[None], 3.0, "severity '3.0' is of type float"),
    ],
)
def test_what_is_no_array_of_images_or_no_severity_is_refused(images: object, severity: object, said: str) -> None:
    for name in NAMES:
        with pytest.raises(SpecError, match=said):
            corrupt(images, name, severity)
    assert corrupt(np.zeros((0, 4, 5, 3), np.uint8), "contrast", 1).shape == (0, 4, 5, 3)


def test_a_pillow_with_another_jpeg_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions.features, "check_feature", lambda feature: False)
    with pytest.raises(SuiteError, match="needs a Pillow that was built with libjpeg-turbo"):
        corrupt(picture(8, 8)[None], "jpeg_compression", 1)
