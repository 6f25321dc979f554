# Right answers in other styles, which must keep all points.

# %% forward: worklists
def forward_rules():
    """Each rule as a function with a name."""
    zero = 0.0

    def mul_first(t, out, a, b):
        return mul(b, t)

    def mul_second(t, out, a, b):
        return mul(a, t)

    def div_first(t, out, a, b):
        return div(t, b)

    def div_second(t, out, a, b):
        return div(neg(mul(a, t)), mul(b, b))

    def power_rule(t, out, x, exponent):
        return mul(float(exponent), mul(power(x, exponent - 1), t))

    def maximum_first(t, out, a, b):
        return mul(t, add(greater(a, b), mul(0.5, equal(a, b))))

    def maximum_second(t, out, a, b):
        return mul(t, add(greater(b, a), mul(0.5, equal(a, b))))

    def where_first(t, out, mask, a, b):
        return where(mask, broadcast(t, out.shape), zero)

    def where_second(t, out, mask, a, b):
        return where(mask, zero, broadcast(t, out.shape))

    def max_rule(t, out, x, axis, keepdims):
        # The first of several maxima takes all.
        flat_axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
        kept = [k for k in range(x.ndim) if k not in flat_axes]
        order = (*kept, *(int(k) for k in sorted(flat_axes)))
        rows = transpose(x, order).value.reshape(*(x.shape[k] for k in kept), -1)
        first = np.zeros(rows.shape)
        np.put_along_axis(first, rows.argmax(-1)[..., None], 1.0, -1)
        shape = tuple(x.shape[k] for k in order)
        mask = first.reshape(shape).transpose([int(k) for k in np.argsort(order)])
        return sum(t * mask, axis, keepdims)

    return {
        "mul": (mul_first, mul_second),
        "div": (div_first, div_second),
        "power": (power_rule,),
        "exp": (lambda t, out, x: mul(exp(x), t),),
        "log": (lambda t, out, x: mul(power(x, -1), t),),
        "tanh": (lambda t, out, x: sub(t, mul(t, power(out, 2))),),
        "maximum": (maximum_first, maximum_second),
        "where": (None, where_first, where_second),
        "matmul": (lambda t, out, a, b: matmul(t, b), lambda t, out, a, b: matmul(a, t)),
        "max": (max_rule,),
    }


def jvp(f, x, v):
    """Tangents on demand, with a stack in place of a loop over all nodes."""
    start = alias(x)
    y = node(f(start))
    known = {start: node(v)}
    stack = [y]
    while stack:
        n = stack[-1]
        if n in known or n.number < start.number:
            known.setdefault(n, None)
            stack.pop()
            continue
        waiting = [x for x in n.inputs if x not in known]
        if waiting:
            stack.extend(waiting)
            continue
        parts = [
            rule(known[x], n, *n.inputs, **n.attrs)
            for x, rule in zip(n.inputs, JVP[n.op] if n.inputs else ())
            if rule is not None and known[x] is not None
        ]
        total = None
        for part in parts:
            total = part if total is None else total + part
        known[n] = total
        stack.pop()
    return y, Node(np.zeros(y.shape)) if known[y] is None else known[y]


# %% broadcasting: worklists
def unbroadcast(g, shape):
    """One axis after another."""
    shape = tuple(shape)
    while g.ndim > len(shape):
        g = sum(g, 0)
    for axis in range(len(shape)):
        if shape[axis] == 1 and g.shape[axis] != 1:
            g = sum(g, axis, True)
    return g


