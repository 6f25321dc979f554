"""Show a student what `check` found: a table, notes, and what remains."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autograder.check import Report, Task

STYLES = {"passes": "green", "answered": "green", "blank": "dim", "deleted": "yellow"}
MESSAGE_LINES = 12


def show(report: Report, *, hints: int = 1, screen: Console | None = None) -> None:
    """Print the table of a report, with the first `hints` hints of each task that fails."""
    screen = screen or Console(
        width=None if os.isatty(1) else 110, highlight=False, force_jupyter=False
    )
    table = Table(
        "task", "points", "hidden", "state", "what to do", show_lines=bool(report.failing)
    )
    table.columns[1].justify = table.columns[2].justify = "right"
    for task in report.tasks:
        table.add_row(
            task.name,
            f"{task.points or task.by_hand:g}",
            f"{task.hidden:g}" if task.hidden else "",
            Text(task.state, style=STYLES.get(task.state, "red")),
            _what(task, hints),
        )
    screen.print(Text(f"{report.title} ({report.path.name})", style="bold"))
    screen.print(table)
    for note in report.notes:
        screen.print(Text(f"Note: {note}"))
    screen.print(Text(_summary(report)))


def _what(task: Task, hints: int) -> Text:
    lines = task.what.splitlines()
    if len(lines) > MESSAGE_LINES:
        lines = [*lines[:MESSAGE_LINES], f"[{len(lines) - MESSAGE_LINES} more lines]"]
    text = Text("\n".join(lines))
    if task.state in ("passes", "answered"):
        return text
    for number, hint in enumerate(task.hints[:hints], 1):
        text.append(f"\nHint {number} of {len(task.hints)}: ", style="bold")
        text.append(" ".join(hint.split()))
    return text


def _summary(report: Report) -> str:
    tested = [task for task in report.tasks if task.points]
    got = sum(task.points for task in tested if task.state == "passes")
    parts = [f"Visible tests: {got:g} of {sum(task.points for task in tested):g} points."]
    if hidden := sum(task.hidden for task in report.tasks):
        parts.append(f"Hidden tests give {hidden:g} more when your lab is graded.")
    if by_hand := sum(task.by_hand for task in report.tasks):
        missing = sum(task.by_hand > 0 and task.state != "answered" for task in report.tasks)
        parts.append(
            f"Written answers: {by_hand:g}, read by a person"
            + (f"; {missing} not answered yet." if missing else ".")
        )
    return " ".join(parts)
