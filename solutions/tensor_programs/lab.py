# ---
# title: Schedules for tensor programs
# hours: 7
# imports: [numpy, matplotlib.pyplot, autograder.labkit]
# ---

# %% [markdown]
# # Schedules for tensor programs
#
# Halide's authors report image pipelines up to five times faster than hand-tuned code, from programs that say *what* is computed apart from
# *in which order* (Ragan-Kelley and others, PLDI 2013); TVM brought the idea, and a machine that searches the orders, to neural
# networks (Chen and others, OSDI 2018). In this lab you build the whole chain at a size that fits on a page: a program of loops as plain
# data, an interpreter, the transformations, the rule that says which of them keep the meaning, a generator that prints NumPy, a cache
# that counts misses, and a tuner with a learned cost model. At the end it tunes a real matrix product.
#
# You need the chapter *Tensor programs: schedules and auto-tuning*. Every part is tested by itself: a mistake in one task costs that
# task only, and you may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# A product of two 256 × 256 matrices runs as a loop over square tiles, each tile one call of NumPy. Guess how many times longer it takes with
# tiles of 8 than with tiles of 128. And guess how many cache misses tiles of 8 save, against none, in a cache that holds four such tiles.

# %%
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread, so that times are comparable

from autograder.labkit import plot_vs, predict

predict("time at tile 8 / time at this tile", 1.0, "times")
predict("misses without tiles / misses with this tile", 1.0, "times")

# %% given
import itertools
import math
import random
import time
import zlib
from collections import OrderedDict

import numpy as np

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

# %% [markdown]
# ## What and how, as plain data
#
# The **algorithm** says what each element of the output is. An axis that the output does not have is a reduction. This is a matrix product:
#
# ```python
# {
#     "axes": {"i": 50, "j": 30, "k": 40},
#     "out": ["C", "i", "j"],
#     "value": ["*", ["load", "A", "i", "k"], ["load", "B", "k", "j"]],
#     "combine": "+",
# }
# ```
#
# The **schedule** says in which order. It has loops, outermost first, each from 0 to its extent; for each axis of the algorithm an expression
# of loop variables; and guards: an iteration does something only if each guard's expression is below its bound. Here `i` has been split by 16, and
# since 16 does not divide 50, the last iterations of `i_i` have nothing to do:
#
# ```python
# {
#     "loops": [["i_o", 4], ["j", 30], ["k", 40], ["i_i", 16]],
#     "binds": {"i": ["+", ["*", "i_o", 16], "i_i"], "j": "j", "k": "k"},
#     "guards": [[["+", ["*", "i_o", 16], "i_i"], 50]],
# }
# ```
#
# An expression is a name, a whole number, or `[operator, left, right]` with `+`, `*`, `//` or `%`. These tools for expressions are given:


# %% given
def evaluate(expr, names):
    """The number that an expression stands for, by the values of its names."""
    if isinstance(expr, str):
        return names[expr]
    if not isinstance(expr, list):
        return expr
    operator, left, right = expr[0], evaluate(expr[1], names), evaluate(expr[2], names)
    if operator == "+":
        return left + right
    if operator == "*":
        return left * right
    return left // right if operator == "//" else left % right


def substitute(expr, name, by):
    """The expression with `by` in the place of a name."""
    if isinstance(expr, list):
        return [expr[0], substitute(expr[1], name, by), substitute(expr[2], name, by)]
    return by if expr == name else expr


def text(expr):
    """The expression as Python text."""
    if isinstance(expr, list):
        return f"({text(expr[1])} {expr[0]} {text(expr[2])})"
    return str(expr)


def coefficient(expr, name):
    """By how much the expression grows with the name: 0 if it is not in there, None if not evenly."""
    if not isinstance(expr, list):
        return int(expr == name)
    left, right = coefficient(expr[1], name), coefficient(expr[2], name)
    if left == right == 0:
        return 0
    if None not in (left, right) and expr[0] == "+":
        return left + right
    if expr[0] == "*" and left and isinstance(expr[2], int):
        return left * expr[2]
    return None


def value_of(expr, names, arrays):
    """The value of the algorithm at one point of its axes."""
    if not isinstance(expr, list):
        return expr
    if expr[0] == "load":
        return arrays[expr[1]][tuple(evaluate(index, names) for index in expr[2:])]
    left, right = value_of(expr[1], names, arrays), value_of(expr[2], names, arrays)
    return left * right if expr[0] == "*" else left + right


def naive(algorithm):
    """The schedule that runs through the axes as they are written down."""
    axes = algorithm["axes"]
    return {
        "loops": [[axis, extent] for axis, extent in axes.items()],
        "binds": {axis: axis for axis in axes},
        "guards": [],
    }


def matmul(m, n, k):
    return {
        "axes": {"i": m, "j": n, "k": k},
        "out": ["C", "i", "j"],
        "value": ["*", ["load", "A", "i", "k"], ["load", "B", "k", "j"]],
        "combine": "+",
    }


def convolution(size, width):
    """A one-dimensional convolution: y[i] = sum over r of x[i + r] w[r]."""
    return {
        "axes": {"i": size, "r": width},
        "out": ["y", "i"],
        "value": ["*", ["load", "x", ["+", "i", "r"]], ["load", "w", "r"]],
        "combine": "+",
    }


def pooling(rows, columns, window):
    """The maximum of each window of an image, without overlap."""
    i, j = ["+", ["*", "i", window], "r"], ["+", ["*", "j", window], "s"]
    return {
        "axes": {"i": rows, "j": columns, "r": window, "s": window},
        "out": ["y", "i", "j"],
        "value": ["load", "x", i, j],
        "combine": "max",
    }


# %% [markdown]
# ## Task 1. What a schedule means
#
# Two small functions define the meaning of everything that follows; later you can test each transformation against them.
#
# - `points(schedule) -> list[tuple]`: the values of the axes, in the order of `binds`, for each iteration that the guards let pass, in the order of
#   execution (the last loop runs fastest). A loop of extent 0 has no iterations.
# - `interpret(algorithm, schedule, arrays) -> ndarray`: runs the algorithm point by point and returns the output, a float64 array with the extents of its
#   axes. It starts as 0 for `"+"` and as `-inf` for `"max"`; each point's value is combined into its element. `arrays` maps the names of the
#   inputs to arrays and stays as it is.


# %% task interpret
def points(schedule):
    """The axes' values of each iteration that does something, in order."""
    ### BEGIN SOLUTION
    names = [name for name, _ in schedule["loops"]]
    found = []
    for values in itertools.product(*(range(extent) for _, extent in schedule["loops"])):
        at = dict(zip(names, values))
        if all(evaluate(expr, at) < bound for expr, bound in schedule["guards"]):
            found.append(tuple(evaluate(bind, at) for bind in schedule["binds"].values()))
    return found
    ### END SOLUTION


def interpret(algorithm, schedule, arrays):
    """The output of the algorithm, computed in the order of the schedule."""
    ### BEGIN SOLUTION
    shape = [algorithm["axes"][axis] for axis in algorithm["out"][1:]]
    adds = algorithm["combine"] == "+"
    out = np.full(shape, 0.0 if adds else -np.inf)
    for point in points(schedule):
        names = dict(zip(schedule["binds"], point))
        place = tuple(names[axis] for axis in algorithm["out"][1:])
        value = value_of(algorithm["value"], names, arrays)
        out[place] = out[place] + value if adds else max(out[place], value)
    return out
    ### END SOLUTION


# %% test interpret 3
_split = {
    "loops": [["i_o", 2], ["j", 2], ["i_i", 2]],
    "binds": {"i": ["+", ["*", "i_o", 2], "i_i"], "j": "j"},
    "guards": [[["+", ["*", "i_o", 2], "i_i"], 3]],
}
expect_equal(
    [tuple(point) for point in points(_split)],
    [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)],
    "points (i, j) of loops i_o < 2, j < 2, i_i < 2 with the guard 2 i_o + i_i < 3",
    "the last loop runs fastest; a guard skips an iteration",
)
_A, _B = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
_product = matmul(2, 4, 3)
expect_close(
    interpret(_product, naive(_product), {"A": _A, "B": _B}), _A @ _B, "a 2 x 3 by 3 x 4 product"
)
_pool = pooling(1, 2, 2)
expect_close(
    interpret(_pool, naive(_pool), {"x": np.array([[-5.0, -2, -9, -8], [-3, -4, -6, -7]])}),
    [[-2.0, -6.0]],
    "the maxima of two windows of negative numbers",
    look="what a maximum starts from",
)
print("The interpreter: the visible test passes.")

# %% hidden interpret 9 outside
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal

ref = reference()
dice = np.random.default_rng(1)

