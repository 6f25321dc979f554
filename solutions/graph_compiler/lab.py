# ---
# title: A graph compiler that emits code
# hours: 8
# imports: [numpy, matplotlib.pyplot, torch, torch.fx.experimental.proxy_tensor, torch._decomp.decompositions, torch._dynamo, autograder.labkit]
# ---

# %% [markdown]
# # A graph compiler that emits code
#
# Pisarchyk and Lee report that planning where each intermediate tensor of a network lies shrinks the memory of inference up to
# 10.5 times against giving every tensor a buffer of its own (*Efficient memory management for deep neural net inference*, 2020).
# Fusion goes further and lets most of those tensors never exist. In this lab you build both, and what is around them: you take
# graphs that PyTorch itself captured (a residual CNN and an attention block), fold, choose layouts, fuse, write the source of
# the kernels, compute lifetimes, pack one arena, and end with a callable that allocates no array at all while it runs.
#
# You need the chapter *Graph optimisation, operator selection, memory planning, code generation*. Every part is tested by itself:
# a mistake in one task costs that task only, and you may do them in any order.

# %% [markdown]
# ## Before you start: two forecasts
#
# The attention block below has 29 MB of intermediate values when each lives in an array of its own. Guess how many times
# smaller the arena of the compiled block is, scratch space included. And guess how many times faster the compiled block is than
# an interpreter that calls NumPy once for each operator of the same graph.

# %%
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread for NumPy as for torch: times are comparable

from autograder.labkit import plot_vs, predict

predict("memory of all values / arena", 1.0, "times")
predict("time of the interpreter / time compiled", 1.0, "times")

# %% given
import copy
import itertools
import math
import time
import tracemalloc
from typing import NamedTuple

import numpy as np
import torch
import torch.fx
from torch import nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from autograder.labkit import expect, expect_close, expect_equal, expect_raises, peak_bytes

torch.set_num_threads(1)
aten = torch.ops.aten


class Residual(nn.Module):
    """Two convolutions, and the input added to what they make of it."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class SmallCNN(nn.Module):
    """A residual network with two stages, a pooling layer and a classifier."""

    def __init__(self, channels=16, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.first = Residual(channels)
        self.down = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
        )
        self.second = Residual(2 * channels)
        self.head = nn.Linear(2 * channels, classes)

    def forward(self, x):
        y = self.second(self.down(self.first(self.stem(x))))
        return self.head(y.mean((2, 3)))


class AttentionBlock(nn.Module):
    """Pre-norm attention and a feed-forward layer, each with its residual connection."""

    def __init__(self, width=64, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        y = self.norm1(x)
        q, k, v = (
            layer(y).view(b, t, self.heads, d // self.heads).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(d // self.heads), -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, t, d))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


def lively(model, seed=0):
    """The model in evaluation mode, with parameters and running statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.3, 2.0, generator=generator)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, fan_in**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
    return model.eval()


# %% [markdown]
# ## Task 1. Fold the batch normalisation away
#
# In evaluation mode a batch normalisation is a fixed affine map per channel, `y = γ (x - μ) / √(σ² + ε) + β`. After a convolution
# it can be multiplied into the weights, and then it costs nothing.
#
# `fold_conv_bn(gm) -> GraphModule` takes a `torch.fx.GraphModule` from `torch.fx.symbolic_trace` and returns a new one in which each
# foldable pair of modules has become one `nn.Conv2d` with a bias.
#
# - A pair: a `call_module` node of an `nn.BatchNorm2d` whose only input is a `call_module` node of an `nn.Conv2d`. The convolution may
#   have groups, a stride, or no bias; the normalisation may have no γ and β (`affine=False`).
# - It must be left alone when the normalisation is in training mode (`bn.training`) or keeps no running statistics
#   (`running_mean is None`), when the convolution's **output** is used by any other node too, or when the convolution **module** is
#   called from more than one node.
# - `gm` itself, its modules and their parameters stay as they are. All other nodes stay.


# %% task fold
def fold_conv_bn(gm):
    """A copy of `gm` in which every foldable BatchNorm2d is part of its Conv2d."""
    ### BEGIN SOLUTION
    gm = copy.deepcopy(gm)
    modules = dict(gm.named_modules())
    calls = [node for node in gm.graph.nodes if node.op == "call_module"]
    for node in calls:
        bn, source = modules[node.target], node.args[0]
        if not isinstance(bn, nn.BatchNorm2d) or bn.training or bn.running_mean is None:
            continue
        if source.op != "call_module" or not isinstance(modules[source.target], nn.Conv2d):
            continue
        conv = modules[source.target]
        if len(source.users) > 1 or sum(modules[other.target] is conv for other in calls) > 1:
            continue
        scale = (bn.running_var + bn.eps).rsqrt()
        if bn.affine:
            scale = scale * bn.weight
        bias = -bn.running_mean if conv.bias is None else conv.bias - bn.running_mean
        bias = bias * scale + (bn.bias if bn.affine else 0)
        conv.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
        conv.bias = nn.Parameter(bias.detach())
        node.replace_all_uses_with(source)
        gm.graph.erase_node(node)
    gm.graph.lint()
    gm.recompile()
    return gm
    ### END SOLUTION


# %% test fold 3
def _norms(gm):
    modules = dict(gm.named_modules())
    return [
        node.target
        for node in gm.graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d)
    ]


_model = lively(SmallCNN())
_traced = torch.fx.symbolic_trace(_model)
_folded = fold_conv_bn(_traced)
expect_equal(
    _norms(_folded),
    [],
    "batch normalisations in the folded CNN",
    "replace_all_uses_with, erase_node",
)
expect_equal(len(_norms(_traced)), 6, "batch normalisations in the graph that was passed in")
_x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    expect_close(
        _folded(_x).numpy(),
        _model(_x).numpy(),
        "the folded CNN on a random image",
        rtol=1e-4,
        atol=1e-5,
        look="ε stands inside the root; the bias is shifted by μ and scaled too",
    )
print("Folding: the visible test passes.")


# %% hidden fold 9
def norms(gm):
    modules = dict(gm.named_modules())
    return [
        node.target
        for node in gm.graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d)
    ]


def check(model, left, what, shape=(2, 3, 9, 9)):
    traced = torch.fx.symbolic_trace(model)
    before = {name: value.clone() for name, value in traced.state_dict().items()}
    folded = fold_conv_bn(traced)
    expect(isinstance(folded, torch.fx.GraphModule), f"{what}: fold_conv_bn must return a graph")
    expect_equal(len(norms(folded)), left, f"{what}: normalisations that are left")
    for name, value in before.items():
        expect(
            torch.equal(value, traced.state_dict()[name]),
            f"{what}: the parameter {name} of the graph that was passed in has changed",
            "copy.deepcopy the GraphModule first",
        )
    expect_equal(len(norms(traced)), len(norms(torch.fx.symbolic_trace(model))), f"{what}: input")
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        one = copy.deepcopy(folded)(x)
        other = copy.deepcopy(model)(x)
        expect_close(one.numpy(), other.numpy(), f"{what}: the output", rtol=1e-4, atol=1e-5)


