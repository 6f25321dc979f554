# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% load: in other words
import random as dice


def arrivals(rate, n, seed):
    source, at, times = dice.Random(seed), 0.0, []
    for _ in range(n):
        at += source.expovariate(rate)
        times.append(at)
    return np.array(times)


def load_test(client, intended, clock):
    zero = clock.now()

    def send_all():
        for number in range(len(intended)):
            while clock.now() < zero + intended[number]:
                clock.sleep(zero + intended[number] - clock.now())
            client.send(number)

    sender = threading.Thread(target=send_all)
    sender.start()
    sender.join()
    latencies = np.full(len(intended), np.inf)
    for number, at in client.wait().items():
        latencies[number] = at - zero - intended[number]
    return latencies


def report(latencies, slo, seconds):
    p50, p99 = np.percentile(latencies, [50, 99], method="inverted_cdf")
    return {
        "p50": float(p50),
        "p99": float(p99),
        "goodput": sum(1 for latency in latencies if latency <= slo) / seconds,
    }


# %% batcher: in other words
import queue


class DynamicBatcher:
    STOP = object()

    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.inbox, self.open, self.gate = queue.Queue(), True, threading.Lock()
        self.worker = threading.Thread(target=self.work, daemon=True)
        self.worker.start()

    def submit(self, item):
        future = Future()
        with self.gate:
            if not self.open:
                raise RuntimeError("no more, please")
            self.inbox.put((item, future, time.monotonic()))
        return future

    def close(self):
        with self.gate:
            if self.open:
                self.open = False
                self.inbox.put(self.STOP)
        self.worker.join()

    def work(self):
        stopped = False
        while not stopped:
            first = self.inbox.get()
            if first is self.STOP:
                return
            batch, due = [first], first[2] + self.max_wait
            while len(batch) < self.max_batch:
                try:
                    left = due - time.monotonic()
                    entry = self.inbox.get(timeout=left) if left > 0 else self.inbox.get_nowait()
                except queue.Empty:
                    break
                if entry is self.STOP:
                    stopped = True
                    break
                batch.append(entry)
            self.answer(batch)

    def answer(self, batch):
        error, results = None, []
        try:
            results = list(self.fn([item for item, _, _ in batch]))
        except Exception as raised:
            error = raised
        if error is None and len(results) != len(batch):
            error = ValueError("the model returned another number of results")
        for place, (_, future, _) in enumerate(batch):
            if error is None:
                future.set_result(results[place])
            else:
                future.set_exception(error)


# %% simulate: in other words
def simulate(arrivals, max_batch, max_wait, alpha, beta):
    pending = deque(enumerate(float(t) for t in arrivals))
    waiting, now, free = deque(), 0.0, -math.inf
    finish, batches = np.zeros(len(arrivals)), []
    while pending or waiting:
        due = waiting[0][1] + max_wait if waiting else math.inf
        ready = waiting and now >= free and (len(waiting) >= max_batch or now >= due)
        if ready and not (pending and pending[0][1] <= now):
            batch = [waiting.popleft() for _ in range(min(max_batch, len(waiting)))]
            free = now + alpha + beta * len(batch)
            batches.append((now, len(batch)))
            for number, _ in batch:
                finish[number] = free
            continue
        events = [pending[0][1]] if pending else []
        if waiting:
            fires = now if len(waiting) >= max_batch else due
            events.append(max(free, fires))
        now = min(events)
        while pending and pending[0][1] <= now:
            waiting.append(pending.popleft())
    return finish, batches


