"""The report tells an instructor what the class did, and nothing in it can act."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_lab import code, index_of, make_course, save, solved
from test_similarity import COPIED, DISGUISED, OTHER

from autograder.authoring import parse
from autograder.course import Course, CourseError, open_course
from autograder.feedback import write_feedback
from autograder.grading import grade
from autograder.marks import Mark
from autograder.plots import distribution
from autograder.report import (
    Report,
    correlation,
    find_failures,
    make_report,
    task_figures,
    write_reports,
)

SCRIPT = "<script>alert(1)</script>"
LENGTH = "def total(values):\n    return len(values)"


def with_cell(notebook: dict[str, Any], source: str) -> dict[str, Any]:
    """The notebook with an added cell before its first task."""
    notebook["cells"].insert(index_of(notebook, "total"), code(source))
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Eight submissions: two alike, two that fail alike, one that ends itself, one damaged."""
    folder = tmp_path_factory.mktemp("report")
    made = open_course(make_course(folder / "course").root, folder / "class")
    imports = "import functools, itertools, struct\n"
    submissions: dict[str, Any] = {
        "ada": with_cell(solved(), imports + COPIED),
        "bob": with_cell(solved(), imports + DISGUISED),
        "cleo": with_cell(solved(), imports + OTHER),
        "dan": solved(total=LENGTH),
        "eve": solved(total=LENGTH, mean="def mean(values):\n    return values[0]"),
        "fay": solved(total=f"def total(values):\n    raise OSError('{SCRIPT}')"),
        "gus": solved(total="import os\nos._exit(1)"),
    }
    for student, notebook in submissions.items():
        save(notebook, made.submitted / student / "two" / "two.ipynb")
    place = made.submitted / "hal" / "two" / "two.ipynb"
    place.parent.mkdir(parents=True)
    place.write_text("{")
    (made.class_dir / "class.toml").write_text("[labs.two]\ndue = 2026-03-09\n")
    grade(made, ["two"], jobs=2)
    return made


@pytest.fixture(scope="module")
def report(course: Course) -> Report:
    return make_report(course, "two")


@pytest.fixture(scope="module")
def page(course: Course) -> Path:
    (path,) = write_reports(course, ["two"])
    return path


def test_tasks_have_difficulty_and_pass_rates(report: Report) -> None:
    tasks = {task.name: task for task in report.tasks}
    assert list(tasks) == ["total", "mean", "why"]
    total = tasks["total"]
    assert (total.points, total.reached) == (50, pytest.approx(100 * 3 / 7))
    assert (total.visible, total.hidden) == (pytest.approx(300 / 7), pytest.approx(300 / 7))
    assert tasks["mean"].full == pytest.approx(100 * 5 / 7)
    assert tasks["why"].visible is None


def test_discrimination_is_the_correlation_with_the_other_tasks() -> None:
    lab = parse_two()
    marks = {
        f"s{number}": {
            "test-total": points(10, number >= 3),
            "hidden-total": points(40, number >= 3),
            "test-mean": points(10, number >= 2),
            "hidden-mean": points(30, number >= 4),
            "written-why": points(10, number in (0, 1)),
        }
        for number in range(6)
    }
    total, mean, why = task_figures(lab, marks, {})
    one = [0, 0, 0, 50, 50, 50]
    two = [0, 0, 10, 10, 40, 40]
    three = [10, 10, 0, 0, 0, 0]
    sums = [a + b for a, b in zip(two, three, strict=True)]
    assert total.discrimination == pytest.approx(correlation(one, sums))
    assert why.discrimination is not None and why.discrimination < 0
    assert mean.only_visible == 2


def points(most: float, given: bool) -> Mark:
    return Mark(most * given, None, 0.0, most, False)


def parse_two() -> Any:
    import tempfile

    from small_lab import LAB

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "two" / "lab.py"
        path.parent.mkdir()
        path.write_text(LAB, encoding="utf-8")
        return parse(path)


def test_an_answer_that_nobody_has_read_is_left_out() -> None:
    lab = parse_two()
    names = ("test-total", "hidden-total", "test-mean", "hidden-mean")
    marks = {
        f"s{number}": {name: points(10, number % 2 == 0) for name in names}
        | {"written-why": Mark(None, None, 0.0, 10, True)}
        for number in range(6)
    }
    why = task_figures(lab, marks, {})[-1]
    assert (why.reached, why.discrimination) == (0.0, None)


