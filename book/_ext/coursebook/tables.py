"""Tables scroll within a frame of their own; margin notes and cited works get sound roles."""

from __future__ import annotations

from typing import Any

from docutils import nodes


def visit(translator: Any, table: nodes.table) -> None:
    """Open the frame, then the table as Sphinx writes it."""
    name = " ".join(["table-frame", *(f"frame-{kind}" for kind in table.get("classes", ()))])
    translator.body.append(f'<div class="{name}">')
    type(translator).visit_table(translator, table)


def depart(translator: Any, table: nodes.table) -> None:
    """Close both."""
    type(translator).depart_table(translator, table)
    translator.body.append("</div>\n")


def visit_note(translator: Any, note: nodes.sidebar) -> None:
    """A note in the margin: not a landmark of the page, which `<aside>` alone would make it."""
    type(translator).visit_sidebar(translator, note)
    translator.body[-1] = translator.body[-1].replace("<aside", '<aside role="note"', 1)


def depart_note(translator: Any, note: nodes.sidebar) -> None:
    """Close the note."""
    type(translator).depart_sidebar(translator, note)


def visit_work(translator: Any, work: nodes.citation) -> None:
    """An item of the bibliography: the role that docutils gives it is deprecated."""
    type(translator).visit_citation(translator, work)
    role = 'role="doc-biblioentry"'
    translator.body[-1] = translator.body[-1].replace(role, 'role="listitem"', 1)


def depart_work(translator: Any, work: nodes.citation) -> None:
    """Close the item."""
    type(translator).depart_citation(translator, work)
