"""The instructor's commands that need no grading engine: `bundle`, `collect`, `export`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from autograder.commands.common import console, in_class, in_course
from autograder.course import Course

AUDIENCE = "Instructors"
File = click.Path(path_type=Path, dir_okay=False)
STYLES = {"taken": "green", "replaced": "green", "refused": "red", "skipped": "dim"}


@click.command(epilog="Example: autograder collect ~/Downloads/submissions.zip --roster roster.csv")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--roster", type=File, metavar="CSV", help="Who is who: a CSV with a column id.")
@in_class
def collect(course: Course, source: Path, roster: Path | None) -> None:
    """Take in submissions from a folder, a zip or a platform's download.

    SOURCE may be a folder or a zip of notebooks (student/lab.ipynb, student_lab.ipynb, ...), what
    Canvas, Moodle or Gradescope let you download, or the inbound folder of nbgrader's exchange;
    zips within are opened. Running it again changes nothing; a later submission replaces an
    earlier one, never the other way round. Exits 1 when something was refused.
    """
    from autograder.collect import collect as take_in
    from autograder.roster import read_roster

    rows = take_in(course, source, read_roster(roster) if roster else None)
    table = Table("student", "lab", "received (UTC)", "by", "", "file", "why")
    for row in rows:
        table.add_row(
            Text(row.student),
            row.lab,
            f"{row.received:%Y-%m-%d %H:%M:%S}" if row.received else "",
            row.clock,
            Text(row.verdict, style=STYLES[row.verdict]),
            Text(row.origin),
            Text(row.reason),
        )
    counts = Counter[str](row.verdict for row in rows)
    if rows:
        console().print(table)
    click.echo(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES))
    if counts["refused"]:
        sys.exit(1)


@click.command(epilog="Example: autograder bundle -o course.zip")
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@click.option("-o", "--output", "target", type=File, required=True, metavar="FILE.zip")
@in_course
def bundle(course: Course, labs: tuple[str, ...], target: Path) -> None:
    """Pack what students need and nothing else: notebooks, handouts, the harness.

    No zip is written when a line of a solution or of a hidden test would leave with it. The same
    labs give the same bytes.
    """
    from autograder.bundle import bundle as pack

    names = course.select(labs)
    members = pack(course, names, target)
    size = target.stat().st_size / 1000
    click.echo(f"{target}: {len(names)} labs, {len(members)} files, {size:.0f} kB")


@click.command(
    epilog="Example: autograder export --format canvas --roster roster.csv -o grades.csv"
)
@click.argument("labs", nargs=-1, metavar="[LAB ...]")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["csv", "canvas", "moodle", "gradescope"]),
    default="csv",
    show_default=True,
    help="Plain, as Canvas or Moodle import it, or in the columns of Gradescope's own download.",
)
@click.option(
    "--by",
    type=click.Choice(["lab", "task"]),
    default="lab",
    show_default=True,
    help="Points of each lab, or of each of its tasks.",
)
@click.option("--roster", type=File, metavar="CSV", help="Who is who: a CSV with a column id.")
@click.option("-o", "--output", "target", type=File, metavar="FILE", help="Instead of the screen.")
@in_class
def export(
    course: Course,
    labs: tuple[str, ...],
    layout: str,
    by: str,
    roster: Path | None,
    target: Path | None,
) -> None:
    """Write the grades as CSV, from nbgrader's gradebook.

    The score counts manual points, and a penalty for lateness is taken off it; late is in hours.
    What is not graded, or still to be read by a person, says so in the column state. The platforms'
    formats leave out students without a score, and need a roster for the platform's own ids.
    """
    from autograder import export as grades
    from autograder.roster import Roster, read_roster

    who = read_roster(roster) if roster else None
    found = grades.grades(course, course.select(labs), who)
    if layout == "csv":
        text = grades.as_csv(found, by_task=by == "task")
    else:
        text = grades.for_platform(
            layout,  # type: ignore[arg-type]
            found,
            who or Roster({}),
            by_task=by == "task",
        )
    open_ended = sum(grade.state not in ("graded", "not handed in") for grade in found)
    if layout != "csv" and open_ended:
        click.echo(f"{open_ended} grades are not final: see export --format csv", err=True)
    if target is None:
        click.echo(text, nl=False)
        return
    grades.write_csv(text, target)
    states = Counter(grade.state for grade in found)
    click.echo(f"{target}: " + ", ".join(f"{states[state]} {state}" for state in sorted(states)))


COMMANDS = (bundle, collect, export)
