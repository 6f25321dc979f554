# ---
# title: Training under a memory budget
# hours: 7
# imports: [numpy, matplotlib.pyplot, cloudpickle, torch, torch._dynamo, torch.distributed.fsdp, torch.distributed.optim, torch.amp, autograder.labkit]
# ---

# %% [markdown]
# # Training under a memory budget
#
# Rajbhandari and others report that a model of 7.5 billion parameters needs 120 GB on every device when it is trained
# by plain data parallelism, and 1.9 GB on each of 64 when nothing is stored twice (*ZeRO: memory optimizations toward training
# trillion parameter models*, SC 2020, figure 1). In this lab you first reproduce these figures with a formula, and then build what earns
# them: an optimiser that keeps its share of the state only, a training step that borrows the parameters it needs and gives them
# back, checkpoints that trade activations for a second forward pass, a planner that says which activations to keep, and
# half-precision training that loses neither small gradients nor small updates.
#
# You need the chapter *Training under a memory budget*. Every part is tested by itself: a mistake in one task costs that task
# only, and you may do them in any order.

# %% [markdown]
# ## Before you start: three forecasts
#
# A chain of 16 layers keeps three tensors per layer for the backward pass. Guess how far checkpointing can bring its peak memory
# down, as a fraction of the plain peak. Then: on each of four ranks, which fraction of Adam's state is left when it is sharded?
# And how many times the bytes of ordinary data parallelism does a rank send when the parameters are sharded too?

# %%
from autograder.labkit import plot_vs, predict

predict("peak with checkpoints / plain peak", 1.0, "")
predict("optimiser state per rank / state of one", 1.0, "")
predict("bytes sent with sharded parameters / without", 1.0, "times")

# %% given
import gc
import math
import sys
import time

import numpy as np
import torch
import torch._dynamo  # torch.optim loads it on first use: once here, not in every worker
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autograder.labkit import expect, expect_close, expect_equal, expect_raises
from autograder.labkit import mesh, run_workers

torch.set_num_threads(1)  # a forked worker would hang in the thread pool of its parent
gc.freeze()  # later collections pass over what is loaded by now, which makes them quick


