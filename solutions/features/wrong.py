# Answers that people really give and that must lose their task's points.

# %% as_of: joins by event time alone
def as_of_join(asked, rows, ttl=None):
    order = sorted(range(len(rows)), key=lambda i: rows[i].event)
    latest, found, at = {}, [None] * len(asked), 0
    for i in sorted(range(len(asked)), key=lambda i: asked[i][1]):
        entity, time = asked[i]
        while at < len(order) and rows[order[at]].event <= time:
            latest[rows[order[at]].entity] = rows[order[at]]
            at += 1
        best = latest.get(entity)
        if best is not None and (ttl is None or time - best.event <= ttl):
            found[i] = best
    return found


# %% as_of: the row that came in last
def as_of_join(asked, rows, ttl=None):
    order = sorted(range(len(rows)), key=lambda i: max(rows[i].event, rows[i].available))
    latest, found, at = {}, [None] * len(asked), 0
    for i in sorted(range(len(asked)), key=lambda i: asked[i][1]):
        entity, time = asked[i]
        while at < len(order) and max(rows[order[at]][1:3]) <= time:
            latest[rows[order[at]].entity] = rows[order[at]]
            at += 1
        best = latest.get(entity)
        if best is not None and (ttl is None or time - best.event <= ttl):
            found[i] = best
    return found


# %% as_of: each pair with each row
def as_of_join(asked, rows, ttl=None):
    mine = {}
    for place, row in enumerate(rows):
        mine.setdefault(row.entity, []).append((row.event, row.available, place))
    found = []
    for entity, time in asked:
        best = None
        for event, available, place in mine.get(entity, ()):
            if event <= time and available <= time:
                if best is None or (event, available, place) > best:
                    best = (event, available, place)
        if best is not None and ttl is not None and time - best[0] > ttl:
            best = None
        found.append(best and rows[best[2]])
    return found


# %% as_of: walks back until a row was available
def as_of_join(asked, rows, ttl=None):
    mine = {}
    for place, row in enumerate(rows):
        mine.setdefault(row.entity, []).append((row.event, row.available, place))
    for entries in mine.values():
        entries.sort()
    found = []
    for entity, time in asked:
        entries, answer = mine.get(entity, []), None
        at = bisect.bisect_right(entries, time, key=lambda entry: entry[0])
        while at and answer is None:
            at -= 1
            if entries[at][1] <= time:
                answer = rows[entries[at][2]]
        if answer is not None and ttl is not None and time - answer.event > ttl:
            answer = None
        found.append(answer)
    return found


# %% as_of: forgets the ttl
def as_of_join(asked, rows, ttl=None):
    order = sorted(range(len(rows)), key=lambda i: max(rows[i].event, rows[i].available))
    latest, found, at = {}, [None] * len(asked), 0
    for i in sorted(range(len(asked)), key=lambda i: asked[i][1]):
        entity, time = asked[i]
        while at < len(order) and max(rows[order[at]][1:3]) <= time:
            row = rows[order[at]]
            best = latest.get(row.entity)
            if best is None or row[1:3] >= best[1:3]:
                latest[row.entity] = row
            at += 1
        found[i] = latest.get(entity)
    return found


# %% windows: closed at both ends
def windows_of(time, size, slide, offset=0):
    last = (time + offset) // slide * slide - offset
    return list(range(last, time - size - 1, -slide))[::-1]


def merge(one, other):
    return (one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3]))


def window_agg(events, size, slide, offset=0):
    result = {}
    for key, time, value in events:
        for start in windows_of(time, size, slide, offset):
            old = result.get((key, start))
            new = (1, value, value, value)
            result[key, start] = merge(old, new) if old else new
    return result


# %% windows: the offset has the wrong sign
def windows_of(time, size, slide, offset=0):
    last = (time - offset) // slide * slide + offset
    return list(range(last, time - size, -slide))[::-1]


def merge(one, other):
    return (one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3]))


