"""From the text of a lab to notebooks: `solutions/<lab>/lab.py` in, source and release out.

`parse` reads the text format (the author guide of the book is its manual), `source_notebook`
expands it into a notebook with nbgrader's metadata, and `release` has nbgrader's own
`generate_assignment` take the solutions and hidden tests out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode
from traitlets.config import Config

from autograder import launch
from autograder.course import SLUG, Course, CourseError
from autograder.settings import COURSE_FILE, read_settings

Kind = Literal["prose", "code", "given", "task", "test", "hidden", "hints", "written", "measure"]
NAMED: tuple[Kind, ...] = ("task", "test", "hidden", "hints", "written")
GRADED: tuple[Kind, ...] = ("test", "hidden", "written")
MARKDOWN: tuple[Kind, ...] = ("prose", "hints", "written")

BEGIN_SOLUTION, END_SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
REFERENCE_CALL = re.compile(r"\breference\(")
MAGIC = re.compile(r"^\s*[%!]", re.M)


@dataclass(frozen=True)
class Cell:
    """One cell of a lab: its kind, the task it belongs to, and where it stands in the file."""

    kind: Kind
    source: str
    name: str = ""
    points: int = 0
    outside: bool = False
    line: int = 0
    id: str = ""

    @property
    def is_code(self) -> bool:
        return self.kind not in MARKDOWN


@dataclass(frozen=True)
class Lab:
    """A lab as its author wrote it."""

    slug: str
    title: str
    hours: float
    imports: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def tasks(self) -> list[str]:
        return [cell.name for cell in self.cells if cell.kind == "task"]

    @property
    def graded(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind in GRADED]

    @property
    def points(self) -> int:
        return sum(cell.points for cell in self.cells)

    def cell(self, kind: Kind, name: str) -> Cell:
        """The one cell of that kind and name; raises KeyError where there is none."""
        for cell in self.cells:
            if (cell.kind, cell.name) == (kind, name):
                return cell
        raise KeyError(f"{kind} {name}")

    def hints(self, name: str) -> list[str]:
        """The hint ladder of a task, the gentlest first; empty where the author wrote none."""
        texts = [cell.source for cell in self.cells if (cell.kind, cell.name) == ("hints", name)]
        return split_hints(texts[0]) if texts else []


def split_hints(text: str) -> list[str]:
    """The items of a numbered Markdown list, each as one Markdown text."""
    items = re.split(r"^\s*\d+\.\s+", text, flags=re.M)
    return [re.sub(r"\n[ \t]{1,4}", "\n", item.strip()) for item in items[1:]]


def parse(path: Path) -> Lab:
    """Read the text of a lab.

    Raises `CourseError` naming the file and the line for a header that is not of the format, a name
    that is used twice, a test before its task, a task without tests or without a solution region.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CourseError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    meta, cells = read_cells(path, text)
    lab = Lab(
        slug=path.parent.name,
        title=str(meta.get("title", "")),
        hours=float(meta.get("hours", 0)),
        imports=tuple(meta.get("imports", ())),
        cells=with_ids(_cell(path, *cell) for cell in cells),
    )
    if not lab.title or not lab.hours:
        raise CourseError(f"{path}:1: the YAML header must give a title and the hours")
    _check(path, lab)
    return lab


def read_cells(path: Path, text: str) -> tuple[dict[str, Any], list[tuple[int, str, str, str]]]:
    """Split a percent script into its YAML header and (line, header, cell type, source) tuples."""
    notebook = jupytext.reads(text, fmt="py:percent")
    cells = list(notebook.cells)
    meta: dict[str, Any] = {}
    if cells and cells[0].cell_type == "raw" and cells[0].source.startswith("---"):
        try:
            meta = yaml.safe_load(cells.pop(0).source.strip().strip("-")) or {}
        except yaml.YAMLError as error:
            raise CourseError(f"{path}:1: the YAML header cannot be read: {error}") from error
    lines = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r"# %%(\s|$)", line)]
    if len(cells) == len(lines) + 1 and not re.search(r"^(?!#|$)", cells[0].source, re.M):
        del cells[0]  # a comment at the head of the file
    if len(lines) != len(cells):
        raise CourseError(f"{path}: {len(cells)} cells but {len(lines)} lines that start with # %%")
    return meta, [
        (line, cell.metadata.get("title", "").strip(), cell.cell_type, cell.source.strip())
        for line, cell in zip(lines, cells, strict=True)
    ]


