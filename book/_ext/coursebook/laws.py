"""The law sheet: every law of the book in one table, linked to where it is derived."""

from __future__ import annotations

from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .overview import short_title
from .places import BOOK, prefix
from .status import table
from .translation import said, say

LAWS = BOOK / "reference" / "laws.yml"


class lawsheet(nodes.General, nodes.Element):
    """Placeholder that `fill` replaces with the table."""


class LawSheet(SphinxDirective):
    """`{lawsheet}`: the table of all laws."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(LAWS))
        self.env.coursebook_sheet = self.env.docname  # type: ignore[attr-defined]
        return [lawsheet()]


def read_laws() -> dict[str, dict[str, str]]:
    """The laws of `laws.yml`: key to title, form (TeX), when (assumptions) and chapter."""
    laws = yaml.safe_load(LAWS.read_text(encoding="utf-8"))
    return {
        key: {name: said("reference/laws", text) for name, text in law.items()}
        for key, law in laws.items()
    }


def registry(env: Any) -> dict[str, dict[str, str]]:
    """Laws that chapters state: key to where."""
    if not hasattr(env, "coursebook_laws"):
        env.coursebook_laws = {}
    laws: dict[str, dict[str, str]] = env.coursebook_laws
    return laws


def purge(app: Any, env: Any, docname: str) -> None:
    """Forget what a page said before it is read again."""
    stale = [key for key, law in registry(env).items() if law["docname"] == docname]
    for key in stale:
        del registry(env)[key]


def merge(app: Any, env: Any, docnames: set[str], other: Any) -> None:
    """Take over what a parallel reader found."""
    registry(env).update(
        {key: law for key, law in registry(other).items() if law["docname"] in docnames}
    )


def rewrite_sheet(app: Any, env: Any) -> list[str]:
    """The sheet is written again whenever anything was read."""
    return [sheet] if (sheet := getattr(env, "coursebook_sheet", "")) in env.found_docs else []


def fill(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put the table where the directive stood."""
    for place in list(doctree.findall(lawsheet)):
        place.replace_self(_table(app, docname))


def _table(app: Any, docname: str) -> nodes.table:
    stated = registry(app.env)
    by_page = sorted(stated, key=lambda key: stated[key]["docname"])  # not as they were read
    laws = {**read_laws(), **{key: stated[key] for key in by_page}}
    rows = [
        [
            nodes.Text(law["title"]),
            nodes.math(law["form"], law["form"]),
            nodes.Text(law.get("when", "")),
            _origin(app, docname, stated.get(key), law),
        ]
        for key, law in laws.items()
    ]
    ids = tuple(f"sheet-{key}" for key in laws)
    sheet = table([say("Law"), say("Form"), say("Holds when"), say("Derived in")], rows, ids)
    sheet["classes"].append("laws")
    return sheet


def _origin(
    app: Any, docname: str, stated: dict[str, str] | None, law: dict[str, str]
) -> nodes.Node:
    env = app.env
    target = stated["docname"] if stated else prefix(app) + law.get("chapter", "")
    if target not in env.found_docs:
        return nodes.Text("")
    uri = app.builder.get_relative_uri(docname, target)
    title = short_title(env.titles[target].astext())
    return nodes.reference("", title, refuri=uri + (f"#{stated['id']}" if stated else ""))
