"""The student's commands: `check`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autograder.commands.common import console
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


COMMANDS = (check,)