def _cell(path: Path, line: int, header: str, cell_type: str, source: str) -> Cell:
    where = f"{path}:{line}"
    words = header.split()
    if not words:
        return Cell("prose" if cell_type == "markdown" else "code", source, line=line)
    kind, rest = words[0], words[1:]
    if kind not in (*NAMED, "given", "measure"):
        raise CourseError(f"{where}: a cell cannot be called {header!r}: {kind!r} is not a kind")
    cell = Cell(kind, source, line=line)
    if cell.is_code != (cell_type == "code"):
        raise CourseError(f"{where}: a {kind} cell is {'code' if cell.is_code else '[markdown]'}")
    if kind in NAMED:
        if not rest or not SLUG.fullmatch(rest[0]):
            raise CourseError(f"{where}: {kind} needs a name of lower-case letters, digits and _")
        cell = replace(cell, name=rest.pop(0))
    if kind in GRADED:
        if not rest or not rest[0].isdigit() or int(rest[0]) == 0:
            raise CourseError(f"{where}: {kind} {cell.name} needs its points, a whole number")
        cell = replace(cell, points=int(rest.pop(0)))
    if kind == "hidden" and rest == ["outside"]:
        cell, rest = replace(cell, outside=True), []
    if rest:
        raise CourseError(f"{where}: {' '.join(rest)!r} does not belong in the header {header!r}")
    if kind in ("given", "task") and MAGIC.search(source):
        raise CourseError(f"{where}: a {kind} cell is plain Python: no % or ! lines")
    return cell


def with_ids(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Give each cell the id it keeps for life: by name, or by place or content without one."""
    seen: set[str] = set()
    done: list[Cell] = []
    given = 0
    for cell in cells:
        if cell.name:
            base = cell.name if cell.kind == "task" else f"{cell.kind}-{cell.name}"
        elif cell.kind == "given":
            given += 1
            base = f"given-{given}"
        else:
            base = f"{cell.kind}-{hashlib.sha256(cell.source.encode()).hexdigest()[:8]}"
        name, count = base, 1
        while name in seen and not cell.name:
            count += 1
            name = f"{base}-{count}"
        seen.add(name)
        done.append(replace(cell, id=name))
    return tuple(done)


def _check(path: Path, lab: Lab) -> None:
    seen: dict[str, int] = {}
    for cell in lab.cells:
        if cell.id in seen:
            raise CourseError(
                f"{path}:{cell.line}: {cell.kind} {cell.name} stands at line {seen[cell.id]} too"
            )
        seen[cell.id] = cell.line
        if cell.kind in ("task", "written") and not (
            BEGIN_SOLUTION in cell.source and END_SOLUTION in cell.source
        ):
            raise CourseError(
                f"{path}:{cell.line}: {cell.kind} {cell.name} has no {BEGIN_SOLUTION} region"
            )
        if cell.kind == "test" and REFERENCE_CALL.search(cell.source):
            raise CourseError(f"{path}:{cell.line}: a visible test cannot use reference()")
    lines: dict[tuple[str, str], int] = {(cell.kind, cell.name): cell.line for cell in lab.cells}
    for name in lab.tasks:
        for kind in ("test", "hidden"):
            line = lines.get((kind, name))
            if line is None:
                raise CourseError(f"{path}: task {name} has no {kind} cell")
            if line < lines["task", name]:
                raise CourseError(f"{path}:{line}: {kind} {name} stands before its task")


def reference_sources(lab: Lab) -> list[str]:
    """What `reference()` executes: every given and task cell of the reference, in order."""
    marks = re.compile(rf"^[ \t]*({BEGIN_SOLUTION}|{END_SOLUTION})[ \t]*\n?", re.M)
    return [marks.sub("", cell.source) for cell in lab.cells if cell.kind in ("given", "task")]


def source_notebook(lab: Lab) -> NotebookNode:
    """The lab with solutions and hidden tests, as the notebook that nbgrader calls the source."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        course={"lab": lab.slug, "title": lab.title, "imports": list(lab.imports)},
    )
    notebook.cells = list(_expand(lab))
    return notebook


