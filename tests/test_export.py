"""Grades leave the gradebook as they are, in a fixed order, and as the platforms take them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from small_lab import make_course

from autograder.authoring import nbgrader_at_work
from autograder.course import Course, CourseError, MachineryError, open_course
from autograder.export import Grade, as_csv, cell, for_platform, grades
from autograder.roster import Roster, read_roster

SUMS = ["score", "max", "late", "penalty", "state"]
POINTS = {"test-total": 10, "hidden-total": 40, "test-mean": 10, "hidden-mean": 30}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class with a gradebook as nbgrader leaves it: two graded, one late, one not readable."""
    from nbgrader.api import Gradebook

    made = make_course(tmp_path_factory.mktemp("graded") / "course")
    for student in ("ada", "bob", "eve"):
        folder = made.submitted / student / "two"
        folder.mkdir(parents=True)
        (folder / "two.ipynb").touch()
    due = datetime(2026, 3, 1, 12)
    with nbgrader_at_work(), Gradebook(made.db_url) as book, book.db.no_autoflush:
        book.add_assignment("two", duedate=due)
        book.add_notebook("two", "two")
        for name, points in POINTS.items():
            book.add_grade_cell(name, "two", "two", max_score=points, cell_type="code")
        book.add_grade_cell("written-why", "two", "two", max_score=10, cell_type="markdown")
        for student in ("ada", "bob", "zoe"):
            book.add_student(student)
        book.add_submission("two", "ada", timestamp=due)
        book.add_submission("two", "bob", timestamp=due + timedelta(hours=30))
        for student, share in (("ada", 1.0), ("bob", 0.5)):
            for name, points in POINTS.items():
                grade = book.find_grade(name, "two", "two", student)
                grade.auto_score = points * share
                grade.needs_manual_grade = False
            grade = book.find_grade("written-why", "two", "two", student)
            grade.needs_manual_grade = student == "bob"
            grade.manual_score = 7.5 if student == "ada" else None
        book.find_submission("two", "bob").notebooks[0].late_submission_penalty = 5
        book.db.commit()
    note = made.results / "two" / "students" / "eve.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"outcome": {"state": "failed"}}))
    return made.root


@pytest.fixture
def course(graded: Path, tmp_path: Path) -> Course:
    """The graded class, to be changed."""
    shutil.copytree(graded, tmp_path / "course")
    return open_course(tmp_path / "course")


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_plain_csv(course: Course) -> None:
    assert as_csv(grades(course, ["two"])) == (
        "student,lab,score,max,late,penalty,state\n"
        "ada,two,97.5,100,0,0,graded\n"
        "bob,two,40,100,30,5,to be read\n"
        "eve,two,,100,,0,failed\n"
        "zoe,two,,100,,0,not handed in\n"
    )


def test_by_task(course: Course) -> None:
    head, ada, bob, *_ = rows(as_csv(grades(course, ["two"]), by_task=True))
    assert head == ["student", "lab", "total", "mean", "why", *SUMS]
    assert ada[2:5] == ["50", "40", "7.5"]
    assert bob[2:5] == ["25", "20", "0"]


def test_it_is_what_nbgrader_exports(course: Course, tmp_path: Path) -> None:
    from nbgrader.api import Gradebook
    from nbgrader.plugins import CsvExportPlugin

    plugin = CsvExportPlugin()
    plugin.to = str(tmp_path / "stock.csv")
    with Gradebook(course.db_url) as book:
        plugin.export(book)
    stock = {
        row["student_id"]: (float(row["score"]), float(row["max_score"]))
        for row in csv.DictReader((tmp_path / "stock.csv").open())
    }
    for grade in grades(course, ["two"]):
        if grade.score is not None:
            assert (grade.score, grade.max_score) == stock[grade.student]


def test_the_roster_is_complete(course: Course, tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_text("id\nada\nyan\n")
    found = grades(course, ["two"], read_roster(tmp_path / "roster.csv"))
    assert [grade.student for grade in found] == ["ada", "bob", "eve", "yan", "zoe"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text) == f"'{text.strip()}"
    assert rows(as_csv([Grade(text, "two", 1.0)]))[1][0] == f"'{text.strip()}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (1.0, "1"), (0.1 + 0.2, "0.3"), (-2.5, "-2.5"), ("张伟", "张伟")],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


ROSTER = Roster(
    {
        "ada": {
            "name": "Lovelace, Ada",
            "email": "ada@example.edu",
            "canvas": "1234",
            "sis": "S1",
            "section": "A",
            "sid": "0042",
        }
    }
)


def test_canvas_gets_five_columns_of_identity_and_the_possible_points(course: Course) -> None:
    assert rows(for_platform("canvas", grades(course, ["two"]), ROSTER)) == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "two"],
        ["Points Possible", "", "", "", "", "100"],
        ["Lovelace, Ada", "1234", "S1", "ada@example.edu", "A", "97.5"],
        ["bob", "", "", "", "", "40"],
    ]


def test_canvas_ids_that_collect_found_are_used() -> None:
    found = [Grade("doejane_77", "two", 10.0, 9.0)]
    assert rows(for_platform("canvas", found, Roster({})))[2][:2] == ["doejane_77", "77"]


def test_moodle_maps_by_email_or_id_number(course: Course) -> None:
    assert rows(for_platform("moodle", grades(course, ["two"]), ROSTER)) == [
        ["Email address", "ID number", "Full name", "two"],
        ["ada@example.edu", "ada", "Lovelace, Ada", "97.5"],
        ["", "bob", "bob", "40"],
    ]


def test_gradescope_columns_and_tasks(course: Course) -> None:
    table = rows(for_platform("gradescope", grades(course, ["two"]), ROSTER, by_task=True))
    assert table[0][:6] == [
        "Name",
        "SID",
        "Email",
        "two total",
        "two total - Max Points",
        "two total - Submission Time",
    ]
    assert table[1][:6] == [
        "Lovelace, Ada",
        "0042",
        "ada@example.edu",
        "50",
        "50",
        "2026-03-01 12:00:00",
    ]


def test_without_a_gradebook_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="run autograder grade first"):
        grades(make_course(tmp_path), ["two"])


def test_a_damaged_gradebook_is_one_line(course: Course) -> None:
    course.gradebook.write_bytes(b"no database" * 1000)
    with pytest.raises(MachineryError, match="file is not a database"):
        grades(course, ["two"])


def run_command(course: Course, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autograder", "export", *arguments],
        cwd=course.root,
        capture_output=True,
        text=True,
    )


def test_the_command(course: Course, tmp_path: Path) -> None:
    shown = run_command(course)
    assert (shown.returncode, shown.stderr) == (0, "")
    target = tmp_path / "grades.csv"
    written = run_command(course, "two", "-o", str(target))
    assert written.stdout == f"{target}: 1 failed, 1 graded, 1 not handed in, 1 to be read\n"
    assert target.read_text(encoding="utf-8-sig") == shown.stdout
    platform = run_command(course, "--format", "canvas")
    assert platform.stderr == "2 grades are not final: see export --format csv\n"
    for arguments, status in [
        (["three"], 2),
        (["--format", "excel"], 2),
        (["-o", str(tmp_path / "none" / "g.csv")], 2),
        (["--roster", str(tmp_path / "none.csv")], 2),
    ]:
        done = run_command(course, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (status, 1)
