# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% sharded_adam: whole parameters and hooks
class ShardedAdam:
    """Deals whole parameters out, the largest first, each to the rank that has least so far."""

    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        unique = []
        for p in params:
            if p.requires_grad and not any(p is q for q in unique):
                unique.append(p)
        self.owned = [[] for _ in range(ring.n)]
        load = [0] * ring.n
        for p in sorted(unique, key=lambda p: -p.numel()):
            rank = load.index(min(load))
            self.owned[rank].append(p)
            load[rank] += p.numel()
        self.ring, self.lr, self.betas, self.eps = ring, lr, betas, eps
        self.t = 0
        self.state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.owned[ring.rank]]

    def step(self):
        with torch.no_grad():
            pieces = [self.flat_grad(group) for group in self.owned]
            for group in self.owned:
                for p in group:
                    p.grad = None
            mine = self.ring.reduce_scatter(pieces) / self.ring.n
            del pieces
            self.t += 1
            group = self.owned[self.ring.rank]
            parts = mine.split([p.numel() for p in group]) if group else []
            for p, (m, v), g in zip(group, self.state, parts):
                g = g.view_as(p)
                m.lerp_(g, 1 - self.betas[0])
                v.lerp_(g * g, 1 - self.betas[1])
                top = m / (1 - self.betas[0] ** self.t)
                p -= self.lr * top / ((v / (1 - self.betas[1] ** self.t)).sqrt() + self.eps)
            new = self.ring.all_gather(self.flat(group))
            for group, vector in zip(self.owned, new):
                for p in group:
                    p.copy_(vector[: p.numel()].view_as(p))
                    vector = vector[p.numel() :]

    def flat(self, group):
        return torch.cat([torch.zeros(0)] + [p.detach().flatten() for p in group])

    def flat_grad(self, group):
        none = [p.grad if p.grad is not None else torch.zeros_like(p) for p in group]
        return torch.cat([torch.zeros(0)] + [g.flatten() for g in none])


