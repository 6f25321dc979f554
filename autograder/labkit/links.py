"""Connections between processes that do nothing but send and receive, and count their bytes."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

LENGTH = struct.Struct("<Q")
Address = tuple[str, int]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a link at its send number `after`, counted from 0.

    `drop` loses that one message, `close` cuts the connection instead of sending, `kill` ends this
    process with SIGKILL right after the message has left.
    """

    action: Literal["drop", "close", "kill"]
    after: int


class Link:
    """A stream socket with counters.

    `delay` (seconds a message) and `bandwidth` (bytes a second) emulate a slower network by holding
    the sender back; they are an emulation, and labs that use them say so.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        delay: float = 0.0,
        bandwidth: float | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.sock = sock
        self.delay, self.bandwidth, self.fault = delay, bandwidth, fault
        self.bytes_out = self.bytes_in = self.sends = 0
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; raises ConnectionError when the other side is gone."""
        view = memoryview(data).cast("B")
        number, self.sends = self.sends, self.sends + 1
        hit = self.fault if self.fault and self.fault.after == number else None
        if hit and hit.action == "drop":
            return
        if hit and hit.action == "close":
            self.close()
            raise ConnectionAbortedError("the connection was cut")
        if self.delay or self.bandwidth:
            time.sleep(self.delay + (len(view) / self.bandwidth if self.bandwidth else 0.0))
        try:
            self.sock.sendall(view)
        except OSError as error:
            raise ConnectionError(f"cannot send: {error}") from error
        self.bytes_out += len(view)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)

    def receive(self, most: int = 1 << 16) -> bytes:
        """What has arrived, between 1 and `most` bytes; waits for it.

        Raises ConnectionError when the other side has closed.
        """
        try:
            data = self.sock.recv(most)
        except OSError as error:
            raise ConnectionError(f"cannot receive: {error}") from error
        if not data:
            raise ConnectionError("the other side has closed the connection")
        self.bytes_in += len(data)
        return data

    def receive_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += self.receive(size - len(data))
        return bytes(data)

    def close(self) -> None:
        """Cut the connection, also for a thread that is waiting on it."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def listen() -> tuple[socket.socket, Address]:
    """A listening TCP socket on the loopback, on a port that is free, and its address."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    host, port = sock.getsockname()[:2]
    return sock, (host, port)


def connect(
    address: Address,
    deadline: float = 10.0,
    *,
    delay: float = 0.0,
    bandwidth: float | None = None,
    fault: Fault | None = None,
) -> Link:
    """A link to `address`; raises ConnectionError when nobody accepts within `deadline` seconds."""
    try:
        sock = socket.create_connection(address, timeout=deadline)
    except OSError as error:
        raise ConnectionError(f"{address[0]}:{address[1]}: {error}") from error
    sock.settimeout(None)
    return Link(sock, delay=delay, bandwidth=bandwidth, fault=fault)


class Comm:
    """Point-to-point messages between `n` ranks; counts bytes and messages sent, headers apart.

    Make them all with `mesh(n)` before the workers start; each worker uses its own.
    """

    def __init__(self, rank: int, links: dict[int, Link]) -> None:
        self.rank, self.n = rank, len(links) + 1
        self.links = links
        self.bytes_out = self.bytes_in = self.messages = 0

    def send(self, to: int, data: bytes | bytearray | memoryview) -> None:
        """Send one message; waits until the network has taken all of it."""
        view = memoryview(data).cast("B")
        self.bytes_out += len(view)
        self.messages += 1
        self.links[to].send(LENGTH.pack(len(view)))
        if len(view):  # the reader of an empty message may have left after its header
            self.links[to].send(view)

    def isend(self, to: int, data: bytes | bytearray | memoryview) -> threading.Thread:
        """Send in the background; `join()` the answer before the next message to that rank."""
        thread = threading.Thread(target=self.send, args=(to, data), daemon=True)
        thread.start()
        return thread

    def recv(self, source: int) -> bytes:
        """The next message from `source`; waits for it."""
        (size,) = LENGTH.unpack(self.links[source].receive_exactly(LENGTH.size))
        data = self.links[source].receive_exactly(size)
        self.bytes_in += len(data)
        return data

    def barrier(self) -> None:
        """Wait until every rank is here (dissemination, ceil(log2 n) rounds of empty messages).

        Hensgen, Finkel and Manber, "Two algorithms for barrier synchronization", 1988.
        """
        step = 1
        while step < self.n:
            self.links[(self.rank + step) % self.n].send(LENGTH.pack(0))
            self.links[(self.rank - step) % self.n].receive_exactly(LENGTH.size)
            step *= 2

    def close(self) -> None:
        for link in self.links.values():
            link.close()


@contextmanager
def mesh(n: int, *, delay: float = 0.0, bandwidth: float | None = None) -> Iterator[list[Comm]]:
    """The `Comm` of each of `n` ranks, connected pairwise by Unix stream sockets."""
    links: list[dict[int, Link]] = [{} for _ in range(n)]
    for one in range(n):
        for other in range(one):
            ends = socket.socketpair()
            links[one][other] = Link(ends[0], delay=delay, bandwidth=bandwidth)
            links[other][one] = Link(ends[1], delay=delay, bandwidth=bandwidth)
    comms = [Comm(rank, links[rank]) for rank in range(n)]
    try:
        yield comms
    finally:
        for comm in comms:
            comm.close()
