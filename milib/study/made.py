"""What a record notes of how it was made: commit, versions, machine, time, rules."""

import contextlib
import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from milib.errors import UserError
from milib.study.identity import PACKAGE
from milib.study.paths import project_root
from milib.study.rules import rules_digest


@functools.cache
def commit() -> str | None:
    """The short commit of the project that runs; None where it has none of its own.

    "ddc2502, changed" where milib, params or notebooks are not as that commit has them. Raises
    UserError where code is one copy's of the project, and parameters and notebooks another's.
    """
    root, own = project_root(), PACKAGE.parent
    if own != root:
        if (own / "params" / "digits.yaml").is_file():
            raise UserError(
                f"milib of {own} runs on parameters and notebooks of {root}: "
                f"work in {own}, or call the Python of {root}"
            )
        return None  # installed as a package: what commit it had, nothing tells
    known = _git(root, "rev-parse", "--show-toplevel", "--short", "HEAD").splitlines()
    if len(known) != 2 or not os.path.samefile(os.fsdecode(known[0]), root):
        return None  # no repository, or another project's around this one
    changed = _git(root, "status", "--porcelain", "--", "milib", "params", "notebooks")
    return known[1].decode() + (", changed" if changed else "")


def _git(folder: Path, *words: str) -> bytes:
    """What git prints in a folder; nothing where it fails or is not there."""
    # a hook's own variables would name its repository
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["git", *words], cwd=folder, env=environment, capture_output=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
    return b""


def provenance(device: torch.device) -> dict:
    """What a record notes beside its identity: commit, versions, machine, threads, time, rules.

    - device: what it is computed on.
    """
    machine = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {
        "commit": commit(),
        "versions": versions | {"numpy": np.__version__},
        "machine": machine,
        "threads": torch.get_num_threads(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "claims": rules_digest(),
    }
