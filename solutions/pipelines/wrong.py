# Answers that people really give and that must lose their task's points.

# %% graph: recursion
def task(function=None, *, retries=0, timeout=30.0):
    if function is None:
        return lambda function: task(function, retries=retries, timeout=timeout)
    inputs, params = {}, {}
    signature = inspect.signature(function)
    for name, p in signature.parameters.items():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise PipelineError(name)
        if p.kind is p.KEYWORD_ONLY:
            if p.default is p.empty:
                raise PipelineError(name)
            params[name] = p.default
        elif p.annotation is p.empty or not isinstance(p.annotation, type):
            raise PipelineError(name)
        else:
            inputs[name] = p.annotation
    if signature.return_annotation is signature.empty:
        raise PipelineError("no return annotation")
    return Task(
        function.__name__, function, inputs, params, signature.return_annotation, retries, timeout
    )


def plan(tasks, sources, targets):
    makers = {t.name: t for t in tasks}
    if len(makers) < len(tasks) or set(makers) & set(sources):
        raise PipelineError("made twice")
    known = {**sources, **{t.name: t.output for t in tasks}}
    order = []

    def visit(name, path):
        if name in path:
            cycle = path[path.index(name) :]
            raise PipelineError(" -> ".join([name, *reversed(cycle)]))
        if name in order or name in sources:
            return
        if name not in makers:
            raise PipelineError(f"nothing makes {name}")
        for need, wanted in makers[name].inputs.items():
            visit(need, [*path, name])
            if not issubclass(known[need], wanted):
                raise PipelineError(f"{name}: {need}")
        order.append(name)

    for target in targets:
        visit(target, [])
    return order


# %% graph: what is left over is called a cycle
def task(function=None, *, retries=0, timeout=30.0):
    if function is None:
        return lambda function: task(function, retries=retries, timeout=timeout)
    inputs, params = {}, {}
    signature = inspect.signature(function)
    for name, p in signature.parameters.items():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise PipelineError(name)
        if p.kind is p.KEYWORD_ONLY:
            if p.default is p.empty:
                raise PipelineError(name)
            params[name] = p.default
        elif p.annotation is p.empty or not isinstance(p.annotation, type):
            raise PipelineError(name)
        else:
            inputs[name] = p.annotation
    if signature.return_annotation is signature.empty:
        raise PipelineError("no return annotation")
    return Task(
        function.__name__, function, inputs, params, signature.return_annotation, retries, timeout
    )


def plan(tasks, sources, targets):
    makers = {t.name: t for t in tasks}
    if len(makers) < len(tasks) or set(makers) & set(sources):
        raise PipelineError("made twice")
    known = {**sources, **{t.name: t.output for t in tasks}}
    needed, waiting = {}, list(targets)
    while waiting:
        name = waiting.pop()
        if name in needed or name in sources:
            continue
        if name not in makers:
            raise PipelineError(f"nothing makes {name}")
        for need, wanted in makers[name].inputs.items():
            if need in known and not issubclass(known[need], wanted):
                raise PipelineError(f"{name}: {need}")
        needed[name] = [n for n in makers[name].inputs if n not in sources]
        waiting += needed[name]
    users, left = {name: [] for name in needed}, {name: len(n) for name, n in needed.items()}
    for name, needs in needed.items():
        for need in needs:
            users[need].append(name)
    order = [name for name in needed if not left[name]]
    for name in order:
        for user in users[name]:
            left[user] -= 1
            if not left[user]:
                order.append(user)
    rest = [name for name in needed if left[name]]
    if rest:
        raise PipelineError("a cycle: " + " -> ".join([*rest, rest[0]]))
    return order


# %% graph: plans everything, and trusts the types
def task(function=None, *, retries=0, timeout=30.0):
    if function is None:
        return lambda function: task(function, retries=retries, timeout=timeout)
    inputs, params = {}, {}
    for name, p in inspect.signature(function).parameters.items():
        if p.kind is p.KEYWORD_ONLY:
            params[name] = p.default
        else:
            inputs[name] = p.annotation
    output = function.__annotations__.get("return")
    if output is None:
        raise PipelineError("no return annotation")
    return Task(function.__name__, function, inputs, params, output, retries, timeout)


def plan(tasks, sources, targets):
    import graphlib

    makers = {t.name: t for t in tasks}
    known = {**sources, **{t.name: t.output for t in tasks}}
    for t in tasks:
        for need, wanted in t.inputs.items():
            if need not in known or known[need] is not wanted:
                raise PipelineError(f"{t.name}: {need}")
    graph = {t.name: [n for n in t.inputs if n in makers] for t in tasks}
    return list(graphlib.TopologicalSorter(graph).static_order())


