"""What several tests of the report share."""

import io

import numpy as np
import PIL.Image
import pytest


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG with opacity, as matplotlib writes it."""
    made = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 4))
    pixels[..., 3] = 255
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(made, "png")
    return made.getvalue()
