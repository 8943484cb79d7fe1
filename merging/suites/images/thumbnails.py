"""Images as small PNG files, to be shown."""

import base64
import io

import numpy as np
from PIL import Image

THUMBNAIL = 128  # pixels stored, twice what is shown: sharp on dense screens


def png_of(pixels: np.ndarray, side: int = THUMBNAIL) -> bytes:
    """A PNG file of an image, uint8 ``[H, W, 3]``, at ``side`` × ``side`` pixels.

    Small images are enlarged without smoothing, so that pixels stay pixels.
    """
    image = Image.fromarray(pixels)
    how = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
    file = io.BytesIO()
    image.resize((side, side), how).save(file, format="PNG")
    return file.getvalue()


def picture(pixels: np.ndarray, side: int = THUMBNAIL) -> str:
    """The file of :func:`png_of` as a data URL, which a page has as long as it is open, whatever the server forgets."""
    return "data:image/png;base64," + base64.b64encode(png_of(pixels, side)).decode()
