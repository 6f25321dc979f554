"""The frame around every page: its templates, what they need to know, and what is left out."""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging

from .calculators import MARK
from .places import BOOK, prefix, short_name
from .translation import EDITIONS, SOURCE, is_original, said, say, words_of_scripts
from .vendor import SANS, SERIF, VendorError, package

LOGGER = logging.getLogger(__name__)
TEMPLATES = Path(__file__).with_name("templates")
FONTS = {
    "serif.woff2": (SERIF, "source-serif-4-latin-wght-normal.woff2"),
    "serif-italic.woff2": (SERIF, "source-serif-4-latin-wght-italic.woff2"),
    "sans.woff2": (SANS, "source-sans-3-latin-wght-normal.woff2"),
}
DROPPED = ("scripts", "styles", "vendor", "locales", "images", "webpack-macros.html")
DROPPED += ("sbt-webpack-macros.html", "sphinx-thebe.css", "sphinx-thebe.js", "copybutton.js")
DROPPED += ("copybutton.css", "copybutton_funcs.js", "clipboard.min.js", "togglebutton.js")
DROPPED += ("togglebutton.css", "design-tabs.js", "copy-button.svg", "check-solid.svg")
DROPPED += ("play-solid.svg", "exercise.css", "proof.css", "basic.css")
FOOTER = {
    "reference/where": "Where everything is",
    "reference/cite": "How to cite",
    "reference/status": "Execution status",
    "reference/errata": "Errata",
}
WORDS = 28
EDITION_FOLDERS = tuple(folder for folder, _ in EDITIONS.values() if folder)


def set_up(app: Any, config: Any) -> None:
    """Use our templates and fetch the fonts, or say that the readers' own will do."""
    config.templates_path = [str(TEMPLATES), *config.templates_path]
    if home := os.environ.get("BOOK_URL", "").rstrip("/"):
        config.html_baseurl = f"{home}/{EDITIONS[config.language or SOURCE][0]}"
    try:
        app.coursebook_fonts = {
            name: package(pin) / "files" / file for name, (pin, file) in FONTS.items()
        }
    except VendorError as error:
        app.coursebook_fonts = {}
        LOGGER.info("text is set in the reader's own fonts: %s", error)


def add_context(
    app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Tell the template what only the extension knows."""
    body = context.get("body", "")
    description = describe(app, pagename, body)
    context["html_title"] = app.config.html_title
    context["say"] = say
    context["coursebook_words"] = words_of_scripts()
    context["coursebook_original"] = is_original(app, pagename)
    context["coursebook_description"] = description
    context["coursebook_social"] = social(app, pagename, context.get("title", ""), description)
    context["coursebook_fonts"] = [
        {
            "file": name,
            "family": "Book Sans" if name.startswith("sans") else "Book Serif",
            "style": "italic" if "italic" in name else "normal",
            "early": "italic" not in name,
        }
        for name in app.coursebook_fonts
    ]
    context["coursebook_math"] = app.katex_dist is not None and 'class="katex' in body
    context["coursebook_design"] = 'class="sd-' in body
    context["coursebook_calculators"] = MARK in body
    context["coursebook_contents"] = contents(context)
    context["coursebook_version"] = static_version()
    context["coursebook_pagefind"] = bool(os.environ.get("COURSEBOOK_PAGEFIND"))
    context["coursebook_base"] = app.config.html_baseurl or "/"
    context["coursebook_footer"] = [
        (prefix(app) + page, say(name))
        for page, name in FOOTER.items()
        if prefix(app) + page in app.env.found_docs
    ]


def contents(context: dict[str, Any]) -> str:
    """The contents of the book, with the sections of this page under its own entry."""
    if "toctree" not in context:
        return ""
    listing = context["toctree"](maxdepth=1, collapse=True, includehidden=True, titles_only=True)
    inner = re.search(
        r"^<ul>\s*<li>.*?</a>\s*(<ul>.*</ul>)\s*</li>\s*</ul>\s*$", context.get("toc", ""), re.S
    )
    sections = inner[1].replace("<ul>", '<ul class="sections">', 1) if inner else ""
    listing = re.sub(
        r'(?<=class="caption-text">)[^<]+', lambda found: say(found[0]), str(listing or "")
    )
    return re.sub(
        r'(<a class="current reference internal")(.*?</a>)',
        lambda found: f'{found[1]} aria-current="page"{found[2]}{sections}',
        listing,
        count=1,
        flags=re.S,
    )


def drop_thebe(app: Any, doctree: nodes.document, docname: str) -> None:
    """Leave out the settings of a service that no page uses."""
    for script in list(doctree.findall(nodes.raw)):
        if "text/x-thebe-config" in script.astext() or "kernelName = " in script.astext():
            script.parent.remove(script)


def static_version() -> str:
    """Changes with the site's own styles and scripts, so that browsers fetch them anew."""
    files = sorted(path for path in (BOOK / "_static").iterdir() if path.suffix in (".css", ".js"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def describe(app: Any, pagename: str, body: str) -> str:
    """The description from the page's front matter, or its first words."""
    from .chapters import front_matter

    page = short_name(pagename)
    path = BOOK / f"{page}.md"
    if path.is_file():
        given = front_matter(path.read_text(encoding="utf-8")).get("description")
        if given:
            return said(page, str(given))
    paragraph = re.search(r"<p>(.*?)</p>", body, re.S)
    words = html.unescape(re.sub(r"<[^>]+>", "", paragraph[1])).split() if paragraph else []
    return " ".join(words[:WORDS]) or str(app.config.html_title)


def social(app: Any, pagename: str, title: str, description: str) -> str:
    """Open Graph tags; they name addresses but load nothing."""
    tags = {
        "og:title": html.unescape(re.sub(r"<[^>]+>", "", title)) or app.config.html_title,
        "og:description": description,
        "og:type": "website" if pagename == app.config.root_doc else "article",
        "og:site_name": app.config.html_title,
    }
    return "\n  ".join(
        f'<meta property="{name}" content="{html.escape(str(value), quote=True)}">'
        for name, value in tags.items()
    )


def extra_pages(app: Any) -> Any:
    """The page for addresses that do not exist."""
    yield "404", {"title": say("No such page")}, "404.html"


def finish(app: Any, exception: Exception | None) -> None:
    """Add the fonts, leave out what the theme brought and no page uses."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    fonts = static / "fonts"
    fonts.mkdir(parents=True, exist_ok=True)
    for name, source in app.coursebook_fonts.items():
        shutil.copy(source, fonts / name)
    for pin in (SERIF, SANS) if app.coursebook_fonts else ():
        shutil.copy(package(pin) / "LICENSE", fonts / f"LICENSE-{pin.folder}.txt")
    drop_stale_pages(app)
    for name in DROPPED:
        path = static / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def drop_stale_pages(app: Any) -> None:
    """Remove pages of earlier builds whose sources are gone."""
    kept = {*app.env.found_docs, "404", "search", "index"}
    for page in Path(app.outdir).rglob("*.html"):
        name = page.relative_to(app.outdir).with_suffix("").as_posix()
        if name not in kept and not name.startswith(("pagefind/", "_static/", *EDITION_FOLDERS)):
            page.unlink()