class MemoryMeter(TorchDispatchMode):
    """Counts the bytes of all tensors that operators inside the `with` block read or made.

    A storage counts from the first operator that touches it until it is freed or resized, whoever
    holds it: Python, a view, or the autograd graph.
    """

    def __init__(self):
        super().__init__()
        self.storages, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in tree_leaves((args, kwargs, result)):
            if isinstance(item, torch.Tensor):
                storage = item.untyped_storage()
                self.storages.setdefault(storage._cdata, StorageWeakRef(storage))
        self.peak = max(self.peak, self.live())
        return result

    def live(self):
        """Bytes that are alive now."""
        total = 0
        for address, reference in list(self.storages.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is None:
                del self.storages[address]
            else:
                total += storage.nbytes()
        return total


def saved_bytes(call, weights=()):
    """Bytes that autograd keeps for the backward pass of `call()`, each storage once, no weights."""
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(kept.values())


class Ring:
    """Collective operations between the ranks of a `Comm`, for float32 vectors.

    `bytes_out` counts what this rank has sent; `calls` says which operations it took part in.
    """

    def __init__(self, comm):
        self.comm, self.rank, self.n, self.calls = comm, comm.rank, comm.n, []

    @property
    def bytes_out(self):
        return self.comm.bytes_out

    def reduce_scatter(self, pieces):
        """The sum over all ranks of `pieces[rank]`.

        Each rank hands in `n` vectors; the lengths may differ among the pieces, not among the ranks.
        """
        self._check("reduce_scatter", pieces, self.n)
        arrays = [piece.detach().numpy().copy() for piece in pieces]
        for step in range(1, self.n):
            self._pass(arrays, -step, -step - 1, add=True)
        return torch.from_numpy(arrays[self.rank])

    def all_gather(self, piece):
        """The pieces of all ranks, in the order of the ranks; their lengths may differ."""
        self._check("all_gather", [piece], 1)
        arrays = [None] * self.n
        arrays[self.rank] = piece.detach().numpy().copy()
        for step in range(self.n - 1):
            self._pass(arrays, -step, -step - 1, add=False)
        return [torch.from_numpy(array) for array in arrays]

    def all_reduce(self, vector):
        """The sum over all ranks of `vector`: a reduce-scatter and an all-gather."""
        return torch.cat(self.all_gather(self.reduce_scatter(vector.tensor_split(self.n))))

    def _pass(self, arrays, give, take, *, add):
        """Send one array to the right neighbour while another comes from the left."""
        give, take = (self.rank + give) % self.n, (self.rank + take) % self.n
        sending = self.comm.isend((self.rank + 1) % self.n, arrays[give].tobytes())
        came = np.frombuffer(self.comm.recv((self.rank - 1) % self.n), np.float32)
        sending.join()
        if add and len(came) != len(arrays[take]):
            raise ValueError(
                f"piece {take} has {len(arrays[take])} elements on rank {self.rank} and {len(came)}"
                " on its neighbour: the lengths of the pieces must be the same on all ranks"
            )
        arrays[take] = arrays[take] + came if add else came.copy()

    def _check(self, name, pieces, count):
        if len(pieces) != count:
            raise ValueError(f"{name} takes {count} vectors on {self.n} ranks, not {len(pieces)}")
        for piece in pieces:
            if piece.dtype != torch.float32 or piece.dim() != 1:
                raise ValueError(f"{name} takes float32 vectors, not {piece.dtype} {piece.shape}")
        self.calls.append(name)


def on_ranks(work, n, *args, deadline=25.0):
    """`work(ring, *args)` in `n` processes at once; what each returned, by rank.

    A rank that returns or fails cuts its connections, so that nobody waits for it in vain.
    """
    loopback = "lo" if sys.platform == "linux" else "lo0"
    with mesh(n) as comms:

        def run(rank):
            torch.set_num_threads(1)
            try:
                return work(Ring(comms[rank]), *args)
            finally:
                comms[rank].close()

        results = run_workers(run, n, deadline=deadline, env={"GLOO_SOCKET_IFNAME": loopback})
    failed = [result for result in results if result.status != "ok"]
    failed.sort(key=lambda result: "ConnectionError" in result.error)
    if failed:
        lines = failed[0].error.strip().splitlines() or [failed[0].status]
        what = "\n".join([lines[-1], *lines[-7:-1]])
        if failed[0].status == "deadline" or "ConnectionError" in what:
            what = f"waits for a rank that does not take part\n{what}"
            what += "\nLook at: all ranks must call the same operations in the same order"
        expect(False, f"rank {failed[0].rank} of {n}: {what}")
    return [result.value for result in results]


# %% [markdown]
# ## Task 1. The bill
#
# In mixed-precision training each of Ψ parameters takes 2 bytes for the half-precision weight and 2 for its gradient, and the optimiser
# keeps what its update needs in float32. All four optimisers here keep a float32 copy of the weights; beside that
#
# | `optimizer` | keeps |
# |---|---|
# | `"adam"` | two moments in float32 |
# | `"momentum"` | one moment in float32 |
# | `"sgd"` | nothing |
# | `"adam8bit"` | two moments of one byte each |
#
# ZeRO on `n` ranks shards the optimiser's state in stage 1, the gradients too in stage 2, the parameters too in stage 3; stage 0 is
# plain data parallelism.
#
# - `state_bytes(psi, n, stage, optimizer="adam") -> dict` with the bytes on one rank under `"params"`, `"grads"` and `"optimizer"`.
# - `largest_model(memory, n, stage, optimizer="adam") -> int`: the most parameters whose state fits in `memory` bytes a rank.
# - `step_bytes(psi, n, stage) -> float`: what one rank sends in one step, in bytes, with ring operations on half-precision values. A
#   ring reduce-scatter or all-gather of `S` bytes makes each rank send `(n-1)/n · S`.
#
# A stage other than 0 to 3, or an unknown optimiser, raises `ValueError`. Nothing is rounded but `largest_model`, which rounds down.


# %% task state_bytes
def state_bytes(psi, n, stage, optimizer="adam"):
    """Bytes of parameters, gradients and optimiser state on one of n ranks."""
    ### BEGIN SOLUTION
    extra = {"adam": 12, "momentum": 8, "sgd": 4, "adam8bit": 6}
    if stage not in (0, 1, 2, 3) or optimizer not in extra:
        raise ValueError(f"no such stage or optimiser: {stage}, {optimizer}")
    return {
        "params": 2 * psi / (n if stage >= 3 else 1),
        "grads": 2 * psi / (n if stage >= 2 else 1),
        "optimizer": extra[optimizer] * psi / (n if stage >= 1 else 1),
    }
    ### END SOLUTION


def largest_model(memory, n, stage, optimizer="adam"):
    """The most parameters whose state fits in `memory` bytes on each of n ranks."""
    ### BEGIN SOLUTION
    return int(memory // sum(state_bytes(1, n, stage, optimizer).values()))
    ### END SOLUTION


def step_bytes(psi, n, stage):
    """Bytes that one rank sends in one training step."""
    ### BEGIN SOLUTION
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"no such stage: {stage}")
    return (3 if stage == 3 else 2) * 2 * psi * (n - 1) / n
    ### END SOLUTION


# %% test state_bytes 2
_gb = [sum(state_bytes(7.5e9, 64, _stage).values()) / 1e9 for _stage in range(4)]
expect_close(
    _gb,
    [120.0, 31.40625, 16.640625, 1.875],
    "7.5 billion parameters on 64 ranks, GB in stages 0 to 3",
    rtol=1e-9,
    look="which parts each stage divides by n; the float32 copy of the weights is optimiser state",
)
expect_equal(largest_model(16_000, 1, 0), 1000, "parameters that fit in 16 000 bytes on one rank")
expect_close(step_bytes(100, 4, 0), 300.0, "bytes sent per step by plain data parallelism")
expect_raises(ValueError, lambda: state_bytes(1, 1, 4), "stage 4")
print("The bill: the visible test passes.")

# %% hidden state_bytes 6 outside
from autograder.labkit import expect, expect_close, expect_equal, expect_raises

per = {"adam": 12, "momentum": 8, "sgd": 4, "adam8bit": 6}
for optimizer, extra in per.items():
    for n in (1, 3, 64, 1024):
        for stage in range(4):
            psi = 1.3e9
            got = student.state_bytes(psi, n, stage, optimizer)
            what = f"state_bytes({psi:g}, {n}, {stage}, {optimizer!r})"
            expect_equal(sorted(got), ["grads", "optimizer", "params"], f"{what}: the parts")
            wanted = {
                "params": 2 * psi / (n if stage == 3 else 1),
                "grads": 2 * psi / (n if stage > 1 else 1),
                "optimizer": extra * psi / (n if stage > 0 else 1),
            }
            for part, size in wanted.items():
                expect_close(
                    float(got[part]),
                    size,
                    f"{what}: {part}",
                    rtol=1e-9,
                    look="the float32 copy of the weights belongs to the optimiser's state; stage 1 shards"
                    " only that state, stage 2 the gradients too, stage 3 everything",
                )
            memory = 8e9
            most = student.largest_model(memory, n, stage, optimizer)
            ratio = sum(wanted.values()) / psi
            expect(
                abs(most - memory / ratio) <= 1.001,
                f"largest_model({memory:g}, {n}, {stage}, {optimizer!r}): expected"
                f" {memory / ratio:.1f} rounded down, got {most}",
                "what all three parts of one parameter take",
            )
for n in (1, 2, 5, 64):
    for stage, passes in ((0, 2), (1, 2), (2, 2), (3, 3)):
        expect_close(
            float(student.step_bytes(1e6, n, stage)),
            passes * 2e6 * (n - 1) / n,
            f"step_bytes(1e6, {n}, {stage})",
            rtol=1e-9,
            look="gradients are reduced and scattered once; how often must the parameters be gathered?",
        )
for bad in (-1, 4):
    expect_raises(ValueError, lambda bad=bad: student.state_bytes(1e6, 2, bad), f"stage {bad}")
    expect_raises(ValueError, lambda bad=bad: student.step_bytes(1e6, 2, bad), f"stage {bad}")
expect_raises(ValueError, lambda: student.state_bytes(1e6, 2, 1, "lion"), "an unknown optimiser")

# %% hints state_bytes [markdown]
# 1. For Adam the four bytes of weight and gradient are the smaller part. What makes up the other twelve?
# 2. Each part is divided by `n` from one stage on: the optimiser from 1, the gradients from 2, the parameters from 3.
# 3. For `largest_model`, the bytes are proportional to Ψ: divide the memory by the bytes of one parameter. For `step_bytes`, stage 0 is an
#    all-reduce, which is a reduce-scatter and an all-gather; stages 1 and 2 put the update between the two; stage 3 gathers the
#    parameters once for the forward and once more for the backward pass.

# %% [markdown]
# ## Task 2. What the backward pass keeps
#
# The block below is a transformer layer. Say, operator by operator, which tensors autograd keeps of it: an operator keeps what its backward
# needs (a matrix product both factors, but weights are not counted here; softmax its output; GELU its input; LayerNorm its
# input; dropout a mask of **one byte** an element; an addition nothing), and a tensor that two operators keep counts once. The
# mean and deviation of a LayerNorm are small, leave them out; so are scalars.
#
# With dropout, there is one behind the softmax, one behind the attention's output projection, and one behind the second linear layer of
# the MLP.
#
# `activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none") -> dict`: bytes for sequences of `s` tokens, `b` of them, hidden size
# `h`, `a` heads, elements of `width` bytes, under four keys:
#
# - `"layernorm"`: the inputs of the two LayerNorms (the first of which is the block's input),
# - `"attention"`: what the attention keeps that grows with `s` and not with its square,
# - `"scores"`: what grows with the square of `s`,
# - `"mlp"`: what the MLP keeps, from the input of its first linear layer to its dropout.
#
# `recompute="selective"` recomputes what grows with the square (Korthikanti and others, MLSys 2023); `"full"` keeps the block's input only. Anything else raises
# `ValueError`.


# %% given
class Block(torch.nn.Module):
    """A transformer layer: attention and MLP, a LayerNorm before each, no dropout."""

    def __init__(self, h, a):
        super().__init__()
        self.heads = a
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(h), torch.nn.LayerNorm(h)])
        self.qkv, self.out = torch.nn.Linear(h, 3 * h), torch.nn.Linear(h, h)
        self.up, self.down = torch.nn.Linear(h, 4 * h), torch.nn.Linear(4 * h, h)

    def forward(self, x):
        b, s, h = x.shape
        q, k, v = (
            part.view(b, s, self.heads, h // self.heads).transpose(1, 2)
            for part in self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        )
        scores = (q @ k.transpose(2, 3)) / math.sqrt(h // self.heads)
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, s, h)
        x = x + self.out(mixed)
        return x + self.down(torch.nn.functional.gelu(self.up(self.norms[1](x))))


# %% task activation_bytes
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    """Bytes that one transformer layer keeps for its backward pass, by part."""
    ### BEGIN SOLUTION
    token, square, mask = s * b * h, a * s * s * b, 1 if dropout else 0
    parts = {
        # the input of the projection to q, k and v; q, k and v; the input of the output projection; the mask behind it
        "attention": 5 * width * token + mask * token,
        # the softmax's output; with dropout its mask and what it lets through
        "scores": (2 * width + 1 if dropout else width) * square,
        "layernorm": 2 * width * token,
        "mlp": (1 + 4 + 4) * width * token + mask * token,
    }
    if recompute == "selective":
        parts["scores"] = 0
    elif recompute == "full":
        parts = {**dict.fromkeys(parts, 0), "layernorm": width * token}
    elif recompute != "none":
        raise ValueError(f"no such way to recompute: {recompute}")
    return parts
    ### END SOLUTION


# %% test activation_bytes 3
_s, _b, _h, _a = 1024, 4, 2048, 16
expect_close(
    float(sum(activation_bytes(_s, _b, _h, _a).values())),
    _s * _b * _h * (34 + 5 * _a * _s / _h),
    "half precision with dropout, against s·b·h·(34 + 5·a·s/h) of Korthikanti and others",
    look="the masks take one byte an element; dropout behind the softmax keeps a second square tensor",
)
_block = Block(64, 4)
_x = torch.randn(2, 48, 64, requires_grad=True)
_measured = saved_bytes(lambda: _block(_x), _block.parameters())
_counted = sum(activation_bytes(48, 2, 64, 4, width=4, dropout=False).values())
print(f"float32 without dropout: {_counted} bytes by your count, {_measured} kept by autograd")
expect(
    abs(_counted / _measured - 1) < 0.1,
    f"float32 without dropout: {_counted} bytes counted, autograd keeps {_measured}",
    "without dropout there is neither a mask nor a second square tensor",
)
print("Activations: the visible test passes.")

# %% hidden activation_bytes 9 outside
import math

import torch

from autograder.labkit import expect, expect_close, expect_equal, expect_raises

ref = reference()
for s, b, h, a in ((128, 2, 256, 4), (2048, 1, 12288, 96), (7, 3, 30, 5)):
    token, square = s * b * h, a * s * s * b
    for width in (2, 4):
        for dropout in (True, False):
            got = student.activation_bytes(s, b, h, a, width, dropout)
            what = f"s={s}, b={b}, h={h}, a={a}, width={width}, dropout={dropout}"
            expect_equal(
                sorted(got), ["attention", "layernorm", "mlp", "scores"], f"{what}: the parts"
            )
            for part, wanted, look in (
                ("layernorm", 2 * width * token, "two LayerNorms keep their inputs"),
                (
                    "attention",
                    (5 * width + dropout) * token,
                    "the input of the projection, q, k, v, the input of the output projection, a mask",
                ),
                (
                    "scores",
                    (2 * width + 1 if dropout else width) * square,
                    "softmax keeps its output, dropout a mask, the product with v its left factor",
                ),
                (
                    "mlp",
                    (9 * width + dropout) * token,
                    "the first linear layer keeps h, GELU 4h, the second linear layer 4h, a mask",
                ),
            ):
                expect_close(float(got[part]), wanted, f"{what}: {part}", rtol=1e-9, look=look)
            kept = student.activation_bytes(s, b, h, a, width, dropout, "selective")
            expect_close(
                float(sum(kept.values())),
                sum(got.values()) - float(got["scores"]),
                f"{what}, selective: only what grows with the square of s goes",
                rtol=1e-9,
            )
            kept = student.activation_bytes(s, b, h, a, width, dropout, "full")
            expect_close(
                float(sum(kept.values())), width * token, f"{what}, full: the block's input is left"
            )
for width, dtype in ((4, torch.float32), (2, torch.bfloat16)):
    for s, b, h, a in ((96, 1, 32, 4), (16, 2, 128, 2)):
        torch.manual_seed(1)
        block = ref.Block(h, a).to(dtype)
        x = torch.randn(b, s, h, dtype=dtype, requires_grad=True)
        measured = ref.saved_bytes(lambda block=block, x=x: block(x), block.parameters())
        counted = sum(student.activation_bytes(s, b, h, a, width, False).values())
        expect(
            abs(counted / measured - 1) < 0.1,
            f"{dtype}, s={s}, b={b}, h={h}, a={a}: {counted} bytes counted, autograd keeps {measured}",
        )
expect_raises(
    ValueError, lambda: student.activation_bytes(1, 1, 1, 1, recompute="some"), "recompute='some'"
)

# %% hints activation_bytes [markdown]
# 1. Walk through `Block.forward` with a pencil. For each line ask what its derivative needs, and whether that is a weight.
# 2. In units of `s·b·h` elements: two LayerNorm inputs, one input of `qkv`, three of q, k and v, one input of `out`, one input of `up`, four for
#    GELU, four for `down`.
# 3. The square tensors have `a·s²·b` elements. Without dropout there is one: the softmax's output, which is also the left factor of the product with
#    v. With dropout the left factor is another tensor, and there is a mask: twice `width` plus one byte an element.

# %% [markdown]
# ## Task 3. An optimiser that keeps its share
#
# All ranks hold the same parameters and each has gradients of its own batch. In ZeRO's stages 1 and 2 a rank updates its share of the
# parameters only, so it needs the sum of that share's gradients only (a reduce-scatter), keeps the moments of that share only, and
# then all ranks exchange what they have updated (an all-gather). An all-reduce is those two operations in a row; ZeRO puts the
# update between them, and sends not a byte more.
#
# `ShardedAdam(params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)`; `step()`:
#
# - `params` is an iterable of float32 parameters, the same on every rank. One that does not require a gradient is left alone; one
#   that stands there twice (tied weights) is one parameter.
# - `step` does on every rank what `torch.optim.Adam` would do with the **mean** over the ranks of their gradients. A gradient that is
#   `None` on a rank counts as zero there: other ranks may have one.
# - After `step`, every gradient is `None`: its memory is free.
# - Between steps a rank holds at most 8 bytes for each element of its share; a share is at most `total / n` elements **plus** the largest
#   parameter (so you may cut across parameters, or deal out whole ones).
# - A rank sends at most `2(n-1)/n` of the parameters' bytes in a step when shares are equal: one reduce-scatter and one all-gather.
#
# `total` need not be a multiple of `n`, and may be smaller than `n`.


# %% task sharded_adam
class ShardedAdam:
    """Adam whose state is spread over the ranks."""

    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        ### BEGIN SOLUTION
        self.params = list({id(p): p for p in params if p.requires_grad}.values())
        self.ring, self.lr, self.betas, self.eps = ring, lr, betas, eps
        total = sum(p.numel() for p in self.params)
        mine = total // ring.n + (ring.rank < total % ring.n)
        self.m, self.v, self.steps = torch.zeros(mine), torch.zeros(mine), 0
        ### END SOLUTION

    @torch.no_grad()
    def step(self):
        """Reduce-scatter the gradients, update this rank's share, all-gather the parameters."""
        ### BEGIN SOLUTION
        ring = self.ring
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        for p in self.params:
            p.grad = None
        grad = ring.reduce_scatter(flat.tensor_split(ring.n)) / ring.n
        flat = torch.cat([p.reshape(-1) for p in self.params])
        share = flat.tensor_split(ring.n)[ring.rank]
        self.steps += 1
        one, two = self.betas
        self.m.mul_(one).add_(grad, alpha=1 - one)
        self.v.mul_(two).addcmul_(grad, grad, value=1 - two)
        spread = (self.v / (1 - two**self.steps)).sqrt() + self.eps
        share = share - self.lr * self.m / (1 - one**self.steps) / spread
        flat = torch.cat(ring.all_gather(share))
        for p, new in zip(self.params, flat.split([p.numel() for p in self.params])):
            p.copy_(new.view_as(p))
        ### END SOLUTION


# %% test sharded_adam 4
def _two_steps(ring):
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    plain = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    sharded = ShardedAdam(layer.parameters(), ring, lr=0.1)
    adam = torch.optim.Adam(plain, lr=0.1)
    for step in range(2):
        noise = [torch.randn(ring.n, *p.shape) for p in plain]
        for p, q, many in zip(layer.parameters(), plain, noise):
            p.grad, q.grad = many[ring.rank].clone(), many.mean(dim=0)
        sharded.step()
        adam.step()
    new = torch.cat([p.detach().reshape(-1) for p in layer.parameters()])
    return (
        new.numpy(),
        torch.cat([p.detach().reshape(-1) for p in plain]).numpy(),
        ring.calls,
        sum(p.grad is not None for p in layer.parameters()),
    )


for _rank, (_got, _wanted, _calls, _left) in enumerate(on_ranks(_two_steps, 3)):
    expect_close(
        _got,
        _wanted,
        f"rank {_rank} of 3: 18 parameters after two steps, against torch.optim.Adam",
        rtol=1e-4,
        atol=1e-6,
        look="the mean of the gradients, the bias corrections, and the order of the shares",
    )
    expect(
        "reduce_scatter" in _calls,
        f"rank {_rank} took part in {_calls}: gradients must come by reduce_scatter",
    )
    expect_equal(_left, 0, f"rank {_rank}: gradients left after step", "p.grad = None")
print("The sharded optimiser: the visible test passes.")

# %% hidden sharded_adam 14
import tempfile
from pathlib import Path

import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer

from autograder.labkit import live_bytes


def train_sharded(ring, shapes, steps, missing, tied=False, frozen=False):
    """Take steps with the student's optimiser and with torch's; what both came to, and the cost."""
    torch.manual_seed(11)
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    plain = [torch.nn.Parameter(p.detach().clone()) for p in params]
    handed = [*params, params[0]] if tied else list(params)
    if frozen:
        handed.insert(1, torch.nn.Parameter(torch.ones(3), requires_grad=False))
    adam = torch.optim.Adam(plain, lr=0.05, betas=(0.8, 0.95), eps=0.3)
    arrays = live_bytes(np.ndarray)
    with MemoryMeter() as meter:
        sharded = ShardedAdam(iter(handed), ring, lr=0.05, betas=(0.8, 0.95), eps=0.3)
        for step in range(steps):
            sent = ring.bytes_out
            for number, (p, q) in enumerate(zip(params, plain)):
                noise = torch.randn(ring.n, *p.shape) * (1 + number)
                for rank in range(ring.n):
                    if (step + number + rank) % missing == 0:
                        noise[rank] = 0
                none = (step + number + ring.rank) % missing == 0
                p.grad = None if none else noise[ring.rank].clone()
                q.grad = noise.mean(dim=0)
            sharded.step()
            sent = ring.bytes_out - sent
            adam.step()
        for p, q in zip(plain, adam.state.values()):
            p.grad = None
        adam.state.clear()
        noise = none = q = None
        gc.collect()
        torch.zeros(1)
        known = sum(p.numel() * 4 for p in [*handed, *plain]) - tied * 4 * params[0].numel()
        held = meter.live() - known + max(0, live_bytes(np.ndarray) - arrays)
    return {
        "got": torch.cat([p.detach().reshape(-1) for p in params]).numpy(),
        "wanted": torch.cat([p.detach().reshape(-1) for p in plain]).numpy(),
        "held": held,
        "sent": sent,
        "left": sum(p.grad is not None for p in handed),
    }


def against_torch(ring, where):
    """One rank's parameters by ZeroRedundancyOptimizer on gloo, and by the student's optimiser."""
    dist.init_process_group("gloo", init_method=where, rank=ring.rank, world_size=ring.n)
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
    twin = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
    twin.load_state_dict(model.state_dict())
    theirs = ZeroRedundancyOptimizer(twin.parameters(), torch.optim.Adam, lr=0.02)
    mine = ShardedAdam(model.parameters(), ring, lr=0.02)
    torch.manual_seed(ring.rank)
    for _ in range(5):
        x = torch.randn(6, 9)
        for net in (model, twin):
            net.zero_grad()
            net(x).square().mean().backward()
        for p in twin.parameters():
            dist.all_reduce(p.grad)
            p.grad /= ring.n
        theirs.step()
        mine.step()
    dist.destroy_process_group()
    return [
        torch.cat([p.detach().reshape(-1) for p in net.parameters()]).numpy()
        for net in (model, twin)
    ]


def all_cases(ring, where):
    many = [(40, 50)] + [(30, 20)] * 6 + [(20,)] * 5
    cases = {
        "twelve parameters of 20 to 2000 elements": (many, 4, 99),
        "a gradient is None on some ranks": ([(6, 5), (7,), (3, 3)], 6, 3),
        "five elements on four ranks": ([(2,), (3,)], 3, 99),
        "two elements on four ranks": ([(2,)], 2, 99),
        "a parameter that stands there twice, and a frozen one": (
            [(6, 5), (7,)],
            3,
            99,
            True,
            True,
        ),
    }
    found = {what: train_sharded(ring, *case) for what, case in cases.items()}
    found["torch"] = against_torch(ring, where)
    return found


with tempfile.TemporaryDirectory() as folder:
    found = on_ranks(all_cases, 4, f"file://{Path(folder) / 'meet'}")
for rank, cases in enumerate(found):
    mine, theirs = cases.pop("torch")
    for what, case in cases.items():
        expect_close(
            case["got"],
            case["wanted"],
            f"{what}; rank {rank} of 4: parameters against torch.optim.Adam",
            rtol=1e-3,
            atol=2e-5,
            look="the mean over all ranks; a None counts as zero; a tied parameter moves once a step",
        )
        expect_equal(
            case["left"], 0, f"{what}; rank {rank}: gradients that are not None after step"
        )
    expect_close(
        mine,
        theirs,
        f"rank {rank} of 4: parameters against ZeroRedundancyOptimizer after 5 steps",
        rtol=1e-3,
        atol=2e-5,
    )
    size, largest = 2000 + 6 * 600 + 5 * 20, 2000
    big = cases["twelve parameters of 20 to 2000 elements"]
    allowed = 8 * (size / 4 + largest) + 400
    expect(
        big["held"] <= allowed,
        f"rank {rank} of 4, {size} parameters: it holds {big['held']} bytes beside the parameters after"
        f" a step; its share allows {allowed:.0f}, and the whole of Adam's state is {8 * size}",
        "the moments of this rank's share only; a slice is a view, and keeps the whole it was cut from",
    )
sent = [cases["twelve parameters of 20 to 2000 elements"]["sent"] for cases in found]
bound = 2 * 3 / 4 * size * 4
expect(
    sum(sent) / 4 <= 1.02 * bound,
    f"the ranks send {sum(sent) / 4:.0f} bytes each in a step; a reduce-scatter and an all-gather send {bound:.0f}",
    "an all-reduce already contains an all-gather: a rank does not need the other shares' gradients",
)

# %% hints sharded_adam [markdown]
# 1. Which gradients does a rank need to update its share? And who has the parameters of the others afterwards?
# 2. Lay all gradients in one vector, cut it with `tensor_split(ring.n)`, and hand the pieces to `ring.reduce_scatter`. Your moments have the length of
#    your own piece. Allocate them at that length: a slice of a long vector keeps all of it alive.
# 3. `step`: vector of gradients (zeros for `None`), gradients to `None`, `reduce_scatter`, divide by `n`; Adam's update of the piece of the
#    parameters' vector; `all_gather`; copy back with `p.copy_(piece.view_as(p))`. Take tied and frozen parameters out in `__init__`.

# %% [markdown]
# ## Task 4. Parameters on loan
#
# Stage 3 shards the parameters as well. A layer's parameters are gathered right before they are used, in the forward and again in the
# backward pass, and given back right after. So each rank sends three times `(n-1)/n` of the parameters: two all-gathers and one reduce-scatter.
#
# `Zero3(layers, ring)` for a list of modules, each of which takes one tensor and gives one, without buffers and without
# randomness, with the same float32 parameters on every rank:
#
# - `shards[i]` is this rank's float32 vector of layer `i`'s parameters, `grads[i]` the gradient of it (None at first). How you cut
#   the layer is yours to choose.
# - After `__init__` the modules' own parameters hold no memory (`p.data = torch.empty(0)` does that): only the shards are left.
# - `gather(i) -> list` gives the whole parameters of layer `i`, in the order of `layers[i].parameters()`, from all ranks.
# - `forward_backward(x, loss_of) -> float`: this rank's loss, `loss_of(y)` of the output `y` of the chain for this rank's batch `x`; it leaves in
#   `grads` the **mean** over the ranks of the gradients. All ranks call it at the same time.
# - While it runs, a rank holds, beside its shards, its gradient shards and the activations, at most **four layers' worth** of parameters and
#   gradients.
# - It sends `3(n-1)/n` of the parameters' bytes, within 5 %.
#
# `functional_call(layer, {name: tensor, ...}, x)` runs a module with other tensors in the place of its parameters. You may keep the input
# of each layer and run the layer again in the backward pass.


# %% task zero3
class Zero3:
    """A chain of layers whose parameters are spread over the ranks."""

    def __init__(self, layers, ring):
        ### BEGIN SOLUTION
        self.layers, self.ring = list(layers), ring
        self.shards, self.grads, self.shapes = [], [None] * len(self.layers), []
        for layer in self.layers:
            params = list(layer.parameters())
            self.shapes.append({name: p.shape for name, p in layer.named_parameters()})
            flat = torch.cat([torch.empty(0), *(p.detach().reshape(-1) for p in params)])
            self.shards.append(flat.tensor_split(ring.n)[ring.rank].clone())
            for p in params:
                p.data = torch.empty(0)
        ### END SOLUTION

    def gather(self, i):
        """The whole parameters of layer i."""
        ### BEGIN SOLUTION
        flat = torch.cat(self.ring.all_gather(self.shards[i]))
        shapes = self.shapes[i].values()
        pieces = flat.split([shape.numel() for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes)]

    def _run(self, i, params, x):
        return functional_call(self.layers[i], dict(zip(self.shapes[i], params)), (x,))
        ### END SOLUTION

    def forward_backward(self, x, loss_of):
        """One rank's loss; the gradients of the mean loss are left in `grads`."""
        ### BEGIN SOLUTION
        ring, inputs = self.ring, []
        with torch.no_grad():
            for i in range(len(self.layers)):
                inputs.append(x)
                x = self._run(i, self.gather(i), x)
        out = x.detach().requires_grad_()
        loss = loss_of(out)
        (slope,) = torch.autograd.grad(loss, out)
        for i in reversed(range(len(self.layers))):
            x = inputs.pop().detach().requires_grad_()
            params = [p.requires_grad_() for p in self.gather(i)]
            slope, *grads = torch.autograd.grad(self._run(i, params, x), [x, *params], slope)
            flat = torch.cat([torch.empty(0), *(grad.reshape(-1) for grad in grads)])
            self.grads[i] = ring.reduce_scatter(flat.tensor_split(ring.n)) / ring.n
        return loss.item()
        ### END SOLUTION


# %% test zero3 4
def _chain(seed, width, depth):
    """Layers of one size with a nonlinearity, without parameters of its own, between them."""
    torch.manual_seed(seed)
    return [torch.nn.Linear(width, width) if i % 2 == 0 else torch.nn.Tanh() for i in range(depth)]


def _one_pass(ring):
    layers, whole = _chain(1, 8, 5), torch.nn.Sequential(*_chain(1, 8, 5))
    chain = Zero3(layers, ring)
    left = sum(p.untyped_storage().nbytes() for layer in layers for p in layer.parameters())
    batches = torch.randn(ring.n, 4, 8, generator=torch.Generator().manual_seed(2))
    loss = chain.forward_backward(batches[ring.rank], lambda y: y.square().mean())
    sum(whole(batch).square().mean() for batch in batches).div(ring.n).backward()
    wanted = torch.cat([p.grad.reshape(-1) for p in whole[2].parameters()]).numpy()
    return loss, left, chain.grads[2].numpy(), wanted, [p.shape for p in chain.gather(2)]


_found = on_ranks(_one_pass, 2)
for _rank, (_loss, _left, _, _wanted, _shapes) in enumerate(_found):
    expect_equal(_left, 0, f"rank {_rank}: bytes that the modules' parameters still hold")
    expect_equal(
        [tuple(_s) for _s in _shapes], [(8, 8), (8,)], f"rank {_rank}: shapes of gather(2)"
    )
expect_close(
    float(sum(np.abs(_f[2]).sum() for _f in _found)),
    float(np.abs(_found[0][3]).sum()),
    "layer 2: the gradients' absolute values, summed over the shards of both ranks",
    rtol=1e-4,
    look="the mean over the ranks; each element of the layer lies in one shard",
)
print("Parameters on loan: the visible test passes.")

# %% hidden zero3 14
import tempfile
from pathlib import Path

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def many_layers(seed, sizes):
    torch.manual_seed(seed)
    layers = []
    for number, (wide, high) in enumerate(zip(sizes, sizes[1:])):
        layers += [torch.nn.Linear(wide, high, bias=number % 3 != 1), torch.nn.Tanh()]
    return layers


def loss_of(y):
    return (y - 0.5).square().mean()


def take_steps(ring, sizes, steps, rate=0.3):
    """Steps of SGD with the student's chain, and the same on one process with the whole batch."""
    layers, whole = many_layers(4, sizes), torch.nn.Sequential(*many_layers(4, sizes))
    chain = Zero3(layers, ring)
    drawn = torch.Generator().manual_seed(5)
    losses, wanted = [], []
    for _ in range(steps):
        batches = torch.randn(ring.n, 3, sizes[0], generator=drawn)
        losses.append(chain.forward_backward(batches[ring.rank], loss_of))
        whole.zero_grad()
        each = [loss_of(whole(batch)) for batch in batches]
        sum(each).div(ring.n).backward()
        wanted.append(each[ring.rank].item())
        with torch.no_grad():
            for shard, grad in zip(chain.shards, chain.grads):
                if len(shard):
                    shard -= rate * grad
            for p in whole.parameters():
                p -= rate * p.grad
    got = [p.detach().reshape(-1) for i in range(len(layers)) for p in chain.gather(i)]
    return (
        torch.cat(got).numpy(),
        torch.cat([p.detach().reshape(-1) for p in whole.parameters()]).numpy(),
        np.array(losses),
        np.array(wanted),
    )


def weigh(ring, width, depth):
    """What a pass over `depth` equal layers costs in memory and bytes."""
    layers = many_layers(6, [width] * (depth + 1))
    with MemoryMeter() as meter:
        for layer in layers:
            for p in layer.parameters():
                p.detach()
        chain = Zero3(layers, ring)
        gc.collect()
        after_init = meter.live()
        x = torch.randn(2, width)
        meter.peak, sent = 0, ring.bytes_out
        chain.forward_backward(x, loss_of)
        peak, sent = meter.peak, ring.bytes_out - sent
        gc.collect()
        torch.zeros(1)
        return {"init": after_init, "peak": peak, "sent": sent, "after": meter.live()}


def by_fsdp(ring, where):
    """The gradients of one pass by FSDP2 on gloo, and what the student's chain comes to."""
    dist.init_process_group("gloo", init_method=where, rank=ring.rank, world_size=ring.n)
    sizes = [6, 10, 10, 5]
    model = torch.nn.Sequential(*many_layers(7, sizes))
    device_mesh = init_device_mesh("cpu", (ring.n,))
    for layer in model:
        fully_shard(layer, mesh=device_mesh)
    fully_shard(model, mesh=device_mesh)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(ring.rank))
    loss_of(model(x)).backward()
    theirs = [p.grad.full_tensor().reshape(-1) for p in model.parameters()]
    dist.destroy_process_group()
    chain = Zero3(many_layers(7, sizes), ring)
    before = [p.detach().clone().reshape(-1) for i in range(6) for p in chain.gather(i)]
    chain.forward_backward(x, loss_of)
    for shard, grad in zip(chain.shards, chain.grads):
        if len(shard):
            shard.sub_(grad)
    after = [p.detach().reshape(-1) for i in range(6) for p in chain.gather(i)]
    return (torch.cat(before) - torch.cat(after)).numpy(), torch.cat(theirs).numpy()


