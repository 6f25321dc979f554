# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% graph: library
import graphlib


def task(function=None, *, retries=0, timeout=30.0):
    def wrap(function):
        given = inspect.getfullargspec(function)
        if given.varargs or given.varkw:
            raise PipelineError(f"{function.__name__}: name what the task needs")
        defaults = given.kwonlydefaults or {}
        types_ = {name: given.annotations.get(name) for name in [*given.args, "return"]}
        bad = [name for name, kind in types_.items() if not isinstance(kind, type)]
        bad += [name for name in given.kwonlyargs if name not in defaults]
        if bad:
            raise PipelineError(f"{function.__name__}: {bad} lack a class or a default")
        inputs = {name: types_[name] for name in given.args}
        params = {name: defaults[name] for name in given.kwonlyargs}
        return Task(function.__name__, function, inputs, params, types_["return"], retries, timeout)

    return wrap if function is None else wrap(function)


def plan(tasks, sources, targets):
    table = {}
    for one in tasks:
        if one.name in table or one.name in sources:
            raise PipelineError(f"two things are called {one.name}")
        table[one.name] = one
    graph, fresh = {}, list(targets)
    while fresh:
        name = fresh.pop()
        if name not in table:
            raise PipelineError(f"there is no {name}")
        graph[name] = set()
        for need, wanted in table[name].inputs.items():
            if need in sources:
                made = sources[need]
            elif need in table:
                made = table[need].output
                graph[name].add(need)
                if need not in graph:
                    fresh.append(need)
            else:
                raise PipelineError(f"there is no {need}, which {name} wants")
            if wanted not in made.__mro__:
                raise PipelineError(f"{name}.{need}: {made} is no {wanted}")
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise PipelineError("round and round: " + " -> ".join(error.args[1])) from None


# %% key: library
import ast
import textwrap


def cache_key(task, inputs, params, env):
    for name in params:
        if name not in task.params:
            raise PipelineError(f"{name}?")
    parts, pending = {}, [task.function]
    while pending:
        function = pending.pop()
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        parts[function.__name__] = ast.dump(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Name) or node.id in parts:
                continue
            value = function.__globals__.get(node.id)
            if inspect.isfunction(value) and value.__globals__ is function.__globals__:
                pending.append(value)
            elif value is not None:
                try:
                    parts[node.id] = canonical(value).hex()
                except (TypeError, ValueError):
                    parts[node.id] = ""
    return digest({"c": parts, "i": inputs, "p": dict(task.params, **params), "e": env})


# %% store: library
class ArtifactStore:
    """Files for artefacts, an SQLite table for keys."""

    def __init__(self, folder):
        self.folder = Path(folder) / "objects"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(Path(folder) / "keys.db", timeout=60)
        with self.db:
            self.db.execute("CREATE TABLE IF NOT EXISTS keys (key PRIMARY KEY, name)")

    def check(self, name):
        file = self.folder / name
        if not file.exists():
            raise KeyError(name)
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != name:
            raise Corrupted(name)
        return data

    def put(self, value):
        name = digest(value)
        try:
            self.check(name)
        except (KeyError, Corrupted):
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                file.write(canonical(value))
            os.rename(file.name, self.folder / name)
        return name

    def get(self, name):
        return json.loads(self.check(name).decode())

    def remember(self, key, name):
        with self.db:
            self.db.execute("REPLACE INTO keys VALUES (?, ?)", (key, name))

    def recall(self, key):
        for (name,) in self.db.execute("SELECT name FROM keys WHERE key = ?", (key,)).fetchall():
            try:
                self.check(name)
                return name
            except (KeyError, Corrupted):
                return None


# %% runner: library
import queue


