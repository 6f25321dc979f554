# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% ring: plain and blocking
def reduce_scatter(x, comm):
    n, me = comm.n, comm.rank
    pieces = np.split(np.array(x), bounds(len(x), n)[1:-1])
    for step in range(1, n):
        came = exchange(comm, pieces[(me - step) % n].tobytes())
        target = (me - step - 1) % n
        pieces[target] = pieces[target] + np.frombuffer(came, x.dtype)
    return pieces[me]


def exchange(comm, data):
    """Give to the right, take from the left, with sends that may block."""
    left, right = (comm.rank - 1) % comm.n, (comm.rank + 1) % comm.n
    if comm.rank % 2:
        came = comm.recv(left)
        comm.send(right, data)
    else:
        comm.send(right, data)
        came = comm.recv(left)
    return came


def all_gather(piece, length, comm):
    n, me = comm.n, comm.rank
    pieces = [None] * n
    pieces[me] = np.asarray(piece)
    for step in range(n - 1):
        came = exchange(comm, pieces[(me - step) % n].tobytes())
        pieces[(me - step - 1) % n] = np.frombuffer(came, piece.dtype)
    return np.concatenate(pieces)


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% ring: one buffer and halving
def reduce_scatter(x, comm):
    return _scatter(x, comm).copy()


def _scatter(x, comm):
    n, me = comm.n, comm.rank
    buffer, cuts = x.copy(), bounds(len(x), n)
    out = me
    for _ in range(n - 1):
        out = (out - 1) % n
        into = (out - 1) % n
        thread = comm.isend((me + 1) % n, memoryview(buffer[cuts[out] : cuts[out + 1]].tobytes()))
        buffer[cuts[into] : cuts[into + 1]] += np.frombuffer(comm.recv((me - 1) % n), x.dtype)
        thread.join()
    return buffer[cuts[me] : cuts[me + 1]]


def all_gather(piece, length, comm):
    parts, block = {comm.rank: piece.tobytes()}, piece.tobytes()
    for step in range(1, comm.n):
        thread = comm.isend((comm.rank + 1) % comm.n, block)
        block = comm.recv((comm.rank - 1) % comm.n)
        thread.join()
        parts[(comm.rank - step) % comm.n] = block
    return np.frombuffer(b"".join(parts[i] for i in range(comm.n)), piece.dtype).copy()


def ring_all_reduce(x, comm):
    return all_gather(_scatter(x, comm), len(x), comm)


# %% doubling: plain and blocking
def doubling_all_reduce(x, comm):
    """Reduce to rank 0 along a binomial tree, then broadcast back along it."""
    total, stride = x.copy(), 1
    parent, children = None, []
    while stride < comm.n and parent is None:
        if comm.rank & stride:
            parent = comm.rank - stride
        elif comm.rank + stride < comm.n:
            children.append(comm.rank + stride)
            total = total + np.frombuffer(comm.recv(comm.rank + stride), x.dtype)
        stride *= 2
    if parent is not None:
        comm.send(parent, total)
        total = np.frombuffer(comm.recv(parent), x.dtype).copy()
    for child in reversed(children):
        comm.send(child, total)
    return total


# %% doubling: one buffer and halving
def doubling_all_reduce(x, comm):
    """Rabenseifner: halve and exchange, then double and exchange; extra ranks are folded in."""
    n, me, m = comm.n, comm.rank, 1
    while 2 * m <= n:
        m *= 2
    if me >= m:
        comm.isend(me - m, x).join()
        return np.frombuffer(comm.recv(me - m), x.dtype).copy()
    mine = x.copy()
    if me + m < n:
        mine += np.frombuffer(comm.recv(me + m), x.dtype)
    low, high, history = 0, len(mine), []
    half = m // 2
    while half:
        middle, other = (low + high) // 2, me ^ half
        keep, give = (
            ((middle, high), (low, middle)) if me & half else ((low, middle), (middle, high))
        )
        thread = comm.isend(other, mine[give[0] : give[1]].tobytes())
        mine[keep[0] : keep[1]] += np.frombuffer(comm.recv(other), x.dtype)
        thread.join()
        history.append((other, keep, give))
        low, high = keep
        half //= 2
    for other, keep, give in reversed(history):
        thread = comm.isend(other, mine[keep[0] : keep[1]].tobytes())
        mine[give[0] : give[1]] = np.frombuffer(comm.recv(other), x.dtype)
        thread.join()
    if me + m < n:
        comm.isend(me + m, mine).join()
    return mine


