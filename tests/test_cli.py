"""The command line starts quickly, explains itself, and says what is wrong in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autograder import __version__
from autograder.cli import cli
from autograder.course import open_course

LIGHT = "nbgrader", "nbformat", "jupytext", "IPython", "numpy", "torch", "yaml", "sqlalchemy"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autograder", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_starting_loads_nothing_heavy() -> None:
    code = f"import sys, autograder.cli; print([m for m in {LIGHT!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_help_lists_every_command_under_its_users(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help").stdout
    for audience in ("Students:", "Instructors:", "Authors:"):
        assert audience in shown
    for name in cli.commands:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, name, "--help")
    assert done.returncode == 0
    assert "Example: autograder" in done.stdout


def test_the_version_needs_no_installation(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.split() == ["autograder,", "version", __version__]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("no-such-command",), 2),
        (("check",), 2),
        (("check", "none.ipynb"), 2),
        (("release",), 2),
        (("collect", "none.zip"), 2),
        (("collect", "none.zip", "--course", "none"), 2),
        (("progress", "--no-such-option"), 2),
    ],
)
def test_bad_usage_is_one_line(tmp_path: Path, arguments: tuple[str, ...], status: int) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("autograder: ")


def test_the_course_is_found_from_within(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "labs" / "parameter_server")
    assert open_course().root == root