# %% key: the task's own code only
def cache_key(task, inputs, params, env):
    if set(params) - set(task.params):
        raise PipelineError("unknown parameter")
    code = task.function.__code__

    def flat(code):
        consts = [
            flat(c)
            if hasattr(c, "co_code")
            else sorted(map(repr, c))
            if isinstance(c, frozenset)
            else repr(c)
            for c in code.co_consts
        ]
        return [code.co_code.hex(), consts, list(code.co_names)]

    return digest([flat(code), inputs, {**task.params, **params}, env])


# %% key: helpers of helpers are forgotten
def cache_key(task, inputs, params, env):
    if set(params) - set(task.params):
        raise PipelineError("unknown parameter")

    def flat(code):
        consts = [
            flat(c)
            if hasattr(c, "co_code")
            else sorted(map(repr, c))
            if isinstance(c, frozenset)
            else repr(c)
            for c in code.co_consts
        ]
        return [code.co_code.hex(), consts, list(code.co_names)]

    code, parts = task.function.__code__, {}
    inner = [c for c in code.co_consts if hasattr(c, "co_code")]
    for name in {n for c in [code, *inner] for n in c.co_names}:
        value = task.function.__globals__.get(name)
        if inspect.isfunction(value):
            parts[name] = [flat(value.__code__), repr((value.__defaults__, value.__kwdefaults__))]
        elif isinstance(value, int | float | str | tuple):
            parts[name] = repr(value)
    return digest([flat(code), parts, inputs, {**task.params, **params}, env])


# %% key: the text of the module, comments and all
def cache_key(task, inputs, params, env):
    if set(params) - set(task.params):
        raise PipelineError("unknown parameter")
    text = Path(task.function.__code__.co_filename).read_text()
    return digest([text, inputs, {**task.params, **params}, env])


# %% key: the time of the file
def cache_key(task, inputs, params, env):
    if set(params) - set(task.params):
        raise PipelineError("unknown parameter")
    changed = os.stat(task.function.__code__.co_filename).st_mtime_ns
    return digest([task.name, changed, inputs, {**task.params, **params}, env])


# %% key: defaults are not filled in
def cache_key(task, inputs, params, env):
    if set(params) - set(task.params):
        raise PipelineError("unknown parameter")
    parts, waiting = {}, [task.function]

    def flat(code):
        consts = [
            flat(c)
            if hasattr(c, "co_code")
            else sorted(map(repr, c))
            if isinstance(c, frozenset)
            else repr(c)
            for c in code.co_consts
        ]
        return [code.co_code.hex(), consts, list(code.co_names)]

    def names(code):
        return set(code.co_names).union(
            *(names(c) for c in code.co_consts if hasattr(c, "co_code"))
        )

    while waiting:
        function = waiting.pop()
        for name in names(function.__code__) - set(parts):
            value = function.__globals__.get(name)
            parts[name] = ""
            if inspect.isfunction(value):
                parts[name] = [
                    flat(value.__code__),
                    repr((value.__defaults__, value.__kwdefaults__)),
                ]
                waiting.append(value)
            elif isinstance(value, int | float | str | tuple):
                parts[name] = repr(value)
    return digest([flat(task.function.__code__), parts, inputs, params, env])


# %% key: hash() of the code differs from process to process
def cache_key(task, inputs, params, env):
    if set(params) - set(task.params):
        raise PipelineError("unknown parameter")
    parts, waiting = {}, [task.function]

    def flat(code):
        return hash(
            (
                code.co_code,
                code.co_names,
                *(
                    flat(c)
                    if hasattr(c, "co_code")
                    else repr(c)
                    if not isinstance(c, frozenset)
                    else c
                    for c in code.co_consts
                ),
            )
        )

    def names(code):
        return set(code.co_names).union(
            *(names(c) for c in code.co_consts if hasattr(c, "co_code"))
        )

    while waiting:
        function = waiting.pop()
        for name in names(function.__code__) - set(parts):
            value = function.__globals__.get(name)
            parts[name] = ""
            if inspect.isfunction(value):
                parts[name] = [
                    flat(value.__code__),
                    repr((value.__defaults__, value.__kwdefaults__)),
                ]
                waiting.append(value)
            elif isinstance(value, int | float | str | tuple):
                parts[name] = repr(value)
    return digest([flat(task.function.__code__), parts, inputs, {**task.params, **params}, env])


