"""Grades go into nbgrader's gradebook, by nbgrader's own preprocessors, from one writer.

`Recorder` enters the lab into the gradebook of a class and then records one executed notebook after
another.  `settle` arranges what became of a cell as the outputs from which nbgrader's own rules
give the right points: a graded cell that did not pass carries an error, one that passed carries
neither an error nor a warning that would cost it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.authoring import Lab, generate, source_notebook
from autograder.course import Course, CourseError, MachineryError
from autograder.engine.executor import CellResult

ROOM = 1 << 18
"""Bytes that must be free in the class's folder before grading begins."""
NOT_RUN = CellResult("", "not executed", message="not executed")


@dataclass(frozen=True)
class Score:
    """Points by the machine, of how many, and how many answers wait for a person."""

    points: float
    max_points: float
    to_read: int


def settle(cell: NotebookNode, result: CellResult) -> None:
    """Give a code cell the outputs of its run, so that nbgrader's rules give its points."""
    outputs = [dict(output) for output in result.outputs]
    cell.execution_count = None
    if cell.metadata.get("nbgrader", {}).get("grade"):
        outputs = _graded(outputs, result, float(cell.metadata.nbgrader["points"]))
    cell.outputs = [nbformat.from_dict(output) for output in outputs]


def _graded(
    outputs: list[dict[str, Any]], result: CellResult, points: float
) -> list[dict[str, Any]]:
    shown = []
    for output in outputs:
        if output["output_type"] == "error":
            continue
        if output["output_type"] == "execute_result":
            output = {key: value for key, value in output.items() if key != "execution_count"}
            output["output_type"] = "display_data"
        if output.get("name") == "stderr":
            output["name"] = "stdout"
        shown.append(output)
    if result.status == "passed" and result.award is None:
        return shown
    if result.status == "passed" and _is_award(result.award, points):
        award = {"text/plain": repr(float(result.award or 0))}
        first = {"output_type": "execute_result", "data": award, "metadata": {}}
        return [{**first, "execution_count": None}, *shown]
    message = result.message or f"an award of {result.award!r} of {points:g} points is no award"
    traceback = next((o["traceback"] for o in outputs if o["output_type"] == "error"), [message])
    error = {"output_type": "error", "ename": result.status, "evalue": message}
    return [{**error, "traceback": traceback}, *shown]


def _is_award(award: Any, points: float) -> bool:
    return type(award) in (int, float) and math.isfinite(award) and 0 <= award <= points


@contextmanager
def gradebook_trouble(course: Course) -> Iterator[None]:
    """What can go wrong with a gradebook, as one line."""
    from nbgrader.api import InvalidEntry
    from sqlalchemy.exc import SAWarning, SQLAlchemyError

    own_words = logging.getLogger("tornado.application")  # where nbgrader logs a traceback
    before, own_words.disabled = own_words.disabled, True
    try:
        with warnings.catch_warnings():
            # nbgrader 0.9.6 builds objects outside a session, of which SQLAlchemy 2 warns.
            warnings.simplefilter("ignore", SAWarning)
            yield
    except CourseError:
        raise
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise MachineryError(f"{course.db_url}: {cause}") from None
    except InvalidEntry as error:  # nbgrader's word for a write that failed
        cause = str(error).splitlines()[0]
        raise MachineryError(f"{course.db_url}: {cause}") from None
    except OSError as error:
        place = error.filename or course.class_dir
        raise MachineryError(f"{place}: {error.strerror or error}") from None
    finally:
        own_words.disabled = before


