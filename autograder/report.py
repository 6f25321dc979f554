"""The report on a lab: one self-contained page for the instructor, from gradebook and results.

How the points are spread, which tasks are hard and which tell strong work from weak, what fails
most often, which submissions a person should look at, and which solutions are alike.  Difficulty
is the share of a task's points that was reached; discrimination the correlation of a task's points
with those of all other tasks (the point-biserial correlation where a task is passed or not), the
task itself left out of the sum (Henrysson, *Correction of item-total correlations in item
analysis*, Psychometrika 28, 1963).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autograder import late, plots
from autograder.authoring import Lab, parse
from autograder.course import Course, CourseError
from autograder.grading import Outcome, outcome_of, read_note
from autograder.marks import Mark, read_marks
from autograder.record import write_whole
from autograder.similarity import Pair, Reader, find_pairs

FEWEST = 5
"""Submissions below which a correlation is not given."""
FAILURES, PAIRS, NAMES = 15, 20, 8
"""How many of each the page shows."""
OWN_KINDS = ("task", "added")
GIVEN_KINDS = ("task", "given", "code", "measure", "test")


@dataclass(frozen=True)
class TaskFigures:
    """One task over the whole class; shares are in per cent, None where there is nothing."""

    name: str
    points: float
    reached: float
    full: float
    discrimination: float | None
    visible: float | None
    hidden: float | None
    only_visible: int
    seconds: float
    longest: float


@dataclass(frozen=True)
class Failure:
    """One way to fail a test, and who shares it."""

    task: str
    test: str
    message: str
    students: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One cell of a pair of texts: lines, each with whether it is shared."""

    cell: str
    left: list[tuple[str, bool]]
    right: list[tuple[str, bool]]


@dataclass(frozen=True)
class Alike:
    """A pair of texts, side by side."""

    pair: Pair
    sides: list[Side]


@dataclass
class Report:
    """All that the page shows."""

    lab: str
    title: str
    most: float
    scores: dict[str, float]
    outcomes: dict[str, Outcome]
    tasks: list[TaskFigures]
    failures: list[Failure]
    flagged: list[Outcome]
    to_read: int
    lateness: dict[str, late.Lateness]
    pairs: list[Pair] = field(default_factory=list)
    alike: list[Alike] = field(default_factory=list)


def write_reports(course: Course, labs: Sequence[str] = ()) -> list[Path]:
    """Write the page of every lab of which something was graded; their paths.

    Raises `CourseError` for an unknown lab and when nothing is graded yet, `MachineryError` when
    the gradebook cannot be read.
    """
    template = Environment(
        loader=PackageLoader("autograder"), autoescape=True, undefined=StrictUndefined
    ).get_template("report.html")
    written = []
    for name in course.select(tuple(labs)):
        report = make_report(course, name)
        if not report.outcomes:
            if labs:
                raise CourseError(f"{name}: nothing is graded yet; run autograder grade {name}")
            continue
        path = course.reports / f"{name}.html"
        write_whole(
            path, template.render(report=report, plots=_plots(report), facts=_facts(report))
        )
        written.append(path)
    return written


def make_report(course: Course, name: str) -> Report:
    """The figures of one lab; without outcomes when nothing was graded."""
    lab = parse(course.lab_source(name))
    marks = read_marks(course, name)
    notes = {
        path.stem: read_note(course, name, path.stem)
        for path in sorted((course.results / name / "students").glob("*.json"))
    }
    notes = {student: note for student, note in notes.items() if note}
    outcomes = {student: outcome_of(note) for student, note in notes.items()}
    texts = {student: read_text(course, name, student) for student in marks}
    report = Report(
        lab=name,
        title=lab.title,
        most=float(lab.points),
        scores={student: sum(m.points for m in cells.values()) for student, cells in marks.items()},
        outcomes=outcomes,
        tasks=task_figures(lab, marks, notes),
        failures=find_failures(lab, notes),
        flagged=[outcome for outcome in outcomes.values() if outcome.state != "graded"],
        to_read=sum(mark.waiting for cells in marks.values() for mark in cells.values()),
        lateness=late.read_lateness(course, name) if marks else {},
    )
    reader = Reader()
    report.pairs = find_pairs(texts, _given(course, name), reader)
    report.alike = [_side_by_side(pair, texts, reader) for pair in report.pairs[:PAIRS]]
    return report


def read_text(course: Course, lab: str, student: str) -> dict[str, str]:
    """The student's own code, by cell, as it was graded."""
    return _sources(course.autograded / student / lab / f"{lab}.ipynb", OWN_KINDS)


def _given(course: Course, lab: str) -> Iterable[str]:
    return _sources(course.released_notebook(lab), GIVEN_KINDS).values()


