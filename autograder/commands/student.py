"""The student's commands: `check`, `progress` and, for everybody, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from autograder.commands.common import console, in_class, in_course
from autograder.course import Course, CourseError, open_course

AUDIENCE = "Students"


@click.command(
    epilog="Example: autograder check labs/parameter_server/parameter_server.ipynb --hint"
)
@click.argument("path", metavar="NOTEBOOK", type=click.Path(path_type=Path))
@click.option("--task", default="", metavar="NAME", help="Check one task only.")
@click.option("--hint", "more", count=True, help="Show one more hint; repeat it to climb on.")
@click.option("--hints", type=click.IntRange(0), metavar="N", help="Show the first N hints (1).")
@click.option(
    "--course",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The course's folder; by default the one in which the notebook lies.",
)
def check(path: Path, task: str, more: int, hints: int | None, root: Path | None) -> None:
    """Run the visible tests of a notebook as the grader would.

    Shows for each task its points, whether its test passes, what failed and a first hint. The
    notebook is run from its first cell in a fresh process, with the original tests; its
    measurements, which earn no points, are left out. NOTEBOOK may be the name of a lab. Exits 1
    while a task fails.
    """
    from autograder import check as checker
    from autograder.check_table import show

    course = open_course(root) if root else None
    path = _notebook(path, course)
    screen = console()
    with screen.status("") as status:

        def progress(cell: str) -> None:
            status.update(f"running {cell}" if cell else "")

        report = checker.check(path, course, only=task, on_start=progress)
    show(report, hints=(1 if hints is None else hints) + more, screen=screen)
    if not report.sound:
        sys.exit(1)


def _notebook(path: Path, course: Course | None) -> Path:
    """`path`, or the notebook of the lab of that name; raises CourseError when there is neither."""
    if path.exists():
        return path
    if path.name == str(path) and not path.suffix:
        lab = (course or open_course()).released_notebook(path.name)
        if lab.is_file():
            return lab
    raise CourseError(f"{path}: no such file")


@click.command(epilog="Example: autograder progress")
@in_course
def progress(course: Course) -> None:
    """Show the course: labs, points of their visible tests, what comes next.

    A notebook that has changed since the last time is checked anew.
    """
    from autograder.progress import progress as look

    screen = console()
    with screen.status("") as status:
        labs = look(course, lambda lab: status.update(f"checking {lab}"))
    table = Table("lab", "", "tasks", "points", "next")
    for item in labs:
        state = "done" if item.done else "begun" if item.begun else "not begun"
        table.add_row(
            item.lab,
            "trouble" if item.trouble else state,
            "" if item.trouble else f"{item.passing} of {item.tasks}",
            "" if item.trouble else f"{item.points:g} of {item.max_points:g}",
            Text(item.trouble or item.next_task),
        )
    screen.print(table)
    done = sum(item.done for item in labs)
    points, total = sum(item.points for item in labs), sum(item.max_points for item in labs)
    click.echo(f"{done} of {len(labs)} labs done; visible tests: {points:g} of {total:g} points.")
    following = next((item for item in labs if not item.done and not item.trouble), None)
    if following:
        click.echo(f"Next: {following.next_task} in labs/{following.lab}/{following.lab}.ipynb")


@click.command(epilog="Example: autograder doctor")
@in_class
def doctor(course: Course) -> None:
    """Say what of this machine works, and how to mend what does not.

    Exits 3 when something is missing without which the labs cannot be done or graded.
    """
    from autograder.doctor import examine

    styles = {"works": "green", "differs": "yellow", "missing": "red"}
    screen = console()
    findings = []
    with screen.status("") as status:
        for finding in examine(course):
            findings.append(finding)
            status.update(f"{finding.what}: {finding.state}")
    table = Table("", "", "found", "what to do")
    for finding in findings:
        optional = "" if finding.essential or finding.state == "works" else " (optional)"
        table.add_row(
            finding.what,
            Text(finding.state + optional, style=styles[finding.state]),
            Text(finding.found),
            Text(finding.mend),
        )
    screen.print(table)
    if any(finding.fatal for finding in findings):
        sys.exit(3)


COMMANDS = (check, progress, doctor)
