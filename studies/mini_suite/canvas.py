"""Drawing shared by all rendered tasks: named colours, uneven backgrounds, and what a bad camera does to a picture."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Facts = dict[str, str]

SIZE = 32
SCALE = 3  # pictures are drawn this much larger, then reduced
FULL = SIZE * SCALE

COLOURS: dict[str, Colour] = {
    "red": (205, 40, 40),
    "orange": (235, 130, 30),
    "yellow": (235, 210, 50),
    "green": (50, 150, 60),
    "teal": (40, 150, 150),
    "blue": (45, 80, 190),
    "purple": (125, 60, 165),
    "pink": (230, 130, 170),
    "brown": (125, 80, 45),
    "white": (240, 240, 235),
    "grey": (135, 135, 135),
    "black": (28, 28, 30),
}


def choose(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """One of the options, uniformly."""
    return options[int(rng.integers(len(options)))]


def shade(rng: np.random.Generator, name: str, spread: float = 18.0) -> Colour:
    """A colour near the named one."""
    red, green, blue = (int(np.clip(channel + rng.normal(0, spread), 0, 255)) for channel in COLOURS[name])
    return red, green, blue


@functools.cache
def _luminance(name: str) -> float:
    red, green, blue = COLOURS[name]
    return 0.3 * red + 0.59 * green + 0.11 * blue


def contrasting_pair(rng: np.random.Generator, minimum: float = 45.0) -> tuple[str, str]:
    """Names of a foreground and a background colour whose luminances differ by at least `minimum`."""
    names = list(COLOURS)
    while True:
        foreground, background = choose(rng, names), choose(rng, names)
        if abs(_luminance(foreground) - _luminance(background)) >= minimum:
            return foreground, background


def uneven(rng: np.random.Generator, colour: Colour, strength: float = 25.0, cells: int = 4) -> Image.Image:
    """A full-size picture of one colour with soft random light and dark patches."""
    patches = rng.normal(0, strength, (cells, cells, 1)) + np.asarray(colour, dtype=np.float64)
    coarse = Image.fromarray(np.clip(patches, 0, 255).astype(np.uint8))
    return coarse.resize((FULL, FULL), Image.Resampling.BICUBIC)


def clutter(rng: np.random.Generator, image: Image.Image, amount: int) -> None:
    """Draw `amount` random lines and blobs over the picture."""
    draw = ImageDraw.Draw(image)
    for _ in range(amount):
        colour = shade(rng, choose(rng, list(COLOURS)))
        x, y = rng.uniform(0, FULL, 2)
        if rng.random() < 0.6:
            dx, dy = rng.normal(0, FULL / 3, 2)
            draw.line([x, y, x + dx, y + dy], fill=colour, width=int(rng.integers(1, 5)))
        else:
            rx, ry = rng.uniform(2, FULL / 8, 2)
            draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=colour)


def turned(points: npt.ArrayLike, angle: float, scale: float, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """Unit-square points (centre 0, y down) rotated by `angle` degrees, scaled, and moved to `centre`."""
    radians = np.deg2rad(angle)
    rotation = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    moved = np.asarray(points, dtype=np.float64) @ rotation * scale + np.asarray(centre)
    return [(float(x), float(y)) for x, y in moved]


def photograph(rng: np.random.Generator, image: Image.Image, noise: float = 10.0, blur: float = 0.35) -> Pixels:
    """Reduce a drawing to 32 × 32 pixels as a poor camera would: lighting, blur (with probability `blur`), noise.

    Values are multiples of 4, which keeps the shipped arrays small and is far below the noise.
    """
    small = image.reduce(image.width // SIZE)
    pixels = np.asarray(small, dtype=np.float64)
    if rng.random() < blur:
        padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
        neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        pixels = (pixels + neighbours) / 5
    pixels = (pixels - 128) * rng.uniform(0.6, 1.1) + 128 + rng.normal(0, 14)
    pixels = pixels + rng.normal(0, rng.uniform(0.3, 1.0) * noise, pixels.shape)
    return (np.clip(np.round(pixels / 4), 0, 63) * 4).astype(np.uint8)
