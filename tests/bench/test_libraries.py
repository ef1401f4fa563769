"""Attack libraries run unchanged against every defense as a module.

Gradients flow through the defense's draws, which are fresh at every call.
"""

import pytest
import test_defenses
import torch

from milib import attacks, defenses
from milib.bench import peers
from milib.rng import Draws

COMBINED = {"ratio_pl": 0.5, "ratio_ol": 0.4, "threshold": 0.2}
"""Table 4's. At threshold 0 almost every input is flagged, and the choice has no gradient."""
SETTINGS = test_defenses.SETTINGS | {"mi_combined": COMBINED}
LIBRARIES = ("foolbox", "AutoAttack APGD", "ART")
EPSILON, STEP_SIZE, STEPS = 0.1, 0.025, 10

# foolbox imports a name that scipy is about to drop; ART converts arrays of one element.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", defenses.DEFENSES)
def test_a_library_attacks_a_defense_as_it_is(robust, pool, splits, name, library):
    """The examples stay in the ball and fool the defense more than as much noise does."""
    x, y = splits.test.pixels(slice(60)), splits.test.labels[:60]
    defense = defenses.build(name, robust, pool, SETTINGS[name], draws=10, chunk=600)
    found = peers.ATTACKS[library](defense, EPSILON, STEP_SIZE, STEPS)(x, y).detach()
    assert (found - x).abs().max() <= EPSILON + 1e-5 and found.min() >= 0 and found.max() <= 1
    signs = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    noise = (x + EPSILON * signs).clamp(0, 1)

    def accuracy(images: torch.Tensor) -> torch.Tensor:
        guesses = defense.probabilities(images, Draws("libraries")).argmax(1)
        return (guesses == y).float().mean()

    attacked, noisy = accuracy(found), accuracy(noise)
    assert attacked < noisy, f"{name} under {library}: {attacked:.2f}, under noise {noisy:.2f}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_agree_with_milib_on_the_bare_model(robust, splits, library):
    """Exact for those that take the same steps; APGD chooses its own, and is at most as weak."""
    x, y = splits.test.pixels(slice(200)), splits.test.labels[:200]
    ours = attacks.pgd(robust, x, y, epsilon=EPSILON, step_size=STEP_SIZE, steps=[STEPS])[:, 0]
    attack = peers.ATTACKS[library](defenses.Undefended(robust), EPSILON, STEP_SIZE, STEPS)
    theirs = attack(x, y).detach()
    guesses = [robust(images).argmax(1) for images in (ours, theirs)]
    if library != "AutoAttack APGD":
        assert (guesses[0] == guesses[1]).float().mean() >= 0.99
    assert (guesses[1] == y).float().mean() <= (guesses[0] == y).float().mean() + 0.01


@pytest.mark.parametrize("name", ["gaussian_noise", "mi_pl", "mi_ol", "guo"])
def test_autoattack_tells_what_its_examples_do_to_a_frozen_defense(robust, pool, splits, name):
    """It attacks what is still right, in smaller and smaller batches: no image's draws may move."""
    from pyautoattack import AutoAttack

    x, y = splits.test.pixels(slice(60)), splits.test.labels[:60]
    defense = defenses.build(name, robust, pool, SETTINGS[name], draws=3).frozen(Draws(0))
    options = {"eps": EPSILON / 3, "norm": "Linf", "device": "cpu", "version": "custom"}
    attack = AutoAttack(defense, attacks=["apgd-ce"], **options)
    examples = attack.run_standard_evaluation(x, y, batch_size=25)[0]
    unmoved = (examples == x).flatten(1).all(1)
    told = unmoved & (defense(x).argmax(1) == y)
    assert torch.equal(told, defense(examples).argmax(1) == y)
    assert 0 < told.float().mean() < 1
