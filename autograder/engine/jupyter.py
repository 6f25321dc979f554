"""The reference: a cold Jupyter kernel for each notebook, driven by nbclient, without a sandbox.

It is what stock nbgrader does, and slow; it is kept to compare the fast engine with.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from autograder.engine.executor import CellResult, Status
from autograder.engine.trials import Limits, Trial, Verdicts


class JupyterEngine:
    """Runs trials, `jobs` at a time, each in a kernel of its own."""

    level = "none"

    def __init__(self, limits: Limits, jobs: int) -> None:
        self.limits, self.jobs = limits, jobs

    def run(self, trials: Iterable[Trial]) -> Iterator[tuple[int, Verdicts]]:
        """Run trials; give each as it ends, with its number."""
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._run, trial): number for number, trial in enumerate(trials)}
            for future in as_completed(futures):
                yield futures[future], future.result()

    def close(self) -> None:
        """Nothing is kept between trials."""

    def _run(self, trial: Trial) -> Verdicts:
        began = time.monotonic()
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(source) for _, source in trial.cells]
        cells: dict[str, CellResult] = {}
        with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
            for path in trial.files:
                (Path(folder) / path.name).write_bytes(path.read_bytes())
            client = NotebookClient(
                notebook,
                timeout=int(self.limits.cell_seconds),
                interrupt_on_timeout=True,
                allow_errors=True,
                resources={"metadata": {"path": folder}},
            )
            try:
                with client.setup_kernel():
                    for index, (cell, _) in enumerate(trial.cells):
                        started = time.monotonic()
                        client.execute_cell(notebook.cells[index], index)
                        spent = time.monotonic() - started
                        cells[cell] = _result(
                            cell, notebook.cells[index], spent, cell in trial.tests
                        )
            except DeadKernelError:
                cell = trial.cells[len(cells)][0]
                cells[cell] = CellResult(cell, "error", message="the cell ended its process")
            except CellTimeoutError as error:
                cell = trial.cells[len(cells)][0]
                cells[cell] = CellResult(cell, "timeout", message=str(error).splitlines()[0])
        return Verdicts(trial, cells, time.monotonic() - began)


def _result(name: str, cell: NotebookNode, seconds: float, test: bool) -> CellResult:
    status: Status = "passed"
    message = ""
    award: float | str | None = None
    for output in cell.outputs:
        if output.output_type == "error":
            status = "failed" if output.ename in ("AssertionError", "TaskFailed") else "error"
            if output.ename in ("CellTimeoutError", "KeyboardInterrupt"):
                status = "timeout"
            message = f"{output.ename}: {output.evalue}".rstrip(": ")
        if test and output.output_type == "execute_result":
            award = _award(output.data.get("text/plain", ""))
    outputs: list[dict[str, Any]] = [dict(output) for output in cell.outputs]
    return CellResult(name, status, seconds, message, outputs, award)


def _award(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text[:80]
