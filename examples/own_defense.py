"""A defense of one's own around a net of one's own, audited: python examples/own_defense.py

The defense is JPEG compression (Guo et al., ICLR 2018), the net a small one for scikit-learn's 8x8
digits. The audit attacks the defense by attacks that know it, and the net alone. It takes one to
two minutes on a CPU and needs `pip install '.[audit]'` in the clone.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from milib import Defense, Splits, audit
from milib.data import load

EPSILON = 0.1
"""Radius of the attacks on the digits, whose pixels have 17 levels."""
IMAGES, EPOCHS = 12, 15


def compressed(image: Tensor, quality: int) -> Tensor:
    """An image uint8 [C, H, W] of one or three channels after JPEG."""
    file, pixels = io.BytesIO(), image.permute(1, 2, 0).squeeze(2).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).view(*pixels.shape[:2], -1).permute(2, 0, 1)


class Jpeg(Defense):
    """Each image is compressed and decompressed. Nothing is random: one draw is enough.

    - classifier: images [B, C, H, W] in [0, 1] to logits, of one or three channels.
    - quality: of the compression, 1 to 100; by default 75, as in the paper.
    """

    def __init__(self, classifier: nn.Module, quality: int = 75, **options):
        super().__init__(classifier, **{"draws": 1} | options)
        self.quality = int(quality)

    def transform(self, x, predicted, index, draw, draws) -> Tensor:
        pixels = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        decoded = torch.stack([compressed(image, self.quality) for image in pixels]).to(x) / 255
        # rounding has no gradient: the backward pass takes JPEG for the identity (BPDA, Athalye et
        # al., ICML 2018). Without this line an attack that follows gradients would see none.
        return x + (decoded - x).detach()


def net() -> nn.Module:
    """Two blocks of convolution, batch norm, ReLU and pool, then a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 2 * 2, 10))


def trained(splits: Splits) -> nn.Module:
    """The net after EPOCHS epochs of plain training, in eval mode."""
    x, y = splits.train.pixels(), splits.train.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
    return model.eval()


def main() -> None:
    """Train, defend, audit, and say what is left."""
    torch.set_num_threads(1)  # so small a net gains nothing from more
    splits = load("digits", classes=10, n_train=0, n_heldout=200, root=".", device="cpu")
    model = trained(splits)
    x, y = splits.test.pixels(slice(IMAGES)), splits.test.labels[:IMAGES]
    found = audit(Jpeg(model, chunk=IMAGES), x, y, epsilon=EPSILON)
    print(found)
    left = {row.attack: row.accuracy for row in found.rows}
    print(f"\nOf {IMAGES} digits, eps {EPSILON}, JPEG is right on")
    print(f"  {left['clean']:.0%} without an attack")
    print(f"  {left['oblivious']:.0%} under PGD-10 on the net, which does not know JPEG")
    print(f"  {left['worst case']:.0%} under the worst of all attacks: that is what is left of it")
    both = f"JPEG keeps {left['standard']:.0%}, the net alone {left['base: standard']:.0%}"
    print(f"Under one attack that knows each (the audit's standard) {both}.")


if __name__ == "__main__":
    main()