def window_agg(events, size, slide, offset=0):
    result = {}
    for key, time, value in events:
        for start in windows_of(time, size, slide, offset):
            old = result.get((key, start))
            new = (1, value, value, value)
            result[key, start] = merge(old, new) if old else new
    return result


# %% windows: a least value that starts at zero
def windows_of(time, size, slide, offset=0):
    last = (time + offset) // slide * slide - offset
    return list(range(last, time - size, -slide))[::-1]


def merge(one, other):
    return (one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3]))


def window_agg(events, size, slide, offset=0):
    result = {}
    for key, time, value in events:
        for start in windows_of(time, size, slide, offset):
            old = result.get((key, start), (0, 0, 0, 0))
            result[key, start] = merge(old, (1, value, value, value))
    return result


# %% windows: rounds towards zero
def windows_of(time, size, slide, offset=0):
    last = int((time + offset) / slide) * slide - offset
    return [
        start
        for start in range(last - size // slide * slide, last + 1, slide)
        if start > time - size
    ]


def merge(one, other):
    return (one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3]))


def window_agg(events, size, slide, offset=0):
    result = {}
    for key, time, value in events:
        for start in windows_of(time, size, slide, offset):
            old = result.get((key, start))
            new = (1, value, value, value)
            result[key, start] = merge(old, new) if old else new
    return result


# %% stream: late events are dropped without a word
class StreamingAgg:
    def __init__(self, size, lateness, starts, merge):
        self.size, self.lateness, self.starts, self.merge = size, lateness, starts, merge
        self.watermark, self.late, self.open = None, {}, {}

    def add(self, key, time, value):
        for start in self.starts(time):
            if self.watermark is None or start + self.size > self.watermark:
                new = (1, value, value, value)
                old = self.open.get((start, key))
                self.open[start, key] = self.merge(old, new) if old else new
        return self.heartbeat(time)

    def heartbeat(self, time):
        if self.watermark is None or time - self.lateness > self.watermark:
            self.watermark = time - self.lateness
        return self.emit(self.watermark)

    def emit(self, until):
        done = sorted(window for window in self.open if window[0] + self.size <= until)
        return [((key, start), self.open.pop((start, key))) for start, key in done]

    def close(self):
        return self.emit(math.inf)


# %% stream: a late event opens its window again
class StreamingAgg:
    def __init__(self, size, lateness, starts, merge):
        self.size, self.lateness, self.starts, self.merge = size, lateness, starts, merge
        self.watermark, self.late, self.open = None, {}, {}

    def add(self, key, time, value):
        if self.watermark is not None and time < self.watermark:
            self.late[key] = self.late.get(key, 0) + 1
        for start in self.starts(time):
            new = (1, value, value, value)
            old = self.open.get((start, key))
            self.open[start, key] = self.merge(old, new) if old else new
        return self.heartbeat(time)

    def heartbeat(self, time):
        if self.watermark is None or time - self.lateness > self.watermark:
            self.watermark = time - self.lateness
        return self.emit(self.watermark)

    def emit(self, until):
        done = sorted(window for window in self.open if window[0] + self.size <= until)
        return [((key, start), self.open.pop((start, key))) for start, key in done]

    def close(self):
        return self.emit(math.inf)


# %% stream: calls an event late by the watermark and not by its windows
class StreamingAgg:
    def __init__(self, size, lateness, starts, merge):
        self.size, self.lateness, self.starts, self.merge = size, lateness, starts, merge
        self.watermark, self.late, self.open = None, {}, {}

    def add(self, key, time, value):
        if self.watermark is not None and time < self.watermark:
            self.late[key] = self.late.get(key, 0) + 1
            return []
        for start in self.starts(time):
            new = (1, value, value, value)
            old = self.open.get((start, key))
            self.open[start, key] = self.merge(old, new) if old else new
        return self.heartbeat(time)

    def heartbeat(self, time):
        if self.watermark is None or time - self.lateness > self.watermark:
            self.watermark = time - self.lateness
        return self.emit(self.watermark)

    def emit(self, until):
        done = sorted(window for window in self.open if window[0] + self.size <= until)
        return [((key, start), self.open.pop((start, key))) for start, key in done]

    def close(self):
        return self.emit(math.inf)


