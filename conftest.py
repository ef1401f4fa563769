"""Every pytest run has its own outputs and no GPU; at the root, so that `--nbval` loads it."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import configuration

OWN = pytest.StashKey[str]()
SANITIZE = Path(__file__).parent / "tests" / "nbval_sanitize.cfg"


def pytest_configure(config: pytest.Config) -> None:
    """Tests, hypothesis, kernels and xdist's workers write into a folder that goes at the end."""
    if not os.environ.get("MILIB_OUTPUTS"):
        config.stash[OWN] = os.environ["MILIB_OUTPUTS"] = tempfile.mkdtemp(prefix="milib-outputs-")
    if hasattr(config.option, "nbval"):  # absent where the library alone is installed
        config.option.nbval_current_env = True
        config.option.nbval_sanitize_with = str(SANITIZE)
    if config.option.markexpr != "gpu":  # stored outputs and expected values are a CPU's
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    configuration.set_hypothesis_home_dir(Path(os.environ["MILIB_OUTPUTS"]) / "hypothesis")


def pytest_unconfigure(config: pytest.Config) -> None:
    if OWN in config.stash:
        shutil.rmtree(config.stash[OWN], ignore_errors=True)
        os.environ.pop("MILIB_OUTPUTS", None)
