"""What the commands share: the options that name the course and the class, and the console."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autograder.course import open_course

Folder = click.Path(path_type=Path, file_okay=False)


def console() -> Console:
    """Standard output, as wide as the terminal or, in a pipe, as a table needs."""
    return Console(width=None if os.isatty(1) else 110, highlight=False)


def in_course(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--course`; the command gets the opened `Course` as its first argument."""

    @click.option(
        "--course",
        "root",
        type=Folder,
        metavar="DIR",
        help="The course's folder; by default the nearest one at or above the current folder.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, root: Path | None, **kwargs: Any) -> Any:
        return command(open_course(root), *args, **kwargs)

    return wrapped


def in_class(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--course` and `--class`; the command gets the opened `Course` as its first argument."""

    @click.option(
        "--course",
        "root",
        type=Folder,
        metavar="DIR",
        help="The course's folder; by default the nearest one at or above the current folder.",
    )
    @click.option(
        "--class",
        "class_dir",
        type=Folder,
        metavar="DIR",
        help="Where this term's submissions and grades lie; by default class/ in the course.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, root: Path | None, class_dir: Path | None, **kwargs: Any) -> Any:
        return command(open_course(root, class_dir), *args, **kwargs)

    return wrapped
