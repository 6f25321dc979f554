"""Grades out of nbgrader's gradebook, as CSV: plain, or as a learning platform takes it in.

`grades` reads the gradebook (machine's points, manual points, penalties, all as nbgrader adds them
up) into one `Grade` for each student and lab; `as_csv` and the platforms' writers lay them out.
The order is fixed, and no cell can act as a formula in a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autograder import notebooks
from autograder.authoring import nbgrader_at_work
from autograder.course import Course, CourseError, MachineryError
from autograder.roster import Roster

Format = Literal["csv", "canvas", "moodle", "gradescope"]
State = Literal[
    "graded", "to be read", "partly graded", "needs review", "failed", "not graded", "not handed in"
]
FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Grade:
    """What one student has for one lab.

    `score` is None where there is none; `penalty` for lateness is already taken off it; `late` is
    in hours, None when the lab has no due date.  `tasks` are (points, of how many) by task.
    """

    student: str
    lab: str
    max_score: float
    score: float | None = None
    penalty: float = 0.0
    late: float | None = None
    state: State = "not handed in"
    tasks: dict[str, tuple[float | None, float]] = field(default_factory=dict)
    submitted: str = ""


def grades(course: Course, labs: Sequence[str], roster: Roster | None = None) -> list[Grade]:
    """All grades of the labs, by lab and student: those who handed in, and the whole roster.

    Raises `CourseError` when nothing has been graded yet, `MachineryError` when the gradebook
    cannot be read.
    """
    from nbgrader.api import Gradebook
    from sqlalchemy.exc import SQLAlchemyError

    from autograder.late import settle

    if not os.environ.get("AUTOGRADER_DB") and not course.gradebook.is_file():
        raise CourseError(f"{course.gradebook}: no gradebook there; run autograder grade first")
    try:
        with nbgrader_at_work():
            for lab in labs:
                settle(course, lab)
        with nbgrader_at_work(), Gradebook(course.db_url) as book:
            found = [grade for lab in labs for grade in _of_lab(course, lab, book, roster)]
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise MachineryError(f"{course.db_url}: {cause}") from None
    return sorted(found, key=lambda grade: (labs.index(grade.lab), grade.student))


def _of_lab(course: Course, lab: str, book: Any, roster: Roster | None) -> Iterable[Grade]:
    folder = course.submitted
    handed = {path.parent.name for path in folder.glob(f"*/{lab}")} if folder.is_dir() else set()
    submissions = {entry.student.id: entry for entry in book.assignment_submissions(lab)}
    if not submissions and not handed:
        return
    tasks = _tasks(course, lab)
    total = sum(tasks.values())
    students = (
        {student.id for student in book.students} | handed | set(roster.rows if roster else ())
    )
    for student in students:
        submission = submissions.get(student)
        state = _state(course, lab, student, submission, student in handed)
        if submission is None:
            yield Grade(student, lab, total, state=state)
            continue
        points: dict[str, tuple[float | None, float]] = dict.fromkeys(tasks, (None, 0.0))
        for notebook in submission.notebooks:
            for grade in notebook.grades:
                task = _task_of(grade.cell.name)
                before, most = points.get(task, (None, 0.0))
                points[task] = ((before or 0.0) + (grade.score or 0.0), most + grade.max_score)
        penalty = submission.late_submission_penalty or 0.0
        dated = submission.duedate is not None and submission.timestamp is not None
        yield Grade(
            student=student,
            lab=lab,
            max_score=submission.max_score,
            score=max(0.0, submission.score - penalty),
            penalty=penalty,
            late=submission.total_seconds_late / 3600 if dated else None,
            state=state,
            tasks=points,
            submitted=f"{submission.timestamp:%Y-%m-%d %H:%M:%S}" if submission.timestamp else "",
        )


def _tasks(course: Course, lab: str) -> dict[str, float]:
    """The tasks of a lab in their order, with all their points."""
    tasks: dict[str, float] = {}
    with suppress(CourseError):
        for cell in notebooks.read(course.released_notebook(lab)).cells:
            if cell.task and cell.points:
                tasks[cell.task] = tasks.get(cell.task, 0.0) + cell.points
    return tasks


def _task_of(cell: str) -> str:
    return re.sub(r"^(test|hidden|written)-", "", cell)


def _state(course: Course, lab: str, student: str, submission: Any, handed: bool) -> State:
    from autograder.grading import read_note

    note = read_note(course, lab, student)
    state: State = note["outcome"]["state"] if note else "graded" if submission else "not graded"
    if submission is None:
        return "failed" if state == "failed" else "not graded" if handed else "not handed in"
    if state == "graded" and submission.needs_manual_grade:
        return "to be read"
    return state


def cell(value: object) -> str:
    """A value as a cell: numbers without a tail, texts that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    text = " ".join(str(value).split())
    return f"'{text}" if text.startswith(FORMULA) else text


