"""A class is graded once, resumably, by the rules of nbgrader, whatever goes wrong on the way."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.preprocessors import SaveAutoGrades
from small_lab import LAB, blank, cell_of, code, index_of, make_course, save, solved

from autograder.authoring import release
from autograder.course import Course, CourseError, open_course
from autograder.engine.trials import Limits
from autograder.feedback import write_feedback
from autograder.grading import Outcome, grade, read_note

QUICK = Limits(cell_seconds=3.0, total_seconds=30.0)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return open_course(make_course(tmp_path / "course").root, tmp_path / "class")


def hand_in(course: Course, student: str, notebook: dict[str, Any]) -> Path:
    return save(notebook, course.submitted / student / "two" / "two.ipynb")


def graded(course: Course, **options: Any) -> dict[str, Outcome]:
    outcomes = grade(course, ["two"], limits=QUICK, jobs=2, **options)
    return {outcome.student: outcome for outcome in outcomes}


def gradebook(course: Course) -> list[tuple[Any, ...]]:
    """All that counts in the gradebook, in a fixed order."""
    with Gradebook(course.db_url) as book:
        return sorted(
            (entry.student.id, grade.name, grade.auto_score, grade.manual_score, grade.score)
            for entry in book.assignment_submissions("two")
            for notebook in entry.notebooks
            for grade in notebook.grades
        )


def shown(course: Course, student: str) -> dict[str, Any]:
    """What each cell has printed, as the gradebook's notebook has it."""
    path = course.autograded / student / "two" / "two.ipynb"
    notebook = nbformat.read(path, as_version=4)
    return {cell.id: cell.get("outputs") for cell in notebook.cells}


def command(course: Course, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "autograder", *words]
    line += ["--course", str(course.root), "--class", str(course.class_dir)]
    return subprocess.run(line, capture_output=True, text=True, **options)


def test_points_are_given_and_lost_by_task(course: Course) -> None:
    hand_in(course, "ada", solved())
    hand_in(course, "bob", solved(mean="def mean(values):\n    return sorted(values)[0]"))
    hand_in(course, "cleo", blank())
    outcomes = graded(course)
    assert {name: outcome.score for name, outcome in outcomes.items()} == {
        "ada": 90.0,
        "bob": 50.0,
        "cleo": 0.0,
    }
    assert outcomes["bob"].tasks == {"total": 50.0, "mean": 0.0, "why": 0.0}
    assert all(outcome.state == "graded" for outcome in outcomes.values())


def test_a_helper_in_an_added_cell_is_run_in_its_place(course: Course) -> None:
    notebook = solved(total="def total(values):\n    return helper(values)")
    notebook["cells"].insert(index_of(notebook, "total"), code("helper = sum"))
    hand_in(course, "ada", notebook)
    assert graded(course)["ada"].score == 90.0


def test_a_warning_costs_nothing(course: Course) -> None:
    hand_in(
        course,
        "ada",
        solved(
            total="import sys, warnings\ndef total(values):\n"
            "    warnings.warn('slow')\n    print('!', file=sys.stderr)\n    return sum(values)"
        ),
    )
    assert graded(course)["ada"].score == 90.0


def test_the_second_run_finds_nothing_to_do(course: Course) -> None:
    hand_in(course, "ada", solved())
    hand_in(course, "bob", blank())
    first = graded(course)
    before = gradebook(course)
    again = graded(course)
    assert all(outcome.done for outcome in again.values())
    assert {n: o.score for n, o in again.items()} == {n: o.score for n, o in first.items()}
    assert gradebook(course) == before


def test_a_new_version_replaces_every_grade_of_the_old(course: Course) -> None:
    hand_in(course, "ada", solved())
    assert graded(course)["ada"].score == 90.0
    worse = blank()
    worse["cells"] = [cell for cell in worse["cells"] if "test" not in cell["id"]]
    hand_in(course, "ada", worse)
    outcome = graded(course)["ada"]
    assert (outcome.score, outcome.done) == (0.0, False)


