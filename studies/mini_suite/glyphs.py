"""An atlas of printed characters, so that rendering needs no font at all.

`glyphs.npz` holds the capital letters and digits of eight free typefaces as grey masks. It was made once by
`python -m studies.mini_suite.glyphs`, which needs the DejaVu and Liberation fonts; nothing else does.
"""

from __future__ import annotations

import functools
import string
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

ATLAS = Path(__file__).with_name("glyphs.npz")
CHARACTERS = string.digits + string.ascii_uppercase
CELL = 48
FONTS = {
    "plain": "DejaVuSans.ttf",
    "bold": "DejaVuSans-Bold.ttf",
    "slanted": "DejaVuSans-Oblique.ttf",
    "serif": "DejaVuSerif.ttf",
    "heavy serif": "DejaVuSerif-Bold.ttf",
    "typewriter": "LiberationMono-Regular.ttf",
    "narrow": "LiberationSansNarrow-Regular.ttf",
    "italic": "LiberationSerif-Italic.ttf",
}


@functools.cache
def _atlas() -> dict[str, npt.NDArray[np.uint8]]:
    if not ATLAS.exists():
        raise FileNotFoundError(f"{ATLAS} is missing; make it with `python -m studies.mini_suite.glyphs`")
    with np.load(ATLAS) as archive:
        return {font: archive[font] for font in FONTS}


@functools.cache
def glyph(character: str, font: str) -> Image.Image:
    """The mask of one character, cropped to its ink: an "L" image, 255 where the ink is."""
    mask = Image.fromarray(_atlas()[font][CHARACTERS.index(character)])
    return mask.crop(mask.getbbox())


def build_atlas(target: Path = ATLAS) -> None:
    """Rasterise every character of every font into `target`.

    Raises:
        FileNotFoundError: a font isn't installed; the message names the Debian packages that hold it.
    """
    atlas = {}
    for name, file in FONTS.items():
        try:
            font = ImageFont.truetype(file, int(CELL * 0.9))
        except OSError:
            raise FileNotFoundError(f"font {file} not found: install fonts-dejavu and fonts-liberation") from None
        cells = []
        for character in CHARACTERS:
            cell = Image.new("L", (CELL, CELL))
            ImageDraw.Draw(cell).text((CELL / 2, CELL / 2), character, fill=255, font=font, anchor="mm")
            cells.append(np.asarray(cell))
        atlas[name] = np.stack(cells)
    np.savez_compressed(target, **atlas)  # type: ignore[arg-type]


if __name__ == "__main__":
    build_atlas()
