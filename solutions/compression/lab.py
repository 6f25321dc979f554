# ---
# title: Integers all the way
# hours: 6
# imports: [numpy, matplotlib.pyplot, torch, autograder.labkit]
# ---

# %% [markdown]
# # Integers all the way
#
# Jacob and others report that a network can be run with 8-bit integers only, from its input to its last layer, at nearly the
# accuracy of its 32-bit original, if it is trained with the rounding in view (*Quantization and training of neural networks for
# efficient integer-arithmetic-only inference*, CVPR 2018). In this lab you build that network's arithmetic: scales and
# zero-points, codes of 2 to 8 bits, a calibration that sees each sample once, an integer matrix product, a multiplication
# by a fraction without a float, and the gradient that lets training see the rounding. Two tasks add what often comes along: weights
# with two zeros in every four, and activations with outliers. At the end your parts run a network without a single float
# between its first and its last layer.
#
# You need the chapter *Model compression*. Every part is tested by itself: a mistake in one task costs that task only, and you
# may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# A small network recognises noisy pictures of ten kinds. Its weights and activations are rounded to 3 bits, without any further
# training. Guess how many percentage points of its accuracy that costs. Then it is trained a little further, with the rounding
# in view. Guess which part of the loss comes back, in percent.

# %%
from autograder.labkit import plot_vs, predict

predict("accuracy lost at 3 bits", 0, "points")
predict("part of the loss that training brings back", 0, "%")

# %% given
import math

import numpy as np
import torch

from autograder.labkit import CountingArray, expect, expect_close, expect_equal, expect_raises
from autograder.labkit import peak_bytes

torch.set_num_threads(1)

# %% [markdown]
# ## Task 1. Scale and zero-point
#
# A code `q` (an integer) stands for the real number `scale * (q - zero)`.
#
# `qparams(lo, hi, bits=8, symmetric=False) -> (scale, zero, qmin, qmax)` chooses them for numbers from `lo` to `hi`. `lo` and `hi` are
# numbers, or arrays of one shape with an entry for each channel; `scale` (float64) and `zero` (int64) have the same shape, `qmin` and `qmax`
# are `int`.
#
# - The range is first widened to contain 0: padding, ReLU and empty channels produce zeros, and **zero must be a code**.
# - Affine: codes from `-2**(bits-1)` to `2**(bits-1) - 1`. `scale` divides the range into `2**bits - 1` steps, and `zero`
#   is the code of 0, rounded; it lies between `qmin` and `qmax` by itself.
# - Symmetric: codes from `-(2**(bits-1) - 1)` to `2**(bits-1) - 1`, `zero` is 0, and the larger of `|lo|` and `|hi|` gets the code `qmax`.
# - `scale` is positive and finite, always: where only 0 is in the range, it is 1.
# - `ValueError` unless `lo <= hi`, both are finite, and `2 <= bits <= 8`.


# %% task qparams
def qparams(lo, hi, bits=8, symmetric=False):
    """Scale, zero-point, and the least and the largest code for numbers from lo to hi."""
    ### BEGIN SOLUTION
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not 2 <= bits <= 8:
        raise ValueError(f"{bits} bits")
    if not (np.isfinite(lo).all() and np.isfinite(hi).all() and (lo <= hi).all()):
        raise ValueError("not a range")
    lo, hi = np.minimum(lo, 0.0), np.maximum(hi, 0.0)
    qmax = 2 ** (bits - 1) - 1
    qmin = -qmax if symmetric else -qmax - 1
    span = np.maximum(-lo, hi) / qmax if symmetric else (hi - lo) / (qmax - qmin)
    scale = np.where(span > 0, span, 1.0)
    zero = np.zeros(scale.shape) if symmetric else np.rint(qmin - lo / scale)
    zero = np.where(span > 0, zero, 0.0)
    return scale, zero.astype(np.int64), qmin, qmax
    ### END SOLUTION


# %% test qparams 2
_scale, _zero, _qmin, _qmax = qparams(-1.0, 1.55)
expect_equal((_qmin, _qmax), (-128, 127), "the codes of 8 bits")
expect_close(_scale, 0.01, "scale of the range -1 to 1.55", look="255 steps, not 256")
expect_equal(int(_zero), -28, "zero-point of the range -1 to 1.55: 0 lies 100 steps above -128")
_scale, _zero, _qmin, _qmax = qparams([3.0, -2.0], [5.1, -1.0], symmetric=True)
expect_equal((_qmin, _qmax), (-127, 127), "the codes of 8 symmetric bits")
expect_close(
    _scale,
    [5.1 / 127, 2 / 127],
    "scales of the ranges 3 to 5.1 and -2 to -1, symmetric",
    look="the larger of |lo| and |hi| gets the code 127, and its negative -127",
)
expect_equal(
    int(qparams(3.0, 5.55)[1]),
    -128,
    "zero-point of 3 to 5.55",
    "widen the range to contain 0 first; clamping a zero-point afterwards would move every number",
)
print("Scale and zero-point: the visible test passes.")

# %% hidden qparams 9 outside
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

random = np.random.default_rng()


def check(lo, hi, bits, symmetric):
    what = f"qparams({lo!r}, {hi!r}, {bits}, symmetric={symmetric})"
    answer = student.qparams(lo, hi, bits, symmetric)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 4,
        f"{what}: expected (scale, zero, qmin, qmax), got {answer!r}",
    )
    scale, zero, qmin, qmax = answer
    top = 2 ** (bits - 1) - 1
    expect_equal((int(qmin), int(qmax)), (-top if symmetric else -top - 1, top), f"{what}: codes")
    expect_equal(np.shape(scale), np.shape(lo), f"{what}: the shape of scale")
    expect_equal(np.shape(zero), np.shape(lo), f"{what}: the shape of zero")
    scale, zero = np.asarray(scale, np.float64), np.asarray(zero)
    expect(zero.dtype.kind == "i", f"{what}: zero is {zero.dtype}, not integer", "zero is a code")
    expect(
        np.all(np.isfinite(scale)) and np.all(scale > 0),
        f"{what}: scale {scale} is not positive and finite",
        "a range that holds nothing but 0 gets scale 1",
    )
    expect(
        np.all((qmin <= zero) & (zero <= qmax)),
        f"{what}: zero-point {zero} is no code between {qmin} and {qmax}: 0 cannot be represented",
        "widen the range to contain 0 before anything else",
    )
    if symmetric:
        expect(np.all(zero == 0), f"{what}: zero-point {zero}", "symmetric codes have zero-point 0")
    for name, end in (("lo", np.minimum(lo, 0)), ("hi", np.maximum(hi, 0))):
        code = np.clip(np.rint(end / scale) + zero, qmin, qmax)
        expect_close(
            scale * (code - zero),
            np.asarray(end, np.float64),
            f"{what}: {name}, widened to contain 0, quantised and back",
            rtol=1e-9,
            atol=float(np.max(scale)) * 0.50001,
            look="both ends must come back to within half a step",
        )
    wide = (
        np.maximum(np.abs(lo), np.abs(hi)) * 2
        if symmetric
        else np.maximum(hi, 0) - np.minimum(lo, 0)
    )
    steps = qmax - qmin
    expect_close(
        np.where(wide > 0, scale * steps, 1.0),
        np.where(wide > 0, wide, 1.0),
        f"{what}: the codes span",
        rtol=1e-9,
        look=f"{steps} steps between {steps + 1} codes",
    )


for bits in range(2, 9):
    for symmetric in (False, True):
        for lo, hi in ((-1.0, 1.0), (0.0, 6.0), (-3e-5, 7e3), (3.0, 5.0), (-9.0, -8.5), (0.0, 0.0)):
            check(lo, hi, bits, symmetric)
        lo = random.normal(size=7) * 10.0 ** random.integers(-6, 6, 7)
        check(lo, lo + random.random(7) * 10.0 ** random.integers(-6, 6, 7), bits, symmetric)
        check(np.zeros((2, 3)), np.array([[0.0, 1.0, 2.0]] * 2), bits, symmetric)

for constant in (1e-30, -1e-30, 0.1, -0.1, 7.3, -1e20, 0.0):
    for symmetric in (False, True):
        what = f"a tensor that is {constant} everywhere, symmetric={symmetric}"
        scale, zero, qmin, qmax = student.qparams(constant, constant, 8, symmetric)
        code = np.clip(np.rint(constant / float(scale)) + int(zero), qmin, qmax)
        expect_close(
            float(scale) * (code - int(zero)),
            constant,
            f"{what}: quantised and back",
            rtol=1e-6,
            look="lo == hi is a range like another, once 0 is in it",
        )
for arguments, what in (
    ((1.0, -1.0), "lo above hi"),
    ((float("nan"), 1.0), "lo is NaN"),
    ((0.0, float("inf")), "an infinite range"),
    (([0.0, 2.0], [1.0, 1.0]), "lo above hi in one channel"),
    ((0.0, 1.0, 9), "9 bits"),
    ((0.0, 1.0, 1), "1 bit"),
):
    expect_raises(ValueError, lambda arguments=arguments: student.qparams(*arguments), what)