def test_an_unreadable_version_leaves_no_grade(course: Course) -> None:
    path = hand_in(course, "ada", solved())
    graded(course)
    path.write_text("{")
    outcome = graded(course)["ada"]
    assert (outcome.state, outcome.score) == ("failed", None)
    assert "two.ipynb: not JSON" in outcome.reason
    assert gradebook(course) == []


def test_only_what_a_changed_test_touches_is_run(course: Course) -> None:
    dice = "    import os\n    print(os.urandom(8).hex())\n    return "
    hand_in(
        course,
        "ada",
        solved(
            total=f"def total(values):\n{dice}sum(values)",
            mean=f"def mean(values):\n{dice}sum(values) / len(values)",
        ),
    )
    graded(course)
    before = shown(course, "ada")
    text = LAB.replace("([1, 2, 6], [2.5], [-1, 1])", "([1, 2, 6], [2.5], [-1, 2])")
    course.lab_source("two").write_text(text)
    release(course, ["two"])
    assert graded(course)["ada"].score == 90.0
    after = shown(course, "ada")
    assert after["hidden-total"] == before["hidden-total"]
    assert after["hidden-mean"] != before["hidden-mean"]


def test_manual_grades_and_comments_survive(course: Course) -> None:
    notebook = solved()
    cell_of(notebook, "written-why")["source"] = "Because one cannot divide by nought."
    hand_in(course, "ada", notebook)
    assert graded(course)["ada"].to_read == 1
    with Gradebook(course.db_url) as book:
        grade_ = book.find_grade("written-why", "two", "two", "ada")
        grade_.manual_score = 8
        grade_.needs_manual_grade = False
        book.find_comment("written-why", "two", "two", "ada").manual_comment = "Well put."
        book.db.commit()
    graded(course, force=True)
    with Gradebook(course.db_url) as book:
        assert book.find_grade("written-why", "two", "two", "ada").score == 8
        assert book.find_submission("two", "ada").score == 98
    (page,) = write_feedback(course)
    assert "Well put." in page.read_text()
    assert "98 of 100 points" in page.read_text()


def test_feedback_tells_what_failed_and_a_hint(course: Course) -> None:
    hand_in(course, "ada", solved(total="def total(values):\n    return len(values)"))
    graded(course)
    (page,) = write_feedback(course, students=["ada"])
    text = page.read_text()
    assert "total([1, 2]) is 3, got 2" in text
    assert "What is the total of an empty list?" in text
    assert "numbers_of_the_hidden_test" not in text
    with pytest.raises(CourseError, match="eve: no graded submission"):
        write_feedback(course, students=["eve"])


def test_stock_nbgrader_gives_the_same_scores(course: Course, tmp_path: Path) -> None:
    from nbgrader.converters import Autograde
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    from autograder.authoring import nbgrader_at_work, write_source

    honest = {
        "ada": solved(),
        "bob": blank(),
        "cleo": solved(total="def total(values):\n    return values[0]"),
        "dan": solved(mean="def mean(values):\n    raise OSError('no idea')"),
    }
    for student, notebook in honest.items():
        hand_in(course, student, notebook)
    ours = {name: outcome.score for name, outcome in graded(course).items()}
    write_source(course, "two")
    (tmp_path / "stock").mkdir()
    config = Config()
    config.CourseDirectory.root = str(tmp_path / "stock")
    config.CourseDirectory.source_directory = str(course.source_dir)
    config.CourseDirectory.submitted_directory = str(course.submitted)
    config.CourseDirectory.assignment_id = "two"
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path}/stock.db"
    shutil.copy(course.gradebook, tmp_path / "stock.db")
    with nbgrader_at_work() as log:
        directory = CourseDirectory(config=config)
        Autograde(coursedir=directory, config=config, log=log).start()
    with Gradebook(config.CourseDirectory.db_url) as book:
        stock = {
            entry.student.id: sum(g.auto_score or 0 for n in entry.notebooks for g in n.grades)
            for entry in book.assignment_submissions("two")
        }
    assert stock == ours == {"ada": 90.0, "bob": 0.0, "cleo": 40.0, "dan": 50.0}


