"""What a user would pick instead of milib: attack libraries, and the plain loops a careful user writes. For benchmark and tests."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from milib.data import Dataset, SamplePool

Attack = Callable[[Tensor, Tensor], Tensor]
"""Images [B, C, H, W] in [0, 1] and labels [B] to l_inf examples [B, C, H, W]; no random start, so that attacks can be compared."""


def plain_loop(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """PGD as a careful user writes it: eval mode, channels_last, the gradient of the input alone."""

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
    """foolbox's LinfPGD (Rauber et al., JOSS 2020)."""
    import foolbox as library

    model = library.PyTorchModel(net, bounds=(0, 1), device=next(net.parameters()).device)
    attack = library.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=False)
    return lambda x, y: attack.run(model, x, y, epsilon=epsilon)


def art(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """The Adversarial Robustness Toolbox's PGD (Nicolae et al., 2018)."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    device = next(net.parameters()).device

    def attack(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            classes = net(x[:1]).shape[1]
        shape, kind = tuple(x.shape[1:]), "gpu" if x.is_cuda else "cpu"
        model = PyTorchClassifier(
            net, nn.CrossEntropyLoss(), shape, classes, clip_values=(0, 1), device_type=kind
        )
        options = {
            "eps": epsilon,
            "eps_step": step_size,
            "max_iter": steps,
            "batch_size": len(x),
            "verbose": False,
        }
        found = ProjectedGradientDescent(model, **options).generate(
            x.cpu().numpy(), np.eye(classes, dtype=np.float32)[y.cpu().numpy()]
        )
        return torch.from_numpy(found).to(device)

    return attack


def autoattack(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """AutoAttack's APGD on the cross-entropy (Croce & Hein, ICML 2020), from the clean image: it sets its own step sizes."""
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        net, n_iter=steps, norm="Linf", eps=epsilon, device=next(net.parameters()).device
    )
    return lambda x, y: attack.perturb(x, y, x_init=x)


def torchattacks(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """torchattacks' PGD (Kim, 2020)."""
    import torchattacks as library

    return library.PGD(net, eps=epsilon, alpha=step_size, steps=steps, random_start=False)


ATTACKS = {
    "plain loop": plain_loop,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
    "AutoAttack APGD": autoattack,
    "ART": art,
}


def algorithm1(net: nn.Module, pool: SamplePool, ratio: float, draws: int, x: Tensor) -> Tensor:
    """MI-OL as the paper's Algorithm 1 reads: one execution after the other, each for the whole batch x. Mean predictions [B, L]."""
    draw = np.random.default_rng(0)
    by_class = [
        (pool.data.labels == label).nonzero()[:, 0].cpu().numpy() for label in range(pool.classes)
    ]
    with torch.no_grad():
        predicted, total = net(x).argmax(1), 0
        for _ in range(draws):
            others = [
                draw.choice([label for label in range(pool.classes) if label != one])
                for one in predicted.tolist()
            ]
            chosen = torch.tensor(
                [draw.choice(by_class[label]) for label in others], device=x.device
            )
            total = total + net(ratio * x + (1 - ratio) * pool.data.pixels(chosen)).softmax(1)
    return total / draws


class Images(torch.utils.data.Dataset):
    """Training images for a DataLoader, with torchvision's transforms: crop with padding 4, flip, to a tensor."""

    def __init__(self, data: Dataset):
        self.pixels, self.labels = data.images.permute(0, 2, 3, 1).cpu().numpy(), data.labels.cpu()
        self.change = transforms.Compose(
            [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.change(Image.fromarray(self.pixels[position])), self.labels[position]


def loader(data: Dataset, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless training batches through a DataLoader whose workers stay."""
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
    net: nn.Module, batches: Iterator, attack: Callable[[Tensor, Tensor], Tensor] | None
) -> Callable[[], None]:
    """One SGD step of the usual loop: erm, or with an `attack` adversarial training, 1:1."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    device = next(net.parameters()).device

    def step() -> None:
        x, y = (tensor.to(device, non_blocking=True) for tensor in next(batches))
        x = x.contiguous(memory_format=torch.channels_last)
        inputs = [x] if attack is None else [attack(x, y), x]
        net.train()
        loss = sum(F.cross_entropy(net(images), y) for images in inputs) / len(inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def wasteful_pgd(net: nn.Module, epsilon: float, step_size: float, steps: int) -> Attack:
    """PGD inside training with `loss.backward()`: it computes the weights' gradients at every step and throws them away."""

    def attack(x: Tensor, y: Tensor) -> Tensor:
        net.eval()
        current = x + torch.empty_like(x).uniform_(-epsilon, epsilon)
        for _ in range(steps):
            current = current.detach().requires_grad_()
            F.cross_entropy(net(current), y).backward()
            current = torch.min(
                torch.max(current + step_size * current.grad.sign(), x - epsilon), x + epsilon
            ).clamp(0, 1)
        return current.detach()

    return attack
