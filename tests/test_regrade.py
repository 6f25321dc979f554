"""After a test was mended: who gains and who loses is told before anything is written."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from small_lab import LAB, make_course, save, solved

from autograder.authoring import release
from autograder.course import Course, CourseError, open_course
from autograder.grading import grade
from autograder.marks import read_marks
from autograder.regrade import Change, preview

MEDIAN = """\
def mean(values):
    ordered, count = sorted(values), len(values)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
"""
INTEGER = "def mean(values):\n    return sum(values) // len(values)"
SUBMISSIONS = {
    "ada": solved(),
    "bob": solved(mean=MEDIAN),  # right for the mended hidden test, wrong for the old one
    "cleo": solved(mean=INTEGER),  # the other way round
    "dan": solved(mean="def mean(values):\n    return 0"),  # wrong for both
}
HIDDEN = "([1, 2, 6], [2.5], [-1, 1])"


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class that was graded with a test that cannot tell // from /, and the test then mended."""
    folder = tmp_path_factory.mktemp("regrade")
    made = open_course(make_course(folder / "course").root, folder / "class")
    write_lab(made, "([1, 2, 6], [2, 4])")
    for student, notebook in SUBMISSIONS.items():
        save(notebook, made.submitted / student / "two" / "two.ipynb")
    save({"cells": []}, made.submitted / "eve" / "two" / "two.ipynb")
    grade(made, ["two"], jobs=2)
    with Gradebook(made.db_url) as book:
        book.find_grade("hidden-mean", "two", "two", "dan").manual_score = 12.0
        book.db.commit()
    write_lab(made, "([1, 2, 3], [2.5])")
    return folder


@pytest.fixture
def course(graded: Path, tmp_path: Path) -> Course:
    """That class, to be changed."""
    shutil.copytree(graded, tmp_path, dirs_exist_ok=True)
    return open_course(tmp_path / "course", tmp_path / "class")


def write_lab(course: Course, numbers: str) -> None:
    assert HIDDEN in LAB
    course.lab_source("two").write_text(LAB.replace(HIDDEN, numbers), encoding="utf-8")
    release(course, ["two"])


def files(folder: Path) -> dict[str, str]:
    """A digest of everything in the class but the cache of what has been executed."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "executed" not in path.parts
    }


def by_student(changes: list[Change]) -> dict[str, Change]:
    return {change.student: change for change in changes}


def test_it_tells_who_gains_and_loses_before_anything_is_written(course: Course) -> None:
    before = files(course.class_dir)
    changes = by_student(preview(course, ["two"]))
    assert {name: (one.before, one.after) for name, one in changes.items()} == {
        "ada": (90.0, 90.0),
        "bob": (60.0, 90.0),
        "cleo": (90.0, 60.0),
        "dan": (62.0, 62.0),  # what a person gave stays
        "eve": (None, None),
    }
    assert changes["bob"].tasks == {"mean": (10.0, 40.0)}
    assert {name for name, one in changes.items() if one.differs} == {"bob", "cleo"}
    assert files(course.class_dir) == before
    cache = course.results / "two" / "executed"
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.gz")}
    grade(course, ["two"])
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.gz")} == kept, "was run again"
    marks = read_marks(course, "two")
    assert {name: sum(mark.points for mark in marks[name].values()) for name in marks} == {
        name: change.after for name, change in changes.items() if change.after is not None
    }
    assert not any(change.differs for change in preview(course, ["two"]))


def test_what_is_new_or_no_longer_readable_is_said(course: Course) -> None:
    save(solved(), course.submitted / "fay" / "two" / "two.ipynb")
    (course.submitted / "ada" / "two" / "two.ipynb").write_text("{")
    changes = by_student(preview(course, ["two"]))
    assert (changes["fay"].before, changes["fay"].after) == (None, 90.0)
    assert (changes["ada"].before, changes["ada"].after) == (90.0, None)
    assert "two.ipynb: not JSON" in changes["ada"].remark


def test_a_lab_that_nbgrader_would_refuse_is_refused_here(course: Course) -> None:
    before = files(course.class_dir)
    more = '\n# %% test total_again 5\nassert total([]) == 0, "of nothing"\n'
    source = course.lab_source("two")
    text = source.read_text(encoding="utf-8")
    text = text.replace("\n# %% measure", f"{more}\n# %% measure")
    source.write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match="two: nbgrader makes no release"):
        preview(course, ["two"])
    assert files(course.class_dir) == before


def command(course: Course, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "autograder", "regrade", *words]
    line += ["--course", str(course.root), "--class", str(course.class_dir)]
    return subprocess.run(line, capture_output=True, text=True)


def test_the_command(course: Course) -> None:
    shown = command(course, "two", "--preview")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"bob\D+60\D+90\D+\+30\D+mean 10 to 40", shown.stdout)
    last = shown.stdout.splitlines()[-1]
    assert last.startswith("1 gain, 1 lose, 3 keep their points; nothing is written")
    written = command(course, "two")
    assert written.returncode == 0, written.stderr
    assert sum(mark.points for mark in read_marks(course, "two")["bob"].values()) == 90.0
    for words, complaint in [
        (["tow"], "tow: no such lab"),
        (["two", "--student", "zoe"], "zoe: no submission of two"),
    ]:
        done = command(course, *words, "--preview")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert complaint in done.stderr