def fill_class(course: Course, count: int) -> None:
    for number in range(count):
        answer = f"def total(values):\n    return sum(values) + {number % 3}  # {number}"
        hand_in(course, f"s{number:02}", solved(total=answer))


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_goes_on_to_the_same_gradebook(
    course: Course, tmp_path: Path, seed: int
) -> None:
    fill_class(course, 12)
    line = [sys.executable, "-m", "autograder", "grade", "two", "--jobs", "2"]
    line += ["--course", str(course.root), "--class", str(course.class_dir)]
    rounds = random.Random(seed)
    for _ in range(3):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = time.monotonic()
        notes = course.results / "two" / "students"
        goal = rounds.randrange(1, 5) + (len(list(notes.glob("*.json"))) if notes.is_dir() else 0)
        while process.poll() is None and time.monotonic() < started + 60:
            if notes.is_dir() and len(list(notes.glob("*.json"))) >= min(goal, 12):
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    outcomes = graded(course)
    assert {outcome.state for outcome in outcomes.values()} == {"graded"}
    undisturbed = open_course(course.root, tmp_path / "other")
    shutil.copytree(course.submitted, undisturbed.submitted)
    graded(undisturbed)
    assert gradebook(course) == gradebook(undisturbed)


def test_a_warm_process_that_is_killed_is_made_anew(course: Course) -> None:
    fill_class(course, 6)
    killed: list[int] = []

    def kill_once(outcome: Outcome) -> None:
        import psutil

        for process in psutil.Process().children(recursive=True):
            if not killed and "autograder.engine.zygote" in " ".join(process.cmdline()):
                killed.append(process.pid)
                process.kill()

    outcomes = grade(course, ["two"], limits=QUICK, jobs=1, on_done=kill_once)
    assert killed
    assert {outcome.state for outcome in outcomes} == {"graded"}


def test_a_locked_gradebook_is_one_line_and_nothing_is_lost(course: Course) -> None:
    hand_in(course, "ada", solved())
    graded(course)
    hand_in(course, "bob", solved())
    lock = sqlite3.connect(course.gradebook)
    lock.execute("begin exclusive")
    try:
        done = command(course, "grade", "two")
    finally:
        lock.rollback()
        lock.close()
    assert done.returncode == 3
    assert done.stderr.strip().endswith("database is locked")
    assert len(done.stderr.strip().splitlines()) == 1
    assert graded(course)["bob"].score == 90.0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["grade", "tow"], "tow: no such lab; there are: two"),
        (["grade", "two", "--student", "eve"], "eve: no such student"),
        (["grade", "two", "--jobs", "0"], "at least 1"),
        (["feedback", "tow"], "tow: no such lab"),
    ],
)
def test_bad_usage_is_one_line(course: Course, words: list[str], complaint: str) -> None:
    hand_in(course, "ada", solved())
    graded(course)
    done = command(course, *words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_class_without_submissions_is_told_to_collect(course: Course) -> None:
    done = command(course, "grade")
    assert done.returncode == 2
    assert "no submissions there; collect some first" in done.stderr


def test_a_grade_is_entered_whole_or_not_at_all(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(course, "ada", solved())

    def interrupted(self: SaveAutoGrades, cell: Any, resources: Any, index: int) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SaveAutoGrades, "preprocess_cell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            graded(course)
    with Gradebook(course.db_url) as book:
        assert (book.students, book.assignment_submissions("two")) == ([], [])
    assert graded(course)["ada"].score == graded(course)["ada"].max_score


def test_odd_submissions_fail_by_themselves(course: Course) -> None:
    hand_in(course, "ada", solved())
    (course.submitted / "dir" / "two" / "two.ipynb").mkdir(parents=True)
    (course.submitted / "empty" / "two").mkdir(parents=True)
    (course.submitted / "other" / "two").mkdir(parents=True)
    (course.submitted / "other" / "two" / "homework.ipynb").write_text("{}")
    (course.submitted / "file").mkdir()
    (course.submitted / "file" / "two").write_text("not a folder")
    foreign = blank()
    for cell in foreign["cells"]:
        cell["id"] = f"x-{cell['id']}"
        cell["metadata"] = {}
    foreign["metadata"]["course"]["lab"] = "three"
    hand_in(course, "foreign", foreign)
    outcomes = graded(course)
    reasons = {name: outcome.reason for name, outcome in outcomes.items() if outcome.reason}
    assert outcomes["ada"].score == 90.0
    assert reasons == {
        "dir": "two.ipynb is a folder, not a file",
        "empty": "two.ipynb is not there",
        "other": "two.ipynb is not there; there is homework.ipynb",
        "file": "two is not a folder",
        "foreign": "two.ipynb: it holds no answer cell of lab two; it says that it belongs to lab"
        " 'three'",
    }


def in_namespace(script: str, course: Course) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount; the grader's command line stands in $GRADE."""
    grader = f"{sys.executable} -m autograder grade two --course {course.root}"
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "GRADE": f"{grader} --class {course.class_dir}"},
    )


