"""What would my notebook get?  The visible tests of a lab, run as the grader runs them.

`check` takes a student's notebook and gives a `Report`: a state for each task, what failed in the
words of the test, and the ladder of hints.  It starts afresh, puts the original tests in the place
of changed or deleted ones, and says what it found to be off.  `here` shows the same in the last
cell of a notebook.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autograder import notebooks
from autograder.course import Course, CourseError, MachineryError, open_course
from autograder.handed import Handed, defined, once
from autograder.notebooks import Notebook
from autograder.runner import RUNNING, run

if TYPE_CHECKING:
    from autograder.engine.executor import CellResult

State = Literal["passes", "fails", "raises", "blank", "deleted", "not reached", "answered"]
HINT = re.compile(r"<details><summary>Hint \d+</summary>\s*(.*?)\s*</details>", re.S)
UNDEFINED = re.compile(r"NameError: name '(\w+)' is not defined")


@dataclass(frozen=True)
class Task:
    """One task (or written question) of the student's notebook.

    `points` are those of the visible test, `hidden` those that the hidden test gives, `by_hand`
    those of a written answer.  `what` says why it does not pass; `hints` is the whole ladder.
    """

    name: str
    points: float
    hidden: float
    by_hand: float
    state: State
    what: str = ""
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `check` found: the tasks, and what else the student should know."""

    path: Path
    lab: str
    title: str
    tasks: tuple[Task, ...]
    notes: tuple[str, ...]

    @property
    def failing(self) -> list[Task]:
        return [task for task in self.tasks if task.state not in ("passes", "answered")]

    @property
    def sound(self) -> bool:
        """Every visible test passes; a written answer that is missing does not count here."""
        return all(task.by_hand and not task.points for task in self.failing)


def find_original(path: Path, course: Course | None, lab: str) -> Path | None:
    """The notebook as it was handed out, or None when `path` is the only copy there is."""
    if course is None:
        return None
    for original in (
        course.root / ".released" / lab / f"{lab}.ipynb",
        course.released_notebook(lab),
    ):
        if original.is_file() and original.resolve() != path.resolve():
            return original
    return None


def course_of(path: Path) -> Course | None:
    """The course in whose folder the notebook lies, or the one around the current folder."""
    for start in (path.resolve().parent, Path.cwd()):
        for folder in (start, *start.parents):
            try:
                return open_course(folder)
            except CourseError:
                continue
    return None


