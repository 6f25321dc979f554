"""The gallery: every figure of the book, small, with its caption and a link to its place.

It is made when all pages are written, from the pages themselves: then numbers and captions are
final, and a page that was not written again is there as well.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .chapters import chapters
from .places import prefix

PLACE = "<!-- gallery -->"
FIGURE = re.compile(r"<figure[^>]*\bid=\"([^\"]+)\".*?</figure>", re.S)


class Gallery(SphinxDirective):
    """`{gallery}`: filled when all pages are written."""

    def run(self) -> list[nodes.Node]:
        self.env.coursebook_gallery = self.env.docname  # type: ignore[attr-defined]
        return [nodes.raw("", f"<div>{PLACE}</div>", format="html")]


def rewrite(app: Any, env: Any) -> list[str]:
    """The gallery's page is written at every build, so that it has the place to fill."""
    page = getattr(env, "coursebook_gallery", "")
    return [page] if page in env.found_docs else []


def fill(app: Any, exception: Exception | None) -> None:
    """Replace the place by a list of figures."""
    page = getattr(app.env, "coursebook_gallery", "")
    path = Path(app.outdir) / f"{page}.html"
    if exception or app.builder.name != "html" or not page or not path.is_file():
        return
    items = []
    for chapter in chapters():
        docname = prefix(app) + chapter.docname
        written = Path(app.outdir) / f"{docname}.html"
        if written.is_file():
            uri = app.builder.get_relative_uri(page, docname)
            up = "../" * page.count("/")
            items += [
                _item(found, uri, up)
                for found in FIGURE.finditer(written.read_text(encoding="utf-8"))
            ]
    body = f'<ul class="gallery">{"".join(items)}</ul>' if items else ""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(PLACE, body), encoding="utf-8")


def _item(found: re.Match[str], uri: str, up: str) -> str:
    drawing = found[0]
    source = re.search(r"data-src=\"([^\"]+)\"|<img[^>]*src=\"[./]*(_images/[^\"]+)\"", drawing)
    alt = re.search(r"(?:aria-label|alt)=\"([^\"]*)\"", drawing)
    caption = re.search(r"<figcaption>(.*?)</figcaption>", drawing, re.S)
    words = plain(caption[1]) if caption else ""
    image = source[1] or source[2] if source else ""
    return (
        f'<li><a href="{uri}#{found[1]}"><img loading="lazy" src="{up}{image}"'
        f' alt="{alt[1] if alt else ""}"></a><p>{html.escape(words)}</p></li>'
    )


class Words(HTMLParser):
    """Collects the words of a caption: formulas by their TeX source, links to itself left out."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = (dict(attrs).get("class") or "").split()
        kind = next((name for name in names if name in ("katex-html", "headerlink")), tag)
        self.open.append(kind)

    def handle_endtag(self, tag: str) -> None:
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        drawn = {"katex-html", "headerlink"} & set(self.open)
        if not drawn and ("math" not in self.open or "annotation" in self.open):
            self.words.append(data)


def plain(markup: str) -> str:
    """The words of a caption; a formula is given by its TeX source."""
    reader = Words()
    reader.feed(markup)
    return " ".join("".join(reader.words).replace("\u2060", "").split())
