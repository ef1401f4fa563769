"""Shared by all tests: one thread, tiny models trained once per session, CIFAR where it is at hand."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

CHECKED = [f"milib.{name}" for name in ("rng", "data", "models", "attacks", "defenses", "theory", "evaluation")]
"""Modules whose annotated shapes are enforced while tests run."""
with install_import_hook(CHECKED, "typechecker.check"):
    for module in CHECKED:
        importlib.import_module(module)

from milib import data, models, params, study, training  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
settings.register_profile("milib", deadline=None, derandomize=True, database=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("milib")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project root."""
    return ROOT


@pytest.fixture(scope="session")
def run() -> params.Params:
    """digits.yaml with trainings of seconds."""
    overrides = {"run": "tests", "epochs": 30, "adversarial_share": 0.2, "chunk": 100, "draws": 6}
    return params.load(ROOT / "params" / "digits.yaml", overrides)


@pytest.fixture(scope="session")
def splits(run) -> data.Splits:
    return study.Study(run, "tests").splits


@pytest.fixture(scope="session")
def pool(splits) -> data.SamplePool:
    return data.SamplePool(splits.train)


@pytest.fixture(scope="session")
def trained(run, splits, tmp_path_factory):
    """trained(name): that model with the session's few epochs of training, unfrozen, in eval mode; made once."""
    made: dict = {}

    def train(name: str) -> models.Classifier:
        if name not in made:
            state = tmp_path_factory.mktemp("training") / name
            settings = training.recipe(run, name)
            weights, _ = training.train(settings, splits, state, epsilon=run.epsilon, precision="fp32", chunk=run.chunk, report=lambda entry: None)
            made[name] = models.build(run.model, run.classes, 1, 0).eval()
            made[name].load_state_dict(weights)
        return made[name]

    return train


@pytest.fixture(scope="session")
def net(trained) -> torch.nn.Module:
    """A mixup-trained digits model, frozen."""
    return models.frozen(trained("mixup"))


@pytest.fixture(scope="session")
def robust(trained) -> torch.nn.Module:
    """A digits model from interpolated adversarial training, frozen."""
    return models.frozen(trained("interpolated_at"))


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """A data root with the official files of CIFAR-10 and CIFAR-100, restored once into $MILIB_TEST_CACHE or the temporary folder."""
    script = ROOT.parent / "shared" / "data" / "unpack_cifar.py"
    if not script.is_file():
        pytest.skip("needs CIFAR: ../shared/data/unpack_cifar.py, which restores its files, is not beside this project")
    cache = Path(os.environ.get("MILIB_TEST_CACHE") or Path(tempfile.gettempdir()) / "milib-test-cache") / "cifar"
    done = subprocess.run([sys.executable, script, cache], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs CIFAR: unpack_cifar.py failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return cache
