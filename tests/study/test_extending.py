"""A defense, an adaptive attack and a data set of one's own.

Each is added in the one place that the README names, and runs.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_runs
import yaml

from milib.study import paths
from milib.study.store import read_record

ROOT = paths.project_root()
DEFENSE = '''
class Quantised(Defense):
    """Pixels rounded to `levels` of them, after noise of half a level."""

    def __init__(self, classifier: nn.Module, levels: float, **options):
        super().__init__(classifier, **options)
        self.levels = levels

    def transform(
        self,
        x: PairImages,
        predicted: PairNumbers | None,
        index: PairNumbers,
        draw: PairNumbers,
        draws: Draws,
    ) -> PairImages:
        noise = draws.uniform(index, draw, x[0].numel()).view_as(x) - 0.5
        rounded = (x * self.levels + noise).round() / self.levels
        return x + (rounded - x).detach()


'''
LEVELS = '{"levels": Limits(1, 255)}'
DEFENSE_LINE = f'    "quantised": Kind("Quantised", {LEVELS}, _poolless(Quantised)),\n'
ATTACK_LINE = '    "squared": lambda log, label: -at(log, label).exp() ** 2,\n'
DATA = '''
def _stripes(_root: Path, classes: int) -> tuple[Part, Part, int]:
    """Images of stripes, as many as the class says, in noise."""
    draw, parts = rng.generator("stripes"), []
    for count in (400, 100):
        labels = np.arange(count) % classes
        angle = 2 * np.pi * np.arange(32) / 32
        waves = np.sin((1 + labels)[:, None] * angle)[:, None, None, :]
        noise = draw.normal(0, 20, (count, 3, 32, 32))
        images = (127 + 60 * waves + noise).clip(0, 255)
        parts.append((images.astype(np.uint8), labels))
    return parts[0], parts[1], 255


'''
DATA_LINE = '    "stripes": _stripes,\n'


def insert(path: Path, mark: str, addition: str) -> None:
    """The addition before the one place where the mark begins."""
    text = path.read_text()
    assert text.count(mark) == 1
    path.write_text(text.replace(mark, addition + mark))


@pytest.mark.slow
def test_each_is_added_in_one_place(tmp_path):
    for folder in ("milib", "params", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    library = tmp_path / "milib"
    insert(library / "defenses.py", "@dataclass(frozen=True)\nclass Kind", DEFENSE)
    insert(library / "defenses.py", '    "mi_pl": Kind(', DEFENSE_LINE)
    insert(library / "losses.py", '    "mean_ce": lambda', ATTACK_LINE)
    insert(library / "data.py", "SOURCES: dict[", DATA)
    insert(library / "data.py", '    "cifar10": ', DATA_LINE)
    run = yaml.safe_load((ROOT / "params" / "digits.yaml").read_text())
    for key, value in test_runs.TINY.items():
        run[key] = yaml.safe_load(value) if isinstance(value, str) else value
    run |= {"run": "mine", "data": "stripes", "classes": 5, "extra_models": False}
    run["rows"].append({"model": "mixup", "defense": "quantised", "levels": 8})
    run["grids"]["quantised"] = [4, 16]
    (tmp_path / "params" / "mine.yaml").write_text(yaml.safe_dump(run))
    outputs = tmp_path / "outputs"
    environment = os.environ | {"MILIB_OUTPUTS": str(outputs), "PYTHONPATH": str(tmp_path)}
    for notebook in ("04_oblivious", "06_tradeoff", "07_adaptive_attacks"):
        command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb", "out.ipynb"]
        command += ["-f", "params/mine.yaml", "--no-progress-bar"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    folder, records = outputs / "mine", {}
    for path in folder.glob("records/*.json"):
        records[path.name.rsplit("-", 1)[0]] = read_record(path)
    scored = records["score-mixup-quantised"]
    assert scored["result"]["row"]["levels"] in (4.0, 16.0)  # matched on held-out images
    settings = records["tradeoff-mixup-quantised"]["result"]["settings"]
    assert [point["levels"] for point in settings] == [4.0, 16.0]
    assert {"adaptive-mixup-squared-1", "adaptive-interpolated_at-squared-2"} <= set(records)
    assert scored["identity"]["data"] == "stripes"
    caption = json.loads((folder / "figures" / "fig4.json").read_text())["models"]
    assert "mixup: small net, 1 epochs" in caption
    assert "squared" in (folder / "tables" / "adaptive.csv").read_text().splitlines()[0]
