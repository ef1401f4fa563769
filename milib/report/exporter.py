"""nbconvert's exporter, with equations as MathML and only links that lead somewhere.

Slow to import: `notebook_page` does so when it has a notebook to show.
"""

import functools
import logging
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jinja2 import pass_context
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from milib.report.html import HERE, mathml

TABLE_ROW = re.compile(r"^ *\|.*\| *$", re.M)
EQUATION = re.compile(r"\$[^$]+\$")


class Renderer(IPythonRenderer):
    """Markdown as HTML, whose equations need no script and whose pictures are embedded."""

    def block_math(self, body: str) -> str:
        """$$...$$ on a line of its own."""
        return mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        """$...$ in a line."""
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        r"""A bare \begin{name} ... \end{name}."""
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A picture where it can be embedded, else its description."""
        drawn = super().image(text, url, title)
        return drawn if 'src="data:' in drawn else f"<em>{text}</em>"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link; to a notebook's page for a notebook; the text alone where it leads nowhere."""
        parts = urlsplit(url)
        if not parts.scheme and not parts.netloc and parts.path:
            if not (Path(self.path) / unquote(parts.path)).exists():
                return text
            url = re.sub(r"\.ipynb(?=#|$)", ".html", url)
        return super().link(text, url, title)


class Exporter(HTMLExporter):
    """nbconvert's own, with `Renderer` for Markdown."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        """Markdown as HTML. As in Jupyter, a | in an equation does not part a table's cells.

        - context: the template's, with the cell and the notebook's folder.
        - source: Markdown.
        """
        source = TABLE_ROW.sub(lambda row: EQUATION.sub(_without_bars, row[0]), source)
        renderer = Renderer(
            escape=False,
            embed_images=True,
            attachments=context.get("cell", {}).get("attachments", {}),
            path=context["resources"]["metadata"]["path"],
        )
        return MarkdownWithMath(renderer).render(source)


def _without_bars(found: re.Match) -> str:
    return found[0].replace(r"\|", r"\Vert ").replace("|", r"\vert ")


@functools.cache
def exporter() -> Exporter:
    """The exporter, made once, silent about images without a description."""
    log = logging.getLogger(__name__)
    log.addHandler(logging.NullHandler())
    return Exporter(
        template_file=str(HERE / "notebook.html.j2"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        log=log,
    )
