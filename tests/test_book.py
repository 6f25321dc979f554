"""The built book, read as files: its contents, links, figures, and what it would fetch."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
SITE = ROOT / "_build" / "html"
sys.path[:0] = [str(BOOK / "_ext"), str(ROOT / "tools")]

import book_run  # noqa: E402
from coursebook import chapters, figures, gallery, overview  # noqa: E402
from coursebook.places import PARTS  # noqa: E402

LISTED = chapters.listed_pages(chapters.table_of_contents())
CHAPTERS = [name for name in LISTED if name.partition("/")[0] in PARTS]
PLANNED = {
    "foundations": ["measuring", "autodiff"],
    "compilers": ["graph_compiler", "tensor_programs"],
    "training": ["collectives", "parameter_server", "memory"],
    "inference": ["compression", "serving", "kv_cache"],
    "platforms": ["pipelines", "features"],
}
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "audio": "src"}
FETCHED |= {"video": "src", "object": "data", "embed": "src", "image": "href", "use": "href"}


@cache
def build() -> Path:
    """The site, built unless it is up to date; every test of this session uses it."""
    done = subprocess.run(
        [sys.executable, "tools/book.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return SITE


@pytest.fixture(scope="session")
def site() -> Path:
    return build()


@dataclass
class Page:
    """What a page is made of: ids, links, what it fetches, figures, headings."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    description: str = ""
    title: str = ""


class Reader(HTMLParser):
    """Fills a `Page`."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in attrs}
        page = self.page
        if "id" in have:
            page.ids.append(have["id"])
        if tag == "a" and "href" in have:
            page.links.append(have["href"])
        if tag in FETCHED and FETCHED[tag] in have:
            page.fetched.append(have[FETCHED[tag]])
        if tag == "link" and have.get("rel") in ("stylesheet", "preload", "icon", "modulepreload"):
            page.fetched.append(have["href"])
        if tag == "img" or (tag == "svg" and "fig" in have.get("class", "").split()):
            page.images.append(have)
        if re.fullmatch("h[1-6]", tag):
            page.headings.append(int(tag[1]))
        if tag == "meta" and have.get("name") == "description":
            page.description = have["content"]
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside == "title" and not self.page.title:
            self.page.title = data.strip()


@cache
def pages() -> dict[str, Page]:
    """All pages of the built site, by path within it."""
    found = {}
    for path in sorted(build().rglob("*.html")):
        name = path.relative_to(SITE).as_posix()
        if not name.startswith(("pagefind/", "_static/")):
            reader = Reader()
            reader.feed(path.read_text(encoding="utf-8"))
            found[name] = reader.page
    return found


def test_both_tables_of_contents_say_the_same() -> None:
    inner = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    outer = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    inner["root"] = "book/" + inner["root"]
    for part in inner["parts"]:
        for entry in part["chapters"]:
            entry["file"] = "book/" + entry["file"]
    assert outer == inner


def test_every_page_is_listed_once_and_is_there() -> None:
    on_disk = {path.relative_to(BOOK).with_suffix("").as_posix() for path in BOOK.rglob("*.md")}
    assert Counter(LISTED) == Counter(on_disk)


def test_chapters_stand_in_the_order_of_the_course() -> None:
    planned = [f"{part}/{slug}" for part, slugs in PLANNED.items() for slug in slugs]
    assert [name for name in planned if name in CHAPTERS] == CHAPTERS


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_says_what_it_needs(name: str) -> None:
    chapter = chapters.read(BOOK / f"{name}.md")
    assert 0 < len(chapter.description) <= 160
    assert chapter.lab == chapter.slug
    known = {slug for slugs in PLANNED.values() for slug in slugs}
    assert set(chapter.prerequisites) <= known - {chapter.slug}


def test_all_pages_are_built(site: Path) -> None:
    missing = [name for name in LISTED if f"{name}.html" not in pages()]
    assert not missing
    assert {"404.html", "search.html", "index.html"} <= set(pages())


def test_an_unchanged_book_is_not_built_again(site: Path) -> None:
    """Processor time is counted: it is the same on a busy machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "tools/book.py"], cwd=ROOT, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "up to date" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 8


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    outside = {
        (name, address)
        for name, page in pages().items()
        for address in page.fetched
        if urlsplit(address).scheme not in ("", "data") or address.startswith("//")
    }
    assert not outside
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", text), path


def test_internal_links_and_anchors_resolve(site: Path) -> None:
    broken = []
    for name, page in pages().items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or name.endswith("404.html"):
                continue
            target = name
            if parts.path:
                target = os.path.normpath(PurePosixPath(name).parent / unquote(parts.path))
            anchor = unquote(parts.fragment)
            if not (site / target).is_file() or (
                anchor and target in pages() and anchor not in pages()[target].ids
            ):
                broken.append((name, link))
    assert not broken


def test_ids_are_unique_on_a_page(site: Path) -> None:
    twice = {
        name: [one for one, count in Counter(page.ids).items() if count > 1]
        for name, page in pages().items()
    }
    assert not {name: ids for name, ids in twice.items() if ids}


