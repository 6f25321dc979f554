"""The commands that grade: `grade` and `feedback`."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autograder.commands.common import console, in_class
from autograder.course import Course

AUDIENCE = "Instructors"


@click.command(epilog="Example: autograder grade parameter_server --jobs 2")
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@click.option("--student", "students", multiple=True, metavar="ID", help="Only this one; repeat.")
@click.option("--jobs", default=os.cpu_count() or 1, metavar="N", help="At a time (cores).")
@click.option("--force", is_flag=True, help="Grade again what has not changed.")
@click.option(
    "--sandbox",
    type=click.Choice(["auto", "required", "none"]),
    default="auto",
    show_default=True,
    help="Isolation of the students' code: what the machine has, or fail without, or none.",
)
@click.option(
    "--scheduler",
    default="",
    metavar="ADDRESS",
    help="Let the workers of this Dask scheduler run the notebooks: tcp://host:8786, tls://...",
)
@click.option(
    "--engine",
    type=click.Choice(["fast", "jupyter"]),
    default="fast",
    show_default=True,
    help="jupyter: a cold kernel for each notebook and no sandbox, to compare with.",
)
@click.option("--cell-seconds", default=30.0, metavar="S", help="Longest time of one cell (30).")
@click.option("--total-seconds", default=300.0, metavar="S", help="Longest of one notebook (300).")
@in_class
def grade(
    course: Course,
    labs: tuple[str, ...],
    students: tuple[str, ...],
    jobs: int,
    force: bool,
    sandbox: str,
    scheduler: str,
    engine: str,
    cell_seconds: float,
    total_seconds: float,
) -> None:
    """Grade what was handed in and is new or changed, into nbgrader's gradebook.

    Safe to interrupt and to run again: what was graded is kept. Exits 0 when every submission was
    taken in, also those that failed to be a notebook: the table tells them. Exits 3 when the
    machinery failed.
    """
    from autograder import grading
    from autograder.engine.trials import Limits

    if jobs < 1:
        raise click.BadParameter("at least 1", param_hint="--jobs")
    screen = console()
    tally: Counter[str] = Counter()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[states]}"),
        TimeRemainingColumn(),
        console=screen,
        disable=not screen.is_terminal,
    ) as progress:
        bars: dict[str, int] = {}
        began = time.monotonic()

        def begin(lab: str, count: int) -> None:
            bars[lab] = progress.add_task(lab, total=count, states="")

        def done(outcome: grading.Outcome) -> None:
            tally["as before" if outcome.done else outcome.state] += 1
            fresh = sum(tally.values()) - tally["as before"]
            states = ", ".join(f"{count} {state}" for state, count in sorted(tally.items()))
            states += f"; {60 * fresh / (time.monotonic() - began):.0f} a minute"
            progress.update(bars[outcome.lab], advance=1, states=states)  # type: ignore[arg-type]

        outcomes = grading.grade(
            course,
            labs,
            students,
            force=force,
            jobs=jobs,
            sandbox=sandbox,  # type: ignore[arg-type]
            limits=Limits(cell_seconds=cell_seconds, total_seconds=total_seconds),
            scheduler=scheduler,
            kernel=engine == "jupyter",
            on_start=begin,
            on_done=done,
        )
    table = Table("lab", "student", "state", "points", "to read", "seconds", "remarks")
    for outcome in outcomes:
        points = "" if outcome.score is None else f"{outcome.score:g} / {outcome.max_score:g}"
        remarks = [outcome.reason, *outcome.notes] if outcome.reason else list(outcome.notes)
        table.add_row(
            outcome.lab,
            outcome.student,
            f"{outcome.state}{' (as before)' if outcome.done else ''}",
            points,
            str(outcome.to_read or ""),
            f"{outcome.seconds:.1f}" if outcome.seconds else "",
            "; ".join(remarks),
        )
    screen.print(table)
    levels = {outcome.sandbox for outcome in outcomes if outcome.sandbox}
    if "none" in levels:
        from autograder.engine.sandbox import missing

        why = missing() or "as you asked"
        click.echo(f"WARNING: students' code ran without a sandbox: {why}", err=True)
    counts = ", ".join(f"{tally[state]} {state}" for state in sorted(tally))
    click.echo(f"{len(outcomes)} submissions: {counts or 'none'}; gradebook: {course.db_url}")


@click.command(epilog="Example: autograder feedback parameter_server")
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@click.option("--student", "students", multiple=True, metavar="ID", help="Only this one; repeat.")
@in_class
def feedback(course: Course, labs: tuple[str, ...], students: tuple[str, ...]) -> None:
    """Write one self-contained HTML page for each graded submission."""
    from autograder import feedback as pages

    written = pages.write_feedback(course, labs, students)
    for path in written:
        click.echo(path)
    if not written:
        click.echo("autograder: nothing is graded yet", err=True)
        sys.exit(1)


COMMANDS = (grade, feedback)
