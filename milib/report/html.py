"""Web pages that load nothing: equations as MathML, captions, one style."""

import html
import re
import unicodedata
from pathlib import Path

CSS = (Path(__file__).parent / "style.css").read_text()


LOADS = re.compile(
    r"<script\b.*?</script\s*>|<style\b.*?</style\s*>|<(?:img|iframe|link|source|video|audio|embed|object|image|use|base|meta)\b[^>]*>",
    re.S | re.I,
)
REMOTE = re.compile(r"""[="'(\s](?:https?:)?//|^<script""", re.I)
REWRITE = {  # TeX that latex2mathml misses, in words that it knows
    r"\\(begin|end)\{(?:aligned|align\*?|eqnarray\*?)\}": r"\\\1{split}",
    r"\\(begin|end)\{gather(?:ed|\*)?\}": r"\\\1{matrix}",
    r"\\operatorname\*": r"\\operatorname",
    r"\\arg\s*\\(max|min)(?![a-zA-Z])": r"\\arg\1",
    r"\\arg(?![a-zA-Z])": r"\\operatorname{arg}",
}


def mathml(tex: str, block: bool = False) -> str:
    r"""An equation as MathML, its \tag at the right; the TeX itself in <code class="tex"> where latex2mathml does not know it."""
    from latex2mathml.converter import convert

    tags = re.findall(r"\\tag\*?\s*\{([^}]*)\}", tex)
    plain = re.sub(
        r"\\tag\*?\s*\{[^}]*\}|\\(?:notag|nonumber)(?![a-zA-Z])|\\(?:begin|end)\{equation\*?\}",
        "",
        tex,
    ).strip()
    for theirs, known in REWRITE.items():
        plain = re.sub(theirs, known, plain)
    try:
        math = convert(plain, display="block" if block else "inline")
    except Exception:  # its parser also lets IndexError and the like escape
        math = ">\\"
    if ">\\" in math:
        return f'<code class="tex">{html.escape(tex.strip())}</code>'
    math = math.replace("negativethinmathspace", "-0.167em").replace(
        "<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"
    )
    math = re.sub(
        "<mi>(&#x003(?:9[1-9A-F]|A[0-9]);)</mi>", r'<mi mathvariant="normal">\1</mi>', math
    )  # upright capital Greek, as in TeX
    math = re.sub(r'<(m[ino]) mathvariant="([a-z-]+)">([^<]+)</\1>', _styled, math)
    number = "".join(f"<span>({html.escape(tag)})</span>" for tag in tags)
    return f'<span class="equation"><span>{math}</span>{number}</span>' if block else math


def _styled(found: re.Match) -> str:
    """A letter of a mathvariant that browsers no longer draw, as its own Unicode character."""
    element, style, text = found.groups()
    letter = html.unescape(text)
    if style == "normal" or len(letter) != 1:
        return found[0]
    name = re.sub(r"^(LATIN|GREEK) | LETTER", "", unicodedata.name(letter, ""))
    try:
        letter = unicodedata.lookup(
            f"MATHEMATICAL {style.upper().replace('BOLD-ITALIC', 'BOLD ITALIC')} {name}"
        )
    except KeyError:
        return found[0]
    return f"<{element}>{letter}</{element}>"


def prose(text: str) -> str:
    """A caption: escaped, with $equations$ and `code`."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", str(text))
    kinds = {
        "$": lambda part: mathml(part[1:-1]),
        "`": lambda part: f"<code>{html.escape(part[1:-1])}</code>",
    }
    return "".join(
        kinds.get(part[:1] if len(part) > 2 else "", html.escape)(part) for part in parts
    )


def whole_page(title: str, body: str, source: str, css: str = "") -> bytes:
    """A whole page that loads nothing: what would is taken out, and the browser is told to refuse it as well."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    body = LOADS.sub(lambda found: "" if REMOTE.search(found[0]) else found[0], body)
    head = f'<meta charset="utf-8"><meta name="source" content="{source}"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title><style>{CSS}{css}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'.encode()
