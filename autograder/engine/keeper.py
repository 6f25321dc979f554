"""The keeper of one trial: it never runs the notebook's code, and says what became of each cell.

It makes the notebook's process (`world`), in namespaces of its own where there are any, sends it
one cell after another, lets tests that can run apart run in a judge, scatters canaries among the
rest, ends what oversteps its limits, and ends everything at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autograder.engine import sandbox
from autograder.engine.executor import CellResult, Status
from autograder.engine.guard import canaries
from autograder.engine.judge import run_judge
from autograder.engine.processes import command_line, descendants, private_bytes
from autograder.engine.trials import Limits
from autograder.engine.wire import Broken, Wire
from autograder.engine.world import run_world

STUBBORN = 5.0
"""Seconds after its deadline that a cell gets before its process is killed."""
GRACE = 0.5
"""Seconds that processes of a finished trial get to end before they count as left behind."""
LAST_WORDS = 2.0
"""Seconds that the notebook's own process gets to end when it is told to, before that begins."""
TICK = 0.05
"""Seconds between two looks at memory and processes."""
PR_SET_CHILD_SUBREAPER = 36
STATUSES = ("passed", "failed", "error", "timeout")


class Ended(Exception):
    """The notebook's process is gone, or had to be ended; says why."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


def keep(waiting: socket.socket, limits: Limits, boxed: bool) -> None:
    """Serve one trial, whose connection comes over `waiting`: cells in, results out one by one.

    The notebook's process is forked before the cells are read, so that no test is in its memory.
    """
    trial = _Trial(limits, boxed)
    try:
        message, descriptors, _, _ = socket.recv_fds(waiting, 1, 1)
        if not message:
            return
        host = Wire(socket.socket(fileno=descriptors[0]))
        order = host.receive()
        assert order is not None
        trial.begin()
        tests, outside = set(order["tests"]), set(order["outside"])
        plan = _with_canaries(order["cells"], tests, outside)
        evidence: list[str] = []
        trial.lay_out(order["files"])
        for cell, source, canary in plan:
            try:
                found: list[str] = []
                if cell in outside:
                    result = trial.judge(cell, source)
                else:
                    result, found = trial.run(cell, source, cell in tests or canary is not None)
            except Ended as end:
                if canary is None:
                    host.send({"result": asdict(CellResult(cell, end.status, message=str(end)))})
                break
            except Broken as error:
                evidence.append(f"{cell}: its process sent {error}")
                break
            evidence += [f"before {cell}: {what}" for what in found]
            if canary is not None:
                complaint = canary.complaint(result)
                evidence += [complaint] if complaint else []
            else:
                host.send({"result": asdict(result)})
        left = trial.hang_up()
        if not boxed:
            trial.end()  # once the host knows the end this process may be killed with its parent
        host.send({"end": {"left": left, "evidence": list(dict.fromkeys(evidence))}})
    finally:
        trial.end()


def _with_canaries(
    cells: list[list[str]], tests: set[str], outside: set[str]
) -> Iterator[tuple[str, str, Any]]:
    """The cells, with canaries at random places before tests that share the notebook's process."""
    dice = random.SystemRandom()
    shared = [cell for cell, _ in cells if cell in tests and cell not in outside]
    places: dict[str, list[Any]] = {}
    for canary in canaries(dice) if shared else []:
        places.setdefault(dice.choice(shared), []).append(canary)
    for cell, source in cells:
        for canary in places.get(cell, []):
            yield canary.id, canary.source, canary
        yield cell, source, None


