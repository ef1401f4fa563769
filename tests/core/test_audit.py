"""`milib.audit`: defenses with a known flaw fail the right line, a sound one does not."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import milib
from milib import UserError
from milib.audit import __main__ as command
from milib.audit import battery, facts, kept, libraries, measure, running
from milib.averaging import Undefended
from milib.baselines import GaussianNoise
from milib.data import Dataset, SamplePool
from milib.defenses import MixupInference
from milib.rng import Draws

for needed in ("pyautoattack", "foolbox"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)
CLASSES, SIDE, COUNT, EPSILON = 4, 8, 16, 0.2


def _normal(purpose: str, count: int) -> Tensor:
    index = torch.arange(count)
    values = Draws("toy", purpose).normal(index, torch.zeros_like(index), SIDE * SIDE)
    return values.view(count, 1, SIDE, SIDE)


PATTERNS = _normal("patterns", CLASSES).sign() / 4
Y = torch.arange(COUNT) % CLASSES
NEAR = torch.linspace(0.35, 1.25, COUNT)[:, None, None, None]
X = (0.5 + NEAR * PATTERNS[Y] + 0.08 * _normal("images", COUNT)).clamp(0, 1)


class Linear(nn.Module):
    """The patterns themselves as a classifier: half of the images fall at EPSILON."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(PATTERNS.flatten(1))
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        return 4 * (x.flatten(1) - 0.5) @ self.weight.T


class Drawing(Linear):
    """Draws from torch's generator: random without being a Defense."""

    def __init__(self, sigma: float = 0.02):
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.sigma * torch.randn_like(x))


class Weak(Linear):
    """An undefended model that any attack breaks: its weights are far from the patterns'."""

    def forward(self, x: Tensor) -> Tensor:
        detail = x[:, :, ::2] - x[:, :, 1::2]
        return super().forward(x) + 60 * detail.mean((1, 2, 3))[:, None] * torch.tensor(
            [-1, 1, 0, 0]
        )


class Rounding(Linear):
    """Masks its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 3).round() / 3)


class Rejecting(Linear):
    """A detector that always says no: an answer of its own, whatever the image."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return torch.cat([found, 0 * found[:, :1] + 1000], 1)


class Sparse(torch.autograd.Function):
    """The image itself; of its gradient, another few pixels each time."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(torch.rand_like(x) < 0.2)
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        return gradients[0] * ctx.saved_tensors[0]


class Slow(Linear):
    """The fewer steps are made, the more is left of it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(Sparse.apply(x))


class Seeded(Linear):
    """Says that it draws, and sets torch's global seed before."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().forward(x + 0.05 * torch.randn_like(x))


class Peeking(Linear):
    """Answers otherwise where it is attacked."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(1 - x if torch.is_grad_enabled() and x.requires_grad else x)


def audited(defense: nn.Module, count: int = COUNT, base: nn.Module | None = None):
    """The checklist, by number, of the first images: they fall at once, so that it takes little."""
    found = milib.audit(defense, X[:count], Y[:count], epsilon=EPSILON, base=base, seeds=3)
    return {line.number: line for line in found.lines}


def noisy(sigma: float = 0.02, chunk: int = 128) -> GaussianNoise:
    return GaussianNoise(Linear(), sigma, draws=4, chunk=chunk)


