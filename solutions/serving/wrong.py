# Answers that people really give and that must lose their task's points.

# %% load: waits for each answer (a closed loop)
def arrivals(rate, n, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def load_test(client, intended, clock):
    start = clock.now()
    latencies = []
    for number, due in enumerate(intended):
        clock.sleep(max(0.0, start + due - clock.now()))
        began = clock.now()
        client.send(number)
        answered = client.wait()
        latencies.append(answered.get(number, math.inf) - began)
    return np.array(latencies)


def report(latencies, slo, seconds):
    ordered = np.sort(latencies)
    p50, p99 = (float(ordered[math.ceil(q * len(ordered)) - 1]) for q in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "goodput": float(np.sum(ordered <= slo)) / seconds}


# %% load: counts from the moment of sending
def arrivals(rate, n, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def load_test(client, intended, clock):
    start, sent = clock.now(), []
    for number, due in enumerate(intended):
        clock.sleep(max(0.0, start + due - clock.now()))
        sent.append(clock.now())
        client.send(number)
    answered = client.wait()
    return np.array([answered.get(i, math.inf) - at for i, at in enumerate(sent)])


def report(latencies, slo, seconds):
    ordered = np.sort(latencies)
    p50, p99 = (float(ordered[math.ceil(q * len(ordered)) - 1]) for q in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "goodput": float(np.sum(ordered <= slo)) / seconds}


# %% load: sleeps the gaps, so that every delay adds up
def arrivals(rate, n, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def load_test(client, intended, clock):
    start = clock.now()
    for number, gap in enumerate(np.diff(intended, prepend=0.0)):
        clock.sleep(gap)
        client.send(number)
    answered = client.wait()
    return np.array([answered.get(i, math.inf) - start - due for i, due in enumerate(intended)])


def report(latencies, slo, seconds):
    ordered = np.sort(latencies)
    p50, p99 = (float(ordered[math.ceil(q * len(ordered)) - 1]) for q in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "goodput": float(np.sum(ordered <= slo)) / seconds}


# %% load: equal gaps
def arrivals(rate, n, seed):
    return (np.arange(n) + np.random.default_rng(seed).random()) / rate


def load_test(client, intended, clock):
    due = clock.now() + np.asarray(intended)
    for number, at in enumerate(due):
        clock.sleep(max(0.0, at - clock.now()))
        client.send(number)
    answered = client.wait()
    return np.array([answered.get(i, math.inf) - at for i, at in enumerate(due)])


def report(latencies, slo, seconds):
    ordered = np.sort(latencies)
    p50, p99 = (float(ordered[math.ceil(q * len(ordered)) - 1]) for q in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "goodput": float(np.sum(ordered <= slo)) / seconds}


# %% load: leaves unanswered requests out
def arrivals(rate, n, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def load_test(client, intended, clock):
    due = clock.now() + np.asarray(intended)
    for number, at in enumerate(due):
        clock.sleep(max(0.0, at - clock.now()))
        client.send(number)
    answered = client.wait()
    return np.array([answered.get(i, math.inf) - at for i, at in enumerate(due)])


def report(latencies, slo, seconds):
    ordered = np.sort([latency for latency in latencies if latency < math.inf])
    p50, p99 = (float(ordered[math.ceil(q * len(ordered)) - 1]) for q in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "goodput": float(np.sum(ordered <= slo)) / seconds}


# %% batcher: each newcomer restarts the timer
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.closed, self.changed = [], False, threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, item):
        future = Future()
        with self.changed:
            if self.closed:
                raise RuntimeError("closed")
            self.waiting.append((item, future))
            self.last = time.monotonic()
            self.changed.notify_all()
        return future

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if not self.waiting:
                    return
                while len(self.waiting) < self.max_batch and not self.closed:
                    left = self.last + self.max_wait - time.monotonic()
                    if left <= 0:
                        break
                    self.changed.wait(left)
                batch = self.waiting[: self.max_batch]
                del self.waiting[: self.max_batch]
            try:
                results = self.fn([item for item, _ in batch])
                if len(results) != len(batch):
                    raise ValueError("not one result for each")
                for (_, future), result in zip(batch, results):
                    future.set_result(result)
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)


# %% batcher: one request at a time for ever
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        from concurrent.futures import ThreadPoolExecutor

        self.fn, self.pool = fn, ThreadPoolExecutor(1)

    def submit(self, item):
        def one():
            results = self.fn([item])
            if len(results) != 1:
                raise ValueError("not one result")
            return results[0]

        return self.pool.submit(one)

    def close(self):
        self.pool.shutdown()


# %% batcher: an exception of the model ends the thread
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.closed, self.changed = [], False, threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, item):
        future = Future()
        with self.changed:
            if self.closed:
                raise RuntimeError("closed")
            self.waiting.append((time.monotonic(), item, future))
            self.changed.notify_all()
        return future

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if not self.waiting:
                    return
                left = self.waiting[0][0] + self.max_wait - time.monotonic()
                self.changed.wait_for(
                    lambda: len(self.waiting) >= self.max_batch or self.closed, max(0, left)
                )
                batch = self.waiting[: self.max_batch]
                del self.waiting[: self.max_batch]
            try:
                results = self.fn([item for _, item, _ in batch])
            except Exception as error:
                for _, _, future in batch:
                    future.set_exception(error)
                return
            for (_, _, future), result in zip(batch, results):
                future.set_result(result)


# %% batcher: looks at the queue only when max_wait is over
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        import queue

        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.queue, self.closed, self.stop = queue.Queue(), False, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, item):
        if self.closed:
            raise RuntimeError("closed")
        future = Future()
        self.queue.put((item, future))
        return future

    def close(self):
        self.closed = True
        self.stop.set()
        self.thread.join()

    def run(self):
        while not (self.stop.is_set() and self.queue.empty()):
            self.stop.wait(self.max_wait)
            while not self.queue.empty():
                batch = []
                while len(batch) < self.max_batch and not self.queue.empty():
                    batch.append(self.queue.get())
                try:
                    results = self.fn([item for item, _ in batch])
                    if len(results) != len(batch):
                        raise ValueError("not one result for each")
                    for (_, future), result in zip(batch, results):
                        future.set_result(result)
                except Exception as error:
                    for _, future in batch:
                        future.set_exception(error)


