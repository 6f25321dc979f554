# Correct answers in other styles: every one must keep all points.

# %% as_of: bisect
def as_of_join(asked, rows, ttl=None):
    """For each entity a list of moments at which its row in force changes, then bisect in it."""
    histories = {}
    for row in rows:
        histories.setdefault(row.entity, []).append((max(row.event, row.available), row))
    moments, states = {}, {}
    for entity, history in histories.items():
        history.sort(key=lambda pair: pair[0])
        moments[entity], states[entity] = [], []
        best = None
        for moment, row in history:
            if best is None or not (row.event, row.available) < (best.event, best.available):
                best = row
            moments[entity].append(moment)
            states[entity].append(best)
    answers = []
    for entity, time in asked:
        at = bisect.bisect_right(moments.get(entity, []), time)
        row = states[entity][at - 1] if at else None
        if row is not None and ttl is not None and row.event + ttl < time:
            row = None
        answers.append(row)
    return answers


# %% windows: arithmetic
from fractions import Fraction


def windows_of(time, size, slide, offset=0):
    first = math.floor(Fraction(time - size + offset, slide)) + 1
    last = math.floor(Fraction(time + offset, slide))
    return [number * slide - offset for number in range(first, last + 1)]


def merge(one, other):
    counts, totals, least, most = zip(one, other)
    return sum(counts), sum(totals), min(least), max(most)


def window_agg(events, size, slide, offset=0):
    values = {}
    for key, time, value in events:
        for start in windows_of(time, size, slide, offset):
            values.setdefault((key, start), []).append(value)
    return {window: (len(v), sum(v), min(v), max(v)) for window, v in values.items()}


# %% stream: buckets
class StreamingAgg:
    """Keeps a dictionary of keys for each start, and looks through the starts when it is time."""

    def __init__(self, size, lateness, starts, merge):
        self.size, self.starts, self.join = size, starts, merge
        self.lateness, self.late = lateness, Counter()
        self.newest, self.buckets = None, {}

    @property
    def watermark(self):
        return None if self.newest is None else self.newest - self.lateness

    def add(self, key, time, value):
        mark = self.watermark
        for start in self.starts(time):
            if mark is None or start + self.size > mark:
                bucket = self.buckets.setdefault(start, {})
                one = (1, value, value, value)
                bucket[key] = self.join(bucket[key], one) if key in bucket else one
            else:
                self.late[key] += 1
        return self.heartbeat(time)

    def heartbeat(self, time):
        self.newest = time if self.newest is None else max(time, self.newest)
        return self.let_go(self.watermark)

    def close(self):
        return self.let_go(None)

    def let_go(self, mark):
        out = []
        for start in sorted(self.buckets):
            if mark is not None and start + self.size > mark:
                break
            bucket = self.buckets.pop(start)
            out.extend(((key, start), bucket[key]) for key in sorted(bucket))
        return out


# %% online: copies
class OnlineStore:
    """Readers take the table as it is; a writer makes a new one and puts it in its place."""

    def __init__(self, ttl):
        self.ttl, self.table, self.writers = ttl, {}, threading.Lock()

    def put(self, rows):
        rows = list(rows)
        with self.writers:
            table = dict(self.table)
            taken = 0
            for row in rows:
                version = (row.event, row.available)
                if row.entity not in table or table[row.entity][0] < version:
                    table[row.entity] = (version, row.value)
                    taken += 1
            self.table = table
        return taken

    def get(self, entities, now):
        table = self.table
        values = []
        for entity in entities:
            version, value = table.get(entity, ((-math.inf, 0), None))
            values.append(value if now - version[0] <= self.ttl else None)
        return values


def materialize(rows, put, since, until, attempts=3):
    fresh = [row for row in rows if since < max(row.event, row.available) <= until]
    fresh.sort(key=lambda row: (row.event, row.available))
    send = list({row.entity: row for row in fresh}.values())

    def insist(batch, left):
        try:
            put(batch)
        except ConnectionError:
            if left == 1:
                raise
            insist(batch, left - 1)

    rest = send
    while rest:
        insist(rest[:BATCH], attempts)
        rest = rest[BATCH:]
    return len(send)


