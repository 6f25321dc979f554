"""The first page's map of the chapters and its table of what one builds."""

from __future__ import annotations

import html
import re
import textwrap
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from . import chapters
from .boxes import read_lab
from .chapters import Chapter
from .places import PARTS, ROOT, prefix
from .translation import say

WIDTH, BOX, GAP = 460, 140, 20
HIGH, LABEL, BETWEEN = 46, 22, 30
MAP_TITLE = "Map of the chapters; a line leads from a chapter to those that lean on it"
MAP_CAPTION = (
    "The parts of the book. A line leads from a chapter to the chapters that lean on it;"
    " whatever is not joined can be read in any order."
)


class coursemap(nodes.General, nodes.Element):
    """Placeholder that `fill` replaces with the drawing."""


class courselist(nodes.General, nodes.Element):
    """Placeholder that `fill` replaces with the table."""


class CourseMap(SphinxDirective):
    """`{coursemap}`: the parts as rows, the chapters as boxes, prerequisites as lines."""

    def run(self) -> list[nodes.Node]:
        note_overview(self.env)
        return [coursemap()]


class CourseList(SphinxDirective):
    """`{courselist}`: chapter, what its lab builds, hours."""

    def run(self) -> list[nodes.Node]:
        note_overview(self.env)
        return [courselist()]


def note_overview(env: Any) -> None:
    """Remember the page, so that it is written again whenever anything changed."""
    if not hasattr(env, "coursebook_overviews"):
        env.coursebook_overviews = set()
    env.coursebook_overviews.add(env.docname)


def rewrite(app: Any, env: Any) -> list[str]:
    """Overviews are written again at every build: they tell of all other pages."""
    return sorted(getattr(env, "coursebook_overviews", set()) & env.found_docs)


def fill(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put the map and the table where the directives stood."""
    maps, lists = list(doctree.findall(coursemap)), list(doctree.findall(courselist))
    if not maps and not lists:
        return
    known = [c for c in chapters.chapters() if prefix(app) + c.docname in app.env.found_docs]
    address = {
        c.slug: app.builder.get_relative_uri(docname, prefix(app) + c.docname) for c in known
    }
    for place in maps:
        place.replace_self(nodes.raw("", draw(known, address) if known else "", format="html"))
    for place in lists:
        place.replace_self(nodes.raw("", tabulate(known, address), format="html"))


def positions(known: list[Chapter]) -> dict[str, tuple[float, float]]:
    """Upper left corner of every chapter's box: one row for each part, boxes left to right."""
    place = {}
    y = float(LABEL)
    for part in PARTS:
        row = [chapter for chapter in known if chapter.part == part]
        for start in range(0, len(row), 3):
            for column, chapter in enumerate(row[start : start + 3]):
                place[chapter.slug] = (column * (BOX + GAP), y)
            y += HIGH + BETWEEN - (LABEL - 6 if start + 3 < len(row) else 0)
        y += LABEL if row else 0
    return place


def draw(known: list[Chapter], address: dict[str, str]) -> str:
    """The map as SVG; each box is a link to its chapter."""
    place = positions(known)
    height = max(y for _, y in place.values()) + HIGH + 4
    lines = [
        _line(place[need], place[chapter.slug])
        for chapter in known
        for need in chapter.prerequisites
        if need in place
    ]
    labels = []
    for part, name in PARTS.items():
        tops = [place[chapter.slug][1] for chapter in known if chapter.part == part]
        if tops:
            labels.append(f'<text class="part" x="0" y="{min(tops) - 8:g}">{say(name)}</text>')
    boxes = [_box(chapter, address[chapter.slug], *place[chapter.slug]) for chapter in known]
    return (
        f'<figure class="map"><svg class="fig" viewBox="-2 -2 {WIDTH + 4} {height + 4:g}"'
        ' fill="currentColor" style="width:620px" aria-labelledby="map-title">'
        '<title id="map-title">'
        f"{say(MAP_TITLE)}</title>"
        '<defs><marker id="map-tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6"'
        ' markerHeight="6" orient="auto"><path d="M0 0 6 3 0 6z" fill="var(--fig-6)"/></marker>'
        f"</defs>{''.join(lines)}{''.join(labels)}{''.join(boxes)}</svg>"
        f"<figcaption><p>{say(MAP_CAPTION)}</p></figcaption></figure>"
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        path = f"M{x1 + BOX:g} {y1 + HIGH / 2:g}H{x2:g}"
        if x2 - x1 > BOX + GAP + 1 or x2 < x1:
            middle = (x1 + x2 + BOX) / 2
            path = f"M{x1 + BOX / 2:g} {y1:g}Q{middle:g} {y1 - 26:g} {x2 + BOX / 2:g} {y2:g}"
    else:
        a, b = x1 + BOX / 2, x2 + BOX / 2
        bend = (y2 - y1 - HIGH) / 2
        path = f"M{a:g} {y1 + HIGH:g}C{a:g} {y1 + HIGH + bend:g} {b:g} {y2 - bend:g} {b:g} {y2:g}"
    return (
        f'<path d="{path}" fill="none" stroke="var(--fig-6)" stroke-width="1.1" opacity="0.75"'
        ' marker-end="url(#map-tip)"/>'
    )


def _box(chapter: Chapter, uri: str, x: float, y: float) -> str:
    words = fold(short_title(chapter.title))
    first = y + HIGH / 2 + 4 - 7.5 * (len(words) - 1)
    text = "".join(
        f'<tspan x="{x + BOX / 2:g}" y="{first + 15 * n:g}">{html.escape(line)}</tspan>'
        for n, line in enumerate(words)
    )
    return (
        f'<a href="{uri}"><rect x="{x:g}" y="{y:g}" width="{BOX}" height="{HIGH}" rx="5"'
        ' fill="var(--paper)" stroke="var(--accent)" stroke-width="1.3"/>'
        f'<text text-anchor="middle" font-size="12.5">{text}</text></a>'
    )


def fold(title: str) -> list[str]:
    """A title in at most two lines that fit into a box; a Chinese character is two letters wide."""
    if not re.search("[\u3400-\u9fff]", title):
        return textwrap.wrap(title, 21)[:2]
    half = min(10, (len(title) + 1) // 2) if len(title) > 10 else 10
    return [line for line in (title[:half], title[half : half + 10]) if line]


def short_title(title: str) -> str:
    """A title that fits into two short lines: what stands before a colon or a comma."""
    for mark, longest in {":": 40, ",": 40, "：": 10, "，": 10}.items():
        if len(title) > longest and mark in title:
            title = title.partition(mark)[0]
    return title


def tabulate(known: list[Chapter], address: dict[str, str]) -> str:
    """One row for each chapter: title, what its lab builds, hours."""
    rows = []
    for chapter in known:
        source = ROOT / "solutions" / str(chapter.lab) / "lab.py"
        lab = read_lab(source) if chapter.lab and source.is_file() else None
        hours = f"{chapter.minutes / 60 + (lab['hours'] if lab else 0):.0f}"
        rows.append(
            f'<tr><td><a href="{address[chapter.slug]}">{html.escape(chapter.title)}</a></td>'
            f"<td>{html.escape(lab['title']) if lab else ''}</td>"
            f'<td class="text-right">{hours}</td></tr>'
        )
    return (
        '<div class="table-frame"><table><thead><tr><th scope="col">'
        f'{say("You read")}</th><th scope="col">{say("You build")}</th>'
        f'<th scope="col" class="text-right">{say("Hours")}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
