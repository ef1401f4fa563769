"""The committed run: its shipped weights give its predictions again."""

import json

import numpy as np
import pytest
import test_runs
import torch

from milib import inference
from milib.rng import Draws
from milib.study import params, paths
from milib.study import store as store_module
from milib.study.rows import settings_of
from milib.study.study import Study

REFERENCE = paths.project_root() / "outputs" / "reference"
POINTS = 50


def scores(folder) -> list[dict]:
    """The results of the records that 04's rows were scored to."""
    return [
        store_module.read_record(path)["result"] for path in sorted(folder.glob("records/score-*"))
    ]


@pytest.mark.slow
def test_04_from_the_shipped_weights_gives_the_committed_predictions(cifar_root, tmp_path):
    """At least 97 % of them: another processor finds other adversarial examples. The rows have the committed run's parameters."""
    committed = [record for record in scores(REFERENCE / "c10_compact") if len(record["cells"]) > 2]
    assert committed
    rows = [record["row"] for record in committed]
    options = {
        "n_test": POINTS,
        "data_root": cifar_root,
        "rows": json.dumps(rows),
        "match_clean": False,
        "chunk": POINTS,
        "threads": 1,
    }
    done = test_runs.papermill("04_oblivious", "c10_compact", tmp_path, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {
        json.dumps(record["row"], sort_keys=True): record
        for record in scores(tmp_path / "outputs" / "c10_compact")
        if len(record["cells"]) > 2
    }
    equal = []
    for record in committed:
        name = f"{record['row']['model']} + {record['row']['defense']} {settings_of(record['row'])}"
        again = found[json.dumps(record["row"], sort_keys=True)]
        assert again["index"] == record["index"][:POINTS]
        cells = [
            (np.array(cell["predictions"])[:, :POINTS], again["cells"][column]["predictions"])
            for column, cell in record["cells"].items()
        ]
        equal.append(np.concatenate([before == now for before, now in cells]))
        assert equal[-1].mean() >= 0.9, name
    assert np.concatenate(equal).mean() >= 0.97


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: scores in TF32")
def test_tf32_predicts_attacked_images_as_fp32_does(root, tmp_path, monkeypatch):
    """The paper's net from its shipped weights, bare and with MI-OL: records on CUDA are scored in TF32 where attacks are in bf16."""
    run = params.load(root / "params" / "c10.yaml")
    if not (paths.data_root(run.data_root) / "cifar-10-batches-py").is_dir():
        pytest.skip("needs CIFAR-10 in $MILIB_DATA")
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    study = Study(run, "04_oblivious")
    points, mi = study.points(500), study.defense(run.row("mixup", "mi_ol"))
    attacked = study.examples("mixup", "untargeted", 500, (10,))[10]
    found = {}
    for tf32 in (True, False):
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        bare = [
            inference.probabilities(study.model("mixup").scorer, x, run.chunk).argmax(1)
            for x in (points.x, attacked)
        ]
        found[tf32] = torch.cat(
            [*bare, mi.probabilities(attacked, Draws("tf32"), points.index).argmax(1)]
        )
    equal = (found[True] == found[False]).view(3, -1).sum(1).tolist()
    print(
        "of 500 predictions, clean, attacked, attacked with MI-OL, equal in TF32 and fp32:", equal
    )
    assert min(equal) >= 490
