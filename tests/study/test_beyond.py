"""What notebook 08 measures: its variants, their ratios, names of attacks, numbers, records."""

import dataclasses

import numpy as np
import pytest
import torch

from milib import defenses, eot, losses
from milib.audit import measure
from milib.eot import Setting
from milib.rng import Draws
from milib.sampling import log_mean
from milib.study import claims, params, paths
from milib.study.experiments import beyond, heldout_clean, variants
from milib.study.experiments.common import draws_of
from milib.study.experiments.variants import Variant, defense_of
from milib.study.study import Study

DIGITS = paths.project_root() / "params" / "digits.yaml"
AT = "interpolated_at"
TINY = {
    "n_test": 12,
    "n_beyond": 6,
    "n_tuned": 4,
    "n_heldout": 40,
    "epochs": 1,
    "adversarial_share": 1,
    "train_steps": 1,
    "draws": 3,
    "draw_sets": 2,
    "grids": {"mi_pl": [0.5], "mi_ol": [0.0, 0.3, 0.5, 0.7, 1.0]},
}
FAST = Setting(samples=2, steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def tiny(folder, monkeypatch):
    """A study of six images with one-epoch models, which the tests of this file share."""
    monkeypatch.setenv("MILIB_OUTPUTS", str(folder))
    monkeypatch.setattr(eot, "STANDARD", FAST)
    attack = eot.attack  # whose default is the standard of before

    def as_now(*arguments, **options):
        return attack(*arguments, **{"setting": eot.STANDARD} | options)

    monkeypatch.setattr(eot, "attack", as_now)
    return lambda **overrides: Study(params.load(DIGITS, TINY | overrides), "test")


def any_label(pool: str = "train", **more) -> Variant:
    row = {"model": AT, "defense": "mi_any", "ratio": 0.6}
    return Variant("one", row, pool, **more)


def drawn(study: Study, variant: Variant, count: int = 40) -> torch.Tensor:
    """Partners x_s of a variant, for many images, draws and predictions."""
    index = torch.arange(count)
    predicted = index % study.params.classes
    defense = defense_of(study, variant)
    assert isinstance(defense, defenses.MixupInference)
    return defense.partners(predicted, index, index, Draws("partners"))[0]


# Variants


def test_one_image_is_the_only_partner_of_mean_and_black(tiny):
    run = tiny()
    train = run.splits.train
    black = drawn(run, any_label("black"))
    assert black.shape == (40, 1, 8, 8) and not black.any()
    mean = drawn(run, any_label("mean"))
    assert (mean == mean[:1]).all()
    expected = train.images.double().mean(0) / train.peak
    assert (mean[0].double() - expected).abs().max() <= 0.5 / train.peak + 1e-6


def test_a_small_pool_has_ten_training_images_of_each_class(tiny):
    run = tiny()
    variant = any_label("few")._replace(row={"model": AT, "defense": "mi_ol", "ratio": 0.6})
    pool = defense_of(run, variant).pool
    assert pool.sizes.tolist() == [variants.FEW] * 10
    assert len(set(pool.data.index.tolist())) == 100
    train = run.splits.train
    place = {index: row for row, index in enumerate(train.index.tolist())}
    rows = torch.tensor([place[index] for index in pool.data.index.tolist()])
    assert torch.equal(train.images[rows], pool.data.images)
    assert torch.equal(train.labels[rows], pool.data.labels)
    assert len(defense_of(run, any_label()).pool.data) == len(train)


def test_fixed_partners_are_the_same_for_every_image_and_others_are_not(tiny):
    run = tiny()
    points = run.points(6)
    same = points.x[:1].expand(6, -1, -1, -1)
    for frozen in (True, False):
        variant = any_label(draws=variants.FIXED, frozen=frozen)
        defense = defense_of(run, variant)
        assert (defense.fixed is not None) == frozen and defense.draws == variants.FIXED
        first = log_mean(defense, same, points.index, Draws("one"))
        again = log_mean(defense, same, points.index, Draws("two"))
        assert torch.equal(first, again) == frozen
        alike = torch.allclose(first, first[:1].expand_as(first), atol=1e-6)
        assert alike == frozen


def test_any_label_does_not_look_at_the_prediction(tiny):
    run = tiny()
    index = torch.arange(2000)
    found = {}
    for defense in ("mi_any", "mi_ol"):
        variant = any_label()._replace(row={"model": AT, "defense": defense, "ratio": 0.6})
        mixing = defense_of(run, variant)
        labels = []
        for guess in (3, 8):
            predicted = torch.full((2000,), guess)
            labels.append(mixing.partners(predicted, index, index, Draws("partners"))[1])
        found[defense] = labels
    assert torch.equal(*found["mi_any"]) and not torch.equal(*found["mi_ol"])
    counts = torch.bincount(found["mi_any"][0], minlength=10)
    assert (counts - 200).abs().max() < 60
    assert (found["mi_ol"][0] != 3).all() and (found["mi_ol"][1] != 8).all()


def test_controls_differ_from_mi_ol_in_what_their_names_say(tiny, monkeypatch):
    run = tiny()
    monkeypatch.setattr(variants, "at_equal_accuracy", lambda study, variant: variant)
    found = variants.controls(run, AT)
    changed = [
        ("mean image", "mean", 1, False, "mi_any"),
        ("black image", "black", 1, False, "mi_any"),
        ("fixed partners", "train", variants.FIXED, True, "mi_any"),
        ("any label", "train", None, False, "mi_any"),
    ]
    small = ("small pool", "few", None, False, "mi_ol")
    assert [(v.name, v.pool, v.draws, v.frozen, v.row["defense"]) for v in found] == [
        *changed,
        *changed,  # at equal accuracy
        small,
    ]
    assert {v.row["ratio"] for v in found} == {run.params.row(AT, "mi_ol")["ratio"]}


def test_rows_are_those_of_the_table_without_repetitions(tiny):
    run = tiny()
    found = variants.rows(run)
    assert len({str(variant) for variant in found}) == len(found)
    kinds = {(row["model"], row["defense"]) for row in run.params.rows}
    assert {(v.row["model"], v.row["defense"]) for v in found} == kinds
    for model in run.table_models:
        assert variants.mi_ol(run, model) in found


def test_the_net_of_mis_own_ratio_has_the_mixup_nets_row(tiny):
    run = tiny()
    [variant] = variants.matched(run)
    assert variant.row == run.params.row("mixup", "mi_ol") | {"model": "matched_mixup"}
    assert variants.matched(tiny(extra_models=False)) == []


def test_equal_accuracy_is_the_nearest_ratio_on_heldout_images(tiny):
    run = tiny()
    variant = any_label()
    goal = heldout_clean(run, variants.mi_ol(run, AT).row)
    points, distance = run.points(12, "heldout"), {}
    for ratio in run.params.grids["mi_ol"]:
        defense = run.defense(variant.row | {"ratio": ratio})
        found = defense.probabilities(points.x, draws_of(run, "held out"), points.index)
        accuracy = (found.argmax(1) == points.y).double().mean().item()
        distance[ratio] = round(abs(accuracy - goal), 9)
    chosen = variants.at_equal_accuracy(run, variant)
    assert chosen.name == "one, equal accuracy"
    assert chosen._replace(name="one", row=variant.row) == variant
    least = min(distance.values())
    assert chosen.row["ratio"] == max(r for r, off in distance.items() if off == least)


def test_equal_accuracy_of_ratios_as_near_is_the_last(tiny, monkeypatch):
    accuracy = {0.6: 0.5, 0.0: 0.1, 0.3: 0.4, 0.5: 0.9, 0.7: 0.6, 1.0: 0.95}
    monkeypatch.setattr(variants, "_heldout", lambda _, v: accuracy[v.row["ratio"]])
    assert variants.at_equal_accuracy(tiny(), any_label()).row["ratio"] == 0.7


# Attacks


def test_the_sweep_varies_one_thing_at_a_time():
    for what, settings in beyond.sweep().items():
        changed = set()
        for setting in settings.values():
            for field in dataclasses.fields(Setting):
                if getattr(setting, field.name) != getattr(eot.STANDARD, field.name):
                    changed.add(field.name)
        own = {"schedule": {"schedule", "size", "momentum"}}.get(what, {what})
        assert changed == own, what
        assert eot.STANDARD in settings.values(), what


def test_every_setting_of_the_sweep_has_a_name_and_the_standard_one():
    names = {}
    for what, settings in beyond.sweep().items():
        for value, setting in settings.items():
            names.setdefault(beyond.entry_name(what, value), set()).add(setting)
    assert names["standard"] == {eot.STANDARD}
    assert all(len(settings) == 1 for settings in names.values())
    assert beyond.entry_name("loss", "margin") == "standard"
    assert beyond.entry_name("steps", "50") == "steps: 50"


def test_the_standard_takes_one_draw_where_nothing_is_drawn(tiny):
    samples = {}
    for name, variant in {
        "bare": variants.bare(AT),
        "mi": variants.mi_ol(tiny(), AT),
        "one image": any_label("mean", draws=1),
    }.items():
        [entry] = beyond.standard(variant)
        assert entry.name == "standard"
        samples[name] = entry.settings["samples"]
    assert samples == {"bare": 1, "mi": FAST.samples, "one image": 1}


def test_a_variant_is_attacked_as_the_attack_says(tiny):
    """The record against the same attack, made and scored here."""
    run = tiny()
    variant = variants.mi_ol(run, "mixup")
    records = beyond.attacked(run, variant, beyond.standard(variant))
    assert list(records) == ["clean", "standard"]
    defense, points = run.defense(variant.row), run.points(6)
    for record in records.values():
        assert record["index"] == points.index.tolist() and record["labels"] == points.y.tolist()
        assert len(record["predictions"]) == measure.SETS
    epsilon, draws = run.params.epsilon, Draws(run.params.seed, "audit", "attack", "standard")
    right = torch.tensor(measure.accuracy(records["clean"])) > 0  # others are not attacked
    assert right.any()
    chosen = {"epsilon": epsilon, "draws": draws, "index": points.index[right], "setting": FAST}
    x = points.x.clone()
    x[right] = eot.attack(defense, points.x[right], points.y[right], **chosen)
    for number in range(measure.SETS):
        scoring = Draws(run.params.seed, "audit", "score", number)
        predicted = log_mean(defense, x, points.index, scoring).argmax(1)
        assert records["standard"]["predictions"][number] == predicted.tolist()
    assert 0 < records["standard"]["distance"] <= epsilon + 1e-6


def test_a_sweep_is_of_heldout_images(tiny, monkeypatch):
    run = tiny()
    settings = {"loss": {"margin": FAST, "ce": dataclasses.replace(FAST, loss="ce")}}
    monkeypatch.setattr(beyond, "sweep", lambda: settings)
    records = beyond.tuned(run, AT)
    assert list(records) == ["clean", "standard", "loss: ce"]
    for record in records.values():
        assert record["index"] == run.points(4, "heldout").index.tolist()


def test_the_curve_falls_from_clean_accuracy_and_has_the_standard_at_its_radius(tiny):
    run = tiny()
    for variant in (variants.bare(AT), variants.mi_ol(run, AT)):
        curve, epsilon = beyond.curve(run, variant), run.params.epsilon
        records = beyond.attacked(run, variant, beyond.standard(variant))
        np.testing.assert_array_equal(curve[0.0], measure.accuracy(records["clean"]))
        under = measure.worst([records["clean"], records["standard"]])
        np.testing.assert_array_equal(curve[epsilon], under)
        radii = sorted(curve)
        assert max(radii) <= 1 and max(radii) >= 8 * epsilon - 1e-9
        assert len(radii) == 7 and radii == list(curve)
        assert curve[max(radii)].mean() <= curve[0.0].mean()


def test_other_numbers_of_draws_score_the_same_examples(tiny, monkeypatch):
    run = tiny()
    numbers = {"scored": []}
    scored = measure.scored

    def seen(target, examples):
        numbers["scored"].append((target.classifier.draws, examples.clone()))
        return scored(target, examples)

    monkeypatch.setattr(measure, "scored", seen)
    found = beyond.by_number(run, "mixup")
    assert list(found) == [1, 5, 30, 100] == [number for number, _ in numbers["scored"]]
    first = numbers["scored"][0][1]
    points = run.points(6)
    for _, examples in numbers["scored"]:
        assert torch.equal(examples, first)
    assert 0 < (first - points.x).abs().max() <= run.params.epsilon + 1e-6
    for number in (1, 100):  # against a defense with that N, made here
        defense = run.defense(run.params.row("mixup", "mi_ol"), number)
        predicted = log_mean(defense, first, points.index, Draws(0, "audit", "score", 0))
        assert found[number]["predictions"][0] == predicted.argmax(1).tolist()
    assert beyond.by_number(run, "mixup") == found


def test_the_evading_attack_goes_through_both_predictions(tiny):
    """Its examples have a lower margin for the mean of both than those of the bare attack."""
    run = tiny()
    found = beyond.evaded(run, "mixup")
    points, net = run.points(6), run.model("mixup").scorer
    assert found["index"] == points.index.tolist() and found["labels"] == points.y.tolist()
    assert list(found["attacks"]) == list(found["combined"]) == ["clean", "standard", "evading"]
    with torch.no_grad():
        bare = net(points.x).argmax(1).tolist()
    assert found["attacks"]["clean"]["predictions"] == bare
    ratio = run.params.row("mixup", "mi_pl")["ratio"]
    assert found["ratio"] == ratio
    both = defenses.Agreeing(net, run.pool, "pl", ratio, draws=3, chunk=300)
    pl = run.defense({"model": "mixup", "defense": "mi_pl", "ratio": ratio})
    draws = Draws("one")
    expected = log_mean(pl, points.x, points.index, draws).exp() / 2
    expected = expected + log_mean(net, points.x, points.index, draws).exp() / 2
    got = log_mean(both, points.x, points.index, draws).exp()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    options = {"epsilon": 0.1, "draws": Draws(0, "detector", "evading"), "index": points.index}
    x = eot.attack(both, points.x, points.y, **options)
    assert found["attacks"]["evading"]["predictions"] == net(x).argmax(1).tolist()
    before, after = (
        losses.margin(log_mean(both, images, points.index, draws), points.y)
        for images in (points.x, x)
    )
    assert after.mean() > before.mean()


def test_another_radius_is_another_record(tiny):
    """Whatever is measured: no record of one epsilon is read for another."""
    measured = (
        lambda run: beyond.by_number(run, "mixup"),
        lambda run: beyond.evaded(run, "mixup"),
        lambda run: beyond.attacked(
            run, variants.bare("mixup"), beyond.standard(variants.bare("mixup"))
        ),
    )
    for measure_it in measured:
        names = []
        for epsilon in (0.1, 0.3):
            run = tiny(epsilon=epsilon)
            measure_it(run)
            events = [event["name"] for event in run.store.events if event["kind"] == "record"]
            names.append(set(events))
        assert names[0] - names[1] and names[1] - names[0]


def test_records_are_kept(tiny):
    run = tiny()
    variant = variants.mi_ol(run, AT)
    first = beyond.attacked(run, variant, beyond.standard(variant))
    again = tiny()
    assert beyond.attacked(again, variant, beyond.standard(variant)) == first
    assert all(event["cached"] for event in again.store.events if event["kind"] == "record")


# Evidence


def record(right: list[bool], margin: list[float]) -> dict:
    """A record whose draw sets agree: an image is right or not."""
    predictions = [[0 if each else 1 for each in right]] * measure.SETS
    known = {"index": list(range(len(right))), "labels": [0] * len(right), "counts": True}
    missed = [3 * (not each) for each in right]
    return known | {"predictions": predictions, "missed": missed, "margin": margin}


def test_claims_read_the_first_row_under_the_standard_and_audits_under_the_worst_case():
    clean = record([True, True, False], [-1.0, -2.0, 1.0])
    broken = record([False, True, False], [0.5, -1.0, 0.5])
    other = record([True, False, True], [-0.5, 0.2, -0.1])
    row = {"model": AT, "defense": "mi_ol", "ratio": 0.6}
    table = [
        (Variant("row", row), {"clean": clean, "standard": broken}),
        (Variant("row", row | {"ratio": 0.1}), {"clean": clean, "standard": clean}),
    ]
    mean = Variant("mean image", row | {"defense": "mi_any"}, "mean", 1)
    far = broken | {"counts": False}
    audits = [
        (Variant("row", row), {"clean": clean, "standard": broken, "other": other, "eps 2": far}),
        (mean, {"clean": clean, "other": other, "eps 2": far, "base: standard": broken}),
    ]
    found = claims.by_attack(table, audits)
    assert found == {
        (AT, "mi_ol", "standard"): [0, 1, 0],
        (AT, "mi_ol", "worst case"): [0, 0, 0],
        (AT, "mean_image", "worst case"): [1, 0, 0],
    }


def test_a_defense_is_compared_with_all_that_its_bare_model_met(tiny, monkeypatch):
    run = tiny()
    few = [beyond.entry("standard", Setting(samples=2, steps=2))]
    far = beyond.entry("eps 2", Setting(samples=2, steps=2), epsilon=2.0)

    def short(*given):
        return [beyond.CLEAN, *few, far]

    monkeypatch.setattr(beyond, "battery", short)
    bare = beyond.audited(run, variants.bare(AT))
    found = beyond.audited(run, variants.mi_ol(run, AT))
    assert set(bare) == {"clean", "standard", "eps 2"}
    assert set(found) == {*bare, "base: clean", "base: standard"}
    assert found["base: standard"] == bare["standard"]
    assert measure.named_within(found) == ["clean", "standard"]
