"""The report: offline pages whose links resolve, verdicts, what made what, and the profile."""

import base64
import html.parser
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest

from milib import files
from milib.errors import UserError
from milib.report import index, notebook_page, profile
from milib.report.__main__ import main, place
from milib.report.html import mathml
from milib.study import paths, rules
from milib.views import styling

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TEXT = r"""# A *short* course
Inline $F(\tilde x) < \mathbf{1}_{z=1}$, code `$a$`, display
$$\begin{aligned} F_y &= 1 + G_y \\ &= \lambda \end{aligned} \tag{7}$$

| case | $\Delta F|_{z=1}$ |
|---|---|
| MI-PL | $\lambda - 1$ |

```python
price = "$x$"
```
[next](02_b.ipynb#end), [gone](../milib/theory.py), [paper](https://example.org/paper),
![remote](https://example.org/a.png)
<script src="https://example.org/x.js"></script>
"""


class Links(html.parser.HTMLParser):
    """What a page loads (src, link) and where it leads (a href)."""

    def __init__(self, page: Path):
        super().__init__()
        self.loads, self.leads = [], []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loads += [found[key] for key in ("src", "srcset", "poster", "data") if key in found]
        if tag == "link":
            self.loads.append(found["href"])
        if tag == "a":
            self.leads.append(found["href"])


def known(number: int, data: str = "digits") -> dict:
    """The identity of a record."""
    return {"data": data, "rehearsal": data == "digits", "number": number}


def file_of(name: str, number: int) -> str:
    """The file's name of a record."""
    return f"{name}-{files.digest(known(number))}.json"


def record(
    folder: Path,
    name: str,
    number: int,
    result: dict,
    when: str = "2026-01-01T00:00:00+00:00",
    data: str = "digits",
) -> str:
    """A record as the store leaves it; its file's name is returned."""
    identity = known(number, data)
    fingerprint = files.digest(identity)
    made = {
        "commit": "abc1234",
        "versions": {"python": "3.11", "torch": "2.15"},
        "machine": "AVX512",
        "threads": 2,
        "when": when,
    }
    content = {
        "name": name,
        "notebook": "01_a",
        "fingerprint": fingerprint,
        "checksum": files.digest(result),
        "seconds": 1.5,
        "identity": identity,
        "made": made,
        "result": result,
    }
    path = folder / "records" / f"{name}-{fingerprint}.json"
    files.write_atomic(path, json.dumps(content).encode())
    return path.name


CLAIM = {
    "id": "T2-a",
    "statement": r"MI-OL <helps> at $\lambda$",
    "source": "Table 2",
    "statistic": "beats",
    "margin": 0.05,
    "room": 0.01,
}


def claims(verdict: str) -> dict:
    comparison = {"label": r"MI-OL $-$ bare", "mean": 0.25, "low": 0.125, "high": 0.5}
    return {"claims": [{"id": "T2-a", "comparisons": [comparison], "verdict": verdict}]}


def write_notebook(path: Path, *cells, **metadata) -> None:
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    files.write_atomic(path, nbformat.writes(notebook).encode())


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Path:
    """A run's folder as papermill and a store leave it; CLAIM is the only claim."""
    monkeypatch.setattr(rules, "claims_table", lambda: [CLAIM])
    folder = tmp_path / "outputs" / "digits"
    v4 = nbformat.v4
    widget = {
        "text/plain": "a slider in words",
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
    }
    explorer = widget | {
        "text/plain": "its numbers",
        "image/png": base64.b64encode(PNG[::-1]).decode(),
    }
    picture = {"image/png": base64.b64encode(PNG).decode(), "text/plain": "<Figure>"}
    latex = {"text/latex": r"$\lambda > 1/L$", "text/plain": "latex"}
    shown = (picture, widget, explorer, latex)
    outputs = [v4.new_output("display_data", data) for data in shown]
    code = v4.new_code_cell("x = '<b>' + \"$$\"[:1]", outputs=outputs, execution_count=1)
    state = {"state": {"1": {}}, "version_major": 2, "version_minor": 0}
    widgets = {"application/vnd.jupyter.widget-state+json": state}
    first = folder / "notebooks" / "01_a.ipynb"
    write_notebook(first, v4.new_markdown_cell(TEXT), code, widgets=widgets)
    second = v4.new_markdown_cell("# Second\n## end")
    write_notebook(folder / "notebooks" / "02_b.ipynb", second, widgets=widgets)
    score = record(folder, "score", 1, {"cells": [1, 2]})
    record(folder, "claims-01_a", 1, claims("holds"), "2026-01-01T00:00:00+00:00")
    record(folder, "claims-01_a", 2, claims("undecided"), "2026-02-01T00:00:00+00:00")
    about = {
        "notebook": "01_a",
        "caption": r"Accuracy at $\epsilon$",
        "settings": "9 test images",
        "models": "erm: <small> net",
        "records": [score, "lost-2.json"],
    }
    profiled = [
        {"kind": "record", "name": score, "seconds": 1.5, "cached": False},
        {"kind": "record", "name": score, "seconds": 0.0, "cached": True},
        {"kind": "checkpoint", "name": "erm-1.safetensors", "seconds": 0.0, "cached": True},
    ]
    for file, content in {
        "figures/fig2.png": PNG,
        "figures/fig2.svg": b"<svg/>",
        "figures/fig2.json": json.dumps(about).encode(),
        "figures/bare.png": PNG,
        "tables/table2.csv": b"row,clean,clean low,clean high\nMixup <1>,81.0,79.5,82.5\n",
        "checkpoints/erm-1.jsonl": b'{"name": "erm"}\n{"epoch": 1, "seconds": 2.5}\n',
        "profile/01_a.json": json.dumps(profiled).encode(),
        "profile/01_a.seconds": b"12.5\n",
    }.items():
        files.write_atomic(folder / file, content)
    return folder


