# ---
# title: Measure before you optimise
# hours: 3.5
# imports: [numpy, matplotlib.pyplot, torch, torch._dynamo, torch.utils.flop_counter, autograder.labkit]
# ---

# %% [markdown]
# # Measure before you optimise
#
# Williams, Waterman and Patterson claim that two numbers of a machine and two numbers of a program say how fast the program can
# run: the machine's peak rate of arithmetic and its memory bandwidth, the program's operations and the bytes that it moves
# (*Roofline: an insightful visual performance model*, CACM 2009). In this lab you put the claim to the test on the machine
# before you: you build a stopwatch that can be trusted, an accountant of operations and bytes, the roofline itself and the three
# probes that find your machine's numbers. Then you forecast eight operators of PyTorch and measure them. Three more tools
# answer what a single timing cannot: how far something scales, what a slow tail does to a service, and whether
# one thing is faster than another at all.
#
# You need the chapter *What a machine-learning system is, and how to measure one*. Every part is tested by itself: a mistake in one
# task costs that task only, and you may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# A product of two 1024 x 1024 matrices runs close to the peak of a core. A product of a 4096 x 4096 matrix with a vector uses the
# same library. Guess which percentage of the peak the second reaches. And: a page asks 100 servers, and needs the answers of
# all; one answer in a hundred is slow. Guess which percentage of pages is slow.

# %%
from autograder.labkit import plot_vs, predict

predict("percentage of peak", 100, "%")
predict("slow pages", 1, "%")

# %% given
import math
import time
from typing import NamedTuple

import numpy as np
import torch

from autograder.labkit import FakeClock, expect, expect_close, expect_equal, expect_raises

torch.set_num_threads(1)  # one core: its peak, its bandwidth, its overhead


class Stats(NamedTuple):
    """What a benchmark found; all times in seconds for one call."""

    times: tuple[float, ...]  # in the order in which they were measured
    min: float
    median: float
    p95: float
    low: float  # the 95 % confidence interval of the median
    high: float


# %% [markdown]
# ## Task 1. A stopwatch
#
# `bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter) -> Stats`
#
# - calls `fn()` first `warmup` times without measuring (caches fill, memory is mapped, libraries start their threads), then takes
#   `repeats` samples. A sample calls `fn` `inner` times between **two** readings of the clock `now`; its time is that of one
#   call. `inner` is for functions that take no longer than reading a clock. `fn` is called `warmup + repeats * inner` times in all.
# - `median`: the middle time, or the mean of the two middle ones.
# - `p95`: the smallest measured time that at least 95 % of the measured times do not exceed (the nearest rank). The value
#   that linear interpolation gives, as `numpy.percentile` does, is accepted too; a whole rank off is not.
# - `low`, `high`: a confidence interval of the median that holds for every distribution. Each sample falls below the true median with probability
#   1/2, so the number that do is binomial. With $k$ the largest integer for which $P[\mathrm{Bin}(n, 1/2) < k] \le 0.025$, the
#   interval reaches from the $k$-th smallest to the $k$-th largest of the $n$ times. With fewer than six samples there is no such $k \ge 1$:
#   the interval is then from `-math.inf` to `math.inf`, because so few samples bound nothing.
# - `repeats` or `inner` below 1 and `warmup` below 0 raise `ValueError`.


