"""The pictures of curated runs, in fewer bytes."""

import base64
import io

import numpy as np
import PIL.Image
import pytest

from milib.errors import UserError
from milib.report import pictures


def encoded(pixels: np.ndarray) -> bytes:
    """Pixels [H, W, 3 or 4] as a PNG."""
    made = io.BytesIO()
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(made, "png")
    return made.getvalue()


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


@pytest.fixture
def chart() -> np.ndarray:
    """Bands of colour that fade into white, as antialiased lines do: 1,600 colours."""
    shade = np.linspace(0, 1, 200)[None, :, None] * np.ones((400, 1, 1))
    colours = np.array([[20, 60, 220], [210, 130, 20], [0, 110, 70], [180, 20, 60]])
    bands = np.repeat(colours, 100, 0)[:, None, :]
    levels = np.repeat(np.tile([0.0, 0.1, 0.2, 0.3], 25), 4)[:, None, None]
    found = 255 - (255 - bands) * (shade * (1 - levels))
    return np.concatenate([found, np.full((400, 200, 1), 255)], 2).round()


def test_a_chart_shrinks_and_no_eye_tells_the_difference(chart):
    png = encoded(chart)
    made = pictures.small(png)
    assert len(made) < 0.6 * len(png)
    assert np.abs(pixels_of(made) - chart).max() <= 20


def test_test_images_keep_every_pixel():
    photo = np.random.default_rng(0).integers(0, 256, (120, 120, 4))
    photo[..., 3] = 255
    png = encoded(photo)
    made = pictures.small(png)
    assert len(made) < len(png) and (pixels_of(made) == photo).all()


def test_a_transparent_picture_keeps_its_opacity(chart):
    chart[:10, :, 3] = 0
    made = pictures.small(encoded(chart))
    assert (pixels_of(made) == chart).all()


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_damaged_picture_ends_in_one_line(chart, cut):
    with pytest.raises(UserError, match="run its notebook again"):
        pictures.small(encoded(chart)[:cut])


def test_what_is_small_stays_as_it_is_in_base64_too(chart):
    once = pictures.small(encoded(chart))
    assert pictures.small(once) == once
    text = base64.b64encode(encoded(chart)).decode()
    assert pictures.small_text(text) == base64.b64encode(once).decode()
