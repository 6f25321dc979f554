# Answers that people really give and that must lose their task's points.

# %% ring: everybody sends first, and long messages wait for ever
def reduce_scatter(x, comm):
    cuts, n, rank = bounds(len(x), comm.n), comm.n, comm.rank
    chunks = [x[cuts[i] : cuts[i + 1]].copy() for i in range(n)]
    for step in range(n - 1):
        comm.send((rank + 1) % n, chunks[(rank - 1 - step) % n])
        chunks[(rank - 2 - step) % n] += np.frombuffer(comm.recv((rank - 1) % n), x.dtype)
    return chunks[rank]


def all_gather(piece, length, comm):
    cuts, n, rank = bounds(length, comm.n), comm.n, comm.rank
    whole = np.empty(length, piece.dtype)
    whole[cuts[rank] : cuts[rank + 1]] = piece
    for step in range(n - 1):
        out, into = (rank - step) % n, (rank - step - 1) % n
        comm.send((rank + 1) % n, whole[cuts[out] : cuts[out + 1]])
        whole[cuts[into] : cuts[into + 1]] = np.frombuffer(comm.recv((rank - 1) % n), piece.dtype)
    return whole


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% ring: gathers at rank 0 and calls it a ring
def reduce_scatter(x, comm):
    cuts = bounds(len(x), comm.n)
    return star_all_reduce(x, comm)[cuts[comm.rank] : cuts[comm.rank + 1]].copy()


def all_gather(piece, length, comm):
    whole = np.zeros(length, piece.dtype)
    cuts = bounds(length, comm.n)
    whole[cuts[comm.rank] : cuts[comm.rank + 1]] = piece
    return star_all_reduce(whole, comm)


def ring_all_reduce(x, comm):
    return np.array(star_all_reduce(x, comm))


# %% ring: the chunk numbers are right for two ranks only
def reduce_scatter(x, comm):
    cuts, n, rank = bounds(len(x), comm.n), comm.n, comm.rank
    chunks = [x[cuts[i] : cuts[i + 1]].copy() for i in range(n)]
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, chunks[(rank + 1 + step) % n])
        chunks[(rank + step) % n] += np.frombuffer(comm.recv((rank - 1) % n), x.dtype)
        sending.join()
    return chunks[rank]


def all_gather(piece, length, comm):
    cuts, n, rank = bounds(length, comm.n), comm.n, comm.rank
    whole = np.empty(length, piece.dtype)
    whole[cuts[rank] : cuts[rank + 1]] = piece
    for step in range(n - 1):
        out, into = (rank + step) % n, (rank + step + 1) % n
        sending = comm.isend((rank + 1) % n, whole[cuts[out] : cuts[out + 1]])
        whole[cuts[into] : cuts[into + 1]] = np.frombuffer(comm.recv((rank - 1) % n), piece.dtype)
        sending.join()
    return whole


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% ring: whole vectors go round
def reduce_scatter(x, comm):
    cuts, n, rank = bounds(len(x), comm.n), comm.n, comm.rank
    total = passing = x.copy()
    for _ in range(n - 1):
        sending = comm.isend((rank + 1) % n, passing)
        passing = np.frombuffer(comm.recv((rank - 1) % n), x.dtype)
        sending.join()
        total = total + passing
    return total[cuts[rank] : cuts[rank + 1]]


def all_gather(piece, length, comm):
    n, rank = comm.n, comm.rank
    pieces = {rank: piece}
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, pieces[(rank - step) % n])
        pieces[(rank - step - 1) % n] = np.frombuffer(comm.recv((rank - 1) % n), piece.dtype)
        sending.join()
    return np.concatenate([pieces[i] for i in range(n)])


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% ring: the remainder of the division is dropped
def reduce_scatter(x, comm):
    n, rank, size = comm.n, comm.rank, len(x) // comm.n
    chunks = x[: n * size].reshape(n, size).copy()
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, chunks[(rank - 1 - step) % n])
        chunks[(rank - 2 - step) % n] += np.frombuffer(comm.recv((rank - 1) % n), x.dtype)
        sending.join()
    return chunks[rank]


