"""Land seen from above: noise fields for ground and plants, drawn roads, roofs and shores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from studies.mini_suite.canvas import FULL, Facts, Pixels, choose, photograph, turned
from studies.mini_suite.render_textures import Field, smooth_noise

Triple = tuple[int, int, int]
GRASS, TREES, SOIL, SAND = (105, 140, 75), (45, 85, 45), (150, 120, 85), (215, 195, 150)
WATER, ASPHALT, CONCRETE, SNOW = (45, 85, 120), (85, 85, 90), (165, 165, 160), (235, 240, 245)
SEASONS: dict[str, Triple] = {"summer": (0, 6, 0), "autumn": (25, 0, -18), "winter": (12, 12, 22)}


def _ground(rng: np.random.Generator, colour: Triple, cells: int = 6, strength: float = 14) -> Field:
    tint: Field = rng.normal(0, 9, 3) + np.asarray(colour)
    return tint + strength * smooth_noise(rng, cells, FULL)[..., None]


def _blend(mask: Field, above: Field, below: Field) -> Field:
    return np.where(mask[..., None] > 0, above, below)


def _drawing(field: Field) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))
    return image, ImageDraw.Draw(image)


def _curve(rng: np.random.Generator, bend: float) -> list[tuple[float, float]]:
    """A winding line across the whole picture, in a random direction."""
    x = np.linspace(-0.8, 0.8, 14)
    y = bend * np.sin(x * rng.uniform(2.5, 5) + rng.uniform(0, 6)) + rng.normal(0, 0.08)
    return turned(np.stack([x, y], 1), float(rng.uniform(0, 180)), FULL, (FULL / 2, FULL / 2))


def _tint(rng: np.random.Generator, colour: Triple, spread: float = 14) -> Triple:
    red, green, blue = (int(np.clip(channel + rng.normal(0, spread), 0, 255)) for channel in colour)
    return red, green, blue


def _picture(field: Field) -> Image.Image:
    return _drawing(field)[0]


def _plain(colour: Triple, cells: int, strength: float) -> Callable[[np.random.Generator], Image.Image]:
    return lambda rng: _picture(_ground(rng, colour, cells, strength) + rng.normal(0, 6, (FULL, FULL, 1)))


def _forest(rng: np.random.Generator) -> Image.Image:
    crowns = np.maximum(smooth_noise(rng, 22, FULL), smooth_noise(rng, 16, FULL))
    return _picture(_ground(rng, TREES) + 17 * crowns[..., None])


def _line(
    colour: Triple, bend: float, width: tuple[float, float], marked: bool
) -> Callable[[np.random.Generator], Image.Image]:
    def draw(rng: np.random.Generator) -> Image.Image:
        below = _ground(rng, GRASS if rng.random() < 0.5 else (SOIL if rng.random() < 0.5 else TREES), 8)
        image, pen = _drawing(below)
        points, pixels = _curve(rng, bend), int(rng.uniform(*width))
        pen.line(points, fill=_tint(rng, colour), width=pixels, joint="curve")
        if marked:
            pen.line(points, fill=(225, 225, 215), width=2)
        return image

    return draw


def _blocks(
    sizes: tuple[float, float], roofs: tuple[Triple, ...], trees: bool
) -> Callable[[np.random.Generator], Image.Image]:
    def draw(rng: np.random.Generator) -> Image.Image:
        image, pen = _drawing(_ground(rng, GRASS if trees else CONCRETE, 8))
        pitch, angle = rng.uniform(*sizes), float(rng.uniform(0, 90))
        street = _tint(rng, ASPHALT)
        for row in np.arange(-FULL, FULL, pitch):
            if int(row / pitch) % 2 == 0:
                pen.line(turned([(-1, row / FULL), (1, row / FULL)], angle, FULL, (48, 48)), fill=street, width=5)
            for column in np.arange(-FULL, FULL, pitch):
                if rng.random() < 0.12:
                    continue
                width, height = pitch * rng.uniform(0.25, 0.36), pitch * rng.uniform(0.2, 0.32)
                x, y = column + rng.normal(0, 2), row + pitch / 2
                corners = [
                    (x - width, y - height),
                    (x + width, y - height),
                    (x + width, y + height),
                    (x - width, y + height),
                ]
                pen.polygon(
                    turned(np.asarray(corners) / FULL, angle, FULL, (48, 48)),
                    fill=_tint(rng, roofs[int(rng.integers(len(roofs)))]),
                )
        return image

    return draw


def _rows(
    colour: Triple, ground: Triple, pitch: tuple[float, float], dotted: bool
) -> Callable[[np.random.Generator], Image.Image]:
    def draw(rng: np.random.Generator) -> Image.Image:
        y, x = np.mgrid[0:FULL, 0:FULL] - FULL / 2
        angle, step = rng.uniform(0, np.pi), rng.uniform(*pitch)
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        wave = np.sin(2 * np.pi * u / step)
        wave = np.minimum(wave, np.sin(2 * np.pi * v / step)) + 0.15 if dotted else wave
        return _picture(_blend(wave + 0.25 * smooth_noise(rng, 10, FULL), _ground(rng, colour), _ground(rng, ground)))

    return draw


def _fields(rng: np.random.Generator) -> Image.Image:
    """Strips and patches of different crops."""
    image, pen = _drawing(_ground(rng, GRASS))
    angle, step = float(rng.uniform(0, 180)), rng.uniform(0.16, 0.32)
    for left in np.arange(-0.9, 0.9, step):
        for top in np.arange(-0.9, 0.9, step * rng.uniform(1.2, 2.5)):
            colour = _tint(rng, [GRASS, SOIL, (185, 175, 90), (90, 125, 55)][int(rng.integers(4))], 12)
            pen.polygon(
                turned([(left, top), (left + step, top), (left + step, 2), (left, 2)], angle, FULL, (48, 48)),
                fill=colour,
            )
    return image


def _shore(land: Triple, fringe: bool) -> Callable[[np.random.Generator], Image.Image]:
    def draw(rng: np.random.Generator) -> Image.Image:
        y, x = np.mgrid[0:FULL, 0:FULL] / FULL - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        distance = np.cos(angle) * x + np.sin(angle) * y + 0.07 * smooth_noise(rng, 5, FULL) + rng.normal(0, 0.08)
        picture = _blend(distance, _ground(rng, WATER, 10, 7), _ground(rng, land))
        surf = np.exp(-((distance / 0.035) ** 2))[..., None] if fringe else 0.0
        back = _blend(-distance - 0.28, _ground(rng, GRASS), picture)
        return _picture(back * (1 - surf) + surf * 235)

    return draw


def _lake(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:FULL, 0:FULL] / FULL - 0.5
    centre = rng.normal(0, 0.1, 2)
    radius = np.hypot(x - centre[0], (y - centre[1]) * rng.uniform(0.8, 1.3)) + 0.06 * smooth_noise(rng, 6, FULL)
    land = _ground(rng, GRASS if rng.random() < 0.5 else TREES, 12)
    return _picture(_blend(rng.uniform(0.2, 0.38) - radius, _ground(rng, WATER, 8, 6), land))


def _dunes(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:FULL, 0:FULL] / FULL
    angle = rng.uniform(0, np.pi)
    ripple = np.sin(rng.uniform(14, 30) * (np.cos(angle) * x + np.sin(angle) * y) + 1.2 * smooth_noise(rng, 4, FULL))
    return _picture(_ground(rng, SAND, 5, 8) + 11 * ripple[..., None])


def _parking(rng: np.random.Generator) -> Image.Image:
    image, pen = _drawing(_ground(rng, ASPHALT, 6, 5))
    angle, step = float(rng.uniform(0, 90)), rng.uniform(0.09, 0.13)
    for row in np.arange(-0.8, 0.8, step * 2.2):
        for column in np.arange(-0.8, 0.8, step):
            if rng.random() < 0.75:
                car = [
                    (column, row),
                    (column + step * 0.6, row),
                    (column + step * 0.6, row + step * 1.3),
                    (column, row + step * 1.3),
                ]
                pen.polygon(turned(car, angle, FULL, (48, 48)), fill=_tint(rng, CONCRETE, 60))
    return image


COVERS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "forest": _forest,
    "river": _line(WATER, 0.16, (10, 24), False),
    "highway": _line(ASPHALT, 0.07, (10, 20), True),
    "residential area": _blocks((17, 25), ((170, 80, 65), (150, 100, 80), (120, 110, 105)), True),
    "industrial area": _blocks((34, 48), ((200, 200, 200), (150, 155, 165), (120, 135, 160)), False),
    "cropland": _fields,
    "orchard": _rows(TREES, SOIL, (11, 16), True),
    "lake": _lake,
    "beach": _shore(SAND, True),
    "desert": _dunes,
    "meadow": _plain(GRASS, 7, 12),
    "snowfield": _plain(SNOW, 4, 12),
    "vineyard": _rows((80, 115, 55), SOIL, (9, 14), False),
    "car park": _parking,
    "cliff": _shore((130, 120, 110), False),
    "open sea": _plain(WATER, 16, 9),
}


def render_land(label: str, rng: np.random.Generator) -> tuple[Pixels, Facts]:
    """The land cover `label` in one of three seasons, sometimes under thin cloud."""
    season = choose(rng, list(SEASONS))
    picture = np.asarray(COVERS[label](rng), dtype=np.float64) + np.asarray(SEASONS[season])
    sky = "clear"
    if rng.random() < 0.35:
        sky = "cloudy"
        cover = np.clip(0.45 * smooth_noise(rng, 4, FULL) + rng.uniform(0.0, 0.3), 0, 0.8)[..., None]
        picture = picture * (1 - cover) + 235 * cover
    picture = (picture - picture.mean()) * rng.uniform(0.6, 1.0) + picture.mean()
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return photograph(rng, image, noise=16, blur=0.5), {"season": season, "sky": sky}
