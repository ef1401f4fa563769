"""Shared by all tests: one thread, tiny models trained once per session, CIFAR where it is at hand.

Only the library is needed here, so that `pytest tests/core` runs without the study's packages.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

CHECKED = [
    f"milib.{name}"
    for name in (
        "rng",
        "data",
        "dataset",
        "models",
        "inference",
        "attacks",
        "losses",
        "adaptive",
        "averaging",
        "sampling",
        "eot",
        "baselines",
        "defenses",
        "scoring",
        "theory",
        "statistics",
    )
]
"""Modules whose annotated shapes are enforced while tests run."""
with install_import_hook(CHECKED, "typechecker.check"):
    for module in CHECKED:
        importlib.import_module(module)

from milib import data, inference, models, training  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
EPSILON, CHUNK = 0.1, 100
"""Of the attacks on digits; images per forward pass."""
settings.register_profile(
    "milib",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("milib")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project root."""
    return ROOT


@pytest.fixture
def as_a_user():
    """The library without the checks of shapes that tests add: what a user's call ends in."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def recipe():
    """recipe(name, **changes): a training of seconds on digits, as `training.train` takes it."""

    def make(name: str, **changes) -> dict:
        found = {"version": training.VERSION, "name": name, "seed": 0, "lr": 0.1}
        found |= {"data": "digits", "classes": 10, "n_train": 0, "n_heldout": 200}
        found |= {"model": "small", "batch_size": 64, "schedule": "onecycle", "epochs": 30}
        found |= {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0005, "augment": "none"}
        if name in training.ADVERSARIAL:
            attack = {"epsilon": EPSILON, "train_steps": 10, "train_step_size": 0.025}
            found |= attack | {"epochs": 6}
        if name == "matched_mixup":
            found["ratio"] = 0.5
        elif name not in ("erm", "at"):
            found["alpha"] = 1.0
        return found | changes

    return make


@pytest.fixture(scope="session")
def splits() -> data.Splits:
    """The digits, 200 of them held out."""
    sizes = {"classes": 10, "n_train": 0, "n_heldout": 200}
    return data.load("digits", **sizes, root=Path(), device=torch.device("cpu"))


@pytest.fixture(scope="session")
def pool(splits) -> data.SamplePool:
    return data.SamplePool(splits.train)


@pytest.fixture(scope="session")
def trained(recipe, splits, tmp_path_factory):
    """trained(name): that model after a training of seconds, unfrozen, in eval mode; made once."""
    made: dict = {}

    def train(name: str) -> models.Classifier:
        if name not in made:
            state = tmp_path_factory.mktemp("training") / name
            options = {"epsilon": EPSILON, "precision": "fp32", "chunk": CHUNK}
            weights, _ = training.train(recipe(name), splits, state, **options)
            made[name] = models.build("small", 10, 1, 0).eval()
            made[name].load_state_dict(weights)
        return made[name]

    return train


@pytest.fixture(scope="session")
def net(trained) -> torch.nn.Module:
    """A mixup-trained digits model, frozen."""
    return inference.frozen(trained("mixup"))


@pytest.fixture(scope="session")
def robust(trained) -> torch.nn.Module:
    """A digits model from interpolated adversarial training, frozen."""
    return inference.frozen(trained("interpolated_at"))


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """A data root with the official files of CIFAR-10 and CIFAR-100, restored once.

    They lie in $MILIB_TEST_CACHE or the temporary folder.
    """
    script = ROOT.parent / "shared" / "data" / "unpack_cifar.py"
    if not script.is_file():
        pytest.skip(
            "needs CIFAR: ../shared/data/unpack_cifar.py, which restores its files, "
            "is not beside this project"
        )
    folder = Path(tempfile.gettempdir()) / "milib-test-cache"
    cache = Path(os.environ.get("MILIB_TEST_CACHE") or folder) / "cifar"
    command = [sys.executable, script, cache]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr or done.stdout).strip().splitlines()[-1]
        pytest.skip(f"needs CIFAR: unpack_cifar.py failed: {why}")
    return cache
