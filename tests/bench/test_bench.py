"""The benchmark's arithmetic, and that what milib is timed beside does the same work.

A peer must run the same attack or the same inference.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from milib import attacks, defenses, inference, models, rng
from milib.bench import costs, peers, shown, turns
from milib.bench.__main__ import main
from milib.bench.comparisons import COMPARISONS, Comparison, groups
from milib.bench.contenders import CONTENDERS
from milib.bench.setting import Setting, Sizes
from milib.data import Dataset

EPSILON, STEP_SIZE, STEPS = 0.1, 0.025, 4
ABSENT = """
import runpy, sys
for name in ("pandas", "IPython", "ipywidgets", "papermill", "nbformat", "nbconvert", "jinja2"):
    assert name not in sys.modules
    sys.modules[name] = None  # an import of it raises ImportError
sys.argv = ["bench", "--help"]
runpy.run_module("milib.bench", run_name="__main__", alter_sys=True)
"""
"""The benchmark's command where the packages of notebooks and tables are not installed."""


def test_a_ratio_is_that_of_one_round():
    row = turns.ratio([1.0, 2.0, 30.0], [2.0, 2.0, 10.0])
    assert (row["ratio"], row["least"], row["most"]) == (1.0, 0.5, 3.0)
    assert turns.ratio("not installed", [1.0]) == {"why": "not installed"}
    assert turns.ratio([1.0], "no compiler") == {"why": "no compiler"}


def test_every_row_compares_contenders_that_take_turns():
    found = groups()
    names = [name for group in found for name in group]
    assert len(names) == len(set(names))
    assert set(names) == set(CONTENDERS)
    for row in COMPARISONS:
        assert any(row.ours in group and row.theirs in group for group in found)


def test_limits_depend_on_the_instruction_set():
    row = next(row for row in COMPARISONS if row.what == "PGD step / plain loop")
    limits = [row.limit_on(capability) for capability in ("AVX512 bf16", "AVX2", "DEFAULT")]
    assert limits == [0.70, 0.80, 0.80]
    everywhere = Comparison("a / b", "a", "b", limit=1.05)
    assert everywhere.limit_on("AVX2") == everywhere.limit_on("AVX512") == 1.05


def test_committed_benchmarks_hold_what_the_table_prints(root):
    found = sorted((root / "outputs" / "reference" / "bench").glob("*.json"))
    assert found
    compared = {row.what: row for row in COMPARISONS}
    for path in found:
        result = json.loads(path.read_text())
        times, printed = result["times"], shown.text(result)
        for row in result["rows"]:
            assert row["what"] in printed
            if "ratio" in row:
                assert row["least"] <= row["ratio"] <= row["most"]
                pair = compared[row["what"]]
                again = turns.ratio(times[pair.ours], times[pair.theirs])
                assert again["ratio"] == pytest.approx(row["ratio"])


def test_the_command_needs_no_package_of_notebooks_and_tables(root):
    """Its own environment has matplotlib, pyyaml and tqdm besides milib's packages."""
    arguments = [sys.executable, "-c", ABSENT]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage: python -m milib.bench" in done.stdout


@pytest.fixture(scope="module")
def points(splits):
    data = splits.test.take(slice(40))
    return data.pixels(), data.labels


# foolbox imports a name that scipy is about to drop.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["plain loop", "foolbox"])
def test_peers_run_the_same_attack(trained, points, name):
    net, (x, y) = trained("interpolated_at"), points
    options = {"epsilon": EPSILON, "step_size": STEP_SIZE, "steps": [STEPS]}
    ours = attacks.pgd(inference.frozen(net), x, y, **options)[:, 0]
    theirs = peers.ATTACKS[name](net, EPSILON, STEP_SIZE, STEPS)(x, y).detach()
    assert (ours - x).abs().max() > EPSILON / 2
    assert (net(ours).argmax(1) == net(theirs).argmax(1)).float().mean() >= 0.95
    assert (ours - theirs).abs().mean() < 1e-3


def test_algorithm_1_is_mi_ol(trained, points, pool):
    net, x = inference.frozen(trained("mixup")), points[0][:10]
    loop = peers.algorithm1(net, pool, 0.5, 300, x)
    mi = defenses.MixupInference(net, pool, "ol", 0.5, draws=300)
    ours = mi.probabilities(x, rng.Draws("loop"))
    torch.testing.assert_close(loop.sum(1), torch.ones(10))
    assert (loop - ours).abs().max() < 0.1  # the Monte Carlo error of 300 draws


def test_the_usual_training_learns_and_its_attack_stays_in_the_ball(trained, splits, points):
    x, y = points
    net = models.build("small", 10, 1, 0)
    attack = peers.wasteful_pgd(net, EPSILON, STEP_SIZE, STEPS)
    examples = attack(x, y)
    assert (examples - x).abs().max() <= EPSILON + 1e-6
    assert examples.min() >= 0 and examples.max() <= 1
    step = peers.training_loop(net, iter([(x, y)] * 30), attack)
    before = torch.nn.functional.cross_entropy(net.eval()(x), y)
    for _ in range(30):
        step()
    assert torch.nn.functional.cross_entropy(net.eval()(x), y) < before - 0.3


def test_the_loader_gives_cropped_images_with_their_labels():
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 3, 32, 32) * 30 + 10
    data = Dataset(images, torch.arange(8), torch.arange(8), 8, 255)
    batches = peers.loader(data, 4, 0)
    for _ in range(3):  # past the end of an epoch
        x, y = next(batches)
        assert x.shape == (4, 3, 32, 32)
        torch.testing.assert_close(x.amax((1, 2, 3)), (y * 30 + 10) / 255)


@pytest.mark.parametrize("given", [["point", "20"], ["points", "x"]])
def test_a_mistaken_size_is_named(given, capsys):
    with pytest.raises(SystemExit):
        main(["-p", *given])
    wanted = f"-p {' '.join(given)}: the sizes are points (int), steps (int)"
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["few", "21"], "-p: few is 21: images of the 20 points, no more"),
        (["chunk", "0"], "-p: chunk is 0"),
        (["net", "vgg"], "-p: net is 'vgg': one of small, compact, resnet50"),
        (["device", "gpu"], "-p: device is 'gpu'"),
    ],
)
def test_a_size_that_cannot_be_measured_is_refused_before_anything_is(given, said, capsys):
    with pytest.raises(SystemExit):
        main(["-p", *given])
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_more_images_than_points_bring_more_points():
    sizes = Sizes(points=8, few=8, draws=6, chunk=16).predicting(11, draws=60)
    assert (sizes.points, sizes.few, sizes.draws) == (11, 11, 60)
    assert Sizes().predicting(4).points == Sizes().points


OURS = [
    name
    for name in CONTENDERS
    if name.startswith(("mi", "pgd milib", "pgd plain", "pgd 10", "passes", "plain", "algorithm"))
    and name != "pgd milib compiled"
]
"""Contenders that need neither a compiler nor another package."""


@pytest.mark.parametrize("name", OURS)
def test_a_contender_runs(name):
    threads = torch.get_num_threads()
    sizes = Sizes(points=4, few=4, steps=1, draws=2, chunk=4, net="compact", threads=threads)
    CONTENDERS[name](Setting(sizes))()


def test_where_the_system_does_not_tell_of_memory_one_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(costs, "ACCOUNT", tmp_path / "status")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err.splitlines()[-1].endswith("run it on Linux")


def test_all_cores_count_where_the_system_does_not_tell_which(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert Sizes(threads=0).used_threads == os.cpu_count()
