"""Print the built book into one PDF: tagged, with bookmarks, every answer open, no line cut.

The articles of the site are put into one page, in the order of the contents, and printed by
Chromium twice: the second time its contents know on which sheets the chapters begin.
"""

from __future__ import annotations

import argparse
import datetime
import html
import importlib.metadata
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
TARGET = ROOT / "_build" / "mlsys-book.pdf"
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT)]

from coursebook import chapters  # noqa: E402
from coursebook.places import PARTS  # noqa: E402

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
WIDTH, MARGIN = 210, 20
LEFT_OUT = {"index", "reference/gallery", "reference/status", "reference/where"}
"""Pages that lead around the site; the gallery's figures are all in their chapters."""
STYLE = """
@page { size: A4; margin: 18mm 20mm 20mm }
body { background: #fff; font-size: 10.5pt; line-height: 1.48 }
.sheet { display: block; padding: 0 }
main { padding: 0 }
.title { break-after: page; padding-top: 55mm; text-align: left }
.title h1 { font-size: 34pt; margin: 0 0 6mm }
.title p { font-size: 13pt; color: #565b63; max-width: 120mm }
.title .edition-of { margin-top: 70mm; font-size: 10pt }
.toc { break-after: page }
.toc ol { list-style: none; padding: 0; font-family: var(--sans) }
.toc li { display: flex; gap: 2mm; margin: 0 0 1.6mm }
.toc li.part { margin-top: 5mm; font-weight: 600 }
.toc li a { text-decoration: none }
.toc li .dots { flex: 1; border-bottom: 1px dotted #b9b6ae; margin-bottom: 1.3mm }
.part-title { break-before: page; break-after: avoid; margin: 0 0 10mm }
.part-title { font: 500 22pt/1.2 var(--sans); color: #0b5c7d }
article.chapter { break-before: page }
.part-title + article.chapter { break-before: avoid }
article h2.h1 { font-size: 24pt; font-weight: 500; margin: 0 0 4mm }
article h3 { font-size: 16pt; margin: 9mm 0 3mm }
article h4 { font-size: 12.5pt; margin: 6mm 0 2mm }
article h5 { font: 600 11pt/1.3 var(--serif); margin: 4mm 0 1mm }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; break-inside: auto }
details.hide > summary { display: none }
details.hide pre { font-size: 6.6pt; line-height: 1.35 }
.table-frame, div.math, pre, .live-editor { overflow: visible !important }
.live, .copy, .headerlink, .box-calculator input { display: none !important }
svg.fig { max-width: 100%; height: auto; margin: 0 auto }
aside.margin, aside.sidebar { float: none; width: auto; margin: 3mm 0 }
details, .admonition { break-inside: auto !important }
details.fold > summary { color: #0b5c7d }
.frame-laws, .wide { margin-right: 0 }
"""
FIT = """() => {
  const cut = [];
  for (const box of document.querySelectorAll("div.math, .table-frame, pre, figure")) {
    const inner = box.querySelector(box.matches("div.math") ? ".katex" : "table");
    let size = 100;
    while (box.scrollWidth > box.clientWidth + 1 && inner && size > 55) {
      size -= 3;
      inner.style.fontSize = `${size}%`;
    }
    if (box.scrollWidth > box.clientWidth + 1) {
      cut.push(`${box.closest("article").id}: ${box.textContent.trim().slice(0, 60)}`);
    }
  }
  return cut;
}"""