# %% batcher: takes all that wait, however many
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.closed, self.changed = [], False, threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, item):
        future = Future()
        with self.changed:
            if self.closed:
                raise RuntimeError("closed")
            self.waiting.append((time.monotonic(), item, future))
            self.changed.notify_all()
        return future

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if not self.waiting:
                    return
                left = self.waiting[0][0] + self.max_wait - time.monotonic()
                self.changed.wait_for(
                    lambda: len(self.waiting) >= self.max_batch or self.closed, max(0, left)
                )
                batch, self.waiting = self.waiting, []
            try:
                results = self.fn([item for _, item, _ in batch])
                if len(results) != len(batch):
                    raise ValueError("not one result for each")
                for (_, _, future), result in zip(batch, results):
                    future.set_result(result)
            except Exception as error:
                for _, _, future in batch:
                    future.set_exception(error)


# %% batcher: close forgets those who wait
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.closed, self.changed = [], False, threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, item):
        future = Future()
        with self.changed:
            if self.closed:
                raise RuntimeError("closed")
            self.waiting.append((time.monotonic(), item, future))
            self.changed.notify_all()
        return future

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if self.closed:
                    return
                left = self.waiting[0][0] + self.max_wait - time.monotonic()
                self.changed.wait_for(
                    lambda: len(self.waiting) >= self.max_batch or self.closed, max(0, left)
                )
                if self.closed:
                    return
                batch = self.waiting[: self.max_batch]
                del self.waiting[: self.max_batch]
            try:
                results = self.fn([item for _, item, _ in batch])
                if len(results) != len(batch):
                    raise ValueError("not one result for each")
                for (_, _, future), result in zip(batch, results):
                    future.set_result(result)
            except Exception as error:
                for _, _, future in batch:
                    future.set_exception(error)


