"""Stock nbgrader works on the same course and gives honest notebooks the same scores."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_lab import blank, make_course, save, solved

from autograder.authoring import release, write_source
from autograder.collect import collect
from autograder.course import Course
from autograder.grading import grade

HALF = solved(mean="def mean(values):\n    return sum(values)")
CLASS = {"ada": (solved(), 90), "bob": (HALF, 50), "eve": (blank(), 0)}


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )


def scores(course: Course) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with Gradebook(course.db_url) as book:
        return {entry.student.id: entry.score for entry in book.assignment_submissions("two")}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Course:
    """A course whose lab stock nbgrader has released and whose three submissions it has graded."""
    made = make_course(tmp_path_factory.mktemp("stock") / "course")
    shutil.copy(root / "nbgrader_config.py", made.root)
    write_source(made, "two")
    for student, (notebook, _) in CLASS.items():
        save(notebook, made.submitted / student / "two" / "two.ipynb")
    for command in (["generate_assignment", "two", "--force"], ["autograde", "two", "--create"]):
        done = nbgrader(made.root, *command)
        assert done.returncode == 0, done.stderr
    return made


def test_stock_nbgrader_releases_and_grades_the_same(course: Course, tmp_path: Path) -> None:
    assert release(course, ["two"], check=True) == [], "nbgrader's own release differs from ours"
    expected = {student: points for student, (_, points) in CLASS.items()}
    assert scores(course) == expected
    ours = Course(course.root, tmp_path / "class")
    shutil.copytree(course.submitted, ours.submitted)
    assert {outcome.student: outcome.score for outcome in grade(ours, ("two",))} == expected
    assert scores(ours) == expected


def test_stock_feedback_is_made_from_our_grades(course: Course) -> None:
    made = nbgrader(course.root, "generate_feedback", "two")
    assert made.returncode == 0, made.stderr
    assert (course.feedback / "ada" / "two" / "two.html").is_file()


def test_the_configuration_describes_the_real_course(root: Path, tmp_path: Path) -> None:
    code = (
        "from nbgrader.apps import NbGraderApp\n"
        "from pathlib import Path\n"
        "app = NbGraderApp()\n"
        "app.initialize([])\n"
        "c = app.coursedir\n"
        "print(Path(c.format_path(c.release_directory, '.', 'parameter_server')))\n"
        "print(Path(c.format_path(c.submitted_directory, 'ada', 'parameter_server')))\n"
        "print(c.db_url)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "AUTOGRADER_CLASS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        str(root / "labs" / "parameter_server"),
        str(tmp_path / "submitted" / "ada" / "parameter_server"),
        f"sqlite:///{tmp_path}/gradebook.db",
    ], done.stderr


def test_the_formgraders_interface_lists_the_labs_and_the_class(course: Course) -> None:
    code = (
        "from nbgrader.apps import NbGraderAPI\n"
        "from nbgrader.apps import NbGraderApp\n"
        "app = NbGraderApp()\n"
        "app.initialize([])\n"
        "api = NbGraderAPI(app.coursedir, parent=app)\n"
        "lab = api.get_assignment('two')\n"
        "print(lab['status'], lab['num_submissions'], lab['max_score'])\n"
        "print(sorted(s['student'] for s in api.get_submissions('two')))\n"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=course.root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "draft 3 100.0",
        "['ada', 'bob', 'eve']",
    ], done.stdout + done.stderr


def test_the_exchange_of_a_hub_carries_our_labs(course: Course, tmp_path: Path) -> None:
    """Release, fetch, submit through nbgrader's file system exchange; we collect and grade."""
    exchange, home = tmp_path / "exchange", tmp_path / "home"
    exchange.mkdir()
    exchange.chmod(0o777)
    home.mkdir()
    option = f"--Exchange.root={exchange}"
    released = nbgrader(course.root, "release_assignment", "two", option)
    assert released.returncode == 0, released.stderr
    for command in ("fetch_assignment", "submit"):
        if command == "submit":
            save(HALF, home / "two" / "two.ipynb")
        done = nbgrader(home, command, "two", "--course=mlsys", option)
        assert done.returncode == 0, done.stderr
    ours = Course(course.root, tmp_path / "class")
    rows = collect(ours, exchange / "mlsys" / "inbound")
    [clock] = [row.clock for row in rows if row.verdict == "taken"]
    assert clock == "nbgrader's exchange"
    [outcome] = grade(ours, ("two",))
    assert (outcome.student, outcome.score) == (getpass.getuser(), 50)