class PdfError(Exception):
    """Ends the command; the message is all that the person at the terminal sees."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python tools/book_pdf.py --out book.pdf",
    )
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    parser.add_argument("--site", type=Path, default=SITE, help="the built book")
    parser.add_argument("--only", nargs="+", metavar="PAGE", help="only these pages, for a look")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        for needed, command in (
            (options.site / "index.html", "make book"),
            (Path(options.chromium), "apt-get install chromium"),
        ):
            if not needed.is_file():
                raise PdfError(f"{needed}: not there; run: {command}")
        sheets = make(options.site, options.out, options.chromium, options.only)
    except PdfError as error:
        print(error, file=sys.stderr)
        return 1
    size = options.out.stat().st_size / 1e6
    seconds = time.monotonic() - started
    print(f"{options.out}: {sheets} pages, {size:.1f} MB, in {seconds:.0f} s")
    return 0


def make(site: Path, out: Path, chromium: str, only: list[str] | None = None) -> int:
    """Print the book; returns how many sheets it has. Raises `PdfError` when a line is cut."""
    from playwright.sync_api import sync_playwright

    out.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        draft = Path(folder) / "book.pdf"
        print_to(browser, site, whole_book(site, {}, only), draft)
        starts, _ = first_sheets(draft)
        print_to(browser, site, whole_book(site, starts, only), draft)
        browser.close()
        again, sheets = first_sheets(draft)
        if again != starts:
            raise PdfError("the contents moved the chapters: widen the contents in STYLE")
        out.write_bytes(draft.read_bytes())
    return sheets


def print_to(browser: Any, site: Path, document: str, target: Path) -> None:
    """One page of HTML, which lies beside the site's own while it is printed, to A4."""
    beside = site / ".print.html"
    beside.write_text(document, encoding="utf-8")
    try:
        pixels = round((WIDTH - 2 * MARGIN) / 25.4 * 96)
        page = browser.new_page(viewport={"width": pixels, "height": 1000}, color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(beside.as_uri(), wait_until="load")
        page.emulate_media(media="print", color_scheme="light")
        page.wait_for_function("document.fonts.size === 0 || document.fonts.status === 'loaded'")
        cut = page.evaluate(FIT)
        if cut:
            raise PdfError("wider than the paper:\n" + "\n".join(cut))
        page.pdf(
            path=target,
            format="A4",
            prefer_css_page_size=True,
            print_background=True,
            tagged=True,
            outline=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template='<div style="width:100%;text-align:center;font:8px sans-serif;'
            'color:#565b63"><span class="pageNumber"></span></div>',
        )
        page.close()
    finally:
        beside.unlink()


def first_sheets(pdf: Path) -> tuple[dict[str, int], int]:
    """The sheet on which each bookmark of the two upper levels leads, and the number of sheets."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    found: dict[str, int] = {}

    def walk(marks: list[Any], depth: int) -> None:
        for mark in marks:
            if isinstance(mark, list):
                walk(mark, depth + 1)
            elif depth < 2:
                found.setdefault(
                    letters(str(mark.title)), reader.get_destination_page_number(mark) + 1
                )

    walk(reader.outline, 0)
    return found, len(reader.pages)


def whole_book(site: Path, starts: dict[str, int], only: list[str] | None = None) -> str:
    """All articles of the site in one document, its ids made unique and its links local."""
    toc = chapters.table_of_contents()
    listed = [name for name in chapters.listed_pages(toc) if name not in LEFT_OUT]
    listed = [name for name in listed if not only or name in only]
    front = (site / "index.html").read_text(encoding="utf-8")
    head = front.partition("<head>")[2].partition("</head>")[0]
    head = head.replace("font-display: optional", "font-display: block")
    head = re.sub(r"<script.*?</script>|<title>.*?</title>", "", head, flags=re.S)
    head += '<link rel="stylesheet" href="_static/katex/katex.css">'
    head += '<link rel="stylesheet" href="_static/sphinx-design.min.css">'
    body, contents = [], []
    for part in toc["parts"]:
        inside = [entry["file"] for entry in part["chapters"] if entry["file"] in listed]
        if not inside:
            continue
        caption = html.escape(part["caption"])
        body.append(f'<h1 class="part-title" id="part-{slug(caption)}">{caption}</h1>')
        contents.append(line(caption, f"part-{slug(caption)}", starts, "part"))
        for name in inside:
            text = article(site, name, listed)
            title = heading(text)
            body.append(text)
            contents.append(line(title, key(name), starts, "chapter"))
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head>{head}'
        f"<title>{html.escape(book_title())}</title><style>{STYLE}</style></head><body>"
        f'<div class="sheet"><main>{title_page()}<nav class="toc"><h1>Contents</h1>'
        f"<ol>{''.join(contents)}</ol></nav>{''.join(body)}</main></div></body></html>"
    )


def book_title() -> str:
    import yaml

    return str(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"])


def title_page() -> str:
    """The first sheet."""
    about = chapters.front_matter((ROOT / "book" / "index.md").read_text(encoding="utf-8"))
    version = importlib.metadata.version("mlsys-course")
    today = datetime.date.today().isoformat()
    return (
        f'<div class="title"><p class="title-of" role="heading" aria-level="1"'
        f' style="font-size:34pt;color:#1c1f23;max-width:none;line-height:1.15">'
        f"{html.escape(book_title())}</p><p>{html.escape(about['description'])}</p>"
        f'<p class="edition-of">Version {version}, printed {today}. Text and figures CC BY 4.0,'
        " code MIT.</p></div>"
    )


def line(title: str, anchor: str, starts: dict[str, int], kind: str) -> str:
    """One line of the contents."""
    sheet = starts.get(letters(html.unescape(title)), "")
    return (
        f'<li class="{kind}"><a href="#{anchor}">{title}</a><span class="dots"></span>'
        f"<span>{sheet}</span></li>"
    )


def letters(title: str) -> str:
    """A title without spaces: a bookmark lacks those at which its heading was broken."""
    return re.sub(r"\W+", "", title)


def slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def key(name: str) -> str:
    """What stands before every id of a page."""
    return "p-" + name.replace("/", "-")


def heading(article_: str) -> str:
    """The words of the title of an article, as a bookmark has them."""
    found = re.search(r"<h2 class=\"h1\">(.*?)</h2>", article_, re.S)
    words = re.sub(r'<a class="headerlink".*?</a>', "", found[1], flags=re.S) if found else ""
    return " ".join(re.sub(r"<[^>]+>", "", words).split())


def article(site: Path, name: str, listed: list[str]) -> str:
    """The article of a page with its ids, links and headings as the whole book needs them."""
    page = (site / f"{name}.html").read_text(encoding="utf-8")
    found = re.search(r"<article[^>]*>(.*?)</article>", page, re.S)
    if not found:
        raise PdfError(f"{site / name}.html: no article; run: make book")
    text, prefix = found[1], key(name)
    text = re.sub(r"<(details)(?![^>]*\bopen\b)", r"<\1 open", text)
    text = re.sub(r"<(script|noscript).*?</\1>", "", text, flags=re.S)
    text = re.sub(
        r"\b(id|for|aria-describedby|aria-labelledby)=\"([^\"]+)\"", rf'\1="{prefix}--\2"', text
    )
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}--\1)", text)
    folder = name.rpartition("/")[0]

    def local(link: re.Match[str]) -> str:
        attribute, target = link[1], link[2]
        parts = urlsplit(html.unescape(target))
        if parts.scheme or target.startswith("data:"):
            return link[0]
        if not parts.path:
            return f'{attribute}="#{prefix}--{parts.fragment}"'
        path = (Path("/") / folder / parts.path).resolve().relative_to("/").as_posix()
        other = path.removesuffix(".html")
        if path.endswith(".html") and other in listed:
            anchor = f"--{parts.fragment}" if parts.fragment else ""
            return f'{attribute}="#{key(other)}{anchor}"'
        return f'{attribute}="{path}"' if attribute == "src" else 'data-away=""'

    text = re.sub(r"\b(href|src)=\"([^\"]*)\"", local, text)
    text = re.sub(
        r"<(/?)h([1-5])\b([^>]*)>",
        lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}{tag[3]}>",
        text,
    )
    text = text.replace("<h2>", '<h2 class="h1">', 1)
    kind = "chapter" if name.partition("/")[0] in PARTS else "page"
    return f'<article class="chapter {kind}" id="{prefix}">{text}</article>'


if __name__ == "__main__":
    sys.exit(main())
