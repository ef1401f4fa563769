"""The study object: what it refuses in one line, what it keeps, and how rows and attacks fit together."""

import contextlib
import json
import re

import pytest
import torch

from milib import attacks, training
from milib.errors import UserError
from milib.study import alternatives, experiments, params, paths, progress
from milib.study import rows as rows_module
from milib.study.rows import correct
from milib.study.study import Study
from milib.views import provenance, tables

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
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(UserError, match="no bf16 instructions"):
        tiny(device="cpu", precision="bf16")
    assert tiny(device="cpu").precision == "fp32"


def test_a_cpu_does_not_train_for_hours_unasked(tiny, monkeypatch):
    monkeypatch.setattr(training, "estimate_seconds", lambda *_: 7200.0)
    with pytest.raises(UserError) as caught:
        tiny(epochs=5).require("erm", "mixup")
    line = str(caught.value)
    assert (
        "\n" not in line
        and "'digits'" in line
        and "erm, mixup" in line
        and "about 4.0 h" in line
        and "-p max_hours 5" in line
    )
    asked = tiny(epochs=5, max_hours=5)
    monkeypatch.setattr(asked, "model", lambda name: name)
    asked.require("erm", "mixup")


def test_models_are_trained_once(tiny):
    first = tiny().model("erm")
    again = tiny()
    assert again.model("erm").weights == first.weights and again.model("erm").log == first.log
    assert [event["cached"] for event in again.store.events] == [True]
    assert tiny(seed=1).model("erm").weights != first.weights


def test_pgd10_alone_is_the_snapshot_of_the_long_run(tiny):
    run = tiny(steps=[10, 20])
    short, long = (
        run.examples("erm", "untargeted", 12, (10,)),
        run.examples("erm", "untargeted", 12, (10, 20)),
    )
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
    record = experiments.score(run, row, rows_module.columns(run))
    assert {name: len(cell["predictions"]) for name, cell in record["cells"].items()} == {
        "clean": 2,
        "untargeted_pgd10": 2,
        "targeted_pgd10": 2,
    }
    assert all(
        len(values) == 12 for cell in record["cells"].values() for values in cell["probability"]
    )


def test_rows_are_matched_on_heldout_clean_accuracy(tiny):
    """The chosen value is the nearest of the grid, recomputed here from the accuracies themselves."""
    run = tiny(grids=MI | {"gaussian_noise": [0.0, 0.3, 0.9]})
    entry = experiments.matched_row(
        run, next(row for row in run.params.rows if row["defense"] == "gaussian_noise")
    )
    model = entry["row"]["model"]
    target = experiments.heldout_clean(run, run.params.row(model, "mi_ol"))
    distance = {
        s: abs(
            experiments.heldout_clean(
                run, {"model": model, "defense": "gaussian_noise", "sigma": s}
            )
            - target
        )
        for s in (0.0, 0.3, 0.9)
    }
    assert distance[entry["row"]["sigma"]] == min(distance.values()) and entry["target"] == target


def test_combined_in_the_tradeoff_equals_combined_in_the_table(tiny):
    """06 reuses one MI-PL and one MI-OL for all thresholds; each point must be what the defense itself gives."""
    run = tiny(grids=MI | {"mi_combined": [0.0, 0.1]})
    row = run.params.row("mixup", "mi_combined")
    swept = experiments.tradeoff(run, row)
    points, draws = run.points(12), experiments._draws(run, "tradeoff")
    for threshold, cell in zip((0.0, 0.1), swept["cells"], strict=True):
        alone = run.defense(row | {"threshold": threshold}).probabilities(
            points.x, draws, points.index
        )
        assert cell["clean"]["predictions"] == [alone.argmax(1).tolist()]


def test_an_adaptive_attack_runs_in_the_runs_precision_and_scores_are_fp32(tiny):
    run = tiny()
    row = run.params.row("mixup", "mi_ol")
    assert (
        run.defense(row).classifier is run.model("mixup").scorer
        and run.defense(row, attacked=True).classifier is run.model("mixup").attacker
    )


def test_adaptive_examples_do_not_depend_on_the_chunk(tiny):
    """Blocks of images are attacked one after the other; a smaller chunk changes rounding only."""
    found = [
        experiments.adaptive_examples(tiny(chunk=chunk), "mixup", "eq24", 2, 0.1, 4)
        for chunk in (4, 3)
    ]
    assert ((found[0] - found[1]).abs() < 1e-5).float().mean() > 0.95


