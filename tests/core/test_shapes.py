"""Annotated shapes are enforced while tests run: a wrong one raises before it can broadcast."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from milib import attacks, data, defenses, inference, rng, statistics

X, ONE = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
WRONG = {
    "a label too few": lambda net, pool: attacks.pgd(
        net, X, ONE[:3], epsilon=0.1, step_size=0.1, steps=[1]
    ),
    "labels as floats": lambda net, pool: attacks.pgd(
        net, X, ONE.float(), epsilon=0.1, step_size=0.1, steps=[1]
    ),
    "an image without a batch": lambda net, pool: defenses.Undefended(net).base(X[0]),
    "indices of another batch": lambda net, pool: defenses.MixupInference(
        net, pool, "ol", 0.5
    ).each(X, rng.Draws(0), ONE[:2]),
    "images as bytes": lambda net, pool: inference.probabilities(net, X.byte(), 4),
    "a draw too many": lambda net, pool: rng.Draws(0).uniform(ONE, ONE[:3], 2),
    "crops of two numbers": lambda net, pool: data.augment(X, torch.zeros(4, 2)),
    "scores as a matrix": lambda net, pool: statistics.auc(np.zeros((2, 2)), np.zeros((2, 2))),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_shape_or_kind_raises(what, net, pool):
    with pytest.raises(TypeCheckError):
        WRONG[what](net, pool)