# %% store: writes in place
class ArtifactStore:
    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("objects", "keys"):
            Path(folder, name).mkdir(parents=True, exist_ok=True)

    def put(self, value):
        name, path = digest(value), self.folder / "objects" / digest(value)
        if not path.exists() or path.read_bytes() != canonical(value):
            path.write_bytes(canonical(value))
        return name

    def get(self, name):
        path = self.folder / "objects" / name
        if not path.exists():
            raise KeyError(name)
        if hashlib.sha256(path.read_bytes()).hexdigest() != name:
            raise Corrupted(name)
        return json.loads(path.read_bytes())

    def remember(self, key, name):
        (self.folder / "keys" / key).write_text(name)

    def recall(self, key):
        try:
            name = (self.folder / "keys" / key).read_text()
            self.get(name)
            return name
        except (OSError, KeyError, Corrupted):
            return None


# %% store: believes what it reads
class ArtifactStore:
    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("objects", "keys"):
            Path(folder, name).mkdir(parents=True, exist_ok=True)

    def write(self, path, data):
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(data)
        beside.replace(path)

    def put(self, value):
        path = self.folder / "objects" / digest(value)
        if not path.exists():
            self.write(path, canonical(value))
        return path.name

    def get(self, name):
        try:
            return json.loads((self.folder / "objects" / name).read_bytes())
        except FileNotFoundError:
            raise KeyError(name) from None
        except ValueError:
            raise Corrupted(name) from None

    def remember(self, key, name):
        self.write(self.folder / "keys" / key, name.encode())

    def recall(self, key):
        try:
            name = (self.folder / "keys" / key).read_text()
            self.get(name)
            return name
        except (OSError, KeyError, Corrupted):
            return None


# %% store: never mends what is there
class ArtifactStore:
    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("objects", "keys"):
            Path(folder, name).mkdir(parents=True, exist_ok=True)

    def write(self, path, data):
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(data)
        beside.replace(path)

    def put(self, value):
        path = self.folder / "objects" / digest(value)
        if not path.exists():
            self.write(path, canonical(value))
        return path.name

    def get(self, name):
        path = self.folder / "objects" / name
        if not path.exists():
            raise KeyError(name)
        if hashlib.sha256(path.read_bytes()).hexdigest() != name:
            raise Corrupted(name)
        return json.loads(path.read_bytes())

    def remember(self, key, name):
        self.write(self.folder / "keys" / key, name.encode())

    def recall(self, key):
        try:
            name = (self.folder / "keys" / key).read_text()
            self.get(name)
            return name
        except (OSError, KeyError, Corrupted):
            return None


# %% runner: level by level
class Runner:
    def __init__(self, store, plan, cache_key, *, workers=2, sleep=time.sleep, record=None):
        self.store, self.plan, self.cache_key, self.workers = store, plan, cache_key, workers
        self.sleep, self.record = sleep, record or (lambda **facts: None)

    def run(self, tasks, sources, targets, params={}, env={}):
        order = self.plan(tasks, {n: type(v) for n, v in sources.items()}, targets)
        by_name = {t.name: t for t in tasks}
        made = {n: self.store.put(v) for n, v in sources.items()}
        outcomes = {}
        while len(outcomes) < len(order):
            level = {}
            for name in order:
                if name in outcomes:
                    continue
                needs = by_name[name].inputs
                if any(n in outcomes and not outcomes[n].output for n in needs):
                    outcomes[name] = Outcome("skipped", None)
                elif all(n in made for n in needs):
                    inputs = {n: made[n] for n in needs}
                    level[name] = (
                        inputs,
                        self.cache_key(by_name[name], inputs, params.get(name, {}), env),
                    )
            with ThreadPoolExecutor(self.workers) as pool:
                jobs = {
                    n: pool.submit(self.one, by_name[n], inputs, params.get(n, {}), key)
                    for n, (inputs, key) in level.items()
                }
            for name, job in jobs.items():
                outcomes[name] = job.result()
                if outcomes[name].output:
                    made[name] = outcomes[name].output
                    inputs, key = level[name]
                    filled = {**by_name[name].params, **params.get(name, {})}
                    self.record(task=name, key=key, inputs=inputs, params=filled, output=made[name])
        return outcomes

    def one(self, task, inputs, params, key):
        if known := self.store.recall(key):
            return Outcome("cached", known)
        values = [self.store.get(d) for d in inputs.values()]
        for attempt in range(task.retries + 1):
            if attempt:
                self.sleep(BACKOFF * 2 ** (attempt - 1))
            result = in_child(task.function, values, params, task.timeout)
            if result.status == "ok" and isinstance(result.value, task.output):
                try:
                    name = self.store.put(result.value)
                except (TypeError, ValueError):
                    continue
                self.store.remember(key, name)
                return Outcome("ran", name, attempt + 1)
        return Outcome("failed", None, task.retries + 1, result.error)


