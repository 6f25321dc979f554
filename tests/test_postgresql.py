"""The gradebook may be on a PostgreSQL server: nbgrader's `db_url`, the same grades."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from small_lab import blank, make_course, save, solved

from autograder.course import Course, open_course
from autograder.engine.trials import Limits
from autograder.feedback import write_feedback
from autograder.grading import grade

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = pytest.mark.skipif(
    not BINARIES, reason="PostgreSQL is missing; to run this test: apt-get install postgresql"
)


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database on a server of our own."""
    folder = tmp_path_factory.mktemp("postgresql")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    run_as: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        run_as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = BINARIES[-1]
    data = folder / "data"

    def call(*words: str) -> None:
        done = subprocess.run([*run_as, *words], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    call(str(program / "initdb"), "-D", str(data), "-A", "trust", "-U", "course", "-N")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    control = [str(program / "pg_ctl"), "-D", str(data), "-w"]
    call(*control, "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://course@127.0.0.1:{port}/postgres"
    finally:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(60)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return open_course(make_course(tmp_path / "course").root, tmp_path / "class")


def test_grades_go_to_the_server(
    course: Course, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOGRADER_DB", database)
    save(solved(), course.submitted / "ada" / "two" / "two.ipynb")
    save(blank(), course.submitted / "bob" / "two" / "two.ipynb")
    limits = Limits(cell_seconds=10.0)
    outcomes = grade(course, ["two"], limits=limits)
    assert [(outcome.student, outcome.score) for outcome in outcomes] == [("ada", 90), ("bob", 0)]
    assert not course.gradebook.exists()
    assert all(outcome.done for outcome in grade(course, ["two"], limits=limits))
    pages = write_feedback(course)
    assert "90 of 100 points" in pages[0].read_text()
