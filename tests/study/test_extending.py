"""A defense, an adaptive attack and a data set of one's own: each is added in the one place that the README names, and runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import test_runs
import yaml

from milib.study import paths
from milib.study import store as store_module

ROOT = paths.project_root()
DEFENSE = '''
class Quantised(Defense):
    """Pixels rounded to `levels` of them, after noise of half a level: a row of 04, and a family of 06."""

    def __init__(self, classifier: nn.Module, levels: float, **options):
        super().__init__(classifier, **options)
        self.levels = levels

    def transform(self, x: PairImages, predicted: PairNumbers | None, index: PairNumbers, draw: PairNumbers, draws: Draws) -> PairImages:
        noise = draws.uniform(index, draw, x[0].numel()).view_as(x) - 0.5
        return x + ((x * self.levels + noise).round() / self.levels - x).detach()


'''
DEFENSE_LINE = '    "quantised": Kind("Quantised", "#666666", {"levels": Limits(1, 255)}, _poolless(Quantised)),\n'
ATTACK_LINE = '    "margin": lambda logits, label: -logits.gather(1, label[:, None]).sum(),\n'
DATA = '''
def _stripes(_root: Path, classes: int) -> tuple[tuple, tuple, int]:
    """Images of stripes, as many as the class says, in noise."""
    draw, both = rng.generator("stripes"), []
    for count in (400, 100):
        labels = np.arange(count) % classes
        wave = np.sin(2 * np.pi * (1 + labels)[:, None, None, None] * np.arange(32)[None, None, None, :] / 32)
        both.append(((127 + 60 * wave + draw.normal(0, 20, (count, 3, 32, 32))).clip(0, 255).astype(np.uint8), labels))
    return both[0], both[1], 255


'''
DATA_LINE = '    "stripes": Source("The data are stripes.", _stripes),\n'


def insert(path, *additions: tuple[str, str]) -> None:
    """Each text before the first place where its mark begins."""
    text = path.read_text()
    for mark, addition in additions:
        assert text.count(mark) == 1
        text = text.replace(mark, addition + mark)
    path.write_text(text)


@pytest.mark.slow
def test_each_is_added_in_one_place(tmp_path):
    for folder in ("milib", "params", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    insert(
        tmp_path / "milib" / "defenses.py",
        ("@dataclass(frozen=True)\nclass Kind", DEFENSE),
        ('    "mi_pl": Kind(', DEFENSE_LINE),
    )
    insert(tmp_path / "milib" / "attacks.py", ('    "mean_ce": lambda', ATTACK_LINE))
    insert(
        tmp_path / "milib" / "data.py",
        ("@dataclass(frozen=True)\nclass Source", DATA),
        ('    "cifar10": Source(', DATA_LINE),
    )
    run = yaml.safe_load((ROOT / "params" / "digits.yaml").read_text()) | {
        "run": "mine",
        "data": "stripes",
        "classes": 5,
        "extra_models": False,
    }
    run |= {
        key: yaml.safe_load(value) if isinstance(value, str) else value
        for key, value in test_runs.TINY.items()
        if key != "data"
    }
    run["rows"].append({"model": "mixup", "defense": "quantised", "levels": 8})
    run["grids"]["quantised"] = [4, 16]
    (tmp_path / "params" / "mine.yaml").write_text(yaml.safe_dump(run))
    environment = os.environ | {
        "MILIB_OUTPUTS": str(tmp_path / "outputs"),
        "PYTHONPATH": str(tmp_path),
    }
    for notebook in ("04_oblivious", "06_tradeoff", "07_adaptive_attacks"):
        command = [
            sys.executable,
            "-m",
            "papermill",
            f"notebooks/{notebook}.ipynb",
            f"{notebook}.ipynb",
            "-f",
            "params/mine.yaml",
            "--no-progress-bar",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "outputs" / "mine"
    records = {
        path.name.rsplit("-", 1)[0]: store_module.read_record(path)
        for path in folder.glob("records/*.json")
    }
    assert records["score-mixup-quantised"]["result"]["row"]["levels"] in (
        4.0,
        16.0,
    )  # matched on held-out images
    assert [
        point["levels"] for point in records["tradeoff-mixup-quantised"]["result"]["settings"]
    ] == [4.0, 16.0]
    assert {"adaptive-mixup-margin-1", "adaptive-interpolated_at-margin-2"} <= set(records)
    assert records["score-mixup-quantised"]["identity"]["data"] == "stripes"
    caption = json.loads((folder / "figures" / "fig4.json").read_text())["models"]
    assert "mixup: small net, 1 epochs" in caption
    assert "margin" in (folder / "tables" / "adaptive.csv").read_text().splitlines()[0]