def test_pages_load_nothing_and_lead_somewhere(run):
    index.build(run)
    pages = [run / "index.html", run / "notebooks" / "01_a.html", run / "notebooks" / "02_b.html"]
    for page in pages:
        found, text = Links(page), page.read_text()
        assert all(url.startswith("data:") for url in found.loads), page
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//|<script", text), page
        for url in map(urlsplit, found.leads):
            if url.netloc:
                assert url.netloc == "example.org", url
                continue
            assert not url.scheme and not url.path.startswith("/"), url
            there = (page.parent / unquote(url.path)).is_file()
            inside = not url.path and f'id="{url.fragment}"' in text
            assert there or inside, url.geturl()
    first = Links(pages[1]).leads
    assert "02_b.html#end" in first and "https://example.org/paper" in first
    assert {
        "notebooks/01_a.html",
        "notebooks/01_a.ipynb",
        "figures/fig2.svg",
        "checkpoints/erm-1.jsonl",
    } <= set(Links(pages[0]).leads)


def test_only_a_table_with_rows_leads_to_its_copies(run):
    filled, cells = pd.DataFrame({"clean": [81.0]}, pd.Index(["Mixup"], name="row")), []
    for name, frame in (("table2", filled), ("paired", filled.iloc[:0])):
        data = {"text/html": styling.Shown(frame, name, "Accuracy")._repr_html_()}
        output = nbformat.v4.new_output("display_data", data)
        source = f'tables.save(study, {name}, "{name}", caption)'
        cells.append(nbformat.v4.new_code_cell(source, outputs=[output], execution_count=1))
    write_notebook(run / "notebooks" / "01_a.ipynb", *cells)
    index.build(run)
    page = (run / "notebooks" / "01_a.html").read_text()
    leads = re.findall(r'<p class="copies"><a href="([^"]+)"', page)
    assert leads == ["../index.html#table_table2"]


def test_equations_are_mathml(run):
    index.build(run)
    text = (run / "notebooks" / "01_a.html").read_text()
    assert text.count("<math") == 5  # inline, display, two in the table, the LaTeX output
    assert "<span>(7)</span>" in text and r"\tag" not in text and 'class="tex"' not in text
    assert "$$" not in re.sub(r"<div class=\"highlight.*?</div>", "", text, flags=re.S)
    assert "<td>MI-PL</td>" in text, "the | of an equation parted the cells of its table"
    assert "<code>$a$</code>" in text and "$x$" in text
    assert "𝟏" in text, "browsers ignore mathvariant"
    assert (run / "index.html").read_text().count(
        "<math"
    ) == 4  # statement, comparison, caption twice


@pytest.mark.parametrize(
    ("tex", "wanted"),
    [
        (r"\hat y = \arg\max_k F_k", "arg&#x02009;max"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "</mtr><mtr>"),
        (r"x \sim p", "<mo>&#x0223C;</mo>"),
        (
            r"\begin{align} a &= b \tag{1} \\ c &= d \tag{2} \end{align}",
            "<span>(1)</span><span>(2)</span>",
        ),
        (r"a < \unknownmacro", r'<code class="tex">a &lt; \unknownmacro</code>'),
        (r"\left( a", r'<code class="tex">\left( a</code>'),
    ],
)
def test_equations_one_by_one(tex, wanted):
    assert wanted in mathml(tex, block=True)


