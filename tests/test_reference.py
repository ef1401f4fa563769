"""The committed run: its shipped weights give its predictions again."""

import json

import numpy as np
import pytest
import test_runs

from milib import artifacts, params
from milib.study import settings_of

REFERENCE = params.project_root() / "outputs" / "reference"
POINTS = 50


def scores(folder) -> list[dict]:
    """The results of the records that 04's rows were scored to."""
    return [artifacts.read_record(path)["result"] for path in sorted(folder.glob("records/score-*"))]


@pytest.mark.slow
def test_04_from_the_shipped_weights_gives_the_committed_predictions(cifar_root, tmp_path):
    """At least 97 % of them: another processor finds other adversarial examples. The rows have the committed run's parameters."""
    committed = [record for record in scores(REFERENCE / "c10_compact") if len(record["cells"]) > 2]
    assert committed
    rows = [record["row"] for record in committed]
    options = {"n_test": POINTS, "data_root": cifar_root, "rows": json.dumps(rows), "match_clean": False, "chunk": POINTS, "threads": 1}
    done = test_runs.papermill("04_oblivious", "c10_compact", tmp_path, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {json.dumps(record["row"], sort_keys=True): record for record in scores(tmp_path / "outputs" / "c10_compact") if len(record["cells"]) > 2}
    equal = []
    for record in committed:
        name = f"{record['row']['model']} + {record['row']['defence']} {settings_of(record['row'])}"
        again = found[json.dumps(record["row"], sort_keys=True)]
        assert again["index"] == record["index"][:POINTS]
        cells = [(np.array(cell["predictions"])[:, :POINTS], again["cells"][column]["predictions"]) for column, cell in record["cells"].items()]
        equal.append(np.concatenate([before == now for before, now in cells]))
        assert equal[-1].mean() >= 0.9, name
    assert np.concatenate(equal).mean() >= 0.97
