"""What every experiment's record is made of."""

from torch import Tensor

from milib import rng
from milib.study.study import Points, Study


def draws_of(study: Study, purpose: str, number: int = 0) -> rng.Draws:
    """The run's draws for a purpose.

    - study: its seed.
    - purpose: "score", "detect" and the like.
    - number: of the set of draws, default 0.
    """
    return rng.Draws(study.params.seed, purpose, number)


def passes(row: dict, draws: int) -> int:
    """Images through the net for one input under a row's defense, beside the input itself.

    - row: model, defense and its parameters.
    - draws: N.
    """
    return {"none": 0, "mi_combined": 2 * draws}.get(row["defense"], draws)


def rounded(values: Tensor, digits: int) -> list:
    """A tensor as nested lists of floats, rounded for a record.

    - values: of any shape.
    - digits: behind the point.
    """
    return values.cpu().double().numpy().round(digits).tolist()


def cell_of(probabilities: list[Tensor], y: Tensor) -> dict:
    """Per-image predictions and the probability of the label, one list a set of draws.

    - probabilities: [n, L] for each set.
    - y: labels [n].
    """
    of_label = [found.gather(1, y[:, None])[:, 0] for found in probabilities]
    return {
        "predictions": [found.argmax(1).tolist() for found in probabilities],
        "probability": [rounded(found, 4) for found in of_label],
    }


def addresses(points: Points) -> dict:
    """The images of a record: their indices and labels.

    - points: the images.
    """
    return {"index": points.index.tolist(), "labels": points.y.tolist()}
