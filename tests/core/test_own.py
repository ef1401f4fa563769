"""A model, data, a defense of one's own: pools of torch's data sets, shipped nets, `register`."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import milib
from milib import (
    Dataset,
    Defense,
    Draws,
    SamplePool,
    Setting,
    UserError,
    adaptive,
    data,
    defenses,
    files,
    inference,
    losses,
    models,
    register,
    shipped,
    training,
)
from milib.defenses import Limits

BYTES = torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
FLOATS, LABELS = BYTES.float() / 255, torch.arange(30) % 3
TABLES = (data.SOURCES, defenses.DEFENSES, losses.OF_DRAWS, losses.OF_MEAN, models.ARCHITECTURES)


class Endless(torch.utils.data.Dataset):
    """Three images; asked for more it gives more, as torch lets a data set do."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return FLOATS[number % 3], number % 3


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(FLOATS, LABELS.tolist(), strict=True)


SOURCES = {
    "bytes": TensorDataset(BYTES, LABELS),
    "floats": TensorDataset(FLOATS, LABELS),
    "half": TensorDataset(FLOATS.half(), LABELS),
    "loader": DataLoader(TensorDataset(FLOATS, LABELS.int()), batch_size=7),
    "stream": Stream(),
    "numpy labels": [(x, np.int64(y)) for x, y in zip(FLOATS, LABELS, strict=True)],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_pool_is_made_of_any_data_set_or_loader(source):
    found, pool = Dataset.of(source), SamplePool.of(source)
    assert (found.images.int() - BYTES.int()).abs().max() <= (source is SOURCES["half"])
    assert torch.equal(found.labels, LABELS)
    assert torch.equal(found.index, torch.arange(30))
    assert (found.classes, found.peak, pool.classes) == (3, 255, 3)
    assert torch.equal(pool.data.index.sort().values, torch.arange(30))


def test_a_data_set_ends_where_its_length_says():
    assert len(Dataset.of(Endless())) == 3


ONE = FLOATS[0]
WRONG = {
    "shuffled": (DataLoader(TensorDataset(FLOATS, LABELS), 7, shuffle=True), "RandomSampler"),
    "empty": ([], "empty"),
    "a number": (3, "source is 3"),
    "not a pair": ([ONE], "pairs"),
    "grey without channels": ([(ONE[0], 1)], "[8, 8]"),
    "a PIL image": ([(object(), 1)], "ToTensor"),
    "a word for a label": ([(ONE, "cat")], "'cat'"),
    "a label below 0": ([(ONE, -1)], "-1"),
    "two sizes": ([(ONE, 0), (ONE[:, :4], 1)], "image 1"),
    "pixels to 255": ([(255 * ONE, 0)], "divide by 255"),
    "labels for another batch": ([(FLOATS, LABELS[:3])], "[30]"),
    "a class without images": ([(ONE, 0), (ONE, 2)], "class 1"),
}


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(("source", "words"), WRONG.values(), ids=WRONG)
def test_another_source_ends_in_one_line(source, words):
    with pytest.raises(UserError) as found:
        SamplePool.of(source)
    assert words in str(found.value)
    assert "\n" not in str(found.value)


# Half precision


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_a_half_precision_net_is_scored_and_attacked_through_a_defense(kind):
    """Near the float32 net with the same weights; what it answers is float32."""
    full = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    pool, found = SamplePool(Dataset(BYTES, LABELS, LABELS, 3, 255)), {}
    options = {"epsilon": 0.1, "draws": Draws("attack"), "setting": Setting(steps=2, samples=2)}
    for dtype in (torch.float32, kind):
        net = full.eval().to(dtype)
        mi = milib.MixupInference(net, pool, "ol", ratio=0.5, draws=2)
        scored = milib.score(mi, [(FLOATS, LABELS)], Draws("score")).probabilities
        examples = milib.attack(mi, FLOATS.to(kind), LABELS, **options)
        assert scored.dtype == examples.dtype == torch.float32
        assert (examples - FLOATS.to(kind).float()).abs().max() <= 0.1 + 1e-6
        found[dtype] = scored
    torch.testing.assert_close(found[kind], found[torch.float32], atol=0.02, rtol=0.05)


# Shipped nets


def test_a_shipped_net_is_loaded_as_it_was_stored(root):
    if not (root / "outputs" / "reference").is_dir():
        pytest.skip("no shipped weights: this is not a clone")
    known = shipped.shipped()
    assert {"c10_compact/mixup", "c10_compact/interpolated_at", "c100_compact/mixup"} <= set(known)
    net = milib.load_model("c100_compact/mixup")
    stored, _ = files.read_tensors(known["c100_compact/mixup"])
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 100)
    assert not net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, stored[name].to(value.dtype))
        assert not value.is_floating_point() or value.dtype == torch.float32