@pytest.fixture(scope="module", autouse=True)
def short():
    """A third of the steps: the flaws are seen all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(battery, "STANDARD", dataclasses.replace(battery.STANDARD, steps=30))
        patch.setattr(battery, "LATER", dataclasses.replace(battery.LATER, steps=15, size=0.25))
        yield


@pytest.fixture(scope="module")
def sound(short):
    before = torch.get_rng_state()
    found = milib.audit(noisy(), X, Y, epsilon=EPSILON, base=Weak(), seeds=3)
    assert torch.equal(torch.get_rng_state(), before)
    return found


# The checklist


def test_a_sound_defense_fails_no_line(sound):
    assert {line.number: line.evidence for line in sound.lines if line.verdict == "not met"} == {}
    assert [line.number for line in sound.lines] == list(range(1, 17))


def test_masked_gradients_fail_where_other_attacks_beat_them():
    lines = audited(Rounding())
    assert lines[10].verdict == lines[11].verdict == "not met"
    assert "together" in lines[11].evidence
    assert lines[5].verdict == lines[14].verdict == "not applicable"


def test_a_detector_that_always_says_no_fails_at_eps_0():
    lines = audited(Rejecting(), 4)
    assert lines[9].verdict == "not met"
    assert "eps 0: 0.0" in lines[9].evidence


def test_a_detector_that_never_says_anything_gains_nothing():
    line = audited(Linear(), 4, Linear())[14]
    assert line.verdict == "not met"
    assert "a gain of 0.0" in line.evidence


@pytest.mark.parametrize(
    ("flawed", "count", "number", "words"),
    [
        (lambda: noisy().frozen(Draws("fixed")), 4, 16, "all sets give the same"),
        (Slow, 10, 8, "twice the steps:"),
        (Seeded, 4, 16, "sets a global seed"),
        (Peeking, 4, 1, "predicts differently"),
    ],
    ids=["fixed randomness", "noisy gradient", "global seed", "looks for attackers"],
)
def test_a_flawed_defense_fails_its_line(flawed, count, number, words):
    line = audited(flawed(), count)[number]
    assert line.verdict == "not met"
    assert words in line.evidence


# The battery


def test_what_is_wrong_without_an_attack_is_not_attacked():
    label = Y.clone()
    label[3] = (label[3] + 1) % CLASSES
    target = measure.Target(Linear(), X, label, torch.arange(COUNT), EPSILON)
    entries = battery.battery(target, False)[:3]
    attacked = {}

    def keep(name, identity, compute):
        attacked[name] = identity["rows"]
        return compute()

    records = battery.run(target, entries, keep)
    assert 3 in attacked["clean"]
    assert 3 not in attacked["standard"]
    assert records["standard"]["index"] == list(range(COUNT))
    assert measure.accuracy(records["standard"])[3] == 0


class NumpySeeded(Linear):
    """Says that it draws, and sets numpy's global seed before."""

    def forward(self, x: Tensor) -> Tensor:
        np.random.seed(0)
        return super().forward(x + 0.05 * torch.from_numpy(np.random.randn(*x.shape)).float())


def test_numpys_global_seed_is_seen():
    target = measure.Target(NumpySeeded(), X, Y, torch.arange(COUNT), EPSILON)
    assert facts.observed(target, 3).seeds_itself
    assert not facts.observed(dataclasses.replace(target, classifier=noisy()), 3).seeds_itself


