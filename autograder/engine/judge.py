"""The process in which a test runs that need not share the notebook's: it only asks for values.

The test's source and what it expects never reach the process of the notebook's code; what comes
from there is decoded as data (`labkit.values`), never unpickled.
"""

from __future__ import annotations

import builtins
import os
from dataclasses import asdict
from typing import Any

from autograder.engine.executor import own_shell, run_test
from autograder.engine.wire import Wire
from autograder.labkit import outside


def run_judge(wire: Wire, cell: str, source: str, cell_seconds: float) -> None:
    """Run one test, asking over the wire for what the student's names give; send its result."""

    def ask(request: dict[str, Any]) -> Any:
        wire.send({"ask": request})
        reply = wire.receive()
        assert reply is not None
        if "raised" in reply:
            raise _exception(*reply["raised"])
        return reply["value"]

    outside.reach_through(ask)
    result = run_test(own_shell(), cell, source, cell_seconds)
    wire.send({"result": asdict(result)})
    os._exit(0)


def _exception(name: str, text: str) -> Exception:
    """What the student's code raised, as an exception of the same built-in type or of none."""
    kind = getattr(builtins, str(name), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(str(text))
        except TypeError:
            return RuntimeError(f"{name}: {text}")
    return RuntimeError(f"{name}: {text}")
