"""Links that open a lab in the reader's browser, once the repository is public: Colab and Binder.

The address of the repository stands in `course.toml`; without it there are no links, and released
notebooks have no setup cell.
"""

from __future__ import annotations

from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

from autograder.settings import Settings

SETUP_ID = "setup"
SETUP = """\
# On Colab this cell fetches the course; elsewhere it does nothing.
import os
import shutil
import subprocess
import sys

if "google.colab" in sys.modules:
    course = os.path.abspath("mlsys-course")
    if not os.path.isdir(course):
        clone = ["git", "clone", "--quiet", "--depth=1", "--branch={branch}"]
        subprocess.run([*clone, "{address}", course], check=True)
    lab = os.path.join(course, "labs", "{lab}")
    if os.getcwd() != lab:
        skip = shutil.ignore_patterns("*.ipynb")
        shutil.copytree(lab, os.getcwd(), ignore=skip, dirs_exist_ok=True)
    sys.path.insert(0, course)
    os.environ["PYTHONPATH"] = course
"""


def links(settings: Settings, lab: str) -> dict[str, str]:
    """The addresses that open a lab's released notebook, by service; empty without a repository."""
    if not settings.repository:
        return {}
    branch, path = quote(settings.branch, safe="/"), f"labs/{lab}/{lab}.ipynb"
    reference = quote(settings.branch, safe="")
    opened = quote(f"lab/tree/{path}", safe="")
    return {
        "Colab": f"https://colab.research.google.com/github/{settings.repository}/blob/{branch}/{path}",
        "Binder": f"https://mybinder.org/v2/gh/{settings.repository}/{reference}?urlpath={opened}",
    }


def add_setup(notebook: NotebookNode, settings: Settings, lab: str) -> None:
    """Put the setup cell at the head of a released notebook, if there is a repository to fetch."""
    if not settings.repository:
        return
    address = f"https://github.com/{settings.repository}"
    source = SETUP.format(branch=settings.branch, address=address, lab=lab).strip()
    cell = nbformat.v4.new_code_cell(source, id=SETUP_ID)
    cell.metadata["course"] = {"kind": "code"}
    notebook.cells.insert(0, cell)
