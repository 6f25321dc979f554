# Answers that people really give and that must lose their task's points.

# %% state_bytes: forgets the float32 copy of the weights
def state_bytes(psi, n, stage, optimizer="adam"):
    extra = {"adam": 8, "momentum": 4, "sgd": 0, "adam8bit": 2}
    if stage not in (0, 1, 2, 3) or optimizer not in extra:
        raise ValueError("no such stage or optimiser")
    return {
        "params": 2 * psi / (n if stage == 3 else 1),
        "grads": 2 * psi / (n if stage >= 2 else 1),
        "optimizer": extra[optimizer] * psi / (n if stage >= 1 else 1),
    }


def largest_model(memory, n, stage, optimizer="adam"):
    return int(memory // sum(state_bytes(1, n, stage, optimizer).values()))


def step_bytes(psi, n, stage):
    if stage not in (0, 1, 2, 3):
        raise ValueError("no such stage")
    return (3 if stage == 3 else 2) * 2 * psi * (n - 1) / n


# %% state_bytes: stage 1 shards the gradients too
def state_bytes(psi, n, stage, optimizer="adam"):
    extra = {"adam": 12, "momentum": 8, "sgd": 4, "adam8bit": 6}
    if stage not in (0, 1, 2, 3) or optimizer not in extra:
        raise ValueError("no such stage or optimiser")
    return {
        "params": 2 * psi / (n if stage >= 2 else 1),
        "grads": 2 * psi / (n if stage >= 1 else 1),
        "optimizer": extra[optimizer] * psi / (n if stage >= 1 else 1),
    }


def largest_model(memory, n, stage, optimizer="adam"):
    return int(memory // sum(state_bytes(1, n, stage, optimizer).values()))


def step_bytes(psi, n, stage):
    if stage not in (0, 1, 2, 3):
        raise ValueError("no such stage")
    return (3 if stage == 3 else 2) * 2 * psi * (n - 1) / n


# %% state_bytes: sharding makes more traffic in every stage
def state_bytes(psi, n, stage, optimizer="adam"):
    extra = {"adam": 12, "momentum": 8, "sgd": 4, "adam8bit": 6}
    if stage not in (0, 1, 2, 3) or optimizer not in extra:
        raise ValueError("no such stage or optimiser")
    return {
        "params": 2 * psi / (n if stage == 3 else 1),
        "grads": 2 * psi / (n if stage >= 2 else 1),
        "optimizer": extra[optimizer] * psi / (n if stage >= 1 else 1),
    }


def largest_model(memory, n, stage, optimizer="adam"):
    return int(memory // sum(state_bytes(1, n, stage, optimizer).values()))


def step_bytes(psi, n, stage):
    if stage not in (0, 1, 2, 3):
        raise ValueError("no such stage")
    return (2 if stage == 0 else 3) * 2 * psi * (n - 1) / n


# %% state_bytes: the largest model by the optimiser's state alone
def state_bytes(psi, n, stage, optimizer="adam"):
    extra = {"adam": 12, "momentum": 8, "sgd": 4, "adam8bit": 6}
    if stage not in (0, 1, 2, 3) or optimizer not in extra:
        raise ValueError("no such stage or optimiser")
    return {
        "params": 2 * psi / (n if stage == 3 else 1),
        "grads": 2 * psi / (n if stage >= 2 else 1),
        "optimizer": extra[optimizer] * psi / (n if stage >= 1 else 1),
    }


def largest_model(memory, n, stage, optimizer="adam"):
    return int(memory // state_bytes(1, n, stage, optimizer)["optimizer"])


def step_bytes(psi, n, stage):
    if stage not in (0, 1, 2, 3):
        raise ValueError("no such stage")
    return (3 if stage == 3 else 2) * 2 * psi * (n - 1) / n


# %% activation_bytes: a mask takes as much as what it masks
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    if recompute not in ("none", "selective", "full"):
        raise ValueError(recompute)
    token, square = width * s * b * h, width * a * s * s * b
    if recompute == "full":
        return {"layernorm": token, "attention": 0, "scores": 0, "mlp": 0}
    parts = {
        "layernorm": 2 * token,
        "attention": (5 + dropout) * token,
        "scores": (3 if dropout else 1) * square,
        "mlp": (9 + dropout) * token,
    }
    return parts if recompute == "none" else {**parts, "scores": 0}


# %% activation_bytes: the softmax keeps its output only, also with dropout
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    if recompute not in ("none", "selective", "full"):
        raise ValueError(recompute)
    token, square = s * b * h, a * s * s * b
    if recompute == "full":
        return {"layernorm": width * token, "attention": 0, "scores": 0, "mlp": 0}
    parts = {
        "layernorm": 2 * width * token,
        "attention": (5 * width + dropout) * token,
        "scores": (width + dropout) * square,
        "mlp": (9 * width + dropout) * token,
    }
    return parts if recompute == "none" else {**parts, "scores": 0}


# %% activation_bytes: without dropout the second square tensor is still counted
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    if recompute not in ("none", "selective", "full"):
        raise ValueError(recompute)
    token, square = s * b * h, a * s * s * b
    if recompute == "full":
        return {"layernorm": width * token, "attention": 0, "scores": 0, "mlp": 0}
    parts = {
        "layernorm": 2 * width * token,
        "attention": (5 * width + dropout) * token,
        "scores": (2 * width + dropout) * square,
        "mlp": (9 * width + dropout) * token,
    }
    return parts if recompute == "none" else {**parts, "scores": 0}


# %% activation_bytes: selective recomputation drops q, k and v too
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    if recompute not in ("none", "selective", "full"):
        raise ValueError(recompute)
    token, square = s * b * h, a * s * s * b
    if recompute == "full":
        return {"layernorm": width * token, "attention": 0, "scores": 0, "mlp": 0}
    parts = {
        "layernorm": 2 * width * token,
        "attention": (5 * width + dropout) * token,
        "scores": (2 * width + 1 if dropout else width) * square,
        "mlp": (9 * width + dropout) * token,
    }
    if recompute == "selective":
        parts.update(scores=0, attention=(2 * width + dropout) * token)
    return parts


# %% activation_bytes: only outputs count, so GELU's input is missing
def activation_bytes(s, b, h, a, width=2, dropout=True, recompute="none"):
    if recompute not in ("none", "selective", "full"):
        raise ValueError(recompute)
    token, square = s * b * h, a * s * s * b
    if recompute == "full":
        return {"layernorm": width * token, "attention": 0, "scores": 0, "mlp": 0}
    parts = {
        "layernorm": 2 * width * token,
        "attention": (5 * width + dropout) * token,
        "scores": (2 * width + 1 if dropout else width) * square,
        "mlp": (5 * width + dropout) * token,
    }
    return parts if recompute == "none" else {**parts, "scores": 0}


# %% sharded_adam: shards nothing
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring = ring
        self.adam = torch.optim.Adam(self.params, lr=lr, betas=betas, eps=eps)

    @torch.no_grad()
    def step(self):
        for p in self.params:
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad = (self.ring.all_reduce(grad.reshape(-1)) / self.ring.n).view_as(p)
        self.adam.step()
        for p in self.params:
            p.grad = None


# %% sharded_adam: a shard that is a slice keeps the whole
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        self.m = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.v = torch.zeros(total).tensor_split(ring.n)[ring.rank]

    @torch.no_grad()
    def step(self):
        n, rank = self.ring.n, self.ring.rank
        g = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).view(-1) for p in self.params]
        )
        g = self.ring.reduce_scatter(g.tensor_split(n)) / n
        w = torch.cat([p.view(-1) for p in self.params]).tensor_split(n)[rank].clone()
        self.t += 1
        self.m.lerp_(g, 1 - self.betas[0])
        self.v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in self.params])
        for p, piece in zip(self.params, new):
            p.copy_(piece.view_as(p))
            p.grad = None