def every_case(ring, where):
    return {
        "uneven": take_steps(ring, [5, 11, 3, 1, 2], 4),
        "cost": weigh(ring, 48, 20),
        "fsdp": by_fsdp(ring, where),
    }


with tempfile.TemporaryDirectory() as folder:
    found = on_ranks(every_case, 4, f"file://{Path(folder) / 'meet'}")
layer = 48 * 48 * 4 + 48 * 4
whole = sum(p.numel() * 4 for part in many_layers(6, [48] * 21) for p in part.parameters())
for rank, case in enumerate(found):
    got, wanted, losses, alone = case["uneven"]
    expect_close(losses, alone, f"rank {rank} of 4: its losses in 4 steps", rtol=1e-3, atol=1e-5)
    expect_close(
        got,
        wanted,
        f"rank {rank} of 4: parameters after 4 steps of SGD with `grads`, against one process",
        rtol=1e-3,
        atol=2e-5,
        look="the mean over the ranks, the order of parameters, layers smaller than the number of ranks",
    )
    got, theirs = case["fsdp"]
    expect_close(
        got,
        theirs,
        f"rank {rank} of 4: the gradients against FSDP2 on gloo",
        rtol=1e-3,
        atol=1e-5,
    )
    cost, slack = case["cost"], 4000
    expect(
        cost["init"] <= whole / 4 + slack,
        f"rank {rank} of 4: {cost['init']} bytes are held after __init__; its shards are {whole // 4}",
        "clone the slice, and empty the modules' parameters",
    )
    activations = 45 * 2 * 48 * 4
    allowed = 2 * whole / 4 + 4 * layer + activations + slack
    expect(
        cost["peak"] <= allowed,
        f"rank {rank} of 4: {cost['peak']} bytes at the peak of forward_backward; {allowed:.0f} are allowed,"
        f" the whole parameters are {whole}, one layer {layer}",
        "give a layer back before you gather the next; the autograd graph of a forward pass keeps"
        " the parameters that its backward needs",
    )
    expect(
        cost["after"] <= 2 * whole / 4 + layer + activations + slack,
        f"rank {rank} of 4: {cost['after']} bytes are held after forward_backward;"
        f" shards and gradient shards are {whole // 2}",
        "a gradient shard must not be a slice of the whole gradient",
    )
    volume = 3 * 3 / 4 * whole
    expect(
        abs(cost["sent"] / volume - 1) <= 0.05,
        f"rank {rank} of 4 sends {cost['sent']} bytes; two all-gathers and one reduce-scatter send {volume:.0f}",
        "more: gradients by all-reduce, or an extra gather; fewer: parameters were kept after the forward pass",
    )

