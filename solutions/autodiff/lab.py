# ---
# title: Two modes, one graph
# hours: 6
# # torch.func loads the two private modules at its first call, which takes seconds
# imports: [numpy, torch, torch.func, torch._dynamo, torch._decomp.decompositions_for_jvp, matplotlib.pyplot, autograder.labkit]
# ---

# %% [markdown]
# # Two modes, one graph
#
# A neural network with a hundred million parameters has a hundred million partial derivatives, and all of them together cost only a few
# times as much as the loss itself: for the gradient of a scalar function the factor stays below 6, whatever the number of inputs
# (Griewank and Walther, *Evaluating Derivatives*, 2008; Baydin and others, *Automatic differentiation in machine learning: a survey*,
# JMLR 2018). In this lab you build the machinery that keeps this promise: rules for single operations, a sweep forwards and a sweep
# backwards over one recorded graph, derivatives of derivatives, and a test that finds wrong rules. Then you count its operations.
#
# You need the chapter *Automatic differentiation*. Every part is tested by itself: a mistake in one task costs that task only, and
# you may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# A function of 1000 numbers is evaluated with a certain number of operations. Guess how many times as many operations its whole
# gradient takes, the evaluation included. And guess which step makes a central difference, `(f(x + h) - f(x - h)) / 2h`, most
# exact in float64: give the exponent k of h = 10^-k.

# %%
from autograder.labkit import plot_vs, predict

predict("operations of the gradient / operations of f", 1000, "times")
predict("exponent of the best step", 16, "")

# %% given
import itertools
import math
from collections import Counter
from contextlib import contextmanager

import numpy as np

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

numbers = itertools.count()
counters = []


class Node:
    """A float64 array and how it came about: `value` is `op` applied to the `inputs` (nodes).

    A leaf (an input or a constant) has `op` None.  `number` grows with time, so that the inputs of a node
    have smaller numbers than the node.
    """

    __array_ufunc__ = None  # array * node is a matter for Node, not for NumPy

    def __init__(self, value, op=None, inputs=(), attrs=None):
        self.value = np.asarray(value, np.float64)
        self.op, self.inputs, self.attrs = op, inputs, attrs or {}
        self.number = next(numbers)

    @property
    def shape(self):
        return self.value.shape

    @property
    def ndim(self):
        return self.value.ndim

    def __repr__(self):
        return f"Node({self.op or 'leaf'}, shape {self.shape})"

    def __neg__(self):
        return neg(self)

    def __add__(self, other):
        return add(self, other)

    def __radd__(self, other):
        return add(other, self)

    def __sub__(self, other):
        return sub(self, other)

    def __rsub__(self, other):
        return sub(other, self)

    def __mul__(self, other):
        return mul(self, other)

    def __rmul__(self, other):
        return mul(other, self)

    def __truediv__(self, other):
        return div(self, other)

    def __rtruediv__(self, other):
        return div(other, self)

    def __pow__(self, exponent):
        return power(self, exponent)

    def __matmul__(self, other):
        return matmul(self, other)

    def __rmatmul__(self, other):
        return matmul(other, self)

    def __getitem__(self, index):
        return take(self, index)


def node(x):
    """`x` itself if it is a node, else a leaf that holds it."""
    return x if isinstance(x, Node) else Node(x)


def scattered(x, index, shape):
    out = np.zeros(shape)
    np.add.at(out, index, x)
    return out


RUN = {
    "alias": lambda x: x,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "power": lambda x, exponent: x**exponent,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "greater": np.greater,
    "equal": np.equal,
    "where": lambda mask, a, b: np.where(mask != 0, a, b),
    "matmul": np.matmul,
    "sum": lambda x, axis, keepdims: np.sum(x, axis, keepdims=keepdims),
    "max": lambda x, axis, keepdims: np.max(x, axis, keepdims=keepdims),
    "reshape": np.reshape,
    "transpose": np.transpose,
    "broadcast": np.broadcast_to,
    "take": lambda x, index: x[index],
    "scatter": scattered,
}
MOVES = {"alias", "reshape", "transpose", "broadcast", "take"}


def cost(op, inputs, value):
    """Arithmetic operations: one for each element; moving data is free."""
    if op in MOVES:
        return 0
    if op == "matmul":
        return 2 * value.size * inputs[0].shape[-1]
    return inputs[0].value.size if op in ("sum", "max", "scatter") else value.size


def apply(op, *inputs, **attrs):
    """Do one operation, record it as a node, and count its cost."""
    inputs = tuple(node(x) for x in inputs)
    with np.errstate(all="ignore"):
        value = np.asarray(RUN[op](*(x.value for x in inputs), **attrs), np.float64)
    for counter in counters:
        counter[op] += cost(op, inputs, value)
    return Node(value, op, inputs, attrs)


def attempt(what, call, *args, **kwargs):
    """What `call` gives; an exception of its own becomes a failure that names the case."""
    try:
        return call(*args, **kwargs)
    except NotImplementedError:
        raise
    except Exception as error:
        return expect(False, f"{what}: {type(error).__name__}: {error}")


@contextmanager
def counting():
    """`with counting() as work:` counts operations by name; `work.total()` is their sum."""
    work = Counter()
    counters.append(work)
    try:
        yield work
    finally:
        counters.remove(work)


@contextmanager
def replaced(table, new):
    """A dictionary with other entries for the length of a `with` block."""
    old = {key: table[key] for key in new if key in table}
    table.update(new)
    try:
        yield
    finally:
        for key in new:
            del table[key]
        table.update(old)


# %% given
def alias(x):
    """A new node with the value of `x`."""
    return apply("alias", x)


def stop(x):
    """The value of `x` as a constant: no derivative passes."""
    return Node(node(x).value)


def neg(x):
    return apply("neg", x)


def exp(x):
    return apply("exp", x)


def log(x):
    return apply("log", x)


def sin(x):
    return apply("sin", x)


def cos(x):
    return apply("cos", x)


def tanh(x):
    return apply("tanh", x)


def power(x, exponent):
    """`x` to a constant (int or float) power."""
    return apply("power", x, exponent=exponent)


def add(a, b):
    return apply("add", a, b)


def sub(a, b):
    return apply("sub", a, b)


def mul(a, b):
    return apply("mul", a, b)


def div(a, b):
    return apply("div", a, b)


def maximum(a, b):
    return apply("maximum", a, b)


def greater(a, b):
    """1.0 where a > b, else 0.0."""
    return apply("greater", a, b)


def equal(a, b):
    """1.0 where a == b, else 0.0."""
    return apply("equal", a, b)


def where(mask, a, b):
    """Elements of `a` where the mask is not 0, of `b` elsewhere."""
    return apply("where", mask, a, b)


def matmul(a, b):
    """Products of the matrices in the last two axes; both have at least two, the others broadcast."""
    return apply("matmul", a, b)


def sum(x, axis=None, keepdims=False):
    """`axis` is None, a number or a tuple, as in NumPy."""
    return apply("sum", x, axis=axis, keepdims=keepdims)


def max(x, axis=None, keepdims=False):
    return apply("max", x, axis=axis, keepdims=keepdims)


def reshape(x, shape):
    return apply("reshape", x, shape=shape)


def transpose(x, axes):
    """`axes[k]` is the axis of `x` that becomes axis k; all are given, none is negative."""
    return apply("transpose", x, axes=axes)


def broadcast(x, shape):
    return apply("broadcast", x, shape=shape)


def take(x, index):
    """`x[index]`: numbers, slices, arrays of whole numbers (also repeated ones), and tuples of them."""
    return apply("take", x, index=index)


def scatter(x, index, shape):
    """Zeros of `shape` to whose elements `[index]` those of `x` are added, repeated ones again and again."""
    return apply("scatter", x, index=index, shape=shape)


def ancestors(y):
    """`y` and all nodes that it was computed from, in the order in which they were made."""
    seen, stack = {y}, [y]
    while stack:
        for x in stack.pop().inputs:
            if x not in seen:
                seen.add(x)
                stack.append(x)
    return sorted(seen, key=lambda n: n.number)


# %% [markdown]
# ## The graph
#
# You need not change the two cells above, but look through them: a `Node` holds its value and remembers its operation, `apply` makes
# nodes, and the functions `exp`, `matmul`, `sum`, `take`, ... (also the operators `+ - * / ** @ []`) call `apply`. `sum` and `max` are ours in this notebook,
# not Python's. Everything is float64.

# %%
x = Node([1.0, 2.0, 3.0])
with counting() as work:
    y = sum(sin(x) * x)
print(y.value, work, [n.op for n in ancestors(y)])

# %% [markdown]
# ## Task 1. Forwards
#
# If `out = op(a, b)` and the inputs move with velocities (tangents) `ta` and `tb`, the output moves with the sum of two
# contributions, one from each input. A **rule of the forward mode** gives one of them:
#
# `JVP[op]` is a tuple with one entry for each input, either `None` (no derivative passes) or a function
# `rule(t, out, *inputs, **attrs) -> Node`: the contribution of that input's tangent `t` to the tangent of `out`, a node of the **shape of `out`**.
# Attributes (`axis`, `index`, ...) come as keywords. Rules are built from the operations above, so that what they compute is
# recorded like everything else.
#
# The rules of the linear operations and of `mul` are given below. You write:
#
# - `forward_rules() -> dict` with the rules of `div`, `power`, `exp`, `log`, `tanh`, `maximum`, `where`, `matmul` and `max`. Where the
#   two arguments of `maximum` are equal, or several elements are the maximum, any mixture of theirs (weights that add up to 1) is right.
# - `jvp(f, x, v) -> (y, t)`: the value of `f` at `x` and its derivative in the direction `v` (an array of the shape of `x`), both as
#   nodes. It looks rules up in the table `JVP`. Each rule runs at most once, and only for inputs that depend on `x`. If `f` does not depend on `x` at
#   all, `t` is zeros of the shape of `y`.
#
# `f` is a function of one node. It may itself call `jvp`, also with a value that belongs to the outer one:
# `jvp(lambda x: x * jvp(lambda y: x * y, x, 1.0)[1], 3.0, 1.0)` must give the tangent 6, because inside, only `y` moves. So call `f` with a
# node of its own.

# %% given
JVP = {
    "alias": (lambda t, out, x: t,),
    "neg": (lambda t, out, x: -t,),
    "sin": (lambda t, out, x: t * cos(x),),
    "cos": (lambda t, out, x: -(t * sin(x)),),
    "add": (
        lambda t, out, a, b: broadcast(t, out.shape),
        lambda t, out, a, b: broadcast(t, out.shape),
    ),
    "sub": (
        lambda t, out, a, b: broadcast(t, out.shape),
        lambda t, out, a, b: broadcast(-t, out.shape),
    ),
    "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: a * t),
    "greater": (None, None),
    "equal": (None, None),
    "sum": (lambda t, out, x, axis, keepdims: sum(t, axis, keepdims),),
    "reshape": (lambda t, out, x, shape: reshape(t, shape),),
    "transpose": (lambda t, out, x, axes: transpose(t, axes),),
    "broadcast": (lambda t, out, x, shape: broadcast(t, shape),),
    "take": (lambda t, out, x, index: take(t, index),),
    "scatter": (lambda t, out, x, index, shape: scatter(t, index, shape),),
}


