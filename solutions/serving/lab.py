# ---
# title: Batching under a Poisson load
# hours: 6
# imports: [numpy, matplotlib.pyplot, torch, torch._dynamo, autograder.labkit]
# ---

# %% [markdown]
# # Batching under a Poisson load
#
# Crankshaw and others report that a server between the users and the models which collects waiting requests into batches, with a controller that finds
# the size of a batch by itself, raises the throughput of prediction while it keeps a latency objective (*Clipper: a low-latency online prediction serving
# system*, NSDI 2017). In this lab you build that server: a load generator which does not lie, the batcher with its queue,
# the model of its cost, the theory of its waiting times, the controller, and a scheduler that gives up what cannot be
# saved. Then a real server process with a real PyTorch model stands under a real load, and theory and measurement meet on one plot.
#
# You need the chapter *Prediction serving*. Every part is tested by itself: a mistake in one task costs that task only, and you may
# do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# A server takes 2 ms for each request, always, and is busy 90 % of the time; requests come at random. Guess the mean time from a
# request to its answer, as a multiple of the 2 ms. And guess how many times as many requests a second the server of
# this lab answers when it takes 32 at a time instead of one.

# %%
from autograder.labkit import plot_vs, predict

predict("latency / service time", 1.1, "times")
predict("throughput / throughput of single requests", 1.0, "times")

# %% given
import functools
import math
import struct
import threading
import time
from collections import deque
from concurrent.futures import Future

import numpy as np
import torch

from autograder.labkit import FakeClock, Link, Worker, connect, listen
from autograder.labkit import expect, expect_close, expect_equal, expect_raises, within

torch.set_num_threads(1)  # the server has one core; the load generator has the other


# %% [markdown]
# ## Task 1. A load generator that does not lie
#
# Users do not wait for each other: they arrive at random, whether or not the server is slow. A generator that waits for each answer
# before it sends the next request stops asking when the server is in trouble, and never sees the trouble (*coordinated omission*). And one
# that is itself late, because its socket was full, must not take that off the server's bill: the user was there on time.
#
# - `arrivals(rate, n, seed) -> float64 (n,)`: the times of a Poisson process, in seconds after its beginning, ascending: all gaps,
#   also the one before the first, are exponential with mean `1 / rate`. The same seed gives the same times.
# - `load_test(client, intended, clock) -> float64 (n,)`: sends `len(intended)` requests and returns their latencies. Request `i` is due
#   `intended[i]` seconds after the call; it is sent with `client.send(i)`, in order, never before it is due, and at once if it is
#   overdue. `clock` has `now()` and `sleep(seconds)`; `send` may take a while. When all are sent, `client.wait()` blocks
#   and returns a dictionary from the number of a request to the time (of the same clock) at which its answer came. A latency counts
#   from the moment at which the request was **due**. A request without an answer has latency `math.inf`.
# - `report(latencies, slo, seconds) -> dict` with `"p50"` and `"p99"` (by nearest rank: the smallest latency that at least 50 or 99
#   % of **all** requests do not exceed) and `"goodput"`: requests answered within `slo` seconds, per second of a test that took `seconds`.


# %% task load
def arrivals(rate, n, seed):
    """Times of n arrivals of a Poisson process."""
    ### BEGIN SOLUTION
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))
    ### END SOLUTION


def load_test(client, intended, clock):
    """Latencies of requests that are sent when they are due, whatever happens to the others."""
    ### BEGIN SOLUTION
    due = clock.now() + np.asarray(intended, float)
    for number, at in enumerate(due):
        early = at - clock.now()
        if early > 0:
            clock.sleep(early)
        client.send(number)
    answered = client.wait()
    return np.array([answered.get(number, math.inf) - at for number, at in enumerate(due)])
    ### END SOLUTION


def report(latencies, slo, seconds):
    """What a load test says about a server."""
    ### BEGIN SOLUTION
    ordered = np.sort(latencies)

    def rank(share):
        return float(ordered[math.ceil(share * len(ordered)) - 1])

    good = int(np.count_nonzero(ordered <= slo))
    return {"p50": rank(0.5), "p99": rank(0.99), "goodput": good / seconds}
    ### END SOLUTION


# %% test load 3
class _Desk:
    """A server and the way to it, on a virtual clock; requests in `stuck` hold the sender up."""

    def __init__(self, clock, seconds, stuck):
        self.clock, self.seconds, self.stuck = clock, seconds, stuck
        self.sent, self.answers, self.free = [], {}, 0.0

    def send(self, number):
        self.clock.sleep(self.stuck.get(number, 0.0))
        self.sent.append(self.clock.now())
        self.free = max(self.free, self.clock.now()) + self.seconds
        self.answers[number] = self.free

    def wait(self):
        self.clock.sleep(max(0.0, self.free - self.clock.now()))
        return dict(self.answers)


_clock = FakeClock(100.0)
_desk = _Desk(_clock, 0.5, {1: 1.0})
_latencies = load_test(_desk, np.array([0.25, 1.0, 1.25, 4.0]), _clock)
expect_close(
    np.array(_desk.sent) - 100,
    [0.25, 2.0, 2.0, 4.0],
    "seconds at which four requests left; due at 0.25, 1, 1.25, 4, the second is held up for 1 s",
    look="due times count from the clock's time at the call; what is overdue is sent at once, and the fourth is due at 4 s for all that",
)
expect_close(
    _latencies,
    [0.5, 1.5, 1.75, 0.5],
    "their latencies, with a server that takes 0.5 s for each",
    look="the time of the answer minus the time at which the request was due",
)
_report = report(np.array([3.0, 1.0, math.inf, 2.0]), 2.0, 8.0)
expect_equal(
    _report["p50"],
    2.0,
    "p50 of latencies 3, 1, inf, 2",
    "one of the latencies, not a value between two of them, as np.percentile gives",
)
expect_equal(_report["p99"], math.inf, "p99 of them: one request was never answered")
expect_equal(_report["goodput"], 0.25, "two answers within 2 s, in 8 s")
expect_equal(len(arrivals(10.0, 7, 1)), 7, "the number of arrivals")
print("The load generator: the visible test passes.")

# %% hidden load 10
for rate, seed in ((0.5, 1), (40.0, 2), (3000.0, 3)):
    times = np.asarray(arrivals(rate, 20_000, seed), float)
    expect_equal(times.shape, (20_000,), f"arrivals({rate}, 20000, {seed}): the shape")
    gaps = np.diff(times, prepend=0.0) * rate
    expect(gaps.min() > 0, f"arrivals({rate}, 20000, {seed}): times must ascend from above 0")
    expect_close(
        gaps.mean(),
        1.0,
        f"rate {rate}: mean gap times rate",
        rtol=0.05,
        look="NumPy's exponential takes the mean, which is 1 / rate",
    )
    for limit in (0.5, 1.0, 2.0, 3.0):
        expect_close(
            float(np.mean(gaps > limit)),
            math.exp(-limit),
            f"rate {rate}: share of gaps above {limit} / rate",
            atol=0.025,
            rtol=0,
            look="a Poisson process has exponential gaps: neither equal ones nor uniform ones",
        )
    expect_close(
        float(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]),
        0.0,
        f"rate {rate}: correlation of neighbouring gaps",
        atol=0.05,
        look="each gap is drawn by itself",
    )
    expect_equal(np.asarray(arrivals(rate, 50, seed)), times[:50], "the same seed, fewer arrivals")
expect(
    not np.allclose(arrivals(1.0, 50, 4), arrivals(1.0, 50, 5)), "two seeds give the same arrivals"
)


class Road:
    """A server behind a socket on a virtual clock: the sender is held up, answers get lost."""

    def __init__(self, clock, seconds, stuck, lost):
        self.clock, self.seconds, self.stuck, self.lost = clock, seconds, stuck, lost
        self.order, self.left, self.answers, self.free = [], [], {}, 0.0

    def send(self, number):
        self.left.append(self.clock.now())
        self.order.append(number)
        self.clock.sleep(float(self.stuck[number]))
        self.free = max(self.free, self.clock.now()) + self.seconds
        if number not in self.lost:
            self.answers[number] = self.free

    def wait(self):
        self.clock.sleep(max(0.0, self.free - self.clock.now()))
        return {n: at for n, at in self.answers.items() if at <= self.clock.now()}