def broadcasting_rules():
    def both(first, second):
        return (
            lambda g, out, a, b: unbroadcast(first(g, out, a, b), a.shape),
            lambda g, out, a, b: unbroadcast(second(g, out, a, b), b.shape),
        )

    def t(x):
        return transpose(x, tuple(range(x.ndim - 2)) + (x.ndim - 1, x.ndim - 2))

    def half(a, b):
        return 0.5 * equal(a, b)

    return {
        "add": both(lambda g, out, a, b: g, lambda g, out, a, b: g),
        "sub": both(lambda g, out, a, b: g, lambda g, out, a, b: neg(g)),
        "mul": both(lambda g, out, a, b: g * b, lambda g, out, a, b: a * g),
        "div": both(lambda g, out, a, b: g / b, lambda g, out, a, b: -g * a / (b * b)),
        "maximum": both(
            lambda g, out, a, b: g * (greater(a, b) + half(a, b)),
            lambda g, out, a, b: g * (greater(b, a) + half(a, b)),
        ),
        "where": (
            None,
            lambda g, out, mask, a, b: unbroadcast(where(mask, g, np.zeros(out.shape)), a.shape),
            lambda g, out, mask, a, b: unbroadcast(where(mask, np.zeros(out.shape), g), b.shape),
        ),
        "matmul": both(lambda g, out, a, b: matmul(g, t(b)), lambda g, out, a, b: matmul(t(a), g)),
        "broadcast": (lambda g, out, x, **_: unbroadcast(g, x.shape),),
    }


# %% one_input: worklists
def one_input_rules():
    def ones(shape, axis):
        """`shape` after a reduction with keepdims."""
        return np.sum(np.empty(shape), axis, keepdims=True).shape

    def sum_rule(g, out, x, axis, keepdims):
        if not keepdims:
            g = reshape(g, ones(x.shape, axis))
        return g + np.zeros(x.shape)

    def max_rule(g, out, x, axis, keepdims):
        top = max(x, axis, keepdims=True)
        mask = equal(x, top).value
        mask /= mask.sum(axis, keepdims=True)
        return reshape(g, top.shape) * mask

    def transpose_rule(g, out, x, axes):
        inverse = [0] * len(axes)
        for place, axis in enumerate(axes):
            inverse[axis] = place
        return transpose(g, tuple(inverse))

    return {
        "exp": (lambda g, out, x: g * exp(x),),
        "log": (lambda g, out, x: g * power(x, -1),),
        "tanh": (lambda g, out, x: g - g * out**2,),
        "power": (lambda g, out, x, exponent: g * power(x, exponent - 1) * float(exponent),),
        "sum": (sum_rule,),
        "max": (max_rule,),
        "reshape": (lambda g, out, x, **_: reshape(g, x.shape),),
        "transpose": (transpose_rule,),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, **_: take(g, index),),
    }


# %% pullback: worklists
def pullback(y, xs, g):
    """Counts the uses of each node that are still to come (Kahn's algorithm)."""
    depends = {}
    for n in ancestors(y):
        depends[n] = n in xs or any(depends[x] for x in n.inputs)
    uses = Counter(x for n in depends if depends[n] for x in n.inputs if depends[x])
    parts = {n: [] for n in depends}
    parts[y].append(node(g))
    finished, ready = {}, [y]
    while ready:
        n = ready.pop()
        total = None
        for part in parts[n]:
            total = part if total is None else total + part
        finished[n] = total
        rules = VJP.get(n.op, (None,) * len(n.inputs))
        for x, rule in zip(n.inputs, rules):
            if not depends[x] or not depends[n]:
                continue
            if rule is not None and total is not None:
                parts[x].append(rule(total, n, *n.inputs, **n.attrs))
            uses[x] -= 1
            if uses[x] == 0:
                ready.append(x)
    answers = []
    for x in xs:
        found = finished.get(x)
        answers.append(Node(np.zeros(x.shape)) if found is None else found)
    return answers


# %% higher: worklists
class Gradient:
    """A callable object; the Hessian product is the gradient of a product with the gradient."""

    def __init__(self, f, argnum=0):
        self.f, self.argnum = f, argnum

    def __call__(self, *args):
        own = Node(0.0)
        args = list(args)
        own = reshape(node(args[self.argnum]), node(args[self.argnum]).shape)
        args[self.argnum] = own
        result = node(self.f(*args))
        if result.ndim:
            raise ValueError("the function has no scalar value")
        (answer,) = pullback(result, [own], Node(1.0))
        return answer