# %% sharded_adam: all-reduces the gradients before it takes its share
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        mine = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.m, self.v = mine.clone(), mine.clone()

    @torch.no_grad()
    def step(self):
        n, rank = self.ring.n, self.ring.rank
        g = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).view(-1) for p in self.params]
        )
        g = self.ring.all_reduce(g).tensor_split(n)[rank] / n
        w = torch.cat([p.view(-1) for p in self.params]).tensor_split(n)[rank].clone()
        self.t += 1
        self.m.lerp_(g, 1 - self.betas[0])
        self.v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in self.params])
        for p, piece in zip(self.params, new):
            p.copy_(piece.view_as(p))
            p.grad = None


# %% sharded_adam: adds the gradients up and does not divide
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        mine = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.m, self.v = mine.clone(), mine.clone()

    @torch.no_grad()
    def step(self):
        n, rank = self.ring.n, self.ring.rank
        g = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).view(-1) for p in self.params]
        )
        g = self.ring.reduce_scatter(g.tensor_split(n))
        w = torch.cat([p.view(-1) for p in self.params]).tensor_split(n)[rank].clone()
        self.t += 1
        self.m.lerp_(g, 1 - self.betas[0])
        self.v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in self.params])
        for p, piece in zip(self.params, new):
            p.copy_(piece.view_as(p))
            p.grad = None