# %% sizing: in other words
def fit_latency(sizes, seconds):
    groups = {}
    for size, second in zip(sizes, seconds):
        groups.setdefault(size, []).append(second)
    b = np.array(sorted(groups), float)
    t = np.array([sorted(groups[size])[len(groups[size]) // 2] for size in sorted(groups)])
    beta = float(np.sum((b - b.mean()) * (t - t.mean())) / np.sum((b - b.mean()) ** 2))
    alpha = float(t.mean() - beta * b.mean())
    if beta < 0:
        return float(t.mean()), 0.0
    if alpha < 0:
        return 0.0, float(np.sum(b * t) / np.sum(b * b))
    return alpha, beta


def batch_range(alpha, beta, rate, slo, largest):
    high = largest
    while high > 0 and 2 * (alpha + beta * high) > slo:
        high -= 1
    low = 1
    while low <= high and low / (alpha + beta * low) <= rate:
        low += 1
    return (low, high) if low <= high else None


def servers(alpha, beta, rate, slo, busy, largest):
    high = largest
    while high > 0 and 2 * (alpha + beta * high) > slo:
        high -= 1
    if high == 0:
        raise ValueError("the objective is out of reach")
    each = high / (alpha + beta * high)
    count = 1
    while rate / count > busy * each:
        count += 1
    return count


# %% queues: in other words
def md1(rate, service):
    if rate * service >= 1:
        return math.inf
    mu = 1 / service
    return 1 / mu + rate / (2 * mu * (mu - rate))


def mmc(rate, service, servers):
    a = rate * service
    if a >= servers:
        return math.inf
    inverse = 1.0
    for k in range(1, servers + 1):
        inverse = 1 + inverse * k / a
    blocked = 1 / inverse
    waits = servers * blocked / (servers - a * (1 - blocked))
    return service * (1 + waits / (servers - a))


def batch_queue(rate, alpha, beta, max_batch):
    if rate * (alpha + beta * max_batch) >= max_batch:
        return math.inf, float(max_batch)
    slack = 1 - rate * (alpha + beta * max_batch) / max_batch
    size = 80 + 8 * max_batch + int(30 / slack)
    rows, stay, area, batches = [], [], [], []
    for q in range(size):
        n = q or 1
        b = min(n, max_batch)
        t = alpha + beta * b
        probability, row = math.exp(-rate * t), [0.0] * size
        for k in range(size):
            row[min(n - b + k, size - 1)] += probability
            probability *= rate * t / (k + 1)
        rows.append(row)
        stay.append(t + (0 if q else 1 / rate))
        area.append(n * t + rate * t * t / 2)
        batches.append(b)
    step = np.array(rows)
    step /= step.sum(1, keepdims=True)
    for _ in range(14):
        step = step @ step
        step /= step.sum(1, keepdims=True)
    share = step[0]
    return float(share @ area / (share @ stay) / rate), float(share @ batches)


# %% adaptive: in other words
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.rule = (slo, largest, step, shrink)
        self._size = 1

    @property
    def size(self):
        return self._size

    def update(self, batch, seconds):
        slo, largest, step, shrink = self.rule
        if seconds <= slo and batch < self._size:
            return
        if seconds <= slo:
            self._size = sorted((1, self._size + step, largest))[1]
        elif self._size > 1:
            fallen = math.floor(self._size * shrink)
            self._size = max(1, fallen if fallen < self._size else self._size - 1)


# %% deadlines: in other words
def plan(deadlines, now, alpha, beta, max_batch):
    order = np.argsort(np.array(deadlines, float), kind="stable").tolist()
    n = len(order)

    @functools.lru_cache(None)
    def earliest(i, k):
        """The least time at which k of the first i are answered, and the last batch's size."""
        if k == 0:
            return now, 0
        if i < k:
            return math.inf, 0
        best = earliest(i - 1, k)[0], 0
        for b in range(1, min(max_batch, k) + 1):
            end = earliest(i - b, k - b)[0] + alpha + beta * b
            if end <= deadlines[order[i - b]] and end < best[0]:
                best = end, b
        return best

    k = max(k for k in range(n + 1) if earliest(n, k)[0] < math.inf)
    i, batches = n, []
    while k:
        b = earliest(i, k)[1]
        if b:
            batches.insert(0, order[i - b : i])
            k -= b
        i -= b or 1
    return batches


# %% batcher: timers and a pool
from concurrent.futures import ThreadPoolExecutor


class DynamicBatcher:
    """No thread that waits: whoever changes something asks whether a batch may start."""

    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.busy, self.closing = deque(), False, False
        self.idle, self.timer = threading.Condition(threading.RLock()), None
        self.pool = ThreadPoolExecutor(1)

    def submit(self, item):
        with self.idle:
            if self.closing:
                raise RuntimeError("closed")
            future = Future()
            self.waiting.append((item, future, time.monotonic() + self.max_wait))
            self.look()
        return future

    def look(self):
        with self.idle:
            if self.timer:
                self.timer.cancel()
                self.timer = None
            if self.busy:
                return
            if not self.waiting:
                self.idle.notify_all()
                return
            left = self.waiting[0][2] - time.monotonic()
            if len(self.waiting) >= self.max_batch or left <= 0 or self.closing:
                size = min(self.max_batch, len(self.waiting))
                self.busy = True
                self.pool.submit(self.work, [self.waiting.popleft() for _ in range(size)])
            else:
                self.timer = threading.Timer(left, self.look)
                self.timer.daemon = True
                self.timer.start()

    def work(self, batch):
        try:
            results = self.fn([entry[0] for entry in batch])
            if len(results) != len(batch):
                raise ValueError("results are missing")
            for entry, result in zip(batch, results):
                entry[1].set_result(result)
        except Exception as error:
            for entry in batch:
                entry[1].set_exception(error)
        with self.idle:
            self.busy = False
            self.look()

    def close(self):
        with self.idle:
            self.closing = True
            self.look()
            self.idle.wait_for(lambda: not self.waiting and not self.busy)
        self.pool.shutdown()