# %% runner: remembers when all is done
class Runner:
    def __init__(self, store, plan, cache_key, *, workers=2, sleep=time.sleep, record=None):
        self.store, self.plan, self.cache_key, self.workers = store, plan, cache_key, workers
        self.sleep, self.record = sleep, record or (lambda **facts: None)

    def run(self, tasks, sources, targets, params={}, env={}):
        order = self.plan(tasks, {n: type(v) for n, v in sources.items()}, targets)
        by_name = {t.name: t for t in tasks}
        made = {n: self.store.put(v) for n, v in sources.items()}
        outcomes, jobs, keys, todo = {}, {}, {}, list(order)
        with ThreadPoolExecutor(self.workers) as pool:
            while todo or jobs:
                for name in list(todo):
                    needs = by_name[name].inputs
                    if any(n in outcomes and not outcomes[n].output for n in needs):
                        outcomes[name] = Outcome("skipped", None)
                        todo.remove(name)
                    elif all(n in made for n in needs):
                        todo.remove(name)
                        inputs = {n: made[n] for n in needs}
                        keys[name] = self.cache_key(
                            by_name[name], inputs, params.get(name, {}), env
                        )
                        job = pool.submit(
                            self.one, by_name[name], inputs, params.get(name, {}), keys[name]
                        )
                        jobs[job] = name, inputs
                for job in wait(jobs, return_when=FIRST_COMPLETED).done:
                    name, inputs = jobs.pop(job)
                    outcomes[name] = job.result()
                    if outcomes[name].output:
                        made[name] = outcomes[name].output
                        filled = {**by_name[name].params, **params.get(name, {})}
                        self.record(
                            task=name,
                            key=keys[name],
                            inputs=inputs,
                            params=filled,
                            output=made[name],
                        )
        for name, outcome in outcomes.items():
            if outcome.output:
                self.store.remember(keys[name], outcome.output)
        return outcomes

    def one(self, task, inputs, params, key):
        if known := self.store.recall(key):
            return Outcome("cached", known)
        values = [self.store.get(d) for d in inputs.values()]
        for attempt in range(task.retries + 1):
            if attempt:
                self.sleep(BACKOFF * 2 ** (attempt - 1))
            result = in_child(task.function, values, params, task.timeout)
            if result.status == "ok" and isinstance(result.value, task.output):
                try:
                    return Outcome("ran", self.store.put(result.value), attempt + 1)
                except (TypeError, ValueError):
                    continue
        return Outcome("failed", None, task.retries + 1, result.error)


# %% runner: one after the other, and a retry begins from the start
class Runner:
    def __init__(self, store, plan, cache_key, *, workers=2, sleep=time.sleep, record=None):
        self.store, self.plan, self.cache_key = store, plan, cache_key
        self.sleep, self.record = sleep, record or (lambda **facts: None)

    def run(self, tasks, sources, targets, params={}, env={}):
        order = self.plan(tasks, {n: type(v) for n, v in sources.items()}, targets)
        by_name = {t.name: t for t in tasks}
        failures = dict.fromkeys(order, 0)
        while True:
            made = {n: self.store.put(v) for n, v in sources.items()}
            outcomes = {}
            for name in order:
                task = by_name[name]
                if any(n not in made for n in task.inputs):
                    outcomes[name] = Outcome("skipped", None)
                    continue
                inputs = {n: made[n] for n in task.inputs}
                given = params.get(name, {})
                key = self.cache_key(task, inputs, given, env)
                known = self.store.recall(key)
                if not known or failures[name]:
                    values = [self.store.get(d) for d in inputs.values()]
                    result = in_child(task.function, values, given, task.timeout)
                    if result.status != "ok" or not isinstance(result.value, task.output):
                        failures[name] += 1
                        if failures[name] <= task.retries:
                            self.sleep(BACKOFF * 2 ** (failures[name] - 1))
                            break
                        outcomes[name] = Outcome("failed", None, failures[name], result.error)
                        continue
                    known = self.store.put(result.value)
                    outcomes[name] = Outcome("ran", known, 1)
                else:
                    outcomes[name] = Outcome("cached", known)
                made[name] = known
                filled = {**task.params, **given}
                self.record(task=name, key=key, inputs=inputs, params=filled, output=known)
            else:
                for name in outcomes:
                    if outcomes[name].output:
                        self.store.remember(key, outcomes[name].output)
                return outcomes