def test_outputs_of_notebooks(run):
    index.build(run)
    text = (run / "notebooks" / "01_a.html").read_text()
    assert "a slider in words" in text and "model_id" not in text
    assert base64.b64encode(PNG).decode() in text
    assert base64.b64encode(PNG[::-1]).decode() in text and "its numbers" not in text, (
        "an explorer saved in JupyterLab leaves its picture"
    )
    assert text.startswith("<!DOCTYPE html>") and "<title>A *short* course</title>" in text


def test_notebook_is_rendered_again_only_when_it_changed(run, tmp_path):
    source, page = run / "notebooks" / "02_b.ipynb", tmp_path / "out" / "b.html"
    assert notebook_page.notebook_html(source, page)
    assert not notebook_page.notebook_html(source, page)
    source.write_text(source.read_text().replace("Second", "Third"))
    assert notebook_page.notebook_html(source, page) and "Third" in page.read_text()


def test_claims_of_the_newest_record(run):
    text = index.build(run).read_text()
    assert "0 hold, 0 fail, 1 undecided" in text and 'class="claim undecided"' in text
    assert "MI-OL &lt;helps&gt; at" in text and "<strong>+25.0</strong> [+12.5,&nbsp;+50.0]" in text
    assert "T2-a; Table 2; margin 5 ± 1<" in text


def test_a_caption_tells_settings_and_models(run):
    assert "<p>9 test images; erm: &lt;small&gt; net.</p>" in index.build(run).read_text()


def test_the_settings_are_those_of_the_notebooks_parameters(run):
    write_notebook(run / "notebooks" / "04_c.ipynb")
    noted = json.dumps({"n_test": 50, "epsilon": "8/255"}).encode()
    files.write_atomic(run / "profile" / "04_c.parameters", noted)
    text = index.build(run).read_text()
    attack = "PGD within 8/255, in steps of 0.025, on pixels in [0, 1]"
    assert f"small net; 50 test images; {attack}; N = 30, 3 sets of draws" in text


@pytest.mark.parametrize(
    "metadata", [{"tags": ["parameters"]}, {"jupyter": {"source_hidden": True}}]
)
def test_the_parameters_cell_is_folded_away(run, metadata):
    hidden = nbformat.v4.new_code_cell("# The run's parameters\nseed = 7", metadata=metadata)
    injected = nbformat.v4.new_code_cell("seed = 8", metadata={"tags": ["injected-parameters"]})
    shown = nbformat.v4.new_code_cell("shown = 9")
    write_notebook(run / "notebooks" / "04_c.ipynb", hidden, injected, shown)
    index.build(run)
    text = (run / "notebooks" / "04_c.html").read_text()
    folded = re.findall(
        r"<details class=\"parameters\"><summary>(.*?)</summary>(.*?)</details>", text, re.S
    )
    assert [summary for summary, _ in folded] == [
        "Parameters of this run",
        "Parameters that this run changes",
    ]
    assert ">7<" in folded[0][1] and ">8<" in folded[1][1]
    assert "<details open" not in text and not any("shown" in content for _, content in folded)
    assert ">9<" in text


def test_what_a_run_lacks_is_counted_and_the_symbols_are_linked(run):
    record(run, "claims-02_b", 3, claims("not measured"))
    files.write_atomic(
        run / "notebooks" / "01_train_mixup.ipynb", (run / "notebooks" / "01_a.ipynb").read_bytes()
    )
    text = index.build(run).read_text()
    assert "1 undecided, 1 not measured" in text and 'class="claim not-measured"' in text
    assert 'Symbols are explained in <a href="notebooks/01_train_mixup.html">notebook 1</a>' in text


def test_of_many_comparisons_the_weakest_stands_open(run):
    many = claims("fails")
    many["claims"][0]["comparisons"] = [
        {"label": f"against {k}", "mean": low + 0.1, "low": low, "high": 1.0}
        for k, low in enumerate((0.2, 0.1, -0.3, 0.4, 0.3))
    ]
    record(run, "claims-01_a", 4, many, when="2027-01-01T00:00:00+00:00")
    shown = index.build(run).read_text().split('class="claim fails"')[1].split("</article>")[0]
    assert "of 5 comparisons" in shown
    assert re.findall(r"against \d|<details>|</details>", shown) == [
        "against 2",
        "<details>",
        "against 1",
        "against 0",
        "against 4",
        "against 3",
        "</details>",
    ]