# %% hints zero3 [markdown]
# 1. After the forward pass of a layer its parameters go. What does the backward pass of this layer need, and in which order are layers
#    visited?
# 2. Run the forward pass under `torch.no_grad()` and keep the input of each layer. In the backward pass, per layer from the last: gather, run again with
#    gradients, `torch.autograd.grad(y, [x, *params], slope)`, reduce-scatter, forget.
# 3. Cut: flatten a layer's parameters into one vector, `tensor_split(n)[rank].clone()`. `gather` concatenates the pieces of all ranks, splits by
#    the sizes and views as the shapes. A layer without parameters has an empty vector.

# %% [markdown]
# ## Task 5. Checkpoints
#
# `checkpointed(layers, k) -> function of x`: runs the chain of `layers` in `k` segments, as equal as possible, and keeps the input of
# each segment only. When the backward pass comes to a segment, the segment is run again with gradients, from its kept input.
#
# - Outputs and all gradients, of the parameters and of `x` if it requires one, equal those of the plain chain, also when layers use
#   random numbers (dropout): the second run must draw what the first drew, and the generator must afterwards stand where it would
#   stand without checkpoints.
# - `x` need not require a gradient: the parameters get theirs all the same.
# - Each layer runs once in the forward pass and once more in the backward pass; the last segment may be kept instead of run again.
# - A `k` below 1 or above the number of layers raises `ValueError`.
#
# `best_k(count, layer_bytes, input_bytes) -> int`: the number of segments for which `k · input_bytes + ceil(count / k) · layer_bytes` is least (the smallest
# of several), for `count` layers that keep `layer_bytes` each.
#
# You build what `torch.utils.checkpoint` does; the hidden test runs without that module.