# %% runner: as many at once as there are
class Runner:
    def __init__(self, store, plan, cache_key, *, workers=2, sleep=time.sleep, record=None):
        self.store, self.plan, self.cache_key = store, plan, cache_key
        self.sleep, self.record = sleep, record or (lambda **facts: None)

    def run(self, tasks, sources, targets, params={}, env={}):
        order = self.plan(tasks, {n: type(v) for n, v in sources.items()}, targets)
        by_name = {t.name: t for t in tasks}
        made = {n: self.store.put(v) for n, v in sources.items()}
        outcomes, jobs, todo = {}, {}, list(order)
        with ThreadPoolExecutor(64) as pool:
            while todo or jobs:
                for name in list(todo):
                    needs = by_name[name].inputs
                    if any(n in outcomes and not outcomes[n].output for n in needs):
                        outcomes[name] = Outcome("skipped", None)
                        todo.remove(name)
                    elif all(n in made for n in needs):
                        todo.remove(name)
                        inputs = {n: made[n] for n in needs}
                        key = self.cache_key(by_name[name], inputs, params.get(name, {}), env)
                        job = pool.submit(
                            self.one, by_name[name], inputs, params.get(name, {}), key
                        )
                        jobs[job] = name, inputs, key
                for job in wait(jobs, return_when=FIRST_COMPLETED).done:
                    name, inputs, key = jobs.pop(job)
                    outcomes[name] = job.result()
                    if outcomes[name].output:
                        made[name] = outcomes[name].output
                        filled = {**by_name[name].params, **params.get(name, {})}
                        self.record(
                            task=name, key=key, inputs=inputs, params=filled, output=made[name]
                        )
        return outcomes

    def one(self, task, inputs, params, key):
        if known := self.store.recall(key):
            return Outcome("cached", known)
        values = [self.store.get(d) for d in inputs.values()]
        for attempt in range(task.retries + 1):
            if attempt:
                self.sleep(BACKOFF * 2 ** (attempt - 1))
            result = in_child(task.function, values, params, task.timeout)
            if result.status == "ok" and isinstance(result.value, task.output):
                try:
                    name = self.store.put(result.value)
                except (TypeError, ValueError):
                    continue
                self.store.remember(key, name)
                return Outcome("ran", name, attempt + 1)
        return Outcome("failed", None, task.retries + 1, result.error)


# %% ledger: one hop
class Ledger:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS e (run, task, facts, PRIMARY KEY (run, task))")

    def record(self, run, task, key, inputs, params, output):
        facts = {"key": key, "inputs": dict(inputs), "params": params, "output": output}
        with self.db:
            self.db.execute(
                "INSERT OR REPLACE INTO e VALUES (?, ?, ?)", (run, task, canonical(facts).decode())
            )

    def entries(self):
        return {(r, t): json.loads(f) for r, t, f in self.db.execute("SELECT * FROM e")}

    def upstream(self, run, digest):
        found = {}
        for (r, _), facts in self.entries().items():
            if r == run and facts["output"] == digest:
                found |= facts["inputs"]
        return found

    def downstream(self, digest):
        return {rt for rt, facts in self.entries().items() if digest in facts["inputs"].values()}

    def diff(self, one, two):
        every, found = self.entries(), {}
        for task in {t for _, t in every}:
            a, b = every.get((one, task)), every.get((two, task))
            if a and b and a != b:
                found[task] = [field for field in sorted(a) if a[field] != b[field]]
            elif bool(a) != bool(b):
                found[task] = ["missing"]
        return found


# %% ledger: every row is a transaction of its own
class Ledger:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS made (run, task, key, params, output)")
        self.db.execute("CREATE TABLE IF NOT EXISTS used (run, task, name, digest)")

    def record(self, run, task, key, inputs, params, output):
        for table in ("made", "used"):
            self.db.execute(f"DELETE FROM {table} WHERE run = ? AND task = ?", (run, task))
        row = run, task, key, canonical(params).decode(), output
        self.db.execute("INSERT INTO made VALUES (?, ?, ?, ?, ?)", row)
        for name, digest in inputs.items():
            self.db.execute("INSERT INTO used VALUES (?, ?, ?, ?)", (run, task, name, digest))

    def upstream(self, run, digest):
        query = "SELECT task FROM made WHERE run = ? AND output = ?"
        waiting, found = [t for (t,) in self.db.execute(query, (run, digest))], {}
        while waiting:
            query = "SELECT name, digest FROM used WHERE run = ? AND task = ?"
            for name, used in self.db.execute(query, (run, waiting.pop())).fetchall():
                if name not in found:
                    waiting.append(name)
                found[name] = used
        return found

    def downstream(self, digest):
        query = "SELECT run, task FROM used WHERE digest = ?"
        found = set(self.db.execute(query, (digest,)))
        waiting = list(found)
        while waiting:
            query = "SELECT run, task FROM used WHERE run = ? AND name = ?"
            new = set(self.db.execute(query, waiting.pop())) - found
            found |= new
            waiting += new
        return found

    def entries(self, run):
        found = {}
        query = "SELECT task, key, params, output FROM made WHERE run = ?"
        for task, key, params, output in self.db.execute(query, (run,)).fetchall():
            query = "SELECT name, digest FROM used WHERE run = ? AND task = ?"
            inputs = dict(self.db.execute(query, (run, task)))
            found[task] = {"inputs": inputs, "key": key, "output": output, "params": params}
        return found

    def diff(self, one, two):
        a, b, found = self.entries(one), self.entries(two), {}
        for task in a.keys() | b.keys():
            if task not in a or task not in b:
                found[task] = ["missing"]
            elif a[task] != b[task]:
                found[task] = [
                    field for field in sorted(a[task]) if a[task][field] != b[task][field]
                ]
        return found


