"""The book to take away: its PDF, its chapters as notebooks, and the workflow that publishes it."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from test_book import BOOK, CHAPTERS, LISTED, ROOT, build

sys.path.insert(0, str(ROOT / "tools"))
import book_links
import book_pdf

SHORT = "platforms/features" if "platforms/features" in CHAPTERS else CHAPTERS[0]
"""A chapter whose cells run in a few seconds and need nothing but NumPy."""


def notebook_path(name: str) -> Path:
    return build() / "notebooks" / f"{name.rpartition('/')[2]}.ipynb"


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_a_notebook_in_plain_markdown(name: str) -> None:
    notebook = nbformat.read(notebook_path(name), as_version=4)
    nbformat.validate(notebook)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    source = (BOOK / f"{name}.md").read_text(encoding="utf-8")
    outside = re.sub(r"^(`{3,})(?!\{).*?^\1\s*$", "", prose, flags=re.S | re.M)
    left = re.findall(r"\{[a-z:]+\}`|^:::|^`{3,}\{|^\([\w-]+\)=$|]\(#", outside, re.M)
    assert not left
    assert f"/{name}.html" in notebook.cells[0].source
    assert len(code) == source.count("```{code-cell}") + 1
    assert sum(bool(cell.outputs) for cell in code) >= 3
    assert not any(
        kind.startswith("application/papermill")
        for cell in code
        for output in cell.outputs
        for kind in output.get("data", {})
    )


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_page_of_a_chapter_offers_its_notebook(name: str) -> None:
    page = (build() / f"{name}.html").read_text(encoding="utf-8")
    assert f'href="../notebooks/{notebook_path(name).name}"' in page


def test_a_notebook_runs_as_downloaded(tmp_path: Path) -> None:
    """In an empty folder, in a kernel that has no myst-nb, as on Colab."""
    from nbclient import NotebookClient

    notebook = nbformat.read(notebook_path(SHORT), as_version=4)
    absent = nbformat.v4.new_code_cell("import sys; sys.modules['myst_nb'] = None")
    notebook.cells.insert(0, absent)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    kinds = {
        output.output_type
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    }
    assert kinds >= {"display_data"}


@cache
def printed(folder: Path) -> Any:
    """A PDF of one chapter and the law sheet, printed as the whole book is."""
    from pypdf import PdfReader

    out = folder / "book.pdf"
    book_pdf.make(build(), out, "/usr/bin/chromium", [CHAPTERS[-1], "reference/laws"])
    return PdfReader(out)


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return printed(tmp_path_factory.mktemp("pdf"))


def squeeze(text: str) -> str:
    """Letters and digits only: a line may be broken anywhere on paper."""
    return re.sub(r"[\W_]+", "", text)


@pytest.mark.browser
def test_the_pdf_is_tagged_and_has_bookmarks(pdf: Any) -> None:
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in root
    assert root["/Lang"].startswith("en")
    titles = []

    def walk(marks: list[Any]) -> None:
        for mark in marks:
            if isinstance(mark, list):
                walk(mark)
            else:
                titles.append(str(mark.title))

    walk(pdf.outline)
    assert any("Law sheet" in title for title in titles)
    assert len(titles) >= 8


@pytest.mark.browser
def test_the_pdf_has_open_answers_and_whole_lines(pdf: Any) -> None:
    text = squeeze("".join(page.extract_text() for page in pdf.pages))
    source = (BOOK / f"{CHAPTERS[-1]}.md").read_text(encoding="utf-8")
    answer = re.split(r"^`{3,}\{solution(?:-start)?\}.*$", source, flags=re.M)[-1]
    code = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```", source, re.S | re.M)
    cells = [cell for cell in code if "remove-cell" not in cell and "remove-input" not in cell]
    long = sorted((line for cell in cells for line in cell.split("\n")), key=len)[-5:]
    inside = re.findall(r"^```\{code-cell\}.*?\n(?::.*\n)*(.*?)^```", answer, re.S | re.M)
    expected = [line for line in long if not line.startswith(":")]
    expected += [line for cell in inside[:1] for line in cell.split("\n")[:3]]
    missing = [line for line in expected if squeeze(line) not in text]
    assert not missing


def test_the_whole_book_is_printed() -> None:
    """Every chapter, every answer open, every link within the document leads somewhere."""
    document = book_pdf.whole_book(build(), {})
    wanted = [name for name in LISTED if name not in book_pdf.LEFT_OUT]
    for name in wanted:
        assert f'id="{book_pdf.key(name)}"' in document
    folds = re.findall(r"<details[^>]*>", document)
    assert folds and all(" open" in fold for fold in folds)
    assert (
        document.count('class="fold')
        >= sum(
            (BOOK / f"{name}.md").read_text(encoding="utf-8").count("{solution")
            for name in CHAPTERS
        )
        / 2
    )
    ids = set(re.findall(r'\bid="([^"]+)"', document))
    dead = [link for link in re.findall(r'href="#([^"]+)"', document) if link not in ids]
    assert not dead


def test_without_a_book_or_a_browser_the_command_says_what_to_do(tmp_path: Path) -> None:
    for arguments, hint in (
        (["--site", str(tmp_path)], "run: make book"),
        (["--site", str(build()), "--chromium", "/nowhere"], "apt-get install chromium"),
    ):
        done = subprocess.run(
            [sys.executable, "tools/book_pdf.py", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert hint in done.stderr and done.stderr.count("\n") == 1


def test_links_to_elsewhere_are_collected_with_their_pages() -> None:
    found = book_links.addresses(build())
    assert "https://creativecommons.org/licenses/by/4.0/" in found
    assert all(address.startswith("http") and pages for address, pages in found.items())


def test_without_a_network_the_link_check_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(book_links, "reachable", lambda host: False)
    monkeypatch.setattr(sys, "argv", ["book_links.py", "--site", str(build())])
    assert book_links.main() == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "no network" in said.err


def test_the_workflow_publishes_by_the_same_commands() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    jobs = workflow["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.search(r"@v\d+", step["uses"]), step["uses"]
    run = "\n".join(step.get("run", "") for step in steps)
    for line in re.findall(r"^make (.+)$", run, re.M):
        assert set(line.split()) <= targets, line
    assert ".ci/run" in run
    for target in ("book-cold", "book-zh", "pdf", "book-zip", "links"):
        assert re.search(rf"^make .*\b{target}\b", run, re.M), target
    known = set(jobs)
    for job in jobs.values():
        assert set(job.get("needs", ())) <= known
        assert job["runs-on"]
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert {"test", "build"} <= set(jobs["publish"]["needs"])
    assert workflow["permissions"] == {"contents": "read"}
