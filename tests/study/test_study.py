"""The study object: what it refuses in one line, keeps, and how rows and attacks fit together."""

import contextlib
import dataclasses

import pytest
import torch

from milib import adaptive, inference
from milib.errors import UserError
from milib.study import alternatives, estimate, experiments, params, paths, progress
from milib.study.experiments import matching
from milib.study.experiments.common import draws_of
from milib.study.rows import PRIMARY, columns, table_rows
from milib.study.study import Study

DIGITS = paths.project_root() / "params" / "digits.yaml"
MI = {"mi_pl": [0.5], "mi_ol": [0.5]}
TINY = {
    "n_test": 12,
    "n_theory": 6,
    "n_adaptive": 4,
    "epochs": 1,
    "adversarial_share": 1,
    "train_steps": 1,
    "draws": 3,
    "draw_sets": 2,
    "steps": [10],
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A study with one-epoch models in a folder of its own."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(tmp_path))
    return lambda **overrides: Study(params.load(DIGITS, TINY | overrides), "test")


def test_device_and_precision_are_refused_in_one_line(tiny, monkeypatch):
    with pytest.raises(UserError, match="device is 'tpu'"):
        tiny(device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA here: use -p device cpu"):
        tiny(device="cuda")
    assert tiny(device="cpu").precision == "fp32"


def test_a_cpu_without_bf16_reads_what_was_attacked_with_it_and_neither_attacks_nor_trains(
    tiny, monkeypatch
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    study = tiny(device="cpu", precision="bf16")
    with pytest.raises(UserError, match="no bf16 instructions"):
        study.require("erm")
    model = dataclasses.replace(tiny(device="cpu").model("erm"), precision="bf16")
    predicted = model.scorer(study.points(2).x)  # what needs no attack goes on
    assert torch.equal(predicted, tiny(device="cpu").model("erm").scorer(study.points(2).x))
    with pytest.raises(UserError, match="no bf16 instructions"):
        _ = model.attacker


def test_a_cpu_does_not_train_for_hours_unasked(tiny, monkeypatch):
    monkeypatch.setattr(estimate, "timed_seconds", lambda *_: 7200.0)
    with pytest.raises(UserError) as caught:
        tiny(epochs=5).require("erm", "mixup")
    line = str(caught.value)
    assert "\n" not in line
    for words in ("'digits'", "erm, mixup", "about 4.0 h", "-p max_hours 5"):
        assert words in line
    asked = tiny(epochs=5, max_hours=5)
    monkeypatch.setattr(asked.models, "get", lambda name: name)
    asked.require("erm", "mixup")


def test_models_are_trained_once(tiny):
    first = tiny().model("erm")
    again = tiny()
    assert again.model("erm").weights == first.weights and again.model("erm").log == first.log
    assert [event["cached"] for event in again.store.events] == [True]
    assert tiny(seed=1).model("erm").weights != first.weights


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 7}, {"n_train": 300}, {"steps": [50]}])
def test_a_varied_study_shares_models_that_are_its_own_or_is_refused(tiny, change):
    study = tiny()
    assert study.varied(pool="test", draws=2).model("mixup") is study.model("mixup")
    with pytest.raises(UserError, match=next(iter(change))) as error:
        study.varied(**change)
    assert "\n" not in str(error.value)


def test_pgd10_alone_is_the_snapshot_of_the_long_run(tiny):
    run = tiny(steps=[10, 20])
    short = run.examples("erm", "untargeted", 12, (10,))
    long = run.examples("erm", "untargeted", 12, (10, 20))
    assert torch.equal(short[10], long[10]) and not torch.equal(long[10], long[20])


def test_pool_as_published_is_the_test_set(tiny):
    assert len(tiny().pool.data) == len(tiny().splits.train)
    assert len(tiny(pool="test").pool.data) == len(tiny().splits.test)


def test_attack_label_as_published_is_the_prediction(tiny):
    run = tiny()
    by_label = run.examples("erm", "untargeted", 12, (10,))[10]
    guess = run.base("erm", "clean", 12).argmax(1)
    by_guess = tiny(attack_label="prediction").examples("erm", "untargeted", 12, (10,))[10]
    same = (by_label == by_guess).flatten(1).all(1)
    assert torch.equal(same, guess == run.points(12).y)


