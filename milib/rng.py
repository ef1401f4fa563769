"""Random numbers from (seed, purpose, example, draw): counter-based, the same on every device.

No global generator is read or set, and no number depends on batch size, order or what ran before.
"""

import hashlib
import math
import warnings
import weakref

import numpy as np
import torch
from torch import Tensor, nn

from milib.checks import shown
from milib.errors import UserError
from milib.shapes import Images, Numbers, PairNumbers, Random

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_M1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_M2 = -7723592293110705685  # 0x94D049BB133111EB


_attackers: weakref.WeakKeyDictionary[nn.Module, set[int]] = weakref.WeakKeyDictionary()
"""The keys of the draws that attacked a classifier in this process."""


def key(*parts) -> int:
    """A signed 64-bit key, as in `key(seed, "mixup", epoch)`.

    - parts: words and numbers, or tuples of them.

    Raises UserError for anything else: what it is called may differ from process to process.
    """
    hashed = hashlib.blake2b(repr(_plain(parts)).encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "little", signed=True)


def _plain(part: object) -> object:
    """A part in the one form of its value: numpy writes its own numbers otherwise."""
    if isinstance(part, tuple):
        return tuple(_plain(each) for each in part)
    if isinstance(part, np.generic):
        part = part.item()
    if part is None or isinstance(part, str | int | float):
        return part
    raise UserError(f"draws of {shown(part)}: words and numbers, as in Draws(0, 'attack')")


def generator(*parts) -> np.random.Generator:
    """A private numpy generator for a purpose (training permutations, mixup ratios).

    - parts: name the purpose, as in `key`.
    """
    return np.random.default_rng(key(*parts) % 2**63)


def _mix(z: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014) on int64; shifts are logical."""
    z = (z ^ ((z >> 30) & (2**34 - 1))) * _M1
    z = (z ^ ((z >> 27) & (2**37 - 1))) * _M2
    return z ^ ((z >> 31) & (2**33 - 1))


def joined(index: PairNumbers, draw: PairNumbers) -> PairNumbers:
    """One number [P] for each (index, draw): the address of draws inside a draw.

    - index, draw: int64 [P].
    """
    return _mix(_mix(index * _GOLDEN) + draw * _GOLDEN) & (2**63 - 1)


def content(x: Images) -> Numbers:
    """A number for each image, made of its pixels: an image without a name is known by it.

    - x: [B, C, H, W].

    A pixel that differs in the last bit of its float32 value gives another number.
    """
    pixels = (x.detach().float() + 0.0).contiguous().view(torch.int32).flatten(1).long()
    place = torch.arange(pixels.shape[1], device=x.device)
    return _mix(pixels * _GOLDEN + place).sum(1) & (2**63 - 1)


class Draws:
    """The random numbers of one purpose, addressed by (example index, draw, coordinate).

    - purpose: words and numbers, as in `Draws(seed, "attack")`.

    An attack takes other draws than the scoring: `attacked` and `scored` see to it.
    """

    def __init__(self, *purpose):
        self.key = key(*purpose)

    def attacked(self, classifier: nn.Module) -> None:
        """Remember that an attack on a classifier took these draws.

        - classifier: the bare one.
        """
        _attackers.setdefault(classifier, set()).add(self.key)

    def scored(self, classifier: nn.Module) -> None:
        """Warn where these draws have attacked the classifier that they now score.

        - classifier: the bare one.

        An example that was made against the very draws of the scoring looks too strong.
        """
        if self.key in _attackers.get(classifier, ()):
            text = "these draws attacked the classifier before: score with others"
            warnings.warn(f"{text}, as in Draws(seed, 'score')", stacklevel=3)

    def _bits(self, index: Tensor, draw: Tensor, size: int) -> Tensor:
        state = _mix(_mix(index.long() * _GOLDEN + self.key) + draw.long() * _GOLDEN)
        counter = torch.arange(1, size + 1, device=index.device)
        return _mix(state[:, None] + counter * _GOLDEN)

    def uniform(self, index: PairNumbers, draw: PairNumbers, size: int) -> Random:
        """float32 [P, size], uniform in [0, 1).

        - index: example of each pair, int64 [P].
        - draw: draw of each pair, int64 [P].
        - size: numbers per pair.
        """
        return ((self._bits(index, draw, size) >> 40) & (2**24 - 1)).float() * 2.0**-24

    def normal(self, index: PairNumbers, draw: PairNumbers, size: int) -> Random:
        """float32 [P, size], standard normal, by Box and Muller's transform.

        - index, draw, size: as in `uniform`.
        """
        bits = self._bits(index, draw, (size + 1) // 2)
        radius = (((bits >> 40) & (2**24 - 1)).float() + 0.5) * 2.0**-24
        angle = ((bits >> 8) & (2**24 - 1)).float() * (2.0**-24 * 2 * math.pi)
        radius = (-2 * radius.log()).sqrt()
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :size]