@pytest.mark.sandbox
def test_a_full_disk_is_one_line_and_nothing_is_half_written(course: Course) -> None:
    fill_class(course, 12)
    saved = course.class_dir.with_name("saved")
    course.class_dir.rename(saved)
    course.class_dir.mkdir()
    done = in_namespace(
        f"mount -t tmpfs -o size=480k tmpfs {course.class_dir} && cp -r {saved}/. "
        f"{course.class_dir} && $GRADE; status=$?; cp -r {course.class_dir} {saved}/full;"
        " exit $status",
        course,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "No space left on device" in line or "disk is full" in line
    full = open_course(course.root, saved / "full")
    assert all(outcome.score == 90.0 or outcome.score == 40.0 for outcome in graded(full).values())


@pytest.mark.sandbox
def test_a_class_that_cannot_be_written_is_one_line(course: Course) -> None:
    hand_in(course, "ada", solved())
    place = course.class_dir
    done = in_namespace(
        f"mount --bind {place} {place} && mount -o remount,bind,ro {place} && $GRADE", course
    )
    assert done.returncode == 3, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "Read-only file system" in line
    assert str(course.class_dir) in line


def test_a_sandbox_that_is_asked_for_and_not_there_is_an_error(
    course: Course, tmp_path: Path
) -> None:
    hand_in(course, "ada", solved())
    env = {**os.environ, "PATH": str(tmp_path)}
    done = command(course, "grade", "two", "--sandbox", "required", env=env)
    assert done.returncode == 3
    assert "bubblewrap is not installed: apt-get install bubblewrap" in done.stderr
    done = command(course, "grade", "two", env=env)
    assert done.returncode == 0
    assert "WARNING: students' code ran without a sandbox" in done.stderr
    assert read_note(course, "two", "ada")["outcome"]["sandbox"] == "none"


def test_a_cold_kernel_gives_the_same_scores(course: Course, tmp_path: Path) -> None:
    hand_in(course, "ada", solved())
    hand_in(course, "bob", solved(mean="def mean(values):\n    raise OSError('no idea')"))
    hand_in(course, "cleo", solved(mean="import os\ndef mean(values):\n    os._exit(1)"))
    ours = graded(course)
    kernels = open_course(course.root, tmp_path / "other")
    shutil.copytree(course.submitted, kernels.submitted)
    theirs = graded(kernels, kernel=True)
    for student, outcome in ours.items():
        assert (outcome.state, outcome.score) == (theirs[student].state, theirs[student].score)
    assert theirs["ada"].sandbox == "none"


@pytest.mark.sandbox
def test_the_sandbox_is_the_default_and_is_recorded(course: Course) -> None:
    hand_in(course, "ada", solved())
    assert graded(course)["ada"].sandbox == "namespaces"
