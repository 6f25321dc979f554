"""Doctor says of everything whether it works, and how to mend what does not."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from small_lab import make_course

from autograder import doctor
from autograder.course import Course
from autograder.doctor import Finding, examine


@pytest.fixture
def course(tmp_path: Path) -> Course:
    made = make_course(tmp_path / "course")
    (made.root / "requirements.txt").write_text("click>=8  # the command line\n")
    return made


def test_every_check_gives_a_finding(course: Course) -> None:
    findings = list(examine(course))
    assert [finding.what for finding in findings] == [
        "python",
        "packages",
        "kernel",
        "notebook",
        "memory",
        "loopback",
        "disk",
        "sandbox",
        "chromium",
        "class folder",
        "gradebook",
    ]
    assert not [finding for finding in findings if finding.fatal]
    assert all(finding.mend for finding in findings if finding.state == "missing")


def test_a_check_that_fails_itself_is_a_finding(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no loopback here")

    monkeypatch.setattr(socket, "create_server", broken)
    found = {finding.what: finding for finding in examine(course)}
    assert found["loopback"].fatal
    assert found["loopback"].found == "OSError: no loopback here"


@pytest.mark.parametrize(
    ("lines", "state", "said"),
    [
        ("click>=8\nrich", "works", "2 as in requirements.txt"),
        (
            "no-such-package==1.0 \\\n    --hash=sha256:00",
            "missing",
            "not installed: no-such-package",
        ),
        ("click==0.1", "differs", "instead of ==0.1"),
        ('no-such-package==1.0; sys_platform == "win32"', "works", "0 as in"),
        ("???", "differs", "cannot be read"),
    ],
)
def test_packages(course: Course, lines: str, state: str, said: str) -> None:
    (course.root / "requirements.txt").write_text(lines)
    finding = doctor.packages(course)
    assert finding.state == state
    assert said in finding.found


def test_missing_programs_are_optional_and_come_with_a_command(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for finding, package in [
        (doctor.sandbox(course), "bubblewrap"),
        (doctor.chromium(course), "chromium"),
    ]:
        assert (finding.state, finding.fatal) == ("missing", False)
        assert finding.mend == f"apt-get install {package}"


@pytest.mark.parametrize(
    ("free", "state", "fatal"),
    [(10**7, "missing", True), (10**9, "differs", False), (10**11, "works", False)],
)
def test_disk(
    course: Course, monkeypatch: pytest.MonkeyPatch, free: int, state: str, fatal: bool
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    finding = doctor.disk(course)
    assert (finding.state, finding.fatal) == (state, fatal)


def test_a_class_that_cannot_be_written_is_fatal(course: Course) -> None:
    (course.root / "file").write_text("in the way")
    finding = doctor.class_folder(Course(course.root, course.root / "file" / "term"))
    assert finding.fatal


def test_gradebooks(course: Course) -> None:
    assert doctor.gradebook(course).state == "works"
    course.class_dir.mkdir()
    with sqlite3.connect(course.gradebook) as connection:
        connection.execute("CREATE TABLE student (id TEXT)")
    assert doctor.gradebook(course).found.endswith("0 students")
    course.gradebook.write_bytes(b"not a database at all" * 100)
    finding = doctor.gradebook(course)
    assert finding.fatal and "not a database" in finding.found


@pytest.mark.parametrize(("state", "status"), [("missing", 3), ("differs", 0)])
def test_the_status_of_the_command(
    course: Course, monkeypatch: pytest.MonkeyPatch, state: str, status: int
) -> None:
    from click.testing import CliRunner

    from autograder.cli import cli

    monkeypatch.setattr(doctor, "examine", lambda _: [Finding("python", state, "3.9", "upgrade")])
    done = CliRunner().invoke(cli, ["doctor", "--course", str(course.root)])
    assert done.exit_code == status
    assert "upgrade" in done.output


def test_the_command_on_this_machine(course: Course) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "doctor"],
        cwd=course.root,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gradebook" in done.stdout
