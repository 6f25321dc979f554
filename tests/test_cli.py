"""The command line starts quickly, explains itself, and says what is wrong in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_lab import make_course, save, solved

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


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "arguments",
    [
        ["bundle", "-o", "course.zip"],
        ["collect", "inbox"],
        ["collect", "inbox", "--class", "elsewhere/term"],
    ],
)
def test_a_read_only_course_costs_one_line_and_status_3(
    tmp_path: Path, root: Path, arguments: list[str]
) -> None:
    course = make_course(tmp_path / "course")
    (course.root / "requirements").mkdir()
    (course.root / "requirements" / "student.in").touch()
    (course.root / "LICENSE").touch()
    save(solved(), course.root / "inbox" / "ada_two.ipynb")
    box = ["bwrap", "--dev-bind", "/", "/"]
    box += ["--ro-bind", str(course.root), str(course.root), "--chdir", str(course.root)]
    command = [sys.executable, "-m", "autograder", *arguments]
    done = subprocess.run(
        [*box, "--setenv", "PYTHONPATH", str(root), *command], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "Read-only file system" in done.stderr


def test_an_interrupted_check_says_so_and_leaves_nothing_running(tmp_path: Path) -> None:
    course = make_course(tmp_path / "course")
    path = save(solved(total="while True: pass"), course.root / "mine.ipynb")
    process = subprocess.Popen(
        [sys.executable, "-m", "autograder", "check", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background ignores interrupts, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    started: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while not started and time.monotonic() < deadline:
        started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.strip().startswith("autograder: interrupted; what was finished is kept")
    assert started
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
