"""The line under a chapter's title: reading time, what to read before, the lab."""

from __future__ import annotations

from typing import Any

from docutils import nodes

from . import chapters
from .places import BOOK, PARTS, prefix, short_name
from .translation import say


def insert(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put the box after the title of every chapter."""
    if app.builder.format != "html" or short_name(docname).partition("/")[0] not in PARTS:
        return
    path = BOOK / f"{short_name(docname)}.md"
    section = next(iter(doctree.findall(nodes.section)), None)
    if section is None or not path.is_file():
        return
    chapter = chapters.read(path)
    box = nodes.container(classes=["chapter-head"])
    facts = nodes.paragraph(classes=["chapter-facts"])
    facts += nodes.Text(
        say("{part} · {minutes} min to read").format(
            part=say(PARTS[chapter.part]), minutes=chapter.minutes
        )
    )
    lab = _lab_hours(chapter.lab)
    if lab:
        facts += nodes.Text(say(" · {hours:g} h for the lab").format(hours=lab))
    box += facts
    if chapter.prerequisites:
        line = nodes.paragraph(classes=["chapter-needs"])
        line += nodes.Text(say("Read before: "))
        for number, slug in enumerate(chapter.prerequisites):
            if number:
                line += nodes.Text(", ")
            line += _link(app, docname, slug)
        box += line
    place = next(i for i, node in enumerate(section) if isinstance(node, nodes.title))
    section.insert(place + 1, box)


def _lab_hours(slug: str | None) -> float | None:
    from .boxes import read_lab
    from .places import ROOT

    source = ROOT / "solutions" / str(slug) / "lab.py"
    return read_lab(source)["hours"] if slug and source.is_file() else None


def _link(app: Any, docname: str, slug: str) -> nodes.Node:
    for part in PARTS:
        target = f"{prefix(app)}{part}/{slug}"
        if target in app.env.found_docs:
            title = app.env.titles[target].astext()
            return nodes.reference("", title, refuri=app.builder.get_relative_uri(docname, target))
        if (BOOK / part / f"{slug}.md").is_file():
            return nodes.Text(chapters.read(BOOK / part / f"{slug}.md").title)
    return nodes.Text(slug.replace("_", " "))
