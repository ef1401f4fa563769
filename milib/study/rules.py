"""The claims of params/claims.yaml: the rule of each is hashed, its words may be mended."""

from pathlib import Path

from milib import checks
from milib.defenses import DEFENSES
from milib.errors import UserError
from milib.files import digest
from milib.study.params import read_table
from milib.study.paths import project_root
from milib.training import MODELS

RULE = ("id", "notebook", "statistic", "of", "margin", "room")
"""What decides a claim's verdict; WORDS are words."""
WORDS = ("statement", "source")
DETECTORS = ("mi_pl", "mi_ol", "confidence")
MODES = ("pl", "ol")
COLUMNS = ("clean", "untargeted_pgd10", "targeted_pgd10")
ROW = (MODELS, tuple(DEFENSES))
"""A row of 04's table: a model and a defense."""
CONTROLS = ("mean_image", "fixed_partners")
"""Defenses that 08 alone has."""
UNDER = ("standard", "worst case")
VARIANT = (MODELS, (*DEFENSES, *CONTROLS))
OF = {
    "more_linear": {"model": MODELS, "than": MODELS},
    "beats": {"row": ROW, "others": [ROW], "column": COLUMNS},
    "gains_more": {"pairs": [(MODELS, MODELS)]},
    "ric": {"mode": MODES},
    "detects_better": {"detector": DETECTORS, "than": DETECTORS, "models": [MODELS]},
    "below_one_half": {"detector": DETECTORS, "models": [MODELS]},
    "dominates": {"model": MODELS},
    "keeps_more": {"row": VARIANT, "others": [VARIANT], "under": UNDER},
}
"""What `of` holds for each statistic of `comparisons.STATISTICS`.

Names to choose from; a tuple of such is a list of as many items, a list of one such is a list of
any length.
"""
OPTIONAL = ("column",)
"""Keys of `of` that have a default."""


def claims_table() -> list[dict]:
    """Every claim with its rule and its words.

    Raises UserError where params/claims.yaml is not YAML or a claim is not as it must be.
    """
    path = project_root() / "params" / "claims.yaml"
    found, known = read_table(path), set()
    if not isinstance(found, list) or not found:
        raise UserError(f"{path} is {checks.shown(found)}: a list of claims")
    for position, claim in enumerate(found):
        name = claim.get("id") if isinstance(claim, dict) else None
        if not isinstance(name, str) or not name or name in known:
            raise UserError(f"{path}: claim {position + 1} needs an id of its own (its id: {name})")
        known.add(name)
        _check(path, f"{path}: claim {name}", claim)
    return found


def _check(path: Path, where: str, claim: dict) -> None:
    """Refuse a claim with a key, a name or a number that it may not have."""
    _check_keys(where, claim, (*RULE, *WORDS))
    for key in WORDS:
        if not isinstance(claim[key], str) or not claim[key].strip():
            raise UserError(f"{where}: {key} is {checks.shown(claim[key])}: a sentence")
    notebooks = [each.stem for each in (path.parents[1] / "notebooks").glob("[!.]*.ipynb")]
    checks.choice(f"{where}: notebook", claim["notebook"], sorted(notebooks))
    checks.choice(f"{where}: statistic", claim["statistic"], OF)
    checks.number(f"{where}: margin", claim["margin"], -1, 1)
    checks.number(f"{where}: room", claim["room"], 0, 1)
    given, wanted = claim["of"], OF[claim["statistic"]]
    if not isinstance(given, dict):
        raise UserError(f"{where}: of is {checks.shown(given)}: a table of {', '.join(wanted)}")
    _check_keys(f"{where}: of", dict.fromkeys(set(OPTIONAL) & set(wanted)) | given, tuple(wanted))
    for key, value in given.items():
        _check_names(f"{where}: of: {key}", value, wanted[key])


def _check_keys(where: str, given: dict, wanted: tuple[str, ...]) -> None:
    """Refuse a table that lacks a key or has another one."""
    for key in given:
        checks.choice(f"{where}: a key", key, wanted)
    lacking = [key for key in wanted if key not in given]
    if lacking:
        raise UserError(f"{where} lacks {', '.join(lacking)}: write it there")


def _check_names(where: str, value: object, form: tuple | list) -> None:
    """Refuse what has not a form of OF."""
    if isinstance(form, tuple) and isinstance(form[0], str):
        checks.choice(where, value, form)
        return
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} is {checks.shown(value)}: a list")
    if isinstance(form, tuple) and len(value) != len(form):
        raise UserError(f"{where} is {checks.shown(value)}: {len(form)} names")
    parts = form if isinstance(form, tuple) else form * len(value)
    for position, (each, its_form) in enumerate(zip(value, parts, strict=True)):
        _check_names(f"{where}[{position}]", each, its_form)


def rule(claim: dict) -> dict:
    """The rule of a claim, without its words.

    - claim: from `claims_table`.
    """
    return {key: claim[key] for key in RULE}


def rules_digest() -> str:
    """The fingerprint of all rules. Records carry it: a rule that changed afterwards is seen."""
    return digest([rule(claim) for claim in claims_table()])


def in_words(judged: list[dict]) -> list[dict]:
    """Judged claims with the words that params/claims.yaml has for them; without those it lacks.

    - judged: from a claims record: "id", "comparisons" and "verdict" of each.
    """
    words, found = {claim["id"]: claim for claim in claims_table()}, []
    for claim in judged:
        if claim["id"] not in words:  # a run may be older than the table
            continue
        measured = {key: claim[key] for key in ("id", "comparisons", "verdict")}
        found.append(words[claim["id"]] | measured)
    return found