# %% ledger: follows digests through all runs
class Ledger:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS e (run, task, facts, PRIMARY KEY (run, task))")

    def record(self, run, task, key, inputs, params, output):
        facts = {"key": key, "inputs": dict(inputs), "params": params, "output": output}
        with self.db:
            self.db.execute(
                "INSERT OR REPLACE INTO e VALUES (?, ?, ?)", (run, task, canonical(facts).decode())
            )

    def entries(self):
        return {(r, t): json.loads(f) for r, t, f in self.db.execute("SELECT * FROM e")}

    def upstream(self, run, digest):
        found, waiting, seen = {}, [digest], set()
        while waiting:
            wanted = waiting.pop()
            seen.add(wanted)
            for facts in self.entries().values():
                if facts["output"] == wanted:
                    found |= facts["inputs"]
                    waiting += [d for d in facts["inputs"].values() if d not in seen]
        return found

    def downstream(self, digest):
        found, waiting, seen = set(), [digest], set()
        while waiting:
            wanted = waiting.pop()
            seen.add(wanted)
            for run_task, facts in self.entries().items():
                if wanted in facts["inputs"].values():
                    found.add(run_task)
                    waiting += [facts["output"]] if facts["output"] not in seen else []
        return found

    def diff(self, one, two):
        every, found = self.entries(), {}
        for task in {t for _, t in every}:
            a, b = every.get((one, task)), every.get((two, task))
            if a and b and a != b:
                found[task] = [field for field in sorted(a) if a[field] != b[field]]
            elif bool(a) != bool(b):
                found[task] = ["missing"]
        return found