# %% task forward
def forward_rules():
    """Rules of the forward mode for nine operations."""
    ### BEGIN SOLUTION

    def max_rule(t, out, x, axis, keepdims):
        kept = max(x, axis, keepdims=True)
        mask = equal(x, kept)
        return sum(t * mask, axis, keepdims) / sum(mask, axis, keepdims)

    return {
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -(t * (out / b))),
        "power": (lambda t, out, x, exponent: t * (exponent * x ** (exponent - 1)),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t * (1.0 - out * out),),
        "maximum": (
            lambda t, out, a, b: where(greater(a, b), t, 0.0),
            lambda t, out, a, b: where(greater(a, b), 0.0, t),
        ),
        "where": (
            None,
            lambda t, out, mask, a, b: broadcast(where(mask, t, 0.0), out.shape),
            lambda t, out, mask, a, b: broadcast(where(mask, 0.0, t), out.shape),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (max_rule,),
    }
    ### END SOLUTION


def jvp(f, x, v):
    """The value of `f` at `x` and its derivative in the direction `v`."""
    ### BEGIN SOLUTION
    start = alias(x)
    y = node(f(start))
    tangents = {start: node(v)}
    for n in ancestors(y):
        for i, inp in enumerate(n.inputs):
            if inp in tangents and (rule := JVP[n.op][i]):
                part = rule(tangents[inp], n, *n.inputs, **n.attrs)
                tangents[n] = tangents[n] + part if n in tangents else part
    return y, tangents.get(y, Node(np.zeros(y.shape)))
    ### END SOLUTION


# %% test forward 3
JVP.update(forward_rules())
_y, _t = jvp(lambda x: sin(x) * x, 0.5, 2.0)
expect_close(_y.value, math.sin(0.5) * 0.5, "jvp: the value of x sin x at 0.5")
expect_close(
    _t.value,
    2 * (math.sin(0.5) + 0.5 * math.cos(0.5)),
    "jvp: the derivative of x sin x at 0.5, direction 2",
    look="a product moves by the sum of what both factors contribute",
)
_t = jvp(lambda x: div(1.0, x), np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 8.0]))[1]
expect_close(_t.value, [-1, -0.25, -0.5], "jvp of 1 / x")
_t = jvp(lambda x: x + np.zeros((2, 3)), np.ones(3), np.array([1.0, 2.0, 3.0]))[1]
expect_equal(_t.shape, (2, 3), "the shape of the tangent when x is broadcast")
expect_close(
    jvp(lambda x: x * jvp(lambda y: x * y, x, 1.0)[1], 3.0, 1.0)[1].value,
    6.0,
    "a derivative inside a derivative: d/dx of x * (d/dy of x y) at 3",
    look="inside, x is a constant although y has the same value: call f with alias(x)",
)
print("Forwards: the visible test passes.")

# %% [markdown]
# ## Random programs, and an oracle
#
# `program(seed)` is a random function of one array of shape (3, 4). It takes the operations as its first argument, so that the
# same program runs on our nodes (`OURS`) and on tensors (`TORCH`). Use it for tests of your own, as the hidden tests do.

# %% given
from types import SimpleNamespace

import torch

OURS = SimpleNamespace(
    neg=neg, exp=exp, log=log, sin=sin, cos=cos, tanh=tanh, power=power, maximum=maximum,
    greater=greater, where=where, matmul=matmul, sum=sum, max=max, reshape=reshape,
    transpose=transpose, broadcast=broadcast, take=take, scatter=scatter,
)  # fmt: skip


def torch_index(index):
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in parts)


def torch_scatter(x, index, shape):
    places = torch_index(index)
    return torch.zeros(shape, dtype=x.dtype).index_put(places, x, accumulate=True)


TORCH = SimpleNamespace(
    neg=torch.neg, exp=torch.exp, log=torch.log, sin=torch.sin, cos=torch.cos, tanh=torch.tanh,
    power=torch.pow, maximum=torch.maximum, greater=torch.gt, where=torch.where,
    matmul=torch.matmul,
    sum=lambda x, axis=None, keepdims=False: torch.sum(x, axis, keepdim=keepdims),
    max=lambda x, axis=None, keepdims=False: torch.amax(
        x, tuple(range(x.ndim)) if axis is None else axis, keepdim=keepdims
    ),
    reshape=torch.reshape,
    transpose=torch.permute,
    broadcast=torch.broadcast_to,
    take=lambda x, index: x[torch_index(index)],
    scatter=torch_scatter,
)  # fmt: skip


def program(seed, steps=12):
    """A random function: `program(seed)(OURS, node)` and `program(seed)(TORCH, tensor)` are the same."""

    def partner(ops, random, pool, a):
        b = pool[random.integers(len(pool))]
        try:
            shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
        except ValueError:
            shape = (1000,)
        if len(shape) > 3 or np.prod(shape) > 300:
            return ops.sum(b)
        return ops.sum(b, 0, True) if b.ndim and random.random() < 0.3 else b

    def f(ops, x):
        random = np.random.default_rng(seed)
        pool = [x]
        for _ in range(steps):
            a = pool[-1] if random.random() < 0.5 else pool[random.integers(len(pool))]
            b = partner(ops, random, pool, a)
            shape, rank = tuple(a.shape), a.ndim
            axis = int(random.integers(rank)) if rank else None
            kind = random.integers(16 if rank else 8)
            if kind == 0:
                new = ops.tanh(a) - ops.sin(b)
            elif kind == 1:
                new = ops.exp(ops.neg(a * a)) + b
            elif kind == 2:
                new = ops.log(1.5 + a * a) * b
            elif kind == 3:
                new = a / (1.0 + b * b)
            elif kind == 4:
                new = ops.maximum(a, b)
            elif kind == 5:
                new = ops.where(ops.greater(a, b), ops.cos(a), b)
            elif kind == 6:
                new = ops.power(a, 3) - ops.power(1.0 + b * b, -0.5)
            elif kind == 7:
                new = ops.sin(a * b)
            elif kind == 8:
                new = ops.sum(a, axis, bool(random.integers(2)))
            elif kind == 9:
                new = ops.max(a, axis, bool(random.integers(2)))
            elif kind == 10:
                new = ops.reshape(a, (shape[-1], -1))
            elif kind == 11:
                new = ops.transpose(a, tuple(int(i) for i in random.permutation(rank)))
            elif kind == 12:
                new = ops.take(a, random.integers(shape[0], size=4))
            elif kind == 13:
                new = ops.scatter(a, random.integers(3, size=shape[0]), (3, *shape[1:]))
            elif kind == 14:
                new = ops.broadcast(a, (2, *shape[-2:])) if rank < 3 else a * 0.5
            else:
                flat = ops.reshape(a, (-1, shape[-1]))
                new = ops.matmul(flat, ops.transpose(flat, (1, 0)))
            pool.append(new if kind < 6 else ops.sin(new))
        return pool[-1] + ops.sum(pool[-2]) + ops.sum(pool[-3])

    return f


# %% hidden forward 9
ref = reference()
ref.apply, ref.Node, ref.JVP = apply, Node, JVP
random = np.random.default_rng(1)
rules = forward_rules()


def tensors(*arrays):
    return [torch.tensor(a, dtype=torch.float64) for a in arrays]


def positive(*shape):
    return random.uniform(0.5, 2.0, shape)


def normal(*shape):
    return random.normal(size=shape)


cases = [
    ("div", [normal(2, 1), positive(2, 3)], {}, torch.div),
    ("div", [normal(4), positive()], {}, torch.div),
    ("power", [positive(3)], {"exponent": -1.5}, lambda x: x**-1.5),
    ("power", [normal(3)], {"exponent": 1}, lambda x: x**1),
    ("power", [normal(3)], {"exponent": 4}, lambda x: x**4),
    ("exp", [normal(2, 2)], {}, torch.exp),
    ("log", [positive(2, 2)], {}, torch.log),
    ("tanh", [normal(5)], {}, torch.tanh),
    ("maximum", [normal(4, 1), normal(3)], {}, torch.maximum),
    (
        "where",
        [np.array([1.0, 0.0]), normal(), normal(3, 2)],
        {},
        lambda c, a, b: torch.where(c != 0, a, b),
    ),
    (
        "where",
        [np.array(1.0), normal(3, 2), normal(2)],
        {},
        lambda c, a, b: torch.where(c != 0, a, b),
    ),
    ("matmul", [normal(2, 3), normal(3, 4)], {}, torch.matmul),
    ("matmul", [normal(5, 2, 3), normal(3, 4)], {}, torch.matmul),
    ("matmul", [normal(2, 3), normal(5, 3, 1)], {}, torch.matmul),
    ("max", [normal(3, 4)], {"axis": 1, "keepdims": False}, lambda x: torch.amax(x, 1)),
    (
        "max",
        [normal(3, 4, 2)],
        {"axis": (0, 2), "keepdims": True},
        lambda x: torch.amax(x, (0, 2), True),
    ),
    ("max", [normal(3, 4)], {"axis": None, "keepdims": False}, lambda x: torch.amax(x, (0, 1))),
]
for op, arrays, attrs, oracle in cases:
    expect(op in rules, f"forward_rules() has no rule for {op}")
    inputs = [Node(a) for a in arrays]
    out = apply(op, *inputs, **attrs)
    shapes = ", ".join(str(a.shape) for a in arrays)
    for i, rule in enumerate(rules[op]):
        if op == "where" and i == 0:
            continue
        v = normal(*arrays[i].shape)
        what = f"{op} on shapes {shapes}, attributes {attrs}: the rule of input {i}"
        got = attempt(what, rule, Node(v), out, *inputs, **attrs)
        expect(isinstance(got, Node), f"{what} must give a Node, not {type(got).__name__}")
        expect_equal(got.shape, out.shape, f"{what}: the shape", "the shape of out")
        held = tensors(*arrays)
        _, wanted = torch.func.jvp(
            lambda moved: oracle(*held[:i], moved, *held[i + 1 :]),
            (held[i],),
            (torch.tensor(v),),
        )
        expect_close(got.value, wanted.numpy(), what, rtol=1e-9, atol=1e-12)

for arrays, tied in [
    ([np.array([1.0, 2.0]), np.array([1.0, 0.0])], 0),
    ([np.array(3.0), np.array([3.0, 1.0])], 0),
]:
    inputs = [Node(a) for a in arrays]
    out = maximum(*inputs)
    parts = [
        rules["maximum"][i](Node(np.ones(inputs[i].shape)), out, *inputs).value for i in (0, 1)
    ]
    expect_close(
        parts[0][tied] + parts[1][tied],
        1.0,
        f"maximum of {arrays[0]} and {arrays[1]}, both moving by 1: the movement at the tie",
        look="the weights of a mixture add up to 1",
    )
x = Node([[2.0, 5.0, 5.0], [1.0, 1.0, 1.0]])
got = rules["max"][0](Node(np.ones((2, 3))), max(x, 1), x, axis=1, keepdims=False)
expect_close(got.value, [1.0, 1.0], "max of rows with ties, all elements moving by 1")

