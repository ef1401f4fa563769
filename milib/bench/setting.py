"""What every contender of the benchmark works on: sizes, nets, images, and a clock."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from milib import attacks, checks, data, defenses, inference, models, rng, training
from milib.errors import UserError
from milib.study import device, weights
from milib.study.params import load
from milib.study.paths import project_root

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
"""Of every attack, on pixels in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured, and where.

    - points: images in a PGD batch, default 20.
    - steps: PGD steps, default 5.
    - rounds: timed calls of each contender, default 3.
    - few: images that MI predicts, at most `points`, default 16.
    - draws: N of MI, and K of the adaptive gradient, default 30.
    - chunk: images in a forward pass, default 16; a run of the benchmark measures the best one.
    - batch: training images in a step of the compact net, default 128.
    - small_batch: the same of the ResNet-50, default 32.
    - training_steps: timed steps of the compact net, default 20.
    - net: a name of `models.build` for all but training, default "resnet50".
    - threads: of a CPU; 0, the default, takes every core.
    - device: "cuda" where there is one, else "cpu".

    Raises UserError for a size that is not positive, an unknown net or device, and `few` above
    `points`.
    """

    points: int = 20
    steps: int = 5
    rounds: int = 3
    few: int = 16
    draws: int = 30
    chunk: int = 16
    batch: int = 128
    small_batch: int = 32
    training_steps: int = 20
    net: str = "resnet50"
    threads: int = 0
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, int):
                checks.count(name, value, 0 if name == "threads" else 1)
        checks.choice("net", self.net, models.ARCHITECTURES)
        checks.device("device", self.device)
        if self.few > self.points:
            raise UserError(f"few is {self.few}: images of the {self.points} points, no more")

    def predicting(self, few: int, **changes: int) -> "Sizes":
        """These sizes with another number of images that MI predicts.

        - few: how many; the points grow with it where they are fewer.
        - changes: other sizes, by name.
        """
        return dataclasses.replace(self, points=max(self.points, few), few=few, **changes)

    @property
    def four_chunks(self) -> int:
        """Images whose draws fill four chunks or a little more."""
        return -(-4 * self.chunk // self.draws)

    @property
    def used_threads(self) -> int:
        """The threads that a process of the benchmark uses."""
        return self.threads or device.cores()


class Setting:
    """The same nets, images and pool for every contender, from the sizes alone.

    - sizes: how much is measured.

    `x` [points, 3, 32, 32] in [0, 1] are the images, `y` [points] their labels, `few` the first
    `sizes.few` of the images.
    """

    def __init__(self, sizes: Sizes):
        self.sizes, self.device = sizes, torch.device(sizes.device)
        torch.set_num_threads(sizes.used_threads)
        # What is called fp32 here is fp32.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        count = 2000
        draw = rng.generator("bench")
        pixels = draw.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        images = torch.from_numpy(pixels).to(self.device)
        index = torch.arange(count, device=self.device)
        self.data = data.Dataset(images, index % 10, index, 10, 255)
        self.net = self.new(sizes.net).eval()
        self.x = self.data.pixels(slice(sizes.points)).contiguous(memory_format=torch.channels_last)
        # The net's own predictions, so that no library leaves out an image it takes for fooled.
        with torch.no_grad():
            self.y = self.net(self.x).argmax(1)
        self.few = self.x[: sizes.few]

    def new(self, name: str) -> models.Classifier:
        """An untrained net for 32x32 images of ten classes.

        - name: of `models.build`.
        """
        net = models.build(name, 10, 3, 0)
        return net.to(self.device).to(memory_format=torch.channels_last)

    def milib_attack(self, net: Callable[[Tensor], Tensor], steps: list[int]) -> Tensor:
        """milib's PGD on x without a random start: examples [points, len(steps), 3, 32, 32].

        - net: what is attacked.
        - steps: numbers of steps, snapshots of one trajectory.
        """
        options = {"epsilon": EPSILON, "step_size": STEP_SIZE, "steps": steps}
        return attacks.pgd(net, self.x, self.y, **options)

    def mi(self, mode: str = "ol", frozen: Module | None = None) -> defenses.MixupInference:
        """MI at lambda = 0.5.

        - mode: "ol" (default) or "pl".
        - frozen: the net that it defends; by default this setting's is frozen for it.
        """
        net, pool = frozen or inference.frozen(self.net), data.SamplePool(self.data)
        options = {"draws": self.sizes.draws, "chunk": self.sizes.chunk}
        return defenses.MixupInference(net, pool, mode, 0.5, **options)

    def trainer(self, net: str, name: str, batch: int, precision: str) -> training.Trainer:
        """A training on this setting's images, before its first step.

        - net: a name of `models.build`.
        - name: a name of `training.MODELS`.
        - batch: images in a step.
        - precision: "fp32" or "bf16".
        """
        run = load(project_root() / "params" / "c10.yaml", {"model": net, "batch_size": batch})
        splits = data.Splits(self.data, self.data, self.data)
        return training.Trainer(weights.recipe(run, name), splits, precision)


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given.

    - device: a CPU is never waited for.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call.

    - function: what is called.
    - device: where it computes.
    """
    wait(device)
    started = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - started


def fastest(count: int, function: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some calls.

    - count: how many.
    - function, device: as in `timed`.
    """
    return min(timed(function, device) for _ in range(count))