# %% search: a logarithm in floating point
def brackets(R, eta):
    s_max = int(math.log(R) / math.log(eta))
    table = []
    for s in range(s_max, -1, -1):
        n = math.ceil((s_max + 1) / (s + 1) * eta**s)
        table.append([(n // eta**i, R / eta ** (s - i)) for i in range(s + 1)])
    return table


def survivors(losses, eta):
    order = sorted(
        losses,
        key=lambda t: (
            not math.isfinite(losses[t]),
            losses[t] if math.isfinite(losses[t]) else 0,
            t,
        ),
    )
    return order[: max(1, len(order) // eta)]


class Asha:
    def __init__(self, r, R, eta):
        self.r, self.eta, self.count = r, eta, 0
        self.resources = [r]
        while self.resources[-1] * eta <= R:
            self.resources.append(self.resources[-1] * eta)
        self.told = {resource: {} for resource in self.resources}
        self.gone = {resource: set() for resource in self.resources}

    def ask(self):
        for low, high in reversed(list(zip(self.resources, self.resources[1:]))):
            told = self.told[low]
            for trial in survivors(told, self.eta) if len(told) >= self.eta else []:
                if trial not in self.gone[low]:
                    self.gone[low].add(trial)
                    return trial, high
        self.count += 1
        return self.count - 1, self.r

    def tell(self, trial, resource, loss):
        self.told[resource][trial] = loss


# %% search: rounding that keeps nobody, and NaN that wins
def brackets(R, eta):
    s_max = 0
    while eta ** (s_max + 1) <= R:
        s_max += 1
    table = []
    for s in range(s_max, -1, -1):
        n = (s_max + 1) // (s + 1) * eta**s
        table.append([(n // eta**i, R / eta ** (s - i)) for i in range(s + 1)])
    return table


def survivors(losses, eta):
    return sorted(losses, key=losses.get)[: len(losses) // eta]


class Asha:
    def __init__(self, r, R, eta):
        self.r, self.R, self.eta, self.count = r, R, eta, 0
        self.told, self.gone = {}, {}

    def ask(self):
        for resource in sorted(self.told, reverse=True):
            for trial in survivors(self.told[resource], self.eta):
                up = self.gone.setdefault(resource, set())
                if trial not in up and resource * self.eta <= self.R:
                    up.add(trial)
                    return trial, resource * self.eta
        self.count += 1
        return self.count - 1, self.r

    def tell(self, trial, resource, loss):
        self.told.setdefault(resource, {})[trial] = loss


# %% search: a rung waits until all of it is known
def brackets(R, eta):
    s_max = 0
    while eta ** (s_max + 1) <= R:
        s_max += 1
    table = []
    for s in range(s_max, -1, -1):
        n = -(-(s_max + 1) * eta**s // (s + 1))
        table.append([(n // eta**i, R / eta ** (s - i)) for i in range(s + 1)])
    return table


def survivors(losses, eta):
    order = sorted(
        losses,
        key=lambda t: (
            not math.isfinite(losses[t]),
            losses[t] if math.isfinite(losses[t]) else 0,
            t,
        ),
    )
    return order[: max(1, len(order) // eta)]


class Asha:
    def __init__(self, r, R, eta):
        self.r, self.R, self.eta, self.count = r, R, eta, 0
        self.told, self.gone, self.asked = {}, {}, {}

    def ask(self):
        for resource in sorted(self.told, reverse=True):
            told = self.told[resource]
            if len(told) < self.asked[resource] or len(told) < self.eta:
                continue
            for trial in survivors(told, self.eta):
                up = self.gone.setdefault(resource, set())
                if trial not in up and resource * self.eta <= self.R:
                    up.add(trial)
                    self.asked[resource * self.eta] = self.asked.get(resource * self.eta, 0) + 1
                    return trial, resource * self.eta
        self.count += 1
        self.asked[self.r] = self.count
        return self.count - 1, self.r

    def tell(self, trial, resource, loss):
        self.told.setdefault(resource, {})[trial] = loss


# %% registry: reads, decides, writes
class Registry:
    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS v (model, version, digest, PRIMARY KEY (model, version))"
        )
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS h (id INTEGER PRIMARY KEY, model, version, before)"
        )

    def register(self, model, digest):
        self.db.execute(
            "INSERT INTO v SELECT ?, COUNT(*) + 1, ? FROM v WHERE model = ?", (model, digest, model)
        )
        return self.db.execute("SELECT MAX(version) FROM v WHERE model = ?", (model,)).fetchone()[0]

    def digest(self, model, version):
        row = self.db.execute(
            "SELECT digest FROM v WHERE model = ? AND version = ?", (model, version)
        ).fetchone()
        if not row:
            raise KeyError(version)
        return row[0]

    def last(self, model):
        query = "SELECT id, version, before FROM h WHERE model = ? ORDER BY id DESC LIMIT 1"
        return self.db.execute(query, (model,)).fetchone() or (None, None, None)

    def production(self, model):
        return self.last(model)[1]

    def promote(self, model, version, expected):
        self.digest(model, version)
        step, now, _ = self.last(model)
        if now != expected:
            return False
        if now != version:
            self.db.execute(
                "INSERT INTO h (model, version, before) VALUES (?, ?, ?)", (model, version, step)
            )
        return True

    def rollback(self, model):
        _, _, before = self.last(model)
        if before is None:
            raise LookupError(model)
        row = self.db.execute("SELECT version, before FROM h WHERE id = ?", (before,)).fetchone()
        self.db.execute("INSERT INTO h (model, version, before) VALUES (?, ?, ?)", (model, *row))
        return row[0]

    def history(self, model):
        return [
            v
            for (v,) in self.db.execute(
                "SELECT version FROM h WHERE model = ? ORDER BY id", (model,)
            )
        ]


# %% registry: a plain transaction, locked too late
class Registry:
    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS v (model, version, digest, PRIMARY KEY (model, version))"
        )
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS h (id INTEGER PRIMARY KEY, model, version, before)"
        )

    def register(self, model, digest):
        self.db.execute("BEGIN")
        with self.db:
            count = self.db.execute("SELECT COUNT(*) FROM v WHERE model = ?", (model,)).fetchone()[
                0
            ]
            self.db.execute("INSERT INTO v VALUES (?, ?, ?)", (model, count + 1, digest))
        return count + 1

    def digest(self, model, version):
        row = self.db.execute(
            "SELECT digest FROM v WHERE model = ? AND version = ?", (model, version)
        ).fetchone()
        if not row:
            raise KeyError(version)
        return row[0]

    def last(self, model):
        query = "SELECT id, version, before FROM h WHERE model = ? ORDER BY id DESC LIMIT 1"
        return self.db.execute(query, (model,)).fetchone() or (None, None, None)

    def production(self, model):
        return self.last(model)[1]

    def promote(self, model, version, expected):
        self.digest(model, version)
        self.db.execute("BEGIN")
        with self.db:
            step, now, _ = self.last(model)
            if now != expected:
                return False
            if now != version:
                self.db.execute(
                    "INSERT INTO h (model, version, before) VALUES (?, ?, ?)",
                    (model, version, step),
                )
        return True

    def rollback(self, model):
        self.db.execute("BEGIN")
        with self.db:
            _, _, before = self.last(model)
            if before is None:
                raise LookupError(model)
            row = self.db.execute(
                "SELECT version, before FROM h WHERE id = ?", (before,)
            ).fetchone()
            self.db.execute(
                "INSERT INTO h (model, version, before) VALUES (?, ?, ?)", (model, *row)
            )
        return row[0]

    def history(self, model):
        return [
            v
            for (v,) in self.db.execute(
                "SELECT version FROM h WHERE model = ? ORDER BY id", (model,)
            )
        ]


# %% registry: rollback goes to and fro
class Registry:
    def __init__(self, path):
        self.path = path
        with self.turn() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS v (model, version, digest, PRIMARY KEY (model, version))"
            )
            db.execute("CREATE TABLE IF NOT EXISTS h (id INTEGER PRIMARY KEY, model, version)")

    def turn(self):
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        return db

    def register(self, model, digest):
        with self.turn() as db:
            count = db.execute("SELECT COUNT(*) FROM v WHERE model = ?", (model,)).fetchone()[0]
            db.execute("INSERT INTO v VALUES (?, ?, ?)", (model, count + 1, digest))
        return count + 1

    def digest(self, model, version):
        with self.turn() as db:
            row = db.execute(
                "SELECT digest FROM v WHERE model = ? AND version = ?", (model, version)
            ).fetchone()
        if not row:
            raise KeyError(version)
        return row[0]

    def history(self, model):
        with self.turn() as db:
            return [
                v
                for (v,) in db.execute(
                    "SELECT version FROM h WHERE model = ? ORDER BY id", (model,)
                )
            ]

    def production(self, model):
        return self.history(model)[-1] if self.history(model) else None

    def promote(self, model, version, expected):
        self.digest(model, version)
        with self.turn() as db:
            past = [
                v
                for (v,) in db.execute(
                    "SELECT version FROM h WHERE model = ? ORDER BY id", (model,)
                )
            ]
            if (past[-1] if past else None) != expected:
                return False
            if expected != version:
                db.execute("INSERT INTO h (model, version) VALUES (?, ?)", (model, version))
        return True

    def rollback(self, model):
        past = self.history(model)
        if len(past) < 2:
            raise LookupError(model)
        with self.turn() as db:
            db.execute("INSERT INTO h (model, version) VALUES (?, ?)", (model, past[-2]))
        return past[-2]


# %% registry: rollback takes the next smaller version
class Registry:
    def __init__(self, path):
        self.path = path
        with self.turn() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS v (model, version, digest, PRIMARY KEY (model, version))"
            )
            db.execute("CREATE TABLE IF NOT EXISTS h (id INTEGER PRIMARY KEY, model, version)")

    def turn(self):
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        return db

    def register(self, model, digest):
        with self.turn() as db:
            count = db.execute("SELECT COUNT(*) FROM v WHERE model = ?", (model,)).fetchone()[0]
            db.execute("INSERT INTO v VALUES (?, ?, ?)", (model, count + 1, digest))
        return count + 1

    def digest(self, model, version):
        with self.turn() as db:
            row = db.execute(
                "SELECT digest FROM v WHERE model = ? AND version = ?", (model, version)
            ).fetchone()
        if not row:
            raise KeyError(version)
        return row[0]

    def history(self, model):
        with self.turn() as db:
            return [
                v
                for (v,) in db.execute(
                    "SELECT version FROM h WHERE model = ? ORDER BY id", (model,)
                )
            ]

    def production(self, model):
        return self.history(model)[-1] if self.history(model) else None

    def promote(self, model, version, expected):
        self.digest(model, version)
        with self.turn() as db:
            past = [
                v
                for (v,) in db.execute(
                    "SELECT version FROM h WHERE model = ? ORDER BY id", (model,)
                )
            ]
            if (past[-1] if past else None) != expected:
                return False
            if expected != version:
                db.execute("INSERT INTO h (model, version) VALUES (?, ?)", (model, version))
        return True

    def rollback(self, model):
        now = self.production(model)
        if now is None or now == 1:
            raise LookupError(model)
        with self.turn() as db:
            db.execute("INSERT INTO h (model, version) VALUES (?, ?)", (model, now - 1))
        return now - 1