def all_gather(piece, length, comm):
    n, rank, size = comm.n, comm.rank, length // comm.n
    whole = np.zeros(length, piece.dtype)
    chunks = whole[: n * size].reshape(n, size)
    chunks[rank] = piece[:size]
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, chunks[(rank - step) % n])
        chunks[(rank - step - 1) % n] = np.frombuffer(comm.recv((rank - 1) % n), piece.dtype)
        sending.join()
    return whole


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% ring: ranks take turns so that nobody waits for ever
def reduce_scatter(x, comm):
    cuts, n, rank = bounds(len(x), comm.n), comm.n, comm.rank
    chunks = [x[cuts[i] : cuts[i + 1]].copy() for i in range(n)]
    for step in range(n - 1):
        out, into = (rank - 1 - step) % n, (rank - 2 - step) % n
        got = _turn(comm, chunks[out])
        chunks[into] += np.frombuffer(got, x.dtype)
    return chunks[rank]


def _turn(comm, data):
    left, right = (comm.rank - 1) % comm.n, (comm.rank + 1) % comm.n
    if comm.rank == 0:
        comm.send(right, data)
        return comm.recv(left)
    got = comm.recv(left)
    comm.send(right, data)
    return got


def all_gather(piece, length, comm):
    cuts, n, rank = bounds(length, comm.n), comm.n, comm.rank
    whole = np.empty(length, piece.dtype)
    whole[cuts[rank] : cuts[rank + 1]] = piece
    for step in range(n - 1):
        out, into = (rank - step) % n, (rank - step - 1) % n
        got = _turn(comm, whole[cuts[out] : cuts[out + 1]])
        whole[cuts[into] : cuts[into + 1]] = np.frombuffer(got, piece.dtype)
    return whole


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% ring: adds into the caller's vector
def reduce_scatter(x, comm):
    cuts, n, rank = bounds(len(x), comm.n), comm.n, comm.rank
    chunks = [x[cuts[i] : cuts[i + 1]] for i in range(n)]
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, chunks[(rank - 1 - step) % n])
        got = np.frombuffer(comm.recv((rank - 1) % n), x.dtype)
        sending.join()
        chunks[(rank - 2 - step) % n] += got
    return chunks[rank]


def all_gather(piece, length, comm):
    n, rank = comm.n, comm.rank
    pieces = {rank: piece.copy()}
    for step in range(n - 1):
        sending = comm.isend((rank + 1) % n, pieces[(rank - step) % n])
        pieces[(rank - step - 1) % n] = np.frombuffer(comm.recv((rank - 1) % n), piece.dtype)
        sending.join()
    return np.concatenate([pieces[i] for i in range(n)])


def ring_all_reduce(x, comm):
    return all_gather(reduce_scatter(x, comm), len(x), comm)


# %% doubling: only for powers of two
def doubling_all_reduce(x, comm):
    total, stride = x.copy(), 1
    while stride < comm.n:
        partner = comm.rank ^ stride
        if partner < comm.n:
            sending = comm.isend(partner, total)
            total = total + np.frombuffer(comm.recv(partner), x.dtype)
            sending.join()
        stride *= 2
    return total


# %% doubling: partners both send first
def doubling_all_reduce(x, comm):
    n, rank = comm.n, comm.rank
    power = 1 << (n.bit_length() - 1)
    if rank >= power:
        comm.send(rank - power, x)
        return np.frombuffer(comm.recv(rank - power), x.dtype).copy()
    total = x.copy()
    if rank < n - power:
        total = total + np.frombuffer(comm.recv(rank + power), x.dtype)
    stride = 1
    while stride < power:
        comm.send(rank ^ stride, total)
        total = total + np.frombuffer(comm.recv(rank ^ stride), x.dtype)
        stride *= 2
    if rank < n - power:
        comm.send(rank + power, total)
    return total


# %% doubling: by way of rank 0
def doubling_all_reduce(x, comm):
    return np.array(star_all_reduce(x, comm))


# %% doubling: a chain there and back
def doubling_all_reduce(x, comm):
    total = x.copy()
    if comm.rank > 0:
        total = total + np.frombuffer(comm.recv(comm.rank - 1), x.dtype)
    if comm.rank < comm.n - 1:
        comm.send(comm.rank + 1, total)
        total = np.frombuffer(comm.recv(comm.rank + 1), x.dtype).copy()
    if comm.rank > 0:
        comm.send(comm.rank - 1, total)
    return total


