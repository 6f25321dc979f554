"""Functions in processes of their own, each with a deadline, none left behind.

A worker leads a process group, so that what it starts ends with it.  It is a fork of this process
(it sees the notebook's names) or, with `fresh`, a new interpreter, which sees only its arguments.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

BOOTSTRAP = "from autograder.labkit.workers import _fresh_main; _fresh_main()"


@dataclass(frozen=True)
class Result:
    """What became of a worker.

    `value` is what its function returned (status ok); `error` the traceback of what it raised
    (error); `signal` what ended it (killed); a worker past its deadline is killed (deadline).
    `left_behind` tells that processes which it had started outlived it; they are killed too.
    """

    rank: int
    status: Literal["ok", "error", "killed", "deadline"]
    value: Any = None
    error: str = ""
    signal: int = 0
    seconds: float = 0.0
    left_behind: bool = False


class Worker:
    """`fn(*args)` in a process of its own.  Also a context manager: the process ends with it."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *args: Any,
        rank: int = 0,
        fresh: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.rank = rank
        self.started = time.monotonic()
        self._result: Result | None = None
        self._inbox, outbox = os.pipe()
        variables = {"OMP_NUM_THREADS": "1", **(env or {})}
        if fresh:
            self.pid = _start_fresh(fn, args, outbox, variables)
        else:
            self.pid = _start_fork(fn, args, outbox, variables, self._inbox)
        os.close(outbox)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the worker and all that it started; SIGKILL also waits for its end."""
        if self._result is not None:
            return
        _signal_group(self.pid, signum)
        if signum == signal.SIGKILL:
            self.result(10)

    def result(self, deadline: float = 30.0) -> Result:
        """Wait up to `deadline` seconds from now, then kill it; the same answer ever after."""
        if self._result is None:
            self._result = self._collect(time.monotonic() + deadline)
        return self._result

    def _collect(self, end: float) -> Result:
        data = bytearray()
        status: Literal["ok", "error", "killed", "deadline"] = "killed"
        while True:
            ready, _, _ = select.select([self._inbox], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                status = "deadline"
                break
            chunk = os.read(self._inbox, 1 << 16)
            data += chunk
            if not chunk or len(data) >= 8 + int.from_bytes(data[:8], "little"):
                break
        os.close(self._inbox)
        if status == "deadline":
            _signal_group(self.pid, signal.SIGKILL)
        exitcode = self._reap(5.0)
        left = _signal_group(self.pid, signal.SIGKILL)
        value, error = None, ""
        if len(data) >= 8:
            status, value, error = pickle.loads(bytes(data[8:]))
        elif status == "killed" and exitcode >= 0:
            status, error = "error", f"the process ended itself with exit status {exitcode}"
        return Result(
            self.rank,
            status,
            value,
            error,
            signal=max(0, -exitcode) if status == "killed" else 0,
            seconds=time.monotonic() - self.started,
            left_behind=left and status in ("ok", "error"),
        )

    def _reap(self, seconds: float) -> int:
        """The exit status of the process; one that has answered but lingers is killed."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                _signal_group(self.pid, signal.SIGKILL)
            time.sleep(0.001)


def run_workers(
    fn: Callable[..., Any],
    n: int,
    *,
    args: tuple[Any, ...] = (),
    deadline: float = 30.0,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> list[Result]:
    """Run `fn(rank, *args)` in `n` processes at once and collect their results, by rank.

    `deadline` (seconds) holds for all together.  Raises nothing for what the workers do.
    """
    end = time.monotonic() + deadline
    workers: list[Worker] = []
    try:
        for rank in range(n):
            workers.append(Worker(fn, rank, *args, rank=rank, fresh=fresh, env=env))
        return [worker.result(max(0.0, end - time.monotonic())) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def _signal_group(pid: int, signum: int) -> bool:
    """Whether there was anybody left to receive it."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _start_fork(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    outbox: int,
    variables: Mapping[str, str],
    inbox: int,
) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        _lead_group(pid)
        return pid
    try:
        _lead_group(0)
        os.close(inbox)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(signum, signal.SIG_DFL)
        os.environ.update(variables)
        _answer(outbox, fn, args)
    finally:
        os._exit(0)


def _lead_group(pid: int) -> None:
    """Parent and child both do it, so that neither is ahead of it."""
    try:
        os.setpgid(pid, 0)
    except (PermissionError, ProcessLookupError):
        return


def _start_fresh(
    fn: Callable[..., Any], args: tuple[Any, ...], outbox: int, variables: Mapping[str, str]
) -> int:
    import cloudpickle

    process = subprocess.Popen(
        [sys.executable, "-c", BOOTSTRAP, str(outbox)],
        stdin=subprocess.PIPE,
        pass_fds=[outbox],
        start_new_session=True,
        env={**os.environ, **variables},
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(cloudpickle.dumps((fn, args)))
    # The exit status is read by Worker, not by Popen.
    process.returncode = 0
    return process.pid


def _fresh_main() -> None:
    outbox = int(sys.argv[1])
    fn, args = pickle.load(sys.stdin.buffer)
    _answer(outbox, fn, args)


def _answer(outbox: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        body = pickle.dumps(("ok", fn(*args), ""))
    except BaseException:
        body = pickle.dumps(("error", None, traceback.format_exc()))
    data = len(body).to_bytes(8, "little") + body
    while data:
        data = data[os.write(outbox, data) :]
