"""The benchmark's contenders: milib's ways, and what a user would pick instead.

All work on the same nets and images. Each takes a Setting, prepares, and returns what is timed.
"""

import itertools
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from milib import adaptive, data, defenses, inference, models, rng
from milib.bench import peers
from milib.bench.setting import EPSILON, STEP_SIZE, Setting, Sizes

Run = Callable[[], object]
Contender = Callable[[Setting], Run]


def forward(s: Setting) -> Run:
    """`steps` forwards of the folded net without gradient: what PGD steps are measured by."""
    net = inference.frozen(s.net)

    def run() -> None:
        with torch.no_grad():
            for _ in range(s.sizes.steps):
                net(s.x)

    return run


def convolutions(s: Setting, precision: str = "fp32") -> Run:
    """The convolutions of `steps` PGD steps alone, forward and for the input's gradient.

    - precision: "fp32" (default) or "bf16".

    Each works on its own shapes. No PGD step that calls them can be faster.
    """
    net, calls = inference.frozen(s.net, precision), []

    def record(layer: models.ConvNorm, inputs: tuple, output: Tensor) -> None:
        leaf = inputs[0].detach().clone().requires_grad_()
        calls.append((layer[0], leaf, torch.ones_like(output)))

    layers = [layer for layer in net.modules() if isinstance(layer, models.ConvNorm)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    with torch.no_grad():
        net(s.x)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for _ in range(s.sizes.steps):
            for convolution, leaf, gradient in calls:
                torch.autograd.grad(convolution(leaf), leaf, gradient)

    return run


def pgd(s: Setting, precision: str = "fp32") -> Run:
    """milib's PGD, `steps` of it.

    - precision: "fp32" (default) or "bf16".
    """
    net = inference.frozen(s.net, precision)
    return lambda: s.milib_attack(net, [s.sizes.steps])


def pgd_compiled(s: Setting) -> Run:
    """milib's PGD through torch.compile of the folded net."""
    net = torch.compile(inference.frozen(s.net))
    return lambda: s.milib_attack(net, [s.sizes.steps])


def peer(s: Setting, name: str) -> Run:
    """The same attack by a library or a loop.

    - name: of `peers.ATTACKS`.
    """
    attack = peers.ATTACKS[name](s.net, EPSILON, STEP_SIZE, s.sizes.steps)
    return lambda: attack(s.x, s.y)


def snapshots(s: Setting, together: bool) -> Run:
    """PGD-10, 50 and 200 on two images.

    - together: as snapshots of one trajectory, else in three runs.
    """
    net, s.x, s.y = inference.frozen(s.net), s.few[:2], s.y[:2]
    runs = [[10, 50, 200]] if together else [[10], [50], [200]]
    return lambda: [s.milib_attack(net, steps) for steps in runs]


def bare_forwards(s: Setting) -> Run:
    """The N + 1 forwards of MI-OL on `few` images, in batches of one chunk."""
    net = inference.frozen(s.net)
    images = _repeated(s.few, s.sizes.draws + 1)

    def run() -> None:
        with torch.no_grad():
            for piece in images.split(s.sizes.chunk):
                net(piece)

    return run


def bare_passes(s: Setting, folded: bool = True) -> Run:
    """Forward and backward of `draws` copies of `few` images, in batches of one chunk.

    - folded: through the frozen net (default), else through the net as it is.
    """
    net = inference.frozen(s.net) if folded else s.net
    images = _repeated(s.few, s.sizes.draws)

    def run() -> None:
        for piece in images.split(s.sizes.chunk):
            leaf = piece.detach().requires_grad_()
            logits = net(leaf)
            torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), leaf)

    return run


