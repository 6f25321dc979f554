# ---
# title: A parameter server over processes
# hours: 7
# imports: [numpy, matplotlib.pyplot, cloudpickle, autograder.labkit]
# ---

# %% [markdown]
# # A parameter server over processes
#
# Li and others report that a parameter server trains models of a hundred billion parameters because it gives up two things
# that a database would keep: workers may read values that are a few updates old, and most of what could be sent is not
# sent at all (*Scaling distributed machine learning with the parameter server*, OSDI 2014). In this lab you build
# one: messages over TCP, keys spread over server processes, updates from many workers at once, a bound on staleness, a chain of
# replicas that survives `SIGKILL`, and two filters that keep bytes off the wire. Then you measure what the bound buys.
#
# You need the chapter *The parameter server*. Every part is tested by itself: a mistake in one task costs that task only, and
# you may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# Four workers train with two servers. In one iteration out of ten a worker stalls, for 40 ms instead of 3 ms. Guess how many
# times longer the whole run takes when nobody may be ahead of the slowest (bound 0) than when a worker may be up to eight
# iterations ahead. And guess which part of the bytes of a training run a cache of key lists can save, in percent.

# %%
from autograder.labkit import plot_vs, predict

predict("time at bound 0 / time at bound 8", 1.0, "times")
predict("bytes saved by the key cache", 0, "%")

# %% given
import bisect
import hashlib
import json
import struct
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from autograder.labkit import Fault, Link, Worker, connect, listen, mesh, run_workers
from autograder.labkit import expect, expect_close, expect_equal, expect_raises, within, zipf_keys

PUSH, PULL, CLOCK, REPLY = 1, 2, 3, 4


class Message(NamedTuple):
    """What travels between workers and servers."""

    kind: int  # PUSH, PULL, CLOCK or REPLY
    sender: int  # rank of the worker, int32
    seq: int  # number of the message among its sender's, int64
    clock: int  # iteration of the worker, int64
    keys: np.ndarray  # uint64, shape (n,)
    values: np.ndarray  # float32, shape (n, width); width is 0 where there are only keys


NO_KEYS = np.empty(0, np.uint64)
NO_VALUES = np.empty((0, 0), np.float32)


# %% [markdown]
# ## Task 1. Framing
#
# TCP carries a stream of bytes, not messages: one `recv` may bring half a message, or three. A frame says where a message
# ends. Ours, with all numbers little-endian:
#
# | bytes | field | |
# |---:|---|---|
# | 2 | magic | `b"PS"` |
# | 1 | version | 1 |
# | 1 | kind | 1 to 4 |
# | 4 | sender | signed |
# | 8 | seq | signed |
# | 8 | clock | signed |
# | 4 | n | number of keys, unsigned |
# | 4 | width | values per key, unsigned |
# | 8 n | keys | unsigned |
# | 4 n width | values | float32, row after row |
#
# - `encode(message) -> bytes`. Keys and values may come as any array or list that NumPy can convert.
# - `decode(buffer, start=0) -> (Message, end)` reads the frame that begins at `start`; `end` is where the next one begins. It
#   returns `None` while the frame is incomplete. Keys and values are **views** of `buffer`: decoding must not copy them.
# - A frame with another magic, version or kind, or whose keys and values would exceed `MAX_PAYLOAD` bytes, raises `ValueError` as
#   soon as its 32 bytes of header are there. A server must not wait for 4 GB that a broken peer has promised.

# %% given
MAX_PAYLOAD = 64 * 2**20

# %% task framing
HEADER = struct.Struct("<2sBBiqqII")


def encode(message):
    """The frame of a message, as bytes."""
    ### BEGIN SOLUTION
    keys = np.ascontiguousarray(message.keys, dtype="<u8")
    values = np.ascontiguousarray(message.values, dtype="<f4")
    width = values.size // len(keys) if len(keys) else 0
    header = HEADER.pack(
        b"PS", 1, message.kind, message.sender, message.seq, message.clock, len(keys), width
    )
    return b"".join([header, keys.tobytes(), values.tobytes()])
    ### END SOLUTION


def decode(buffer, start=0):
    """The message whose frame begins at `start` and the position after it; None if incomplete."""
    ### BEGIN SOLUTION
    if len(buffer) - start < HEADER.size:
        return None
    magic, version, kind, sender, seq, clock, n, width = HEADER.unpack_from(buffer, start)
    payload = 8 * n + 4 * n * width
    if (magic, version) != (b"PS", 1) or kind not in (PUSH, PULL, CLOCK, REPLY):
        raise ValueError(f"not a frame: {bytes(buffer[start : start + 4])!r}")
    if payload > MAX_PAYLOAD:
        raise ValueError(f"a frame of {payload} bytes exceeds {MAX_PAYLOAD}")
    keys_at = start + HEADER.size
    if len(buffer) < keys_at + payload:
        return None
    keys = np.frombuffer(buffer, "<u8", n, keys_at)
    values = np.frombuffer(buffer, "<f4", n * width, keys_at + 8 * n).reshape(n, width)
    return Message(kind, sender, seq, clock, keys, values), keys_at + payload
    ### END SOLUTION


# %% test framing 4
_sent = Message(
    PUSH, 3, 41, 7, np.array([5, 2**40], np.uint64), np.array([[1, 2], [3, 4]], np.float32)
)
_frame = encode(_sent)
expect_equal(
    len(_frame), 32 + 2 * 8 + 4 * 4, "bytes of a frame with 2 keys of width 2", "the table"
)
expect_equal(_frame[:4], b"PS\x01\x01", "the first four bytes of a push")
_message, _end = decode(_frame)
expect_equal(_end, len(_frame), "decode: the position after the frame")
for _field in ("kind", "sender", "seq", "clock"):
    expect_equal(getattr(_message, _field), getattr(_sent, _field), f"decode: {_field}")
