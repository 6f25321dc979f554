"""Hidden answers as native `<details>`: no script, usable by keyboard, open in print."""

from __future__ import annotations

from typing import Any

from docutils import nodes

FOLDED = {"dropdown", "toggle"}
REPEATED = {"exercise-content", "solution-content", "proof-content"}
"""Ids that extensions give to every box of a page, though an id may stand there once."""


class fold(nodes.General, nodes.Element):
    """A `<details>` element whose first child is its title."""


def convert(app: Any, doctree: nodes.document, docname: str) -> None:
    """Every titled box with the class `dropdown` becomes a fold."""
    if app.builder.format != "html":
        return
    for section in doctree.findall(nodes.section):
        section["ids"] = [name for name in section["ids"] if name not in REPEATED]
    for box in list(doctree.findall(nodes.Element)):
        titled = box.children and isinstance(box.children[0], nodes.title)
        if titled and FOLDED & set(box.get("classes", ())) and not isinstance(box, nodes.section):
            classes = [*box["classes"], box.tagname.removesuffix("_node")]
            folded = fold("", *box.children, ids=box["ids"], classes=classes)
            box.replace_self(folded)


def visit(translator: Any, node: fold) -> None:
    """Open the element and write its summary, without links: a link in it could not be used."""
    ids = node["ids"]
    attributes = f' id="{ids[0]}"' if ids else ""
    classes = " ".join(name for name in node["classes"] if name not in FOLDED)
    title = node.children[0].astext().strip()
    translator.body.append(f'<details class="fold {classes}"{attributes}>')
    translator.body.append(f"<summary>{translator.encode(title)}</summary>\n")
    node.remove(node.children[0])


def depart(translator: Any, node: fold) -> None:
    """Close the element."""
    translator.body.append("</details>\n")
