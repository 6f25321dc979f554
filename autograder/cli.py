"""The command line: `autograder COMMAND`, also `python -m autograder COMMAND`.

Exit status: 0 all is well, 1 a student's work or a lab falls short, 2 bad usage or input, 3 the
machinery failed, 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from autograder.commands import author, instructor, student
from autograder.course import CourseError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mlsys-course", prog_name="autograder")
def cli() -> None:
    """Make, check and grade the labs of the course.

    \b
    students      check
    instructors   bundle, collect, grade, feedback, export, doctor
    authors       release, verify

    Exit status: 0 all is well, 1 a student's work or a lab falls short, 2 bad usage or input,
    3 the machinery failed.
    """


for module in (student, instructor, author):
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the command line; what a person can mend is one line on stderr, without a traceback."""
    try:
        cli.main(standalone_mode=False)
    except CourseError as error:
        sys.exit(_complain(str(error), error.exit_code))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        sys.exit(_complain(error.format_message() + where, 2))
    except click.ClickException as error:
        sys.exit(_complain(error.format_message(), 2))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_complain("interrupted; what was finished is kept, run it again to go on", 130))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{place}{error.strerror or error}", 3))


def _complain(message: str, status: int) -> int:
    click.echo(f"autograder: {message}", err=True)
    return status