# %% task checkpoint
class Segment(torch.autograd.Function):
    """A run of layers that keeps its input only; the parameters are inputs, to get gradients."""

    ### BEGIN SOLUTION
    @staticmethod
    def forward(ctx, layers, x, *params):
        ctx.layers, ctx.state = layers, torch.get_rng_state()
        ctx.save_for_backward(x, *params)
        for layer in layers:
            x = layer(x)
        return x

    @staticmethod
    def backward(ctx, slope):
        x, *params = ctx.saved_tensors
        asked = x.requires_grad
        x = x.detach().requires_grad_(asked)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.state)
            out = x
            for layer in ctx.layers:
                out = layer(out)
        wanted = [item for item in (x, *params) if item.requires_grad]
        came = iter(torch.autograd.grad(out, wanted, slope, allow_unused=True))
        grads = [next(came) if item.requires_grad else None for item in (x, *params)]
        return None, *grads
        ### END SOLUTION


def checkpointed(layers, k):
    """The chain of layers in k segments that are recomputed in the backward pass."""
    ### BEGIN SOLUTION
    layers = list(layers)
    if not 1 <= k <= len(layers):
        raise ValueError(f"{len(layers)} layers cannot be cut into {k} segments")
    cuts = [i * len(layers) // k for i in range(k + 1)]

    def run(x):
        for start, end in zip(cuts, cuts[1:]):
            part = layers[start:end]
            x = Segment.apply(part, x, *(p for layer in part for p in layer.parameters()))
        return x

    return run
    ### END SOLUTION


def best_k(count, layer_bytes, input_bytes):
    """The number of segments with the least peak memory."""
    ### BEGIN SOLUTION
    return min(
        range(1, count + 1), key=lambda k: k * input_bytes + math.ceil(count / k) * layer_bytes
    )
    ### END SOLUTION


# %% test checkpoint 4
def _deep(depth, width, drop=0.0):
    """Layers that keep three tensors of the size of their input, and more with dropout."""
    torch.manual_seed(8)
    layers = []
    for _ in range(depth):
        parts = [torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.LayerNorm(width)]
        layers.append(torch.nn.Sequential(*parts, torch.nn.Dropout(drop), torch.nn.Tanh()))
    return layers


_layers, _plain = _deep(6, 8), torch.nn.Sequential(*_deep(6, 8))
_x = torch.randn(4, 8)
_plain(_x).square().sum().backward()
_y = checkpointed(_layers, 3)(_x)
expect(
    _y.requires_grad,
    "the output requires no gradient: x does not, but the parameters do",
    "autograd records a Function only if a tensor among its arguments requires a gradient",
)
_y.square().sum().backward()
for _i in (0, 5):
    _got = _layers[_i][0].weight.grad
    expect(
        _got is not None,
        f"layer {_i} has no gradient",
        "the parameters are arguments of the Function, or its backward pass accumulates into them",
    )
    expect_close(
        _got.numpy(),
        _plain[_i][0].weight.grad.numpy(),
        f"the gradient of layer {_i}",
        rtol=1e-4,
        atol=1e-6,
    )
expect_equal(best_k(16, 4, 1), 8, "best_k(16, 4, 1)", "k + 4·ceil(16/k) for k from 1 to 16")
print("Checkpoints: the visible test passes.")

# %% hidden checkpoint 12
import torch.utils.checkpoint as theirs


def absent(*args, **kwargs):
    raise NotImplementedError("torch.utils.checkpoint is what this task builds")


theirs._checkpoint_without_reentrant_generator = absent
theirs.CheckpointFunction.apply = absent


class Counted(torch.nn.Module):
    """A layer that counts its runs."""

    def __init__(self, width, drop):
        super().__init__()
        self.runs = 0
        self.linear, self.norm = torch.nn.Linear(width, width), torch.nn.LayerNorm(width)
        self.drop = torch.nn.Dropout(drop)

    def forward(self, x):
        self.runs += 1
        return torch.tanh(self.drop(self.norm(torch.nn.functional.gelu(self.linear(x)))))


def deep(depth, width, drop):
    torch.manual_seed(21)
    return [Counted(width, drop) for _ in range(depth)]


def one_run(function, layers, x, seed):
    """Output, gradients by name, and the random number drawn afterwards."""
    torch.manual_seed(seed)
    y = function(x)
    expect(
        y.requires_grad,
        f"the output requires no gradient; x.requires_grad is {x.requires_grad}, and the parameters do",
        "autograd records a Function only if a tensor among its arguments requires a gradient",
    )
    y.square().sum().backward()
    grads = {
        f"layer {i}, {name}": p.grad.numpy()
        for i, layer in enumerate(layers)
        for name, p in layer.named_parameters()
        if p.grad is not None
    }
    if x.requires_grad:
        grads["x"] = x.grad.numpy()
    return y.detach().numpy(), grads, torch.rand(1).item()


for depth, k in ((6, 1), (6, 2), (7, 3), (8, 8), (7, 5), (1, 1)):
    for drop, asked in ((0.0, True), (0.4, True), (0.4, False)):
        plain, layers = deep(depth, 12, drop), deep(depth, 12, drop)
        data = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
        x, twin = (data.clone().requires_grad_(asked) for _ in range(2))
        out, wanted, after = one_run(torch.nn.Sequential(*plain), plain, twin, 33)
        y, grads, then = one_run(checkpointed(layers, k), layers, x, 33)
        what = f"{depth} layers in {k} segments, dropout {drop}, x.requires_grad={asked}"
        expect_close(y, out, f"{what}: the output", rtol=1e-4, atol=1e-6)
        expect_equal(
            sorted(grads),
            sorted(wanted),
            f"{what}: the gradients that there are",
            "parameters get gradients whether or not x does",
        )
        for name in wanted:
            expect_close(
                grads[name],
                wanted[name],
                f"{what}: the gradient of {name}",
                rtol=1e-3,
                atol=1e-5,
                look="the second run must draw the same random numbers: torch.get_rng_state",
            )
        expect_equal(
            then,
            after,
            f"{what}: the random number drawn after the backward pass",
            "put the generator back where it stood before the second run",
        )
        runs = [layer.runs for layer in layers]
        shortest = depth // k
        expect(
            max(runs) <= 2 and sum(runs) >= 2 * depth - math.ceil(depth / k),
            f"{what}: the layers run {runs} times; twice is right, the last {shortest} may run once",
            "a segment is run again when the backward pass comes to it, and not before",
        )

WIDTH, ROWS, DEPTH = 16, 256, 16
unit = WIDTH * ROWS * 4


def weigh(function, layers, x):
    """Bytes of activations after the forward pass, and at the peak of both passes."""
    weights = sum(p.numel() * 4 for layer in layers for p in layer.parameters()) + unit
    with MemoryMeter() as meter:
        for layer in layers:
            for p in layer.parameters():
                p.detach()
        y = function(x)
        gc.collect()
        kept = meter.live() - weights
        y.sum().backward()
        return kept / unit, (meter.peak - weights) / unit


data = torch.randn(ROWS, WIDTH)
layers = deep(DEPTH, WIDTH, 0.2)
plain_kept, plain_peak = weigh(torch.nn.Sequential(*layers), layers, data)
per_layer = plain_kept / DEPTH
for k in (1, 2, 4, 8, 16):
    layers = deep(DEPTH, WIDTH, 0.2)
    kept, peak = weigh(checkpointed(layers, k), layers, data)
    law = k + per_layer * DEPTH / k
    expect(
        peak <= law + 8,
        f"{DEPTH} layers in {k} segments: the peak is {peak:.1f} times a layer's input;"
        f" k + L/k · {per_layer:.1f} = {law:.1f}, and 8 more for what is at work, are allowed (plain: {plain_peak:.1f})",
        "keep the inputs of the segments only; let go of a segment when its gradients are there",
    )
    last_kept = k - 1 + per_layer * DEPTH / k
    expect(
        abs(kept - k) <= 2 or abs(kept - last_kept) <= 2 + 0.1 * last_kept,
        f"{DEPTH} layers in {k} segments keep {kept:.1f} times a layer's input after the forward pass;"
        f" it should be {k}, or {last_kept:.1f} if the last segment is kept",
        "k segments have k inputs, and nothing else is kept",
    )
layers = deep(4, 6, 0.0)
with torch.no_grad():
    expect_close(
        checkpointed(layers, 2)(torch.ones(2, 6)).numpy(),
        torch.nn.Sequential(*layers)(torch.ones(2, 6)).numpy(),
        "the output under torch.no_grad()",
        rtol=1e-4,
        atol=1e-6,
    )
for k in (0, 5):
    expect_raises(ValueError, lambda k=k: checkpointed(layers, k), f"4 layers in {k} segments")
for count, layer_bytes, input_bytes in (
    (16, 4, 1), (100, 1, 1), (1, 5, 3), (48, 34, 2), (9, 1, 100), (50, 1000, 1), (30, 7, 5),
):  # fmt: skip
    peaks = [k * input_bytes + math.ceil(count / k) * layer_bytes for k in range(1, count + 1)]
    expect_equal(
        best_k(count, layer_bytes, input_bytes),
        peaks.index(min(peaks)) + 1,
        f"best_k({count}, {layer_bytes}, {input_bytes})",
        "the square root of count · layer_bytes / input_bytes is near; whole numbers decide",
    )

# %% hints checkpoint [markdown]
# 1. A segment is one operator to autograd: a forward that keeps little, and a backward that does the work. Which tensors must be its
#    arguments, so that autograd asks it for their gradients?
# 2. In `torch.autograd.Function`, `forward` runs without recording. `backward` runs the layers again under `torch.enable_grad()` on
#    `x.detach().requires_grad_()`, and `torch.autograd.grad(out, [x, *params], slope)` gives what it returns. Hand the parameters in as
#    arguments: without them nothing is recorded when `x` requires no gradient.
# 3. Keep `torch.get_rng_state()` in `forward`; in `backward` set it inside `with torch.random.fork_rng(devices=[]):`, which puts the
#    generator back at the end. One gradient per argument of `forward`, `None` for what is no tensor.

# %% [markdown]
# ## Task 6. Which activations to keep
#
# Layers are not alike: some outputs are large and cheap to compute again, others small and dear. Layer `i` of a chain takes `costs[i]` seconds and
# its output takes `sizes[i]` bytes (whole numbers). You keep some of the outputs. Where outputs in a row are not kept, the backward pass
# computes all of them again from the kept one before, uses them, and lets go of them. So
#
# - the peak is the sum of the kept sizes, plus the largest sum of sizes of outputs **in a row** that are not kept,
# - the extra time is the sum of the costs of all that is not kept.
#
# `plan_recompute(costs, sizes, budget) -> (extra, kept)`: the least extra time with a peak of at most `budget`, and the numbers of the outputs that are kept,
# ascending; any best plan will do. It raises `ValueError` when no plan fits. Up to 20 layers with sizes that add up to 120 must be
# planned in ten seconds.


# %% task plan_recompute
def plan_recompute(costs, sizes, budget):
    """The cheapest choice of outputs to keep within the budget: its extra time, and the choice."""
    ### BEGIN SOLUTION
    n = len(costs)
    runs = {sum(sizes[i:j]) for i in range(n) for j in range(i, n + 1)} | {0}
    best = None
    for cap in sorted(run for run in runs if run <= budget):
        # plans[j]: bytes kept -> (extra, kept) for plans that keep output j-1; n + 1 is the end.
        plans = [{0: (0, ())}] + [{} for _ in range(n + 1)]
        for j in range(1, n + 2):
            own = sizes[j - 1] if j <= n else 0
            for i in range(j - 1, -1, -1):
                if sum(sizes[i : j - 1]) > cap:
                    break
                again = sum(costs[i : j - 1])
                for held, (extra, kept) in plans[i].items():
                    new = (extra + again, kept + ((j - 1,) if j <= n else ()))
                    if held + own + cap <= budget and (
                        held + own not in plans[j] or new < plans[j][held + own]
                    ):
                        plans[j][held + own] = new
        for extra, kept in plans[n + 1].values():
            if best is None or extra < best[0]:
                best = (extra, kept)
    if best is None:
        raise ValueError(f"no plan fits in {budget} bytes")
    return best[0], list(best[1])
    ### END SOLUTION


# %% test plan_recompute 2
_extra, _kept = plan_recompute([1, 1, 9, 1], [4, 4, 1, 4], 9)
expect_equal(_extra, 2, "extra time for costs [1, 1, 9, 1], sizes [4, 4, 1, 4], budget 9")
expect(
    list(_kept) in ([0, 2], [1, 2]),
    f"keeping {list(_kept)} is not the best plan: [1, 2] costs 2 seconds, its peak is 4 + 1 + 4 bytes",
    "what is computed again in one go needs room: outputs 0 and 1 together take 8 bytes",
)
expect_equal(
    tuple(plan_recompute([5, 5], [3, 3], 6)), (0, [0, 1]), "a budget that holds everything"
)
expect_raises(ValueError, lambda: plan_recompute([1, 1], [4, 4], 3), "budget 3 for sizes [4, 4]")
print("The planner: the visible test passes.")

# %% hidden plan_recompute 8 outside
import itertools
import random

from autograder.labkit import expect, expect_equal, expect_raises

ref = reference()
dice = random.Random(19)


def price(costs, sizes, kept):
    """Extra time and peak of a plan, from the definition."""
    again, runs, run = 0, [0], 0
    for i, size in enumerate(sizes):
        if i in kept:
            run = 0
        else:
            again, run = again + costs[i], run + size
            runs.append(run)
    return again, sum(sizes[i] for i in kept) + max(runs)


def least(costs, sizes, budget):
    """The least extra time, by trying everything; None when nothing fits."""
    found = [
        price(costs, sizes, set(kept))
        for count in range(len(costs) + 1)
        for kept in itertools.combinations(range(len(costs)), count)
    ]
    return min((extra for extra, peak in found if peak <= budget), default=None)


def judge(costs, sizes, budget, wanted):
    what = f"costs {costs}, sizes {sizes}, budget {budget}"
    if wanted is None:
        expect_raises(
            ValueError,
            lambda: student.plan_recompute(costs, sizes, budget),
            f"{what}: nothing fits",
        )
        return
    extra, kept = student.plan_recompute(costs, sizes, budget)
    kept = [int(i) for i in kept]
    expect(
        kept == sorted(set(kept)) and all(0 <= i < len(costs) for i in kept),
        f"{what}: {kept} are not numbers of outputs, ascending",
    )
    again, peak = price(costs, sizes, set(kept))
    expect(
        peak <= budget,
        f"{what}: keeping {kept} has a peak of {peak}",
        "what is computed again in one go needs room as well",
    )
    expect_equal(extra, again, f"{what}: the extra time of keeping {kept}")
    expect(
        extra == wanted,
        f"{what}: keeping {kept} costs {extra} seconds more; a plan with {wanted} fits",
        "which is best depends on the largest run that you allow: try each, and plan for it",
    )


for case in range(60):
    n = dice.randrange(1, 9)
    costs = [dice.randrange(1, 10) for _ in range(n)]
    sizes = [dice.randrange(0 if case % 5 == 0 else 1, 8) for _ in range(n)]
    budget = dice.randrange(1, sum(sizes) + 2)
    judge(costs, sizes, budget, least(costs, sizes, budget))
for n, budget in ((18, 45), (20, 60)):
    costs = [dice.randrange(1, 20) for _ in range(n)]
    sizes = [6] * n
    judge(costs, sizes, budget, ref.plan_recompute(costs, sizes, budget)[0])
judge([], [], 0, 0)

# %% hints plan_recompute [markdown]
# 1. Suppose you knew the largest run that is computed again in one go. How much is left of the budget for what is kept?
# 2. Try each possible largest run (there are at most n(n+1)/2 different sums). For a fixed one, go through the outputs from left to right: "the last
#    kept output is `j`, and `b` bytes are kept" is all that the rest depends on.
# 3. `best[j][b] = min over i < j of best[i][b - sizes[j]] + costs of what lies between`, for all `i` whose sizes in between do not exceed the
#    cap. Add a last output of size 0 that is always kept, and remember the choice beside the value.

# %% [markdown]
# ## Task 7. Half precision
#
# Float16 has 10 bits of fraction and nothing below 6·10⁻⁸. Small gradients vanish, and a small update of a weight near 1 rounds
# to nothing. The cure is in two parts (Micikevicius and others, ICLR 2018): multiply the loss by a scale, so that gradients
# move up into the range of the format, and keep a float32 master copy of each weight that collects the updates.
#
# `MixedPrecision(params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5, interval=2000, max_norm=None)`
#
# - `params` are float16 parameters; `masters` is the list of their float32 copies, and `make_optimizer(masters)` gives the torch
#   optimiser that updates those.
# - `backward(loss)` runs the backward pass of the loss times `scale`, in float32.
# - `step() -> bool`: takes the float16 gradients into float32 and divides them by the scale. If any value is infinite or not a number, it
#   updates nothing, multiplies the scale by `backoff`, and returns False. Otherwise it clips the gradients to a total norm of `max_norm` (if that is
#   given; `torch.nn.utils.clip_grad_norm_`), runs the optimiser, copies the masters into `params`, and returns True; after
#   `interval` good steps **in a row** it multiplies the scale by `growth`, and counts anew.
# - After `step` all gradients of `params` are None. A parameter without a gradient is not updated.


# %% task mixed_precision
class MixedPrecision:
    """Float16 weights, float32 masters, and a loss scale that finds its own size."""

    def __init__(
        self,
        params,
        make_optimizer,
        scale=2.0**16,
        growth=2.0,
        backoff=0.5,
        interval=2000,
        max_norm=None,
    ):
        ### BEGIN SOLUTION
        self.params = list(params)
        self.masters = [p.detach().float().requires_grad_() for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0
        ### END SOLUTION

    def backward(self, loss):
        """Backward pass of the scaled loss."""
        ### BEGIN SOLUTION
        (loss.float() * self.scale).backward()
        ### END SOLUTION

    def step(self):
        """Update the weights, or skip and lower the scale; whether there was an update."""
        ### BEGIN SOLUTION
        for p, master in zip(self.params, self.masters):
            master.grad = None if p.grad is None else p.grad.float() / self.scale
            p.grad = None
        grads = [master.grad for master in self.masters if master.grad is not None]
        if not all(torch.isfinite(grad).all() for grad in grads):
            self.scale, self.good = self.scale * self.backoff, 0
            return False
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        self.optimizer.step()
        with torch.no_grad():
            for p, master in zip(self.params, self.masters):
                p.copy_(master)
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True
        ### END SOLUTION


# %% test mixed_precision 3
_w = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
_training = MixedPrecision([_w], lambda masters: torch.optim.SGD(masters, lr=1e4), scale=2.0**12)
_training.backward((_w.float() * torch.tensor([1e-8, 2e-8, 0.0])).sum())
expect(_training.step(), "a gradient of 1e-8 at scale 4096: step must return True")
expect_close(
    _training.masters[0].detach().numpy(),
    [1 - 1e-4, 1 - 2e-4, 1.0],
    "the masters after one step with gradients of 1e-8, 2e-8 and 0 at rate 10 000",
    rtol=1e-6,
    look="scale before the backward pass, unscale in float32 after it",
)
_training.backward(_w.float().sum() * 1e6)
expect(not _training.step(), "a gradient that overflows: step must return False")
expect_equal(_training.scale, 2.0**11, "the scale after a gradient that overflowed")
expect(_w.grad is None, "gradients are None after step, also after one that is skipped")
print("Half precision: the visible test passes.")

# %% hidden mixed_precision 8
scaler_steps = np.random.default_rng(23)


def push(training, weights, factors):
    """One backward pass in which weight i has the gradient `factors[i]`, and a step."""
    loss = sum((w.float() * f).sum() for w, f in zip(weights, factors))
    training.backward(loss)
    return training.step()


for interval, growth, backoff in ((3, 2.0, 0.5), (1, 4.0, 0.25), (5, 2.0, 0.5)):
    weights = [torch.nn.Parameter(torch.zeros(2, dtype=torch.float16)) for _ in range(2)]
    training = MixedPrecision(
        weights,
        lambda masters: torch.optim.SGD(masters, lr=0.0),
        scale=2.0**10,
        growth=growth,
        backoff=backoff,
        interval=interval,
    )
    twin = torch.nn.Parameter(torch.zeros(2))
    oracle = torch.amp.GradScaler(
        "cpu",
        init_scale=2.0**10,
        growth_factor=growth,
        backoff_factor=backoff,
        growth_interval=interval,
    )
    optimizer = torch.optim.SGD([twin], lr=0.0)
    oracle.scale(torch.zeros(1))
    for step in range(40):
        size = float(2.0 ** scaler_steps.integers(-2, 9))
        overflows = size * oracle.get_scale() > 65504
        taken = push(training, weights, (torch.tensor([size, 0.0]), torch.tensor([1e-3, 0.0])))
        twin.grad = torch.full((2,), float("inf") if overflows else 1.0)
        oracle.step(optimizer)
        oracle.update()
        what = (
            f"growth {growth} after {interval}, backoff {backoff}, step {step}, gradient {size:g}"
        )
        expect_equal(bool(taken), not overflows, f"{what}: whether there was an update")
        expect_equal(
            float(training.scale),
            oracle.get_scale(),
            f"{what}: the scale, against torch.amp.GradScaler",
            "the count of good steps starts anew after a skip and after a growth",
        )

weights = [torch.nn.Parameter(torch.ones(2, dtype=torch.float16)) for _ in range(3)]
training = MixedPrecision(
    weights, lambda masters: torch.optim.Adam(masters, lr=1e-4, eps=1e-13), scale=2.0**14
)
for step in range(100):
    push(training, weights[:2], (torch.tensor([1e-9, 3e-9]), torch.tensor([5e-8, -5e-8])))
expect(
    abs(training.masters[1][0].item() - 0.99) < 0.003,
    f"a weight of 1 after 100 steps of Adam at rate 1e-4: expected about 0.99, got"
    f" {training.masters[1][0].item():.5f}",
    "the optimiser must update the float32 masters: an update of 1e-4 is lost in float16",
)
expect(
    abs(training.masters[0][0].item() - 0.99) < 0.003,
    f"a weight of 1 whose gradient is 1e-9, after 100 steps of Adam at rate 1e-4: expected about 0.99,"
    f" got {training.masters[0][0].item():.5f}",
    "1e-9 times the scale fits in float16, 1e-9 does not: divide by the scale in float32",
)
expect(
    abs(weights[1][1].item() - 1.01) < 0.003,
    f"the float16 weight that should have grown to 1.01 is {weights[1][1].item():.5f}",
    "copy the masters into the float16 parameters after each update",
)
expect_equal(weights[2].tolist(), [1.0, 1.0], "a parameter that never had a gradient")

for max_norm in (0.5, 100.0):
    weights = [torch.nn.Parameter(torch.ones(3, dtype=torch.float16)) for _ in range(2)]
    training = MixedPrecision(
        weights, lambda masters: torch.optim.SGD(masters, lr=1.0), scale=2.0**8, max_norm=max_norm
    )
    factors = (torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 4.0, 0.0]))
    for _ in range(2):
        push(training, weights, factors)
    shrink = min(1.0, max_norm / 5.0)
    for number in range(2):
        expect_close(
            training.masters[number].detach().numpy(),
            1 - 2 * shrink * factors[number].numpy(),
            f"two steps with a gradient of norm 5, max_norm {max_norm:g}, scale 256: masters {number}",
            rtol=1e-3,
            look="clip the gradients after they are unscaled, by the norm of all of them together",
        )