# %% doubling: adds in a different order on each rank
def doubling_all_reduce(x, comm):
    n, rank = comm.n, comm.rank
    held, stride = {rank: x}, 1
    while stride < n:
        want = [(rank - stride - i) % n for i in range(min(stride, n - stride))]
        give = [(rank - i) % n for i in range(len(want))]
        sending = comm.isend((rank + stride) % n, b"".join(held[i].tobytes() for i in give))
        got = np.frombuffer(comm.recv((rank - stride) % n), x.dtype).reshape(len(want), -1)
        sending.join()
        held.update(zip(want, got))
        stride *= 2
    total = np.zeros_like(x)
    for step in range(n):
        total = total + held[(rank - step) % n]
    return total


# %% cost: the ring sends whole vectors
def cost(algorithm, n, size, alpha, beta):
    messages, volume = _terms(algorithm, n, size)
    return messages * alpha + volume * beta


def _terms(algorithm, n, size):
    rounds = {
        "star": (2, 2 * (n - 1)),
        "ring": (2 * (n - 1), 2 * (n - 1)),
        "doubling": (math.ceil(math.log2(n)), math.ceil(math.log2(n))),
    }
    if algorithm not in rounds:
        raise ValueError(algorithm)
    messages, times = rounds[algorithm]
    return (messages, times * size) if n > 1 else (0, 0)


def fit(rows):
    seconds = np.array([row[3] for row in rows])
    columns = np.array([_terms(*row[:3]) for row in rows]) / seconds[:, None]
    alpha, beta = np.linalg.lstsq(columns, np.ones(len(rows)), rcond=None)[0]
    return float(alpha), float(beta)


def choose(n, size, alpha, beta):
    return min(("star", "ring", "doubling"), key=lambda a: cost(a, n, size, alpha, beta))


def crossover(n, alpha, beta):
    return n * (n - 2) * alpha / ((n - 1) ** 2 * beta) if n > 1 else 0.0


# %% cost: fits absolute errors, and the large sizes drown alpha
def cost(algorithm, n, size, alpha, beta):
    messages, volume = _terms(algorithm, n, size)
    return messages * alpha + volume * beta


def _terms(algorithm, n, size):
    if n == 1 and algorithm in ("star", "ring", "doubling"):
        return 0, 0
    if algorithm == "star":
        return 2, 2 * (n - 1) * size
    if algorithm == "ring":
        return 2 * (n - 1), 2 * (n - 1) / n * size
    if algorithm == "doubling":
        k = int(math.log2(n))
        k += 2 * (2**k != n)
        return k, k * size
    raise ValueError(algorithm)


def fit(rows):
    columns = np.array([_terms(*row[:3]) for row in rows], float)
    alpha, beta = np.linalg.lstsq(columns, np.array([row[3] for row in rows]), rcond=None)[0]
    return float(alpha), float(beta)


def choose(n, size, alpha, beta):
    return min(("star", "ring", "doubling"), key=lambda a: cost(a, n, size, alpha, beta))


def crossover(n, alpha, beta):
    return n * (n - 2) * alpha / ((n - 1) ** 2 * beta) if n > 1 else 0.0


# %% cost: chooses by size alone
def cost(algorithm, n, size, alpha, beta):
    messages, volume = _terms(algorithm, n, size)
    return messages * alpha + volume * beta


def _terms(algorithm, n, size):
    if n == 1 and algorithm in ("star", "ring", "doubling"):
        return 0, 0
    if algorithm == "star":
        return 2, 2 * (n - 1) * size
    if algorithm == "ring":
        return 2 * (n - 1), 2 * (n - 1) / n * size
    if algorithm == "doubling":
        k = int(math.log2(n))
        k += 2 * (2**k != n)
        return k, k * size
    raise ValueError(algorithm)


def fit(rows):
    seconds = np.array([row[3] for row in rows])
    columns = np.array([_terms(*row[:3]) for row in rows], float) / seconds[:, None]
    scale = np.linalg.norm(columns, axis=0)
    alpha, beta = np.linalg.lstsq(columns / scale, np.ones(len(rows)), rcond=None)[0] / scale
    return float(alpha), float(beta)


def choose(n, size, alpha, beta):
    return "ring" if size > crossover(n, alpha, beta) else "star"


def crossover(n, alpha, beta):
    return n * (n - 2) * alpha / ((n - 1) ** 2 * beta) if n > 1 else 0.0


