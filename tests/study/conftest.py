"""For tests of the study: a run of seconds."""

import pytest

from milib.study import params


@pytest.fixture(scope="session")
def run(root) -> params.Params:
    """digits.yaml with trainings of seconds."""
    overrides = {"run": "tests", "epochs": 30, "adversarial_share": 0.2, "chunk": 100, "draws": 6}
    return params.load(root / "params" / "digits.yaml", overrides)
