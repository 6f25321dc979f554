"""How far a student has come: every lab of the course, its points, and what comes next.

A lab that has been begun is checked; what came of it is kept in `.progress.json` in the course's
folder until its notebook changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autograder import __version__, notebooks
from autograder.check import check
from autograder.course import Course, CourseError

KEPT = ".progress.json"


@dataclass(frozen=True)
class LabProgress:
    """One lab: tasks whose visible test passes, the points these give, and the next task.

    `trouble` says why the notebook cannot be judged; `begun` is False while it is as released.
    """

    lab: str
    title: str = ""
    begun: bool = False
    passing: int = 0
    tasks: int = 0
    points: float = 0.0
    max_points: float = 0.0
    next_task: str = ""
    trouble: str = ""

    @property
    def done(self) -> bool:
        return self.tasks > 0 and self.passing == self.tasks


def progress(course: Course, on_lab: Callable[[str], None] = lambda _: None) -> list[LabProgress]:
    """Every lab of the course in order; `on_lab` is told of each that has to be run."""
    kept = _load(course.root / KEPT)
    done: list[LabProgress] = []
    for lab in course.lab_names():
        path = course.released_notebook(lab)
        try:
            mark = hashlib.sha256(__version__.encode() + path.read_bytes()).hexdigest()
            known = kept.get(lab, {})
            if known.get("mark") == mark:
                with contextlib.suppress(TypeError):
                    done.append(LabProgress(**known["found"]))
                    continue
            found = _look(course, lab, path, on_lab)
        except OSError as error:
            done.append(LabProgress(lab, trouble=f"{path}: {error.strerror}"))
            continue
        except CourseError as error:
            done.append(LabProgress(lab, trouble=str(error)))
            continue
        done.append(found)
        kept[lab] = {"mark": mark, "found": asdict(found)}
    with contextlib.suppress(OSError):
        (course.root / KEPT).write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return done


def _look(course: Course, lab: str, path: Path, on_lab: Callable[[str], None]) -> LabProgress:
    notebook = notebooks.read(path)
    tested = {cell.task: cell for cell in notebook.cells if cell.kind == "test"}
    total = sum(cell.points for cell in tested.values())
    own = [cell for cell in notebook.cells if cell.kind == "task"]
    if all(cell.as_released for cell in own):
        first = own[0].task if own else ""
        return LabProgress(lab, notebook.title, False, 0, len(tested), 0.0, total, first)
    on_lab(lab)
    report = check(path, course)
    tasks = [task for task in report.tasks if task.points]
    passing = [task for task in tasks if task.state == "passes"]
    return LabProgress(
        lab=lab,
        title=report.title,
        begun=True,
        passing=len(passing),
        tasks=len(tasks),
        points=sum(task.points for task in passing),
        max_points=sum(task.points for task in tasks),
        next_task=next((task.name for task in report.failing), ""),
    )


def _load(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) else {}
    return {}
