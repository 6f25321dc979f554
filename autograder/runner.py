"""Run the cells of one notebook in a fresh interpreter, on any system with processes.

The student's counterpart of `engine.pool`: the same executor, without forks, control groups or
sandbox.  The interpreter leads a session of its own, which is ended whole when it is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from autograder.engine.executor import CellResult
from autograder.engine.trials import Limits

LIMITS = Limits()
PACKAGE_HOME = Path(__file__).resolve().parent.parent
STUBBORN = 5.0
"""Seconds after its deadline that a cell gets before its interpreter is killed."""
RUNNING = "AUTOGRADER_RUNNING"
"""Set in the environment of a notebook that is being run, so that it does not check itself."""


def run(
    cells: Sequence[tuple[str, str]],
    *,
    tests: Iterable[str] = (),
    imports: Iterable[str] = (),
    files: Iterable[Path] = (),
    cell_seconds: float = LIMITS.cell_seconds,
    total_seconds: float = LIMITS.total_seconds,
    on_start: Callable[[str], None] = lambda _: None,
) -> dict[str, CellResult]:
    """What became of each of `cells` (id, source), run in order in a scratch folder with `files`.

    Those in `tests` are run as tests, by themselves, without the notebook's hooks.  A cell that the
    notebook did not live to see has no entry.  `on_start` is told of each cell as it begins.
    """
    with tempfile.TemporaryDirectory(prefix="check-") as name:
        folder = Path(name)
        (folder / "work").mkdir()
        for file in files:
            if file.is_dir():
                shutil.copytree(file, folder / "work" / file.name)
            else:
                shutil.copyfile(file, folder / "work" / file.name)
        job = {
            "cells": list(cells),
            "tests": list(tests),
            "imports": list(imports),
            "cell_seconds": cell_seconds,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (folder / "results.jsonl").touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "autograder.runner", str(folder)],
            cwd=folder / "work",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            stopped = _watch(process, folder, cell_seconds, total_seconds, on_start)
        finally:
            _end_session(process)
            _, complaint = process.communicate()
        return _results(folder, stopped, process.returncode, complaint.decode(errors="replace"))


def _environment() -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{PACKAGE_HOME}{os.pathsep}{path}" if path else str(PACKAGE_HOME),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        RUNNING: "1",
    }


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the interpreter, its descendants, and what else runs in its session."""
    victims: set[int] = set()
    if process.poll() is None:
        victims.add(process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            victims |= {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == process.pid:
                victims.add(pid)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    cell_seconds: float,
    total_seconds: float,
    on_start: Callable[[str], None],
) -> bool:
    """Wait for the interpreter; whether it had to be given up, for one cell or for all."""
    end = time.monotonic() + total_seconds
    seen, since = "", time.monotonic()
    while process.poll() is None:
        now = _read(folder / "progress")
        if now != seen:
            seen, since = now, time.monotonic()
            on_start(now)
        overdue = seen and time.monotonic() - since > cell_seconds + STUBBORN
        if overdue or time.monotonic() > end:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return False


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    return ""


def _results(folder: Path, stopped: bool, returncode: int, complaint: str) -> dict[str, CellResult]:
    results: dict[str, CellResult] = {}
    for line in _read(folder / "results.jsonl").splitlines():
        with contextlib.suppress(ValueError):
            result = CellResult(**json.loads(line))
            results.setdefault(result.id, result)
    last = _read(folder / "progress")
    if last and last not in results:
        if stopped:
            record = CellResult(last, "timeout", message="the cell had to be stopped by force")
        elif returncode < 0:
            name = signal.Signals(-returncode).name
            record = CellResult(last, "error", message=f"the cell killed its process ({name})")
        else:
            record = CellResult(
                last, "error", message=f"the cell ended its process (exit status {returncode})"
            )
        results[last] = record
    if not results and returncode:
        lines = complaint.strip().splitlines() or [f"exit status {returncode}"]
        raise RuntimeError(lines[-1])
    return results


def _main(folder: Path) -> None:
    from autograder.engine.executor import new_shell, run_cell, run_test

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    for name in job["imports"]:
        __import__(name)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def note(cell: str) -> None:
        scratch = folder / "progress.new"
        scratch.write_text(cell, encoding="utf-8")
        scratch.replace(folder / "progress")

    shell, tests = new_shell(), set(job["tests"])
    with (folder / "results.jsonl").open("a", encoding="utf-8") as out:
        for cell, source in job["cells"]:
            note(cell)
            result = (run_test if cell in tests else run_cell)(
                shell, cell, source, job["cell_seconds"]
            )
            out.write(json.dumps(asdict(replace(result, outputs=[]))) + "\n")
            out.flush()
    note("")
    os._exit(0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
