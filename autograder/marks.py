"""All points of a lab, by student and graded cell, out of the gradebook in one query."""

from __future__ import annotations

from dataclasses import dataclass

from autograder.course import Course
from autograder.record import gradebook_trouble


@dataclass(frozen=True)
class Mark:
    """The points of one graded cell: the machine's, a person's (which replaces it), extra ones.

    `waiting` says that a person has still to read it.
    """

    auto: float | None
    manual: float | None
    extra: float
    most: float
    waiting: bool

    @property
    def points(self) -> float:
        """What counts, as nbgrader adds it up."""
        given = self.auto if self.manual is None else self.manual
        return (given or 0.0) + self.extra

    def with_auto(self, auto: float) -> float:
        """What would count if the machine gave `auto`."""
        return (auto if self.manual is None else self.manual) + self.extra


def read_marks(course: Course, lab: str) -> dict[str, dict[str, Mark]]:
    """The marks of each student who has a submission in the gradebook, by cell.

    Empty when nothing is graded; raises `MachineryError` when the gradebook cannot be read.
    """
    from nbgrader.api import (
        Assignment,
        Grade,
        Gradebook,
        GradeCell,
        SubmittedAssignment,
        SubmittedNotebook,
    )

    if course.db_url == f"sqlite:///{course.gradebook}" and not course.gradebook.is_file():
        return {}
    marks: dict[str, dict[str, Mark]] = {}
    with gradebook_trouble(course), Gradebook(course.db_url) as book:
        rows = (
            book.db.query(
                SubmittedAssignment.student_id,
                GradeCell.name,
                Grade.auto_score,
                Grade.manual_score,
                Grade.extra_credit,
                GradeCell.max_score,
                Grade.needs_manual_grade,
            )
            .select_from(Grade)
            .join(GradeCell, Grade.cell_id == GradeCell.id)
            .join(SubmittedNotebook, Grade.notebook_id == SubmittedNotebook.id)
            .join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
            .join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
            .filter(Assignment.name == lab)
        )
        for student, cell, auto, manual, extra, most, waiting in rows:
            mark = Mark(auto, manual, extra or 0.0, most, bool(waiting) and manual is None)
            marks.setdefault(student, {})[cell] = mark
    return marks
