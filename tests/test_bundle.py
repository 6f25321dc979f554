"""The bundle is all that a student needs, works on its own, and gives nothing away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from small_lab import cell_of, make_course, solved

from autograder import bundle as bundling
from autograder.bundle import bundle, student_modules
from autograder.course import Course, CourseError

FORBIDDEN = ("nbgrader", "jupytext", "torch", "nbformat", "yaml", "sqlalchemy", "nbconvert")
BLOCKER = f"""\
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed on a student's machine")

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


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a student: without this repository, nbgrader, PyTorch and the like."""
    folder = tmp_path_factory.mktemp("laptop")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "block.py").write_text(BLOCKER)
    # A path in a .pth file is searched, and the .pth files in it, the repository's own, are not.
    (site / "packages.pth").write_text(f"import block\n{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "python"


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
