"""Mixup Inference (Pang, Xu, Zhu, ICLR 2020) as a library: train, defend, attack.

Pixels are in [0, 1] everywhere outside a model; eps, step sizes and sigma are on that scale. The
study of the paper is `milib.study`, with `milib.views` and `milib.report`; the benchmark is
`milib.bench`.
"""

from milib import register
from milib.adaptive import adaptive_pgd
from milib.attacks import pgd
from milib.audit import audit
from milib.averaging import Defense
from milib.data import Dataset, SamplePool, Splits
from milib.defenses import MICombined, MixupInference
from milib.eot import Setting, attack
from milib.errors import UserError
from milib.inference import frozen
from milib.models import build as build_model
from milib.rng import Draws
from milib.scoring import score
from milib.shipped import load_model
from milib.training import train

__all__ = [
    "Dataset",
    "Defense",
    "Draws",
    "MICombined",
    "MixupInference",
    "SamplePool",
    "Setting",
    "Splits",
    "UserError",
    "adaptive_pgd",
    "attack",
    "audit",
    "build_model",
    "frozen",
    "load_model",
    "pgd",
    "register",
    "score",
    "train",
]
__version__ = "0.1.0"
