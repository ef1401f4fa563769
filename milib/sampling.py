"""Any classifier, randomized or not, in one form: predictions for draws that the caller gives."""

import torch
from torch import Tensor, nn

from milib import checks, inference
from milib.averaging import Defense
from milib.rng import Draws
from milib.shapes import EachDraw, Images, Numbers, Predictions

TOGETHER = 100
"""Images of a step's forward pass at most: a block is padded, however few images are left."""
CHUNK = 64
"""Images of a forward pass through a module that is no Defense, which has a `chunk` of its own."""


class Sampler:
    """A classifier's predictions for given draws, whether it is a Defense or any other module.

    - classifier: images [B, C, H, W] in [0, 1] to logits [B, L], in eval mode. What it draws by
      itself comes from torch's global generator, which is seeded for it and put back.
    - samples: K, draws of a step.

    A Defense draws for each image by its index. A frozen one has one set of draws, all of which
    are taken. MI-Combined decides over all its draws, and so gives one prediction.
    """

    def __init__(self, classifier: nn.Module, samples: int):
        checks.instance("classifier", classifier, nn.Module)
        self.classifier, self.samples = classifier, samples
        self.fixed: Draws | None = None
        chunk, width = CHUNK, samples
        if isinstance(classifier, Defense):
            self.fixed, chunk = classifier.fixed, classifier.chunk
            width = classifier.draws if self.fixed else samples
        self.block = max(1, min(TOGETHER, chunk) // width)
        """Images of a step: as many as their draws fit into a forward pass."""
        if isinstance(classifier, Defense):
            self.classifier = classifier.resized(width, min(chunk, self.block * width))

    def each(self, x: Images, index: Numbers, draws: Draws) -> EachDraw:
        """log F of every draw, [B, K, L], differentiable.

        - x: [B, C, H, W] in [0, 1].
        - index: each image's number for its draws [B].
        - draws: the random numbers.
        """
        if isinstance(self.classifier, Defense):
            if self.fixed is not None:
                return self.classifier.each(x, self.fixed, torch.zeros_like(index))
            return self.classifier.each(x, draws, index)
        found = [
            module_logits(self.classifier, x, Draws("module", draws.key, number)).log_softmax(1)
            for number in range(self.samples)
        ]
        return torch.stack(found, 1)


def module_logits(classifier: nn.Module, x: Images, draws: Draws) -> Predictions:
    """The logits [B, L] of a module that may draw from torch's global generator, for given draws.

    - classifier: images to logits.
    - x: [B, C, H, W] in [0, 1].
    - draws: they seed the generator, which is put back afterwards.
    """
    on_cuda = x.device.type == "cuda"
    with torch.random.fork_rng(devices=[x.device] if on_cuda else []):
        torch.default_generator.manual_seed(draws.key % 2**63)  # its own seed: many times as fast
        if on_cuda:
            torch.cuda.manual_seed(draws.key % 2**63)
        return inference.logits(classifier, x)


def log_mean(classifier: nn.Module, x: Images, index: Numbers, draws: Draws) -> Predictions:
    """log of the prediction [B, L] of a classifier as it is used, for given draws; no gradient.

    - classifier: a Defense, which averages over its N draws, or any other module.
    - x: [B, C, H, W] in [0, 1].
    - index: each image's number for its draws [B].
    - draws: the random numbers.
    """
    with torch.no_grad():
        if isinstance(classifier, Defense):
            fixed = classifier.fixed
            if fixed is not None:
                return classifier.log_mean(x, fixed, torch.zeros_like(index))
            return classifier.log_mean(x, draws, index)

        def evaluate(images: Tensor) -> Tensor:
            return module_logits(classifier, images.clone(), draws).log_softmax(1)

        return inference.chunked(evaluate, CHUNK, x)
