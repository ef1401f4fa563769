"""The trained nets that a clone of the study ships: outputs/reference/RUN/checkpoints."""

from pathlib import Path

from milib import checks, files, models
from milib.errors import UserError

REFERENCE = Path(__file__).resolve().parents[1] / "outputs" / "reference"
"""The curated runs of the clone that this code lies in; absent beside an installed package."""


def shipped() -> dict[str, Path]:
    """The weights that lie in this clone, as "run/model" -> file."""
    found = {}
    for path in sorted(REFERENCE.glob("*/checkpoints/[!.]*.safetensors")):
        found[f"{path.parts[-3]}/{path.stem.rsplit('-', 1)[0]}"] = path
    return found


def load_model(name: str) -> models.Classifier:
    """A trained net of the study, in eval mode: images [B, C, H, W] in [0, 1] to logits [B, L].

    - name: "run/model", as in "c10_compact/mixup".

    Weights are shipped in half precision and computed with in float32, on the CPU. Raises UserError
    for another name, with those that there are, where an installed package has no clone around it,
    and where the file is damaged.
    """
    known = shipped()
    if not known:
        raise UserError(
            f"load_model: no weights in {REFERENCE}: they are in a clone of the study, not in an "
            "installed package; work in a clone"
        )
    path = known[checks.choice("load_model: name", name, known)]
    weights, header = files.read_tensors(path)
    recipe = header["recipe"]
    first = next(iter(models.build(recipe["model"], recipe["classes"], 1).state_dict()))
    net = models.build(recipe["model"], recipe["classes"], weights[first].shape[1])
    net.load_state_dict(
        {key: value.to(net.state_dict()[key].dtype) for key, value in weights.items()}
    )
    return net.eval()