# %% hints qparams [markdown]
# 1. Which number must `scale * (q - zero)` give for `q = qmin`, and which for `q = qmax`? Two equations, two unknowns.
# 2. `scale = (hi - lo) / (2**bits - 1)` and `zero = round(qmin - lo / scale)`, after `lo = min(lo, 0)` and `hi = max(hi, 0)`. With 0 inside, `zero`
#    cannot fall outside the codes.
# 3. Work on arrays from the start: `np.minimum`, `np.maximum`, and `np.where(span > 0, span, 1.0)` for the channels that hold zeros only. A constant
#    needs no case of its own.

# %% [markdown]
# ## Task 2. Codes and back
#
# - `quantise(x, scale, zero, qmin, qmax, axis=None) -> int8 array`: the code nearest to each number, `round(x / scale) + zero` (a tie goes to
#   the even neighbour, as `np.rint` does it), limited to `qmin` to `qmax`: what lies outside gets the code at the end, infinity too. NaN has no code:
#   `ValueError`.
# - `dequantise(q, scale, zero, axis=None) -> float32 array`: `scale * (q - zero)`.
#
# Without `axis`, `scale` and `zero` are numbers. With `axis` (which may be negative), they are arrays with one entry for each place
# along that axis. `zero` may be -128: `q - zero` does not fit into 8 bits.


# %% task quantise
def quantise(x, scale, zero, qmin, qmax, axis=None):
    """The int8 codes of the numbers x."""
    ### BEGIN SOLUTION
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN has no code")
    codes = np.rint(x / along(scale, x.ndim, axis)) + along(zero, x.ndim, axis)
    return np.clip(codes, qmin, qmax).astype(np.int8)
    ### END SOLUTION


def dequantise(q, scale, zero, axis=None):
    """The numbers that the codes q stand for, float32."""
    ### BEGIN SOLUTION
    q = np.asarray(q).astype(np.int32)
    return (along(scale, q.ndim, axis) * (q - along(zero, q.ndim, axis))).astype(np.float32)


def along(values, ndim, axis):
    """`values` in the shape that meets an array of `ndim` dimensions along `axis`."""
    if axis is None:
        return np.asarray(values)
    shape = [1] * ndim
    shape[axis] = -1
    return np.reshape(values, shape)
    ### END SOLUTION


# %% test quantise 2
_codes = quantise([-0.5, 0.0, 0.12, 0.18, 9.0], 0.1, -3, -128, 127)
expect_equal(np.asarray(_codes).dtype.name, "int8", "the type of a code")
expect_equal(np.asarray(_codes).tolist(), [-8, -3, -2, -1, 87], "codes at scale 0.1, zero-point -3")
_numbers = dequantise(np.array([-128, 127], np.int8), 0.5, -128)
expect_equal(np.asarray(_numbers).dtype.name, "float32", "the type of a number")
expect_close(
    _numbers, [0.0, 127.5], "codes -128 and 127, scale 0.5, zero -128", look="q - zero is 255"
)
_codes = quantise(np.ones((2, 3)), [1, 0.5, 0.25], [0, 1, 2], -8, 7, axis=-1)
expect_equal(np.asarray(_codes).tolist(), [[1, 3, 6]] * 2, "a scale for each of three columns")
print("Codes and back: the visible test passes.")

# %% hidden quantise 9 outside
import numpy as np
import torch

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

random = np.random.default_rng()


def compare(x, scale, zero, qmin, qmax, axis, what):
    """Against torch, away from the ties, where the last bit of the division decides."""
    codes = student.quantise(x, scale, zero, qmin, qmax, axis)
    expect_equal(np.asarray(codes).dtype.name, "int8", f"{what}: the type of the codes")
    expect_equal(np.shape(codes), x.shape, f"{what}: the shape of the codes")
    back = student.dequantise(codes, scale, zero, axis)
    expect_equal(np.asarray(back).dtype.name, "float32", f"{what}: the type of the numbers")
    tensor = torch.tensor(x, dtype=torch.float32)
    if axis is None:
        wanted = torch.fake_quantize_per_tensor_affine(tensor, scale, int(zero), qmin, qmax)
        s, z = np.float64(scale), np.float64(zero)
    else:
        wanted = torch.fake_quantize_per_channel_affine(
            tensor,
            torch.tensor(scale, dtype=torch.float32),
            torch.tensor(zero, dtype=torch.int32),
            axis % x.ndim,
            qmin,
            qmax,
        )
        shape = [-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]
        s, z = np.reshape(scale, shape), np.reshape(zero, shape)
    steps = x / s
    clear = np.abs(np.abs(steps - np.floor(steps)) - 0.5) > 1e-3
    expect_close(
        np.where(clear, back, 0.0),
        np.where(clear, wanted.numpy(), 0.0),
        f"{what}: there and back, against torch",
        rtol=1e-5,
        atol=1e-6 * float(np.max(scale)),
        look="round first, add the zero-point, then clip",
    )
    inside = ((qmin - z) * s <= x) & (x <= (qmax - z) * s)
    error = np.abs(np.asarray(back, np.float64) - x) / s
    expect(
        np.all(error[inside] <= 0.5 + 1e-3),
        f"{what}: an error of {error[inside].max(initial=0):.2f} steps inside the range; half a step is the most",
        "all codes from qmin to qmax are to be used",
    )


for bits in (8, 5, 4, 3, 2):
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for zero in (qmin, 0, qmax, int(random.integers(qmin, qmax + 1))):
        scale = float(10 ** random.uniform(-4, 3))
        x = (scale * random.normal(0, 2.0**bits / 2, (40, 9))).astype(np.float32)
        what = f"{bits} bits, scale {scale:.3g}, zero-point {zero}"
        compare(x, scale, zero, qmin, qmax, None, what)
    for axis, shape in ((0, (5, 30)), (1, (6, 4, 7)), (-1, (3, 8)), (2, (2, 3, 5, 2))):
        channels = shape[axis]
        scale = 10 ** random.uniform(-3, 2, channels)
        zero = random.integers(qmin, qmax + 1, channels)
        wide = np.moveaxis(np.broadcast_to(scale, (*np.delete(shape, axis), channels)), -1, axis)
        x = (wide * random.normal(0, 2.0**bits / 2, shape)).astype(np.float32)
        compare(x, scale, zero, qmin, qmax, axis, f"{bits} bits, shape {shape}, axis {axis}")

for zero, qmin in ((0, -128), (-128, -128), (127, -128), (0, -127)):
    numbers = (np.arange(qmin, 128) - zero) * 0.25
    codes = student.quantise(numbers, 0.25, zero, qmin, 127)
    expect_equal(
        np.asarray(codes).tolist(),
        list(range(qmin, 128)),
        f"all {128 - qmin} numbers that have a code, zero-point {zero}: their codes",
        "8 bits have 256 codes",
    )
    back = student.dequantise(np.arange(qmin, 128).astype(np.int8), 0.25, zero)
    expect_equal(
        np.asarray(back, np.float64),
        numbers,
        f"all codes, zero-point {zero}: their numbers",
        "int8 minus a zero-point may need 9 bits",
    )
expect_equal(
    student.quantise(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), 1.0, 11, -128, 127).tolist(),
    [11, 13, 13, 11, 9],
    "0.5, 1.5, 2.5, -0.5, -1.5 (ties), scale 1, zero-point 11",
    "the tie goes to the even neighbour before the zero-point is added",
)
expect_equal(
    student.quantise(np.array([np.inf, -np.inf, 1e30, -1e30]), 0.1, 5, -100, 90).tolist(),
    [90, -100, 90, -100],
    "infinite and huge numbers, codes -100 to 90",
    "clip before you convert to int8: conversion wraps around",
)
expect_raises(
    ValueError, lambda: student.quantise(np.array([0.0, np.nan]), 0.1, 0, -128, 127), "NaN"
)

# %% hints quantise [markdown]
# 1. Four steps in a fixed order: divide, round, shift by the zero-point, clip. What goes wrong when the conversion to int8 comes before the
#    clipping?
# 2. `np.reshape(scale, shape)`, where `shape` has -1 at `axis` and 1 elsewhere, lets `scale` meet `x` by broadcasting.
# 3. `np.clip(np.rint(x / s) + z, qmin, qmax).astype(np.int8)`; and back: `s * (q.astype(np.int32) - z)`, as float32.

# %% [markdown]
# ## Task 3. Calibration in one pass
#
# Which range should the activations get? Samples stream by, too many to keep. `Calibrator()` sees each once:
#
# - `add(x)` takes an array of any shape. **It keeps no samples**: what the object holds must not grow with what it has seen.
# - `limits(method, bits=8, keep=0.999) -> (lo, hi)`, floats, `lo <= 0 <= hi`:
#   - `"minmax"`: the least and the largest number (and 0), exactly;
#   - `"percentile"`: at most the part `(1 - keep) / 2` of the numbers lies below `lo`, at most as much above `hi`, and the range is not wider than that
#     asks for by more than about two bins;
#   - `"mse"`: `(f * lo, f * hi)`, with `lo` and `hi` of `"minmax"` and that `f` of 0.01, 0.02, ..., 1.00 which makes the mean squared error of `bits` bits
#     (rounding and clipping) least, or within 10 % of that.
#   - `ValueError` for another method, or when nothing has been added.
#
# The answer must not depend on the order of the samples or on how they were cut into calls. A histogram of `BINS` equal bins over
# $[-2^e, 2^e)$ can do that: when a number lies outside, `e` grows by one, and the bins merge in pairs. Bin edges of the old histogram are
# bin edges of the new one, so nothing is lost.

