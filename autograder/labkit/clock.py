"""Time that only passes when a test says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FakeClock:
    """A clock for schedulers, batchers and retries: `sleep` and `timer` cost no real time.

    Single-threaded: `sleep` moves the clock forward and runs the timers that fall due on the way,
    each at its own time.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        """Seconds since some instant; never goes back."""
        return self._now

    def timer(self, after: float, call: Callable[[], None]) -> None:
        """Have `call` run `after` seconds from now; raises ValueError for a negative delay."""
        if after < 0:
            raise ValueError(f"a timer cannot fire {-after:g} s ago")
        heapq.heappush(self._timers, (self._now + after, next(self._order), call))

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if seconds < 0:
            raise ValueError(f"cannot sleep for {seconds:g} s")
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            self._now, _, call = heapq.heappop(self._timers)
            call()
        self._now = max(self._now, end)
