"""What a term means, carried by every link to it: the page shows it on hover and on focus."""

from __future__ import annotations

from typing import Any

from docutils import nodes

from .places import prefix


def add(app: Any, doctree: nodes.document, docname: str) -> None:
    """Give links to glossary entries their definition as title."""
    glossary = prefix(app) + "reference/glossary"
    if app.builder.format != "html" or glossary not in app.env.found_docs or docname == glossary:
        return
    known = definitions(app, glossary)
    for link in doctree.findall(nodes.reference):
        _, _, target = link.get("refuri", "").partition("#")
        if target in known:
            link["reftitle"] = known[target]


def definitions(app: Any, glossary: str) -> dict[str, str]:
    """The text of every entry by the id of its term; read once in a build."""
    if not hasattr(app, "coursebook_definitions"):
        found = {}
        for item in app.env.get_doctree(glossary).findall(nodes.definition_list_item):
            meaning = next(iter(item.findall(nodes.definition)), None)
            for term in item.findall(nodes.term):
                for name in term["ids"]:
                    found[name] = " ".join(meaning.astext().split()) if meaning else ""
        app.coursebook_definitions = found
    result: dict[str, str] = app.coursebook_definitions
    return result
