# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% framing: memoryview
import array


def encode(message):
    keys = np.asarray(message.keys).astype(np.uint64)
    values = np.asarray(message.values).astype(np.float32)
    frame = bytearray(b"PS\x01")
    frame += bytes([message.kind])
    frame += int(message.sender).to_bytes(4, "little", signed=True)
    frame += int(message.seq).to_bytes(8, "little", signed=True)
    frame += int(message.clock).to_bytes(8, "little", signed=True)
    width = values.shape[1] if values.ndim == 2 and len(keys) else 0
    frame += len(keys).to_bytes(4, "little") + width.to_bytes(4, "little")
    frame += array.array("Q", keys.tolist()).tobytes()
    frame += array.array("f", values.ravel(order="C").tolist()).tobytes()
    return bytes(frame)


def decode(buffer, start=0):
    view = memoryview(buffer)[start:]
    if len(view) < 32:
        return None
    if view[:3] != b"PS\x01":
        raise ValueError("this is not one of our frames")
    kind = view[3]
    if kind not in {1, 2, 3, 4}:
        raise ValueError(f"kind {kind}")
    number = int.from_bytes
    n, width = number(view[24:28], "little"), number(view[28:32], "little")
    if n * (8 + 4 * width) > MAX_PAYLOAD:
        raise ValueError("too large")
    end = 32 + n * (8 + 4 * width)
    if len(view) < end:
        return None
    message = Message(
        kind=kind,
        sender=number(view[4:8], "little", signed=True),
        seq=number(view[8:16], "little", signed=True),
        clock=number(view[16:24], "little", signed=True),
        keys=np.frombuffer(view[32 : 32 + 8 * n], np.uint64),
        values=np.frombuffer(view[32 + 8 * n : end], np.float32).reshape(n, width),
    )
    return message, start + end


# %% hash_ring: sha1 arrays
class HashRing:
    def __init__(self, nodes, vnodes=256):
        names = list(dict.fromkeys(nodes))
        if len(names) == 0:
            raise ValueError("at least one node, please")
        spots, whose = [], []
        for place, name in enumerate(names):
            for copy in range(vnodes):
                spots.append(stable_hash(name, copy))
                whose.append(place)
        order = np.argsort(np.array(spots, np.uint64))
        self.spots = np.array(spots, np.uint64)[order]
        self.whose = np.array(whose)[order]
        self.names = names

    def owner(self, key):
        return next(self.walk(key))

    def owners(self, key, count):
        if count > len(self.names):
            raise ValueError("not so many nodes")
        walk = self.walk(key)
        return [next(walk) for _ in range(count)]

    def walk(self, key):
        first = int(np.searchsorted(self.spots, np.uint64(stable_hash("key", int(key)))))
        met = set()
        for step in range(len(self.spots)):
            place = self.whose[(first + step) % len(self.spots)]
            if place not in met:
                met.add(place)
                yield self.names[place]


def stable_hash(*parts):
    return int(hashlib.sha1(repr(parts).encode()).hexdigest()[:16], 16)


# %% kv_store: one array
class KVStore:
    def __init__(self, width, rate, updater="sgd"):
        self.apply = {"sgd": self.sgd, "adagrad": self.adagrad}.get(updater)
        if self.apply is None:
            raise ValueError(f"updater {updater!r}?")
        self.rate, self.width = rate, width
        self.slots = {}
        self.table = np.empty((8, width), np.float32)
        self.total = np.zeros((8, width), np.float32)
        self.mutex = threading.RLock()

    def slot_of(self, key):
        slot = self.slots.get(key)
        if slot is None:
            slot = self.slots[key] = len(self.slots)
            if slot == len(self.table):
                self.table = np.concatenate([self.table, np.empty_like(self.table)])
                self.total = np.concatenate([self.total, np.zeros_like(self.total)])
            self.table[slot] = initial_row(key, self.width)
        return slot

    def push(self, keys, grads):
        with self.mutex:
            slots = np.array([self.slot_of(int(key)) for key in keys], int)
            summed = np.zeros_like(self.table)
            np.add.at(summed, slots, np.asarray(grads, np.float32))
            touched = np.unique(slots)
            self.apply(touched, summed[touched])

    def sgd(self, slots, grads):
        self.table[slots] -= np.float32(self.rate) * grads

    def adagrad(self, slots, grads):
        self.total[slots] += grads**2
        self.table[slots] -= np.float32(self.rate) * grads / (np.sqrt(self.total[slots]) + 1e-8)

    def pull(self, keys):
        with self.mutex:
            slots = np.array([self.slot_of(int(key)) for key in keys], int)
            return self.table[slots].copy()

    def __len__(self):
        return len(self.slots)