# %% skew: rules
def skew_report(logged, recomputed, periods=None):
    def number(value):
        return type(value) in (int, float)

    def differ(a, b):
        if number(a) and number(b):
            return not math.isclose(a, b, rel_tol=1e-6)
        return a != b

    def common(values, total):
        """The value that nearly all have, up to 0.1 %."""
        middle = sorted(values)[len(values) // 2] if values else math.nan
        near = [value for value in values if math.isclose(value, middle, rel_tol=1e-3)]
        return middle if len(near) >= 0.99 * total else None

    def nearest(x, period):
        return x - period * math.floor(x / period + 0.5) if period else x

    def default(pairs, period):
        value, times = Counter(a for a, _ in pairs).most_common()[0]
        if times >= 0.99 * len(pairs) and len(set(b for _, b in pairs)) >= 2:
            return ("default", value)

    def shift(pairs, period):
        found = [nearest(a - b, period) for a, b in pairs if number(a) and number(b)]
        value = common(found, len(pairs))
        return None if value is None else ("shift", value)

    def scale(pairs, period):
        found = [a / b for a, b in pairs if number(a) and number(b) and b != 0]
        value = common(found, len(pairs))
        return None if value is None else ("scale", value)

    def mapping(pairs, period):
        partners = {}
        for a, b in pairs:
            if type(a) is str and type(b) is str:
                partners.setdefault(b, Counter())[a] += 1
        best = {b: counter.most_common(1)[0] for b, counter in partners.items()}
        if sum(times for _, times in best.values()) >= 0.99 * len(pairs):
            return ("mapping", {b: a for b, (a, _) in best.items()})

    report = {}
    for name in logged:
        rows = list(zip(logged[name], recomputed[name]))
        pairs = [row for row in rows if differ(*row)]
        if len(pairs) / len(rows) > 0.005:
            period = periods.get(name) if periods else None
            answers = (rule(pairs, period) for rule in (default, shift, scale, mapping))
            kind, by = next((answer for answer in answers if answer), ("other", None))
            report[name] = (kind, len(pairs) / len(rows), by)
    return report


# %% schema: checks
CHECKS = {
    "domain": lambda present, want: want is None or all(value in want for value in present),
    "range": lambda present, want: want is None or all(want[0] <= v <= want[1] for v in present),
    "unique": lambda present, want: not want or len(present) == len(set(present)),
}


def column_of(values):
    there = [value for value in values if value is not None]
    names = {type(value).__name__ for value in there}
    if names in ({"str"}, {"int"}):
        (kind,) = names
    else:
        kind = "mixed" if "str" in names else "float"
    entry = {"type": kind, "presence": len(there) / len(values), "domain": None, "range": None}
    if kind == "str" and len(set(there)) <= 20 and len(set(there)) < len(there):
        entry["domain"] = sorted(set(there))
    if kind in ("int", "float"):
        width = max(there) - min(there)
        entry["range"] = [min(there) - 0.1 * width, max(there) + 0.1 * width]
    entry["unique"] = kind in ("int", "str") and len(there) == len(set(there))
    return entry


def infer_schema(batch):
    return dict(zip(batch, map(column_of, batch.values())))


def validate(batch, schema):
    found = set()
    for name in {*batch, *schema}:
        if name not in batch or name not in schema:
            found.add((name, "new column" if name in batch else "missing column"))
            continue
        want, values = schema[name], batch[name]
        there = [value for value in values if value is not None]
        if want["presence"] - len(there) / len(values) > 0.05:
            found.add((name, "presence"))
        allowed = {"float": ("int", "float"), "mixed": ("int", "float", "str")}
        kinds = allowed.get(want["type"], (want["type"],))
        if {type(value).__name__ for value in there} - set(kinds):
            found.add((name, "type"))
        else:
            found.update((name, p) for p, check in CHECKS.items() if not check(there, want[p]))
    return sorted(found)


def approve(schema, batch, accepted):
    accepted = {tuple(pair) for pair in accepted}
    new = {}
    for name in {*batch, *schema}:
        problems = {problem for column, problem in accepted if column == name}
        if problems & {"new column", "type"}:
            new[name] = column_of(batch[name])
        elif name in schema and "missing column" not in problems:
            entry = dict(schema[name])
            there = [v for v in batch.get(name, []) if v is not None]
            if "presence" in problems:
                entry["presence"] = len(there) / len(batch[name])
            if "domain" in problems:
                entry["domain"] = sorted({*entry["domain"], *there})
            if "range" in problems:
                everything = [*entry["range"], *there]
                entry["range"] = [min(everything), max(everything)]
            if "unique" in problems:
                entry["unique"] = False
            new[name] = entry
    return new


# %% audit: ranks
def auc(scores, labels):
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    ranks, at = [0.0] * len(scores), 0
    while at < len(order):
        end = at
        while end < len(order) and scores[order[end]] == scores[order[at]]:
            end += 1
        for i in order[at:end]:
            ranks[i] = (at + end + 1) / 2
        at = end
    ones = sum(1 for label in labels if label)
    zeros = len(labels) - ones
    if ones == 0 or zeros == 0:
        raise ValueError("one class only")
    total = sum(rank for rank, label in zip(ranks, labels) if label)
    return (total - ones * (ones + 1) / 2) / (ones * zeros)


def leakage_audit(columns, known, decided, labels, limit=0.95):
    def best(scores, truth):
        return abs(auc(scores, truth) - 0.5) + 0.5 if len(set(truth)) == 2 else 0.5

    report = {}
    for name in columns:
        rows = [
            (value, label, moment > due)
            for value, moment, due, label in zip(columns[name], known[name], decided, labels)
            if value is not None
        ]
        future = sum(after for _, _, after in rows) / len(rows) if rows else 0.0
        strength = best([0 if value is None else 1 for value in columns[name]], labels)
        if rows:
            strength = max(strength, best([row[0] for row in rows], [row[1] for row in rows]))
        if future > 0:
            report[name] = ("future", strength, future)
        else:
            report[name] = ("target" if strength >= limit else "fine", strength, future)
    return report


# %% split: md5


def time_split(placed, known, cut, gap=0):
    placed, known = np.asarray(placed), np.asarray(known)
    train, test = np.flatnonzero(known <= cut), np.flatnonzero(placed >= cut + gap)
    return train.tolist(), test.tolist()


def in_test(name, share, salt=""):
    point = hashlib.md5(repr((name, salt)).encode()).hexdigest()
    return int(point[:8], 16) / 16**8 < share


# %% as_of: heaps
def as_of_join(asked, rows, ttl=None):
    """One line of time on which rows come into force and questions are asked."""
    line = [(max(row[1:3]), 0, place) for place, row in enumerate(rows)]
    line += [(pair[1], 1, place) for place, pair in enumerate(asked)]
    heapq.heapify(line)
    force, answers = {}, [None] * len(asked)
    while line:
        moment, question, place = heapq.heappop(line)
        if question:
            row = force.get(asked[place][0], [None])[-1]
            if row is not None and (ttl is None or moment - row.event <= ttl):
                answers[place] = row
        else:
            row = rows[place]
            stack = force.setdefault(row.entity, [])
            if not stack or (row.event, row.available) >= (stack[-1].event, stack[-1].available):
                stack.append(row)
    return answers


# %% stream: heaps
import functools


class StreamingAgg:
    """A heap of events by the start of their window; they are added up when it has ended."""

    def __init__(self, size, lateness, starts, merge):
        self.size, self.lateness, self.starts, self.merge = size, lateness, starts, merge
        self.mark, self.heap, self.late = -math.inf, [], {}

    @property
    def watermark(self):
        return None if self.mark == -math.inf else self.mark

    def add(self, key, time, value):
        for start in self.starts(time):
            if start + self.size <= self.mark:
                self.late[key] = 1 + self.late.get(key, 0)
            else:
                heapq.heappush(self.heap, (start, key, value))
        return self.heartbeat(time)

    def heartbeat(self, time):
        self.mark = max(self.mark, time - self.lateness)
        return self.pop(self.mark)

    def close(self):
        return self.pop(math.inf)

    def pop(self, mark):
        values = {}
        while self.heap and self.heap[0][0] + self.size <= mark:
            start, key, value = heapq.heappop(self.heap)
            values.setdefault((key, start), []).append((1, value, value, value))
        return [(window, functools.reduce(self.merge, v)) for window, v in values.items()]