class Wired(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.wiring = forward

    def forward(self, x):
        return self.wiring(self, x)


def conv(out=4, **options):
    return nn.Conv2d(3, out, 3, padding=1, **options)


def chain(m, x):
    return m.b(m.a(x))


check(lively(Wired(chain, a=conv(), b=nn.BatchNorm2d(4))), 0, "a convolution with a bias")
check(lively(Wired(chain, a=conv(bias=False), b=nn.BatchNorm2d(4))), 0, "one without a bias")
check(lively(Wired(chain, a=conv(), b=nn.BatchNorm2d(4, affine=False))), 0, "affine=False")
check(lively(Wired(chain, a=conv(), b=nn.BatchNorm2d(4, eps=0.3))), 0, "ε = 0.3")
check(lively(Wired(chain, a=conv(6, groups=3), b=nn.BatchNorm2d(6))), 0, "three groups")
check(lively(Wired(chain, a=conv(stride=2), b=nn.BatchNorm2d(4))), 0, "stride 2")
training = lively(Wired(chain, a=conv(), b=nn.BatchNorm2d(4)))
training.b.train()
check(training, 1, "a normalisation in training mode")
stateless = lively(Wired(chain, a=conv(), b=nn.BatchNorm2d(4)))
stateless.b = nn.BatchNorm2d(4, track_running_stats=False).eval()
check(stateless, 1, "a normalisation without running statistics")


def twice_used(m, x):
    y = m.a(x)
    return m.b(y) + y


check(
    lively(Wired(twice_used, a=conv(), b=nn.BatchNorm2d(4))), 1, "the convolution is also added on"
)
check(
    lively(
        Wired(
            lambda m, x: m.b(m.a(x)) * m.c(m.a(x + 1)),
            a=conv(),
            b=nn.BatchNorm2d(4),
            c=nn.BatchNorm2d(4),
        )
    ),
    2,
    "one convolution module, called twice",
)
check(
    lively(
        Wired(
            lambda m, x: m.b(m.a(x)) + m.b(m.c(x)),
            a=conv(),
            b=nn.BatchNorm2d(4),
            c=conv(bias=False),
        )
    ),
    0,
    "one normalisation after two convolutions",
)
check(
    lively(Wired(lambda m, x: m.b(torch.relu(m.a(x))), a=conv(), b=nn.BatchNorm2d(4))),
    1,
    "a ReLU stands between the two",
)

# %% hints fold [markdown]
# 1. Write `y = s (W x + b - μ) + β` with `s = γ / √(σ² + ε)` and read off the new weight and the new bias.
# 2. `dict(gm.named_modules())[node.target]` is the module of a `call_module` node, `node.users` are its consumers. Two nodes may have
#    the same target: then the module is shared.
# 3. Deep-copy; for each `BatchNorm2d` node that passes all checks set `conv.weight` (scale has shape `[:, None, None, None]`) and
#    `conv.bias`, then `node.replace_all_uses_with(source)` and `gm.graph.erase_node(node)`; at the end `gm.recompile()`.

# %% [markdown]
# ## Task 2. Which layout for which operator?
#
# An image batch can lie as NCHW, NHWC, or in blocks of channels. Each operator has a cost in each layout that it has a kernel for,
# and where producer and consumer disagree, somebody pays for a conversion.
#
# `select_layouts(nodes, cost, transform) -> (choice, total)` finds the cheapest assignment.
#
# - `nodes`: list of `(name, inputs, size)` in execution order; `inputs` are names of earlier nodes. Without its arrows the graph is a
#   forest: between any two nodes there is at most one path. Nodes may join several inputs, and a value may have several consumers.
# - `cost[name][layout]`: what the node costs in a layout; layouts that are not there are not possible for it.
# - `transform[a, b]`: cost **per unit of size** of turning layout `a` into layout `b`, which may differ from `[b, a]`; a pair that is
#   missing cannot be converted; `[a, a]` is never there and costs nothing. Each edge pays for itself: the size of the value times
#   the transform from the producer's layout to the consumer's.
# - `choice` is a dictionary from name to layout, `total` its cost. Linear in the number of nodes: the test has a chain of 2,000
#   (beware of Python's recursion limit). If nothing is possible, raise `ValueError`.


# %% task layouts
def select_layouts(nodes, cost, transform):
    """The cheapest layout for every node of a forest, and what it all costs."""
    ### BEGIN SOLUTION
    sizes = {name: size for name, _, size in nodes}
    neighbours = {name: [] for name in sizes}
    for name, inputs, _ in nodes:
        for source in inputs:
            neighbours[name].append((source, True))
            neighbours[source].append((name, False))

    def edge(name, layout, other, other_layout, other_is_producer):
        if layout == other_layout:
            return 0.0
        pair = (other_layout, layout) if other_is_producer else (layout, other_layout)
        return transform.get(pair, math.inf) * sizes[other if other_is_producer else name]

    choice, total, seen = {}, 0.0, set()
    for root in sizes:
        if root in seen:
            continue
        order, parent = [root], {root: None}
        for name in order:
            for other, _ in neighbours[name]:
                if other != parent[name]:
                    parent[other] = name
                    order.append(other)
        seen.update(order)
        best, picked = {}, {}
        for name in reversed(order):
            best[name] = {}
            for layout, own in cost[name].items():
                for other, produces in neighbours[name]:
                    if other == parent[name]:
                        continue
                    options = {
                        theirs: value + edge(name, layout, other, theirs, produces)
                        for theirs, value in best[other].items()
                    }
                    picked[name, layout, other] = min(options, key=options.get)
                    own += options[picked[name, layout, other]]
                best[name][layout] = own
        choice[root] = min(best[root], key=best[root].get)
        total += best[root][choice[root]]
        for name in order[1:]:
            choice[name] = picked[parent[name], choice[parent[name]], name]
    if math.isinf(total):
        raise ValueError("no assignment of layouts is possible")
    return choice, total
    ### END SOLUTION


# %% test layouts 3
_nodes = [("x", [], 100), ("conv1", ["x"], 100), ("pool", ["conv1"], 25), ("conv2", ["pool"], 25)]
_cost = {
    "x": {"NCHW": 0},
    "conv1": {"NCHW": 90, "NHWC": 40},
    "pool": {"NCHW": 5, "NHWC": 9},
    "conv2": {"NCHW": 60, "NHWC": 30},
}
_transform = {("NCHW", "NHWC"): 0.3, ("NHWC", "NCHW"): 0.5}
_choice, _total = select_layouts(_nodes, _cost, _transform)
expect_close(
    _total,
    30 + 40 + 9 + 30,
    "the cost of a chain of four: convert once, then stay in NHWC",
    look="converting before conv1 costs 0.3 · 100; going back for the pooling would cost 0.5 · 100",
)
expect_equal(
    _choice, {"x": "NCHW", "conv1": "NHWC", "pool": "NHWC", "conv2": "NHWC"}, "the chosen layouts"
)
print("Layouts: the visible test passes.")

# %% hidden layouts 9 outside
import itertools
import random as dice

from autograder.labkit import expect, expect_close, expect_equal

dice.seed(23)
LAYOUTS = ("NCHW", "NHWC", "NC8HW8")


def bill(nodes, cost, transform, choice):
    total = 0.0
    sizes = {name: size for name, _, size in nodes}
    for name, inputs, _ in nodes:
        total += cost[name].get(choice.get(name), float("inf"))
        for source in inputs:
            if choice[source] != choice[name]:
                pair = (choice[source], choice[name])
                total += transform.get(pair, float("inf")) * sizes[source]
    return total


def brute(nodes, cost, transform):
    names = [name for name, _, _ in nodes]
    return min(
        bill(nodes, cost, transform, dict(zip(names, pick)))
        for pick in itertools.product(*(list(cost[name]) for name in names))
    )


def instance(shape, count):
    links = {index: [] for index in range(count)}
    for index in range(1, count):
        if shape == "chain":
            links[index].append(index - 1)
        elif shape == "fan-out tree":
            links[index].append(dice.randrange(index))
        elif shape == "tree of joins":
            links[dice.randrange(index, count)].append(index - 1)
        elif shape == "forest" and dice.random() < 0.7:
            links[index].append(dice.randrange(index))
    if shape == "mixed tree":
        group = list(range(count))
        for a, b in dice.sample(
            list(itertools.combinations(range(count), 2)), count * (count - 1) // 2
        ):
            if group[a] != group[b]:
                links[b].append(a)
                old = group[a]
                group = [group[b] if g == old else g for g in group]
    nodes = [(f"n{i}", [f"n{j}" for j in links[i]], dice.randrange(1, 30)) for i in range(count)]
    cost = {
        name: {
            layout: dice.randrange(1, 60)
            for layout in dice.sample(LAYOUTS, dice.choice((1, 2, 3, 3)))
        }
        for name, _, _ in nodes
    }
    transform = {
        pair: dice.choice((0.2, 0.5, 1.0, 3.0)) for pair in itertools.permutations(LAYOUTS, 2)
    }
    return nodes, cost, transform


for shape in ("chain", "fan-out tree", "tree of joins", "mixed tree", "forest"):
    for trial in range(12):
        nodes, cost, transform = instance(shape, dice.randrange(1, 8))
        what = f"a {shape} of {len(nodes)} nodes: {nodes}"
        best = brute(nodes, cost, transform)
        choice, total = student.select_layouts(nodes, cost, transform)
        expect_equal(set(choice), {name for name, _, _ in nodes}, f"{what}: the nodes in choice")
        expect(
            all(choice[name] in cost[name] for name in cost),
            f"{what}: a node was given a layout that it has no kernel for: {choice}",
        )
        expect_close(
            bill(nodes, cost, transform, choice),
            best,
            f"{what}: the cost of your choice against the best",
            look="every edge counts once, in the direction in which the value flows",
        )
        expect_close(total, best, f"{what}: total")

nodes, cost, transform = instance("chain", 2000)
choice, total = student.select_layouts(nodes, cost, transform)
expect_close(bill(nodes, cost, transform, choice), total, "a chain of 2,000: choice and total")
row = {layout: value for layout, value in cost["n0"].items()}
for (name, _, _), (_, _, size) in zip(nodes[1:], nodes):
    row = {
        layout: own
        + min(
            value + (0 if was == layout else transform[was, layout] * size)
            for was, value in row.items()
        )
        for layout, own in cost[name].items()
    }
expect_close(total, min(row.values()), "a chain of 2,000: the cost")

oneway = [("a", [], 2), ("b", ["a"], 1)]
choice, total = student.select_layouts(
    oneway, {"a": {"NCHW": 1, "NHWC": 9}, "b": {"NHWC": 1}}, {("NHWC", "NCHW"): 0.1}
)
expect_close(total, 10, "NCHW cannot be turned into NHWC here: a must cost 9")
try:
    answer = student.select_layouts(oneway, {"a": {"NCHW": 1}, "b": {"NHWC": 1}}, {})
except ValueError:
    answer = None
expect(answer is None, f"no conversion is possible: expected ValueError, got {answer}")

# %% hints layouts [markdown]
# 1. If you fix the layout of one node, what is left falls apart into pieces that do not know of each other.
# 2. Root each tree anywhere, ignoring the arrows. `best[node][layout]` is the least cost of the subtree below it; the arrow only says
#    which of `transform[a, b]` and `transform[b, a]` an edge pays, and whose size.
# 3. List the nodes in breadth-first order; run through the list backwards to fill `best` and to remember each child's minimising
#    layout for each layout of the parent; then run forwards to read the choice off.

# %% [markdown]
# ## From PyTorch's graph to rows
#
# `capture` asks `make_fx` for the ATen graph of a model and `lower`s it to a `Program`: steps in NumPy's terms. Every value is seen
# as **rows**: shape `(..., width)` is `rows` rows of `width` numbers. Images are kept as NHWC, so that a pixel is a row and the
# channels are its width; a convolution becomes `pad` (if any), `patches` (gather the k·k neighbours of each pixel) and `matmul`.
#
# Reading how `lower` works is not needed for the tasks. What you need: `program.steps` has `Step(name, op, args, shape)`, with args
# names or numbers; `program.views` maps a name to another view of the same memory; `interpret(program, x)` runs one NumPy call
# per step, each into a fresh array.


# %% given
class Step(NamedTuple):
    """One operation: `name = op(*args)`, an array of `shape`, float32."""

    name: str
    op: str
    args: tuple  # names of values, or numbers
    shape: tuple


class Program(NamedTuple):
    """A captured graph. Whatever is neither a step's name nor a view is an input or a constant."""

    inputs: dict  # name: shape
    constants: dict  # name: array
    views: dict  # name: (base, "reshape" | "transpose", shape | axes)
    steps: list  # of Step, in execution order
    outputs: list  # names


# How a kernel computes an operator on a block of rows, in place of what stands in braces.
TEMPLATES = {
    "add": "np.add({0}, {1}, out={out})",
    "sub": "np.subtract({0}, {1}, out={out})",
    "mul": "np.multiply({0}, {1}, out={out})",
    "div": "np.divide({0}, {1}, out={out})",
    "relu": "np.maximum({0}, 0, out={out})",
    "exp": "np.exp({0}, out={out})",
    "tanh": "np.tanh({0}, out={out})",
    "sqrt": "np.sqrt({0}, out={out})",
    "square": "np.multiply({0}, {0}, out={out})",
    "row_max": "np.maximum.reduce({0}, axis=-1, keepdims=True, out={out})",
    "row_sum": "np.add.reduce({0}, axis=-1, keepdims=True, out={out})",
    "matmul": "np.matmul({0}, {1}, out={out})",
    "patches": "np.take({0}, {1}, axis=0, out={out}.reshape({1}.shape + (-1,)), mode='clip')",
}
# Arguments that a kernel needs whole, even for one block of rows; all others by rows.
WHOLE = {"matmul": {1}, "patches": {0}}


def _pad(x, amount, out):
    out.fill(0)
    out[:, amount:-amount, amount:-amount] = x


# Operators that are not computed by rows: one call each, on whole arrays.
LIBRARY = {
    "copy": lambda x, out: np.copyto(out, x),
    "pad": _pad,
    "bmm": lambda a, b, out: np.matmul(a, b, out=out),
    "pool_sum": lambda x, out: np.add.reduce(x, axis=1, out=out),
}


def rows_of(shape):
    """How many rows a shape has: all but the last axis."""
    return math.prod(shape[:-1])


def resolve(name, arrays, views):
    """The array of a name, through the views; `arrays` holds what views stand on."""
    if name in arrays:
        return arrays[name]
    base, kind, how = views[name]
    array = resolve(base, arrays, views)
    return array.reshape(how) if kind == "reshape" else array.transpose(how)


def interpret(program, *inputs):
    """Run a program step by step, each into a new array; a list of its outputs."""
    arrays = dict(zip(program.inputs, inputs)) | program.constants
    for step in program.steps:
        args = [
            resolve(arg, arrays, program.views) if isinstance(arg, str) else arg
            for arg in step.args
        ]
        out = np.empty(step.shape, np.float32)
        if step.op in LIBRARY:
            LIBRARY[step.op](*args, out=out)
        else:
            EAGER[step.op](*args, out)
        arrays[step.name] = out
    return [resolve(name, arrays, program.views) for name in program.outputs]


def _eager(template):
    slots = sorted({int(c) for c in template if c.isdigit() and "{" + c + "}" in template})
    names = {str(slot): f"a{slot}" for slot in slots}
    body = template.replace("{out}", "out")
    for slot, name in names.items():
        body = body.replace("{" + slot + "}", name)
    return eval(f"lambda {', '.join(names.values())}, out: {body}", {"np": np})


EAGER = {op: _eager(template) for op, template in TEMPLATES.items()}
EAGER["matmul"] = lambda a, b, out: np.matmul(
    a.reshape(-1, a.shape[-1]), b, out=out.reshape(-1, out.shape[-1])
)
EAGER["patches"] = lambda x, index, out: np.take(
    x.reshape(-1, x.shape[-1]), index, axis=0, out=out.reshape(index.shape + (-1,)), mode="clip"
)


class Lowering:
    """From the nodes of an ATen graph to the steps of a Program."""

    BINARY = {
        aten.add.Tensor: "add",
        aten.sub.Tensor: "sub",
        aten.mul.Tensor: "mul",
        aten.div.Tensor: "div",
    }
    UNARY = {aten.relu.default: "relu", aten.exp.default: "exp", aten.tanh.default: "tanh"}

    def __init__(self):
        self.program = Program({}, {}, {}, [], [])
        self.shapes, self.images, self.turned = {}, set(), {}

    def step(self, op, args, shape):
        if op in TEMPLATES:
            args = [self.solid(arg) if isinstance(arg, str) else arg for arg in args]
        name = f"v{len(self.program.steps)}"
        self.program.steps.append(Step(name, op, tuple(args), tuple(shape)))
        self.shapes[name] = tuple(shape)
        return name

    def constant(self, array):
        name = f"c{len(self.program.constants)}"
        self.program.constants[name] = np.ascontiguousarray(array)
        self.shapes[name] = array.shape
        return name

    def view(self, base, kind, how):
        shape = self.shapes[base]
        new = tuple(how) if kind == "reshape" else tuple(shape[axis] for axis in how)
        if kind == "reshape" and new == shape:
            return base
        name = f"w{len(self.program.views)}"
        self.program.views[name] = (base, kind, tuple(how))
        self.shapes[name] = new
        return name

    def solid(self, name):
        """The value in an array of its own if it is a transposed view."""
        base = name
        while base in self.program.views:
            base, kind, _ = self.program.views[base]
            if kind == "transpose":
                return self.step("copy", [name], self.shapes[name])
        return name

    def as_image(self, name):
        """An NCHW input as NHWC, turned once."""
        if name in self.images or name not in self.program.inputs:
            return name
        if name not in self.turned:
            view = self.view(name, "transpose", (0, 2, 3, 1))
            self.turned[name] = self.step("copy", [view], self.shapes[view])
            self.images.add(self.turned[name])
        return self.turned[name]

    def binary(self, op, a, b):
        if isinstance(a, str) and isinstance(b, str) and {a, b} & self.images:
            a, b = self.as_image(a), self.as_image(b)
        if not isinstance(a, str):
            raise NotImplementedError("a number on the left of an operator")
        shape = self.shapes[a]
        if isinstance(b, str) and len(self.shapes[b]) > 1 and b not in self.program.constants:
            shape = max(shape, self.shapes[b], key=math.prod)
            if rows_of(self.shapes[a]) != rows_of(self.shapes[b]):
                raise NotImplementedError(f"broadcasting {self.shapes[a]} and {self.shapes[b]}")
        name = self.step(op, [a, b], shape)
        if a in self.images:
            self.images.add(name)
        return name

    def layer_norm(self, x, width, gamma, beta, eps):
        shape = self.shapes[x]
        total = self.step("row_sum", [x], (*shape[:-1], 1))
        centred = self.binary("sub", x, self.binary("mul", total, 1 / width))
        square = self.step("square", [centred], shape)
        spread = self.binary("mul", self.step("row_sum", [square], (*shape[:-1], 1)), 1 / width)
        root = self.step("sqrt", [self.binary("add", spread, eps)], (*shape[:-1], 1))
        scaled = self.binary("div", centred, root)
        return self.binary("add", self.binary("mul", scaled, gamma), beta)

    def convolution(self, x, weight, bias, stride, padding):
        x = self.as_image(x)
        out_channels, channels, k, _ = weight.shape
        if padding:
            n, h, w, c = self.shapes[x]
            x = self.step("pad", [x, padding], (n, h + 2 * padding, w + 2 * padding, c))
        n, h, w, c = self.shapes[x]
        oh, ow = (h - k) // stride + 1, (w - k) // stride + 1
        rows, columns = np.arange(oh) * stride, np.arange(ow) * stride
        corner = (np.arange(n)[:, None, None] * h + rows[:, None]) * w + columns
        offset = (np.arange(k)[:, None] * w + np.arange(k)).reshape(-1)
        index = self.constant(corner.reshape(-1, 1) + offset)
        pixels = self.view(x, "reshape", (n * h * w, c))
        patches = self.step("patches", [pixels, index], (n, oh, ow, k * k * c))
        matrix = self.constant(weight.transpose(2, 3, 1, 0).reshape(k * k * c, out_channels))
        name = self.step("matmul", [patches, matrix], (n, oh, ow, out_channels))
        self.images.add(name)
        return self.binary("add", name, self.constant(bias)) if bias is not None else name

    def node(self, node, read, attributes):
        """The name of the value that an ATen node computes."""
        target = node.target
        args = [read(arg) for arg in node.args]
        if target in self.BINARY:
            return self.binary(self.BINARY[target], args[0], args[1])
        if target in self.UNARY:
            name = self.step(self.UNARY[target], [args[0]], self.shapes[args[0]])
            if args[0] in self.images:
                self.images.add(name)
            return name
        if target in (aten.amax.default, aten.sum.dim_IntList):
            op = "row_max" if target is aten.amax.default else "row_sum"
            return self.step(op, [args[0]], (*self.shapes[args[0]][:-1], 1))
        if target is aten.mean.dim and args[0] in self.images:
            n, h, w, c = self.shapes[args[0]]
            flat = self.view(args[0], "reshape", (n, h * w, c))
            return self.binary("mul", self.step("pool_sum", [flat], (n, c)), 1 / (h * w))
        if target in (aten.mm.default, aten.addmm.default):
            a, b = args[-2:]
            a = self.solid(a)
            shape = (*self.shapes[a][:-1], self.shapes[b][-1])
            if b in self.program.views:
                b = self.constant(resolve(b, self.program.constants, self.program.views))
            name = self.step("matmul", [a, b], shape)
            return self.binary("add", name, args[0]) if len(args) == 3 else name
        if target is aten.bmm.default:
            a, b = args
            shape = (*self.shapes[a][:-1], self.shapes[b][-1])
            return self.step("bmm", [a, b], shape)
        if target is aten.native_layer_norm.default:
            return self.layer_norm(args[0], self.shapes[args[0]][-1], args[2], args[3], args[4])
        if target is aten.convolution.default:
            weight, bias = attributes(node.args[1]), node.args[2]
            bias = None if bias is None else attributes(bias)
            if node.args[5] != [1, 1] or node.args[6] or node.args[8] != 1:
                raise NotImplementedError("a dilated, transposed or grouped convolution")
            return self.convolution(args[0], weight, bias, node.args[3][0], node.args[4][0])
        if target is aten.native_batch_norm.default:
            gamma, beta, mean, var = (attributes(arg) for arg in node.args[1:5])
            scale = gamma / np.sqrt(var + node.args[7])
            scaled = self.binary("mul", args[0], self.constant(scale))
            return self.binary("add", scaled, self.constant(beta - mean * scale))
        if target in (aten.view.default, aten._unsafe_view.default):
            return self.view(self.solid(args[0]), "reshape", node.args[1])
        if target in (aten.transpose.int, aten.t.default, aten.permute.default):
            axes = list(range(len(self.shapes[args[0]])))
            if target is aten.permute.default:
                axes = list(node.args[1])
            else:
                i, j = node.args[1:] if target is aten.transpose.int else (0, 1)
                axes[i], axes[j] = axes[j], axes[i]
            return self.view(args[0], "transpose", axes)
        if target is aten.clone.default:
            return self.solid(args[0])
        if target is aten.expand.default and tuple(node.args[1]) == self.shapes[args[0]]:
            return args[0]
        raise NotImplementedError(f"no lowering for {target}")


def lower(gm):
    """The Program of an ATen graph as `make_fx` returns it."""
    lowering, names = Lowering(), {}

    def read(arg):
        return names[arg] if isinstance(arg, torch.fx.Node) else arg

    def attributes(arg):
        return getattr(gm, arg.target).detach().numpy()

    for node in gm.graph.nodes:
        if node.op == "placeholder":
            lowering.program.inputs[node.name] = tuple(node.meta["val"].shape)
            lowering.shapes[node.name] = tuple(node.meta["val"].shape)
            names[node] = node.name
        elif node.op == "get_attr":
            names[node] = lowering.constant(attributes(node))
        elif node.op == "output":
            results = node.args[0] if isinstance(node.args[0], tuple | list) else [node.args[0]]
            lowering.program.outputs.extend(names[result] for result in results)
        elif node.target is __import__("operator").getitem:
            names[node] = names[node.args[0]]
        elif node.target is not aten.empty.memory_format:
            names[node] = lowering.node(node, read, attributes)
    return lowering.program


def capture(model, *examples):
    """The Program that a model runs on inputs of these shapes."""
    table = get_decompositions([aten._softmax, aten.gelu, aten.silu])
    with torch.no_grad():
        return lower(make_fx(model, decomposition_table=table)(*examples))


# %% [markdown]
# ## Task 3. Which operators become one kernel?
#
# A kernel computes a **block of rows at a time**, through all of its steps, before it takes the next block. Then what passes from
# one step to the next never leaves the cache. Not everything may share a kernel.
#
# `fuse(nodes) -> groups`. `nodes` is a list of `(name, kind, rows, inputs)` in execution order:
#
# - `kind` is `"map"` (elementwise, or a reduction within each row), `"anchor"` (a matrix product) or `"opaque"` (a library call);
# - `rows` is how many rows it computes;
# - `inputs` is a list of `(name, how)`. With `"rows"`, rows r to s of the result need only rows r to s of that input; with
#   `"whole"`, every row of the result may need all of it. Inputs are earlier nodes only (graph inputs and constants are left out).
#
# `groups` is a list of lists of names, every node in exactly one. It must be **legal**:
#
# 1. an opaque node is alone;
# 2. all nodes of a group have the same `rows`;
# 3. a group has at most one anchor;
# 4. no edge inside a group is `"whole"`;
# 5. the groups stand in an order in which each one's inputs come from itself or from groups before it; inside a group, too, names
#    stand after what they need. (No such order exists when two groups wait for each other.)
#
# And it must be **maximal**: no two groups with an edge between them could be merged without breaking a rule. (The CNN above, not
# folded, comes out in at most 18 kernels, the attention block in at most 16.) `fuse` does not
# change its argument, and takes at most a few seconds for 150 nodes.

# %% given
KINDS = {"matmul": "anchor", **dict.fromkeys(LIBRARY, "opaque")}


def shape_of(program, name):
    """The shape of any value, constant, input or view."""
    if name in program.views:
        base, kind, how = program.views[name]
        return how if kind == "reshape" else tuple(shape_of(program, base)[axis] for axis in how)
    if name in program.constants:
        return program.constants[name].shape
    return program.inputs.get(name) or next(s.shape for s in program.steps if s.name == name)


def as_rows(program, name):
    """The value whose rows a view shows, if they are the same rows; else the view itself."""
    base = name
    while base in program.views and program.views[base][1] == "reshape":
        base = program.views[base][0]
    same = (
        base not in program.views and shape_of(program, base)[-1:] == shape_of(program, name)[-1:]
    )
    return base if same else name


def arguments(program, step):
    """The arguments of a step as (name or number, "rows" | "whole" | "number")."""
    rows, found = rows_of(step.shape), []
    for place, arg in enumerate(step.args):
        if not isinstance(arg, str):
            found.append((arg, "number"))
            continue
        shape = shape_of(program, arg)
        by_rows = step.op not in LIBRARY and place not in WHOLE.get(step.op, ())
        if by_rows and len(shape) > 1 and rows_of(shape) == rows:
            found.append((as_rows(program, arg), "rows"))
        else:
            found.append((arg, "whole"))
    return found


def fusion_nodes(program):
    """What `fuse` needs to know of a program."""
    computed = {step.name for step in program.steps}
    nodes = []
    for step in program.steps:
        inputs = []
        for arg, how in arguments(program, step):
            while arg in program.views:
                arg, how = program.views[arg][0], "whole"
            if arg in computed and (arg, how) not in inputs:
                inputs.append((arg, how))
        nodes.append((step.name, KINDS.get(step.op, "map"), rows_of(step.shape), inputs))
    return nodes


# %% task fuse
def fuse(nodes):
    """A legal and maximal partition of the nodes into kernels, in execution order."""
    ### BEGIN SOLUTION
    facts = {name: (kind, rows) for name, kind, rows, _ in nodes}
    edges = [(source, name, how) for name, _, _, inputs in nodes for source, how in inputs]
    groups = {name: [name] for name in facts}  # label: members
    label = {name: name for name in facts}

    def following():
        after = {name: set() for name in groups}
        for source, name, _ in edges:
            if label[source] != label[name]:
                after[label[source]].add(label[name])
        return after

    def legal(a, b):
        names = groups[a] + groups[b]
        kinds = [facts[name][0] for name in names]
        if "opaque" in kinds or kinds.count("anchor") > 1:
            return False
        if len({facts[name][1] for name in names}) > 1:
            return False
        if any(how == "whole" and source in names and name in names for source, name, how in edges):
            return False
        after = following()
        front = list((after[a] | after[b]) - {a, b})
        seen = set(front)
        while front:
            step = after[front.pop()]
            if step & {a, b}:
                return False  # a path leaves the two and comes back
            front.extend(step - seen)
            seen |= step
        return True

    pairs = True
    while pairs:
        pairs = [(label[s], label[t]) for s, t, _ in edges if label[s] != label[t]]
        pairs = [pair for pair in dict.fromkeys(pairs) if legal(*pair)][:1]
        for a, b in pairs:
            groups[a] += groups.pop(b)
            label.update(dict.fromkeys(groups[a], a))

    place = {name: index for index, name in enumerate(facts)}
    order, after = [], following()
    waits = {name: {a for a in groups if name in after[a]} for name in groups}
    while waits:
        ready = [name for name in waits if not waits[name] & waits.keys()]
        order.append(min(ready, key=lambda name: min(place[n] for n in groups[name])))
        del waits[order[-1]]
    return [sorted(groups[name], key=place.get) for name in order]
    ### END SOLUTION


# %% test fuse 4
_softmax = [
    ("scores", "opaque", 64, []),
    ("top", "map", 64, [("scores", "rows")]),
    ("shifted", "map", 64, [("scores", "rows"), ("top", "rows")]),
    ("exp", "map", 64, [("shifted", "rows")]),
    ("total", "map", 64, [("exp", "rows")]),
    ("weights", "map", 64, [("exp", "rows"), ("total", "rows")]),
    ("mixed", "opaque", 64, [("weights", "whole")]),
]
expect_equal(
    [sorted(group) for group in fuse(_softmax)],
    [["scores"], ["exp", "shifted", "top", "total", "weights"], ["mixed"]],
    "softmax between two library calls",
    "all five operators work row by row on the same 64 rows",
)
_diamond = [
    ("a", "map", 8, []),
    ("far", "opaque", 8, [("a", "whole")]),
    ("b", "map", 8, [("a", "rows"), ("far", "rows")]),
]
expect_equal(
    [list(group) for group in fuse(_diamond)],
    [["a"], ["far"], ["b"]],
    "a diamond with a library call on one side",
    "if a and b were one kernel, it would wait for `far`, and `far` for it",
)
_two = [
    ("m1", "anchor", 8, []),
    ("relu", "map", 8, [("m1", "rows")]),
    ("m2", "anchor", 8, [("relu", "rows")]),
    ("bias", "map", 8, [("m2", "rows")]),
]
expect_equal(len(fuse(_two)), 2, "the number of kernels of two matrix products in a row")
print("Fusion: the visible test passes.")

# %% hidden fuse 12 outside
import random as dice

from autograder.labkit import expect, expect_equal

ref = reference()
dice.seed(41)


def broken(nodes, groups):
    """The rule that a partition breaks, or nothing."""
    facts = {name: (kind, rows) for name, kind, rows, _ in nodes}
    names = [name for group in groups for name in group]
    if sorted(names) != sorted(facts):
        return "every node stands in exactly one group"
    label = {name: number for number, group in enumerate(groups) for name in group}
    place = {name: number for number, name in enumerate(names)}
    for group in groups:
        kinds = [facts[name][0] for name in group]
        if "opaque" in kinds and len(group) > 1:
            return f"1: an opaque node shares the group {group}"
        if len({facts[name][1] for name in group}) > 1:
            return f"2: different numbers of rows in the group {group}"
        if kinds.count("anchor") > 1:
            return f"3: two anchors in the group {group}"
    for name, _, _, inputs in nodes:
        for source, how in inputs:
            if how == "whole" and label[source] == label[name]:
                return f"4: {name} needs all of {source}, in its own group {groups[label[name]]}"
            if label[source] > label[name]:
                return f"5: {name} needs {source}, which a later group computes"
            if place[source] > place[name]:
                return f"5: {name} stands before {source}, in one group"
    return ""


def mergeable(nodes, groups):
    """Two groups with an edge between them that could be one, or nothing."""
    facts = {name: (kind, rows) for name, kind, rows, _ in nodes}
    label = {name: number for number, group in enumerate(groups) for name in group}
    edges = {(s, t, how) for t, _, _, inputs in nodes for s, how in inputs}
    after = {number: set() for number in range(len(groups))}
    for s, t, _ in edges:
        if label[s] != label[t]:
            after[label[s]].add(label[t])
    # Groups stand in topological order, so what a group reaches is known from the back.
    reach = {}
    for number in reversed(range(len(groups))):
        reach[number] = set().union(*({n} | reach[n] for n in after[number]))
    for a in after:
        for b in after[a]:
            both = set(groups[a]) | set(groups[b])
            kinds = [facts[name][0] for name in both]
            if "opaque" in kinds or kinds.count("anchor") > 1:
                continue
            if len({facts[name][1] for name in both}) > 1:
                continue
            if any(how == "whole" and s in both and t in both for s, t, how in edges):
                continue
            if not any(b in reach[n] for n in after[a] - {b}):
                return groups[a], groups[b]
    return None


def check(nodes, what):
    shown = nodes if len(nodes) <= 9 else f"{len(nodes)} nodes"
    groups = [list(group) for group in student.fuse(nodes)]
    rule = broken(nodes, groups)
    expect(not rule, f"{what}, {shown}: rule {rule}")
    pair = mergeable(nodes, groups)
    expect(
        pair is None,
        f"{what}, {shown}: the groups {pair and pair[0]} and {pair and pair[1]} could be merged",
        "a merge that was impossible before may be possible after another: go round again",
    )
    return groups


def random_nodes(count):
    nodes = []
    for number in range(count):
        kind = dice.choice(("map", "map", "map", "map", "anchor", "opaque"))
        inputs = {}
        for earlier in dice.sample(nodes[-6:], min(len(nodes[-6:]), dice.choice((0, 1, 1, 2, 2)))):
            same = earlier[2] == 16
            inputs[earlier[0]] = dice.choice(("rows", "rows", "rows", "whole")) if same else "whole"
        rows = 16 if dice.random() < 0.9 or "rows" in inputs.values() else 4
        nodes.append((f"n{number}", kind, rows, list(inputs.items())))
    return nodes


check([], "no nodes")
diamonds = [
    ("a", "map", 8, []),
    ("b", "map", 8, [("a", "rows")]),
    ("c", "anchor", 8, [("a", "rows"), ("b", "whole")]),
    ("d", "map", 8, [("c", "rows"), ("b", "rows")]),
]
check(diamonds, "a diamond with a product of a value and its own function")
crossed = [
    ("a", "map", 8, []),
    ("b", "map", 8, []),
    ("c", "anchor", 8, [("a", "rows"), ("b", "whole")]),
    ("d", "anchor", 8, [("b", "rows"), ("a", "whole")]),
]
check(crossed, "two products that would wait for each other")
late = [
    ("a", "map", 8, []),
    ("b", "map", 8, [("a", "rows")]),
    ("c", "map", 8, [("a", "rows"), ("b", "rows")]),
]
expect_equal(len(check(late, "a triangle of maps")), 1, "kernels of a triangle of maps")
for trial in range(80):
    check(random_nodes(dice.randrange(3, 12)), "a random graph")
for trial in range(6):
    check(random_nodes(60), "a random graph")

for model, x, bound in (
    (ref.lively(ref.SmallCNN()), ref.torch.zeros(1, 3, 16, 16), 18),
    (ref.lively(ref.AttentionBlock()), ref.torch.zeros(1, 16, 64), 16),
):
    nodes = ref.fusion_nodes(ref.capture(model, x))
    groups = check(nodes, f"the graph of {type(model).__name__}")
    expect(
        len(groups) <= bound,
        f"{type(model).__name__}: {len(groups)} kernels for {len(nodes)} nodes; {bound} are allowed",
    )

# %% hints fuse [markdown]
# 1. Begin with every node as a group of its own and merge along edges while a merge is legal. Which rule can a merge break that
#    neither group, looked at alone, breaks?
# 2. Merging a and b makes a cycle exactly when a path leaves a (or b), visits another group, and comes back to b (or a). Search from
#    the groups that follow the two, over edges between groups.
# 3. Keep `label[name]`. Repeat: for the edges between two labels, test the five rules, merge the first pair that passes, start
#    again; stop when no pair passes. Then sort the groups topologically and the names in each group by their place in `nodes`.

# %% [markdown]
# ## Task 4. Write the kernel
#
# `emit(kernel, block) -> (source, scratch)` writes the Python source of one function, `kernel.name`, that computes `block` rows at a
# time. Arguments of the function: the arrays of `kernel.inputs` in that order, then those of `kernel.outputs`, then `scratch`, a
# one-dimensional float32 array of at least as many numbers as `emit` says.
#
# - Inputs by rows and outputs come as `(rows, width)`; an input `"whole"` comes as it is. In `kernel.steps`, an argument is a number
#   or the name of an input or of an earlier step, and `width` is how wide the result is.
# - `TEMPLATES[op]` is the line to write: `{0}`, `{1}` stand for the arguments, `{out}` for the place of the result, all restricted
#   to the block. A step that is an output is written straight into its array, all others into scratch, in the order of the steps.
# - `scratch <= block * (sum of the widths of the steps that are not outputs)`. The function allocates no array (32 KB for Python
#   objects are allowed, `allocated(call)` counts).
# - `block` need not divide `kernel.rows`; no row beyond the last is read or written. The source needs only `np` and must be
#   something that you would show to somebody.
#
# Write numbers with `repr`. Values are called like `v12`, `c3`, `w0` or `arg0_1`; call your own variables something else.


# %% given
class Kernel(NamedTuple):
    """A group of steps that one function computes, or one library call."""

    name: str
    rows: int
    inputs: list  # of (name, "rows" | "whole")
    steps: list  # of (name, op, args, width)
    outputs: list  # names of steps that others need
    may: list = []  # inputs whose memory the first output could take over
    library: Step | None = None  # the call, if it is one


def describe(program, groups):
    """The kernels of groups of steps, in order."""
    steps = {step.name: step for step in program.steps}
    where = {name: number for number, group in enumerate(groups) for name in group}
    needed = set()
    for step in program.steps:
        for arg, _ in arguments(program, step):
            while arg in program.views:
                arg = program.views[arg][0]
            if arg in where and where[arg] != where[step.name]:
                needed.add(arg)
    for name in program.outputs:
        while name in program.views:
            name = program.views[name][0]
        needed.add(name)
    kernels = []
    for number, group in enumerate(groups):
        first = steps[group[0]]
        if first.op in LIBRARY:
            inputs = [(arg, "whole") for arg in first.args if isinstance(arg, str)]
            kernels.append(Kernel(f"k{number}", 1, inputs, [], [first.name], [], first))
            continue
        inputs, lines, last = {}, [], {}
        for place, name in enumerate(group):
            args = arguments(program, steps[name])
            for arg, how in args:
                if how != "number" and arg not in group:
                    inputs[arg] = how if inputs.get(arg, how) == how else "whole"
                    last[arg] = place + (steps[name].op in WHOLE)
            lines.append((name, steps[name].op, [arg for arg, _ in args], steps[name].shape[-1]))
        outputs = [name for name in group if name in needed] or [group[-1]]
        due = group.index(outputs[0])
        may = [
            arg
            for arg, how in inputs.items()
            if how == "rows"
            and last[arg] <= due
            and shape_of(program, arg)[-1] == steps[outputs[0]].shape[-1]
        ]
        rows = rows_of(first.shape)
        kernels.append(Kernel(f"k{number}", rows, list(inputs.items()), lines, outputs, may))
    return kernels


def allocated(call):
    """The most bytes that a call holds at one time, with NumPy's own buffers kept small.

    A ufunc that broadcasts takes a buffer of `numpy.getbufsize()` numbers, whatever it computes.
    """
    old = np.setbufsize(1024)
    try:
        return peak_bytes(call)[1]
    finally:
        np.setbufsize(old)


# %% task emit
def emit(kernel, block):
    """The source of a function that computes a kernel block by block, and its scratch in floats."""
    ### BEGIN SOLUTION
    parameters = [name for name, _ in kernel.inputs] + kernel.outputs + ["scratch"]
    lines = [
        f"def {kernel.name}({', '.join(parameters)}):",
        f"    for r in range(0, {kernel.rows}, {block}):",
        f"        n = min({block}, {kernel.rows} - r)",
    ]
    shown = {}
    for name, how in kernel.inputs:
        shown[name] = name
        if how == "rows":
            shown[name] = f"{name}_"
            lines.append(f"        {name}_ = {name}[r : r + n]")
    offset = 0
    for name, op, args, width in kernel.steps:
        shown[name] = f"{name}_"
        if name in kernel.outputs:
            lines.append(f"        {name}_ = {name}[r : r + n]")
        else:
            end = f"{offset} + n * {width}"
            lines.append(f"        {name}_ = scratch[{offset} : {end}].reshape(n, {width})")
            offset += block * width
        places = [shown[arg] if isinstance(arg, str) else repr(arg) for arg in args]
        lines.append("        " + TEMPLATES[op].format(*places, out=f"{name}_"))
    return "\n".join(lines) + "\n", offset
    ### END SOLUTION


# %% test emit 4
_kernel = Kernel(
    "softmax",
    10,
    [("arg0", "rows"), ("c0", "whole")],
    [
        ("v0", "add", ["arg0", "c0"], 4),
        ("v1", "row_max", ["v0"], 1),
        ("v2", "sub", ["v0", "v1"], 4),
        ("v3", "exp", ["v2"], 4),
        ("v4", "row_sum", ["v3"], 1),
        ("v5", "div", ["v3", "v4"], 4),
    ],
    ["v5"],
)
_source, _scratch = emit(_kernel, 4)
print(_source)
_names = {"np": np}
exec(_source, _names)
_x = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
_bias = np.arange(4, dtype=np.float32)
_y = np.full((12, 4), -7, np.float32)
_names["softmax"](_x, _bias, _y[:10], np.empty(_scratch, np.float32))
_e = np.exp(_x + _bias - (_x + _bias).max(1, keepdims=True))
expect_close(
    _y[:10], _e / _e.sum(1, keepdims=True), "softmax of ten rows in blocks of four", rtol=1e-5
)
expect_equal(_y[10:], np.full((2, 4), -7, np.float32), "the memory behind the last row")
expect(
    _scratch <= 4 * 14,
    f"scratch of {_scratch} floats; 4 rows of 4 + 1 + 4 + 4 + 1 are allowed",
    "scratch holds one block of each step that is not an output",
)
print("Emission: the visible test passes.")

# %% hidden emit 12
random = np.random.default_rng(19)
ref = reference()


def random_kernel(rows, widths):
    """A kernel with inputs of all sorts, some steps and one or two outputs; and its arguments."""
    width = int(random.choice(widths))
    inputs = [
        ("arg0", "rows"),
        ("arg1", "rows"),
        ("arg2", "rows"),
        ("c0", "whole"),
        ("c1", "whole"),
    ]
    arrays = {
        "arg0": random.normal(size=(rows, width)),
        "arg1": random.normal(size=(rows, width)),
        "arg2": random.normal(size=(rows, 1)),
        "c0": random.normal(size=(width, width)) / np.sqrt(width),
        "c1": random.normal(size=width),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    wide, narrow, steps = ["arg0", "arg1"], ["arg2"], []
    for number in range(int(random.integers(3, 9))):
        op = str(
            random.choice(["add", "sub", "mul", "relu", "tanh", "square", "row_max", "row_sum"])
        )
        a = str(random.choice(wide))
        name = f"v{number}"
        if op in ("row_max", "row_sum"):
            steps.append((name, op, [a], 1))
            steps.append((f"{name}t", "tanh", [name], 1))
            narrow.append(f"{name}t")
            continue
        if op in ("add", "sub", "mul"):
            other = [str(random.choice(wide)), str(random.choice(narrow)), "c1", -0.125]
            steps.append((name, op, [a, other[int(random.integers(4))]], width))
        else:
            steps.append((name, op, [a], width))
        steps.append((f"{name}t", "tanh", [name], width))
        wide.append(f"{name}t")
    steps.append(("v90", "matmul", [wide[-1], "c0"], width))
    steps.append(("v91", "add", ["v90", "c1"], width))
    outputs = ["v91"] if random.random() < 0.5 else [steps[0][0], "v91"]
    return Kernel(f"kernel{rows}", rows, inputs, steps, outputs), arrays


def eager(kernel, arrays):
    values = dict(arrays)
    for name, op, args, width in kernel.steps:
        given = [values[arg] if isinstance(arg, str) else arg for arg in args]
        values[name] = np.empty((kernel.rows, width), np.float32)
        ref.EAGER[op](*given, values[name])
    return values


def run(kernel, arrays, block, call=lambda call: call()):
    source, scratch = emit(kernel, block)
    names = {"np": np}
    try:
        exec(source, names)
    except SyntaxError as error:
        expect(False, f"the source is no Python: {error}\n{source}")
    outputs = []
    guards = []
    for name in kernel.outputs:
        width = next(step[3] for step in kernel.steps if step[0] == name)
        guard = np.full((kernel.rows + 2 * block, width), 77, np.float32)
        guards.append(guard)
        outputs.append(guard[: kernel.rows])
    free = sum(step[3] for step in kernel.steps if step[0] not in kernel.outputs)
    expect(
        scratch <= block * free,
        f"scratch of {scratch} floats for blocks of {block} rows; {block * free} are allowed",
        "only a block of each intermediate, and nothing for outputs",
    )
    given = [arrays[name] for name, _ in kernel.inputs]
    before = [array.copy() for array in given]
    room = np.full(scratch + 64, 55, np.float32)
    answer = call(lambda: names[kernel.name](*given, *outputs, room))
    wanted = eager(kernel, arrays)
    for name, output, guard in zip(kernel.outputs, outputs, guards):
        expect_close(
            output,
            wanted[name],
            f"{name} of a kernel of {kernel.rows} rows in blocks of {block}:\n{source}",
            rtol=1e-4,
            atol=1e-5,
            look="the last block may be shorter; a wide step may take a row of one number each",
        )
        expect(
            bool((guard[kernel.rows :] == 77).all()),
            f"{name}: the kernel writes behind its last row\n{source}",
        )
    expect(bool((room[scratch:] == 55).all()), f"the kernel writes behind its scratch\n{source}")
    for array, old, (name, _) in zip(given, before, kernel.inputs):
        expect(bool((array == old).all()), f"the kernel changes its input {name}\n{source}")
    return source, answer


for rows, block in [(1, 1), (5, 8), (8, 8), (9, 8), (31, 7), (64, 1), (100, 33)]:
    for trial in range(4):
        run(*random_kernel(rows, (1, 2, 5, 16)), block)

kernel, arrays = random_kernel(4096, (64,))
source, peak = run(kernel, arrays, 512, allocated)
expect(
    peak <= 32_768,
    f"a kernel on 4096 x 64 numbers allocates {peak} bytes while it runs; a block of one step"
    f" has 131,072, and 32,768 (objects, no arrays) are allowed:\n{source}",
    "every line must write into its out=",
)
lengths = [len(emit(kernel._replace(rows=rows), 128)[0]) for rows in (4096, 4096 * 1024)]
expect(
    lengths[1] <= lengths[0] + 64,
    f"the source grows with the number of rows, from {lengths[0]} to {lengths[1]} characters",
    "write a loop, not its iterations",
)

image = random.normal(size=(60, 3)).astype(np.float32)
index = random.integers(0, 60, (50, 9))
weight = random.normal(size=(27, 5)).astype(np.float32)
convolution = Kernel(
    "convolution",
    50,
    [("w0", "whole"), ("c0", "rows"), ("c1", "whole")],
    [
        ("v0", "patches", ["w0", "c0"], 27),
        ("v1", "matmul", ["v0", "c1"], 5),
        ("v2", "relu", ["v1"], 5),
    ],
    ["v2"],
)
names = {"np": np}
source, scratch = emit(convolution, 16)
exec(source, names)
kept = np.empty((50, 5), np.float32)
names["convolution"](image, index, weight, kept, np.empty(scratch, np.float32))
expect_close(
    kept,
    np.maximum(image[index].reshape(50, 27) @ weight, 0),
    f"patches, matmul, relu:\n{source}",
    rtol=1e-4,
    atol=1e-5,
)

# %% hints emit [markdown]
# 1. First write by hand the function that you want for `relu(x + bias)`, with three rows in blocks of two. Then print it.
# 2. Give every value a local name for its block: a slice `[r : r + n]` of an input by rows or of an output, a reshaped slice of scratch
#    for anything else; an input that is whole keeps its own name.
# 3. `TEMPLATES[op].format(*places, out=place)` makes the line. The place of step s in scratch begins where that of the step before
#    it ends, `block * width` floats later, and has `n * width` of them: `scratch[a : a + n * width].reshape(n, width)`.

# %% [markdown]
# ## Task 5. Who lives how long?
#
# Two functions on the schedule of kernels, a list of `(reads, writes, may)`, all lists of names. `views` maps a name to the name
# whose memory it shows (which may be a view itself). A name that is neither written nor a view is a graph input or a constant.
#
# - `liveness(schedule, views, outputs) -> {name: (first, last)}` for every written name: the number of the kernel that writes it and of
#   the last kernel that reads it **or any view of it**, both included. What the caller gets (`outputs`, perhaps through views)
#   lives until `len(schedule)`. What nobody reads lives from its kernel to its kernel.
# - `in_place(schedule, views, sizes, outputs) -> {written: taken}`: the first of `writes` may be put into the memory of one of the names
#   in `may` (the kernel itself allows it). It must be done wherever it is safe, with whichever name, and only there. Safe means:
#   the name was written by a kernel (no graph input, no constant), is no view (its elements may lie in another order), has
#   the same size, and neither it nor any view of it is read by a later kernel or is an output. `sizes` gives bytes by name.


# %% task lifetimes
def liveness(schedule, views, outputs):
    """From when to when each written value lives."""

    ### BEGIN SOLUTION
    def base(name):
        while name in views:
            name = views[name]
        return name

    lives = {}
    for number, (reads, writes, _) in enumerate(schedule):
        for name in map(base, reads):
            if name in lives:
                lives[name] = (lives[name][0], number)
        for name in writes:
            lives[name] = (number, number)
    for name in map(base, outputs):
        if name in lives:
            lives[name] = (lives[name][0], len(schedule))
    return lives
    ### END SOLUTION


def in_place(schedule, views, sizes, outputs):
    """Which first outputs of kernels take over the memory of which input."""
    ### BEGIN SOLUTION
    lives = liveness(schedule, views, outputs)
    taken = {}
    for number, (_, writes, may) in enumerate(schedule):
        for name in may:
            dies_here = name in lives and lives[name][1] == number
            if dies_here and name not in views and sizes[name] == sizes[writes[0]]:
                taken[writes[0]] = name
                break
    return taken
    ### END SOLUTION


# %% test lifetimes 3
_schedule = [
    (["x", "w"], ["a"], ["x"]),
    (["a"], ["b"], ["a"]),
    (["a_t"], ["c"], []),
    (["b", "c"], ["d", "spare"], ["b", "c"]),
    (["d"], ["e"], ["d"]),
]
_views = {"a_flat": "a", "a_t": "a_flat", "e_image": "e"}
expect_equal(
    liveness(_schedule, _views, ["e_image"]),
    {"a": (0, 2), "b": (1, 3), "c": (2, 3), "d": (3, 4), "spare": (3, 3), "e": (4, 5)},
    "liveness of five kernels",
    "a_t shows the memory of a; e_image shows e, which the caller gets",
)
_taken = in_place(_schedule, _views, dict.fromkeys("xwabcde", 8) | {"spare": 8}, ["e_image"])
expect(
    _taken in ({"d": "b", "e": "d"}, {"d": "c", "e": "d"}),
    f"in_place of five kernels: expected d in the place of b or c, and e in that of d; got {_taken}",
    "x belongs to the caller; a is read again through a_t after b is written",
)
print("Lifetimes: the visible test passes.")

# %% hidden lifetimes 9 outside
import random as dice

from autograder.labkit import expect, expect_equal

dice.seed(77)


def random_schedule(count):
    known, views, sizes, schedule, written = ["in0", "in1", "const0"], {}, {}, [], []
    sizes.update({name: dice.choice((64, 128)) for name in known})
    for number in range(count):
        reads = list(dict.fromkeys(dice.choices(known[-7:], k=dice.randrange(1, 4))))
        writes = [f"v{number}"] + [f"u{number}"] * (dice.random() < 0.2)
        may = [name for name in reads if dice.random() < 0.7]
        for name in writes:
            sizes[name] = dice.choice((64, 64, 64, 128))
            written.append(name)
        schedule.append((reads, writes, may))
        known += writes
        if dice.random() < 0.5:
            view = f"view{number}"
            views[view] = dice.choice(known[-4:])
            sizes[view] = sizes[views[view]]
            known.append(view)
    outputs = dice.sample(known, min(2, len(known)))
    return schedule, views, sizes, outputs, written


def shows(name, views):
    return shows(views[name], views) if name in views else name


def check(schedule, views, sizes, outputs, written):
    what = f"schedule {schedule}, views {views}, outputs {outputs}"
    expected = {}
    for name in written:
        first = next(k for k, (_, writes, _) in enumerate(schedule) if name in writes)
        uses = [
            k for k, (reads, _, _) in enumerate(schedule) for r in reads if shows(r, views) == name
        ]
        uses += [len(schedule)] * any(shows(out, views) == name for out in outputs)
        expected[name] = (first, max([first, *uses]))
    got = student.liveness(schedule, views, outputs)
    expect_equal(set(got), set(expected), f"liveness, {what}: the names", "written names only")
    for name in written:
        expect_equal(tuple(got[name]), expected[name], f"liveness of {name}, {what}")
    taken = student.in_place(schedule, views, sizes, outputs)
    for number, (_, writes, may) in enumerate(schedule):
        safe = [
            name
            for name in may
            if name in expected
            and name not in views
            and sizes[name] == sizes[writes[0]]
            and expected[name][1] == number
        ]
        chosen = taken.get(writes[0])
        if safe:
            expect(
                chosen in safe,
                f"in_place, {what}: {writes[0]} could be put into {safe[0]}; got {chosen}",
            )
        else:
            expect(
                chosen is None,
                f"in_place, {what}, sizes {sizes}: {writes[0]} must not be put into {chosen}",
                "inputs, constants, views, other sizes, values that are read later or returned",
            )
    expect(
        set(taken) <= {writes[0] for _, writes, _ in schedule},
        f"in_place, {what}: {sorted(taken)} are not all first outputs",
    )


for trial in range(100):
    check(*random_schedule(dice.randrange(1, 9)))
check(*random_schedule(300))
residual = [(["x"], ["a"], ["x"]), (["a"], ["b"], ["a"]), (["b", "a"], ["c"], ["b", "a"])]
check(residual, {}, dict.fromkeys("xabc", 64), ["c"], ["a", "b", "c"])
check(
    [(["x"], ["a"], []), (["a"], ["b"], ["a"])],
    {},
    dict.fromkeys("xab", 64),
    ["a", "b"],
    ["a", "b"],
)

# %% hints lifetimes [markdown]
# 1. A view has no memory, so it has no lifetime: whose does it prolong?
# 2. Write `base(name)` that follows `views` to the end. One pass over the schedule, in order, sets `last` again and again; the outputs
#    come at the very end.
# 3. For `in_place`, `liveness` has all that you need: a name that lives and whose last kernel is this one is read by nobody later,
#    not even through a view, and is no output. Two checks are left: it is no view itself, and the sizes agree.

# %% [markdown]
# ## Task 6. Pack the arena
#
# All values lie in one block of memory, the arena; two that live at the same time must not share a byte. Finding the smallest
# arena is NP-hard in general, and easy to do well.
#
# `plan(intervals, align=64) -> (offsets, peak)`. `intervals` is a list of `(first, last, size)`, both ends included, size at least
# one byte.
#
# - `offsets[i]` is where interval i begins, a multiple of `align`; intervals that share a moment must not overlap.
# - Count every size as rounded up to a multiple of `align`. `peak` is then the end of the highest interval.
# - No arena can be smaller than the sum of what lives at the busiest moment. `peak` must be at most **1.10 times** that bound
#   for schedules like those of networks with up to 60 intervals, and the **optimum** for up to seven intervals of any sort.
#   You have two seconds for each.


# %% given
def busiest(intervals, align=64):
    """The most bytes that live at one moment, sizes rounded up: no arena is smaller."""
    moments = {first for first, _, _ in intervals}
    return max(
        (
            sum(-(-size // align) * align for first, last, size in intervals if first <= m <= last)
            for m in moments
        ),
        default=0,
    )


# %% task plan
def plan(intervals, align=64):
    """Where each interval lies in the arena, and how large the arena is."""
    ### BEGIN SOLUTION
    sizes = [-(-size // align) * align for _, _, size in intervals]
    count, bound = len(intervals), busiest(intervals, align)
    meets = [
        [j for j, b in enumerate(intervals) if i != j and a[0] <= b[1] and b[0] <= a[1]]
        for i, a in enumerate(intervals)
    ]

    def lowest(i, offsets):
        at = 0
        for start, end in sorted(
            (offsets[j], offsets[j] + sizes[j]) for j in meets[i] if j in offsets
        ):
            if at + sizes[i] <= start:
                break
            at = max(at, end)
        return at

    def packed(order):
        offsets = {}
        for i in order:
            offsets[i] = lowest(i, offsets)
        return max((at + sizes[i] for i, at in offsets.items()), default=0), offsets

    def length(i):
        return intervals[i][1] - intervals[i][0] + 1

    keys = [
        lambda i: (-sizes[i], -length(i)),
        lambda i: (-length(i), -sizes[i]),
        lambda i: -length(i) * sizes[i],
        lambda i: intervals[i][0],
    ]
    orders = [sorted(range(count), key=key) for key in keys]
    peak, offsets = min((packed(order) for order in orders), key=lambda found: found[0])
    if count <= 7:
        # Placing in the order of an optimal packing, each as low as it goes, never ends higher.
        orders = itertools.permutations(range(count))
    else:
        random = np.random.default_rng(0)
        orders = (
            sorted(range(count), key=lambda i: -sizes[i] * noise[i])
            for noise in (random.uniform(0.5, 1.5, count) for _ in range(300))
        )
    for order in orders:
        if peak <= bound:
            break
        peak, offsets = min((peak, offsets), packed(order), key=lambda found: found[0])
    return [offsets[i] for i in range(count)], peak
    ### END SOLUTION


# %% test plan 3
def _overlaps(intervals, offsets):
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(intervals)), 2)
        if intervals[i][0] <= intervals[j][1]
        and intervals[j][0] <= intervals[i][1]
        and offsets[i] < offsets[j] + intervals[j][2]
        and offsets[j] < offsets[i] + intervals[i][2]
    ]


_chain = [(0, 1, 256), (1, 2, 128), (2, 3, 256), (3, 4, 100)]
_offsets, _peak = plan(_chain)
expect_equal(
    _overlaps(_chain, _offsets),
    [],
    "pairs of a chain that overlap in time and memory",
    "an interval that ends at 1 and one that begins at 1 share a moment",
)
expect_equal(
    _peak, 384, "the arena of a chain of 256, 128, 256 and 100 bytes", "first and third may share"
)
_offsets, _peak = plan([(0, 0, 10), (0, 0, 10)], align=64)
expect_equal(sorted(_offsets), [0, 64], "two intervals of 10 bytes, aligned to 64")
expect_equal(_peak, 128, "their arena, sizes rounded up")
print("Packing: the visible test passes.")

# %% hidden plan 9 outside
import itertools
import random as dice

from autograder.labkit import expect, expect_equal

ref = reference()
dice.seed(101)


def check(intervals, align, what, at_most):
    offsets, peak = student.plan(intervals, align)
    expect_equal(len(offsets), len(intervals), f"{what}: the number of offsets")
    rounded = [-(-size // align) * align for _, _, size in intervals]
    for i, at in enumerate(offsets):
        expect(at >= 0 and at % align == 0, f"{what}: offset {at} is no multiple of {align}")
    for i, j in itertools.combinations(range(len(intervals)), 2):
        (a, b, size), (c, d, other) = intervals[i], intervals[j]
        expect(
            b < c or d < a or offsets[i] + size <= offsets[j] or offsets[j] + other <= offsets[i],
            f"{what}: {intervals[i]} at {offsets[i]} and {intervals[j]} at {offsets[j]} overlap",
            "first <= last of the other, both ways round: both ends are included",
        )
    top = max((at + size for at, size in zip(offsets, rounded)), default=0)
    expect_equal(peak, top, f"{what}: peak, sizes rounded up to {align}")
    expect(
        peak <= at_most,
        f"{what}: an arena of {peak} bytes; at most {at_most:.0f} is asked for, and the busiest"
        f" moment has {ref.busiest(intervals, align)}",
        "try several orders of placing, each value as low as it goes",
    )


def optimum(intervals, align):
    """The smallest arena, by branch and bound over orders of placing."""
    sizes = [-(-size // align) * align for _, _, size in intervals]
    least, best = ref.busiest(intervals, align), [sum(sizes)]

    def place(at, top):
        if top >= best[0] or best[0] == least:
            return
        if len(at) == len(sizes):
            best[0] = top
            return
        for i in range(len(sizes)):
            if i in at:
                continue
            taken = sorted(
                (at[j], at[j] + sizes[j])
                for j in at
                if intervals[i][0] <= intervals[j][1] and intervals[j][0] <= intervals[i][1]
            )
            spot = 0
            for start, end in taken:
                if spot + sizes[i] <= start:
                    break
                spot = max(spot, end)
            place({**at, i: spot}, max(top, spot + sizes[i]))

    place({}, 0)
    return best[0]


check([], 64, "no intervals", 0)
hard = 0
for trial in range(60):
    count = dice.randrange(2, 8)
    intervals = []
    for _ in range(count):
        first = dice.randrange(6)
        intervals.append((first, first + dice.choice((0, 1, 1, 2, 3)), dice.randrange(1, 400)))
    align = dice.choice((1, 16, 64))
    best = optimum(intervals, align)
    hard += best > ref.busiest(intervals, align)
    check(intervals, align, f"{intervals}, align {align} (the optimum is {best})", best)
for intervals in (
    [(0, 1, 2), (0, 2, 1), (1, 3, 1), (2, 4, 2), (3, 4, 1), (3, 5, 1), (4, 6, 3)],
    [(0, 3, 3), (1, 1, 2), (2, 5, 2), (4, 6, 3), (5, 7, 1), (6, 7, 2), (0, 0, 4)],
):
    check(intervals, 1, f"{intervals} (seven intervals)", optimum(intervals, 1))


def network(count):
    """Lifetimes like those of a network: mostly short, some residual, sizes by stage."""
    intervals, size = [], 4096 * dice.randrange(2, 9)
    for k in range(count):
        if dice.random() < 0.12:
            size = max(256, size // 2)
        last = k + 1 if dice.random() < 0.7 else k + dice.randrange(2, 9)
        own = size * dice.choice((1, 1, 1, 2, 4)) // dice.choice((1, 1, 3)) + dice.randrange(60)
        intervals.append((k, min(last, count), own))
    return intervals


for trial in range(30):
    intervals = network(dice.randrange(20, 61))
    check(
        intervals,
        64,
        f"network {trial} with {len(intervals)} values",
        1.10 * ref.busiest(intervals, 64),
    )

# %% hints plan [markdown]
# 1. Place the values one after another, each at the lowest offset where it overlaps nothing that lives at the same time. What
#    remains to be decided is the order.
# 2. Largest first is a good order (Pisarchyk and Lee call it greedy by size); longest first is another. Stop early when the peak
#    equals the bound.
# 3. If you place values in the order of their offsets in an optimal packing, each as low as it goes, none ends up higher than there.
#    So for seven values the best of the 5,040 orders is the optimum. For more, add a few hundred random orders near
#    "largest first".

# %% [markdown]
# ## Task 7. The compiler
#
# `compile_program(program, passes, budget=2**19) -> Compiled` puts the passes together. `passes` holds `fuse`, `emit`, `liveness`,
# `in_place` and `plan`: use those, so that this task is tested apart from your other ones (`Passes(fuse, emit, liveness, in_place, plan)`
# is the full set of yours).
#
# - `run(*inputs)` returns the list of outputs with the program's shapes. They may be views of the arena, which the next call
#   overwrites. Inputs are C-contiguous float32 arrays of the captured shapes; for anything else `run` raises `ValueError` naming the
#   input. Inputs and constants are never written.
# - Every value that a kernel writes lies in **one** arena, allocated when the program is compiled; scratch may be part of it or
#   not. `arena_bytes` counts both. It is at most 1.10 times what the busiest moment needs after `in_place`, plus the scratch of the
#   hungriest kernel.
# - While it runs it allocates no array.
# - `source` is the text of all emitted kernels, `kernels` the list of `Kernel`s.
# - `PLAIN` are passes that do nothing clever. The visible test uses them, so that it passes before your other tasks do.
# - `block_rows(kernel, budget)` says how many rows of a kernel fit into `budget` bytes of cache.


# %% given
class Passes(NamedTuple):
    fuse: object
    emit: object
    liveness: object
    in_place: object
    plan: object


class Compiled(NamedTuple):
    """What `compile_program` returns."""

    run: object  # arrays to a list of arrays
    source: str
    arena_bytes: int  # arena and scratch
    kernels: list


def block_rows(kernel, budget):
    """How many rows of all steps of a kernel fit into `budget` bytes; at least one."""
    return max(1, budget // (4 * max(1, sum(width for _, _, _, width in kernel.steps))))


def alone(nodes):
    """A `fuse` that fuses nothing."""
    return [[name] for name, *_ in nodes]


def unblocked(kernel, block):
    """An `emit` for kernels of one step, all rows at once."""
    ((name, op, args, _),) = kernel.steps
    line = TEMPLATES[op].format(*args, out=name)
    return (
        f"def {kernel.name}({', '.join(n for n, _ in kernel.inputs)}, {name}, _):\n    {line}\n",
        0,
    )


def forever(schedule, views, outputs):
    """A `liveness` by which everything lives all the time."""
    return {name: (0, len(schedule)) for _, writes, _ in schedule for name in writes}


def one_after_another(intervals, align=64):
    """A `plan` that shares nothing."""
    ends = [0, *itertools.accumulate(-(-size // align) * align for _, _, size in intervals)]
    return ends[:-1], ends[-1]


# Passes that are correct and do nothing clever, to try a compiler with.
PLAIN = Passes(alone, unblocked, forever, lambda *facts: {}, one_after_another)


def schedule_of(kernels):
    """What `liveness` and `in_place` need: (reads, writes, may) of each kernel."""
    return [([name for name, _ in k.inputs], k.outputs, k.may) for k in kernels]


# %% task compile
def compile_program(program, passes, budget=2**19):
    """Fuse, emit, plan and bind a program."""
    ### BEGIN SOLUTION
    kernels = describe(program, passes.fuse(fusion_nodes(program)))
    schedule = schedule_of(kernels)
    views = {name: base for name, (base, _, _) in program.views.items()}
    shapes = {step.name: step.shape for step in program.steps}
    sizes = {name: 4 * math.prod(shape) for name, shape in shapes.items()}
    sizes |= {name: 4 * math.prod(shape) for name, shape in program.inputs.items()}
    lives = passes.liveness(schedule, views, program.outputs)
    taken = passes.in_place(schedule, views, sizes, program.outputs)

    home, room = {}, {}
    for name in (name for kernel in kernels for name in kernel.outputs):
        first, last = lives[name]
        home[name] = home[taken[name]] if name in taken else name
        start = room[home[name]][0] if name in taken else first
        room[home[name]] = (start, last, sizes[name])
    offsets, peak = passes.plan(list(room.values()))
    offset = dict(zip(room, offsets))
    arena = np.empty(peak, np.uint8)
    arrays = dict(program.constants)
    for name in lives:
        at = offset[home[name]]
        arrays[name] = arena[at : at + sizes[name]].view(np.float32).reshape(shapes[name])

    sources, names, calls, scratch_size = [], {"np": np}, [], 0
    for kernel in kernels:
        if kernel.library is None:
            text, floats = passes.emit(kernel, min(kernel.rows, block_rows(kernel, budget)))
            sources.append(text)
            exec(text, names)
            scratch_size = max(scratch_size, floats)
    scratch = np.empty(scratch_size, np.float32)

    def fits(name):
        while name in views:
            name = views[name]
        return name in arrays

    def seen(name, how, rows):
        array = resolve(name, arrays, program.views)
        return array.reshape(rows, -1) if how == "rows" else array

    for kernel in kernels:
        if kernel.library is None:
            call = names[kernel.name]
            places = [*kernel.inputs, *((name, "rows") for name in kernel.outputs)]
            rest = [scratch]
        else:
            call = LIBRARY[kernel.library.op]
            places = [(a, "whole" if isinstance(a, str) else "number") for a in kernel.library.args]
            places.append((kernel.outputs[0], "whole"))
            rest = []
        # What does not depend on the inputs of a call is looked up once, now.
        bound = [
            place[0]
            if place[1] == "number"
            else seen(*place, kernel.rows)
            if fits(place[0])
            else None
            for place in places
        ]
        open_ = [i for i, value in enumerate(bound) if value is None]
        calls.append((call, bound + rest, [(i, *places[i], kernel.rows) for i in open_]))

    def run(*inputs):
        for (name, shape), array in zip(program.inputs.items(), inputs, strict=True):
            good = isinstance(array, np.ndarray) and array.dtype == np.float32
            if not good or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(f"{name} must be a contiguous float32 array of shape {shape}")
            arrays[name] = array
        for call, bound, open_ in calls:
            args = list(bound)
            for i, name, how, rows in open_:
                args[i] = seen(name, how, rows)
            call(*args)
        return [resolve(name, arrays, program.views) for name in program.outputs]

    return Compiled(run, "\n\n".join(sources), peak + 4 * scratch_size, kernels)
    ### END SOLUTION


# %% test compile 4
_model = lively(SmallCNN())
_images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
_program = capture(_model, _images)
_compiled = compile_program(_program, PLAIN)
with torch.no_grad():
    expect_close(
        _compiled.run(_images.numpy())[0],
        _model(_images).numpy(),
        "the compiled CNN against torch",
        rtol=1e-4,
        atol=1e-5,
    )
    expect_close(
        _compiled.run(-_images.numpy())[0],
        _model(-_images).numpy(),
        "the compiled CNN on a second input",
        rtol=1e-4,
        atol=1e-5,
        look="what is bound when the program is compiled must not be the first input",
    )
_bytes = allocated(lambda: _compiled.run(_images.numpy()))
expect(
    _bytes <= 32_768, f"a call allocates {_bytes} bytes; 32,768 (objects, no arrays) are allowed"
)
print(
    f"The compiler: the visible test passes. {len(_program.steps)} steps, {len(_compiled.kernels)}"
    f" kernels, an arena of {_compiled.arena_bytes} bytes."
)

# %% hidden compile 10
ref = reference()
passes = ref.Passes(ref.fuse, ref.emit, ref.liveness, ref.in_place, ref.plan)
random = np.random.default_rng(29)


def least_arena(program, budget):
    """The bound of the contract: the busiest moment after in_place, and the largest scratch."""
    kernels = ref.describe(program, ref.fuse(ref.fusion_nodes(program)))
    schedule = ref.schedule_of(kernels)
    views = {name: base for name, (base, _, _) in program.views.items()}
    sizes = {step.name: 4 * math.prod(step.shape) for step in program.steps}
    sizes |= {name: 4 * math.prod(shape) for name, shape in program.inputs.items()}
    lives = ref.liveness(schedule, views, program.outputs)
    taken = ref.in_place(schedule, views, sizes, program.outputs)
    home, room = {}, {}
    for name, (first, last) in lives.items():
        home[name] = home[taken[name]] if name in taken else name
        room[home[name]] = (room.get(home[name], (first,))[0], last, sizes[name])
    scratch = [
        4 * ref.emit(k, min(k.rows, ref.block_rows(k, budget)))[1] for k in kernels if not k.library
    ]
    return ref.busiest(list(room.values())), max(scratch, default=0)


def check(program, what, model=None, budget=2**19, exact=True):
    inputs = [random.normal(size=s).astype(np.float32) for s in program.inputs.values()]
    constants = {name: array.copy() for name, array in program.constants.items()}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        compiled = compile_program(program, passes, budget)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    for turn in range(3):
        inputs = [random.normal(size=s).astype(np.float32) for s in program.inputs.values()]
        copies = [array.copy() for array in inputs]
        got = compiled.run(*inputs)
        wanted = ref.interpret(program, *copies)
        expect_equal(len(got), len(wanted), f"{what}: the number of outputs")
        for one, other, name in zip(got, wanted, program.outputs):
            expect_close(
                one,
                other,
                f"{what}, call {turn + 1}: the output {name} against the interpreter",
                rtol=1e-3,
                atol=1e-5,
                look="two values that overlap in the arena; a block that is left out; in_place",
            )
        for array, old in zip(inputs, copies):
            expect(bool((array == old).all()), f"{what}: run changes its input")
    for name, old in constants.items():
        expect(
            bool((program.constants[name] == old).all()), f"{what}: run changes the constant {name}"
        )
    if model is not None:
        with torch.no_grad():
            expect_close(
                compiled.run(*inputs)[0],
                model(*map(torch.from_numpy, inputs)).numpy(),
                f"{what}: against torch",
                rtol=1e-4,
                atol=1e-5,
            )
    busy, scratch = least_arena(program, budget)
    bound = 1.10 * busy + scratch + 256
    expect(
        compiled.arena_bytes <= bound,
        f"{what}: an arena of {compiled.arena_bytes} bytes; {bound:.0f} are allowed (busiest moment"
        f" {busy}, scratch {scratch})",
        "merge the lifetimes of a value and of the one whose memory it takes over; share the scratch",
    )
    expect(
        held <= compiled.arena_bytes + 400_000,
        f"{what}: compiling takes {held} bytes and keeps them; the arena has {compiled.arena_bytes}",
        "all values lie in one array",
    )
    return compiled, inputs


def random_program(number):
    """Maps, reductions, products, views and library calls, wired at random."""
    rows, width = int(random.choice([3, 8, 20])), int(random.choice([4, 6]))
    program = Program({"in0": (rows, width), "in1": (rows, width)}, {}, {}, [], [])
    program.constants["w"] = (random.normal(size=(width, width)) / width).astype(np.float32)
    program.constants["bias"] = random.normal(size=width).astype(np.float32)
    known = ["in0", "in1"]
    for k in range(int(random.integers(4, 14))):
        a, b = (str(name) for name in random.choice(known[-5:], 2))
        op = str(
            random.choice(["add", "mul", "sub", "relu", "tanh", "matmul", "copy", "norm", "view"])
        )
        if op == "view":
            program.views[f"turn{k}"] = (a, "transpose", (1, 0))
            program.steps.append(Step(f"v{k}t", "copy", (f"turn{k}",), (width, rows)))
            program.views[f"back{k}"] = (f"v{k}t", "transpose", (1, 0))
            program.steps.append(Step(f"v{k}", "copy", (f"back{k}",), (rows, width)))
        elif op == "norm":
            program.steps.append(Step(f"v{k}m", "row_max", (a,), (rows, 1)))
            program.steps.append(Step(f"v{k}", "sub", (a, f"v{k}m"), (rows, width)))
        else:
            args = {
                "matmul": (a, "w"),
                "copy": (a,),
                "relu": (a,),
                "tanh": (a,),
                "mul": (a, -0.5),
                "add": (a, str(random.choice([b, "bias"]))),
                "sub": (a, b),
            }[op]
            program.steps.append(Step(f"v{k}", op, args, (rows, width)))
        known.append(f"v{k}")
    results = [known[-1]]
    if random.random() < 0.3 and len(known) > 4:
        results.append(known[-3])
    program.views["shown"] = (results[0], "reshape", (1, rows, width))
    program.outputs.extend(["shown", *results[1:]])
    return program


for number in range(40):
    program = random_program(number)
    text = ", ".join(f"{s.name} = {s.op}{s.args}" for s in program.steps)
    check(program, f"random program {number}: {text}", budget=int(random.choice([64, 400, 2**19])))

for model, x, what in (
    (lively(SmallCNN()), torch.zeros(4, 3, 24, 24), "the CNN"),
    (lively(AttentionBlock()), torch.zeros(4, 64, 64), "the attention block"),
):
    program = capture(model, x)
    compiled, inputs = check(program, what, model)
    expect(
        len(compiled.kernels) < len(program.steps) / 2,
        f"{what}: {len(compiled.kernels)} kernels for {len(program.steps)} steps",
    )
    for kernel in compiled.kernels:
        expect(
            kernel.library or f"def {kernel.name}(" in compiled.source,
            f"{what}: the source has no function {kernel.name}",
        )
    values = 4 * sum(math.prod(step.shape) for step in program.steps)
    bytes_ = allocated(lambda: compiled.run(*inputs))
    expect(
        bytes_ <= 32_768,
        f"{what}: a call allocates {bytes_} bytes; 32,768 (objects, no arrays) are allowed; all"
        f" values together have {values}",
        "bind the arrays when you compile; every step writes into its out=",
    )
    (shape,) = program.inputs.values()
    for bad, said in (
        (np.zeros(shape, np.float64), "float64"),
        (np.zeros((1, *shape[1:]), np.float32), "another batch size"),
        (np.zeros(shape[::-1], np.float32).T, "an array that is not C-contiguous"),
    ):
        expect_raises(ValueError, lambda bad=bad: compiled.run(bad), f"{what}: {said}")

# %% hints compile [markdown]
# 1. Five questions, each answered by one pass: which steps share a kernel, what is its text, when does each value live, which
#    take over another's memory, where does each lie? What is left is to bind arrays to parameters.
# 2. A value that takes over another's memory extends that one's interval: keep `home[name]`, the first owner, and merge intervals by
#    home before you call `plan`. Only what depends on the inputs must be looked up when `run` is called.
# 3. `arena[at : at + size].view(np.float32).reshape(shape)` is a value; `resolve(name, arrays, program.views)` any name; by rows it is
#    `.reshape(kernel.rows, -1)`. Bind a list of (function, arguments) once; in `run` fill in what stands on inputs, and call.

# %% [markdown]
# ## The whole, measured
#
# Your passes together, on both graphs. Each is captured from torch, and compared with torch and with the interpreter of the same
# program. Times are what this machine gives now; bytes are exact.

# %% measure
mine = Passes(fuse, emit, liveness, in_place, plan)


def milliseconds(call, seconds=0.25):
    """The least time of a call, after one to warm up."""
    call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


_subjects = {
    "CNN": (fold_conv_bn(torch.fx.symbolic_trace(lively(SmallCNN()))), torch.randn(8, 3, 32, 32)),
    "attention": (lively(AttentionBlock()), torch.randn(8, 128, 64)),
}
for _name, (_model, _x) in _subjects.items():
    _program = capture(_model, _x)
    _compiled = compile_program(_program, mine)
    _array = _x.numpy()
    with torch.no_grad():
        _off = np.abs(_compiled.run(_array)[0] - _model(_x).numpy()).max()
        _torch = milliseconds(lambda: _model(_x))
    _values = 4 * sum(math.prod(step.shape) for step in _program.steps)
    _slow = milliseconds(lambda: interpret(_program, _array))
    _fast = milliseconds(lambda: _compiled.run(_array))
    print(
        f"{_name}: {len(_program.steps)} steps, {len(_compiled.kernels)} kernels; largest difference"
        f" from torch {_off:.1e}\n"
        f"  memory: all values {_values / 1e6:.1f} MB, arena {_compiled.arena_bytes / 1e6:.2f} MB"
        f" ({_values / _compiled.arena_bytes:.1f} times smaller); a call holds at most"
        f" {allocated(lambda: _compiled.run(_array)) / 1e3:.0f} KB of objects beside it\n"
        f"  time: interpreter {_slow:.2f} ms, compiled {_fast:.2f} ms ({_slow / _fast:.2f} times faster),"
        f" torch on one thread {_torch:.2f} ms"
    )

# %% measure
_softmax = next(k for k in _compiled.kernels if any(op == "row_max" for _, op, _, _ in k.steps))
print(emit(_softmax, 64)[0])

# %% measure
_program = capture(*_subjects["attention"])
_array = _subjects["attention"][1].numpy()
_slow = milliseconds(lambda: interpret(_program, _array))
_speedup, _arenas = {}, {}
for _budget in (2**12, 2**14, 2**16, 2**18, 2**20, 2**22, 2**24):
    _made = compile_program(_program, mine, _budget)
    _speedup[math.log2(_budget) - 10] = _slow / milliseconds(lambda: _made.run(_array), 0.15)
    _arenas[math.log2(_budget) - 10] = _values / _made.arena_bytes
plot_vs(
    "time of the interpreter / time compiled",
    dict.fromkeys(_speedup, 1.0),
    _speedup,
    "x: a block of all steps of a kernel has 2^x KB ('theory': the interpreter itself)",
)

# %% measure
_unfused = compile_program(_program, mine._replace(fuse=alone, emit=unblocked)).arena_bytes
plot_vs(
    "memory of all values / arena",
    dict.fromkeys(_arenas, _values / _unfused),
    _arenas,
    "x: a block of all steps of a kernel has 2^x KB ('theory': planning, no fusion)",
)

# %% written reading 6 [markdown]
# **Read your plots.** The speed-up depends on the size of a block: explain both ends of the curve, with the caches of your machine and
# with what one NumPy call costs. Which part of the time can fusion not touch at all? And the second plot: planning *without* fusion
# comes to about the same arena. Why does fusion save so much time and no memory here? (Six to ten sentences.)
#
# ### BEGIN SOLUTION
# *2 points: small blocks: a NumPy call costs about a microsecond whatever it computes, and there are steps x rows / block of them; large blocks: intermediates no longer fit into the L2 cache (1 to 2 MB here), so each step reads and writes memory as the interpreter does, and what is left of the gain is that no fresh pages are asked for.*
# *2 points: matrix products (compute-bound, already in BLAS), exp and tanh (arithmetic, not bytes), and the copies that change layout stay what they are.*
# *2 points: the arena is set by its busiest moment, two score matrices around a library call, which both programs have; in the unfused chain each value dies at once, so that in_place and plan let it share the same two places; fusion saves traffic to those places, not the places, and its scratch comes on top.*
# ### END SOLUTION