def test_every_picture_has_alternative_text(site: Path) -> None:
    for name, page in pages().items():
        for image in page.images:
            if image.get("role") == "img" or "src" in image:
                ornament = image.get("alt") == "" and "mark.svg" in image.get("src", "")
                assert ornament or image.get("aria-label") or image.get("alt"), (name, image)


def test_pages_have_a_title_a_description_and_ordered_headings(site: Path) -> None:
    for name in LISTED:
        page = pages()[f"{name}.html"]
        assert page.title and 20 <= len(page.description) <= 200, name
        assert page.headings.count(1) == 1, name
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps), name


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_contents_list_the_sections_of_the_page(site: Path, name: str) -> None:
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    contents = re.search(r'<nav class="contents".*?</nav>', text, re.S)
    assert contents
    assert contents[0].count('aria-current="page"') == 1
    assert contents[0].count('href="#') >= 5


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_figures_and_a_lab(site: Path, name: str) -> None:
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    assert text.count("<figcaption>") >= 3
    assert 'class="chapter-head' in text
    assert "box-lab" in text
    assert "box-law" in text


def test_every_law_of_a_chapter_that_exists_leads_there(site: Path) -> None:
    sheet = (site / "reference/laws.html").read_text(encoding="utf-8")
    laws = yaml.safe_load((BOOK / "reference/laws.yml").read_text(encoding="utf-8"))
    for key, law in laws.items():
        row = re.search(rf'<tr[^>]*id="sheet-{key}".*?</tr>', sheet, re.S)
        assert row, key
        if law["chapter"] in CHAPTERS:
            assert re.search(r'href="\.\./[a-z]+/[a-z_]+\.html#law-', row[0]), key


