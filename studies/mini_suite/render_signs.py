"""Traffic signs in front of a blurred street, partly faded, turned and covered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from studies.mini_suite.canvas import FULL, SCALE, Colour, Facts, Pixels, choose, clutter, photograph, shade, uneven
from studies.mini_suite.glyphs import glyph

BOARD = 120  # signs are drawn on a board of this size first
RED, BLUE, YELLOW, WHITE, BLACK = (195, 30, 40), (30, 80, 170), (245, 200, 40), (240, 240, 240), (25, 25, 25)
Pen = ImageDraw.ImageDraw
DISTANCES = {"near": (0.80, 0.95), "at some distance": (0.66, 0.78), "far away": (0.52, 0.64)}
WEATHERS = {"clear": 1.0, "dull": 0.75, "foggy": 0.5}


def _polygon(corners: int, radius: float, phase: float) -> list[tuple[float, float]]:
    angles = [phase + 2 * np.pi * i / corners for i in range(corners)]
    return [(60 + radius * float(np.cos(a)), 60 + radius * float(np.sin(a))) for a in angles]


def _disc(pen: Pen, rim: Colour, face: Colour, width: int = 12) -> None:
    pen.ellipse([3, 3, 117, 117], fill=rim)
    pen.ellipse([3 + width, 3 + width, 117 - width, 117 - width], fill=face)


def _warning(pen: Pen) -> None:
    pen.polygon([(60, 4), (117, 108), (3, 108)], fill=RED)
    pen.polygon([(60, 28), (97, 96), (23, 96)], fill=WHITE)


def _text(pen: Pen, text: str, colour: Colour, height: int = 46) -> None:
    masks = [glyph(character, "bold").resize((int(height * 0.62), height)) for character in text]
    left = 60 - len(masks) * height * 0.34
    for i, mask in enumerate(masks):
        pen.bitmap((int(left + i * height * 0.7), 60 - height // 2), mask, fill=colour)


def _arrow(pen: Pen, turn: int, colour: Colour = WHITE) -> None:
    """An arrow straight up (0) or bent to the left (-1) or right (1)."""
    if turn == 0:
        pen.rectangle([53, 45, 67, 98], fill=colour)
        pen.polygon([(60, 18), (82, 50), (38, 50)], fill=colour)
        return
    tip = 60 + turn * 42
    pen.rectangle([53 - turn * 8, 48, 67 - turn * 8, 95], fill=colour)
    left, right = sorted((60 - turn * 14, 60 + turn * 15))
    pen.rectangle([left, 48, right, 62], fill=colour)
    pen.polygon([(tip, 55), (60 + turn * 12, 33), (60 + turn * 12, 77)], fill=colour)


def _walker(pen: Pen) -> None:
    pen.ellipse([54, 38, 66, 50], fill=BLACK)
    pen.line([60, 50, 58, 70], fill=BLACK, width=8)
    pen.line([58, 70, 46, 92], fill=BLACK, width=6)
    pen.line([58, 70, 70, 92], fill=BLACK, width=6)
    pen.line([46, 62, 74, 58], fill=BLACK, width=5)


def _digger(pen: Pen) -> None:
    pen.ellipse([46, 42, 57, 53], fill=BLACK)
    pen.line([52, 52, 64, 70, 54, 92], fill=BLACK, width=7)
    pen.line([52, 58, 84, 84], fill=BLACK, width=4)
    pen.polygon([(70, 94), (94, 94), (82, 78)], fill=BLACK)


def _stop(pen: Pen) -> None:
    pen.polygon(_polygon(8, 58, np.pi / 8), fill=RED)
    _text(pen, "STOP", WHITE, 34)


def _yield(pen: Pen) -> None:
    pen.polygon([(3, 12), (117, 12), (60, 114)], fill=RED)
    pen.polygon([(24, 25), (96, 25), (60, 88)], fill=WHITE)


def _no_entry(pen: Pen) -> None:
    _disc(pen, RED, RED)
    pen.rectangle([22, 49, 98, 71], fill=WHITE)


def _priority(pen: Pen) -> None:
    pen.polygon(_polygon(4, 58, 0), fill=WHITE)
    pen.polygon(_polygon(4, 46, 0), fill=YELLOW)


def _limit(text: str) -> Callable[[Pen], None]:
    def draw(pen: Pen) -> None:
        _disc(pen, RED, WHITE, 13)
        _text(pen, text, BLACK, 52)

    return draw


def _mandatory(turn: int) -> Callable[[Pen], None]:
    def draw(pen: Pen) -> None:
        _disc(pen, BLUE, BLUE)
        _arrow(pen, turn)

    return draw


def _warn_of(symbol: Callable[[Pen], None]) -> Callable[[Pen], None]:
    def draw(pen: Pen) -> None:
        _warning(pen)
        symbol(pen)

    return draw


def _exclamation(pen: Pen) -> None:
    pen.polygon([(53, 42), (67, 42), (63, 74), (57, 74)], fill=BLACK)
    pen.ellipse([54, 79, 66, 91], fill=BLACK)


def _fence(pen: Pen) -> None:
    for x in (42, 58, 74):
        pen.rectangle([x, 55, x + 6, 90], fill=BLACK)
    pen.rectangle([36, 62, 86, 67], fill=BLACK)
    pen.rectangle([36, 77, 86, 82], fill=BLACK)


def _roundabout(pen: Pen) -> None:
    _disc(pen, BLUE, BLUE)
    for start in (0, 120, 240):
        pen.arc([30, 30, 90, 90], start, start + 85, fill=WHITE, width=12)


def _no_parking(pen: Pen) -> None:
    _disc(pen, RED, BLUE, 12)
    pen.line([26, 26, 94, 94], fill=RED, width=12)


SIGNS: dict[str, Callable[[Pen], None]] = {
    "stop": _stop,
    "yield": _yield,
    "no entry": _no_entry,
    "priority road": _priority,
    "speed limit 30": _limit("30"),
    "speed limit 80": _limit("80"),
    "turn left": _mandatory(-1),
    "turn right": _mandatory(1),
    "road works": _warn_of(_digger),
    "pedestrian crossing": _warn_of(_walker),
    "straight ahead": _mandatory(0),
    "roundabout": _roundabout,
    "no parking": _no_parking,
    "danger": _warn_of(_exclamation),
    "level crossing": _warn_of(_fence),
    "speed limit 50": _limit("50"),
}


def _street(rng: np.random.Generator) -> Image.Image:
    image = uneven(rng, shade(rng, choose(rng, ["grey", "blue", "green", "brown", "white"]), 25), 40, 5)
    clutter(rng, image, int(rng.integers(1, 6)))
    return image


def render_sign(label: str, rng: np.random.Generator) -> tuple[Pixels, Facts]:
    """The traffic sign `label`, near or far, in clear, dull or foggy air."""
    distance, weather = choose(rng, list(DISTANCES)), choose(rng, list(WEATHERS))
    board = Image.new("RGBA", (BOARD, BOARD))
    SIGNS[label](ImageDraw.Draw(board))
    board = board.rotate(rng.normal(0, 7), Image.Resampling.BILINEAR)
    side = int(FULL * rng.uniform(*DISTANCES[distance]))
    board = board.resize((max(8, int(side * rng.uniform(0.75, 1.0))), side), Image.Resampling.BILINEAR)
    image = _street(rng)
    slack_x, slack_y = FULL - board.width, FULL - board.height
    left, top = int(rng.uniform(0.15, 0.85) * slack_x), int(rng.uniform(0.15, 0.85) * slack_y)
    image.paste(board.convert("RGB"), (left, top), board.getchannel("A"))
    if rng.random() < 0.3:
        x = left + rng.uniform(0, board.width)
        leaf = shade(rng, choose(rng, ["green", "brown", "grey"]))
        ImageDraw.Draw(image).line(
            [x, 0, x + rng.normal(0, 25), FULL], fill=leaf, width=int(rng.integers(2, 4) * SCALE)
        )
    visibility = WEATHERS[weather] * rng.uniform(0.85, 1.0)
    haze = Image.new("RGB", image.size, shade(rng, choose(rng, ["grey", "white", "black"])))
    image = Image.blend(haze, image, visibility)
    return photograph(rng, image, noise=11, blur=0.5), {"distance": distance, "weather": weather}