def test_a_few_submissions_and_equal_points_have_no_correlation() -> None:
    assert correlation([1, 2, 3], [1, 2, 3]) is None
    assert correlation([1] * 6, range(6)) is None
    assert correlation([0, 0, 1, 1, 1], [1, 2, 3, 4, 5]) == pytest.approx(0.866, abs=1e-3)


def test_failures_are_grouped_by_what_they_say(report: Report) -> None:
    first = report.failures[0]
    assert (first.task, first.test, first.students) == ("total", "visible", ("dan", "eve"))
    assert first.message == "AssertionError: total([1, 2]) is 3, got 2"


def test_numbers_and_blanks_do_not_count_in_messages() -> None:
    def note(message: str) -> dict[str, Any]:
        return {"cells": {"test-total": {"status": "failed", "message": message}}}

    notes = {
        "ada": note("3.5 bytes at 0xff12, expected -1e-3"),
        "bob": note("17 bytes at 0x0, expected 2"),
        "cleo": note("NotImplementedError"),
    }
    (failure,) = find_failures(parse_two(), notes)
    assert failure.students == ("ada", "bob")


def test_who_needs_a_look_is_listed_with_the_reason(report: Report) -> None:
    flagged = {outcome.student: (outcome.state, outcome.reason) for outcome in report.flagged}
    assert set(flagged) == {"gus", "hal"}
    assert flagged["gus"][0] == "partly graded"
    assert "not JSON" in flagged["hal"][1]


def test_a_copy_is_found_and_shown_side_by_side(report: Report) -> None:
    (pair,) = report.pairs
    assert pair.left == ("ada", "bob")
    (alike,) = report.alike
    (left, right) = (
        [line.strip() for line, shared in lines if shared]
        for lines in next((side.left, side.right) for side in alike.sides)
    )
    assert "for position, value in enumerate(values):" in left
    assert "for i, n in enumerate(numbers):" in right


def test_the_page_stands_alone_and_runs_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert "<script" not in text and "&lt;script&gt;" in text
    outside = [
        address
        for address in re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", text)
        if not address.startswith("#")
    ]
    assert outside == []
    assert text.count("<svg") == 4
    assert len(set(re.findall(r'\bid="([^"]+)"', text))) == len(re.findall(r'\bid="[^"]+"', text))
    assert len(text) < 400_000


@pytest.mark.browser
def test_it_can_be_read_on_a_phone_in_the_dark_and_on_paper(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    background = "getComputedStyle(document.body).backgroundColor"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        said: list[str] = []
        phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        phone.on("console", lambda message: said.append(message.text))
        phone.goto(page.as_uri())
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        dark = phone.evaluate(background)
        ink = "getComputedStyle(document.querySelector('svg.plot text')).fill"
        assert phone.evaluate(ink) == phone.evaluate("getComputedStyle(document.body).color")
        phone.emulate_media(color_scheme="light", media="print")
        assert phone.evaluate(background) != dark
        hidden = "document.querySelector('details').checkVisibility()"
        assert phone.evaluate(hidden)
        assert said == []
        browser.close()


def test_points_beyond_the_labs_are_drawn() -> None:
    drawn = str(distribution([12.0] * 5, 10))
    bars = re.findall(r'<path d="([^"]*)"\s+clip-path[^>]*fill: var\(--one\)', drawn)
    corners = [re.findall(r"[ML] \S+ (\S+)", bar) for bar in bars]
    assert [len(set(heights)) for heights in corners] == [1] * 19 + [2]


@pytest.mark.browser
def test_feedback_is_whole_on_a_phone_and_on_paper(course: Course) -> None:
    from playwright.sync_api import sync_playwright

    shown = "document.querySelector('details:not([open]) pre').checkVisibility()"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        phone = browser.new_page(viewport={"width": 360, "height": 740})
        for page in write_feedback(course):
            phone.emulate_media(media="screen")
            phone.goto(page.as_uri())
            assert phone.evaluate("document.documentElement.scrollWidth") <= 360
            if phone.locator("details:not([open]) pre").count():
                phone.emulate_media(media="print")
                assert phone.evaluate(shown)
        browser.close()


def test_the_command(course: Course, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "autograder", "report", "--course", str(course.root), "--class"]
    done = subprocess.run([*line, str(course.class_dir)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(course.class_dir / "report" / "two.html")
    empty = subprocess.run([*line, str(tmp_path)], capture_output=True, text=True)
    assert (empty.returncode, empty.stderr) == (1, "autograder: nothing is graded yet\n")
    with pytest.raises(CourseError, match="two: nothing is graded yet"):
        write_reports(open_course(course.root, tmp_path), ["two"])
