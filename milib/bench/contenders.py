"""The benchmark's contenders: milib's ways and what a user would pick instead, on the same nets and images.

Each takes a Setting and returns what is timed.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from milib import attacks, data, defenses, inference, models, rng
from milib.bench import peers
from milib.bench.setting import EPSILON, STEP_SIZE, Setting, Sizes


def forward(s: Setting) -> Callable:
    """`steps` forwards of the folded net without gradient: what PGD steps are measured by."""
    net = inference.frozen(s.net)

    def run() -> None:
        with torch.no_grad():
            for _ in range(s.sizes.steps):
                net(s.x)

    return run


def pgd(precision: str = "fp32", compiled: bool = False) -> Callable:
    """milib's PGD, `steps` of it."""

    def prepare(s: Setting) -> Callable:
        net = inference.frozen(s.net, precision)
        net = torch.compile(net) if compiled else net
        return lambda: s.milib_attack(net)

    return prepare


def convolutions(precision: str = "fp32") -> Callable:
    """What no PGD step can beat: its convolutions alone, forward and for the input's gradient, each on its own shapes."""

    def prepare(s: Setting) -> Callable:
        net, calls = inference.frozen(s.net, precision), []

        def record(layer: models.ConvNorm, inputs: tuple, output: Tensor) -> None:
            calls.append(
                (layer[0], inputs[0].detach().clone().requires_grad_(), torch.ones_like(output))
            )

        layers = [layer for layer in net.modules() if isinstance(layer, models.ConvNorm)]
        hooks = [layer.register_forward_hook(record) for layer in layers]
        with torch.no_grad():
            net(s.x)
        for hook in hooks:
            hook.remove()

        def run() -> None:
            for _ in range(s.sizes.steps):
                for layer, leaf, gradient in calls:
                    torch.autograd.grad(layer(leaf), leaf, gradient)

        return run

    return prepare


def peer(name: str) -> Callable:
    """The same attack by a library or loop of milib.peers."""

    def prepare(s: Setting) -> Callable:
        attack = peers.ATTACKS[name](s.net, EPSILON, STEP_SIZE, s.sizes.steps)
        return lambda: attack(s.x, s.y)

    return prepare


def snapshots(together: bool) -> Callable:
    """PGD-10, 50 and 200 on two images: snapshots of one trajectory, or three runs."""

    def prepare(s: Setting) -> Callable:
        net, s.x, s.y = inference.frozen(s.net), s.few[:2], s.y[:2]
        runs = [[10, 50, 200]] if together else [[10], [50], [200]]
        return lambda: [s.milib_attack(net, steps) for steps in runs]

    return prepare


def bare_passes(gradient: bool, folded: bool = True) -> Callable:
    """draws x few (+ few, where there is no gradient) forwards, or forward-backward passes, in batches of one chunk."""

    def prepare(s: Setting) -> Callable:
        net, sizes = inference.frozen(s.net) if folded else s.net, s.sizes
        images = s.few.repeat(sizes.draws + (not gradient), 1, 1, 1).contiguous(
            memory_format=torch.channels_last
        )

        def run() -> None:
            for piece in images.split(sizes.chunk):
                with torch.set_grad_enabled(gradient):
                    leaf = piece.detach().requires_grad_(gradient)
                    logits = net(leaf)
                    if gradient:
                        torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), leaf)

        return run

    return prepare


def mi(kind: str) -> Callable:
    """milib's MI-OL on `few` images. kind: its predictions, its adaptive gradient, or the gradient through its `forward`."""

    def prepare(s: Setting) -> Callable:
        defense, draws, index = (
            s.mi(),
            rng.Draws("bench"),
            torch.arange(len(s.few), device=s.device),
        )
        y = s.y[: len(s.few)]

        def gradient() -> None:
            leaf = s.few.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(defense(leaf), y), leaf)

        return {
            "predict": lambda: defense.probabilities(s.few, draws, index),
            "adaptive": lambda: attacks.adaptive_gradient(
                defense, s.few, y, index, draws, variant="eq24", first=0, samples=s.sizes.draws
            ),
            "gradient": gradient,
        }[kind]

    return prepare


def short(prepare: Callable) -> Callable:
    """The same contender on as few images as fill four chunks."""

    def fewer(s: Setting) -> Callable:
        s.few = s.few[: s.sizes.four_chunks]
        return prepare(s)

    return fewer


