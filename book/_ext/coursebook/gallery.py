"""The gallery: every figure of the book, small, with its caption and a link to its place.

It is made when all pages are written, from the pages themselves: then numbers and captions are
final, and a page that was not written again is there as well.
"""

from __future__ import annotations

import html
import re
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


def plain(markup: str) -> str:
    """The words of a caption; a formula is given by its TeX source."""
    markup = re.sub(r"<a class=\"headerlink\".*?</a>", "", markup, flags=re.S)
    tex = r'<span class="katex">.*?<annotation[^>]*>(.*?)</annotation>.*?</math></span>'
    markup = re.sub(
        tex + r"<span class=\"katex-html\".*?(?=<span class=\"math|</p>|$)", r"\1", markup
    )
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())