expect_equal(np.asarray(_message.keys).tolist(), [5, 2**40], "decode: keys")
expect_close(_message.values, _sent.values, "decode: values")
expect(
    decode(_frame[:-1]) is None, "A frame that lacks its last byte must give None", "len(buffer)"
)
expect_equal(decode(_frame + b"PS", 0)[1], len(_frame), "decode stops where the frame ends")
expect_raises(ValueError, lambda: decode(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"), "junk")
print("Framing: the visible test passes.")

# %% hidden framing 7
ref = reference()
random = np.random.default_rng(7)


def some_message(n, width):
    return Message(
        int(random.integers(1, 5)),
        int(random.integers(-(2**31), 2**31)),
        int(random.integers(-(2**63), 2**63 - 1)),
        int(random.integers(0, 2**40)),
        random.integers(0, 2**63, n).astype(np.uint64),
        random.normal(size=(n, width)).astype(np.float32),
    )


def same(got, sent, what):
    for field in ("kind", "sender", "seq", "clock"):
        expect_equal(int(getattr(got, field)), getattr(sent, field), f"{what}: {field}")
    expect_equal(np.asarray(got.keys, np.uint64), sent.keys, f"{what}: keys")
    expect_equal(np.asarray(got.values, np.float32), sent.values, f"{what}: values")


for n, width in [(0, 0), (1, 0), (1, 1), (3, 5), (1000, 16), (40_000, 8)]:
    sent = some_message(n, width)
    frame = encode(sent)
    what = f"a message of {n} keys of width {width} ({len(frame)} bytes)"
    expect_equal(bytes(frame), ref.encode(sent), f"{what}: the frame")
    found = decode(ref.encode(sent))
    expect(found is not None, f"{what}: a complete frame gives None")
    same(found[0], sent, what)

first, second = some_message(4, 3), some_message(2, 1)
stream = ref.encode(first) + ref.encode(second)
cut = len(ref.encode(first))
for end in range(len(stream) + 1):
    found = decode(stream[:end])
    if end < cut:
        expect(found is None, f"{end} of {cut} bytes have arrived: decode must give None")
    else:
        same(found[0], first, f"{end} bytes have arrived")
        expect_equal(found[1], cut, "the position after the first frame")
        later = decode(stream[:end], cut)
        expect((later is not None) == (end == len(stream)), f"second frame, {end} bytes arrived")
same(decode(stream, cut)[0], second, "the second frame, decoded with start")

frame = bytearray(ref.encode(some_message(100, 4)))
message = decode(frame)[0]
for field in ("keys", "values"):
    expect(
        np.shares_memory(getattr(message, field), np.frombuffer(frame, np.uint8)),
        f"decode copies the {field}",
        "numpy.frombuffer makes a view",
    )
expect_equal(
    bytes(encode(first._replace(values=np.asfortranarray(first.values, dtype=np.float64)))),
    ref.encode(first),
    "values that lie column by column in float64",
    "numpy.ascontiguousarray",
)

good = ref.encode(first)[:32]
for broken, what in [
    (b"PX" + good[2:], "another magic"),
    (good[:2] + b"\x02" + good[3:], "another version"),
    (good[:3] + b"\x00" + good[4:], "kind 0"),
    (good[:3] + b"\x09" + good[4:], "kind 9"),
    (good[:24] + b"\xff" * 8, "a payload of 2**66 bytes"),
    (good[:24] + struct.pack("<II", 2**20, 2**10), "a payload of 4 GB"),
]:
    expect_raises(ValueError, lambda broken=broken: decode(broken), f"a header with {what}")

# %% hints framing [markdown]
# 1. Check in this order: is the header complete, is it valid, is the payload complete? Each has its own answer: `None`,
#    `ValueError`, `None`.
# 2. `HEADER.unpack_from(buffer, start)` reads without slicing; `numpy.frombuffer(buffer, dtype, count, offset)` makes a view.
# 3. The payload is `8 * n + 4 * n * width` bytes. In `encode`, convert with `numpy.ascontiguousarray(..., dtype="<f4")` first, so
#    that `tobytes` gives the rows in order, and join header, keys and values.

# %% [markdown]
# ## Task 2. Whose key is it?
#
# Keys are spread over servers by consistent hashing (Karger and others, STOC 1997): each server stands at `vnodes` points of a
# circle of hash values, and a key belongs to the server at the next point clockwise. When a server joins, it takes keys from
# the others, and no key moves between two old servers.
#
# - `HashRing(nodes, vnodes=256)` takes the names of the servers (strings); without any it raises `ValueError`.
# - `owner(key) -> str` is the name of the server of a key (an int below 2^64).
# - `owners(key, count) -> list[str]` gives the owner and the next servers on the circle, `count` different ones, for replicas;
#   it raises `ValueError` when there are not that many.
#
# Every process must come to the same answer. With 256 points a server, the busiest of up to eight servers may own at most 1.25
# times the mean.


# %% task hash_ring
class HashRing:
    """Consistent hashing with virtual nodes."""

    def __init__(self, nodes, vnodes=256):
        ### BEGIN SOLUTION
        self.nodes = sorted(set(nodes))
        if not self.nodes:
            raise ValueError("a ring needs a node")
        points = [(self._hash(f"{node}#{i}"), node) for node in self.nodes for i in range(vnodes)]
        self.points = sorted(points)
        self.hashes = [point for point, _ in self.points]
        ### END SOLUTION

    def owner(self, key):
        ### BEGIN SOLUTION
        return self.owners(key, 1)[0]
        ### END SOLUTION

    def owners(self, key, count):
        ### BEGIN SOLUTION
        if count > len(self.nodes):
            raise ValueError(f"{count} replicas asked of {len(self.nodes)} nodes")
        found = []
        at = bisect.bisect_left(self.hashes, self._hash(f"key {int(key)}"))
        while len(found) < count:
            node = self.points[at % len(self.points)][1]
            if node not in found:
                found.append(node)
            at += 1
        return found

    @staticmethod
    def _hash(text):
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        ### END SOLUTION


# %% test hash_ring 3
_ring = HashRing(["red", "green", "blue"])
_owners = [_ring.owner(key) for key in range(3000)]
for _node in ("red", "green", "blue"):
    expect(
        _owners.count(_node) <= 1.25 * 1000,
        f"{_node} owns {_owners.count(_node)} of 3000 keys; 1250 are allowed",
        "the number of points a server has, and how evenly they are hashed",
    )
expect_equal(_owners, [_ring.owner(key) for key in range(3000)], "asking again")
_three = _ring.owners(17, 3)
expect_equal(sorted(_three), ["blue", "green", "red"], "owners(17, 3), sorted")
expect_equal(_three[0], _ring.owner(17), "the first of owners(17, 3)")
expect_raises(ValueError, lambda: HashRing([]), "a ring without nodes")
print("The ring: the visible test passes.")

# %% hidden hash_ring 7
keys = [int(key) for key in np.random.default_rng(3).integers(0, 2**63, 6000)] + list(range(2000))
for count in (2, 5, 8):
    names = [f"server-{i}" for i in range(count)]
    before = HashRing(names)
    owner = [before.owner(key) for key in keys]
    expect(set(owner) <= set(names), f"{count} servers: an owner that is no server")
    busiest = max(owner.count(name) for name in names) / (len(keys) / count)
    expect(
        busiest <= 1.25,
        f"{count} servers: the busiest owns {busiest:.2f} times the mean; 1.25 is allowed",
        "256 points for each server; the hash must scatter neighbouring keys",
    )
    after = HashRing([*names, "newcomer"])
    moved = [(old, after.owner(key)) for old, key in zip(owner, keys)]
    strays = [pair for pair in moved if pair[0] != pair[1] and pair[1] != "newcomer"]
    expect(
        not strays,
        f"a server joins {count} others: {len(strays)} keys moved between old servers,"
        f" one of them from {strays[0][0] if strays else ''}",
        "a point must depend on the name of its server only, not on how many there are",
    )
    share = sum(old != new for old, new in moved) / len(keys) * (count + 1)
    expect(
        0.7 <= share <= 1.3,
        f"a server joins {count} others: it gets {share:.2f} times its fair share of the keys",
    )
    expect_equal(
        [HashRing(names[::-1]).owner(key) for key in keys[:500]],
        owner[:500],
        "the same servers, named in another order",
    )

ring = HashRing(["a", "b", "c", "d"])
for key in keys[:300]:
    three = list(ring.owners(key, 3))
    expect(len(set(three)) == 3, f"owners({key}, 3) gives {three}: not three different servers")
    expect_equal(three[0], ring.owner(key), f"the first of owners({key}, 3)")
    smaller = HashRing([node for node in "abcd" if node != three[0]])
    expect_equal(
        smaller.owner(key), three[1], f"who takes key {key} over when its server {three[0]} goes"
    )
expect_raises(ValueError, lambda: ring.owners(1, 5), "five different servers of four")


def elsewhere(rank, Ring, keys):
    return [Ring(["red", "green", "blue"]).owner(key) for key in keys]


here = elsewhere(0, HashRing, keys[:400])
for seed in ("1", "2"):
    (there,) = run_workers(
        elsewhere, 1, args=(HashRing, keys[:400]), fresh=True, env={"PYTHONHASHSEED": seed}
    )
    expect(there.status == "ok", f"the ring in another process: {there.error[-300:]}")
    expect_equal(
        there.value, here, "the owners in another process", "hash() of a string differs per process"
    )

# %% hints hash_ring [markdown]
# 1. What must two processes agree on, and does `hash("red")` give both the same number?
# 2. Sort all points once, in `__init__`; to look a key up, bisect the sorted hashes and wrap around at the end.
# 3. `int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")` is a stable hash; hash `f"{node}#{i}"`
#    for the points. For `owners`, walk on from the first point and skip servers that you have.

# %% [markdown]
# ## Task 3. The store
#
# A server keeps rows (embeddings, weights) by key and applies gradients to them as they come, from many threads at once.
#
# - `KVStore(width, rate, updater="sgd")`, with updater `"sgd"` or `"adagrad"`; anything else raises `ValueError`.
# - `push(keys, grads)` applies gradients, shape `(n, width)`, to the rows of `keys`. A key that stands in `keys` more than once
#   gets the sum of its gradients, as **one** update.
#   - SGD: `row -= rate * g`.
#   - Adagrad: `total += g * g`, then `row -= rate * g / (sqrt(total) + 1e-8)`, with `total` zero at first.
# - `pull(keys) -> float32 (n, width)`, a copy.
# - A row comes into being at its first push or pull, as `initial_row(key, width)`; `len(store)` is the number of rows.
# - A push is atomic: no update is lost when eight threads push to one key.


# %% given
def initial_row(key, width):
    """The row of a key that nobody has touched, the same everywhere; float32, shape (width,)."""
    return np.random.default_rng(int(key)).normal(0, 0.01, width).astype(np.float32)


# %% task kv_store
class KVStore:
    """Rows of float32 by key, with an update rule; safe to use from many threads."""

    def __init__(self, width, rate, updater="sgd"):
        ### BEGIN SOLUTION
        if updater not in ("sgd", "adagrad"):
            raise ValueError(f"no such updater: {updater}")
        self.width, self.rate, self.updater = width, rate, updater
        self.rows, self.totals = {}, {}
        self.lock = threading.Lock()
        ### END SOLUTION

    def push(self, keys, grads):
        ### BEGIN SOLUTION
        unique, inverse = np.unique(np.asarray(keys, np.uint64), return_inverse=True)
        summed = np.zeros((len(unique), self.width), np.float32)
        np.add.at(summed, inverse.reshape(-1), np.asarray(grads, np.float32))
        with self.lock:
            for key, g in zip(unique.tolist(), summed):
                row = self._row(key)
                if self.updater == "adagrad":
                    self.totals[key] += g * g
                    g = g / (np.sqrt(self.totals[key]) + 1e-8)
                row -= self.rate * g
        ### END SOLUTION

    def pull(self, keys):
        ### BEGIN SOLUTION
        with self.lock:
            rows = [self._row(int(key)) for key in keys]
            return np.array(rows, np.float32).reshape(len(rows), self.width)

    def _row(self, key):
        if key not in self.rows:
            self.rows[key] = initial_row(key, self.width)
            self.totals[key] = np.zeros(self.width, np.float32)
        return self.rows[key]
        ### END SOLUTION

    def __len__(self):
        ### BEGIN SOLUTION
        return len(self.rows)
        ### END SOLUTION


# %% test kv_store 4
_store = KVStore(width=2, rate=0.5)
_before = _store.pull([7, 9])
expect_close(_before, [initial_row(7, 2), initial_row(9, 2)], "rows that nobody has touched")
_store.push(np.array([7]), np.array([[1.0, -2.0]]))
expect_close(
    _store.pull([7, 9]) - _before, [[-0.5, 1.0], [0, 0]], "what a push to key 7 adds", rtol=1e-5
)
_store.push(np.array([9, 9, 9]), np.ones((3, 2)))
expect_close(
    _store.pull([9]) - _before[1:],
    [[-1.5, -1.5]],
    "three gradients of 1 for key 9 in one push, rate 0.5",
    rtol=1e-5,
    look="what `rows[keys] -= ...` does with a key that stands there three times",
)
expect_equal(len(_store), 2, "the number of rows")
print("The store: the visible test passes.")

# %% hidden kv_store 8
import sys

ref = reference()

store = KVStore(3, 1.0)
rows = store.pull(np.array([4, 4, 1], np.uint64))
expect_equal(rows.dtype, np.dtype(np.float32), "the type of pulled rows")
expect_equal(
    rows, np.array([initial_row(4, 3), initial_row(4, 3), initial_row(1, 3)]), "key 4 twice"
)
rows += 1
expect_equal(
    store.pull([4])[0],
    initial_row(4, 3),
    "key 4 after its pulled copy was changed",
    "copy the rows",
)
expect_equal(store.pull(np.empty(0, np.uint64)).shape, (0, 3), "the shape of a pull of no keys")
store.push(np.array([2**63 + 5], np.uint64), np.full((1, 3), 2.0))
expect_close(
    store.pull(np.array([2**63 + 5], np.uint64)),
    initial_row(2**63 + 5, 3)[None] - 2.0,
    "a key above 2**63, pushed before it was pulled",
    rtol=1e-5,
)
expect_equal(len(store), 3, "the number of rows after touching keys 4, 1 and 2**63 + 5")
expect_raises(ValueError, lambda: KVStore(1, 0.1, "momentum"), "an unknown updater")

random = np.random.default_rng(11)
for updater in ("sgd", "adagrad"):
    store, oracle = KVStore(4, 0.1, updater), ref.KVStore(4, 0.1, updater)
    for step in range(60):
        keys = zipf_keys(12, 30, 1.0, seed=step).astype(np.uint64)
        grads = random.normal(size=(12, 4)).astype(np.float32)
        store.push(keys, grads)
        oracle.push(keys, grads)
    expect_close(
        store.pull(range(30)),
        oracle.pull(range(30)),
        f"{updater}: 60 pushes with repeated keys",
        rtol=1e-4,
        atol=1e-5,
        look="repeated keys are one update with the sum of their gradients",
    )

# Rows so wide that NumPy lets other threads run in the middle of an operation.
store = KVStore(4096, 1.0)
start = store.pull(range(2)).astype(np.float64)
threads, pushes = 8, 150


def pusher():
    for _ in range(pushes):
        store.push(np.arange(2), np.full((2, 4096), 0.25, np.float32))


interval = sys.getswitchinterval()
sys.setswitchinterval(1e-5)
try:
    running = [threading.Thread(target=pusher) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
finally:
    sys.setswitchinterval(interval)
lost = threads * pushes - float(np.min(start - store.pull(range(2)))) / 0.25
expect(
    abs(lost) < 1,
    f"{threads} threads push {pushes} gradients each to the same keys: about {lost:.0f} of"
    f" {threads * pushes} updates are lost",
    "between reading a row and writing it back another thread may have written",
)

# %% hints kv_store [markdown]
# 1. Two things happen at once on a server: two threads push the same key, and one message holds a key twice. Which of your
#    lines is wrong in each case?
# 2. `numpy.unique(keys, return_inverse=True)` and `numpy.add.at` sum the gradients of repeated keys; a `threading.Lock` held from
#    the reading of a row to its writing makes an update atomic.
# 3. Keep a dictionary from key to row and one for Adagrad's totals; a method `_row(key)` makes what is missing; `push` and `pull`
#    call it with the lock held.

# %% [markdown]
# ## Task 4. How far ahead?
#
# Every worker counts the iterations that it has finished: its clock. With a bound of `s`, a worker at clock `c` may begin its next
# iteration while `c` is at most `s` above the slowest worker's clock. Bound 0 is bulk synchronous (BSP), `None` is no bound at all
# (ASP), anything between is stale synchronous (SSP, Ho and others, NeurIPS 2013).
#
# - `may_proceed(clock, clocks, bound) -> bool`, with `clocks` the clocks of all workers that are still at work. With nobody at
#   work, everybody may proceed.
# - `ClockGate(workers, bound)`, for workers 0 to `workers - 1`, is used by one thread per worker:
#   - `advance(worker)`: the worker has finished an iteration;
#   - `finish(worker)`: the worker will do no more, and nobody waits for it from now on;
#   - `wait(worker, timeout=None) -> bool`: blocks until the worker may proceed, and returns True; returns False when `timeout`
#     seconds have passed (0: at once).


# %% task gate
def may_proceed(clock, clocks, bound):
    """Whether a worker at `clock` may begin its next iteration."""
    ### BEGIN SOLUTION
    return bound is None or clock <= min(clocks, default=clock) + bound
    ### END SOLUTION


class ClockGate:
    """Holds back workers that are too far ahead."""

    def __init__(self, workers, bound):
        ### BEGIN SOLUTION
        self.bound = bound
        self.clocks = [0] * workers
        self.at_work = set(range(workers))
        self.changed = threading.Condition()
        ### END SOLUTION

    def advance(self, worker):
        ### BEGIN SOLUTION
        with self.changed:
            self.clocks[worker] += 1
            self.changed.notify_all()
        ### END SOLUTION

    def finish(self, worker):
        ### BEGIN SOLUTION
        with self.changed:
            self.at_work.discard(worker)
            self.changed.notify_all()
        ### END SOLUTION

    def wait(self, worker, timeout=None):
        ### BEGIN SOLUTION
        with self.changed:
            return self.changed.wait_for(lambda: self._open(worker), timeout)

    def _open(self, worker):
        clocks = [self.clocks[other] for other in self.at_work]
        return may_proceed(self.clocks[worker], clocks, self.bound)
        ### END SOLUTION


# %% test gate 4
for _clock, _clocks, _bound, _answer in [
    (3, [3, 3, 5], 0, True),
    (4, [3, 4, 5], 0, False),
    (5, [3, 4, 5], 2, True),
    (6, [3, 6, 5], 2, False),
    (99, [0, 99], None, True),
    (4, [], 0, True),
]:
    expect_equal(
        may_proceed(_clock, _clocks, _bound), _answer, f"may_proceed({_clock}, {_clocks}, {_bound})"
    )
_gate = ClockGate(2, 1)
_gate.advance(0)
expect(_gate.wait(0, 0), "worker 0 is one ahead, the bound is 1: it may proceed")
_gate.advance(0)
expect(not _gate.wait(0, 0), "worker 0 is two ahead, the bound is 1: it must wait")
threading.Timer(0.1, _gate.advance, [1]).start()
expect(
    within(
        5,
        lambda: _gate.wait(0),
        "worker 0 waits, worker 1 advances after 0.1 s",
        "who wakes a waiting thread?",
    ),
    "wait without a timeout returns True",
)
print("The gate: the visible test passes.")

# %% hidden gate 10
import random as dice
import sys

ref = reference()
dice.seed(5)

for _ in range(300):
    clocks = [dice.randrange(6) for _ in range(dice.randrange(1, 6))]
    clock, bound = dice.choice(clocks), dice.choice([None, 0, 1, 3])
    expect_equal(
        bool(may_proceed(clock, clocks, bound)),
        bool(ref.may_proceed(clock, clocks, bound)),
        f"may_proceed({clock}, {clocks}, {bound})",
    )

for bound in (0, 1, 3, None):
    gate, oracle = ClockGate(4, bound), ref.ClockGate(4, bound)
    finished, widest, told = set(), 0, []
    for step in range(400):
        worker = dice.randrange(4)
        answer, right = bool(gate.wait(worker, 0)), bool(oracle.wait(worker, 0))
        state = f"bound {bound}, clocks {oracle.clocks}, finished {sorted(finished)}"
        expect_equal(answer, right, f"{state}: wait({worker}, 0)")
        if right and worker not in finished:
            widest = max(widest, oracle.clocks[worker] - min(oracle.clocks))
            gate.advance(worker)
            oracle.advance(worker)
        if step == 300:
            slowest = oracle.clocks.index(min(oracle.clocks))
            finished.add(slowest)
            gate.finish(slowest)
            oracle.finish(slowest)
    if bound:
        expect(widest >= bound, f"bound {bound}: nobody ever got {bound} ahead")

gate = ClockGate(2, 0)
gate.advance(0)
began = time.monotonic()
expect(
    not within(10, lambda: gate.wait(0, 0.2), "wait(0, 0.2)"), "wait gives False after its timeout"
)
expect(time.monotonic() - began < 5, "wait(0, 0.2) takes much longer than its timeout")

for last_act in ("advance", "finish"):
    gate = ClockGate(3, 0)
    gate.advance(0)
    gate.advance(1)
    threading.Timer(0.1, getattr(gate, last_act), [2]).start()
    began = time.monotonic()
    expect(
        within(15, lambda: gate.wait(0, 12), f"worker 0 waits until worker 2 calls {last_act}"),
        f"worker 0 waits until worker 2 calls {last_act}: wait gives False",
    )
    expect(
        time.monotonic() - began < 6,
        f"a waiting worker sleeps to the end of its timeout though worker 2 called {last_act}",
        "notify_all, in every method that can open the gate",
    )

interval = sys.getswitchinterval()
sys.setswitchinterval(1e-5)
try:
    for round_ in range(250):
        bound = dice.choice([0, 1, 2])
        gate, clocks, gaps = ClockGate(3, bound), [0, 0, 0], []

        def work(worker, steps):
            for _ in range(steps):
                gate.wait(worker)
                gaps.append(clocks[worker] - min(clocks))
                clocks[worker] += 1
                gate.advance(worker)
            clocks[worker] = 10**9
            gate.finish(worker)

        steps = [dice.randrange(1, 8) for _ in range(3)]
        running = [
            threading.Thread(target=work, args=(worker, steps[worker]), daemon=True)
            for worker in range(3)
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(20)
        expect(
            not any(thread.is_alive() for thread in running),
            f"three workers with {steps} iterations and bound {bound} hang (round {round_})",
            "a wake-up is lost when the state changes between a check and the wait: hold the lock",
        )
        expect(
            max(gaps) <= bound, f"bound {bound}: a worker began {max(gaps)} ahead of the slowest"
        )
finally:
    sys.setswitchinterval(interval)

# %% hints gate [markdown]
# 1. The slowest worker decides, not the fastest and not the average; and a worker that has finished is not slow.
# 2. `threading.Condition` joins a lock with waiting: `wait_for(predicate, timeout)` gives the lock up while it waits and checks
#    the predicate again after each `notify_all`.
# 3. Keep the clocks in a list and the workers at work in a set; `advance` and `finish` change them and call `notify_all`, all
#    inside `with self.changed:`.

# %% [markdown]
# ## Task 5. The worker
#
# The model is logistic regression on sparse examples: each example is a list of feature keys, its logit is the sum of their
# weights (rows of width 1), and its label is 0 or 1. You write the worker; the server is given, so that you can read what yours
# will talk to. It has one thread for each worker, your store and your gate. With bound 0 it keeps the gradients of an iteration
# until all workers have finished that iteration and applies them in the order of the ranks; otherwise it applies each as it comes.
#
# `train(rank, wires, place, batches) -> list[float]`
#
# - `wires[i]` is a `Wire` to server `i`, with `send(message)` and `receive() -> message`; `place(key) -> int` is the number of the
#   server that owns a key.
# - `batches` yields pairs `(keys, labels)` with shapes `(B, k)` (uint64) and `(B,)` (0 or 1).
# - For iteration `t` = 0, 1, ...: send one `PULL` to each server that owns touched keys, with those keys, each once; then take the
#   replies (values of width 1, in the order of the keys that you sent); compute the gradient of the **mean** log loss over the batch; send one
#   `PUSH` to each of these servers; send one `CLOCK` (no keys) to **every** server. All messages carry `clock=t`.
# - Returns the mean log loss of each batch, before its update.
#
# Send all pulls before you take the first reply: the servers can then work at the same time.


# %% given
def text_encode(message):
    """A codec that needs no framing task: one line of JSON.  It is several times larger than yours."""
    fields = [
        *message[:4],
        message.keys.tolist(),
        message.values.tolist(),
        list(message.values.shape),
    ]
    return json.dumps(fields).encode() + b"\n"


def text_decode(buffer, start=0):
    end = buffer.find(b"\n", start)
    if end < 0:
        return None
    *head, keys, values, shape = json.loads(buffer[start:end])
    rows = np.array(values, np.float32).reshape(shape)
    return Message(*head, np.array(keys, np.uint64), rows), end + 1


TEXT = (text_encode, text_decode)


class Wire:
    """Messages over a link."""

    def __init__(self, link, codec):
        self.link, (self.encode, self.decode) = link, codec
        self.buffer = b""

    def send(self, message):
        self.link.send(self.encode(message))

    def receive(self):
        while (found := self.decode(self.buffer)) is None:
            self.buffer += self.link.receive(1 << 18)
        message, end = found
        self.buffer = self.buffer[end:]
        return message


def serve(listener, workers, bound, store, gate, codec):
    """Serve until every worker has left; what was seen, as plain values."""
    lock = threading.Lock()
    clocks, held, gaps, links = dict.fromkeys(range(workers), 0), [], [], []

    def release():
        """Bound 0: apply what was held for the iterations that everybody has finished."""
        done = min(clocks.values(), default=1 << 62)
        for message in sorted(
            [m for m in held if m.clock < done], key=lambda m: (m.clock, m.sender)
        ):
            store.push(message.keys, message.values)
        held[:] = [m for m in held if m.clock >= done]

    def talk(link):
        wire, worker = Wire(link, codec), None
        try:
            while True:
                message = wire.receive()
                worker = message.sender
                if message.kind == PULL:
                    gate.wait(worker)
                    with lock:
                        gaps.append(message.clock - min(clocks.values()))
                    rows = store.pull(message.keys)
                    wire.send(message._replace(kind=REPLY, values=rows))
                elif message.kind == PUSH and bound == 0:
                    with lock:
                        held.append(
                            message._replace(keys=message.keys + 0, values=message.values + 0)
                        )
                elif message.kind == PUSH:
                    store.push(message.keys, message.values)
                elif message.kind == CLOCK:
                    with lock:
                        clocks[worker] += 1
                        release()
                    gate.advance(worker)
        except ConnectionError:
            if worker is not None:
                with lock:
                    clocks.pop(worker, None)
                    release()
                gate.finish(worker)

    threads = []
    for _ in range(workers):
        links.append(Link(listener.accept()[0]))
        threads.append(threading.Thread(target=talk, args=(links[-1],)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return {
        "gaps": gaps,
        "bytes_in": sum(link.bytes_in for link in links),
        "bytes_out": sum(link.bytes_out for link in links),
        "rows": len(store),
    }


class Run(NamedTuple):
    """What a cluster did: seconds, losses by rank and iteration, weights, and the servers' reports."""

    seconds: float
    losses: list
    weights: np.ndarray
    servers: list


def run_cluster(
    train, make_store, make_gate, place, codec, shards, *, bound=0, servers=2, features=0
):
    """Train on real processes: `servers` of them serve, one for each shard of batches works.

    `shards[rank]()` makes the batches of a worker.  Raises RuntimeError when a process fails.
    """
    ports = [listen() for _ in range(servers)]
    owned = [[key for key in range(features) if place(key) == i] for i in range(servers)]

    def server(rank):
        store = make_store()
        report = serve(
            ports[rank][0], len(shards), bound, store, make_gate(len(shards), bound), codec
        )
        return {**report, "weights": store.pull(owned[rank])[:, 0]}

    def worker(rank):
        wires = [Wire(connect(address), codec) for _, address in ports]
        return train(rank, wires, place, shards[rank]())

    began = time.monotonic()
    serving = [Worker(server, i, rank=i) for i in range(servers)]
    try:
        results = run_workers(worker, len(shards), deadline=40)
        seconds = time.monotonic() - began
        for result in results:
            if result.status != "ok":
                raise RuntimeError(f"worker {result.rank}: {result.status} {result.error[-800:]}")
        reports = [process.result(10) for process in serving]
    finally:
        for process in serving:
            process.kill()
        for listener, _ in ports:
            listener.close()
    for report in reports:
        if report.status != "ok":
            raise RuntimeError(f"server {report.rank}: {report.status} {report.error[-800:]}")
    weights = np.zeros(features, np.float32)
    for keys, report in zip(owned, reports):
        weights[keys] = report.value.pop("weights")
    return Run(seconds, [r.value for r in results], weights, [r.value for r in reports])


def make_batches(count, size, features, active, seed):
    """`count` batches of sparse examples whose keys follow Zipf's law, with noisy labels."""
    truth = np.random.default_rng(0).normal(0, 1.5, features)
    random = np.random.default_rng(seed)
    keys = zipf_keys(count * size * active, features, 1.0, seed).reshape(count, size, active)
    chance = 1 / (1 + np.exp(-truth[keys].sum(axis=2)))
    labels = (random.random((count, size)) < chance).astype(np.float32)
    return list(zip(keys.astype(np.uint64), labels))


# %% task train
def train(rank, wires, place, batches):
    """One worker: pull, compute, push, tick, for each batch; the losses."""
    ### BEGIN SOLUTION
    losses = []
    for clock, (keys, labels) in enumerate(batches):
        unique, index = np.unique(keys, return_inverse=True)
        index = index.reshape(keys.shape)
        owner = np.array([place(int(key)) for key in unique])
        shares = [(wires[i], np.flatnonzero(owner == i)) for i in sorted(set(owner.tolist()))]
        for wire, mine in shares:
            nothing = np.empty((len(mine), 0), np.float32)
            wire.send(Message(PULL, rank, clock, clock, unique[mine], nothing))
        weights = np.zeros(len(unique), np.float64)
        for wire, mine in shares:
            weights[mine] = wire.receive().values[:, 0]
        logits = weights[index].sum(axis=1)
        losses.append(float(np.mean(np.logaddexp(0, logits) - labels * logits)))
        slope = (1 / (1 + np.exp(-logits)) - labels) / len(labels)
        spread = np.repeat(slope, keys.shape[1])
        grads = np.bincount(index.ravel(), spread, len(unique)).astype(np.float32)[:, None]
        for wire, mine in shares:
            wire.send(Message(PUSH, rank, clock, clock, unique[mine], grads[mine]))
        for wire in wires:
            wire.send(Message(CLOCK, rank, clock, clock, NO_KEYS, NO_VALUES))
    return losses
    ### END SOLUTION


# %% test train 4
def _watch(batches, features, rate):
    """Run train against two servers in threads of this process; the weights and the messages seen."""
    weights, seen, ends = np.zeros(features), [], [mesh_pair() for _ in range(2)]

    def server(number, link):
        wire = Wire(link, TEXT)
        try:
            while True:
                message = wire.receive()
                seen.append((number, message))
                if message.kind == PULL:
                    rows = weights[message.keys.astype(int), None].astype(np.float32)
                    wire.send(message._replace(kind=REPLY, values=rows))
                elif message.kind == PUSH:
                    np.subtract.at(weights, message.keys.astype(int), rate * message.values[:, 0])
        except ConnectionError:
            return

    threads = [
        threading.Thread(target=server, args=(i, there), daemon=True)
        for i, (_, there) in enumerate(ends)
    ]
    for thread in threads:
        thread.start()
    wires = [Wire(here, TEXT) for here, _ in ends]
    losses = within(20, lambda: train(0, wires, lambda key: int(key) % 2, batches), "train")
    for here, _ in ends:
        here.close()
    for thread in threads:
        thread.join(5)
    return losses, weights, seen


def mesh_pair():
    """The two ends of one connection."""
    listener, address = listen()
    here = connect(address)
    there = Link(listener.accept()[0])
    listener.close()
    return here, there


_batches = [(np.array([[0, 1, 1], [0, 2, 5]], np.uint64), np.array([1.0, 0.0], np.float32))] * 2
_losses, _weights, _seen = _watch(_batches, 8, 1.0)
expect_close(_losses[0], np.log(2), "the loss of the first batch, all weights being 0", rtol=1e-5)
_pulled = sorted(int(key) for _, m in _seen if m.kind == PULL and m.clock == 0 for key in m.keys)
expect_equal(
    _pulled, [0, 1, 2, 5], "the keys pulled for iteration 0, sorted", "each touched key once"
)
expect_equal(
    [sum(m.kind == CLOCK for number, m in _seen if number == i) for i in range(2)],
    [2, 2],
    "CLOCK messages that each server got in 2 iterations",
    "every server counts iterations, also one that owns none of the keys",
)
_first = _watch(_batches[:1], 8, 1.0)[1]
expect_close(
    _first[[0, 1, 2, 5, 3]],
    [0, 0.5, -0.25, -0.25, 0],
    "weights of keys 0, 1, 2, 5, 3 after one step at rate 1",
    atol=1e-6,
    look="the gradient of a weight: the sum over its occurrences of (p - y), divided by the batch size",
)
print("The worker: the visible test passes.")

# %% hidden train 10
ref = reference()
FEATURES, RATE = 60, 2.0
ring = ref.HashRing(["0", "1"])
PLACE = [int(ring.owner(key)) for key in range(FEATURES)]
CODEC = (ref.encode, ref.decode)


def cluster(bound, shards, rate=RATE):
    return run_cluster(
        train,
        lambda: ref.KVStore(1, rate),
        ref.ClockGate,
        lambda key: PLACE[int(key)],
        CODEC,
        shards,
        bound=bound,
        features=FEATURES,
    )


def alone(data, rate=RATE):
    """Full synchronous SGD in one process, in float64."""
    weights = np.array([initial_row(key, 1)[0] for key in range(FEATURES)], np.float64)
    losses = []
    for step in zip(*data):
        total = np.zeros(FEATURES)
        for keys, labels in step:
            keys = keys.astype(int)
            logits = weights[keys].sum(axis=1)
            losses.append(np.mean(np.logaddexp(0, logits) - labels * logits))
            slope = (1 / (1 + np.exp(-logits)) - labels) / len(labels)
            np.add.at(total, keys, slope[:, None])
        weights -= rate * total
    return weights, np.reshape(losses, (-1, len(data))).T


data = [make_batches(25, 16, FEATURES, 5, seed) for seed in range(4)]
run = cluster(0, [lambda batches=batches: batches for batches in data])
weights, losses = alone(data)
expect_close(
    run.weights,
    weights,
    "bound 0, 4 workers, 2 servers, 25 iterations: weights against one process",
    atol=2e-5,
    rtol=1e-4,
    look="the division by the batch size; the order of values in a message",
)
expect_close(
    np.array(run.losses), losses, "the losses that the workers return", atol=1e-4, rtol=1e-3
)

listener, (host, port) = listen()
listener.close()
lines = []


class Counted:
    """A wire whose server answers at once; it notes what passes."""

    def __init__(self, number):
        self.number, self.due = number, []

    def send(self, message):
        lines.append((self.number, message.kind, int(message.clock), len(message.keys)))
        if message.kind == PULL:
            self.due.append(message)

    def receive(self):
        lines.append((self.number, "take", 0, 0))
        message = self.due.pop(0)
        return message._replace(kind=REPLY, values=np.zeros((len(message.keys), 1), np.float32))


batch = (np.array([[0, 2, 4, 4], [0, 1, 2, 4]], np.uint64), np.array([1.0, 0.0], np.float32))
even = (np.array([[0, 2], [4, 6]], np.uint64), np.array([0.0, 1.0], np.float32))
train(3, [Counted(0), Counted(1), Counted(2)], lambda key: int(key) % 2, [batch, even])
for clock, touched in ((0, {0: 3, 1: 1}), (1, {0: 4})):
    for kind, name in ((PULL, "PULL"), (PUSH, "PUSH")):
        got = {number: n for number, k, c, n in lines if (k, c) == (kind, clock)}
        expect_equal(
            dict(sorted(got.items())),
            touched,
            f"{name} in iteration {clock}: keys for each server",
            "touched keys only, each once, and no message for a server that owns none of them",
        )
        count = sum((k, c) == (kind, clock) for _, k, c, _ in lines)
        expect_equal(count, len(touched), f"{name} messages in iteration {clock}")
    got = sorted(number for number, k, c, _ in lines if (k, c) == (CLOCK, clock))
    expect_equal(got, [0, 1, 2], f"servers that get a CLOCK in iteration {clock}")
first_take = [kind for _, kind, _, _ in lines].index("take")
expect_equal(
    sum(kind == PULL for _, kind, _, _ in lines[:first_take]),
    2,
    "pulls sent before the first reply is taken",
)

STALLS = [np.random.default_rng(rank).random(60) < 0.1 for rank in range(4)]


def stalling(rank, batches):
    """Batches from a machine that is busy with something else now and then: emulated by sleeping."""
    for stall, batch in zip(STALLS[rank], batches):
        time.sleep(0.04 if stall else 0.003)
        yield batch


data = [make_batches(60, 16, FEATURES, 5, seed) for seed in range(4)]
start = np.mean([losses[0] for losses in alone(data)[1]])
ahead = {}
for bound in (0, 8, None):
    run = cluster(bound, [lambda r=r: stalling(r, data[r]) for r in range(4)], rate=0.5)
    gap = max(max(report["gaps"]) for report in run.servers)
    ahead[bound] = np.mean(np.concatenate([report["gaps"] for report in run.servers]))
    if bound is not None:
        expect(gap <= bound, f"bound {bound}: a pull was served to a worker {gap} ahead")
    final = np.mean([losses[-10:] for losses in run.losses])
    expect(
        final < 0.9 * start,
        f"bound {bound}: the loss goes from {start:.3f} to {final:.3f} only",
        "the clock field, and the CLOCK message, which open the gate of the servers",
    )
expect(
    ahead[8] > 0.5,
    f"bound 8: while others stalled, a worker was {ahead[8]:.2f} iterations ahead on average; it must"
    " use the room that the bound leaves",
    "a worker must not wait for a server that it needs nothing from",
)

# %% hints train [markdown]
# 1. Go through one batch by hand: which keys does it touch, who owns each, and what does a weight's gradient add up from?
# 2. `numpy.unique(keys, return_inverse=True)` gives the touched keys and, for each place in the batch, the number of its key;
#    `numpy.bincount(index, weights=...)` sums the gradients per key.
# 3. Make a list of (wire, positions in `unique`) for the servers that own something. One loop sends the pulls, the next takes the
#    replies into `weights[positions]`, then logits, loss and gradient, a loop of pushes, a loop of clocks over **all** wires.

# %% [markdown]
# ## Task 6. Replicas that survive SIGKILL
#
# A server that dies takes its rows with it. In chain replication (van Renesse and Schneider, OSDI 2004) a push enters at the head
# and is handed down the chain; only when the tail has it does the acknowledgement come back. Then whatever was acknowledged is
# everywhere, whoever dies.
#
# `Replica(store, successors)`; `push(message)`:
# - `store` has `push(keys, values)`; `successors` is the rest of the chain in order, each a function that takes a message and returns
#   when that replica, and all after it, have it. It raises `ConnectionError` when that replica is dead; then it is out of the chain
#   for good, and the next one takes its place.
# - `push` returns when this replica and all living ones after it have applied the message: returning **is** the acknowledgement.
# - A message is known by `(sender, seq)`; a sender numbers its messages 1, 2, 3, ... and sends the next when the last is
#   acknowledged. A message that comes again is acknowledged and not applied again.
# - Many threads call `push`; all replicas must apply the messages in the same order.
#
# `ReliableClient(sender, replicas)`; `push(keys, values) -> int`:
# - `replicas` are such functions for the whole chain, the head first. `push` numbers the message, gives it to the first living
#   replica, on `ConnectionError` to the next, and returns the number once one has acknowledged; with none left it raises
#   `ConnectionError`.


# %% given
def remote(address, codec, fault=None):
    """A replica in another process, as a function: hands a message over and returns at its ack."""
    state, lock = {}, threading.Lock()

    def push(message):
        with lock:
            if "wire" not in state:
                state["wire"] = Wire(connect(address, fault=fault), codec)
            state["wire"].send(message)
            state["wire"].receive()

    return push


def serve_replica(listener, replica, store, codec, fault=None):
    """Serve pushes and pulls of one replica until the process is killed.

    `fault` befalls the acknowledgements of the first connection.
    """

    def talk(link):
        wire = Wire(link, codec)
        try:
            while True:
                message = wire.receive()
                if message.kind == PULL:
                    wire.send(message._replace(kind=REPLY, values=store.pull(message.keys)))
                else:
                    replica.push(message)
                    wire.send(Message(REPLY, message.sender, message.seq, 0, NO_KEYS, NO_VALUES))
        except ConnectionError:
            link.close()

    while True:
        link = Link(listener.accept()[0], fault=fault)
        fault = None
        threading.Thread(target=talk, args=(link,), daemon=True).start()


# %% task chain
class Replica:
    """One link of the chain."""

    def __init__(self, store, successors):
        ### BEGIN SOLUTION
        self.store, self.successors = store, list(successors)
        self.last = {}
        self.lock = threading.Lock()
        ### END SOLUTION

    def push(self, message):
        ### BEGIN SOLUTION
        with self.lock:
            if message.seq <= self.last.get(message.sender, 0):
                return
            self.store.push(message.keys, message.values)
            self.last[message.sender] = message.seq
            while self.successors:
                try:
                    self.successors[0](message)
                    return
                except ConnectionError:
                    self.successors.pop(0)
        ### END SOLUTION


class ReliableClient:
    """Pushes that are applied exactly once while one replica of the chain lives."""

    def __init__(self, sender, replicas):
        ### BEGIN SOLUTION
        self.sender, self.replicas, self.seq = sender, list(replicas), 0
        ### END SOLUTION

    def push(self, keys, values):
        ### BEGIN SOLUTION
        self.seq += 1
        message = Message(PUSH, self.sender, self.seq, 0, np.asarray(keys), np.asarray(values))
        while self.replicas:
            try:
                self.replicas[0](message)
                return self.seq
            except ConnectionError:
                self.replicas.pop(0)
        raise ConnectionError("no replica is left")
        ### END SOLUTION


# %% test chain 4
class Tally:
    """A store that only adds up; what it has applied stands in `applied`, in order."""

    def __init__(self):
        self.total, self.applied = 0.0, []

    def push(self, keys, values):
        self.total += float(np.sum(values))
        self.applied.append(float(np.sum(values)))


def _dead(message):
    raise ConnectionResetError("the process is gone")


_stores = [Tally() for _ in range(3)]
_tail = Replica(_stores[2], [])
_middle = Replica(_stores[1], [_tail.push])
_head = Replica(_stores[0], [_middle.push, _tail.push])
_client = ReliableClient(9, [_head.push, _middle.push, _tail.push])
expect_equal(_client.push(np.array([1]), np.array([[2.0]])), 1, "the number of the first push")
expect_equal([store.total for store in _stores], [2.0] * 3, "what head, middle and tail hold")
_head.push(Message(PUSH, 9, 1, 0, np.array([1]), np.array([[2.0]])))
expect_equal(
    [store.total for store in _stores], [2.0] * 3, "the same after message (9, 1) came again"
)
_stores = [Tally(), Tally()]
_end = Replica(_stores[1], [])
_start = Replica(_stores[0], [_dead, _end.push])
_client = ReliableClient(4, [_dead, _start.push, _end.push])
_client.push(np.array([1]), np.array([[3.0]]))
expect_equal(
    [store.total for store in _stores],
    [3.0, 3.0],
    "the head and the middle of four are dead: the rest",
)
expect_raises(
    ConnectionError, lambda: ReliableClient(1, [_dead]).push([1], [[1.0]]), "all are dead"
)
print("The chain: the visible test passes.")

# %% hidden chain 10
import random as dice
import signal

ref = reference()
CODEC = (ref.encode, ref.decode)


class Ledger:
    """A store that notes what it applies and how late."""

    def __init__(self, pause=0.0):
        self.applied, self.pause = [], pause

    def push(self, keys, values):
        time.sleep(self.pause)
        self.applied.append((int(np.asarray(keys).ravel()[0]), float(np.sum(values))))


def message(sender, seq, value, kind=PUSH):
    return Message(
        kind, sender, seq, 0, np.array([sender], np.uint64), np.array([[value]], np.float32)
    )


slow = Ledger(pause=0.15)
tail = ref.Replica(slow, [])
head = Replica(Ledger(), [tail.push])
head.push(message(1, 1, 5.0))
expect_equal(
    len(slow.applied),
    1,
    "messages that the tail has applied when the head acknowledges",
    "push returns when the rest of the chain has the message, not before",
)

mine, theirs = Ledger(), Ledger()
replica = Replica(mine, [ref.Replica(theirs, []).push])
for sender, seq, value in [
    (1, 1, 1.0),
    (2, 1, 2.0),
    (1, 1, 1.0),
    (1, 2, 3.0),
    (2, 1, 2.0),
    (1, 2, 3.0),
]:
    replica.push(message(sender, seq, value))
expect_equal(
    mine.applied,
    [(1, 1.0), (2, 2.0), (1, 3.0)],
    "what is applied of messages 1.1, 2.1, 1.1 again, 1.2, 2.1 again, 1.2 again",
    "a message is known by its sender and its number together",
)
expect_equal(theirs.applied, mine.applied, "what the successor has applied")

calls = []


def dies_once(message):
    calls.append(message.seq)
    raise BrokenPipeError("gone")


mine, theirs = Ledger(), Ledger()
replica = Replica(mine, [dies_once, ref.Replica(theirs, []).push])
replica.push(message(1, 1, 1.0))
replica.push(message(1, 2, 2.0))
expect_equal(
    theirs.applied, [(1, 1.0), (1, 2.0)], "the next replica, after the first successor died"
)
expect_equal(len(calls), 1, "messages given to a successor that had died on the first")

got = []


def first_fails(message):
    if len(got) == 1:
        got.append("cut")
        raise ConnectionResetError("applied it, died before the ack")
    got.append((message.sender, message.seq))


second = []
client = ReliableClient(6, [first_fails, lambda m: second.append((m.sender, m.seq))])
numbers = [client.push([1], [[1.0]]) for _ in range(4)]
expect_equal(numbers, [1, 2, 3, 4], "the numbers of four pushes; the head dies during the second")
expect_equal(
    second,
    [(6, 2), (6, 3), (6, 4)],
    "what the second replica gets",
    "a message that is sent again keeps its number",
)

first, last = Ledger(), Ledger(pause=0.0005)
replica = Replica(first, [ref.Replica(last, []).push])
threads = [
    threading.Thread(
        target=lambda sender=sender: [
            replica.push(message(sender, seq, 1.0)) for seq in range(1, 26)
        ]
    )
    for sender in range(8)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
expect_equal(len(first.applied), 200, "messages applied of 8 senders with 25 each")
expect_equal(
    first.applied,
    last.applied,
    "the order in which head and tail have applied 200 messages",
    "keep the lock while the message travels down the chain",
)

overtaken = threading.Event()
first, last = Ledger(), Ledger()
tail = ref.Replica(last, [])


def lingers(message):
    """The way to the tail; the message of sender 1 lets that of sender 2 overtake it if it can."""
    if message.sender == 1:
        overtaken.wait(0.4)
    tail.push(message)
    if message.sender == 2:
        overtaken.set()


replica = Replica(first, [lingers])
threads = [
    threading.Thread(target=replica.push, args=(message(sender, 1, 1.0),)) for sender in (1, 2)
]
threads[0].start()
time.sleep(0.1)
threads[1].start()
for thread in threads:
    thread.join(30)
expect_equal(
    last.applied,
    first.applied,
    "the order at the tail, where the second message could overtake the first on its way",
    "keep the lock while the message travels down the chain",
)


def chain_of_processes(victim, fault):
    """Three replicas in processes; `victim` is hit by `fault` when it acknowledges."""
    ports = [listen() for _ in range(3)]
    addresses = [address for _, address in ports]

    def run(rank):
        store = ref.KVStore(1, 1.0)
        rest = [remote(address, CODEC) for address in addresses[rank + 1 :]]
        serve_replica(
            ports[rank][0], Replica(store, rest), store, CODEC, fault if rank == victim else None
        )

    processes = [Worker(run, rank, rank=rank) for rank in range(3)]
    for listener, _ in ports:
        listener.close()
    return addresses, processes


def value_at(address):
    wire = Wire(connect(address), CODEC)
    wire.send(Message(PULL, 0, 0, 0, np.array([77], np.uint64), np.empty((1, 0), np.float32)))
    return float(wire.receive().values[0, 0])


for victim, when in ((0, 11), (1, 7), (2, 5)):
    for action in ("kill", "close"):
        addresses, processes = chain_of_processes(victim, Fault(action, when))
        try:
            client = ReliableClient(1, [remote(address, CODEC) for address in addresses])
            for _ in range(30):
                within(20, lambda: client.push([77], [[-1.0]]), f"replica {victim} dies: a push")
            if action == "kill":
                dead = processes[victim].result(10)
                expect(
                    dead.signal == signal.SIGKILL,
                    f"replica {victim} was not reached by push {when}",
                )
            alive = [address for rank, address in enumerate(addresses) if rank != victim]
            for rank, address in zip([r for r in range(3) if r != victim], alive):
                total = value_at(address) - float(initial_row(77, 1)[0])
                expect(
                    abs(total - 30) < 0.01,
                    f"30 pushes of 1, replica {victim} {action}ed at acknowledgement {when}:"
                    f" replica {rank} holds {total:.0f}",
                    "lost: the ack came too early; too many: a retry was applied twice",
                )
        finally:
            for process in processes:
                process.kill()

# %% hints chain [markdown]
# 1. The head dies after the tail has applied a message and before the client hears of it. What does the client do, and what must
#    the next replica answer?
# 2. Keep for each sender the last number that was applied. Numbers come in order, so `seq <= last[sender]` means "again".
# 3. `push`, with one lock held throughout: known? return. Apply, note the number, then hand it to `successors[0]`; on
#    `ConnectionError` remove that successor and try the next; with none left, return.

# %% [markdown]
# ## Task 7. Bytes that need not travel
#
# Two of the filters of Li and others (OSDI 2014, section 3.6).
#
# `KeyCache(capacity)`: the same lists of keys are sent again and again, so both ends of a connection keep the last ones.
# - `pack(keys) -> (digest, keys or None)` at the sender: 8 bytes that stand for this list, **in this order**; and `None` when the
#   other end has the list already.
# - `unpack(digest, keys or None) -> keys` at the receiver; raises `KeyError` for a digest that it does not know.
# - Both ends keep at most `capacity` lists, and drop the one that was added first. They see the same messages in the same order.
#
# `Significance(width, threshold)`: small changes can wait until they add up.
# - `filter(keys, grads) -> (keys, grads)` adds the gradients to what it has held back, and lets those rows go whose largest absolute
#   value now exceeds `threshold`, with all that was held back of them. Keys are ascending and unique in what it returns.
# - `flush() -> (keys, grads)` lets everything go. Nothing is ever lost: what has come in is what has gone out plus what is held.


# %% task filters
class KeyCache:
    """One end's memory of the key lists that have passed."""

    def __init__(self, capacity=64):
        ### BEGIN SOLUTION
        self.capacity, self.lists = capacity, OrderedDict()
        ### END SOLUTION

    def pack(self, keys):
        ### BEGIN SOLUTION
        keys = np.ascontiguousarray(keys, np.uint64)
        digest = hashlib.blake2b(keys.tobytes(), digest_size=8).digest()
        if digest in self.lists:
            return digest, None
        self._add(digest, keys)
        return digest, keys
        ### END SOLUTION

    def unpack(self, digest, keys):
        ### BEGIN SOLUTION
        if keys is not None:
            self._add(digest, np.array(keys, np.uint64))
            return keys
        return self.lists[digest]

    def _add(self, digest, keys):
        self.lists[digest] = keys
        if len(self.lists) > self.capacity:
            self.lists.popitem(last=False)
        ### END SOLUTION


class Significance:
    """Holds gradients back until they add up to something."""

    def __init__(self, width, threshold):
        ### BEGIN SOLUTION
        self.width, self.threshold, self.held = width, threshold, {}
        ### END SOLUTION

    def filter(self, keys, grads):
        ### BEGIN SOLUTION
        for key, grad in zip(np.asarray(keys).tolist(), np.asarray(grads, np.float32)):
            self.held[key] = self.held.get(key, 0) + grad
        return self._release(
            [key for key, sum_ in self.held.items() if np.max(np.abs(sum_)) > self.threshold]
        )
        ### END SOLUTION

    def flush(self):
        ### BEGIN SOLUTION
        return self._release(list(self.held))

    def _release(self, keys):
        keys = sorted(keys)
        rows = np.array([self.held.pop(key) for key in keys], np.float32)
        return np.array(keys, np.uint64), rows.reshape(len(keys), self.width)
        ### END SOLUTION


# %% test filters 3
_here, _there = KeyCache(2), KeyCache(2)
for _keys, _sent in [([1, 2, 3], True), ([1, 2, 3], False), ([3, 2, 1], True), ([1, 2, 3], False)]:
    _digest, _list = _here.pack(np.array(_keys, np.uint64))
    expect_equal(len(_digest), 8, "bytes of a digest")
    expect_equal(_list is not None, _sent, f"whether the keys {_keys} themselves are sent")
    expect_equal(
        np.asarray(_there.unpack(_digest, _list)).tolist(), _keys, "the keys at the other end"
    )
_filter = Significance(1, 1.0)
_keys, _grads = _filter.filter(np.array([8, 3]), np.array([[0.6], [2.0]]))
expect_equal(
    np.asarray(_keys).tolist(), [3], "keys that go out: 2.0 exceeds the threshold 1.0, 0.6 does not"
)
_keys, _grads = _filter.filter(np.array([8]), np.array([[0.7]]))
expect_equal(
    np.asarray(_keys).tolist(), [8], "keys that go out when another 0.7 has come for key 8"
)
expect_close(_grads, [[1.3]], "what goes out for key 8: all that was held back", rtol=1e-5)
expect_equal(len(_filter.flush()[0]), 0, "keys left for flush")
print("The filters: the visible test passes.")

# %% hidden filters 6
random = np.random.default_rng(17)

lists = [random.integers(0, 2**62, size).astype(np.uint64) for size in (40, 40, 1, 0, 200, 40)]
lists.append(lists[0][::-1].copy())
lists.append(np.sort(lists[0]))
for capacity in (1, 3, 64):
    here, there = KeyCache(capacity), KeyCache(capacity)
    plain = packed = 0
    for turn in random.integers(0, len(lists), 200):
        keys = lists[turn]
        digest, sent = here.pack(keys)
        try:
            got = there.unpack(digest, None if sent is None else np.array(sent, np.uint64))
        except KeyError:
            got = None
        expect(
            got is not None,
            f"capacity {capacity}: only a digest was sent, and the other end has dropped that list",
            "both ends must forget the same lists at the same messages",
        )
        expect_equal(
            np.asarray(got, np.uint64),
            keys,
            f"capacity {capacity}: a list of {len(keys)} keys at the other end",
            "a digest stands for the keys in their order; both ends must drop the same lists",
        )
        plain += 8 * len(keys)
        packed += 8 + (0 if sent is None else 8 * len(keys))
    if capacity == 64:
        expect(
            packed <= 0.6 * plain,
            f"200 messages with 8 different key lists: {packed} bytes of keys, without a cache {plain};"
            " at least 40 % must be saved",
        )
    else:
        order = [here.pack(lists[i])[1] is None for i in (0, 1, 2, 4, 0)]
        expect(
            not order[-1],
            f"capacity {capacity}: a list is still remembered after {capacity + 1} others",
        )
here = KeyCache(2)
first, second, third = lists[0], lists[1], lists[2]
answers = [here.pack(keys)[1] is None for keys in (first, second, first, third, first, second)]
expect_equal(
    answers,
    [False, False, True, False, False, False],
    "capacity 2; lists a b a c a b: is the list known?",
    "the list that was added first goes first",
)
expect_raises(KeyError, lambda: KeyCache(2).unpack(b"12345678", None), "an unknown digest")

keys = np.arange(10, dtype=np.uint64)
here, there = KeyCache(4), KeyCache(4)
there.unpack(*here.pack(keys))
keys += 1
digest, sent = here.pack(keys)
expect(sent is not None, "the caller has changed its array since: the new keys must be sent")
there.unpack(digest, sent)
digest, sent = here.pack(np.arange(10, dtype=np.uint64))
expect_equal(np.asarray(there.unpack(digest, sent)).tolist(), list(range(10)), "the old keys again")

for threshold in (0.0, 0.5, 3.0):
    filter_ = Significance(3, threshold)
    came, went = np.zeros((50, 3)), np.zeros((50, 3))
    rows_in = rows_out = 0
    for step in range(120):
        keys = np.unique(zipf_keys(10, 50, 1.0, seed=step)).astype(np.uint64)
        grads = random.normal(0, 0.2, (len(keys), 3)).astype(np.float32)
        out_keys, out = filter_.filter(keys, grads)
        out_keys, out = np.asarray(out_keys).astype(int), np.asarray(out)
        expect_equal(out.shape, (len(out_keys), 3), "the shape of the gradients that go out")
        expect(list(out_keys) == sorted(set(out_keys)), "keys that go out: ascending, each once")
        np.add.at(came, keys.astype(int), grads)
        np.add.at(went, out_keys, out)
        rows_in, rows_out = rows_in + len(keys), rows_out + len(out_keys)
        held = np.abs(came - went).max()
        expect(
            held <= threshold + 1e-4,
            f"threshold {threshold}: {held:.3f} is held back of a row after step {step}",
            "compare what has added up, and not only what has just come",
        )
    if threshold == 0.5:
        expect(
            rows_out <= 0.6 * rows_in,
            f"threshold 0.5: {rows_out} of {rows_in} rows go out; 60 % may",
        )
    out_keys, out = filter_.flush()
    np.add.at(went, np.asarray(out_keys).astype(int), np.asarray(out).reshape(-1, 3))
    expect_close(went, came, f"threshold {threshold}: all that came in and went out", atol=1e-3)
    expect_equal(len(filter_.flush()[0]), 0, "rows left after flush")

# %% hints filters [markdown]
# 1. The key cache works because both ends make the same decisions. Where could yours begin to differ?
# 2. Digest: `hashlib.blake2b(keys.tobytes(), digest_size=8)`. Both ends add and drop in the same method, by an `OrderedDict`.
# 3. `Significance` keeps a dictionary from key to the sum held back; `filter` adds, picks the keys above the threshold, and pops
#    them; `flush` picks all keys.

# %% [markdown]
# ## Task 8. Which way is shorter?
#
# `traffic(n, k, size, mode) -> (worker, server, total)`, in bytes per iteration, for a dense model of `size` bytes: what passes
# through the network port of one worker's machine, in plus out; the same for one server's machine; and the bytes that travel in
# all, each counted once. `n` workers push a gradient and pull the model.
#
# - `"ps"`: `k` servers on machines of their own, each with an equal share of the model.
# - `"colocated"`: every worker's machine is a server for 1/n of the model too (`k` is ignored). A machine's worker talks to its own
#   server without the network. `server` is 0: there are no machines for servers only.
# - `"ring"`: ring all-reduce, `server` is 0 (`k` is ignored).
# - Anything else raises `ValueError`.


# %% task traffic
def traffic(n, k, size, mode):
    """Bytes per iteration through a worker's port and a server's port, and in all."""
    ### BEGIN SOLUTION
    if mode == "ps":
        return 2 * size, 2 * size * n / k, 2 * size * n
    if mode in ("colocated", "ring"):
        return 4 * size * (n - 1) / n, 0, 2 * size * (n - 1)
    raise ValueError(f"no such mode: {mode}")
    ### END SOLUTION


# %% test traffic 2
for _mode, _expected in [
    ("ps", (200, 400, 800)),
    ("colocated", (300, 0, 600)),
    ("ring", (300, 0, 600)),
]:
    expect_close(
        traffic(4, 2, 100, _mode),
        _expected,
        f"traffic(4, 2, 100, {_mode!r}): worker, server, total",
        look="draw the arrows of one iteration, and count those that touch one machine",
    )
print("Traffic: the visible test passes.")


# %% hidden traffic 4
def count(n, k, size, mode):
    """Count the bytes of one iteration between real processes; per rank (out, in)."""
    ranks = n + k if mode == "ps" else n
    piece = size // (k if mode == "ps" else n)

    def machine(rank, comms):
        comm = comms[rank]
        if mode == "ring":
            for _ in range(2 * (n - 1)):
                sending = comm.isend((rank + 1) % n, bytes(piece))
                comm.recv((rank - 1) % n)
                sending.join()
        elif mode == "ps" and rank < n:
            for server in range(n, n + k):
                comm.send(server, bytes(piece))
            for server in range(n, n + k):
                comm.recv(server)
        elif mode == "ps":
            for worker in range(n):
                comm.recv(worker)
            for worker in range(n):
                comm.send(worker, bytes(piece))
        else:
            others = [other for other in range(n) if other != rank]
            for _ in ("push", "pull"):
                sending = [comm.isend(other, bytes(piece)) for other in others]
                for other in others:
                    comm.recv(other)
                for thread in sending:
                    thread.join()
        return comm.bytes_out, comm.bytes_in

    with mesh(ranks) as comms:
        return [result.value for result in run_workers(machine, ranks, args=(comms,), deadline=20)]


for n, k in ((2, 1), (4, 2), (3, 3)):
    size = 1200
    for mode in ("ps", "colocated", "ring"):
        ports = count(n, k, size, mode)
        counted = (
            sum(ports[0]),
            sum(ports[-1]) if mode == "ps" else 0,
            sum(out for out, _ in ports),
        )
        expect_close(
            traffic(n, k, size, mode),
            counted,
            f"traffic({n}, {k}, {size}, {mode!r}) against the bytes that real processes counted",
        )
worker, server, total = traffic(64, 8, 10**9, "ps")
expect_close((worker, server, total), (2e9, 16e9, 128e9), "64 workers, 8 servers, 1 GB")
expect_raises(ValueError, lambda: traffic(2, 1, 10, "carrier pigeon"), "an unknown mode")

# %% hints traffic [markdown]
# 1. Count arrows, not messages: each worker sends a gradient as large as the model and gets the model back.
# 2. Ring all-reduce has two rounds of n - 1 steps; in each step every machine sends 1/n of the model and gets 1/n.
# 3. Co-located: a worker sends (n - 1)/n of its gradient to others and gets as much of the model; the server on the same machine
#    has the same amounts in the other direction. Does the sum look familiar?

# %% [markdown]
# ## The whole, measured
#
# Now your parts together: your frames on the wire, your ring, your store and your gate in the server processes, your worker. The
# stalls are emulated (a sleep in place of a machine that is busy); processes, sockets and bytes are real.

# %% measure
_features, _rounds = 200, 60
_ring = HashRing(["0", "1"])
_place = [int(_ring.owner(key)) for key in range(_features)]
_data = [make_batches(_rounds, 16, _features, 6, seed) for seed in range(4)]


def _stalling(rank):
    stalls = np.random.default_rng(rank).random(_rounds) < 0.1
    for stall, batch in zip(stalls, _data[rank]):
        time.sleep(0.04 if stall else 0.003)
        yield batch


def measure(bound, codec=(encode, decode)):
    """One training run with all of your parts."""
    return run_cluster(
        train,
        lambda: KVStore(1, 0.5),
        ClockGate,
        lambda key: _place[int(key)],
        codec,
        [lambda rank=rank: _stalling(rank) for rank in range(4)],
        bound=bound,
        features=_features,
    )


runs = {bound: measure(bound) for bound in (0, 1, 2, 4, 8)}
for bound, run in runs.items():
    gaps = np.concatenate([report["gaps"] for report in run.servers])
    print(
        f"bound {bound}: {run.seconds:.2f} s, loss of the last ten batches"
        f" {np.mean([losses[-10:] for losses in run.losses]):.3f}, largest gap {max(gaps)}"
    )

# %% measure
_stalled = np.array([np.random.default_rng(rank).random(_rounds) < 0.1 for rank in range(4)])
_seconds = np.where(_stalled, 0.04, 0.003)


def predicted(bound):
    """The time of the slowest worker if nothing but the stalls took time."""
    done = np.zeros((4, _rounds + 1))
    for t in range(_rounds):
        gate = done[:, max(0, t - bound)].max() if t > bound else 0.0
        done[:, t + 1] = np.maximum(done[:, t], gate) + _seconds[:, t]
    return done[:, -1].max()


ratio = {bound: runs[0].seconds / run.seconds for bound, run in runs.items()}
plot_vs(
    "time at bound 0 / time at bound 8",
    {bound: predicted(0) / predicted(bound) for bound in runs},
    ratio,
    "staleness bound",
)

# %% written reading 5 [markdown]
# **Read your plot.** From which bound on does a larger one hardly help, and what sets that bound? Where do theory and measurement
# differ, and what does the theory leave out? (Five to eight sentences.)
#
# ### BEGIN SOLUTION
# *2 points: names the knee and ties it to the length of a stall in iterations (40 ms / 3 ms is about 13 normal iterations; a bound hides a stall only while the others have iterations left to run ahead, and stalls of different workers must average out).*
# *2 points: names what is left out: the time of pull, push and the messages, start-up of the processes, six processes on two cores.*
# *1 point: says that with large bounds all workers take as long as the sum of their own stalls, so nothing is left to gain.*
# ### END SOLUTION

# %% written choice 5 [markdown]
# **Choose.** A team trains a recommender: 200 GB of embedding rows, of which a batch touches 0.01 %, and 200 MB of dense layers, on 16
# machines. Which of `"ps"`, `"colocated"` and `"ring"` for the rows, which for the layers? Argue with bytes from Task 8, and say what
# your choice does when a machine dies.
#
# ### BEGIN SOLUTION
# *2 points: rows on a parameter server (separate or co-located): 20 MB a batch travel instead of 2 x 200 GB, and no machine could hold all rows for an all-reduce.*
# *2 points: dense layers by all-reduce (or co-located, which costs the same 4(n-1)/n S = 750 MB through each port); separate servers would pass 2nS/k = 6.4 GB / k each.*
# *1 point: a dead server loses rows unless they are replicated (chain of Task 6); a dead member of a ring stops the iteration, and the dense layers survive on every other machine.*
# ### END SOLUTION