def test_protocol_choices_are_made_one_at_a_time_and_the_codes_together(tiny):
    """Each other record is that of a study which differs in this choice alone, or in the code's two; accuracy and difference are read from the two."""
    run = tiny(match_clean=False)
    entries = [
        experiments.matched_row(run, row) for row in run.params.rows if row["model"] == "mixup"
    ]
    table = rows_module.rows(
        run,
        entries,
        [experiments.score(run, entry["row"], rows_module.columns(run)) for entry in entries],
    )
    found = {(choice.what, choice.row): choice for choice in alternatives.choices(run, table)}
    assert len(found) == 12 and all(row.startswith("Mixup") for _, row in found)
    both, attacked = ["clean", rows_module.PRIMARY], [rows_module.PRIMARY]
    noise = "Mixup + Gaussian noise"
    for what, name, other, change, columns in (
        (
            "test images as sample pool",
            "Mixup + MI-OL",
            tiny(match_clean=False, pool="test"),
            {},
            both,
        ),
        (
            "the prediction is attacked",
            "Mixup",
            tiny(match_clean=False, attack_label="prediction"),
            {},
            attacked,
        ),
        (
            "pool and label as the authors' code",
            "Mixup + MI-OL",
            tiny(match_clean=False, pool="test", attack_label="prediction"),
            {},
            both,
        ),
        ("sigma read on [0, 1]", f"{noise} (sigma 0.2)", run, {"sigma": 0.4}, both),
        ("without 8-bit images", "Mixup + Guo et al. (2018)", run, {"eight_bit": False}, both),
    ):
        row = next(row for row in table if row.name == name.removesuffix(" (sigma 0.2)"))
        assert found[what, name].other == experiments.score(other, row.settings | change, columns)
        assert all(
            found[what, name].here["cells"][column] == row.record["cells"][column]
            for column in columns
        )
    frame = tables.alternatives(run.params, list(found.values()))
    assert (
        frame["paper"].to_dict()["the prediction is attacked", "Mixup", rows_module.PRIMARY]
        == "3.6"
    )
    line = frame.loc[("sigma read on [0, 1]", f"{noise} (sigma 0.2)", "clean")]
    other = found["sigma read on [0, 1]", f"{noise} (sigma 0.2)"].other
    accuracy = correct(other["cells"]["clean"], other["labels"]).mean()
    assert line["otherwise"] == f"{100 * accuracy:.1f}"
    assert line["difference, points"].startswith(
        f"{100 * (accuracy - table[1].accuracy('clean').mean()):.1f} ["
    )


def test_sigma_is_read_otherwise_where_the_row_was_matched_too(tiny):
    """The file's sigma and its double, whatever the matched row has; a row of no MI-OL model has nothing to be paired with."""
    run = tiny(grids=MI | {"gaussian_noise": [0.9]})
    entries = [
        experiments.matched_row(run, row) for row in run.params.rows if row["model"] == "mixup"
    ]
    table = rows_module.rows(
        run,
        entries,
        [experiments.score(run, entry["row"], rows_module.columns(run)) for entry in entries],
    )
    choice = next(
        choice for choice in alternatives.choices(run, table) if choice.what.startswith("sigma")
    )
    assert [record["row"]["sigma"] for record in (choice.here, choice.other)] == [0.2, 0.4]
    assert next(row for row in table if row.defense == "gaussian_noise").settings["sigma"] == 0.9
    assert len(tables.paired(table)) == len(table) - 1
    assert tables.paired([row for row in table if row.defense != "mi_ol"]).empty


def test_bare_models_are_measured_on_ten_times_as_many_images(tiny):
    run = tiny(n_test=5)
    record = experiments.bare(run, "erm")
    assert record["index"] == run.points(50).index.tolist()
    few = experiments.score(run, {"model": "erm", "defense": "none"}, rows_module.columns(run))
    for column, cell in record["cells"].items():
        assert cell["predictions"][0][:5] == few["cells"][column]["predictions"][0]
    table = tables.bare({"erm": record})
    assert table.loc["ERM", "test images"] == "50" and re.fullmatch(
        r"[\d.]+ \[.*\]", table.loc["ERM", rows_module.PRIMARY]
    )