random = np.random.default_rng(41)
for trial in range(30):
    n = int(random.integers(1, 60))
    start = float(random.choice([0.0, 5.0, 1e5]))
    intended = np.cumsum(random.exponential(0.1, n))
    stuck = np.where(random.random(n) < 0.15, random.uniform(0, 1, n), 0.001)
    lost = {i for i in range(n) if random.random() < 0.1}
    clock = FakeClock(start)
    road = Road(clock, float(random.choice([0.02, 0.09, 0.3])), stuck, lost)
    got = load_test(road, intended.copy(), clock)
    what = f"{n} requests, service {road.seconds} s, trial {trial}"
    expect_equal(road.order, list(range(n)), f"{what}: the requests sent, in order")
    leaves, at = [], start
    for due, held in zip(start + intended, stuck):
        leaves.append(max(at, due))
        at = leaves[-1] + held
    late = np.array(road.left) - np.array(leaves)
    expect(
        late.min() > -1e-6,
        f"{what}: request {int(late.argmin())} leaves before it is due; the clock showed {start:g} at the call",
        "due times count from clock.now() at the call; sleep with clock.sleep",
    )
    expect(
        late.max() < 1e-6,
        f"{what}: request {int(late.argmax())} leaves {late.max():.3f} s later than it could",
        "do not wait for answers between requests, and reckon from the beginning, not from the last request",
    )
    right = [road.answers.get(i, math.inf) - due for i, due in enumerate(start + intended)]
    got = np.asarray(got, float)
    expect_equal(got.shape, (n,), f"{what}: the shape of the latencies")
    expect_equal(
        np.isinf(got).tolist(),
        np.isinf(right).tolist(),
        f"{what}: which latencies are infinite",
        "a request without an answer has latency inf; it may not be left out",
    )
    answered = np.isfinite(right)
    expect_close(
        got[answered],
        np.array(right)[answered],
        f"{what}: the latencies of the answered requests",
        rtol=0,
        atol=1e-6,
        look="from the moment at which the request was due, not from the one at which it was sent",
    )

for trial in range(30):
    n = int(random.integers(1, 400))
    latencies = random.lognormal(-3, 1, n)
    latencies[random.random(n) < random.choice([0.0, 0.005, 0.03])] = math.inf
    slo = float(np.quantile(latencies, 0.7, method="lower")) if trial % 2 else 0.05
    found = report(latencies.copy(), slo, 2.5)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        value = found[name]
        expect(
            np.mean(latencies <= value) >= share - 1e-12,
            f"{name} of {n} latencies is {value}: only {np.mean(latencies <= value):.1%} do not exceed it",
            "all requests count, also those that were never answered; nothing is interpolated",
        )
        smaller = latencies[latencies < value]
        expect(
            value in latencies
            and (not len(smaller) or np.mean(latencies <= smaller.max()) < share),
            f"{name} of {n} latencies is {value}, which is not the smallest latency that will do",
            "sort; the rank is ceil(share * n), counted from 1",
        )
    expect_close(
        found["goodput"],
        np.count_nonzero(latencies <= slo) / 2.5,
        f"goodput of {n} requests with objective {slo:.4f} s in 2.5 s",
    )

# %% hints load [markdown]
# 1. Write down when each request is due **before** the first is sent. What does your loop do when it is already later than that?
# 2. `clock.sleep(due - clock.now())` only if that is positive. Sleeping the *gap* between two requests instead adds up every
#    delay of `send`.
# 3. `due = clock.now() + intended`; a loop that sleeps and sends; `answered = client.wait()`; then `answered.get(i, math.inf) - due[i]`. For
#    the ranks sort and take element `math.ceil(share * n) - 1`.

# %% [markdown]
# ## Task 2. The batcher
#
# Between the connections and the model stands a queue, and a thread that takes requests from it in batches.
#
# - `DynamicBatcher(fn, max_batch, max_wait)` starts; `fn` takes a list of items and returns as many results, in the same order.
# - `submit(item) -> Future` (of `concurrent.futures`) never blocks for the model; the future gets the result of **this** item. Any number
#   of threads may call it.
# - While the model is free, the oldest waiting requests form a batch as soon as `max_batch` of them wait, or the oldest of them has
#   waited for `max_wait` seconds, whatever comes first. A batch takes all that wait then, up to `max_batch`, in the order in which they were
#   submitted. While the model is busy, requests wait.
# - `fn` runs in one thread at a time.
# - When `fn` raises, or returns another number of results than it got items (`ValueError`), the futures of that batch get the
#   exception. Others do not notice.
# - `close()` runs what still waits (without waiting for more), returns when every future has its answer, and ends the
#   batcher's thread. After that `submit` raises `RuntimeError`.