two_levels = {
    "loops": [["i_o", 3], ["k", 4], ["i_i_o", 3], ["j", 3], ["i_i_i", 2]],
    "binds": {
        "i": ["+", ["*", "i_o", 5], ["+", ["*", "i_i_o", 2], "i_i_i"]],
        "j": "j",
        "k": "k",
    },
    "guards": [
        [["+", ["*", "i_o", 5], ["+", ["*", "i_i_o", 2], "i_i_i"]], 11],
        [["+", ["*", "i_i_o", 2], "i_i_i"], 5],
    ],
}
fused = {
    "loops": [["k", 4], ["i_j", 33]],
    "binds": {"i": ["//", "i_j", 3], "j": ["%", "i_j", 3], "k": "k"},
    "guards": [],
}
product = ref.matmul(11, 3, 4)
backwards = {
    "loops": [["t", 11], ["j", 3], ["k", 4]],
    "binds": {"i": ["+", 10, ["*", "t", -1]], "j": "j", "k": "k"},
    "guards": [],
}
arrays = {"A": dice.normal(size=(11, 4)), "B": dice.normal(size=(4, 3))}
for schedule, what in [
    (ref.naive(product), "the naive schedule"),
    (two_levels, "two splits by numbers that do not divide, with a guard each"),
    (fused, "k outermost, i and j fused"),
    (backwards, "i from its end"),
]:
    found = [tuple(int(value) for value in point) for point in student.points(schedule)]
    expect_equal(
        found,
        ref.points(schedule),
        f"{what}: the points, in order",
        "the last loop runs fastest; an iteration counts if each guard is below its bound",
    )
    expect_close(
        student.interpret(product, schedule, arrays),
        arrays["A"] @ arrays["B"],
        f"{what}: an 11 x 4 by 4 x 3 product",
        rtol=1e-9,
        atol=1e-12,
        look="each element starts once, not whenever k is 0 or innermost",
    )
empty = {"loops": [["i", 0], ["j", 4]], "binds": {"i": "i", "j": "j"}, "guards": []}
expect_equal(list(student.points(empty)), [], "the points of a loop of extent 0")

half = {"loops": [["i", 3], ["j", 2], ["k", 4]], "binds": {a: a for a in "ijk"}, "guards": []}
half["guards"] = [["i", 2], [["+", "j", "k"], 4]]
small = {"A": dice.normal(size=(3, 4)), "B": dice.normal(size=(4, 2))}
expect_close(
    student.interpret(ref.matmul(3, 2, 4), half, small),
    ref.interpret(ref.matmul(3, 2, 4), half, small),
    "a product of which two guards leave a part: untouched elements stay 0",
    rtol=1e-9,
)
filtered = ref.convolution(9, 4)
signal = {"x": dice.normal(size=12), "w": dice.normal(size=4)}
before = {name: array.copy() for name, array in signal.items()}
expect_close(
    student.interpret(filtered, ref.naive(filtered), signal),
    np.correlate(signal["x"], signal["w"], "valid"),
    "a convolution of 12 numbers with 4",
    rtol=1e-9,
)
expect_equal(signal["x"], before["x"], "the input, afterwards")
image = -1 - dice.random((6, 8))
pool = ref.pooling(2, 4, 2)
pooled = image[:4].reshape(2, 2, 4, 2).max(axis=(1, 3))
got = student.interpret(pool, ref.naive(pool), {"x": image[:4]})
expect_close(got, pooled, "maximum pooling of negative numbers", look="-inf")
expect(got.dtype == np.float64, f"interpret returns {got.dtype}, not float64")
integers = {"A": np.array([[1, 2]]), "B": np.array([[3], [4]])}
got = student.interpret(ref.matmul(1, 1, 2), ref.naive(ref.matmul(1, 1, 2)), integers)
expect(got.dtype == np.float64, f"with integer inputs interpret returns {got.dtype}, not float64")

# %% hints interpret [markdown]
# 1. A schedule with two loops is two nested `for`s. How would you write any number of them with one?
# 2. `itertools.product(*(range(extent) for _, extent in loops))` runs the last range fastest, as loops do.
# 3. For each tuple of loop values: a dictionary from loop name to value; check `evaluate(expr, names) < bound` for all guards; evaluate the binds. In
#    `interpret`, make the whole output first, then combine each point's `value_of(...)` into `out[place]`.

# %% [markdown]
# ## Task 2. Split, fuse, reorder
#
# Each takes a schedule and returns a new one; the old stays as it is. The same points must be visited, each once.
#
# - `split(schedule, loop, factor)`: in the place of `loop` stand `loop_o` and `loop_i` (say `i_o` and `i_i`), of which the inner has the extent `factor` and the
#   outer just as much as it needs: `loop = loop_o * factor + loop_i`. If `factor` does not divide the extent, and only then, a guard is added.
# - `fuse(schedule, outer, inner)`: two loops of which `inner` stands directly inside `outer` become one, `outer_inner` (say `i_j`), in the same order of
#   points.
# - `reorder(schedule, order)`: the loops named in `order` take the places that they have together, in the new order. Loops that are not named stay where
#   they are.
#
# An unknown loop, a factor below 1, loops that do not stand next to each other, or a loop named twice raise `ValueError`. Mind that a loop can appear in
# binds **and** in guards, and that it can be split again.


