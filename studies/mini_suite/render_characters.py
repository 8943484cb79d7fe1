"""House numbers and printed letters: one character each, among distractors, in eight typefaces."""

from __future__ import annotations

import numpy as np
from PIL import Image

from studies.mini_suite.canvas import (
    FULL,
    Colour,
    Facts,
    Pixels,
    choose,
    clutter,
    contrasting_pair,
    photograph,
    shade,
    uneven,
)
from studies.mini_suite.glyphs import CHARACTERS, FONTS, glyph

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HEIGHTS = {"small": (0.46, 0.54), "medium": (0.56, 0.66), "large": (0.68, 0.80)}


def _stamp(
    rng: np.random.Generator,
    image: Image.Image,
    character: str,
    font: str,
    height: float,
    colour: Colour,
    x: float,
    y: float,
) -> None:
    """Print one character, stretched, turned and sheared a little, with its centre at (x, y)."""
    mask = glyph(character, font)
    tall = int(height)
    wide = max(4, int(tall * mask.width / mask.height * rng.uniform(0.8, 1.25)))
    mask = mask.resize((wide, tall), Image.Resampling.BILINEAR)
    margin = tall // 4
    framed = Image.new("L", (wide + 2 * margin, tall + 2 * margin))
    framed.paste(mask, (margin, margin))
    shear = rng.normal(0, 0.12)
    framed = framed.transform(
        framed.size, Image.Transform.AFFINE, (1, shear, -shear * framed.height / 2, 0, 1, 0), Image.Resampling.BILINEAR
    )
    framed = framed.rotate(rng.normal(0, 7), Image.Resampling.BILINEAR)
    image.paste(colour, (int(x - framed.width / 2), int(y - framed.height / 2)), framed)


def _character(label: str) -> str:
    """What is printed for a class: the digit of a number's word, else the capital letter."""
    return str(NUMBERS.index(label)) if label in NUMBERS else label.upper()


def render_house_number(label: str, rng: np.random.Generator) -> tuple[Pixels, Facts]:
    """The digit or letter `label` in the middle, parts of digits at its sides, as on the front of a house."""
    ink, wall = contrasting_pair(rng, 55)
    font, size = choose(rng, list(FONTS)), choose(rng, list(HEIGHTS))
    image = uneven(rng, shade(rng, wall), 22)
    clutter(rng, image, int(rng.integers(0, 4)))
    height = FULL * rng.uniform(*HEIGHTS[size])
    x, y = FULL / 2 + rng.normal(0, 3.5, 2)
    colour = shade(rng, ink)
    for side in (-1, 1):
        if rng.random() < 0.5:
            other = str(rng.integers(10))
            _stamp(
                rng,
                image,
                other,
                font,
                height,
                colour,
                x + side * height * rng.uniform(0.78, 1.0),
                y + rng.normal(0, 3),
            )
    _stamp(rng, image, _character(label), font, height, colour, x, y)
    return photograph(rng, image, noise=10, blur=0.3), {"ink": ink, "ground": wall, "font": font, "size": size}


def render_letter(label: str, rng: np.random.Generator) -> tuple[Pixels, Facts]:
    """The letter or digit `label` anywhere on a plain or ruled ground, sometimes with a bar across it."""
    ink, ground = contrasting_pair(rng, 55)
    font, size = choose(rng, list(FONTS)), choose(rng, list(HEIGHTS))
    image = uneven(rng, shade(rng, ground), 14)
    height = FULL * rng.uniform(*HEIGHTS[size]) * 0.95
    slack = (FULL - height) / 2
    x, y = FULL / 2 + rng.uniform(-0.6, 0.6, 2) * slack
    if rng.random() < 0.3:
        other = CHARACTERS[int(rng.integers(10, len(CHARACTERS)))]
        faint = shade(rng, choose(rng, ["grey", ground]), 25)
        _stamp(rng, image, other, font, height * 0.8, faint, *rng.uniform(0, FULL, 2))
    _stamp(rng, image, _character(label), font, height, shade(rng, ink), float(x), float(y))
    clutter(rng, image, int(rng.integers(0, 3)))
    return photograph(rng, image, noise=10, blur=0.3), {"ink": ink, "ground": ground, "font": font, "size": size}
