"""The author's commands: `release` and `verify`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table

from autograder.commands.common import console, in_course
from autograder.course import Course

if TYPE_CHECKING:
    from autograder.engine.trials import Verdicts

AUDIENCE = "Authors"


@click.command(epilog="Example: autograder release parameter_server")
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when labs/ is not up to date.")
@in_course
def release(course: Course, labs: tuple[str, ...], check: bool) -> None:
    """Regenerate labs/ from solutions/: nbgrader takes solutions and hidden tests out.

    The source notebooks go to _build/source, where stock nbgrader looks for them.
    """
    from autograder import authoring

    names = course.select(labs)
    changed = authoring.release(course, names, check=check)
    for name in names:
        if not check:
            authoring.write_source(course, name)
        state = "up to date"
        if name in changed:
            state = "is not the release of its source" if check else "released"
        click.echo(f"labs/{name}: {state}")
    if check and changed:
        sys.exit(1)


@click.command(epilog="Example: autograder verify parameter_server --repeat 20")
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@click.option("--repeat", default=1, metavar="N", help="Run the reference N times (1).")
@click.option("--jobs", default=os.cpu_count() or 1, metavar="N", help="Trials at a time (cores).")
@click.option("--cascade", is_flag=True, help="Run all tests after each wrong answer, not its own.")
@in_course
def verify(course: Course, labs: tuple[str, ...], repeat: int, jobs: int, cascade: bool) -> None:
    """The quality gate: does a lab grade what it claims to grade?

    The reference passes everything, the blank release nothing, each answer in wrong.py loses the
    points of its task, each style in alternative.py keeps them all, and nothing secret stands in
    labs/ or book/. Exits 1 on any miss.
    """
    from autograder import verify as gate

    screen = console()
    with screen.status("") as status:

        def progress(lab: str, verdicts: Verdicts) -> None:
            status.update(f"{lab}: {verdicts.trial.name} ({verdicts.seconds:.1f} s)")

        reports = gate.verify(
            course,
            course.select(labs),
            repeat=repeat,
            jobs=jobs,
            cascade=cascade,
            progress=progress,
        )
    table = Table("lab", "points", "reference", "slowest cell", "wrong", "styles", "misses")
    for report in reports:
        cell, seconds = report.slowest
        table.add_row(
            report.lab,
            str(report.points),
            f"{report.reference_runs} x {report.reference_seconds:.1f} s",
            f"{cell} {seconds:.1f} s",
            str(report.wrong),
            str(report.styles),
            str(len(report.misses) or ""),
        )
    screen.print(table)
    misses = [f"{report.lab}: {miss}" for report in reports for miss in report.misses]
    for miss in misses:
        click.echo(miss, err=True)
    if misses:
        sys.exit(1)


COMMANDS = (release, verify)