class Wavering(Linear):
    """Wrong in most draws, even without an attack, and right in the others."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found if torch.rand(()) < 0.3 else -found


def test_an_image_that_few_draws_find_right_is_attacked():
    """Else such images would be right under every attack as often as without one."""
    target = measure.Target(Wavering(), X, Y, torch.arange(COUNT), EPSILON)
    entries = battery.battery(target, False)[:3]
    records = battery.run(target, entries, lambda name, identity, compute: compute())
    clean, attacked = records["clean"], records["standard"]
    assert len(measure.wrong(clean)) > 0
    unlike = np.array(attacked["margin"]) != np.array(clean["margin"])
    assert unlike[measure.accuracy(clean) > 0].all()


class Faint(Linear):
    """Logits that hardly differ."""

    def forward(self, x: Tensor) -> Tensor:
        return 1e-6 * super().forward(x)


class Loud(Linear):
    """Logits that differ by far."""

    def forward(self, x: Tensor) -> Tensor:
        return 4e4 * super().forward(x)


@pytest.mark.parametrize("defense", [Faint(), Loud()], ids=["faint", "loud"])
def test_the_size_of_the_logits_hides_nothing(defense):
    target = measure.Target(defense, X, Y, torch.arange(COUNT), EPSILON)
    plain = measure.Target(Linear(), X, Y, torch.arange(COUNT), EPSILON)
    left = []
    for each in (target, plain):
        entries = battery.battery(each, False)[:3]
        records = battery.run(each, entries, lambda name, identity, compute: compute())
        left.append(measure.worst(measure.within(records)).mean())
        assert left[-1] <= measure.accuracy(records["standard"]).mean()
    assert abs(left[0] - left[1]) <= 1 / COUNT, "one image at most, by rounding"


def test_side_attacks_meet_what_is_left(sound):
    standard, square = sound.records["standard"], sound.records["Square"]
    assert not set(square["index"]) & measure.wrong(standard)
    assert square["rows"] == square["index"]
    assert not sound.records["eps 2"]["counts"]
    assert not sound.records["frozen"]["counts"]
    assert sound.records[running.FROZEN]["counts"]


def test_no_example_leaves_the_ball(sound):
    for name, record in sound.records.items():
        if record["counts"]:
            assert record["distance"] <= EPSILON + 1e-6, name
            assert record["inside"]


def test_without_randomness_one_draw_a_step_is_taken():
    target = measure.Target(Linear(), X, Y, torch.arange(COUNT), EPSILON)
    entries = {entry.name: entry for entry in battery.battery(target, True)}
    assert entries["standard"].settings["samples"] == 1
    assert "frozen" not in entries
    assert "4 times K" not in entries
    assert "standard" in entries["AutoAttack"].note
    assert entries["targeted"].settings["targets"] == CLASSES - 1


def test_the_full_battery_of_a_random_defense():
    target = measure.Target(noisy(), X, Y, torch.arange(COUNT), EPSILON, Linear())
    entries = {entry.name: entry for entry in battery.battery(target, True, {"twin": Linear()})}
    for name in ("4 times K", "frozen", "transfer from twin", "base: AutoAttack"):
        assert name in entries
    assert entries["noise"].settings["noises"] == 10_000
    assert "rand" in entries["AutoAttack"].note


def test_a_model_without_a_defense_is_not_attacked_as_its_own_base():
    bare = Undefended(Linear())
    target = measure.Target(bare, X, Y, torch.arange(COUNT), EPSILON, bare.classifier)
    names = {entry.name for entry in battery.battery(target, True)}
    assert not [name for name in names if name.startswith("base: ")]
    assert "transfer" not in names
    assert {"oblivious", "standard", "AutoAttack"} <= names


def test_the_papers_own_attack_meets_mixup_inference():
    number = torch.arange(CLASSES)
    data = Dataset((255 * X[:CLASSES]).byte(), number, number, CLASSES, 255)
    mi = MixupInference(Linear(), SamplePool(data), "ol", 0.6, draws=4)
    target = measure.Target(mi, X, Y, torch.arange(COUNT), EPSILON, mi.classifier)
    entries = battery.battery(target, False)
    [paper] = [entry for entry in entries if entry.name == "paper"]
    records = battery.run(target, [battery.CLEAN, paper], lambda _name, _of, compute: compute())
    left = [measure.accuracy(records[name]).mean() for name in ("clean", "paper")]
    assert left[1] < left[0]
    found = facts.observed(target, 1)
    assert found.claims and found.random
    single = facts.observed(dataclasses.replace(target, classifier=mi.resized(1, 8)), 1)
    assert not single.claims, "a mean over one draw promises no chance"
    assert found.ratio == "0.6"
    assert found.passes == 5
    assert "sample pool of 4 images" in found.reads


def test_held_queries_are_a_function_of_the_image():
    for module in (Drawing(0.1), noisy(0.1)):
        held = libraries.Drawn(module, Draws("held"), held=True)
        whole = held(X)
        assert torch.allclose(whole, torch.cat([held(X[8:]), held(X[:8])]).roll(8, 0), atol=1e-5)
        fresh = libraries.Drawn(module, Draws("held"))
        assert not torch.allclose(fresh(X), fresh(X), atol=1e-3)


# The result


def test_the_result_as_frame_json_and_html(sound):
    found = json.loads(sound.json())
    assert [row["attack"] for row in found["table"]][-1] == "worst case"
    assert len(found["checklist"]) == 16
    assert len(found["records"]["standard"]["predictions"]) == measure.SETS
    html = sound._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 2
    assert html.count("<tr>") == len(sound.rows) + 16 + 2
    assert "worst case" in str(sound)
    pytest.importorskip("pandas")
    frame = sound.frame()
    assert list(frame["attack"]) == [row.attack for row in sound.rows]
    least = frame["accuracy"].iloc[-1]
    assert least <= frame[frame["attack"] == "standard"]["accuracy"].item()


def test_an_interrupted_audit_goes_on(tmp_path, monkeypatch, capsys):
    write, written = kept.files.write_atomic, []

    def stopping(path, content):
        if len(written) == 6:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    x, y, options = X[:3], Y[:3], {"epsilon": EPSILON, "folder": tmp_path}
    at_once = milib.audit(noisy(chunk=16), x, y, epsilon=EPSILON)
    with monkeypatch.context() as patch:
        patch.setattr(kept.files, "write_atomic", stopping)
        with pytest.raises(KeyboardInterrupt):
            milib.audit(noisy(chunk=16), x, y, **options)
    capsys.readouterr()
    assert milib.audit(noisy(chunk=16), x, y, **options).json() == at_once.json()
    told = capsys.readouterr().err.splitlines()
    assert sum("kept" in line for line in told) == 6
    assert "left" in told[7]
    record = json.loads(written[0].read_text())
    assert record["what"] == "a record of milib.audit"
    for other, images in ((noisy(0.03, 16), x), (noisy(chunk=16), x.flip(0))):
        with pytest.raises(UserError, match="records of another defense"):
            milib.audit(other, images, y, **options)
    written[0].write_text("{")
    with pytest.raises(UserError, match="is damaged: delete it"):
        milib.audit(noisy(chunk=16), x, y, **options)


class Levels(Linear):
    """Its settings stand in a list, under names that torch and milib use elsewhere."""

    def __init__(self, levels: int):
        super().__init__()
        self.round, self._levels, self.levels = levels, levels, [levels]


@pytest.mark.parametrize("name", ["round", "_levels", "levels"])
def test_records_of_a_defense_with_other_settings_are_others(name):
    first, second = Levels(200), Levels(200)
    setattr(second, name, [2] if name == "levels" else 2)
    target = measure.Target(first, X, Y, torch.arange(COUNT), EPSILON)
    assert kept.fingerprint(target) == kept.fingerprint(target)
    other = dataclasses.replace(target, classifier=second)
    assert kept.fingerprint(target) != kept.fingerprint(other)


def test_what_lies_in_memory_elsewhere_is_the_same_setting():
    targets = []
    for _ in range(2):
        module = Levels(200)
        module.levels = [object(), lambda x: x]
        targets.append(measure.Target(module, X, Y, torch.arange(COUNT), EPSILON))
    assert kept.fingerprint(targets[0]) == kept.fingerprint(targets[1])


def test_images_in_double_precision_give_the_same_audit():
    single = milib.audit(Linear(), X[:4], Y[:4], epsilon=EPSILON)
    assert milib.audit(Linear(), X[:4].double(), Y[:4], epsilon=EPSILON).json() == single.json()


# Wrong calls


class Detached(Linear):
    """Logits that do not depend on x, for autograd; on the weights they do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class InNumpy(Linear):
    """Leaves torch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.from_numpy(x.numpy()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"defense": 3}, "classifier is 3"),
        ({"x": 255 * X}, r"must be finite and lie in \[0, 1\]"),
        ({"x": X[:0], "y": Y[:0]}, "one image at least"),
        ({"y": Y + CLASSES}, "the classes are 0..3"),
        ({"epsilon": 8}, "8 / 255 was probably meant"),
        ({"epsilon": 0}, "above 0"),
        ({"index": torch.zeros_like(Y)}, "a number twice"),
        ({"base": "net"}, "base is 'net'"),
        ({"surrogates": {"twin": 1}}, "twin is 1"),
        ({"surrogates": Linear()}, "surrogates is"),
        ({"full": 1}, "full is 1"),
        ({"seeds": 0}, "seeds is 0"),
        ({"folder": 3}, "folder is 3"),
        ({"defense": Detached()}, "no gradient in x: is it detached"),
        ({"defense": InNumpy()}, "defense fails where its gradient is asked"),
    ],
)
def test_a_wrong_call_ends_in_one_line(as_a_user, changed, message):
    given = {"defense": Linear(), "x": X, "y": Y, "epsilon": EPSILON} | changed
    with pytest.raises(UserError, match=message) as found:
        milib.audit(given.pop("defense"), given.pop("x"), given.pop("y"), **given)
    assert "\n" not in str(found.value)


# The command


FACTORY = """
import torch
from torch import nn

