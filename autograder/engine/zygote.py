"""The warm process: it has loaded what the lab imports, and never runs anybody's code.

It is started by `host` with a socket as standard input.  For each trial it gets a connection, and
forks a keeper that serves it (`keeper`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from autograder.engine import sandbox
from autograder.engine.keeper import keep
from autograder.engine.trials import Limits
from autograder.engine.wire import Wire

NEEDED = (
    "numpy",
    "numpy.testing",
    "matplotlib_inline.backend_inline",
    "IPython.core.application",
    "IPython.core.completer",
    "IPython.core.completerlib",
    "IPython.core.magics",
    "IPython.core.oinspect",
    "pygments.formatters.terminal256",
    "stack_data",
)
"""What every notebook needs, much of which IPython would load when its shell is made."""


def warm(imports: list[str]) -> None:
    """Load the modules a lab needs.

    PyTorch is held to one thread, because a forked child of a process that has used more hangs in
    its first parallel operation.
    """
    import autograder.engine.judge
    import autograder.engine.world  # noqa: F401

    for name in (*NEEDED, *imports):
        with contextlib.suppress(ImportError):
            __import__(name)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def private_worlds() -> bool:
    """Whether a notebook can have namespaces of its own here."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            sandbox.unshare()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    """Serve until the host hangs up."""
    control = socket.socket(fileno=os.dup(0))
    sandbox.die_with_parent()
    hello = Wire(control)
    setup = hello.receive()
    assert setup is not None
    limits = Limits(**setup["limits"])
    warm(setup["imports"])
    boxed = setup["boxed"] and private_worlds()
    hello.send({"private": boxed})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            os.close(0)
            os.open(os.devnull, os.O_RDONLY)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sandbox.die_with_parent()
            try:
                keep(Wire(socket.socket(fileno=descriptors[0])), limits, boxed)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.close(descriptors[0])


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place not in ("", str(Path.cwd()))]
    main()