weights = [torch.nn.Parameter(torch.full((2,), 0.5, dtype=torch.float16)) for _ in range(2)]
training = MixedPrecision(
    weights,
    lambda masters: torch.optim.SGD(masters, lr=0.1, momentum=0.9),
    scale=2.0**10,
    max_norm=1.0,
)
push(training, weights, (torch.ones(2), torch.ones(2)))
before = [m.detach().clone() for m in training.masters]
for bad in (float("inf"), float("nan"), 1e30):
    taken = push(training, weights, (torch.tensor([bad, 1.0]), torch.ones(2)))
    expect(not taken, f"a gradient of {bad}: step must return False")
    for number, (master, old, w) in enumerate(zip(training.masters, before, weights)):
        expect_equal(
            master.detach().numpy(),
            old.numpy(),
            f"masters {number} after a step that met a gradient of {bad}",
            "look for infinities before anything is changed, in all gradients together",
        )
        expect(w.grad is None, f"weights {number}: a gradient is left after a skipped step")
expect_equal(float(training.scale), 2.0**7, "the scale 1024 after three skipped steps")
push(training, weights, (torch.zeros(2), torch.zeros(2)))
expect_close(
    (before[0] - training.masters[0].detach()).numpy(),
    np.full(2, 0.1 * 0.9 * 0.5),
    "one more step with gradient 0: what momentum of the one good step before adds",
    rtol=1e-3,
    look="a skipped step must not touch the optimiser's state either",
)

