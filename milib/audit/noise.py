"""Random corners of the eps-ball: the attack without any knowledge."""

import torch
from torch import Tensor

from milib import losses, rng
from milib.audit.measure import Make, Target
from milib.rng import Draws
from milib.sampling import CHUNK, Sampler, log_mean

CHECKED = 10
"""Of the noises of an image, those with the greatest margin are looked at again."""


def noise(count: int) -> Make:
    """Random corners of the eps-ball: the worst of an image, chosen by one draw each, then by all.

    - count: corners of an image.
    """

    def make(target: Target, draws: Draws) -> Tensor:
        sampler = Sampler(target.classifier, 1)
        size, together = target.x[0].numel(), max(1, CHUNK // len(target.x))
        margins = []

        def corners(row: Tensor, number: Tensor) -> Tensor:
            up = draws.uniform(target.index[row], number, size).view(-1, *target.x.shape[1:]) < 0.5
            moved = target.epsilon * (2 * up.to(target.x) - 1)
            return (target.x[row] + moved).clamp(0, 1)

        every = torch.arange(len(target.x), device=target.x.device)
        for numbers in torch.arange(count, device=target.x.device).split(together):
            row, number = every.repeat_interleave(len(numbers)), numbers.repeat(len(every))
            address = rng.joined(target.index[row], number)
            with torch.no_grad():
                each = sampler.each(corners(row, number), address, Draws("noise", draws.key))
            margin = losses.margin(losses.mean(each), target.label[row])
            margins.append(margin.view(len(every), -1))
        best = torch.cat(margins, 1).topk(min(CHECKED, count), 1).indices
        found, most = target.x.clone(), torch.full((len(every),), -torch.inf, device=every.device)
        for numbers in best.unbind(1):
            tried = corners(every, numbers)
            again = log_mean(target.classifier, tried, target.index, Draws("check", draws.key))
            margin = losses.margin(again, target.label).to(most)
            better = margin > most
            found[better], most[better] = tried[better], margin[better]
        return found

    return make