with replaced(JVP, ref.forward_rules()):
    for seed in range(40):
        f, at, v = program(seed), normal(3, 4), normal(3, 4)
        y, t = jvp(lambda x: f(OURS, x), at, v)
        wanted_y, wanted_t = torch.func.jvp(lambda x: f(TORCH, x), *[(z,) for z in tensors(at, v)])
        expect_close(
            y.value, wanted_y.numpy(), f"program({seed}): the value", rtol=1e-9, atol=1e-11
        )
        expect_close(
            t.value, wanted_t.numpy(), f"program({seed}): jvp against torch", rtol=1e-8, atol=1e-9
        )
        expect(isinstance(t, Node), "jvp must give nodes")

    calls = Counter()

    def watched(op, i, rule):
        def call(t, out, *inputs, **attrs):
            calls[out.number, i] += 1
            return rule(t, out, *inputs, **attrs)

        return rule and call

    table = {
        op: tuple(watched(op, i, rule) for i, rule in enumerate(rules_of))
        for op, rules_of in JVP.items()
    }

    def doubled(x):
        for _ in range(14):
            x = x + x
        return x

    heavy = Node(normal(60, 60))

    def half_constant(x):
        fixed = sum(tanh(heavy @ heavy))
        sin(x)
        return x * fixed

    with replaced(JVP, table):
        y, t = jvp(doubled, 1.0, 1.0)
        expect_close(t.value, 2.0**14, "jvp of x doubled 14 times by x + x")
        expect_equal(
            sorted(set(calls.values())),
            [1],
            "x doubled 14 times by x + x: how often the rule of one input ran",
            "walk over the nodes, not over the paths",
        )
        calls.clear()
        with counting() as work:
            half_constant(Node(1.0))
        alone = work.total()
        with counting() as work:
            jvp(half_constant, 1.0, 1.0)
        expect(
            work.total() <= alone + 50,
            f"jvp of x * fixed does {work.total()} operations, f alone {alone}: what does not depend on x"
            " must cost nothing more",
            "no rule for an input without a tangent",
        )
    y, t = jvp(lambda x: node(2.5), np.ones(3), np.ones(3))
    expect_close((y.value, t.value), (2.5, 0.0), "jvp of a constant: value, derivative")
    expect_close(
        jvp(lambda x: np.array([1.0, 2.0]), 1.0, 1.0)[1].value, [0, 0], "jvp of a plain array"
    )
    expect_close(jvp(lambda x: x, 3.0, 4.0)[1].value, 4.0, "jvp of the identity")
    outer = Node(3.0)
    expect_close(
        jvp(lambda y: outer * y, outer, 1.0)[1].value,
        3.0,
        "jvp at a node that f also holds as a constant",
        look="call f with alias(x)",
    )

    def cube(x):
        return jvp(lambda y: jvp(lambda z: z * z * z * x, y, 1.0)[1], x, 1.0)[1]

    expect_close(
        jvp(cube, 2.0, 1.0)[1].value, 24.0, "d/dx of (d2/dz2 of z^3 x, at z = x), at 2: 12 x"
    )

    def chain(x):
        return [x := x * 1.0001 for _ in range(5_000)][-1]

    expect_close(
        jvp(chain, 1.0, 1.0)[1].value, 1.0001**5_000, "jvp of a chain of 5000 multiplications"
    )

# %% hints forward [markdown]
# 1. A tangent belongs to a node. Which node has one before you start, and in which order can the others get theirs?
# 2. `tangents = {start: node(v)}` with `start = alias(x)`. Go through `ancestors(y)` in order; for each input that has a tangent and each rule that is
#    not `None`, add the rule's contribution to the node's tangent.
# 3. Like `mul` above, `div` has two rules: `t / b` and the tangent of b times `-out / b`. For `max`, average the tangents of the elements that are equal to
#    the maximum: `equal(x, max(x, axis, keepdims=True))` marks them. In `where`, a small input must still give a tangent of
#    the shape of `out`: `broadcast(..., out.shape)`.

# %% [markdown]
# ## Task 2. Backwards through broadcasting
#
# A **rule of the reverse mode** goes the other way: given the adjoint `g` of the output (how much the final result changes for each change
# of `out`), it gives the contribution to the adjoint of one input.
#
# `VJP[op]` is again a tuple with `None` or a function for each input: `rule(g, out, *inputs, **attrs) -> Node`, a node of the **shape of
# that input**. For matrices of derivatives: where the forward rule multiplies by J, this one multiplies by J transposed, so that for
# all `t` and `g`: `sum(g * JVP rule of t) == sum(VJP rule of g * t)`.
#
# An input that was broadcast had several effects, and they add up. Write:
#
# - `unbroadcast(g, shape) -> Node`: sums `g` over the axes along which an array of `shape` was broadcast, so that the result has `shape`. If the
#   shapes are equal it does no operations.
# - `broadcasting_rules() -> dict`: rules for `add`, `sub`, `mul`, `div`, `maximum`, `where`, `matmul` and `broadcast`. No NaN may come out of `where` for elements
#   that it did not choose, even if `g` is infinite there.
#
# Again, build the rules from operations on nodes (not on `.value`), so that they can be differentiated. The table below holds
# rules for `alias`, `neg`, `sin`, `cos`, `reshape`, and rules that are right **in the simplest case only** (`add`, `sub`, `mul`: equal shapes; `sum`: a
# scalar): enough to test later tasks with, and replaced by yours.

# %% given
VJP = {
    "alias": (lambda g, out, x: g,),
    "neg": (lambda g, out, x: -g,),
    "sin": (lambda g, out, x: g * cos(x),),
    "cos": (lambda g, out, x: -(g * sin(x)),),
    "greater": (None, None),
    "equal": (None, None),
    "add": (lambda g, out, a, b: g, lambda g, out, a, b: g),
    "sub": (lambda g, out, a, b: g, lambda g, out, a, b: -g),
    "mul": (lambda g, out, a, b: g * b, lambda g, out, a, b: g * a),
    "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
    "sum": (lambda g, out, x, axis, keepdims: g,),
}


# %% task broadcasting
def unbroadcast(g, shape):
    """Sum `g` down to `shape`."""
    ### BEGIN SOLUTION
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + k for k, size in enumerate(shape) if size == 1 and g.shape[lead + k] != 1
    )
    return reshape(sum(g, axes), shape)
    ### END SOLUTION