def _expand(lab: Lab) -> Iterator[NotebookNode]:
    card_due = True
    for cell in lab.cells:
        source = cell.source
        if cell.kind == "hidden":
            source = _hidden_source(lab, cell)
        elif cell.kind == "hints":
            source = _hint_ladder(source)
        new = nbformat.v4.new_code_cell if cell.is_code else nbformat.v4.new_markdown_cell
        node = new(source, id=cell.id)
        node.metadata["course"] = {"kind": cell.kind}
        if cell.name:
            node.metadata["course"]["task"] = cell.name
        if cell.outside:
            node.metadata["course"]["outside"] = True
        if cell.kind in ("given", "task", *GRADED):
            node.metadata["nbgrader"] = _nbgrader(cell)
        if cell.kind == "given":
            node.metadata.update(editable=False, deletable=False)
        yield node
        if card_due and cell.kind == "prose":
            card_due = False
            card = nbformat.v4.new_markdown_cell(_card(lab), id="card")
            card.metadata["course"] = {"kind": "prose"}
            yield card


def _nbgrader(cell: Cell) -> dict[str, Any]:
    graded = cell.kind in GRADED
    own_work = cell.kind in ("task", "written")
    meta: dict[str, Any] = {
        "schema_version": 3,
        "grade": graded,
        "solution": own_work,
        "task": False,
        "locked": not own_work,
        "grade_id": cell.id,
    }
    if graded:
        meta["points"] = cell.points
    return meta


def _hidden_source(lab: Lab, cell: Cell) -> str:
    prelude = []
    if REFERENCE_CALL.search(cell.source):
        prelude = [
            "from autograder.labkit.reference import loader",
            f"reference = loader({json.dumps(reference_sources(lab), ensure_ascii=False)})",
        ]
    if cell.outside:
        prelude += [
            "from autograder.labkit import outside",
            "student = outside.local(globals())",
        ]
    shown = f"# The hidden test of {cell.name} ({cell.points} points) runs when your lab is graded."
    return "\n".join([shown, BEGIN_HIDDEN, *prelude, cell.source, END_HIDDEN])


def _hint_ladder(source: str) -> str:
    rungs = [
        f"<details><summary>Hint {number}</summary>\n\n{hint}\n\n</details>"
        for number, hint in enumerate(split_hints(source), 1)
    ]
    return "\n\n".join(rungs)


def _card(lab: Lab) -> str:
    """The table at the head of a lab: what there is to do and what it is worth."""
    rows: dict[str, dict[str, int]] = {}
    for cell in lab.graded:
        row = rows.setdefault(cell.name, dict.fromkeys(GRADED, 0))
        row[cell.kind] += cell.points
    lines = [
        f"**{lab.points} points, about {lab.hours:g} hour{'s' * (lab.hours != 1)}.** Visible"
        " tests answer at once; hidden tests run when the lab is graded; written answers are read"
        " by a person.",
        "",
        "| task | visible | hidden | written |",
        "|---|---:|---:|---:|",
    ]
    for name, points in rows.items():
        shown = " | ".join(str(points[kind] or "") for kind in GRADED)
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines)


