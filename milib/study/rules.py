"""The claims of params/claims.yaml: the rule of each is hashed, its words may be mended."""

from milib.files import digest
from milib.study.params import read_table
from milib.study.paths import project_root

RULE = ("id", "notebook", "statistic", "of", "margin", "room")
"""What decides a claim's verdict; `statement` and `source` are words."""


def claims_table() -> list[dict]:
    """Every claim with its rule and its words.

    Raises UserError where params/claims.yaml is not YAML.
    """
    return read_table(project_root() / "params" / "claims.yaml")


def rule(claim: dict) -> dict:
    """The rule of a claim, without its words.

    - claim: from `claims_table`.
    """
    return {key: claim[key] for key in RULE}


def rules_digest() -> str:
    """The fingerprint of all rules. Records carry it: a rule that changed afterwards is seen."""
    return digest([rule(claim) for claim in claims_table()])


def in_words(judged: list[dict]) -> list[dict]:
    """Judged claims with the words that params/claims.yaml has for them.

    - judged: from a claims record: "id", "comparisons" and "verdict" of each.
    """
    words, found = {claim["id"]: claim for claim in claims_table()}, []
    for claim in judged:
        measured = {key: claim[key] for key in ("id", "comparisons", "verdict")}
        found.append(words.get(claim["id"], {}) | measured)
    return found