# %% sharded_adam: leaves out parameters without a gradient
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        mine = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.m, self.v = mine.clone(), mine.clone()

    @torch.no_grad()
    def step(self):
        n, rank = self.ring.n, self.ring.rank
        used = [p for p in self.params if p.grad is not None]
        g = torch.cat([p.grad.view(-1) for p in used])
        g = self.ring.reduce_scatter(g.tensor_split(n)) / n
        w = torch.cat([p.view(-1) for p in used]).tensor_split(n)[rank].clone()
        self.t += 1
        m, v = self.m[: len(g)], self.v[: len(g)]
        m.lerp_(g, 1 - self.betas[0])
        v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = m / (1 - self.betas[0] ** self.t), v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in used])
        for p, piece in zip(used, new):
            p.copy_(piece.view_as(p))
            p.grad = None


# %% sharded_adam: a tied parameter is two
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = [p for p in params if p.requires_grad]
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        mine = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.m, self.v = mine.clone(), mine.clone()

    @torch.no_grad()
    def step(self):
        n, rank = self.ring.n, self.ring.rank
        g, seen = [], set()
        for p in self.params:
            again = p.grad is None or id(p) in seen
            seen.add(id(p))
            g.append((torch.zeros_like(p) if again else p.grad).view(-1))
        g = self.ring.reduce_scatter(torch.cat(g).tensor_split(n)) / n
        w = torch.cat([p.view(-1) for p in self.params]).tensor_split(n)[rank].clone()
        self.t += 1
        self.m.lerp_(g, 1 - self.betas[0])
        self.v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in self.params])
        for p, piece in zip(self.params, new):
            p.copy_(piece.view_as(p))
            p.grad = None


# %% sharded_adam: keeps the gradients
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        mine = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.m, self.v = mine.clone(), mine.clone()

    @torch.no_grad()
    def step(self):
        n, rank = self.ring.n, self.ring.rank
        g = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).view(-1) for p in self.params]
        )
        g = self.ring.reduce_scatter(g.tensor_split(n)) / n
        w = torch.cat([p.view(-1) for p in self.params]).tensor_split(n)[rank].clone()
        self.t += 1
        self.m.lerp_(g, 1 - self.betas[0])
        self.v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in self.params])
        for p, piece in zip(self.params, new):
            p.copy_(piece.view_as(p))


# %% sharded_adam: a rank whose share is empty does not take part
class ShardedAdam:
    def __init__(self, params, ring, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params = list(dict.fromkeys(p for p in params if p.requires_grad))
        self.ring, self.lr, self.betas, self.eps, self.t = ring, lr, betas, eps, 0
        total = sum(p.numel() for p in self.params)
        mine = torch.zeros(total).tensor_split(ring.n)[ring.rank]
        self.m, self.v = mine.clone(), mine.clone()

    @torch.no_grad()
    def step(self):
        if not len(self.m):
            return
        n, rank = self.ring.n, self.ring.rank
        g = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).view(-1) for p in self.params]
        )
        g = self.ring.reduce_scatter(g.tensor_split(n)) / n
        w = torch.cat([p.view(-1) for p in self.params]).tensor_split(n)[rank].clone()
        self.t += 1
        self.m.lerp_(g, 1 - self.betas[0])
        self.v.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        w -= self.lr * m / (v.sqrt() + self.eps)
        new = torch.cat(self.ring.all_gather(w)).split([p.numel() for p in self.params])
        for p, piece in zip(self.params, new):
            p.copy_(piece.view_as(p))
            p.grad = None


