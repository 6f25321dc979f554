"""After a test was mended: who would gain and who would lose.

`preview` runs what the change touches, by the engine and its cache, and compares the points with
those in the gradebook.  Neither the gradebook nor `submitted/` or `autograded/` is written to; only
the cache of what has been executed grows, so that grading afterwards has nothing left to run.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from autograder import grading
from autograder.authoring import Lab, generate, parse, source_notebook
from autograder.course import Course, CourseError
from autograder.engine.trials import Limits, SandboxChoice
from autograder.marks import Mark, read_marks
from autograder.rebuild import Unreadable

EQUAL = 1e-9
Start = Callable[[Sequence[str]], grading.AnyEngine]


@dataclass(frozen=True)
class Change:
    """The points of one student before and after, manual ones included, before any penalty.

    None stands for no grade; `tasks` holds those that differ; `remark` says why there is none.
    """

    student: str
    lab: str
    before: float | None
    after: float | None
    tasks: dict[str, tuple[float, float]] = field(default_factory=dict)
    remark: str = ""

    @property
    def gain(self) -> float:
        return (self.after or 0.0) - (self.before or 0.0)

    @property
    def differs(self) -> bool:
        return bool(self.tasks or self.remark) or (self.before is None) != (self.after is None)


def preview(
    course: Course,
    labs: Sequence[str] = (),
    students: Sequence[str] = (),
    *,
    jobs: int = 1,
    sandbox: SandboxChoice = "auto",
    limits: Limits | None = None,
    on_start: Callable[[str, int], None] = lambda lab, count: None,
    on_done: Callable[[str], None] = lambda lab: None,
) -> list[Change]:
    """What grading the labs now would change, for every submission that was handed in.

    Raises `CourseError` for an unknown lab or student, a lab whose source is not sound, and one
    that nbgrader would refuse; `MachineryError` when gradebook or sandbox fail.
    """
    changes: list[Change] = []
    if not course.submitted.is_dir():
        raise CourseError(f"{course.submitted}: no submissions there; collect some first")
    for name in course.select(tuple(labs)):
        found = list(grading.find_submissions(course, name, set(students)))
        if not found and not labs:
            continue
        on_start(name, len(found))

        def start(imports: Sequence[str]) -> grading.AnyEngine:
            return grading.open_engine("", False, sandbox, limits, imports, jobs)

        for change in _of_lab(course, parse(course.lab_source(name)), found, start):
            on_done(name)
            changes.append(change)
    seen = {change.student for change in changes}
    for student in students:
        if student not in seen:
            raise CourseError(f"{student}: no submission of {', '.join(labs) or 'any lab'}")
    return sorted(changes, key=lambda change: (change.lab, change.gain, change.student))


def _of_lab(
    course: Course, lab: Lab, submissions: Sequence[grading.Submission], start: Start
) -> Iterator[Change]:
    with _scratch_gradebook(course) as db_url:
        released = generate(lab, db_url)
    source = source_notebook(lab)
    marks = read_marks(course, lab.slug)
    files = course.handout_files(lab.slug)
    with closing(start(lab.imports)) as engine:
        cache = grading.open_cache(course, lab, files, engine)
        work: list[grading.Work] = []
        for submission in submissions:
            try:
                work.append(grading.rebuilt_work(lab, source, released, cache, submission, files))
            except Unreadable as error:
                total = _total(marks.get(submission.student))
                remark = str(error) if total is not None else ""
                yield Change(submission.student, lab.slug, total, None, remark=remark)
        for item, verdicts in grading.executed(course, lab, engine, cache, work):
            student = item.submission.student
            before = marks.get(student, {})
            if verdicts.broken:
                remark = f"could not be run: {verdicts.broken}"
                yield Change(student, lab.slug, _total(before), None, remark=remark)
                continue
            grading.settled(item, verdicts)
            yield _compared(student, lab, before, item.rebuilt.notebook)


def _compared(student: str, lab: Lab, before: dict[str, Mark], notebook: NotebookNode) -> Change:
    from nbgrader.utils import determine_grade

    tasks: dict[str, tuple[float, float]] = {}
    for cell in notebook.cells:
        if not cell.metadata.get("nbgrader", {}).get("grade"):
            continue
        old = before.get(cell.id)
        new = old.points if old else 0.0
        if cell.cell_type == "code":
            auto = float(determine_grade(cell)[0] or 0.0)
            new = old.with_auto(auto) if old else auto
        task = cell.metadata.course.task
        was, becomes = tasks.get(task, (0.0, 0.0))
        tasks[task] = (was + (old.points if old else 0.0), becomes + new)
    return Change(
        student,
        lab.slug,
        _total(before),
        sum(new for _, new in tasks.values()),
        {name: (old, new) for name, (old, new) in tasks.items() if abs(old - new) > EQUAL},
    )


def _total(marks: dict[str, Mark] | None) -> float | None:
    return sum(mark.points for mark in marks.values()) if marks else None


@contextmanager
def _scratch_gradebook(course: Course) -> Iterator[str]:
    """A copy of the gradebook, in which nbgrader may enter the changed lab.

    It refuses there what it would refuse in the real one.  One on a server is not copied.
    """
    with tempfile.TemporaryDirectory(prefix="preview-") as folder:
        path = Path(folder) / "gradebook.db"
        if course.db_url == f"sqlite:///{course.gradebook}" and course.gradebook.is_file():
            address = f"{course.gradebook.resolve().as_uri()}?mode=ro"
            with (
                contextlib.closing(sqlite3.connect(address, uri=True)) as real,
                contextlib.closing(sqlite3.connect(path)) as copy,
            ):
                real.backup(copy)
        yield f"sqlite:///{path}"
