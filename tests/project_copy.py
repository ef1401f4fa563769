"""A copy of the project with some of its notebooks: its runs are short, and nobody edits it."""

import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, notebooks: tuple[str, ...]) -> None:
    """Copies the project.

    - folder: where it goes; it is made.
    - notebooks: the names of those that it has; of the claims it has theirs.
    """
    for name in ("milib", "params", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "notebooks").mkdir()
    for name in notebooks:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder / "notebooks")
    path = folder / "params" / "claims.yaml"
    claims = yaml.safe_load(path.read_text("utf-8"))
    kept = [claim for claim in claims if claim["notebook"] in notebooks]
    path.write_text(yaml.safe_dump(kept), "utf-8")