# %% task transform
def split(schedule, loop, factor):
    """One loop becomes two."""
    ### BEGIN SOLUTION
    extents = dict(schedule["loops"])
    if loop not in extents or factor < 1:
        raise ValueError(f"cannot split {loop} by {factor}")
    outer, inner, extent = f"{loop}_o", f"{loop}_i", extents[loop]
    whole = ["+", ["*", outer, factor], inner]
    new = _replace(schedule, loop, whole)
    if extent % factor:
        new["guards"].append([whole, extent])
    at = list(extents).index(loop)
    new["loops"][at : at + 1] = [[outer, -(-extent // factor)], [inner, factor]]
    return new


def _replace(schedule, loop, by):
    """A copy in which an expression stands for a loop; its loops are still the old ones."""
    return {
        "loops": [list(pair) for pair in schedule["loops"]],
        "binds": {axis: substitute(e, loop, by) for axis, e in schedule["binds"].items()},
        "guards": [[substitute(e, loop, by), bound] for e, bound in schedule["guards"]],
    }
    ### END SOLUTION


def fuse(schedule, outer, inner):
    """Two loops become one."""
    ### BEGIN SOLUTION
    names = [name for name, _ in schedule["loops"]]
    if outer not in names or inner not in names or names.index(inner) != names.index(outer) + 1:
        raise ValueError(f"{inner} does not stand directly inside {outer}")
    at = names.index(outer)
    fused, (many, few) = f"{outer}_{inner}", (pair[1] for pair in schedule["loops"][at : at + 2])
    new = _replace(schedule, outer, ["//", fused, few])
    new = _replace(new, inner, ["%", fused, few])
    new["loops"][at : at + 2] = [[fused, many * few]]
    return new
    ### END SOLUTION


def reorder(schedule, order):
    """The named loops change places among themselves."""
    ### BEGIN SOLUTION
    extents = dict(schedule["loops"])
    if len(set(order)) != len(order) or not set(order) <= set(extents):
        raise ValueError(f"not an order of different loops: {order}")
    coming = iter(order)
    names = [next(coming) if name in order else name for name in extents]
    new = _replace(schedule, None, None)
    new["loops"] = [[name, extents[name]] for name in names]
    return new
    ### END SOLUTION


# %% test transform 4
_start = naive({"axes": {"i": 5, "j": 3}})
_split = split(_start, "i", 2)
expect_equal(
    [list(pair) for pair in _split["loops"]],
    [["i_o", 3], ["i_i", 2], ["j", 3]],
    "the loops after split(i, 2), i < 5",
)
expect_equal(len(_split["guards"]), 1, "guards after split(i, 2): 2 does not divide 5")
expect_equal(len(split(_start, "j", 3)["guards"]), 0, "guards after split(j, 3): 3 divides 3")
_at = {"i_o": 2, "i_i": 0, "j": 1}
expect_equal(evaluate(_split["binds"]["i"], _at), 4, "what i is at i_o = 2, i_i = 0")
_fused = fuse(_start, "i", "j")
expect_equal([list(pair) for pair in _fused["loops"]], [["i_j", 15]], "the loops after fuse(i, j)")
expect_equal(
    [evaluate(_fused["binds"][axis], {"i_j": 7}) for axis in "ij"],
    [2, 1],
    "(i, j) at i_j = 7, j < 3",
    "i is the quotient and j the remainder, by the extent of which of the two?",
)
_moved = reorder(_split, ["j", "i_o"])
expect_equal(
    [name for name, _ in _moved["loops"]],
    ["j", "i_i", "i_o"],
    "i_o, i_i, j after reorder([j, i_o])",
    "i_i is not named and stays where it is",
)
expect_equal(_start, naive({"axes": {"i": 5, "j": 3}}), "the schedule that was passed in")
expect_raises(ValueError, lambda: split(_start, "z", 2), "a loop that does not exist")
print("The transformations: the visible test passes.")

# %% hidden transform 12 outside
import copy
import math
import random

from autograder.labkit import expect, expect_equal, expect_raises

ref = reference()
dice = random.Random(11)


def names_in(expr):
    if isinstance(expr, list):
        return names_in(expr[1]) | names_in(expr[2])
    return {expr} if isinstance(expr, str) else set()


def compare(got, oracle, what):
    loops = [[str(name), int(extent)] for name, extent in got["loops"]]
    expect_equal(loops, oracle["loops"], f"{what}: the loops")
    expect_equal(len(got["guards"]), len(oracle["guards"]), f"{what}: the number of guards")
    expect_equal(list(got["binds"]), list(oracle["binds"]), f"{what}: the axes that are bound")
    used = [*got["binds"].values(), *(expr for expr, _ in got["guards"])]
    strangers = set().union(*map(names_in, used)) - {name for name, _ in loops}
    expect(
        not strangers,
        f"{what}: {', '.join(sorted(strangers))} in a bind or a guard, but no such loop is left",
        "substitute the new expression in guards too",
    )
    there, here = ref.points(got), ref.points(oracle)
    expect(
        len(set(there)) == len(there),
        f"{what}: {len(there) - len(set(there))} points are visited twice",
        "a loop that is split again needs its own guard, and old guards need the new expression",
    )
    expect_equal(there, here, f"{what}: the points, in order")


def refuses(name, args, what):
    expect_raises(ValueError, lambda: getattr(student, name)(*args), what)


start = ref.naive({"axes": {"i": 10, "j": 4}})
again = ref.split(start, "i", 4)
compare(student.split(again, "i_i", 3), ref.split(again, "i_i", 3), "i < 10 split by 4, i_i by 3")
compare(student.split(start, "i", 16), ref.split(start, "i", 16), "i < 10 split by 16")
compare(student.split(start, "i", 1), ref.split(start, "i", 1), "i < 10 split by 1")
pair = ref.fuse(ref.split(ref.naive({"axes": {"i": 7, "j": 3}}), "i", 3), "i_i", "j")
compare(student.split(pair, "i_i_j", 4), ref.split(pair, "i_i_j", 4), "a fused loop, split")
three = ref.naive({"axes": {"a": 2, "b": 3, "c": 4, "d": 2}})
compare(
    student.reorder(three, ["d", "a"]), ref.reorder(three, ["d", "a"]), "a, b, c, d: reorder [d, a]"
)
compare(
    student.reorder(three, ["c", "d", "a"]),
    ref.reorder(three, ["c", "d", "a"]),
    "a, b, c, d: reorder [c, d, a]",
)

for trial in range(60):
    sizes = {axis: dice.randrange(1, 8) for axis in "ijk"[: dice.randrange(1, 4)]}
    schedule, done = ref.naive({"axes": sizes}), []
    for _ in range(4):
        names = [name for name, _ in schedule["loops"]]
        action = dice.choice(["split", "split", "fuse", "reorder"])
        if action == "split" and len(names) < 6:
            args = (dice.choice(names), dice.randrange(1, 6))
        elif action == "fuse" and len(names) > 1:
            at = dice.randrange(len(names) - 1)
            args = (names[at], names[at + 1])
        else:
            action = "reorder"
            args = (dice.sample(names, dice.randrange(len(names) + 1)),)
        done.append(f"{action}{args}")
        given = copy.deepcopy(schedule)
        oracle = getattr(ref, action)(schedule, *args)
        if math.prod(extent for _, extent in oracle["loops"]) > 3000:
            break
        compare(getattr(student, action)(given, *args), oracle, f"{sizes}, {', '.join(done)}")
        schedule = oracle

refuses("split", (start, "k", 2), "splitting a loop that does not exist")
refuses("split", (start, "i", 0), "splitting by 0")
refuses("fuse", (start, "j", "i"), "fusing j with i, where i is the outer one")
refuses("fuse", (three, "a", "c"), "fusing a with c, with b between them")
refuses("fuse", (three, "a", "z"), "fusing with a loop that does not exist")
refuses("reorder", (three, ["a", "z"]), "reordering a loop that does not exist")
refuses("reorder", (three, ["a", "b", "a"]), "an order that names a loop twice")

# %% hints transform [markdown]
# 1. Write down `i` for each value of the new loops, by hand, for an extent of 5 and a factor of 2. Which iterations are too many?
# 2. `substitute` puts an expression in the place of a name, in binds and in guards. Copy first: lists in lists are shared otherwise.
# 3. Split: `whole = ["+", ["*", outer, factor], inner]` replaces the loop everywhere; the guard, if the extent is no multiple, is `[whole, extent]` with the extent of
#    **this loop**, not of the axis. Fuse: `["//", fused, n]` and `["%", fused, n]` with the extent `n` of the inner loop. Reorder: walk through the old names and take the
#    next of `order` wherever a named one stands.

# %% [markdown]
# ## Task 3. What may be reordered?
#
# For a matrix product any order will do, up to rounding. For a loop that reads what another iteration has written, it will not. Take one statement in a nest of
# loops that updates an array in place, such as (a step of Gauss-Seidel)
#
# ```python
# for i in range(...):
#     for j in range(...):
#         A[i, j] = f(A[i - 1, j], A[i, j + 1])
# ```
#
# Iteration `p` writes element `p + w` and reads the elements `p + r` for some offsets `r`; here `w = (0, 0)` and the reads are `(-1, 0)` and `(0, 1)`. Whenever two iterations touch the
# same element and one of them writes, the order of the two must be kept. The **distance** is the later minus the earlier (by the order of the nest as
# written), so its first component that is not 0 is positive.
#
# - `distances(write, reads) -> list[tuple]`: the different distances that are not all 0, sorted. Here `[(0, 1), (1, 0)]`: the next iteration of `j` overwrites what this one
#   has read, and the next of `i` reads what this one writes.
# - `legal(distances, order) -> bool`: may the loops run in this order? `order[p]` is the number of the old loop at the new place `p`, 0 is outermost.
# - `parallel(distances, order) -> list[int]`: the places `p` whose iterations may run at the same time, the loops outside of it one after the other. `ValueError` if the order is not legal.
# - `tileable(distances) -> bool`: may all loops be split and the inner parts moved inside, whatever the tile? (That is so if no component of any distance is negative.)
# - `skew(distances) -> int`: for two loops: the smallest `f ≥ 0` for which the nest with `j + f·i` in the place of `j` is tileable.


# %% task legality
def distances(write, reads):
    """The dependence distances of a statement, each once, sorted."""
    ### BEGIN SOLUTION
    found = set()
    for read in reads:
        distance = tuple(w - r for w, r in zip(write, read))
        if any(distance):
            found.add(max(distance, tuple(-part for part in distance)))
    return sorted(found)
    ### END SOLUTION


def legal(distances, order):
    """Whether the order keeps every dependence."""
    ### BEGIN SOLUTION
    still = (0,) * len(order)
    return all(tuple(distance[loop] for loop in order) > still for distance in distances)
    ### END SOLUTION


def parallel(distances, order):
    """The places whose loop carries no dependence."""
    ### BEGIN SOLUTION
    if not legal(distances, order):
        raise ValueError(f"the order {order} breaks a dependence")
    carriers = {
        next(place for place, loop in enumerate(order) if distance[loop]) for distance in distances
    }
    return [place for place in range(len(order)) if place not in carriers]
    ### END SOLUTION


def tileable(distances):
    """Whether all loops of the nest can be tiled together."""
    ### BEGIN SOLUTION
    return all(part >= 0 for distance in distances for part in distance)
    ### END SOLUTION


def skew(distances):
    """By how much the inner loop must be skewed before the two can be tiled."""
    ### BEGIN SOLUTION
    return max([0, *(-(b // a) for a, b in distances if a)])
    ### END SOLUTION


# %% test legality 4
_found = distances((0, 0), [(-1, 0), (0, 1)])
expect_equal(
    [tuple(distance) for distance in _found],
    [(0, 1), (1, 0)],
    "the distances of A[i, j] = f(A[i - 1, j], A[i, j + 1])",
    "later minus earlier: the first component that is not 0 is positive",
)
expect_equal(legal([(1, -1)], [0, 1]), True, "distance (1, -1), the order as written: legal")
expect_equal(legal([(1, -1)], [1, 0]), False, "distance (1, -1), loops exchanged: legal", "(-1, 1)")
expect_equal(
    list(parallel([(1, 0)], [0, 1])), [1], "distance (1, 0): places that can run in parallel"
)
expect_equal(
    list(parallel([(1, 0)], [1, 0])),
    [0],
    "distance (1, 0), loops exchanged: places that can run in parallel",
    "a place counts from the outermost loop of the new order; loop 1 stands at place 0 now",
)
expect_equal(tileable([(1, -1)]), False, "distance (1, -1): tileable")
expect_equal(skew([(1, -1), (1, 0)]), 1, "distances (1, -1) and (1, 0): the skew")
print("Legality: the visible test passes.")

# %% hidden legality 11 outside
import itertools
import random

from autograder.labkit import expect_equal, expect_raises

ref = reference()
dice = random.Random(23)


def touching(write, reads, size):
    """All pairs of iterations that touch one element, one of them writing: earlier and later."""
    everywhere = list(itertools.product(range(size), repeat=len(write)))
    writer = {tuple(p + w for p, w in zip(point, write)): point for point in everywhere}
    pairs = set()
    for point in everywhere:
        for read in reads:
            other = writer.get(tuple(p + r for p, r in zip(point, read)))
            if other is not None and other != point:
                pairs.add((min(point, other), max(point, other)))
    return pairs


def as_tuples(found):
    return [tuple(int(part) for part in distance) for distance in found]


def some(depth):
    def offset():
        return tuple(dice.choice([-2, -1, 0, 0, 1, 2]) for _ in range(depth))

    return offset(), [offset() for _ in range(dice.randrange(1, 4))]


nests = [
    ((0, 0), [(-1, 0), (0, -1)]),  # a wavefront
    ((0, 0), [(0, 0)]),  # elementwise
    ((1, 0), [(0, -1), (0, 0), (0, 1)]),  # a step of the heat equation
    ((0, 0), [(-1, 1)]),
    ((0, 0), [(0, 1)]),  # only overwritten later
    ((0, 0, 0), [(-1, 1, 0), (0, -1, 2)]),
]
nests += [some(depth) for depth in (1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3)]
for write, reads in nests:
    what = f"write {write}, reads {reads}"
    pairs = touching(write, reads, 7)
    true = sorted({tuple(b - a for a, b in zip(*pair)) for pair in pairs})
    expect_equal(as_tuples(student.distances(write, reads)), true, f"{what}: the distances")
    for order in itertools.permutations(range(len(write))):
        moved = [[tuple(point[loop] for loop in order) for point in pair] for pair in pairs]
        kept = all(first < later for first, later in moved)
        said = student.legal(true, list(order))
        expect_equal(bool(said), kept, f"distances {true}, order {list(order)}: legal")
        if not kept:
            expect_raises(
                ValueError,
                lambda true=true, order=order: student.parallel(true, list(order)),
                f"parallel of distances {true} in the illegal order {list(order)}",
            )
            continue
        free = [
            place
            for place in range(len(order))
            if all(
                first[:place] != later[:place] or first[place] == later[place]
                for first, later in moved
            )
        ]
        expect_equal(
            [int(place) for place in student.parallel(true, list(order))],
            free,
            f"distances {true}, order {list(order)}: the parallel places",
            "places of the new order, ascending, and not numbers of old loops; a dependence that an"
            " outer loop already keeps does not bind an inner one",
        )
    tiled = all(part >= 0 for distance in true for part in distance)
    expect_equal(
        bool(student.tileable(true)), tiled, f"distances {true}: tileable", "0 does no harm"
    )
    if len(write) == 2:
        least = next(f for f in range(99) if all(b + f * a >= 0 and (a or b > 0) for a, b in true))
        expect_equal(int(student.skew(true)), least, f"distances {true}: the skew")
for found, least in [
    ([(2, -1)], 1),
    ([(2, -3)], 2),
    ([(3, -6), (1, 4)], 2),
    ([(0, 1)], 0),
    ([], 0),
]:
    expect_equal(
        int(student.skew(found)), least, f"distances {found}: the skew", "round up, not down"
    )
expect_equal(bool(student.legal([(0, 0, 1)], [2, 1, 0])), True, "a sum over k, k moved outermost")
expect_equal(
    [int(place) for place in student.parallel([(0, 0, 1)], [2, 0, 1])],
    [1, 2],
    "a sum over k, order k, i, j: the parallel places",
    "k carries the reduction",
)

# %% hints legality [markdown]
# 1. Iterations `p` (writes `p + w`) and `q` (reads `q + r`) meet where `q - p = w - r`. Which of the two comes first?
# 2. Tuples compare lexicographically in Python, which is the order of the iterations of a nest. An order is legal if each permuted distance is still greater than
#    `(0, 0, ...)`.
# 3. A distance is *carried* by the first place at which its permuted form is not 0; all places that carry none are parallel. Skewing turns `(a, b)` into
#    `(a, b + f·a)`: solve for the least `f`, over all distances with `a > 0`, rounding up.

# %% [markdown]
# ## Task 4. Print the program
#
# An interpreter pays for every point. A code generator pays once: it writes a Python function whose innermost loops have become slices, so that NumPy runs them.
#
# `emit(algorithm, schedule, vector) -> str`: the source of `kernel(arrays)`, where `arrays` maps all names to arrays, the output (already holding its first values)
# included; it updates the output in place. The last `vector` loops are slices, the others are `for` loops, in their order.
#
# - Only for sums of products of loads whose indices are plain axes. `statement` (given) writes the innermost line, if you say what stands for each axis in a
#   subscript: `"i"` for a single value, `"i_from:i_to"` for a slice.
# - A vector loop must have the coefficient 1 in exactly one bind, no bind may have two vector loops, and a guard at most one, with the coefficient 1. Otherwise: `ValueError`.
# - A guard without vector loops is an `if`. A guard with one cuts the slice short. A slice that is cut to nothing does nothing.


# %% given
def loads(expr):
    """The loads of a product."""
    return [expr] if expr[0] == "load" else loads(expr[1]) + loads(expr[2])


def array_names(algorithm):
    """The names of all arrays of an algorithm, the output last."""
    names = [load[1] for load in loads(algorithm["value"])]
    return [*dict.fromkeys(names), algorithm["out"][0]]


def statement(algorithm, index, sliced):
    """The innermost line: `index` maps axes to subscripts, `sliced` has the axes that are slices."""

    def subscript(name, axes):
        return f"{name}[{', '.join(index[axis] for axis in axes)}]"

    out = algorithm["out"]
    parts = loads(algorithm["value"])
    operands = [subscript(load[1], load[2:]) for load in parts]
    forms = ["".join(a for a in load[2:] if a in sliced) for load in parts]
    result = "".join(a for a in out[1:] if a in sliced)
    if len(forms) == 2 and [len(form) for form in forms] == [2, 2]:
        if forms[0][1] == forms[1][0] and result == forms[0][0] + forms[1][1]:
            return f"{subscript(out[0], out[1:])} += {operands[0]} @ {operands[1]}"
    if not any(forms):
        return f"{subscript(out[0], out[1:])} += {' * '.join(operands)}"
    equation = ",".join(forms) + "->" + result
    return f"{subscript(out[0], out[1:])} += np.einsum({equation!r}, {', '.join(operands)})"


def compiled(source):
    """The function `kernel` of a source."""
    names = {"np": np}
    exec(source, names)
    return names["kernel"]


# %% task emit
def emit(algorithm, schedule, vector):
    """The source of a kernel whose last `vector` loops are slices."""
    ### BEGIN SOLUTION
    cut = len(schedule["loops"]) - vector
    outer, inner = schedule["loops"][:cut], dict(schedule["loops"][cut:])

    def vectors_in(expr):
        found = {name: coefficient(expr, name) for name in inner}
        found = {name: step for name, step in found.items() if step != 0}
        if len(found) > 1 or any(step != 1 for step in found.values()):
            raise ValueError(f"cannot be written as a slice: {text(expr)}")
        return next(iter(found), None)

    def start(expr):
        for name in inner:
            expr = substitute(expr, name, 0)
        return text(expr)

    home = {axis: vectors_in(bind) for axis, bind in schedule["binds"].items()}
    bound = [name for name in home.values() if name]
    if sorted(bound) != sorted(inner):
        raise ValueError("each vector loop must belong to one axis")
    limits = {name: [str(extent)] for name, extent in inner.items()}
    tests = []
    for expr, below in schedule["guards"]:
        name = vectors_in(expr)
        if name:
            limits[name].append(f"{below} - {start(expr)}")
        else:
            tests.append(f"{text(expr)} < {below}")
    lines = ["def kernel(arrays):"]
    lines += [f"    {name} = arrays[{name!r}]" for name in array_names(algorithm)]
    pad = "    "
    for name, extent in outer:
        lines.append(f"{pad}for {name} in range({extent}):")
        pad += "    "
    if tests:
        lines.append(f"{pad}if {' and '.join(tests)}:")
        pad += "    "
    index = {}
    for number, (axis, bind) in enumerate(schedule["binds"].items()):
        at, name = f"at{number}", home[axis]
        lines.append(f"{pad}{at} = {start(bind)}")
        index[axis] = at
        if name:
            length = (
                f"max(0, min({', '.join(limits[name])}))" if limits[name][1:] else limits[name][0]
            )
            lines.append(f"{pad}to{number} = {at} + {length}")
            index[axis] = f"{at}:to{number}"
    sliced = {axis for axis, name in home.items() if name}
    lines.append(pad + statement(algorithm, index, sliced))
    return "\n".join(lines)
    ### END SOLUTION


# %% test emit 4
_product = matmul(6, 5, 4)
_tiles = {
    "loops": [["i_o", 3], ["j", 5], ["i_i", 2], ["k", 4]],
    "binds": {"i": ["+", ["*", "i_o", 2], "i_i"], "j": "j", "k": "k"},
    "guards": [],
}
_source = emit(_product, _tiles, 2)
expect(
    isinstance(_source, str) and "def kernel(" in _source, "emit must give a source with a kernel"
)
print(_source)
_arrays = {"A": np.arange(24.0).reshape(6, 4), "B": np.ones((4, 5)), "C": np.zeros((6, 5))}
compiled(_source)(_arrays)
expect_close(
    _arrays["C"],
    _arrays["A"] @ _arrays["B"],
    "the kernel of a 6 x 4 by 4 x 5 product, i_i, k sliced",
)
_tiles["loops"][0], _tiles["loops"][2] = ["i_o", 2], ["i_i", 4]
_tiles["binds"]["i"] = ["+", ["*", "i_o", 4], "i_i"]
_tiles["guards"] = [[["+", ["*", "i_o", 4], "i_i"], 6]]
_arrays["C"][:] = 0
compiled(emit(_product, _tiles, 2))(_arrays)
expect_close(
    _arrays["C"],
    _arrays["A"] @ _arrays["B"],
    "the same with i split by 4, which does not divide 6",
    look="the guard 4 i_o + i_i < 6 cuts the slice of i short",
)
_fused = {"loops": [["k", 4], ["i_j", 30]], "guards": []}
_fused["binds"] = {"i": ["//", "i_j", 5], "j": ["%", "i_j", 5], "k": "k"}
expect_raises(ValueError, lambda: emit(_product, _fused, 1), "a fused loop as a slice")
print("The generator: the visible test passes.")

# %% hidden emit 12
import sys

ref = reference()
draw = np.random.default_rng(31)


def lines_run(call):
    """How many lines of kernels a call executes."""
    count = [0]

    def watch(frame, event, arg):
        if frame.f_code.co_name != "kernel":
            return None
        count[0] += event == "line"
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        call()
    finally:
        sys.settrace(before)
    return count[0]


def trial(algorithm, schedule, vector, what, most=2.0):
    source = emit(algorithm, schedule, vector)
    shapes = {}
    for load in [*ref.loads(algorithm["value"]), ["load", *algorithm["out"]]]:
        shapes[load[1]] = [algorithm["axes"][axis] for axis in load[2:]]
    arrays = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    out = algorithm["out"][0]
    expected = arrays[out] + ref.interpret(algorithm, ref.naive(algorithm), arrays)
    kept = {name: array.copy() for name, array in arrays.items() if name != out}
    kernel = ref.compiled(source)
    lines = lines_run(lambda: kernel(arrays))
    expect_close(
        arrays[out],
        expected,
        f"{what}: what the kernel adds to the output",
        rtol=1e-9,
        atol=1e-9,
        look="the output already holds numbers: add to them; a guard with a sliced loop cuts the slice",
    )
    for name, array in kept.items():
        expect_equal(arrays[name], array, f"{what}: the input {name}, afterwards")
    oracle = ref.compiled(ref.emit(algorithm, schedule, vector))
    arrays[out][...] = 0
    allowed = most * lines_run(lambda: oracle(arrays)) + 20
    expect(
        lines <= allowed,
        f"{what}: the kernel executes {lines} lines, {allowed:.0f} are allowed",
        "the vector loops must be slices, not for loops",
    )


def tiled(algorithm, factors, order):
    schedule = ref.naive(algorithm)
    for axis, factor in factors.items():
        schedule = ref.split(schedule, axis, factor)
    return ref.reorder(schedule, order)


product = ref.matmul(24, 18, 12)
even = tiled(product, {"i": 8, "j": 6, "k": 4}, ["i_o", "j_o", "k_o", "i_i", "j_i", "k_i"])
for vector in range(4):
    trial(product, even, vector, f"tiles 8, 6, 4 of 24 x 18 x 12, {vector} loops sliced")
odd = ref.matmul(23, 17, 13)
uneven = tiled(odd, {"i": 8, "j": 6, "k": 4}, ["k_o", "j_o", "i_o", "k_i", "j_i", "i_i"])
for vector in range(4):
    trial(odd, uneven, vector, f"tiles 8, 6, 4 of 23 x 17 x 13, {vector} loops sliced")
twice = tiled(odd, {"i": 10, "j": 5}, ["i_o", "j_o", "k", "i_i", "j_i"])
twice = ref.split(twice, "i_i", 4)
twice = ref.reorder(twice, ["i_i_o", "j_i", "i_i_i"])
for vector in range(3):
    trial(odd, twice, vector, f"i split by 10 and again by 4, {vector} loops sliced")
deep = ref.split(ref.split(ref.naive(ref.matmul(5, 3, 2)), "i", 4), "i_i", 3)
deep = ref.reorder(deep, ["i_o", "i_i_o", "j", "k", "i_i_i"])
trial(ref.matmul(5, 3, 2), deep, 1, "5 rows split by 4 and by 3: some slices are cut to nothing")
outer = ref.fuse(tiled(odd, {"i": 8, "j": 6}, ["i_o", "j_o", "k", "i_i", "j_i"]), "i_o", "j_o")
trial(odd, outer, 2, "the outer loops fused, two sliced")
vector_only = {
    "axes": {"i": 9, "j": 7},
    "out": ["y", "i"],
    "value": ["*", ["load", "M", "i", "j"], ["load", "x", "j"]],
    "combine": "+",
}
trial(vector_only, ref.split(ref.naive(vector_only), "j", 3), 1, "a matrix times a vector")
batched = {
    "axes": {"b": 3, "i": 4, "j": 5, "k": 6},
    "out": ["C", "b", "i", "j"],
    "value": ["*", ["load", "A", "b", "i", "k"], ["load", "B", "b", "k", "j"]],
    "combine": "+",
}
trial(batched, ref.naive(batched), 3, "a batch of products, three loops sliced")
copied = {"axes": {"i": 6, "j": 5}, "out": ["T", "j", "i"], "value": ["load", "S", "i", "j"]}
copied["combine"] = "+"
trial(copied, ref.split(ref.naive(copied), "j", 2), 1, "a transposition")

for schedule, vector, what in [
    (ref.fuse(ref.naive(product), "j", "k"), 1, "a fused loop"),
    (tiled(product, {"j": 6}, ["i", "k", "j_o", "j_i"]), 2, "both parts of j"),
    (tiled(product, {"j": 6}, ["i", "k", "j_i", "j_o"]), 1, "the outer part of j, which strides"),
    (
        {"loops": [["i", 24], ["j", 18], ["k", 12]], "binds": {a: a for a in "ijk"}}
        | {"guards": [[["+", "j", "k"], 20]]},
        2,
        "two vector loops in one guard",
    ),
]:
    expect_raises(
        ValueError,
        lambda schedule=schedule, vector=vector: emit(product, schedule, vector),
        f"{what} as a slice",
    )

# %% hints emit [markdown]
# 1. Print the kernel that you would write by hand for two tiled loops, with a tail, and mark what changes with the schedule.
# 2. Put 0 in the place of every vector loop (`substitute`) to get the start of a slice; `coefficient` tells whether a loop may be a slice. Build the list of lines
#    with a growing indentation.
# 3. For the vector loop of an axis: `start = bind with 0`, `stop = start + max(0, min(extent, bound - guard with 0, ...))`, one term for each guard that has this loop. Guards without any vector
#    loop are joined by `and` in an `if`. At the end `statement(algorithm, index, sliced)`.

# %% [markdown]
# ## Task 5. A cache that counts
#
# - `lru_misses(addresses, line, sets, ways) -> int`: how many of these accesses (byte addresses, in order) miss in a cache with lines of `line` bytes, `sets` sets of `ways` lines each. Line
#   number `address // line` belongs to the set `line number % sets`; a full set drops the line that was **used** least recently.
# - `stack_distances(lines) -> list[int]`: for each access to a line number, how many *different* lines have been accessed since its last access, and `-1` if there was none. One pass gives
#   the misses of **all** fully associative LRU caches: an access misses in a cache of `c` lines if its distance is -1 or at least `c`.
#
# At most a few milliseconds for each thousand accesses, with a few hundred lines in use.


# %% task cache
def lru_misses(addresses, line, sets, ways):
    """Misses of a set-associative cache with least-recently-used replacement."""
    ### BEGIN SOLUTION
    held = [OrderedDict() for _ in range(sets)]
    misses = 0
    for address in addresses:
        number = int(address) // line
        here = held[number % sets]
        if number in here:
            here.move_to_end(number)
            continue
        misses += 1
        here[number] = True
        if len(here) > ways:
            here.popitem(last=False)
    return misses
    ### END SOLUTION


def stack_distances(lines):
    """Different lines since the last access to the same; -1 for a first access."""
    ### BEGIN SOLUTION
    stack, found = [], []
    for line in map(int, lines):
        if line in stack:
            at = stack.index(line)
            found.append(at)
            del stack[at]
        else:
            found.append(-1)
        stack.insert(0, line)
    return found
    ### END SOLUTION


# %% test cache 3
expect_equal(
    lru_misses([0, 8, 64, 0, 128, 64, 0], 64, 1, 2),
    5,
    "misses of addresses 0 8 64 0 128 64 0, lines of 64 bytes, one set of two lines",
    "lines 0 0 1 0 2 1 0: 2 drops 1, the least recently used, and not 0",
)
expect_equal(
    lru_misses([0, 128, 0, 128], 64, 2, 1), 4, "misses of lines 0 2 0 2 in two sets of one line"
)
expect_equal(
    lru_misses([0, 64, 0, 64], 64, 2, 1),
    2,
    "misses of lines 0 1 0 1 (addresses 0 64 0 64) in two sets of one line",
    "the number of the line, not the address, says which set it belongs to",
)
expect_equal(
    [int(distance) for distance in stack_distances([7, 8, 8, 9, 7, 9])],
    [-1, -1, 0, -1, 2, 1],
    "stack distances of lines 7 8 8 9 7 9",
)
print("The cache: the visible test passes.")

# %% hidden cache 8 outside
import time

import numpy as np

from autograder.labkit import expect, expect_equal

ref = reference()
draw = np.random.default_rng(41)


def brute_force(numbers, sets, ways):
    """Misses by looking back for each access: how many lines of the set came since?"""
    count = 0
    for at, number in enumerate(numbers):
        since = set()
        for before in reversed(numbers[:at]):
            if before == number:
                break
            if before % sets == number % sets:
                since.add(before)
        else:
            count += 1
            continue
        count += len(since) >= ways
    return count


for line, sets, ways in [(1, 1, 1), (8, 1, 4), (64, 4, 2), (64, 16, 1), (32, 2, 8), (4, 3, 3)]:
    for trace in (
        draw.integers(0, 40 * line, 300),
        np.cumsum(draw.integers(0, 2 * line, 300)) % (30 * line),
        np.tile(np.arange(0, (sets * ways + 1) * line, max(1, line // 2)), 3),
    ):
        addresses = [int(address) for address in trace]
        expect_equal(
            int(student.lru_misses(addresses, line, sets, ways)),
            brute_force([address // line for address in addresses], sets, ways),
            f"misses of {len(addresses)} accesses, first {addresses[:6]}, line {line}, sets {sets},"
            f" ways {ways}",
            "the line's number says which set; a hit makes its line the most recent one; each set"
            " counts for itself",
        )
for count in (5, 30):
    numbers = [int(number) for number in draw.integers(0, count, 400)]
    got = [int(distance) for distance in student.stack_distances(numbers)]
    expect_equal(len(got), 400, "stack distances of 400 accesses: how many")
    for ways in (1, 2, 5, 12, 40):
        expect_equal(
            sum(distance < 0 or distance >= ways for distance in got),
            brute_force(numbers, 1, ways),
            f"misses in a cache of {ways} lines by the stack distances of {count} lines",
            "different lines, not accesses, and without the line itself",
        )
expect_equal(
    [int(distance) for distance in student.stack_distances([3, 4, 4, 4, 3])],
    [-1, -1, 0, 0, 1],
    "stack distances of lines 3 4 4 4 3",
)
expect_equal(list(student.stack_distances([])), [], "stack distances of nothing")

size, tile = 24, 8
product = ref.matmul(size, size, size)
blocked = ref.naive(product)
for axis in "ijk":
    blocked = ref.split(blocked, axis, tile)
blocked = ref.reorder(blocked, ["i_o", "j_o", "k_o", "i_i", "j_i", "k_i"])
trace = []
for i, j, k in ref.points(blocked):
    trace += [i * size + k, size * size + k * size + j, 2 * size * size + i * size + j]
formula = 2 * size**3 / tile + size**2
began = time.perf_counter()
misses = int(student.lru_misses(trace, 1, 1, 4 * tile * tile + 2 * tile))
spent = time.perf_counter() - began
expect(
    abs(misses / formula - 1) < 0.1,
    f"a product of {size} x {size} in tiles of {tile}: {misses} misses; the law says {formula:.0f}",
)
expect(
    spent < 20, f"{len(trace)} accesses took {spent:.0f} s", "dictionaries find without a search"
)

# %% hints cache [markdown]
# 1. "Least recently used" asks for one thing: an order of the lines of a set by last use. What changes it, a miss only, or a hit too?
# 2. An `OrderedDict` for each set: `move_to_end` on a hit, `popitem(last=False)` when there are too many.
# 3. For the distances keep one list with the most recent line in front: the place where a line is found **is** its distance; then move it to the front.

# %% [markdown]
# ## Task 6. A model of the cost
#
# Measuring a schedule takes long, predicting is cheap. `fit(x, y) -> predict`:
#
# - `x` has shape `(n, f)`, one row of features for each measured schedule, `n ≥ 1`; `y` has the `n` costs in seconds. They are positive, range over orders of magnitude, and are `inf` for
#   schedules that failed.
# - `predict(x)` takes rows of features and returns one score for each, an array of shape `(rows,)`, finite: the lower, the better. Only the order of scores counts.
# - Any model will do: ridge regression, neighbours, trees. On the surfaces of this lab, fitted on 64 points, it must reach a rank correlation (Spearman's ρ) of at least 0.6
#   on points that it has not seen, on average. Neither `x` nor `y` may be changed; the same data give the same scores.
#
# The surfaces imitate a product in tiles: calls cost overhead, tiles that are too large fall out of a cache, the order decides which operand stays, the innermost loop can be unrolled too little or
# too much, and some tiles fail because they exceed the memory.


# %% given
TILES = [16, 32, 64, 128, 256]
ORDERS = [list(order) for order in itertools.permutations("ijk")]
SPACE = list(itertools.product(TILES, TILES, TILES, range(6), [1, 2, 4, 8, 16]))
"""The tiles of i, j, k, the number of the order of the loops over tiles, the unrolling."""


def features(config):
    """What a model may know of a configuration: logarithms of its sizes, and the innermost loop."""
    ti, tj, tk, order, unroll = config
    inner = ORDERS[order][-1]
    footprint = ti * tk + tk * tj + ti * tj
    logs = [math.log2(v) for v in (ti, tj, tk, footprint, unroll)]
    return np.array([*logs, *(float(inner == axis) for axis in "ijk")])


class Surface:
    """A made-up machine: `cost(config)` is the time of a product of 512 x 512 in tiles."""

    def __init__(self, seed):
        draw = random.Random(seed)
        self.call = 10 ** draw.uniform(-6.5, -5.5)
        self.cache = 2 ** draw.uniform(10, 14)
        self.memory = 2 ** draw.uniform(15.5, 17)
        self.word = 10 ** draw.uniform(-9.5, -8.7)
        self.lanes = draw.choice([8, 16, 32])
        self.depth, self.shape = draw.uniform(0.5, 3.5), draw.uniform(-2, 2)
        self.seed = seed

    def cost(self, config):
        ti, tj, tk, order, unroll = config
        n, inner = 512, ORDERS[order][-1]
        sizes = {"j": ti * tk, "i": tk * tj, "k": 2 * ti * tj}
        if sum(sizes.values()) > self.memory:
            return math.inf
        calls = n**3 / (ti * tj * tk)
        trips = n / {"i": ti, "j": tj, "k": tk}[inner]
        moved = sum(s * calls / (trips if axis == inner else 1) for axis, s in sizes.items())
        beyond = min(8.0, max(1.0, sum(sizes.values()) / self.cache))
        pipeline = 0.3 * (math.log2(unroll) - self.depth) ** 2
        aspect = 0.12 * (math.log2(ti / tk) - self.shape) ** 2
        noise = 0.05 * (zlib.crc32(repr((self.seed, config)).encode()) / 2**31 - 1)
        work = 2 * n**3 / 2e10 * (1 + self.lanes / tj)
        spent = work + calls * self.call + moved * self.word * beyond
        return spent * math.exp(pipeline + aspect + noise)


def spearman(one, other):
    """The correlation of ranks."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


# %% task fit
def fit(x, y):
    """A function that scores rows of features: the lower, the faster."""
    ### BEGIN SOLUTION
    x, y = np.asarray(x, float), np.asarray(y, float)
    fine = np.isfinite(y)
    worst = 4 * y[fine].max() if fine.any() else 1.0
    target = np.log(np.where(fine, y, worst))
    middle, spread = x.mean(0), x.std(0) + 1e-9

    def rows(features):
        z = np.clip((np.asarray(features, float) - middle) / spread, -10, 10)
        a, b = np.triu_indices(z.shape[1])
        return np.hstack([np.ones((len(z), 1)), z, z[:, a] * z[:, b]])

    basis = rows(x)
    ridge = 2 * np.eye(basis.shape[1])
    ridge[0, 0] = 1e-6
    weights = np.linalg.solve(basis.T @ basis + ridge, basis.T @ target)
    return lambda features: rows(features) @ weights
    ### END SOLUTION


# %% test fit 2
_surface = Surface(1000)
_drawn = random.Random(5).sample(SPACE, 264)
_x = np.array([features(config) for config in _drawn])
_y = np.array([_surface.cost(config) for config in _drawn])
_scores = np.asarray(fit(_x[:64], _y[:64])(_x[64:]))
expect_equal(_scores.shape, (200,), "the shape of the scores of 200 rows")
expect(bool(np.all(np.isfinite(_scores))), "A score is not finite", "inf among the costs")
_rho = spearman(_scores, _y[64:])
print(f"Spearman's rank correlation on 200 new points: {_rho:.2f}")
expect(
    _rho > 0.5,
    f"the rank correlation is {_rho:.2f} on 200 new points; more than 0.5 is asked here",
    "logarithms of costs; what a failed schedule costs; squares and products of features",
)
print("The model: the visible test passes.")

# %% hidden fit 7 outside
import random

import numpy as np

from autograder.labkit import expect, expect_close, expect_equal

ref = reference()
x_all = np.array([ref.features(config) for config in ref.SPACE])
rhos, repeated = [], None
for seed in range(12):
    surface = ref.Surface(seed)
    order = random.Random(seed).sample(range(len(ref.SPACE)), 300)
    x = x_all[order]
    y = np.array([surface.cost(ref.SPACE[number]) for number in order])
    x_train, y_train = x[:64].copy(), y[:64].copy()
    predict = student.fit(x_train, y_train)
    scores = np.asarray(predict(x[64:]), float)
    expect_equal(scores.shape, (236,), f"surface {seed}: the shape of the scores of 236 rows")
    expect(bool(np.all(np.isfinite(scores))), f"surface {seed}: a score is not finite", "inf costs")
    rhos.append(ref.spearman(scores, y[64:]))
    if seed == 0:
        again = np.asarray(student.fit(x_train, y_train)(x[64:]), float)
        expect_close(again, scores, "the scores of the same data, fitted again", rtol=1e-9)
rho = float(np.mean(rhos))
expect(
    rho >= 0.6,
    f"on 12 surfaces the rank correlation on new points is {rho:.3f} on average; 0.6 is asked."
    f" One by one: {', '.join(f'{value:.2f}' for value in rhos)}",
    "costs range over orders of magnitude: model their logarithm; a failed schedule is slow, not missing",
)
one = np.asarray(student.fit(x_all[:1], np.array([0.5]))(x_all[:5]), float)
expect(
    one.shape == (5,) and bool(np.all(np.isfinite(one))), "fitted on one point: scores of 5 rows"
)
none = np.asarray(student.fit(x_all[:4], np.full(4, np.inf))(x_all[:5]), float)
expect(bool(np.all(np.isfinite(none))), "fitted on failures only: a score is not finite")
same = np.asarray(student.fit(np.ones((6, 7)), np.arange(1.0, 7))(np.ones((3, 7))), float)
expect(
    bool(np.all(np.isfinite(same))), "fitted on six equal rows: a score is not finite", "x.std()"
)

# %% hints fit [markdown]
# 1. Look at a histogram of the costs, and at one of their logarithms. Which of the two would you want to fit with squared errors?
# 2. Ridge regression on the standardised features, their squares and products is enough. Replace `inf` by a multiple of the largest finite cost.
# 3. `np.linalg.solve(basis.T @ basis + np.eye(...), basis.T @ np.log(y))`; standardise new rows with the mean and spread of the **training** rows, and guard against a spread of 0.

# %% [markdown]
# ## Task 7. The tuner
#
# `tune(space, features, measure, budget, seed, fit) -> (best, history)`
#
# - `space` is a list of configurations; `features(config)` gives its row; `measure(config)` its cost, `inf` for a failure. Each call of `measure` costs one unit of `budget`, a repeated one
#   too, so no configuration may be measured twice. At the end `min(budget, len(space))` have been measured.
# - `fit(x, y) -> predict` is a model as in Task 6.
# - `history` lists the pairs `(config, cost)` in the order in which they were measured; `best` is the configuration with the least cost in it.
# - With the same `seed` the search is the same, whatever other code does with the global random generators.
# - It must learn: with a budget of 64 of the 3,750 configurations, over 20 surfaces, the cost of its best must be at most 0.93 times that of random search with the same budget, on average.


# %% task tune
def tune(space, features, measure, budget, seed, fit):
    """Search a space with a learned model; the best configuration and all that was measured."""
    ### BEGIN SOLUTION
    draw = random.Random(seed)
    left = list(range(len(space)))
    draw.shuffle(left)
    x = np.array([features(config) for config in space])
    chosen, costs, batch = [], [], 4
    while left and len(chosen) < budget:
        if len(chosen) < 6 * batch:
            coming = left[:batch]
        else:
            scores = fit(x[chosen], np.array(costs))(x[left])
            ranked = [left[place] for place in np.argsort(scores, kind="stable")]
            coming = ranked[: batch - 1]
            coming += draw.sample(ranked[batch - 1 :], min(1, len(ranked[batch - 1 :])))
        for number in coming[: budget - len(chosen)]:
            chosen.append(number)
            costs.append(measure(space[number]))
            left.remove(number)
    history = [(space[number], cost) for number, cost in zip(chosen, costs)]
    return min(history, key=lambda pair: pair[1])[0], history
    ### END SOLUTION


# %% test tune 3
def _least_squares(x, y):
    """A simple model, so that this test needs none of yours."""
    fine = np.isfinite(y)
    target = np.log(np.where(fine, y, 4 * np.max(y[fine], initial=1e-3)))

    def terms(rows):
        return np.hstack([np.ones((len(rows), 1)), rows, rows**2])

    weights = np.linalg.lstsq(terms(x), target, rcond=1e-6)[0]
    return lambda rows: terms(np.asarray(rows)) @ weights


_surface, _asked = Surface(1001), []


def _measure(config):
    _asked.append(config)
    return _surface.cost(config)


_best, _history = tune(SPACE, features, _measure, 64, 0, _least_squares)
expect_equal(len(_asked), 64, "calls of measure, with a budget of 64")
expect_equal(len(set(_asked)), 64, "different configurations among them")
expect_equal([config for config, _ in _history], _asked, "the configurations in the history")
expect_equal(
    _best, min(_history, key=lambda pair: pair[1])[0], "the best configuration", "of all measured"
)
_chance = [min(map(_surface.cost, random.Random(r).sample(SPACE, 64))) for r in range(20)]
print(f"your best {_surface.cost(_best):.4f} s, random search {np.mean(_chance):.4f} s on average")
print("The tuner: the visible test passes.")

# %% hidden tune 10
ref = reference()
row = {config: ref.features(config) for config in ref.SPACE}
kept = ref.SPACE[:]


class Spent(Exception):
    """The budget is used up."""


def run(surface, budget, seed, space=None, fitted=ref.fit):
    asked = []

    def measure(config):
        config = tuple(config)
        if len(asked) >= budget:
            raise Spent
        asked.append(config)
        return surface.cost(config)

    space = ref.SPACE if space is None else space
    try:
        best, history = tune(space, row.__getitem__, measure, budget, seed, fitted)
    except Spent:
        expect(
            False, f"measure was called more than {budget} times, the budget", "count every call"
        )
    expect_equal(
        len(set(asked)), len(asked), f"budget {budget}: different among the configurations measured"
    )
    expect_equal(
        len(asked), min(budget, len(space)), f"budget {budget}, {len(space)} points: measured"
    )
    expect_equal(
        [(tuple(config), cost) for config, cost in history],
        [(config, surface.cost(config)) for config in asked],
        f"budget {budget}: the history",
    )
    least = min(cost for _, cost in history)
    expect_equal(surface.cost(tuple(best)), least, f"budget {budget}: the cost of the best")
    return least, asked


told = []
for seed in range(20):
    surface = ref.Surface(300 + seed)
    found, _ = run(surface, 64, seed)
    drawn = [random.Random(900 + r).sample(ref.SPACE, 64) for r in range(20)]
    by_chance = np.mean([min(map(surface.cost, configs)) for configs in drawn])
    told.append(float(found / by_chance))
expect(
    np.mean(told) <= 0.93,
    f"with a budget of 64 your best costs {np.mean(told):.2f} times random search's, on average over 20 surfaces;"
    f" 0.93 is allowed. One by one: {', '.join(f'{ratio:.2f}' for ratio in told)}",
    "fit on what has been measured, rank what has not, measure the most promising, repeat",
)
surface = ref.Surface(77)
asked = []
for _ in range(2):
    random.seed(1)
    np.random.seed(1)
    asked.append(run(surface, 40, 5)[1])
    random.random()
expect_equal(asked[1], asked[0], "the configurations measured, with the same seed again")
random.seed(2)
np.random.seed(2)
expect_equal(
    run(surface, 40, 5)[1],
    asked[0],
    "the same seed, but the global generators in another state",
    "random.Random(seed) or numpy.random.default_rng(seed)",
)
other = run(surface, 40, 6)[1]
expect(other != asked[0], "another seed gives the very same search")
for budget in (1, 3, 9):
    run(surface, budget, 0)
run(surface, 30, 0, space=ref.SPACE[:12])
run(surface, 12, 0, space=[config for config in kept if surface.cost(config) == math.inf][:20])
expect(ref.SPACE == kept, "tune changes the list of configurations")

seen = []


def watched(x, y):
    seen.append(len(y))
    return ref.fit(x, y)


run(surface, 64, 1, fitted=watched)
expect(
    len(seen) >= 3,
    f"the model was fitted {len(seen)} times in a search of 64; at least 3 are asked",
    "measure in batches and fit again after each: the model learns from its own mistakes",
)

# %% hints tune [markdown]
# 1. What does the model need before it can say anything, and what will it never learn if you only ever ask for its favourites?
# 2. Measure a first batch at random. Then: fit on everything measured, score everything **not** measured, measure the best few and one at random, and repeat until the
#    budget is spent.
# 3. Keep the numbers of the configurations that are left in a shuffled list; batches of 4 after a first third at random, the last cut to what the budget leaves; `np.argsort(scores)` ranks. Use a
#    `random.Random(seed)` of your own.

# %% [markdown]
# ## The whole, measured
#
# Now your parts together. First the same product in tiles of growing size: the points of your schedule give the accesses, your cache counts the misses, and the law predicts them.


# %% measure
def tiled(algorithm, tiles, order="ijk"):
    """Your split and reorder: the loops over tiles in this order, then those inside of a tile."""
    schedule = naive(algorithm)
    for axis, tile in tiles.items():
        schedule = split(schedule, axis, tile)
    return reorder(schedule, [f"{axis}_o" for axis in order] + [f"{axis}_i" for axis in "ijk"])


def accesses(schedule, size):
    """The words that a square product touches, one after the other."""
    trace = []
    for i, j, k in points(schedule):
        trace += [i * size + k, size**2 + k * size + j, 2 * size**2 + i * size + j]
    return trace


_size = 24
_small = matmul(_size, _size, _size)
_plain = {}
_misses = {}
for _tile in (2, 3, 4, 6, 8):
    _room = 4 * _tile**2 + 2 * _tile
    _plain[_tile] = lru_misses(accesses(naive(_small), _size), 1, 1, _room)
    _misses[_tile] = lru_misses(
        accesses(tiled(_small, {axis: _tile for axis in "ijk"}), _size), 1, 1, _room
    )
    _law = 2 * _size**3 / _tile + _size**2
    print(f"tile {_tile}: {_misses[_tile]} misses, law {_law:.0f}, without tiles {_plain[_tile]}")
plot_vs(
    "misses without tiles / misses with this tile",
    {tile: _plain[tile] / (2 * _size**3 / tile + _size**2) for tile in _misses},
    {tile: _plain[tile] / _misses[tile] for tile in _misses},
    "tile",
)

# %% [markdown]
# Then time. The kernels are yours; one tile is one call of NumPy. The theory of this plot is a price for each call, measured on the smallest tile, beside the arithmetic at the
# speed of NumPy's own product.

# %% measure
_size = 256
_product = matmul(_size, _size, _size)
_draw = np.random.default_rng(0)
_arrays = {name: _draw.normal(size=(_size, _size)) for name in "ABC"}


def seconds(kernel, times=3):
    """The least time of a few runs."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        kernel(_arrays)
        found.append(time.perf_counter() - began)
    return min(found)


_blas = seconds(lambda arrays: arrays["A"] @ arrays["B"], 9)
_times = {
    tile: seconds(compiled(emit(_product, tiled(_product, {axis: tile for axis in "ijk"}), 3)))
    for tile in (8, 16, 32, 64, 128)
}
for _tile, _spent in _times.items():
    print(f"tile {_tile:3}: {1e3 * _spent:7.2f} ms, {_blas / _spent:.1%} of NumPy's speed")
_call = (_times[8] - _blas) / (_size / 8) ** 3
plot_vs(
    "time at tile 8 / time at this tile",
    {tile: _times[8] / (_call * (_size / tile) ** 3 + _blas) for tile in _times},
    {tile: _times[8] / spent for tile, spent in _times.items()},
    "tile",
)

# %% [markdown]
# And your tuner on the real thing: 24 measurements of schedules with at most a few thousand calls, against 24 drawn at random.

# %% measure
_space = [c for c in SPACE if _size**3 / (c[0] * c[1] * c[2]) <= 4096 and c[-1] == 1]


def measured(config):
    """Time a configuration for real; NumPy unrolls as it likes."""
    ti, tj, tk, order, _ = config
    schedule = tiled(_product, {"i": ti, "j": tj, "k": tk}, ORDERS[order])
    return seconds(compiled(emit(_product, schedule, 3)), 2)


_best, _history = tune(_space, features, measured, 24, 0, fit)
_chance = [measured(config) for config in random.Random(1).sample(_space, 24)]
print(
    f"tuned: tiles {_best[:3]}, order {''.join(ORDERS[_best[3]])}: {_blas / min(c for _, c in _history):.0%} of NumPy's speed"
)
print(
    f"random search with the same budget: {_blas / min(_chance):.0%}; its median schedule {_blas / np.median(_chance):.0%}"
)

# %% written reading 4 [markdown]
# **Read your plots.** The law of the misses and the times both reward larger tiles, for different reasons. Which of the two explains your second plot, and how do you know? What would
# have to change in the generator for the other to matter, and what would then limit the tile? (Five to eight sentences.)
#
# ### BEGIN SOLUTION
# *2 points: the price of a call: the times fall with the number of calls, (256/T)^3, and all three matrices (1.5 MB) fit into the outer caches at every tile, so misses cost little; the line of calls alone fits.*
# *1 point: misses matter when a tile's inner loops cost no dispatch (compiled code) and the matrices exceed the cache.*
# *1 point: then three to four tiles must fit into the cache (4T^2 words under LRU), and below that the registers limit a tile of their own.*
# ### END SOLUTION

# %% written choice 4 [markdown]
# **Choose.** A team compiles 200 operators for a phone; a measurement takes half a second, and the model of Task 6 reaches ρ = 0.9 on the laptop where it was trained. Would you tune each operator with 1,000 random trials, with 64
# guided ones, or take the model's favourite without measuring? Argue with hours, and say how you would notice that the model does not transfer.
#
# ### BEGIN SOLUTION
# *2 points: 200 x 1000 x 0.5 s is 28 hours, 200 x 64 x 0.5 s under 2 hours, no measurement is free; guided search, since the model only has to rank and the measurement corrects it.*
# *1 point: the favourite alone rests on the laptop's caches and call costs; the rank correlation there says nothing about the phone.*
# *1 point: compute rho on the first measured batch on the phone (or compare predicted favourites with random ones); if it is near zero, drop the old data or weight it down.*
# ### END SOLUTION