def _csv(rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


def as_csv(grades: Sequence[Grade], *, by_task: bool = False) -> str:
    """One row for each student and lab; with `by_task` a column for each task too."""
    tasks = list(dict.fromkeys(task for grade in grades for task in grade.tasks)) if by_task else []
    head = ["student", "lab", *tasks, "score", "max", "late", "penalty", "state"]
    rows: list[Sequence[object]] = [head]
    for grade in grades:
        points = [grade.tasks.get(task, (None, 0.0))[0] for task in tasks]
        late = None if grade.late is None else round(grade.late, 2)
        sums = [grade.score, grade.max_score, late, grade.penalty]
        rows.append([grade.student, grade.lab, *points, *sums, grade.state])
    return _csv(rows)


def for_platform(
    format: Format, grades: Sequence[Grade], roster: Roster, *, by_task: bool = False
) -> str:
    """The grades as a platform takes them in: one row for each student, a column for each lab.

    With `by_task` a column for each task instead.  Students without a score are left out: an empty
    cell would take a grade away where a platform has one.
    """
    columns = list(dict.fromkeys(name for grade in grades for name in _columns(grade, by_task)))
    students = sorted({grade.student for grade in grades if grade.score is not None})
    table: dict[str, dict[str, float | None]] = {student: {} for student in students}
    most: dict[str, float] = {}
    sent: dict[tuple[str, str], Grade] = {}
    for grade in grades:
        for name, (points, highest) in _columns(grade, by_task).items():
            most[name] = max(most.get(name, 0.0), highest)
            if grade.student in table:
                table[grade.student][name] = points
                sent[grade.student, name] = grade
    if format == "canvas":
        return _canvas(columns, table, most, roster)
    if format == "moodle":
        return _moodle(columns, table, roster)
    return _gradescope(columns, table, most, sent, roster)


def _columns(grade: Grade, by_task: bool) -> dict[str, tuple[float | None, float]]:
    if by_task:
        return {f"{grade.lab} {task}": points for task, points in grade.tasks.items()}
    return {grade.lab: (grade.score, grade.max_score)}


Table = dict[str, dict[str, float | None]]


def _canvas(columns: list[str], table: Table, most: dict[str, float], roster: Roster) -> str:
    """Gradebook import: who in five columns, then the assignments; their maxima in a second row."""
    rows: list[Sequence[object]] = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *columns],
        ["Points Possible", "", "", "", "", *(most[name] for name in columns)],
    ]
    for student, points in table.items():
        number = roster.cell(student, "canvas", "canvas_id") or _canvas_number(student)
        login = roster.cell(student, "login", "sis login id", "email")
        who = [
            roster.cell(student, "name") or student,
            number,
            roster.cell(student, "sis", "sis user id"),
            login,
            roster.cell(student, "section"),
        ]
        rows.append([*who, *(points.get(name) for name in columns)])
    return _csv(rows)


def _canvas_number(student: str) -> str:
    """The number that `collect` put into the id of somebody whom no roster named."""
    match = re.fullmatch(r".+_(\d+)", student)
    return match[1] if match else ""


def _moodle(columns: list[str], table: Table, roster: Roster) -> str:
    """Grade import from CSV: mapped by email address or ID number, compared as they are written."""
    rows: list[Sequence[object]] = [["Email address", "ID number", "Full name", *columns]]
    for student, points in table.items():
        who = [
            roster.cell(student, "email"),
            roster.cell(student, "moodle", "id number") or student,
            roster.cell(student, "name") or student,
        ]
        rows.append([*who, *(points.get(name) for name in columns)])
    return _csv(rows)


def _gradescope(
    columns: list[str],
    table: Table,
    most: dict[str, float],
    sent: dict[tuple[str, str], Grade],
    roster: Roster,
) -> str:
    """The layout of Gradescope's own download of grades, three columns for each assignment."""
    head = ["Name", "SID", "Email"]
    for name in columns:
        head += [name, f"{name} - Max Points", f"{name} - Submission Time"]
    rows: list[Sequence[object]] = [head]
    for student, points in table.items():
        row: list[object] = [roster.cell(student, "name") or student]
        row.append(roster.cell(student, "gradescope", "sid") or student)
        row.append(roster.cell(student, "email"))
        for name in columns:
            grade = sent.get((student, name))
            row += [points.get(name), most[name], grade.submitted if grade else ""]
        rows.append(row)
    return _csv(rows)


def write_csv(text: str, target: Path) -> None:
    """Write a CSV whole or not at all, with a byte order mark, by which Excel knows UTF-8.

    Raises `CourseError` when the folder does not exist, `MachineryError` when it cannot be written.
    """
    if target.is_dir() or not target.parent.is_dir():
        raise CourseError(f"{target}: cannot be written: it is a folder, or lies in none")
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8-sig")
        scratch.replace(target)
    except OSError as error:
        raise MachineryError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)