# %% cost: plain and blocking
FORMULAS = {
    "star": lambda n, s, a, b: 2 * a + 2 * (n - 1) * b * s,
    "ring": lambda n, s, a, b: 2 * (n - 1) * (a + b * s / n),
    "doubling": lambda n, s, a, b: (
        (int(math.log2(n)) + (0 if math.log2(n).is_integer() else 2)) * (a + b * s)
    ),
}


def cost(algorithm, n, size, alpha, beta):
    if algorithm not in FORMULAS:
        raise ValueError(f"{algorithm}?")
    return 0.0 if n == 1 else FORMULAS[algorithm](n, size, alpha, beta)


def fit(rows):
    """The normal equations of the weighted problem."""
    aa = ab = bb = a1 = b1 = 0.0
    for algorithm, n, size, seconds in rows:
        a = cost(algorithm, n, size, 1.0, 0.0) / seconds
        b = cost(algorithm, n, size, 0.0, 1.0) / seconds
        aa, ab, bb, a1, b1 = aa + a * a, ab + a * b, bb + b * b, a1 + a, b1 + b
    determinant = aa * bb - ab * ab
    return (a1 * bb - b1 * ab) / determinant, (aa * b1 - ab * a1) / determinant


def choose(n, size, alpha, beta):
    best = None
    for name in FORMULAS:
        if best is None or cost(name, n, size, alpha, beta) < cost(best, n, size, alpha, beta):
            best = name
    return best


def crossover(n, alpha, beta):
    if n <= 2:
        return 0
    steps = cost("ring", n, 1, 1, 0) - cost("star", n, 1, 1, 0)
    ports = cost("star", n, 1, 0, 1) - cost("ring", n, 1, 0, 1)
    return steps * alpha / (ports * beta)


# %% buckets: plain and blocking
def plan_buckets(sizes, limit, first=None):
    def pack(indices, cap):
        if not indices:
            return []
        taken, total = 1, sizes[indices[0]]
        while taken < len(indices) and total + sizes[indices[taken]] <= cap:
            total += sizes[indices[taken]]
            taken += 1
        return [indices[:taken], *pack(indices[taken:], limit)]

    return pack(list(range(len(sizes)))[::-1], limit if first is None else first)


# %% timeline: plain and blocking
def timeline(buckets, ready, sizes, n, alpha, beta, overlap=True):
    end, spans = -math.inf, []
    for bucket in buckets:
        due = np.max(np.asarray(ready)[bucket]) if overlap else np.max(ready)
        seconds = 0.0
        if n > 1:
            seconds = 2 * (n - 1) * alpha + 2 * (n - 1) / n * sum(sizes[i] for i in bucket) * beta
        begin = max(end, float(due))
        end = begin + seconds
        spans.append((begin, end))
    return spans


def exposed(spans, ready):
    return max(spans[-1][1] - max(ready), 0)


