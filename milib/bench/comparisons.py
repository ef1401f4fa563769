"""What the benchmark compares: pairs of contenders, and the ratios that milib is held to."""

from dataclasses import dataclass

from milib.bench.contenders import CONTENDERS


@dataclass(frozen=True)
class Comparison:
    """A ratio of the times of two contenders.

    - what: the ratio in words, as it is printed.
    - ours, theirs: names of CONTENDERS.
    - limit: the largest ratio that is good enough; None where nothing is asked.
    - limit_avx512: the same on a CPU with AVX-512, where it is another one.
    - note: printed beside the ratio.
    """

    what: str
    ours: str
    theirs: str
    limit: float | None = None
    limit_avx512: float | None = None
    note: str = ""

    def limit_on(self, capability: str) -> float | None:
        """The limit on a machine.

        - capability: its instruction set, as `machine` names it.
        """
        if "AVX512" in capability and self.limit_avx512 is not None:
            return self.limit_avx512
        return self.limit


# fmt: off
COMPARISONS = [
    Comparison("PGD step / folded forward",
               "pgd milib", "forward", limit=2.20,
               note="exact fp32; the limit is 2.0"),
    Comparison("PGD step / plain loop",
               "pgd milib", "pgd plain loop", limit=0.80, limit_avx512=0.70,
               note="channels_last, input gradient alone"),
    Comparison("PGD step / torchattacks",
               "pgd milib", "pgd torchattacks", limit=0.80, limit_avx512=0.70),
    Comparison("PGD step / foolbox", "pgd milib", "pgd foolbox"),
    Comparison("PGD step / AutoAttack APGD",
               "pgd milib", "pgd AutoAttack APGD",
               note="as many iterations; APGD sets its own step sizes"),
    Comparison("PGD step / ART", "pgd milib", "pgd ART"),
    Comparison("PGD step in bf16 / plain loop",
               "pgd milib bf16", "pgd plain loop", limit=0.40,
               note="bf16 against fp32"),
    Comparison("its convolutions alone / plain loop",
               "convolutions", "pgd plain loop",
               note="a PGD step in fp32 cannot beat it on a CPU; on CUDA it fuses them"),
    Comparison("its convolutions in bf16 alone / plain loop",
               "convolutions bf16", "pgd plain loop",
               note="the same in bf16"),
    Comparison("PGD step, compiled / plain loop",
               "pgd milib compiled", "pgd plain loop",
               note="torch.compile of the folded net"),
    Comparison("PGD-10, 50 and 200 in one / three runs",
               "pgd 10, 50, 200 in one", "pgd 10, 50, 200 apart", limit=0.79,
               note="200 / 260 is the limit"),
    Comparison("MI-OL / N + 1 bare forwards",
               "mi", "forwards", limit=1.05,
               note="forwards at the best batch size"),
    Comparison("MI-OL / Algorithm 1 at batch 1",
               "mi", "algorithm 1, batch 1", limit=1 / 2.4,
               note="as the authors ran it"),
    Comparison("MI-OL / Algorithm 1, batched",
               "mi", "algorithm 1, batched",
               note="one draw at a time for the whole batch"),
    Comparison("MI-Combined / MI-OL, none flagged",
               "mi-combined, none flagged", "mi",
               note="N draws of MI-PL and one base prediction"),
    Comparison("MI-Combined / MI-OL, half flagged", "mi-combined, half flagged", "mi"),
    Comparison("MI-Combined / MI-OL, all flagged", "mi-combined, all flagged", "mi"),
    Comparison("adaptive gradient / K bare passes",
               "mi adaptive", "passes", limit=1.05,
               note="forward and backward, K adaptive samples"),
    Comparison("defense's forward and backward / N bare passes",
               "mi gradient", "passes", limit=1.40,
               note="all chunks but the last are run twice: 1 + 1 / 2.1 is the bound"),
    Comparison("the same where the draws fill four chunks",
               "mi gradient, four chunks", "passes, four chunks", limit=1.40,
               note="as in the rows on memory"),
    Comparison("defense's forward and backward / N plain passes",
               "mi gradient", "plain passes",
               note="passes of the net as it is: not folded, not frozen"),
    Comparison("training, compact net / DataLoader loop",
               "train compact", "train compact usual", limit=0.90,
               note="torchvision transforms, two workers"),
    Comparison("training in bf16, compact net / DataLoader loop",
               "train compact bf16", "train compact usual",
               note="bf16 against fp32"),
    Comparison("training, ResNet-50 / DataLoader loop",
               "train resnet50", "train resnet50 usual",
               note="batch 32"),
    Comparison("training in bf16, ResNet-50 / DataLoader loop",
               "train resnet50 bf16", "train resnet50 usual",
               note="bf16 against fp32"),
    Comparison("AT with PGD-10, compact net / common mistake",
               "at compact", "at compact usual", limit=0.78,
               note="weight gradients inside the attack"),
    Comparison("AT with PGD-10, ResNet-50 / common mistake",
               "at resnet50", "at resnet50 usual", limit=0.78,
               note="batch 32"),
]
# fmt: on


def groups() -> list[list[str]]:
    """The contenders that COMPARISONS joins, directly or through others: a group takes turns."""
    found: list[set[str]] = []
    for row in COMPARISONS:
        group = {row.ours, row.theirs}
        for other in [known for known in found if known & group]:
            found.remove(other)
            group |= other
        found.append(group)
    return [[name for name in CONTENDERS if name in group] for group in found]
