# ---
# title: Ring all-reduce and data-parallel training
# hours: 7
# imports: [numpy, torch, torch._dynamo, matplotlib.pyplot, autograder.labkit]
# ---

# %% [markdown]
# # Ring all-reduce and data-parallel training
#
# Li and others report that PyTorch's data-parallel module trains on 256 GPUs at almost 256 times the speed of one, and name what
# it takes: gradients that travel in buckets, and travel while the backward pass is still at work (*PyTorch Distributed*,
# VLDB 2020). In this lab you build both halves of that claim. The first half is the sum itself: an all-reduce over a link that can do
# nothing but send and receive, one that moves as few bytes as is possible, and one that takes as few steps. The second half is
# the module that hides it behind the computation. Then you measure where one way of summing overtakes another, and how large a bucket
# should be.
#
# You need the chapter *Collectives and data-parallel training*. Every part is tested by itself: a mistake in one task costs that
# task only, and you may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# Four ranks sum a vector. The network takes 4 ms for a message however short, and 10 ns for each byte of it (100 MB/s). Below
# some size it is faster to send everything to one rank, which adds and sends the sum back; above it, the ring wins. Guess that size, in
# kilobytes. And guess this: a backward pass takes 60 ms, summing all of its gradients at its end takes 42 ms more. How long does a
# step take when gradients travel as soon as they are there, in the best buckets?

# %%
from autograder.labkit import plot_vs, predict

predict("ring overtakes star", 1, "KB")
predict("shortest step", 102, "ms")

# %% given
import math
import os
import queue
import select
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from autograder.labkit import EventLog, Worker, expect, expect_close, expect_equal, expect_raises
from autograder.labkit import mesh

torch.set_num_threads(1)


