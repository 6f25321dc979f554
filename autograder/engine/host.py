"""The grader's side of the engine: starts the warm process, hands it trials, collects verdicts."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from autograder.course import MachineryError
from autograder.engine import sandbox
from autograder.engine.executor import CellResult
from autograder.engine.trials import Limits, SandboxChoice, Trial, Verdicts
from autograder.engine.wire import Broken, Wire

START_SECONDS = 120.0
MAX_TRIES = 2
"""How often a trial is started when its keeper fails for no fault of the notebook."""


@dataclasses.dataclass(eq=False)
class _Running:
    number: int
    trial: Trial
    wire: Wire
    started: float
    cells: dict[str, CellResult] = dataclasses.field(default_factory=dict)
    end: dict[str, Any] | None = None
    tries: int = 1


class Engine:
    """Runs trials, `jobs` at a time, in forks of one warm process.

    The warm process starts with the first trial.  `level` says how notebooks are kept apart:
    "namespaces" (a sandbox for each) or "none"; `trouble` why it is none though one was wanted.
    """

    def __init__(
        self,
        choice: SandboxChoice,
        limits: Limits,
        imports: Sequence[str],
        jobs: int,
    ) -> None:
        trouble = "" if choice == "none" else sandbox.missing()
        if trouble and choice == "required":
            raise MachineryError(f"no sandbox: {trouble}")
        self.boxed = choice != "none" and not trouble
        self.trouble = trouble
        self.limits, self.imports, self.jobs = limits, list(imports), max(1, jobs)
        self.level = "namespaces" if self.boxed else "none"
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Start the warm process, if there is none, without waiting until it is warm."""
        if self._process is not None:
            return
        arguments = ["-P", "-m", "autograder.engine.zygote"]
        program = sandbox.command(arguments) if self.boxed else [sys.executable, *arguments]
        env = sandbox.environment(str(sandbox.PACKAGE.parent), tempfile.gettempdir())
        mine, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            program, stdin=theirs.fileno(), stdout=self._errors, stderr=self._errors, env=env
        )
        theirs.close()
        self.control = mine
        setup = {
            "limits": dataclasses.asdict(self.limits),
            "imports": self.imports,
            "boxed": self.boxed,
            "jobs": self.jobs,
        }
        with suppress(OSError):  # what became of it is said by `_wait`
            Wire(mine).send(setup)

    def _wait(self) -> None:
        """Until the warm process is warm; raises `MachineryError` when it does not get there."""
        if self._ready:
            return
        try:
            reply = Wire(self.control).receive(START_SECONDS)
        except (OSError, EOFError):
            reply = None
        if not reply:
            assert self._process is not None
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            cause = lines[-1] if lines else "it ended at once"
            self.close()
            raise MachineryError(f"the process that runs notebooks does not start: {cause}")
        if self.boxed and not reply["private"]:
            self.close()
            raise MachineryError("no sandbox: nested user namespaces are not permitted here")
        self._ready = True

    def close(self) -> None:
        """End the warm process and everything that it started."""
        if self._process is None:
            return
        self.control.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        self._process, self._ready = None, False

    def run(self, trials: Iterable[Trial]) -> Iterator[tuple[int, Verdicts]]:
        """Run trials, each as a place comes free; give each as it ends, with its number.

        The next one is under way before the caller is given the last.
        """
        waiting = enumerate(trials)
        running: set[_Running] = set()
        with selectors.DefaultSelector() as selector:

            def fill() -> None:
                for number, trial in itertools.islice(waiting, self.jobs - len(running)):
                    self._open(selector, running, number, trial)

            try:
                fill()
                while running:
                    for key, _ in selector.select(1.0):
                        item: _Running = key.data
                        if self._read(item):
                            continue
                        selector.unregister(item.wire)
                        item.wire.close()
                        running.discard(item)
                        if item.end is None and item.tries < MAX_TRIES:
                            self._open(selector, running, item.number, item.trial, item.tries + 1)
                        else:
                            verdicts = _verdicts(item)
                            fill()
                            yield item.number, verdicts
            finally:
                for item in running:
                    item.wire.close()

    def _revive(self) -> None:
        if self._ready and self._process is not None and self._process.poll() is not None:
            self.close()
        self.prepare()
        self._wait()

    def _open(
        self,
        selector: selectors.BaseSelector,
        running: set[_Running],
        number: int,
        trial: Trial,
        tries: int = 1,
    ) -> None:
        mine, theirs = socket.socketpair()
        with self._lock:
            self._revive()
            try:
                socket.send_fds(self.control, [b"t"], [theirs.fileno()])
            except OSError:
                self._revive()
                socket.send_fds(self.control, [b"t"], [theirs.fileno()])
        theirs.close()
        item = _Running(number, trial, Wire(mine), time.monotonic(), tries=tries)
        files = {p.name: base64.b64encode(p.read_bytes()).decode() for p in trial.files}
        with suppress(OSError):
            item.wire.send(
                {
                    "cells": trial.cells,
                    "tests": sorted(trial.tests),
                    "outside": sorted(trial.outside),
                    "files": files,
                }
            )
        running.add(item)
        selector.register(item.wire, selectors.EVENT_READ, item)

    def _read(self, item: _Running) -> bool:
        """Take in what a keeper says; whether there is more to come."""
        try:
            item.wire.fill()
            while (message := item.wire.pending()) is not None:
                if "result" in message:
                    result = CellResult(**message["result"])
                    item.cells[result.id] = result
                if "end" in message:
                    item.end = message["end"]
                    return False
        except (EOFError, Broken):
            return False
        return True


def _verdicts(item: _Running) -> Verdicts:
    end = item.end or {"left": [], "evidence": []}
    return Verdicts(
        trial=item.trial,
        cells=item.cells,
        seconds=time.monotonic() - item.started,
        left_behind=tuple(end["left"]),
        evidence=tuple(end["evidence"]),
        broken="" if item.end is not None else "its keeper ended before its time",
    )


@contextmanager
def open_engine(
    choice: SandboxChoice,
    limits: Limits,
    imports: Sequence[str],
    jobs: int,
) -> Iterator[Engine]:
    """An `Engine`, closed at the end; raises `MachineryError` when it cannot start."""
    engine = Engine(choice, limits, imports, jobs)
    try:
        yield engine
    finally:
        engine.close()


def run_trials(
    trials: Sequence[Trial],
    *,
    imports: Iterable[str] = (),
    jobs: int = 1,
    limits: Limits | None = None,
    sandbox: SandboxChoice = "auto",
    on_done: Callable[[Verdicts], None] = lambda _: None,
) -> list[Verdicts]:
    """Run all trials, `jobs` at a time, and return their verdicts in the order of the trials."""
    done: dict[int, Verdicts] = {}
    with open_engine(sandbox, limits or Limits(), list(imports), jobs) as engine:
        for number, verdicts in engine.run(trials):
            done[number] = verdicts
            on_done(verdicts)
    return [done[number] for number in range(len(trials))]
