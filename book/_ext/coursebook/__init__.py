"""The one local Sphinx extension of the book.

Each module has one idea: `kernel` the surroundings of executed cells, `formulas` KaTeX, `figures`
SVG in the page, `boxes` the directives of the chapters, `laws` the law sheet, `heads` the line
under a chapter's title, `folds` hidden answers, `previews` of terms, `overview` the map of the
chapters, `gallery`, `status` and `tables` what they say, `calculators` laws that move with a
slider, `live` cells that run in the page, `translation` other languages, `notebooks` chapters as
notebooks, `site` the frame around every page.
"""

from __future__ import annotations

import sys
from typing import Any

from docutils import nodes

from . import (
    boxes,
    calculators,
    figures,
    folds,
    formulas,
    gallery,
    heads,
    kernel,
    laws,
    live,
    notebooks,
    overview,
    previews,
    site,
    status,
    tables,
    translation,
)
from .places import BOOK, ROOT

VERSION = "1"


def settle_paths(app: Any, config: Any) -> None:
    """Make paths of `_config.yml` right when the source folder is the repository."""
    if prefix := ("book/" if app.srcdir == ROOT else ""):
        config.bibtex_bibfiles = [prefix + path for path in config.bibtex_bibfiles]
        config.html_favicon = prefix + config.html_favicon
        config.html_static_path = [*config.html_static_path, str(BOOK / "_static")]
        config.html_css_files = [*config.html_css_files, *_static("*.css")]
        config.html_js_files = [*config.html_js_files, *_static("*.js")]


def _static(pattern: str) -> list[str]:
    return sorted(path.name for path in (BOOK / "_static").glob(pattern))


def setup(app: Any) -> dict[str, Any]:
    """Connect the modules to Sphinx."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    kernel.prepare()
    app.connect("config-inited", translation.set_up)
    app.connect("config-inited", settle_paths)
    app.connect("config-inited", formulas.set_up)
    app.connect("config-inited", site.set_up)
    app.connect("config-inited", live.set_up)
    app.connect("source-read", translation.translate)
    app.add_transform(translation.Titles)
    app.add_search_language(translation.Bigrams)
    app.connect("html-page-context", site.add_context, priority=900)
    app.connect("html-collect-pages", site.extra_pages)
    app.connect("build-finished", formulas.copy_styles)
    app.add_html_math_renderer("katex", (formulas.visit_inline, None), (formulas.visit_block, None))
    app.connect("build-finished", site.finish)
    app.connect("build-finished", gallery.fill)
    app.connect("build-finished", notebooks.write)
    app.connect("build-finished", live.copy_files)
    for name in boxes.PLAIN:
        app.add_directive(name, boxes.Box)
    app.add_directive("law", boxes.Law)
    app.add_directive("lab", boxes.LabBox)
    app.add_directive("calculator", calculators.Calculator)
    app.add_directive("lawsheet", laws.LawSheet)
    app.add_directive("coursemap", overview.CourseMap)
    app.add_directive("courselist", overview.CourseList)
    app.add_directive("status", status.Status)
    app.add_directive("gallery", gallery.Gallery)
    for place in (laws.lawsheet, overview.coursemap, overview.courselist, status.execution_status):
        app.add_node(place)
    app.connect("env-purge-doc", laws.purge)
    app.connect("env-merge-info", laws.merge)
    for rewrite in (laws.rewrite_sheet, overview.rewrite, gallery.rewrite):
        app.connect("env-updated", rewrite)
    for fill in (laws.fill, overview.fill, status.fill, previews.add):
        app.connect("doctree-resolved", fill)
    app.connect("doctree-read", live.check)
    app.connect("doctree-resolved", live.add)
    app.connect("doctree-resolved", heads.insert)
    app.connect("doctree-resolved", notebooks.offer)
    app.connect("doctree-resolved", translation.mark)
    app.connect("doctree-resolved", figures.require_alt)
    app.connect("doctree-resolved", folds.convert, priority=900)
    app.connect("doctree-resolved", site.drop_thebe, priority=900)
    app.add_node(
        folds.fold, html=(folds.visit, folds.depart), singlehtml=(folds.visit, folds.depart)
    )
    images = (figures.visit_image, figures.depart_image)
    app.add_node(nodes.image, override=True, html=images, singlehtml=images)
    frames = (tables.visit, tables.depart)
    app.add_node(nodes.table, override=True, html=frames, singlehtml=frames)
    notes = (tables.visit_note, tables.depart_note)
    app.add_node(nodes.sidebar, override=True, html=notes, singlehtml=notes)
    works = (tables.visit_work, tables.depart_work)
    app.add_node(nodes.citation, override=True, html=works, singlehtml=works)
    return {"version": VERSION, "parallel_read_safe": True, "parallel_write_safe": True}
