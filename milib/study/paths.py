"""Where things lie: the project, its outputs, its data."""

import os
import re
from pathlib import Path

from milib.checks import shown
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


def run_name(given: object) -> str:
    """The name of a run, which is the name of its folder.

    - given: what was written; YAML reads 2024 as a number.

    Raises UserError for what is no such name, and for that of the curated runs.
    """
    name = str(given) if type(given) in (int, float) else given
    allowed = re.compile(r"(?!reference$)\w[\w.-]{0,99}", re.ASCII | re.IGNORECASE)
    if isinstance(name, str) and allowed.fullmatch(name):
        return name
    raise UserError(
        f"run is {shown(given)}: write a name of letters, digits, '_', '-' and '.', "
        "of at most 100 characters, that begins with neither '-' nor '.' and is not 'reference'"
    )


def parameter_file(run: str) -> Path:
    """The file in params/ that describes a run, there or not.

    - run: its name.

    Raises UserError where that is no name of a run.
    """
    return project_root() / "params" / f"{run_name(run)}.yaml"


def _folder(what: str, given: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise UserError(f"{what} is {shown(given)}: '~' names no home folder here") from None


def outputs_root() -> Path:
    """Where runs write: $MILIB_OUTPUTS, else outputs/ at the project root.

    Raises UserError where "~" in it has no meaning.
    """
    given = os.environ.get("MILIB_OUTPUTS")
    return _folder("$MILIB_OUTPUTS", given) if given else project_root() / "outputs"


def reference_root() -> Path:
    """Where the curated runs lie: outputs/reference at the project root."""
    return project_root() / "outputs" / "reference"


def data_root(given: str = "") -> Path:
    """Where the CIFAR files lie.

    - given: the folder; by default $MILIB_DATA, else ./data at the project root.

    Raises UserError where "~" in it has no meaning.
    """
    if given:
        return _folder("data_root", given)
    shared = os.environ.get("MILIB_DATA")
    return _folder("$MILIB_DATA", shared) if shared else project_root() / "data"


def runs() -> list[str]:
    """The names of the parameter files; claims.yaml beside them is none."""
    found = (path.stem for path in (project_root() / "params").glob("*.yaml"))
    return sorted(name for name in found if name != "claims")