# %% stream: remembers every window that has gone out
class StreamingAgg:
    def __init__(self, size, lateness, starts, merge):
        self.size, self.lateness, self.starts, self.merge = size, lateness, starts, merge
        self.watermark, self.late, self.open, self.gone = None, {}, {}, set()

    def add(self, key, time, value):
        for start in self.starts(time):
            closed = self.watermark is not None and start + self.size <= self.watermark
            if closed or (start, key) in self.gone:
                self.late[key] = self.late.get(key, 0) + 1
                continue
            new = (1, value, value, value)
            old = self.open.get((start, key))
            self.open[start, key] = self.merge(old, new) if old else new
        return self.heartbeat(time)

    def heartbeat(self, time):
        if self.watermark is None or time - self.lateness > self.watermark:
            self.watermark = time - self.lateness
        return self.emit(self.watermark)

    def emit(self, until):
        done = sorted(window for window in self.open if window[0] + self.size <= until)
        self.gone.update(done)
        return [((key, start), self.open.pop((start, key))) for start, key in done]

    def close(self):
        return self.emit(math.inf)


# %% stream: the watermark follows the last event, and goes back
class StreamingAgg:
    def __init__(self, size, lateness, starts, merge):
        self.size, self.lateness, self.starts, self.merge = size, lateness, starts, merge
        self.watermark, self.late, self.open = None, {}, {}

    def add(self, key, time, value):
        for start in self.starts(time):
            if self.watermark is not None and start + self.size <= self.watermark:
                self.late[key] = self.late.get(key, 0) + 1
                continue
            new = (1, value, value, value)
            old = self.open.get((start, key))
            self.open[start, key] = self.merge(old, new) if old else new
        return self.heartbeat(time)

    def heartbeat(self, time):
        self.watermark = time - self.lateness
        return self.emit(self.watermark)

    def emit(self, until):
        done = sorted(window for window in self.open if window[0] + self.size <= until)
        return [((key, start), self.open.pop((start, key))) for start, key in done]

    def close(self):
        return self.emit(math.inf)


# %% online: the last writer wins
class OnlineStore:
    def __init__(self, ttl):
        self.ttl, self.rows, self.lock = ttl, {}, threading.Lock()

    def put(self, rows):
        with self.lock:
            count = 0
            for row in rows:
                self.rows[row.entity] = row
                count += 1
            return count

    def get(self, entities, now):
        with self.lock:
            found = [self.rows.get(entity) for entity in entities]
        return [row.value if row and now - row.event <= self.ttl else None for row in found]


def materialize(rows, put, since, until, attempts=3):
    newest = {}
    for row in rows:
        if since < max(row.event, row.available) <= until:
            if row.entity not in newest or row[1:3] > newest[row.entity][1:3]:
                newest[row.entity] = row
    send = list(newest.values())
    for start in range(0, len(send), BATCH):
        for attempt in range(attempts):
            try:
                put(send[start : start + BATCH])
                break
            except ConnectionError:
                if attempt == attempts - 1:
                    raise
    return len(send)


# %% online: increments by event time
class OnlineStore:
    def __init__(self, ttl):
        self.ttl, self.rows, self.lock = ttl, {}, threading.Lock()

    def put(self, rows):
        with self.lock:
            count = 0
            for row in rows:
                if row.entity not in self.rows or row[1:3] > self.rows[row.entity][1:3]:
                    self.rows[row.entity] = row
                    count += 1
            return count

    def get(self, entities, now):
        with self.lock:
            found = [self.rows.get(entity) for entity in entities]
        return [row.value if row and now - row.event <= self.ttl else None for row in found]


