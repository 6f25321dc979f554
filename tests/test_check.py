"""A student learns what a notebook would get, and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from small_lab import blank, cell_of, code, index_of, make_course, save, solved

from autograder import check as checker
from autograder import notebooks
from autograder.check import Report, check
from autograder.course import Course, CourseError
from autograder.handed import Handed
from autograder.notebooks import checksum
from autograder.rebuild import rebuild


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return make_course(tmp_path / "course")


def checked(course: Course, notebook: dict[str, Any], only: str = "") -> Report:
    return check(save(notebook, course.root / "mine.ipynb"), course, only=only)


def states(report: Report) -> dict[str, str]:
    return {task.name: task.state for task in report.tasks}


def what(report: Report, task: str) -> str:
    return next(item.what for item in report.tasks if item.name == task)


def test_a_solved_notebook_passes(course: Course) -> None:
    report = checked(course, solved(**{"written-why": "Division by zero."}))
    assert states(report) == {"total": "passes", "mean": "passes", "why": "answered"}
    assert (report.sound, report.notes) == (True, ())


def test_points_and_hints_are_the_labs(course: Course) -> None:
    total, mean, why = checked(course, blank()).tasks
    assert (total.points, total.hidden, total.by_hand) == (10, 40, 0)
    assert (why.points, why.hidden, why.by_hand) == (0, 0, 10)
    assert total.hints[0] == "What is the total of an empty list?"
    assert len(total.hints) == 3
    assert mean.hints == ()


def test_the_blank_is_not_begun(course: Course) -> None:
    report = checked(course, blank())
    assert states(report) == {"total": "blank", "mean": "blank", "why": "blank"}
    assert not report.sound


def test_the_only_copy_is_checked_without_an_original(course: Course) -> None:
    notebook = blank()
    cell_of(notebook, "total")["source"] = "def total(values):\n    return sum(values)"
    notebook["cells"].insert(index_of(notebook, "test-mean"), cell_of(notebook, "test-mean"))
    report = check(save(notebook, course.released_notebook("two")), course)
    assert states(report) == {"total": "passes", "mean": "blank", "why": "blank"}
    assert report.tasks[1].points == 10
    assert report.notes == ("cell test-mean stands in the notebook 2 times; once counts",)


def test_a_failing_test_says_it_in_its_own_words(course: Course) -> None:
    report = checked(course, solved(total="def total(values):\n    return len(values)"))
    assert states(report)["total"] == "fails"
    assert what(report, "total") == "AssertionError: total([1, 2]) is 3, got 2"
    assert states(report)["mean"] == "passes"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def total(values)\n    return 0", "its own cell does not run: SyntaxError"),
        ("import no_such_module", "its own cell does not run: ModuleNotFoundError"),
        ("import os\nos._exit(3)", "its own cell does not run: the cell ended its process"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed its process (SIGKILL)"),
    ],
)
def test_a_cell_that_does_not_run_is_named(course: Course, source: str, message: str) -> None:
    report = checked(course, solved(total=source))
    assert states(report)["total"] == "raises"
    assert message in what(report, "total")


def test_what_a_dead_notebook_did_not_reach_is_said(course: Course) -> None:
    report = checked(course, solved(total="import os\nos._exit(3)"))
    assert states(report)["mean"] == "not reached"
    assert "cell total came before it" in what(report, "mean")


def test_an_endless_loop_is_stopped(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(cells: Any, **options: Any) -> Any:
        return run(cells, cell_seconds=0.5, **options)

    run = checker.run
    monkeypatch.setattr(checker, "run", quick)
    report = checked(course, solved(total="def total(values):\n    while True: pass"))
    assert states(report) == {"total": "raises", "mean": "passes", "why": "blank"}
    assert "stopped after 0.5 s" in what(report, "total")


def test_an_earlier_error_hides_the_rest(course: Course) -> None:
    notebook = solved(total="def total(values):\n    return add(values)")
    notebook["cells"].insert(
        index_of(notebook, "total"), code("1 / 0\ndef add(values):\n    return sum(values)")
    )
    report = checked(course, notebook)
    assert "An earlier error hides the rest: cell added-1 raised ZeroDivisionError" in what(
        report, "total"
    )
    assert report.notes == ("a cell that you added raises: ZeroDivisionError: division by zero",)


def test_a_renamed_function_is_recognised(course: Course) -> None:
    report = checked(course, solved(total="def totall(values):\n    return sum(values)"))
    assert what(report, "total").startswith("total is gone; was it renamed to totall?")


def test_a_name_that_moved_to_another_cell_is_not_missed(course: Course) -> None:
    notebook = solved(total="pass")
    notebook["cells"].insert(
        index_of(notebook, "total"), code("def total(values):\n    return sum(values)")
    )
    assert states(checked(course, notebook))["total"] == "passes"


def test_a_deleted_cell_is_recognised(course: Course) -> None:
    notebook = solved()
    notebook["cells"].remove(cell_of(notebook, "total"))
    notebook["cells"].remove(cell_of(notebook, "test-mean"))
    report = checked(course, notebook)
    assert states(report) == {"total": "deleted", "mean": "passes", "why": "blank"}
    assert report.notes == ("cell test-mean was deleted; the original is used",)


def test_of_a_duplicated_answer_the_last_worked_on_counts(course: Course) -> None:
    notebook = solved()
    notebook["cells"].append(cell_of(blank(), "total"))
    report = checked(course, notebook)
    assert states(report)["total"] == "passes"
    assert report.notes == (
        "cell total stands in the notebook 2 times; the last that was worked on counts",
    )


def test_a_changed_test_does_not_count(course: Course) -> None:
    report = checked(course, solved(total="total = 1", **{"test-total": "print('fine')"}))
    assert states(report)["total"] == "raises"
    assert report.notes == ("cell test-total was changed; the original is used",)


def test_state_that_a_fresh_start_lacks_is_noticed(course: Course) -> None:
    notebook = solved(mean="def mean(values):\n    return helper(values)")
    cell_of(notebook, "test-mean")["execution_count"] = 7
    report = checked(course, notebook)
    assert what(report, "mean").startswith("NameError: name 'helper' is not defined")
    assert report.notes[0].startswith("mean: the notebook shows its test passing, a fresh start")


def test_one_task_is_checked_alone(course: Course) -> None:
    report = checked(course, solved(mean="def mean(values):\n    return 0"), only="total")
    assert states(report) == {"total": "passes"}
    with pytest.raises(CourseError, match="no task sum; there are: total, mean, why"):
        checked(course, solved(), only="sum")


def test_handouts_are_there_and_other_files_are_not(course: Course) -> None:
    (course.released_notebook("two").parent / "data.csv").write_text("1,2")
    (course.root / "mine.csv").write_text("3")
    source = "text = open('data.csv').read()\ndef total(values):\n    return sum(values)"
    assert states(checked(course, solved(total=source)))["total"] == "passes"
    report = checked(course, solved(total=source.replace("data", "mine")))
    assert "FileNotFoundError" in what(report, "total")


def test_the_order_is_that_of_the_grader(course: Course) -> None:
    """The cells that are run are those of `rebuild`, save hidden tests and measurements."""
    notebook = solved(**{"test-total": "changed"})
    for place in ("total", "test-total", "measure-" + "x"):
        if any(cell["id"] == place for cell in notebook["cells"]):
            notebook["cells"].insert(index_of(notebook, place), code(f"before = {place!r}"))
    notebook["cells"].insert(0, code("first = 1"))
    notebook["cells"].append(code("last = 1"))
    notebook["cells"].append(cell_of(blank(), "mean"))
    path = save(notebook, course.root / "mine.ipynb")
    original = course.released_notebook("two")
    released = nbformat.read(original, as_version=4)
    frame = Handed(notebooks.read(path), notebooks.read(original), alone=False)
    graded = rebuild(path.read_bytes(), "two", released, released).notebook
    expected = [
        (cell.id, cell.source)
        for cell in graded.cells
        if cell.cell_type == "code" and cell.metadata.course.kind not in ("hidden", "measure")
    ]
    assert list(frame.to_run("")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cells": [', "not valid JSON"),
        ("[1, 2]", "no list of cells"),
        ('{"cells": [], "metadata": {}}', "not a lab of this course"),
        ('{"cells": [], "metadata": {"course": {"lab": "three"}}}', "three is not one of this"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_lab_is_refused_in_a_line(course: Course, text: str, message: str) -> None:
    path = course.root / "odd.ipynb"
    path.write_text(text)
    with pytest.raises(CourseError, match=message) as caught:
        check(path, course)
    assert "\n" not in str(caught.value)


def test_folders_and_missing_files_are_refused(course: Course) -> None:
    with pytest.raises(CourseError, match="a folder"):
        check(course.root, course)
    with pytest.raises(CourseError, match="cannot be read: No such file"):
        check(course.root / "none.ipynb", course)


def test_the_checksum_is_nbgraders() -> None:
    from nbformat import NotebookNode
    from nbgrader.utils import compute_checksum

    for cell in blank()["cells"]:
        if "nbgrader" in cell["metadata"]:
            node = NotebookNode({**cell, "metadata": nbformat.from_dict(cell["metadata"])})
            node.source = "".join(cell["source"])
            ours = checksum(node.source, node.cell_type, cell["metadata"]["nbgrader"])
            assert ours == compute_checksum(node)


def run_command(course: Course, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autograder", "check", *arguments],
        cwd=course.root,
        capture_output=True,
        text=True,
    )


def test_the_command_prints_a_table_and_the_status(course: Course) -> None:
    save(solved(mean="def mean(values):\n    return 0"), course.root / "mine.ipynb")
    failing = run_command(course, "mine.ipynb")
    assert failing.returncode == 1, failing.stderr
    assert "mean([1, 3]) is 2" in failing.stdout
    assert "Visible tests: 10 of 20 points." in failing.stdout
    save(solved(), course.root / "mine.ipynb")
    assert run_command(course, "mine.ipynb").returncode == 0
    assert run_command(course, "two").returncode == 1


def test_a_short_task_is_answered_in_three_seconds(course: Course) -> None:
    save(solved(), course.root / "mine.ipynb")
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert run_command(course, "mine.ipynb", "--task", "total").returncode == 0
        took.append(time.monotonic() - began)
    assert min(took) < 3, f"the fastest of three took {min(took):.1f} s"


def test_hint_climbs_the_ladder(course: Course) -> None:
    shown = [
        run_command(course, "two", "--task", "total", *more).stdout
        for more in ([], ["--hint"], ["--hint", "--hint"], ["--hints", "0"])
    ]
    assert ["Hint 1 of 3" in text for text in shown] == [True, True, True, False]
    assert ["Hint 2 of 3" in text for text in shown] == [False, True, True, False]
    assert ["Hint 3 of 3" in text for text in shown] == [False, False, True, False]


@pytest.mark.parametrize("argument", ["none.ipynb", "labs", "three"])
def test_bad_paths_cost_one_line_and_status_2(course: Course, argument: str) -> None:
    done = run_command(course, argument)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_here_shows_the_table_in_the_notebook(course: Course) -> None:
    """The last cell of a notebook that Jupyter runs; the checker and the grader pass over it."""
    from nbclient import NotebookClient

    notebook = solved()
    notebook["cells"].append(code("from autograder import check; check.here()"))
    path = save(notebook, course.root / "mine" / "mine.ipynb")
    executed = nbformat.read(path, as_version=4)
    environment = {**os.environ, "JPY_SESSION_NAME": str(path)}
    NotebookClient(executed, resources={"metadata": {"path": str(path.parent)}}).execute(
        env=environment
    )
    shown = "".join(output.text for output in executed.cells[-1].outputs)
    assert "Visible tests: 20 of 20 points." in shown
    assert "Checked mine.ipynb as saved at" in shown
    assert states(check(path, course))["total"] == "passes"


def test_here_finds_the_only_lab_of_the_folder(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = course.released_notebook("two").parent
    (folder / "other.ipynb").write_text(json.dumps({"cells": [], "metadata": {}}))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert checker.this_notebook() == folder / "two.ipynb"
    save(blank(), folder / "copy.ipynb")
    with pytest.raises(CourseError, match=r"copy\.ipynb, two\.ipynb"):
        checker.this_notebook()
