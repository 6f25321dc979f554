# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% interpret: recursion
def walk(loops, names):
    if not loops:
        yield dict(names)
        return
    (name, extent), rest = loops[0], loops[1:]
    for value in range(extent):
        yield from walk(rest, {**names, name: value})


def active(schedule):
    for names in walk(list(schedule["loops"]), {}):
        if not any(evaluate(expr, names) >= bound for expr, bound in schedule["guards"]):
            yield {axis: evaluate(bind, names) for axis, bind in schedule["binds"].items()}


def points(schedule):
    return [tuple(axes.values()) for axes in active(schedule)]


def interpret(algorithm, schedule, arrays):
    combine, first = {"+": (lambda a, b: a + b, 0.0), "max": (max, -math.inf)}[algorithm["combine"]]
    axes_out = algorithm["out"][1:]
    elements = {}
    for axes in active(schedule):
        place = tuple(axes[axis] for axis in axes_out)
        value = float(value_of(algorithm["value"], axes, arrays))
        elements[place] = combine(elements.get(place, first), value)
    out = np.empty([algorithm["axes"][axis] for axis in axes_out])
    out.fill(first)
    for place, value in elements.items():
        out[place] = value
    return out


# %% transform: recursion
import copy


def split(schedule, loop, factor):
    if factor < 1:
        raise ValueError("a factor is at least 1")
    schedule = copy.deepcopy(schedule)
    place, extent = find(schedule, loop)
    o, i = loop + "_o", loop + "_i"
    rename(schedule, {loop: ["+", ["*", o, factor], i]})
    quotient, remainder = divmod(extent, factor)
    if remainder:
        schedule["guards"] = schedule["guards"] + [[["+", ["*", o, factor], i], extent]]
    schedule["loops"].pop(place)
    schedule["loops"].insert(place, [i, factor])
    schedule["loops"].insert(place, [o, quotient + bool(remainder)])
    return schedule


def find(schedule, loop):
    for place, (name, extent) in enumerate(schedule["loops"]):
        if name == loop:
            return place, extent
    raise ValueError(f"there is no loop {loop}")


def rename(schedule, table):
    def new(expr):
        if isinstance(expr, list):
            return [expr[0]] + [new(part) for part in expr[1:]]
        return table.get(expr, expr)

    for axis in schedule["binds"]:
        schedule["binds"][axis] = new(schedule["binds"][axis])
    for guard in schedule["guards"]:
        guard[0] = new(guard[0])


def fuse(schedule, outer, inner):
    schedule = copy.deepcopy(schedule)
    (first, a), (second, b) = find(schedule, outer), find(schedule, inner)
    if second - first != 1:
        raise ValueError("the loops are not neighbours")
    name = "_".join([outer, inner])
    rename(schedule, {outer: ["//", name, b], inner: ["%", name, b]})
    del schedule["loops"][second]
    schedule["loops"][first] = [name, a * b]
    return schedule


def reorder(schedule, order):
    schedule = copy.deepcopy(schedule)
    pairs = [(find(schedule, loop)[0], loop) for loop in order]
    places = sorted(place for place, _ in pairs)
    if len(set(places)) < len(places):
        raise ValueError("a loop is named twice")
    old = copy.deepcopy(schedule["loops"])
    for place, (source, _) in zip(places, pairs):
        schedule["loops"][place] = old[source]
    return schedule


# %% legality: recursion
def first_sign(distance):
    if not distance:
        return 0
    head, *rest = distance
    return (head > 0) - (head < 0) or first_sign(rest)


def distances(write, reads):
    found = []
    for read in reads:
        distance = [w - r for w, r in zip(write, read)]
        sign = first_sign(distance)
        if sign and (candidate := tuple(sign * part for part in distance)) not in found:
            found.append(candidate)
    found.sort()
    return found


def legal(distances, order):
    return min((first_sign([d[loop] for loop in order]) for d in distances), default=1) > 0


def parallel(distances, order):
    if not legal(distances, order):
        raise ValueError("this order computes something else")

    def free(place, open_):
        if place == len(order):
            return []
        carried = [d for d in open_ if d[order[place]] != 0]
        rest = free(place + 1, [d for d in open_ if d[order[place]] == 0])
        return rest if carried else [place, *rest]

    return free(0, list(distances))


def tileable(distances):
    return not [part for distance in distances for part in distance if part < 0]


def skew(distances):
    factor = 0
    while not tileable([(a, b + factor * a) for a, b in distances]):
        factor += 1
    return factor