def broadcasting_rules():
    """Rules of the reverse mode for operations that broadcast their inputs."""
    ### BEGIN SOLUTION

    def flip(x):
        axes = list(range(x.ndim))
        axes[-2:] = axes[-1], axes[-2]
        return transpose(x, tuple(axes))

    return {
        "add": (
            lambda g, out, a, b: unbroadcast(g, a.shape),
            lambda g, out, a, b: unbroadcast(g, b.shape),
        ),
        "sub": (
            lambda g, out, a, b: unbroadcast(g, a.shape),
            lambda g, out, a, b: -unbroadcast(g, b.shape),
        ),
        "mul": (
            lambda g, out, a, b: unbroadcast(g * b, a.shape),
            lambda g, out, a, b: unbroadcast(g * a, b.shape),
        ),
        "div": (
            lambda g, out, a, b: unbroadcast(g / b, a.shape),
            lambda g, out, a, b: -(unbroadcast(g * out, b.shape) / b),
        ),
        "maximum": (
            lambda g, out, a, b: unbroadcast(where(greater(a, b), g, 0.0), a.shape),
            lambda g, out, a, b: unbroadcast(where(greater(a, b), 0.0, g), b.shape),
        ),
        "where": (
            None,
            lambda g, out, mask, a, b: unbroadcast(where(mask, g, 0.0), a.shape),
            lambda g, out, mask, a, b: unbroadcast(where(mask, 0.0, g), b.shape),
        ),
        "matmul": (
            lambda g, out, a, b: unbroadcast(g @ flip(b), a.shape),
            lambda g, out, a, b: unbroadcast(flip(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, out, x, shape: unbroadcast(g, x.shape),),
    }
    ### END SOLUTION


# %% test broadcasting 2
_g = Node(np.arange(6.0).reshape(2, 3))
for _shape, _wanted in [
    ((3,), [3, 5, 7]),
    ((2, 1), [[3], [12]]),
    ((), 15),
    ((1, 3), [[3, 5, 7]]),
    ((2, 3), [[0, 1, 2], [3, 4, 5]]),
]:
    expect_close(unbroadcast(_g, _shape).value, _wanted, f"unbroadcast from (2, 3) to {_shape}")
_rules = broadcasting_rules()
_a, _b = Node(np.ones((2, 3))), Node([1.0, 2.0, 4.0])
_got = _rules["mul"][1](_g, _a * _b, _a, _b)
expect_close(
    _got.value,
    [3, 5, 7],
    "mul, shapes (2, 3) and (3,): the adjoint of the second",
    look="unbroadcast",
)
_a, _b = Node(np.ones((2, 3))), Node(np.ones((3, 4)))
_got = _rules["matmul"][0](Node(np.ones((2, 4))), _a @ _b, _a, _b)
expect_close(_got.value, np.full((2, 3), 4.0), "matmul, (2, 3) by (3, 4): the adjoint of the first")
print("Broadcasting: the visible test passes.")

# %% hidden broadcasting 10
ref = reference()
ref.apply, ref.Node, ref.VJP = apply, Node, VJP
random = np.random.default_rng(2)
rules = broadcasting_rules()


def normal(*shape):
    return random.normal(size=shape)


def away(*shape):
    return random.choice([-1.0, 1.0], shape) * random.uniform(0.5, 2.0, shape)


with counting() as work:
    expect_equal(unbroadcast(Node(normal(3, 2)), (3, 2)).shape, (3, 2), "unbroadcast: equal shapes")
expect_equal(work.total(), 0, "operations that unbroadcast does between equal shapes")
for big, small in [
    ((4, 3), (4, 1)),
    ((4, 3), (1, 1)),
    ((4, 3), ()),
    ((2, 4, 3), (4, 1)),
    ((2, 4, 3), (1, 4, 1)),
    ((2, 1, 3), (1, 1, 3)),
    ((2, 1, 3), (1, 3)),
    ((1, 1), ()),
    ((1, 3), (3,)),
    ((5, 1, 1), (1,)),
    ((0, 3), (3,)),
]:
    g = normal(*big)
    leaf = torch.zeros(small, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(leaf.broadcast_to(big), leaf, torch.tensor(g))
    expect_close(
        unbroadcast(Node(g), small).value,
        wanted.numpy(),
        f"unbroadcast from {big} to {small}",
        rtol=1e-9,
        atol=1e-12,
    )

patterns = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((1, 3), (2, 1)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((1,), (4,)),
    ((2, 1, 3), (4, 1)),
    ((3, 1), (2, 1, 1)),
]
cases = []
for a, b in patterns:
    for op, oracle in [
        ("add", torch.add),
        ("sub", torch.sub),
        ("mul", torch.mul),
        ("div", torch.div),
        ("maximum", torch.maximum),
    ]:
        cases.append((op, [away(*a), away(*b)], {}, oracle))


def choose(c, a, b):
    return torch.where(c != 0, a, b)


for mask, a, b in [
    ((2, 3), (2, 3), (2, 3)),
    ((3,), (2, 3), ()),
    ((2, 1), (3,), (2, 3)),
    ((), (3,), (2, 1)),
    ((4, 2), (), ()),
]:
    cases.append(("where", [random.integers(0, 2, mask) * 1.0, normal(*a), normal(*b)], {}, choose))
for a, b in [
    ((2, 3), (3, 4)),
    ((3, 3), (3, 3)),
    ((1, 3), (3, 1)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((4, 1, 2, 3), (5, 3, 2)),
    ((1, 2, 2), (3, 2, 2)),
]:
    cases.append(("matmul", [normal(*a), normal(*b)], {}, torch.matmul))
for a, b in [((3,), (2, 3)), ((2, 1), (2, 3)), ((), (4, 2)), ((1, 3), (5, 4, 3))]:
    cases.append(("broadcast", [normal(*a)], {"shape": b}, lambda x, b=b: x.broadcast_to(b)))

for op, arrays, attrs, oracle in cases:
    expect(op in rules, f"broadcasting_rules() has no rule for {op}")
    inputs = [Node(a) for a in arrays]
    out = apply(op, *inputs, **attrs)
    held = [torch.tensor(a, requires_grad=True) for a in arrays]
    result = oracle(*held)
    g, u = normal(*out.shape), [normal(*a.shape) for a in arrays]
    shapes = ", ".join(str(a.shape) for a in arrays)
    for i, rule in enumerate(rules[op]):
        if op == "where" and i == 0:
            continue
        what = f"{op} on shapes {shapes}: the rule of input {i}"
        adjoint = Node(g)
        got = attempt(what, rule, adjoint, out, *inputs, **attrs)
        expect(isinstance(got, Node), f"{what} must give a Node, not {type(got).__name__}")
        expect_equal(
            got.shape, arrays[i].shape, f"{what}: the shape", "unbroadcast(..., input.shape)"
        )
        seed = torch.tensor(g, requires_grad=True)
        (wanted,) = torch.autograd.grad(result, held[i], seed, create_graph=True)
        expect_close(got.value, wanted.detach().numpy(), what, rtol=1e-9, atol=1e-11)
        with replaced(VJP, {**ref.broadcasting_rules(), **ref.one_input_rules()}):
            again = ref.pullback(got, [adjoint, *inputs], Node(u[i]))
        wanted = torch.autograd.grad(
            wanted, [seed, *held], torch.tensor(u[i]), allow_unused=True, materialize_grads=True
        )
        for n, w, name in zip(again, wanted, ["g", "input 0", "input 1", "input 2"]):
            if op == "where" and name == "input 0":
                continue
            expect_close(
                n.value,
                w.numpy(),
                f"{what}: its own derivative with respect to {name}",
                rtol=1e-8,
                atol=1e-10,
                look="rules compute with nodes: a .value in a rule breaks the second derivative",
            )

a, b = Node([1.0, 2.0]), Node([3.0, 4.0])
mask = Node([1.0, 0.0])
g = Node([np.inf, 1.0])
expect_close(
    rules["where"][2](g, where(mask, a, b), mask, a, b).value,
    [0.0, 1.0],
    "where with mask [1, 0] and adjoint [inf, 1]: the adjoint of the second branch",
    look="0 * inf is NaN: choose, do not multiply",
)
tied = Node([1.0, 2.0]), Node([1.0, 5.0])
parts = [rules["maximum"][i](Node([1.0, 1.0]), maximum(*tied), *tied).value for i in (0, 1)]
expect_close(
    parts[0] + parts[1],
    [1.0, 1.0],
    "maximum of [1, 2] and [1, 5]: the adjoints of both inputs, added",
    look="at a tie the two parts of g add up to g",
)
expect(
    0 <= parts[0][0] <= 1, f"at the tie, the first input gets {parts[0][0]}: not between 0 and 1"
)

# %% hints broadcasting [markdown]
# 1. An element that was used six times in a broadcast has six adjoints. What has to happen to them?
# 2. NumPy aligns shapes at the right: axes that `shape` lacks are summed, and so are axes where `shape` has 1 and `g` has more. `reshape` puts the
#    ones back.
# 3. `"mul": (lambda g, out, a, b: unbroadcast(g * b, a.shape), ...)`. For `matmul`, `g @ bT` has the shape of `a` and `aT @ g` that of `b`, with the last two
#    axes of each matrix exchanged by `transpose`, and batch axes unbroadcast. For `div`: `out / b` is the derivative by the second, with a minus.

# %% [markdown]
# ## Task 3. Backwards through reductions and indices
#
# `one_input_rules() -> dict`: rules of the reverse mode for `exp`, `log`, `tanh`, `power`, `sum`, `max`, `transpose`, `take` and `scatter`.
#
# - `axis` of `sum` and `max` may be `None`, a number (also a negative one) or a tuple, with and without `keepdims`.
# - Elements that share a maximum share its adjoint, with weights that add up to 1.
# - `take` may read an element several times; `scatter` may write several elements to one place.
# - Each rule does at most six operations for each element of its largest array (input or output).


# %% task one_input
def one_input_rules():
    """Rules of the reverse mode for operations with one input."""
    ### BEGIN SOLUTION

    def kept(shape, axis):
        """`shape` with ones in place of the reduced axes."""
        axes = range(len(shape)) if axis is None else np.atleast_1d(axis) % len(shape)
        return tuple(1 if k in axes else size for k, size in enumerate(shape))

    def max_rule(g, out, x, axis, keepdims):
        mask = equal(x, reshape(out, kept(x.shape, axis)))
        share = reshape(g, kept(x.shape, axis)) / sum(mask, axis, keepdims=True)
        return mask * share

    return {
        "exp": (lambda g, out, x: g * out,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g * (1.0 - out * out),),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (
            lambda g, out, x, axis, keepdims: broadcast(reshape(g, kept(x.shape, axis)), x.shape),
        ),
        "max": (max_rule,),
        "transpose": (
            lambda g, out, x, axes: transpose(g, tuple(int(k) for k in np.argsort(axes))),
        ),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }
    ### END SOLUTION


# %% test one_input 3
_rules = one_input_rules()
_x = Node([[1.0, 5.0, 2.0], [4.0, 4.0, 0.0]])
_got = _rules["sum"][0](Node([1.0, 10.0]), sum(_x, 1), _x, axis=1, keepdims=False)
expect_close(_got.value, [[1, 1, 1], [10, 10, 10]], "sum of rows: the adjoint of the input")
_got = _rules["max"][0](Node([1.0, 10.0]), max(_x, 1), _x, axis=1, keepdims=False)
expect_close(_got.value[0], [0, 1, 0], "max of rows: the adjoint of row 0, [1, 5, 2]")
expect_close(
    np.sum(_got.value[1]),
    10,
    "max of rows: the adjoints in row 1, [4, 4, 0], added up",
    look="two elements share one maximum, and its adjoint",
)
_v, _i = Node([1.0, 2.0, 3.0]), np.array([0, 2, 2])
_got = _rules["take"][0](Node([1.0, 10.0, 100.0]), take(_v, _i), _v, index=_i)
expect_close(
    _got.value,
    [1, 0, 110],
    "take with index [0, 2, 2] and adjoints [1, 10, 100]",
    look="element 2 was read twice",
)
print("One input: the visible test passes.")

# %% hidden one_input 12
ref = reference()
ref.apply, ref.Node, ref.VJP = apply, Node, VJP
random = np.random.default_rng(3)
rules = one_input_rules()


def normal(*shape):
    return random.normal(size=shape)


def positive(*shape):
    return random.uniform(0.5, 2.0, shape)


cases = [
    ("exp", normal(2, 3), {}, torch.exp),
    ("log", positive(2, 3), {}, torch.log),
    ("tanh", normal(), {}, torch.tanh),
]
for exponent, make in [(2, normal), (3, normal), (1, normal), (-1, positive), (0.5, positive)]:
    cases.append(("power", make(4), {"exponent": exponent}, lambda x, k=exponent: x**k))
for axis in (None, 0, 1, 2, -1, -3, (0, 2), (1,), (-1, 0), (0, 1, 2)):
    for keepdims in (False, True):
        attrs = {"axis": axis, "keepdims": keepdims}
        dims = tuple(range(3)) if axis is None else axis
        cases.append(("sum", normal(2, 3, 4), attrs, lambda x, d=dims, k=keepdims: x.sum(d, k)))
        cases.append(("max", normal(2, 3, 4), attrs, lambda x, d=dims, k=keepdims: x.amax(d, k)))
cases.append(("sum", normal(), {"axis": None, "keepdims": False}, lambda x: x.sum()))
cases.append(("sum", normal(3, 3), {"axis": 0, "keepdims": False}, lambda x: x.sum(0)))
cases.append(("max", normal(3, 3), {"axis": 0, "keepdims": False}, lambda x: x.amax(0)))
for axes in [(1, 2, 0), (2, 0, 1), (0, 2, 1), (0, 1, 2)]:
    cases.append(("transpose", normal(2, 3, 4), {"axes": axes}, lambda x, a=axes: x.permute(a)))
cases.append(
    ("transpose", normal(2, 3, 4, 5), {"axes": (3, 0, 2, 1)}, lambda x: x.permute(3, 0, 2, 1))
)
for index in [
    2,
    slice(1, 4),
    slice(None, None, 2),
    (slice(None), 1),
    np.array([4, 0, 0, 4, 4]),
    np.array([[1, 1], [0, 1]]),
    (np.array([0, 0, 3]), np.array([2, 2, 1])),
    (slice(None), np.array([0, 0, 2])),
]:
    cases.append(("take", normal(5, 3), {"index": index}, lambda x, i=index: x[torch_index(i)]))
for index, shape, source in [
    (np.array([1, 1, 0, 1]), (3,), (4,)),
    (np.array([2, 2]), (4, 3), (2, 3)),
    ((np.array([0, 0, 1]), np.array([1, 1, 0])), (2, 2), (3,)),
]:
    cases.append(
        (
            "scatter",
            normal(*source),
            {"index": index, "shape": shape},
            lambda x, i=index, s=shape: torch_scatter(x, i, s),
        )
    )

for op, array, attrs, oracle in cases:
    expect(op in rules, f"one_input_rules() has no rule for {op}")
    x = Node(array)
    out = apply(op, x, **attrs)
    held = torch.tensor(array, requires_grad=True)
    result = oracle(held)
    g = normal(*out.shape)
    what = f"{op} on shape {array.shape}, attributes {attrs}"
    adjoint = Node(g)
    with counting() as work:
        got = attempt(what, rules[op][0], adjoint, out, x, **attrs)
    expect(isinstance(got, Node), f"{what}: the rule must give a Node, not {type(got).__name__}")
    expect_equal(got.shape, array.shape, f"{what}: the shape of the adjoint of the input")
    most = 6 * np.maximum(x.value.size, out.value.size)
    expect(
        work.total() <= most, f"{what}: the rule does {work.total()} operations; {most} are allowed"
    )
    seed = torch.tensor(g, requires_grad=True)
    (wanted,) = torch.autograd.grad(result, held, seed, create_graph=True)
    expect_close(got.value, wanted.detach().numpy(), what, rtol=1e-9, atol=1e-12)
    u = normal(*array.shape)
    with replaced(VJP, {**ref.broadcasting_rules(), **ref.one_input_rules()}):
        again = ref.pullback(got, [adjoint, x], Node(u))
    wanted = torch.autograd.grad(
        wanted, [seed, held], torch.tensor(u), allow_unused=True, materialize_grads=True
    )
    for n, w, name in zip(again, wanted, ["g", "the input"]):
        expect_close(
            n.value,
            w.numpy(),
            f"{what}: the derivative of the rule with respect to {name}",
            rtol=1e-8,
            atol=1e-10,
            look="rules compute with nodes: a .value in a rule breaks the second derivative",
        )

x = Node([[7.0, 7.0, 1.0], [7.0, 2.0, 7.0]])
for axis, ties in [(None, [(0, 0), (0, 1), (1, 0), (1, 2)]), (1, [(0, 0), (0, 1)])]:
    out = max(x, axis)
    got = rules["max"][0](Node(np.ones(out.shape)), out, x, axis=axis, keepdims=False).value
    weights = [got[place] for place in ties]
    expect_close(
        np.sum(weights),
        1.0,
        f"max over axis {axis} of {x.value.tolist()}: the weights of the tied elements, added up",
        look="one maximum has one adjoint to share out",
    )
    expect(
        np.min(weights) >= 0,
        f"max over axis {axis}: a tied element has the weight {np.min(weights)}",
    )
    expect_close(got[x.value != 7], 0 * got[x.value != 7], "max: the adjoints of other elements")

# %% hints one_input [markdown]
# 1. The rule of `take` is `scatter` and that of `scatter` is `take`: reading is the transpose of adding. Which pairs of the others belong together?
# 2. After a reduction without `keepdims`, give `g` its lost axes back as ones (a small function of `x.shape` and `axis` tells where), then it broadcasts.
#    The inverse of a permutation is `numpy.argsort` of it.
# 3. `max`: `mask = equal(x, out_with_ones)`; each marked element gets `g / number of marked ones`, where the number is
#    `sum(mask, axis, keepdims=True)`.

# %% [markdown]
# ## Task 4. The sweep backwards
#
# `pullback(y, xs, g) -> list[Node]`: the derivatives of `sum(g * y)` with respect to each node in the list `xs`, with `g` of the shape of `y`. Each has the
# shape of its `x`; zeros where `y` does not depend on `x`. It looks rules up in the table `VJP`.
#
# - A node that is used several times gets the **sum** of its contributions, and it passes its adjoint on only when the sum is complete.
#   So each rule runs at most once for each use (edge) of a node, however many paths lead through it.
# - **Pruning**: a rule runs only for an input that depends on some of the `xs` (or is one of them). What depends on constants only costs nothing.
# - An `x` may be `y` itself, or lie between `y` and another `x`, or stand in `xs` twice.
# - Nodes are not changed: a second call gives the same answer. Graphs may be 5,000 operations deep.
#
# The given `slow_pullback` is the chain rule as it stands in textbooks: a sum over all paths from `y` to `x`. It says what is right, but after
# sixteen additions `x = x + x` there are 65,536 paths, and its recursion ends at a thousand operations. `slow_jvp` does the same forwards.
# The visible tests of Tasks 5 and 7 run on these two, so that you can do those tasks before this one.


# %% given
def slow_pullback(y, xs, g):
    """Adjoints by the definition: every path from `y` to `x` contributes the product of its derivatives."""

    def over_paths(n, g, x):
        total = g if n is x else Node(np.zeros(x.shape))
        for i, inp in enumerate(n.inputs):
            if rule := VJP[n.op][i]:
                total = total + over_paths(inp, rule(g, n, *n.inputs, **n.attrs), x)
        return total

    return [over_paths(y, node(g), x) for x in xs]


def slow_jvp(f, x, v):
    """The value and the tangent of `f`, by the definition."""
    start = alias(x)

    def tangent(n):
        total = node(v) if n is start else Node(np.zeros(n.shape))
        if n is not start:
            for i, inp in enumerate(n.inputs):
                if rule := JVP[n.op][i]:
                    total = total + rule(tangent(inp), n, *n.inputs, **n.attrs)
        return total

    y = node(f(start))
    return y, tangent(y)


# %% task pullback
def pullback(y, xs, g):
    """The adjoints of the nodes `xs` when `y` has the adjoint `g`."""
    ### BEGIN SOLUTION
    order = ancestors(y)
    active = set(xs)
    for n in order:
        if any(x in active for x in n.inputs):
            active.add(n)
    adjoints = {y: node(g)}
    for n in reversed(order):
        if n not in adjoints or n not in active:
            continue
        for i, x in enumerate(n.inputs):
            if x in active and (rule := VJP[n.op][i]):
                part = rule(adjoints[n], n, *n.inputs, **n.attrs)
                adjoints[x] = adjoints[x] + part if x in adjoints else part
    return [adjoints[x] if x in adjoints else Node(np.zeros(x.shape)) for x in xs]
    ### END SOLUTION


# %% test pullback 3
_x = Node(2.0)
_y = _x * _x * _x
expect_close(
    pullback(_y, [_x], 1.0)[0].value, 12.0, "d/dx of x * x * x at 2", look="x is used 3 times"
)
_a = sin(_x)
_y = _a * _a + _a
_by_x, _by_a, _by_y = pullback(_y, [_x, _a, _y], 1.0)
expect_close(_by_a.value, 2 * math.sin(2) + 1, "a = sin x, y = a a + a: dy/da")
expect_close(_by_x.value, (2 * math.sin(2) + 1) * math.cos(2), "a = sin x, y = a a + a: dy/dx")
expect_close(_by_y.value, 1.0, "dy/dy")
expect_close(pullback(_y, [_x], 1.0)[0].value, _by_x.value, "the same again")
expect_close(
    pullback(_y, [Node([1.0, 2.0])], 1.0)[0].value, [0, 0], "by a node that y does not use"
)
print("The sweep: the visible test passes.")

# %% hidden pullback 12
ref = reference()
ref.apply, ref.Node, ref.VJP = apply, Node, VJP
random = np.random.default_rng(4)


def normal(*shape):
    return random.normal(size=shape)


with replaced(VJP, {**ref.broadcasting_rules(), **ref.one_input_rules()}):
    calls = Counter()

    def watched(i, rule):
        def call(g, out, *inputs, **attrs):
            calls[out.number, i] += 1
            return rule(g, out, *inputs, **attrs)

        return rule and call

    table = {op: tuple(watched(i, rule) for i, rule in enumerate(VJP[op])) for op in VJP}
    with replaced(VJP, table):
        x = y = Node(1.0)
        for _ in range(14):
            y = y + y
        expect_close(pullback(y, [x], 1.0)[0].value, 2.0**14, "x doubled 14 times by x + x")
        expect_equal(
            sorted(set(calls.values())),
            [1],
            "x doubled 14 times: how often a rule ran for one use of a node",
            "pass an adjoint on only when it is complete: go through the nodes from the newest to the oldest",
        )
        expect_equal(len(calls), 28, "x doubled 14 times: uses of nodes for which a rule ran")
        for name, build in {
            "a diamond": lambda x: (lambda a: sin(a) * cos(a) + a)(x * x),
            "a diamond whose short side is made last": lambda x: (lambda a: sin(sin(a)) + a)(
                x * 2.0
            ),
            "a node used by old and new nodes": lambda x: (lambda a, b: b * a + sin(b) * x)(
                x * x, sin(x)
            ),
        }.items():
            calls.clear()
            x = Node(0.7)
            y = build(x)
            held = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
            with replaced(globals(), {"sin": torch.sin, "cos": torch.cos}):
                result = build(held)
            result.backward()
            expect_close(pullback(y, [x], 1.0)[0].value, held.grad.item(), f"{name}: dy/dx")
            expect(
                set(calls.values()) == {1},
                f"{name}: a rule ran {np.max(list(calls.values()))} times for one use",
            )

        calls.clear()
        x, weights = Node(normal(20)), Node(normal(50, 50))
        fixed = sum(tanh(weights @ weights), 1)
        y = sum(sin(x)) * sum(fixed) + sum(fixed * fixed)
        unused = exp(x * x)
        with counting() as work:
            pullback(y, [x], 1.0)
        expect(
            work.total() <= 300,
            f"the derivative by 20 inputs does {work.total()} operations; 300 suffice: most of the graph depends on"
            " constants only",
            "find out first which nodes depend on xs; skip inputs that do not",
        )
        ran = {number for number, _ in calls}
        expect(
            unused.number not in ran,
            "a rule ran for exp(x * x), which y does not depend on",
            "ancestors(y)",
        )
        calls.clear()
        middle = sin(sum(x))
        y = middle * middle
        pullback(y, [middle], 1.0)
        expect_equal(
            {number for number, _ in calls},
            {y.number},
            "y = a * a by a: the numbers of the nodes whose rules ran",
            "below a, nothing is asked for",
        )

    x = Node([0.3, 0.7])
    middle = sin(x)
    y = sum(middle * middle)
    got = pullback(y, [middle, x], 1.0)
    expect_close(
        got[0].value, 2 * np.sin(x.value), "a = sin x, y = sum(a a), xs = [a, x]: the first"
    )
    expect_close(
        got[1].value,
        np.sin(2 * x.value),
        "a = sin x, y = sum(a a), xs = [a, x]: the second",
        look="a is asked for, and x lies behind it: go on",
    )
    for seed in range(40):
        f, at = program(seed), normal(3, 4)
        x = Node(at)
        middle = tanh(x)
        y = f(OURS, middle)
        g = normal(*y.shape)
        held = torch.tensor(at, requires_grad=True)
        between = torch.tanh(held)
        result = f(TORCH, between)
        wanted = torch.autograd.grad(result, [held, between], torch.tensor(g))
        got = pullback(y, [x, middle, x], Node(g))
        expect_equal(len(got), 3, "pullback with three nodes: the number of adjoints")
        for n, w, what in zip(got, [*wanted, wanted[0]], ["x", "tanh(x)", "x, named twice"]):
            expect(isinstance(n, Node), "pullback must give nodes")
            expect_close(
                n.value,
                w.numpy(),
                f"program({seed}) of tanh(x): the derivative by {what}, against torch",
                rtol=1e-8,
                atol=1e-9,
                look="smaller cases: sums of contributions, and adjoints that are complete before they go on",
            )

    x = Node(normal(3))
    y = sum(sin(x) * x)
    before = {n: (n.value.copy(), set(vars(n))) for n in ancestors(y)}
    pullback(y, [x], 1.0)
    for n, (value, names) in before.items():
        expect_equal(
            n.value,
            value,
            f"the value of {n} after pullback",
            "adjoints must not be added in place",
        )
        expect_equal(set(vars(n)), names, f"the attributes of {n} after pullback")
    g = Node(normal(4))
    kept = g.value.copy()
    x = Node(normal(4))
    y = x + x
    for _ in range(2):
        (got,) = pullback(y, [x], g)
    expect_close(got.value, 2 * kept, "y = x + x: the second call", look="state of the first call")
    expect_equal(g.value, kept, "g after pullback")
    x = y = Node(1.0)
    for _ in range(5_000):
        y = y * 1.0001
    try:
        (got,) = pullback(y, [x], 1.0)
    except RecursionError:
        got = None
    expect(
        got is not None, "pullback through 5000 operations: RecursionError", "a loop, no recursion"
    )
    expect_close(got.value, 1.0001**5_000, "pullback through 5000 multiplications")
    x = Node(normal(3))
    expect_close(
        pullback(x, [x], np.array([1.0, 2.0, 3.0]))[0].value, [1, 2, 3], "pullback(x, [x], g)"
    )

# %% hints pullback [markdown]
# 1. In `y = sin(a) * cos(a)` the node `a` gets two contributions. What goes wrong if it passes the first one on at once?
# 2. Numbers grow from inputs to outputs, so `reversed(ancestors(y))` meets a node only after all nodes that use it. An ascending pass first marks what
#    depends on `xs`.
# 3. Keep adjoints in a dictionary from node to node, starting with `{y: node(g)}`; for each marked node and each marked input, add
#    `rule(adjoints[n], n, *n.inputs, **n.attrs)` to the input's entry.

# %% [markdown]
# ## Task 5. Gradients, and gradients of gradients
#
# The rules compute with nodes, so what `pullback` returns has a graph too: it continues the graph of `f`, and can be differentiated again.
#
# - `grad(f, argnum=0)` returns a function with the arguments of `f`, the gradient with respect to argument number `argnum`, as a node of its
#   shape. Arguments are arrays, numbers or nodes. `f` must give a scalar (shape `()`); anything else raises `ValueError`.
#   `grad(grad(grad(f)))` gives third derivatives, and as in Task 1, only the argument moves:
#   `grad(lambda x: x * grad(lambda y: x * y)(x))(3.0)` is 6.
# - `hvp(f, x, v)`: the Hessian matrix of `f` at `x` times `v`, as a node of the shape of `x`. It must not build the Hessian: at most 6 times as
#   many operations as the gradient, whatever the size of `x`. And it is exact: no finite differences.


# %% task higher
def grad(f, argnum=0):
    """The function that computes the gradient of `f`."""
    ### BEGIN SOLUTION

    def gradient(*args):
        args = [node(arg) for arg in args]
        args[argnum] = alias(args[argnum])
        y = node(f(*args))
        if y.shape != ():
            raise ValueError(f"only a scalar has a gradient; f gives shape {y.shape}")
        return pullback(y, [args[argnum]], 1.0)[0]

    return gradient
    ### END SOLUTION


def hvp(f, x, v):
    """The Hessian of `f` at `x`, times `v`."""
    ### BEGIN SOLUTION
    return jvp(grad(f), x, v)[1]
    ### END SOLUTION


# %% test higher 2
def _fifth(x):
    return x * x * x * x * x


with replaced(globals(), {"pullback": slow_pullback, "jvp": slow_jvp}):
    expect_close(grad(_fifth)(2.0).value, 80.0, "the derivative of x^5 at 2")
    expect_close(
        grad(grad(grad(_fifth)))(2.0).value, 240.0, "the third derivative of x^5 at 2: 60 x^2"
    )
    expect_close(
        grad(lambda x: x * grad(lambda y: x * y)(x))(3.0).value,
        6.0,
        "d/dx of x * (d/dy of x y), at 3",
        look="f must be called with a node of its own: alias",
    )
    expect_close(
        grad(lambda a, b: a * sin(b), 1)(2.0, 0.5).value, 2 * math.cos(0.5), "argument 1 of a sin b"
    )
    expect_close(
        hvp(_fifth, 2.0, 3.0).value, 480.0, "hvp of x^5 at 2 in the direction 3: 20 x^3 * 3"
    )
    expect_raises(
        ValueError,
        lambda: grad(lambda x: x * x)(np.ones(3)),
        "grad of a function with a vector value",
    )
print("Gradients: the visible test passes.")

# %% hidden higher 12
ref = reference()
ref.apply, ref.Node, ref.JVP, ref.VJP = apply, Node, JVP, VJP
random = np.random.default_rng(5)


def normal(*shape):
    return random.normal(size=shape)


def scalar(seed, ops):
    f = program(seed, steps=9)

    def g(x):
        y = f(ops, x)
        return ops.sum(ops.sin(y) * y)

    return g


with (
    replaced(JVP, ref.forward_rules()),
    replaced(VJP, {**ref.broadcasting_rules(), **ref.one_input_rules()}),
    replaced(globals(), {"jvp": ref.jvp, "pullback": ref.pullback, "unbroadcast": ref.unbroadcast}),
):
    for order, wanted in enumerate([160.0, 320.0, 480.0, 480.0, 240.0, 0.0], 1):

        def f(x):
            return 2.0 * x**5 if order % 2 else x * x * x * x * x * 2.0

        for _ in range(order):
            f = grad(f)
        expect_close(
            f(2.0).value,
            wanted,
            f"derivative number {order} of 2 x^5 at 2",
            rtol=1e-12,
            look="the result of grad must have a graph: compute with nodes to the end",
        )
    third = grad(grad(grad(lambda x: sin(x) * exp(x) / (1.0 + x * x))))(0.3)
    held = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    derivative = torch.sin(held) * torch.exp(held) / (1 + held * held)
    for _ in range(3):
        (derivative,) = torch.autograd.grad(derivative, held, create_graph=True)
    expect_close(
        third.value,
        derivative.item(),
        "the third derivative of sin x exp x / (1 + x^2)",
        rtol=1e-10,
    )

    for seed in range(40):
        at, v = normal(3, 4), normal(3, 4)
        ours, theirs = scalar(seed, OURS), scalar(seed, TORCH)
        wanted = torch.func.grad(theirs)(torch.tensor(at))
        got = grad(ours)(at)
        expect(isinstance(got, Node), "grad must give a node")
        expect_close(
            got.value,
            wanted.numpy(),
            f"program({seed}): grad against torch.func",
            rtol=1e-8,
            atol=1e-8,
        )
        _, wanted = torch.autograd.functional.hvp(theirs, torch.tensor(at), torch.tensor(v))
        got = hvp(ours, at, v)
        expect(isinstance(got, Node), "hvp must give a node")
        size = float(np.abs(wanted.numpy()).max()) + 1e-6
        expect_close(
            got.value,
            wanted.numpy(),
            f"program({seed}): hvp against torch.autograd.functional.hvp",
            rtol=1e-10,
            atol=1e-10 * size,
            look="finite differences are not that exact",
        )

    def network(x, w, u):
        return sum(tanh(tanh(x @ w) @ u) ** 2)

    shapes = (6, 8), (8, 10), (10, 3)
    arrays = [normal(*shape) for shape in shapes]
    held = [torch.tensor(a, requires_grad=True) for a in arrays]
    torch.sum(torch.tanh(torch.tanh(held[0] @ held[1]) @ held[2]) ** 2).backward()
    for argnum in range(3):
        expect_close(
            grad(network, argnum)(*arrays).value,
            held[argnum].grad.numpy(),
            f"a network of two layers: the gradient of argument {argnum}",
            rtol=1e-9,
            atol=1e-12,
        )

    def long(x):
        y = x
        for k in range(12):
            y = sin(y) * x + tanh(y) / (2.0 + x * x)
        return sum(y * y)

    for n in (10, 1000):
        at, v = normal(n), normal(n)
        with counting() as plain:
            long(Node(at))
        with counting() as first:
            grad(long)(at)
        with counting() as second:
            hvp(long, at, v)
        with counting() as fair:
            ref.grad(long)(at)
        expect(
            first.total() <= 6 * plain.total(),
            f"{n} inputs: the gradient does {first.total() / plain.total():.1f} times the operations of f; 6 are allowed",
        )
        expect(
            second.total() <= 6 * fair.total(),
            f"{n} inputs: hvp does {second.total() / fair.total():.1f} times the operations of the gradient; 6 are allowed",
            "one derivative of the gradient in one direction, not n of them",
        )

    outer = Node(3.0)
    expect_close(
        grad(lambda y: outer * y)(outer).value,
        3.0,
        "grad at a node that f also holds as a constant",
    )
    expect_close(
        grad(lambda x: x * grad(lambda y: x * y)(x))(5.0).value,
        10.0,
        "d/dx of x * (d/dy of x y), at 5",
    )
    expect_close(
        grad(lambda x: sum(hvp(lambda z: sum(z * z * z) * x, np.ones(2), np.ones(2))))(7.0).value,
        12.0,
        "d/dx of the sum of an hvp inside, with a function that holds x",
    )
    expect_close(
        jvp(lambda x: hvp(lambda z: z**4, x, 1.0), 2.0, 1.0)[1].value,
        48.0,
        "the derivative of an hvp: d/dx of 12 x^2 at 2",
        look="hvp must give a node with a graph",
    )
    expect_close(grad(lambda x: 5.0)(np.ones(3)).value, [0, 0, 0], "the gradient of a constant")
    expect_close(
        grad(lambda x, y: sum(x) * y)(np.ones(2), Node(3.0)).value, [3, 3], "a node as argument"
    )
    for bad in (lambda x: x, lambda x: reshape(sum(x), (1,))):
        expect_raises(
            ValueError, lambda: grad(bad)(np.ones(2)), "grad of a value that is no scalar"
        )

# %% hints higher [markdown]
# 1. `grad` calls `f` with nodes and hands the result to `pullback`. Why may it not use the caller's node itself?
# 2. `args[argnum] = alias(args[argnum])`, then `pullback(y, [that node], 1.0)`. If you return the node and not its value, the second derivative works
#    without another line.
# 3. The Hessian times `v` is the derivative of the gradient in the direction `v`: one call of `jvp` on `grad(f)`. (The gradient of
#    `sum(grad(f)(x) * v)` is the same; what is the difference in operations?)

# %% [markdown]
# ## Task 6. A loss that does not overflow
#
# Cross-entropy of a softmax is written with exponentials that overflow at a logit of 710 and with logarithms of numbers that underflow.
# Build it so that values and gradients are finite and right, also for logits of 10,000.
#
# - `logsumexp(x, axis) -> Node`: log of the sum of the exponentials of `x` along one axis (which disappears). Elements may be minus infinity,
#   as in a masked attention score; at least one along the axis is finite.
# - `softmax_xent(logits, labels) -> Node`: the mean over the rows of `-log softmax(logits)[label]`; `logits` is of shape `(n, k)`, `labels` an array of `n` whole
#   numbers.
#
# Use the operations of the notebook; gradients and Hessians must come out right by the usual rules.


# %% task xent
def logsumexp(x, axis):
    """log(sum(exp(x))) along one axis."""
    ### BEGIN SOLUTION
    top = stop(max(x, axis, keepdims=True))
    return log(sum(exp(x - top), axis)) + top.value.squeeze(axis)
    ### END SOLUTION


def softmax_xent(logits, labels):
    """The mean cross-entropy of the rows of `logits`."""
    ### BEGIN SOLUTION
    n = len(labels)
    chosen = take(logits, (np.arange(n), np.asarray(labels)))
    return sum(logsumexp(logits, 1) - chosen) / float(n)
    ### END SOLUTION


# %% test xent 2
_x = Node([[0.0, math.log(3.0)], [-1e4, 1e4]])
expect_close(
    logsumexp(_x, 1).value, [math.log(4.0), 1e4], "logsumexp of [0, log 3] and [-1e4, 1e4]"
)
expect_close(
    softmax_xent(_x, np.array([0, 0])).value,
    (math.log(4.0) + 2e4) / 2,
    "softmax_xent of these rows, labels 0 and 0",
    look="the largest element of the row can be taken out of the sum",
)
print("Cross-entropy: the visible test passes.")

# %% hidden xent 8
ref = reference()
ref.apply, ref.Node, ref.JVP, ref.VJP = apply, Node, JVP, VJP
random = np.random.default_rng(6)


def normal(*shape):
    return random.normal(size=shape)


with (
    replaced(JVP, ref.forward_rules()),
    replaced(VJP, {**ref.broadcasting_rules(), **ref.one_input_rules()}),
):
    for shape, axis in [((5,), 0), ((3, 4), 1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 3), -1)]:
        for scale in (1.0, 30.0, 1e4):
            at = scale * normal(*shape)
            x = Node(at)
            y = logsumexp(x, axis)
            wanted = torch.logsumexp(torch.tensor(at), axis)
            what = f"logsumexp over axis {axis} of shape {shape}, elements of size {scale:g}"
            expect_close(y.value, wanted.numpy(), what, rtol=1e-12, atol=1e-12)
            g = normal(*y.shape)
            held = torch.tensor(at, requires_grad=True)
            torch.logsumexp(held, axis).backward(torch.tensor(g))
            (got,) = ref.pullback(y, [x], g)
            expect_close(
                got.value, held.grad.numpy(), f"{what}: its derivative", rtol=1e-9, atol=1e-12
            )

    masked = np.where(random.random((4, 6)) < 0.5, -np.inf, normal(4, 6))
    masked[:, 2] = 1.0
    x = Node(masked)
    y = logsumexp(x, 1)
    expect_close(
        y.value, torch.logsumexp(torch.tensor(masked), 1).numpy(), "logsumexp with elements -inf"
    )
    (got,) = ref.pullback(y, [x], np.ones(4))
    expect_close(
        got.value,
        torch.softmax(torch.tensor(masked), 1).numpy(),
        "logsumexp with elements -inf: its derivative is the softmax",
        rtol=1e-9,
    )
    tied = Node(np.zeros((2, 3)))
    expect_close(
        ref.pullback(logsumexp(tied, 1), [tied], np.ones(2))[0].value,
        np.full((2, 3), 1 / 3),
        "logsumexp of three equal elements: its derivative",
        look="the maximum that you take out must not change the derivative: stop()",
    )

    for scale in (1.0, 50.0, 1e4):
        logits, labels = scale * normal(8, 5), random.integers(0, 5, 8)
        what = f"softmax_xent of (8, 5) logits of size {scale:g}"
        held = torch.tensor(logits, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(held, torch.tensor(labels))
        loss.backward()
        expect_close(softmax_xent(Node(logits), labels).value, loss.item(), what, rtol=1e-10)
        got = ref.grad(lambda z: softmax_xent(z, labels))(logits)
        expect(np.all(np.isfinite(got.value)), f"{what}: the gradient is not finite")
        expect_close(got.value, held.grad.numpy(), f"{what}: the gradient", rtol=1e-8, atol=1e-12)
        expect_close(
            np.sum(got.value, axis=1),
            np.zeros(8),
            f"{what}: the gradient, summed over each row",
            atol=1e-12,
            look="adding a number to all logits of a row changes nothing",
        )
    logits, v = normal(4, 3), normal(4, 3)
    labels = np.array([0, 2, 1, 1])
    _, wanted = torch.autograd.functional.hvp(
        lambda z: torch.nn.functional.cross_entropy(z, torch.tensor(labels)),
        torch.tensor(logits),
        torch.tensor(v),
    )
    expect_close(
        ref.hvp(lambda z: softmax_xent(z, labels), logits, v).value,
        wanted.numpy(),
        "softmax_xent: the Hessian times a vector",
        rtol=1e-8,
        atol=1e-10,
    )
    mixed = np.array([[1e4, 0.0], [-1e4, -1e4 + 1]])
    expect_close(
        logsumexp(Node(mixed), 1).value,
        [1e4, -1e4 + 1 + math.log1p(math.exp(-1))],
        "logsumexp of a row near 1e4 above one near -1e4",
        rtol=1e-12,
        look="each row has a largest element of its own",
    )

# %% hints xent [markdown]
# 1. `log(exp(a) + exp(b)) = m + log(exp(a - m) + exp(b - m))` for every `m`. Which `m` makes overflow impossible and keeps one term at 1?
# 2. The result does not depend on `m`, so no derivative needs to pass through it: `stop`. Take the maximum of each row, with `keepdims=True`.
# 3. `-log softmax(z)[label]` is `logsumexp(z) - z[label]`: no softmax is needed at all. `take(logits, (np.arange(n), labels))` picks `z[label]` of every row.

# %% [markdown]
# ## Task 7. Testing the rules
#
# A wrong rule does not crash; the model merely learns worse. So derivatives are tested against the definition:
# `(f(x + h) - f(x - h)) / 2h`, with an `h` small enough for the curve to be straight and large enough for the subtraction to keep its digits.
#
# `gradcheck(f, *xs, tol=1e-6) -> bool`: whether the rules in `VJP` are right for `f` at `xs` (arrays, not changed by the call). `f` maps nodes of these shapes to
# a node of any shape. For random adjoints `g` of the output, compare what `pullback` gives for every element of every `x` with the
# central difference of `sum(g * f)`; accept a difference of `tol * (1 + |expected|)`.
#
# - It accepts correct rules of smooth functions, where elements of `xs` are between 0.01 and 100 in size (or 0), with `tol` 1e-6.
# - It rejects whatever is wrong: a sign, a factor of 1.0001, a single element, a rule that is right only if `g` is all ones or positive, a
#   NaN, an adjoint of another shape than its `x`. A wrong adjoint gives False, not an error.


# %% task gradcheck
def gradcheck(f, *xs, tol=1e-6):
    """Whether the rules used by `f` agree with central differences."""
    ### BEGIN SOLUTION
    xs = [np.array(x, np.float64) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(0).normal(size=y.shape)
    adjoints = pullback(y, nodes, Node(g))
    for k, x in enumerate(xs):
        if adjoints[k].shape != x.shape:
            return False
        for place in np.ndindex(x.shape):
            h = 6e-6 * float(np.maximum(abs(x[place]), 0.01))
            values = []
            for step in (h, -h):
                moved = [other.copy() for other in xs]
                moved[k][place] += step
                values.append(np.sum(g * node(f(*map(Node, moved))).value))
            expected = (values[0] - values[1]) / (2 * h)
            if not abs(adjoints[k].value[place] - expected) <= tol * (1 + abs(expected)):
                return False
    return True
    ### END SOLUTION


# %% test gradcheck 2
_at = np.array([[0.3, -1.2], [2.0, 0.5]])
with replaced(globals(), {"pullback": slow_pullback}):
    expect(
        gradcheck(lambda x: sin(x) * x, _at), "gradcheck must accept the given rules of sin and mul"
    )
    with replaced(VJP, {"sin": (lambda g, out, x: -(g * cos(x)),)}):
        expect(
            not gradcheck(lambda x: sin(x) * x, _at),
            "gradcheck must reject sin with the wrong sign",
        )
    with replaced(VJP, {"sin": (lambda g, out, x: cos(x),)}):
        expect(
            not gradcheck(lambda x: sin(x), _at),
            "gradcheck must reject a rule that forgets g",
            "with adjoints that are all 1, this rule looks right",
        )
print("The checker: the visible test passes.")

# %% hidden gradcheck 9
ref = reference()
ref.apply, ref.Node, ref.JVP, ref.VJP = apply, Node, JVP, VJP
random = np.random.default_rng(7)


def normal(*shape):
    return random.normal(size=shape)


def away(*shape):
    return random.choice([-1.0, 1.0], shape) * random.uniform(0.5, 2.0, shape)


right = {
    "products of matrices": (lambda a, b: a @ b, [normal(3, 4), normal(4, 2)]),
    "broadcasting, two inputs": (lambda a, b: a / b + b * a, [normal(3, 1), away(2, 1, 3)]),
    "a scalar function": (lambda x: sum(tanh(x) * x), [normal(6)]),
    "a scalar input": (lambda x: exp(x) + np.ones(3), [np.array(0.4)]),
    "logarithms near 0": (lambda x: log(x), [np.array([0.01, 0.02, 0.5])]),
    "reciprocals near 0": (lambda x: div(0.001, x), [np.array([0.02, -0.03, 4.0])]),
    "large arguments": (lambda x: x * x * 1e-3, [np.array([100.0, -70.0, 0.0, 3.0])]),
    "powers of large arguments": (lambda x: power(x, 0.5), [np.array([100.0, 50.0, 1.0])]),
    "repeated indices": (lambda x: take(x, np.array([0, 0, 2])) * x, [normal(3)]),
    "maxima": (lambda x: max(x, 1), [np.array([[1.0, 2.0, 4.0], [3.0, -1.0, 0.5]])]),
    "a constant": (lambda x: node(np.ones(2)), [normal(3)]),
    "whole numbers": (lambda x: x * x, [np.array([1, 2, 3])]),
}


def last_only(g, out, x):
    """The rule of tanh, wrong in the last element only."""
    mask = np.ones(x.shape)
    mask.flat[-1] = 1.01
    return g * (1.0 - out * out) * mask


wrong = {
    "tanh: a factor of 1.0001": (
        "tanh",
        lambda g, out, x: 1.0001 * g * (1.0 - out * out),
        tanh,
        [normal(3, 4)],
    ),
    "tanh: wrong in the last element": ("tanh", last_only, tanh, [normal(3, 4)]),
    "tanh: wrong for negative arguments": (
        "tanh",
        lambda g, out, x: g * (1.0 - out * out) * where(greater(x, 0.0), 1.0, 1.5),
        tanh,
        [normal(3, 4)],
    ),
    "exp: forgets g": ("exp", lambda g, out, x: out + 0.0 * g, exp, [normal(3, 4)]),
    "exp: the size of g only": ("exp", lambda g, out, x: maximum(g, -g) * out, exp, [normal(3, 4)]),
    "exp: gives NaN": ("exp", lambda g, out, x: g * out * np.nan, exp, [normal(3, 4)]),
    "transpose: reshapes": (
        "transpose",
        lambda g, out, x, axes: reshape(g, x.shape),
        lambda x: transpose(x, (1, 0)),
        [normal(3, 4)],
    ),
    "power: forgets the inner exponent": (
        "power",
        lambda g, out, x, exponent: g * (exponent * x),
        lambda x: power(x, 3),
        [normal(4)],
    ),
    "max: marks every row's first element": (
        "max",
        lambda g, out, x, axis, keepdims: reshape(g, (3, 1)) * np.array([1.0, 0.0, 0.0]),
        lambda x: max(x, 1),
        [np.array([[1.0, 2.0, 4.0], [3.0, -1.0, 0.5], [0.0, 0.1, 0.2]])],
    ),
    "take: repeated elements once": (
        "take",
        lambda g, out, x, index: Node(np.put_along_axis(z := np.zeros(3), index, g.value, 0) or z),
        lambda x: take(x, np.array([0, 0, 2])),
        [normal(3)],
    ),
    "sum: of one row too few": (
        "sum",
        lambda g, out, x, axis, keepdims: broadcast(g, x.shape) * np.array([[1.0], [1.0], [0.0]]),
        lambda x: sum(x, 0),
        [normal(3, 4)],
    ),
}
wrong_pairs = {
    "mul: no unbroadcast": (
        "mul", (lambda g, out, a, b: g * b, lambda g, out, a, b: g * a), lambda a, b: a * b, [normal(3, 4), normal(4)],
    ),
    "div: the sign of the second": (
        "div", (lambda g, out, a, b: g / b, lambda g, out, a, b: g * out / b), lambda a, b: a / b, [normal(4), away(4)],
    ),
    "matmul: b not transposed": (
        "matmul",
        (lambda g, out, a, b: g @ b, lambda g, out, a, b: transpose(a, (1, 0)) @ g),
        lambda a, b: a @ b,
        [normal(3, 3), normal(3, 3)],
    ),
    "add: the second twice": (
        "add", (lambda g, out, a, b: g, lambda g, out, a, b: 2.0 * g), lambda a, b: a + b, [normal(4), normal(4)],
    ),
    "mul: a hundredth too much for a small one beside a large one": (
        "mul",
        (lambda g, out, a, b: g * b, lambda g, out, a, b: g * a * 1.01),
        lambda a, b: a * b,
        [np.array([0.05, 0.02, 0.03]), np.array([90.0, 80.0, 70.0])],
    ),
}  # fmt: skip

with (
    replaced(VJP, {**ref.broadcasting_rules(), **ref.one_input_rules()}),
    replaced(globals(), {"pullback": ref.pullback, "unbroadcast": ref.unbroadcast}),
):
    for name, (f, xs) in right.items():
        copies = [x.copy() for x in xs]
        answer = gradcheck(f, *xs)
        expect(
            bool(answer) is True,
            f"{name}: gradcheck gives {answer} for correct rules, inputs"
            f" {[x.tolist() if x.size < 5 else f'of shape {x.shape}' for x in xs]}",
            "the size of h, for the size of x; (f(x+h) - f(x-h)) / 2h and not a one-sided difference",
        )
        for x, copy in zip(xs, copies):
            expect_equal(x, copy, f"{name}: the argument after gradcheck")
    checks = [(name, op, (rule,), f, xs) for name, (op, rule, f, xs) in wrong.items()]
    checks += [(name, *rest) for name, rest in wrong_pairs.items()]
    for name, op, rules_of_op, f, xs in checks:
        with replaced(VJP, {op: rules_of_op}):
            try:
                answer = gradcheck(f, *xs)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
        expect(
            isinstance(answer, (bool, np.bool_)) and not answer,
            f"a wrong rule ({name}): gradcheck gives {answer}, expected False",
            "random adjoints with both signs; every element of every input; NaN is never close; compare shapes first",
        )
    expect(
        gradcheck(lambda x: exp(x), normal(3), tol=1e-5),
        "gradcheck with tol=1e-5 for correct rules",
    )
    with replaced(VJP, {"exp": (lambda g, out, x: g * out * 1.0001,)}):
        expect(
            gradcheck(lambda x: exp(x), normal(3), tol=1e-2),
            "an error of 0.0001 with tol=1e-2: accept",
        )

# %% hints gradcheck [markdown]
# 1. Which mistakes can a check not see if `g` is all ones? And which if you only compare sums?
# 2. The error of a central difference is of the size of h^2 (from the curve) plus 1e-16 / h (from rounding): the best `h` is about 6e-6 times the size of `x`.
#    `not abs(a - b) <= limit` is also true for NaN; `abs(a - b) > limit` is not.
# 3. For each input and each place in it (`numpy.ndindex`): copy the arrays, move one element up and down by `h`, evaluate `sum(g * f)` twice, compare. Check
#    the shape of the adjoint before anything else.

# %% [markdown]
# ## Task 8. Forwards, backwards, or from the middle?
#
# A chain of layers maps `sizes[0]` numbers to `sizes[1]`, these to `sizes[2]`, and so on. Its whole Jacobian matrix is the product of the layers' Jacobians, each
# of shape `(sizes[i + 1], sizes[i])` and taken as full matrices. Multiplying a `(p, q)` by a `(q, r)` matrix takes `p * q * r` multiplications.
#
# `jacobian_cost(sizes) -> (forward, reverse, best)`: the multiplications if the product is formed from the inputs to the outputs (forward mode), from the
# outputs to the inputs (reverse mode), and in the cheapest order of all. `sizes` has at least two elements; a single layer costs nothing. Sixty layers must
# take less than a second.


# %% task jacobian_cost
def jacobian_cost(sizes):
    """Multiplications for the Jacobian of a chain: forward, reverse, and the least possible."""
    ### BEGIN SOLUTION
    n = len(sizes) - 1
    forward = reverse = 0
    for i in range(1, n):
        forward += sizes[0] * sizes[i] * sizes[i + 1]
        reverse += sizes[i - 1] * sizes[i] * sizes[-1]
    least = {(i, i + 1): 0 for i in range(n)}
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            k = i + length
            least[i, k] = min(
                least[i, j] + least[j, k] + sizes[i] * sizes[j] * sizes[k] for j in range(i + 1, k)
            )
    return forward, reverse, least[0, n]
    ### END SOLUTION


# %% test jacobian_cost 1
expect_equal(
    tuple(jacobian_cost([1000, 10, 20, 1])),
    (10 * 20 * 1000 + 20 * 1 * 1000, 10 * 20 * 1 + 1000 * 10 * 1, 10200),
    "layers 1000 -> 10 -> 20 -> 1: forward, reverse, best",
    "forward starts at the inputs: (20, 10) times (10, 1000), then (1, 20) times (20, 1000)",
)
expect_equal(tuple(jacobian_cost([5, 7])), (0, 0, 0), "a single layer")
print("The order: the visible test passes.")

# %% hidden jacobian_cost 4 outside
import numpy as np

from autograder.labkit import expect_equal

ref = reference()
random = np.random.default_rng(8)
cases = [[3, 4], [2, 9, 3], [50, 1, 50, 1, 50], [100, 2, 100, 2, 100], [7] * 6]
cases += [[int(s) for s in random.integers(1, 40, random.integers(2, 10))] for _ in range(25)]
cases += [[int(s) for s in random.integers(1, 500, 61)]]
for sizes in cases:
    shown = sizes if len(sizes) < 12 else f"[{sizes[0]}, ... 60 layers]"
    got = student.jacobian_cost(list(sizes))
    expect_equal(len(got), 3, f"jacobian_cost({shown}): the number of results")
    for came, wanted, name in zip(got, ref.jacobian_cost(sizes), ("forward", "reverse", "best")):
        expect_equal(
            int(came),
            int(wanted),
            f"jacobian_cost({shown}): {name}",
            {
                "forward": "the first product is that of the first two layers",
                "reverse": "the first product is that of the last two layers",
                "best": "the cheapest order need not start at either end: try every split of every part",
            }[name],
        )

# %% hints jacobian_cost [markdown]
# 1. After the first two layers in forward mode you hold a matrix of shape `(sizes[2], sizes[0])`. What does the next product cost?
# 2. The cheapest order has a last product, which splits the chain in two parts, each formed in its own cheapest order.
# 3. A table `least[i, k]` for the layers from `i` to `k`: the minimum over `j` of `least[i, j] + least[j, k] + sizes[i] * sizes[j] * sizes[k]`, filled from short parts
#    to long ones.

# %% [markdown]
# ## The whole, measured
#
# Now your parts together: your rules, your sweeps, your gradient. First, operations: a function of n inputs, its gradient by one sweep
# backwards, and by n sweeps forwards. These are counts, not times, so they are the same on every machine.

# %% measure
JVP.update(forward_rules())
VJP.update(broadcasting_rules())
VJP.update(one_input_rules())


def energy(x):
    """A smooth function of n numbers in which each meets its neighbour."""
    y = x
    for _ in range(4):
        y = sin(y) * x + tanh(y) / (2.0 + x * x)
    return sum(y * y) + sum(x[1:] * x[:-1])


ratios, forwards = {}, {}
for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000):
    _x = np.random.default_rng(n).normal(size=n)
    with counting() as plain:
        energy(Node(_x))
    with counting() as backwards:
        grad(energy)(_x)
    with counting() as one_direction:
        jvp(energy, _x, np.eye(n)[0])
    ratios[n] = backwards.total() / plain.total()
    forwards[n] = n * one_direction.total() / plain.total()
    print(f"n = {n:4d}: backwards {ratios[n]:.2f} times f, forwards {forwards[n]:.2f} times f")
plot_vs(
    "operations of the gradient / operations of f",
    {1: 6.0, 1000: 6.0},
    ratios,
    "number of inputs n (the line is the bound, 6)",
)

# %% measure
_ratios = {}
for _seed in range(40):
    _f = program(_seed)

    def _g(x, f=_f):
        return sum(f(OURS, x))

    _x = np.random.default_rng(_seed).normal(size=(3, 4))
    with counting() as plain:
        _g(Node(_x))
    with counting() as backwards:
        grad(_g)(_x)
    _ratios[_seed] = backwards.total() / plain.total()
_values = sorted(_ratios.values())
print(f"40 random programs: median {_values[20]:.2f}, largest {_values[-1]:.2f} times f")

# %% [markdown]
# Second, precision: the error of a central difference against the step, beside the theory (a term from the curve that grows as h²,
# a term from rounding that falls as 1/h), and beside the error of your `grad`.

# %% measure
import matplotlib.pyplot as plt

_at = 0.7


def _f(x):
    return exp(x) * sin(x)


_exact = float(np.exp(0.7) * (np.sin(0.7) + np.cos(0.7)))
_third = float(grad(grad(grad(_f)))(_at).value)
_value = float(_f(Node(_at)).value)
steps = np.logspace(-14, -1, 27)
errors = [
    abs((_f(Node(_at + h)).value - _f(Node(_at - h)).value) / (2 * h) - _exact) / abs(_exact)
    for h in steps
]
theory = (abs(_third) * steps**2 / 6 + 2.2e-16 * abs(_value) / (2 * steps)) / abs(_exact)
_mine = np.maximum(abs(grad(_f)(_at).value - _exact) / abs(_exact), 1e-17)
_, axes = plt.subplots(figsize=(6, 3.5))
axes.loglog(steps, errors, "o", label="central difference")
axes.loglog(steps, theory, label="theory")
axes.axhline(_mine, color="0.4", linestyle="--", label="grad")
axes.set_xlabel("step h")
axes.set_ylabel("relative error")
axes.legend()
plt.show()
_best = steps[int(np.argmin(errors))]
print(f"smallest error {np.min(errors):.1e} at h = {_best:.0e}; grad: {_mine:.0e}")

# %% written reading 3 [markdown]
# **Read your plots.** Your forecasts were a factor and an exponent; what came out? Why does the factor not depend on n, and which operation of `energy` has the
# most expensive reverse rule? Why can no choice of step make the central difference as exact as `grad`? (Five to eight sentences.)
#
# ### BEGIN SOLUTION
# *1 point: each operation of f is answered by a fixed number of operations in its reverse rule plus an addition where a value is used twice; n enters both counts alike.*
# *1 point: names div (a division for one input, a product, a division and a sign for the other) or power/tanh with the count from the rule.*
# *1 point: the error is the sum of a term in h^2 and one in 1e-16/h, least near 6e-6 with about 1e-11 left; grad subtracts no nearly equal numbers and has rounding error only.*
# ### END SOLUTION

# %% written memory 3 [markdown]
# **The price.** The sweep backwards needs few operations. What does it need instead that the sweep forwards does not, how does that grow with the number of
# operations of `f`, and what would you do if it did not fit? (Three to five sentences.)
#
# ### BEGIN SOLUTION
# *1 point: memory: the values of all nodes that the rules read are kept until the sweep has passed them.*
# *1 point: grows in proportion to the operations (layers times batch), while forward mode could drop a value once its last use is past.*
# *1 point: recompute instead of keeping (checkpoints; about sqrt of the layers kept for one more evaluation), or rules that need only the output or less; smaller batches with accumulation also counts.*
# ### END SOLUTION