# %% given
BINS = 4096


# %% task calibrate
class Calibrator:
    """Ranges for quantisation from samples that pass by once."""

    def __init__(self):
        ### BEGIN SOLUTION
        self.power = -30
        self.counts = np.zeros(BINS, np.int64)
        self.low = self.high = None
        ### END SOLUTION

    def add(self, x):
        """Take note of the numbers in x."""
        ### BEGIN SOLUTION
        x = np.asarray(x, np.float64).ravel()
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        while max(-low, high) >= 2.0**self.power:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, BINS // 4)
            self.power += 1
        place = np.floor((x + 2.0**self.power) / self.width()).astype(int)
        self.counts += np.bincount(place, minlength=BINS)
        ### END SOLUTION

    def limits(self, method, bits=8, keep=0.999):
        """The range (lo, hi) that the method chooses."""
        ### BEGIN SOLUTION
        if self.low is None:
            raise ValueError("nothing has been added")
        lo, hi = min(self.low, 0.0), max(self.high, 0.0)
        if method == "minmax":
            return lo, hi
        if method == "percentile":
            edges = self.width() * np.arange(BINS + 1) - 2.0**self.power
            tail = (1 - keep) / 2 * self.counts.sum()
            below = np.searchsorted(np.cumsum(self.counts), tail, side="right")
            above = np.searchsorted(np.cumsum(self.counts[::-1]), tail, side="right")
            return max(lo, min(float(edges[below]), 0.0)), min(
                hi, max(float(edges[-1 - above]), 0.0)
            )
        if method == "mse":
            fractions = np.arange(1, 101) / 100
            best = min(fractions, key=lambda f: self.error(f * lo, f * hi, bits))
            return float(best * lo), float(best * hi)
        raise ValueError(f"no such method: {method}")

    def width(self):
        return 2.0 ** (self.power + 1) / BINS

    def error(self, lo, hi, bits):
        """The sum of squared errors, each number taken at the middle of its bin."""
        if hi == lo:
            return 0.0
        middle = self.width() * (np.arange(BINS) + 0.5) - 2.0**self.power
        step = (hi - lo) / (2**bits - 1)
        rounded = lo + step * np.clip(np.rint((middle - lo) / step), 0, 2**bits - 1)
        return float(self.counts @ (rounded - middle) ** 2)
        ### END SOLUTION


# %% test calibrate 2
_random = np.random.default_rng(0)
_sample = np.append(_random.normal(size=20_000), [40.0])
_whole, _pieces = Calibrator(), Calibrator()
_whole.add(_sample)
for _piece in np.array_split(_sample[::-1], 7):
    _pieces.add(_piece)
expect_close(
    _whole.limits("minmax"), (_sample.min(), 40.0), "minmax of 20,000 normal numbers and one 40"
)
for _method in ("minmax", "percentile", "mse"):
    expect_equal(
        tuple(map(float, _pieces.limits(_method, 4))),
        tuple(map(float, _whole.limits(_method, 4))),
        f"{_method}: the same numbers in seven calls, last first",
    )
_lo, _hi = _whole.limits("percentile")
expect(3.0 < _hi < 3.7, f"percentile: hi is {_hi:.2f}; one number in two thousand lies above 3.3")
expect_raises(ValueError, lambda: Calibrator().limits("minmax"), "nothing has been added")
print("Calibration: the visible test passes.")

# %% hidden calibrate 10
import sys

random = np.random.default_rng()
draws = {
    "normal": lambda n: random.normal(0, 1, n),
    "heavy tails": lambda n: random.standard_t(2.5, n),
    "after ReLU": lambda n: np.maximum(random.normal(0, 3, n), 0),
    "far from 0": lambda n: random.uniform(50, 60, n),
    "tiny": lambda n: random.normal(0, 1e-4, n),
    "negative": lambda n: -random.exponential(100, n),
}


def limits(calibrator, method, *arguments):
    answer = calibrator.limits(method, *arguments)
    expect(
        isinstance(answer, tuple | list | np.ndarray) and len(answer) == 2,
        f"limits({method!r}): expected (lo, hi), got {answer!r}",
    )
    lo, hi = map(float, answer)
    expect(lo <= 0 <= hi, f"limits({method!r}) gives {lo:.4g} to {hi:.4g}: 0 lies outside")
    return lo, hi


def error(x, lo, hi, bits):
    step = (hi - lo) / (2**bits - 1)
    return float(np.mean((lo + step * np.clip(np.rint((x - lo) / step), 0, 2**bits - 1) - x) ** 2))


for name, draw in draws.items():
    x = draw(30_000)
    once = Calibrator()
    once.add(x.reshape(100, 300))
    lo, hi = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    expect_close(limits(once, "minmax"), (lo, hi), f"{name}: minmax", look="exactly, and with 0")

    bin_width = 2 ** (np.ceil(np.log2(np.abs(x).max())) + 2) / BINS
    for keep in (0.99, 0.9):
        low, high = limits(once, "percentile", 8, keep)
        tail = (1 - keep) / 2 * x.size + 1e-6
        for end, beyond, nearer in (
            (low, np.sum(x < low), np.sum(x < min(low + bin_width, 0.0))),
            (high, np.sum(x > high), np.sum(x > max(high - bin_width, 0.0))),
        ):
            expect(
                beyond <= tail,
                f"{name}, percentile keep={keep}: {beyond} of {x.size} numbers lie beyond {end:.4g};"
                f" {tail:.0f} may",
                "half of 1 - keep at each end",
            )
            expect(
                abs(end) <= bin_width or nearer > tail,
                f"{name}, percentile keep={keep}: the end {end:.4g} is farther out than it needs to be:"
                f" {bin_width:.3g} nearer to 0, {nearer} numbers would lie beyond, {tail:.0f} may",
            )
    for bits in (3, 4, 8):
        best = min(error(x, f * lo, f * hi, bits) for f in np.arange(1, 101) / 100)
        got = error(x, *limits(once, "mse", bits), bits)
        expect(
            got <= 1.25 * best,
            f"{name}, mse at {bits} bits: the mean squared error is {got:.4g}; f * (lo, hi) with the best f"
            f" has {best:.4g}",
            "the error of a range is rounding inside it plus clipping outside it, over the whole histogram",
        )

    for calls in (2, 50):
        again = Calibrator()
        for piece in np.array_split(random.permutation(x), calls):
            again.add(piece)
        for method in ("minmax", "percentile", "mse"):
            expect_close(
                limits(again, method, 4),
                limits(once, method, 4),
                f"{name}: {method} of the same numbers, shuffled, in {calls} calls instead of one",
                rtol=1e-9,
                look="a histogram whose bins merge in pairs forgets nothing about where its edges are",
            )

x = random.laplace(0, 1, 30_000)
calibrator = Calibrator()
calibrator.add(x)
ratio = error(x, *limits(calibrator, "minmax"), 4) / error(x, *limits(calibrator, "mse", 4), 4)
expect(
    ratio >= 1.5,
    f"Laplace numbers at 4 bits: mse must beat minmax clearly; the ratio is {ratio:.2f}",
)


