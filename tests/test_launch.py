"""A lab opens in Colab and Binder once the repository is public, and nothing changes before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_lab import RIGHT, cell_of, make_course, save, solved

from autograder.authoring import release
from autograder.check import check
from autograder.course import Course, CourseError, open_course
from autograder.grading import grade
from autograder.launch import SETUP, links
from autograder.settings import Settings, read_settings

ADDRESS = 'repository = "https://github.com/owner/course.git"\nbranch = "spring/2026"\n'
ON_COLAB = """\
import sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
exec(open(sys.argv[1]).read())
exec(open(sys.argv[1]).read())  # a second run changes nothing
import os, subprocess
import marker
print(marker.__file__, sorted(os.listdir()))
print(subprocess.run([sys.executable, "-c", "import marker"]).returncode)
"""


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return make_course(tmp_path / "course")


def released(course: Course) -> dict[str, object]:
    return json.loads(course.released_notebook("two").read_text(encoding="utf-8"))


def test_without_a_repository_there_are_no_links_and_no_cell(course: Course) -> None:
    assert links(read_settings(course), "two") == {}
    release(course, ["two"])
    assert released(course)["cells"][0]["id"] != "setup"  # type: ignore[index]


def test_links_lead_to_the_released_notebook() -> None:
    found = links(Settings(repository="owner/course", branch="main"), "two")
    assert found == {
        "Colab": "https://colab.research.google.com/github/owner/course/blob/main/labs/two/two.ipynb",
        "Binder": "https://mybinder.org/v2/gh/owner/course/main"
        "?urlpath=lab%2Ftree%2Flabs%2Ftwo%2Ftwo.ipynb",
    }


def test_the_file_names_the_repository(course: Course) -> None:
    (course.root / "course.toml").write_text(ADDRESS)
    settings = read_settings(course)
    assert (settings.repository, settings.branch) == ("owner/course", "spring/2026")
    assert "/gh/owner/course/spring%2F2026?" in links(settings, "two")["Binder"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('repository = "owner/course"', "course.toml: repository: 'owner/course' is no address"),
        ("repository = 5", "course.toml: repository: 5 is not a text in quotes"),
        ("branch = '\"; rm -rf /'", "course.toml: branch: "),
    ],
)
def test_what_is_no_address_is_one_line(course: Course, text: str, complaint: str) -> None:
    (course.root / "course.toml").write_text(text)
    with pytest.raises(CourseError) as caught:
        read_settings(course)
    assert complaint in str(caught.value)


def test_the_setup_cell_costs_nothing_elsewhere(course: Course, tmp_path: Path) -> None:
    """It is released, and neither the check nor the grader minds it."""
    (course.root / "course.toml").write_text(ADDRESS)
    assert release(course, ["two"]) == ["two"]
    notebook = released(course)
    setup = notebook["cells"][0]  # type: ignore[index]
    assert setup["id"] == "setup"
    assert "https://github.com/owner/course" in "".join(setup["source"])
    for name, source in RIGHT.items():
        cell_of(notebook, name)["source"] = source
    report = check(save(notebook, tmp_path / "two.ipynb"), course)
    assert (report.notes, report.sound) == ((), True)
    graded = open_course(course.root, tmp_path / "class")
    save(notebook, graded.submitted / "ada" / "two" / "two.ipynb")
    save(solved(), graded.submitted / "bob" / "two" / "two.ipynb")
    ada, bob = grade(graded, ["two"])
    assert (ada.score, ada.notes) == (bob.score, bob.notes) == (90.0, ())


def test_the_setup_cell_fetches_the_course(tmp_path: Path) -> None:
    """As on Colab, with a repository on this machine in place of GitHub's."""
    remote, content = tmp_path / "remote", tmp_path / "content"
    handout = remote / "labs" / "two" / "data.csv"
    handout.parent.mkdir(parents=True)
    handout.write_text("1,2\n")
    (remote / "labs" / "two" / "two.ipynb").write_text("{}")
    (remote / "marker.py").touch()
    content.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.edu", "-C", str(remote)]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *command], check=True)
    setup = SETUP.format(branch="main", address=remote.as_uri(), lab="two")
    (tmp_path / "setup.py").write_text(setup)
    (tmp_path / "colab.py").write_text(ON_COLAB)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "colab.py"), str(tmp_path / "setup.py")],
        cwd=content,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    where, status = done.stdout.splitlines()
    assert where == f"{content}/mlsys-course/marker.py ['data.csv', 'mlsys-course']"
    assert status == "0"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, str(tmp_path / "setup.py")], cwd=elsewhere, check=True)
    assert list(elsewhere.iterdir()) == []


def test_the_site_has_a_place_for_the_links(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(root / "book" / "_ext"))
    from coursebook import launchers

    course = make_course(tmp_path / "course")
    assert launchers.line(course.root, "two") == []
    (course.root / "course.toml").write_text(ADDRESS)
    (line,) = launchers.line(course.root, "two")
    assert line.astext() == "Open it in the browser: Colab or Binder"
