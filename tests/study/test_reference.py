"""The committed run: its shipped weights give its predictions again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from milib import inference
from milib.report.run_folder import RunFolder
from milib.rng import Draws
from milib.study import experiments, params, paths
from milib.study.rows import columns, settings_of
from milib.study.study import Study

REFERENCE = paths.project_root() / "outputs" / "reference"
POINTS = 50


def scores(folder: Path) -> list[dict]:
    """The results that 04's rows were scored to: those with more than the matching's two cells."""
    records = RunFolder(folder).records()
    found = [records[name]["result"] for name in sorted(records) if name.startswith("score-")]
    return [result for result in found if len(result["cells"]) > 2]


@pytest.mark.slow
def test_the_shipped_weights_give_the_committed_predictions(cifar_root, tmp_path, monkeypatch):
    """At least 97 % of them: another processor finds other adversarial examples.

    The rows are scored as 04 scores them, under the committed run's parameters.
    """
    committed = scores(REFERENCE / "c10_compact")
    assert committed
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    small = {"n_test": POINTS, "chunk": POINTS, "threads": 1, "data_root": str(cifar_root)}
    run = params.load(paths.project_root() / "params" / "c10_compact.yaml", small)
    study = Study(run, "04_oblivious")
    equal = []
    for record in committed:
        row, again = record["row"], experiments.score(study, record["row"], columns(run))
        assert again["index"] == record["index"][:POINTS]
        same = []
        for column, cell in record["cells"].items():
            before = np.array(cell["predictions"])[:, :POINTS]
            same.append(before == again["cells"][column]["predictions"])
        equal.append(np.concatenate(same))
        name = f"{row['model']} + {row['defense']} {settings_of(row)}"
        assert equal[-1].mean() >= 0.9, name
    assert np.concatenate(equal).mean() >= 0.97


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: scores in TF32")
def test_tf32_predicts_attacked_images_as_fp32_does(root, tmp_path, monkeypatch):
    """The paper's net from its shipped weights, bare and with MI-OL.

    Records on CUDA are scored in TF32 where attacks are in bf16.
    """
    run = params.load(root / "params" / "c10.yaml")
    if not (paths.data_root(run.data_root) / "cifar-10-batches-py").is_dir():
        pytest.skip("needs CIFAR-10 in $MILIB_DATA")
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    study = Study(run, "04_oblivious")
    points, mi = study.points(500), study.defense(run.row("mixup", "mi_ol"))
    attacked = study.examples("mixup", "untargeted", 500, (10,))[10]
    scorer = study.model("mixup").scorer
    found = {}
    for tf32 in (True, False):
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        predicted = [
            inference.probabilities(scorer, points.x, run.chunk),
            inference.probabilities(scorer, attacked, run.chunk),
            mi.probabilities(attacked, Draws("tf32"), points.index),
        ]
        found[tf32] = torch.stack([each.argmax(1) for each in predicted])
    equal = (found[True] == found[False]).sum(1).tolist()
    print("of 500 predictions equal in TF32 and fp32: clean, attacked, with MI-OL:", equal)
    assert min(equal) >= 490