def write_source(course: Course, lab_name: str) -> Path:
    """Write nbgrader's source notebook (and the handout files) of a lab; return its path."""
    lab = parse(course.lab_source(lab_name))
    path = course.source_notebook(lab_name)
    write_notebook(source_notebook(lab), path)
    if course.handout(lab_name).is_dir():
        shutil.copytree(course.handout(lab_name), path.parent, dirs_exist_ok=True)
    return path


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def released_notebook(course: Course, lab_name: str) -> NotebookNode:
    """What nbgrader's `generate_assignment` makes of the lab, without touching any class.

    Where `course.toml` names the repository, a setup cell for Colab stands at its head.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        lab = parse(course.lab_source(lab_name))
        notebook = generate(lab, f"sqlite:///{folder}/gradebook.db")
    launch.add_setup(notebook, read_settings(course, of_class=False), lab_name)
    return notebook


def generate(lab: Lab, db_url: str) -> NotebookNode:
    """Have nbgrader's `generate_assignment` enter the lab into a gradebook and make its release.

    Raises `CourseError` with nbgrader's own words when it refuses, as it does when cells were added
    or removed since the first submission was graded.
    """
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory

    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        root = Path(folder)
        config = Config()
        config.CourseDirectory.root = folder
        config.CourseDirectory.source_directory = "source"
        config.CourseDirectory.release_directory = "release"
        config.CourseDirectory.db_url = db_url
        config.CourseDirectory.assignment_id = lab.slug
        config.CourseDirectory.course_id = "default_course"  # the row that others refer to
        write_notebook(source_notebook(lab), root / "source" / lab.slug / f"{lab.slug}.ipynb")
        with nbgrader_at_work() as log:
            converter = GenerateAssignment(
                coursedir=CourseDirectory(config=config), config=config, log=log
            )
            try:
                converter.start()
            except NbGraderException:
                cause = log.last() or "it does not say why"
                raise CourseError(f"{lab.slug}: nbgrader makes no release: {cause}") from None
        made = root / "release" / lab.slug / f"{lab.slug}.ipynb"
        return nbformat.read(made, as_version=nbformat.NO_CONVERT)


class QuietLog(logging.Logger):
    """A logger for nbgrader's converters that keeps its errors instead of printing them."""

    def __init__(self) -> None:
        super().__init__("nbgrader", logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def last(self) -> str:
        """The first line of the last thing that went wrong."""
        for record in self.records:
            if record.exc_info and record.exc_info[1]:
                return f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
        lines = [record.getMessage().strip().splitlines()[-1] for record in self.records]
        return lines[-1] if lines else ""


@contextmanager
def nbgrader_at_work() -> Iterator[QuietLog]:
    """A quiet logger for nbgrader's converters, and `alembic`, which they call, on the PATH."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    try:
        yield QuietLog()
    finally:
        os.environ["PATH"] = path


def release(course: Course, names: list[str], *, check: bool = False) -> list[str]:
    """Regenerate `labs/` from `solutions/`; return the labs whose release changed.

    With `check` nothing is written, and the returned labs are the stale ones.
    """
    changed = []
    for name in names:
        stamp = course.source_dir.parent / "release" / name
        if not check and stamp.is_file() and stamp.read_text() == _release_digest(course, name):
            continue
        notebook = released_notebook(course, name)
        path = course.released_notebook(name)
        new = nbformat.writes(notebook) + "\n"
        stale = not path.is_file() or path.read_text(encoding="utf-8") != new
        handout = course.handout(name)
        files = [p for p in handout.rglob("*") if p.is_file()] if handout.is_dir() else []
        for file in files:
            target = path.parent / file.relative_to(handout)
            if not target.is_file() or target.read_bytes() != file.read_bytes():
                stale = True
                if not check:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
        if stale:
            changed.append(name)
            if not check:
                write_notebook(notebook, path)
        if not check:
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(_release_digest(course, name))
    return changed


def _release_digest(course: Course, name: str) -> str:
    """A digest of all that a release is made of, and of what it has come to."""
    files = [course.lab_source(name), course.released_notebook(name), Path(__file__)]
    files += [course.root / COURSE_FILE, Path(launch.__file__)]
    for folder in (course.handout(name), course.labs_dir / name):
        files += sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256(version("nbgrader").encode())
    for file in files:
        data = file.read_bytes() if file.is_file() else b""
        digest.update(f"{file.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()