# %% zero3: gathers all layers before it begins
class Zero3:
    def __init__(self, layers, ring):
        self.layers, self.ring = layers, ring
        self.names = [[name for name, _ in layer.named_parameters()] for layer in layers]
        self.shapes = [[p.shape for p in layer.parameters()] for layer in layers]
        self.shards, self.grads = [], [None] * len(layers)
        for layer in layers:
            flat = torch.cat([torch.zeros(0)] + [p.data.view(-1) for p in layer.parameters()])
            self.shards.append(flat.tensor_split(ring.n)[ring.rank].clone())
            for p in layer.parameters():
                p.data = torch.empty(0)

    def gather(self, i):
        flat = torch.cat(self.ring.all_gather(self.shards[i]))
        parts = flat.split([shape.numel() for shape in self.shapes[i]])
        return [part.view(shape) for part, shape in zip(parts, self.shapes[i])]

    def forward_backward(self, x, loss_of):
        params = [[p.requires_grad_() for p in self.gather(i)] for i in range(len(self.layers))]
        for layer, names, some in zip(self.layers, self.names, params):
            x = functional_call(layer, dict(zip(names, some)), (x,))
        loss = loss_of(x)
        loss.backward()
        for i, some in enumerate(params):
            flat = torch.cat([torch.zeros(0)] + [p.grad.view(-1) for p in some])
            self.grads[i] = self.ring.reduce_scatter(flat.tensor_split(self.ring.n)) / self.ring.n
        return loss.item()


# %% zero3: the graph of the forward pass keeps the parameters
class Zero3:
    def __init__(self, layers, ring):
        self.layers, self.ring = layers, ring
        self.names = [[name for name, _ in layer.named_parameters()] for layer in layers]
        self.shapes = [[p.shape for p in layer.parameters()] for layer in layers]
        self.shards, self.grads = [], [None] * len(layers)
        for layer in layers:
            flat = torch.cat([torch.zeros(0)] + [p.data.view(-1) for p in layer.parameters()])
            self.shards.append(flat.tensor_split(ring.n)[ring.rank].clone())
            for p in layer.parameters():
                p.data = torch.empty(0)

    def gather(self, i):
        flat = torch.cat(self.ring.all_gather(self.shards[i]))
        parts = flat.split([shape.numel() for shape in self.shapes[i]])
        return [part.view(shape) for part, shape in zip(parts, self.shapes[i])]

    def forward_backward(self, x, loss_of):
        steps = []
        for i, (layer, names) in enumerate(zip(self.layers, self.names)):
            x = x.detach().requires_grad_()
            params = [p.requires_grad_() for p in self.gather(i)]
            steps.append((x, params, functional_call(layer, dict(zip(names, params)), (x,))))
            x = steps[-1][2]
        out = x.detach().requires_grad_()
        loss = loss_of(out)
        (slope,) = torch.autograd.grad(loss, out)
        for i in reversed(range(len(self.layers))):
            self.gather(i)
            x, params, y = steps.pop()
            slope, *grads = torch.autograd.grad(y, [x, *params], slope)
            flat = torch.cat([torch.zeros(0)] + [g.reshape(-1) for g in grads])
            self.grads[i] = self.ring.reduce_scatter(flat.tensor_split(self.ring.n)) / self.ring.n
        return loss.item()