class Runner:
    """A thread for each task, which waits for what it needs and then for a slot."""

    def __init__(self, store, plan, cache_key, *, workers=2, sleep=time.sleep, record=None):
        self.store, self.plan, self.cache_key = store, plan, cache_key
        self.workers, self.sleep, self.record = workers, sleep, record

    def run(self, tasks, sources, targets, params={}, env={}):
        order = self.plan(tasks, {name: type(v) for name, v in sources.items()}, targets)
        chosen = {t.name: t for t in tasks if t.name in order}
        made = {name: self.store.put(value) for name, value in sources.items()}
        settled = {name: threading.Event() for name in order}
        slots, done, outcomes = threading.Semaphore(self.workers), queue.Queue(), {}

        def live(name):
            for need in chosen[name].inputs:
                if need in settled:
                    settled[need].wait()
            if not all(need in made for need in chosen[name].inputs):
                return done.put((name, Outcome("skipped", None), {}))
            facts = {"task": name, "inputs": {need: made[need] for need in chosen[name].inputs}}
            facts["params"] = {**chosen[name].params, **params.get(name, {})}
            facts["key"] = self.cache_key(chosen[name], facts["inputs"], params.get(name, {}), env)
            known = self.store.recall(facts["key"])
            if known:
                return done.put((name, Outcome("cached", known), facts))
            with slots:
                done.put((name, self.attempt(chosen[name], facts, 0), facts))

        threads = [threading.Thread(target=live, args=[name], daemon=True) for name in order]
        for thread in threads:
            thread.start()
        for _ in threads:
            name, outcome, facts = done.get()
            outcomes[name] = outcome
            if outcome.output is not None:
                made[name] = outcome.output
                if self.record is not None:
                    self.record(output=outcome.output, **facts)
            settled[name].set()
        return outcomes

    def attempt(self, task, facts, failures):
        store = self.store
        values = list(map(store.get, facts["inputs"].values()))
        result = in_child(task.function, values, facts["params"], task.timeout)
        try:
            if result.status != "ok" or not isinstance(result.value, task.output):
                raise TypeError(f"{result.status}: {result.error or type(result.value)}")
            name = store.put(result.value)
        except (TypeError, ValueError) as error:
            if failures == task.retries:
                return Outcome("failed", None, failures + 1, str(error))
            self.sleep(BACKOFF * 2**failures)
            return self.attempt(task, facts, failures + 1)
        store.remember(facts["key"], name)
        return Outcome("ran", name, failures + 1)