# %% hints mixed_precision [markdown]
# 1. Follow one tiny gradient through scaled backward, float16, float32, division. At which of these steps could it vanish, and at which
#    not any more?
# 2. The order in `step`: take the gradients over and unscale, check, clip, update, copy back, count. The check comes before everything that changes
#    something.
# 3. `p.detach().float().requires_grad_()` makes a master; `torch.isfinite(grad).all()` checks; `clip_grad_norm_(self.masters, max_norm)` takes the norm of
#    all together; `p.copy_(master)` under `torch.no_grad()` rounds to float16.

# %% [markdown]
# ## The whole, measured
#
# First your optimiser and your sharded chain on 1, 2 and 4 processes: what each rank holds after a step, against the law of the chapter in float32
# (4 bytes each for parameter and gradient, 8 for the moments), and what it sends.

# %% measure
_WIDTH, _DEPTH = 64, 16


def _layers_of(seed):
    torch.manual_seed(seed)
    return [
        torch.nn.Sequential(torch.nn.Linear(_WIDTH, _WIDTH), torch.nn.Tanh()) for _ in range(_DEPTH)
    ]


def _measure_stage(ring):
    """Bytes held between steps, and sent in one, by stage."""
    found = {}
    for stage in (0, 2, 3):
        layers = _layers_of(1)
        x = torch.randn(4, _WIDTH)
        before = ring.bytes_out
        with MemoryMeter() as meter:
            for layer in layers:
                for p in layer.parameters():
                    p.detach()
            if stage == 3:
                chain = Zero3(layers, ring)
                chain.forward_backward(x, lambda y: y.square().mean())
                moments = [(torch.zeros_like(s), torch.zeros_like(s)) for s in chain.shards]
            else:
                params = [p for layer in layers for p in layer.parameters()]
                torch.nn.Sequential(*layers)(x).square().mean().backward()
                if stage == 0:
                    flat = ring.all_reduce(torch.cat([p.grad.reshape(-1) for p in params]))
                    sizes = [p.numel() for p in params]
                    for p, grad in zip(params, flat.split(sizes)):
                        p.grad.copy_(grad.view_as(p) / ring.n)
                    flat = grad = None
                    optimizer = torch.optim.Adam(params)
                else:
                    optimizer = ShardedAdam(params, ring)
                optimizer.step()
            gc.collect()
            torch.zeros(1)
            found[stage] = (meter.live() - x.nbytes, ring.bytes_out - before)
        chain = moments = optimizer = params = layers = None
    return found


