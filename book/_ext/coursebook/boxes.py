"""Directives of the chapters: laws, labs, case sheets, objectives, what to remember."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import download_reference
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from . import launchers
from .places import ROOT
from .translation import said, say

LOGGER = logging.getLogger(__name__)
PLAIN = {
    "objectives": "What you will be able to do",
    "remember": "What to remember",
    "pitfall": "Pitfall",
    "case": "Case sheet",
}


class Box(SphinxDirective):
    """A titled box: `{objectives}`, `{remember}`, `{pitfall} Title`, `{case} Title`."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"name": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        kind = self.name
        given = self.arguments[0] if self.arguments else ""
        box = nodes.admonition(classes=["box", f"box-{kind}"])
        self.set_source_info(box)
        box += self.box_title(say(PLAIN[kind]), given)
        self.add_name(box)
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]

    def box_title(self, label: str, given: str) -> nodes.title:
        """The label in small letters, and the title that the author gave, with its markup."""
        title = nodes.title()
        title += nodes.inline("", label, classes=["box-label"])
        if given:
            title += nodes.Text(" ")
            text, _ = self.state.inline_text(given, self.lineno)
            title += nodes.inline("", "", *text, classes=["box-title"])
        return title


class Law(Box):
    """`{law} key`: states a law of the law sheet and tells the sheet where it is derived.

    Options `title`, `form` (TeX) and `when` (its assumptions) replace or add to `laws.yml`.
    """

    required_arguments = 1
    optional_arguments = 0
    final_argument_whitespace = False
    option_spec: ClassVar[dict[str, Any]] = {
        "title": directives.unchanged,
        "form": directives.unchanged,
        "when": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        from .laws import read_laws, registry

        self.assert_has_content()
        key = self.arguments[0]
        known = read_laws().get(key, {})
        own = {name: said("reference/laws", text) for name, text in self.options.items()}
        law = {**known, **own, "docname": self.env.docname, "id": f"law-{key}"}
        if not law.get("title") or not law.get("form"):
            message = f"{key}: not in reference/laws.yml; give it :title: and :form:"
            return [self.state.document.reporter.warning(message, line=self.lineno)]
        registry(self.env)[key] = law
        box = nodes.admonition(classes=["box", "box-law"], ids=[law["id"]], names=[law["id"]])
        self.set_source_info(box)
        box += self.box_title(say("Law"), law["title"])
        self.state.nested_parse(self.content, self.content_offset, box)
        domain = self.env.get_domain("std")
        where = (self.env.docname, law["id"], law["title"])
        domain.labels[law["id"]] = where
        domain.anonlabels[law["id"]] = where[:2]
        return [box]


class LabBox(SphinxDirective):
    """`{lab} slug`: what the reader builds, hours, points per task, the notebook to download."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        slug = self.arguments[0]
        source = ROOT / "solutions" / slug / "lab.py"
        notebook = ROOT / "labs" / slug / f"{slug}.ipynb"
        if not source.is_file() or not notebook.is_file():
            missing = source if not source.is_file() else notebook
            LOGGER.warning(
                "%s: no such lab yet (%s)",
                slug,
                missing.relative_to(ROOT),
                location=(self.env.docname, self.lineno),
                type="coursebook",
                subtype="lab",
            )
            return []
        self.env.note_dependency(str(source))
        self.env.note_dependency(str(notebook))
        lab = read_lab(source)
        box = nodes.admonition(classes=["box", "box-lab"])
        self.set_source_info(box)
        title = nodes.title()
        title += nodes.inline("", say("Lab"), classes=["box-label"])
        title += nodes.Text(" ")
        title += nodes.inline("", lab["title"], classes=["box-title"])
        box += title
        self.state.nested_parse(self.content, self.content_offset, box)
        facts = say("{hours:g} hours · {points} points").format(**lab)
        box += nodes.paragraph("", facts, classes=["lab-facts"])
        box += _tasks(lab["tasks"])
        box += self.download(notebook, slug)
        box += launchers.line(ROOT, slug)
        return [box]

    def download(self, notebook: Path, slug: str) -> nodes.paragraph:
        """Links that a student follows, and the command that tells what the work would get."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        line = nodes.paragraph(classes=["lab-links"])
        link = download_reference(
            "",
            "",
            nodes.inline("", f"{slug}.ipynb"),
            reftarget=_relative(notebook, folder),
            refdoc=self.env.docname,
        )
        line += nodes.Text(say("Download "))
        line += link
        line += nodes.Text(say("; check your work with "))
        line += nodes.literal("", f"autograder check {slug}.ipynb")
        return line


def _relative(path: Path, start: Path) -> str:
    import os

    return Path(os.path.relpath(path, start)).as_posix()


def _tasks(tasks: list[tuple[str, int]]) -> nodes.enumerated_list:
    listing = nodes.enumerated_list(classes=["lab-tasks"])
    for title, points in tasks:
        item = nodes.list_item()
        paragraph = nodes.paragraph("", title)
        paragraph += nodes.Text(" ")
        paragraph += nodes.inline(
            "", say("{points} points").format(points=points), classes=["lab-points"]
        )
        item += paragraph
        listing += item
    return listing


def read_lab(source: Path) -> dict[str, Any]:
    """Title, hours, points and (title, points) of each task of a lab's text."""
    from autograder.authoring import parse

    lab = parse(source)
    titles = dict(_task_titles(lab.cells))
    tasks = [
        (
            titles.get(name, name.replace("_", " ")),
            sum(cell.points for cell in lab.cells if cell.name == name),
        )
        for name in lab.tasks
    ]
    written = sum(cell.points for cell in lab.cells if cell.kind == "written")
    if written:
        tasks.append(("Written answers", written))
    return {
        "title": said("labs", lab.title),
        "hours": lab.hours,
        "points": lab.points,
        "tasks": [(said("labs", title), points) for title, points in tasks],
    }


def _task_titles(cells: Any) -> Iterator[tuple[str, str]]:
    heading = ""
    for cell in cells:
        if cell.kind == "prose":
            found = re.findall(r"^##+ +(?:Task \d+\.? *)?(.+)$", cell.source, re.M)
            heading = found[-1] if found else heading
        elif cell.kind == "task" and heading:
            yield cell.name, heading
