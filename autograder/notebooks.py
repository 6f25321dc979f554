"""A notebook as plain data: what its cells say, whose they are, and whether they are as released.

Reads JSON without nbformat, so that it is quick and works on a student's laptop, and trusts
nothing: whatever a file holds, the result is a `Notebook` or one `CourseError` that says why not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.course import CourseError

MAX_BYTES = 50_000_000
"""A larger notebook is not read: a lab's own is below one per cent of this."""
KINDS_BY_PREFIX = ("test", "hidden", "written", "given")


@dataclass(frozen=True)
class Cell:
    """One cell.

    `kind` and `task` are the author's (see `authoring`), empty in a cell that a student added;
    `as_released` tells whether nbgrader's checksum still fits; `ran` and `raised` are what the
    outputs stored in the file say.
    """

    id: str
    type: str
    source: str
    kind: str = ""
    task: str = ""
    points: float = 0.0
    as_released: bool = False
    ran: bool = False
    raised: bool = False


@dataclass(frozen=True)
class Notebook:
    """A lab's notebook: `lab` is empty when it does not say of which lab it is."""

    path: Path
    lab: str
    title: str
    imports: tuple[str, ...]
    cells: tuple[Cell, ...]

    def of(self, kind: str, task: str) -> list[Cell]:
        return [cell for cell in self.cells if (cell.kind, cell.task) == (kind, task)]


def read(path: Path) -> Notebook:
    """The notebook at `path`.

    Raises `CourseError` for what is no file, too large, not JSON or no notebook of format 4.
    """
    if path.is_dir():
        raise CourseError(f"{path}: a folder, not a notebook")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CourseError(
                f"{path}: {size / 1e6:.0f} MB; a notebook may have {MAX_BYTES / 1e6:.0f}:"
                " clear its outputs"
            )
        text = path.read_bytes()
    except OSError as error:
        raise CourseError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(path, text)


def parse(path: Path, text: bytes) -> Notebook:
    """The notebook that `text` is; `path` serves the error messages."""
    try:
        data = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise CourseError(f"{path}: not a notebook: it is not valid JSON{where}") from error
    if not isinstance(data, dict) or not isinstance(data.get("cells"), list):
        raise CourseError(f"{path}: not a notebook: it has no list of cells")
    course = _mapping(_mapping(data.get("metadata")).get("course"))
    imports = course.get("imports")
    return Notebook(
        path=path,
        lab=str(course.get("lab") or ""),
        title=str(course.get("title") or ""),
        imports=tuple(str(name) for name in imports) if isinstance(imports, list) else (),
        cells=tuple(_cell(cell) for cell in data["cells"] if isinstance(cell, dict)),
    )


def _cell(data: dict[str, Any]) -> Cell:
    metadata = _mapping(data.get("metadata"))
    course, nbgrader = _mapping(metadata.get("course")), _mapping(metadata.get("nbgrader"))
    name = str(nbgrader.get("grade_id") or data.get("id") or "")
    kind, task = str(course.get("kind") or ""), str(course.get("task") or "")
    if nbgrader.get("grade_id") and not kind:
        prefix, _, rest = name.partition("-")
        kind, task = (prefix, rest) if prefix in KINDS_BY_PREFIX else ("task", name)
    source = _text(data.get("source"))
    outputs = data.get("outputs")
    outputs = outputs if isinstance(outputs, list) else []
    points = nbgrader.get("points")
    return Cell(
        id=name,
        type=str(data.get("cell_type") or ""),
        source=source,
        kind=kind,
        task=task,
        points=float(points) if isinstance(points, int | float) else 0.0,
        as_released=checksum(source, str(data.get("cell_type")), nbgrader)
        == nbgrader.get("checksum"),
        ran=data.get("execution_count") is not None,
        raised=any(_mapping(output).get("output_type") == "error" for output in outputs),
    )


def checksum(source: str, cell_type: str, nbgrader: Mapping[str, Any]) -> str:
    """nbgrader's checksum of a cell, by which it tells an untouched cell from an edited one."""
    grade, solution = bool(nbgrader.get("grade")), bool(nbgrader.get("solution"))
    locked = not solution and (grade or bool(nbgrader.get("locked")))
    parts = [source, cell_type, str(grade), str(solution), str(locked)]
    parts.append(str(nbgrader.get("grade_id")))
    points = nbgrader.get("points")
    if grade and isinstance(points, int | float):
        parts.append(str(float(points)))
    return hashlib.md5(
        "".join(parts).encode("utf-8", "surrogatepass"), usedforsecurity=False
    ).hexdigest()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""
