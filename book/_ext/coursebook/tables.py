"""A wide table scrolls within its own frame, so that the page never does."""

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
