"""The pictures of curated runs, in fewer bytes."""

import base64
import io

import PIL.Image

from milib.errors import UserError

COLOURS = 256
"""In a chart's palette."""
CHART = 6000
"""Colours of a chart at most; rows of test images have more."""


def small(png: bytes) -> bytes:
    """A PNG in fewer bytes: a chart in a palette, test images as they are; neither with opacity.

    - png: the picture. One that is transparent somewhere, or whose form would grow, is returned.

    The palette holds a chart's colours to a few of 255 levels, so that no eye tells the two apart.
    Raises UserError where it is damaged.
    """
    try:
        picture = PIL.Image.open(io.BytesIO(png))
        picture.load()
    except OSError:
        raise UserError("a figure is no PNG, or damaged: run its notebook again") from None
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    if picture.mode == "RGB" and picture.getcolors(CHART) is not None:
        method, dither = PIL.Image.Quantize.MAXCOVERAGE, PIL.Image.Dither.NONE
        picture = picture.quantize(COLOURS, method=method, dither=dither)
    made = io.BytesIO()
    picture.save(made, "png", optimize=True)
    return min(made.getvalue(), png, key=len)


def small_text(encoded: str) -> str:
    """The same of a PNG in base64, as a notebook holds it.

    - encoded: the picture.
    """
    return base64.b64encode(small(base64.b64decode(encoded))).decode()
