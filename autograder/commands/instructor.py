"""The instructor's commands."""

from __future__ import annotations

import click

AUDIENCE = "Instructors"
COMMANDS: tuple[click.Command, ...] = ()
