"""`make notebooks`: rewrite the parameters cells from digits.yaml, run every notebook from top to bottom, store the outputs."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from milib.study.notebook import parameters_cell
from milib.study.paths import project_root

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def with_parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its parameters cell as digits.yaml says, and no metadata that differs between machines."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if "parameters" in tags:
            cell.source = parameters_cell()
    notebook.metadata = METADATA
    return notebook


def execute(path: Path, folder: Path) -> None:
    """Run one notebook as a user would (papermill, no overrides) and store what it printed."""
    nbformat.write(with_parameters(nbformat.read(path, 4)), path)
    out = folder / path.name
    subprocess.run(
        [sys.executable, "-m", "papermill", str(path), str(out), "--no-progress-bar"], check=True
    )
    nbformat.write(with_parameters(nbformat.read(out, 4)), path)


def main() -> None:
    """All notebooks, or those named: `python -m milib.study.rerun_notebooks 03_theory`."""
    names = sys.argv[1:] or ["*"]
    notebooks = sorted(
        path for name in names for path in (project_root() / "notebooks").glob(f"{name}.ipynb")
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MILIB_OUTPUTS", folder)
        with ThreadPoolExecutor(2) as pool:  # who needs a model that the other trains waits for it
            list(pool.map(lambda path: execute(path, Path(folder)), notebooks))


if __name__ == "__main__":
    main()
