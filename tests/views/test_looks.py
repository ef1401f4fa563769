"""Colours, marks and lines: told apart by every reader, also by those who lack a kind of cone."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from milib.defenses import DEFENSES
from milib.training import MODELS
from milib.views.frames import DETECTORS
from milib.views.looks import COLOURS, OWN, STYLES, curve

VISIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""What is seen of linear RGB: Machado, Oliveira and Fernandes (2009), severity 1."""
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
"""Of linear sRGB (IEC 61966-2-1)."""
GROUPS = {"defenses": DEFENSES, "models": MODELS, "detectors": DETECTORS}
"""What one figure can show together."""


def linear(colour: str) -> np.ndarray:
    """Linear RGB [3] of #RRGGBB."""
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(colour: str, vision: str) -> np.ndarray:
    """CIELAB [3] of a colour as it is seen."""
    seen = np.clip(np.array(VISIONS[vision]) @ linear(colour), 0, 1)
    share = XYZ @ seen / XYZ.sum(1)
    low = share / (3 * (6 / 29) ** 2) + 4 / 29
    x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), low)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(first: np.ndarray, second: np.ndarray) -> float:
    """Distance of two colours in CIELAB: Sharma, Wu and Dalal (2005), Eqs. 2-22."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    grey = 1 + 0.5 * (1 - saturation((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    c1, c2 = np.hypot(grey * a1, b1), np.hypot(grey * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, grey * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = 0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    hue = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    t = 1 + sum(size * np.cos(np.radians(k * hue + shift)) for size, k, shift in waves)
    part_l = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    part_c = (c2 - c1) / (1 + 0.045 * chroma)
    part_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    angle = np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))
    rotation = -2 * saturation(chroma) * np.sin(angle) * part_c * part_h
    return float(np.sqrt(part_l**2 + part_c**2 + part_h**2 + rotation))


def saturation(chroma: float) -> float:
    return np.sqrt(chroma**7 / (chroma**7 + 25**7))


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_distance_is_that_of_the_published_pairs(first, second, distance):
    """Table 1 of Sharma, Wu and Dalal (2005)."""
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(distance, abs=6e-5)


def test_what_was_hard_to_tell_apart_is_called_so():
    """Okabe and Ito's vermilion and olive, and their green and pink, to those without M cones."""
    for first, second, least in (("#D55E00", "#999933", 5.1), ("#009E73", "#CC79A7", 15.9)):
        both = lab(first, "deuteranopia"), lab(second, "deuteranopia")
        assert ciede2000(*both) == pytest.approx(least, abs=0.05)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("group", GROUPS)
def test_colours_of_one_figure_are_far_apart_to_every_reader(group, vision):
    seen = {name: lab(COLOURS[name], vision) for name in GROUPS[group]}
    for first, second in itertools.combinations(seen, 2):
        assert ciede2000(seen[first], seen[second]) >= 17, (first, second)
    own = lab(OWN.colour, vision)
    for name, colour in seen.items():
        assert ciede2000(own, colour) >= 14, name


def test_every_colour_has_contrast_with_white():
    """WCAG 2.1, criterion 1.4.11: 3 to 1 for what a figure is read by."""
    for name, style in [*STYLES.items(), ("own", OWN)]:
        contrast = 1.05 / (XYZ[1] @ linear(style.colour) + 0.05)
        assert contrast >= 3, name


@pytest.mark.parametrize("group", GROUPS)
def test_a_figure_without_colours_still_tells_its_curves_apart(group):
    styles = [*(STYLES[name] for name in GROUPS[group]), OWN]
    for part in ("marker", "line"):
        assert len({getattr(style, part) for style in styles}) == len(styles), part


def test_what_a_reader_adds_has_a_style_and_leaves_the_others_as_they_are():
    known = dict(STYLES)
    assert curve("jpeg") == {"color": OWN.colour, "marker": OWN.marker, "ls": OWN.line} | {
        "ms": 4,
        "lw": 1,
    }
    assert COLOURS["jpeg"] == OWN.colour
    assert known == STYLES
