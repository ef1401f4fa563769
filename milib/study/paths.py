"""Where things lie: the project, its outputs, its data."""

import os
from pathlib import Path

from milib.errors import UserError


def project_root() -> Path:
    """The project's folder: the first upwards from the caller, else from this file.

    Raises UserError where there is none.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "params" / "digits.yaml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise UserError(
        f"no project above {here}: "
        "run this inside a clone of the study (a folder with params/ and notebooks/)"
    )


def outputs_root() -> Path:
    """Where runs write: $MILIB_OUTPUTS, else outputs/ at the project root."""
    return Path(os.environ.get("MILIB_OUTPUTS") or project_root() / "outputs")


def reference_root() -> Path:
    """Where the curated runs lie: outputs/reference at the project root."""
    return project_root() / "outputs" / "reference"


def data_root(given: str = "") -> Path:
    """Where the CIFAR files lie.

    - given: the folder; by default $MILIB_DATA, else ./data at the project root.
    """
    return Path(given or os.environ.get("MILIB_DATA") or project_root() / "data")


def runs() -> list[str]:
    """The names of the parameter files; claims.yaml beside them is none."""
    found = (path.stem for path in (project_root() / "params").glob("*.yaml"))
    return sorted(name for name in found if name != "claims")