def _repeated(images: Tensor, count: int) -> Tensor:
    return images.repeat(count, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def _index(s: Setting) -> Tensor:
    return torch.arange(len(s.few), device=s.device)


def mi_prediction(s: Setting) -> Run:
    """milib's MI-OL: its predictions on `few` images."""
    defense, draws, index = s.mi(), rng.Draws("bench"), _index(s)
    return lambda: defense.probabilities(s.few, draws, index)


def mi_adaptive(s: Setting) -> Run:
    """milib's MI-OL: its adaptive gradient (Eq. 24) on `few` images, with `draws` samples."""
    defense, draws, index, y = s.mi(), rng.Draws("bench"), _index(s), s.y[: len(s.few)]
    options = {"variant": "eq24", "first": 0, "samples": s.sizes.draws}
    return lambda: adaptive.adaptive_gradient(defense, s.few, y, index, draws, **options)


def mi_gradient(s: Setting) -> Run:
    """milib's MI-OL: the gradient through its `forward` on `few` images."""
    defense, y = s.mi(), s.y[: len(s.few)]

    def run() -> None:
        leaf = s.few.detach().requires_grad_()
        torch.autograd.grad(F.cross_entropy(defense(leaf), y), leaf)

    return run


def short(s: Setting, contender: Contender) -> Run:
    """A contender on as few images as fill four chunks.

    - contender: which one.
    """
    s.few = s.few[: s.sizes.four_chunks]
    return contender(s)


def algorithm1(s: Setting, batch: int | None = None) -> Run:
    """The paper's Algorithm 1, execution by execution.

    - batch: images at once; all of `few` by default.
    """
    pool, batches = data.SamplePool(s.data), s.few.split(batch or len(s.few))
    return lambda: [peers.algorithm1(s.net, pool, 0.5, s.sizes.draws, x) for x in batches]


def combined(s: Setting, share: float) -> Run:
    """MI-Combined where some of the inputs are flagged.

    - share: of the inputs, in [0, 1].
    """
    pl, draws, index = s.mi("pl"), rng.Draws("bench"), _index(s)
    with torch.no_grad():
        base = pl.base(s.few)
        scores = defenses.detection_score(base, pl.log_mean(s.few, draws, index, base))
    spared = len(s.few) - round(share * len(s.few))
    threshold = scores.sort().values[spared - 1].item() if spared else -1.0
    defense = defenses.MICombined(pl, s.mi("ol", pl.classifier), threshold)
    return lambda: defense.probabilities(s.few, draws, index)


def _batch_size(sizes: Sizes, net: str) -> int:
    return sizes.batch if net == "compact" else sizes.small_batch


def _steps(sizes: Sizes, net: str) -> int:
    return sizes.training_steps if net == "compact" else 2


def train(s: Setting, net: str, precision: str = "fp32") -> Run:
    """milib's training of the objective "erm".

    - net: a name of `models.build`.
    - precision: "fp32" (default) or "bf16".
    """
    return _train(s, net, "erm", precision, _steps(s.sizes, net))


def adversarial_training(s: Setting, net: str) -> Run:
    """One step of milib's training of the objective "at", with PGD-10.

    - net: a name of `models.build`.
    """
    return _train(s, net, "at", "fp32", 1)


def _train(s: Setting, net: str, name: str, precision: str, steps: int) -> Run:
    trainer = s.trainer(net, name, _batch_size(s.sizes, net), precision)
    order = trainer.order()

    def run() -> None:
        trainer.step = 0
        for _ in range(steps):
            trainer.one_step(order)

    return run


def usual_training(s: Setting, net: str) -> Run:
    """The usual loop: a DataLoader with two workers and torchvision's transforms.

    - net: a name of `models.build`.
    """
    batches = peers.loader(s.data, _batch_size(s.sizes, net), 2)
    step = peers.training_loop(s.new(net), batches, None)
    return lambda: [step() for _ in range(_steps(s.sizes, net))]


def usual_adversarial_training(s: Setting, net: str) -> Run:
    """One step of adversarial training with PGD-10 as it is often written.

    - net: a name of `models.build`.
    """
    size, model = _batch_size(s.sizes, net), s.new(net)
    batches = itertools.repeat((s.data.pixels(slice(size)), s.data.labels[:size]))
    attack = peers.wasteful_pgd(model, EPSILON, STEP_SIZE, 10)
    return peers.training_loop(model, batches, attack)


CONTENDERS: dict[str, Contender] = {
    "forward": forward,
    "convolutions": convolutions,
    "convolutions bf16": partial(convolutions, precision="bf16"),
    "pgd milib": pgd,
    "pgd milib bf16": partial(pgd, precision="bf16"),
    "pgd milib compiled": pgd_compiled,
    "pgd plain loop": partial(peer, name="plain loop"),
    "pgd torchattacks": partial(peer, name="torchattacks"),
    "pgd foolbox": partial(peer, name="foolbox"),
    "pgd AutoAttack APGD": partial(peer, name="AutoAttack APGD"),
    "pgd ART": partial(peer, name="ART"),
    "pgd 10, 50, 200 in one": partial(snapshots, together=True),
    "pgd 10, 50, 200 apart": partial(snapshots, together=False),
    "forwards": bare_forwards,
    "passes": bare_passes,
    "plain passes": partial(bare_passes, folded=False),
    "mi": mi_prediction,
    "mi adaptive": mi_adaptive,
    "mi gradient": mi_gradient,
    "passes, four chunks": partial(short, contender=bare_passes),
    "mi gradient, four chunks": partial(short, contender=mi_gradient),
    "algorithm 1, batch 1": partial(algorithm1, batch=1),
    "algorithm 1, batched": algorithm1,
    "mi-combined, none flagged": partial(combined, share=0),
    "mi-combined, half flagged": partial(combined, share=0.5),
    "mi-combined, all flagged": partial(combined, share=1),
    "train compact": partial(train, net="compact"),
    "train compact bf16": partial(train, net="compact", precision="bf16"),
    "train compact usual": partial(usual_training, net="compact"),
    "at compact": partial(adversarial_training, net="compact"),
    "at compact usual": partial(usual_adversarial_training, net="compact"),
    "train resnet50": partial(train, net="resnet50"),
    "train resnet50 bf16": partial(train, net="resnet50", precision="bf16"),
    "train resnet50 usual": partial(usual_training, net="resnet50"),
    "at resnet50": partial(adversarial_training, net="resnet50"),
    "at resnet50 usual": partial(usual_adversarial_training, net="resnet50"),
}
"""Every contender, in the order in which those of a group take turns."""
