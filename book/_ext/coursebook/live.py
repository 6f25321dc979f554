"""Cells tagged `live` run in the page: Python in the browser, from files beside the pages.

Pyodide and NumPy come as pinned npm packages. They are packed once into scripts that carry their
bytes as text: a page that was opened from a folder may fetch nothing, but it may load scripts.
Without the packages the cells are ordinary ones; the build says so in one line.
"""

from __future__ import annotations

import ast
import base64
import builtins
import gzip
import html
import io
import json
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging

from .places import BOOK
from .translation import said_by, say
from .vendor import NUMPY, PYODIDE, VENDOR, VendorError, package

LOGGER = logging.getLogger(__name__)
TAG = "tag_live"
GIVEN = {"np", "math", "__name__"}
"""Names that every live cell finds: `_static/live.js` imports them."""
ABSENT = {
    "asyncio",
    "concurrent",
    "ctypes",
    "curses",
    "fcntl",
    "mmap",
    "multiprocessing",
    "resource",
}
ABSENT |= {"select", "selectors", "signal", "socket", "sqlite3", "ssl", "subprocess", "threading"}
"""Modules of the standard library that a browser cannot give."""
ENGINE = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"
LEFT_OUT = ("/f2py/", "/_examples/", "/_umath_tests", "/_rational_tests", "/_struct_ufunc_tests")
BAR = (
    '<div class="live" data-pagefind-ignore{words}>'
    '<button type="button" class="live-run">{run}</button>'
    '<button type="button" class="live-edit">{edit}</button>'
    '<button type="button" class="live-stop" hidden>{stop}</button>'
    '<button type="button" class="live-reset" hidden>{reset}</button>'
    '<span class="live-state" role="status">{state}</span></div>'
)


def set_up(app: Any, config: Any) -> None:
    """Fetch and pack Python, or leave the cells as they are."""
    try:
        app.coursebook_live = packed()
    except VendorError as error:
        app.coursebook_live = None
        LOGGER.info("cells do not run in the page: %s", error)


def packed() -> Path:
    """The folder of scripts, made unless it is there; raises VendorError."""
    target = VENDOR / f"live-{PYODIDE.version}-{NUMPY.version}"
    if target.is_dir():
        return target
    engine, numpy = package(PYODIDE), package(NUMPY)
    with tempfile.TemporaryDirectory(dir=VENDOR) as name:
        folder = Path(name) / "live"
        folder.mkdir()
        for file in ENGINE:
            write(folder, file, (engine / file).read_bytes())
        lock = json.loads((engine / LOCK).read_text(encoding="utf-8"))
        write(folder, LOCK, json.dumps({**lock, "packages": {}}).encode())
        write(folder, "numpy.zip", archive(numpy))
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # another build was faster
                raise
    return target


def write(folder: Path, name: str, data: bytes) -> None:
    """A script that hands over the bytes, compressed, under their name."""
    text = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    (folder / f"{name}.js").write_text(f'coursebookLive("{name}","{text}");\n', encoding="ascii")


def archive(numpy: Path) -> bytes:
    """NumPy without what only its own tests and builds need, as a zip to lay over site-packages."""
    found = io.BytesIO()
    source = next(numpy.glob("pkg/*.tar.gz"))
    with tarfile.open(source) as tar, zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as target:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            inner = member.name.partition("site-packages/")[2]
            wanted = inner.startswith("numpy/") and inner.endswith((".py", ".so", ".txt"))
            if wanted and member.isfile() and not any(part in inner for part in LEFT_OUT):
                data = tar.extractfile(member)
                assert data is not None
                target.writestr(zipfile.ZipInfo(inner), data.read())
    return found.getvalue()


def size(folder: Path) -> float:
    """Megabytes that a reader's first run loads."""
    return sum(path.stat().st_size for path in folder.glob("*.js")) * 0.75 / 1e6


def cells(doctree: nodes.document) -> Iterator[tuple[nodes.container, str]]:
    """The tagged cells of a page and their code."""
    for cell in doctree.findall(nodes.container):
        if TAG in cell["classes"]:
            code = next(iter(cell.findall(nodes.literal_block)), None)
            yield cell, code.astext() if code else ""


def check(app: Any, doctree: nodes.document) -> None:
    """A tagged cell that could not run in the page is a warning, and so an error of the build."""
    known = set(GIVEN)
    for cell, code in cells(doctree):
        problem, defined = judge(code, known)
        known |= defined
        if problem:
            LOGGER.warning(
                "live cell: %s", problem, location=cell, type="coursebook", subtype="live"
            )


def judge(code: str, known: set[str]) -> tuple[str, set[str]]:
    """What keeps a cell from running after cells that define `known`, and what it defines."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return "not plain Python", set()
    modules, defined, used = set(), set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                modules |= {alias.name.partition(".")[0] for alias in node.names}
                defined |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            case ast.ImportFrom():
                modules.add((node.module or "").partition(".")[0])
                defined |= {alias.asname or alias.name for alias in node.names}
            case ast.Name(ctx=ast.Load()):
                used.add(node.id)
            case ast.Name():
                defined.add(node.id)
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                defined.add(node.name)
            case ast.arg():
                defined.add(node.arg)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                defined.add(name)
    foreign = sorted(modules - (set(sys.stdlib_module_names) - ABSENT) - {"numpy"})
    if foreign:
        return f"imports {', '.join(foreign)}; only NumPy runs in the page", defined
    missing = sorted(used - defined - known - set(dir(builtins)))
    if missing:
        return f"uses {', '.join(missing)}, which no live cell before it defines", defined
    return "", defined


def buttons(megabytes: float) -> str:
    """The bar in the language of this build, with the words that the script will need."""
    words = said_by(BOOK / "_static" / "live.js")
    state = say("Runs in this page; the first time it loads {size:.0f} MB.")
    return BAR.format(
        words=f' data-words="{html.escape(words)}"' if words else "",
        run=say("Run"),
        edit=say("Edit"),
        stop=say("Stop"),
        reset=say("Reset"),
        state=state.format(size=megabytes),
    )


def add(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put the buttons under the code."""
    if app.builder.name != "html" or app.coursebook_live is None:
        return
    bar = buttons(size(app.coursebook_live))
    for cell, _ in cells(doctree):
        source = next(
            (part for part in cell.findall(nodes.container) if "cell_input" in part["classes"]),
            None,
        )
        if source is not None:
            source += nodes.raw("", bar, format="html")


def copy_files(app: Any, exception: Exception | None) -> None:
    """Put Python's scripts beside the pages."""
    if exception or app.builder.format != "html" or app.coursebook_live is None:
        return
    target = Path(app.outdir) / "_static" / "live"
    shutil.copytree(app.coursebook_live, target, dirs_exist_ok=True)
