"""The known wrong and alternative answers of a lab, and what of it must stay secret.

`wrong.py` and `alternative.py` stand beside `lab.py`, in the same text format: one cell for each
answer, called `# %% <task>: <what it is>`, whose source takes the place of the task's cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from autograder.authoring import (
    BEGIN_SOLUTION,
    END_SOLUTION,
    Lab,
    read_cells,
)
from autograder.course import Course, CourseError

HEADER = re.compile(r"(?P<task>[a-z][a-z0-9_]*): (?P<name>\S.*)")
SECRET_RUN = 3
"""So many secret lines in a row, found elsewhere, are a leak; fewer may be chance."""


@dataclass(frozen=True)
class Variant:
    """One answer to one task that is not the reference's."""

    task: str
    name: str
    source: str
    line: int


def read_variants(path: Path, lab: Lab) -> list[Variant]:
    """The answers in `path`, in order; an absent file holds none.

    Raises `CourseError` naming file and line for a header of another form or an unknown task.
    """
    if not path.is_file():
        return []
    _, cells = read_cells(path, path.read_text(encoding="utf-8"))
    variants = []
    for line, header, cell_type, source in cells:
        if cell_type != "code" or not header:
            continue
        match = HEADER.fullmatch(header)
        if not match:
            raise CourseError(f"{path}:{line}: {header!r} is not of the form 'task: what it is'")
        if match["task"] not in lab.tasks:
            raise CourseError(f"{path}:{line}: {lab.slug} has no task {match['task']}")
        variants.append(Variant(match["task"], match["name"], source, line))
    return variants


def wrong_answers(course: Course, lab: Lab) -> list[Variant]:
    return read_variants(course.solutions / lab.slug / "wrong.py", lab)


def alternative_answers(course: Course, lab: Lab) -> dict[str, list[Variant]]:
    """The other correct answers, by style: all of one style are handed in together."""
    styles: dict[str, list[Variant]] = {}
    for variant in read_variants(course.solutions / lab.slug / "alternative.py", lab):
        styles.setdefault(variant.name, []).append(variant)
    return styles


def secrets(lab: Lab) -> Iterator[tuple[str, list[str]]]:
    """Each text that must not leave `solutions/`: where it stands, and its telling lines."""
    for cell in lab.cells:
        if cell.kind == "hidden":
            yield f"hidden {cell.name}", _lines(cell.source)
        elif cell.kind in ("task", "written"):
            region = cell.source.partition(BEGIN_SOLUTION)[2].partition(END_SOLUTION)[0]
            yield f"{cell.kind} {cell.name}", _lines(region)


def public_lines(lab: Lab) -> set[str]:
    """Lines that students are given anyway."""
    shown: set[str] = set()
    for cell in lab.cells:
        if cell.kind in ("task", "written"):
            before, _, rest = cell.source.partition(BEGIN_SOLUTION)
            shown.update(_lines(before), _lines(rest.partition(END_SOLUTION)[2]))
        elif cell.kind != "hidden":
            shown.update(_lines(cell.source))
    return shown


def leaks(lab: Lab, path: Path) -> list[str]:
    """What of the lab's secrets stands in the file at `path`: one line for each."""
    text = _text(path)
    lines = _lines(text)
    found = [
        f"{path}: holds the mark {mark}"
        for mark in (BEGIN_SOLUTION, "BEGIN HIDDEN TESTS")
        if path.suffix == ".ipynb" and mark in text
    ]
    places: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        places.setdefault(line, []).append(number)
    shown = public_lines(lab)
    for where, secret in secrets(lab):
        run = min(SECRET_RUN, len(secret))
        for start in range(len(secret) - run + 1):
            piece = secret[start : start + run]
            if len(set(piece) - shown) < run or sum(map(len, piece)) < 40:
                continue
            if any(lines[at : at + run] == piece for at in places.get(piece[0], [])):
                found.append(f"{path}: holds lines of {where}: {piece[0]}")
                break
    return found


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _text(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8", errors="replace")
    notebook = nbformat.read(path, as_version=4)
    return "\n".join(cell.source for cell in notebook.cells)