def held(thing, seen=None):
    """Bytes reachable from an object through containers, attributes and arrays."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    size = thing.nbytes if isinstance(thing, np.ndarray) else sys.getsizeof(thing)
    inside = list(getattr(thing, "__dict__", {}).values())
    if isinstance(thing, dict):
        inside += [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set | frozenset):
        inside += list(thing)
    elif isinstance(thing, np.ndarray) and thing.base is not None:
        inside.append(thing.base)
    return size + sum(held(item, seen) for item in inside)


calibrator = Calibrator()
calibrator.add(draws["normal"](1000))
before = held(calibrator)
for _ in range(40):
    calibrator.add(draws["normal"](5000))
grown = held(calibrator) - before
expect(
    grown <= 100_000,
    f"the object holds {grown:,} bytes more after 200,000 further numbers",
    "count, do not collect",
)
for call, what in (
    (lambda: calibrator.limits("magic"), "an unknown method"),
    (lambda: Calibrator().limits("mse"), "nothing has been added"),
):
    expect_raises(ValueError, call, what)

# %% hints calibrate [markdown]
# 1. Why are powers of two the right ends for the histogram? Draw 8 bins over [-1, 1), then 8 bins over [-2, 2): where are the old
#    edges?
# 2. Growing: `merged = counts.reshape(-1, 2).sum(axis=1)` are the middle half of the new bins; a quarter of empty bins goes before and after.
#    Start with a tiny power (-30), and let it grow with the first samples.
# 3. `"mse"`: the middle of each bin stands for its numbers. For each `f`: `step = (hi - lo) / (2**bits - 1)`, `code =
#    clip(rint((middle - lo) / step), 0, 2**bits - 1)`, error `counts @ (lo + step * code - middle)**2`.

# %% [markdown]
# ## Task 4. A fraction without a float
#
# The sums of an integer layer are codes of scale $s_x s_w$; the next layer wants codes of scale $s_y$. Between them lies one
# real factor, $M = s_x s_w / s_y$, known in advance. An integer device multiplies by $m$ and shifts: $M \approx m / 2^n$.
#
# - `multiplier(real) -> (m, shift)`, two `int`: `2**30 <= m < 2**31`, and `m / 2**shift` is as near to `real` as such a pair can
#   be. `shift` must lie in 1 to 62; where that is impossible (and for 0, negative numbers, NaN), `ValueError`.
# - `requantise(acc, m, shift, zero, qmin, qmax) -> int8 array`: `acc` is an int32 array of shape (rows, channels). Each entry becomes `acc * m /
#   2**shift`, rounded to the nearest integer (**a tie goes up**, towards +infinity), plus `zero`, limited to `qmin` to `qmax`. `m` and `shift` are ints, or
#   int64 arrays with an entry for each channel.
#
# **Exact to the last bit, integers only.** The product has up to 62 bits: float64 has 53.


# %% task requantise
def multiplier(real):
    """The pair (m, shift) with m / 2**shift nearest to `real` and 31 bits in m."""
    ### BEGIN SOLUTION
    if not (real > 0 and math.isfinite(real)):
        raise ValueError(f"{real} is no positive factor")
    fraction, exponent = math.frexp(real)
    m, shift = round(fraction * 2**31), 31 - exponent
    if m == 2**31:
        m, shift = m // 2, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError(f"{real} needs a shift of {shift}")
    return m, shift
    ### END SOLUTION


def requantise(acc, m, shift, zero, qmin, qmax):
    """Codes of the next layer from the sums of this one."""
    ### BEGIN SOLUTION
    m, shift = np.asarray(m, np.int64), np.asarray(shift, np.int64)
    half = np.left_shift(np.int64(1), shift - 1)
    scaled = np.right_shift(acc.astype(np.int64) * m + half, shift)
    return np.clip(scaled + zero, qmin, qmax).astype(np.int8)
    ### END SOLUTION


# %% test requantise 2
expect_equal(multiplier(0.5), (2**30, 31), "multiplier(0.5)")
expect_equal(multiplier(0.75 / 1024), (3 * 2**29, 41), "multiplier(0.75 / 1024)")
_acc = np.array([[-6, -2, -1, 0, 1, 2, 6, 4000]], np.int32)
expect_equal(
    requantise(_acc, 2**30, 32, 0, -128, 127).tolist(),
    [[-1, 0, 0, 0, 0, 1, 2, 127]],
    "sums -6 -2 -1 0 1 2 6 4000, a quarter of each",
    "a tie goes up: -1.5 to -1, 0.5 to 1; add half before you shift",
)
_big = np.array([[2**31 - 1, -(2**31)]], np.int32)
expect_equal(
    requantise(_big, 2**31 - 1, 55, 3, -128, 127).tolist(),
    [[127, -125]],
    "the largest sums, m = 2**31 - 1, shift 55, zero-point 3",
    "the product needs 62 bits",
)
print("Requantisation: the visible test passes.")

# %% hidden requantise 10 outside
from fractions import Fraction

import numpy as np

from autograder.labkit import expect, expect_equal, expect_raises

random = np.random.default_rng()
reals = [0.5, 0.25, 1.0, 1 - 1e-12, 1 + 1e-9, 2.0**-31, 3.7, 1000.1, 0.0072, 2.0**29 * 1.1]
reals += [float(10 ** random.uniform(-9, 8)) for _ in range(40)]
for real in reals:
    answer = student.multiplier(real)
    expect(
        isinstance(answer, tuple | list)
        and len(answer) == 2
        and all(isinstance(part, int | np.integer) for part in answer),
        f"multiplier({real!r}): expected two integers, got {answer!r}",
    )
    m, shift = map(int, answer)
    expect(
        2**30 <= m < 2**31,
        f"multiplier({real!r}): m = {m} lies outside 2**30 to 2**31 - 1",
        "math.frexp; rounding may carry m to 2**31, then halve it and shift one less",
    )
    expect(1 <= shift <= 62, f"multiplier({real!r}): shift {shift}")
    off = abs(Fraction(m, 2**shift) - Fraction(real))
    expect(
        off <= Fraction(1, 2 ** (shift + 1)),
        f"multiplier({real!r}): {m} / 2**{shift} is off by {float(off * 2**shift):.2f} units of m; half a"
        " unit is the most",
        "round, do not cut off",
    )
for real in (0.0, -0.5, float("nan"), float("inf"), 2.0**-33, 2.0**31):
    expect_raises(ValueError, lambda real=real: student.multiplier(real), f"multiplier({real})")


def exact(acc, m, shift, zero, qmin, qmax):
    rows = []
    for row in acc.tolist():
        codes = []
        for place, value in enumerate(row):
            factor = Fraction(int(m[place]), 2 ** int(shift[place]))
            rounded = (value * factor + Fraction(1, 2)).__floor__()
            codes.append(max(qmin, min(qmax, rounded + zero)))
        rows.append(codes)
    return rows


def check(acc, m, shift, zero, qmin, qmax, what):
    wide = [np.broadcast_to(np.asarray(part), acc.shape[1]) for part in (m, shift)]
    got = student.requantise(acc, m, shift, zero, qmin, qmax)
    expect_equal(np.asarray(got).dtype.name, "int8", f"{what}: the type of the codes")
    expect_equal(np.shape(got), acc.shape, f"{what}: the shape of the codes")
    expect_equal(
        np.asarray(got).astype(np.int64),
        np.array(exact(acc, *wide, zero, qmin, qmax)),
        f"{what}: the codes, against exact fractions",
        "int64: acc * m, plus 2**(shift - 1), shifted right; then the zero-point; then clip",
    )


for _ in range(12):
    channels = int(random.integers(1, 9))
    m = random.integers(2**30, 2**31, channels)
    shift = random.integers(30, 45, channels)
    spread = 2.0 ** (shift.max() - 24)
    acc = np.clip(random.normal(0, spread, (6, channels)), -(2**31), 2**31 - 1).astype(np.int32)
    zero = int(random.integers(-128, 128))
    what = f"{channels} channels, m {m.tolist()}, shift {shift.tolist()}, zero-point {zero}"
    check(acc, m, shift, zero, -128, 127, what)
    check(
        acc,
        int(m[0]),
        int(shift[0]),
        zero,
        -128,
        127,
        f"m {m[0]}, shift {shift[0]}, zero-point {zero}",
    )

ties = np.arange(-41, 42, dtype=np.int32).reshape(1, -1)
for shift in (31, 32, 33):
    check(ties, 2**30, shift, 0, -128, 127, f"sums -41 to 41 times 2**{30 - shift} (ties go up)")
check(ties, 2**31 - 1, 31, 5, -3, 3, "codes of 3 bits, zero-point 5")
ends = np.array([[2**31 - 1, -(2**31), 2**31 - 2, 1, -1]], np.int32)
for shift in (1, 30, 31, 54, 55, 61, 62):
    check(ends, 2**31 - 1, shift, -7, -128, 127, f"the largest sums, m 2**31 - 1, shift {shift}")
# Products of 61 bits just below a tie: a float of 53 bits sees the tie itself.
for c in (1, 3):
    acc = np.array([[c * (2**29 - 1), -c * (2**29 - 1)]], np.int32)
    check(acc, 2**30 + 2, 60, 0, -128, 127, f"just below the tie {c}/2, shift 60")
    check(acc, 2**30 + 2, 60, 9, -8, 7, f"just below the tie {c}/2, shift 60, codes of 4 bits")
near = np.array([[2**24 + 1, 2**30 - 1, -(2**30) - 1, 1_234_567_891]], np.int32)
check(near, 2**31 - 1, 56, 0, -128, 127, "sums with more than 24 bits")

# %% hints requantise [markdown]
# 1. `math.frexp(real)` gives a fraction in [0.5, 1) and an exponent. How many bits does the fraction get, and where does the exponent go?
# 2. To round to nearest with a shift, add half of what is shifted away: `(product + 2**(shift - 1)) >> shift`. A right shift of a negative
#    number rounds down, which is why ties go up.
# 3. `np.int32` times a Python int stays int32 and wraps around. Convert first: `acc.astype(np.int64) * m`. `np.left_shift(np.int64(1), shift - 1)` also works for
#    arrays of shifts.

# %% [markdown]
# ## Task 5. The integer product
#
# `accumulate(x, w, bias, zx, zw) -> int32 array` of shape (rows, outputs):
#
# $$a_{no} = b_o + \sum_k (x_{nk} - z_x)(w_{ok} - z_{w,o}).$$
#
# `x` (rows, k) and `w` (outputs, k) are int8, `bias` (outputs) is int32, `zx` is an int from -128 to 127, `zw` an int or an integer array with an entry for each
# output. You may rely on k ≤ 16,384, and on sums that fit into 32 bits.
#
# - **Bit-exact**: every entry equals what 64-bit integers would give.
# - **No float, nothing wider than 32 bits** for `x`, `w` or the sums. The test hands in arrays that keep a record of the types computed
#   with, and watches the memory: widening the inputs to 4 bytes an element is allowed, to 8 is not.
# - Integer types wrap around silently: int8 times int8 is int8 in NumPy, also in `@`.
#
# Devices compute $\sum x w$ on raw codes and correct for the zero-points afterwards, with sums over rows of `x` and of `w`; the sum of `w` can
# be prepared in advance. Do it that way, or subtract first, as you like.


# %% task accumulate
def accumulate(x, w, bias, zx, zw):
    """The int32 sums of a layer of int8 inputs and weights."""
    ### BEGIN SOLUTION
    zw = np.asarray(zw, np.int32)
    k = np.int32(x.shape[1])
    raw = x.astype(np.int32) @ w.astype(np.int32).T
    of_x = x.sum(axis=1, dtype=np.int32)[:, None]
    of_w = w.sum(axis=1, dtype=np.int32)
    return raw - np.int32(zx) * of_w - of_x * zw + k * np.int32(zx) * zw + bias
    ### END SOLUTION


# %% test accumulate 2
_x = np.array([[127, -128, 5]], np.int8)
_w = np.array([[127, -128, 1], [0, 0, 0]], np.int8)
_got = accumulate(_x, _w, np.array([10, -3], np.int32), 0, 0)
expect_equal(
    np.asarray(_got).dtype.name,
    "int32",
    "the type of the sums",
    "np.sum of int8 gives int64, and so does whatever meets it: it has a dtype argument",
)
expect_equal(
    np.asarray(_got).tolist(),
    [[32_528, -3]],
    "one row, two outputs, zero-points 0",
    "16129 + 16384 + 5 + 10: int8 wraps around, so convert to int32 before the product",
)
expect_equal(
    np.asarray(accumulate(_x, _w, np.zeros(2, np.int32), -128, [0, 1])).tolist(),
    [[32_518, -388]],
    "the same with zero-points -128 and (0, 1)",
    "255 * 127 + 0 * -128 + 133 * 1; and -(255 + 0 + 133)",
)
print("The integer product: the visible test passes.")

# %% hidden accumulate 11
ref = reference()
random = np.random.default_rng()


def oracle(x, w, bias, zx, zw):
    wide = x.astype(np.int64) - zx
    return wide @ (w.astype(np.int64) - np.reshape(zw, (-1, 1))).T + bias


def draw(rows, outputs, k, low=-128, high=128):
    x = random.integers(low, high, (rows, k)).astype(np.int8)
    w = random.integers(low, high, (outputs, k)).astype(np.int8)
    bias = random.integers(-(2**20), 2**20, outputs).astype(np.int32)
    return x, w, bias


def check(x, w, bias, zx, zw, what):
    copies = x.copy(), w.copy(), bias.copy()
    got = accumulate(x, w, bias, zx, zw)
    expect_equal(
        np.asarray(got).dtype.name,
        "int32",
        f"{what}: the type of the sums",
        "np.sum of int8 gives int64, and so does whatever meets it: it has a dtype argument",
    )
    expect_equal(
        np.asarray(got).astype(np.int64),
        oracle(*copies, zx, zw),
        f"{what}: the sums, against 64-bit integers",
        "sum of x w, minus zx * sum of w, minus zw * sum of x, plus k * zx * zw, plus the bias",
    )
    for name, now, then in zip(("x", "w", "bias"), (x, w, bias), copies):
        expect_equal(np.asarray(now), then, f"{what}: {name}, afterwards", "work on copies")


for rows, outputs, k in ((1, 1, 1), (3, 5, 7), (8, 4, 64), (2, 3, 1000)):
    x, w, bias = draw(rows, outputs, k)
    for zx in (0, -128, 127, 3):
        per_row = random.integers(-128, 128, outputs)
        for zw, said in ((0, "0"), (-5, "-5"), (per_row, str(per_row.tolist()))):
            check(
                x, w, bias, zx, zw, f"{rows} rows, {outputs} outputs, k = {k}, zx {zx}, zw {said}"
            )
for value, other in ((-128, -128), (127, -128), (127, 127)):
    for k in (300, 16_384):
        x, w = np.full((2, k), value, np.int8), np.full((2, k), other, np.int8)
        x[1, ::3] = 1
        zero = np.zeros(2, np.int32)
        check(x, w, zero, 0, 0, f"k = {k}, all x {value}, all w {other}")
x, w, bias = draw(4, 3, 16_384, low=90)
check(
    x,
    w,
    bias,
    -128,
    0,
    "k = 16384, large codes, zx -128 (sums beyond 2**24: a float32 is not exact)",
)

x, w, bias = draw(6, 5, 40)
spies = [CountingArray.of(array) for array in (x, w)]
accumulate(*spies, bias, 7, np.arange(5))
types = set().union(*(spy.dtypes for spy in spies))
expect(
    all(np.dtype(name).kind in "iub" for name in types),
    f"x and w went through the types {sorted(types)}: floats before requantisation",
    "integers only: x.astype(np.int32) @ w.astype(np.int32).T",
)
expect(
    all(np.dtype(name).itemsize <= 4 for name in types),
    f"x and w went through the types {sorted(types)}: wider than 32 bits",
    "np.int32 is enough, and a sum has a dtype argument: np.sum of int8 makes int64 otherwise",
)
x, w, bias = draw(96, 96, 8192)
_, peak = peak_bytes(lambda: accumulate(x, w, bias, -3, np.zeros(96, np.int32)))
share = peak / (x.size + w.size)
expect(
    share <= 7.0,
    f"{share:.1f} bytes for each element of x and w are held at the peak",
    "4 bytes an element, and what an intermediate step holds for a moment; 8 bytes each are too wide",
)

# %% hints accumulate [markdown]
# 1. Multiply out $(x - z_x)(w - z_w)$: four terms. Which of them need a loop over k and both arrays?
# 2. `x.astype(np.int32) @ w.astype(np.int32).T` is exact. `x.sum(axis=1, dtype=np.int32)` sums rows in 32 bits.
# 3. `raw - zx * sums_of_w - sums_of_x[:, None] * zw + k * zx * zw + bias`, everything `np.int32`.

# %% [markdown]
# ## Task 6. A gradient through rounding
#
# `fake_quant(x, scale, zero, qmin, qmax, axis=None)` takes a float tensor to its codes and straight back: the result is a float tensor that
# holds only numbers which have a code. Rounding has gradient 0 almost everywhere, so nothing would ever be learnt. The
# straight-through estimator passes the gradient on **unchanged where the code lies within `qmin` to `qmax`, and 0 where it was clipped** (less than half
# a step beyond the ends you may do either).
#
# - `x` is a float32 tensor. `scale` and `zero` are numbers, or, with `axis`, 1-D tensors with an entry for each place along it. They get no
#   gradient.
# - `x` itself does not change; without gradients asked for, the same function serves for evaluation.
#
# With it, the given `train` below fits a small network whose weights and activations are rounded in every step. The test trains
# one at 3 bits: **at least half of the accuracy that rounding has cost must come back**.

# %% given
SIDE, KINDS, HIDDEN = 10, 10, 24
"""Pictures of SIDE * SIDE pixels, of so many kinds; hidden units of the network."""


def make_pictures(count, seed):
    """Noisy pictures (count, SIDE * SIDE) of KINDS patterns, moved by up to a pixel, and their kinds."""
    fixed, random = np.random.default_rng(5), np.random.default_rng(seed)
    patterns = fixed.normal(size=(KINDS, SIDE, SIDE))
    kinds = random.integers(0, KINDS, count)
    moves = random.integers(-1, 2, (count, 2))
    moved = [np.roll(patterns[k], tuple(move), (0, 1)) for k, move in zip(kinds, moves)]
    pictures = np.array(moved) + random.normal(0, 1.0, (count, SIDE, SIDE))
    return torch.tensor(pictures.reshape(count, -1), dtype=torch.float32), torch.tensor(kinds)


def new_net(seed):
    """Two layers: weights (HIDDEN, pixels) and (KINDS, HIDDEN), and their biases."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(HIDDEN, SIDE * SIDE), (HIDDEN,), (KINDS, HIDDEN), (KINDS,)]
    net = [torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for shape in shapes]
    return [part.requires_grad_() for part in net]