# %% zero3: the gradients come by all-reduce
class Zero3:
    def __init__(self, layers, ring):
        self.layers, self.ring = layers, ring
        self.names = [[name for name, _ in layer.named_parameters()] for layer in layers]
        self.shapes = [[p.shape for p in layer.parameters()] for layer in layers]
        self.shards, self.grads = [], [None] * len(layers)
        for layer in layers:
            flat = torch.cat([torch.zeros(0)] + [p.data.view(-1) for p in layer.parameters()])
            self.shards.append(flat.tensor_split(ring.n)[ring.rank].clone())
            for p in layer.parameters():
                p.data = torch.empty(0)

    def gather(self, i):
        flat = torch.cat(self.ring.all_gather(self.shards[i]))
        parts = flat.split([shape.numel() for shape in self.shapes[i]])
        return [part.view(shape) for part, shape in zip(parts, self.shapes[i])]

    def forward_backward(self, x, loss_of):
        inputs = []
        with torch.no_grad():
            for i, (layer, names) in enumerate(zip(self.layers, self.names)):
                inputs.append(x)
                x = functional_call(layer, dict(zip(names, self.gather(i))), (x,))
        out = x.requires_grad_()
        loss = loss_of(out)
        (slope,) = torch.autograd.grad(loss, out)
        for i in reversed(range(len(self.layers))):
            x = inputs.pop().detach().requires_grad_()
            params = [p.requires_grad_() for p in self.gather(i)]
            y = functional_call(self.layers[i], dict(zip(self.names[i], params)), (x,))
            slope, *grads = torch.autograd.grad(y, [x, *params], slope)
            flat = torch.cat([torch.zeros(0)] + [g.reshape(-1) for g in grads])
            mean = self.ring.all_reduce(flat) / self.ring.n
            self.grads[i] = mean.tensor_split(self.ring.n)[self.ring.rank].clone()
        return loss.item()


# %% zero3: a rank keeps the gradient of its own batch
class Zero3:
    def __init__(self, layers, ring):
        self.layers, self.ring = layers, ring
        self.names = [[name for name, _ in layer.named_parameters()] for layer in layers]
        self.shapes = [[p.shape for p in layer.parameters()] for layer in layers]
        self.shards, self.grads = [], [None] * len(layers)
        for layer in layers:
            flat = torch.cat([torch.zeros(0)] + [p.data.view(-1) for p in layer.parameters()])
            self.shards.append(flat.tensor_split(ring.n)[ring.rank].clone())
            for p in layer.parameters():
                p.data = torch.empty(0)

    def gather(self, i):
        flat = torch.cat(self.ring.all_gather(self.shards[i]))
        parts = flat.split([shape.numel() for shape in self.shapes[i]])
        return [part.view(shape) for part, shape in zip(parts, self.shapes[i])]

    def forward_backward(self, x, loss_of):
        inputs = []
        with torch.no_grad():
            for i, (layer, names) in enumerate(zip(self.layers, self.names)):
                inputs.append(x)
                x = functional_call(layer, dict(zip(names, self.gather(i))), (x,))
        out = x.requires_grad_()
        loss = loss_of(out)
        (slope,) = torch.autograd.grad(loss, out)
        for i in reversed(range(len(self.layers))):
            x = inputs.pop().detach().requires_grad_()
            params = [p.requires_grad_() for p in self.gather(i)]
            y = functional_call(self.layers[i], dict(zip(self.names[i], params)), (x,))
            slope, *grads = torch.autograd.grad(y, [x, *params], slope)
            flat = torch.cat([torch.zeros(0)] + [g.reshape(-1) for g in grads])
            self.grads[i] = flat.tensor_split(self.ring.n)[self.ring.rank].clone()
        return loss.item()