def materialize(rows, put, since, until, attempts=3):
    newest = {}
    for row in rows:
        if since < row.event <= until and row.available <= until:
            if row.entity not in newest or row[1:3] > newest[row.entity][1:3]:
                newest[row.entity] = row
    send = list(newest.values())
    for start in range(0, len(send), BATCH):
        for attempt in range(attempts):
            try:
                put(send[start : start + BATCH])
                break
            except ConnectionError:
                if attempt == attempts - 1:
                    raise
    return len(send)


# %% online: a lock for each row only
class OnlineStore:
    def __init__(self, ttl):
        self.ttl, self.rows, self.lock = ttl, {}, threading.Lock()

    def put(self, rows):
        count = 0
        for row in rows:
            with self.lock:
                if row.entity not in self.rows or row[1:3] > self.rows[row.entity][1:3]:
                    self.rows[row.entity] = row
                    count += 1
        return count

    def get(self, entities, now):
        values = []
        for entity in entities:
            with self.lock:
                row = self.rows.get(entity)
            values.append(row.value if row and now - row.event <= self.ttl else None)
        return values


def materialize(rows, put, since, until, attempts=3):
    newest = {}
    for row in rows:
        if since < max(row.event, row.available) <= until:
            if row.entity not in newest or row[1:3] > newest[row.entity][1:3]:
                newest[row.entity] = row
    send = list(newest.values())
    for start in range(0, len(send), BATCH):
        for attempt in range(attempts):
            try:
                put(send[start : start + BATCH])
                break
            except ConnectionError:
                if attempt == attempts - 1:
                    raise
    return len(send)


# %% online: no second attempt
class OnlineStore:
    def __init__(self, ttl):
        self.ttl, self.rows, self.lock = ttl, {}, threading.Lock()

    def put(self, rows):
        with self.lock:
            count = 0
            for row in rows:
                if row.entity not in self.rows or row[1:3] > self.rows[row.entity][1:3]:
                    self.rows[row.entity] = row
                    count += 1
            return count

    def get(self, entities, now):
        with self.lock:
            found = [self.rows.get(entity) for entity in entities]
        return [row.value if row and now - row.event <= self.ttl else None for row in found]


def materialize(rows, put, since, until, attempts=3):
    newest = {}
    for row in rows:
        if since < max(row.event, row.available) <= until:
            if row.entity not in newest or row[1:3] > newest[row.entity][1:3]:
                newest[row.entity] = row
    send = list(newest.values())
    for start in range(0, len(send), BATCH):
        put(send[start : start + BATCH])
    return len(send)


# %% online: an entry never expires
class OnlineStore:
    def __init__(self, ttl):
        self.rows, self.lock = {}, threading.Lock()

    def put(self, rows):
        with self.lock:
            count = 0
            for row in rows:
                if row.entity not in self.rows or row[1:3] > self.rows[row.entity][1:3]:
                    self.rows[row.entity] = row
                    count += 1
            return count

    def get(self, entities, now):
        with self.lock:
            found = [self.rows.get(entity) for entity in entities]
        return [row.value if row else None for row in found]


def materialize(rows, put, since, until, attempts=3):
    newest = {}
    for row in rows:
        if since < max(row.event, row.available) <= until:
            if row.entity not in newest or row[1:3] > newest[row.entity][1:3]:
                newest[row.entity] = row
    send = list(newest.values())
    for start in range(0, len(send), BATCH):
        for attempt in range(attempts):
            try:
                put(send[start : start + BATCH])
                break
            except ConnectionError:
                if attempt == attempts - 1:
                    raise
    return len(send)