def rounded_forward(net, x, bits, hidden_limit, fake_quant):
    """Scores with weights (a scale for each row) and hidden units rounded to `bits`, the input to 8."""
    w1, b1, w2, b2 = net
    qmax = 2 ** (bits - 1) - 1

    def rounded(w):
        scale = w.detach().abs().amax(dim=1) / qmax
        return fake_quant(w, scale, torch.zeros(len(w), dtype=torch.int64), -qmax, qmax, 0)

    step = hidden_limit / (2**bits - 1)
    x = fake_quant(x, 0.06, 0, -128, 127)
    hidden = torch.relu(x @ rounded(w1).T + b1)
    hidden = fake_quant(hidden, step, -qmax - 1, -qmax - 1, qmax)
    return hidden @ rounded(w2).T + b2


def float_forward(net, x):
    """Scores without any rounding."""
    w1, b1, w2, b2 = net
    return torch.relu(x @ w1.T + b1) @ w2.T + b2


def train(net, x, kinds, forward, steps, rate, seed=0):
    """Adam on batches of 100; returns a new net."""
    net = [part.detach().clone().requires_grad_() for part in net]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net, rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        batch = torch.randint(len(x), (100,), generator=generator)
        loss = torch.nn.functional.cross_entropy(forward(net, x[batch]), kinds[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def accuracy(forward, net, x, kinds):
    """Percent of the pictures whose kind gets the highest score."""
    with torch.no_grad():
        return 100 * (forward(net, x).argmax(1) == kinds).double().mean().item()


# %% task fake_quant
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    """x rounded to its codes and back, with the straight-through gradient."""
    ### BEGIN SOLUTION
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return _FakeQuant.apply(x, scale, zero, qmin, qmax)


class _FakeQuant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, zero, qmin, qmax):
        code = torch.round(x / scale) + zero
        ctx.save_for_backward((code >= qmin) & (code <= qmax))
        return (code.clamp(qmin, qmax) - zero) * scale

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None

    ### END SOLUTION


# %% test fake_quant 2
_x = torch.tensor([-9.0, -0.26, 0.1, 0.26, 9.0], requires_grad=True)
_y = fake_quant(_x, 0.5, 1, -4, 3)
expect_close(
    _y.detach().numpy(), [-2.5, -0.5, 0.0, 0.5, 1.0], "scale 0.5, zero-point 1, codes -4 to 3"
)
expect(
    _y.requires_grad,
    "the result is cut off from x: nothing can be learnt",
    "detach only the difference that rounding makes, or write a torch.autograd.Function",
)
_y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
expect(_x.grad is not None, "no gradient arrives at x", "torch.autograd.Function, or detach a part")
expect_close(
    _x.grad.numpy(),
    [0, 2, 3, 4, 0],
    "the gradient, when 1 2 3 4 5 come from above",
    look="unchanged inside; 0 where the number was clipped",
)
print("Fake quantisation: the visible test passes.")

# %% hidden fake_quant 11
ref = reference()


def compare(x, scale, zero, qmin, qmax, axis, what):
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    above = torch.randn(x.shape)
    got = fake_quant(ours, scale, zero, qmin, qmax, axis)
    expect(
        isinstance(got, torch.Tensor) and got.dtype == torch.float32,
        f"{what}: expected a float32 tensor, got {type(got).__name__} {getattr(got, 'dtype', '')}",
    )
    if axis is None:
        wanted = torch.fake_quantize_per_tensor_affine(theirs, scale, zero, qmin, qmax)
        s, z = torch.tensor(scale), torch.tensor(zero)
    else:
        place = axis % x.ndim
        wanted = torch.fake_quantize_per_channel_affine(
            theirs, scale, zero.to(torch.int32), place, qmin, qmax
        )
        shape = [-1 if i == place else 1 for i in range(x.ndim)]
        s, z = scale.reshape(shape), zero.reshape(shape)
    exact = (x.double() / s.double()).numpy()
    clear = np.abs(np.abs(exact - np.floor(exact)) - 0.5) > 1e-3
    expect_close(
        np.where(clear, got.detach().numpy(), 0),
        np.where(clear, wanted.detach().numpy(), 0),
        f"{what}: the result, against torch",
        rtol=1e-4,
        atol=1e-5 * float(s.max()),
        look="round(x / scale) + zero, clamped, minus zero, times scale",
    )
    expect(got.requires_grad, f"{what}: the result is cut off from x: nothing can be learnt")
    got.backward(above)
    wanted.backward(above)
    expect(ours.grad is not None, f"{what}: no gradient arrives at x")
    code = exact + z.numpy()
    at_edge = ((code > qmax) & (code < qmax + 0.51)) | ((code < qmin) & (code > qmin - 0.51))
    at_edge |= (np.abs(code - qmin) < 1e-3) | (np.abs(code - qmax) < 1e-3)
    outside = ((code > qmax) | (code < qmin)) & ~at_edge
    came = ours.grad.numpy()
    expect(
        np.all(came[outside] == 0),
        f"{what}: a gradient passes where the number was clipped ({np.count_nonzero(came[outside])} of"
        f" {outside.sum()} places)",
        "a clipped number does not move when its weight does: its gradient is 0",
    )
    expect_close(
        np.where(at_edge, 0, came),
        np.where(at_edge, 0, theirs.grad.numpy()),
        f"{what}: the gradient, against torch",
        rtol=1e-5,
        look="what comes from above, unchanged: neither scaled nor rounded",
    )


torch.manual_seed(int(np.random.default_rng().integers(2**31)))
for bits in (2, 3, 8):
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for zero in (0, qmin, qmax):
        scale = float(torch.rand(()) + 0.01)
        x = torch.randn(60, 5) * scale * 2**bits / 2
        compare(
            x, scale, zero, qmin, qmax, None, f"{bits} bits, scale {scale:.3f}, zero-point {zero}"
        )
    for axis, shape in ((0, (4, 30)), (1, (3, 5, 6)), (-1, (9, 4))):
        count = shape[axis]
        scale, zero = torch.rand(count) + 0.01, torch.randint(qmin, qmax + 1, (count,))
        spread = scale.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
        x = torch.randn(shape) * spread * 2**bits / 2
        compare(x, scale, zero, qmin, qmax, axis, f"{bits} bits, shape {shape}, axis {axis}")
x = torch.randn(5)
kept = x.clone()
expect(not fake_quant(x, 0.1, 0, -4, 3).requires_grad, "x asks for no gradient: nor may the result")
expect_equal(x.numpy(), kept.numpy(), "x, afterwards", "work out of place")

pictures, kinds = ref.make_pictures(3000, 1)
fresh, answers = ref.make_pictures(2000, 2)
plain = ref.train(ref.new_net(0), pictures, kinds, ref.float_forward, 300, 0.01)
hidden = torch.relu(pictures @ plain[0].T + plain[1]).detach().numpy()
limit = float(np.quantile(hidden, 0.999))


def rounded(net, x):
    return ref.rounded_forward(net, x, 3, limit, fake_quant)


before = ref.accuracy(ref.float_forward, plain, fresh, answers)
after = ref.accuracy(rounded, plain, fresh, answers)
tuned = ref.train(plain, pictures, kinds, rounded, 300, 0.01)
again = ref.accuracy(rounded, tuned, fresh, answers)
expect(
    again - after >= 0.5 * (before - after),
    f"accuracy {before:.1f} % in floats, {after:.1f} % rounded to 3 bits, {again:.1f} % after training with your"
    f" fake_quant: {(again - after) / max(before - after, 0.1):.0%} of the loss came back; half is asked for",
    "the gradient must pass through rounding",
)

# %% hints fake_quant [markdown]
# 1. What is the derivative of `torch.round`? And what should training believe that it is?
# 2. Two ways. A `torch.autograd.Function` with its own `backward`; or plain tensors: `y + (rounded(y) - y).detach()`, where `y` is `x` clamped to the range: the
#    value is the rounded one, the gradient that of `y`.
# 3. `forward` saves `inside = (code >= qmin) & (code <= qmax)` with `ctx.save_for_backward`; `backward` returns `gradient * inside`, and `None` for each of the other
#    arguments.

# %% [markdown]
# ## Task 7. Half of the weights
#
# Zeros need not be stored, if it can be said where they are. Four functions:
#
# - `smallest(w, ratio) -> mask`: a boolean array of the shape of `w`, False for exactly `round(ratio * w.size)` entries, those of least magnitude. Among
#   equals, those that come first (row after row) go first.
# - `two_of_four(w) -> mask`: `w` is (rows, k). In every group of four neighbours in a row, the two of largest magnitude stay; among equals, the earlier ones
#   stay. `ValueError` unless 4 divides k.
# - `pack(w, mask) -> (values, index)`: of each group of four, two stay in `mask`; `values` (rows, k/2) holds them in order, in the type of `w`. `index` is uint8, (rows,
#   k/8): 2 bits for each value, its place in its group. Value `j` of a row has the bits `2 * (j % 4)` and the next higher one of byte `j // 4`. `ValueError` unless 8
#   divides k and every group keeps exactly two.
# - `packed_matmul(values, index, x)`: `x @ w.T` for `x` of shape (n, k), from the packed weights.


# %% task sparse
def smallest(w, ratio):
    """False for the part `ratio` of w that is least in magnitude."""
    ### BEGIN SOLUTION
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[: round(ratio * w.size)]] = False
    return mask.reshape(w.shape)
    ### END SOLUTION


