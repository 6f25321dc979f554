"""The command line: `autograder COMMAND`, also `python -m autograder COMMAND`.

The commands are those of the modules in `autograder.commands`, whichever are there: a student's
bundle has only the student's.  Exit status: 0 all is well, 1 a student's work or a lab falls short,
2 bad usage or input, 3 the machinery failed, 130 interrupted.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import click

from autograder import __version__, commands
from autograder.course import CourseError

FIRST_SENTENCE = 200
"""Characters of a command's help, from which click takes the first sentence."""
AUDIENCES = ("Students", "Instructors", "Authors")


class Cli(click.Group):
    """A group whose help lists the commands by who uses them."""

    audience: dict[str, str]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for audience in AUDIENCES:
            rows = [
                (name, command.get_short_help_str(FIRST_SENTENCE))
                for name, command in self.commands.items()
                if self.audience[name] == audience
            ]
            if rows:
                with formatter.section(audience):
                    formatter.write_dl(rows)


@click.group(
    cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="autograder")
def cli() -> None:
    """Make, check and grade the labs of the course.

    `autograder COMMAND --help` explains a command. Exit status: 0 all is well, 1 a student's work
    or a lab falls short, 2 bad usage or input, 3 the machinery failed.
    """


cli.audience = {}
for found in pkgutil.iter_modules(commands.__path__):
    module = importlib.import_module(f"{commands.__name__}.{found.name}")
    for command in getattr(module, "COMMANDS", ()):
        cli.add_command(command)
        cli.audience[command.name] = module.AUDIENCE


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
