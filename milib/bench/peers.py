"""What a user would pick instead of milib: attack libraries, and loops of the user's own."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from milib.data import Dataset, SamplePool

Attack = Callable[[Tensor, Tensor], Tensor]
"""Images [B, C, H, W] in [0, 1] and labels [B] to l_inf examples [B, C, H, W].

None begins at a random point, so that they can be compared.
"""


def plain_loop(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """PGD as a careful user writes it: with the gradient of the input alone.

    - net: what is attacked, in eval mode.
    - epsilon, step_size: on pixels in [0, 1].
    - steps: how many.
    """

    def attack(x: Tensor, y: Tensor) -> Tensor:
        low, high = (x - epsilon).clamp(0, 1), (x + epsilon).clamp(0, 1)
        current = x.clone()
        for _ in range(steps):
            current.requires_grad_()
            gradient = torch.autograd.grad(F.cross_entropy(net(current), y), current)[0]
            current = (current.detach() + step_size * gradient.sign()).clamp(low, high)
        return current

    return attack


def foolbox(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """foolbox's LinfPGD (Rauber et al., JOSS 2020). Arguments as in `plain_loop`."""
    from foolbox.attacks import LinfPGD
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(net, bounds=(0, 1), device=_device(net))
    attack = LinfPGD(abs_stepsize=step_size, steps=steps, random_start=False)
    return lambda x, y: attack.run(model, x, y, epsilon=epsilon)


def art(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """The Adversarial Robustness Toolbox's PGD (Nicolae et al., 2018).

    Arguments as in `plain_loop`.
    """
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    options = {"eps": epsilon, "eps_step": step_size, "max_iter": steps, "verbose": False}

    def attack(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            classes = net(x[:1]).shape[1]
        model = PyTorchClassifier(
            net,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            classes,
            clip_values=(0, 1),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        one_hot = np.eye(classes, dtype=np.float32)[y.cpu().numpy()]
        library = ProjectedGradientDescent(model, batch_size=len(x), **options)
        return torch.from_numpy(library.generate(x.cpu().numpy(), one_hot)).to(x.device)

    return attack


def autoattack(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """AutoAttack's APGD on the cross-entropy, from the clean image (Croce & Hein, ICML 2020).

    Arguments as in `plain_loop`; it sets its own step sizes.
    """
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(net, n_iter=steps, norm="Linf", eps=epsilon, device=_device(net))
    return lambda x, y: attack.perturb(x, y, x_init=x)


def torchattacks(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """torchattacks' PGD (Kim, 2020). Arguments as in `plain_loop`."""
    from torchattacks import PGD  # pyright: ignore[reportMissingImports] (`make bench` has it)

    return PGD(net, eps=epsilon, alpha=step_size, steps=steps, random_start=False)


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


ATTACKS = {
    "plain loop": plain_loop,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
    "AutoAttack APGD": autoattack,
    "ART": art,
}


def algorithm1(net: nn.Module, pool: SamplePool, ratio: float, draws: int, x: Tensor) -> Tensor:
    """MI-OL as the paper's Algorithm 1 reads, one execution after the other: predictions [B, L].

    - net: in eval mode, images to logits.
    - pool: p_s.
    - ratio: lambda.
    - draws: N executions, each for the whole batch.
    - x: images [B, C, H, W] in [0, 1].
    """
    draw, labels = np.random.default_rng(0), pool.data.labels.cpu().numpy()
    members = [np.flatnonzero(labels == label) for label in range(pool.classes)]
    with torch.no_grad():
        predicted = net(x).argmax(1).tolist()
        total = torch.zeros(len(x), pool.classes, device=x.device)
        for _ in range(draws):
            others = []
            for label in predicted:
                others.append(draw.choice([y for y in range(pool.classes) if y != label]))
            chosen = torch.tensor([draw.choice(members[y]) for y in others], device=x.device)
            mixed = ratio * x + (1 - ratio) * pool.data.pixels(chosen)
            total += net(mixed).softmax(1)
    return total / draws


class Images(torch.utils.data.Dataset):
    """Training images for a DataLoader, cropped with padding 4 and flipped by torchvision.

    - data: images of 32x32 pixels.
    """

    def __init__(self, data: Dataset):
        self.pixels, self.labels = data.images.permute(0, 2, 3, 1).cpu().numpy(), data.labels.cpu()
        self.change: Callable[[Image.Image], Tensor] = transforms.Compose(
            [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.change(Image.fromarray(self.pixels[position])), self.labels[position]


def loader(data: Dataset, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless training batches through a DataLoader: images [B, C, 32, 32] in [0, 1], labels [B].

    - data: the training images.
    - batch_size: B.
    - workers: processes that stay from one epoch to the next; 0 works in this process.
    """
    batches = torch.utils.data.DataLoader(
        Images(data),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    while True:
        yield from batches


def training_loop(
    net: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], attack: Attack | None
) -> Callable[[], None]:
    """One SGD step of the usual loop.

    - net: what is trained.
    - batches: images and labels, one pair a step.
    - attack: for adversarial training, clean to adversarial 1:1; None trains on clean images.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    device = _device(net)

    def step() -> None:
        x, y = (tensor.to(device, non_blocking=True) for tensor in next(batches))
        x = x.contiguous(memory_format=torch.channels_last)
        inputs = [x] if attack is None else [attack(x, y), x]
        net.train()
        losses = [F.cross_entropy(net(images), y) for images in inputs]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def wasteful_pgd(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """PGD inside training with `loss.backward()`, from a random start.

    Arguments as in `plain_loop`. It computes the weights' gradients at every step and throws them
    away.
    """

    def attack(x: Tensor, y: Tensor) -> Tensor:
        net.eval()
        current = x + torch.empty_like(x).uniform_(-epsilon, epsilon)
        for _ in range(steps):
            current = current.detach().requires_grad_()
            F.cross_entropy(net(current), y).backward()
            assert current.grad is not None  # for the type checker
            moved = current + step_size * current.grad.sign()
            current = torch.min(torch.max(moved, x - epsilon), x + epsilon).clamp(0, 1)
        return current.detach()

    return attack