def test_captions_say_what_a_model_has_had_and_what_the_papers_had(tiny):
    run = tiny()
    run.require("erm", "at", "manifold_mixup")
    erm, at, manifold, others = provenance.training_note(run).split("; ")
    assert (
        erm == f"erm: small net, {run.params.epochs} epochs (the paper: resnet50 net, 200 epochs)"
    )
    assert at.endswith(
        f"epochs, PGD-{run.params.train_steps} inside (the paper: resnet50 net, 200 epochs, PGD-10 inside)"
    )
    assert manifold == f"manifold_mixup: small net, {run.params.epochs} epochs", (
        "the paper names it and trains none"
    )
    assert others.startswith(
        "training otherwise, the paper's in brackets: schedule onecycle (step), lr 0.1 (0.01), nesterov True (False), "
    )
    assert others.endswith(", 200 training images held out (0)") and "batch_size" not in others, (
        "64 here and there"
    )
    assert provenance.training_note(run.varied(pool="test")) == provenance.training_note(run)
    assert provenance.models_note({}, run.params.paper_table) == ""


def test_the_stronger_attack_is_end_to_end_of_fifty_small_steps_and_has_records_of_its_own(tiny):
    run = tiny()
    both, points = experiments.stronger(run, "mixup"), run.points(4)
    mi, size = run.defense(run.params.row("mixup", "mi_ol"), attacked=True), run.params.epsilon / 16
    options = {
        "variant": "eq24",
        "samples": 15,
        "epsilon": run.params.epsilon,
        "step_size": size,
        "steps": 50,
    }
    x = attacks.adaptive_pgd(
        mi, points.x, points.y, points.index, experiments._draws(run, "adaptive eq24"), **options
    )
    assert (
        both["eq24"]["distance"] == (x - points.x).abs().max().item() <= run.params.epsilon + 1e-6
    )
    assert experiments.adaptive(run, "mixup", "none", 0)["cell"] != both["none"]["cell"], (
        "ten steps are another record"
    )
    names = [path.name for path in run.store.folder.glob("records/adaptive-mixup-none-0-*")]
    assert len(names) == 2
    row = tables.stronger({"mixup": both}).loc["Mixup"]
    right = {
        kind: correct(record["cell"], record["labels"]).mean() for kind, record in both.items()
    }
    assert row["bare"].startswith(f"{100 * right['none']:.1f} [") and row["MI-OL"].startswith(
        f"{100 * right['eq24']:.1f} ["
    )
    assert row["MI-OL minus bare, points"].startswith(
        f"{100 * (right['eq24'] - right['none']):.1f} ["
    )


def test_captions_say_on_how_many_images_within_what_and_with_how_many_draws(tiny):
    run = tiny(epsilon="16/255")
    sets = f", {run.params.draw_sets} draw sets"
    for run.notebook, told in {
        "03_theory": "6",
        "04_oblivious": "12",
        "07_adaptive_attacks": "4",
    }.items():
        expected = f"{told} test images, eps = 16/255, N = 3" + sets * (
            run.notebook == "04_oblivious"
        )
        assert json.loads(provenance.about(run, "a caption"))["settings"] == expected
    run.precision = "bf16"
    assert json.loads(provenance.about(run, "a caption"))["settings"].endswith(
        ", attacks in bf16, scored in fp32"
    )  # a CPU has no TF32
    assert json.loads(provenance.about(run, "a sketch", measured=False))["settings"] == ""
    assert (provenance.fraction(8 / 255), provenance.fraction(0.1)) == ("8/255", "0.1")


def test_what_is_announced_is_what_runs(tiny, monkeypatch):
    """The images of each stage against those that pass through a net in it; MI-Combined needs no MI-OL for what passes as clean."""
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
    run = tiny(chunk=5, draws=10)
    experiments.linearity(run, "erm")
    experiments.mixed_predictions(run, "mixup", "ol", 0.5)
    for mode in ("pl", "ol"):
        experiments.monte_carlo(run, "mixup", mode, 0.5, [1, 3], sets=2, n=3)
    for row in run.params.rows[:11]:
        experiments.score(run, row, rows_module.columns(run))
        experiments.heldout_clean(run, row)
    experiments.detection(run, "mixup")
    for row in experiments.families(run, "mixup"):
        experiments.tradeoff(run, row)
    for variant in attacks.ADAPTIVE:
        experiments.adaptive(run, "mixup", variant, 2)
    experiments.adaptive(run, "mixup", "none", 0)
    experiments.stronger(run, "mixup")
    assert len(counted) > 30
    for what, (total, ticks) in counted.items():
        assert (0.45 if "combined" in what else 0.75) * total <= ticks <= 1.15 * total, (
            f"{what}: {total} announced, {ticks} ran"
        )