# %% task batcher
class DynamicBatcher:
    """Collects items from many threads into batches for one function."""

    def __init__(self, fn, max_batch, max_wait):
        ### BEGIN SOLUTION
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.closed = deque(), False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        ### END SOLUTION

    def submit(self, item):
        ### BEGIN SOLUTION
        future = Future()
        with self.changed:
            if self.closed:
                raise RuntimeError("the batcher is closed")
            self.waiting.append((time.monotonic(), item, future))
            self.changed.notify()
        return future
        ### END SOLUTION

    def close(self):
        ### BEGIN SOLUTION
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join()

    def _run(self):
        while batch := self._next():
            items = [item for _, item, _ in batch]
            try:
                results = self.fn(items)
                if len(results) != len(items):
                    raise ValueError(f"{len(results)} results for {len(items)} items")
            except Exception as error:
                for _, _, future in batch:
                    future.set_exception(error)
            else:
                for (_, _, future), result in zip(batch, results):
                    future.set_result(result)

    def _next(self):
        """The next batch; empty when the batcher is closed and nobody waits."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.closed)
            if self.waiting:
                left = self.waiting[0][0] + self.max_wait - time.monotonic()
                self.changed.wait_for(
                    lambda: len(self.waiting) >= self.max_batch or self.closed, max(0.0, left)
                )
            return [self.waiting.popleft() for _ in range(min(len(self.waiting), self.max_batch))]
        ### END SOLUTION


# %% test batcher 4
_sizes = []


def _squares(items):
    _sizes.append(len(items))
    return [item * item for item in items]


_batcher = DynamicBatcher(_squares, max_batch=4, max_wait=30.0)
_futures = [_batcher.submit(item) for item in range(8)]
expect_equal(
    [
        within(5, future.result, f"item {item} of 8, batches of 4, max_wait 30 s")
        for item, future in enumerate(_futures)
    ],
    [item * item for item in range(8)],
    "the results of 8 items",
    "a full batch must not wait; each future gets the result of its own item",
)
expect_equal(_sizes, [4, 4], "the sizes of the batches", "the batcher waits for a full batch here")
_last = _batcher.submit(9)
within(10, _batcher.close, "close, with one item waiting and max_wait 30 s")
expect(_last.done(), "close must return only when the item that waited has its answer")
expect_equal(_last.result(0), 81, "the result of the item that waited")
expect_raises(RuntimeError, lambda: _batcher.submit(1), "submit after close")
_batcher = DynamicBatcher(_squares, max_batch=4, max_wait=0.05)
expect_equal(
    within(10, _batcher.submit(3).result, "a lonely item, max_wait 0.05 s"), 9, "a lonely item"
)
_batcher.close()
print("The batcher: the visible test passes.")


# %% given
WIDTH = 128
REQUEST = struct.Struct(f"<I{4 * WIDTH}s")  # number of the request, its features
ANSWER = struct.Struct("<Id")  # number of the request, the model's answer


def make_model():
    """A model with 3.3 million weights: features of an order in, its estimated minutes out."""
    torch.manual_seed(16)
    layers = [torch.nn.Linear(WIDTH, 1024), torch.nn.ReLU()]
    for _ in range(3):
        layers += [torch.nn.Linear(1024, 1024), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(1024, 1)).eval()


def predictor(model):
    """The model as a function of a list of feature vectors, for a batcher."""

    def predict_batch(items):
        with torch.inference_mode():
            return model(torch.from_numpy(np.stack(items)))[:, 0].tolist()

    return predict_batch


def serve(listener, fn, make_batcher):
    """Serve one client until it leaves; returns the sizes of the batches.

    `make_batcher(fn)` gives the batcher.  An answer leaves when its future is done, so answers may
    overtake each other; a request that failed is answered with NaN.
    """
    torch.set_num_threads(1)
    sizes, sending = [], threading.Lock()

    def counted(items):
        sizes.append(len(items))
        return fn(items)

    def answer(number, future):
        value = math.nan if future.exception() else future.result()
        with sending:
            link.send(ANSWER.pack(number, value))

    batcher = make_batcher(counted)
    link = Link(listener.accept()[0])
    try:
        while True:
            number, features = REQUEST.unpack(link.receive_exactly(REQUEST.size))
            future = batcher.submit(np.frombuffer(features, np.float32))
            future.add_done_callback(functools.partial(answer, number))
    except ConnectionError:
        batcher.close()
    return sizes


class SocketClient:
    """Sends requests over one connection; a thread of its own notes when the answers come."""

    def __init__(self, address, inputs):
        self.link, self.inputs, self.sent = connect(address), inputs, 0
        self.times, self.values, self.repeated = {}, {}, 0
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, number):
        self.link.send(REQUEST.pack(number, self.inputs[number].tobytes()))
        self.sent += 1

    def warm_up(self, count):
        """So many requests that do not count."""
        for number in range(count):
            self.send(number)
        self.wait()
        self.sent, self.times, self.values = 0, {}, {}

    def _read(self):
        try:
            while True:
                number, value = ANSWER.unpack(self.link.receive_exactly(ANSWER.size))
                with self.changed:
                    self.repeated += number in self.times
                    self.times[number], self.values[number] = time.perf_counter(), value
                    self.changed.notify()
        except ConnectionError:
            return

    def wait(self, patience=20.0):
        with self.changed:
            self.changed.wait_for(lambda: len(self.times) >= self.sent, patience)
            return dict(self.times)


class WallClock:
    """The clock on the wall, with the interface of a clock in a test."""

    now = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)


# %% hidden batcher 13
ref = reference()


class Model:
    """Squares numbers; notes the batches and how many run at once; waits at a gate; hates 13."""

    def __init__(self, gated=False):
        self.batches, self.inside, self.most = [], 0, 0
        self.entered, self.gate = threading.Event(), threading.Event()
        if not gated:
            self.gate.set()

    def __call__(self, items):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.batches.append(list(items))
        self.entered.set()
        self.gate.wait(30)
        self.inside -= 1
        if 13 in items:
            raise ArithmeticError("thirteen")
        return [item * item for item in items][: -1 if 99 in items else None]

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]


def result_of(future, what, look=""):
    return within(5, future.result, what, look)


model = Model()
batcher = DynamicBatcher(model, 16, 60.0)
answers = {}


def asks(thread):
    futures = [(item, batcher.submit(item)) for item in range(1000 * thread, 1000 * thread + 5)]
    for item, future in futures:
        answers[item] = future.result(5)


threads = [threading.Thread(target=asks, args=(number,), daemon=True) for number in range(1, 65)]
for thread in threads:
    thread.start()
end = time.monotonic() + 6
for thread in threads:
    thread.join(max(0.0, end - time.monotonic()))
expect_equal(
    sum(model.sizes),
    320,
    "items that the model got, of 64 threads with 5 each (batches of 16, max_wait 60 s)",
    "a full batch fires at once; no item twice, none forgotten",
)
expect_equal(
    sorted(answers.items()),
    [(item, item * item) for t in range(1, 65) for item in range(1000 * t, 1000 * t + 5)],
    "the answers of 64 threads",
    "each future gets the result of its own item",
)
expect_equal(
    set(model.sizes), {16}, "sizes of the batches", "with max_wait 60 s every batch fills up"
)
expect_equal(model.most, 1, "calls of the model at one time")
for thread in range(1, 65):
    seen = [item for batch in model.batches for item in batch if item // 1000 == thread]
    expect_equal(
        seen,
        sorted(seen),
        f"the order in which the model got the items of thread {thread}",
        "the oldest first, in a batch too",
    )
within(8, batcher.close, "close")

model = Model(gated=True)
batcher = DynamicBatcher(model, 8, 0.0)
futures = [within(8, lambda: batcher.submit(1), "submit, first item")]
expect(model.entered.wait(8), "max_wait 0: a lonely item must go to the model at once")
for item in range(20, 40):
    futures.append(
        within(
            8,
            lambda item=item: batcher.submit(item),
            "submit while the model is busy",
            "submit must not wait for the model",
        )
    )
time.sleep(0.3)
expect_equal(model.most, 1, "calls of the model at one time, 20 items waiting while it is busy")
model.gate.set()
expect_equal(
    [result_of(future, "an item that waited for a busy model") for future in futures],
    [1, *(item * item for item in range(20, 40))],
    "the results of items that waited for a busy model",
)
expect_equal(
    model.sizes,
    [1, 8, 8, 4],
    "batches of at most 8: one item, then 20 items that came while the model was busy",
    "a batch is formed when the model is free, from all that wait then, up to max_batch",
)
expect_equal(
    [item for batch in model.batches for item in batch],
    [1, *range(20, 40)],
    "the order of the items",
    "the oldest first",
)
within(8, batcher.close, "close")

model = Model()
batcher = DynamicBatcher(model, 2, 60.0)
pairs = [(1, 2), (13, 3), (4, 5), (99, 6), (7, 8)]
futures = [[batcher.submit(item) for item in pair] for pair in pairs]
for pair, both in zip(pairs, futures):
    for item, future in zip(pair, both):
        what = f"batches of two {pairs}: item {item}"
        look = "an exception of the model must not end the batcher's thread"
        error = within(5, future.exception, what, look)
        wrong = ArithmeticError if 13 in pair else ValueError if 99 in pair else None
        expect_equal(
            type(error).__name__ if error else "no error",
            wrong.__name__ if wrong else "no error",
            f"{what}: its exception; 13 makes the model raise, with 99 it returns one result too few",
            "the exception goes to the futures of that batch, and to no other",
        )
        if wrong is None:
            expect_equal(future.result(0), item * item, what)
within(8, batcher.close, "close")

model = Model(gated=True)
before = threading.active_count()
batcher = DynamicBatcher(model, 3, 60.0)
futures = [batcher.submit(item) for item in range(10)]
expect(model.entered.wait(8), "three items, batches of three: the model must be called")
closing = threading.Thread(target=batcher.close, daemon=True)
closing.start()
time.sleep(0.2)
expect(closing.is_alive(), "close returns while seven items have no answer yet")
model.gate.set()
closing.join(8)
expect(
    not closing.is_alive(),
    "close, 10 items, batches of three, max_wait 60 s: still not back after 8 s",
    "after close there is nothing to wait for: the rest runs at once",
)
expect(
    all(future.done() for future in futures),
    "close returns, and an item has no answer",
    "run what still waits",
)
expect_equal([future.result(0) for future in futures], [i * i for i in range(10)], "the results")
expect_equal(
    sorted(model.sizes), [1, 3, 3, 3], "the sizes of the batches", "max_batch holds in close"
)
expect_raises(RuntimeError, lambda: batcher.submit(1), "submit after close")
end = time.monotonic() + 6
while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
expect(threading.active_count() <= before, "a thread of the batcher outlives close")


def trickle(wait, gap):
    """Items one after the other until the first is answered; how many it took, and the longest gap."""
    model = Model()
    batcher = DynamicBatcher(model, 10_000, wait)
    first, longest, last, count = batcher.submit(0), 0.0, time.monotonic(), 1
    while not first.done() and count < 4 * wait / gap:
        time.sleep(gap)
        batcher.submit(count)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        count += 1
    answered = first.done()
    within(8, batcher.close, "close")
    return answered, longest, model.sizes[0]


for attempt in range(6):
    answered, longest, size = trickle(0.6, 0.02)
    if longest < 0.3:  # the machine did not stop for long: the trial counts
        break
expect(
    answered,
    "max_wait 0.6 s, an item every 0.02 s: the first item still has no answer after 2.4 s",
    "max_wait counts from the oldest item; does a newcomer restart your timer?",
)
expect(
    size > 1 or longest >= 0.3,
    f"max_wait 0.6 s, an item every 0.02 s: the first batch has {size} item",
    "wait for company until max_wait has passed or the batch is full",
)

listener, address = listen()
net = make_model()
with Worker(serve, listener, predictor(net), lambda fn: DynamicBatcher(fn, 8, 0.002)) as server:
    listener.close()
    inputs = np.random.default_rng(8).normal(size=(300, WIDTH)).astype(np.float32)
    client = SocketClient(address, inputs)
    ref.load_test(client, ref.arrivals(2000.0, 300, 6), WallClock)
    expect_equal(
        sorted(client.times), list(range(300)), "requests that the server process answered, of 300"
    )
    expect_equal(client.repeated, 0, "requests that the server answered twice")
    with torch.inference_mode():
        right = net(torch.from_numpy(inputs))[:, 0].numpy()
    expect_close(
        [client.values[i] for i in range(300)],
        right,
        "the answers of the server process",
        rtol=1e-3,
        atol=1e-4,
        look="each future gets the result of its own item",
    )
    client.link.close()
    sizes = server.result(15)
    expect(sizes.status == "ok", f"the server process: {sizes.status} {sizes.error[-300:]}")
    expect_equal(sum(sizes.value), 300, "the sizes of all batches, added up")
    expect(max(sizes.value) <= 8, f"a batch of {max(sizes.value)} where 8 are allowed")

# %% hints batcher [markdown]
# 1. Two things can end the thread's waiting: the batch is full, or the oldest item's time is up. Which event must wake it, and how long may it
#    sleep at most?
# 2. One `threading.Condition` guards a `deque` of (time of submission, item, future). `wait_for(predicate, timeout)` sleeps until either.
# 3. The thread's loop: wait until something waits or the batcher is closed; wait until full, closed, or `first + max_wait - now`
#    is over; pop up to `max_batch`; **release the lock**; call `fn` in a `try`; answer the futures. It ends when it is closed and nothing is left.

# %% [markdown]
# ## Task 3. The same server on a virtual clock
#
# A policy that lives in threads and wall-clock time can hardly be tested, and not at all compared with theory. So write it once more,
# as arithmetic.
#
# `simulate(arrivals, max_batch, max_wait, alpha, beta) -> (finish, batches)`: `arrivals` are ascending times in seconds. One model, with the
# policy of Task 2; a batch of b takes `alpha + beta * b` seconds. `finish` is a float64 array, the time at which each request is answered;
# `batches` is a list of pairs (time at which the batch starts, its size). A request that arrives at the very
# moment at which a batch starts belongs to it, if there is room. The server does not know the future: the last requests wait for company too.
#
# One pass over the requests is enough; 100 000 of them take less than a second or two.


# %% task simulate
def simulate(arrivals, max_batch, max_wait, alpha, beta):
    """When each request is answered, and the batches as (start, size)."""
    ### BEGIN SOLUTION
    times = np.asarray(arrivals, float).tolist()
    finish, batches, free, head = np.empty(len(times)), [], -math.inf, 0
    while head < len(times):
        full = times[head + max_batch - 1] if head + max_batch <= len(times) else math.inf
        start = max(free, min(full, times[head] + max_wait))
        size = 1
        while size < max_batch and head + size < len(times) and times[head + size] <= start:
            size += 1
        free = start + alpha + beta * size
        finish[head : head + size] = free
        batches.append((start, size))
        head += size
    return finish, batches
    ### END SOLUTION


# %% test simulate 2
_finish, _batches = simulate([0.0, 1.0, 2.0, 10.0, 11.0], 2, 3.0, 0.5, 0.25)
expect_close(
    np.array(_batches),
    [[1.0, 2], [5.0, 1], [11.0, 2]],
    "batches (start, size) of arrivals at 0, 1, 2, 10, 11; at most 2, max_wait 3",
    look="full at 1; the request of 2 waits alone until 5; full again at 11",
)
expect_close(_finish, [2.0, 2.0, 5.75, 12.0, 12.0], "when they are answered; 0.5 + 0.25 b seconds")
print("The virtual server: the visible test passes.")

# %% hidden simulate 10 outside
import math

import numpy as np
from autograder.labkit import expect, expect_close, expect_equal

ref = reference()
random = np.random.default_rng(33)


def pairs(batches, what):
    """The batches as an array of (start, size)."""
    try:
        found = np.array([(float(start), float(size)) for start, size in batches])
    except (TypeError, ValueError):
        found = None
    expect(found is not None, f"{what}: batches must be a list of pairs (start, size)")
    return found.reshape(-1, 2)


def check(times, max_batch, max_wait, alpha, beta):
    what = (
        f"{len(times)} arrivals from {np.round(times[:4], 3).tolist()} on, max_batch {max_batch},"
        f" max_wait {max_wait:g}, alpha {alpha:g}, beta {beta:g}"
    )
    answer = student.simulate(times, max_batch, max_wait, alpha, beta)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2, f"{what}: expected (finish, batches)"
    )
    finish, batches = np.asarray(answer[0], float), pairs(answer[1], what)
    expect_equal(
        int(batches[:, 1].sum()), len(times), f"{what}: the sizes of all batches, added up"
    )
    expect(batches[:, 1].max() <= max_batch, f"{what}: a batch of {batches[:, 1].max():.0f}")
    ends = batches[:, 0] + alpha + beta * batches[:, 1]
    expect(
        np.all(batches[1:, 0] >= ends[:-1] - 1e-9),
        f"{what}: a batch starts while the one before still runs",
        "there is one model; it starts at the later of `free` and the moment at which the policy fires",
    )
    right_finish, right = ref.simulate(times, max_batch, max_wait, alpha, beta)
    right = np.array(right)
    for number, ((start, size), (wanted, fair)) in enumerate(zip(batches, right)):
        place = f"{what}: batch {number} (the one before ends at {ends[number - 1] if number else 0:.4f})"
        expect_close(
            start,
            wanted,
            f"{place}: its start",
            rtol=0,
            atol=1e-9,
            look="max_wait counts from the arrival of the batch's first request, also while the model is busy",
        )
        expect_equal(
            int(size),
            int(fair),
            f"{place}: its size, started at {start:.4f}",
            "all that have arrived by then, also at that very moment, up to max_batch",
        )
    expect_close(finish, right_finish, f"{what}: when the requests are answered", rtol=0, atol=1e-9)


check(np.array([1.0]), 4, 2.0, 0.5, 0.1)
check(np.array([1.0, 3.0]), 4, 2.0, 0.5, 0.0)
check(np.zeros(10), 4, 0.0, 1.0, 0.0)
check(np.array([0.0, 0.5, 0.5, 0.5, 1.0, 1.5]), 2, 8.0, 0.5, 0.0)
check(np.array([0.0, 1.0, 2.0, 3.0, 4.0]) / 4, 8, 0.5, 0.25, 0.0)
for trial in range(24):
    n = int(random.choice([2, 7, 60, 400]))
    rate = float(random.choice([5.0, 80.0, 600.0]))
    times = np.cumsum(random.exponential(1 / rate, n))
    check(
        times,
        int(random.choice([1, 2, 5, 16])),
        float(random.choice([0.0, 0.004, 0.05, 1.0])),
        float(random.choice([0.002, 0.02])),
        float(random.choice([0.0, 0.001])),
    )

# %% hints simulate [markdown]
# 1. Say in words when the next batch starts: the model must be free, **and** one of two things must have happened.
# 2. With `head` the oldest request that is not answered: the batch is full when request `head + max_batch - 1` arrives (never, if there is none), and
#    its time is up at `arrivals[head] + max_wait`. It starts at `max(free, min(full, up))`.
# 3. It takes the requests from `head` on that have arrived by its start, at most `max_batch`; `free` becomes start plus `alpha + beta * size`.

# %% [markdown]
# ## Task 4. How large a batch, how many servers?
#
# A batch of b takes alpha + beta b seconds: a price for each call, whatever its size (reading the weights, launching kernels), and one for each
# request. From these two numbers follows most of what there is to decide.
#
# - `fit_latency(sizes, seconds) -> (alpha, beta)`: by least squares over **one** value for each size. `sizes` and `seconds` are lists of measurements in any
#   order, several for each size; fewer than half of those of a size may be far too long (another program ran), and
#   must not change the result. Neither number is negative: if the line would start below 0, alpha is 0 and beta the best slope through the origin;
#   if it would fall, beta is 0 and alpha the mean.
# - `batch_range(alpha, beta, rate, slo, largest) -> (low, high)` or `None`: all batch sizes from `low` to `high`, up to `largest`, with which a server
#   that runs one batch after the other keeps up with `rate` requests a second (more than `rate` finish in each second) and
#   keeps the objective `slo` for the unluckiest request: it arrives when a batch has just left without it, waits for that batch,
#   and runs in the next. `None` when no size does both.
# - `servers(alpha, beta, rate, slo, busy, largest) -> int`: how many such servers a service with `rate` requests a second needs, if each uses the
#   largest size that keeps the objective, and is to be busy at most the share `busy` of its time. `ValueError` when not even single
#   requests keep the objective.


# %% task sizing
def fit_latency(sizes, seconds):
    """The price of a call and the price of a request, from measurements."""
    ### BEGIN SOLUTION
    sizes, seconds = np.asarray(sizes, float), np.asarray(seconds, float)
    b = np.unique(sizes)
    t = np.array([np.median(seconds[sizes == size]) for size in b])
    if len(b) == 1:
        return 0.0, float(t[0] / b[0])
    beta, alpha = np.polyfit(b, t, 1)
    if beta < 0:
        return float(t.mean()), 0.0
    if alpha < 0:
        return 0.0, float(b @ t / (b @ b))
    return float(alpha), float(beta)
    ### END SOLUTION


def batch_range(alpha, beta, rate, slo, largest):
    """The batch sizes that keep up with the rate and keep the objective."""
    ### BEGIN SOLUTION
    good = [
        b
        for b in range(1, largest + 1)
        if b > rate * (alpha + beta * b) and 2 * (alpha + beta * b) <= slo
    ]
    return (good[0], good[-1]) if good else None
    ### END SOLUTION


def servers(alpha, beta, rate, slo, busy, largest):
    """How many servers a service needs."""
    ### BEGIN SOLUTION
    within_slo = batch_range(alpha, beta, 0.0, slo, largest)
    if within_slo is None:
        raise ValueError("a single request already takes too long")
    b = within_slo[1]
    return max(1, math.ceil(rate * (alpha + beta * b) / b / busy))
    ### END SOLUTION


# %% test sizing 2
_sizes = [1, 1, 1, 2, 2, 2, 8, 8, 8]
_seconds = [3.0, 90.0, 3.0, 4.0, 4.0, 4.0, 70.0, 10.0, 10.0]
expect_close(
    fit_latency(_sizes, _seconds),
    (2.0, 1.0),
    "alpha and beta of measurements 2 + b, two of them disturbed",
    look="one robust value for each size first, then a straight line",
)
expect_equal(
    batch_range(2.0, 0.5, 1.0, 9.0, 64),
    (5, 5),
    "2 + b/2 seconds, one request a second, objective 9 s: 4 would only just keep up, 6 is too slow",
)
expect_equal(batch_range(2.0, 0.5, 1.0, 6.0, 64), None, "the same with an objective of 6 s")
expect_equal(servers(2.0, 0.5, 10.0, 9.0, 0.7, 64), 13, "10 requests a second, at most 70 % busy")
print("Sizing: the visible test passes.")

# %% hidden sizing 9 outside
import math

import numpy as np
from autograder.labkit import expect, expect_close, expect_equal, expect_raises

ref = reference()
random = np.random.default_rng(44)

for trial in range(16):
    alpha, beta = random.uniform(0.001, 0.02), random.uniform(1e-5, 0.002)
    sizes, seconds = [], []
    for size in random.choice([1, 2, 3, 4, 8, 16, 32, 64], 5, replace=False).tolist():
        repeats = int(random.choice([5, 9]))
        slow = random.random(repeats) * (np.arange(repeats) < (repeats - 1) // 2)
        sizes += [size] * repeats
        seconds += (alpha + beta * size + slow).tolist()
    order = random.permutation(len(sizes))
    found = student.fit_latency([sizes[i] for i in order], [seconds[i] for i in order])
    expect_close(
        np.asarray(found, float),
        (alpha, beta),
        f"fit_latency of {len(sizes)} exact times, fewer than half of each size disturbed by up to 1 s",
        rtol=1e-6,
        look="the median or the minimum of each size is undisturbed; a mean is not",
    )
for trial in range(12):
    sizes = np.repeat([1, 2, 4, 8, 16], 3)
    level = random.uniform(0.01, 0.02)
    kind = ("falls", "starts below zero", "is noisy")[trial % 3]
    clean = {
        "falls": level - 0.0004 * np.array([1, 2, 4, 8, 16]),
        "starts below zero": 0.002 * np.array([1, 2, 4, 8, 16]) - 0.0015,
        "is noisy": level + 0.001 * np.array([1, 2, 4, 8, 16]) + random.normal(0, 3e-4, 5),
    }[kind]
    seconds = np.repeat(clean, 3)
    found = np.asarray(student.fit_latency(sizes.tolist(), seconds.tolist()), float)
    expect(
        found.min() >= 0, f"fit_latency of times whose line {kind}: {found}: a price is negative"
    )
    expect_close(
        found,
        ref.fit_latency(sizes, seconds),
        f"fit_latency of times whose line {kind}: {np.round(clean, 5).tolist()} for sizes 1, 2, 4, 8, 16",
        rtol=1e-6,
        atol=1e-12,
        look="one value for each size; each size counts once; the best line with neither price negative",
    )

for trial in range(60):
    alpha = float(random.choice([0.0, 0.002, 0.01])) + random.uniform(0, 1e-4)
    beta = float(random.choice([0.0, 0.0003, 0.002])) + random.uniform(0, 1e-5)
    slo = float(random.choice([0.01, 0.03, 0.1])) + random.uniform(0, 1e-3)
    largest = int(random.choice([1, 8, 32, 128]))
    rate = float(random.choice([5, 90, 400, 900, 3000])) + random.uniform(0, 1)
    what = f"alpha {alpha:.5f}, beta {beta:.6f}, slo {slo:.4f}, largest {largest}, rate {rate:.1f}"
    right = ref.batch_range(alpha, beta, rate, slo, largest)
    found = student.batch_range(alpha, beta, rate, slo, largest)
    expect_equal(
        None if found is None else tuple(int(b) for b in found),
        right,
        f"batch_range with {what}",
        "b / (alpha + beta b) must exceed the rate; twice the time of a batch must fit into the objective",
    )
    busy = float(random.choice([0.5, 0.8, 1.0]))
    if 2 * (alpha + beta) > slo:
        expect_raises(
            ValueError,
            lambda: student.servers(alpha, beta, rate, slo, busy, largest),
            f"servers with {what}: a single request takes {2 * (alpha + beta):.4f} s",
        )
    else:
        expect_equal(
            student.servers(alpha, beta, rate, slo, busy, largest),
            ref.servers(alpha, beta, rate, slo, busy, largest),
            f"servers with {what}, busy at most {busy}",
            "throughput of the largest batch within the objective; whole servers, at least one",
        )

expect_equal(
    student.batch_range(1.0, 0.5, 1.0, 10.0, 64),
    (3, 8),
    "batch_range with alpha 1, beta 0.5, rate 1, slo 10: batches of 2 finish just as many as arrive",
    "more than `rate` must finish in each second: with as many the queue never gets shorter",
)

# %% hints sizing [markdown]
# 1. What does one measurement of 90 s among three do to a mean, and what to a median? And how long may a single batch take if the unluckiest
#    request must sit through two?
# 2. `numpy.unique` and `numpy.median` give one value for each size, `numpy.polyfit(b, t, 1)` the line as (slope, start). A server keeps up if b requests
#    take less than the time in which b arrive: `rate * (alpha + beta * b) < b`.
# 3. `batch_range` can try every b up to `largest`. `servers` takes the largest b with `2 * (alpha + beta * b) <= slo`; each server then finishes
#    `b / (alpha + beta * b)` a second, of which the share `busy` may be used; round up.

# %% [markdown]
# ## Task 5. What queueing theory says
#
# All functions return means in seconds, from arrival to answer (waiting **and** service), for Poisson arrivals of `rate` a second; `math.inf` when the
# servers cannot keep up (load 1 or more).
#
# - `md1(rate, service)`: one server, every request takes `service` seconds.
# - `mmc(rate, service, servers)`: `servers` of them with one queue, service times exponential with mean `service`. It must work for
#   hundreds of servers.
# - `batch_queue(rate, alpha, beta, max_batch) -> (latency, batch)`: one server as in Task 3 with `max_wait` 0: when it is free it takes all that wait, up to
#   `max_batch`, and is busy `alpha + beta * b` seconds with them. Returns the mean latency and the mean size of a batch (`(inf, max_batch)` when it cannot keep up).
#
# No formula is known for the third, but a short computation. Look at the server at the moments when it has just finished a
# batch: the number q of requests that wait then is a Markov chain. From q (if 0, the server sleeps until one comes, 1 / rate seconds on average) it takes
# b = min(max(q, 1), max_batch), is busy t = alpha + beta b seconds, and meanwhile a Poisson number of requests with mean rate t
# arrives. The stationary probabilities of this chain, cut off at a large q, give the mean batch; and the mean number present over time: during such a cycle
# the integral of the number present is max(q, 1) t + rate t² / 2. Then Little's law.


# %% task queues
def md1(rate, service):
    """Mean time in an M/D/1 system."""
    ### BEGIN SOLUTION
    load = rate * service
    return service * (1 + load / (2 * (1 - load))) if load < 1 else math.inf
    ### END SOLUTION


def mmc(rate, service, servers):
    """Mean time in an M/M/c system (Erlang C)."""
    ### BEGIN SOLUTION
    offered = rate * service
    if offered >= servers:
        return math.inf
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    load = offered / servers
    waits = blocked / (1 - load * (1 - blocked))
    return service + waits * service / (servers - offered)
    ### END SOLUTION


def batch_queue(rate, alpha, beta, max_batch):
    """Mean latency and mean batch of a server that takes what waits."""
    ### BEGIN SOLUTION
    load = rate * (alpha + beta * max_batch) / max_batch
    if load >= 1:
        return math.inf, float(max_batch)
    states = int(40 / (1 - load)) + 6 * max_batch + 60
    present = np.maximum(np.arange(states), 1)
    batch = np.minimum(present, max_batch)
    busy = alpha + beta * batch
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, states)))])
    step = np.zeros((states, states))
    for q in range(states):
        left = present[q] - batch[q]
        k = np.arange(states - left)
        step[q, left:] = np.exp(k * math.log(rate * busy[q]) - rate * busy[q] - logs[k])
        step[q, -1] += 1 - step[q].sum()
    equations = step.T - np.eye(states)
    equations[-1] = 1.0
    share = np.linalg.solve(equations, np.eye(states)[-1])
    area = share @ (present * busy + rate * busy**2 / 2)
    length = share @ busy + share[0] / rate
    return float(area / length / rate), float(share @ batch)
    ### END SOLUTION


# %% test queues 3
expect_close(
    md1(90.0, 0.01), 0.055, "md1: 90 requests a second of 10 ms: 5.5 times the service time"
)
expect_equal(md1(100.0, 0.01), math.inf, "md1 at load 1")
expect_close(mmc(0.9, 1.0, 1), 10.0, "mmc with one server is M/M/1: 1 / (1 - 0.9)")
expect_close(mmc(1.8, 1.0, 2), 1 / (1 - 0.81), "mmc with two servers at load 0.9")
_latency, _batch = batch_queue(90.0, 0.004, 0.006, 1)
expect_close(
    (_latency, _batch),
    (0.055, 1.0),
    "batch_queue with batches of one is M/D/1",
    rtol=1e-4,
    look="count the time in which the server sleeps, and the requests that arrive during a batch",
)
_latency, _batch = batch_queue(90.0, 0.004, 0.006, 64)
expect(0.011 < _latency < 0.055, f"batch_queue with batches of up to 64: mean latency {_latency}")
expect(1 < _batch < 64, f"batch_queue with batches of up to 64: mean batch {_batch}")
print("The queues: the visible test passes.")

# %% hidden queues 12 outside
import math

import numpy as np
from autograder.labkit import expect, expect_close, expect_equal

ref = reference()
random = np.random.default_rng(55)

for load in (0.05, 0.3, 0.7, 0.95, 0.999):
    for service in (0.002, 3.0):
        expect_close(
            student.md1(load / service, service),
            service + load * service / (2 * (1 - load)),
            f"md1 at load {load}, service {service} s",
            look="waiting time rho s / (2 (1 - rho)), plus the service itself",
        )
        expect_close(
            student.mmc(load / service, service, 1),
            service / (1 - load),
            f"mmc at load {load}, service {service} s, one server",
            rtol=1e-9,
            look="the share that waits is Erlang C; Erlang B is the share that a system without a queue refuses",
        )
for load, servers in ((1.0, 1), (1.0, 7), (1.3, 3)):
    expect_equal(student.md1(load, 1.0), math.inf, f"md1 at load {load}")
    expect_equal(
        student.mmc(load * servers, 1.0, servers),
        math.inf,
        f"mmc at load {load}, {servers} servers",
    )


def erlang(rate, service, servers):
    """Erlang C from its sum, with logarithms."""
    a = rate * service
    terms = [k * math.log(a) - math.lgamma(k + 1) for k in range(servers + 1)]
    top = terms[-1] - math.log(1 - a / servers)
    largest = max(top, *terms)
    under = sum(math.exp(term - largest) for term in terms[:-1]) + math.exp(top - largest)
    return service + math.exp(top - largest) / under * service / (servers - a)


for servers in (2, 3, 10, 60, 400, 900):
    for load in (0.2, 0.8, 0.98):
        expect_close(
            student.mmc(load * servers / 0.02, 0.02, servers),
            erlang(load * servers / 0.02, 0.02, servers),
            f"mmc with {servers} servers at load {load}",
            rtol=1e-7,
            look="Erlang C; powers and factorials overflow, a recursion for Erlang B does not",
        )

for load in (0.2, 0.6, 0.9):
    latency, batch = student.batch_queue(load / 0.01, 0.007, 0.003, 1)
    expect_close(
        (latency, batch),
        (ref.md1(load / 0.01, 0.01), 1.0),
        f"batch_queue with max_batch 1 at load {load}: M/D/1",
        rtol=2e-3,
        look="a cycle that begins with nobody also has a sleep of 1 / rate; and the cut-off must be far beyond the queue",
    )
for rate, alpha, beta, most in (
    (20.0, 0.01, 0.0, 4),
    (150.0, 0.01, 0.0, 4),
    (320.0, 0.01, 0.0, 4),
    (400.0, 0.005, 0.001, 16),
    (650.0, 0.005, 0.001, 16),
    (900.0, 0.002, 0.001, 64),
    (2.0, 0.1, 0.02, 8),
    (2500.0, 0.002, 0.0002, 32),
):
    what = f"batch_queue({rate}, {alpha}, {beta}, {most})"
    latency, batch = student.batch_queue(rate, alpha, beta, most)
    right_latency, right_batch = ref.batch_queue(rate, alpha, beta, most)
    expect_close(latency, right_latency, f"{what}: the mean latency", rtol=2e-3)
    expect_close(batch, right_batch, f"{what}: the mean batch", rtol=2e-3)
    times = np.cumsum(random.exponential(1 / rate, 40_000))
    finish, batches = ref.simulate(times, most, 0.0, alpha, beta)
    expect_close(
        latency,
        float(np.mean(finish - times)),
        f"{what}: mean latency against 40 000 simulated requests",
        rtol=0.12,
    )
    expect_close(
        batch, 40_000 / len(batches), f"{what}: mean batch against the simulation", rtol=0.06
    )
for rate, alpha, beta, most in ((500.0, 0.01, 0.0, 4), (1200.0, 0.0, 0.001, 8)):
    latency, batch = student.batch_queue(rate, alpha, beta, most)
    expect_equal(latency, math.inf, f"batch_queue({rate}, {alpha}, {beta}, {most}): overloaded")
    expect_equal(float(batch), float(most), "the batch of an overloaded server")

# %% hints queues [markdown]
# 1. Check your formulas where the answer is known: load near 0 gives the service time; one server of `mmc` is M/M/1; batches of one are M/D/1.
# 2. Erlang B by recursion: B(0) = 1, B(k) = a B(k-1) / (k + a B(k-1)) with a = rate times service; the share that must wait (Erlang C) is
#    B / (1 - rho (1 - B)), and those wait service / (c - a) on average.
# 3. `batch_queue`: build the matrix of transition probabilities, row q: Poisson probabilities (through logarithms) shifted by what is left in the queue.
#    Solve `share @ step = share` with the sum of the shares 1; replace one equation by that sum. The mean number present is the
#    mean integral over the mean length of a cycle; divide by the rate.

# %% [markdown]
# ## Task 6. A controller in place of a model
#
# alpha and beta change: another model version, a neighbour on the machine. Clipper does not model them; it probes, as TCP does for
# the bandwidth of a link: add a little while all is well, cut by a factor when it is not (AIMD).
#
# - `AIMD(slo, largest=64, step=1, shrink=0.9)` has an attribute `size`, the batch size to use at most; it starts at 1.
# - `update(batch, seconds)` is told of each batch that has run: how many requests it had and how long it took.
#   - It took longer than `slo`: `size` becomes `int(size * shrink)`, but it falls by one at least, and never below 1.
#   - Otherwise, if the batch was full (`batch >= size`): `size` grows by `step`, up to `largest`.
#   - Otherwise nothing was learnt about larger batches, and `size` stays.


# %% task adaptive
class AIMD:
    """Finds the largest batch that keeps an objective."""

    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        ### BEGIN SOLUTION
        self.slo, self.largest, self.step, self.shrink = slo, largest, step, shrink
        self.size = 1
        ### END SOLUTION

    def update(self, batch, seconds):
        ### BEGIN SOLUTION
        if seconds > self.slo:
            self.size = max(1, min(int(self.size * self.shrink), self.size - 1))
        elif batch >= self.size:
            self.size = min(self.size + self.step, self.largest)
        ### END SOLUTION


# %% test adaptive 2
_control = AIMD(0.020, largest=8)
_seen = []
for _ in range(9):
    _control.update(_control.size, 0.010)
    _seen.append(_control.size)
expect_equal(_seen, [2, 3, 4, 5, 6, 7, 8, 8, 8], "size after each full batch in time; largest is 8")
_control.update(8, 0.030)
expect_equal(_control.size, 7, "size after a batch of 8 that took too long")
_control.update(3, 0.001)
expect_equal(_control.size, 7, "size after a batch of 3 in time: it was not full")
print("The controller: the visible test passes.")

# %% hidden adaptive 8 outside
import numpy as np
from autograder.labkit import expect, expect_close, expect_equal

random = np.random.default_rng(66)

for shrink, step, largest in ((0.9, 1, 64), (0.5, 2, 32), (0.75, 3, 20), (0.9, 1, 4)):
    control = student.AIMD(0.02, largest=largest, step=step, shrink=shrink)
    expect_equal(int(control.size), 1, "the size at the beginning")
    size = 1
    for turn in range(70):
        late = bool(random.random() < (0.1 if turn < 40 else 0.5))
        batch = size if random.random() < 0.7 else int(random.choice([max(1, size // 2), size + 2]))
        control.update(batch, 0.021 if late else 0.02)
        got = int(control.size)
        what = (
            f"step {step}, shrink {shrink}, largest {largest}: size {size}, then a batch of {batch}"
            f" that {'took too long' if late else 'just kept the objective'}"
        )
        if late:
            right = max(1, min(int(size * shrink), size - 1))
            look = "int(size * shrink), at least one less, never below 1"
        else:
            right = min(size + step, largest) if batch >= size else size
            look = "slo itself is in time; a batch of `size` or more is full, and only such a one says something about larger ones"
        expect_equal(got, right, what, look)
        size = got

for alpha, beta, slo in ((0.002, 0.0005, 0.02), (0.001, 0.0003, 0.015), (0.004, 0.001, 0.03)):
    control = student.AIMD(slo, largest=200)
    sizes = []
    for _ in range(110):
        size = int(control.size)
        control.update(size, alpha + beta * size)
        sizes.append(size)
    best = int((slo - alpha) / beta + 1e-9)
    tail = np.array(sizes[60:])
    what = f"t(b) = {alpha} + {beta} b, objective {slo} s: the largest good batch is {best}"
    expect(tail.max() <= best + 1, f"{what}; the controller goes up to {tail.max()}")
    expect(tail.mean() >= 0.85 * best, f"{what}; the controller uses {tail.mean():.1f} on average")
    for turn in range(30):
        size = int(control.size)
        control.update(size, 2 * (alpha + beta * size))
    slow = int((slo / 2 - alpha) / beta + 1e-9)
    expect(
        int(control.size) <= slow + 1,
        f"{what}; 30 batches after everything became twice as slow it still uses {int(control.size)},"
        f" where {slow} would be right",
    )
    for turn in range(30):
        control.update(1, alpha)
    expect(
        int(control.size) <= slow + 1,
        f"{what}; after 30 lonely requests (light load) the size has grown to {int(control.size)}",
        "a batch that was not full says nothing about larger ones",
    )
one, other = student.AIMD(0.02), student.AIMD(0.02)
one.update(1, 0.001)
expect_equal((int(one.size), int(other.size)), (2, 1), "two controllers, one of them updated")

# %% hints adaptive [markdown]
# 1. Three cases, and the order in which you ask matters: too slow, full and in time, neither.
# 2. `int(4 * 0.9)` is 3, but `int(1 * 0.9)` is 0, and `round(4 * 0.9)` is 4.
# 3. Too slow: `max(1, min(int(size * shrink), size - 1))`. Full: `min(size + step, largest)`.

# %% [markdown]
# ## Task 7. What cannot be saved
#
# Under overload a first-come-first-served queue serves requests whose users have left, and makes the next ones late in doing so. Better to look at
# the deadlines.
#
# `plan(deadlines, now, alpha, beta, max_batch) -> list of lists`: the model is free at time `now`; the waiting requests are known by their place in
# `deadlines`. Batches of at most `max_batch` run one after the other without a pause, a batch of b takes `alpha + beta * b` seconds, and all its
# requests are answered when it ends. Returns the batches in the order in which they run, each a list of places, such that **every** planned request is
# answered by its deadline, and as many as possible are planned. Whoever is in no batch is refused at once, and nothing is computed
# for them. Up to 40 requests; a second is enough.


# %% task deadlines
def plan(deadlines, now, alpha, beta, max_batch):
    """Batches that answer as many requests as possible in time."""
    ### BEGIN SOLUTION
    order = sorted(range(len(deadlines)), key=lambda place: deadlines[place])
    # reached[i][k]: the earliest time at which k of the i most urgent are answered, and how.
    reached = [{} for _ in range(len(order) + 1)]
    reached[0][0] = (now, None)

    def improve(i, k, at, how):
        if k not in reached[i] or at < reached[i][k][0]:
            reached[i][k] = (at, how)

    for i, first in enumerate(order):
        for k, (at, how) in reached[i].items():
            improve(i + 1, k, at, how)
            for b in range(1, min(max_batch, len(order) - i) + 1):
                end = at + alpha + beta * b
                if end > deadlines[first]:
                    break
                improve(i + b, k + b, end, (order[i : i + b], how))
    how, batches = reached[-1][max(reached[-1])][1], []
    while how:
        batches.append(how[0])
        how = how[1]
    return batches[::-1]
    ### END SOLUTION


# %% test deadlines 2
def _check(deadlines, alpha, beta, max_batch, most):
    batches = plan(deadlines, 0.0, alpha, beta, max_batch)
    what = f"deadlines {deadlines}, {alpha} + {beta} b seconds, batches of at most {max_batch}"
    at = 0.0
    for batch in batches:
        at += alpha + beta * len(batch)
        expect(1 <= len(batch) <= max_batch, f"{what}: a batch of {len(batch)}")
        for place in batch:
            expect(
                place in range(len(deadlines)),
                f"{what}: the plan {batches} names {place}",
                "batches are lists of places in `deadlines`, from 0 on",
            )
            expect(
                at <= deadlines[place] + 1e-9,
                f"{what}: request {place} is answered at {at:g}",
                "all requests of a batch are answered when the batch ends",
            )
    expect_equal(sum(map(len, batches)), most, f"{what}: requests answered in time by {batches}")


_check([9.0, 9.0, 9.0], 2.0, 1.0, 4, 3)
_check([3.0, 9.0, 9.0], 2.0, 1.0, 4, 3)
_check([0.5, 4.5, 4.5, 4.5], 2.0, 1.0, 4, 2)
_check([3.0, 5.0, 5.0, 5.0], 2.0, 1.0, 4, 3)
print("Deadlines: the visible test passes.")

# %% hidden deadlines 10 outside
import itertools

import numpy as np
from autograder.labkit import expect, expect_equal

ref = reference()
random = np.random.default_rng(77)


def brute(deadlines, now, alpha, beta, max_batch):
    """The most requests that can be in time, by trying every order of every batch."""
    best = 0
    for size in range(1, min(max_batch, len(deadlines)) + 1):
        end = now + alpha + beta * size
        fit = [d for d in deadlines if d >= end]
        for chosen in itertools.combinations(range(len(fit)), size):
            rest = [d for place, d in enumerate(fit) if place not in chosen]
            best = max(best, size + brute(rest, end, alpha, beta, max_batch))
    return best


def check(deadlines, now, alpha, beta, max_batch, most):
    what = (
        f"deadlines {np.round(deadlines, 3).tolist()}, now {now:g}, {alpha:g} + {beta:g} b seconds,"
        f" batches of at most {max_batch}"
    )
    batches = [
        [int(place) for place in batch]
        for batch in student.plan(deadlines, now, alpha, beta, max_batch)
    ]
    places = [place for batch in batches for place in batch]
    expect(
        len(set(places)) == len(places) and set(places) <= set(range(len(deadlines))),
        f"{what}: the plan {batches} names a request twice, or one that does not exist",
        "the numbers are places in `deadlines` as given, not in a sorted copy",
    )
    at = now
    for batch in batches:
        expect(1 <= len(batch) <= max_batch, f"{what}: a batch of {len(batch)}")
        at += alpha + beta * len(batch)
        late = [place for place in batch if deadlines[place] < at - 1e-9]
        expect(
            not late,
            f"{what}: in the plan {batches} requests {late} are answered at {at:.4f}, after their deadline",
            "the first batch begins at `now`; a larger one ends later for everybody in it; what is too late must not run",
        )
    expect_equal(
        len(places),
        most,
        f"{what}: requests in time with the plan {batches}",
        "an urgent request may be worth a small batch of its own, or not worth its time: compare both",
    )


check([], 3.0, 1.0, 1.0, 4, 0)
check([3.5], 3.0, 1.0, 0.0, 4, 0)
check([6.0, 12.0, 12.0], 3.0, 2.0, 1.0, 4, 3)  # answered at the deadline is in time
for trial in range(40):
    n = int(random.integers(1, 7))
    alpha, beta = float(random.choice([0.3, 1.0, 2.0])), float(random.choice([0.0, 0.21, 0.83]))
    most = int(random.choice([1, 2, 3, 6]))
    now = float(random.choice([0.0, 12.5]))
    deadlines = (now + random.uniform(0, 4 * (alpha + beta * min(n, 3)), n)).tolist()
    check(deadlines, now, alpha, beta, most, brute(deadlines, now, alpha, beta, most))
for trial in range(12):
    n = int(random.integers(15, 41))
    alpha, beta = 1.0, float(random.choice([0.05, 0.2, 0.6]))
    most = int(random.choice([2, 5, 12]))
    deadlines = (random.uniform(0.5, 9, n)).tolist()
    best = sum(map(len, ref.plan(deadlines, 0.0, alpha, beta, most)))
    check(deadlines, 0.0, alpha, beta, most, best)

# %% hints deadlines [markdown]
# 1. If two planned requests are in the wrong order of their deadlines, what happens when you swap them? So which order of the planned ones is enough?
# 2. Sort by deadline. Some best plan then consists of runs of neighbours in that order, with the refused ones between the runs; a
#    batch is possible if it ends by the deadline of its **first** member.
# 3. Dynamic programming over (i, k): the earliest time at which k of the first i requests can be answered. From there refuse request i, or run it and the
#    next b - 1 as one batch. Keep how you got there, to read the plan off at the end.

# %% [markdown]
# ## The whole, measured
#
# Your batcher in a server process, your load generator in this one, a PyTorch model and TCP between them. First the price of a batch, as the server sees it:
# a burst of requests, all due at once, keeps it busy with full batches, and time over batches is the time of one; of three bursts the calmest counts.

# %% measure
_model = make_model()
_inputs = np.random.default_rng(0).normal(size=(16384, WIDTH)).astype(np.float32)


def run(intended, max_batch, max_wait=0.0):
    """Latencies under a load, seconds that it took, and the sizes of the batches."""
    listener, address = listen()

    def make_batcher(fn):
        return DynamicBatcher(fn, max_batch, max_wait)

    with Worker(serve, listener, predictor(_model), make_batcher) as server:
        listener.close()
        client = SocketClient(address, _inputs)
        client.warm_up(max_batch)
        latencies = load_test(client, intended, WallClock)
        client.link.close()
        sizes = server.result(20).value
    while sum(sizes) > len(intended):  # the warming up
        del sizes[0]
    return latencies, float(np.max(latencies + intended)), sizes


_calmest = {}
for _b in (1, 2, 4, 8, 16, 32) * 3:
    _, _took, _batches = run(np.zeros(16 * _b), _b, 1.0)
    _calmest[_b] = min(_took / len(_batches), _calmest.get(_b, math.inf))
alpha, beta = fit_latency(list(_calmest), list(_calmest.values()))
service = alpha + beta
print(f"a batch of b takes {1e3 * alpha:.2f} + {1e3 * beta:.3f} b ms")
plot_vs(
    "throughput / throughput of single requests",
    {b: b / (alpha + beta * b) * service for b in range(1, 33)},
    {b: b / t * service for b, t in _calmest.items()},
    "batch size",
)

# %% [markdown]
# Now the open loop: a good 0.4 seconds of requests at random times, one at a time, then in batches of up to 32, at loads from light to more than
# a server of single requests can bear.

# %% measure
_slo = 10 * service
single, batched = {}, {}
for _load in (0.3, 0.6, 0.8, 0.9):
    _times = arrivals(_load / service, int(0.4 * _load / service) + 40, seed=int(100 * _load))
    _latencies, _took, _ = run(_times, 1)
    single[_load] = float(np.mean(_latencies)) / service
    _shown = report(_latencies, _slo, _took)
    print(
        f"load {_load:.1f}, single: mean {single[_load]:5.1f}, p50 {_shown['p50'] / service:5.1f},"
        f" p99 {_shown['p99'] / service:5.1f} service times;"
        f" theory, mean {md1(_load / service, service) / service:5.1f}"
    )
for _load in (0.5, 0.9, 1.5, 2.5):
    _times = arrivals(_load / service, int(0.4 * _load / service) + 40, seed=int(100 * _load))
    _latencies, _took, _batches = run(_times, 32)
    batched[_load] = float(np.mean(_latencies)) / service
    _shown = report(_latencies, _slo, _took)
    _mean, _size = batch_queue(_load / service, alpha, beta, 32)
    print(
        f"load {_load:.1f}, up to 32: mean {batched[_load]:5.1f}, p50 {_shown['p50'] / service:5.1f},"
        f" p99 {_shown['p99'] / service:5.1f} service times, batches of {np.mean(_batches):.1f};"
        f" theory, mean {_mean / service:5.1f}, batches of {_size:.1f}"
    )

# %% measure
plot_vs(
    "latency / service time",
    {x: md1(x / service, service) / service for x in np.linspace(0.05, 0.93, 60)},
    single,
    "load, single requests",
)
plot_vs(
    "latency / service time",
    {x: batch_queue(x / service, alpha, beta, 32)[0] / service for x in np.linspace(0.05, 2.6, 25)},
    batched,
    "load in units of what single requests could bear, batches of up to 32",
)

# %% [markdown]
# Last, overload on the virtual clock: twice as many requests as the server can answer, each with a deadline.


# %% measure
def overload(times, slo, max_batch, choose):
    """The share of requests in time when `choose` forms the batches."""
    waiting, at, coming, good = [], 0.0, 0, 0
    while coming < len(times) or waiting:
        if not waiting:
            at = max(at, times[coming])
        while coming < len(times) and times[coming] <= at:
            waiting.append(times[coming] + slo)
            coming += 1
        batch, waiting = choose(waiting, at, max_batch)
        at += alpha + beta * len(batch) if batch else 0.0
        good += sum(at <= deadline for deadline in batch)
    return good / len(times)


def first_come(waiting, at, max_batch):
    return waiting[:max_batch], waiting[max_batch:]


def planned(waiting, at, max_batch):
    batches = plan(waiting, at, alpha, beta, max_batch)
    kept = [place for batch in batches[1:] for place in batch]
    first = batches[0] if batches else []
    return [waiting[place] for place in first], [waiting[place] for place in sorted(kept)]


_times = arrivals(2 * 4 / (alpha + 4 * beta), 2000, seed=7)
for _name, _choose in (("first come, first served", first_come), ("planned", planned)):
    _share = overload(_times, 4 * (alpha + 4 * beta), 4, _choose)
    print(f"{_name}: {_share:.0%} of the requests in time at twice the capacity")

# %% written reading 5 [markdown]
# **Read your plots.** How well does M/D/1 forecast the mean latency of single requests, and where does the measurement leave it? What happens to the mean latency with batches
# at the loads where single requests would have no steady state, and why is the batcher with `max_wait` 0 never much worse than no batcher? How does the p99 compare
# with the mean, and at which load would you run this service? (Six to nine sentences.)
#
# ### BEGIN SOLUTION
# *2 points: compares with own numbers; names what M/D/1 leaves out: the service time is not constant (another program, the reader thread of the same process, warm caches), a few hundred requests are a small sample near load 1, transmission and wake-ups add a constant.*
# *2 points: the batch grows with the queue, so the capacity grows with the load; with max_wait 0 a batch takes only those who would have waited anyway, and a single request costs what it did.*
# *1 point: p99 is a multiple of the mean and grows as fast; chooses a load well before the knee and says so with an objective.*
# ### END SOLUTION

# %% written choice 5 [markdown]
# **Choose.** A ranking model takes 4 + 0.25 b ms on a device. The objective is 50 ms at the 99th percentile, the load 2,000 requests a second on average, 3,000 in the evening. Give the batch
# size, `max_wait` and the number of devices, with the arithmetic of Task 4. Then a colleague reports a p99 of 12 ms at 3,000 requests a second on **one** device, from a client with eight threads that
# each send the next request after the last answer. What do you tell them?
#
# ### BEGIN SOLUTION
# *2 points: largest batch by 2 (4 + 0.25 b) <= 50: b = 84; throughput 84 / 25 ms = 3,360 a second; at most 60 to 80 % busy in the evening: 2 devices. A smaller batch, e.g. 32 (12 ms, 2,667 a second), also needs two and has more room; any consistent choice counts.*
# *1 point: max_wait small (0 to a few ms): at this rate a batch fills while the one before runs; waiting buys nothing at high load and costs latency at low load.*
# *2 points: closed loop: eight requests at most are ever in the system, so batches have at most 8 (6 ms) and the rate is bounded by 8 / latency: 8 / 6 ms is 1,333 a second, so 3,000 a second with that client is impossible, or it is not what was measured; the queue of an open load never shows (coordinated omission). Repeat with Poisson arrivals, latency from the due time.*
# ### END SOLUTION

# %% [markdown]
# ## At real scale
#
# A device has thousands of cores in place of your one, and a network in place of loopback; alpha is then the reading of gigabytes of weights, and batches of
# hundreds are usual. The queue, the two prices, the knee of the curve and the tail are the same.