def build():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    return net, net

def broken():
    raise RuntimeError("no weights\\nhere")

def number():
    return 3
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "made_here.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "made_here", raising=False)
    safetensors.torch.save_file({"x": (255 * X).byte(), "y": Y}, tmp_path / "data.safetensors")
    np.savez(tmp_path / "data.npz", x=X.numpy(), y=Y.numpy())
    return tmp_path


def test_the_command_audits_what_a_factory_makes(factory, capsys):
    words = ["made_here:build", "--data", "data.npz", "--epsilon", "25/255", "--count", "6"]
    with torch.random.fork_rng():
        command.main([*words, "--json", "found.json", "--html", "found.html", "--folder", "kept"])
    assert "worst case" in capsys.readouterr().out
    found = json.loads((factory / "found.json").read_text())
    assert found["facts"]["epsilon"] == 25 / 255
    assert found["table"][0]["images"] == 6
    assert (factory / "found.html").read_text().startswith("<!doctype html>")
    assert len(list((factory / "kept").glob("*.json"))) == len(found["records"])


def test_the_command_reads_bytes_and_named_data(factory):
    x, y = command._read("data.safetensors")
    assert torch.allclose(x, X, atol=1 / 255)
    assert torch.equal(y, Y)
    assert command._read("digits")[0].shape[1:] == (1, 8, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required"),
        (["made_here", "--data", "data.npz"], "module:factory"),
        (["nowhere:build", "--data", "data.npz"], "No module named"),
        (["made_here:other", "--data", "data.npz"], "has no attribute 'other'"),
        (["made_here:broken", "--data", "data.npz"], "RuntimeError: no weights here"),
        (["made_here:number", "--data", "data.npz"], "gives 3"),
        (["made_here:build", "--data", "none.npz"], "no such file"),
        (["made_here:build", "--data", "made_here.py"], "cannot be read"),
        (["made_here:build", "--data", "data.npz", "--epsilon", "eight"], "as in 8/255"),
        (["made_here:build", "--data", "data.npz", "--count", "0"], "--count is 0"),
    ],
)
def test_a_wrong_command_ends_in_one_line(factory, words, message):
    with torch.random.fork_rng(), pytest.raises(UserError, match=message) as found:
        command.main(words)
    assert "\n" not in str(found.value)


def test_a_mistake_ends_with_status_2(factory):
    words = [sys.executable, "-m", "milib.audit", "nowhere:build", "--data", "digits"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=factory)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
