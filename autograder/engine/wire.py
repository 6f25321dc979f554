"""Messages between the processes of the engine: one JSON object a line, over a stream socket."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

MAX_LINE = 64 * 2**20
"""Bytes of one message; who sends more is not one of ours."""


class Broken(Exception):
    """The other side sent what is no message."""


class Wire:
    """One end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message whole; raises OSError when the other side is gone."""
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The next message; None when `seconds` have passed without one.

        Raises EOFError when the other side is gone and `Broken` for what is no message.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while (message := self.pending()) is None:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self.sock], [], [], left)[0]:
                return None
            self.fill()
        return message

    def fill(self) -> None:
        """Read what has arrived; the socket must be readable."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data
        if len(self._buffer) > MAX_LINE:
            raise Broken(f"a message of more than {MAX_LINE} bytes")

    def pending(self) -> dict[str, Any] | None:
        """A message that has arrived whole, or None."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Broken("a line that is not JSON") from None
        if not isinstance(message, dict):
            raise Broken("a line that is not a JSON object")
        return message

    def close(self) -> None:
        self.sock.close()