# %% batcher: holds the lock while the model runs
class DynamicBatcher:
    def __init__(self, fn, max_batch, max_wait):
        self.fn, self.max_batch, self.max_wait = fn, max_batch, max_wait
        self.waiting, self.closed, self.changed = [], False, threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def submit(self, item):
        future = Future()
        with self.changed:
            if self.closed:
                raise RuntimeError("closed")
            self.waiting.append((time.monotonic(), item, future))
            self.changed.notify_all()
        return future

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if not self.waiting:
                    return
                left = self.waiting[0][0] + self.max_wait - time.monotonic()
                self.changed.wait_for(
                    lambda: len(self.waiting) >= self.max_batch or self.closed, max(0, left)
                )
                batch = self.waiting[: self.max_batch]
                del self.waiting[: self.max_batch]
                try:
                    results = self.fn([item for _, item, _ in batch])
                    if len(results) != len(batch):
                        raise ValueError("not one result for each")
                    for (_, _, future), result in zip(batch, results):
                        future.set_result(result)
                except Exception as error:
                    for _, _, future in batch:
                        future.set_exception(error)


# %% simulate: max_wait counts from the moment the model is free
def simulate(arrivals, max_batch, max_wait, alpha, beta):
    n, head, free, batches, finish = len(arrivals), 0, -math.inf, [], []
    while head < n:
        ready = max(free, arrivals[head])
        full = arrivals[head + max_batch - 1] if head + max_batch <= n else math.inf
        start = max(ready, min(full, ready + max_wait))
        size = int(np.sum(np.asarray(arrivals[head : head + max_batch]) <= start))
        free = start + alpha + beta * size
        batches.append((start, size))
        finish += [free] * size
        head += size
    return np.array(finish), batches


# %% simulate: each newcomer restarts the timer
def simulate(arrivals, max_batch, max_wait, alpha, beta):
    n, head, free, batches, finish = len(arrivals), 0, -math.inf, [], []
    while head < n:
        last = head
        while (
            last + 1 < n
            and last + 1 < head + max_batch
            and arrivals[last + 1] <= arrivals[last] + max_wait
        ):
            last += 1
        full = last + 1 - head == max_batch
        start = max(free, arrivals[last] + (0 if full else max_wait))
        size = int(np.sum(np.asarray(arrivals[head : head + max_batch]) <= start))
        free = start + alpha + beta * size
        batches.append((start, size))
        finish += [free] * size
        head += size
    return np.array(finish), batches


# %% simulate: forgets that the model is busy
def simulate(arrivals, max_batch, max_wait, alpha, beta):
    n, head, batches, finish = len(arrivals), 0, [], []
    while head < n:
        full = arrivals[head + max_batch - 1] if head + max_batch <= n else math.inf
        start = min(full, arrivals[head] + max_wait)
        size = int(np.sum(np.asarray(arrivals[head : head + max_batch]) <= start))
        batches.append((start, size))
        finish += [start + alpha + beta * size] * size
        head += size
    return np.array(finish), batches


# %% simulate: the last requests do not wait for company
def simulate(arrivals, max_batch, max_wait, alpha, beta):
    n, head, free, batches, finish = len(arrivals), 0, -math.inf, [], []
    while head < n:
        full = arrivals[min(head + max_batch, n) - 1]
        start = max(free, min(full, arrivals[head] + max_wait))
        size = int(np.sum(np.asarray(arrivals[head : head + max_batch]) <= start))
        free = start + alpha + beta * size
        batches.append((start, size))
        finish += [free] * size
        head += size
    return np.array(finish), batches


# %% sizing: one line through all measurements
def fit_latency(sizes, seconds):
    beta, alpha = np.polyfit(sizes, seconds, 1)
    return max(0.0, float(alpha)), max(0.0, float(beta))