def on_ranks(n, work, *args, deadline=20.0, look=""):
    """What `work(comm, *args)` returns on each of `n` ranks, which are processes; by rank.

    Each rank holds its own ends of the connections only: when one dies, the others are told, by a
    ConnectionError.  Fails with the first error that is not of that sort.
    """

    def drop(comm):
        for link in comm.links.values():
            link.sock.close()

    with mesh(n) as comms:

        def main(rank):
            for other in comms:
                if other.rank != rank:
                    drop(other)
            return work(comms[rank], *args)

        workers = [Worker(main, rank, rank=rank) for rank in range(n)]
        try:
            for comm in comms:
                drop(comm)
            end = time.monotonic() + deadline
            results = [worker.result(max(0.0, end - time.monotonic())) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
    failed = [result for result in results if result.status != "ok"]
    failed.sort(key=lambda result: ("ConnectionError" in result.error, result.status == "deadline"))
    if failed:
        first = failed[0]
        what = f"was not done after {deadline:g} s: does everybody wait for somebody?"
        if first.status != "deadline":
            *where, error = first.error.strip().splitlines() or ["the process was killed"]
            frames = [line for line in where if "^^^" not in line and "~~~" not in line]
            what = "\n".join([f"raised {error}", *frames[-4:]])
        expect(False, f"{n} ranks: rank {first.rank} {what}", look)
    return [result.value for result in results]


class Network:
    """A Comm with the time of an ideal network: `alpha` seconds a message, `beta` seconds a byte.

    A rank sends one message at a time and receives one at a time, and may do both at once.  The
    processes and the messages are real; the time is emulated.  With `virtual` nobody waits, and
    `now` is the time that it would be on this rank; otherwise `recv` sleeps until a message would
    have arrived.
    """

    def __init__(self, comm, alpha, beta, *, virtual=False):
        self.comm, self.rank, self.n = comm, comm.rank, comm.n
        self.alpha, self.beta, self.virtual = alpha, beta, virtual
        self.bytes_out = self.messages = 0
        self.clock = self.out_free = self.in_free = 0.0

    @property
    def now(self):
        return self.clock if self.virtual else time.monotonic()

    def _stamped(self, data):
        data = bytes(memoryview(data).cast("B"))
        begin = max(self.now, self.out_free)
        self.out_free = begin + self.beta * len(data)
        self.bytes_out += len(data)
        self.messages += 1
        return struct.pack("<d", begin) + data

    def send(self, to, data):
        self.comm.send(to, self._stamped(data))

    def isend(self, to, data):
        return self.comm.isend(to, self._stamped(data))

    def recv(self, source):
        packet = self.comm.recv(source)
        (begin,) = struct.unpack_from("<d", packet)
        data = packet[8:]
        self.in_free = max(begin + self.alpha, self.in_free) + self.beta * len(data)
        if self.virtual:
            self.clock = max(self.clock, self.in_free)
        else:
            time.sleep(max(0.0, self.in_free - time.monotonic()))
        return data


def bounds(length, n):
    """Where to cut a vector into n almost equal chunks: chunk i is x[cuts[i] : cuts[i + 1]]."""
    return [length * i // n for i in range(n + 1)]


def star_all_reduce(x, comm):
    """The sum of all ranks' vectors, by way of rank 0."""
    if comm.rank != 0:
        comm.send(0, x)
        return np.frombuffer(comm.recv(0), x.dtype)
    total = x.copy()
    for source in range(1, comm.n):
        total += np.frombuffer(comm.recv(source), x.dtype)
    for to in range(1, comm.n):
        comm.send(to, total)
    return total


# %% [markdown]
# ## Task 1. The ring
#
# Each of `n` ranks has a vector `x` of the same length and wants the sum of all of them. In the ring every rank sends to its right
# neighbour, `(rank + 1) % n`, and receives from its left, and never sends more than one chunk at a time. Chunk `i` of a vector is
# `x[cuts[i] : cuts[i + 1]]` with `cuts = bounds(len(x), n)`; chunks may be empty.
#
# - `reduce_scatter(x, comm)` returns chunk `comm.rank` of the sum, after `n - 1` steps.
# - `all_gather(piece, length, comm)`: `piece` is chunk `comm.rank` of a vector of `length` elements; returns the whole vector, after
#   another `n - 1` steps.
# - `ring_all_reduce(x, comm)` returns the sum: the one, then the other.
#
# `x` is one-dimensional, float32 or float64; results have the same type, `x` stays as it is, and all ranks end with the very same bits.
# `comm` has `rank`, `n`, `send(to, data)`, `isend(to, data)` and `recv(source) -> bytes`, and nothing else that helps. `send` comes
# back when the network has taken the data, which, for long messages, is when the other side receives. `isend` sends in the background;
# call `join()` on its answer before you send to that rank again, and do not change the data until then.
#
# All ranks together send exactly `2 (n - 1)` times the bytes of a vector, each of them `2 (n - 1) / n` times (up to two elements more or
# fewer where `n` does not divide the length), in at most `2 (n - 1)` messages, and every rank sends in every step.


# %% task ring
def reduce_scatter(x, comm):
    """Chunk `comm.rank` of the sum over all ranks."""
    ### BEGIN SOLUTION
    cuts, n, rank = bounds(len(x), comm.n), comm.n, comm.rank
    chunks = [x[cuts[i] : cuts[i + 1]].copy() for i in range(n)]
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, chunks[(rank - 1 - step) % n])
        got = np.frombuffer(comm.recv((rank - 1) % n), x.dtype)
        chunks[(rank - 2 - step) % n] += got
        sending.join()
    return chunks[rank]
    ### END SOLUTION


def all_gather(piece, length, comm):
    """The whole vector, of which each rank has its chunk."""
    ### BEGIN SOLUTION
    cuts, n, rank = bounds(length, comm.n), comm.n, comm.rank
    whole = np.empty(length, piece.dtype)
    whole[cuts[rank] : cuts[rank + 1]] = piece
    for step in range(n - 1):
        out, into = (rank - step) % n, (rank - step - 1) % n
        sending = comm.isend((rank + 1) % n, whole[cuts[out] : cuts[out + 1]])
        got = np.frombuffer(comm.recv((rank - 1) % n), piece.dtype)
        whole[cuts[into] : cuts[into + 1]] = got
        sending.join()
    return whole
    ### END SOLUTION


def ring_all_reduce(x, comm):
    """The sum of all ranks' vectors."""
    ### BEGIN SOLUTION
    return all_gather(reduce_scatter(x, comm), len(x), comm)
    ### END SOLUTION


# %% test ring 4
def _ring(comm):
    x = np.arange(7.0) * (comm.rank + 1)
    piece, kept = reduce_scatter(x, comm), x.copy()
    total = ring_all_reduce(x, comm)
    sent = comm.bytes_out
    long = ring_all_reduce(np.full(600_000, comm.rank + 1.0), comm)
    return piece, total, sent, bool(np.array_equal(x, kept)), float(long.min()), float(long.max())


_cuts = bounds(7, 3)
_ranks = on_ranks(
    3,
    _ring,
    deadline=8,
    look="which chunk goes out in which step; and who receives while all are sending",
)
for _rank, (_piece, _total, _sent, _kept, _least, _most) in enumerate(_ranks):
    _sum = np.arange(7.0) * 6
    expect_close(
        _piece, _sum[_cuts[_rank] : _cuts[_rank + 1]], f"3 ranks, 7 elements: rank {_rank}'s piece"
    )
    expect_close(_total, _sum, f"3 ranks, 7 elements: the sum on rank {_rank}")
    expect(_kept, "x must stay as it is", "chunks of x are views: copy before you add to them")
    expect_equal((_least, _most), (6.0, 6.0), "the sum of 600000 elements: smallest and largest")
_sent = sum(sent for _, _, sent, _, _, _ in _ranks)
expect_equal(
    _sent,
    3 * 2 * 7 * 8,
    "bytes that 3 ranks send for one reduce_scatter and one ring_all_reduce of 56 bytes",
    "a reduce_scatter sends (n - 1) times the vector in all, an all_gather as much again",
)
print("The ring: the visible test passes.")

# %% hidden ring 13
LENGTHS = (0, 1, 2, 5, 12, 13, 1000)


def vectors(n, length):
    return [
        np.random.default_rng([length, rank]).integers(-999, 999, length).astype(float)
        for rank in range(n)
    ]


def work(comm):
    rows = []
    for length in LENGTHS:
        x = vectors(comm.n, length)[comm.rank]
        kept, cuts = x.copy(), bounds(length, comm.n)
        marks = [(comm.bytes_out, comm.messages)]
        piece = reduce_scatter(x, comm)
        marks.append((comm.bytes_out, comm.messages))
        whole = np.arange(length) + 0.5
        gathered = all_gather(whole[cuts[comm.rank] : cuts[comm.rank + 1]].copy(), length, comm)
        marks.append((comm.bytes_out, comm.messages))
        total = ring_all_reduce(x, comm)
        marks.append((comm.bytes_out, comm.messages))
        single = ring_all_reduce(x.astype(np.float32), comm)
        rows.append((piece, gathered, total, single, np.array_equal(x, kept), marks))
    scale = 10.0 ** np.random.default_rng(comm.rank).integers(-8, 8, 301)
    return rows, ring_all_reduce(
        scale * np.random.default_rng(comm.rank + 50).normal(size=301), comm
    )


for n in (1, 2, 3, 4, 5):
    ranks = on_ranks(
        n, work, deadline=15, look="which chunk does each rank send in step 0, 1, ...?"
    )
    for number, length in enumerate(LENGTHS):
        what = f"{n} ranks, {length} elements"
        want, cuts = sum(vectors(n, length)), bounds(length, n)
        for rank in range(n):
            piece, gathered, total, single, kept, marks = ranks[rank][0][number]
            mine = want[cuts[rank] : cuts[rank + 1]]
            expect_close(piece, mine, f"{what}: reduce_scatter on rank {rank}")
            expect_close(gathered, np.arange(length) + 0.5, f"{what}: all_gather on rank {rank}")
            expect_close(total, want, f"{what}: ring_all_reduce on rank {rank}")
            expect_close(
                single, want, f"{what}, float32: ring_all_reduce on rank {rank}", rtol=1e-4
            )
            expect_equal(np.asarray(total).dtype, np.dtype(np.float64), f"{what}: the type")
            expect_equal(
                np.asarray(single).dtype, np.dtype(np.float32), f"{what}, float32: the type"
            )
            expect(kept, f"{what}: x was changed on rank {rank}", "copy the chunks first")
            for part, name in enumerate(("reduce_scatter", "all_gather", "ring_all_reduce")):
                rounds = 2 * (n - 1) if part == 2 else n - 1
                sent = marks[part + 1][0] - marks[part][0]
                messages = marks[part + 1][1] - marks[part][1]
                fair = rounds * length * 8 / n
                expect(
                    abs(sent - fair) <= 16,
                    f"{what}: rank {rank} sends {sent} bytes in {name}; {fair:.0f} are its share,"
                    " two elements more or fewer allowed",
                    "every rank sends one chunk in each step, and no chunk twice",
                )
                expect(
                    messages <= rounds,
                    f"{what}: rank {rank} sends {messages} messages in {name}; {rounds} are enough",
                )
        for part, times in ((0, 1), (1, 1), (2, 2)):
            sent = sum(row[0][number][5][part + 1][0] - row[0][number][5][part][0] for row in ranks)
            expect_equal(
                sent,
                times * (n - 1) * length * 8,
                f"{what}: bytes that all ranks send in {times * (n - 1)} steps",
                "all chunks but one travel in each half, from every rank",
            )
    for rank in range(n):
        expect(
            np.array_equal(ranks[rank][1], ranks[0][1]),
            f"{n} ranks: ranks 0 and {rank} end with sums that differ in their last bits",
            "a chunk is summed in one place and then copied; replicas must not drift apart",
        )


def long_messages(comm):
    return float(ring_all_reduce(np.full(1_500_000, 1.0 + comm.rank), comm).sum())


for n in (2, 4):
    totals = on_ranks(
        n,
        long_messages,
        deadline=8,
        look="12 MB do not fit in a socket: whoever sends waits until somebody receives",
    )
    expect_equal(totals, [1_500_000.0 * n * (n + 1) / 2] * n, f"{n} ranks, 12 MB: the sums")


def timed(comm):
    network = Network(comm, 1.0, 1e-3, virtual=True)
    ring_all_reduce(np.ones(750), network)
    return network.now


n = 6
steps = 2 * (n - 1) * (1.0 + 1e-3 * 6000 / n)
spent = max(on_ranks(n, timed, deadline=10))
expect(
    spent <= 2.5 * steps,
    f"{n} ranks on an ideal network: {spent / steps:.1f} times as long as {2 * (n - 1)} steps in"
    " which every rank sends; 2.5 times is allowed",
    "ranks that take turns: the ring is only fast when all send at once",
)

# %% hints ring [markdown]
# 1. Put four ranks on paper, four columns of four chunks. Rank 2 must end with chunk 2 of the sum: which rank adds to it last, and
#    from whom did that one get it?
# 2. Chunk `i` starts its journey at rank `i + 1` and collects on its way round. So in step `k` rank `r` sends chunk `r - 1 - k` and adds
#    what comes to chunk `r - 2 - k`, all modulo `n`. In the second half it sends `r - k` and stores `r - 1 - k`.
# 3. One step: `sending = comm.isend(right, chunk)`, `got = np.frombuffer(comm.recv(left), x.dtype)`, add or store, `sending.join()`.
#    Take `chunks = [x[a:b].copy() ...]` first, so that `x` stays as it is.

# %% [markdown]
# ## Task 2. Fewer steps
#
# The ring moves few bytes but takes `2 (n - 1)` steps, and for a short vector the steps are all that counts. Recursive doubling takes
# one step for each doubling of `n`: in step `k` rank `r` exchanges its whole vector with rank `r XOR 2^k`, and both add.
#
# `doubling_all_reduce(x, comm)` returns the sum on every rank, bit for bit the same, for **any** `n`. On an ideal network it must not take
# longer than `2 ceil(log2 n)` steps of one whole vector each, `2 ceil(log2 n) (alpha + beta S)` seconds. How you get there when `n` is not a
# power of two is up to you: fold the ranks that are too many into others before you begin, or reduce and broadcast along a tree.


# %% task doubling
def doubling_all_reduce(x, comm):
    """The sum of all ranks' vectors, in a logarithmic number of steps."""
    ### BEGIN SOLUTION
    n, rank = comm.n, comm.rank
    power = 1 << (n.bit_length() - 1)
    extra = n - power
    if rank >= power:
        comm.send(rank - power, x)
        return np.frombuffer(comm.recv(rank - power), x.dtype).copy()
    total = x.copy()
    if rank < extra:
        total = total + np.frombuffer(comm.recv(rank + power), x.dtype)
    stride = 1
    while stride < power:
        sending = comm.isend(rank ^ stride, total)
        total = total + np.frombuffer(comm.recv(rank ^ stride), x.dtype)
        sending.join()
        stride *= 2
    if rank < extra:
        comm.send(rank + power, total)
    return total
    ### END SOLUTION


# %% test doubling 3
def _doubling(comm):
    network = Network(comm, 1.0, 0.0, virtual=True)
    return doubling_all_reduce(np.arange(4.0) + comm.rank, network), network.now


for _n, _steps in ((4, 4), (3, 4)):
    _ranks = on_ranks(_n, _doubling, deadline=8)
    for _rank, (_total, _now) in enumerate(_ranks):
        _want = _n * np.arange(4.0) + _n * (_n - 1) / 2
        expect_close(_total, _want, f"{_n} ranks: the sum on rank {_rank}")
        expect(_now <= _steps, f"{_n} ranks: {_now:g} steps; {_steps} are allowed")
print("Recursive doubling: the visible test passes.")


# %% hidden doubling 9
def some(rank, length=257):
    random = np.random.default_rng(rank)
    return random.normal(size=length) * 10.0 ** random.integers(-6, 6, length)


def work(comm):
    rows = []
    for alpha, beta in ((1.0, 1e-6), (1.0, 5e-3)):
        network = Network(comm, alpha, beta, virtual=True)
        x = some(comm.rank)
        kept = x.copy()
        total = doubling_all_reduce(x, network)
        rows.append((np.asarray(total), network.now, np.array_equal(x, kept)))
    empty = doubling_all_reduce(np.empty(0, np.float32), comm)
    return rows, len(empty), str(empty.dtype)


for n in range(1, 9):
    ranks = on_ranks(n, work, deadline=12, look="draw who talks to whom in each step")
    rounds = 2 * math.ceil(math.log2(n))
    want = sum(some(rank) for rank in range(n))
    size = sum(abs(some(rank)) for rank in range(n))
    for number, (alpha, beta) in enumerate(((1.0, 1e-6), (1.0, 5e-3))):
        limit = rounds * (alpha + beta * 257 * 8)
        spent = max(ranks[rank][0][number][1] for rank in range(n))
        expect(
            spent <= limit * (1 + 1e-9),
            f"{n} ranks, {beta * 257 * 8:.2g} s for the bytes and 1 s for each message: takes"
            f" {spent:.1f} s on an ideal network; {limit:.1f} s are allowed",
            "ceil(log2 n) doublings; one rank must not be the port through which all bytes pass",
        )
        for rank in range(n):
            total, _, kept = ranks[rank][0][number]
            expect_equal(total.shape, want.shape, f"{n} ranks: the shape on rank {rank}")
            wrong = np.abs(total - want) > 1e-12 * size
            expect(
                not wrong.any(),
                f"{n} ranks: rank {rank} has {np.count_nonzero(wrong)} wrong sums, the first at"
                f" {int(np.argmax(wrong))}: {total[np.argmax(wrong)]} instead of"
                f" {want[np.argmax(wrong)]}",
                "each rank's vector must be counted once, also when n is no power of two",
            )
            expect(kept, f"{n} ranks: x was changed on rank {rank}")
            expect(
                np.array_equal(total, ranks[0][0][number][0]),
                f"{n} ranks: ranks 0 and {rank} differ in the last bits of their sums",
            )
    expect_equal(
        [row[1:] for row in ranks],
        [(0, "float32")] * n,
        f"{n} ranks: length and type of an empty sum",
    )


def long_messages(comm):
    return float(doubling_all_reduce(np.full(400_000, 1.0 + comm.rank), comm).sum())


totals = on_ranks(
    4, long_messages, deadline=8, look="two partners that both send first wait for each other"
)
expect_equal(totals, [4_000_000.0] * 4, "4 ranks, 3.2 MB: the sums")

# %% hints doubling [markdown]
# 1. After step `k` each rank holds the sum over a block of `2^(k+1)` ranks. Which ranks, and who has the other block?
# 2. With `n = 2^m + e`: before the start the last `e` ranks each give their vector to a rank below `2^m`, and get the sum from it
#    in the end. That costs two steps, and `m + 2` is at most `2 ceil(log2 n)`.
# 3. `power = 1 << (n.bit_length() - 1)`. Ranks from `power` on: send, receive, return. The others: perhaps receive one more vector, then
#    `stride = 1, 2, 4, ... < power`: `isend` to `rank ^ stride`, `recv` from it, add into a **new** array, `join()`.

# %% [markdown]
# ## Task 3. Which one, and when?
#
# On an ideal network a message of `m` bytes takes `alpha + beta m` seconds, and a rank sends one and receives one at a time. Then an
# all-reduce of `S` bytes takes
#
# | algorithm | seconds |
# |---|---|
# | `"star"` | `2 alpha + 2 (n - 1) beta S` |
# | `"ring"` | `2 (n - 1) alpha + 2 (n - 1) / n beta S` |
# | `"doubling"` | `k (alpha + beta S)`, `k = log2 n`, or `floor(log2 n) + 2` when `n` is no power of two |
#
# and no time at all when `n` is 1. (With `floor(log2 n) + 2` the last row is a bound: part of the fold hides behind the doubling.)
#
# - `cost(algorithm, n, size, alpha, beta) -> float`, seconds; `ValueError` for another algorithm.
# - `fit(rows) -> (alpha, beta)`: each row is `(algorithm, n, size, seconds)`, measured. Sizes range from a kilobyte to many megabytes, and
#   a measurement is off by some *percent*: minimise the sum of the squares of the **relative** errors.
# - `choose(n, size, alpha, beta) -> str`, the cheapest of the three.
# - `crossover(n, alpha, beta) -> float`: the size in bytes from which on the ring beats the star; 0 when it does so at once.


# %% task cost
def cost(algorithm, n, size, alpha, beta):
    """Seconds that an all-reduce of `size` bytes among `n` ranks takes."""
    ### BEGIN SOLUTION
    messages, volume = terms(algorithm, n, size)
    return messages * alpha + volume * beta


def terms(algorithm, n, size):
    """How often a message is waited for, and how many bytes, one after the other."""
    if algorithm not in ("star", "ring", "doubling"):
        raise ValueError(f"no such algorithm: {algorithm}")
    if n == 1:
        return 0, 0
    if algorithm == "star":
        return 2, 2 * (n - 1) * size
    if algorithm == "ring":
        return 2 * (n - 1), 2 * (n - 1) / n * size
    power = n.bit_length() - 1
    rounds = power if n == 1 << power else power + 2
    return rounds, rounds * size
    ### END SOLUTION


def fit(rows):
    """The alpha and beta that explain the measured rows best."""
    ### BEGIN SOLUTION
    seconds = np.array([row[3] for row in rows], float)
    columns = np.array([terms(*row[:3]) for row in rows], float) / seconds[:, None]
    scale = np.abs(columns).max(axis=0)
    solution, *_ = np.linalg.lstsq(columns / scale, np.ones(len(rows)), rcond=None)
    alpha, beta = solution / scale
    return float(alpha), float(beta)
    ### END SOLUTION


def choose(n, size, alpha, beta):
    """The algorithm that takes the least time."""
    ### BEGIN SOLUTION
    return min(("star", "ring", "doubling"), key=lambda name: cost(name, n, size, alpha, beta))
    ### END SOLUTION


def crossover(n, alpha, beta):
    """The size in bytes from which on the ring beats the star."""
    ### BEGIN SOLUTION
    return n * (n - 2) * alpha / ((n - 1) ** 2 * beta) if n > 1 else 0.0
    ### END SOLUTION


# %% test cost 3
expect_close(cost("ring", 4, 1_000_000, 1e-3, 1e-8), 0.021, "cost('ring', 4, 1 MB, 1 ms, 10 ns)")
expect_close(cost("star", 4, 1_000_000, 1e-3, 1e-8), 0.062, "cost('star', 4, 1 MB, 1 ms, 10 ns)")
expect_close(cost("doubling", 5, 1000, 1.0, 0.0), 4.0, "cost('doubling', 5, 1 KB, 1 s, 0)")
_rows = [("ring", 4, _s, cost("ring", 4, _s, 2e-3, 1e-8)) for _s in (10**3, 10**5, 10**7)]
expect_close(fit(_rows), (2e-3, 1e-8), "fit of three exact rows", rtol=1e-4)
expect_equal(choose(64, 1000, 1e-3, 1e-8), "star", "choose(64, 1 KB, 1 ms, 10 ns)")
expect_close(crossover(4, 1e-3, 1e-8), 88888.889, "crossover(4, 1 ms, 10 ns)", rtol=1e-5)
expect_raises(ValueError, lambda: cost("bus", 4, 1, 1, 1), "an algorithm that does not exist")
print("Costs: the visible test passes.")

# %% hidden cost 9 outside
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

ref = reference()
NAMES = ("star", "ring", "doubling")
WAYS = (ref.star_all_reduce, ref.ring_all_reduce, ref.doubling_all_reduce)
ALPHA, BETA = 1.5e-3, 2e-8


def clocks(comm, size):
    """What an ideal network says, for each algorithm."""
    times = []
    for way in WAYS:
        network = ref.Network(comm, ALPHA, BETA, virtual=True)
        way(np.zeros(size // 8), network)
        times.append(network.now)
    return times


for n, size in ((1, 800), (2, 1600), (3, 24_000), (4, 800), (5, 4000), (6, 480_000), (8, 64_000)):
    ranks = ref.on_ranks(n, clocks, size)
    for number, name in enumerate(NAMES):
        if name == "doubling" and n & (n - 1):
            continue
        expect_close(
            student.cost(name, n, size, ALPHA, BETA),
            max(times[number] for times in ranks),
            f"cost({name!r}, {n}, {size}, {ALPHA}, {BETA}) against {n} processes on an ideal network",
            rtol=1e-6,
            atol=1e-12,
            look="the table",
        )
for n, rounds in ((3, 3), (5, 4), (6, 4), (7, 4), (9, 5), (16, 4), (100, 8)):
    expect_close(
        student.cost("doubling", n, 1000, ALPHA, BETA),
        rounds * (ALPHA + BETA * 1000),
        f"cost('doubling', {n}, 1000, {ALPHA}, {BETA})",
        look="the last row of the table; floor(log2 n) + 2 when n is no power of two",
    )
expect_raises(ValueError, lambda: student.cost("tree", 1, 8, 1.0, 1.0), "an unknown algorithm")

random = np.random.default_rng(5)
for trial in range(12):
    alpha, beta = 10 ** random.uniform(-5, -2), 10 ** random.uniform(-10, -7.5)
    chosen = NAMES if trial % 2 else ("ring", "star")
    rows = [
        (name, n, size, ref.cost(name, n, size, alpha, beta) * float(random.uniform(0.93, 1.07)))
        for name in chosen
        for n in (2, 3, 8)
        for size in (1024, 16_384, 262_144, 4_194_304, 67_108_864)
    ]
    got = student.fit(rows)
    for value, planted, name in zip(got, (alpha, beta), ("alpha", "beta")):
        expect(
            abs(value / planted - 1) < 0.12,
            f"fit of {len(rows)} rows that are up to 7 % off, 1 KB to 64 MB: {name} is"
            f" {value:.3g}, {planted:.3g} was planted",
            "the largest times must not drown the small ones: divide each row by its seconds",
        )

for n in (2, 3, 4, 7, 16, 100):
    for size in (8, 1000, 30_000, 10**6, 10**9):
        for alpha, beta in ((1e-3, 1e-9), (1e-6, 1e-8), (2e-5, 1e-10)):
            got = student.choose(n, size, alpha, beta)
            expect(got in NAMES, f"choose gives {got!r}, which is none of {NAMES}")
            best = min(ref.cost(name, n, size, alpha, beta) for name in NAMES)
            expect_close(
                ref.cost(got, n, size, alpha, beta),
                best,
                f"choose({n}, {size}, {alpha}, {beta}) = {got!r}: seconds, against the cheapest",
            )
for n in (2, 3, 4, 8, 33):
    alpha, beta = 3e-4, 7e-9
    size = student.crossover(n, alpha, beta)
    expect_close(
        size,
        n * (n - 2) * alpha / ((n - 1) ** 2 * beta),
        f"crossover({n}, {alpha}, {beta})",
        atol=1e-9,
    )
expect_equal(float(student.crossover(1, 1.0, 1.0)), 0.0, "crossover(1, 1, 1)")

# %% hints cost [markdown]
# 1. Every formula is a number times `alpha` plus a number times `beta`. Write a function that gives the two numbers.
# 2. For the fit: with the two numbers `a` and `b` of a row, you want `(a alpha + b beta) / seconds` near 1 for all rows. That is linear
#    in `alpha` and `beta`.
# 3. Divide each row of the matrix by its seconds, the right-hand side is all ones, then `np.linalg.lstsq`. Scale the columns to similar
#    size first, since one holds numbers like 6 and the other like 10^8. For `crossover` set the two formulas equal and solve for `S`.

# %% [markdown]
# ## Task 4. Buckets
#
# A model has hundreds of parameters, many of them tiny, and each all-reduce pays `alpha` again. So gradients are summed in buckets. The
# backward pass reaches the last layer first: the first bucket should hold the last parameters.
#
# `plan_buckets(sizes, limit, first=None) -> list[list[int]]`: `sizes` are the bytes of the parameters in the order of the model. Go through
# them from the last to the first; a parameter joins the open bucket unless that would take it beyond `limit` bytes, in which case it
# opens the next. The first bucket has the limit `first` instead, if one is given: a small one starts early. A parameter larger
# than the limit gets a bucket of its own. Buckets list indices in the order in which they were added; none is empty.


# %% task buckets
def plan_buckets(sizes, limit, first=None):
    """Which parameters share a bucket, the last ones first."""
    ### BEGIN SOLUTION
    buckets, room = [], 0
    for index in reversed(range(len(sizes))):
        if not buckets or sizes[index] > room:
            buckets.append([])
            room = first if len(buckets) == 1 and first is not None else limit
        buckets[-1].append(index)
        room -= sizes[index]
    return buckets
    ### END SOLUTION


# %% test buckets 2
expect_equal(
    plan_buckets([10, 20, 30, 40], 50), [[3], [2, 1], [0]], "plan_buckets([10, 20, 30, 40], 50)"
)
expect_equal(
    plan_buckets([10, 10, 10, 10], 20, first=10),
    [[3], [2, 1], [0]],
    "plan_buckets([10, 10, 10, 10], 20, first=10)",
)
expect_equal(plan_buckets([5, 99, 5], 10), [[2], [1], [0]], "plan_buckets([5, 99, 5], 10)")
print("Buckets: the visible test passes.")

# %% hidden buckets 6 outside
import numpy as np

from autograder.labkit import expect_equal

ref = reference()
random = np.random.default_rng(2)
for sizes, limit, first in [
    ([], 10, None),
    ([7], 10, 1),
    ([4] * 10, 12, None),
    ([4] * 10, 13, 4),
    ([100, 1, 1, 100, 1], 10, None),
    ([1, 1, 1, 50], 10, 100),
    ([3, 3, 3], 3, 0),
]:
    expect_equal(
        student.plan_buckets(sizes, limit, first),
        ref.plan_buckets(sizes, limit, first),
        f"plan_buckets({sizes}, {limit}, {first})",
    )
for trial in range(60):
    sizes = [int(size) for size in random.integers(1, 60, random.integers(1, 14))]
    limit = int(random.integers(20, 120))
    first = int(random.integers(1, 60)) if trial % 2 else None
    expect_equal(
        student.plan_buckets(list(sizes), limit, first),
        ref.plan_buckets(sizes, limit, first),
        f"plan_buckets({sizes}, {limit}, {first})",
        "from the last to the first; a full bucket is closed for good; `first` counts once",
    )
expect_equal(
    student.plan_buckets([1, 2, 3], limit=3), [[2], [1, 0]], "plan_buckets([1, 2, 3], limit=3)"
)

# %% hints buckets [markdown]
# 1. Which bucket may a parameter join: any that has room, or only the one that is open?
# 2. One loop over `reversed(range(len(sizes)))`, with the list of buckets and the room that is left in the last.
# 3. `if not buckets or sizes[index] > room:` open a bucket and set its room, to `first` for bucket 0 if that is not `None`, else to `limit`.
#    Then append and subtract, also when the room gets negative: nothing else will fit into a bucket of one that is too large.

# %% [markdown]
# ## Task 5. What should it cost?
#
# Before you build the thing, compute what it will do. Parameter `i` has its gradient `ready[i]` seconds after the backward pass has
# begun, and `sizes[i]` bytes. A bucket is ready when the last of its gradients is. Buckets are summed by a ring of `n` ranks, one
# after the other, in the order of the list: the next one starts when it is ready and the one before it has ended.
#
# - `timeline(buckets, ready, sizes, n, alpha, beta, overlap=True) -> list[(start, end)]` in seconds, one pair for each bucket. Without
#   `overlap` nothing starts before the last gradient of all is ready.
# - `exposed(spans, ready) -> float`: the seconds by which the step is longer than the backward pass, given what `timeline` returned.


# %% task timeline
def timeline(buckets, ready, sizes, n, alpha, beta, overlap=True):
    """When each bucket starts to be summed, and when that is done."""
    ### BEGIN SOLUTION
    spans, free = [], 0.0 if overlap else max(ready, default=0.0)
    for bucket in buckets:
        size = sum(sizes[index] for index in bucket)
        start = max(free, max(ready[index] for index in bucket))
        free = start + 2 * (n - 1) * (alpha + beta * size / n)
        spans.append((start, free))
    return spans
    ### END SOLUTION


def exposed(spans, ready):
    """Seconds that the all-reduces add to the backward pass."""
    ### BEGIN SOLUTION
    last = max(ready, default=0.0)
    return max(0.0, max((end for _, end in spans), default=last) - last)
    ### END SOLUTION


# %% test timeline 2
_ready, _sizes = [3.0, 2.0, 1.0], [4, 4, 4]
_spans = timeline([[2], [1], [0]], _ready, _sizes, 2, 0.5, 0.25)
expect_close(
    _spans, [(1, 3), (3, 5), (5, 7)], "three buckets; each takes 2 s, one is ready each second"
)
expect_close(exposed(_spans, _ready), 4.0, "seconds exposed; the backward pass takes 3")
_spans = timeline([[2], [1, 0]], _ready, _sizes, 2, 0.5, 0.25, overlap=False)
expect_close(_spans, [(3, 5), (5, 8)], "two buckets without overlap")
print("The timeline: the visible test passes.")

# %% hidden timeline 6 outside
import numpy as np

from autograder.labkit import expect_close

ref = reference()
random = np.random.default_rng(9)
for trial in range(24):
    count = int(random.integers(1, 12))
    sizes = [int(size) for size in random.integers(100, 10_000, count)]
    ready = np.sort(random.uniform(0, 1, count))[::-1].tolist()
    if trial % 3 == 0:
        random.shuffle(ready)
    buckets = ref.plan_buckets(sizes, int(random.integers(500, 20_000)))
    n, alpha, beta = int(random.integers(1, 9)), float(random.uniform(0, 0.02)), 2e-6
    for overlap in (True, False):
        what = (
            f"buckets {buckets}, ready {np.round(ready, 2).tolist()}, sizes {sizes}, {n} ranks,"
            f" alpha {alpha:.4f}, beta {beta}, overlap {overlap}"
        )
        want = ref.timeline(buckets, ready, sizes, n, alpha, beta, overlap)
        spans = student.timeline(buckets, ready, sizes, n, alpha, beta, overlap)
        expect_close(
            spans, want, f"timeline: {what}", atol=1e-9, look="ready, and the one before has ended"
        )
        expect_close(
            student.exposed(want, ready), ref.exposed(want, ready), f"exposed: {what}", atol=1e-9
        )

# %% hints timeline [markdown]
# 1. Two things hold a bucket back. Which one does your loop forget in the example of the visible test?
# 2. Keep the time at which the link is free. `start = max(free, ready of the bucket)`, and the ring's formula of Task 3 gives the end.
# 3. Without overlap, let `free` begin at `max(ready)` and not at 0; everything else stays. The gradients need not be ready in the order of
#    the list, so take `max` over the bucket, and `max(ready)` for the end of the backward pass.

# %% [markdown]
# ## Task 6. Data parallel
#
# Each rank has the same model and its own share of the batch. After the backward pass every gradient must be the mean over the ranks;
# then one optimiser step keeps all replicas equal, as if one process had seen the whole batch.
#
# `DDP(model, comm, buckets, all_reduce)`
#
# - `buckets` is a plan as in Task 4 over `[p for p in model.parameters() if p.requires_grad]`, the same on every rank;
#   `all_reduce(x, comm)` sums NumPy vectors, as in Task 1. (`broadcast` below is given.)
# - When it is made, all parameters and buffers of the model become those of rank 0.
# - During `loss.backward()`, a bucket whose gradients are all there is handed to `all_reduce`, as **one** vector in the order of the
#   plan. The backward pass **goes on meanwhile**: it waits neither for the network nor for other ranks.
# - All ranks must call `all_reduce` for the same buckets in the same order, and one at a time, because the messages of two would mix. So
#   bucket 1 waits until bucket 0 has been started, even if it is ready first.
# - `wait()` comes after `backward`: it starts what is left, returns when all is done, and then every gradient is the mean over the
#   ranks. A parameter that took no part on this rank counts as zero: it may have taken part on another. What failed in an `all_reduce`, such
#   as a `ConnectionError`, is raised here.
# - After `wait()` it is ready for the next iteration. A parameter that the model uses in two places is one parameter.


# %% given
def broadcast(x, comm, root=0):
    """The vector of rank `root`, on every rank."""
    if comm.rank != root:
        return np.frombuffer(comm.recv(root), x.dtype).copy()
    for to in range(comm.n):
        if to != root:
            comm.send(to, x)
    return x


class Probe(torch.nn.Module):
    """A layer that changes nothing and calls `call` when the backward pass comes by."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        x = x.view_as(x)
        x.register_hook(lambda grad: self.call())
        return x


class Watched:
    """A Comm that notes in a log when it begins to send."""

    def __init__(self, comm, log):
        self.comm, self.log = comm, log
        self.rank, self.n = comm.rank, comm.n

    def send(self, to, data):
        self.log.append("send", to=to)
        self.comm.send(to, data)

    def isend(self, to, data):
        self.log.append("send", to=to)
        return self.comm.isend(to, data)

    def recv(self, source):
        return self.comm.recv(source)


def watch_overlap(make_ddp, all_reduce):
    """Two ranks and three buckets; the event log of rank 0, and whether rank 1 was kept waiting.

    In the middle of its backward pass rank 0 waits up to 3 s for the first message to leave; rank 1
    begins to compute only when rank 0 has ended its backward pass, or after 4 s.
    """
    reader, writer = os.pipe()

    def work(comm):
        log, probed = EventLog(), []

        def logged(x, comm):
            with log.span("all_reduce"):
                return all_reduce(x, comm)

        def until_sent():
            probed.append(True)
            end = time.monotonic() + (3 if len(probed) == 1 else 0)
            while not log.of("send") and time.monotonic() < end:
                time.sleep(0.002)

        layers = [torch.nn.Linear(6, 6, bias=False) for _ in range(3)]
        watch = Probe(until_sent) if comm.rank == 0 else torch.nn.Identity()
        model = torch.nn.Sequential(layers[0], watch, layers[1], layers[2])
        watched = Watched(comm, log)
        ddp = make_ddp(model, watched, [[2], [1], [0]], logged)
        log.events.clear()
        late = False
        if comm.rank == 1:
            late = not select.select([reader], [], [], 4)[0]
        loss = model(torch.ones(2, 6)).pow(2).sum()
        log.append("backward begins")
        loss.backward()
        log.append("backward ends")
        if comm.rank == 0:
            os.write(writer, b"x")
        ddp.wait()
        return [event.kind for event in log.events], late, log.max_concurrency("all_reduce")

    try:
        return on_ranks(2, work, deadline=15)
    finally:
        os.close(reader)
        os.close(writer)


# %% task ddp
class DDP:
    """Gradients become means over all ranks while the backward pass is still at work."""

    def __init__(self, model, comm, buckets, all_reduce):
        ### BEGIN SOLUTION
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            source = np.ascontiguousarray(tensor.detach().numpy()).reshape(-1)
            flat = broadcast(source, comm)
            tensor.data.copy_(torch.from_numpy(flat).view_as(tensor))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.bucket_of = {index: b for b, bucket in enumerate(buckets) for index in bucket}
        self.sender = ThreadPoolExecutor(1)
        for index, parameter in enumerate(self.parameters):
            parameter.register_post_accumulate_grad_hook(
                lambda _, bucket=self.bucket_of[index]: self._arrived(bucket)
            )
        self._reset()

    def _reset(self):
        self.missing = [len(bucket) for bucket in self.buckets]
        self.sums = []

    def _arrived(self, bucket):
        self.missing[bucket] -= 1
        while len(self.sums) < len(self.buckets) and self.missing[len(self.sums)] == 0:
            self._start()

    def _start(self):
        members = [self.parameters[index] for index in self.buckets[len(self.sums)]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([grad.reshape(-1) for grad in grads]).numpy()
        self.sums.append(self.sender.submit(self.all_reduce, flat, self.comm))
        ### END SOLUTION

    def wait(self):
        """Finish what the backward pass has begun."""
        ### BEGIN SOLUTION
        while len(self.sums) < len(self.buckets):
            self._start()
        for bucket, total in zip(self.buckets, self.sums):
            members = [self.parameters[index] for index in bucket]
            mean = torch.from_numpy(total.result() / self.comm.n)
            for parameter, part in zip(members, mean.split([p.numel() for p in members])):
                parameter.grad = part.view_as(parameter).clone()
        self._reset()
        ### END SOLUTION


# %% test ddp 4
def _train(comm):
    torch.manual_seed(comm.rank)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    ddp = DDP(model, comm, [[3, 2], [1, 0]], star_all_reduce)
    start = model[0].weight.detach().numpy().copy()
    for step in range(2):
        model.zero_grad()
        model(torch.full((1, 3), float(comm.rank + step))).sum().backward()
        alone = [p.grad.numpy().copy() for p in model.parameters()]
        ddp.wait()
    return start, alone, [p.grad.numpy() for p in model.parameters()]


_ranks = on_ranks(2, _train, deadline=10, look="who calls all_reduce, for which bucket, and when?")
expect_close(_ranks[1][0], _ranks[0][0], "weights of rank 1 after DDP was made, against rank 0's")
for _i in range(4):
    _mean = (_ranks[0][1][_i] + _ranks[1][1][_i]) / 2
    for _rank in range(2):
        expect_close(
            _ranks[_rank][2][_i],
            _mean,
            f"second step: gradient {_i} on rank {_rank}",
            rtol=1e-4,
            atol=1e-7,
        )


def _swap(x, comm):
    """An all-reduce of two ranks."""
    comm.send(1 - comm.rank, x)
    return x + np.frombuffer(comm.recv(1 - comm.rank), x.dtype)


_kinds, _, _ = watch_overlap(DDP, _swap)[0]
print("The log of rank 0:", ", ".join(_kinds))
expect(
    _kinds.index("send") < _kinds.index("backward ends"),
    "the first bucket leaves when the backward pass is over",
    "register_post_accumulate_grad_hook",
)
print("Data parallel: the visible test passes.")

# %% hidden ddp 18
ref = reference()
N, STEPS = 3, 10


class Model(torch.nn.Module):
    """Tied weights, a branch that only rank 1 takes, a layer that nobody uses, one that is frozen."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(6, 6, bias=False)
        self.middle = torch.nn.Linear(6, 6)
        self.frozen = torch.nn.Linear(6, 6)
        self.idle = torch.nn.Linear(6, 2)
        self.outer = torch.nn.Linear(6, 6, bias=False)
        self.outer.weight = self.inner.weight
        self.last = torch.nn.Linear(6, 4)
        self.branch = torch.nn.Linear(6, 1)
        self.register_buffer("shift", torch.randn(6))
        self.frozen.requires_grad_(False)
        self.double()

    def forward(self, x, branch):
        h = torch.tanh(self.middle(self.inner(x) + self.shift))
        h = torch.tanh(self.outer(self.frozen(h)))
        out = self.last(h).pow(2).mean()
        return out + self.branch(h).mean() if branch else out


def share(rank, step):
    return torch.from_numpy(np.random.default_rng([rank, step]).normal(size=(5, 6)))


def plan(model, limit):
    return ref.plan_buckets([p.numel() * 8 for p in model.parameters() if p.requires_grad], limit)


def grads(model):
    return [
        torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for p in model.parameters()
        if p.requires_grad
    ]


def train(comm, limit):
    torch.manual_seed(comm.rank)
    model, calls = Model(), []

    def counted(x, comm):
        calls.append(len(x))
        return ref.ring_all_reduce(x, comm)

    ddp = DDP(model, comm, plan(model, limit), counted)
    made = [t.detach().numpy().copy() for t in model.state_dict().values()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    first, numbers = None, []
    for step in range(STEPS):
        optimiser.zero_grad()
        before = len(calls)
        model(share(comm.rank, step), branch=comm.rank == 1).backward()
        ddp.wait()
        numbers.append(calls[before:])
        first = first or [g.numpy() for g in grads(model)]
        optimiser.step()
    return made, first, numbers, [t.detach().numpy() for t in model.state_dict().values()]


torch.manual_seed(0)
single = Model()
made = [t.detach().numpy().copy() for t in single.state_dict().values()]
names = list(single.state_dict())
trained = [name for name, p in single.named_parameters() if p.requires_grad]
optimiser = torch.optim.SGD(single.parameters(), lr=0.2, momentum=0.9)
first = None
for step in range(STEPS):
    optimiser.zero_grad()
    sum(single(share(rank, step), branch=rank == 1) for rank in range(N)).div(N).backward()
    first = first or [g.numpy().copy() for g in grads(single)]
    optimiser.step()

for limit in (300, 10**6):
    buckets = plan(single, limit)
    sizes = [p.numel() for p in single.parameters() if p.requires_grad]
    what = f"{N} ranks, {len(buckets)} buckets"
    ranks = on_ranks(
        N,
        train,
        limit,
        deadline=12,
        look="do all ranks call all_reduce for the same buckets in the same order, all of them?",
    )
    for rank in range(N):
        got_made, got_first, numbers, final = ranks[rank]
        for name, got, want in zip(names, got_made, made):
            expect_close(
                got,
                want,
                f"{what}: {name} of rank {rank} when DDP has been made, against rank 0's",
                look="parameters and buffers, frozen ones too",
            )
        for step, called in enumerate(numbers):
            expect_equal(
                list(called),
                [sum(sizes[i] for i in bucket) for bucket in buckets],
                f"{what}, step {step}, rank {rank}: lengths of the vectors given to all_reduce",
                "one call for each bucket, in the order of the plan, also for unused parameters",
            )
        for name, got, want in zip(trained, got_first, first):
            expect_close(
                got,
                want,
                f"{what}, first step: gradient of {name} on rank {rank} against one process",
                rtol=1e-9,
                atol=1e-12,
                look="the mean over the ranks; an unused parameter counts as zero",
            )
        for name, got, want in zip(names, final, [t.numpy() for t in single.state_dict().values()]):
            expect_close(
                got,
                want,
                f"{what}, after {STEPS} steps: {name} on rank {rank} against one process with all data",
                rtol=1e-8,
                atol=1e-10,
            )
        expect(
            all(np.array_equal(a, b) for a, b in zip(final, ranks[0][3])),
            f"{what}: after {STEPS} steps ranks 0 and {rank} have weights that differ in some bits",
        )

(kinds, _, most), (_, late, _) = watch_overlap(DDP, ref.ring_all_reduce)
expect(
    "send" in kinds and kinds.index("send") < kinds.index("backward ends"),
    f"the event log of rank 0 is {kinds}: the first bucket was not sent before the backward pass ended",
    "start a bucket in the hook of its last gradient, not in wait()",
)
expect(
    not late,
    "rank 0 could not end its backward pass before rank 1 had begun its own",
    "a hook that calls all_reduce itself holds up the backward pass: hand the bucket to a thread",
)
expect_equal(most, 1, "all-reduces of rank 0 under way at one time", "one thread, and a queue")


def abandoned(comm):
    model = torch.nn.Linear(3, 1)
    ddp = DDP(model, comm, [[1, 0]], ref.ring_all_reduce)
    if comm.rank == 1:
        return "left"
    model(torch.ones(1, 3)).sum().backward()
    try:
        ddp.wait()
    except ConnectionError:
        return "raised"
    return "went on as if nothing had happened"


ends = on_ranks(2, abandoned, deadline=8, look="wait() must not wait for a thread that has died")
expect_equal(ends, ["raised", "left"], "rank 1 dies before its backward pass: rank 0's wait()")

# %% hints ddp [markdown]
# 1. There are two clocks: the backward pass, which fills buckets, and the network, which empties them. What must one know of the
#    other, and which of them may wait?
# 2. `parameter.register_post_accumulate_grad_hook(f)` calls `f(parameter)` when a gradient is complete. Count down what each bucket still
#    lacks; start every bucket that is complete **and** whose turn it is. A `ThreadPoolExecutor(1)` is a queue with one thread, and
#    its futures carry exceptions.
# 3. State: `missing[b]`, and the list of futures, whose length says which bucket is next. The hook lowers `missing` and, while the next
#    bucket lacks nothing, submits `all_reduce(flat, comm)`. `wait` submits the rest, with zeros where `grad is None`, takes `result() / n`,
#    cuts it up, sets the gradients and starts afresh.

# %% [markdown]
# ## Task 7. Sending less
#
# The network can be relieved by sending less, too. Top-k sends the `k` largest entries of a gradient, in absolute value, with their indices. What
# it leaves out must not be forgotten: **error feedback** adds it to the next gradient.
#
# - `TopK(k)`; `compress(g) -> (indices, values)` takes a vector, adds to it what was left out so far, and returns the `k` entries of the sum that
#   are largest in absolute value: `indices` (integers, each once, in any order) and their `values`. The rest is kept for next time. `g` itself stays as it is.
#   Vectors of `k` or fewer elements go out whole.
# - `expand(parts, length) -> float64 (length,)`: the sum of what several ranks have sent, each an `(indices, values)`, as a vector.


# %% task compress
class TopK:
    """Sends the k largest entries and keeps the rest for next time."""

    def __init__(self, k):
        ### BEGIN SOLUTION
        self.k, self.left = k, None
        ### END SOLUTION

    def compress(self, g):
        ### BEGIN SOLUTION
        total = np.array(g, float) if self.left is None else self.left + g
        k = min(self.k, len(total))
        indices = np.argpartition(np.abs(total), len(total) - k)[len(total) - k :]
        values = total[indices].copy()
        total[indices] = 0
        self.left = total
        return indices, values
        ### END SOLUTION


def expand(parts, length):
    """The sum of sparse vectors, dense."""
    ### BEGIN SOLUTION
    total = np.zeros(length)
    for indices, values in parts:
        np.add.at(total, np.asarray(indices, int), values)
    return total
    ### END SOLUTION


# %% test compress 3
_top = TopK(2)
_indices, _values = _top.compress(np.array([0.5, -3.0, 2.0, 1.9]))
expect_equal(
    sorted(zip(np.asarray(_indices).tolist(), np.asarray(_values).tolist())),
    [(1, -3.0), (2, 2.0)],
    "the two largest of [0.5, -3, 2, 1.9]",
)
_indices, _values = _top.compress(np.array([0.6, 0.0, 0.0, 0.0]))
expect_close(
    expand([(_indices, _values)], 4),
    [1.1, 0, 0, 1.9],
    "what goes out next, when [0.6, 0, 0, 0] comes",
    look="what was left out is added to the next gradient",
)
expect_close(
    expand([([0, 1], [1.0, 2.0]), ([1], [4.0])], 3), [1, 6, 0], "the sum of two ranks' parts"
)
print("Sending less: the visible test passes.")

# %% hidden compress 8 outside
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal

ref = reference()
random = np.random.default_rng(31)
for length, k in ((1, 1), (10, 3), (12, 1), (7, 20), (200, 40)):
    compress, oracle = student.TopK(k).compress, ref.TopK(k)
    came, went = np.zeros(length), np.zeros(length)
    for step in range(10):
        g = random.normal(size=length)
        what = f"{length} elements, k = {k}, gradient {step}"
        indices, values = compress(g)
        want = ref.expand([oracle.compress(g)], length)
        indices, values = np.asarray(indices).astype(int), np.asarray(values, float)
        expect_equal(len(indices), min(k, length), f"{what}: how many entries go out")
        expect_equal(len(set(indices.tolist())), len(indices), f"{what}: different indices")
        expect_close(
            ref.expand([(indices, values)], length),
            want,
            f"{what}: what goes out",
            rtol=1e-6,
            atol=1e-9,
            look="the largest in absolute value of gradient plus what was left out before",
        )
        came, went = came + g, went + want
    for _ in range(-(-length // k)):
        indices, values = compress(np.zeros(length))
        went += ref.expand([(np.asarray(indices).astype(int), values)], length)
    expect_close(
        went,
        came,
        f"{length} elements, k = {k}: all that came in, after enough zeros, has gone out",
        atol=1e-6,
        look="what is sent must leave what is kept, and nothing else may",
    )

# Two workers whose first coordinates cancel and are large: without feedback nothing else is sent.
workers = [(sign, student.TopK(1).compress) for sign in (1, -1)]
x = np.array([0.0, 1.0, -1.0])
for step in range(120):
    parts = [compress(np.array([5.0 * sign, x[1], x[2]])) for sign, compress in workers]
    x = x - 0.05 * ref.expand(parts, 3)
expect(
    np.abs(x[1:]).max() < 0.5,
    f"two workers, k = 1, 120 steps down a bowl: from (1, -1) to ({x[1]:.2f}, {x[2]:.2f}); below"
    " 0.5 is asked",
    "coordinates that are never the largest must add up until they are",
)
parts = [(random.choice(30, 6, replace=False), random.normal(size=6)) for _ in range(5)]
expect_close(
    student.expand([(i.tolist(), v.tolist()) for i, v in parts], 30),
    ref.expand(parts, 30),
    "the sum of five ranks' parts, which share indices",
    atol=1e-12,
)
expect_close(student.expand([], 4), np.zeros(4), "the sum of no parts")

# %% hints compress [markdown]
# 1. After many steps, what is the sum of all that was sent, compared with the sum of all gradients? Where is the difference?
# 2. `np.argpartition(np.abs(total), -k)[-k:]` finds the `k` largest without sorting. `total[indices] = 0` leaves the rest, which is what
#    you keep.
# 3. `total = g + self.left` (a new array), pick, copy the values, set those places to zero, keep `total`. In `expand`, `np.add.at(total,
#    indices, values)` for each part.

# %% [markdown]
# ## The whole, measured
#
# First the sum. Four processes, once over the real loopback of this machine, once over the emulated network of the forecast
# (4 ms a message, 10 ns a byte). Your `fit` finds `alpha` and `beta`, and your `crossover` says where the ring should overtake the star.

# %% measure
WAYS = {"star": star_all_reduce, "ring": ring_all_reduce, "doubling": doubling_all_reduce}


def _time_all(comm, link, sizes, repeats):
    network = comm if link is None else Network(comm, *link)
    times = {}
    for size in sizes:
        x = np.ones(size // 8)
        for name, way in WAYS.items():
            tries = []
            for _ in range(repeats):
                comm.barrier()
                began = time.perf_counter()
                way(x, network)
                tries.append(time.perf_counter() - began)
            times[name, size] = tries
    return times


def measure(link, sizes, repeats):
    """Seconds by algorithm and size: the slowest rank, the median of the repetitions."""
    ranks = on_ranks(4, _time_all, link, sizes, repeats, deadline=50)
    return {
        key: float(np.median(np.max([times[key] for times in ranks], axis=0))) for key in ranks[0]
    }


def where_equal(times, sizes):
    """The size from which on the ring is faster than the star, between two measured sizes."""
    lead = [math.log(times["star", size] / times["ring", size]) for size in sizes]
    for i in reversed(range(len(sizes) - 1)):
        if lead[i] < 0 <= lead[i + 1]:
            return sizes[i] * (sizes[i + 1] / sizes[i]) ** (lead[i] / (lead[i] - lead[i + 1]))
    return math.nan


crossed = {}
for label, link, sizes, repeats in (
    ("loopback", None, [4**k for k in range(6, 12)], 7),
    ("emulated network", (4e-3, 1e-8), [2**k for k in range(13, 22)], 3),
):
    times = measure(link, sizes, repeats)
    alpha, beta = fit([(name, 4, size, seconds) for (name, size), seconds in times.items()])
    off = [abs(cost(name, 4, size, alpha, beta) / t - 1) for (name, size), t in times.items()]
    crossed[label] = where_equal(times, sizes)
    print(
        f"{label}: alpha {alpha * 1e3:.3f} ms, beta {beta * 1e9:.2f} ns/B, off by {np.median(off):.0%}"
        f" (median); the ring overtakes the star at {crossed[label] / 1e3:.0f} KB, the fit says"
        f" {crossover(4, alpha, beta) / 1e3:.0f} KB"
    )

# %% measure
# How the size moves with alpha on the emulated network: the law, and your measurement at 4 ms.
plot_vs(
    "ring overtakes star",
    {a: crossover(4, a * 1e-3, 1e-8) / 1e3 for a in (1, 2, 4, 6, 8)},
    {4: crossed["emulated network"] / 1e3},
    "alpha in ms (beta = 10 ns/B, 4 ranks)",
)

# %% [markdown]
# Then the step. The model has twelve layers of 256 KB. The processes, the gradients, your DDP and your ring are real; the time of the
# device is emulated (each layer's backward pass sleeps 5 ms), and so is the network: 1 ms a message, 8 ns a byte, a gigabit link.

# %% measure
LAYERS, SLEEP = 12, 5e-3
LINK = (1e-3, 8e-9)
BYTES = [256 * 256 * 4] * LAYERS
READY = [SLEEP * (LAYERS - i) for i in range(LAYERS)]


def _step(comm, per_bucket, steps):
    parts = []
    for _ in range(LAYERS):
        parts += [Probe(lambda: time.sleep(SLEEP)), torch.nn.Linear(256, 256, bias=False)]
    model = torch.nn.Sequential(torch.nn.Linear(256, 256).requires_grad_(False), *parts)
    parameters = [p for p in model.parameters() if p.requires_grad]
    buckets = plan_buckets([p.numel() * 4 for p in parameters], per_bucket * BYTES[0])
    network = Network(comm, *LINK)
    ddp = DDP(model, network, buckets, ring_all_reduce)
    x = torch.randn(4, 256, requires_grad=True)
    seconds = []
    for _ in range(steps):
        comm.barrier()
        loss = model(x).sum()
        began = time.perf_counter()
        loss.backward()
        ddp.wait()
        seconds.append(time.perf_counter() - began)
        model.zero_grad()
    return seconds


PER_BUCKET = (1, 2, 3, 4, 6, 12)
law, measured = {}, {}
for per_bucket in PER_BUCKET:
    buckets = plan_buckets(BYTES, per_bucket * BYTES[0])
    spans = timeline(buckets, READY, BYTES, 4, *LINK)
    law[per_bucket] = 1e3 * (max(READY) + exposed(spans, READY))
    ranks = on_ranks(4, _step, per_bucket, 4, deadline=40)
    measured[per_bucket] = 1e3 * float(np.median(np.max(ranks, axis=0)))
    print(
        f"{per_bucket:2d} layers a bucket: {measured[per_bucket]:.0f} ms a step, the law says"
        f" {law[per_bucket]:.0f} ms"
    )
plot_vs("shortest step", law, measured, "layers in a bucket")

# %% written reading 5 [markdown]
# **Read your numbers.** Why is there a best bucket size, and what sets the slope on its left and on its right? On the emulated network your
# fit finds the crossing of star and ring; on the loopback it may miss it by far. What does the model assume about a network that four processes on one
# machine do not have? (Five to eight sentences.)
#
# ### BEGIN SOLUTION
# *2 points: left of the best size each bucket pays 2(n-1) alpha = 6 ms, more than the 5 ms in which the next layer is ready, so the link falls behind: 12 (6 + 3) ms instead of 60. Right of it the last bucket starts when the backward pass ends, and all of it is exposed: 6 + 3 ms for each layer in it.*
# *2 points: the model gives each rank a port of its own that works beside the others' and costs no processor time. On the loopback every byte is copied by the same two cores: all algorithms send 2(n-1)S bytes or more in total, and the ring's advantage, that the load is spread over n ports, is worth two cores at most; its steps cost threads and context switches.*
# *1 point: one of: a long message blocks when the socket buffer is full (alpha and beta change with size); the additions cost time (gamma); noise of other processes.*
# ### END SOLUTION

# %% written design 5 [markdown]
# **Design.** A team trains a model of 1.4 GB of gradients on 16 machines; a step computes for 300 ms, 200 ms of it backward; the network
# has alpha = 50 microseconds and 12.5 GB/s. Does a ring hide behind the backward pass? A colleague proposes top-1 %. Argue with the formulas of
# Tasks 3, 5 and 7, and name one thing that your argument leaves out.
#
# ### BEGIN SOLUTION
# *2 points: the ring takes 30 alpha + 2 (15/16) 1.4 GB / 12.5 GB/s = 1.5 + 210 ms: a little more than the 200 ms of the backward pass, and the first bucket cannot start at once, so some tens of ms stay exposed (step about 320 to 330 ms; efficiency about 90 %).*
# *2 points: top-1 % sends 1 % of the entries with 4 bytes of index for each 4 of value, so 28 MB a rank; but sparse parts must be gathered, 15 x 28 MB = 420 MB arrive at each rank, 34 ms. It removes at most what is exposed, and costs selection time, memory for what is left out, and perhaps more steps: hardly worth it here.*
# *1 point: one of: stragglers, contention of backward and all-reduce for memory bandwidth, hierarchy inside a machine, a larger batch or fp16 as the simpler remedy.*
# ### END SOLUTION
