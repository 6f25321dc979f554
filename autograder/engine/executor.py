"""Run code cells in an IPython shell of this process.

Cells go in as (id, source), one `CellResult` for each comes out, with the outputs that a notebook
would show.  The caller provides the process: a shell that has run somebody's code is spent.
"""

from __future__ import annotations

import ast
import builtins
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

Status = Literal["passed", "failed", "error", "timeout", "not executed"]
OUTPUT_BYTES = 200_000
"""What one cell may print or display; the rest is cut, and the cut is said."""
TRACEBACK_LINES = 40


class CellTimeout(BaseException):
    """Raised in a cell that has used up its time; not an `Exception`, so `except` lets it pass."""


@dataclass(frozen=True)
class CellResult:
    """What became of one cell.

    `failed` is an assertion that did not hold, `error` any other exception; `message` says it in
    the exception's own words; `outputs` are nbformat output dictionaries.  `award` is the value of
    the cell's last expression, where that is a number (partial credit), a text where it is not.
    """

    id: str
    status: Status
    seconds: float = 0.0
    message: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    award: float | str | None = None


class Recorder:
    """Collects the outputs of one cell, up to `limit` bytes."""

    def __init__(self, limit: int = OUTPUT_BYTES) -> None:
        self.limit = limit
        self.used = 0
        self.outputs: list[dict[str, Any]] = []

    def stream(self, name: str, text: str) -> None:
        text = self._cut(text)
        if not text:
            return
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last.get("name") == name:
            last["text"] += text
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": text})

    def display(self, kind: str, data: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        size = sum(len(str(value)) for value in data.values())
        if self.used + size > self.limit:
            self.stream("stdout", f"[an output of {size} bytes is left out]\n")
            return
        self.used += size
        output: dict[str, Any] = {
            "output_type": kind,
            "data": {key: _plain(value) for key, value in data.items()},
            "metadata": metadata or {},
        }
        if kind == "execute_result":
            output["execution_count"] = None
        self.outputs.append(output)

    def _cut(self, text: str) -> str:
        room = self.limit - self.used
        if room <= 0:
            return ""
        self.used += len(text)
        if len(text) > room:
            return text[:room] + f"\n[output cut after {self.limit} bytes]\n"
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode("ascii")
    return value


class _Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a running cell."""

    def __init__(self, shell: Shell, name: str) -> None:
        self.shell, self.stream_name = shell, name

    def write(self, text: str) -> int:
        if os.getpid() == self.shell.pid:
            self.shell.recorder.stream(self.stream_name, str(text))
        return len(text)

    def writable(self) -> bool:
        return True


class _Display(DisplayPublisher):  # type: ignore[misc]
    def publish(  # type: ignore[no-untyped-def]
        self, data, metadata=None, source=None, *, transient=None, update=False, **_
    ) -> None:
        self.shell.recorder.display("display_data", data, metadata)

    def clear_output(self, wait: bool = False) -> None:
        """Ignored: what a graded cell has shown stays."""


class _Result(DisplayHook):  # type: ignore[misc]
    def start_displayhook(self) -> None:
        """Nothing is printed before a result."""

    def write_output_prompt(self) -> None:
        """Nothing is printed before a result."""

    def write_format_data(
        self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
    ) -> None:
        self.shell.recorder.display("execute_result", format_dict, md_dict)

    def finish_displayhook(self) -> None:
        """Nothing is printed after a result."""


class Shell(InteractiveShell):  # type: ignore[misc]
    """An IPython shell that records instead of printing, and keeps no history on disk."""

    def __init__(self, **options: Any) -> None:
        self.recorder = Recorder()
        self.pid = os.getpid()
        self.error: tuple[str, str] | None = None
        super().__init__(display_pub_class=_Display, displayhook_class=_Result, **options)

    def enable_gui(self, gui: str | None = None) -> None:
        """There is no event loop to enable."""

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        lines = [line for text in stb for line in str(text).splitlines()]
        if len(lines) > TRACEBACK_LINES:
            cut = f"[{len(lines) - TRACEBACK_LINES} lines left out]"
            lines = [*lines[: TRACEBACK_LINES // 2], cut, *lines[-TRACEBACK_LINES // 2 :]]
        name, text = etype.__name__, _text_of(evalue)
        self.error = self.error or (name, text)
        self.recorder.outputs.append(
            {"output_type": "error", "ename": name, "evalue": text, "traceback": lines}
        )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:4000]
    except Exception:
        return "(its message cannot be shown)"


def new_shell() -> Shell:
    """The shell of this process, fresh; what an earlier one defined is gone."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Context"
    Shell.clear_instance()
    shell: Shell = Shell.instance(config=config)
    builtins.input = _no_input
    return shell


def own_shell() -> Shell:
    """This process's copy of the shell that the one it was forked from has made, or a new one."""
    if not Shell.initialized():
        return new_shell()
    shell: Shell = Shell.instance()
    shell.pid = os.getpid()
    return shell


def _no_input(prompt: object = "") -> NoReturn:
    raise RuntimeError("input() has nobody to ask while a notebook is being graded")


def run_cell(shell: Shell, cell_id: str, source: str, seconds: float) -> CellResult:
    """Run one cell for at most `seconds`; never raises for what the cell does."""
    shell.recorder, shell.error = Recorder(), None
    started = time.monotonic()
    escaped: BaseException | None = None
    value: Any = None
    with _streams(shell):
        try:
            with time_limit(seconds):
                value = shell.run_cell(source, store_history=True).result
        except BaseException as caught:
            escaped = caught
    spent = time.monotonic() - started
    error = shell.error or ((type(escaped).__name__, _text_of(escaped)) if escaped else None)
    status: Status = "passed"
    message = ""
    if error:
        name, text = error
        status = "failed" if name in ("AssertionError", "TaskFailed") else "error"
        message = text if name == "TaskFailed" else f"{name}: {text}".rstrip(": ")
        if name == "CellTimeout":
            status, message = "timeout", text
        if not shell.error:
            shell.recorder.outputs.append(
                {"output_type": "error", "ename": name, "evalue": text, "traceback": [message]}
            )
    return CellResult(cell_id, status, spent, message, shell.recorder.outputs, _award(value))


def _award(value: Any) -> float | str | None:
    if value is None or type(value) in (int, float):
        return value if value is None else float(value)
    return type(value).__name__


def run_cells(
    cells: Sequence[tuple[str, str]],
    *,
    cell_seconds: float,
    on_start: Callable[[str], None] = lambda _: None,
    on_result: Callable[[CellResult], None],
) -> None:
    """Run `cells` in order in a fresh shell; a failing cell does not stop the next."""
    shell = new_shell()
    for cell_id, source in cells:
        on_start(cell_id)
        on_result(run_cell(shell, cell_id, source, cell_seconds))


def run_test(shell: Shell, cell_id: str, source: str, seconds: float) -> CellResult:
    """Run a test in the notebook's namespace, past every hook that the notebook may have set.

    The value of a last line that is an expression is the test's award; None means all points.
    """
    shell.recorder = Recorder()
    started = time.monotonic()
    status: Status = "passed"
    message, value = "", None
    with _streams(shell):
        try:
            with time_limit(seconds):
                value = _evaluate(source, cell_id, shell.user_ns)
        except CellTimeout as error:
            status, message = "timeout", str(error)
        except BaseException as error:
            failed = isinstance(error, AssertionError)
            status, message = "failed" if failed else "error", _describe(error)
    spent = time.monotonic() - started
    if message:
        name = "TaskFailed" if status == "failed" else status
        shell.recorder.outputs.append(
            {
                "output_type": "error",
                "ename": name,
                "evalue": message,
                "traceback": message.splitlines(),
            }
        )
    return CellResult(cell_id, status, spent, message, shell.recorder.outputs, _award(value))


def _evaluate(source: str, name: str, names: dict[str, Any]) -> Any:
    tree = ast.parse(source, f"<{name}>")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"<{name}>", "exec", dont_inherit=True), names)
    if not isinstance(last, ast.Expr):
        return None
    value = ast.Expression(last.value)
    return eval(compile(value, f"<{name}>", "eval", dont_inherit=True), names)


def _describe(error: BaseException) -> str:
    """The exception in its own words and, unless it is meant for the student, where it arose."""
    if type(error).__name__ == "TaskFailed":
        return _text_of(error)
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if not frame.filename.startswith("/")]
    own = [frame for frame in frames if frame.filename.startswith("<ipython-input")] or places
    text = f"{type(error).__name__}: {_text_of(error)}".rstrip(": ")
    if isinstance(error, AssertionError) and _text_of(error):
        return text
    return f"{text}\n(in {own[-1].name}, line {own[-1].lineno})" if own[1:] else text


@contextmanager
def _streams(shell: Shell) -> Iterator[None]:
    saved = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(shell, "stdout"), _Stream(shell, "stderr")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = saved


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `CellTimeout` in the block when it takes longer than `seconds`."""

    def ring(signum: int, frame: Any) -> None:
        raise CellTimeout(f"the cell was stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
