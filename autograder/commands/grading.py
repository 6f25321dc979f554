"""The commands that grade and tell what came of it: `grade`, `regrade`, `feedback`, `report`."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autograder.commands.common import console, in_class
from autograder.course import Course

if TYPE_CHECKING:
    from autograder.grading import Outcome
    from autograder.regrade import Change

AUDIENCE = "Instructors"


def running_notebooks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that runs notebooks: which, how many at a time, how far."""

    @click.argument("labs", nargs=-1, metavar="[LAB ...]")
    @click.option("--student", "students", multiple=True, metavar="ID", help="Only this; repeat.")
    @click.option("--jobs", default=os.cpu_count() or 1, metavar="N", help="At a time (cores).")
    @click.option(
        "--sandbox",
        type=click.Choice(["auto", "required", "none"]),
        default="auto",
        show_default=True,
        help="Isolation of the students' code: what the machine has, or fail without, or none.",
    )
    @click.option("--cell-seconds", default=30.0, metavar="S", help="Longest of one cell (30).")
    @click.option("--total-seconds", default=300.0, metavar="S", help="Longest of all (300).")
    @functools.wraps(command)
    def wrapped(
        *args: Any, jobs: int, cell_seconds: float, total_seconds: float, **kwargs: Any
    ) -> Any:
        from autograder.engine.trials import Limits

        if jobs < 1:
            raise click.BadParameter("at least 1", param_hint="--jobs")
        limits = Limits(cell_seconds=cell_seconds, total_seconds=total_seconds)
        return command(*args, jobs=jobs, limits=limits, **kwargs)

    return wrapped


def _bars(screen: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[states]}"),
        TimeRemainingColumn(),
        console=screen,
        disable=not screen.is_terminal,
    )


@click.command(epilog="Example: autograder grade parameter_server --jobs 2")
@click.option("--force", is_flag=True, help="Grade again what has not changed.")
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
@running_notebooks
@in_class
def grade(course: Course, labs: tuple[str, ...], engine: str, **options: Any) -> None:
    """Grade what was handed in and is new or changed, into nbgrader's gradebook.

    Safe to interrupt and to run again: what was graded is kept. Penalties for lateness follow
    class.toml and course.toml. Exits 0 when every submission was taken in, also those that failed
    to be a notebook: the table tells them. Exits 3 when the machinery failed.
    """
    from autograder import grading

    screen = console()
    tally: Counter[str] = Counter()
    with _bars(screen) as progress:
        bars: dict[str, int] = {}
        began = time.monotonic()

        def begin(lab: str, count: int) -> None:
            bars[lab] = progress.add_task(lab, total=count, states="")

        def done(outcome: Outcome) -> None:
            tally["as before" if outcome.done else outcome.state] += 1
            fresh = sum(tally.values()) - tally["as before"]
            states = ", ".join(f"{count} {state}" for state, count in sorted(tally.items()))
            states += f"; {60 * fresh / (time.monotonic() - began):.0f} a minute"
            progress.update(bars[outcome.lab], advance=1, states=states)  # type: ignore[arg-type]

        outcomes = grading.grade(
            course, labs, kernel=engine == "jupyter", on_start=begin, on_done=done, **options
        )
    screen.print(_graded(outcomes))
    levels = {outcome.sandbox for outcome in outcomes if outcome.sandbox}
    if "none" in levels:
        from autograder.engine.sandbox import missing

        why = missing() or "as you asked"
        click.echo(f"WARNING: students' code ran without a sandbox: {why}", err=True)
    counts = ", ".join(f"{tally[state]} {state}" for state in sorted(tally))
    click.echo(f"{len(outcomes)} submissions: {counts or 'none'}; gradebook: {course.db_url}")


def _graded(outcomes: list[Outcome]) -> Table:
    """A row for each submission; lateness has a column when somebody is late."""
    late = any(outcome.hours_late for outcome in outcomes)
    head = ["lab", "student", "state", "points", *(["late"] if late else [])]
    table = Table(*head, "to read", "seconds", "remarks")
    for outcome in outcomes:
        points = "" if outcome.score is None else f"{outcome.score:g} / {outcome.max_score:g}"
        remarks = [outcome.reason, *outcome.notes] if outcome.reason else list(outcome.notes)
        lateness = f"{outcome.hours_late:.1f} h" if outcome.hours_late else ""
        if outcome.penalty:
            lateness += f", -{outcome.penalty:.10g}"
        table.add_row(
            outcome.lab,
            outcome.student,
            f"{outcome.state}{' (as before)' if outcome.done else ''}",
            points,
            *([lateness] if late else []),
            str(outcome.to_read or ""),
            f"{outcome.seconds:.1f}" if outcome.seconds else "",
            "; ".join(remarks),
        )
    return table


@click.command(epilog="Example: autograder regrade parameter_server --preview")
@click.option("--preview", is_flag=True, help="Write nothing: only show what would change.")
@running_notebooks
@in_class
def regrade(course: Course, labs: tuple[str, ...], preview: bool, **options: Any) -> None:
    """Grade again what a mended test touches, and show who gains and who loses.

    With --preview neither the gradebook nor any student's file is written to; what had to be run is
    kept, so that regrade without it has nothing left to run. Points are those before a penalty for
    lateness, a person's included.
    """
    from autograder import grading
    from autograder import regrade as regrading

    screen = console()
    with _bars(screen) as progress:
        bars: dict[str, int] = {}

        def begin(lab: str, count: int) -> None:
            bars[lab] = progress.add_task(lab, total=count, states="")

        def done(lab: str) -> None:
            progress.update(bars[lab], advance=1)  # type: ignore[arg-type]

        changes = regrading.preview(course, labs, on_start=begin, on_done=done, **options)
    differing = [change for change in changes if change.differs]
    if differing:
        screen.print(_changed(differing))
    gaining = sum(change.gain > 0 for change in differing)
    losing = sum(change.gain < 0 for change in differing)
    said = f"{gaining} gain, {losing} lose, {len(changes) - gaining - losing} keep their points"
    if preview:
        click.echo(f"{said}; nothing is written: autograder regrade writes it")
        return
    grading.grade(course, labs, **options)
    click.echo(f"{said}; gradebook: {course.db_url}")


def _changed(changes: list[Change]) -> Table:
    table = Table("lab", "student", "before", "after", "change", "tasks")
    for column in table.columns[2:5]:
        column.justify = "right"
    for change in changes:
        tasks = [f"{name} {old:g} to {new:g}" for name, (old, new) in change.tasks.items()]
        table.add_row(
            change.lab,
            change.student,
            "none" if change.before is None else f"{change.before:g}",
            "none" if change.after is None else f"{change.after:g}",
            Text(f"{change.gain:+g}", style="green" if change.gain >= 0 else "red"),
            Text("; ".join([*tasks, *([change.remark] if change.remark else [])])),
        )
    return table


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


@click.command(epilog="Example: autograder report parameter_server")
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@in_class
def report(course: Course, labs: tuple[str, ...]) -> None:
    """Write one self-contained HTML page for each lab: how the class did, and what to look at.

    How scores are spread, how hard each task is and whether it tells strong work from weak, the
    most frequent failures, submissions that a person should look at, and solutions that are alike,
    side by side. The pages are for the instructor: they name students.
    """
    from autograder.report import write_reports

    written = write_reports(course, labs)
    for path in written:
        click.echo(path)
    if not written:
        click.echo("autograder: nothing is graded yet", err=True)
        sys.exit(1)


COMMANDS = (grade, regrade, feedback, report)
