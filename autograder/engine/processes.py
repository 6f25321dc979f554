"""The processes that a process has started, and what they hold."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

PAGE = os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """All that `pid` has started and that still runs or waits to be reaped, nearest first.

    Linux lists children by parent; elsewhere every process is looked at.
    """
    if not Path("/proc/self/task").is_dir():
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop(0)):
            found.append(child)
            waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    """The direct children, whichever thread has started them."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    except OSError:
        return []
    return found


def private_bytes(pid: int) -> int:
    """Bytes of memory that the process does not share with a file; 0 when it is gone."""
    try:
        if Path("/proc/self/statm").exists():
            _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
            return (int(resident) - int(shared)) * PAGE
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error, ValueError):
        return 0


def command_line(pid: int) -> str:
    """What the process was started as; empty when it is gone, or only waits to be reaped."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline())[:120] or str(process.name())
    return ""
