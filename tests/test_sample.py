"""The sample class gets the points that its submissions deserve, and none stops another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.course import Course, open_course
from autograder.grading import Outcome, grade
from autograder.sample import EXPECTED, LAB, MAKERS, make


@pytest.fixture(scope="module")
def course(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    return open_course(root, tmp_path_factory.mktemp("sample") / "class")


@pytest.fixture(scope="module")
def outcomes(course: Course) -> dict[str, Outcome]:
    make(course)
    return {outcome.student: outcome for outcome in grade(course, labs=(LAB,), jobs=2)}


def test_there_are_sixteen_and_each_has_an_expectation() -> None:
    assert len(MAKERS) == 16
    assert list(MAKERS) == list(EXPECTED)


@pytest.mark.parametrize("student", EXPECTED)
def test_points(outcomes: dict[str, Outcome], student: str) -> None:
    outcome = outcomes[student]
    assert (outcome.state, outcome.score) == EXPECTED[student], (outcome.reason, outcome.notes)
    assert outcome.max_score == 90


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("mtanaka", "not JSON"),
        ("lrossi", "the cell ended its process"),
        ("ikowalski", "test-gate stands there 2 times"),
        ("ikowalski", "answer cell chain stands there 2 times"),
        ("jdubois", "test-train is missing"),
    ],
)
def test_what_was_off_is_said(outcomes: dict[str, Outcome], student: str, said: str) -> None:
    assert said in " ".join([outcomes[student].reason, *outcomes[student].notes])


def test_written_answers_wait_for_a_person(outcomes: dict[str, Outcome]) -> None:
    waiting = {outcome.student: outcome.to_read for outcome in outcomes.values() if outcome.to_read}
    assert waiting == {
        "abergman": 2,
        "dgarcia": 1,
        "jdubois": 1,
        "nobrien": 1,
        "oyilmaz": 1,
        "王小明": 1,
    }


def test_grading_again_changes_nothing(course: Course, outcomes: dict[str, Outcome]) -> None:
    again = {outcome.student: outcome for outcome in grade(course, labs=(LAB,), jobs=2)}
    assert all(outcome.done for outcome in again.values() if outcome.state != "failed")
    assert {name: outcome.score for name, outcome in again.items()} == {
        name: outcome.score for name, outcome in outcomes.items()
    }


def test_making_it_again_changes_nothing(course: Course, outcomes: dict[str, Outcome]) -> None:
    assert {row.verdict for row in make(course)} == {"skipped"}


def test_the_large_one_is_large_and_the_broken_one_is_broken(
    course: Course, outcomes: dict[str, Outcome]
) -> None:
    large = course.submitted / "nobrien" / LAB / f"{LAB}.ipynb"
    assert 5_000_000 < large.stat().st_size < 10_000_000
    with pytest.raises(json.JSONDecodeError):
        json.loads((course.submitted / "mtanaka" / LAB / f"{LAB}.ipynb").read_text())


def test_the_command(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autograder.sample", "--class", str(tmp_path / "class")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'class'}: 16 submissions, 16 of them new\n", done.stderr
    astray = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (astray.returncode, astray.stderr.count("\n")) == (2, 1)