# %% buckets: the first parameters first
def plan_buckets(sizes, limit, first=None):
    buckets, filled = [], 0
    for index, size in enumerate(sizes):
        cap = first if first is not None and len(buckets) == 1 else limit
        if not buckets or filled + size > cap:
            buckets.append([])
            filled = 0
        buckets[-1].append(index)
        filled += size
    return buckets


# %% buckets: the last bucket is never closed
def plan_buckets(sizes, limit, first=None):
    buckets, open_, filled = [], [], 0
    for index in reversed(range(len(sizes))):
        cap = first if first is not None and not buckets else limit
        if open_ and filled + sizes[index] > cap:
            buckets.append(open_)
            open_, filled = [], 0
        open_.append(index)
        filled += sizes[index]
    return buckets


# %% buckets: goes back to an earlier bucket that has room
def plan_buckets(sizes, limit, first=None):
    buckets, room = [], []
    for index in reversed(range(len(sizes))):
        for number in range(len(buckets)):
            if sizes[index] <= room[number]:
                buckets[number].append(index)
                room[number] -= sizes[index]
                break
        else:
            buckets.append([index])
            cap = first if first is not None and len(buckets) == 1 else limit
            room.append(cap - sizes[index])
    return buckets


# %% buckets: closes a bucket when it has run over
def plan_buckets(sizes, limit, first=None):
    buckets, filled = [[]], 0
    for index in reversed(range(len(sizes))):
        buckets[-1].append(index)
        filled += sizes[index]
        if filled >= (first if first is not None and len(buckets) == 1 else limit):
            buckets.append([])
            filled = 0
    return [bucket for bucket in buckets if bucket]


# %% timeline: all buckets at one time
def timeline(buckets, ready, sizes, n, alpha, beta, overlap=True):
    spans = []
    for bucket in buckets:
        start = max(ready[i] for i in bucket) if overlap else max(ready)
        size = sum(sizes[i] for i in bucket)
        spans.append((start, start + 2 * (n - 1) * (alpha + beta * size / n)))
    return spans


def exposed(spans, ready):
    return max(0.0, max(end for _, end in spans) - max(ready))


# %% timeline: a bucket is ready with its first gradient
def timeline(buckets, ready, sizes, n, alpha, beta, overlap=True):
    spans, free = [], 0.0 if overlap else max(ready)
    for bucket in buckets:
        start = max(free, ready[bucket[0]])
        free = start + 2 * (n - 1) * (alpha + beta * sum(sizes[i] for i in bucket) / n)
        spans.append((start, free))
    return spans


def exposed(spans, ready):
    return max(0.0, max(end for _, end in spans) - max(ready))


# %% timeline: pays alpha once for a ring
def timeline(buckets, ready, sizes, n, alpha, beta, overlap=True):
    spans, free = [], 0.0 if overlap else max(ready)
    for bucket in buckets:
        start = max(free, max(ready[i] for i in bucket))
        free = start + alpha + 2 * (n - 1) / n * beta * sum(sizes[i] for i in bucket)
        spans.append((start, free))
    return spans


def exposed(spans, ready):
    return max(0.0, max(end for _, end in spans) - max(ready))


# %% timeline: exposed is all of the communication
def timeline(buckets, ready, sizes, n, alpha, beta, overlap=True):
    spans, free = [], 0.0 if overlap else max(ready)
    for bucket in buckets:
        start = max(free, max(ready[i] for i in bucket))
        free = start + 2 * (n - 1) * (alpha + beta * sum(sizes[i] for i in bucket) / n)
        spans.append((start, free))
    return spans


def exposed(spans, ready):
    return sum(end - start for start, end in spans)