# %% emit: recursion
def emit(algorithm, schedule, vector):
    count = len(schedule["loops"]) - vector
    slices = {name: extent for name, extent in schedule["loops"][count:]}

    def slice_of(expr):
        inside = [name for name in slices if coefficient(expr, name) != 0]
        if not inside:
            return None
        if len(inside) == 1 and coefficient(expr, inside[0]) == 1:
            return inside[0]
        raise ValueError(f"{text(expr)} is no slice")

    def from_(expr):
        return text(expr) if slice_of(expr) is None else text(substitute(expr, slice_of(expr), 0))

    owners = [slice_of(bind) for bind in schedule["binds"].values()]
    if any(owners.count(name) != 1 for name in slices):
        raise ValueError("a sliced loop belongs to exactly one axis")

    def indent(lines):
        return ["    " + line for line in lines]

    def body(guards):
        if guards:
            (expr, bound), rest = guards[0], guards[1:]
            name = slice_of(expr)
            if name is None:
                return [f"if not {text(expr)} < {bound}:", "    continue", *body(rest)]
            return [f"n_{name} = min(n_{name}, {bound} - {from_(expr)})", *body(rest)]
        index, sliced = {}, []
        for axis, bind in schedule["binds"].items():
            index[axis] = f"{from_(bind)}"
            if name := slice_of(bind):
                sliced.append(axis)
                index[axis] = f"{from_(bind)}:{from_(bind)} + n_{name}"
        return [statement(algorithm, index, sliced)]

    def nest(loops):
        if loops:
            (name, extent), rest = loops[0], loops[1:]
            return [f"for {name} in range({extent}):", *indent(nest(rest))]
        return [f"n_{name} = {extent}" for name, extent in slices.items()] + body(
            list(schedule["guards"])
        )

    loops = schedule["loops"][:count]
    inner = nest(loops) if loops else ["for once in (0,):", *indent(nest([]))]
    heads = [f"{name} = arrays[{name!r}]" for name in array_names(algorithm)]
    return "\n".join(["def kernel(arrays):", *indent(heads), *indent(inner)])