def test_the_map_shows_every_chapter(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    drawing = re.search(r'<figure class="map">.*?</figure>', front, re.S)
    assert drawing
    for name in CHAPTERS:
        assert f'href="{name}.html"' in drawing[0]


def test_the_gallery_shows_every_figure(site: Path) -> None:
    page = (site / "reference/gallery.html").read_text(encoding="utf-8")
    assert gallery.PLACE not in page
    for name in CHAPTERS:
        for found in gallery.FIGURE.finditer((site / f"{name}.html").read_text(encoding="utf-8")):
            assert f'href="../{name}.html#{found[1]}"' in page


def test_the_status_page_tells_of_every_chapter(site: Path) -> None:
    page = (site / "reference/status.html").read_text(encoding="utf-8")
    for name in CHAPTERS:
        assert f"../{name}.html" in page
    assert "matplotlib" in page


def test_no_source_of_a_lab_is_in_the_site(site: Path) -> None:
    names = {path.name for path in site.rglob("*") if path.is_file()}
    assert not names & {"lab.py", "wrong.py", "alternative.py"}


def test_jupyter_book_builds_the_repository_too(site: Path, tmp_path: Path) -> None:
    """`jupyter-book build .` gives the same pages, under book/."""
    cache_folder = tmp_path / "_build" / ".jupyter_cache"
    shutil.copytree(ROOT / "_build" / ".jupyter_cache", cache_folder)
    options = ["-n", "-W", "--keep-going", "--quiet"]
    command = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "build", ".", "--path-output", tmp_path, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in LISTED:
        ours = (site / f"{name}.html").read_text(encoding="utf-8")
        theirs = (tmp_path / f"_build/html/book/{name}.html").read_text(encoding="utf-8")
        if name != "reference/status":
            assert words(theirs) == words(ours), name


def words(page: str) -> list[str]:
    """The words of a page's article."""
    article = re.search(r"<article>(.*?)</article>", page, re.S)
    assert article
    return re.sub(r"<[^>]+>", " ", article[1]).split()


def test_the_site_can_be_taken_away(site: Path, tmp_path: Path) -> None:
    target = tmp_path / "book.zip"
    subprocess.run([sys.executable, "tools/book.py", "--zip", target], cwd=ROOT, check=True)
    with zipfile.ZipFile(target) as archive:
        names = set(archive.namelist())
        assert archive.testzip() is None
    assert {f"mlsys-book/{name}.html" for name in LISTED} <= names


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The scaffold of the book with one page, to be spoilt."""
    for name in ("_ext", "_static", "reference", "references.bib"):
        source, target = BOOK / name, tmp_path / "book" / name
        target.parent.mkdir(exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, target)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copy(ROOT / "_config.yml", tmp_path / "_config.yml")
    (tmp_path / "_build").mkdir()
    if (ROOT / "_build" / "vendor").is_dir():
        (tmp_path / "_build" / "vendor").symlink_to(ROOT / "_build" / "vendor")
    return tmp_path


def make_page(scratch: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    page = scratch / "book" / "training" / "small.md"
    page.parent.mkdir()
    head = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
    page.write_text(f"{head}# Small\n\n{body}", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "tools/book.py", "--page", str(page), "--out", str(scratch / "out")],
        cwd=scratch,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_without_the_registry_formulas_are_mathml(scratch: Path) -> None:
    vendored = scratch / "_build" / "vendor"
    vendored.unlink(missing_ok=True)
    done = make_page(scratch, "With $x^2$.\n", npm_config_registry="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "without its fonts and styles: katex@" in done.stdout
    page = (scratch / "out/_build/html/training/small.html").read_text(encoding="utf-8")
    assert "<msup>" in page
    assert "katex-html" not in page and "katex.css" not in page and "@font-face" not in page


def test_a_page_is_refused_with_all_its_mistakes(scratch: Path) -> None:
    done = make_page(
        scratch,
        "A {cite:p}`nobody1900nothing` and $\\nosuchmacro$.\n\n"
        "```{code-cell} ipython3\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);\n```\n\n"
        ":::{law} unheard_of\nx\n:::\n",
    )
    assert done.returncode == 1
    for part in ("nobody1900nothing", "nosuchmacro", "without alternative text", "unheard_of"):
        assert part in done.stderr, done.stderr


def test_a_cell_that_raises_names_the_page_and_the_line(scratch: Path) -> None:
    done = make_page(scratch, "```{code-cell} ipython3\nprint(1)\n1 / 0\n```\n")
    assert done.returncode == 1
    assert "book/training/small.md: ZeroDivisionError" in done.stderr
    assert "line 8" in done.stderr


def test_wrong_use_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "tools/book.py", "--page", "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "README.md: not a page of the book (a .md file under book/)"


def test_cells_run_in_the_style_of_the_book(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n# P\n\n"
        "```{code-cell} ipython3\nimport os\nimport matplotlib.pyplot as plt\n"
        "print(os.environ['OMP_NUM_THREADS'])\nplt.plot([1, 2]);\n```\n",
        encoding="utf-8",
    )
    results = list(book_run.run([page], tmp_path / ".jupyter_cache", 1))
    assert [(result.cached, result.error) for result in results] == [(False, "")]
    again = list(book_run.run([page], tmp_path / ".jupyter_cache", 1))
    assert [(result.cached, result.error) for result in again] == [(True, "")]
    notebook, _, error = book_run.execute(page)
    assert not error
    text, drawing = notebook.cells[1].outputs
    assert text.text == "1\n"
    assert "<text" in drawing.data["image/svg+xml"]
    assert "#0b5c7d" in drawing.data["image/svg+xml"]


SVG = """<?xml version="1.0"?><!DOCTYPE svg><svg width="72pt" height="36pt" viewBox="0 0 72 36">
<metadata>x</metadata><defs><style type="text/css">*{stroke-linejoin: round}</style></defs>
<g id="a"><path id="p" d="M 1.23456 2.0" style="stroke: #0b5c7d; fill: #1c1f23"/></g>
<use xlink:href="#p" clip-path="url(#a)" fill="#000000"/><text fill="#abcdef">#a</text></svg>"""


def test_a_figure_becomes_part_of_the_page() -> None:
    drawn = figures.inline_svg(SVG, "f1", 'A "line"', "_images/x.svg")
    assert drawn.startswith('<svg class="fig" role="img" aria-label="A &quot;line&quot;"')
    assert 'id="f1-a"' in drawn and 'href="#f1-p"' in drawn and "url(#f1-a)" in drawn
    assert "stroke: var(--fig-1); fill: currentColor" in drawn
    assert 'd="M 1.23 2.0"' in drawn
    assert "#abcdef" in drawn
    assert not re.search("metadata|<style|DOCTYPE|xlink", drawn)


def test_a_figure_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="viewBox"):
        figures.inline_svg("<svg><g/></svg>", "f1", "x")


def test_reading_time_leaves_out_hidden_answers() -> None:
    prose = "word " * 900
    answer = "```{solution} x\n:class: dropdown\n" + "word " * 900 + "\n```\n"
    assert chapters.reading_minutes(prose) == 5
    assert chapters.reading_minutes(prose + "\n\n" + answer) == 5
    code = "```{code-cell} ipython3\n" + "x = 1\n" * 24 + "```\n"
    assert chapters.reading_minutes(prose + "\n" + code) == 7


def test_the_map_joins_a_chapter_to_those_that_lean_on_it() -> None:
    first = chapters.Chapter("training/a", "First", None, (), "", 1)
    second = chapters.Chapter("inference/b", "Second, and more", None, ("a", "absent"), "", 1)
    drawing = overview.draw([first, second], {"a": "a.html", "b": "b.html"})
    assert drawing.count("marker-end") == 1
    assert 'href="a.html"' in drawing and 'href="b.html"' in drawing


def test_a_caption_is_told_in_words() -> None:
    formula = (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mi>p</mi>'
        '<annotation encoding="application/x-tex">p_i</annotation></semantics></math></span>'
        '<span class="katex-html"><span class="base">pi</span></span></span>'
    )
    caption = f'<p>Law <em>one</em>, with {formula} &lt; 1.<a class="headerlink">#</a></p>'
    assert gallery.plain(caption) == "Law one, with p_i < 1."