# %% gate: events
def may_proceed(clock, clocks, bound):
    if bound is None:
        return True
    return all(clock < other + bound + 1 for other in clocks)


class ClockGate:
    """A worker that must wait hangs up an event of its own; who changes a clock sets those due."""

    def __init__(self, workers, bound):
        self.bound = bound
        self.clock = [0] * workers
        self.active = [True] * workers
        self.mutex = threading.Lock()
        self.waiting = []

    def advance(self, worker):
        with self.mutex:
            self.clock[worker] += 1
            self.wake()

    def finish(self, worker):
        with self.mutex:
            self.active[worker] = False
            self.wake()

    def wake(self):
        for worker, event in self.waiting:
            if self.allowed(worker):
                event.set()

    def allowed(self, worker):
        others = [clock for clock, active in zip(self.clock, self.active) if active]
        return may_proceed(self.clock[worker], others, self.bound)

    def wait(self, worker, timeout=None):
        with self.mutex:
            if self.allowed(worker):
                return True
            entry = (worker, threading.Event())
            self.waiting.append(entry)
        try:
            return entry[1].wait(timeout)
        finally:
            with self.mutex:
                self.waiting.remove(entry)


# %% train: dictionaries
def train(rank, wires, place, batches):
    history = []
    clock = 0
    for keys, labels in batches:
        wanted = {}
        for key in keys.ravel().tolist():
            wanted.setdefault(place(key), {})[key] = 0.0
        for server, weights in wanted.items():
            asked = np.array(list(weights), np.uint64)
            wires[server].send(
                Message(PULL, rank, 2 * clock, clock, asked, np.zeros((len(asked), 0), np.float32))
            )
        known = {}
        for server, weights in wanted.items():
            reply = wires[server].receive()
            known.update(zip(weights, reply.values.ravel().tolist()))
        slopes = {}
        loss = 0.0
        for row, label in zip(keys.tolist(), labels.tolist()):
            z = sum(known[key] for key in row)
            p = 1 / (1 + np.exp(-z))
            loss -= label * np.log(p) + (1 - label) * np.log(1 - p)
            for key in row:
                slopes[key] = slopes.get(key, 0.0) + (p - label) / len(labels)
        history.append(loss / len(labels))
        for server, weights in wanted.items():
            grads = np.array([[slopes[key]] for key in weights], np.float32)
            sent = np.array(list(weights), np.uint64)
            wires[server].send(Message(PUSH, rank, 2 * clock + 1, clock, sent, grads))
        for wire in wires:
            wire.send(Message(CLOCK, rank, 2 * clock + 1, clock, NO_KEYS, NO_VALUES))
        clock += 1
    return history


# %% chain: recursion and sets
class Replica:
    def __init__(self, store, successors):
        self.store = store
        self.rest = tuple(successors)
        self.known = set()
        self.turn = threading.RLock()

    def push(self, message):
        with self.turn:
            name = (message.sender, message.seq)
            if name in self.known:
                return
            self.known.add(name)
            self.store.push(message.keys, message.values)
            self.forward(message)

    def forward(self, message):
        if not self.rest:
            return
        try:
            self.rest[0](message)
        except ConnectionError:
            self.rest = self.rest[1:]
            self.forward(message)


class ReliableClient:
    def __init__(self, sender, replicas):
        self.sender = sender
        self.chain = iter(list(replicas))
        self.current = next(self.chain, None)
        self.count = 0

    def push(self, keys, values):
        self.count += 1
        message = Message(PUSH, self.sender, self.count, 0, np.array(keys), np.array(values))
        while self.current is not None:
            try:
                self.current(message)
            except ConnectionError:
                self.current = next(self.chain, None)
            else:
                return self.count
        raise ConnectionResetError("the whole chain is gone")


# %% filters: sorted arrays
from collections import deque


class KeyCache:
    def __init__(self, capacity=64):
        self.order, self.lists, self.capacity = deque(), {}, capacity

    def remember(self, digest, keys):
        self.order.append(digest)
        self.lists[digest] = tuple(int(key) for key in keys)
        while len(self.order) > self.capacity:
            del self.lists[self.order.popleft()]

    def pack(self, keys):
        text = ",".join(str(int(key)) for key in keys)
        digest = hashlib.sha256(text.encode()).digest()[:8]
        if digest in self.lists:
            return digest, None
        self.remember(digest, keys)
        return digest, np.array(keys, np.uint64)

    def unpack(self, digest, keys):
        if keys is None:
            return np.array(self.lists[digest], np.uint64)
        self.remember(digest, keys)
        return np.array(keys, np.uint64)


