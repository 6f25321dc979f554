"""Where a course keeps its things.

Everything else in the package asks a `Course` for a path; the `Course` asks nobody.  The course is
the repository (labs and their sources), the class is one term's submissions and grades.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

SLUG = re.compile(r"[a-z][a-z0-9_]*")


class CourseError(Exception):
    """Something that the person at the terminal can mend; shown as one line, without a traceback.

    `exit_code` is 1 when a student's work or a lab falls short, 2 for bad usage or input and 3 when
    the machinery failed.
    """

    exit_code = 2


class MachineryError(CourseError):
    """The grader itself could not do its work: no space, no sandbox, a locked database."""

    exit_code = 3


@dataclass(frozen=True)
class Course:
    """The folders of one course and of one class that takes it.

    `root` holds `solutions/` and `labs/`; `class_dir` holds what students hand in and what comes of
    it.  A bundle that a student received is a course without `solutions/`.
    """

    root: Path
    class_dir: Path

    @property
    def solutions(self) -> Path:
        return self.root / "solutions"

    @property
    def labs_dir(self) -> Path:
        return self.root / "labs"

    @property
    def source_dir(self) -> Path:
        """nbgrader's source notebooks, written from `solutions/` and never committed."""
        return self.root / "_build" / "source"

    @property
    def submitted(self) -> Path:
        return self.class_dir / "submitted"

    @property
    def autograded(self) -> Path:
        return self.class_dir / "autograded"

    @property
    def feedback(self) -> Path:
        return self.class_dir / "feedback"

    @property
    def results(self) -> Path:
        """What became of each submission, and the outputs of what has been executed."""
        return self.class_dir / "results"

    @property
    def gradebook(self) -> Path:
        return self.class_dir / "gradebook.db"

    @property
    def reports(self) -> Path:
        return self.class_dir / "report"

    @property
    def db_url(self) -> str:
        """SQLAlchemy address of the gradebook; `AUTOGRADER_DB` replaces the file in the class."""
        return os.environ.get("AUTOGRADER_DB") or f"sqlite:///{self.gradebook}"

    def lab_names(self) -> list[str]:
        """All labs that have a source, or, in a student's bundle, all that were handed out."""
        sources = [path.parent.name for path in self.solutions.glob("*/lab.py")]
        return sorted(sources or [path.parent.name for path in self.labs_dir.glob("*/*.ipynb")])

    def select(self, names: tuple[str, ...] | list[str]) -> list[str]:
        """The labs called `names`, or all of them; an unknown name is an error that lists them."""
        known = self.lab_names()
        for name in names:
            if name not in known:
                raise CourseError(f"{name}: no such lab; there are: {', '.join(known) or 'none'}")
        return list(names) or known

    def lab_source(self, lab: str) -> Path:
        return self.solutions / lab / "lab.py"

    def handout(self, lab: str) -> Path:
        """Files that go to students beside the notebook, and into the sandbox with it."""
        return self.solutions / lab / "handout"

    def handout_files(self, lab: str) -> tuple[Path, ...]:
        folder = self.handout(lab)
        return tuple(sorted(folder.glob("*"))) if folder.is_dir() else ()

    def source_notebook(self, lab: str) -> Path:
        return self.source_dir / lab / f"{lab}.ipynb"

    def released_notebook(self, lab: str) -> Path:
        return self.labs_dir / lab / f"{lab}.ipynb"


def open_course(root: Path | None = None, class_dir: Path | None = None) -> Course:
    """The course at `root`, or the nearest one at or above the current folder.

    Raises `CourseError` when there is neither a `solutions/` nor a `labs/` folder.
    """
    start = (root or Path.cwd()).resolve()
    candidates = [start] if root else [start, *start.parents]
    for folder in candidates:
        if (folder / "solutions").is_dir() or (folder / "labs").is_dir():
            return Course(folder, (class_dir or folder / "class").resolve())
    raise CourseError(f"{start}: not a course: it has neither a solutions/ nor a labs/ folder")