# %% ledger: library
class Ledger:
    """An entry is one row of JSON; questions are answered in Python."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=60)
        self.db.execute("CREATE TABLE IF NOT EXISTS entries (run, task, entry, UNIQUE (run, task))")

    def record(self, run, task, key, inputs, params, output):
        entry = {"inputs": dict(inputs.items()), "key": key, "output": output, "params": params}
        self.db.execute("REPLACE INTO entries VALUES (?, ?, ?)", (run, task, json.dumps(entry)))

    def load(self):
        runs = {}
        for run, task, entry in self.db.execute("SELECT run, task, entry FROM entries"):
            runs.setdefault(run, {})[task] = json.loads(entry)
        return runs

    def upstream(self, run, digest):
        entries = self.load().get(run, {})
        level = [task for task, entry in entries.items() if entry["output"] == digest]
        found = {}
        while level:
            used = {}
            for task in level:
                used.update(entries[task]["inputs"])
            level = [name for name in used if name in entries and name not in found]
            found.update(used)
        return found

    def downstream(self, digest):
        found = set()
        for run, entries in self.load().items():
            users = {t for t, entry in entries.items() if digest in entry["inputs"].values()}
            size = -1
            while size < len(users):
                size = len(users)
                users |= {t for t, entry in entries.items() if users & entry["inputs"].keys()}
            found |= {(run, task) for task in users}
        return found

    def diff(self, one, two):
        runs = self.load()
        first, second = runs.get(one, {}), runs.get(two, {})
        lacking = {task: ["missing"] for task in first.keys() ^ second.keys()}
        both = {
            task: [field for field in first[task] if first[task][field] != second[task][field]]
            for task in first.keys() & second.keys()
        }
        return lacking | {task: fields for task, fields in both.items() if fields}


# %% search: library
from fractions import Fraction


def brackets(R, eta):
    sizes = [1]
    while sizes[-1] * eta <= R:
        sizes.append(sizes[-1] * eta)
    table = []
    for depth in reversed(range(len(sizes))):
        n = math.ceil(Fraction(len(sizes) * sizes[depth], depth + 1))
        rounds, resource = [], Fraction(R, sizes[depth])
        for _ in range(depth + 1):
            rounds.append((n, float(resource)))
            n, resource = n // eta, resource * eta
        table.append(rounds)
    return table


def survivors(losses, eta):
    best = sorted((loss if loss < math.inf else math.inf, t) for t, loss in losses.items())
    return [t for _, t in best][: len(losses) // eta or 1]


class Asha:
    """Keeps what was told in one list for each resource, sorted."""

    def __init__(self, r, R, eta):
        self.lowest, self.eta, self.next, self.rungs = r, eta, 0, {r: []}
        while max(self.rungs) * eta <= R:
            self.rungs[max(self.rungs) * eta] = []
        self.asked = set()

    def ask(self):
        for resource in sorted(self.rungs)[-2::-1]:
            rung = sorted(self.rungs[resource])
            for _, trial in rung[: len(rung) // self.eta]:
                job = trial, resource * self.eta
                if job not in self.asked:
                    self.asked.add(job)
                    return job
        self.next += 1
        return self.next - 1, self.lowest

    def tell(self, trial, resource, loss):
        self.rungs[resource].append((loss if loss < math.inf else math.inf, trial))


# %% registry: library
class Registry:
    """Each change is one statement that says on what it depends."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS versions (model, version, digest, UNIQUE (model, version))"
        )
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY, model, version, back)"
        )

    def register(self, model, digest):
        rows = self.db.execute(
            "INSERT INTO versions SELECT ?1, COUNT(*) + 1, ?2 FROM versions WHERE model = ?1"
            " RETURNING version",
            (model, digest),
        )
        return rows.fetchall()[0][0]

    def digest(self, model, version):
        query = "SELECT digest FROM versions WHERE model = ? AND version = ?"
        rows = self.db.execute(query, (model, version)).fetchall()
        if rows:
            return rows[0][0]
        raise KeyError((model, version))

    def last(self, model):
        query = "SELECT id, version, back FROM moves WHERE model = ? ORDER BY id DESC LIMIT 1"
        return (self.db.execute(query, (model,)).fetchall() or [(None, None, None)])[0]

    def move(self, model, version, back, seen):
        """Enter a move if the last one is still the one that was seen; whether it was."""
        return self.db.execute(
            "INSERT INTO moves (model, version, back) SELECT ?1, ?2, ?3"
            " WHERE (SELECT MAX(id) FROM moves WHERE model = ?1) IS ?4",
            (model, version, back, seen),
        ).rowcount

    def production(self, model):
        return self.last(model)[1]

    def promote(self, model, version, expected):
        self.digest(model, version)
        seen, now, _ = self.last(model)
        if now != expected:
            return False
        return now == version or bool(self.move(model, version, seen, seen))

    def rollback(self, model):
        while True:
            seen, _, back = self.last(model)
            if back is None:
                raise LookupError(model)
            query = "SELECT version, back FROM moves WHERE id = ?"
            version, further = self.db.execute(query, (back,)).fetchall()[0]
            if self.move(model, version, further, seen):
                return version

    def history(self, model):
        rows = self.db.execute("SELECT version FROM moves WHERE model = ? ORDER BY id", (model,))
        return [version for (version,) in rows.fetchall()]


# %% graph: by hand
def task(function=None, *, retries=0, timeout=30.0):
    if not function:
        return lambda f: task(f, retries=retries, timeout=timeout)
    parts = inspect.signature(function)
    kinds = {p.kind for p in parts.parameters.values()}
    if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
        raise PipelineError("no stars")
    named = {n: p for n, p in parts.parameters.items() if p.kind is p.KEYWORD_ONLY}
    inputs = {n: p.annotation for n, p in parts.parameters.items() if n not in named}
    for annotation in [*inputs.values(), parts.return_annotation]:
        if annotation is inspect.Parameter.empty or not inspect.isclass(annotation):
            raise PipelineError("classes, please")
    if any(p.default is inspect.Parameter.empty for p in named.values()):
        raise PipelineError("defaults, please")
    params = {n: p.default for n, p in named.items()}
    return Task(
        function.__name__, function, inputs, params, parts.return_annotation, retries, timeout
    )


