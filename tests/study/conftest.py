"""For tests of the study: a run of seconds."""

import signal

import pytest

from milib.study import params


@pytest.fixture(autouse=True)
def handlers():
    """The signal handlers of before: a command that is called here would leave its own."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def run(root) -> params.Params:
    """digits.yaml with trainings of seconds."""
    overrides = {"run": "tests", "epochs": 30, "adversarial_share": 0.2, "chunk": 100, "draws": 6}
    return params.load(root / "params" / "digits.yaml", overrides)