def test_claims_of_the_record_the_last_run_read(run):
    """After a parameter was changed and changed back the older record is the right one."""
    entry = {"kind": "record", "name": file_of("claims-01_a", 1), "seconds": 0.0, "cached": True}
    (run / "profile" / "01_a.json").write_text(json.dumps([entry]))
    text = index.build(run).read_text()
    assert "1 hold, 0 fail, 0 undecided" in text and "of an earlier run" not in text


def test_claims_the_last_run_did_not_reach_are_called_old(run):
    assert "01_a (of an earlier run)</h3>" in index.build(run).read_text()


def test_figures_say_what_made_them(run):
    text = index.build(run).read_text()
    assert text.count(f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"') == 2
    made = re.search(r'<figure id="fig2">.*?</figure>', text, re.S)[0]
    assert (
        "01_a</a> at commit abc1234" in made
        and "lost-2.json (no longer there)" in made
        and f"{file_of('score', 1)}</a>" in made
    )
    assert (
        "nothing says what made it" in re.search(r'<figure id="bare">.*?</figure>', text, re.S)[0]
    )


def test_tables_are_styled_from_their_csv(run):
    text = index.build(run).read_text()
    shown = re.search(r'<figure id="table_table2">.*?</figure>', text, re.S)[0]
    assert re.search(r"<td [^>]*>81\.0<br><small>[^<]*79\.5[^<]*82\.5[^<]*</small></td>", shown)
    assert "Mixup &lt;1&gt;" in shown and 'href="tables/table2.csv"' in shown
    assert '<div class="wide" tabindex="0"' in shown, "a table that is too wide scrolls by itself"


def test_digits_are_called_a_rehearsal(run):
    assert "a rehearsal, never evidence about the paper" in index.build(run).read_text()
    other = run.rename(run.parent / "c10")
    for path in (other / "records").glob("*.json"):
        path.unlink()
    record(other, "score", 1, {"cells": [1, 2]}, data="cifar10")
    text = index.build(other).read_text()
    assert "rehearsal" not in text and "CIFAR-10" in text


def test_profile(run):
    lines = profile.profile(run).splitlines()
    assert re.search(r"01_a +12\.5 s  computed: record 1 \(1\.5 s\); from the cache: 1$", lines[1])
    assert re.search(r"02_b +not re-run: nothing changed$", lines[2])
    assert lines[-1].split() == ["1.5", "s", "record", file_of("score", 1), "(01_a)"]


def test_failed_notebook_is_shown_as_such(run):
    failed = json.loads((run / "notebooks" / "02_b.ipynb").read_text())
    failed["metadata"]["papermill"] = {"exception": True}
    (run / "notebooks" / "03_c.failed.ipynb").write_text(json.dumps(failed))
    text = index.build(run).read_text()
    assert text.count("stopped with an error") == 1 and 'href="notebooks/03_c.failed.html"' in text
    assert "03_c" not in profile.profile(run)


def test_empty_run(tmp_path):
    (tmp_path / "new").mkdir()
    assert "No claims were judged yet" in index.build(tmp_path / "new").read_text()


@pytest.mark.parametrize(
    "file",
    [
        f"records/{file_of('score', 1)}",
        "notebooks/01_a.ipynb",
        "figures/fig2.json",
        "profile/01_a.seconds",
        "checkpoints/erm-1.jsonl",
    ],
)
def test_damaged_files_are_named(run, file):
    (run / file).write_text("{")
    with pytest.raises(UserError, match=re.escape(Path(file).name)) as caught:
        index.build(run)
    assert "\n" not in str(caught.value)


def test_command_line(run, monkeypatch, capsys):
    monkeypatch.setenv("MILIB_OUTPUTS", str(run.parent))
    main(["digits"])
    out = capsys.readouterr().out
    assert "not re-run" in out and out.rstrip().endswith("index.html")
    with pytest.raises(SystemExit, match=r"UserError: .*make study RUN=missing"):
        main(["missing"])


def test_a_run_that_is_not_in_outputs_is_the_curated_one(run, monkeypatch):
    monkeypatch.setenv("MILIB_OUTPUTS", str(run.parent))
    assert place("digits") == run
    assert place("c10_compact") == paths.reference_root() / "c10_compact"
