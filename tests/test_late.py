"""What lateness costs is what `class.toml` says, in the gradebook and wherever grades are shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from small_lab import cell_of, make_course, save, solved

from autograder.authoring import write_source
from autograder.course import Course, CourseError, open_course
from autograder.export import as_csv, grades
from autograder.feedback import write_feedback
from autograder.grading import Outcome, grade
from autograder.late import read_lateness
from autograder.settings import DAY, LateRule, read_settings

POLICY = """\
time_zone = "Europe/Berlin"

[late]
grace_minutes = 30
percent_per_day = 10
most_percent = 50

[labs.two]
due = 2026-03-09 23:59:00

[labs.two.extensions]
cleo = "2026-03-16 23:59"
dan.iel = 2
"""
HANDED_IN = {
    "ada": "2026-03-09 22:59:00 UTC",  # exactly in time: Berlin is an hour ahead
    "bob": "2026-03-09 23:28:00 UTC",  # within the grace period
    "cleo": "2026-03-13 12:00:00 UTC",  # has a week more
    "dan.iel": "2026-03-12 12:00:00 UTC",  # has two days more, and used three
    "eve": "2026-03-10 23:30:00 UTC",  # begins the second day
    "fay": "2026-03-30 12:00:00 UTC",  # three weeks
    "gus": "",  # nobody knows when
}
COSTS = {"dan.iel": 9.0, "eve": 18.0, "fay": 45.0}
"""Points taken off the 90 of the machine: one day, two days, and the most there is."""


@pytest.fixture
def course(tmp_path: Path) -> Course:
    made = open_course(make_course(tmp_path / "course").root, tmp_path / "class")
    made.class_dir.mkdir()
    return made


def configure(course: Course, text: str = POLICY) -> None:
    (course.class_dir / "class.toml").write_text(text, encoding="utf-8")


def hand_in(course: Course) -> None:
    for student, received in HANDED_IN.items():
        notebook = solved()
        cell_of(notebook, "written-why")["source"] = "One cannot divide by nought."
        path = save(notebook, course.submitted / student / "two" / "two.ipynb")
        if received:
            path.with_name("timestamp.txt").write_text(received)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Course, dict[str, Outcome]]:
    """The class, graded under the policy."""
    root = tmp_path_factory.mktemp("late")
    made = open_course(make_course(root / "course").root, root / "class")
    made.class_dir.mkdir()
    configure(made)
    hand_in(made)
    return made, {outcome.student: outcome for outcome in grade(made, ["two"], jobs=2)}


@pytest.fixture
def late_class(graded: tuple[Course, dict[str, Outcome]], tmp_path: Path) -> Course:
    """The graded class, to be changed."""
    course, _ = graded
    shutil.copytree(course.class_dir, tmp_path / "late")
    return open_course(course.root, tmp_path / "late")


def penalties(course: Course) -> dict[str, float]:
    with Gradebook(course.db_url) as book:
        found = {
            entry.student.id: entry.late_submission_penalty
            for entry in book.assignment_submissions("two")
        }
    return {student: penalty for student, penalty in found.items() if penalty}


@pytest.mark.parametrize(
    ("seconds", "percent"),
    [(0, 0), (1800, 0), (1801, 10), (DAY, 10), (DAY + 1, 20), (4 * DAY + 1, 50), (90 * DAY, 50)],
)
def test_days_are_counted_when_they_begin(seconds: float, percent: float) -> None:
    rule = LateRule(grace_minutes=30, percent_per_day=10, most_percent=50)
    assert rule.percent(seconds) == percent
    assert rule.penalty(80, seconds) == 0.8 * percent


def test_times_are_local_and_summer_time_counts(course: Course) -> None:
    configure(course, POLICY.replace("2026-03-09", "2026-07-09").replace("03-16", "07-16"))
    dates = read_settings(course).lab("two")
    assert dates.due == datetime(2026, 7, 9, 21, 59, tzinfo=UTC)
    assert dates.extensions["dan.iel"] == datetime(2026, 7, 11, 21, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "due"),
    [
        ("2026-03-09", datetime(2026, 3, 9, 23, 59, 59, tzinfo=UTC)),
        ('"2026-03-09"', datetime(2026, 3, 9, 23, 59, 59, tzinfo=UTC)),
        ('"2026-03-09 18:00"', datetime(2026, 3, 9, 18, 0, tzinfo=UTC)),
        ("2026-03-09T18:00:00+02:00", datetime(2026, 3, 9, 16, 0, tzinfo=UTC)),
    ],
)
def test_a_date_may_be_written_in_several_ways(course: Course, written: str, due: datetime) -> None:
    configure(course, f"[labs.two]\ndue = {written}\n")
    assert read_settings(course).lab("two").due == due


def test_the_class_goes_before_the_course_and_the_lab_before_both(course: Course) -> None:
    (course.root / "course.toml").write_text("[late]\npercent_per_day = 5\ngrace_minutes = 60\n")
    configure(course, "[late]\npercent_per_day = 20\n[labs.two.late]\nmost_percent = 40\n")
    assert read_settings(course).lab("two").rule == LateRule(60, 20, 40)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[late\n", "class.toml: not TOML: "),
        ("[late]\npercent = 10\n", "class.toml: late.percent: no such key; there are: "),
        ("late = 10\n", "class.toml: late: no such key"),
        ("[late]\npercent_per_day = 'ten'\n", "late.percent_per_day: 'ten' is not a number"),
        ("[late]\npercent_per_day = true\n", "late.percent_per_day: True is not a number"),
        ("[late]\nmost_percent = 150\n", "late.most_percent: 150 is not between 0 and 100"),
        ("[late]\ngrace_minutes = -5\n", "late.grace_minutes: -5 is not 0 or more"),
        ("time_zone = 'Mars/Olympus'\n", "time_zone: 'Mars/Olympus' is no time zone"),
        ("time_zone = '../etc'\n", "time_zone: '../etc' is no time zone"),
        ("[labs.tow]\ndue = 2026-03-09\n", "class.toml: labs.tow: no such lab; there are: two"),
        ("[labs.two]\ndue = 'next Monday'\n", "labs.two.due: 'next Monday' is no date like"),
        ("[labs.two]\ndue = 5\n", "labs.two.due: 5 is no date like 2026-03-09 23:59"),
        ("[labs.two.extensions]\nada = 3\n", "labs.two.extensions.ada: there is no labs.two.due"),
        (
            "[labs.two]\ndue = 2026-03-09\nextensions.ada = 2026-03-08\n",
            "labs.two.extensions.ada: datetime.date(2026, 3, 8) is before the due date",
        ),
    ],
)
def test_bad_settings_are_one_line_with_file_and_key(
    course: Course, text: str, complaint: str
) -> None:
    configure(course, text)
    with pytest.raises(CourseError) as caught:
        read_settings(course)
    assert complaint in str(caught.value)
    assert str(course.class_dir / "class.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_settings_stop_grading_before_it_begins(course: Course) -> None:
    hand_in(course)
    configure(course, "[late]\npercent_per_day = -1\n")
    line = [sys.executable, "-m", "autograder", "grade", "--course", str(course.root)]
    done = subprocess.run([*line, "--class", str(course.class_dir)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "class.toml: late.percent_per_day: -1 is not between 0 and 100" in done.stderr
    assert not course.gradebook.exists()


def test_penalties_are_in_the_gradebook(graded: tuple[Course, dict[str, Outcome]]) -> None:
    course, outcomes = graded
    assert penalties(course) == COSTS
    assert {name: o.penalty for name, o in outcomes.items() if o.penalty} == COSTS
    assert {outcome.score for outcome in outcomes.values()} == {90.0}
    assert {name for name, outcome in outcomes.items() if outcome.hours_late} == {"bob", *COSTS}


def test_the_table_the_page_and_the_export_show_them(late_class: Course) -> None:
    line = [sys.executable, "-m", "autograder", "grade", "--course", str(late_class.root)]
    shown = subprocess.run(
        [*line, "--class", str(late_class.class_dir)], capture_output=True, text=True
    ).stdout
    assert "24.5 h, -18" in shown
    assert "0.5 h" in shown and "0.5 h, -" not in shown
    (page,) = write_feedback(late_class, students=["eve"])
    assert "late: 24.5 hours" in page.read_text()
    assert "18 taken off for lateness (20 % of the points)" in page.read_text()
    rows = as_csv(grades(late_class, ["two"])).splitlines()
    assert "eve,two,72,100,24.52,18,to be read" in rows
    assert "ada,two,90,100,0,0,to be read" in rows


def test_an_extension_granted_later_needs_no_new_run(late_class: Course) -> None:
    configure(late_class, POLICY + 'eve = "2026-03-11 08:00"\n')
    outcomes = {outcome.student: outcome for outcome in grade(late_class, ["two"])}
    assert all(outcome.done for outcome in outcomes.values())
    assert (outcomes["eve"].penalty, outcomes["eve"].hours_late) == (0.0, 0.0)
    assert penalties(late_class) == {name: cost for name, cost in COSTS.items() if name != "eve"}


def test_points_of_a_person_are_charged_too(late_class: Course) -> None:
    with Gradebook(late_class.db_url) as book:
        written = book.find_grade("written-why", "two", "two", "eve")
        written.manual_score, written.needs_manual_grade = 10, False
        book.db.commit()
    assert "eve,two,80,100,24.52,20,graded" in as_csv(grades(late_class, ["two"])).splitlines()
    assert penalties(late_class)["eve"] == 20.0


def test_without_settings_nbgraders_own_dates_and_penalties_stay(late_class: Course) -> None:
    (late_class.class_dir / "class.toml").unlink()
    grade(late_class, ["two"])
    assert penalties(late_class) == COSTS
    assert read_lateness(late_class, "two")["fay"].penalty == 45.0


def test_a_rule_applies_to_a_due_date_that_nbgrader_has(late_class: Course) -> None:
    configure(late_class, "[late]\npercent_per_day = 10\n")
    outcomes = {outcome.student: outcome for outcome in grade(late_class, ["two"])}
    assert outcomes["bob"].penalty == 9.0
    assert outcomes["fay"].penalty == 90.0


def test_stock_nbgrader_asks_the_same_policy(
    graded: tuple[Course, dict[str, Outcome]], tmp_path: Path, root: Path
) -> None:
    """`nbgrader autograde` under our configuration takes off what `autograder grade` takes off."""
    course, _ = graded
    shutil.copytree(course.root, tmp_path / "course")
    shutil.copytree(course.class_dir, tmp_path / "class")
    shutil.copy(root / "nbgrader_config.py", tmp_path / "course")
    theirs = open_course(tmp_path / "course", tmp_path / "class")
    write_source(theirs, "two")
    with Gradebook(theirs.db_url) as book:
        for entry in book.assignment_submissions("two"):
            entry.notebooks[0].late_submission_penalty = None
        book.db.commit()
    assert penalties(theirs) == {}
    options = ["autograde", "two", "--force", "--student=eve"]
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *options],
        cwd=theirs.root,
        env={
            **os.environ,
            "AUTOGRADER_CLASS": str(theirs.class_dir),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert penalties(theirs) == {"eve": 18.0}
