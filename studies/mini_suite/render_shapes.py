"""Plane figures: filled or outlined, any colour, size, place and rotation."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from studies.mini_suite.canvas import (
    FULL,
    Facts,
    Pixels,
    choose,
    clutter,
    contrasting_pair,
    photograph,
    shade,
    turned,
    uneven,
)

Points = list[tuple[float, float]]
RADII = {"little": (0.22, 0.27), "medium": (0.28, 0.35), "big": (0.36, 0.44)}


def _regular(corners: int, inner: float | None = None) -> Points:
    """A regular polygon of radius 1, or a star where every second corner lies at radius `inner`."""
    count = corners if inner is None else 2 * corners
    radii = [1.0 if inner is None or i % 2 == 0 else inner for i in range(count)]
    angles = [2 * np.pi * i / count - np.pi / 2 for i in range(count)]
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [(float(a) / 17, float(-b) / 17) for a, b in zip(x, y, strict=True)]


def _crescent() -> Points:
    outer = [(np.cos(a), np.sin(a)) for a in np.linspace(0.6, 2 * np.pi - 0.6, 30)]
    inner = [(0.45 + 0.75 * np.cos(a), 0.75 * np.sin(a)) for a in np.linspace(2 * np.pi - 0.85, 0.85, 30)]
    return [(float(x), float(y)) for x, y in outer + inner]


def _cross() -> Points:
    right: Points = [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)]
    return right + [(-x, -y) for x, y in right]


def _ellipse(height: float = 1.0, start: float = 0.0, stop: float = 2 * np.pi) -> Points:
    return [(float(np.cos(a)), float(height * np.sin(a))) for a in np.linspace(start, stop, 40)]


OUTLINES: dict[str, Points] = {
    "circle": _ellipse(),
    "square": [(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)],
    "triangle": _regular(3),
    "star": _regular(5, 0.42),
    "heart": _heart(),
    "cross": _cross(),
    "ring": _ellipse(),
    "crescent": _crescent(),
    "pentagon": _regular(5),
    "arrow": [(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1)],
    "hexagon": _regular(6),
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
    "ellipse": _ellipse(0.55),
    "rectangle": [(-1, -0.5), (1, -0.5), (1, 0.5), (-1, 0.5)],
    "trapezoid": [(-0.5, -0.6), (0.5, -0.6), (1, 0.6), (-1, 0.6)],
    "half circle": _ellipse(1.0, 0.0, np.pi),
}
FILLED_MORE_OFTEN = 0.75


def render_shape(label: str, rng: np.random.Generator) -> tuple[Pixels, Facts]:
    """The figure `label`, sometimes half hidden by a bar, among lines and blobs."""
    ink, ground = contrasting_pair(rng, 50)
    size = choose(rng, list(RADII))
    image = uneven(rng, shade(rng, ground), 22)
    clutter(rng, image, int(rng.integers(0, 4)))
    radius = FULL * rng.uniform(*RADII[size])
    x, y = FULL / 2 + rng.uniform(-0.7, 0.7, 2) * (FULL / 2 - radius)
    stretch = np.array([rng.uniform(0.82, 1.18), 1.0])
    jitter = rng.normal(0, 0.03, (len(OUTLINES[label]), 2))
    points = turned(np.asarray(OUTLINES[label]) * stretch + jitter, rng.normal(0, 16), radius, (float(x), float(y)))
    draw, colour = ImageDraw.Draw(image), shade(rng, ink)
    filled = label != "ring" and rng.random() < FILLED_MORE_OFTEN
    if filled:
        draw.polygon(points, fill=colour)
    else:
        # A ring is a circle drawn with a thick pen; an outlined circle has a thin one.
        pen = rng.uniform(0.38, 0.55) * radius if label == "ring" else rng.uniform(4, 7)
        draw.line([*points, *points[:2]], fill=colour, width=int(pen), joint="curve")
    if rng.random() < 0.2:
        angle = rng.uniform(0, 180)
        bar = turned([(-2, -0.12), (2, -0.12), (2, 0.12), (-2, 0.12)], float(angle), FULL / 2, (float(x), float(y)))
        draw.polygon(bar, fill=shade(rng, ground, 30))
    facts = {"ink": ink, "ground": ground, "size": size, "finish": "solid" if filled else "hollow"}
    return photograph(rng, image, noise=10, blur=0.3), facts
