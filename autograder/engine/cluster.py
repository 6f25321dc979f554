"""The same engine on other machines: trials go to the workers of a Dask cluster.

Each worker keeps a warm process and a sandbox of its own.  What it gets is one trial at a time (the
cells, as text) and what it gives back are verdicts; it sees neither the gradebook nor anybody
else's submission.  A trial whose worker dies is run again by another.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autograder.course import MachineryError
from autograder.engine.host import Engine
from autograder.engine.trials import Limits, SandboxChoice, Trial, Verdicts

CONNECT_SECONDS = 20
AHEAD = 2
"""Trials that the scheduler has for each thread of a worker, so that no thread waits for work."""


class ClusterEngine:
    """Runs trials on the workers behind a Dask scheduler at `address` (tcp:// or tls://).

    For tls://, certificates come from Dask's configuration (`distributed.comm.tls`).  Raises
    `MachineryError` when the scheduler does not answer, has no worker, or a worker has no sandbox
    though one is required.
    """

    def __init__(
        self, address: str, choice: SandboxChoice, limits: Limits, imports: Sequence[str]
    ) -> None:
        from distributed import Client

        self.limits, self.setup = limits, (choice, limits, tuple(imports))
        try:
            self.client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise MachineryError(f"{address}: no scheduler there: {error}") from None
        if not self.client.scheduler_info()["workers"]:
            self.client.close()
            raise MachineryError(f"{address}: the scheduler has no worker")
        levels = set(self.client.run(_level, self.setup).values())
        troubles = sorted(level for level in levels if level not in ("namespaces", "none"))
        if troubles:
            self.client.close()
            raise MachineryError(f"{address}: {troubles[0]}")
        self.level = "none" if "none" in levels else "namespaces"

    def run(self, trials: Iterable[Trial]) -> Iterator[tuple[int, Verdicts]]:
        """Run trials on the cluster; give each as it ends, with its number."""
        from distributed import as_completed

        waiting = enumerate(trials)
        running: dict[Any, tuple[int, Trial]] = {}
        done = as_completed(loop=self.client.loop, raise_errors=False)
        try:
            while True:
                room = AHEAD * sum(self.client.nthreads().values()) or 1
                while len(running) < room and (item := next(waiting, None)):
                    number, trial = item
                    files = {path.name: path.read_bytes() for path in trial.files}
                    future = self.client.submit(
                        _run, self.setup, replace(trial, files=()), files, pure=False, retries=2
                    )
                    running[future] = (number, trial)
                    done.add(future)
                if not running:
                    return
                future = next(done)
                number, trial = running.pop(future)
                yield number, _collected(future, trial, self.limits)
        finally:
            self.client.cancel(list(running))

    def close(self) -> None:
        self.client.close()


def _collected(future: Any, trial: Trial, limits: Limits) -> Verdicts:
    """The verdicts of a finished future; a worker that failed is no fault of the notebook.

    A result lives on its worker until it is fetched: when that worker dies in between, the
    scheduler has the trial run again, and the wait goes on for as long as a trial may take.
    """
    try:
        verdicts: Verdicts = future.result(timeout=limits.total_seconds + CONNECT_SECONDS)
    except (Exception, asyncio.CancelledError) as error:
        told = str(error) or type(error).__name__
        return Verdicts(trial, {}, 0.0, broken=f"its worker failed: {told}")
    return replace(verdicts, trial=trial)


_engines: dict[Any, Engine] = {}
_lock = threading.Lock()


def _engine(setup: tuple[SandboxChoice, Limits, tuple[str, ...]]) -> Engine:
    """The worker's own engine for a lab, made at first need and kept warm."""
    with _lock:
        if setup not in _engines:
            choice, limits, imports = setup
            _engines[setup] = Engine(choice, limits, imports, 1)
            atexit.register(_engines[setup].close)
        return _engines[setup]


def _level(setup: tuple[SandboxChoice, Limits, tuple[str, ...]]) -> str:
    try:
        return _engine(setup).level
    except MachineryError as error:
        return str(error)


def _run(
    setup: tuple[SandboxChoice, Limits, tuple[str, ...]], trial: Trial, files: dict[str, bytes]
) -> Verdicts:
    """On a worker: run one trial."""
    import tempfile

    engine = _engine(setup)
    with tempfile.TemporaryDirectory(prefix="files-") as folder:
        paths = [Path(folder) / name for name in files]
        for path in paths:
            path.write_bytes(files[path.name])
        ((_, verdicts),) = engine.run([replace(trial, files=tuple(paths))])
    return replace(verdicts, trial=replace(trial, cells=()))
