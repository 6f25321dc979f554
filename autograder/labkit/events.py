"""A record of what happened when, shared by threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """`kind` happened at `at` seconds; `data` says more; `until` is set for what took a while."""

    kind: str
    at: float
    data: dict[str, Any] = field(default_factory=dict)
    until: float | None = None


class EventLog:
    """Events in the order in which they were appended, on a monotonic clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.events: list[Event] = []

    def append(self, kind: str, **data: Any) -> Event:
        """Record an instant."""
        with self._lock:
            event = Event(kind, self._now(), data)
            self.events.append(event)
        return event

    def span(self, kind: str, **data: Any) -> _Span:
        """Record how long a `with` block takes; the event is appended when the block ends."""
        return _Span(self, kind, data)

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def overlaps(self, one: str, other: str) -> bool:
        """Whether some span of kind `one` and some other span of kind `other` share time."""
        return any(
            a is not b and _end(a) > b.at and _end(b) > a.at
            for a in self.of(one)
            for b in self.of(other)
        )

    def max_concurrency(self, kind: str) -> int:
        """The most spans of `kind` that were open at one time."""
        edges = [(event.at, 1) for event in self.of(kind)]
        edges += [(_end(event), -1) for event in self.of(kind)]
        most = level = 0
        for _, step in sorted(edges):
            level += step
            most = max(most, level)
        return most

    def happens_before(self, first: str, then: str) -> bool:
        """Whether every event of kind `first` had ended when the earliest `then` began."""
        starts = [event.at for event in self.of(then)]
        ends = [_end(event) for event in self.of(first)]
        return bool(starts and ends) and max(ends) <= min(starts)


class _Span:
    def __init__(self, log: EventLog, kind: str, data: dict[str, Any]) -> None:
        self.log, self.kind, self.data = log, kind, data

    def __enter__(self) -> None:
        self.began = self.log._now()

    def __exit__(self, *_: object) -> None:
        with self.log._lock:
            self.log.events.append(Event(self.kind, self.began, self.data, self.log._now()))


def _end(event: Event) -> float:
    return event.at if event.until is None else event.until