# %% skew: compares exactly
def skew_report(logged, recomputed, periods=None):
    report = {}
    for name, online in logged.items():
        pairs = [(a, b) for a, b in zip(online, recomputed[name]) if a != b]
        if len(pairs) <= 0.005 * len(online):
            continue
        share, need = len(pairs) / len(online), 0.99 * len(pairs)
        both = [(a, b) for a, b in pairs if not {type(a), type(b)} & {str, type(None)}]
        shifts, ratios = [a - b for a, b in both], [a / b for a, b in both if b]
        period = (periods or {}).get(name)
        if period:
            shifts = [(x + period / 2) % period - period / 2 for x in shifts]
        value, count = Counter(a for a, _ in pairs).most_common(1)[0]
        report[name] = ("other", share, None)
        if count >= need and len({b for _, b in pairs}) > 1:
            report[name] = ("default", share, value)
            continue
        for kind, found in (("scale", ratios), ("shift", shifts)):
            middle = float(np.median(found)) if found else 0.0
            if sum(abs(x - middle) <= 1e-3 * abs(middle) for x in found) >= need:
                report[name] = (kind, share, middle)
        mapping = {b: a for a, b in pairs if isinstance(a, str) and isinstance(b, str)}
        if sum(mapping.get(b) == a for a, b in pairs) >= need:
            report[name] = ("mapping", share, mapping)
    return report


# %% skew: compares the means of the columns
def skew_report(logged, recomputed, periods=None):
    report = {}
    for name, online in logged.items():
        offline = recomputed[name]
        share = sum(a != b for a, b in zip(online, offline)) / len(online)
        if any(isinstance(value, str) for value in offline):
            changed = {b: a for a, b in zip(online, offline) if a != b}
            if Counter(online) != Counter(offline):
                report[name] = ("mapping", share, changed)
            continue
        a = np.mean([value for value in online if value is not None] or [0])
        b = np.mean([value for value in offline if value is not None])
        if abs(a - b) > 0.01 * abs(b):
            report[name] = ("scale", share, float(a / b))
    return report


# %% skew: knows nothing of cyclic features
def skew_report(logged, recomputed, periods=None):
    def agree(a, b):
        numbers = not {type(a), type(b)} & {str, type(None)}
        return a == b or (numbers and abs(a - b) <= 1e-6 * max(abs(a), abs(b)))

    report = {}
    for name, online in logged.items():
        pairs = [(a, b) for a, b in zip(online, recomputed[name]) if not agree(a, b)]
        if len(pairs) <= 0.005 * len(online):
            continue
        share, need = len(pairs) / len(online), 0.99 * len(pairs)
        both = [(a, b) for a, b in pairs if not {type(a), type(b)} & {str, type(None)}]
        shifts, ratios = [a - b for a, b in both], [a / b for a, b in both if b]
        value, count = Counter(a for a, _ in pairs).most_common(1)[0]
        mapping = {b: a for a, b in pairs if isinstance(a, str) and isinstance(b, str)}
        report[name] = ("other", share, None)
        if sum(mapping.get(b) == a for a, b in pairs) >= need:
            report[name] = ("mapping", share, mapping)
        for kind, found in (("scale", ratios), ("shift", shifts)):
            middle = float(np.median(found)) if found else 0.0
            if sum(abs(x - middle) <= 1e-3 * abs(middle) for x in found) >= need:
                report[name] = (kind, share, middle)
        if count >= need and len({b for _, b in pairs}) > 1:
            report[name] = ("default", share, value)
    return report


# %% skew: looks at all rows, and not at those that disagree
def skew_report(logged, recomputed, periods=None):
    def agree(a, b):
        numbers = not {type(a), type(b)} & {str, type(None)}
        return a == b or (numbers and abs(a - b) <= 1e-6 * max(abs(a), abs(b)))

    report = {}
    for name, online in logged.items():
        pairs = list(zip(online, recomputed[name]))
        share = sum(not agree(a, b) for a, b in pairs) / len(pairs)
        if share <= 0.005:
            continue
        need = 0.99 * len(pairs)
        both = [(a, b) for a, b in pairs if not {type(a), type(b)} & {str, type(None)}]
        shifts, ratios = [a - b for a, b in both], [a / b for a, b in both if b]
        period = (periods or {}).get(name)
        if period:
            shifts = [(x + period / 2) % period - period / 2 for x in shifts]
        value, count = Counter(a for a, _ in pairs).most_common(1)[0]
        mapping = {b: a for a, b in pairs if isinstance(a, str) and isinstance(b, str)}
        report[name] = ("other", share, None)
        if sum(mapping.get(b) == a for a, b in pairs) >= need:
            report[name] = ("mapping", share, {b: a for b, a in mapping.items() if a != b})
        for kind, found in (("scale", ratios), ("shift", shifts)):
            middle = float(np.median(found)) if found else 0.0
            if sum(abs(x - middle) <= 1e-3 * abs(middle) for x in found) >= need:
                report[name] = (kind, share, middle)
        if count >= need and len({b for _, b in pairs}) > 1:
            report[name] = ("default", share, value)
    return report


