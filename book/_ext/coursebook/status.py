"""The execution status: when each chapter's cells ran, how long they took, with which versions."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from . import overview
from .places import PARTS, short_name
from .translation import say

LIBRARIES = ("numpy", "torch", "matplotlib", "jupyter-book", "myst-nb", "Sphinx")


class execution_status(nodes.General, nodes.Element):
    """Placeholder that `fill` replaces with the tables."""


class Status(SphinxDirective):
    """`{status}`: the tables of executed chapters and of versions."""

    def run(self) -> list[nodes.Node]:
        overview.note_overview(self.env)
        return [execution_status()]


def fill(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put the tables where the directive stood."""
    for place in list(doctree.findall(execution_status)):
        place.replace_self([_chapters(app, docname), _versions()])


def _chapters(app: Any, docname: str) -> nodes.Node:
    rows = []
    for name in app.env.found_docs:
        data = app.env.nb_metadata.get(name, {}).get("exec_data")
        if data and short_name(name).partition("/")[0] in PARTS:
            uri = app.builder.get_relative_uri(docname, name)
            title = app.env.titles[name].astext()
            ran = datetime.fromtimestamp(data["mtime"], UTC).strftime("%Y-%m-%d %H:%M")
            seconds = f"{data['runtime'] or 0:.1f}"
            link = nodes.reference("", title, refuri=uri)
            rows.append([link, nodes.Text(ran), nodes.Text(seconds)])
    rows.sort(key=lambda row: row[0].astext())
    return table([say("Chapter"), say("Executed (UTC)"), say("Seconds")], rows)


def _versions() -> nodes.Node:
    found = [("Python", platform.python_version())]
    found += [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    found += [(say("System"), f"{platform.system()} {platform.machine()}")]
    return table([say("With"), say("Version")], [[nodes.Text(a), nodes.Text(b)] for a, b in found])


def table(head: list[str], rows: list[list[nodes.Node]], ids: tuple[str, ...] = ()) -> nodes.table:
    """A docutils table of text and links; `ids` name its rows."""
    result = nodes.table()
    group = nodes.tgroup(cols=len(head))
    result += group
    for _ in head:
        group += nodes.colspec(colwidth=1)
    header = nodes.thead()
    header += row([nodes.Text(text) for text in head])
    group += header
    body = nodes.tbody()
    for number, cells in enumerate(rows):
        body += row(cells, ids[number] if ids else "")
    group += body
    return result


def row(cells: list[nodes.Node], row_id: str = "") -> nodes.row:
    """A docutils row with one paragraph in each cell."""
    result = nodes.row(ids=[row_id] if row_id else [])
    for cell in cells:
        entry = nodes.entry()
        entry += nodes.paragraph("", "", cell)
        result += entry
    return result