# %% zero3: the modules keep their parameters, and a shard is a slice of them
class Zero3:
    def __init__(self, layers, ring):
        self.layers, self.ring = layers, ring
        self.names = [[name for name, _ in layer.named_parameters()] for layer in layers]
        self.shapes = [[p.shape for p in layer.parameters()] for layer in layers]
        self.shards, self.grads = [], [None] * len(layers)
        for layer in layers:
            flat = torch.cat([torch.zeros(0)] + [p.data.view(-1) for p in layer.parameters()])
            self.shards.append(flat.tensor_split(ring.n)[ring.rank])

    def gather(self, i):
        flat = torch.cat(self.ring.all_gather(self.shards[i]))
        parts = flat.split([shape.numel() for shape in self.shapes[i]])
        return [part.view(shape) for part, shape in zip(parts, self.shapes[i])]

    def forward_backward(self, x, loss_of):
        inputs = []
        with torch.no_grad():
            for i, (layer, names) in enumerate(zip(self.layers, self.names)):
                inputs.append(x)
                x = functional_call(layer, dict(zip(names, self.gather(i))), (x,))
        out = x.requires_grad_()
        loss = loss_of(out)
        (slope,) = torch.autograd.grad(loss, out)
        for i in reversed(range(len(self.layers))):
            x = inputs.pop().detach().requires_grad_()
            params = [p.requires_grad_() for p in self.gather(i)]
            y = functional_call(self.layers[i], dict(zip(self.names[i], params)), (x,))
            slope, *grads = torch.autograd.grad(y, [x, *params], slope)
            flat = torch.cat([torch.zeros(0)] + [g.reshape(-1) for g in grads])
            self.grads[i] = self.ring.reduce_scatter(flat.tensor_split(self.ring.n)) / self.ring.n
        return loss.item()


# %% checkpoint: the second run draws other random numbers
class Segment(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layers, x, *params):
        ctx.layers = layers
        ctx.save_for_backward(x, *params)
        for layer in layers:
            x = layer(x)
        return x

    @staticmethod
    def backward(ctx, slope):
        x, *params = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            out = x
            for layer in ctx.layers:
                out = layer(out)
        return None, *torch.autograd.grad(out, [x, *params], slope)


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)
    cuts = [i * len(layers) // k for i in range(k + 1)]

    def run(x):
        for start, end in zip(cuts, cuts[1:]):
            part = layers[start:end]
            x = Segment.apply(part, x, *[p for layer in part for p in layer.parameters()])
        return x

    return run


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: the generator is left where the second run put it
class Segment(torch.autograd.Function):
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
        x = x.detach().requires_grad_()
        torch.set_rng_state(ctx.state)
        with torch.enable_grad():
            out = x
            for layer in ctx.layers:
                out = layer(out)
        return None, *torch.autograd.grad(out, [x, *params], slope)


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)
    cuts = [i * len(layers) // k for i in range(k + 1)]

    def run(x):
        for start, end in zip(cuts, cuts[1:]):
            part = layers[start:end]
            x = Segment.apply(part, x, *[p for layer in part for p in layer.parameters()])
        return x

    return run


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: parameters get gradients only if x does
class Segment(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layers, x):
        ctx.layers, ctx.state = layers, torch.get_rng_state()
        ctx.save_for_backward(x)
        for layer in layers:
            x = layer(x)
        return x

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.state)
            out = x
            for layer in ctx.layers:
                out = layer(out)
            torch.autograd.backward(out, slope)
        return None, x.grad


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)
    cuts = [i * len(layers) // k for i in range(k + 1)]

    def run(x):
        for start, end in zip(cuts, cuts[1:]):
            x = Segment.apply(layers[start:end], x)
        return x

    return run


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: is the plain chain
class Segment(torch.autograd.Function):
    pass


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)
    return torch.nn.Sequential(*layers)


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: asks the library
class Segment(torch.autograd.Function):
    pass


def checkpointed(layers, k):
    from torch.utils.checkpoint import checkpoint_sequential

    if k < 1 or k > len(layers):
        raise ValueError(k)
    return lambda x: checkpoint_sequential(layers, k, x, use_reentrant=False)


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: a remainder of layers is lost
class Segment(torch.autograd.Function):
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
        x = x.detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.state)
            out = x
            for layer in ctx.layers:
                out = layer(out)
        return None, *torch.autograd.grad(out, [x, *params], slope)


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)
    size = len(layers) // k

    def run(x):
        for start in range(0, size * k, size):
            part = layers[start : start + size]
            x = Segment.apply(part, x, *[p for layer in part for p in layer.parameters()])
        return x

    return run


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: every layer is a segment, whatever k is
class Segment(torch.autograd.Function):
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
        x = x.detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.state)
            out = x
            for layer in ctx.layers:
                out = layer(out)
        return None, *torch.autograd.grad(out, [x, *params], slope)


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)

    def run(x):
        for layer in layers:
            x = Segment.apply([layer], x, *layer.parameters())
        return x

    return run