def test_an_unknown_net_or_no_clone_ends_in_one_line(monkeypatch, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(shipped, "REFERENCE", tmp_path)
    with pytest.raises(UserError, match=r"no weights in .*clone"):
        milib.load_model("run/mixup")
    (folder / "mixup-0123456789abcdef.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="'run/mixp': one of run/mixup"):
        milib.load_model("run/mixp")
    with pytest.raises(UserError, match="damaged"):
        milib.load_model("run/mixup")


# What is registered


@pytest.fixture
def tables():
    """The library's tables are put back afterwards."""
    before = [dict(table) for table in TABLES]
    yield
    for table, content in zip(TABLES, before, strict=True):
        table.clear()
        table.update(content)
    register.own.clear()


class Dimmed(Defense):
    def __init__(self, classifier, share, **options):
        super().__init__(classifier, **options)
        self.share = share

    def transform(self, x, predicted, index, draw, draws):
        return self.share * x


def plain(classes, channels):
    layers = (nn.Conv2d(channels, 4, 3, bias=True), nn.BatchNorm2d(4), nn.ReLU())
    return models.Classifier([nn.Sequential(*layers)], 4, classes)


def with_dropout(classes, channels):
    return models.Classifier([nn.Conv2d(channels, 4, 3), nn.Dropout(0.5)], 4, classes)


def squared(log, label):
    return -(losses.at(log, label).exp() ** 2)


def reader(_root, classes):
    part = (np.full((20, 1, 8, 8), 7, np.uint8), np.arange(20) % classes)
    return part, part, 16


@pytest.mark.usefixtures("tables")
def test_a_defense_is_built_by_its_name():
    register.defense("dimmed", Dimmed, {"share": Limits(0, 1)}, title="Dimmed")
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    found = defenses.build("dimmed", net, None, {"share": 0.5}, draws=2)
    assert isinstance(found, Dimmed)
    assert torch.allclose(found(FLOATS), net(FLOATS / 2).log_softmax(1), atol=1e-6)
    assert defenses.DEFENSES["dimmed"].title == "Dimmed"

    def with_pool(classifier, pool, **options):
        return milib.MixupInference(classifier, pool, "ol", 0.5, **options)

    register.defense("dimmed", with_pool, title="Another")  # a later one counts
    pool = SamplePool.of(SOURCES["bytes"])
    assert defenses.build("dimmed", net, pool, {}, draws=2).pool is pool


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("of", ["draws", "mean"])
def test_a_loss_is_ascended_by_its_name(of):
    register.loss("squared", squared, of=of)
    assert list(losses.LOSSES).count("squared") == 1
    assert ("squared" in adaptive.ADAPTIVE) == (of == "draws")
    each = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log()
    wanted = -(0.25 + 0.81) / 2 if of == "draws" else -(0.7**2)
    assert losses.value("squared", each, torch.tensor([0])).item() == pytest.approx(wanted)
    assert Setting(loss="squared").loss == "squared"


@pytest.mark.usefixtures("tables")
def test_a_data_set_and_a_net_are_trained_by_their_names(recipe, tmp_path):
    """Also where training attacks the net: its copy has the weights of modules of any kind."""
    register.dataset("sevens", reader)
    register.architecture("plain", plain)
    sizes = {"classes": 4, "n_train": 0, "n_heldout": 4, "root": ".", "device": "cpu"}
    splits = data.load("sevens", **sizes)
    assert splits.test.pixels().unique().tolist() == [7 / 16]
    settings = recipe("at", model="plain", epochs=1, batch_size=8, data="sevens")
    trainer = training.Trainer(settings, splits, "fp32")
    for _ in range(2):
        trainer.one_step(trainer.order())
    x = splits.test.pixels(slice(2))
    copied = inference.refold(trainer.attacker, trainer.model)
    torch.testing.assert_close(copied(x), trainer.model.eval()(x), atol=1e-5, rtol=1e-5)
    assert inference.flops(models.build("plain", 4, 1), (1, 8, 8)) == 2 * (36 * 9 * 4 + 4 * 4)


def own_defense(make=Dimmed, name="dimmed", settings=None, **options):
    given = {"share": Limits(0, 1)} if settings is None else settings
    register.defense(name, make, given, **({"title": "Dimmed"} | options))


def own_data(part):
    register.dataset("mine", lambda root, classes: part)
    data.load("mine", classes=2, n_train=0, n_heldout=0, root=".", device="cpu")


def own_net(build):
    register.architecture("mine", build)
    models.build("mine", 3, 1)


PART = (np.zeros((4, 1, 8, 8), np.uint8), np.arange(4) % 2)
MISTAKES = {
    "the library's defense": (lambda: own_defense(name="mi_ol"), "'mi_ol' is the library's own"),
    "the library's loss": (lambda: register.loss("ce", squared, of="mean"), "'ce' is the lib"),
    "as published": (
        lambda: register.loss("as_published", squared, of="mean"),
        "the library's own",
    ),
    "the library's data": (lambda: register.dataset("digits", reader), "'digits' is the library's"),
    "the library's net": (lambda: register.architecture("small", plain), "'small' is the lib"),
    "a name with a space": (lambda: own_defense(name="my own"), "'my own'"),
    "no name": (lambda: own_defense(name=3), "defense 3"),
    "no function": (lambda: own_defense(make="Dimmed"), "'Dimmed'"),
    "settings that it lacks": (lambda: own_defense(settings={}), "share"),
    "limits as a pair": (lambda: own_defense(settings={"share": (0, 1)}), "Limits"),
    "settings as a list": (lambda: own_defense(settings=["share"]), "Mapping"),
    "no title": (lambda: own_defense(title=None), "title is None"),
    "of what": (lambda: register.loss("mine", squared, of="all"), "of is 'all'"),
    "a mean": (lambda: register.loss("mine", lambda a, b: a.mean(), of="mean"), "a tensor [2]"),
    "floats as images": (lambda: own_data((PART, (PART[0] / 1.0, PART[1]), 255)), "uint8"),
    "no peak": (lambda: own_data((PART, PART)), "peak"),
    "labels as floats": (lambda: own_data(((PART[0], PART[1] / 1.0), PART, 255)), "integers"),
    "another net": (lambda: own_net(lambda *_: nn.Linear(2, 2)), "Classifier"),
    "dropout": (lambda: own_net(with_dropout), "Dropout"),
}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(("call", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_wrong_registration_ends_in_one_line(call, words):
    with pytest.raises(UserError) as found:
        call()
    assert words in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.usefixtures("tables")
def test_a_defense_that_gives_no_defense_is_refused():
    register.defense("bare", lambda classifier, **options: classifier, title="Bare")
    with pytest.raises(UserError, match=r"defense 'bare' is .*a Defense"):
        defenses.build("bare", nn.Linear(2, 2).eval(), None, {})
