"""What someone with a net of their own writes, with `milib` alone."""

import torch
from torch import nn

from milib import (
    Dataset,
    Defense,
    Draws,
    MICombined,
    MixupInference,
    SamplePool,
    Splits,
    UserError,
    adaptive_pgd,
    build_model,
    frozen,
    load_model,
    pgd,
    register,
    score,
    train,
)

generator = torch.Generator().manual_seed(0)
labels = torch.arange(160) % 4
noise = torch.randint(0, 100, (160, 1, 8, 8), generator=generator)
images = (noise + 50 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
data = Dataset(images, labels, torch.arange(160), classes=4, peak=255)
splits = Splits(data.take(slice(100)), data.take(slice(100, 130)), data.take(slice(130, 160)))
x, y, index = splits.test.pixels(), splits.test.labels, splits.test.index
epsilon, step_size = 0.05, 0.0125

net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()  # any net from [0, 1] to logits
pool = SamplePool(splits.train)
ol = MixupInference(net, pool, "ol", ratio=0.5, draws=5)
pl = MixupInference(net, pool, "pl", ratio=0.5, draws=5)
defenses: dict[str, Defense] = {"MI-OL": ol, "MI-Combined": MICombined(pl, ol, threshold=0.2)}
attacked = pgd(net, x, y, epsilon=epsilon, step_size=step_size, steps=[10])[:, 0]
adaptive = adaptive_pgd(
    ol,
    x,
    y,
    index,
    Draws("mine"),
    variant="eq24",
    samples=3,
    epsilon=epsilon,
    step_size=step_size,
    steps=5,
)
for name, defense in defenses.items():
    accuracy = (defense(attacked).argmax(1) == y).float().mean().item()
    scored = score(defense, [(attacked, y)], Draws("score"))
    assert abs(scored.accuracy - accuracy) < 0.5
    print(f"{name}: {accuracy:.2f}", defense.probabilities(adaptive, Draws("score"), index).shape)

recipe = {"name": "mixup", "model": "small", "seed": 0, "epochs": 2, "batch_size": 20, "lr": 0.1}
recipe |= {"schedule": "onecycle", "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}
weights, log = train(recipe | {"augment": "none", "alpha": 1.0}, splits, epsilon=epsilon)
model = build_model("small", classes=4, channels=1)
model.load_state_dict(weights)
print(f"mixup: {log[-1]['heldout_clean']:.2f}", frozen(model)(x).shape)
try:
    train(recipe, splits, epsilon=epsilon)
except UserError as error:
    print(error)


class Dimmed(Defense):
    """The image at half its brightness."""

    def transform(self, x, predicted, index, draw, draws):
        return x / 2


register.defense("dimmed", Dimmed, title="Dimmed")
try:
    load_model("mine/mixup")
except UserError as error:
    assert "load_model" in str(error)