# %% schema: the validator learns from the batch that it judges
def describe(values):
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    kind = "mixed" if str in kinds and len(kinds) > 1 else "str" if str in kinds else "int"
    if float in kinds and kind != "mixed":
        kind = "float"
    numbers = kind in ("int", "float")
    tenth = (max(present) - min(present)) / 10 if numbers else 0
    names = sorted(set(present)) if kind == "str" else []
    return {
        "type": kind,
        "presence": len(present) / len(values),
        "domain": names if 0 < len(names) <= min(20, len(present) - 1) else None,
        "range": [min(present) - tenth, max(present) + tenth] if numbers else None,
        "unique": kind in ("str", "int") and len(set(present)) == len(present),
    }


def infer_schema(batch):
    return {name: describe(values) for name, values in batch.items()}


def validate(batch, schema):
    found = [(name, "missing column") for name in schema if name not in batch]
    found += [(name, "new column") for name in batch if name not in schema]
    fits = {"str": (str,), "int": (int,), "float": (int, float), "mixed": (int, float, str)}
    for name, want in schema.items():
        values = batch.get(name)
        if values is None:
            continue
        present = [value for value in values if value is not None]
        if len(present) / len(values) < want["presence"] - 0.05:
            found.append((name, "presence"))
        if not all(type(value) in fits[want["type"]] for value in present):
            found.append((name, "type"))
            continue
        for value in present:
            if want["domain"] is not None and value not in want["domain"]:
                want["domain"].append(value)
                found.append((name, "domain"))
            if want["range"] is not None and not want["range"][0] <= value <= want["range"][1]:
                want["range"] = [min(value, want["range"][0]), max(value, want["range"][1])]
                found.append((name, "range"))
        if want["unique"] and len(set(present)) < len(present):
            found.append((name, "unique"))
    return sorted(set(found))


def approve(schema, batch, accepted):
    new = {name: dict(want) for name, want in schema.items()}
    for name, problem in sorted(accepted, key=lambda pair: pair[1] not in ("type", "new column")):
        if problem == "missing column":
            del new[name]
            continue
        fresh, want = describe(batch[name]), new.get(name)
        if problem in ("type", "new column"):
            new[name] = fresh
        elif problem == "presence":
            want["presence"] = fresh["presence"]
        elif problem == "unique":
            want["unique"] = False
        elif problem == "domain":
            present = {value for value in batch[name] if value is not None}
            want["domain"] = sorted(present | set(want["domain"]))
        else:
            present = [value for value in batch[name] if value is not None]
            low, high = want["range"]
            want["range"] = [min(low, *present), max(high, *present)]
    return new


# %% schema: approve accepts whatever the batch holds
def describe(values):
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    kind = "mixed" if str in kinds and len(kinds) > 1 else "str" if str in kinds else "int"
    if float in kinds and kind != "mixed":
        kind = "float"
    numbers = kind in ("int", "float")
    tenth = (max(present) - min(present)) / 10 if numbers else 0
    names = sorted(set(present)) if kind == "str" else []
    return {
        "type": kind,
        "presence": len(present) / len(values),
        "domain": names if 0 < len(names) <= min(20, len(present) - 1) else None,
        "range": [min(present) - tenth, max(present) + tenth] if numbers else None,
        "unique": kind in ("str", "int") and len(set(present)) == len(present),
    }


def infer_schema(batch):
    return {name: describe(values) for name, values in batch.items()}