class _Trial:
    """The notebook's process and what belongs to it."""

    def __init__(self, limits: Limits, boxed: bool) -> None:
        self.limits, self.boxed = limits, boxed
        self.begin()
        self.deaths, deaths = os.pipe()
        mine, theirs = socket.socketpair()
        self.world = Wire(mine)
        self.folder = "" if boxed else tempfile.mkdtemp(prefix="trial-")
        if not boxed and sys.platform.startswith("linux"):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        child = os.fork()
        if child == 0:
            try:
                _close_all_but(theirs.fileno(), deaths)
                make = _boxed_world if boxed else _open_world
                make(Wire(theirs), limits, deaths, self.folder)
            finally:
                os._exit(1)
        theirs.close()
        os.close(deaths)
        self.child = child
        self.ended = False

    def begin(self) -> None:
        """Count the notebook's time from now."""
        self.looked_at = time.monotonic()
        self.end_at = self.looked_at + self.limits.total_seconds

    def lay_out(self, files: dict[str, str]) -> None:
        """Have the world write the files of the lab, which come as base64, into its folder."""
        self._tell({"files": files})

    def run(self, cell: str, source: str, test: bool) -> tuple[CellResult, list[str]]:
        """Have the world run one cell; raises `Ended` when it does not live to tell."""
        self._tell({"cell": cell, "source": source, "test": test})
        reply = self._hear(time.monotonic() + self.limits.cell_seconds + STUBBORN)
        return _result(reply.get("result"), cell), [str(what) for what in reply.get("found", [])]

    def judge(self, cell: str, source: str) -> CellResult:
        """Run a test in a process of its own that asks the world for values."""
        mine, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                _close_all_but(theirs.fileno())
                sandbox.die_with_parent()
                run_judge(Wire(theirs), cell, source, self.limits.cell_seconds)
            finally:
                os._exit(1)
        theirs.close()
        judge = Wire(mine)
        deadline = time.monotonic() + self.limits.cell_seconds + STUBBORN
        try:
            while True:
                asked = judge.receive(max(0.0, deadline - time.monotonic()))
                if asked is None:
                    return CellResult(cell, "timeout", message="the test had to be stopped")
                if "result" in asked:
                    return _result(asked["result"], cell)
                self._tell(asked)
                reply = self._hear(deadline)
                with contextlib.suppress(OSError):  # it may have run out of time meanwhile
                    judge.send(reply)
        except EOFError:
            return CellResult(cell, "error", message="the test's process ended before its time")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            judge.close()

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self.world.send(message)
        except OSError:
            raise self._dead() from None

    def _hear(self, deadline: float) -> dict[str, Any]:
        """What the world answers, while it keeps its limits."""
        while (reply := self.world.pending()) is None:
            now = time.monotonic()
            look = now > self.looked_at + TICK
            if now > min(deadline, self.end_at):
                self._kill()
                if now > self.end_at:
                    seconds = self.limits.total_seconds
                    raise Ended("timeout", f"the notebook was stopped after {seconds:g} s in all")
                raise Ended("timeout", "the cell had to be stopped by force")
            if look and self.overstepped():
                self._kill()
                raise Ended("error", self.overstepped_what)
            if select.select([self.world], [], [], TICK)[0]:
                try:
                    self.world.fill()
                except EOFError:
                    raise self._dead() from None
        return reply

    overstepped_what = ""

    def overstepped(self) -> bool:
        """Whether the notebook's processes are too many, or hold too much memory together."""
        self.looked_at = time.monotonic()
        members = descendants(self.child)
        total = sum(map(private_bytes, members))
        if len(members) > self.limits.processes:
            self.overstepped_what = (
                f"the cell had more than {self.limits.processes} processes and was stopped"
            )
        elif total > self.limits.memory:
            self.overstepped_what = (
                f"the cell used more than {self.limits.memory / 2**30:.1f} GiB and was stopped"
            )
        return bool(self.overstepped_what)

    def _dead(self) -> Ended:
        """Why the world is gone, from its exit status."""
        ready = select.select([self.deaths], [], [], LAST_WORDS)[0]
        text = os.read(self.deaths, 64).decode() if ready else ""
        status = int(text) if text.lstrip("-").isdigit() else 0
        if status < 0:
            name = signal.Signals(-status).name
            return Ended("error", f"the cell killed its process ({name})")
        return Ended("error", f"the cell ended its process (exit status {status})")

    def _kill(self) -> None:
        for pid in descendants(self.child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def hang_up(self) -> list[str]:
        """Tell the world that nothing more will come; what has not ended by itself thereupon."""
        with contextlib.suppress(OSError):
            self.world.sock.shutdown(socket.SHUT_RDWR)
        self.world.close()
        select.select([self.deaths], [], [], LAST_WORDS)
        return self._still_running()

    def end(self) -> None:
        """End the world and all that it started, whatever state they are in."""
        if self.ended:
            return
        self.ended = True
        self._kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        for orphan in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        os.close(self.deaths)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _still_running(self) -> list[str]:
        end = time.monotonic() + GRACE
        while True:
            # Not the one that we have put there to look after the others.
            others = (
                descendants(self.child)[1:]
                if self.boxed
                else [pid for pid in descendants(os.getpid()) if pid != self.child]
            )
            lines = [line for line in map(command_line, others) if line]
            if not lines or time.monotonic() > end:
                return lines
            time.sleep(0.005)


def _result(data: Any, cell: str) -> CellResult:
    """A result that came over a wire, checked field by field."""
    try:
        result = CellResult(**data)
    except TypeError:
        raise Broken("a result of another form") from None
    award = result.award
    sound = (
        result.status in STATUSES
        and isinstance(result.message, str)
        and isinstance(result.seconds, float)
        and isinstance(result.outputs, list)
        and all(isinstance(output, dict) for output in result.outputs)
        and (award is None or isinstance(award, float | str))
    )
    if not sound or result.id != cell:
        raise Broken("a result of another form or another cell")
    return result


def _close_all_but(*kept: int) -> None:
    """Close every descriptor but the standard ones and these: none may reach the student's code."""
    for number in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if number > 2 and number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _boxed_world(wire: Wire, limits: Limits, deaths: int, folder: str) -> None:
    """Make namespaces; their first process looks after the world and reaps what it leaves."""
    sandbox.unshare()
    first = os.fork()
    if first:
        wire.close()
        os.close(deaths)
        os.waitpid(first, 0)
        os._exit(0)
    sandbox.die_with_parent()
    sandbox.furnish(limits)
    world = os.fork()
    if world == 0:
        os.close(deaths)
        sandbox.restrict(limits)
        sandbox.drop_privileges()
        run_world(wire, limits.cell_seconds)
    wire.close()
    sandbox.drop_privileges()
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if pid == world:
            os.write(deaths, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(deaths)


def _open_world(wire: Wire, limits: Limits, deaths: int, folder: str) -> None:
    """The same without namespaces: a scratch folder, and limits that the kernel keeps."""
    sandbox.die_with_parent()
    world = os.fork()
    if world == 0:
        os.close(deaths)
        os.chdir(folder)
        sandbox.restrict(limits)
        run_world(wire, limits.cell_seconds)
    wire.close()
    _, status = os.waitpid(world, 0)
    os.write(deaths, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(deaths)
    while True:
        signal.pause()
