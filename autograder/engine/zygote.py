"""The warm process: it has loaded what the lab imports, and never runs anybody's code.

It is started by `host` with a socket as standard input.  For each trial it gets a connection, and
hands it to a keeper (`keeper`) that it has forked in advance: making a notebook's process and its
namespaces takes longer than running a small notebook, and much of that is waiting for the kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from autograder.engine import sandbox
from autograder.engine.executor import new_shell, run_cell
from autograder.engine.guard import pristine
from autograder.engine.keeper import keep
from autograder.engine.trials import Limits
from autograder.engine.wire import Wire

NEEDED = (
    "numpy",
    "numpy.random",
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

LARGE_PAGE, MADV_COLLAPSE = 2 * 2**20, 25
LARGE_PAGES_AFTER = 2
"""Trials after which large pages are made: that takes as long as it saves in about 15."""


def warm(imports: list[str]) -> None:
    """Load the modules a lab needs, and make the shell that each notebook gets a copy of.

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
    for source in ("import numpy", "1 / 0"):  # which load what a shell needs for its first cells
        run_cell(new_shell(), "warm", source, 60.0)
    new_shell()
    pristine()


def use_large_pages() -> None:
    """Gather this process's memory into large pages, where the kernel can (Linux 6.1 and later).

    A fork then copies one entry of the page table in place of 512, which is most of its cost.
    """
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, mode, _, _, inode, *_ = line.split()
        start, end = (int(number, 16) for number in place.split("-"))
        if mode == "rw-p" and inode == "0" and end - start >= LARGE_PAGE:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_COLLAPSE)


def private_worlds() -> bool:
    """Whether a notebook can have namespaces of its own here."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            sandbox.unshare()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def fork_keeper(limits: Limits, boxed: bool, others: Iterable[socket.socket]) -> socket.socket:
    """A keeper that waits for the connection of its trial on the other end of what is returned.

    `others` are connections of this process that it must not hold open.
    """
    mine, theirs = socket.socketpair()
    if os.fork() == 0:
        for other in (mine, *others):
            other.close()
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sandbox.die_with_parent()
        try:
            keep(theirs, limits, boxed)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    theirs.close()
    return mine


def main() -> None:
    """Serve until the host hangs up."""
    control = socket.socket(fileno=os.dup(0))
    sandbox.die_with_parent()
    hello = Wire(control)
    setup = hello.receive()
    assert setup is not None
    limits = Limits(**setup["limits"])
    boxed = setup["boxed"] and private_worlds()
    gc.disable()  # which imports would set off again and again, to find next to nothing
    warm(setup["imports"])
    gc.enable()
    hello.send({"private": boxed})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    served = 0
    # Without namespaces a waiting keeper would leave its folder behind when this process ends.
    ahead = setup["jobs"] + 1 if boxed else 0
    keepers: deque[socket.socket] = deque()
    while True:
        while len(keepers) < ahead:
            keepers.append(fork_keeper(limits, boxed, (control, *keepers)))
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            os._exit(0)
        while descriptors:
            keeper = keepers.popleft() if keepers else fork_keeper(limits, boxed, (control,))
            with keeper, contextlib.suppress(OSError):
                socket.send_fds(keeper, [b"t"], descriptors)
                os.close(descriptors.pop())
                served += 1
        if served == LARGE_PAGES_AFTER and sys.platform.startswith("linux"):
            use_large_pages()


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place not in ("", str(Path.cwd()))]
    main()