def batch_range(alpha, beta, rate, slo, largest):
    good = [
        b
        for b in range(1, largest + 1)
        if rate * (alpha + beta * b) < b and alpha + beta * b <= slo / 2
    ]
    return (good[0], good[-1]) if good else None


def servers(alpha, beta, rate, slo, busy, largest):
    good = [b for b in range(1, largest + 1) if alpha + beta * b <= slo / 2]
    if not good:
        raise ValueError("impossible")
    b = good[-1]
    return max(1, math.ceil(rate / (busy * b / (alpha + beta * b))))


# %% sizing: a request waits for its own batch only
def fit_latency(sizes, seconds):
    b = sorted(set(sizes))
    t = [np.median([s for size, s in zip(sizes, seconds) if size == value]) for value in b]
    beta, alpha = np.polyfit(b, t, 1)
    if beta < 0:
        return float(np.mean(t)), 0.0
    if alpha < 0:
        return 0.0, float(np.dot(b, t) / np.dot(b, b))
    return float(alpha), float(beta)


def batch_range(alpha, beta, rate, slo, largest):
    good = [
        b
        for b in range(1, largest + 1)
        if rate * (alpha + beta * b) < b and alpha + beta * b <= slo
    ]
    return (good[0], good[-1]) if good else None


def servers(alpha, beta, rate, slo, busy, largest):
    good = [b for b in range(1, largest + 1) if alpha + beta * b <= slo]
    if not good:
        raise ValueError("impossible")
    b = good[-1]
    return max(1, math.ceil(rate / (busy * b / (alpha + beta * b))))


# %% sizing: servers at the throughput of single requests
def fit_latency(sizes, seconds):
    b = sorted(set(sizes))
    t = [np.median([s for size, s in zip(sizes, seconds) if size == value]) for value in b]
    beta, alpha = np.polyfit(b, t, 1)
    if beta < 0:
        return float(np.mean(t)), 0.0
    if alpha < 0:
        return 0.0, float(np.dot(b, t) / np.dot(b, b))
    return float(alpha), float(beta)


def batch_range(alpha, beta, rate, slo, largest):
    good = [
        b
        for b in range(1, largest + 1)
        if rate * (alpha + beta * b) < b and alpha + beta * b <= slo / 2
    ]
    return (good[0], good[-1]) if good else None


def servers(alpha, beta, rate, slo, busy, largest):
    if 2 * (alpha + beta) > slo:
        raise ValueError("impossible")
    return max(1, math.ceil(rate * (alpha + beta) / busy))


# %% sizing: a server that only just keeps up
def fit_latency(sizes, seconds):
    b = sorted(set(sizes))
    t = [np.median([s for size, s in zip(sizes, seconds) if size == value]) for value in b]
    beta, alpha = np.polyfit(b, t, 1)
    if beta < 0:
        return float(np.mean(t)), 0.0
    if alpha < 0:
        return 0.0, float(np.dot(b, t) / np.dot(b, b))
    return float(alpha), float(beta)


def batch_range(alpha, beta, rate, slo, largest):
    good = [
        b
        for b in range(1, largest + 1)
        if rate * (alpha + beta * b) <= b and alpha + beta * b <= slo / 2
    ]
    return (good[0], good[-1]) if good else None


def servers(alpha, beta, rate, slo, busy, largest):
    if 2 * (alpha + beta) > slo:
        raise ValueError("impossible")
    b = batch_range(alpha, beta, 0.0, slo, largest)[1]
    return max(1, math.ceil(rate * (alpha + beta * b) / b / busy))


# %% sizing: clips a negative price instead of fitting again
def fit_latency(sizes, seconds):
    b = sorted(set(sizes))
    t = [np.median([s for size, s in zip(sizes, seconds) if size == value]) for value in b]
    beta, alpha = np.polyfit(b, t, 1)
    return max(0.0, float(alpha)), max(0.0, float(beta))


