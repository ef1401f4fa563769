"""`make notebooks`: parameters cells from digits.yaml, every notebook run, its outputs stored."""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from milib.study import jobs
from milib.study.notebook import parameters_cell
from milib.study.paths import project_root

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PARAMETERS = {"tags": ["parameters"], "jupyter": {"source_hidden": True}}
"""Of the parameters cell: JupyterLab shows it folded."""


def with_parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its parameters cell as digits.yaml has it and no metadata of a machine.

    - notebook: is changed in place; other cells keep their tags alone.
    """
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.source, cell.metadata = parameters_cell(), nbformat.from_dict(PARAMETERS)
        else:
            cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def execute(path: Path, folder: Path) -> None:
    """Run a notebook as a user would (papermill, no overrides) and store its outputs in it.

    - path: the notebook.
    - folder: where papermill writes meanwhile.

    Raises CalledProcessError where a cell fails.
    """
    nbformat.write(with_parameters(nbformat.read(path, 4)), path)
    out = folder / path.name
    command = [sys.executable, "-m", "papermill", str(path), str(out), "--no-progress-bar"]
    subprocess.run(command, check=True)
    nbformat.write(with_parameters(nbformat.read(out, 4)), path)


def main() -> None:
    """All notebooks, or those named: `python -m milib.study.rerun_notebooks 03_theory`."""
    command = "python -m milib.study.rerun_notebooks"
    parser = argparse.ArgumentParser(prog=command, description=__doc__)
    folder, known = project_root() / "notebooks", jobs.notebooks()
    parser.add_argument(
        "notebooks", nargs="*", metavar="NAME", help=f"by default all: {', '.join(known)}"
    )
    names = parser.parse_args().notebooks
    if wrong := [name for name in names if name not in known]:
        parser.error(f"{wrong[0]} is no notebook; they are {', '.join(known)}")
    notebooks = [folder / f"{name}.ipynb" for name in names or known]
    with tempfile.TemporaryDirectory() as outputs:
        os.environ.setdefault("MILIB_OUTPUTS", outputs)
        with ThreadPoolExecutor(2) as pool:  # who needs a model that the other trains waits for it
            runs = [pool.submit(execute, path, Path(outputs)) for path in sorted(notebooks)]
        for run in runs:
            run.result()


if __name__ == "__main__":
    main()
