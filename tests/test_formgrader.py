"""The stock formgrader opens on the class that we graded, and what a person enters there counts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_lab import make_course, save, solved

from autograder.authoring import write_source
from autograder.course import Course
from autograder.export import as_csv, grades
from autograder.grading import grade

ANSWER = "An empty list has a sum, but dividing it by its length fails."


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Course:
    made = make_course(tmp_path_factory.mktemp("formgrader") / "course")
    shutil.copy(root / "nbgrader_config.py", made.root)
    write_source(made, "two")
    for student, notebook in {"ada": solved(**{"written-why": ANSWER}), "bob": solved()}.items():
        save(notebook, made.submitted / student / "two" / "two.ipynb")
    grade(made, ("two",))
    return made


@pytest.fixture(scope="module")
def server(course: Course) -> Iterator[str]:
    """The address of a Jupyter server with nbgrader's formgrader in the course's folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--IdentityProvider.token=",
            "--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': True}",
        ],
        cwd=course.root,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/formgrader/api/assignments", timeout=30)
                break
            except OSError:
                if process.poll() is not None:
                    pytest.fail("the Jupyter server ended")
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.mark.browser
def test_a_manual_grade_and_comment(course: Course, server: str) -> None:
    from nbgrader.api import Gradebook
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{server}/formgrader/gradebook/two/two")
        expect(page.locator("#main-table tr")).to_have_count(2, timeout=60_000)
        with Gradebook(course.db_url) as book:
            submission = book.find_submission_notebook("two", "two", "ada").id
        page.goto(f"{server}/formgrader/submissions/{submission}")
        expect(page.get_by_text(ANSWER)).to_be_visible()
        score = page.locator('input.score[id="written-why"]')
        with page.expect_response(lambda response: "/api/grade/" in response.url):
            score.fill("8")
            score.dispatch_event("change")
        comment = page.locator('textarea[id="written-why-comment"]')
        with page.expect_response(lambda response: "/api/comment/" in response.url):
            comment.fill("Say what the sum is.")
            comment.dispatch_event("change")
        browser.close()
    with Gradebook(course.db_url) as book:
        assert book.find_grade("written-why", "two", "two", "ada").manual_score == 8
        comments = book.find_submission_notebook("two", "two", "ada").comments
        assert "Say what the sum is." in [comment.manual_comment for comment in comments]
    assert "ada,two,98,100,,0,graded" in as_csv(grades(course, ["two"])).splitlines()
    again = {outcome.student: outcome.score for outcome in grade(course, ("two",), force=True)}
    assert again == {"ada": 90, "bob": 90}
    with Gradebook(course.db_url) as book:
        assert book.find_submission("two", "ada").score == 98