def test_a_row_is_scored_with_all_its_draw_sets(tiny):
    run = tiny()
    row = {"model": "erm", "defense": "gaussian_noise", "sigma": 0.2}
    cells = experiments.score(run, row, columns(run.params))["cells"]
    sets = {name: len(cell["predictions"]) for name, cell in cells.items()}
    assert sets == {"clean": 2, "untargeted_pgd10": 2, "targeted_pgd10": 2}
    for cell in cells.values():
        assert [len(values) for values in cell["probability"]] == [12, 12]


def test_rows_are_matched_on_heldout_clean_accuracy(tiny):
    """The chosen value is the nearest of the grid, found here from the accuracies themselves."""
    run = tiny(grids=MI | {"gaussian_noise": [0.0, 0.3, 0.9]})
    noise = [row for row in run.params.rows if row["defense"] == "gaussian_noise"]
    entry = experiments.matched_row(run, noise[0])
    model, distance = entry["row"]["model"], {}
    target = experiments.heldout_clean(run, run.params.row(model, "mi_ol"))
    for sigma in (0.0, 0.3, 0.9):
        row = {"model": model, "defense": "gaussian_noise", "sigma": sigma}
        distance[sigma] = abs(experiments.heldout_clean(run, row) - target)
    assert distance[entry["row"]["sigma"]] == min(distance.values()) and entry["target"] == target


def test_of_values_as_near_the_last_is_taken(tiny, monkeypatch):
    """0.3 and 0.9 lie as far from the target, 0.5, on either side."""
    run = tiny(grids=MI | {"gaussian_noise": [0.0, 0.3, 0.9]})
    accuracy = {None: 0.5, 0.0: 0.8, 0.3: 0.6, 0.9: 0.4}
    monkeypatch.setattr(matching, "heldout_clean", lambda _, row: accuracy[row.get("sigma")])
    noise = [row for row in run.params.rows if row["defense"] == "gaussian_noise"]
    found = experiments.matched_row(run, noise[0])
    assert (found["row"]["sigma"], found["target"], found["heldout"]) == (0.9, 0.5, 0.4)


def test_combined_in_the_tradeoff_equals_combined_in_the_table(tiny):
    """06 has one MI-PL and one MI-OL for all thresholds; each point is what the defense gives."""
    run = tiny(grids=MI | {"mi_combined": [0.0, 0.1]})
    row = run.params.row("mixup", "mi_combined")
    swept = experiments.tradeoff(run, row)
    points, draws = run.points(12), draws_of(run, "tradeoff")
    for threshold, cell in zip((0.0, 0.1), swept["cells"], strict=True):
        defense = run.defense(row | {"threshold": threshold})
        alone = defense.probabilities(points.x, draws, points.index)
        assert cell["clean"]["predictions"] == [alone.argmax(1).tolist()]


def test_an_adaptive_attack_runs_in_the_runs_precision_and_scores_are_fp32(tiny):
    run = tiny()
    row, model = run.params.row("mixup", "mi_ol"), run.model("mixup")
    assert run.defense(row).classifier is model.scorer
    assert run.defense(row, attacked=True).classifier is model.attacker


def test_adaptive_examples_do_not_depend_on_the_chunk(tiny):
    """Blocks of images are attacked one after the other; a smaller chunk changes rounding only."""
    found = [
        experiments.adaptive_examples(tiny(chunk=chunk), "mixup", "eq24", 2, 0.1, 4)
        for chunk in (4, 3)
    ]
    assert ((found[0] - found[1]).abs() < 1e-5).float().mean() > 0.95


def scored(run: Study) -> list:
    """The table's rows of the mixup-trained model."""
    rows = [row for row in run.params.rows if row["model"] == "mixup"]
    entries = [experiments.matched_row(run, row) for row in rows]
    which = columns(run.params)
    records = [experiments.score(run, entry["row"], which) for entry in entries]
    return table_rows(run.params, entries, records)


