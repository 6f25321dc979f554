"""The process in which a notebook's code runs: it does what its keeper says, one cell at a time.

Whatever this process reports may be forged by the code that runs in it; the keeper knows.
"""

from __future__ import annotations

import base64
import os
import random
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autograder.engine.executor import own_shell, run_cell, run_test, time_limit
from autograder.engine.guard import pristine
from autograder.engine.wire import Wire
from autograder.labkit.outside import Store, answer


def run_world(wire: Wire, cell_seconds: float) -> None:
    """Run cells and answer questions until the keeper hangs up."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    shell = own_shell()
    functions = pristine()
    store = Store()
    while True:
        try:
            order = wire.receive()
        except EOFError:
            os._exit(0)
        assert order is not None
        if "ask" in order:
            wire.send(_answer(order["ask"], shell.user_ns, store, cell_seconds))
            continue
        if "files" in order:
            for name, data in order["files"].items():
                Path(name).write_bytes(base64.b64decode(data))
            continue
        cell, source = order["cell"], order["source"]
        found: list[str] = []
        if order["test"]:
            found = functions.restore(shell.user_ns)
            result = run_test(shell, cell, source, cell_seconds)
        else:
            result = run_cell(shell, cell, source, cell_seconds)
        wire.send({"result": asdict(result), "found": found})


def _answer(
    request: dict[str, Any], names: dict[str, Any], store: Store, seconds: float
) -> dict[str, Any]:
    try:
        with time_limit(seconds):
            return {"value": answer(request, names, store)}
    except BaseException as error:
        return {"raised": [type(error).__name__, str(error)[:4000]]}