# %% task bench
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    """Time `fn()`; see Stats for what comes back."""
    ### BEGIN SOLUTION
    if repeats < 1 or inner < 1 or warmup < 0:
        raise ValueError(f"cannot measure warmup={warmup}, repeats={repeats}, inner={inner}")
    for _ in range(warmup):
        fn()
    times = []
    for _ in range(repeats):
        began = now()
        for _ in range(inner):
            fn()
        times.append((now() - began) / inner)
    ordered = sorted(times)
    k, below = 0, 0.0
    while below + math.comb(repeats, k) / 2**repeats <= 0.025:
        below += math.comb(repeats, k) / 2**repeats
        k += 1
    return Stats(
        times=tuple(times),
        min=ordered[0],
        median=(ordered[(repeats - 1) // 2] + ordered[repeats // 2]) / 2,
        p95=ordered[-(-repeats * 19 // 20) - 1],
        low=ordered[k - 1] if k else -math.inf,
        high=ordered[-k] if k else math.inf,
    )
    ### END SOLUTION


# %% test bench 3
_clock = FakeClock()
_script = [9.0, 9.0, 9.0] + [1.0, 4.0, 2.0, 3.0] * 5
_calls = []


def _scripted():
    _clock.sleep(_script[len(_calls)])
    _calls.append(_clock.now())


_stats = bench(_scripted, now=_clock.now)
expect_equal(len(_calls), 23, "calls with 3 warm-ups and 20 repeats")
expect_close(
    np.array(_stats.times, float),
    _script[3:],
    "the times of a function that takes 9, 9, 9 and then 1, 4, 2, 3, ... seconds",
    look="the warm-up must not be among the times",
)
expect_equal(_stats.min, 1.0, "the minimum")
expect_equal(_stats.median, 2.5, "the median of five times each 1, 2, 3 and 4")
expect_close(_stats.p95, 4.0, "the 95th percentile of five times each 1, 2, 3 and 4")
expect_equal(
    (_stats.low, _stats.high),
    (2.0, 3.0),
    "the confidence interval of the median (n = 20: the 6th and the 15th)",
)
print("The stopwatch: the visible test passes.")

# %% hidden bench 10
ref = reference()
random = np.random.default_rng(1)


def run(tool, script, tick=0.0, **options):
    """What `tool` makes of a function whose calls take the seconds of `script`."""
    clock = FakeClock()
    calls = []

    def fn():
        expect(
            len(calls) < len(script),
            f"{options}: fn is called more often than {len(script)} times",
            "warmup + repeats * inner",
        )
        clock.sleep(script[len(calls)])
        calls.append(clock.now())

    def now():
        clock.sleep(tick)
        return clock.now()

    stats = tool(fn, now=now, **options)
    expect_equal(len(calls), len(script), f"{options}: calls of fn", "warmup + repeats * inner")
    return stats


for repeats in (1, 2, 5, 6, 7, 20, 21, 30, 40, 100):
    for warmup in (0, 3):
        script = [50.0] * warmup + (random.permutation(repeats) + 1.0).tolist()
        options = {"warmup": warmup, "repeats": repeats}
        stats = run(bench, script, **options)
        right = run(ref.bench, script, **options)
        what = f"{repeats} times, a shuffle of 1 to {repeats} s, after {warmup} warm-ups of 50 s"
        expect_close(np.array(stats.times, float), np.array(right.times), f"{what}: times in order")
        expect_close(stats.min, 1.0, f"{what}: min")
        expect_close(
            stats.median,
            (repeats + 1) / 2,
            f"{what}: median",
            look="for an even number of times it lies half-way between the two middle ones",
        )
        rank = math.ceil(19 * repeats / 20)
        expect(
            rank - 1 < stats.p95 < rank + 1,
            f"{what}: p95: expected {rank} (or interpolated between its neighbours), got {stats.p95}",
            "Python counts from 0, ranks count from 1",
        )
        for side in ("low", "high"):
            expect_equal(
                float(getattr(stats, side)),
                float(getattr(right, side)),
                f"{what}: {side} end of the interval",
                "the sum of math.comb(n, i) / 2**n for i below k must not exceed 0.025",
            )

slow_tail = [1.0] * 15 + [100.0] * 5
stats = run(bench, slow_tail, warmup=0, repeats=20)
expect_close(stats.median, 1.0, "the median of fifteen times 1 s and five times 100 s")

script = [0.25] * 2 + [0.25] * (8 * 50)
stats = run(bench, script, tick=1.0, warmup=2, repeats=8, inner=50)
expect(
    np.all(np.array(stats.times) < 0.25 + 1.5 / 50),
    f"reading the clock takes 1 s, fn takes 0.25 s, inner=50: a time of {stats.times[0]:.3f} s a call",
    "read the clock before and after the inner loop, not in it, and divide by inner",
)
expect_close(
    np.array(stats.times),
    np.full(8, 0.25),
    "the time of one call with inner=50, on a slow clock",
    atol=1.5 / 50,
    look="divide by inner",
)

real = bench(lambda: time.sleep(0.003), warmup=1, repeats=6)
expect(
    0.003 <= real.min <= real.median <= real.p95,
    f"a sleep of 3 ms by the real clock: {real}",
    "the times are in seconds",
)
for bad in ({"repeats": 0}, {"inner": 0}, {"warmup": -1}):
    expect_raises(ValueError, lambda bad=bad: bench(lambda: None, **bad), f"bench with {bad}")

# %% hints bench [markdown]
# 1. Three phases that do not mix: warm up, sample, compute. Sort a copy: `times` keeps the order of measurement.
# 2. The nearest rank of 95 % among `n` is `math.ceil(0.95 * n)`, counted from 1. For the interval, add up `math.comb(n, i) / 2**n`
#    from `i = 0` for as long as the sum stays at most 0.025: the number of terms is `k`.
# 3. With `ordered = sorted(times)`: the median is the mean of `ordered[(n - 1) // 2]` and `ordered[n // 2]`; the interval is
#    `ordered[k - 1]` and `ordered[-k]`.

# %% [markdown]
# ## Task 2. The accountant
#
# `flops_bytes(op, shapes, itemsize=4, stride=1, padding=0) -> (flops, bytes)`, both whole numbers. `shapes` are the shapes of
# the inputs. An addition, a multiplication, a comparison and an exponential count as one operation each, so that a multiply-add is
# two. `bytes` is the **compulsory** traffic: every input read once, the output written once, `itemsize` bytes an element.
#
# | `op` | `shapes` | operations |
# |---|---|---|
# | `"gemm"` | `(m, k)`, `(k, n)` | the products and sums, $2mnk$ |
# | `"conv2d"` | `(N, C, H, W)`, `(O, C/groups, kh, kw)` | a multiply-add per weight that an output element uses |
# | `"softmax"` | any; along the last axis | 5 an element: maximum, subtract, exponential, sum, divide |
# | `"layernorm"` | any; along the last axis, of length $c$ | 7 an element: sum, subtract, square, sum, and multiply, scale, shift. Reads $c$ scales and $c$ shifts too |
# | `"attention"` | `(B, H, N, d)`, `(B, H, M, d)`, `(B, H, M, e)` | its two matrix products, of $QK^\top$ and with $V$. Only Q, K, V and the output travel |
#
# `stride` and `padding` belong to `conv2d` and hold for both axes. Bias terms do not occur. An operator that is not in the table, and shapes of
# `gemm` whose inner lengths differ, raise `ValueError`.
#
# `training_flops(widths, batch) -> int`: the operations of the matrix products in one training step (forward and backward) of
# a multi-layer perceptron whose layers have `widths[0]` inputs, then `widths[1]`, ..., `widths[-1]` outputs. Backward, a layer
# needs the gradient of its weights and that of its input, each one product of the size of the forward one. Nobody asks for the gradient of
# the data. (Hence the rule of thumb $6\Psi D$ for $\Psi$ weights and $D$ examples.)


# %% task accounting
def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    """Operations, and bytes that must move at least."""
    ### BEGIN SOLUTION
    read = sum(math.prod(shape) for shape in shapes)
    if op == "gemm":
        (m, k), (inner, n) = shapes
        if k != inner:
            raise ValueError(f"cannot multiply {shapes[0]} by {shapes[1]}")
        flops, written = 2 * m * n * k, m * n
    elif op == "conv2d":
        (images, _, *size), (filters, *window) = shapes
        rows, columns = (
            (length + 2 * padding - reach) // stride + 1
            for length, reach in zip(size, window[1:], strict=True)
        )
        written = images * filters * rows * columns
        flops = 2 * written * math.prod(window)
    elif op == "softmax":
        flops, written = 5 * read, read
    elif op == "layernorm":
        flops, written = 7 * read, read
        read += 2 * shapes[0][-1]
    elif op == "attention":
        (b, h, n, d), (_, _, m, _), (_, _, _, e) = shapes
        flops, written = 2 * b * h * n * m * (d + e), b * h * n * e
    else:
        raise ValueError(f"no account of {op!r}")
    return flops, (read + written) * itemsize
    ### END SOLUTION


def training_flops(widths, batch):
    """Operations of the matrix products in one step of training a multi-layer perceptron."""
    ### BEGIN SOLUTION
    weights = [a * b for a, b in zip(widths, widths[1:])]
    return 6 * batch * sum(weights) - 2 * batch * weights[0]
    ### END SOLUTION


# %% test accounting 4
for _op, _shapes, _options, _right in [
    ("gemm", [(2, 3), (3, 5)], {}, (60, 124)),
    ("gemm", [(2, 3), (3, 5)], {"itemsize": 2}, (60, 62)),
    ("conv2d", [(1, 1, 4, 4), (1, 1, 3, 3)], {}, (72, 116)),
    ("conv2d", [(1, 1, 4, 4), (1, 1, 3, 3)], {"padding": 1}, (288, 164)),
    ("softmax", [(10, 10)], {}, (500, 800)),
    ("layernorm", [(10, 10)], {}, (700, 880)),
    ("attention", [(1, 2, 8, 4)] * 3, {}, (2048, 1024)),
]:
    _what = f"flops_bytes({_op!r}, {_shapes}, {_options})"
    _flops, _bytes = flops_bytes(_op, _shapes, **_options)
    expect_equal(_flops, _right[0], f"{_what}: operations", "a multiply-add is two")
    expect_equal(_bytes, _right[1], f"{_what}: bytes", "inputs and output, itemsize bytes each")
expect_raises(ValueError, lambda: flops_bytes("sort", [(3,)]), "an operator of no account")
expect_equal(training_flops([3, 5], 10), 600, "one layer of 15 weights, 10 examples: 2 + 2 passes")
print("The accountant: the visible test passes.")

# %% hidden accounting 13 outside
import numpy as np
import torch
import torch.nn.functional as F
from autograder.labkit import expect, expect_equal, expect_raises
from torch.utils.flop_counter import FlopCounterMode

random = np.random.default_rng(2)


def some(low=1, high=24):
    return int(random.integers(low, high))


def counted(call):
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def check(op, shapes, flops, elements, look="", **options):
    itemsize = int(random.choice([1, 2, 4, 8]))
    call = f"flops_bytes({op!r}, {shapes}, {itemsize}" + "".join(
        f", {name}={value}" for name, value in options.items()
    )
    answer = student.flops_bytes(op, shapes, itemsize, **options)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        f"{call}): expected a pair (flops, bytes), got {answer!r}",
    )
    expect_equal(answer[0], int(flops), f"{call}): operations", look)
    expect_equal(
        answer[1],
        int(elements) * itemsize,
        f"{call}): bytes",
        "every input once, the output once, itemsize bytes an element",
    )


for _ in range(12):
    a = torch.rand(some(), some())
    b = torch.rand(a.shape[1], some())
    flops, out = counted(lambda: a @ b)
    shapes = [tuple(a.shape), tuple(b.shape)]
    check("gemm", shapes, flops, a.numel() + b.numel() + out.numel(), "a multiply-add is two")

for _ in range(30):
    groups, stride, padding = some(1, 4), some(1, 4), some(0, 4)
    x = torch.rand(some(1, 4), groups * some(1, 4), some(7, 16), some(7, 16))
    w = torch.rand(groups * some(1, 4), x.shape[1] // groups, some(1, 6), some(1, 6))
    flops, out = counted(lambda: F.conv2d(x, w, stride=stride, padding=padding, groups=groups))
    check(
        "conv2d",
        [tuple(x.shape), tuple(w.shape)],
        flops,
        x.numel() + w.numel() + out.numel(),
        f"torch.nn.functional.conv2d gives an output of shape {tuple(out.shape)} here",
        stride=stride,
        padding=padding,
    )

for _ in range(6):
    shape = tuple(some() for _ in range(some(1, 5)))
    size = int(np.prod(shape))
    check("softmax", [shape], 5 * size, 2 * size, "count all elements, not one row")
    check(
        "layernorm",
        [shape],
        7 * size,
        2 * size + 2 * shape[-1],
        "scale and shift have as many elements as the last axis",
    )

for _ in range(12):
    batch, heads, queries, keys, depth, width = (some(1, 12) for _ in range(6))
    q, k = torch.rand(batch, heads, queries, depth), torch.rand(batch, heads, keys, depth)
    v = torch.rand(batch, heads, keys, width)
    flops, out = counted(lambda: torch.softmax(q @ k.transpose(-1, -2), -1) @ v)
    check(
        "attention",
        [tuple(q.shape), tuple(k.shape), tuple(v.shape)],
        flops,
        q.numel() + k.numel() + v.numel() + out.numel(),
        "the numbers of queries and of keys, and the widths of keys and of values, may differ",
    )

for _ in range(10):
    widths, batch = [some(1, 30) for _ in range(some(2, 6))], some()
    layers = [torch.nn.Linear(m, n) for m, n in zip(widths, widths[1:])]
    model = torch.nn.Sequential(*[part for layer in layers for part in (layer, torch.nn.Tanh())])
    flops, _ = counted(lambda: model(torch.rand(batch, widths[0])).sum().backward())
    expect_equal(
        student.training_flops(widths, batch),
        int(flops),
        f"training_flops({widths}, {batch}), against the products that PyTorch really does",
        "three products a layer, but the first layer has no gradient of its input to give",
    )
expect_raises(ValueError, lambda: student.flops_bytes("fft", [(8,)]), "an operator of no account")
expect_raises(
    ValueError,
    lambda: student.flops_bytes("gemm", [(2, 3), (4, 5)]),
    "gemm of (2, 3) and (4, 5), whose inner lengths differ",
)

# %% hints accounting [markdown]
# 1. Begin with the size of the output: the operations of `gemm` and `conv2d` are so many for each element of it.
# 2. A convolution of length `n` with a window of `k` has `(n + 2 * padding - k) // stride + 1` outputs along that axis; each uses
#    all `C/groups * kh * kw` weights of one filter. $QK^\top$ takes $2NMd$ operations per head, the product with $V$ takes $2NMe$.
# 3. `math.prod(shape)` counts the elements of a shape. Compute `read`, `written` and `flops` per operator, and return
#    `flops, (read + written) * itemsize` once, at the end. Training: 3 products of $2 \cdot$ batch $\cdot w_i w_{i+1}$ a layer, one fewer in the first.

# %% [markdown]
# ## Task 3. The roofline and the iron law
#
# - `attainable(intensity, peak, bandwidth)`: operations per second that a program of `intensity` (operations per byte) can reach at most,
#   with `peak` in operations per second and `bandwidth` in bytes per second. `intensity` is a number or a NumPy array; it may be
#   0 or infinite.
# - `ridge(peak, bandwidth)`: the intensity from which on a program can reach the peak.
# - `step_time(flops, moved, sent, machine) -> (shortest, longest)`: seconds of a step that computes `flops` operations, moves `moved` bytes
#   to and from memory and sends `sent` bytes over the network. `machine` is a dictionary of `"peak"` (operations per second),
#   `"bandwidth"` and `"link"` (bytes per second) and `"overhead"` (seconds per step, which hide behind nothing). It takes the shortest
#   time if arithmetic, memory and network all work at once, the longest if never two do. A machine without a network has an
#   infinite `"link"`.
# - `limited_by(flops, moved, sent, machine) -> str`: the largest single share of the time: `"compute"`, `"memory"`, `"network"` or
#   `"overhead"`. (At a tie, either.)


# %% task roofline
def attainable(intensity, peak, bandwidth):
    """The roof over an arithmetic intensity, in operations per second."""
    ### BEGIN SOLUTION
    return np.minimum(peak, np.multiply(intensity, bandwidth))
    ### END SOLUTION


def ridge(peak, bandwidth):
    """The intensity at which the two roofs meet, in operations per byte."""
    ### BEGIN SOLUTION
    return peak / bandwidth
    ### END SOLUTION


def step_time(flops, moved, sent, machine):
    """The shortest and the longest time of a step, in seconds."""
    ### BEGIN SOLUTION
    *work, overhead = shares(flops, moved, sent, machine).values()
    return max(work) + overhead, sum(work) + overhead


def shares(flops, moved, sent, machine):
    return {
        "compute": flops / machine["peak"],
        "memory": moved / machine["bandwidth"],
        "network": sent / machine["link"],
        "overhead": machine["overhead"],
    }
    ### END SOLUTION


def limited_by(flops, moved, sent, machine):
    """What takes the largest share of a step."""
    ### BEGIN SOLUTION
    times = shares(flops, moved, sent, machine)
    return max(times, key=times.get)
    ### END SOLUTION


# %% test roofline 2
expect_close(attainable(0.25, 100e9, 20e9), 5e9, "0.25 FLOP a byte at 20 GB/s")
expect_close(attainable(64.0, 100e9, 20e9), 100e9, "64 FLOP a byte on a core of 100 GFLOP/s")
expect_close(ridge(100e9, 20e9), 5.0, "the ridge of 100 GFLOP/s and 20 GB/s, in FLOP a byte")
_machine = {"peak": 100e9, "bandwidth": 20e9, "link": 1e9, "overhead": 1e-3}
expect_close(
    step_time(1e9, 1e9, 5e6, _machine),
    (0.051, 0.066),
    "10 ms of arithmetic, 50 ms of memory, 5 ms of network, 1 ms of overhead",
)
expect_equal(limited_by(1e9, 1e9, 5e6, _machine), "memory", "what limits that step")
print("The roofline: the visible test passes.")

# %% hidden roofline 8 outside
import math

import numpy as np
from autograder.labkit import expect, expect_close, expect_equal

random = np.random.default_rng(3)

for _ in range(12):
    peak, bandwidth = 10 ** random.uniform(9, 15), 10 ** random.uniform(8, 13)
    what = f"peak {peak:.3g} FLOP/s, bandwidth {bandwidth:.3g} B/s"
    edge = student.ridge(peak, bandwidth)
    expect_close(edge, peak / bandwidth, f"{what}: ridge", look="FLOP a byte")
    below, above = edge * random.uniform(0.01, 0.99), edge * random.uniform(1.01, 99)
    for intensity, right in [(below, below * bandwidth), (above, peak)]:
        expect_close(
            float(student.attainable(intensity, peak, bandwidth)),
            right,
            f"{what}: attainable at {intensity:.3g} FLOP/B (the ridge is at {edge:.3g})",
            look="the lower of two roofs",
        )
    axis = np.array([0.0, below, edge, above, math.inf])
    expect_close(
        student.attainable(axis, peak, bandwidth),
        [0.0, below * bandwidth, peak, peak, peak],
        f"{what}: attainable of an array, {np.round(axis, 3).tolist()} FLOP/B",
        look="the lower of two roofs, element by element",
    )

names = ("compute", "memory", "network", "overhead")
met = set()
for _ in range(40):
    machine = {
        "peak": 10 ** random.uniform(10, 13),
        "bandwidth": 10 ** random.uniform(9, 12),
        "link": math.inf if random.random() < 0.2 else 10 ** random.uniform(8, 11),
        "overhead": 0.0 if random.random() < 0.2 else 10 ** random.uniform(-4, 0),
    }
    flops, moved, sent = 10 ** random.uniform(10, 12), 10 ** random.uniform(9, 11), 0.0
    if random.random() < 0.7:
        sent = 10 ** random.uniform(8, 10)
    parts = (
        flops / machine["peak"],
        moved / machine["bandwidth"],
        sent / machine["link"],
        machine["overhead"],
    )
    told = ", ".join(f"{name} {part:.3g} s" for name, part in zip(names, parts))
    answer = student.step_time(flops, moved, sent, machine)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        f"step_time: expected a pair (shortest, longest), got {answer!r}",
    )
    expect_close(
        answer[0],
        max(parts[:3]) + parts[3],
        f"{told}: the shortest time",
        look="arithmetic, memory and network overlap; the overhead comes on top",
    )
    expect_close(answer[1], sum(parts), f"{told}: the longest time", look="nothing overlaps")
    right = names[int(np.argmax(parts))]
    met.add(right)
    expect_equal(
        student.limited_by(flops, moved, sent, machine), right, f"{told}: limited by", "the largest"
    )
expect_equal(met, set(names), "the kinds of limits met in this test")

# %% hints roofline [markdown]
# 1. Write down the units: operations per byte times bytes per second gives operations per second.
# 2. `numpy.minimum` works for numbers and arrays alike. For the iron law compute four times first, each a quotient.
# 3. `shortest = max(compute, memory, network) + overhead`; `longest` is their sum. `max(times, key=times.get)` on a dictionary of the
#    four names the largest.

# %% [markdown]
# ## Task 4. Three probes
#
# A machine's data sheet gives numbers that no program reaches. Measure those that a good program does reach, each with a stopwatch `bench`
# that has the signature of Task 1 (the test brings its own), and each from the **smallest** time: other programs can only add to it.
#
# - `triad_bandwidth(n, dtype, bench) -> float`: bytes per second of `a = b + 3 c` on vectors of `n` elements, counting $3n$ elements moved
#   a call. The measured function must move no more than it is credited with: **one pass**, in which the operators inside read
#   and write `3 * n` elements in all, counted at their inputs and outputs. So no intermediate vector, and no new memory. Nothing
#   may be all zeros: fresh zeros may share one page of memory, which never leaves the cache.
# - `matmul_peak(n, dtype, bench) -> float`: operations per second of the product of two `n` x `n` matrices.
# - `dispatch_overhead(bench) -> float`: seconds per call of an operator that has nothing to do: an addition of tensors of one element
#   each, into a third. It takes about as long as a few readings of the clock, so measure it with `inner=1000`.
#
# `torch.add(x, y, alpha=..., out=...)` is worth a look in PyTorch's documentation.


# %% task probes
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    """Bytes per second that memory delivers to `a = b + 3 c`."""
    ### BEGIN SOLUTION
    a, b, c = (torch.full((n,), value, dtype=dtype) for value in (1, 2, 3))
    stats = bench(lambda: torch.add(b, c, alpha=3, out=a))
    return 3 * n * a.element_size() / stats.min
    ### END SOLUTION


def matmul_peak(n, dtype=torch.float32, bench=bench):
    """Operations per second of a product of square matrices."""
    ### BEGIN SOLUTION
    a, b, product = (torch.full((n, n), 0.5, dtype=dtype) for _ in range(3))
    stats = bench(lambda: torch.mm(a, b, out=product))
    return 2 * n**3 / stats.min
    ### END SOLUTION


def dispatch_overhead(bench=bench):
    """Seconds that a call of an operator takes whose arithmetic takes none."""
    ### BEGIN SOLUTION
    x, y, total = torch.ones(1), torch.ones(1), torch.ones(1)
    return bench(lambda: torch.add(x, y, out=total), inner=1000).min
    ### END SOLUTION


# %% test probes 3
_asked = []


def _bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    """A stopwatch that calls once and then tells the same story every time."""
    fn()
    _asked.append(inner)
    return Stats((0.5, 0.25, 0.75), 0.25, 0.5, 0.75, -math.inf, math.inf)


_what = "times of 0.5, 0.25 and 0.75 s"
_look = "2 n^3 operations, 3 n elements; divide by the smallest time"
expect_close(
    triad_bandwidth(1000, torch.float32, _bench), 48e3, f"triad, n=1000, {_what}", look=_look
)
expect_close(
    triad_bandwidth(1000, torch.float64, _bench), 96e3, f"triad, float64, {_what}", look=_look
)
expect_close(matmul_peak(10, torch.float32, _bench), 8e3, f"matmul, n=10, {_what}", look=_look)
expect_close(
    dispatch_overhead(_bench), 0.25, f"dispatch, {_what} a call", look="bench divides by inner"
)
expect_equal(_asked[-1], 1000, "inner of the dispatch probe")
print("The probes: the visible test passes.")

# %% hidden probes 10
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ref = reference()
random = np.random.default_rng(4)


class Ledger(TorchDispatchMode):
    """Writes down what every operator reads and writes, in elements."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        ins = [t for t in tree_leaves((args, {k: v for k, v in kwargs.items() if k != "out"}))]
        ins = [t for t in ins if isinstance(t, torch.Tensor)]
        copies = [t.clone() for t in ins]
        out = operator(*args, **kwargs)
        outs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        views = (
            all(any(_shares(o, i) for i in ins) for o in outs) and not operator._schema.is_mutable
        )
        if outs and not views:
            self.lines.append((str(operator), ins, copies, outs))
        return out

    def told(self):
        return "; ".join(
            f"{name} reads {[t.numel() for t in ins]}, writes {[t.numel() for t in outs]}"
            for name, ins, _, outs in self.lines
        )

    def elements(self):
        return sum(t.numel() for _, ins, _, outs in self.lines for t in (*ins, *outs))


def _shares(one, other):
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


class Spy:
    """A stopwatch with planted times that looks at what it is given to measure."""

    def __init__(self):
        self.ledger, self.flops, self.inner = None, 0, None
        self.times = random.permutation(random.uniform(0.1, 2.0, 9))

    def __call__(self, fn, warmup=3, repeats=20, inner=1, now=None):
        fn()
        with Ledger() as self.ledger:
            fn()
        with FlopCounterMode(display=False) as counter:
            fn()
        self.flops, self.inner = counter.get_total_flops(), inner
        ordered = np.sort(self.times).tolist()
        return ref.Stats(
            tuple(self.times.tolist()), ordered[0], ordered[4], ordered[8], ordered[1], ordered[7]
        )


for n, dtype, size in [
    (1000, torch.float32, 4),
    (4097, torch.float64, 8),
    (100_000, torch.bfloat16, 2),
]:
    spy, what = Spy(), f"triad_bandwidth({n}, {dtype})"
    got = triad_bandwidth(n, dtype, spy)
    expect(spy.ledger is not None, f"{what}: bench is never called", "measure with the bench given")
    expect(spy.ledger.lines, f"{what}: the measured function calls no operator of PyTorch")
    expect(
        spy.ledger.elements() <= 3 * n + 16,
        f"{what} credits 3 n = {3 * n} elements a call, but its operators move"
        f" {spy.ledger.elements()}: {spy.ledger.told()}",
        "torch.add has alpha and out",
    )
    expect(
        spy.ledger.elements() >= 3 * n,
        f"{what} credits 3 n = {3 * n} elements a call, but its operators move only"
        f" {spy.ledger.elements()}: {spy.ledger.told()}",
        "measure the whole triad",
    )
    _, ins, copies, outs = spy.ledger.lines[0]
    vectors = [t for t in ins if t.numel() == n]
    expect(
        len(vectors) == 2
        and not _shares(*vectors)
        and not any(_shares(outs[0], v) for v in vectors),
        f"{what}: a, b and c must be three different vectors in memory",
    )
    expect(
        all(bool(t.dtype == dtype) for t in (*vectors, *outs)),
        f"{what}: all vectors are of {dtype}",
    )
    b, c = (t for t in copies if t.numel() == n)
    expect(
        bool(b.any()) and bool(c.any()),
        f"{what}: b or c is all zeros",
        "torch.zeros may give pages that are one and the same in memory",
    )
    sums = [b + 3 * c, c + 3 * b]
    expect(
        any(torch.allclose(outs[0], right, rtol=0.05, atol=0.1) for right in sums),
        f"{what}: the function measured does not compute b + 3 c",
    )
    expect_close(
        got,
        3 * n * size / spy.times.min(),
        f"{what} with times of {np.round(spy.times, 3).tolist()} s",
        look="bytes of 3 n elements by the smallest time",
    )

for n, dtype in [(8, torch.float32), (33, torch.float64)]:
    spy, what = Spy(), f"matmul_peak({n}, {dtype})"
    got = matmul_peak(n, dtype, spy)
    expect_equal(spy.flops, 2 * n**3, f"{what}: operations that the measured function really does")
    expect(
        all(bool(t.dtype == dtype) for _, ins, _, _ in spy.ledger.lines for t in ins),
        f"{what}: the matrices are of {dtype}",
    )
    expect_close(
        got,
        2 * n**3 / spy.times.min(),
        f"{what} with times of {np.round(spy.times, 3).tolist()} s",
        look="2 n^3 by the smallest time",
    )

spy = Spy()
got = dispatch_overhead(spy)
expect(spy.ledger is not None, "dispatch_overhead: bench is never called")
expect_equal(
    len(spy.ledger.lines), 1, "dispatch_overhead: operators in one call", spy.ledger.told()
)
expect_equal(
    spy.ledger.elements(), 3, "dispatch_overhead: elements moved", "one element each, out="
)
expect_equal(spy.inner, 1000, "dispatch_overhead: inner")
expect_close(got, spy.times.min(), "dispatch_overhead", look="bench has divided by inner already")

# %% hints probes [markdown]
# 1. Make the tensors before you call `bench`, and measure only the operator: allocating and filling memory is not what you are after.
# 2. `b + 3 * c` reads and writes seven vectors' worth: `3 * c` is written out and read back, then the sum goes into new memory.
#    `torch.add(b, c, alpha=3, out=a)` does it in one pass.
# 3. Each probe is three lines: tensors by `torch.full`; `stats = bench(lambda: ...)`; the count divided by `stats.min`.

# %% [markdown]
# ## Task 5. How far does it scale?
#
# Three laws for `n` processors; `n` is a number or a NumPy array. In the first two, `f` is the **parallel** part of the work.
#
# - `amdahl(n, f)`: how many times faster a job of fixed size gets.
# - `gustafson(n, f)`: how many times more work is done in the same time, if the parallel part of the job grows with `n` and `f`
#   is its part of the time on the `n` processors.
# - `usl(n, sigma, kappa)`: Gunther's universal scalability law, $n / (1 + \sigma (n - 1) + \kappa n (n - 1))$: $\sigma$ for what
#   must wait its turn, $\kappa$ for what every pair must agree on.
# - `fit_usl(ns, xs) -> (sigma, kappa, n_star)`: the law that fits measured throughputs `xs` (any unit) of `ns` processors, and
#   the number of processors at which it peaks, $n^* = \sqrt{(1 - \sigma)/\kappa}$, but at least 1, and `math.inf` where `kappa` is 0. The throughput of a single
#   processor need not be among the data, and it is noisy like the others. `sigma` and `kappa` are never negative. Fewer than three different
#   values in `ns` raise `ValueError`.
#
# The law is not linear in $\sigma$ and $\kappa$; something simple made of $n$ and $X(n)$ is.


# %% task scaling
def amdahl(n, f):
    """Speed-up of a fixed job whose part `f` is parallel."""
    ### BEGIN SOLUTION
    return 1 / ((1 - f) + f / n)
    ### END SOLUTION


def gustafson(n, f):
    """Speed-up of a job that grows with the machine."""
    ### BEGIN SOLUTION
    return (1 - f) + f * n
    ### END SOLUTION


def usl(n, sigma, kappa):
    """Relative throughput by the universal scalability law."""
    ### BEGIN SOLUTION
    return n / (1 + sigma * (n - 1) + kappa * n * (n - 1))
    ### END SOLUTION


def fit_usl(ns, xs):
    """Sigma, kappa and the best number of processors from measured throughputs."""
    ### BEGIN SOLUTION
    ns, xs = np.asarray(ns, float), np.asarray(xs, float)
    if len(np.unique(ns)) < 3:
        raise ValueError("three unknowns need three different numbers of processors")
    # Dividing row by row by n / X makes the residuals relative errors.
    columns = {"rate": np.ones_like(ns), "sigma": ns - 1, "kappa": ns * (ns - 1)}
    weighted = {name: column * xs / ns for name, column in columns.items()}
    best = None
    for names in (("rate", "sigma", "kappa"), ("rate", "sigma"), ("rate", "kappa"), ("rate",)):
        system = np.stack([weighted[name] for name in names], axis=1)
        found = np.linalg.lstsq(system, np.ones_like(ns), rcond=None)[0]
        error = np.sum((system @ found - 1) ** 2)
        if np.all(found >= 0) and (best is None or error < best[0]):
            best = error, dict(zip(names, found, strict=True))
    share = {name: value / best[1]["rate"] for name, value in best[1].items()}
    sigma, kappa = float(share.get("sigma", 0)), float(share.get("kappa", 0))
    peak = math.sqrt(max(0.0, 1 - sigma) / kappa) if kappa else math.inf
    return sigma, kappa, max(1.0, peak)
    ### END SOLUTION


# %% test scaling 3
expect_close(amdahl(10, 0.9), 1 / 0.19, "amdahl(10, 0.9): nine tenths of the work are parallel")
expect_close(gustafson(10, 0.9), 9.1, "gustafson(10, 0.9)")
expect_close(
    usl(10, 0.1, 0), amdahl(10, 0.9), "usl without kappa is Amdahl's law with sigma = 1 - f"
)
_ns = np.array([1, 2, 4, 8, 16, 32])
_sigma, _kappa, _peak = fit_usl(_ns, 700 * usl(_ns, 0.05, 0.002))
expect_close(
    (_sigma, _kappa),
    (0.05, 0.002),
    "fit_usl of clean data with sigma = 0.05, kappa = 0.002, 700 requests/s on one processor",
    rtol=1e-3,
)
expect_close(_peak, math.sqrt(0.95 / 0.002), "its best number of processors", rtol=1e-3)
print("The scaling laws: the visible test passes.")

# %% hidden scaling 11 outside
import math

import numpy as np
from autograder.labkit import expect, expect_close, expect_raises

ref = reference()
random = np.random.default_rng(5)
ns = np.arange(1, 65)
for f in (0.0, 0.3, 0.5, 0.95, 1.0):
    for name in ("amdahl", "gustafson"):
        expect_close(
            getattr(student, name)(ns, f),
            getattr(ref, name)(ns, f),
            f"{name}(n, {f}) for n = 1 to 64",
            look="f is the parallel part",
        )
for sigma, kappa in [(0, 0), (0.2, 0), (0, 0.01), (0.04, 0.0007)]:
    expect_close(
        student.usl(ns, sigma, kappa),
        ns / (1 + sigma * (ns - 1) + kappa * ns * (ns - 1)),
        f"usl(n, {sigma}, {kappa}) for n = 1 to 64",
    )


def fit(ns, xs, what):
    answer = student.fit_usl(ns, xs)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 3,
        f"{what}: expected (sigma, kappa, n_star), got {answer!r}",
    )
    sigma, kappa, peak = (float(value) for value in answer)
    expect(
        sigma >= 0 and kappa >= 0,
        f"{what}: sigma {sigma:.3g}, kappa {kappa:.3g}: a negative one promises more than linear speed-up",
        "the best fit with both at least 0",
    )
    return sigma, kappa, peak


for _ in range(16):
    sigma, kappa = random.uniform(0.01, 0.2), 10 ** random.uniform(-4, -2)
    rate = 10 ** random.uniform(-3, 6)
    some = np.unique(random.integers(1, 65, 12))
    if random.random() < 0.6:
        some = some[some > 1]
    what = (
        f"sigma {sigma:.4f}, kappa {kappa:.5f}, {rate:.3g} a second on one processor,"
        f" measured without noise on {some.tolist()}"
    )
    got = fit(some, rate * ref.usl(some, sigma, kappa), what)
    expect_close(
        got[:2],
        (sigma, kappa),
        f"{what}: (sigma, kappa)",
        rtol=1e-3,
        look="the throughput of one processor is a third unknown: n / X(n) is linear in three",
    )
    expect_close(got[2], math.sqrt((1 - sigma) / kappa), f"{what}: n_star", rtol=1e-3)

far = []
for trial in range(24):
    sigma, kappa = random.uniform(0.02, 0.1), random.uniform(0.0005, 0.003)
    some = np.repeat([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64], 4)
    noisy = 350 * ref.usl(some, sigma, kappa) * np.exp(random.normal(0, 0.02, len(some)))
    got = fit(some, noisy, f"trial {trial} with noise of 2 %")
    curve = ref.usl(ns, *got[:2]) / ref.usl(ns, sigma, kappa)
    peak = math.sqrt((1 - sigma) / kappa)
    far.append(max(np.abs(curve - 1).max(), abs(got[2] / peak - 1)))
expect(
    np.median(far) <= 0.05,
    f"{len(far)} planted laws with noise of 2 %, each throughput measured four times: half of your fits miss the curve or its"
    f" peak by more than {np.median(far):.1%}; 5 % are allowed",
    "use all measurements, also to find the throughput of one processor",
)

sigma, kappa, peak = fit(ns, 3.0 * ns, "throughput exactly proportional to n")
expect(
    sigma < 1e-6 and kappa < 1e-6 and peak > 1e3,
    f"throughput exactly proportional to n: sigma {sigma:.3g}, kappa {kappa:.3g}, n_star {peak:.3g}",
    "n_star is math.inf without kappa",
)
for trial in range(10):
    fit(
        np.array([1, 2, 4, 8]),
        np.array([1, 2, 4, 8]) * np.exp(random.normal(0, 0.03, 4)),
        f"throughput proportional to n but for noise, trial {trial}",
    )
sigma, kappa, peak = fit(ns, ref.usl(ns, 1.5, 0.01), "sigma 1.5: every further processor harms")
expect_close(peak, 1.0, "n_star for sigma = 1.5", look="at least 1")
expect_raises(
    ValueError, lambda: student.fit_usl([1, 2, 2, 1], [1.0, 1.9, 1.8, 1.0]), "two values of n"
)

# %% hints scaling [markdown]
# 1. Check each law at `n = 1` (it must give 1) and for `f = 1`. Then write X(n) = rate times usl(n) and look at n / X(n).
# 2. $n/X(n) = r + r\sigma\,(n - 1) + r\kappa\,n(n - 1)$ with $r = 1/\mathrm{rate}$: linear in $r$, $r\sigma$, $r\kappa$, so
#    `numpy.linalg.lstsq` finds them. Dividing each equation by its n / X(n) makes the residuals relative, as the noise is.
# 3. If a coefficient comes out negative, fit again without its column, and keep the best fit among those with none below zero.

# %% [markdown]
# ## Task 6. The tail
#
# - `fanout(p, k)`: the probability that a request which waits for `k` servers is slow, if each is slow with probability `p`, independently.
#   It must be right to nine digits also for `p = 1e-18`.
# - `leaf_budget(p, k)`: how often one server may be slow if requests that wait for `k` of them may be slow with probability
#   `p`: the inverse of `fanout`, as exact.
# - `cutoff_for(times, load)`: the smallest of the measured `times` beyond which at most the part `load` of the times lies.
# - `hedged(first, second, cutoff) -> (times, extra)`: each request goes to one server, which would answer after `first[i]` seconds. If there is
#   no answer **at** `cutoff` seconds, a copy goes to another server, which answers `second[i]` seconds later. Whichever answer
#   comes first counts. Returns the array of response times and `extra`, the number of copies for each request.


# %% task tail
def fanout(p, k):
    """How often a request that needs k answers is slow."""
    ### BEGIN SOLUTION
    return -math.expm1(k * math.log1p(-p))
    ### END SOLUTION


def leaf_budget(p, k):
    """How often each of k servers may be slow."""
    ### BEGIN SOLUTION
    return -math.expm1(math.log1p(-p) / k)
    ### END SOLUTION


def cutoff_for(times, load):
    """The earliest cutoff that leaves at most `load` of the requests unanswered."""
    ### BEGIN SOLUTION
    ordered = np.sort(times)
    over = len(ordered) - np.searchsorted(ordered, ordered, side="right")
    return float(ordered[np.argmax(over <= load * len(ordered) + 1e-9)])
    ### END SOLUTION


def hedged(first, second, cutoff):
    """Response times with a second request after `cutoff`, and how many of those there were."""
    ### BEGIN SOLUTION
    first, second = np.asarray(first), np.asarray(second)
    late = first > cutoff
    return np.where(late, np.minimum(first, cutoff + second), first), float(np.mean(late))
    ### END SOLUTION


# %% test tail 2
expect_close(fanout(0.01, 100), 1 - 0.99**100, "fanout(0.01, 100)")
expect_close(leaf_budget(fanout(0.01, 100), 100), 0.01, "leaf_budget undoes fanout")
expect_close(cutoff_for(np.array([5.0, 1, 2, 4, 3]), 0.4), 3.0, "cutoff_for 1 to 5 s, load 0.4")
_times, _extra = hedged(np.array([1.0, 9, 9, 3]), np.array([1.0, 1, 8, 1]), 3.0)
expect_close(_times, [1, 4, 9, 3], "hedged([1, 9, 9, 3], [1, 1, 8, 1], cutoff 3): response times")
expect_close(_extra, 0.5, "copies a request: the second and the third had no answer at 3 s")
print("The tail: the visible test passes.")

# %% hidden tail 8 outside
import numpy as np
from autograder.labkit import expect, expect_close

ref = reference()
random = np.random.default_rng(6)

for p in (0.5, 0.01, 1e-6, 1e-12, 1e-18):
    for k in (1, 2, 100, 10_000):
        what = f"p = {p}, k = {k}"
        slow = student.fanout(p, k)
        expect_close(
            slow,
            ref.fanout(p, k),
            f"fanout({p}, {k})",
            rtol=1e-9,
            look="1 - p is rounded to 1 for small p: math.log1p and math.expm1 keep the digits",
        )
        expect_close(
            student.leaf_budget(p, k),
            ref.leaf_budget(p, k),
            f"leaf_budget({p}, {k})",
            rtol=1e-9,
            look="the inverse of fanout, with math.log1p and math.expm1 too",
        )
drawn = random.random((40_000, 20)) < 0.03
share = float(np.mean(drawn.any(axis=1)))
expect_close(
    student.fanout(0.03, 20), share, "fanout(0.03, 20) against 40 000 simulated requests", rtol=0.03
)

for trial in range(24):
    n = int(random.integers(3, 60))
    times = random.integers(1, 15, n) / 4 if trial % 2 else random.exponential(1.0, n)
    load = float(random.choice([0.0, 0.02, 0.05, 0.1, 0.25, 0.5]))
    cutoff = student.cutoff_for(times, load)
    beyond = np.mean(times > cutoff)
    expect(
        np.any(np.isclose(times, cutoff, rtol=1e-12)),
        f"cutoff_for: {cutoff} is none of the {n} measured times",
    )
    expect(
        beyond <= load + 1e-9,
        f"cutoff_for with load {load}: {beyond:.3f} of {n} times lie beyond the answer {cutoff:.4f}",
        "count the times that are greater",
    )
    smaller = times[times < cutoff]
    if len(smaller):
        next_best = smaller.max()
        expect(
            np.mean(times > next_best) > load + 1e-9,
            f"cutoff_for with load {load}: the answer is {cutoff:.4f}, but {next_best:.4f} would do:"
            f" {np.mean(times > next_best):.3f} of {n} times lie beyond it",
            "the smallest one that keeps to the load; equal times count together",
        )

for trial in range(16):
    n = 500
    first = np.where(random.random(n) < 0.1, 10.0, 1.0) * random.uniform(0.5, 1.5, n)
    second = np.where(random.random(n) < 0.1, 10.0, 1.0) * random.uniform(0.5, 1.5, n)
    cutoff = float(random.choice([0.0, random.uniform(0.5, 3), first[3], 100.0]))
    answer = student.hedged(first, second, cutoff)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        f"hedged: expected (times, extra), got {type(answer).__name__}",
    )
    times, extra = answer
    right, copies = ref.hedged(first, second, cutoff)
    expect_close(
        times,
        right,
        f"hedged with cutoff {cutoff:.3f}: response times of {n} requests",
        look="the copy starts at the cutoff; a slow copy must not delay the first answer",
    )
    expect_close(
        float(extra),
        copies,
        f"hedged with cutoff {cutoff:.3f}: copies a request",
        look="a request that is answered by the cutoff sends no copy; one that wins all the same did",
    )

# %% hints tail [markdown]
# 1. What must happen for a request *not* to be slow? And what is the earliest moment at which a copy's answer can arrive?
# 2. $1 - (1 - p)^k = -(e^{k \log(1 - p)} - 1)$, and `math.log1p(-p)` and `math.expm1` compute these without rounding `1 - p`.
# 3. `numpy.where(first > cutoff, numpy.minimum(first, cutoff + second), first)`. For the cutoff sort the times and count, for each,
#    how many are greater: `numpy.searchsorted(ordered, ordered, side="right")` helps where times are equal.

# %% [markdown]
# ## Task 7. Is it faster?
#
# Two sets of times, before and after a change, not necessarily as many of each. Their medians differ; they always do.
#
# - `speedup_ci(before, after, B=2000, seed=0) -> (low, high)`: a 95 % confidence interval, by the bootstrap, of the median of `before`
#   divided by the median of `after` (above 1: it got faster). Draw from `before` and from `after` independently, with replacement,
#   as many as there are, `B` times; take the 2.5th and 97.5th percentile of the ratios. You may work with the ratios or their logarithms.
#   The same `seed` gives the same interval.
# - `verdict(before, after, B=2000, seed=0) -> str`: `"faster"`, `"slower"`, or `"not shown"` when the interval contains 1.


# %% task speedup
def speedup_ci(before, after, B=2000, seed=0):
    """A 95 % confidence interval of the speed-up."""
    ### BEGIN SOLUTION
    random = np.random.default_rng(seed)
    medians = [
        np.median(random.choice(np.asarray(times), (B, len(times))), axis=1)
        for times in (before, after)
    ]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return float(low), float(high)
    ### END SOLUTION


def verdict(before, after, B=2000, seed=0):
    """What may be said of a change."""
    ### BEGIN SOLUTION
    low, high = speedup_ci(before, after, B, seed)
    return "faster" if low > 1 else "slower" if high < 1 else "not shown"
    ### END SOLUTION


# %% test speedup 3
_random = np.random.default_rng(0)
_before, _after = 3 + _random.exponential(0.2, 40), 2 + _random.exponential(0.2, 30)
_low, _high = speedup_ci(_before, _after)
_ratio = np.median(_before) / np.median(_after)
expect(
    1.3 < _low < _ratio < _high < 1.7,
    f"medians {np.median(_before):.2f} and {np.median(_after):.2f} s, ratio {_ratio:.2f}:"
    f" the interval [{_low:.2f}, {_high:.2f}] should lie around it, within 1.3 and 1.7",
    "before divided by after; one ratio of medians for each resampling",
)
expect_equal(tuple(speedup_ci(_before, _after)), (_low, _high), "the same seed again")
expect_equal(verdict(_before, _after), "faster", "a third of the time is gone: verdict")
expect_equal(verdict(_after, _before), "slower", "the other way round: verdict")
expect_equal(verdict(_before, _before[::-1]), "not shown", "the same times twice: verdict")
print("The interval: the visible test passes.")

# %% hidden speedup 10 outside
import numpy as np
from autograder.labkit import expect, expect_close, expect_equal

ref = reference()
random = np.random.default_rng(7)
B = 300


def noisy(scale, n):
    """Times as they are: a floor, a tail, and now and then a neighbour."""
    times = scale * (1 + random.lognormal(-3, 0.8, n))
    return times * np.where(random.random(n) < 0.05, 8.0, 1.0)


def interval(before, after, **options):
    answer = student.speedup_ci(before, after, **options)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        f"speedup_ci: expected (low, high), got {answer!r}",
    )
    low, high = (float(end) for end in answer)
    expect(low <= high, f"speedup_ci: low {low:.4f} lies above high {high:.4f}")
    return low, high


for which in ("before", "after"):
    samples = {"before": noisy(2.0, 31), "after": noisy(1.0, 24)}
    samples[which][5] *= 1000
    low, high = interval(**samples, B=B)
    expect(
        1.5 < low < high < 2.5,
        f"twice as fast, but one time {which} the change is a thousand times longer: your interval is"
        f" [{low:.3f}, {high:.3f}]",
        "the ratio of the medians, before divided by after",
    )

covered, widths, right_widths, trials = 0, [], [], 100
for trial in range(trials):
    speedup = float(random.choice([0.8, 1.02, 1.25, 3.0]))
    before, after = noisy(speedup, 31), noisy(1.0, 24)
    low, high = interval(before, after, B=B, seed=trial)
    right = ref.speedup_ci(before, after, B, trial)
    covered += low <= speedup <= high
    widths.append((high - low) / speedup)
    right_widths.append((right[1] - right[0]) / speedup)
expect(
    covered >= 0.9 * trials,
    f"{trials} experiments with 31 times before and 24 after: the true speed-up lies in your interval in"
    f" {covered}; 90 are asked for",
    "each resampling draws as many times as there are, from before and from after by itself",
)
wide = np.mean(widths) / np.mean(right_widths)
expect(
    0.75 <= wide <= 1.3,
    f"your intervals are {wide:.2f} times as wide as they should be",
    "the spread of the ratio of medians, not of single times; as many draws as there are times",
)

false = sum(
    student.verdict(noisy(1.0, 28), noisy(1.0, 28), B=B, seed=trial) != "not shown"
    for trial in range(trials)
)
expect(
    false <= 0.1 * trials,
    f"{trials} times nothing was changed: you see a change in {false}; 10 are allowed",
    "the interval must contain 1 in 95 % of the cases when there is nothing to find",
)

before, after = noisy(1.3, 30), noisy(1.0, 20)
low, high = interval(before, after, B=1000, seed=3)
milli = interval(before * 1000, after * 1000, B=1000, seed=3)
expect_close(milli, (low, high), "the same times in milliseconds", look="a ratio has no unit")
expect_equal(interval(before, after, B=1000, seed=3), (low, high), "the same seed again")
other = [interval(before, after, B=50, seed=seed) for seed in range(6)]
expect(len(set(other)) > 1, "six seeds give one and the same interval", "use the seed")
for name, pair, right in [
    ("twice as fast", (noisy(2.0, 30), noisy(1.0, 30)), "faster"),
    ("half as fast", (noisy(1.0, 30), noisy(2.0, 30)), "slower"),
    ("the same sample twice", (before, before), "not shown"),
]:
    expect_equal(student.verdict(*pair, seed=1), right, f"verdict: {name}")
for seed in range(12):
    before, after = noisy(1.02, 25), noisy(1.0, 25)
    low, high = interval(before, after, B=B, seed=seed)
    expect_equal(
        student.verdict(before, after, B=B, seed=seed),
        "faster" if low > 1 else "slower" if high < 1 else "not shown",
        f"verdict for your own interval [{low:.4f}, {high:.4f}]",
    )

# %% hints speedup [markdown]
# 1. Which number do you report, and how would it have come out with other samples from the same machine? The bootstrap lets your
#    samples stand for the machine.
# 2. `random.choice(times, (B, len(times)))` draws all resamplings at once; `numpy.median(..., axis=1)` gives B medians.
# 3. One array of B medians for `before`, one for `after`, each drawn by itself; divide them element by element; then
#    `numpy.percentile(ratios, [2.5, 97.5])`.

# %% [markdown]
# ## The whole, measured
#
# First your machine: bandwidth, peak and overhead of one core, by your probes and your stopwatch. Then eight operators of PyTorch, each with
# the time that your accountant and your roofline forecast.

# %% measure
machine = {
    "peak": max(matmul_peak(n) for n in (512, 1024)),
    "bandwidth": triad_bandwidth(2**24),
    "link": math.inf,
    "overhead": dispatch_overhead(),
}
print(
    f"one core: {machine['bandwidth'] / 1e9:.1f} GB/s, {machine['peak'] / 1e9:.0f} GFLOP/s,"
    f" {machine['overhead'] * 1e6:.2f} us a call,"
    f" ridge at {ridge(machine['peak'], machine['bandwidth']):.1f} FLOP/byte"
)
_triad = torch.ones(2**24), torch.ones(2**24)
_naive = bench(lambda: _triad[0] + 3 * _triad[1], repeats=7)
print(
    f"the triad written as b + 3 * c reaches {3 * 2**26 / _naive.min / 1e9:.1f} GB/s by the same count"
)

# %% measure
_F = torch.nn.functional
_operators = {
    "linear layer": ("gemm", [(512, 768), (768, 3072)], torch.mm),
    "matmul 16": ("gemm", [(16, 16), (16, 16)], torch.mm),
    "matrix-vector": ("gemm", [(4096, 4096), (4096, 1)], torch.mm),
    "8 columns": ("gemm", [(4096, 4096), (4096, 8)], torch.mm),
    "conv 3x3": ("conv2d", [(4, 64, 56, 56), (64, 64, 3, 3)], _F.conv2d),
    "softmax": ("softmax", [(4096, 1024)], lambda x: torch.softmax(x, -1)),
    "layer norm": ("layernorm", [(4096, 1024)], lambda x: _F.layer_norm(x, x.shape[-1:])),
    "attention": (
        "attention",
        [(1, 8, 512, 64)] * 3,
        _F.scaled_dot_product_attention,
    ),
}
results = {}
for _name, (_op, _shapes, _call) in _operators.items():
    _tensors = [torch.rand(shape) for shape in _shapes]
    _flops, _moved = flops_bytes(_op, _shapes)
    _short, _long = step_time(_flops, _moved, 0, machine)
    _stats = bench(lambda: _call(*_tensors), repeats=11, inner=1 if _short > 1e-4 else 200)
    results[_name] = (_flops / _moved, _flops / _stats.min, _short / _stats.min)
    print(
        f"{_name:14} {_flops / _moved:7.2f} FLOP/byte, forecast {_short * 1e3:8.3f} to"
        f" {_long * 1e3:8.3f} ms ({limited_by(_flops, _moved, 0, machine)}), measured"
        f" {_stats.min * 1e3:8.3f} ms, median {_stats.median * 1e3:8.3f} ms"
    )

# %% measure
_axis = np.linspace(-3, 8, 100)
plot_vs(
    "percentage of peak",
    {
        x: 100 * attainable(2.0**x, machine["peak"], machine["bandwidth"]) / machine["peak"]
        for x in _axis
    },
    [(math.log2(i), 100 * rate / machine["peak"]) for i, rate, _ in results.values()],
    "log2 of operations per byte",
)

# %% measure
_random = np.random.default_rng(0)
_leaf = np.where(_random.random((5000, 200)) < 0.01, 10.0, 1.0)
plot_vs(
    "slow pages",
    {k: 100 * fanout(0.01, k) for k in range(1, 201)},
    [(k, 100 * float(np.mean(_leaf[:, :k].max(axis=1) > 5))) for k in (1, 10, 25, 50, 100, 200)],
    "servers that a page asks",
)

# %% written reading 5 [markdown]
# **Read your roofline.** Which of the eight operators does the roofline forecast to within a factor of 1.5, and which not? Take two that it misses and
# say what the model leaves out for each. (Five to eight sentences.)
#
# ### BEGIN SOLUTION
# *2 points: sorts its own eight correctly; large products and the matrix-vector product are usually within 1.5.*
# *2 points: a real cause for each of two misses: output in fresh memory costs page faults; an exponential is one operation in the account but many instructions; short rows or small products do not fill vector units; the time of a call; a tensor that fits into cache and is read faster than memory allows (above the roof).*
# *1 point: says how it could be checked (out=, another size, a profiler, counting instructions).*
# ### END SOLUTION

# %% written review 5 [markdown]
# **Review.** A report says: "Our new kernel is 1.4 times as fast: 4.0 ms instead of 5.6 ms (means of 10 runs after a restart, on our
# server; the baseline is the figure from the other group's paper)." Name three faults of this measurement and what you would ask the authors to do
# for each.
#
# ### BEGIN SOLUTION
# *1 point each, at most 3: other machine for the baseline (run both on one, interleaved); no warm-up after a restart (warm up, or report the first run by itself); mean of ten without spread (all times, median, confidence interval of the ratio); nothing of sizes, data, versions, clock frequency, other load; no bound given (which fraction of the roofline is reached).*
# *2 points: what to do is concrete enough to be carried out.*
# ### END SOLUTION

# %% [markdown]
# ## At real scale
#
# `torch.utils.benchmark.Timer` is a stopwatch like yours (it warms up, chooses `inner` itself and compares medians), NVIDIA's Nsight
# Compute draws the roofline of a GPU kernel from counters of the hardware, and MLPerf's load generator asks for percentiles and for as
# many queries as its confidence intervals need. What you built is what they do; what they add is that they count the bytes that
# really moved instead of those that had to. The chapter's further reading begins with Hoefler and Belli, *Scientific
# benchmarking of parallel computing systems* (SC 2015): twelve rules, and how few papers keep them.