# %% ddp: all-reduce after the backward pass
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def wait(self):
        for bucket in self.buckets:
            members = [self.parameters[i] for i in bucket]
            for p in members:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            flat = torch.cat([p.grad.ravel() for p in members]).numpy()
            mean = torch.from_numpy(self.all_reduce(flat, self.comm) / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad.copy_(part.view_as(p))


# %% ddp: the hook waits for the network
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing, self.next = [len(bucket) for bucket in self.buckets], 0

    def arrived(self, b):
        self.missing[b] -= 1
        while self.next < len(self.buckets) and not self.missing[self.next]:
            self.reduce()

    def reduce(self):
        members = [self.parameters[i] for i in self.buckets[self.next]]
        self.next += 1
        for p in members:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([p.grad.ravel() for p in members]).numpy()
        mean = torch.from_numpy(self.all_reduce(flat, self.comm) / self.comm.n)
        for p, part in zip(members, mean.split([p.numel() for p in members])):
            p.grad.copy_(part.view_as(p))

    def wait(self):
        while self.next < len(self.buckets):
            self.reduce()
        self.begin()


# %% ddp: a bucket that lacks an unused parameter is never sent
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.pool = ThreadPoolExecutor(1)
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing, self.work = [len(bucket) for bucket in self.buckets], []

    def arrived(self, b):
        self.missing[b] -= 1
        while len(self.work) < len(self.buckets) and not self.missing[len(self.work)]:
            members = [self.parameters[i] for i in self.buckets[len(self.work)]]
            flat = torch.cat([p.grad.ravel() for p in members]).numpy()
            self.work.append(self.pool.submit(self.all_reduce, flat, self.comm))

    def wait(self):
        for bucket, future in zip(self.buckets, self.work):
            members = [self.parameters[i] for i in bucket]
            mean = torch.from_numpy(future.result() / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()
        self.begin()


# %% ddp: buckets in the order in which they are ready
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.pool = ThreadPoolExecutor(1)
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing, self.work = [len(bucket) for bucket in self.buckets], {}

    def arrived(self, b):
        self.missing[b] -= 1
        if not self.missing[b]:
            self.start(b)

    def start(self, b):
        members = [self.parameters[i] for i in self.buckets[b]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([g.ravel() for g in grads]).numpy()
        self.work[b] = self.pool.submit(self.all_reduce, flat, self.comm)

    def wait(self):
        for b, bucket in enumerate(self.buckets):
            if b not in self.work:
                self.start(b)
        for b, bucket in enumerate(self.buckets):
            members = [self.parameters[i] for i in bucket]
            mean = torch.from_numpy(self.work[b].result() / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()
        self.begin()


# %% ddp: a thread for each bucket, and what fails in it is lost
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing = [len(bucket) for bucket in self.buckets]
        self.threads, self.sums = [], {}

    def arrived(self, b):
        self.missing[b] -= 1
        while len(self.threads) < len(self.buckets) and not self.missing[len(self.threads)]:
            self.start(len(self.threads))

    def start(self, b):
        members = [self.parameters[i] for i in self.buckets[b]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([g.ravel() for g in grads]).numpy()
        self.threads.append(threading.Thread(target=self.run, args=(b, flat)))
        self.threads[-1].start()

    def run(self, b, flat):
        self.sums[b] = self.all_reduce(flat, self.comm)

    def wait(self):
        while len(self.threads) < len(self.buckets):
            self.start(len(self.threads))
        for thread in self.threads:
            thread.join()
        for b, total in self.sums.items():
            members = [self.parameters[i] for i in self.buckets[b]]
            mean = torch.from_numpy(total / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()
        self.begin()


# %% ddp: a tied weight is counted in both places
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [
            p for _, p in model.named_parameters(remove_duplicate=False) if p.requires_grad
        ]
        self.pool = ThreadPoolExecutor(1)
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing, self.work = [len(bucket) for bucket in self.buckets], []

    def arrived(self, b):
        self.missing[b] -= 1
        while len(self.work) < len(self.buckets) and not self.missing[len(self.work)]:
            self.start()

    def start(self):
        members = [self.parameters[i] for i in self.buckets[len(self.work)]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([g.ravel() for g in grads]).numpy()
        self.work.append(self.pool.submit(self.all_reduce, flat, self.comm))

    def wait(self):
        while len(self.work) < len(self.buckets):
            self.start()
        for bucket, future in zip(self.buckets, self.work):
            members = [self.parameters[i] for i in bucket]
            mean = torch.from_numpy(future.result() / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()
        self.begin()


# %% ddp: sums instead of means
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.pool = ThreadPoolExecutor(1)
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing, self.work = [len(bucket) for bucket in self.buckets], []

    def arrived(self, b):
        self.missing[b] -= 1
        while len(self.work) < len(self.buckets) and not self.missing[len(self.work)]:
            self.start()

    def start(self):
        members = [self.parameters[i] for i in self.buckets[len(self.work)]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([g.ravel() for g in grads]).numpy()
        self.work.append(self.pool.submit(self.all_reduce, flat, self.comm))

    def wait(self):
        while len(self.work) < len(self.buckets):
            self.start()
        for bucket, future in zip(self.buckets, self.work):
            members = [self.parameters[i] for i in bucket]
            total = torch.from_numpy(future.result())
            for p, part in zip(members, total.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()
        self.begin()


# %% ddp: nobody hears of rank 0's buffers and frozen layers
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for p in self.parameters:
            p.data.copy_(torch.from_numpy(broadcast(p.detach().numpy().ravel(), comm)).view_as(p))
        self.pool = ThreadPoolExecutor(1)
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )
        self.begin()

    def begin(self):
        self.missing, self.work = [len(bucket) for bucket in self.buckets], []

    def arrived(self, b):
        self.missing[b] -= 1
        while len(self.work) < len(self.buckets) and not self.missing[len(self.work)]:
            self.start()

    def start(self):
        members = [self.parameters[i] for i in self.buckets[len(self.work)]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([g.ravel() for g in grads]).numpy()
        self.work.append(self.pool.submit(self.all_reduce, flat, self.comm))

    def wait(self):
        while len(self.work) < len(self.buckets):
            self.start()
        for bucket, future in zip(self.buckets, self.work):
            members = [self.parameters[i] for i in bucket]
            mean = torch.from_numpy(future.result() / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()
        self.begin()


# %% ddp: works for one iteration
class DDP:
    def __init__(self, model, comm, buckets, all_reduce):
        self.comm, self.buckets, self.all_reduce = comm, buckets, all_reduce
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.copy_(
                torch.from_numpy(broadcast(tensor.detach().numpy().ravel(), comm)).view_as(tensor)
            )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.pool = ThreadPoolExecutor(1)
        self.missing, self.work = [len(bucket) for bucket in self.buckets], []
        for b, bucket in enumerate(buckets):
            for i in bucket:
                self.parameters[i].register_post_accumulate_grad_hook(
                    lambda p, b=b: self.arrived(b)
                )

    def arrived(self, b):
        self.missing[b] -= 1
        while len(self.work) < len(self.buckets) and not self.missing[len(self.work)]:
            self.start()

    def start(self):
        members = [self.parameters[i] for i in self.buckets[len(self.work)]]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        flat = torch.cat([g.ravel() for g in grads]).numpy()
        self.work.append(self.pool.submit(self.all_reduce, flat, self.comm))

    def wait(self):
        while len(self.work) < len(self.buckets):
            self.start()
        for bucket, future in zip(self.buckets, self.work):
            members = [self.parameters[i] for i in bucket]
            mean = torch.from_numpy(future.result() / self.comm.n)
            for p, part in zip(members, mean.split([p.numel() for p in members])):
                p.grad = part.view_as(p).clone()


# %% compress: what is left out is lost
class TopK:
    def __init__(self, k):
        self.k = k

    def compress(self, g):
        g = np.asarray(g)
        indices = np.argsort(-np.abs(g))[: self.k]
        return indices, g[indices]


def expand(parts, length):
    total = np.zeros(length)
    for indices, values in parts:
        np.add.at(total, indices, values)
    return total


# %% compress: the largest, not the largest in absolute value
class TopK:
    def __init__(self, k):
        self.k, self.left = k, 0.0

    def compress(self, g):
        total = np.asarray(g) + self.left
        indices = np.argsort(total)[::-1][: self.k]
        values = total[indices]
        total[indices] = 0
        self.left = total
        return indices, values


def expand(parts, length):
    total = np.zeros(length)
    for indices, values in parts:
        np.add.at(total, indices, values)
    return total


# %% compress: keeps what it has sent, too
class TopK:
    def __init__(self, k):
        self.k, self.left = k, 0.0

    def compress(self, g):
        total = np.asarray(g) + self.left
        indices = np.argsort(-np.abs(total))[: self.k]
        self.left = total
        return indices, total[indices]


def expand(parts, length):
    total = np.zeros(length)
    for indices, values in parts:
        np.add.at(total, indices, values)
    return total


# %% compress: indices that ranks share are added once
class TopK:
    def __init__(self, k):
        self.k, self.left = k, 0.0

    def compress(self, g):
        total = np.asarray(g) + self.left
        indices = np.argsort(-np.abs(total))[: self.k]
        values = total[indices]
        total[indices] = 0
        self.left = total
        return indices, values


def expand(parts, length):
    total = np.zeros(length)
    for indices, values in parts:
        total[np.asarray(indices, int)] = values
    return total