class Significance:
    def __init__(self, width, threshold):
        self.threshold = threshold
        self.keys = np.empty(0, np.uint64)
        self.sums = np.empty((0, width), np.float64)

    def filter(self, keys, grads):
        every = np.concatenate([self.keys, np.asarray(keys, np.uint64)])
        rows = np.concatenate([self.sums, np.asarray(grads, np.float64)])
        self.keys, index = np.unique(every, return_inverse=True)
        self.sums = np.zeros((len(self.keys), rows.shape[1]))
        np.add.at(self.sums, index.reshape(-1), rows)
        return self.take(np.abs(self.sums).max(axis=1, initial=0) > self.threshold)

    def take(self, chosen):
        keys, sums = self.keys[chosen], self.sums[chosen]
        self.keys, self.sums = self.keys[~chosen], self.sums[~chosen]
        return keys, sums.astype(np.float32)

    def flush(self):
        return self.take(np.ones(len(self.keys), bool))


# %% traffic: by arrows
def traffic(n, k, size, mode):
    if mode == "ps":
        arrows = [(f"w{w}", f"s{s}", size / k) for w in range(n) for s in range(k)]
        arrows += [(b, a, amount) for a, b, amount in arrows]
    elif mode == "ring":
        arrows = [(f"w{w}", f"w{(w + 1) % n}", 2 * (n - 1) * size / n) for w in range(n)]
    elif mode == "colocated":
        arrows = [(f"w{a}", f"w{b}", 2 * size / n) for a in range(n) for b in range(n) if a != b]
    else:
        raise ValueError(mode)

    def port(machine):
        return sum(amount for a, b, amount in arrows if machine in (a, b))

    return port("w0"), port("s0"), sum(amount for _, _, amount in arrows)


# %% kv_store: striped locks
class KVStore:
    """A lock for each key instead of one for all."""

    def __init__(self, width, rate, updater="sgd"):
        if updater not in {"sgd", "adagrad"}:
            raise ValueError("updater must be sgd or adagrad")
        self.width, self.rate, self.adagrad = width, rate, updater == "adagrad"
        self.rows, self.making = {}, threading.Lock()

    def entry(self, key):
        found = self.rows.get(key)
        if found is None:
            with self.making:
                if key not in self.rows:
                    zero = np.zeros(self.width, np.float32)
                    self.rows[key] = [threading.Lock(), initial_row(key, self.width), zero]
                found = self.rows[key]
        return found

    def push(self, keys, grads):
        sums = {}
        for key, grad in zip(keys, np.asarray(grads, np.float32)):
            sums[int(key)] = sums.get(int(key), 0) + grad
        for key, grad in sums.items():
            entry = self.entry(key)
            with entry[0]:
                if self.adagrad:
                    entry[2] = entry[2] + grad**2
                    grad = grad / (np.sqrt(entry[2]) + 1e-8)
                entry[1] = (entry[1] - self.rate * grad).astype(np.float32)

    def pull(self, keys):
        out = np.empty((len(keys), self.width), np.float32)
        for place, key in enumerate(keys):
            out[place] = self.entry(int(key))[1]
        return out

    def __len__(self):
        return len(self.rows)


# %% gate: striped locks
def may_proceed(clock, clocks, bound):
    return True if bound is None or len(clocks) == 0 else clock - min(clocks) <= bound


class ClockGate:
    """Polls with a short sleep on a lock-protected copy: slow, and correct."""

    def __init__(self, workers, bound):
        self.bound, self.clocks, self.lock = (
            bound,
            dict.fromkeys(range(workers), 0),
            threading.Lock(),
        )
        self.last = {}

    def advance(self, worker):
        with self.lock:
            if worker in self.clocks:
                self.clocks[worker] += 1
            else:
                self.last[worker] += 1

    def finish(self, worker):
        with self.lock:
            if worker in self.clocks:
                self.last[worker] = self.clocks.pop(worker)

    def wait(self, worker, timeout=None):
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self.lock:
                own = self.clocks[worker] if worker in self.clocks else self.last[worker]
                if may_proceed(own, list(self.clocks.values()), self.bound):
                    return True
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.0005)