def _sources(path: Path, kinds: tuple[str, ...]) -> dict[str, str]:
    """The text of the code cells of these kinds in a notebook that we have written."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return {}
    return {
        cell["id"]: "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code"
        and cell.get("metadata", {}).get("course", {}).get("kind") in kinds
    }


def task_figures(
    lab: Lab, marks: Mapping[str, Mapping[str, Mark]], notes: Mapping[str, dict[str, Any]]
) -> list[TaskFigures]:
    """Difficulty, discrimination, pass rates and time of each task and written question."""
    names = list(dict.fromkeys(cell.name for cell in lab.graded))
    cells = {name: [cell for cell in lab.graded if cell.name == name] for name in names}
    students = sorted(marks)
    if not students:
        return []

    def of(student: str, name: str) -> list[Mark]:
        mine = marks[student]
        return [mine[cell.id] for cell in cells[name] if cell.id in mine]

    def points(student: str, name: str) -> float:
        return sum(mark.points for mark in of(student, name))

    def waiting(student: str, name: str) -> bool:
        return any(mark.waiting for mark in of(student, name))

    table = np.array([[points(student, name) for name in names] for student in students])
    read = np.array([[not waiting(student, name) for name in names] for student in students])
    whole = read.all(axis=0)
    figures = []
    for column, name in enumerate(names):
        most = float(sum(cell.points for cell in cells[name]))
        counted, others = read[:, column], whole & (np.arange(len(names)) != column)
        got = table[counted, column]
        rest = table[counted][:, others].sum(axis=1)
        visible, hidden = (
            _passed(marks, [c.id for c in cells[name] if c.kind == kind], students)
            for kind in ("test", "hidden")
        )
        spent = [
            sum(float(note["cells"].get(cell, {}).get("seconds", 0.0)) for cell in _own(lab, name))
            for note in notes.values()
            if note.get("cells")
        ]
        figures.append(
            TaskFigures(
                name=name,
                points=most,
                reached=100 * float(got.mean()) / most if len(got) else 0.0,
                full=100 * float((got >= most - 1e-9).mean()) if len(got) else 0.0,
                discrimination=correlation(got, rest),
                visible=_percent(visible),
                hidden=_percent(hidden),
                only_visible=sum(
                    one and not two for one, two in zip(visible, hidden, strict=False)
                ),
                seconds=median(spent) if spent else 0.0,
                longest=max(spent, default=0.0),
            )
        )
    return figures


def _own(lab: Lab, name: str) -> list[str]:
    return [cell.id for cell in lab.cells if cell.name == name and cell.is_code]


def _passed(
    marks: Mapping[str, Mapping[str, Mark]], cells: list[str], students: list[str]
) -> list[bool]:
    """For each student whether all these tests gave all their points; empty without tests."""
    if not cells:
        return []
    return [
        all(
            cell in marks[student]
            and (marks[student][cell].auto or 0.0) >= marks[student][cell].most
            for cell in cells
        )
        for student in students
    ]


def _percent(passed: list[bool]) -> float | None:
    return 100 * fmean(passed) if passed else None


def correlation(one: Sequence[float] | Any, other: Sequence[float] | Any) -> float | None:
    """Pearson's; None for few values, or where one side does not vary."""
    if len(one) < FEWEST or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def find_failures(lab: Lab, notes: Mapping[str, dict[str, Any]]) -> list[Failure]:
    """The ways in which tests failed, by how many share them; numbers in messages do not count.

    Who left a task blank has not failed it in a way that tells something, and is left out.
    """
    tests = {cell.id: cell for cell in lab.graded if cell.is_code}
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for student, note in notes.items():
        for name, result in note.get("cells", {}).items():
            if name not in tests or result["status"] in ("passed", "not executed"):
                continue
            message = result["message"].strip()
            if message.startswith("NotImplementedError") or not message:
                continue
            groups[name, _gist(message)].append((student, message))
    labels = {"test": "visible", "hidden": "hidden"}
    failures = [
        Failure(
            tests[name].name,
            labels[tests[name].kind],
            found[0][1],
            tuple(sorted(student for student, _ in found)),
        )
        for (name, _), found in groups.items()
    ]
    return sorted(
        failures, key=lambda one: (-len(one.students), one.task, one.test != "visible", one.message)
    )


def _gist(message: str) -> str:
    """The message without what differs from one student to the next."""
    text = " ".join(message.split("\n(in ")[0].split())
    return re.sub(r"0x[0-9a-f]+|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", "#", text)[:300]


def _side_by_side(pair: Pair, texts: Mapping[str, Mapping[str, str]], reader: Reader) -> Alike:
    left, right = (texts[student] for student in pair.two)
    sides = []
    for cell in dict.fromkeys((*left, *right)):
        side = Side(
            cell,
            reader.lines(left.get(cell, ""), pair.runs),
            reader.lines(right.get(cell, ""), pair.runs),
        )
        if any(marked for _, marked in (*side.left, *side.right)):
            sides.append(side)
    return Alike(pair, sides)


def _plots(report: Report) -> dict[str, Markup]:
    drawn: dict[str, Markup] = {}
    if report.scores:
        drawn["scores"] = plots.distribution(list(report.scores.values()), report.most)
    tested = [task for task in report.tasks if task.visible is not None or task.hidden is not None]
    if tested:
        drawn["rates"] = plots.pass_rates(
            [task.name for task in tested],
            [task.visible or 0.0 for task in tested],
            [task.hidden or 0.0 for task in tested],
        )
    placed = [
        (task.name, task.reached, task.discrimination)
        for task in report.tasks
        if task.discrimination is not None
    ]
    if placed:
        drawn["places"] = plots.item_map(placed)
    seconds = [outcome.seconds for outcome in report.outcomes.values() if outcome.seconds]
    if seconds:
        drawn["times"] = plots.times(seconds)
    return drawn


def _facts(report: Report) -> list[tuple[str, str]]:
    """The figures at the head of the page."""
    states = Counter(outcome.state for outcome in report.outcomes.values())
    facts = [("submissions", f"{len(report.outcomes)}")]
    facts += [(state, f"{count}") for state, count in sorted(states.items())]
    if report.scores:
        middle, mean = median(report.scores.values()), fmean(report.scores.values())
        facts.append(("median", f"{middle:g} of {report.most:g} points"))
        facts.append(("mean", f"{mean:.1f}"))
    if report.to_read:
        facts.append(("answers to read", f"{report.to_read}"))
    if report.lateness:
        lost = sum(one.penalty for one in report.lateness.values())
        facts.append(("late", f"{len(report.lateness)}, and {lost:g} points taken off"))
    return facts