def validate(batch, schema):
    found = [(name, "missing column") for name in schema if name not in batch]
    found += [(name, "new column") for name in batch if name not in schema]
    fits = {"str": (str,), "int": (int,), "float": (int, float), "mixed": (int, float, str)}
    for name, want in schema.items():
        values = batch.get(name)
        if values is None:
            continue
        present = [value for value in values if value is not None]
        if len(present) / len(values) < want["presence"] - 0.05:
            found.append((name, "presence"))
        if not all(type(value) in fits[want["type"]] for value in present):
            found.append((name, "type"))
            continue
        if want["domain"] is not None and not set(present) <= set(want["domain"]):
            found.append((name, "domain"))
        low, high = want["range"] or (-math.inf, math.inf)
        if want["range"] is not None and not all(low <= value <= high for value in present):
            found.append((name, "range"))
        if want["unique"] and len(set(present)) < len(present):
            found.append((name, "unique"))
    return sorted(found)


def approve(schema, batch, accepted):
    return infer_schema(batch) if accepted else dict(schema)


# %% schema: approve widens the old schema's own lists
def describe(values):
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    kind = "mixed" if str in kinds and len(kinds) > 1 else "str" if str in kinds else "int"
    if float in kinds and kind != "mixed":
        kind = "float"
    numbers = kind in ("int", "float")
    tenth = (max(present) - min(present)) / 10 if numbers else 0
    names = sorted(set(present)) if kind == "str" else []
    return {
        "type": kind,
        "presence": len(present) / len(values),
        "domain": names if 0 < len(names) <= min(20, len(present) - 1) else None,
        "range": [min(present) - tenth, max(present) + tenth] if numbers else None,
        "unique": kind in ("str", "int") and len(set(present)) == len(present),
    }


def infer_schema(batch):
    return {name: describe(values) for name, values in batch.items()}


def validate(batch, schema):
    found = [(name, "missing column") for name in schema if name not in batch]
    found += [(name, "new column") for name in batch if name not in schema]
    fits = {"str": (str,), "int": (int,), "float": (int, float), "mixed": (int, float, str)}
    for name, want in schema.items():
        values = batch.get(name)
        if values is None:
            continue
        present = [value for value in values if value is not None]
        if len(present) / len(values) < want["presence"] - 0.05:
            found.append((name, "presence"))
        if not all(type(value) in fits[want["type"]] for value in present):
            found.append((name, "type"))
            continue
        if want["domain"] is not None and not set(present) <= set(want["domain"]):
            found.append((name, "domain"))
        low, high = want["range"] or (-math.inf, math.inf)
        if want["range"] is not None and not all(low <= value <= high for value in present):
            found.append((name, "range"))
        if want["unique"] and len(set(present)) < len(present):
            found.append((name, "unique"))
    return sorted(found)


def approve(schema, batch, accepted):
    new = dict(schema)
    for name, problem in sorted(accepted, key=lambda pair: pair[1] not in ("type", "new column")):
        if problem == "missing column":
            del new[name]
            continue
        fresh, want = describe(batch[name]), new.get(name)
        present = [value for value in batch[name] if value is not None]
        if problem in ("type", "new column"):
            new[name] = fresh
        elif problem == "presence":
            want["presence"] = fresh["presence"]
        elif problem == "unique":
            want["unique"] = False
        elif problem == "domain":
            want["domain"] = sorted(set(want["domain"]) | set(present))
        else:
            low, high = want["range"]
            want["range"] = [min(low, *present), max(high, *present)]
    return new


# %% audit: a tie counts as lost
def auc(scores, labels):
    scores, labels = np.asarray(scores, float), np.asarray(labels).astype(bool)
    ones, zeros = scores[labels], np.sort(scores[~labels])
    if not len(ones) or not len(zeros):
        raise ValueError("both labels must occur")
    return float(np.searchsorted(zeros, ones, "left").sum() / len(ones) / len(zeros))


