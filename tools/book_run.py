"""Execute chapters in parallel and keep their outputs where myst-nb will look for them."""

from __future__ import annotations

import concurrent.futures
import copy
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coursebook import kernel

TIMEOUT = 180
LIBRARIES = ["numpy", "torch", "matplotlib", "ipython", "ipykernel", "myst-nb", "jupyter-book"]
LIBRARIES += ["sphinx", "sphinx-book-theme", "pydata-sphinx-theme", "sphinx-exercise"]


@dataclass(frozen=True)
class Result:
    """How one chapter's execution ended; `error` is a line, empty when all went well."""

    page: Path
    seconds: float
    cached: bool
    error: str = ""


def is_notebook(page: Path) -> bool:
    """Whether the page has cells to execute."""
    from myst_nb.core.read import is_myst_markdown_notebook

    return is_myst_markdown_notebook(page.read_text(encoding="utf-8"))


def versions() -> dict[str, str]:
    """What the outputs depend on besides the chapters' own code."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found}


def surroundings() -> str:
    """A hash of versions and of the figure style: outputs made in others are stale."""
    style = Path(kernel.__file__).with_name("matplotlibrc").read_bytes()
    text = json.dumps(versions(), sort_keys=True) + kernel.PROFILE
    return hashlib.sha256(text.encode() + style).hexdigest()


def run(pages: list[Path], folder: Path, jobs: int) -> Iterator[Result]:
    """Bring the cache in `folder` up to date; yields as each page is done."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    stamp = folder / "surroundings"
    if folder.is_dir() and (not stamp.is_file() or stamp.read_text() != surroundings()):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(surroundings())
    kernel.prepare(folder.parent)
    cache = get_cache(str(folder))
    due = []
    for page in pages:
        try:
            record = cache.match_cache_notebook(read(page))
        except KeyError:
            due.append(page)
        else:
            yield Result(page, record.data.get("execution_seconds", 0.0), cached=True)
    with concurrent.futures.ProcessPoolExecutor(max(1, jobs), initializer=_quiet) as pool:
        waiting = {pool.submit(execute, page): page for page in due}
        for done in concurrent.futures.as_completed(waiting):
            page = waiting[done]
            notebook, seconds, error = done.result()
            if not error:
                bundle = CacheBundleIn(notebook, str(page), data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            yield Result(page, seconds, cached=False, error=error)


def _quiet() -> None:
    """Send what kernels write beside their outputs nowhere: errors come back as results."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def read(page: Path) -> Any:
    """The notebook of a page, exactly as myst-nb reads it."""
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    return read_myst_markdown_notebook(
        page.read_text(encoding="utf-8"), config=MdParserConfig(), add_source_map=True, path=page
    )


def execute(page: Path) -> tuple[Any, float, str]:
    """Run all cells of a page in a fresh kernel: (notebook, seconds, error in one line)."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    notebook = read(page)
    kernelspec = copy.deepcopy(notebook.metadata.get("kernelspec", {}))
    began = time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(page.parent)}},
    )
    error = ""
    try:
        client.execute()
    except CellExecutionError as problem:
        error = f"{problem.ename}: {problem.evalue} {_cell(notebook, page)}"
    except CellTimeoutError:
        error = f"a cell ran longer than {TIMEOUT} s {_cell(notebook, page)}"
    except DeadKernelError:
        error = f"the kernel died {_cell(notebook, page)}"
    seconds = time.monotonic() - began
    notebook.metadata["kernelspec"] = kernelspec  # the cache is asked with the page's own
    return notebook, seconds, error


def _cell(notebook: Any, page: Path) -> str:
    """Where execution stopped: the line of the page and the first line of the cell."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ran = [cell for cell in code if cell.get("execution_count") or cell.get("outputs")]
    cell = ran[-1] if ran else code[0]
    first = next(
        (ln for ln in cell.source.splitlines() if ln.strip() and not ln.startswith("#")), ""
    )
    lines = page.read_text(encoding="utf-8").splitlines()
    number = next((n for n, line in enumerate(lines, 1) if line.strip() == first.strip()), 0)
    return re.sub(r"\s+", " ", f"(line {number}, in the cell that begins: {first.strip()[:80]})")