def batch_range(alpha, beta, rate, slo, largest):
    good = [
        b
        for b in range(1, largest + 1)
        if rate * (alpha + beta * b) < b and alpha + beta * b <= slo / 2
    ]
    return (good[0], good[-1]) if good else None


def servers(alpha, beta, rate, slo, busy, largest):
    good = [b for b in range(1, largest + 1) if alpha + beta * b <= slo / 2]
    if not good:
        raise ValueError("impossible")
    b = good[-1]
    return max(1, math.ceil(rate / (busy * b / (alpha + beta * b))))


# %% queues: powers and factorials overflow
def md1(rate, service):
    load = rate * service
    return service + load * service / (2 * (1 - load)) if load < 1 else math.inf


def mmc(rate, service, servers):
    a = rate * service
    if a >= servers:
        return math.inf
    top = a**servers / math.factorial(servers) / (1 - a / servers)
    waits = top / (sum(a**k / math.factorial(k) for k in range(servers)) + top)
    return service + waits * service / (servers - a)


def batch_queue(rate, alpha, beta, max_batch):
    if rate * (alpha + beta * max_batch) >= max_batch:
        return math.inf, float(max_batch)
    times = np.cumsum(np.random.default_rng(0).exponential(1 / rate, 200_000))
    finish, at, sizes = [], 0.0, []
    while len(finish) < len(times):
        head = len(finish)
        at = max(at, times[head])
        size = min(int(np.searchsorted(times, at, "right")) - head, max_batch)
        at += alpha + beta * size
        finish += [at] * size
        sizes.append(size)
    return float(np.mean(finish - times)), float(np.mean(sizes))


# %% queues: the waiting of M/M/1 for constant service
def md1(rate, service):
    load = rate * service
    return service / (1 - load) if load < 1 else math.inf


def mmc(rate, service, servers):
    offered, blocked = rate * service, 1.0
    if offered >= servers:
        return math.inf
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    load = offered / servers
    return service + blocked / (1 - load * (1 - blocked)) * service / (servers - offered)


def batch_queue(rate, alpha, beta, max_batch):
    return md1(rate, alpha + beta), 1.0


# %% queues: c servers as one that is c times as fast
def md1(rate, service):
    load = rate * service
    return service + load * service / (2 * (1 - load)) if load < 1 else math.inf


def mmc(rate, service, servers):
    load = rate * service / servers
    return service / servers / (1 - load) if load < 1 else math.inf


def batch_queue(rate, alpha, beta, max_batch):
    if rate * (alpha + beta * max_batch) >= max_batch:
        return math.inf, float(max_batch)
    size = min(max(1.0, rate * alpha / (1 - rate * beta)), max_batch)
    return 1.5 * (alpha + beta * size), size


# %% queues: all batches as large as the mean batch
def md1(rate, service):
    load = rate * service
    return service + load * service / (2 * (1 - load)) if load < 1 else math.inf


def mmc(rate, service, servers):
    offered, blocked = rate * service, 1.0
    if offered >= servers:
        return math.inf
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    load = offered / servers
    return service + blocked / (1 - load * (1 - blocked)) * service / (servers - offered)


def batch_queue(rate, alpha, beta, max_batch):
    if rate * (alpha + beta * max_batch) >= max_batch:
        return math.inf, float(max_batch)
    if max_batch == 1:
        return md1(rate, alpha + beta), 1.0
    size = min(max(1.0, rate * alpha / (1 - rate * beta)), max_batch)
    return 1.5 * (alpha + beta * size), size


# %% adaptive: grows without evidence
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.slo, self.largest, self.step, self.shrink, self.size = slo, largest, step, shrink, 1

    def update(self, batch, seconds):
        if seconds > self.slo:
            self.size = max(1, min(int(self.size * self.shrink), self.size - 1))
        else:
            self.size = min(self.size + self.step, self.largest)


# %% adaptive: rounds, and so never gets smaller than 4
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.slo, self.largest, self.step, self.shrink, self.size = slo, largest, step, shrink, 1

    def update(self, batch, seconds):
        if seconds > self.slo:
            self.size = max(1, round(self.size * self.shrink))
        elif batch >= self.size:
            self.size = min(self.size + self.step, self.largest)