def check(
    path: Path,
    course: Course | None = None,
    *,
    only: str = "",
    on_start: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run the visible tests of the notebook at `path`, or only that of the task `only`.

    Raises `CourseError` when it is no notebook of this course, or has no such task.
    """
    handed = notebooks.read(path)
    if not handed.lab:
        raise CourseError(f"{path}: not a lab of this course (its metadata name no lab)")
    course = course or course_of(path)
    known = course.lab_names() if course else []
    if known and handed.lab not in known:
        raise CourseError(f"{path}: lab {handed.lab} is not one of this course: {', '.join(known)}")
    kept = find_original(path, course, handed.lab)
    original = notebooks.read(kept) if kept else once(handed)
    names = list(dict.fromkeys(cell.task for cell in original.cells if cell.task and cell.points))
    if only and only not in names:
        raise CourseError(f"{path}: no task {only}; there are: {', '.join(names)}")
    text = Handed(handed, original, alone=kept is None)
    cells = list(text.to_run(only))
    beside = [] if kept is None else [p for p in kept.parent.iterdir() if p != kept]
    if kept is None:
        beside = [p for p in path.parent.iterdir() if p.suffix != ".ipynb"]
    files = [file for file in beside if not file.name.startswith(".")]
    try:
        results = run(
            cells,
            tests=[cell.id for cell in original.cells if cell.kind == "test"],
            imports=original.imports,
            files=files,
            on_start=on_start,
        )
    except RuntimeError as error:
        raise MachineryError(f"{path}: the notebook cannot be started: {error}") from error
    tasks = [_judge(name, text, results) for name in names if only in ("", name)]
    return Report(
        path=path,
        lab=handed.lab,
        title=original.title,
        tasks=tuple(tasks),
        notes=tuple(_notes(text, tasks, results)),
    )


def _judge(name: str, text: Handed, results: dict[str, CellResult]) -> Task:
    points = {
        kind: sum(cell.points for cell in text.original.of(kind, name))
        for kind in ("test", "hidden", "written")
    }
    state, what = _written(name, text) if points["written"] else _tested(name, text, results)
    hints = [
        hint for cell in text.original.of("hints", name)[:1] for hint in HINT.findall(cell.source)
    ]
    return Task(
        name, points["test"], points["hidden"], points["written"], state, what, tuple(hints)
    )


def _written(name: str, text: Handed) -> tuple[State, str]:
    cell = text.answer(f"written-{name}")
    if cell is None:
        return "deleted", "its cell is gone; take it back from the original notebook"
    if text.is_blank(cell) or not cell.source.strip():
        return "blank", "not answered yet"
    return "answered", ""


def _tested(name: str, text: Handed, results: dict[str, CellResult]) -> tuple[State, str]:
    tests = text.original.of("test", name)
    verdicts = [results.get(cell.id) for cell in tests]
    if tests and all(verdict and verdict.status == "passed" for verdict in verdicts):
        awards = [verdict.award for verdict in verdicts if verdict and verdict.award is not None]
        if not awards:
            return "passes", ""
        return "fails", f"its test gives {awards[0]} of {tests[0].points:g} points"
    answer = text.answer(name)
    own = results.get(name)
    if answer is None:
        return "deleted", "its cell is gone; take it back from the original notebook"
    if text.is_blank(answer) or not answer.source.strip():
        return "blank", "not begun"
    if own and own.status != "passed":
        return "raises", f"its own cell does not run: {own.message}"
    if not tests:
        return "not reached", "its test is gone; take it back from the original notebook"
    failed = next((result for result in verdicts if result and result.status != "passed"), None)
    if failed is None:
        return "not reached", f"not run: {_end_of(results)}"
    lost = _lost_names(text, name)
    if lost and failed.status == "error":
        return "fails", f"{lost}\n{failed.message}"
    state: State = "fails" if failed.status == "failed" else "raises"
    return state, failed.message + _hidden_by(failed, text, results)


def _end_of(results: dict[str, CellResult]) -> str:
    """The last thing that a notebook which did not reach its end has done."""
    last = list(results.values())[-1:]
    return f"cell {last[0].id} came before it: {last[0].message}" if last else "nothing was run"


def _hidden_by(failed: CellResult, text: Handed, results: dict[str, CellResult]) -> str:
    """For a name that does not exist: which earlier cell should have made it, and raised."""
    missing = UNDEFINED.match(failed.message)
    if not missing:
        return ""
    sources = dict(text.to_run(""))
    for cell, result in results.items():
        if cell == failed.id:
            break
        if result.status != "passed" and missing[1] in sources.get(cell, ""):
            return f"\nAn earlier error hides the rest: cell {cell} raised {result.message}"
    return ""


def _lost_names(text: Handed, name: str) -> str:
    """Names that the stub of a task defines and the student's notebook no longer does."""
    answer = text.answer(name)
    if answer is None or text.alone:
        return ""
    asked = defined(text.stubs[name].source)
    there = {found for _, source in text.to_run("") for found in defined(source)}
    lost = sorted(asked - there)
    own = sorted(defined(answer.source) - asked)
    said = []
    for item in lost:
        close = difflib.get_close_matches(item, own, n=1, cutoff=0.5)
        if not re.search(rf"\b{item.rpartition('.')[2]}\b\s*=", answer.source):
            said.append(f"{item} is gone" + (f"; was it renamed to {close[0]}?" if close else ""))
    return "; ".join(said)


def _notes(text: Handed, tasks: list[Task], results: dict[str, CellResult]) -> Iterator[str]:
    checked = {task.name for task in tasks}
    for cell in text.original.cells:
        versions = text.versions.get(cell.id, [])
        if cell.task and cell.task not in checked:
            continue
        if len(versions) > 1 and cell.kind in ("task", "test", "written"):
            which = "the last that was worked on counts" if cell.kind != "test" else "once counts"
            yield f"cell {cell.id} stands in the notebook {len(versions)} times; {which}"
        if cell.kind not in ("given", "test"):
            continue
        if not versions:
            yield f"cell {cell.id} was deleted; the original is used"
        elif not any(map(text.is_blank, versions)):
            used = (
                "restore it: the grader uses the original" if text.alone else "the original is used"
            )
            yield f"cell {cell.id} was changed; {used}"
    for cell_id, result in results.items():
        if cell_id.startswith("added-") and result.status != "passed":
            yield f"a cell that you added raises: {result.message.splitlines()[0]}"
    for task in tasks:
        shown = [cell for cell in text.handed.of("test", task.name) if cell.ran and not cell.raised]
        if shown and task.state in ("fails", "raises"):
            yield (
                f"{task.name}: the notebook shows its test passing, a fresh start does not:"
                " it leans on a cell that was run in another order, changed since, or deleted"
            )


def here(task: str = "", *, hints: int = 1) -> None:
    """Show the table of `autograder check` for the notebook in which this is called.

    Reads the notebook as it was last saved; says nothing while the notebook itself is being run by
    the checker or the grader.
    """
    from autograder.check_table import show

    if os.environ.get(RUNNING) or os.environ.get("NBGRADER_EXECUTION") or _in_the_grader():
        return
    try:
        path = this_notebook()
        report = check(path, only=task)
    except CourseError as error:
        print(error)
        return
    show(report, hints=hints)
    saved = time.strftime("%H:%M:%S", time.localtime(path.stat().st_mtime))
    print(f"Checked {path.name} as saved at {saved}. Later changes count once you save them.")
    for name in _unsaved(notebooks.read(path)):
        print(f"{name}: you have run another version than the one that is saved; save first.")


def this_notebook() -> Path:
    """The file of the notebook that is running.

    Jupyter's server and VS Code tell it; elsewhere it is the only lab in the current folder.
    Raises `CourseError` when that leaves none, or more than one.
    """
    shell = _shell()
    named = [os.environ.get("JPY_SESSION_NAME"), shell and shell.user_ns.get("__vsc_ipynb_file__")]
    for name in named:
        if name and Path(name).suffix == ".ipynb" and Path(name).is_file():
            return Path(name)
    labs = []
    for path in sorted(Path.cwd().glob("*.ipynb")):
        try:
            if notebooks.read(path).lab:
                labs.append(path)
        except CourseError:
            continue
    if len(labs) == 1:
        return labs[0]
    found = ", ".join(path.name for path in labs) or "none"
    raise CourseError(
        f"cannot tell which notebook this is (labs in {Path.cwd()}: {found});"
        " use the terminal: python -m autograder check NOTEBOOK"
    )


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _in_the_grader() -> bool:
    return type(_shell()).__module__.startswith("autograder.")


def _unsaved(saved: Notebook) -> list[str]:
    """Tasks whose last executed text is not the saved one."""
    shell = _shell()
    history = list(shell.user_ns.get("In", [])) if shell else []
    names = []
    for cell in saved.cells:
        asked = defined(cell.source) if cell.kind == "task" else set()
        ran = [source for source in history if asked and asked <= defined(source)]
        if ran and ran[-1].strip() != cell.source.strip():
            names.append(cell.task)
    return names