# %% ddp: plain and blocking
class DDP:
    """One long-lived thread that takes vectors from a queue."""

    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.reduce = comm, all_reduce
        with torch.no_grad():
            for tensor in model.state_dict(keep_vars=True).values():
                came = broadcast(tensor.detach().reshape(-1).numpy(), comm)
                tensor.copy_(torch.as_tensor(came).reshape(tensor.shape))
        trained = [p for p in model.parameters() if p.requires_grad]
        self.plan = [[trained[i] for i in bucket] for bucket in buckets]
        self.inbox, self.outbox = queue.Queue(), queue.Queue()
        threading.Thread(target=self.work, daemon=True).start()
        self.arrived, self.sent = set(), 0
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(self.hook)

    def work(self):
        while True:
            flat = self.inbox.get()
            try:
                self.outbox.put(self.reduce(flat, self.comm))
            except BaseException as error:
                self.outbox.put(error)

    def hook(self, parameter):
        self.arrived.add(id(parameter))
        self.push(lambda p: id(p) in self.arrived)

    def push(self, complete):
        while self.sent < len(self.plan) and all(map(complete, self.plan[self.sent])):
            flat = [
                np.zeros(p.numel(), p.detach().numpy().dtype)
                if p.grad is None
                else p.grad.numpy().reshape(-1)
                for p in self.plan[self.sent]
            ]
            self.inbox.put(np.concatenate(flat))
            self.sent += 1

    def wait(self):
        self.push(lambda p: True)
        for members in self.plan:
            total = self.outbox.get(timeout=60)
            if isinstance(total, BaseException):
                raise total
            at = 0
            for p in members:
                mean = torch.from_numpy(total[at : at + p.numel()].reshape(p.shape) / self.comm.n)
                p.grad = mean.clone()
                at += p.numel()
        self.arrived.clear()
        self.sent = 0


# %% ddp: one buffer and halving
class DDP:
    """Gradients live in one buffer per bucket; a thread is started when there is work."""

    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.all_reduce, self.buckets = comm, all_reduce, buckets
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for t in list(model.parameters()) + list(model.buffers()):
            t.data = torch.from_numpy(broadcast(t.data.numpy().flatten(), comm)).reshape(t.shape)
        self.where = {}
        for number, bucket in enumerate(buckets):
            at = 0
            for i in bucket:
                p = self.parameters[i]
                self.where[p] = (number, slice(at, at + p.numel()))
                at += p.numel()
                p.register_post_accumulate_grad_hook(self.collect)
        self.lock = threading.Lock()
        self.renew()

    def renew(self):
        self.flat = [
            np.zeros(sum(self.parameters[i].numel() for i in bucket), self.kind(bucket))
            for bucket in self.buckets
        ]
        self.left = [set(bucket) for bucket in self.buckets]
        self.ready, self.done, self.error, self.thread = 0, [], None, None

    def kind(self, bucket):
        return self.parameters[bucket[0]].detach().numpy().dtype

    def collect(self, p):
        number, place = self.where[p]
        self.flat[number][place] = p.grad.numpy().ravel()
        self.left[number] = {i for i in self.left[number] if self.parameters[i] is not p}
        ready = 0
        while ready < len(self.left) and not self.left[ready]:
            ready += 1
        self.announce(ready)

    def announce(self, ready):
        with self.lock:
            self.ready = ready
            idle = self.thread is None
            if idle and len(self.done) < ready and self.error is None:
                self.thread = threading.Thread(target=self.drain, daemon=True)
                self.thread.start()

    def drain(self):
        while True:
            with self.lock:
                if len(self.done) >= self.ready or self.error is not None:
                    self.thread = None
                    return
                flat = self.flat[len(self.done)]
            try:
                self.done.append(self.all_reduce(flat, self.comm))
            except Exception as error:
                self.error = error

    def wait(self):
        self.announce(len(self.buckets))
        while (thread := self.thread) is not None:
            thread.join()
        if self.error is not None:
            raise self.error
        for p, (number, place) in self.where.items():
            p.grad = torch.from_numpy(self.done[number][place] / self.comm.n).reshape(p.shape)
        self.renew()


# %% compress: plain and blocking
class TopK:
    def __init__(self, k):
        self.k = k
        self.residual = {}

    def compress(self, g):
        for index, value in enumerate(np.asarray(g).tolist()):
            self.residual[index] = self.residual.get(index, 0.0) + value
        chosen = sorted(self.residual, key=lambda i: abs(self.residual[i]), reverse=True)[: self.k]
        return chosen, [self.residual.pop(i) for i in chosen]


def expand(parts, length):
    if not parts:
        return np.zeros(length)
    indices = np.concatenate([np.asarray(i, int) for i, _ in parts])
    values = np.concatenate([np.asarray(v, float) for _, v in parts])
    return np.bincount(indices, values, minlength=length)
