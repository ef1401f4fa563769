"""The claims as params/claims.yaml fixes them: the rule of each is hashed, its words may be mended."""

from milib.files import digest
from milib.study.params import read_table
from milib.study.paths import project_root

RULE = ("id", "notebook", "statistic", "of", "margin", "room")
"""What decides a claim's verdict; `statement` and `source` are words."""


def claims_table() -> list[dict]:
    """Every claim with rule and words. Raises UserError where params/claims.yaml is not YAML."""
    return read_table(project_root() / "params" / "claims.yaml")


def rule(claim: dict) -> dict:
    """The rule of a claim, without its words."""
    return {key: claim[key] for key in RULE}


def rules_digest() -> str:
    """The fingerprint of all rules: records carry it, so that none can be changed afterwards."""
    return digest([rule(claim) for claim in claims_table()])


def in_words(judged: list[dict]) -> list[dict]:
    """Judged claims with the words that params/claims.yaml has for them now.

    - judged: of a claims record: id, comparisons and verdict of each.
    """
    words = {claim["id"]: claim for claim in claims_table()}
    return [words.get(claim["id"], {}) | claim_result(claim) for claim in judged]


def claim_result(claim: dict) -> dict:
    """What was measured of a claim: id, comparisons, verdict."""
    return {key: claim[key] for key in ("id", "comparisons", "verdict")}
