"""Lateness: due dates and extensions into the gradebook, penalties by nbgrader's extension point.

`LatePolicy` is the plugin that nbgrader's `AssignLatePenalties` asks, here and under stock
nbgrader (see `nbgrader_config.py`); what it answers is in `class.toml`.  `settle` brings a graded
lab up to date with that file, without running anything again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.plugins import LateSubmissionPlugin
from traitlets import Unicode
from traitlets.config import Config

from autograder.course import Course, open_course
from autograder.record import gradebook_trouble
from autograder.settings import LabDates, read_settings

EQUAL = 1e-9
"""Points that differ by less are the same."""


class LatePolicy(LateSubmissionPlugin):  # type: ignore[misc]
    """The penalty of a late notebook, by the rule that `class.toml` or `course.toml` gives."""

    course_root = Unicode("", help="The course's folder.").tag(config=True)
    class_dir = Unicode("", help="The class's folder.").tag(config=True)

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float | None:
        """The points to take off; None for none."""
        course = open_course(
            Path(self.course_root) if self.course_root else None,
            Path(self.class_dir) if self.class_dir else None,
        )
        rule = read_settings(course).lab(self.parent.assignment_id).rule
        return rule.penalty(score, total_seconds_late) or None


@dataclass(frozen=True)
class Lateness:
    """How late a submission came in, in hours, and the points that it costs."""

    hours: float
    penalty: float


@dataclass(frozen=True)
class _Row:
    """One submission in the gradebook."""

    student: str
    timestamp: datetime | None
    extension: timedelta | None
    penalty: float | None
    score: float

    def seconds_late(self, due: datetime | None) -> float:
        if due is None or self.timestamp is None:
            return 0.0
        last = due + (self.extension or timedelta())
        return max(0.0, (self.timestamp - last).total_seconds())


def settle(course: Course, lab: str) -> None:
    """Bring due date, extensions and penalties of a lab's submissions up to date.

    Where the settings give no due date nbgrader's own stays, and where they do not speak of
    lateness at all nothing is touched.  Raises `CourseError` for settings that cannot be read,
    `MachineryError` when the gradebook cannot be written.
    """
    from nbgrader.api import Gradebook, MissingEntry

    dates = read_settings(course).lab(lab)
    if not dates.governed:
        return
    with gradebook_trouble(course), Gradebook(course.db_url) as book:
        try:
            assignment = book.find_assignment(lab)
        except MissingEntry:
            return
        if dates.due is not None:
            _enter_dates(book, assignment, dates, _rows(book, lab))
        due = assignment.duedate
        rows = _rows(book, lab)
    for row in rows:
        penalty = dates.rule.penalty(row.score, row.seconds_late(due))
        if abs((row.penalty or 0.0) - penalty) > EQUAL:
            _assign(course, lab, row.student)


def read_lateness(course: Course, lab: str) -> dict[str, Lateness]:
    """Who is late by the dates in the gradebook, and what it costs by the penalties there."""
    from nbgrader.api import Gradebook, MissingEntry

    with gradebook_trouble(course), Gradebook(course.db_url) as book:
        try:
            due = book.find_assignment(lab).duedate
        except MissingEntry:
            return {}
        rows = _rows(book, lab)
    found = {row.student: (row.seconds_late(due), row.penalty or 0.0) for row in rows}
    return {
        student: Lateness(seconds / 3600, penalty)
        for student, (seconds, penalty) in found.items()
        if seconds
    }


def _rows(book: Any, lab: str) -> list[_Row]:
    """All submissions of a lab, in one query."""
    from nbgrader.api import Assignment, SubmittedAssignment, SubmittedNotebook

    columns = (
        SubmittedAssignment.student_id,
        SubmittedAssignment.timestamp,
        SubmittedAssignment.extension,
        SubmittedNotebook.late_submission_penalty,
        SubmittedNotebook.score,
    )
    found = (
        book.db.query(*columns)
        .select_from(SubmittedNotebook)
        .join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
        .filter(Assignment.name == lab)
    )
    return sorted((_Row(*row) for row in found), key=lambda row: row.student)


def _enter_dates(book: Any, assignment: Any, dates: LabDates, rows: list[_Row]) -> None:
    assert dates.due is not None
    due = dates.due.replace(tzinfo=None)
    if assignment.duedate != due:
        assignment.duedate = due
    for row in rows:
        later = dates.extensions.get(row.student)
        wanted = (later - dates.due) if later else None
        if row.extension != wanted:
            book.find_submission(assignment.name, row.student).extension = wanted
    book.db.commit()


def _assign(course: Course, lab: str, student: str) -> None:
    """Have nbgrader's preprocessor ask the plugin and enter its answer."""
    from nbgrader.preprocessors import AssignLatePenalties

    config = Config()
    config.AssignLatePenalties.plugin_class = LatePolicy
    config.LatePolicy.course_root = str(course.root)
    config.LatePolicy.class_dir = str(course.class_dir)
    preprocessor = AssignLatePenalties(parent=None, config=config)
    preprocessor.log = logging.getLogger("autograder.late")
    preprocessor.log.setLevel(logging.ERROR)
    where = {"student": student, "assignment": lab, "notebook": lab, "db_url": course.db_url}
    with gradebook_trouble(course):
        preprocessor.preprocess(nbformat.v4.new_notebook(), {"nbgrader": where})
