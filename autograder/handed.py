"""A student's notebook in the frame of the original, as plain data.

The student's counterpart of `rebuild`, by the same rules and without nbformat: the text of answer
cells and added cells is the student's, everything else the author's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from autograder.notebooks import Cell, Notebook


def once(handed: Notebook) -> Notebook:
    """The author's cells of a notebook, each once: all there is to go by without an original."""
    cells = {cell.id: cell for cell in handed.cells if cell.kind}
    return replace(handed, cells=tuple(cells.values()))


class Handed:
    """The student's text in the frame of the original.

    Of a duplicated answer cell the last that was worked on counts; a changed or deleted cell of
    the author's is as it was; added cells keep their places.  `alone` says that the original is
    the student's own notebook, for want of another.
    """

    def __init__(self, handed: Notebook, original: Notebook, *, alone: bool) -> None:
        self.handed, self.original, self.alone = handed, original, alone
        self.stubs = {cell.id: cell for cell in original.cells if cell.kind == "task"}
        self.versions: dict[str, list[Cell]] = {}
        self.added: dict[str, list[tuple[str, str]]] = {}
        known, place, count = {cell.id for cell in original.cells}, "", 0
        for cell in handed.cells:
            if cell.id in known and (not self.alone or cell.kind):
                place = cell.id
                self.versions.setdefault(cell.id, []).append(cell)
            elif cell.type == "code" and cell.source.strip():
                count += 1
                self.added.setdefault(place, []).append((f"added-{count}", cell.source))

    def answer(self, cell_id: str) -> Cell | None:
        """The student's version of a cell; None when it is gone."""
        versions = self.versions.get(cell_id, [])
        worked = [cell for cell in versions if not self.is_blank(cell)]
        return (worked or versions)[-1] if versions else None

    def is_blank(self, cell: Cell) -> bool:
        """Whether the text is still that of the release."""
        if cell.as_released or self.alone:
            return cell.as_released
        originals = [other for other in self.original.cells if other.id == cell.id]
        return bool(originals) and originals[0].source.strip() == cell.source.strip()

    def to_run(self, only: str) -> Iterator[tuple[str, str]]:
        """The cells to run, in order, as (id, source): with `only`, no test but that task's."""
        yield from self.added.get("", [])
        for cell in self.original.cells:
            if source := self._source(cell, only):
                yield cell.id, source
            yield from self.added.get(cell.id, [])

    def _source(self, cell: Cell, only: str) -> str:
        if cell.type != "code" or cell.kind in ("hidden", "measure"):
            return ""
        if cell.kind == "test" and only not in ("", cell.task):
            return ""
        if cell.kind in ("task", "code"):
            version = self.answer(cell.id)
            return version.source if version else cell.source
        return cell.source


def defined(source: str) -> set[str]:
    """The functions, classes and methods (`Class.method`) at the top level of a cell."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{item.name}"
                for item in node.body
                if isinstance(item, ast.FunctionDef)
            }
    return names
