"""A report on paper: its first page as a PDF that Chromium prints."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from milib import files
from milib.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Programs that can print, in the order in which they are looked for."""
LIMIT = 300
"""Seconds that a browser may take."""
LINK = re.compile(r'<a href="(?!#|https?:)[^"]*">(.*?)</a>', re.S)
FOLDED = re.compile(r"<details(?: class=\"made\")?>")
IMAGE = re.compile(r'(<img [^>]*?src=")(?!data:)')


def printable(page: str) -> str:
    """A page as it is printed, from a folder beside its files.

    - page: its HTML.

    What is folded away is open, but for what is to be copied, and links to files are plain text.
    """
    body, records, rest = page.partition('<section id="records">')
    opened = FOLDED.sub(lambda found: found[0].replace(">", " open>"), body)
    return IMAGE.sub(r"\1../", LINK.sub(r"\1", opened + records + rest))


def write(index: Path) -> Path:
    """Prints a report's first page into report.pdf beside it.

    - index: the page, as `index.build` writes it.

    Returns the path of report.pdf. Raises UserError where no browser is there, or it prints none.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError("no Chromium prints a PDF here: install chromium, or leave out FORMAT=pdf")
    target = index.with_name("report.pdf")
    with tempfile.TemporaryDirectory(prefix=".printing-", dir=index.parent) as folder:
        page, printed = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(printable(index.read_text("utf-8")), encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"]
        command += [f"--print-to-pdf={printed}", page.as_uri()]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{browser} did not print within {LIMIT} s: run it again") from None
        if not printed.is_file():
            why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise UserError(f"{browser} did not print the report: {why}")
        files.write_atomic(target, printed.read_bytes())
    return target
