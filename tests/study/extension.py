"""A defense, a loss, a data set and a net of one's own, as a run's `extension`."""

import numpy as np
from torch import nn

from milib import Defense, register, rng
from milib.defenses import Limits
from milib.losses import at
from milib.models import Classifier


class Quantised(Defense):
    """Pixels rounded to `levels` of them, after noise of half a level."""

    def __init__(self, classifier: nn.Module, levels: float, **options):
        super().__init__(classifier, **options)
        self.levels = levels

    def transform(self, x, predicted, index, draw, draws):
        noise = draws.uniform(index, draw, x[0].numel()).view_as(x) - 0.5
        rounded = (x * self.levels + noise).round() / self.levels
        return x + (rounded - x).detach()


def squared(log, label):
    """Minus the squared probability of the label."""
    return -(at(log, label).exp() ** 2)


def stripes(_root, classes):
    """Images of stripes, as many as the class says, in noise."""
    draw, parts = rng.generator("stripes"), []
    for count in (400, 100):
        labels = np.arange(count) % classes
        waves = np.sin((1 + labels)[:, None] * 2 * np.pi * np.arange(16) / 16)[:, None, None, :]
        images = (127 + 60 * waves + draw.normal(0, 20, (count, 3, 16, 16))).clip(0, 255)
        parts.append((images.astype(np.uint8), labels))
    return parts[0], parts[1], 255


def plain(classes, channels):
    """One convolution, its batch norm not the library's own form of it."""
    layers = (nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return Classifier([nn.Sequential(*layers)], 8, classes)


register.defense("quantised", Quantised, {"levels": Limits(1, 255)}, title="Quantised")
register.loss("squared", squared, of="draws")
register.dataset("stripes", stripes)
register.architecture("plain", plain)
