"""The quality gate lets a good lab through and stops each kind of bad one."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from autograder.authoring import release
from autograder.course import Course, open_course
from autograder.verify import LabReport, verify_lab

LAB = """\
# ---
# title: Two tasks
# hours: 1
# ---

# %% given
import itertools

# %% task total
def total(values):
    ### BEGIN SOLUTION
    running_sum_of_everything = 0
    for one_value_of_the_list in values:
        running_sum_of_everything += one_value_of_the_list
    return running_sum_of_everything
    ### END SOLUTION

# %% test total 10
assert total([1, 2]) == 3, "total([1, 2]) is 3"

# %% hidden total 40 outside
numbers = [5, -3, 11, 0]
assert student.total(numbers) == reference().total(numbers)
assert student.total([]) == 0, "the empty list has total 0"

# %% task mean
def mean(values, total=sum):
    ### BEGIN SOLUTION
    return total(values) / len(values)
    ### END SOLUTION

# %% test mean 10
assert mean([1, 3]) == 2

# %% hidden mean 40 outside
ref = reference()
assert student.mean([1, 2, 6]) == ref.mean([1, 2, 6], ref.total)
assert student.mean([2.5]) == 2.5
"""
WRONG = """\
# %% total: starts at one
# The empty sum is taken for 1.
def total(values):
    return 1 + sum(values)

# %% total: skips the first
def total(values):
    return sum(values[1:])

# %% total: counts
def total(values):
    return len(values)

# %% mean: median
def mean(values, total=sum):
    return sorted(values)[len(values) // 2]

# %% mean: floor
def mean(values, total=sum):
    return total(values) // len(values)
"""
ALTERNATIVE = """\
# %% total: builtin
def total(values):
    return sum(values)

# %% mean: builtin
def mean(values, total=sum):
    return sum(values) / len(values)

# %% total: itertools
def total(values):
    return [0, *itertools.accumulate(values)][-1]
"""


@pytest.fixture
def course(tmp_path: Path) -> Course:
    write(tmp_path)
    return open_course(tmp_path)


def write(
    root: Path, *, lab: str = LAB, wrong: str = WRONG, alternative: str = ALTERNATIVE
) -> None:
    folder = root / "solutions" / "two"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.py").write_text(lab)
    (folder / "wrong.py").write_text(wrong)
    (folder / "alternative.py").write_text(alternative)
    release(open_course(root), ["two"])


def verdict(course: Course, **options: bool) -> LabReport:
    return verify_lab(course, "two", **options)


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("cascade", [False, True])
def test_a_sound_lab_passes(course: Course, cascade: bool) -> None:
    report = verdict(course, cascade=cascade)
    assert report.misses == []
    assert (report.points, report.wrong, report.styles) == (100, 5, 2)


def test_a_vacuous_test_is_found(course: Course) -> None:
    vacuous = LAB.replace("assert student.total([]) == 0", "assert True or student.total([]) == 0")
    vacuous = vacuous.replace("assert student.total(numbers) ==", "assert student and")
    write(course.root, lab=changed(vacuous, "and reference().total(numbers)", "and numbers"))
    assert "blank: hidden-total passes though nothing is solved" in verdict(course).misses


def test_a_wrong_answer_that_keeps_its_points_is_found(course: Course) -> None:
    weak = changed(LAB, "assert student.total([]) == 0", "assert student.total([]) >= 0")
    write(course.root, lab=changed(weak, "== reference().total(numbers)", "in (13, 14)"))
    misses = verdict(course).misses
    assert "wrong total: starts at one: hidden-total passes all the same" in misses


def test_a_flaky_test_is_found(course: Course) -> None:
    coin = course.root / "coin"
    flaky = f"""
from pathlib import Path
coin = Path({str(coin)!r})
coin.write_text(coin.read_text() + "x" if coin.exists() else "x")
assert len(coin.read_text()) != 2, "this test does not like its second run"
"""
    write(course.root, lab=changed(LAB, "assert mean([1, 3]) == 2\n", flaky))
    misses = verify_lab(course, "two", repeat=3).misses
    assert any(miss.startswith("reference 2: test-mean does not pass") for miss in misses)


def test_a_wrong_reference_is_found(course: Course) -> None:
    write(course.root, lab=changed(LAB, "/ len(values)", "/ (len(values) + 1)"))
    misses = verdict(course).misses
    assert any(miss.startswith("reference 1: test-mean does not pass") for miss in misses)


def test_a_task_that_leans_on_another_is_found(course: Course) -> None:
    leaning = changed(LAB, "def mean(values, total=sum):", "def mean(values, total=None):")
    leaning = changed(
        leaning, "    return total(values) / len(", "    return globals()['total'](values) / len("
    )
    write(course.root, lab=leaning)
    misses = verdict(course).misses
    assert any(miss.startswith("mean alone: test-mean does not pass") for miss in misses)


def test_an_alternative_that_loses_points_is_found(course: Course) -> None:
    fussy = changed(
        LAB, "assert total([1, 2]) == 3", "assert 'for' in In[-2] or total([1, 2]) == 4"
    )
    write(course.root, lab=fussy)
    assert any(
        miss.startswith("alternative: builtin: test-total") for miss in verdict(course).misses
    )


def test_a_stale_release_is_found(course: Course) -> None:
    path = course.lab_source("two")
    path.write_text(path.read_text().replace("is 3", "should be 3"))
    assert any("is not the release of its source" in miss for miss in verdict(course).misses)


def test_a_leaking_release_is_found(course: Course) -> None:
    path = course.released_notebook("two")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = LAB.split("### BEGIN SOLUTION")[1].split("return")[0]
    nbformat.write(notebook, path)
    assert any("holds lines of task total" in miss for miss in verdict(course).misses)


def test_a_leaking_page_is_found(course: Course) -> None:
    page = course.root / "book" / "page.md"
    page.parent.mkdir()
    hidden = LAB.split("hidden total 40 outside\n")[1].split("# %%")[0]
    page.write_text("See:\n\n" + "\n".join(f"    {line}" for line in hidden.splitlines()))
    assert any("holds lines of hidden total" in miss for miss in verdict(course).misses)


def test_a_process_left_behind_is_found(course: Course) -> None:
    starting = """
import subprocess
subprocess.Popen(["sleep", "600"], start_new_session=True)
assert mean([1, 3]) == 2
"""
    write(course.root, lab=changed(LAB, "assert mean([1, 3]) == 2\n", starting))
    assert any("left a process behind: sleep 600" in miss for miss in verdict(course).misses)


def test_a_lab_short_of_wrong_answers_is_found(course: Course) -> None:
    write(course.root, wrong=WRONG.partition("# %% mean")[0], alternative="")
    misses = verdict(course).misses
    assert "wrong.py: has no wrong answer to mean" in misses
    assert "alternative.py: 0 styles, 2 are asked for" in misses
