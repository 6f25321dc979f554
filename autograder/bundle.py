"""What students need, and nothing else, as one zip: notebooks, handouts, the harness.

The student's part of the package is what `autograder.commands.student` and the harness import; it
is found by following their imports, so that nothing is forgotten and nothing else comes along.
Equal content gives equal bytes.
"""

from __future__ import annotations

import ast
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from autograder import notebooks
from autograder.authoring import parse
from autograder.course import Course, CourseError, MachineryError
from autograder.variants import leaks

PACKAGE = Path(__file__).resolve().parent
ROOTS = ("__main__", "cli", "check", "commands.student", "engine.executor", "labkit")
AUTHORS_ONLY = (
    "authoring",
    "variants",
    "verify",
    "bundle",
    "collect",
    "grading",
    "record",
    "late",
    "regrade",
    "report",
)
TOP = "mlsys-course"
EPOCH = (1980, 1, 1, 0, 0, 0)
PROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "mlsys-course"
version = "0.1.0"
requires-python = ">=3.11"
dynamic = ["dependencies"]

[project.scripts]
autograder = "autograder.cli:main"

[tool.setuptools.packages.find]
include = ["autograder*"]

[tool.setuptools.dynamic]
dependencies = { file = ["requirements.txt"] }
"""
README = """\
# The labs

Python 3.11 or newer on Linux or macOS (on Windows: in WSL). In this folder, once:

    python3 -m venv .venv
    .venv/bin/pip install -e .

Then, whenever you work:

    .venv/bin/jupyter lab labs

Open a lab, read from the top, and replace each `raise NotImplementedError` with your own code. The
test below a task tells at once whether it works, and what does not. Do not delete or copy the cells
of the lab; add as many of your own as you like.

Ask at any time what your notebook would get (save it first):

    .venv/bin/autograder check labs/{first}/{first}.ipynb
    .venv/bin/autograder check {first} --task {task} --hint     # one task, and one hint more

or run `from autograder import check; check.here()` in a cell at its end. `.venv/bin/autograder
progress` shows the whole course, `.venv/bin/autograder doctor` says what is wrong with the
installation. Hand in the `.ipynb` file of the lab, under the name that it has.

| lab | | points |
|---|---|---:|
{labs}

Your original notebooks stay in `.released/`, should you want to start a lab again.
"""


def bundle(course: Course, names: list[str], target: Path) -> list[str]:
    """Write the zip of the labs `names` to `target`, whole or not at all; return its members.

    Raises `CourseError` when a released notebook is missing, or when a line of any lab's solutions
    or hidden tests would leave with it.
    """
    if not names:
        raise CourseError(f"{course.root}: this course has no labs")
    if target.is_dir() or not target.parent.is_dir():
        raise CourseError(f"{target}: cannot be written: it is a folder, or lies in none")
    members = {f"{TOP}/{name}": data for name, data in _members(course, names)}
    _refuse_secrets(course, members)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in sorted(members):
                info = zipfile.ZipInfo(name, EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o100644 << 16
                archive.writestr(info, members[name])
        scratch.replace(target)
    except OSError as error:
        raise MachineryError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)
    return sorted(members)


def _members(course: Course, names: list[str]) -> Iterable[tuple[str, bytes]]:
    rows, tasks = [], []
    for lab in names:
        path = course.released_notebook(lab)
        if not path.is_file():
            raise CourseError(f"{path}: not released yet: run autograder release {lab}")
        files = {path.name: path.read_bytes()}
        handout = course.handout(lab)
        for file in sorted(handout.rglob("*")) if handout.is_dir() else []:
            if file.is_file() and not file.is_symlink():
                files[str(file.relative_to(handout))] = file.read_bytes()
        for name, data in files.items():
            yield f"labs/{lab}/{name}", data
            yield f".released/{lab}/{name}", data
        notebook = notebooks.read(path)
        rows.append(f"| `{lab}` | {notebook.title} | {sum(c.points for c in notebook.cells):g} |")
        tasks += [cell.task for cell in notebook.cells if cell.kind == "task"][:1]
    for module in student_modules():
        yield f"autograder/{module.relative_to(PACKAGE)}", module.read_bytes()
    yield "autograder/py.typed", b""
    yield "requirements.txt", (course.root / "requirements" / "student.in").read_bytes()
    yield "pyproject.toml", PROJECT.encode()
    yield "LICENSE", (course.root / "LICENSE").read_bytes()
    table = "\n".join(rows)
    yield "README.md", README.format(first=names[0], task=tasks[0], labs=table).encode()


def student_modules() -> list[Path]:
    """The files of the package that a student's commands and notebooks import, sorted.

    Raises `CourseError` when that would take along what is the author's.
    """
    found: set[Path] = set()
    waiting = [f"autograder.{root}" for root in ROOTS]
    waiting += [f"autograder.labkit.{path.stem}" for path in (PACKAGE / "labkit").glob("*.py")]
    while waiting:
        name = waiting.pop()
        for path in _files_of(name):
            if path not in found:
                found.add(path)
                waiting += _imported(path)
    for name in AUTHORS_ONLY:
        if PACKAGE / f"{name}.py" in found:
            raise CourseError(f"autograder.{name}: a student's command imports it")
    return sorted(found)


def _files_of(name: str) -> list[Path]:
    """The file of a module of this package, and the `__init__` files of the packages above it."""
    parts = name.split(".")[1:]
    files = [PACKAGE.joinpath(*parts[:end], "__init__.py") for end in range(len(parts) + 1)]
    if parts:
        files.append(PACKAGE.joinpath(*parts[:-1], f"{parts[-1]}.py"))
    return [file for file in files if file.is_file()]


def _imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "autograder"]


def _refuse_secrets(course: Course, members: dict[str, bytes]) -> None:
    """Look in every member for the secrets of every lab of the course, not only of those in it."""
    labs = [parse(course.lab_source(name)) for name in course.lab_names()]
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        for name, data in members.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            for lab in labs:
                for leak in leaks(lab, path):
                    raise CourseError(f"no bundle: {leak.removeprefix(f'{folder}/{TOP}/')}")