def two_of_four(w):
    """True for the two largest of every four neighbours in a row."""
    ### BEGIN SOLUTION
    rows, k = w.shape
    if k % 4:
        raise ValueError(f"4 does not divide {k}")
    groups = -np.abs(w.reshape(rows, k // 4, 4).astype(np.float64))
    best = np.argsort(groups, axis=-1, kind="stable")[..., :2]
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, best, True, axis=-1)
    return mask.reshape(rows, k)
    ### END SOLUTION


def pack(w, mask):
    """The weights that stay, and two bits for the place of each."""
    ### BEGIN SOLUTION
    rows, k = w.shape
    if k % 8 or np.any(mask.reshape(rows, k // 4, 4).sum(axis=-1) != 2):
        raise ValueError("two of every four are to stay, and 8 divides the length of a row")
    places = np.nonzero(mask)[1].reshape(rows, k // 8, 4) % 4
    index = (places << np.array([0, 2, 4, 6])).sum(axis=-1).astype(np.uint8)
    return w[mask].reshape(rows, k // 2), index
    ### END SOLUTION


def packed_matmul(values, index, x):
    """x times the transpose of the packed weights."""
    ### BEGIN SOLUTION
    rows, half = values.shape
    places = (index[:, :, None] >> np.array([0, 2, 4, 6])) & 3
    columns = places.reshape(rows, half) + np.arange(half) // 2 * 4
    return np.stack([x[:, columns[row]] @ values[row] for row in range(rows)], axis=1)
    ### END SOLUTION


# %% test sparse 2
_w = np.array([[1.0, -4.0, 2.0, 3.0, 0.0, 0.0, 5.0, 0.5]], np.float32)
expect_equal(
    smallest(_w, 0.5).astype(int).tolist(), [[0, 1, 1, 1, 0, 0, 1, 0]], "the smaller half goes"
)
_mask = two_of_four(_w)
expect_equal(_mask.astype(int).tolist(), [[0, 1, 0, 1, 0, 0, 1, 1]], "two of every four stay")
_values, _index = pack(_w, _mask)
expect_equal(np.asarray(_values).tolist(), [[-4.0, 3.0, 5.0, 0.5]], "the values that stay")
expect_equal(
    [[f"{int(byte):08b}" for byte in row] for row in _index],
    [["11101101"]],
    "the bits of the index: places 1, 3, 2, 3 of the four values",
    "two bits each; the first value has the lowest two, which stand at the right",
)
expect_close(packed_matmul(_values, _index, np.eye(8))[:, 0], (_w * _mask)[0], "the packed row")
print("Sparse weights: the visible test passes.")

# %% hidden sparse 9 outside
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

random = np.random.default_rng()


def some(rows, k, ties=False):
    if ties:
        return random.integers(-2, 3, (rows, k)).astype(np.float32)
    return random.normal(size=(rows, k)).astype(np.float32)


for ties in (False, True):
    for ratio in (0.0, 0.1, 0.333, 0.5, 0.9, 1.0):
        w = some(7, 13, ties)
        what = f"smallest of 7 x 13 weights{' with many equal ones' if ties else ''}, ratio {ratio}"
        mask = np.asarray(student.smallest(w, ratio))
        expect(mask.dtype == bool and mask.shape == w.shape, f"{what}: {mask.dtype} {mask.shape}")
        order = sorted(range(w.size), key=lambda i: (abs(float(w.flat[i])), i))
        wanted = np.ones(w.size, bool)
        wanted[order[: round(ratio * w.size)]] = False
        expect_equal(
            int((~mask).sum()),
            round(ratio * w.size),
            f"{what}: how many go",
            "a threshold removes all equal ones or none: sort instead",
        )
        expect_equal(mask, wanted.reshape(w.shape), f"{what}: the mask", "a stable sort")

    for rows, k in ((1, 8), (3, 16), (5, 40)):
        w = some(rows, k, ties)
        what = f"two of four of {rows} x {k} weights{' with many equal ones' if ties else ''}"
        mask = np.asarray(student.two_of_four(w))
        expect(mask.dtype == bool and mask.shape == w.shape, f"{what}: {mask.dtype} {mask.shape}")
        wanted = np.zeros(w.shape, bool)
        for row in range(rows):
            for start in range(0, k, 4):
                group = sorted(range(start, start + 4), key=lambda i: (-abs(float(w[row, i])), i))
                wanted[row, group[:2]] = True
        expect_equal(mask, wanted, f"{what}: the mask", "each group of four along a row by itself")

for dtype in (np.float32, np.int8):
    for rows, k in ((1, 8), (4, 24), (6, 64)):
        w = random.integers(-100, 101, (rows, k)).astype(dtype)
        mask = np.zeros((rows, k), bool)
        for row in range(rows):
            for start in range(0, k, 4):
                mask[row, start + random.choice(4, 2, replace=False)] = True
        w[random.random(w.shape) < 0.2] = 0
        what = f"{rows} x {k} weights of {np.dtype(dtype)}"
        values, index = map(np.asarray, student.pack(w, mask))
        bits = np.zeros((rows, k // 8), np.uint8)
        for row in range(rows):
            for j, column in enumerate(np.flatnonzero(mask[row])):
                bits[row, j // 4] |= int(column % 4) << (2 * (j % 4))
        expect_equal(
            values.dtype.name, np.dtype(dtype).name, f"{what}: the type of the packed values"
        )
        expect_equal(
            values,
            np.array([w[row][mask[row]] for row in range(rows)]),
            f"{what}: the packed values",
            "a weight that stays may be 0 itself: go by the mask",
        )
        expect_equal(index.dtype.name, "uint8", f"{what}: the type of the index")
        expect_equal(index, bits, f"{what}: the index", "value j: bits 2 * (j % 4) of byte j // 4")
        packed = values.nbytes + index.nbytes
        expect_equal(packed, w.nbytes // 2 + rows * k // 8, f"{what}: bytes of the packed weights")
        x = random.integers(-100, 101, (5, k)).astype(np.float32)
        expect_close(
            np.asarray(student.packed_matmul(values, index, x), np.float64),
            (x @ (w * mask).T.astype(np.float32)).astype(np.float64),
            f"{what}: the product with 5 rows",
            rtol=1e-5,
            atol=1e-3,
            look="value j belongs to column 4 * (j // 2) + its place",
        )

three = np.ones((1, 8), bool)
three[0, 5:] = False
for call, what in (
    (lambda: student.two_of_four(np.zeros((2, 6))), "two_of_four of rows of 6"),
    (
        lambda: student.pack(np.zeros((1, 8)), three),
        "pack with four of one group and one of the other",
    ),
    (
        lambda: student.pack(np.zeros((1, 12)), np.tile([True, True, False, False], (1, 3))),
        "pack, k = 12",
    ),
):
    expect_raises(ValueError, call, what)

# %% hints sparse [markdown]
# 1. A threshold cannot keep an exact count when weights are equal. What can?
# 2. `np.argsort(..., kind="stable")` keeps the order of equals. For 2:4, reshape to (rows, k/4, 4) and sort the negative magnitudes.
# 3. The places are `np.nonzero(mask)[1] % 4`, in order; shift them by 0, 2, 4 and 6 and add four at a time. Back: `(index[..., None] >> [0, 2, 4, 6]) & 3`; value `j`
#    belongs to column `4 * (j // 2) + place`.

# %% [markdown]
# ## Task 8. Moving the difficulty
#
# In large language models a few channels of the activations are a hundred times larger than the others; the scale that they force
# leaves the others two or three codes. Xiao and others (*SmoothQuant*, ICML 2023) divide each channel of the activations and
# multiply the same channel of the weights.
#
# `smooth(x, w, alpha=0.5) -> (x2, w2, s)`: `x` is (n, k), `w` is (outputs, k). Channel $j$ gets
#
# $$s_j = \frac{(\max_n |x_{nj}|)^\alpha}{(\max_o |w_{oj}|)^{1-\alpha}},$$
#
# or 1 where either maximum is 0. `x2` is `x` with channel j divided by $s_j$, `w2` is `w` with channel j multiplied by it. The product `x2 @ w2.T` is that
# of `x` and `w`. All three results are float64.


# %% task smooth
def smooth(x, w, alpha=0.5):
    """Move the difficulty of quantisation from the activations to the weights."""
    ### BEGIN SOLUTION
    of_x, of_w = np.abs(x).max(axis=0).astype(np.float64), np.abs(w).max(axis=0).astype(np.float64)
    empty = (of_x == 0) | (of_w == 0)
    s = np.where(empty, 1.0, of_x) ** alpha / np.where(empty, 1.0, of_w) ** (1 - alpha)
    return x / s, w * s, s
    ### END SOLUTION


# %% test smooth 1
_x, _w = np.array([[100.0, 1.0], [-50.0, 0.5]]), np.array([[1.0, 1.0], [0.5, -4.0]])
_x2, _w2, _s = smooth(_x, _w)
expect_close(
    _s,
    [10.0, 0.5],
    "s of channels with maxima 100 and 1, 1 and 4",
    look="a channel is a column of x and of w; its maximum is that of the magnitudes",
)
expect_close(_x2 @ _w2.T, _x @ _w.T, "the product", look="what one divides, the other multiplies")
print("Smoothing: the visible test passes.")

# %% hidden smooth 6 outside
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal

random = np.random.default_rng()


def coarse(a, bits=8):
    step = np.abs(a).max() / (2 ** (bits - 1) - 1)
    return step * np.rint(a / step)


def loss(x, w, product):
    return float(np.mean((coarse(x) @ coarse(w).T - product) ** 2))


for trial in range(6):
    n, outputs, k = (int(size) for size in random.integers(8, 40, 3))
    x = (random.normal(size=(n, k)) * 10 ** random.uniform(-2, 2, k)).astype(np.float32)
    w = (random.normal(size=(outputs, k)) * 10 ** random.uniform(-1, 1, k)).astype(np.float32)
    for alpha in (0.0, 0.3, 0.5, 1.0):
        what = f"x {x.shape}, w {w.shape}, alpha {alpha}"
        answer = student.smooth(x, w, alpha)
        expect(
            isinstance(answer, tuple | list) and len(answer) == 3,
            f"{what}: expected (x2, w2, s), got {type(answer).__name__}",
        )
        x2, w2, s = (np.asarray(part, np.float64) for part in answer)
        wanted = np.array(
            [
                float(max(abs(x[:, j]))) ** alpha / float(max(abs(w[:, j]))) ** (1 - alpha)
                for j in range(k)
            ]
        )
        expect_close(
            s, wanted, f"{what}: s", rtol=1e-6, look="one entry for each of the k channels"
        )
        expect_close(x2, x / wanted, f"{what}: the activations", rtol=1e-5)
        expect_close(w2, w * wanted, f"{what}: the weights", rtol=1e-5)
        product = x.astype(np.float64) @ w.astype(np.float64).T
        expect_close(
            x2 @ w2.T, product, f"{what}: the product", rtol=1e-6, atol=1e-6 * np.abs(product).max()
        )

x, w = random.normal(size=(64, 96)), random.normal(size=(48, 96)) * 0.1
x[:, [3, 40, 77]] *= 100
product = x @ w.T
x2, w2, _ = (np.asarray(part) for part in student.smooth(x, w))
gain = loss(x, w, product) / loss(x2, w2, product)
expect(
    gain >= 3,
    f"three channels are 100 times larger: the squared error of int8 falls {gain:.2f} times; 3 are asked for",
    "the activations are divided, the weights multiplied",
)
x[:, 5], w[:, 9] = 0, 0
x2, w2, s = (np.asarray(part) for part in student.smooth(x, w))
expect_close(s[[5, 9]], [1.0, 1.0], "s where a channel of x, or of w, is all 0")
expect(
    np.isfinite(x2).all() and np.isfinite(w2).all(), "empty channels: not all numbers are finite"
)
expect_close(x2 @ w2.T, x @ w.T, "empty channels: the product", rtol=1e-6, atol=1e-9)

# %% hints smooth [markdown]
# 1. Over which axis does the maximum run, if the channel is what x and w share?
# 2. `np.abs(x).max(axis=0)` and `np.abs(w).max(axis=0)` both have k entries.
# 3. Replace both maxima by 1 where either is 0 before you take powers; then `x / s` and `w * s`.

# %% [markdown]
# ## The whole, measured
#
# Now your parts together. A network is trained in floats, its hidden units are calibrated, and it is rounded to 8 and fewer bits, with
# one scale for a whole matrix or one for each row. BatchNorm, folded into the weights, leaves rows of very different size in real
# networks; here that is imitated by multiplying the rows of the first layer by factors from 0.1 to 10, and dividing the columns of the second: the
# function stays the same.

# %% measure
_pictures, _kinds = make_pictures(3000, 1)
_fresh, _answers = make_pictures(2000, 2)
_plain = train(new_net(0), _pictures, _kinds, float_forward, 300, 0.01)
_float = accuracy(float_forward, _plain, _fresh, _answers)


def _hidden(net, x):
    return torch.relu(x @ net[0].T + net[1]).detach().numpy()


def _limit(net):
    calibrator = Calibrator()
    for piece in torch.split(_pictures, 250):
        calibrator.add(_hidden(net, piece))
    return calibrator.limits("percentile", keep=0.998)[1]


def _rounded(bits, limit):
    return lambda net, x: rounded_forward(net, x, bits, limit, fake_quant)


found = {}
for bits in (8, 6, 5, 4, 3, 2):
    forward = _rounded(bits, _limit(_plain))
    found[bits] = accuracy(forward, _plain, _fresh, _answers)
    print(f"{bits} bits: {found[bits]:.1f} % right (floats: {_float:.1f} %)")
_forward = _rounded(3, _limit(_plain))
_tuned = train(_plain, _pictures, _kinds, _forward, 300, 0.01)
_back = accuracy(_forward, _tuned, _fresh, _answers)
print(f"3 bits, trained with the rounding in view: {_back:.1f} %")
print(
    f"lost at 3 bits: {_float - found[3]:.1f} points;"
    f" brought back: {(_back - found[3]) / (_float - found[3]):.0%}"
)

# %% measure
_w = _plain[0].detach().numpy() * np.geomspace(0.1, 10, HIDDEN)[:, None]


def _sqnr(bits, axis):
    """Decibels of signal over error: of all weights, and of the worst row."""
    limit = np.abs(_w).max() if axis is None else np.abs(_w).max(axis=1)
    scale, zero, qmin, qmax = qparams(-limit, limit, bits, symmetric=True)
    error = dequantise(quantise(_w, scale, zero, qmin, qmax, axis), scale, zero, axis) - _w
    ratio = (_w**2).sum(axis=1) / (error**2).sum(axis=1)
    return 10 * np.log10((_w**2).sum() / (error**2).sum()), 10 * np.log10(ratio.min())


for axis, name in ((None, "one scale for the matrix"), (0, "a scale for each row")):
    print(
        f"8 bits, {name}: {_sqnr(8, axis)[0]:.1f} dB over all, {_sqnr(8, axis)[1]:.1f} dB in the worst row"
    )
_bits = list(range(2, 9))
_step = {bits: np.abs(_w).max(axis=1) / (2 ** (bits - 1) - 1) for bits in _bits}
plot_vs(
    "signal over rounding error, a scale for each row (dB)",
    {b: 10 * np.log10((_w**2).sum() / (_step[b] ** 2 / 12 * _w.shape[1]).sum()) for b in _bits},
    {b: _sqnr(b, 0)[0] for b in _bits},
    "bits",
)

# %% measure
# The same network in 8-bit integers: no float between the codes of the input and the scores.
_w1, _b1, _w2, _b2 = (part.detach().numpy() for part in _plain)
_sx, _zx, _lo, _hi = qparams(float(_pictures.min()), float(_pictures.max()))
_sh, _zh, _, _ = qparams(0.0, _limit(_plain))
_layers = []
for _weights, _bias, _scale_in in ((_w1, _b1, _sx), (_w2, _b2, _sh)):
    _s, _z, _qmin, _qmax = qparams(
        -np.abs(_weights).max(axis=1), np.abs(_weights).max(axis=1), symmetric=True
    )
    _codes = quantise(_weights, _s, _z, _qmin, _qmax, axis=0)
    _layers.append((_codes, np.rint(_bias / (_s * _scale_in)).astype(np.int32), _s))
_pairs = [multiplier(float(s * _sx / _sh)) for s in _layers[0][2]]
_m, _shift = (np.array(part) for part in zip(*_pairs))

_x = quantise(_fresh.numpy(), _sx, _zx, _lo, _hi)
_acc = accumulate(_x, _layers[0][0], _layers[0][1], int(_zx), 0)
_h = requantise(_acc, _m, _shift, int(_zh), int(_zh), 127)
_scores = accumulate(_h, _layers[1][0], _layers[1][1], int(_zh), 0)
_right = 100 * np.mean((_scores * _layers[1][2]).argmax(axis=1) == _answers.numpy())
_same = 100 * np.mean(
    (_scores * _layers[1][2]).argmax(axis=1) == float_forward(_plain, _fresh).argmax(1).numpy()
)
print(f"integers: {_right:.1f} % right, floats {_float:.1f} %; the same answer for {_same:.1f} %")
_bytes = sum(part.nbytes for part in (_w1, _w2)), sum(layer[0].nbytes for layer in _layers)
print(f"weights: {_bytes[0]:,} bytes in floats, {_bytes[1]:,} in codes")

# %% written reading 5 [markdown]
# **Read your figures.** From how many bits on does rounding cost accuracy, and by how many decibels does the error change with each
# bit? Where does the measured line of decibels leave the law, and why? What did the scale for each row change, and for which rows? (Five to
# eight sentences.)
#
# ### BEGIN SOLUTION
# *2 points: 8 to 5 bits cost next to nothing, 3 and 2 bits cost much (own figures); each bit changes the signal-to-error ratio by about 6 dB, because the step halves.*
# *1 point: at 2 and 3 bits the error is no longer spread evenly over a step (few codes, most weights fall on code 0), so step^2/12 is off.*
# *2 points: one scale follows the largest row; the smallest rows get a handful of codes or only 0 (worst row near 0 dB), a scale for each row gives all rows the same; the sum over all weights hides this because large rows dominate it.*
# ### END SOLUTION

# %% written choice 5 [markdown]
# **Choose.** A model of 40 MB in float32 must fit into 10 MB on a phone whose processor multiplies int8 four times as fast as
# float32, and knows nothing of 2:4. You may lose one point of accuracy. Offer three plans from this lab (and the chapter), with the bytes and the
# arithmetic of each, say in which order you would try them, and what would make you give one up.
#
# ### BEGIN SOLUTION
# *2 points: int8 after training: 10 MB plus scales (a few kB with one for each row), arithmetic up to 4 times faster; try it first, costs minutes, give up when calibration on real samples loses more than a point; then int8 with training.*
# *2 points: int4 weights or 2:4 plus int8: 5 MB or 6.25 MB (values 5 MB, index 1.25 MB), but no faster on this processor, since neither is an operation that it has: bytes are saved, time is not.*
# *1 point: a smaller model taught by distillation, or structured pruning of channels: fewer bytes and less arithmetic on any processor, but needs a training run and data; last.*
# ### END SOLUTION
