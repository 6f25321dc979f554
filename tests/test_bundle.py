"""The bundle is all that a student needs, works on its own, and gives nothing away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
from small_lab import cell_of, code, make_course, solved

from autograder import bundle as bundling
from autograder.bundle import bundle, student_modules
from autograder.course import Course, CourseError

FORBIDDEN = ("nbgrader", "jupytext", "torch", "nbformat", "yaml", "sqlalchemy", "nbconvert")
AUTHORS_TOOLS = ("nbgrader", "jupytext", "sqlalchemy", "distributed", "nh3")
"""What no dependency of the bundle brings along."""
BLOCKER = """\
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {forbidden!r}:
            raise ModuleNotFoundError(name + " is not installed on a student's machine")

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def course(tmp_path: Path, root: Path) -> Course:
    made = make_course(tmp_path / "course")
    (made.root / "requirements").mkdir()
    (made.root / "requirements" / "student.in").write_bytes(
        (root / "requirements" / "student.in").read_bytes()
    )
    (made.root / "LICENSE").write_text("MIT")
    handout = made.handout("two")
    handout.mkdir()
    (handout / "data.csv").write_text("1,2\n")
    return made


def make_python(folder: Path, forbidden: tuple[str, ...]) -> Path:
    """A Python that sees the installed packages, but not this repository nor what is forbidden."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "block.py").write_text(BLOCKER.format(forbidden=forbidden))
    # A path in a .pth file is searched, and the .pth files in it, the repository's own, are not.
    (site / "packages.pth").write_text(f"import block\n{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a student: without this repository, nbgrader, PyTorch and the like."""
    return make_python(tmp_path_factory.mktemp("laptop"), FORBIDDEN)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The same with JupyterLab, whose own files lie where pip puts them."""
    python = make_python(tmp_path / "desk", AUTHORS_TOOLS)
    share = tmp_path / "desk" / "share"
    share.mkdir()
    (share / "jupyter").symlink_to(Path(sys.prefix) / "share" / "jupyter")
    return python


def unpacked(course: Course, folder: Path) -> Path:
    bundle(course, ["two"], folder / "course.zip")
    zipfile.ZipFile(folder / "course.zip").extractall(folder)
    return folder / "mlsys-course"


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JPY"))}
    return subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_it_holds_what_a_student_needs_and_nothing_else(course: Course, tmp_path: Path) -> None:
    members = bundle(course, ["two"], tmp_path / "course.zip")
    names = {name.removeprefix("mlsys-course/") for name in members}
    assert {name for name in names if not name.startswith("autograder/")} == {
        ".released/two/data.csv",
        ".released/two/two.ipynb",
        "LICENSE",
        "README.md",
        "labs/two/data.csv",
        "labs/two/two.ipynb",
        "pyproject.toml",
        "requirements.txt",
    }
    assert {"autograder/check.py", "autograder/labkit/workers.py"} <= names
    assert not names & {f"autograder/{name}.py" for name in bundling.AUTHORS_ONLY}


def test_equal_content_gives_equal_bytes(course: Course, tmp_path: Path) -> None:
    bundle(course, ["two"], tmp_path / "a.zip")
    (course.released_notebook("two")).touch()
    bundle(course, ["two"], tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_readme_fits_on_a_screen(course: Course, tmp_path: Path) -> None:
    readme = (unpacked(course, tmp_path) / "README.md").read_text()
    assert len(readme.splitlines()) <= 40
    assert "| `two` | Two tasks | 100 |" in readme


@pytest.mark.parametrize("place", ["labs/two/two.ipynb", "solutions/two/handout/tips.py"])
def test_no_bundle_is_written_with_a_secret_in_it(
    course: Course, tmp_path: Path, place: str
) -> None:
    secret = (
        "    running_sum_of_everything = 0\n"
        "    for one_value_of_the_list in values:\n"
        "        running_sum_of_everything += one_value_of_the_list\n"
    )
    path = course.root / place
    if path.suffix == ".ipynb":
        notebook = json.loads(path.read_text())
        cell_of(notebook, "mean")["source"] = "def total(values):\n" + secret
        secret = json.dumps(notebook)
    path.write_text(secret)
    with pytest.raises(CourseError, match=r"no bundle: labs/two/\S+: holds lines of task total"):
        bundle(course, ["two"], tmp_path / "course.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*.tmp"))


def test_a_lab_that_is_not_released_is_named(course: Course, tmp_path: Path) -> None:
    course.released_notebook("two").unlink()
    with pytest.raises(CourseError, match="not released yet: run autograder release two"):
        bundle(course, ["two"], tmp_path / "course.zip")


def test_a_target_that_cannot_be(course: Course, tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "none" / "course.zip"):
        with pytest.raises(CourseError, match="cannot be written"):
            bundle(course, ["two"], target)


def test_the_students_part_imports_nothing_of_the_authors() -> None:
    stems = {path.stem for path in student_modules()}
    assert not stems & set(bundling.AUTHORS_ONLY)


def test_it_works_where_the_repository_and_its_tools_are_not(
    course: Course, tmp_path: Path, laptop: Path
) -> None:
    folder = unpacked(course, tmp_path)
    notebook = folder / "labs/two/two.ipynb"
    blank = run(laptop, folder, "-m", "autograder", "check", str(notebook))
    assert (blank.returncode, blank.stderr) == (1, "")
    assert "Visible tests: 0 of 20 points." in blank.stdout
    renamed = solved(total="def totall(values):\n    return sum(values)")
    notebook.write_text(json.dumps(renamed))
    checked = run(laptop, folder, "-m", "autograder", "check", str(notebook))
    assert checked.returncode == 1
    assert "total is gone; was it renamed to totall?" in checked.stdout
    notebook.write_text(json.dumps(solved()))
    assert run(laptop, folder, "-m", "autograder", "check", "two").returncode == 0
    listed = run(laptop, folder, "-m", "autograder", "progress")
    assert "1 of 1 labs done; visible tests: 20 of 20 points." in listed.stdout
    commands = run(laptop, folder, "-m", "autograder", "--help").stdout
    assert "Students:" in commands and "Instructors:" not in commands
    imported = run(laptop, folder, "-c", "import autograder; print(autograder.__file__)")
    assert imported.stdout.strip() == str(folder / "autograder/__init__.py")


def test_doctor_looks_at_what_a_student_needs(course: Course, tmp_path: Path, laptop: Path) -> None:
    folder = unpacked(course, tmp_path)
    done = run(laptop, folder, "-m", "autograder", "doctor")
    assert "a first cell runs" in done.stdout
    assert "sandbox" not in done.stdout


def test_the_command(course: Course, tmp_path: Path) -> None:
    for target, status in [("course.zip", 0), ("none/course.zip", 2)]:
        done = subprocess.run(
            [sys.executable, "-m", "autograder", "bundle", "two", "-o", str(tmp_path / target)],
            cwd=course.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert len((done.stdout + done.stderr).splitlines()) == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def install(course: Course, folder: Path, python: Path) -> Path:
    """Unpack the bundle and install it as its README says; what pip would fetch is there."""
    place = unpacked(course, folder)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = run(python, place, "-m", "pip", "install", "--quiet", *options, "-e", ".")
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.browser
def test_a_lab_is_done_in_jupyterlab(course: Course, tmp_path: Path, desk: Path) -> None:
    """Installed, opened in a real JupyterLab, run: with only what is in the bundle."""
    from playwright.sync_api import expect, sync_playwright

    installed = install(course, tmp_path, desk)
    command = run(desk.with_name("autograder"), installed, "check", "labs/two/two.ipynb")
    assert "Visible tests: 0 of 20 points." in command.stdout, command.stderr
    notebook = solved()
    notebook["cells"].append(code("from autograder import check; check.here()"))
    (installed / "labs/two/two.ipynb").write_text(json.dumps(notebook))
    port = free_port()
    open_to_all = ["--IdentityProvider.token=", "--LabApp.news_url=None"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JPY"))}
    environment |= {
        "HOME": str(installed.parent),
        "JUPYTER_CONFIG_DIR": str(installed / ".jupyter"),
    }
    server = subprocess.Popen(
        [
            desk,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            *open_to_all,
        ],
        cwd=installed,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page()
            page.set_default_timeout(90_000)
            wait_for(f"http://127.0.0.1:{port}/api", server)
            page.goto(f"http://127.0.0.1:{port}/lab/tree/labs/two/two.ipynb?reset")
            # A kernel that is slow to start makes JupyterLab ask for one.
            chosen = page.get_by_role("button", name="Select Kernel")
            page.add_locator_handler(chosen, lambda: chosen.click())
            ready = page.get_by_text("Python 3 (ipykernel) | Idle")
            expect(ready).to_be_visible(timeout=90_000)
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            shown = page.locator(".jp-OutputArea-output", has_text="Visible tests:")
            expect(shown).to_contain_text("Visible tests: 20 of 20 points.", timeout=90_000)
            expect(page.locator(".jp-OutputArea-output[data-mime-type*=stderr]")).to_have_count(0)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=30)
            return
        assert server.poll() is None, "JupyterLab ended"
        time.sleep(0.2)
    raise AssertionError("JupyterLab does not answer")