def plan(tasks, sources, targets):
    names = [t.name for t in tasks] + list(sources)
    if len(set(names)) < len(names):
        raise PipelineError("a name stands for two things")
    makers = {t.name: t for t in tasks}
    kinds = dict(sources)
    kinds.update((t.name, t.output) for t in tasks)
    left, users, fresh = {}, {}, list(dict.fromkeys(targets))
    known = set(fresh)
    for name in fresh:
        if name not in makers:
            raise PipelineError(f"nobody makes {name}")
        left[name] = 0
        for need, wanted in makers[name].inputs.items():
            if need not in kinds or not issubclass(kinds[need], wanted):
                raise PipelineError(f"{name} cannot get {need} as {wanted.__name__}")
            if need in makers:
                left[name] += 1
                users.setdefault(need, []).append(name)
                if need not in known:
                    known.add(need)
                    fresh.append(need)
    order = [name for name in left if left[name] == 0]
    for name in order:
        for user in users.get(name, []):
            left[user] -= 1
            if left[user] == 0:
                order.append(user)
    if len(order) < len(left):
        walk = [next(name for name in left if left[name])]
        while walk[-1] not in walk[:-1]:
            needs = makers[walk[-1]].inputs
            walk.append(next(need for need in needs if left.get(need)))
        cycle = walk[walk.index(walk[-1]) :]
        raise PipelineError(" -> ".join(reversed(cycle)))
    return order


# %% key: by hand
def cache_key(task, inputs, params, env):
    """The names and arguments of the instructions, rather than their bytes."""
    if not params.keys() <= task.params.keys():
        raise PipelineError(f"{sorted(params)} are not all parameters of {task.name}")
    seen, lines = set(), []

    def describe(code, space):
        for i in dis.get_instructions(code):
            if isinstance(i.argval, types.CodeType):
                lines.append("inner code")
                describe(i.argval, space)
                continue
            shown = sorted(map(repr, i.argval)) if isinstance(i.argval, frozenset) else i.argrepr
            lines.append(f"{i.opname} {shown}")
            if i.opname == "LOAD_GLOBAL" and i.argval in space and i.argval not in seen:
                seen.add(i.argval)
                value = space[i.argval]
                if isinstance(value, types.FunctionType) and value.__globals__ is space:
                    lines.append(f"{i.argval}: {value.__defaults__} {value.__kwdefaults__}")
                    describe(value.__code__, space)
                    lines.append("end")
                elif isinstance(value, bool | int | float | str | list | tuple | dict | set):
                    lines.append(canonical(value).decode())

    describe(task.function.__code__, task.function.__globals__)
    filled = {name: params.get(name, default) for name, default in task.params.items()}
    return hashlib.blake2b(canonical([lines, inputs, filled, env])).hexdigest()[:60]


# %% registry: by hand
class Registry:
    """The history is a stack of what a rollback may return to, beside a plain list."""

    def __init__(self, path):
        self.path = str(path)
        with self.exclusively() as db:
            db.execute("CREATE TABLE IF NOT EXISTS models (name PRIMARY KEY, facts)")

    def exclusively(self):
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        db.execute("BEGIN EXCLUSIVE")
        return db

    def change(self, model, act):
        with self.exclusively() as db:
            row = db.execute("SELECT facts FROM models WHERE name = ?", (model,)).fetchone()
            facts = json.loads(row[0]) if row else {"digests": [], "stack": [], "history": []}
            answer = act(facts)
            db.execute("REPLACE INTO models VALUES (?, ?)", (model, json.dumps(facts)))
        db.close()
        return answer

    def register(self, model, digest):
        return self.change(model, lambda f: f["digests"].append(digest) or len(f["digests"]))

    def digest(self, model, version):
        def act(facts):
            if not 1 <= version <= len(facts["digests"]):
                raise KeyError(version)
            return facts["digests"][version - 1]

        return self.change(model, act)

    def production(self, model):
        return self.change(model, lambda f: f["stack"][-1] if f["stack"] else None)

    def promote(self, model, version, expected):
        self.digest(model, version)

        def act(facts):
            now = facts["stack"][-1] if facts["stack"] else None
            if now == expected != version:
                facts["stack"].append(version)
                facts["history"].append(version)
            return now == expected

        return self.change(model, act)

    def rollback(self, model):
        def act(facts):
            if len(facts["stack"]) < 2:
                raise LookupError(model)
            facts["stack"].pop()
            facts["history"].append(facts["stack"][-1])
            return facts["stack"][-1]

        return self.change(model, act)

    def history(self, model):
        return self.change(model, lambda facts: facts["history"])