# %% zero3: whole parameters and hooks
class Zero3:
    """One graph for the whole chain; the storage behind it is emptied and filled again by hooks."""

    def __init__(self, layers, ring):
        self.layers, self.ring = list(layers), ring
        self.metas, self.shards, self.grads = [], [], []
        for layer in self.layers:
            named = list(layer.named_parameters())
            self.metas.append([(name, p.shape) for name, p in named])
            self.shards.append(self.mine([p.detach() for _, p in named]))
            self.grads.append(None)
            for _, p in named:
                p.data = torch.empty(0)

    def mine(self, tensors):
        cut = [t.flatten().tensor_split(self.ring.n)[self.ring.rank] for t in tensors]
        return torch.cat([torch.zeros(0)] + cut).clone()

    def sizes(self, i, rank):
        n = self.ring.n
        counts = [math.prod(shape) for _, shape in self.metas[i]]
        return [count // n + (rank < count % n) for count in counts]

    def gather(self, i):
        came = [
            vector.split(self.sizes(i, rank))
            for rank, vector in enumerate(self.ring.all_gather(self.shards[i]))
        ]
        return [
            torch.cat([parts[number] for parts in came]).view(shape)
            for number, (_, shape) in enumerate(self.metas[i])
        ]

    def forward_backward(self, x, loss_of):
        borrowed = []
        for i, layer in enumerate(self.layers):
            full = [p.requires_grad_() for p in self.gather(i)]
            borrowed.append(full)
            x = functional_call(layer, {name: p for (name, _), p in zip(self.metas[i], full)}, (x,))
            if not full:
                self.grads[i] = torch.zeros(0)
                continue
            self.release(full)
            x.register_hook(lambda slope, i=i: self.refill(i, borrowed[i]))
            for p in full:
                p.register_post_accumulate_grad_hook(lambda _, i=i: self.reduce(i, borrowed[i]))
        loss = loss_of(x)
        loss.backward()
        return loss.item()

    def release(self, full):
        for p in full:
            p.untyped_storage().resize_(0)

    def refill(self, i, full):
        for p, fresh in zip(full, self.gather(i)):
            p.untyped_storage().resize_(4 * fresh.numel())
            p.data.copy_(fresh)

    def reduce(self, i, full):
        if any(p.grad is None for p in full):
            return
        n = self.ring.n
        cuts = [p.grad.flatten().tensor_split(n) for p in full]
        pieces = [torch.cat([cut[rank] for cut in cuts]) for rank in range(n)]
        for p in full:
            p.grad = None
        self.release(full)
        self.grads[i] = self.ring.reduce_scatter(pieces).div_(n)


# %% checkpoint: whole parameters and hooks
class Segment:
    """Tensors that autograd would keep are replaced by their number and computed again on demand."""

    def __init__(self, layers):
        self.layers = layers

    def run(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def __call__(self, x):
        state, numbers, again = torch.get_rng_state(), iter(range(1 << 30)), {}

        def unpack(number):
            if not again:
                kept = []
                with (
                    torch.random.fork_rng(devices=[]),
                    torch.enable_grad(),
                    torch.autograd.graph.saved_tensors_hooks(
                        lambda t: kept.append(t.detach()) or t.detach(), lambda t: t
                    ),
                ):
                    torch.set_rng_state(state)
                    self.run(x.detach().requires_grad_(x.requires_grad))
                again.update(enumerate(kept))
            return again.pop(number)

        with torch.autograd.graph.saved_tensors_hooks(lambda t: next(numbers), unpack):
            return self.run(x)


def checkpointed(layers, k):
    layers = list(layers)
    if k < 1 or k > len(layers):
        raise ValueError(f"k = {k}")
    least, longer = divmod(len(layers), k)
    segments = []
    for i in range(k):
        size = least + (i < longer)
        segments.append(Segment(layers[:size]))
        layers = layers[size:]

    def function(x):
        for segment in segments:
            x = segment(x)
        return x

    return function


def best_k(count, layer_bytes, input_bytes):
    best = None
    for k in range(count, 0, -1):
        peak = k * input_bytes + (count + k - 1) // k * layer_bytes
        if best is None or peak <= best[0]:
            best = (peak, k)
    return best[1]


# %% state_bytes: arrays and recursion
KEPT = {"adam": (4, 4, 4), "momentum": (4, 4), "sgd": (4,), "adam8bit": (4, 1, 1)}


def state_bytes(psi, n, stage, optimizer="adam"):
    if optimizer not in KEPT:
        raise ValueError(optimizer)
    ranks = dict(zip(("optimizer", "grads", "params"), shards_of(stage, n)))
    each = {"params": 2, "grads": 2, "optimizer": sum(KEPT[optimizer])}
    return {part: each[part] * psi / ranks[part] for part in each}


def shards_of(stage, n):
    table = ((1, 1, 1), (n, 1, 1), (n, n, 1), (n, n, n))
    if stage < 0 or stage >= len(table):
        raise ValueError(f"stage {stage}")
    return table[stage]


def largest_model(memory, n, stage, optimizer="adam"):
    low, high = 0, 1
    while sum(state_bytes(high, n, stage, optimizer).values()) <= memory:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if sum(state_bytes(middle, n, stage, optimizer).values()) <= memory:
            low = middle
        else:
            high = middle
    return low


def step_bytes(psi, n, stage):
    one = 2 * psi * (n - 1) / n
    gathers = {0: 1, 1: 1, 2: 1, 3: 2}
    if stage not in gathers:
        raise ValueError(f"stage {stage}")
    return one * (1 + gathers[stage])


# %% activation_bytes: arrays and recursion
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    plain, square = (s, b, h), (a, s, s, b)
    kept = [
        ("layernorm", plain, width, "input of the first norm"),
        ("attention", plain, width, "input of qkv"),
        *[("attention", plain, width, name) for name in "qkv"],
        ("scores", square, width, "output of softmax"),
        ("attention", plain, width, "input of out"),
        ("layernorm", plain, width, "input of the second norm"),
        ("mlp", plain, width, "input of up"),
        ("mlp", (4, *plain), width, "input of gelu"),
        ("mlp", (4, *plain), width, "input of down"),
    ]
    if dropout:
        kept += [
            ("scores", square, 1, "mask"),
            ("scores", square, width, "output of the dropout"),
            ("attention", plain, 1, "mask"),
            ("mlp", plain, 1, "mask"),
        ]
    if recompute == "selective":
        kept = [row for row in kept if row[0] != "scores"]
    elif recompute == "full":
        kept = kept[:1]
    elif recompute != "none":
        raise ValueError(recompute)
    total = {"layernorm": 0, "attention": 0, "scores": 0, "mlp": 0}
    for part, shape, size, _ in kept:
        total[part] += math.prod(shape) * size
    return total


# %% sharded_adam: arrays and recursion
class ShardedAdam:
    """The state in NumPy arrays; the vectors padded so that all shares are equal."""

    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = []
        known = set()
        for p in params:
            if p.requires_grad and id(p) not in known:
                known.add(id(p))
                self.params.append(p)
        self.ring, self.lr, (self.b1, self.b2), self.eps = ring, lr, betas, eps
        self.total = sum(p.numel() for p in self.params)
        self.size = -(-self.total // ring.n)
        self.moments = np.zeros((2, self.size), np.float32)
        self.power = [1.0, 1.0]

    def vector(self, tensors):
        flat = torch.zeros(self.size * self.ring.n)
        at = 0
        for t in tensors:
            if t is not None:
                flat[at : at + t.numel()] = t.detach().flatten()
            at += t.numel() if t is not None else self.skipped.pop(0)
        return flat

    def step(self):
        self.skipped = [p.numel() for p in self.params if p.grad is None]
        flat = self.vector([p.grad for p in self.params])
        for p in self.params:
            p.grad = None
        g = self.ring.reduce_scatter(list(flat.split(self.size))).numpy() / self.ring.n
        del flat
        self.power = [self.power[0] * self.b1, self.power[1] * self.b2]
        self.moments[0] = self.b1 * self.moments[0] + (1 - self.b1) * g
        self.moments[1] = self.b2 * self.moments[1] + (1 - self.b2) * g * g
        mine = self.vector(self.params).split(self.size)[self.ring.rank].numpy()
        top = self.moments[0] / (1 - self.power[0])
        low = np.sqrt(self.moments[1] / (1 - self.power[1])) + self.eps
        new = torch.from_numpy((mine - self.lr * top / low).astype(np.float32))
        flat = torch.cat(self.ring.all_gather(new))[: self.total]
        for p in self.params:
            p.data.copy_(flat[: p.numel()].view_as(p))
            flat = flat[p.numel() :]


# %% checkpoint: arrays and recursion
class Segment(torch.autograd.Function):
    """A second argument that requires a gradient makes autograd record the segment in any case."""

    @staticmethod
    def forward(ctx, x, switch, layers):
        ctx.save_for_backward(x)
        ctx.layers, ctx.seed = layers, torch.get_rng_state()
        return chain(layers, x)

    @staticmethod
    def backward(ctx, slope):
        now = torch.get_rng_state()
        torch.set_rng_state(ctx.seed)
        x = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[0])
        with torch.enable_grad():
            y = chain(ctx.layers, x)
        torch.set_rng_state(now)
        y.backward(slope)
        return x.grad, None, None


def chain(layers, x):
    return chain(layers[1:], layers[0](x)) if layers else x


def checkpointed(layers, k):
    if k not in range(1, len(layers) + 1):
        raise ValueError("so many segments cannot be")
    ends = [round(i * len(layers) / k) for i in range(1, k + 1)]

    def function(x, start=0, ends=tuple(ends)):
        if not ends:
            return x
        if len(ends) == 1:
            return chain(layers[start:], x)  # the last segment is kept
        switch = torch.zeros(1, requires_grad=True)
        return function(Segment.apply(x, switch, layers[start : ends[0]]), ends[0], tuple(ends[1:]))

    return function


def best_k(count, layer_bytes, input_bytes):
    k = np.arange(1, count + 1)
    return int(k[np.argmin(k * input_bytes + np.ceil(count / k) * layer_bytes)])


# %% plan_recompute: arrays and recursion
def plan_recompute(costs, sizes, budget):
    from functools import lru_cache

    n = len(costs)
    caps = {0}
    for i in range(n):
        total = 0
        for size in sizes[i:]:
            total += size
            caps.add(total)
    best = (float("inf"), None)
    for cap in caps:
        room = budget - cap
        if room < 0:
            continue

        @lru_cache(maxsize=None)
        def rest(i, run, room):
            """Least extra time from output i on, with `run` bytes not kept right before it."""
            if i == n:
                return (0, ())
            found = (float("inf"), ())
            if sizes[i] <= room:
                extra, kept = rest(i + 1, 0, room - sizes[i])
                found = (extra, (i, *kept))
            if run + sizes[i] <= cap:
                extra, kept = rest(i + 1, run + sizes[i], room)
                found = min(found, (extra + costs[i], kept), key=lambda plan: plan[0])
            return found

        plan = rest(0, 0, room)
        if plan[0] < best[0]:
            best = plan
    if best[1] is None:
        raise ValueError("no plan is small enough")
    return best[0], list(best[1])


# %% mixed_precision: arrays and recursion
class MixedPrecision:
    """The scale is kept by torch.amp.GradScaler, which sees the masters only."""

    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params, self.max_norm = list(params), max_norm
        self.masters = [torch.nn.Parameter(p.detach().to(torch.float32)) for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scaler = torch.amp.GradScaler(
            "cpu",
            init_scale=scale,
            growth_factor=growth,
            backoff_factor=backoff,
            growth_interval=interval,
        )

    @property
    def scale(self):
        return self.scaler.get_scale()

    def backward(self, loss):
        self.scaler.scale(loss.float()).backward()

    def step(self):
        for p, master in zip(self.params, self.masters):
            master.grad = p.grad.float() if p.grad is not None else None
            p.grad = None
        self.scaler.unscale_(self.optimizer)
        finite = all(
            bool(m.grad.abs().sum().isfinite()) for m in self.masters if m.grad is not None
        )
        if self.max_norm:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for p, master in zip(self.params, self.masters):
            p.data = master.detach().half()
        return finite