# %% adaptive: may fall to 0
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.slo, self.largest, self.step, self.shrink, self.size = slo, largest, step, shrink, 1

    def update(self, batch, seconds):
        if seconds > self.slo:
            self.size = int(self.size * self.shrink)
        elif batch >= self.size:
            self.size = min(self.size + self.step, self.largest)


# %% adaptive: a batch above the size is not full
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.slo, self.largest, self.step, self.shrink, self.size = slo, largest, step, shrink, 1

    def update(self, batch, seconds):
        if seconds > self.slo:
            self.size = max(1, min(int(self.size * self.shrink), self.size - 1))
        elif batch == self.size:
            self.size = min(self.size + self.step, self.largest)


# %% adaptive: doubles while all is well
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.slo, self.largest, self.step, self.shrink, self.size = slo, largest, step, shrink, 1

    def update(self, batch, seconds):
        if seconds > self.slo:
            self.size = max(1, min(int(self.size * self.shrink), self.size - 1))
        elif batch >= self.size:
            self.size = min(self.size * 2, self.largest)


# %% adaptive: one less when it was too slow
class AIMD:
    def __init__(self, slo, largest=64, step=1, shrink=0.9):
        self.slo, self.largest, self.step, self.shrink, self.size = slo, largest, step, shrink, 1

    def update(self, batch, seconds):
        if seconds > self.slo:
            self.size = max(1, self.size - self.step)
        elif batch >= self.size:
            self.size = min(self.size + self.step, self.largest)


# %% deadlines: first come, first served, whoever is late
def plan(deadlines, now, alpha, beta, max_batch):
    places = list(range(len(deadlines)))
    return [places[i : i + max_batch] for i in range(0, len(places), max_batch)]


# %% deadlines: earliest deadline first, without giving anybody up
def plan(deadlines, now, alpha, beta, max_batch):
    places = sorted(range(len(deadlines)), key=lambda place: deadlines[place])
    return [places[i : i + max_batch] for i in range(0, len(places), max_batch)]


# %% deadlines: always the largest batch that is still in time
def plan(deadlines, now, alpha, beta, max_batch):
    left = sorted(range(len(deadlines)), key=lambda place: deadlines[place])
    batches = []
    while left:
        for size in range(min(max_batch, len(left)), 0, -1):
            end = now + alpha + beta * size
            fit = [place for place in left if deadlines[place] >= end]
            if len(fit) >= size:
                batches.append(fit[:size])
                left = fit[size:]
                now = end
                break
        else:
            break
    return batches


# %% deadlines: the most urgent, as many as it can stand
def plan(deadlines, now, alpha, beta, max_batch):
    left = sorted(range(len(deadlines)), key=lambda place: deadlines[place])
    batches = []
    while left:
        if now + alpha + beta > deadlines[left[0]]:
            left.pop(0)
            continue
        size = 1
        while size < min(max_batch, len(left)):
            if now + alpha + beta * (size + 1) > deadlines[left[0]]:
                break
            size += 1
        batches.append(left[:size])
        left = left[size:]
        now += alpha + beta * size
    return batches


# %% deadlines: places in the sorted list
def plan(deadlines, now, alpha, beta, max_batch):
    order = sorted(deadlines)
    reached = [{} for _ in range(len(order) + 1)]
    reached[0][0] = (now, ())
    for i, first in enumerate(order):
        for k, (at, how) in reached[i].items():
            options = [(i + 1, k, at, how)]
            for b in range(1, min(max_batch, len(order) - i) + 1):
                end = at + alpha + beta * b
                if end <= first:
                    options.append((i + b, k + b, end, (*how, list(range(i, i + b)))))
            for j, count, end, plan_ in options:
                if count not in reached[j] or end < reached[j][count][0]:
                    reached[j][count] = (end, plan_)
    return list(reached[-1][max(reached[-1])][1])