def test_protocol_choices_are_made_one_at_a_time_and_the_codes_together(tiny):
    """Each other record is that of a study that differs in this choice, or in the code's two."""
    run = tiny(match_clean=False)
    pool = tiny(match_clean=False, pool="test")
    label = tiny(match_clean=False, attack_label="prediction")
    code = tiny(match_clean=False, pool="test", attack_label="prediction")
    table = scored(run)
    found = {(choice.what, choice.row): choice for choice in alternatives.choices(run, table)}
    assert len(found) == 12 and all(row.startswith("Mixup") for _, row in found)
    both, attacked = ["clean", PRIMARY], [PRIMARY]
    noise, guo = "Mixup + Gaussian noise", "Mixup + Guo et al. (2018)"
    for what, name, other, change, which in (
        ("test images as sample pool", "Mixup + MI-OL", pool, {}, both),
        ("the prediction is attacked", "Mixup", label, {}, attacked),
        ("pool and label as the authors' code", "Mixup + MI-OL", code, {}, both),
        ("sigma read on [0, 1]", f"{noise} (sigma 0.2)", run, {"sigma": 0.4}, both),
        ("without 8-bit images", guo, run, {"eight_bit": False}, both),
    ):
        [row] = [row for row in table if row.name == name.removesuffix(" (sigma 0.2)")]
        choice = found[what, name]
        assert choice.other == experiments.score(other, row.settings | change, which)
        for column in which:
            assert choice.here["cells"][column] == row.record["cells"][column]


def test_sigma_is_read_otherwise_where_the_row_was_matched_too(tiny):
    """The file's sigma and its double, whatever the matched row has."""
    run = tiny(grids=MI | {"gaussian_noise": [0.9]})
    table = scored(run)
    found = alternatives.choices(run, table)
    [choice] = [choice for choice in found if choice.what.startswith("sigma")]
    assert [record["row"]["sigma"] for record in (choice.here, choice.other)] == [0.2, 0.4]
    [noise] = [row for row in table if row.defense == "gaussian_noise"]
    assert noise.settings["sigma"] == 0.9


def test_bare_models_are_measured_on_ten_times_as_many_images(tiny):
    run = tiny(n_test=5)
    record = experiments.bare(run, "erm")
    assert record["index"] == run.points(50).index.tolist()
    few = experiments.score(run, {"model": "erm", "defense": "none"}, columns(run.params))
    assert set(record["cells"]) == {"clean", PRIMARY}
    for column, cell in record["cells"].items():
        assert cell["predictions"][0][:5] == few["cells"][column]["predictions"][0]


def test_what_is_announced_is_what_runs(tiny, monkeypatch):
    """The images of each stage against those that pass through a net in it.

    MI-Combined needs no MI-OL for what passes as clean.
    """
    stages: list[list] = []
    counted: dict[str, tuple[float, float]] = {}

    @contextlib.contextmanager
    def stage(what, total, seconds, unit="images", done=0):
        stages.append([unit, 0])
        yield
        counted[what] = total, stages.pop()[1]

    def tick(count, unit="images"):
        if stages and stages[-1][0] == unit:
            stages[-1][1] += count

    monkeypatch.setattr(progress, "stage", stage)
    monkeypatch.setattr(progress, "tick", tick)
    monkeypatch.setattr(inference, "observers", [tick])
    run = tiny(chunk=5, draws=10)
    experiments.linearity(run, "erm")
    experiments.mixed_predictions(run, "mixup", "ol", 0.5)
    for mode in ("pl", "ol"):
        experiments.monte_carlo(run, "mixup", mode, 0.5, [1, 3], sets=2, n=3)
    for row in run.params.rows[:11]:
        experiments.score(run, row, columns(run.params))
        experiments.heldout_clean(run, row)
    experiments.detection(run, "mixup")
    for row in experiments.families(run, "mixup"):
        experiments.tradeoff(run, row)
    for variant in adaptive.ADAPTIVE:
        experiments.adaptive(run, "mixup", variant, 2)
    experiments.adaptive(run, "mixup", "none", 0)
    assert len(counted) > 30
    for what, (total, ticks) in counted.items():
        least = 0.45 if "combined" in what else 0.75
        told = f"{what}: {total} announced, {ticks} ran"
        assert least * total <= ticks <= 1.15 * total, told


def test_a_training_that_diverges_ends_in_one_line_and_keeps_nothing(tiny, tmp_path):
    wild = {"lr": 100, "momentum": 0.99, "schedule": "step", "weight_decay": 1, "n_train": 300}
    study = tiny(epochs=3, n_test=20, draws=3, **wild)
    with pytest.raises(UserError, match=r"mixup: .* not finite .* lower lr \(now 100\)"):
        study.require("mixup")
    assert study.models.find("mixup") is None
    for kind in ("checkpoints", "records", "state"):
        assert list(tmp_path.glob(f"**/{kind}/*.*")) == []