def best_k(count, layer_bytes, input_bytes):
    peaks = [k * input_bytes + -(-count // k) * layer_bytes for k in range(1, count + 1)]
    return peaks.index(min(peaks)) + 1


# %% checkpoint: the best number is the square root of the depth
class Segment(torch.autograd.Function):
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
        x = x.detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.state)
            out = x
            for layer in ctx.layers:
                out = layer(out)
        return None, *torch.autograd.grad(out, [x, *params], slope)


def checkpointed(layers, k):
    if k < 1 or k > len(layers):
        raise ValueError(k)
    cuts = [i * len(layers) // k for i in range(k + 1)]

    def run(x):
        for start, end in zip(cuts, cuts[1:]):
            part = layers[start:end]
            x = Segment.apply(part, x, *[p for layer in part for p in layer.parameters()])
        return x

    return run


def best_k(count, layer_bytes, input_bytes):
    return max(1, round(math.sqrt(count)))


# %% plan_recompute: gives up the cheapest per byte first
def plan_recompute(costs, sizes, budget):
    kept = set(range(len(costs)))

    def peak():
        run = most = 0
        for i, size in enumerate(sizes):
            run = 0 if i in kept else run + size
            most = max(most, run)
        return sum(sizes[i] for i in kept) + most

    order = sorted(kept, key=lambda i: costs[i] / max(sizes[i], 1e-9))
    while peak() > budget:
        if not order:
            raise ValueError("no plan fits")
        kept.discard(order.pop(0))
    return sum(costs[i] for i in range(len(costs)) if i not in kept), sorted(kept)


# %% plan_recompute: what is computed again needs no room
def plan_recompute(costs, sizes, budget):
    if max(sizes, default=0) > budget:
        raise ValueError("no plan fits")
    best = {0: (0, [])}
    for i, (cost, size) in enumerate(zip(costs, sizes)):
        new = {}
        for held, (extra, kept) in best.items():
            for room, plan in ((held, (extra + cost, kept)), (held + size, (extra, [*kept, i]))):
                if room <= budget and (room not in new or plan[0] < new[room][0]):
                    new[room] = plan
        best = new
    return min(best.values(), key=lambda plan: plan[0])


# %% plan_recompute: only the largest output needs room when computed again
def plan_recompute(costs, sizes, budget):
    best = None
    for room in sorted(set(sizes) | {0}):
        states = {0: (0, [])}
        for i, (cost, size) in enumerate(zip(costs, sizes)):
            new = {}
            for held, (extra, kept) in states.items():
                options = [(held + size, (extra, [*kept, i]))]
                if size <= room:
                    options.append((held, (extra + cost, kept)))
                for bytes_held, plan in options:
                    if bytes_held + room <= budget:
                        if bytes_held not in new or plan[0] < new[bytes_held][0]:
                            new[bytes_held] = plan
            states = new
        for plan in states.values():
            if best is None or plan[0] < best[0]:
                best = plan
    if best is None:
        raise ValueError("no plan fits")
    return best


# %% plan_recompute: segments of equal length
def plan_recompute(costs, sizes, budget):
    n, best = len(costs), None
    for step in range(1, n + 2):
        kept = [i for i in range(n) if step == 1 or (i + 1) % step == 0]
        run = most = 0
        for i, size in enumerate(sizes):
            run = 0 if i in kept else run + size
            most = max(most, run)
        extra = sum(costs[i] for i in range(n) if i not in kept)
        if sum(sizes[i] for i in kept) + most <= budget and (best is None or extra < best[0]):
            best = (extra, kept)
    if best is None:
        raise ValueError("no plan fits")
    return best


# %% mixed_precision: clips before it unscales
class MixedPrecision:
    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params = list(params)
        self.masters = [p.detach().float().requires_grad_() for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0

    def backward(self, loss):
        (loss.float() * self.scale).backward()

    def step(self):
        for p, m in zip(self.params, self.masters):
            m.grad = None if p.grad is None else p.grad.float()
            p.grad = None
        grads = [m.grad for m in self.masters if m.grad is not None]
        if not all(g.isfinite().all() for g in grads):
            self.scale, self.good = self.scale * self.backoff, 0
            return False
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        for g in grads:
            g /= self.scale
        self.optimizer.step()
        for p, m in zip(self.params, self.masters):
            p.data.copy_(m.data)
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True


# %% mixed_precision: changes the scale before it looks for infinities
class MixedPrecision:
    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params = list(params)
        self.masters = [p.detach().float().requires_grad_() for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0

    def backward(self, loss):
        (loss.float() * self.scale).backward()

    def step(self):
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        for p, m in zip(self.params, self.masters):
            m.grad = None if p.grad is None else p.grad.float() / self.scale
            p.grad = None
        grads = [m.grad for m in self.masters if m.grad is not None]
        if not all(g.isfinite().all() for g in grads):
            self.scale, self.good = self.scale * self.backoff, 0
            return False
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        self.optimizer.step()
        for p, m in zip(self.params, self.masters):
            p.data.copy_(m.data)
        return True


# %% mixed_precision: good steps need not be in a row
class MixedPrecision:
    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params = list(params)
        self.masters = [p.detach().float().requires_grad_() for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0

    def backward(self, loss):
        (loss.float() * self.scale).backward()

    def step(self):
        for p, m in zip(self.params, self.masters):
            m.grad = None if p.grad is None else p.grad.float() / self.scale
            p.grad = None
        grads = [m.grad for m in self.masters if m.grad is not None]
        if not all(g.isfinite().all() for g in grads):
            self.scale *= self.backoff
            return False
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        self.optimizer.step()
        for p, m in zip(self.params, self.masters):
            p.data.copy_(m.data)
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True


# %% mixed_precision: no master weights
class MixedPrecision:
    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params = list(params)
        self.masters = self.params
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0

    def backward(self, loss):
        (loss.float() * self.scale).backward()

    def step(self):
        grads = [p.grad for p in self.params if p.grad is not None]
        good = all(g.isfinite().all() for g in grads)
        if good:
            for g in grads:
                g /= self.scale
            if self.max_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.params, self.max_norm)
            self.optimizer.step()
            self.good += 1
            if self.good == self.interval:
                self.scale, self.good = self.scale * self.growth, 0
        else:
            self.scale, self.good = self.scale * self.backoff, 0
        for p in self.params:
            p.grad = None
        return good


# %% mixed_precision: a skipped step leaves the infinite gradient behind
class MixedPrecision:
    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params = list(params)
        self.masters = [p.detach().float().requires_grad_() for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0

    def backward(self, loss):
        (loss.float() * self.scale).backward()

    def step(self):
        for p, m in zip(self.params, self.masters):
            m.grad = None if p.grad is None else p.grad.float() / self.scale
        grads = [m.grad for m in self.masters if m.grad is not None]
        if not all(g.isfinite().all() for g in grads):
            self.scale, self.good = self.scale * self.backoff, 0
            return False
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        self.optimizer.step()
        for p, m in zip(self.params, self.masters):
            p.data.copy_(m.data)
            p.grad = None
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True


# %% mixed_precision: unscales in float16
class MixedPrecision:
    def __init__(self, params, make_optimizer, scale=2.0**16, growth=2.0, backoff=0.5,
                 interval=2000, max_norm=None):  # fmt: skip
        self.params = list(params)
        self.masters = [p.detach().float().requires_grad_() for p in self.params]
        self.optimizer = make_optimizer(self.masters)
        self.scale, self.growth, self.backoff = scale, growth, backoff
        self.interval, self.max_norm, self.good = interval, max_norm, 0

    def backward(self, loss):
        (loss.float() * self.scale).backward()

    def step(self):
        for p, m in zip(self.params, self.masters):
            m.grad = None if p.grad is None else (p.grad / self.scale).float()
            p.grad = None
        grads = [m.grad for m in self.masters if m.grad is not None]
        if not all(g.isfinite().all() for g in grads):
            self.scale, self.good = self.scale * self.backoff, 0
            return False
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.masters, self.max_norm)
        self.optimizer.step()
        for p, m in zip(self.params, self.masters):
            p.data.copy_(m.data)
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True
