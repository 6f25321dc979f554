"""Feedback: one self-contained page for each graded submission, from the gradebook.

It tells the points of each task, what failed and why, the first hint, the student's own code and
answers and a grader's comments.  It holds no source of a test, and nothing of what the student
wrote can act in the reader's browser: text is escaped, Markdown is sanitised, and the page forbids
all scripts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import nh3
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nbformat import NotebookNode

from autograder import late
from autograder.authoring import GRADED, Lab, parse
from autograder.course import Course, CourseError
from autograder.grading import outcome_of, read_note
from autograder.record import write_whole
from autograder.settings import Settings, read_settings

LABELS = {"test": "Visible test", "hidden": "Hidden test", "written": "Written answer"}
SHOWN_OUTPUTS = 20
SHOWN_TEXT = 4000


@dataclass
class TestPart:
    """One graded cell as the page shows it."""

    label: str
    points: str
    max_points: str
    status: str
    mood: str
    message: str = ""


@dataclass
class TaskPart:
    """One task, or one written question, as the page shows it."""

    name: str
    points: str = "0"
    max_points: str = "0"
    state: str = ""
    mood: str = ""
    tests: list[TestPart] = field(default_factory=list)
    hint: Markup = field(default_factory=Markup)
    comment: str = ""
    answer: Markup = field(default_factory=Markup)
    code: str = ""


def write_feedback(
    course: Course, labs: Sequence[str] = (), students: Sequence[str] = ()
) -> list[Path]:
    """Write the page of every graded submission (of these labs and students); their paths.

    Raises `CourseError` for an unknown lab, and for a student without a graded submission.
    """
    from nbgrader.api import Gradebook, MissingEntry

    written: list[Path] = []
    if not course.gradebook.is_file() and course.db_url.startswith("sqlite"):
        raise CourseError(f"{course.gradebook}: no gradebook there; grade first")
    template = Environment(
        loader=PackageLoader("autograder"), autoescape=True, undefined=StrictUndefined
    ).get_template("feedback.html")
    seen: set[str] = set()
    settings = read_settings(course)
    names = course.select(tuple(labs))
    for name in names:
        late.settle(course, name)
    with Gradebook(course.db_url) as book:
        for name in names:
            try:
                submissions = book.assignment_submissions(name)
            except MissingEntry:
                continue
            lab = parse(course.lab_source(name))
            for submission in sorted(submissions, key=lambda item: item.student.id):
                student = submission.student.id
                if students and student not in students:
                    continue
                seen.add(student)
                path = course.feedback / student / name / f"{name}.html"
                write_whole(
                    path, template.render(page=_page(course, settings, lab, book, submission))
                )
                written.append(path)
    for student in students:
        if student not in seen:
            raise CourseError(f"{student}: no graded submission")
    return written


def _page(
    course: Course, settings: Settings, lab: Lab, book: Any, submission: Any
) -> dict[str, Any]:
    student = submission.student.id
    note = read_note(course, lab.slug, student)
    outcome = outcome_of(note) if note else None
    path = course.autograded / student / lab.slug / f"{lab.slug}.ipynb"
    notebook = nbformat.read(path, as_version=4) if path.is_file() else nbformat.v4.new_notebook()
    grades = {grade.name: grade for entry in submission.notebooks for grade in entry.grades}
    comments = {
        comment.name: comment.comment or ""
        for entry in submission.notebooks
        for comment in entry.comments
    }
    tasks = _tasks(lab, note.get("cells", {}), grades, comments, notebook)
    waiting = sum(
        grade.needs_manual_grade and grade.manual_score is None for grade in grades.values()
    )
    seconds_late = submission.total_seconds_late or 0
    penalty = submission.late_submission_penalty or 0.0
    return {
        "title": lab.title,
        "student": student,
        "received": f"{submission.timestamp:%Y-%m-%d %H:%M}" if submission.timestamp else "",
        "late": f"{seconds_late / 3600:.1f} hours" if seconds_late > 0 else "",
        "score": _number(submission.score - penalty),
        "max_score": _number(submission.max_score),
        "penalty": _number(penalty) if penalty else "",
        "percent": _number(settings.lab(lab.slug).rule.percent(seconds_late)),
        "waiting": waiting,
        "reason": outcome.reason if outcome and outcome.state == "partly graded" else "",
        "notes": outcome.notes if outcome else (),
        "tasks": tasks,
        "shown": _shown(notebook),
    }


def _tasks(
    lab: Lab,
    cells: dict[str, Any],
    grades: dict[str, Any],
    comments: dict[str, str],
    notebook: NotebookNode,
) -> list[TaskPart]:
    sources = {cell.id: cell.source for cell in notebook.cells}
    parts: list[TaskPart] = []
    for name in dict.fromkeys(cell.name for cell in lab.cells if cell.kind in GRADED):
        part = TaskPart(name, comment=comments.get(name, "") or comments.get(f"written-{name}", ""))
        points = most = 0.0
        for cell in lab.graded:
            if cell.name != name or cell.id not in grades:
                continue
            grade = grades[cell.id]
            points += grade.score or 0.0
            most += grade.max_score
            part.tests.append(_test(cell.kind, grade, cells.get(cell.id, {})))
        part.points, part.max_points = _number(points), _number(most)
        waiting = any(test.mood == "waiting" for test in part.tests)
        part.mood = "waiting" if waiting else "passed" if points >= most else "lost"
        part.state = {"waiting": "to be read", "passed": "all points", "lost": "points lost"}[
            part.mood
        ]
        hints = lab.hints(name)
        if part.mood == "lost" and hints:
            part.hint = _markdown(hints[0])
        part.code = sources.get(name, "")
        part.answer = _markdown(sources.get(f"written-{name}", ""))
        parts.append(part)
    return parts


def _test(kind: str, grade: Any, cell: dict[str, Any]) -> TestPart:
    points, most = grade.score or 0.0, grade.max_score
    if kind == "written" and grade.needs_manual_grade and grade.manual_score is None:
        return TestPart(LABELS[kind], "?", _number(most), "to be read", "waiting")
    lost = points < most
    status = cell.get("status", "graded by a person")
    message = cell.get("message", "") if lost and grade.manual_score is None else ""
    if kind == "written" and lost and grade.manual_score is None:
        message = "no answer"
    mood = "lost" if lost else "passed"
    return TestPart(LABELS[kind], _number(points), _number(most), status, mood, message)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _markdown(text: str) -> Markup:
    """Markdown as HTML without anything that acts or reaches out."""
    from nbconvert.filters import markdown2html

    if not text.strip():
        return Markup("")
    tags = nh3.ALLOWED_TAGS - {"img", "a"}
    return Markup(nh3.clean(markdown2html(text), tags=tags, attributes={}))


def _shown(notebook: NotebookNode) -> list[dict[str, str]]:
    """What the ungraded cells printed and drew: text, and pictures that are really PNG."""
    shown: list[dict[str, str]] = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or cell.metadata.get("nbgrader", {}).get("grade"):
            continue
        for output in cell.outputs:
            data = output.get("data", {})
            if _is_png(data.get("image/png", "")):
                shown.append({"image": data["image/png"].replace("\n", ""), "text": ""})
            elif text := output.get("text") or data.get("text/plain") or output.get("evalue"):
                shown.append({"image": "", "text": str(text)[:SHOWN_TEXT]})
    return shown[:SHOWN_OUTPUTS]


def _is_png(text: Any) -> bool:
    try:
        head = base64.b64decode(str(text)[:64], validate=False)
    except (binascii.Error, ValueError):
        return False
    plain = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n")
    return head.startswith(b"\x89PNG") and not set(str(text)) - plain