def grad(f, argnum=0):
    return Gradient(f, argnum)


def hvp(f, x, v):
    return grad(lambda z: sum(grad(f)(z) * v))(x)


# %% xent: worklists
def logsumexp(x, axis):
    top = max(x, axis, keepdims=True)
    shifted = sum(exp(x - top), axis, keepdims=True)
    total = log(shifted) + top
    return sum(total, axis)


def softmax_xent(logits, labels):
    rows, columns = logits.shape
    chosen = np.eye(columns)[labels]
    return sum(logsumexp(logits, 1)) / rows - sum(logits * chosen) / rows


# %% gradcheck: worklists
def gradcheck(f, *xs, tol=1e-6):
    """Richardson extrapolation of two central differences, all elements in one array."""
    xs = [np.asarray(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    random = np.random.default_rng()
    g = random.choice([-1.0, 1.0], y.shape) * random.uniform(0.5, 1.5, y.shape)
    adjoints = pullback(y, nodes, g)
    if any(a.shape != x.shape for a, x in zip(adjoints, xs)):
        return False

    def at(k, flat):
        moved = [Node(flat.reshape(x.shape) if i == k else x) for i, x in enumerate(xs)]
        return np.sum(node(f(*moved)).value * g)

    for k, x in enumerate(xs):
        flat = x.ravel()
        for i in range(flat.size):
            unit = np.zeros(flat.size)
            unit[i] = 1e-4 * float(np.maximum(abs(flat[i]), 0.01))
            near = (at(k, flat + unit) - at(k, flat - unit)) / (2 * unit[i])
            far = (at(k, flat + 2 * unit) - at(k, flat - 2 * unit)) / (4 * unit[i])
            slope = (4 * near - far) / 3
            error = abs(adjoints[k].value.ravel()[i] - slope)
            if np.isnan(error) or error > tol * (1 + abs(slope)):
                return False
    return True


# %% jacobian_cost: worklists
def jacobian_cost(sizes):
    from functools import cache

    last = len(sizes) - 1

    @cache
    def least(i, k):
        if k - i == 1:
            return 0
        return min(
            least(i, j) + least(j, k) + sizes[i] * sizes[j] * sizes[k] for j in range(i + 1, k)
        )

    def along(order):
        i, k = order[0], order[0] + 1
        total = 0
        for layer in order[1:]:
            i, k, middle = min(i, layer), (layer + 1 if layer >= k else k), (k if layer >= k else i)
            total += sizes[i] * sizes[middle] * sizes[k]
        return total

    layers = list(range(last))
    return along(layers), along(layers[::-1]), least(0, last)


# %% forward: marks
def forward_rules():
    """The rules of the reverse mode know the same factors; here they are shared."""
    factors = {
        "exp": lambda out, x: out,
        "log": lambda out, x: 1.0 / x,
        "tanh": lambda out, x: 1.0 - out * out,
    }
    rules = {
        op: ((lambda t, out, x, factor=factor: t * factor(out, x)),)
        for op, factor in factors.items()
    }
    rules["power"] = (lambda t, out, x, exponent: exponent * (x ** (exponent - 1) * t),)
    rules["mul"] = (lambda t, out, a, b: t * b, lambda t, out, a, b: a * t)
    rules["div"] = (lambda t, out, a, b: t / b, lambda t, out, a, b: t * (-out / b))
    rules["matmul"] = (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t)
    rules["maximum"] = (
        lambda t, out, a, b: t * (1.0 - greater(b, a)),
        lambda t, out, a, b: t * greater(b, a),
    )
    rules["where"] = (
        None,
        lambda t, out, mask, a, b: where(mask, t, np.zeros(out.shape)),
        lambda t, out, mask, a, b: where(mask, np.zeros(out.shape), t),
    )

    def of_max(t, out, x, axis, keepdims):
        weights = equal(x, max(x, axis, True)).value
        weights = weights / weights.sum(axis, keepdims=True)
        return sum(t * weights, axis, keepdims)

    rules["max"] = (of_max,)
    return rules


def jvp(f, x, v):
    """First which nodes move, then how."""
    start = reshape(x, node(x).shape)
    y = node(f(start))
    order = [n for n in ancestors(y) if n.number >= start.number]
    moving = {start}
    for n in order:
        if moving.intersection(n.inputs):
            moving.add(n)
    tangent = {start: node(v)}
    for n in order:
        if n in moving and n is not start:
            parts = []
            for i, x in enumerate(n.inputs):
                rule = JVP[n.op][i]
                if x in moving and rule is not None and x in tangent:
                    parts.append(rule(tangent[x], n, *n.inputs, **n.attrs))
            if parts:
                tangent[n] = parts[0] if len(parts) == 1 else add(parts[0], parts[1])
                for part in parts[2:]:
                    tangent[n] = add(tangent[n], part)
    return y, tangent[y] if y in tangent else Node(np.zeros(y.shape))


# %% pullback: marks
import heapq


def pullback(y, xs, g):
    """A heap of nodes, the newest on top."""
    wanted = {x.number for x in xs}
    active = set()
    for n in ancestors(y):
        if n.number in wanted or any(x.number in active for x in n.inputs):
            active.add(n.number)
    if y.number not in active:
        return [Node(np.zeros(x.shape)) for x in xs]
    sums = {y.number: node(g)}
    heap, queued = [(-y.number, y)], {y.number}
    while heap:
        _, n = heapq.heappop(heap)
        for position, x in enumerate(n.inputs):
            rule = VJP[n.op][position]
            if rule is None or x.number not in active:
                continue
            part = rule(sums[n.number], n, *n.inputs, **n.attrs)
            if x.number in sums:
                part = sums[x.number] + part
            sums[x.number] = part
            if x.number not in queued:
                queued.add(x.number)
                heapq.heappush(heap, (-x.number, x))
    return [sums.get(x.number, Node(np.zeros(x.shape))) for x in xs]


# %% higher: marks
def grad(f, argnum=0):
    def df(*args):
        moving = alias(args[argnum])
        y = f(*(moving if i == argnum else arg for i, arg in enumerate(map(node, args))))
        y = node(y)
        if y.value.ndim != 0:
            raise ValueError(f"grad needs a scalar, not shape {y.shape}")
        return pullback(y, [moving], np.array(1.0))[0]

    return df


def hvp(f, x, v):
    start = alias(x)
    slope = grad(f)(start)
    return pullback(slope, [start], node(v))[0]


# %% gradcheck: marks
def gradcheck(f, *xs, tol=1e-6):
    """One-sided differences would do for this tolerance, if the step is small; these are central."""
    values = [np.array(x, dtype=float, ndmin=0) for x in xs]
    with replaced({}, {}):
        inputs = [Node(x) for x in values]
        out = node(f(*inputs))
    weights = np.cos(1.0 + 2.0 * np.arange(out.value.size)).reshape(out.shape)
    got = pullback(out, inputs, weights)
    ok = all(a.shape == x.shape for a, x in zip(got, values))
    for which, x in enumerate(values):
        for flat in range(x.size):
            if not ok:
                return False
            place = np.unravel_index(flat, x.shape)
            h = np.cbrt(2.2e-16) * float(np.maximum(abs(x[place]), 1e-2))
            sides = []
            for sign in (1.0, -1.0):
                shifted = x.copy()
                shifted[place] = x[place] + sign * h
                moved = [shifted if i == which else z for i, z in enumerate(values)]
                sides.append(np.vdot(weights, node(f(*map(Node, moved))).value))
            slope = (sides[0] - sides[1]) / (2 * h)
            ok = bool(abs(got[which].value[place] - slope) <= tol + tol * abs(slope))
    return ok