class Recorder:
    """The one writer of a class's gradebook, for one lab."""

    def __init__(self, course: Course, lab: Lab) -> None:
        """Enter the lab into the gradebook, unless it is there as it is.

        Raises `MachineryError` when the gradebook cannot be opened or written, `CourseError` when
        nbgrader refuses the lab.
        """
        self.course, self.lab = course, lab
        self.source = source_notebook(lab)
        self.log = logging.getLogger("autograder.record")
        self._book: Any = None
        self._names: dict[str, str] = {}
        mark = course.results / lab.slug / "assignment.json"
        digest = hashlib.sha256(json.dumps(self.source, sort_keys=True).encode()).hexdigest()
        with gradebook_trouble(self.course):
            _probe(course.class_dir)
            known = json.loads(mark.read_text()) if mark.is_file() else {}
            if known.get("source") != digest or not self._in_gradebook():
                self.released = generate(lab, course.db_url)
                write_whole(
                    mark, json.dumps({"source": digest, "released": nbformat.writes(self.released)})
                )
            else:
                self.released = nbformat.reads(known["released"], as_version=4)
        self._checksums = {
            cell.metadata.nbgrader["grade_id"]: cell.metadata.nbgrader.get("checksum")
            for cell in self.released.cells
            if "nbgrader" in cell.metadata
        }

    def _in_gradebook(self) -> bool:
        from nbgrader.api import Gradebook, MissingEntry

        if self.course.db_url == f"sqlite:///{self.course.gradebook}" and not (
            self.course.gradebook.is_file()
        ):
            return False
        with Gradebook(self.course.db_url) as book:
            try:
                book.find_notebook(self.lab.slug, self.lab.slug)
            except MissingEntry:
                return False
        return True

    def students(self) -> set[str]:
        """Those who have a submission of this lab in the gradebook."""
        from nbgrader.api import Gradebook

        with gradebook_trouble(self.course), Gradebook(self.course.db_url) as book:
            return {entry.student.id for entry in book.assignment_submissions(self.lab.slug)}

    def record(self, student: str, notebook: NotebookNode, timestamp: str) -> Score:
        """Enter the grades of an executed notebook and file it under `autograded/`.

        `timestamp` is the time of receipt in nbgrader's form, or "" when it is not known.
        """
        from nbgrader.utils import determine_grade, is_grade, is_solution, parse_utc

        lab = self.lab.slug
        for cell in notebook.cells:
            meta = cell.metadata.get("nbgrader")
            if meta is not None:
                meta["cell_type"] = cell.cell_type
                meta["checksum"] = self._checksums[meta["grade_id"]]
        with gradebook_trouble(self.course):
            with _together(self._open_book()) as book:
                book.update_or_create_student(student)
                when = {"timestamp": parse_utc(timestamp)} if timestamp else {}
                submission = book.update_or_create_submission(lab, student, **when)
                (entry,) = submission.notebooks
                if not self._names:
                    self._names = {cell.id: cell.name for cell in _cells(entry.notebook)}
                _save_grades(_Entry(entry, self._names), notebook, self.log)
            folder = self.course.autograded / student / lab
            write_whole(folder / f"{lab}.ipynb", nbformat.writes(notebook) + "\n")
            if timestamp:
                write_whole(folder / "timestamp.txt", timestamp + "\n")
        graded = [cell for cell in notebook.cells if is_grade(cell)]
        points = [determine_grade(cell, self.log)[0] for cell in graded]
        return Score(
            points=sum(point for point in points if point is not None),
            max_points=sum(
                float(cell.metadata.nbgrader["points"]) for cell in graded if not is_solution(cell)
            ),
            to_read=sum(point is None for point in points),
        )

    def _open_book(self) -> Any:
        """The gradebook, opened once; what it has loaded stays loaded from one commit to the next,
        since nobody else writes the rows of a submission while it is recorded."""
        from nbgrader.api import Gradebook

        if self._book is None:
            self._book = Gradebook(self.course.db_url)
            self._book.db().expire_on_commit = False
        self._book.db.expire_all()
        return self._book

    def close(self) -> None:
        """Let go of the gradebook."""
        if self._book is not None:
            self._book.close()
            self._book = None

    def forget(self, student: str) -> None:
        """Take out the grades of a submission that a later, unreadable one has replaced."""
        from nbgrader.api import MissingEntry

        with gradebook_trouble(self.course):
            book = self._open_book()
            book.update_or_create_student(student)
            try:
                book.remove_submission(self.lab.slug, student)
            except MissingEntry:
                return


def _probe(folder: Path) -> None:
    """Raise OSError, with the folder's name, when there is no writing there or no room left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


class _Waiting:
    """A session in which a commit waits for the last one."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def commit(self) -> None:
        """Send what there is to the database, which keeps it when the transaction ends well."""
        self._session.flush()


@contextmanager
def _together(book: Any) -> Iterator[Any]:
    """The gradebook, where all that nbgrader commits one by one becomes one transaction."""
    session = book.db
    book.db = _Waiting(session)
    try:
        yield book
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        book.db = session


def _cells(notebook: Any) -> list[Any]:
    return [*notebook.grade_cells, *notebook.solution_cells, *notebook.task_cells]


class _Entry:
    """One submission of the gradebook, as nbgrader's `SaveAutoGrades` asks for it: its grades and
    comments are loaded at once, and written by whoever ends the transaction."""

    def __init__(self, entry: Any, names: dict[str, str]) -> None:
        self.grades = {names[grade.cell_id]: grade for grade in entry.grades}
        self.comments = {names[comment.cell_id]: comment for comment in entry.comments}
        self.db = self

    def find_grade(self, cell: str, *_: str) -> Any:
        return self.grades[cell]

    def find_comment(self, cell: str, *_: str) -> Any:
        return self.comments[cell]

    def commit(self) -> None:
        """Wait until all is there."""


def _save_grades(entry: _Entry, notebook: NotebookNode, log: logging.Logger) -> None:
    """Have nbgrader's own preprocessor grade each cell."""
    from nbgrader.preprocessors import SaveAutoGrades

    class SaveEntry(SaveAutoGrades):  # type: ignore[misc]
        def preprocess(self, nb: NotebookNode, resources: Any) -> Any:
            self.notebook_id = self.assignment_id = self.student_id = ""
            self.gradebook = entry
            for index, cell in enumerate(nb.cells):
                self.preprocess_cell(cell, resources, index)
            return nb, resources

    saver = SaveEntry(parent=None)
    saver.log = log
    saver.preprocess(notebook, {})


def write_whole(path: Any, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
