"""The text format of a lab: what it expands to, what it refuses, and that a release is stable."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from autograder.authoring import parse, release, released_notebook, source_notebook, split_hints
from autograder.course import Course, CourseError, open_course

LAB = '''\
# ---
# title: A tiny lab
# hours: 1
# ---

# %% [markdown]
# # A tiny lab

# %% given
import math

# %% hints double [markdown]
# 1. Think of
#    addition.
# 2. `x + x`

# %% task double
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return x + x  # the reference adds
    ### END SOLUTION

# %% test double 2
assert double(2) == 4

# %% hidden double 8 outside
assert student.double(3) == reference().double(3), "hidden text"

# %% measure
print(double(21))

# %% written why 5 [markdown]
# Why does it work?
#
# ### BEGIN SOLUTION
# Because addition is repeated.
# ### END SOLUTION
'''


@pytest.fixture
def course(tmp_path: Path) -> Course:
    write(tmp_path, LAB)
    return open_course(tmp_path)


def write(root: Path, text: str) -> Path:
    path = root / "solutions" / "tiny" / "lab.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_header_names_kind_task_and_points(course: Course) -> None:
    lab = parse(course.lab_source("tiny"))
    assert lab.tasks == ["double"]
    assert [(cell.id, cell.points) for cell in lab.graded] == [
        ("test-double", 2),
        ("hidden-double", 8),
        ("written-why", 5),
    ]
    assert lab.points == 15
    assert lab.hints("double") == ["Think of\naddition.", "`x + x`"]


def test_the_source_is_a_valid_nbgrader_notebook(course: Course) -> None:
    from nbgrader.nbgraderformat import MetadataValidator

    notebook = source_notebook(parse(course.lab_source("tiny")))
    nbformat.validate(notebook)
    for cell in notebook.cells:
        MetadataValidator().validate_cell(cell)
    flags = {
        cell.id: cell.metadata.nbgrader for cell in notebook.cells if "nbgrader" in cell.metadata
    }
    assert flags["double"]["solution"] and not flags["double"]["locked"]
    assert flags["hidden-double"]["grade"] and flags["hidden-double"]["points"] == 8
    assert flags["written-why"]["grade"] and flags["written-why"]["solution"]


def test_a_release_holds_no_solution_and_no_hidden_test(course: Course) -> None:
    text = json.dumps(released_notebook(course, "tiny"))
    for secret in ("the reference adds", "hidden text", "Because addition", "BEGIN", "loader("):
        assert secret not in text
    assert "assert double(2) == 4" in text


def test_a_release_is_stable_and_its_staleness_is_seen(course: Course) -> None:
    assert release(course, ["tiny"]) == ["tiny"]
    first = course.released_notebook("tiny").read_bytes()
    assert release(course, ["tiny"]) == []
    assert course.released_notebook("tiny").read_bytes() == first
    write(course.root, LAB.replace("Twice x", "Two times x"))
    assert release(course, ["tiny"], check=True) == ["tiny"]
    assert course.released_notebook("tiny").read_bytes() == first


def test_an_edit_keeps_the_ids_of_cells_that_students_have(course: Course) -> None:
    before = [
        c.id for c in parse(course.lab_source("tiny")).cells if c.kind not in ("prose", "measure")
    ]
    path = write(
        course.root, LAB.replace("import math", "import math, cmath").replace("== 4", "== 4.0")
    )
    assert [c.id for c in parse(path).cells if c.kind not in ("prose", "measure")] == before


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("# %% task double", "# %% tusk double", r"lab.py:17: .*'tusk' is not a kind"),
        ("# %% task double", "# %% task Double!", "task needs a name"),
        ("# %% test double 2", "# %% test double", "test double needs its points"),
        ("# %% test double 2", "# %% test double 2 loud", "'loud' does not belong"),
        ("# %% test double 2", "# %% given", "task double has no test cell"),
        ("# %% measure", "# %% test double 1", "test double stands at line"),
        ("# %% hints double [markdown]\n# 1. Think of", "# %% hints double\n1", "hints cell is"),
        ("    ### END SOLUTION\n", "", "no ### BEGIN SOLUTION region"),
        ("assert double(2) == 4", "assert reference()", "a visible test cannot use reference"),
        ("import math", "%matplotlib inline", "plain Python"),
        ("# title: A tiny lab\n", "", "must give a title"),
    ],
)
def test_a_mistake_of_the_author_is_named(
    course: Course, old: str, new: str, complaint: str
) -> None:
    assert old in LAB
    path = write(course.root, LAB.replace(old, new, 1))
    with pytest.raises(CourseError, match=complaint):
        parse(path)


def test_a_test_may_not_stand_before_its_task(course: Course) -> None:
    head, test, tail = LAB.partition("# %% test double 2\nassert double(2) == 4\n")
    swapped = head.replace("# %% task double", test + "\n# %% task double") + tail
    with pytest.raises(CourseError, match="stands before its task"):
        parse(write(course.root, swapped))


def test_an_unknown_lab_is_answered_with_the_known_ones(course: Course) -> None:
    with pytest.raises(CourseError, match="tiiny: no such lab; there are: tiny"):
        course.select(["tiiny"])


def test_hints_split_at_numbers_only() -> None:
    assert split_hints("1. one\n2. two, with 3.5 in it\n") == ["one", "two, with 3.5 in it"]
