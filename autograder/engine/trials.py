"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autograder.engine.executor import CellResult

SandboxChoice = Literal["auto", "required", "none"]


@dataclass(frozen=True)
class Limits:
    """What the code of one notebook may use: seconds, bytes and processes."""

    cell_seconds: float = 30.0
    total_seconds: float = 300.0
    memory: int = 3 * 2**30
    processes: int = 200
    file_bytes: int = 256 * 2**20


@dataclass(frozen=True)
class Trial:
    """Cells to run one after another, as (id, source).

    `tests` are run as tests (by themselves, without the notebook's hooks); those in `outside` run
    in a process that the notebook's code cannot reach.  `files` are there in the working folder.
    """

    name: str
    cells: tuple[tuple[str, str], ...]
    tests: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Verdicts:
    """What became of a trial; a cell without an entry in `cells` was not reached.

    `left_behind` are processes that the trial had started and not ended, `evidence` says why a
    person should look at it, `broken` that the machinery failed and nothing is known.
    """

    trial: Trial
    cells: dict[str, CellResult]
    seconds: float
    left_behind: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    broken: str = field(default="", compare=False)

    def passed(self, cell: str) -> bool:
        """Whether the cell ran and has a claim to all of its points."""
        result = self.cells.get(cell)
        return result is not None and result.status == "passed" and result.award is None

    def message(self, cell: str) -> str:
        """Why the cell did not pass, on one line."""
        result = self.cells.get(cell)
        if result is None:
            return "not executed"
        if result.status == "passed":
            return f"its last line has the value {result.award!r}, which is no full mark"
        return " ".join((result.message or result.status).split())
