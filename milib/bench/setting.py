"""What every contender of the benchmark works on: sizes, nets, images, and a clock."""

import dataclasses
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from milib import attacks, data, defenses, inference, models, rng, training
from milib.study import weights
from milib.study.params import load
from milib.study.paths import project_root

EPSILON, STEP_SIZE = 8 / 255, 2 / 255


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured: images per PGD batch, its steps, rounds; images and draws of MI; chunk; batch sizes and steps of training."""

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

    @property
    def four_chunks(self) -> int:
        """Images whose draws fill four chunks or a little more."""
        return -(-4 * self.chunk // self.draws)


class Setting:
    """The same nets, images and pool for every contender, from the sizes alone."""

    def __init__(self, sizes: Sizes):
        self.sizes, self.device = sizes, torch.device(sizes.device)
        torch.set_num_threads(sizes.threads or len(os.sched_getaffinity(0)))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            False  # what is called fp32 here is that
        )
        draw = rng.generator("bench")
        images = torch.from_numpy(draw.integers(0, 256, (2000, 3, 32, 32), dtype=np.uint8)).to(
            self.device
        )
        labels = torch.arange(2000, device=self.device) % 10
        self.data = data.Dataset(images, labels, torch.arange(2000, device=self.device), 10, 255)
        self.net = self.new(sizes.net).eval()
        self.x = self.data.pixels(slice(sizes.points)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            self.y = self.net(self.x).argmax(
                1
            )  # all of them are right, so that no library leaves one out
        self.few = self.x[: sizes.few]

    def new(self, name: str) -> nn.Module:
        """An untrained net of milib.models for 32x32 images of ten classes."""
        return models.build(name, 10, 3, 0).to(self.device, memory_format=torch.channels_last)

    def milib_attack(self, net: nn.Module, steps: list[int] | None = None) -> Tensor:
        """milib's PGD on x: examples [B, len(steps), C, H, W], without a random start."""
        options = {"epsilon": EPSILON, "step_size": STEP_SIZE, "steps": steps or [self.sizes.steps]}
        return attacks.pgd(net, self.x, self.y, **options)

    def mi(self, mode: str = "ol", **options) -> defenses.MixupInference:
        """MI at lambda = 0.5 around the frozen net."""
        net, pool = inference.frozen(self.net), data.SamplePool(self.data)
        return defenses.MixupInference(
            net, pool, mode, 0.5, **{"draws": self.sizes.draws, "chunk": self.sizes.chunk} | options
        )

    def trainer(self, net: str, name: str, batch: int, precision: str = "fp32") -> training.Trainer:
        """A training of objective `name` on this setting's images, before its first step."""
        few = load(project_root() / "params" / "c10.yaml", {"model": net, "batch_size": batch})
        return training.Trainer(
            weights.recipe(few, name), data.Splits(self.data, self.data, self.data), precision
        )


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable, device: torch.device) -> float:
    """Seconds of one call."""
    wait(device)
    started = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - started
