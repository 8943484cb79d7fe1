"""Procedural textures, each a function of the position, with random scale, direction, warp, colours and contrast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from studies.mini_suite.canvas import SIZE, Facts, Pixels, choose, contrasting_pair, photograph, shade

Field = npt.NDArray[np.float64]
GRID = SIZE * 2
SCALES = {"fine": (5.0, 7.0), "medium": (7.5, 10.0), "coarse": (11.0, 15.0)}


def smooth_noise(rng: np.random.Generator, cells: int, size: int = GRID) -> Field:
    """A random field, smooth at the scale of `size / cells` pixels, of about unit deviation."""
    coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def _wave(u: Field) -> Field:
    return 0.5 + 0.5 * np.sin(2 * np.pi * u)


def _steep(field: Field) -> Field:
    return np.clip((field - 0.5) * 4 + 0.5, 0, 1)


def _cells(rng: np.random.Generator, u: Field, v: Field, staggered: float, jitter: float) -> tuple[Field, Field]:
    """Distances to the nearest and second nearest of the points of a (staggered, jittered) lattice."""
    columns, rows = np.meshgrid(np.arange(-12, 13), np.arange(-12, 13))
    px = (columns + staggered * (rows % 2) + rng.normal(0, jitter, columns.shape)).ravel()
    py = (rows * (0.87 if staggered else 1.0) + rng.normal(0, jitter, rows.shape)).ravel()
    near = np.hypot(px - u.mean(), py - v.mean()) < max(np.ptp(u), np.ptp(v)) * 0.75 + 1.5
    distances = np.hypot(u[..., None] - px[near], v[..., None] - py[near])
    closest = np.partition(distances, 1, axis=-1)
    return closest[..., 0], closest[..., 1]


def _brick(rng: np.random.Generator, u: Field, v: Field) -> Field:
    shifted = u / 1.1 + 0.5 * (np.floor(v * 1.6) % 2)
    mortar = np.minimum(shifted % 1, (v * 1.6) % 1)
    return (mortar > 0.16) * (0.8 + 0.2 * smooth_noise(rng, 8))


def _woven(rng: np.random.Generator, u: Field, v: Field) -> Field:
    over = (np.floor(u) + np.floor(v)) % 2
    return np.where(over > 0, np.sin(np.pi * (u % 1)), 0.65 * np.sin(np.pi * (v % 1)))


def _spiral(rng: np.random.Generator, u: Field, v: Field) -> Field:
    x, y = u - u.mean() + rng.normal(0, 0.5), v - v.mean() + rng.normal(0, 0.5)
    return _steep(_wave(np.hypot(x, y) * 0.8 + np.arctan2(y, x) / (2 * np.pi)))


def _cracked(rng: np.random.Generator, u: Field, v: Field) -> Field:
    first, second = _cells(rng, u * 0.7, v * 0.7, 0.0, 0.28)
    return np.clip((second - first) * 6, 0, 1)


def _scaly(rng: np.random.Generator, u: Field, v: Field) -> Field:
    first, _ = _cells(rng, u, v * 1.1, 0.5, 0.02)
    return np.clip(1.2 - first * 1.5, 0, 1) * (0.5 + 0.5 * ((v * 1.2) % 1))


PATTERNS: dict[str, Callable[[np.random.Generator, Field, Field], Field]] = {
    "striped": lambda rng, u, v: _steep(_wave(u * 0.8)),
    "checkered": lambda rng, u, v: (np.floor(u) + np.floor(v)) % 2,
    "dotted": lambda rng, u, v: np.clip((0.33 - _cells(rng, u, v, 0.0, 0.05)[0]) * 8, 0, 1),
    "grid": lambda rng, u, v: (np.minimum(u % 1, v % 1) < 0.2).astype(np.float64),
    "zigzagged": lambda rng, u, v: _steep(_wave(v * 0.9 + 0.9 * np.abs((u * 0.7) % 1 - 0.5))),
    "marbled": lambda rng, u, v: (
        np.abs(np.sin(1.2 * u + 1.6 * smooth_noise(rng, 5) + 0.5 * smooth_noise(rng, 12))) ** 0.5
    ),
    "wooden": lambda rng, u, v: (
        _wave(u * 0.9 + 0.5 * smooth_noise(rng, 3)) * 0.7 + 0.3 * _wave(u * 3.1 + smooth_noise(rng, 4))
    ),
    "brick": _brick,
    "woven": _woven,
    "honeycombed": lambda rng, u, v: np.clip(np.subtract(*_cells(rng, u, v, 0.5, 0.0)[::-1]) * 5, 0, 1),
    "speckled": lambda rng, u, v: (smooth_noise(rng, 28) > rng.uniform(0.5, 1.0)).astype(np.float64),
    "wavy": lambda rng, u, v: _steep(_wave(v * 0.9 + 0.22 * np.sin(2 * np.pi * u * 0.55))),
    "scaly": _scaly,
    "spiralled": _spiral,
    "cracked": _cracked,
    "crosshatched": lambda rng, u, v: np.maximum(_wave(u * 1.3 + v * 0.5) ** 4, _wave(v * 1.3 - u * 0.5) ** 4),
}


def render_texture(label: str, rng: np.random.Generator) -> tuple[Pixels, Facts]:
    """A close-up of a surface with the pattern `label`."""
    scale = choose(rng, list(SCALES))
    period = rng.uniform(*SCALES[scale]) * GRID / SIZE
    angle = rng.normal(0, 0.35) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    y, x = np.mgrid[0:GRID, 0:GRID] + rng.uniform(0, GRID, (2, 1, 1))
    warp = rng.uniform(0.0, 0.16)
    u = (np.cos(angle) * x + np.sin(angle) * y) / period + warp * smooth_noise(rng, 4)
    v = (np.cos(angle) * y - np.sin(angle) * x) / period + warp * smooth_noise(rng, 4)
    pattern = np.clip(PATTERNS[label](rng, u, v), 0, 1)[..., None]
    light, dark = contrasting_pair(rng, 30)
    colours = np.array([shade(rng, light), shade(rng, dark)], dtype=np.float64)
    picture = pattern * colours[0] + (1 - pattern) * colours[1] + 12 * smooth_noise(rng, 3)[..., None]
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return photograph(rng, image, noise=18, blur=0.5), {"ink": light, "ground": dark, "size": scale}