_psi = sum(p.numel() for layer in _layers_of(1) for p in layer.parameters())
_by_n = {n: on_ranks(_measure_stage, n)[0] for n in (1, 2, 4)}
for _n, _found in _by_n.items():
    for _stage, (_held, _sent) in _found.items():
        print(
            f"{_n} ranks, stage {_stage}: {_held / _psi:5.2f} bytes a parameter held, {_sent / _psi:5.2f} sent"
        )
plot_vs(
    "optimiser state per rank / state of one",
    {n: 1 / n for n in _by_n},
    {n: (found[2][0] - 4 * _psi) / (8 * _psi) for n, found in _by_n.items()},
    "ranks",
)
_ratio = {n: found[3][1] / found[0][1] for n, found in _by_n.items() if n > 1}
print(f"bytes sent with sharded parameters / without: {_ratio}")

# %% [markdown]
# Then the chain of 16 layers with your checkpoints, from one segment to one for each layer: peak memory, and time.

# %% measure
_rows, _width, _depth = 1024, 48, 16
_data, _unit = torch.randn(_rows, _width), _rows * _width * 4


def _peak_of(function, layers):
    """Peak of the activations in both passes, in layer inputs."""
    weights = sum(p.numel() * 4 for layer in layers for p in layer.parameters()) + _unit
    with MemoryMeter() as meter:
        for layer in layers:
            for p in layer.parameters():
                p.detach()
        function(_data).sum().backward()
        return (meter.peak - weights) / _unit


def _seconds_of(function):
    """Processor time of both passes; others' work on the machine does not count."""
    began = time.process_time()
    function(_data).sum().backward()
    return time.process_time() - began


_layers = _deep(_depth, _width)
_plain = torch.nn.Sequential(*_layers)
_kept = saved_bytes(lambda: _plain(_data), _plain.parameters())
_per_layer = _kept / _unit / _depth
_plain_peak = _peak_of(_plain, _layers)
print(f"plain: {_plain_peak:.1f} layer inputs at the peak; each layer keeps {_per_layer:.1f}")
_ways = {0: _plain} | {k: checkpointed(_layers, k) for k in (1, 2, 4, 8, 16)}
_curve = {k: _peak_of(way, _layers) for k, way in _ways.items() if k}
_times = [{k: _seconds_of(way) for k, way in _ways.items()} for _ in range(7)]
for _k, _peak in _curve.items():
    _slower = min(t[_k] for t in _times) / min(t[0] for t in _times)
    print(f"{_k:2} segments: {_peak:5.1f} layer inputs, {_slower:.2f} times the plain time")
print(f"best_k says {best_k(_depth, _per_layer, 1)}")
plot_vs(
    "peak with checkpoints / plain peak",
    {k: (k + _per_layer * math.ceil(_depth / k)) / _plain_peak for k in range(1, _depth + 1)},
    {k: peak / _plain_peak for k, peak in _curve.items()},
    "segments",
)

# %% written reading 4 [markdown]
# **Read your plots.** Your checkpoint curve lies above the law by a nearly constant amount: what is alive that the law leaves out? And why does the time
# hardly depend on the number of segments, while the memory does? (Four to six sentences.)
#
# ### BEGIN SOLUTION
# *2 points: names what is at work at the peak beside what is kept: the gradient that travels backwards, the output and gradients inside the operator that is running, gradients of the parameters; these do not grow with k.*
# *1 point: time: whatever k is, every layer runs forward twice and backward once, so about a third more arithmetic (less where backward is dearer).*
# *1 point: memory: the inputs grow with k, what a recomputed segment keeps falls with L/k, so the sum has a minimum near sqrt(L · a).*
# ### END SOLUTION

# %% written choice 3 [markdown]
# **Choose.** A model of 13 billion parameters is to be trained with mixed-precision Adam on 16 devices of 40 GB, in sequences that need 60 GB of activations
# a device when all are kept. Which ZeRO stage, and which recomputation, do you choose, and what do they cost in bytes sent and in
# arithmetic? Argue with the figures of Tasks 1 and 2.
#
# ### BEGIN SOLUTION
# *1 point: the state takes 208, 61.8, 37.4 and 13 GB in stages 0 to 3, so 40 GB leave room for activations in stage 3 only (stage 2 leaves 2.6 GB).*
# *1 point: the 27 GB left do not hold 60 GB: selective recomputation where the square of the sequence dominates, full recomputation otherwise, about a third more arithmetic.*
# *1 point: stage 3 sends 3 instead of 2 times Ψ, 1.5 times as many bytes, about 73 GB instead of 49 GB a step and rank in half precision; names one way to hide it (gather the next layer during this one) or to make it rarer (larger batches).*
# ### END SOLUTION
