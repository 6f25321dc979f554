"""Run notebooks, each in a process of its own, forked from this one.

A `Trial` goes in (cells, in order), a `Verdicts` comes out (one result for each cell, and the
processes that the trial left behind).  This process loads what the lab imports once and never runs
a cell; each fork starts with that and runs one notebook.  A supervisor between the two ends a cell
that ignores its deadline, and everything that the notebook started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from autograder.engine.executor import CellResult, run_cells

PR_SET_CHILD_SUBREAPER = 36
STUBBORN = 5.0
"""Seconds after its deadline that a cell gets before its process is killed."""
GRACE = 0.5
"""Seconds that processes of a finished trial get to end before they count as left behind."""


@dataclass(frozen=True)
class Trial:
    """Cells to run one after another, as (id, source), and the seconds that they may take."""

    name: str
    cells: tuple[tuple[str, str], ...]
    cell_seconds: float = 60.0
    total_seconds: float = 300.0
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Verdicts:
    """What became of a trial; a cell without an entry in `cells` was not reached."""

    trial: Trial
    cells: dict[str, CellResult]
    seconds: float
    left_behind: tuple[str, ...] = ()

    def passed(self, cell: str) -> bool:
        return cell in self.cells and self.cells[cell].status == "passed"

    def message(self, cell: str) -> str:
        """Why the cell did not pass, on one line."""
        result = self.cells.get(cell)
        if result is None:
            return "not executed"
        return " ".join((result.message or result.status).split())


@dataclass
class _Running:
    number: int
    process: BaseProcess
    trial: Trial
    folder: Path
    started: float = field(default_factory=time.monotonic)


def run_trials(
    trials: Sequence[Trial],
    *,
    imports: Iterable[str] = (),
    jobs: int = 1,
    on_done: Callable[[Verdicts], None] = lambda _: None,
) -> list[Verdicts]:
    """Run all trials, `jobs` at a time, in forks of this process; return them in their order.

    `imports` are loaded here once, before the first fork; PyTorch is held to one thread, because a
    forked child of a process that has used more hangs in its first parallel operation.
    """
    warm(imports)
    context = multiprocessing.get_context("fork")
    waiting = list(enumerate(trials))
    running: list[_Running] = []
    done: dict[int, Verdicts] = {}
    with tempfile.TemporaryDirectory(prefix="trials-") as scratch:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    number, trial = waiting.pop(0)
                    folder = Path(tempfile.mkdtemp(dir=scratch))
                    process = context.Process(target=_supervise, args=(trial, folder))
                    process.start()
                    running.append(_Running(number, process, trial, folder))
                wait([item.process.sentinel for item in running])
                for item in [item for item in running if not item.process.is_alive()]:
                    running.remove(item)
                    item.process.join()
                    done[item.number] = _read(item)
                    on_done(done[item.number])
        finally:
            for item in running:
                item.process.terminate()
                item.process.join()
    return [done[number] for number in range(len(trials))]


def warm(imports: Iterable[str]) -> None:
    """Load the modules a lab needs, once, so that its forks start with them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in imports:
        __import__(name)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _supervise(trial: Trial, folder: Path) -> None:
    """Run the trial in a child; end what overstays and whatever is left; note what that was."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    world = multiprocessing.get_context("fork").Process(target=_world, args=(trial, folder))
    world.start()
    try:
        _watch(world, trial, folder)
        left = _still_running(GRACE)
        (folder / "left.json").write_text(json.dumps(left))
    finally:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _watch(world: BaseProcess, trial: Trial, folder: Path) -> None:
    """Wait for the world; kill it when its time, or that of one cell, is up.

    A cell is first asked to end, by an exception; one that goes on (it caught the exception, or
    stays in native code) takes the notebook with it.
    """
    end = time.monotonic() + trial.total_seconds
    progress, seen, since = folder / "progress", "", time.monotonic()
    while world.is_alive() and time.monotonic() < end:
        world.join(0.05)
        now = progress.read_text() if progress.is_file() else ""
        if now != seen:
            seen, since = now, time.monotonic()
        if seen and time.monotonic() - since > trial.cell_seconds + STUBBORN:
            break
    if world.is_alive():
        world.kill()
        world.join()
        record = CellResult(seen, "timeout", message="the cell had to be stopped by force")
    elif seen := progress.read_text() if progress.is_file() else "":
        record = CellResult(seen, "error", message=_death(world.exitcode or 0))
    else:
        return
    with (folder / "results.jsonl").open("a", encoding="utf-8") as out:
        out.write("\n" + json.dumps(asdict(record)) + "\n")


def _note(progress: Path, cell: str) -> None:
    progress.write_text(cell)


def _death(exitcode: int) -> str:
    if exitcode < 0:
        return f"the cell killed its process ({signal.Signals(-exitcode).name})"
    return f"the cell ended its process (exit status {exitcode})"


def _still_running(grace: float) -> list[str]:
    deadline = time.monotonic() + grace
    while True:
        alive = list(_command_lines())
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)


def _command_lines() -> Iterator[str]:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield " ".join(process.cmdline())[:120] or process.name()


def _world(trial: Trial, folder: Path) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    work = folder / "work"
    work.mkdir()
    for file in trial.files:
        shutil.copyfile(file, work / file.name)
    os.chdir(work)
    progress = folder / "progress"
    with (folder / "results.jsonl").open("a", encoding="utf-8") as out:

        def keep(result: CellResult) -> None:
            out.write(json.dumps(asdict(result)) + "\n")
            out.flush()

        run_cells(
            trial.cells,
            cell_seconds=trial.cell_seconds,
            on_start=lambda cell: _note(progress, cell),
            on_result=keep,
        )
        _note(progress, "")
    os._exit(0)


def _read(item: _Running) -> Verdicts:
    results: dict[str, CellResult] = {}
    path = item.folder / "results.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                result = CellResult(**json.loads(line))
                results.setdefault(result.id, result)
    left = item.folder / "left.json"
    return Verdicts(
        trial=item.trial,
        cells=results,
        seconds=time.monotonic() - item.started,
        left_behind=tuple(json.loads(left.read_text())) if left.is_file() else (),
    )