def leakage_audit(columns, known, decided, labels, limit=0.95):
    report = {}
    for name, values in columns.items():
        there = [i for i, value in enumerate(values) if value is not None]
        future = sum(known[name][i] > decided[i] for i in there) / max(len(there), 1)
        areas = [0.5]
        for scores, truth in [
            ([values[i] for i in there], [labels[i] for i in there]),
            ([float(value is not None) for value in values], labels),
        ]:
            if len(set(truth)) == 2:
                areas += [auc(scores, truth), 1 - auc(scores, truth)]
        verdict = "future" if future else "target" if max(areas) >= limit else "fine"
        report[name] = (verdict, max(areas), future)
    return report


# %% audit: looks at values only
def auc(scores, labels):
    scores, labels = np.asarray(scores, float), np.asarray(labels).astype(bool)
    ones, zeros = scores[labels], np.sort(scores[~labels])
    if not len(ones) or not len(zeros):
        raise ValueError("both labels must occur")
    both = np.searchsorted(zeros, ones, "left") + np.searchsorted(zeros, ones, "right")
    return float(both.sum() / 2 / len(ones) / len(zeros))


def leakage_audit(columns, known, decided, labels, limit=0.95):
    report = {}
    for name, values in columns.items():
        there = [i for i, value in enumerate(values) if value is not None]
        future = sum(known[name][i] > decided[i] for i in there) / max(len(there), 1)
        truth, best = [labels[i] for i in there], 0.5
        if len(set(truth)) == 2:
            best = auc([values[i] for i in there], truth)
            best = max(best, 1 - best)
        verdict = "future" if future else "target" if best >= limit else "fine"
        report[name] = (verdict, best, future)
    return report


# %% audit: what predicts the opposite is harmless
def auc(scores, labels):
    scores, labels = np.asarray(scores, float), np.asarray(labels).astype(bool)
    ones, zeros = scores[labels], np.sort(scores[~labels])
    if not len(ones) or not len(zeros):
        raise ValueError("both labels must occur")
    both = np.searchsorted(zeros, ones, "left") + np.searchsorted(zeros, ones, "right")
    return float(both.sum() / 2 / len(ones) / len(zeros))


def leakage_audit(columns, known, decided, labels, limit=0.95):
    report = {}
    for name, values in columns.items():
        there = [i for i, value in enumerate(values) if value is not None]
        future = sum(known[name][i] > decided[i] for i in there) / max(len(there), 1)
        areas = [0.5]
        for scores, truth in [
            ([values[i] for i in there], [labels[i] for i in there]),
            ([float(value is not None) for value in values], labels),
        ]:
            if len(set(truth)) == 2:
                areas.append(auc(scores, truth))
        verdict = "future" if future else "target" if max(areas) >= limit else "fine"
        report[name] = (verdict, max(areas), future)
    return report


# %% split: cuts by the time of the order, whenever its label came
def time_split(placed, known, cut, gap=0):
    train = [i for i, time in enumerate(placed) if time <= cut]
    return train, [i for i, time in enumerate(placed) if time >= cut + gap]


def in_test(name, share, salt=""):
    digest = hashlib.sha256(f"{salt}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


# %% split: hash() of a string
def time_split(placed, known, cut, gap=0):
    train = [i for i, time in enumerate(known) if time <= cut]
    return train, [i for i, time in enumerate(placed) if time >= cut + gap]


def in_test(name, share, salt=""):
    return hash((salt, name)) % 10_000 < share * 10_000


# %% split: random, and remembered
SIDES = {}


def time_split(placed, known, cut, gap=0):
    train = [i for i, time in enumerate(known) if time <= cut]
    return train, [i for i, time in enumerate(placed) if time >= cut + gap]


def in_test(name, share, salt=""):
    return SIDES.setdefault((name, salt), np.random.default_rng().random()) < share


# %% split: forgets the salt
def time_split(placed, known, cut, gap=0):
    train = [i for i, time in enumerate(known) if time <= cut]
    return train, [i for i, time in enumerate(placed) if time >= cut + gap]


def in_test(name, share, salt=""):
    digest = hashlib.sha256(str(name).encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48
