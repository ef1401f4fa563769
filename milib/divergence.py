"""Whether a training is still finite, noted without waiting for a GPU."""

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from milib.errors import UserError


class Watch:
    """The first step of an epoch at which loss or weights are not finite.

    - model: the net in training; batch norm's statistics count as weights.
    - name: of the objective.
    - lr: the recipe's.
    """

    def __init__(self, model: nn.Module, name: str, lr: float):
        self.name, self.lr = name, lr
        values = model.state_dict().values()
        self.weights = [value for value in values if value.is_floating_point()]
        # the steps, from 1, at which loss and weights were first not finite; 0: none
        self.at = torch.zeros(2, dtype=torch.int64, device=self.weights[0].device)

    def note(self, loss: Tensor, step: int) -> None:
        """Look at a step that was taken; on a GPU the finding stays there until `stop`.

        - loss: of the step.
        - step: which it is, from 1.
        """
        sizes = torch.stack([loss.float(), get_total_norm(self.weights)])
        self.at = torch.where(sizes.isfinite() | (self.at > 0), self.at, step)

    def stop(self, epoch: int) -> None:
        """Raise UserError where a step was not finite, with the first such step.

        - epoch: that of the steps, from 1.
        """
        of_loss, of_weights = self.at.tolist()
        if of_loss or of_weights:
            step = min(of_loss or of_weights, of_weights or of_loss)
            what = "the loss is" if of_loss == step else "the weights are"
            raise self.error(f"{what} not finite at epoch {epoch}, step {step}")

    def check(self, logits: Tensor, epoch: int) -> None:
        """Raise UserError where logits are not finite, though the weights are.

        - logits: of held-out images.
        - epoch: after which, from 1.
        """
        if not bool(logits.isfinite().all()):
            raise self.error(f"the logits of held-out images are not finite after epoch {epoch}")

    def error(self, what: str) -> UserError:
        """The error of a training that diverged: what to lower.

        - what: what is not finite, and where.
        """
        run = "; of a run: lr_interpolated" if self.name == "interpolated_at" else ""
        return UserError(f"{self.name}: {what}: lower lr (now {self.lr:g}{run})")
