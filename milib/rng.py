"""Random numbers from (seed, purpose, example, draw): counter-based, the same on every device.

No global generator is read or set, and no number depends on batch size, order or what ran before.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from milib.shapes import PairNumbers, Random

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_M1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_M2 = -7723592293110705685  # 0x94D049BB133111EB


def key(*parts) -> int:
    """A signed 64-bit key, as in `key(seed, "mixup", epoch)`.

    - parts: anything with a stable repr.
    """
    hashed = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "little", signed=True)


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


class Draws:
    """The random numbers of one purpose, addressed by (example index, draw, coordinate).

    - purpose: anything with a stable repr, as in `Draws(seed, "attack")`.
    """

    def __init__(self, *purpose):
        self.key = key(*purpose)

    def _bits(self, index: Tensor, draw: Tensor, size: int) -> Tensor:
        state = _mix(_mix(index * _GOLDEN + self.key) + draw * _GOLDEN)
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
