"""nbgrader's own documentation notebooks get from our engine what nbgrader gave them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import nbgrader
import pytest
from nbformat import NotebookNode
from nbgrader.utils import determine_grade, is_grade, is_locked, is_solution

from autograder.engine.host import run_trials
from autograder.engine.trials import Limits, Trial
from autograder.rebuild import rebuild
from autograder.record import NOT_RUN, settle

GUIDE = Path(nbgrader.__file__).parent / "docs" / "source" / "user_guide"


def read(step: str, student: str, name: str) -> NotebookNode:
    return nbformat.read(GUIDE / step / student / "ps1" / f"{name}.ipynb", as_version=4)


def annotated(notebook: NotebookNode) -> NotebookNode:
    """The notebook with ids and kinds as our own have them, by nbgrader's metadata."""
    for number, cell in enumerate(notebook.cells):
        if "nbgrader" not in cell.metadata or not cell.metadata.nbgrader.get("grade_id"):
            cell.id, kind = f"plain-{number}", "code" if cell.cell_type == "code" else "prose"
        else:
            cell.id = cell.metadata.nbgrader["grade_id"]
            kind = "given"
            if is_solution(cell):
                kind = "written" if is_grade(cell) else "task"
            elif is_grade(cell):
                kind = "test"
            else:
                assert is_locked(cell)
        cell.metadata["course"] = {"kind": kind}
    return notebook


@pytest.mark.parametrize("student", ["bitdiddle", "hacker"])
@pytest.mark.parametrize("name", ["problem1", "problem2"])
def test_the_same_points(student: str, name: str) -> None:
    source, released = annotated(read("source", ".", name)), annotated(read("release", ".", name))
    data = (GUIDE / "submitted" / student / "ps1" / f"{name}.ipynb").read_bytes()
    notebook = rebuild(data, "ps1", source, released).notebook
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tests = frozenset(cell.id for cell in code if cell.metadata.course.kind == "test")
    trial = Trial(name, tuple((cell.id, cell.source) for cell in code), tests=tests)
    (verdicts,) = run_trials([trial], imports=["matplotlib.pyplot"], limits=Limits())
    for cell in code:
        settle(cell, verdicts.cells.get(cell.id, NOT_RUN))
    ours = {cell.id: determine_grade(cell)[0] for cell in code if cell.id in tests}
    stock = {
        cell.metadata.nbgrader["grade_id"]: determine_grade(cell)[0]
        for cell in read("autograded", student, name).cells
        if is_grade(cell) and not is_solution(cell)
    }
    assert ours == stock
    assert verdicts.evidence == ()