# %% cache: recursion
def lru_misses(addresses, line, sets, ways):
    numbers = [address // line for address in addresses]
    misses = 0
    for one in range(sets):
        mine = [number for number in numbers if number % sets == one]
        misses += sum(not 0 <= distance < ways for distance in stack_distances(mine))
    return misses


def stack_distances(lines):
    order, found = OrderedDict(), []
    for line in lines:
        if line in order:
            for depth, other in enumerate(reversed(order)):
                if other == line:
                    found.append(depth)
                    break
        else:
            found.append(-1)
        order[line] = None
        order.move_to_end(line)
    return found


# %% fit: recursion
def fit(x, y):
    """A forest of small regression trees on the logarithm of the cost."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    fine = np.isfinite(y)
    target = np.log(np.where(fine, y, 10 * np.max(y[fine], initial=1e-6)))
    dice = np.random.default_rng(0)

    def grow(rows, depth):
        leaf = float(target[rows].mean())
        if depth == 0 or len(rows) < 4 or np.ptp(target[rows]) == 0:
            return leaf
        best = None
        for feature in range(x.shape[1]):
            values = np.unique(x[rows, feature])
            for cut in (values[1:] + values[:-1]) / 2:
                below = x[rows, feature] < cut
                loss = sum(np.var(target[rows[part]]) * part.sum() for part in (below, ~below))
                if best is None or loss < best[0]:
                    best = loss, feature, cut
        if best is None:
            return leaf
        _, feature, cut = best
        below = x[rows, feature] < cut
        return feature, cut, grow(rows[below], depth - 1), grow(rows[~below], depth - 1)

    def ask(tree, row):
        while isinstance(tree, tuple):
            feature, cut, low, high = tree
            tree = low if row[feature] < cut else high
        return tree

    forest = [grow(dice.integers(0, len(y), len(y)), 6) for _ in range(8)]
    return lambda rows: np.array([np.mean([ask(tree, row) for tree in forest]) for row in rows])


# %% tune: recursion
def tune(space, features, measure, budget, seed, fit):
    """Evolution: mutants of the best, screened by the model."""
    draw = random.Random(seed)
    known = {}

    def ask(configs):
        for config in configs:
            if len(known) < budget and config not in known:
                known[config] = measure(config)

    members = set(space)
    values = [sorted({config[part] for config in space}) for part in range(len(space[0]))]
    ask(draw.sample(space, min(len(space), 16)))
    while len(known) < min(budget, len(space)):
        parents = sorted(known, key=known.get)[:8]
        children = set()
        for parent in parents:
            for _ in range(24):
                child = list(parent)
                for part in draw.sample(range(len(child)), 2):
                    child[part] = draw.choice(values[part])
                children.add(tuple(child))
        children = sorted((children & members) - set(known))
        fresh = sorted(members - set(known))
        children = list(dict.fromkeys(children + draw.sample(fresh, min(60, len(fresh)))))

        def rows(configs):
            return np.array([features(config) for config in configs])

        predict = fit(rows(known), np.array(list(known.values())))
        scores = predict(rows(children))
        ask([children[place] for place in np.argsort(scores)[:6]])
    history = list(known.items())
    return min(known, key=known.get), history


# %% interpret: arrays
def grid(schedule):
    """All loop values as arrays, one entry for each iteration, and which of them count."""
    extents = [extent for _, extent in schedule["loops"]]
    values = np.indices(extents).reshape(len(extents), -1)
    at = dict(zip((name for name, _ in schedule["loops"]), values))
    on = np.ones(values.shape[1], bool)
    for expr, bound in schedule["guards"]:
        on &= np.broadcast_to(evaluate(expr, at) < bound, on.shape)
    return [np.broadcast_to(evaluate(e, at), on.shape)[on] for e in schedule["binds"].values()]


def points(schedule):
    return list(zip(*(axis.tolist() for axis in grid(schedule))))


def interpret(algorithm, schedule, arrays):
    axes = dict(zip(schedule["binds"], grid(schedule)))
    start, combine = (0.0, np.add) if algorithm["combine"] == "+" else (-np.inf, np.maximum)
    out = np.full([algorithm["axes"][axis] for axis in algorithm["out"][1:]], start)
    places = tuple(axes[axis] for axis in algorithm["out"][1:])
    combine.at(out, places, value_of(algorithm["value"], axes, arrays))
    return out


# %% legality: arrays
def distances(write, reads):
    d = np.asarray(write) - np.asarray(reads)
    d = d[np.any(d != 0, axis=1)]
    if len(d) == 0:
        return []
    first = np.argmax(d != 0, axis=1)
    d = d * np.sign(d[np.arange(len(d)), first])[:, None]
    return [tuple(row) for row in np.unique(d, axis=0).tolist()]


def legal(distances, order):
    if len(distances) == 0:
        return True
    d = np.asarray(distances)[:, order]
    return bool(np.all(d[np.arange(len(d)), np.argmax(d != 0, axis=1)] > 0))


def parallel(distances, order):
    if not legal(distances, order):
        raise ValueError("illegal")
    busy = np.zeros(len(order), bool)
    if len(distances):
        busy[np.argmax(np.asarray(distances)[:, order] != 0, axis=1)] = True
    return np.flatnonzero(~busy).tolist()


def tileable(distances):
    return bool(np.all(np.asarray(list(distances), int) >= 0))


def skew(distances):
    needed = [0] + [math.ceil(-b / a) for a, b in distances if a > 0]
    return max(needed)


# %% cache: arrays
def lru_misses(addresses, line, sets, ways):
    tags = np.full((sets, ways), -1, np.int64)
    used = np.zeros((sets, ways), np.int64)
    misses = 0
    for now, address in enumerate(addresses, 1):
        number = int(address) // line
        row = number % sets
        place = np.flatnonzero(tags[row] == number)
        if len(place):
            used[row, place[0]] = now
            continue
        misses += 1
        victim = int(np.argmin(used[row]))
        tags[row, victim], used[row, victim] = number, now
    return misses


def stack_distances(lines):
    last, found = {}, []
    for now, line in enumerate(lines):
        since = last.get(line)
        found.append(-1 if since is None else sum(time > since for time in last.values()))
        last[line] = now
    return found


# %% fit: arrays
def fit(x, y):
    """A Gaussian process with one length for all features."""
    x = np.array(x, float)
    y = np.array(y, float)
    most = np.max(y[np.isfinite(y)], initial=1e-3)
    target = np.log(np.where(np.isfinite(y), y, 3 * most))
    scale = np.where(x.std(0) > 0, x.std(0), 1)

    def kernel(rows):
        gaps = (np.asarray(rows, float)[:, None, :] - x[None]) / scale
        return np.exp(-np.square(gaps).sum(2) / 18)

    weights = np.linalg.solve(kernel(x) + 0.05 * np.eye(len(x)), target - target.mean())
    return lambda rows: kernel(rows) @ weights


# %% tune: arrays
def tune(space, features, measure, budget, seed, fit):
    """One at a time, after a first sixth at random; every eighth is random again."""
    draw = np.random.default_rng(seed)
    x = np.stack([features(config) for config in space])
    open_ = np.ones(len(space), bool)
    order, costs = [], []
    count = min(budget, len(space))
    while len(order) < count:
        left = np.flatnonzero(open_)
        if len(order) < count / 6 + 4 or len(order) % 8 == 0:
            choice = int(draw.choice(left))
        else:
            choice = int(left[np.argmin(fit(x[order], np.array(costs))(x[left]))])
        open_[choice] = False
        order.append(choice)
        costs.append(measure(space[choice]))
    return space[order[int(np.argmin(costs))]], [(space[i], c) for i, c in zip(order, costs)]
