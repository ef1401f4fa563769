"""Web pages that load nothing: equations as MathML, captions, one style, templates."""

import html
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent
CSS = (HERE / "style.css").read_text("utf-8")
LOADS = re.compile(
    r"<script\b.*?</script\s*>|<style\b.*?</style\s*>"
    r"|<(?:img|iframe|link|source|video|audio|embed|object|image|use|base|meta)\b[^>]*>",
    re.S | re.I,
)
HEAD = re.compile(r"<th\b([^>]*)>(.*?)</th>", re.S)
HYPHENATED = re.compile(r"(?<![^\s>])[^\s<>]+-[^\s<>]+(?![^<]*>)")
"""A word with a hyphen, outside tags."""
REMOTE = re.compile(r"""[="'(\s](?:https?:)?//|^<script""", re.I)
REWRITE = {
    r"\\(begin|end)\{(?:aligned|align\*?|eqnarray\*?)\}": r"\\\1{split}",
    r"\\(begin|end)\{gather(?:ed|\*)?\}": r"\\\1{matrix}",
    r"\\operatorname\*": r"\\operatorname",
    r"\\arg\s*\\(max|min)(?![a-zA-Z])": r"\\arg\1",
    r"\\arg(?![a-zA-Z])": r"\\operatorname{arg}",
}
"""TeX that latex2mathml misses, in words that it knows."""
TAG = re.compile(r"\\tag\*?\s*\{([^}]*)\}")
UNNUMBERED = re.compile(r"\\(?:notag|nonumber)(?![a-zA-Z])|\\(?:begin|end)\{equation\*?\}")
VARIANT = re.compile(r'<(m[ino]) mathvariant="([a-z-]+)">([^<]+)</\1>')
CAPITAL_GREEK = re.compile("<mi>(&#x003(?:9[1-9A-F]|A[0-9]);)</mi>")


def page_width(png: Path) -> int:
    """The width on a page at which all figures have letters of one size, in pixels.

    - png: a figure; its pixels are half a page's.
    """
    return int.from_bytes(png.read_bytes()[16:20]) // 2


def mathml(tex: str, block: bool = False) -> str:
    r"""An equation as MathML, with its \tag at the right.

    - tex: TeX without its dollars. What latex2mathml does not know is shown as it is, in
      <code class="tex">.
    - block: whether the equation stands on a line of its own; by default it does not.
    """
    from latex2mathml.converter import convert

    plain = UNNUMBERED.sub("", TAG.sub("", tex)).strip()
    for theirs, known in REWRITE.items():
        plain = re.sub(theirs, known, plain)
    try:
        math = convert(plain, display="block" if block else "inline")
    except Exception:  # its parser also lets IndexError and the like escape
        math = ">\\"
    if ">\\" in math:
        return f'<code class="tex">{html.escape(tex.strip())}</code>'
    math = math.replace("negativethinmathspace", "-0.167em")
    math = math.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    math = CAPITAL_GREEK.sub(r'<mi mathvariant="normal">\1</mi>', math)  # upright, as in TeX
    math = VARIANT.sub(_as_unicode, math)
    if not block:
        return math
    numbers = "".join(f"<span>({html.escape(tag)})</span>" for tag in TAG.findall(tex))
    return f'<span class="equation"><span tabindex="0">{math}</span>{numbers}</span>'


def _as_unicode(found: re.Match) -> str:
    """A letter of a mathvariant that browsers do not draw, as its own Unicode character."""
    element, style, text = found.groups()
    letter = html.unescape(text)
    if style == "normal" or len(letter) != 1:
        return found[0]
    words = style.upper().replace("BOLD-ITALIC", "BOLD ITALIC")
    name = re.sub(r"^(LATIN|GREEK) | LETTER", "", unicodedata.name(letter, ""))
    try:
        letter = unicodedata.lookup(f"MATHEMATICAL {words} {name}")
    except KeyError:
        return found[0]
    return f"<{element}>{letter}</{element}>"


def prose(text: object) -> Markup:
    """A caption as HTML: escaped, with $equations$ and `code`. The templates' filter `prose`.

    - text: plain text; what is no string is written by `str`.
    """
    found = []
    for part in re.split(r"(\$[^$]+\$|`[^`]+`)", str(text)):
        if len(part) > 2 and part.startswith("$"):
            found.append(mathml(part[1:-1]))
        elif len(part) > 2 and part.startswith("`"):
            found.append(f"<code>{html.escape(part[1:-1])}</code>")
        else:
            found.append(html.escape(part))
    return Markup("".join(found))


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""The templates of this folder. What is put into them is escaped unless it is Markup."""
TEMPLATES.filters["prose"] = prose


@dataclass(frozen=True)
class Entry:
    """A line of a page's contents.

    - id: of the heading, figure or table that it leads to.
    - title: plain text, or Markup.
    - parts: the lines below it.
    """

    id: str
    title: str
    parts: list["Entry"] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """A link to the page before, after or above.

    - to: its address.
    - title: of that page.
    - sign: an arrow.
    """

    to: str
    title: str
    sign: str


@dataclass(frozen=True)
class Around:
    """What stands around a page's body.

    - contents: its lines.
    - turns: links to other pages.
    """

    contents: list[Entry] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


def whole_page(title: str, body: str, around: Around, source: str = "", css: str = "") -> bytes:
    """A whole page that loads nothing.

    What would load something is taken out, and the page's policy makes a browser refuse it too.

    - title: plain text.
    - body: HTML.
    - around: the contents and the links to other pages.
    - source: a fingerprint of what the page was made from.
    - css: styles besides those of style.css.
    """
    offline = LOADS.sub(lambda found: "" if REMOTE.search(found[0]) else found[0], body)
    page = TEMPLATES.get_template("page.html.j2").render(
        title=title,
        body=Markup(readable_heads(offline)),
        contents=around.contents,
        turns=around.turns,
        source=source,
        css=Markup(CSS + css),
    )
    return page.encode()


def readable_heads(body: str) -> str:
    """A table's heads for a screen reader and for a narrow page.

    - body: HTML. An empty head becomes a plain cell, which is not read as a head. A word with a
      hyphen is not broken there.
    """
    return HEAD.sub(_readable_head, body)


def _readable_head(found: re.Match) -> str:
    attributes, text = found.groups()
    if text.strip() in ("", "&nbsp;"):
        return f"<td{attributes}></td>"
    return f"<th{attributes}>{HYPHENATED.sub(_unbroken, text)}</th>"


def _unbroken(found: re.Match) -> str:
    return f'<span class="word">{found[0]}</span>'