def algorithm1(batch: int | None) -> Callable:
    """The paper's Algorithm 1, execution by execution, on batches of that many images (None: all at once)."""

    def prepare(s: Setting) -> Callable:
        pool = data.SamplePool(s.data)
        return lambda: [
            peers.algorithm1(s.net, pool, 0.5, s.sizes.draws, x)
            for x in s.few.split(batch or len(s.few))
        ]

    return prepare


def combined(share: float) -> Callable:
    """MI-Combined where a `share` of the inputs is flagged."""

    def prepare(s: Setting) -> Callable:
        pl, draws, index = s.mi("pl"), rng.Draws("bench"), torch.arange(len(s.few), device=s.device)
        with torch.no_grad():
            base = pl.base(s.few)
            score = (
                defenses.detection_score(base, pl.log_mean(s.few, draws, index, base)).sort().values
            )
        flagged = round(share * len(s.few))
        threshold = -2.0 if flagged == len(s.few) else score[len(s.few) - flagged - 1].item()
        defense = defenses.MICombined(pl, s.mi(), threshold)
        return lambda: defense.probabilities(s.few, draws, index)

    return prepare


def _amount(sizes: Sizes, net: str, attacked: bool) -> tuple[int, int]:
    """Batch size and steps of a timed training."""
    return (sizes.batch if net == "compact" else sizes.small_batch), (
        1 if attacked else sizes.training_steps if net == "compact" else 2
    )


def train(net: str, name: str, precision: str = "fp32") -> Callable:
    """milib's training of objective `name`."""

    def prepare(s: Setting) -> Callable:
        size, count = _amount(s.sizes, net, name == "at")
        trainer = s.trainer(net, name, size, precision)
        order = trainer.order()

        def run() -> None:
            for trainer.step in range(count):
                trainer.one_step(order)

        return run

    return prepare


def usual_training(net: str, attacked: bool) -> Callable:
    """The usual loop: a DataLoader and torchvision's transforms, or adversarial training with PGD-10 on one batch."""

    def prepare(s: Setting) -> Callable:
        (size, count), model = _amount(s.sizes, net, attacked), s.new(net)
        ready = itertools.cycle([(s.data.pixels(slice(size)), s.data.labels[:size])])
        batches = ready if attacked else peers.loader(s.data, size, 2)
        step = peers.training_loop(
            model, batches, peers.wasteful_pgd(model, EPSILON, STEP_SIZE, 10) if attacked else None
        )
        return lambda: [step() for _ in range(count)]

    return prepare


ATTACKS = {"milib": pgd(), "milib bf16": pgd("bf16"), "milib compiled": pgd(compiled=True)} | {
    name: peer(name) for name in peers.ATTACKS
}
CONTENDERS = {
    "forward": forward,
    "convolutions": convolutions(),
    "convolutions bf16": convolutions("bf16"),
    **{f"pgd {name}": prepare for name, prepare in ATTACKS.items()},
}
CONTENDERS |= {"pgd 10, 50, 200 in one": snapshots(True), "pgd 10, 50, 200 apart": snapshots(False)}
CONTENDERS |= {
    "forwards": bare_passes(False),
    "passes": bare_passes(True),
    "plain passes": bare_passes(True, False),
    "mi": mi("predict"),
    "mi adaptive": mi("adaptive"),
    "mi gradient": mi("gradient"),
    "passes, four chunks": short(bare_passes(True)),
    "mi gradient, four chunks": short(mi("gradient")),
}
CONTENDERS |= {"algorithm 1, batch 1": algorithm1(1), "algorithm 1, batched": algorithm1(None)}
CONTENDERS |= {
    "mi-combined, none flagged": combined(0),
    "mi-combined, half flagged": combined(0.5),
    "mi-combined, all flagged": combined(1),
}
for _net in ("compact", "resnet50"):
    CONTENDERS |= {
        f"train {_net}": train(_net, "erm"),
        f"train {_net} bf16": train(_net, "erm", "bf16"),
        f"train {_net} usual": usual_training(_net, False),
    }
    CONTENDERS |= {f"at {_net}": train(_net, "at"), f"at {_net} usual": usual_training(_net, True)}
