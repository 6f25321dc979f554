# Answers that people really give and that must lose their task's points.

# %% forward: the caller's node moves
def forward_rules():
    def max_rule(t, out, x, axis, keepdims):
        mask = equal(x, max(x, axis, keepdims=True))
        return sum(t * mask, axis, keepdims) / sum(mask, axis, keepdims)

    return {
        "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: t * a),
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -t * out / b),
        "power": (lambda t, out, x, exponent: exponent * t * x ** (exponent - 1),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t - t * out * out,),
        "maximum": (
            lambda t, out, a, b: t * greater(a, b),
            lambda t, out, a, b: t * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda t, out, m, a, b: broadcast(where(m, t, 0.0), out.shape),
            lambda t, out, m, a, b: broadcast(where(m, 0.0, t), out.shape),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (max_rule,),
    }


def jvp(f, x, v):
    x = node(x)
    y = node(f(x))
    tangents = {x: node(v)}
    for n in ancestors(y):
        for inp, rule in zip(n.inputs, JVP[n.op] if n.inputs else ()):
            if rule and inp in tangents and n is not x:
                part = rule(tangents[inp], n, *n.inputs, **n.attrs)
                tangents[n] = tangents[n] + part if n in tangents else part
    return y, tangents.get(y, Node(np.zeros(y.shape)))


# %% forward: the second contribution replaces the first
def forward_rules():
    def max_rule(t, out, x, axis, keepdims):
        mask = equal(x, max(x, axis, keepdims=True))
        return sum(t * mask, axis, keepdims) / sum(mask, axis, keepdims)

    return {
        "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: t * a),
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -t * out / b),
        "power": (lambda t, out, x, exponent: exponent * t * x ** (exponent - 1),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t - t * out * out,),
        "maximum": (
            lambda t, out, a, b: t * greater(a, b),
            lambda t, out, a, b: t * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda t, out, m, a, b: broadcast(where(m, t, 0.0), out.shape),
            lambda t, out, m, a, b: broadcast(where(m, 0.0, t), out.shape),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (max_rule,),
    }


def jvp(f, x, v):
    start = alias(x)
    y = node(f(start))
    tangents = {start: node(v)}
    for n in ancestors(y):
        for inp, rule in zip(n.inputs, JVP[n.op] if n.inputs else ()):
            if rule and inp in tangents:
                tangents[n] = rule(tangents[inp], n, *n.inputs, **n.attrs)
    return y, tangents.get(y, Node(np.zeros(y.shape)))


# %% forward: a tangent of the shape of the input
def forward_rules():
    def max_rule(t, out, x, axis, keepdims):
        mask = equal(x, max(x, axis, keepdims=True))
        return sum(t * mask, axis, keepdims) / sum(mask, axis, keepdims)

    return {
        "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: t * a),
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -t * out / b),
        "power": (lambda t, out, x, exponent: exponent * t * x ** (exponent - 1),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t - t * out * out,),
        "maximum": (
            lambda t, out, a, b: t * greater(a, b),
            lambda t, out, a, b: t * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda t, out, m, a, b: where(m, t, 0.0),
            lambda t, out, m, a, b: where(m, 0.0, t),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (max_rule,),
    }


def jvp(f, x, v):
    start = alias(x)
    y = node(f(start))
    tangents = {start: node(v)}
    for n in ancestors(y):
        for inp, rule in zip(n.inputs, JVP[n.op] if n.inputs else ()):
            if rule and inp in tangents:
                part = rule(tangents[inp], n, *n.inputs, **n.attrs)
                tangents[n] = tangents[n] + part if n in tangents else part
    return y, tangents.get(y, Node(np.zeros(y.shape)))


# %% forward: over all paths, and through constants
def forward_rules():
    def max_rule(t, out, x, axis, keepdims):
        mask = equal(x, max(x, axis, keepdims=True))
        return sum(t * mask, axis, keepdims) / sum(mask, axis, keepdims)

    return {
        "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: t * a),
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -t * out / b),
        "power": (lambda t, out, x, exponent: exponent * t * x ** (exponent - 1),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t - t * out * out,),
        "maximum": (
            lambda t, out, a, b: t * greater(a, b),
            lambda t, out, a, b: t * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda t, out, m, a, b: broadcast(where(m, t, 0.0), out.shape),
            lambda t, out, m, a, b: broadcast(where(m, 0.0, t), out.shape),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (max_rule,),
    }


def jvp(f, x, v):
    start = alias(x)
    y = node(f(start))

    def tangent(n):
        if n is start:
            return node(v)
        total = Node(np.zeros(n.shape))
        for inp, rule in zip(n.inputs, JVP[n.op] if n.inputs else ()):
            if rule:
                total = total + rule(tangent(inp), n, *n.inputs, **n.attrs)
        return total

    return y, tangent(y)


# %% forward: constants have tangents of zeros
def forward_rules():
    def max_rule(t, out, x, axis, keepdims):
        mask = equal(x, max(x, axis, keepdims=True))
        return sum(t * mask, axis, keepdims) / sum(mask, axis, keepdims)

    return {
        "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: t * a),
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -t * out / b),
        "power": (lambda t, out, x, exponent: exponent * t * x ** (exponent - 1),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t - t * out * out,),
        "maximum": (
            lambda t, out, a, b: t * greater(a, b),
            lambda t, out, a, b: t * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda t, out, m, a, b: broadcast(where(m, t, 0.0), out.shape),
            lambda t, out, m, a, b: broadcast(where(m, 0.0, t), out.shape),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (max_rule,),
    }


def jvp(f, x, v):
    start = alias(x)
    y = node(f(start))
    tangents = {}
    for n in ancestors(y):
        tangents[n] = node(v) if n is start else Node(np.zeros(n.shape))
        if n is start:
            continue
        for inp, rule in zip(n.inputs, JVP[n.op] if n.inputs else ()):
            if rule:
                tangents[n] = tangents[n] + rule(tangents[inp], n, *n.inputs, **n.attrs)
    return y, tangents[y]


# %% forward: the rule of max adds up all ties
def forward_rules():
    return {
        "mul": (lambda t, out, a, b: t * b, lambda t, out, a, b: t * a),
        "div": (lambda t, out, a, b: t / b, lambda t, out, a, b: -t * out / b),
        "power": (lambda t, out, x, exponent: exponent * t * x ** (exponent - 1),),
        "exp": (lambda t, out, x: t * out,),
        "log": (lambda t, out, x: t / x,),
        "tanh": (lambda t, out, x: t - t * out * out,),
        "maximum": (
            lambda t, out, a, b: t * greater(a, b),
            lambda t, out, a, b: t * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda t, out, m, a, b: broadcast(where(m, t, 0.0), out.shape),
            lambda t, out, m, a, b: broadcast(where(m, 0.0, t), out.shape),
        ),
        "matmul": (lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
        "max": (
            lambda t, out, x, axis, keepdims: sum(
                t * equal(x, max(x, axis, keepdims=True)), axis, keepdims
            ),
        ),
    }


def jvp(f, x, v):
    start = alias(x)
    y = node(f(start))
    tangents = {start: node(v)}
    for n in ancestors(y):
        for inp, rule in zip(n.inputs, JVP[n.op] if n.inputs else ()):
            if rule and inp in tangents:
                part = rule(tangents[inp], n, *n.inputs, **n.attrs)
                tangents[n] = tangents[n] + part if n in tangents else part
    return y, tangents.get(y, Node(np.zeros(y.shape)))


# %% broadcasting: no unbroadcast in the products
def unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < extra or shape[k - extra] != g.shape[k])
    return reshape(sum(g, axes), shape) if axes else g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    return {
        "add": (lambda g, o, a, b: g, lambda g, o, a, b: g),
        "sub": (lambda g, o, a, b: g, lambda g, o, a, b: -g),
        "mul": (lambda g, o, a, b: g * b, lambda g, o, a, b: g * a),
        "div": (lambda g, o, a, b: g / b, lambda g, o, a, b: -g * o / b),
        "maximum": (
            lambda g, o, a, b: g * greater(a, b),
            lambda g, o, a, b: g * (1.0 - greater(a, b)),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: where(m, g, 0.0),
            lambda g, o, m, a, b: where(m, 0.0, g),
        ),
        "matmul": (lambda g, o, a, b: g @ t(b), lambda g, o, a, b: t(a) @ g),
        "broadcast": (lambda g, o, x, shape: unbroadcast(g, x.shape),),
    }


# %% broadcasting: only missing axes are summed, not those of size 1
def unbroadcast(g, shape):
    while g.ndim > len(shape):
        g = sum(g, 0)
    return g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    u = unbroadcast
    return {
        "add": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: u(g, b.shape)),
        "sub": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: -u(g, b.shape)),
        "mul": (lambda g, o, a, b: u(g * b, a.shape), lambda g, o, a, b: u(g * a, b.shape)),
        "div": (lambda g, o, a, b: u(g / b, a.shape), lambda g, o, a, b: -u(g * o / b, b.shape)),
        "maximum": (
            lambda g, o, a, b: u(g * greater(a, b), a.shape),
            lambda g, o, a, b: u(g * (1.0 - greater(a, b)), b.shape),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: u(where(m, g, 0.0), a.shape),
            lambda g, o, m, a, b: u(where(m, 0.0, g), b.shape),
        ),
        "matmul": (
            lambda g, o, a, b: u(g @ t(b), a.shape),
            lambda g, o, a, b: u(t(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, o, x, shape: u(g, x.shape),),
    }


# %% broadcasting: matmul with the transposes exchanged
def unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < extra or shape[k - extra] != g.shape[k])
    return reshape(sum(g, axes), shape) if axes else g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    u = unbroadcast
    return {
        "add": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: u(g, b.shape)),
        "sub": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: -u(g, b.shape)),
        "mul": (lambda g, o, a, b: u(g * b, a.shape), lambda g, o, a, b: u(g * a, b.shape)),
        "div": (lambda g, o, a, b: u(g / b, a.shape), lambda g, o, a, b: -u(g * o / b, b.shape)),
        "maximum": (
            lambda g, o, a, b: u(g * greater(a, b), a.shape),
            lambda g, o, a, b: u(g * (1.0 - greater(a, b)), b.shape),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: u(where(m, g, 0.0), a.shape),
            lambda g, o, m, a, b: u(where(m, 0.0, g), b.shape),
        ),
        "matmul": (
            lambda g, o, a, b: u(g @ (b if b.shape[-1] == b.shape[-2] else t(b)), a.shape),
            lambda g, o, a, b: u(t(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, o, x, shape: u(g, x.shape),),
    }


# %% broadcasting: where multiplies by the mask
def unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < extra or shape[k - extra] != g.shape[k])
    return reshape(sum(g, axes), shape) if axes else g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    u = unbroadcast
    return {
        "add": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: u(g, b.shape)),
        "sub": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: -u(g, b.shape)),
        "mul": (lambda g, o, a, b: u(g * b, a.shape), lambda g, o, a, b: u(g * a, b.shape)),
        "div": (lambda g, o, a, b: u(g / b, a.shape), lambda g, o, a, b: -u(g * o / b, b.shape)),
        "maximum": (
            lambda g, o, a, b: u(g * greater(a, b), a.shape),
            lambda g, o, a, b: u(g * (1.0 - greater(a, b)), b.shape),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: u(g * m, a.shape),
            lambda g, o, m, a, b: u(g * (1.0 - m), b.shape),
        ),
        "matmul": (
            lambda g, o, a, b: u(g @ t(b), a.shape),
            lambda g, o, a, b: u(t(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, o, x, shape: u(g, x.shape),),
    }


# %% broadcasting: rules that compute with values
def unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < extra or shape[k - extra] != g.shape[k])
    return reshape(sum(g, axes), shape) if axes else g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    u = unbroadcast
    return {
        "add": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: u(g, b.shape)),
        "sub": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: -u(g, b.shape)),
        "mul": (
            lambda g, o, a, b: u(g * b.value, a.shape),
            lambda g, o, a, b: u(g * a.value, b.shape),
        ),
        "div": (
            lambda g, o, a, b: u(g / b.value, a.shape),
            lambda g, o, a, b: -u(g * (o / b).value, b.shape),
        ),
        "maximum": (
            lambda g, o, a, b: u(g * greater(a, b), a.shape),
            lambda g, o, a, b: u(g * (1.0 - greater(a, b)), b.shape),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: u(where(m, g, 0.0), a.shape),
            lambda g, o, m, a, b: u(where(m, 0.0, g), b.shape),
        ),
        "matmul": (
            lambda g, o, a, b: u(g @ t(b), a.shape),
            lambda g, o, a, b: u(t(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, o, x, shape: u(g, x.shape),),
    }


# %% broadcasting: both sides of a tie get all
def unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < extra or shape[k - extra] != g.shape[k])
    return reshape(sum(g, axes), shape) if axes else g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    u = unbroadcast
    return {
        "add": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: u(g, b.shape)),
        "sub": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: -u(g, b.shape)),
        "mul": (lambda g, o, a, b: u(g * b, a.shape), lambda g, o, a, b: u(g * a, b.shape)),
        "div": (lambda g, o, a, b: u(g / b, a.shape), lambda g, o, a, b: -u(g * o / b, b.shape)),
        "maximum": (
            lambda g, o, a, b: u(g * equal(a, o), a.shape),
            lambda g, o, a, b: u(g * equal(b, o), b.shape),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: u(where(m, g, 0.0), a.shape),
            lambda g, o, m, a, b: u(where(m, 0.0, g), b.shape),
        ),
        "matmul": (
            lambda g, o, a, b: u(g @ t(b), a.shape),
            lambda g, o, a, b: u(t(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, o, x, shape: u(g, x.shape),),
    }


# %% broadcasting: the sign of a division
def unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < extra or shape[k - extra] != g.shape[k])
    return reshape(sum(g, axes), shape) if axes else g


def broadcasting_rules():
    def t(x):
        return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    u = unbroadcast
    return {
        "add": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: u(g, b.shape)),
        "sub": (lambda g, o, a, b: u(g, a.shape), lambda g, o, a, b: -u(g, b.shape)),
        "mul": (lambda g, o, a, b: u(g * b, a.shape), lambda g, o, a, b: u(g * a, b.shape)),
        "div": (lambda g, o, a, b: u(g / b, a.shape), lambda g, o, a, b: u(g * o / b, b.shape)),
        "maximum": (
            lambda g, o, a, b: u(g * greater(a, b), a.shape),
            lambda g, o, a, b: u(g * (1.0 - greater(a, b)), b.shape),
        ),
        "where": (
            None,
            lambda g, o, m, a, b: u(where(m, g, 0.0), a.shape),
            lambda g, o, m, a, b: u(where(m, 0.0, g), b.shape),
        ),
        "matmul": (
            lambda g, o, a, b: u(g @ t(b), a.shape),
            lambda g, o, a, b: u(t(a) @ g, b.shape),
        ),
        "broadcast": (lambda g, o, x, shape: u(g, x.shape),),
    }


# %% one_input: every element at the maximum gets the whole adjoint
def one_input_rules():
    def back(g, x, axis):
        axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
        return reshape(g, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))

    return {
        "exp": (lambda g, out, x: g * out,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g - g * out * out,),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (lambda g, out, x, axis, keepdims: broadcast(back(g, x, axis), x.shape),),
        "max": (lambda g, out, x, axis, keepdims: back(g, x, axis) * equal(x, back(out, x, axis)),),
        "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
        "transpose": (
            lambda g, out, x, axes: transpose(g, tuple(axes.index(k) for k in range(x.ndim))),
        ),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }


# %% one_input: an element that was read twice keeps one adjoint
def one_input_rules():
    def back(g, x, axis):
        axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
        return reshape(g, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))

    def max_rule(g, out, x, axis, keepdims):
        mask = equal(x, back(out, x, axis))
        return mask * (back(g, x, axis) / sum(mask, axis, True))

    def take_rule(g, out, x, index):
        zeros = np.zeros(x.shape)
        zeros[index] += g.value
        return Node(zeros)

    return {
        "exp": (lambda g, out, x: g * out,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g - g * out * out,),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (lambda g, out, x, axis, keepdims: broadcast(back(g, x, axis), x.shape),),
        "max": (max_rule,),
        "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
        "transpose": (
            lambda g, out, x, axes: transpose(g, tuple(axes.index(k) for k in range(x.ndim))),
        ),
        "take": (take_rule,),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }


# %% one_input: the permutation itself instead of its inverse
def one_input_rules():
    def back(g, x, axis):
        axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
        return reshape(g, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))

    def max_rule(g, out, x, axis, keepdims):
        mask = equal(x, back(out, x, axis))
        return mask * (back(g, x, axis) / sum(mask, axis, True))

    return {
        "exp": (lambda g, out, x: g * out,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g - g * out * out,),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (lambda g, out, x, axis, keepdims: broadcast(back(g, x, axis), x.shape),),
        "max": (max_rule,),
        "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
        "transpose": (lambda g, out, x, axes: transpose(g, axes),),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }


# %% one_input: broadcasts without the lost axis
def one_input_rules():
    def spread(g, x, axis, keepdims):
        return broadcast(g, x.shape)

    def max_rule(g, out, x, axis, keepdims):
        mask = equal(x, max(x, axis, True))
        return mask * (spread(g, x, axis, keepdims) / sum(mask, axis, True))

    return {
        "exp": (lambda g, out, x: g * out,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g - g * out * out,),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (lambda g, out, x, axis, keepdims: spread(g, x, axis, keepdims),),
        "max": (max_rule,),
        "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
        "transpose": (
            lambda g, out, x, axes: transpose(g, tuple(axes.index(k) for k in range(x.ndim))),
        ),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }


# %% one_input: does not know negative axes
def one_input_rules():
    def back(g, x, axis):
        axes = (
            tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        )
        return reshape(g, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))

    def max_rule(g, out, x, axis, keepdims):
        mask = equal(x, back(out, x, axis))
        return mask * (back(g, x, axis) / sum(mask, axis, True))

    return {
        "exp": (lambda g, out, x: g * out,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g - g * out * out,),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (lambda g, out, x, axis, keepdims: broadcast(back(g, x, axis), x.shape),),
        "max": (max_rule,),
        "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
        "transpose": (
            lambda g, out, x, axes: transpose(g, tuple(axes.index(k) for k in range(x.ndim))),
        ),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }


# %% one_input: the derivative of tanh is a constant
def one_input_rules():
    def back(g, x, axis):
        axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
        return reshape(g, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))

    def max_rule(g, out, x, axis, keepdims):
        mask = equal(x, back(out, x, axis))
        return mask * (back(g, x, axis) / sum(mask, axis, True))

    return {
        "exp": (lambda g, out, x: g * out.value,),
        "log": (lambda g, out, x: g / x,),
        "tanh": (lambda g, out, x: g * (1.0 - out.value**2),),
        "power": (lambda g, out, x, exponent: g * (exponent * x ** (exponent - 1)),),
        "sum": (lambda g, out, x, axis, keepdims: broadcast(back(g, x, axis), x.shape),),
        "max": (max_rule,),
        "reshape": (lambda g, out, x, shape: reshape(g, x.shape),),
        "transpose": (
            lambda g, out, x, axes: transpose(g, tuple(axes.index(k) for k in range(x.ndim))),
        ),
        "take": (lambda g, out, x, index: scatter(g, index, x.shape),),
        "scatter": (lambda g, out, x, index, shape: take(g, index),),
    }


# %% pullback: the last contribution replaces the others
def pullback(y, xs, g):
    order = ancestors(y)
    active = set(xs)
    for n in order:
        if any(x in active for x in n.inputs):
            active.add(n)
    adjoints = {y: node(g)}
    for n in reversed(order):
        if n in adjoints and n in active:
            for x, rule in zip(n.inputs, VJP.get(n.op, ())):
                if rule and x in active:
                    adjoints[x] = rule(adjoints[n], n, *n.inputs, **n.attrs)
    return [adjoints.get(x, Node(np.zeros(x.shape))) for x in xs]


# %% pullback: over all paths
def pullback(y, xs, g):
    totals = {x: Node(np.zeros(x.shape)) for x in xs}

    def visit(n, g):
        if n in totals:
            totals[n] = totals[n] + g
        for x, rule in zip(n.inputs, VJP.get(n.op, ())):
            if rule:
                visit(x, rule(g, n, *n.inputs, **n.attrs))

    visit(y, node(g))
    return [totals[x] for x in xs]


# %% pullback: no pruning
def pullback(y, xs, g):
    adjoints = {y: node(g)}
    for n in reversed(ancestors(y)):
        if n in adjoints:
            for x, rule in zip(n.inputs, VJP.get(n.op, ())):
                if rule:
                    part = rule(adjoints[n], n, *n.inputs, **n.attrs)
                    adjoints[x] = adjoints[x] + part if x in adjoints else part
    return [adjoints.get(x, Node(np.zeros(x.shape))) for x in xs]


# %% pullback: adjoints stay in the nodes
def pullback(y, xs, g):
    order = ancestors(y)
    active = set(xs)
    for n in order:
        if any(x in active for x in n.inputs):
            active.add(n)
    y.adjoint = node(g)
    for n in reversed(order):
        if n in active and getattr(n, "adjoint", None) is not None:
            for x, rule in zip(n.inputs, VJP.get(n.op, ())):
                if rule and x in active:
                    part = rule(n.adjoint, n, *n.inputs, **n.attrs)
                    known = getattr(x, "adjoint", None)
                    x.adjoint = part if known is None else known + part
    return [getattr(x, "adjoint", None) or Node(np.zeros(x.shape)) for x in xs]


# %% pullback: a queue, the first to come is the first to go
def pullback(y, xs, g):
    order = ancestors(y)
    active = set(xs)
    for n in order:
        if any(x in active for x in n.inputs):
            active.add(n)
    adjoints, queue, done = {y: node(g)}, [y], set()
    while queue:
        n = queue.pop(0)
        if n in done or n not in active:
            continue
        done.add(n)
        for x, rule in zip(n.inputs, VJP.get(n.op, ())):
            if rule and x in active:
                part = rule(adjoints[n], n, *n.inputs, **n.attrs)
                adjoints[x] = adjoints[x] + part if x in adjoints else part
                queue.append(x)
    return [adjoints.get(x, Node(np.zeros(x.shape))) for x in xs]


# %% pullback: stops at the first of the xs
def pullback(y, xs, g):
    order = ancestors(y)
    active = set(xs)
    for n in order:
        if any(x in active for x in n.inputs):
            active.add(n)
    adjoints = {y: node(g)}
    for n in reversed(order):
        if n in adjoints and n in active and n not in xs:
            for x, rule in zip(n.inputs, VJP.get(n.op, ())):
                if rule and x in active:
                    part = rule(adjoints[n], n, *n.inputs, **n.attrs)
                    adjoints[x] = adjoints[x] + part if x in adjoints else part
    return [adjoints.get(x, Node(np.zeros(x.shape))) for x in xs]


# %% pullback: adds in place
def pullback(y, xs, g):
    order = ancestors(y)
    active = set(xs)
    for n in order:
        if any(x in active for x in n.inputs):
            active.add(n)
    adjoints = {y: node(g)}
    for n in reversed(order):
        if n in adjoints and n in active:
            for x, rule in zip(n.inputs, VJP.get(n.op, ())):
                if rule and x in active:
                    part = rule(adjoints[n], n, *n.inputs, **n.attrs)
                    if x in adjoints:
                        adjoints[x].value = adjoints[x].value + part.value
                    else:
                        adjoints[x] = part
    return [adjoints.get(x, Node(np.zeros(x.shape))) for x in xs]


# %% higher: hvp by a finite difference
def grad(f, argnum=0):
    def gradient(*args):
        args = [node(arg) for arg in args]
        args[argnum] = alias(args[argnum])
        y = node(f(*args))
        if y.shape != ():
            raise ValueError("not a scalar")
        return pullback(y, [args[argnum]], 1.0)[0]

    return gradient


def hvp(f, x, v):
    x, v = node(x), node(v)
    h = 1e-5
    return (grad(f)(x + h * v) - grad(f)(x - h * v)) / (2 * h)


# %% higher: hvp by the whole Hessian
def grad(f, argnum=0):
    def gradient(*args):
        args = [node(arg) for arg in args]
        args[argnum] = alias(args[argnum])
        y = node(f(*args))
        if y.shape != ():
            raise ValueError("not a scalar")
        return pullback(y, [args[argnum]], 1.0)[0]

    return gradient


def hvp(f, x, v):
    x, v = node(x), node(v)
    start = alias(x)
    slope = grad(f)(start)
    total = 0.0
    for place in np.ndindex(x.shape):
        total = total + pullback(slope[place], [start], 1.0)[0] * v[place]
    return node(total)


# %% higher: the caller's node is differentiated
def grad(f, argnum=0):
    def gradient(*args):
        args = [node(arg) for arg in args]
        y = node(f(*args))
        if y.shape != ():
            raise ValueError("not a scalar")
        return pullback(y, [args[argnum]], 1.0)[0]

    return gradient


def hvp(f, x, v):
    return jvp(grad(f), x, v)[1]


# %% higher: the gradient has no graph
def grad(f, argnum=0):
    def gradient(*args):
        args = [node(arg) for arg in args]
        args[argnum] = alias(args[argnum])
        y = node(f(*args))
        if y.shape != ():
            raise ValueError("not a scalar")
        return stop(pullback(y, [args[argnum]], 1.0)[0])

    return gradient


def hvp(f, x, v):
    start = alias(x)
    y = node(f(start))
    slope = pullback(y, [start], 1.0)[0]
    return pullback(sum(slope * v), [start], 1.0)[0]


# %% higher: a vector is summed without a word
def grad(f, argnum=0):
    def gradient(*args):
        args = [node(arg) for arg in args]
        args[argnum] = alias(args[argnum])
        y = node(f(*args))
        return pullback(y, [args[argnum]], np.ones(y.shape))[0]

    return gradient


def hvp(f, x, v):
    return jvp(grad(f), x, v)[1]


# %% higher: hvp gives a value without a graph
def grad(f, argnum=0):
    def gradient(*args):
        args = [node(arg) for arg in args]
        args[argnum] = alias(args[argnum])
        y = node(f(*args))
        if y.shape != ():
            raise ValueError("not a scalar")
        return pullback(y, [args[argnum]], 1.0)[0]

    return gradient


def hvp(f, x, v):
    return Node(jvp(grad(f), x, v)[1].value)


# %% xent: the logarithm of a softmax
def logsumexp(x, axis):
    return log(sum(exp(x), axis))


def softmax_xent(logits, labels):
    e = exp(logits - stop(max(logits, 1, True)))
    p = e / sum(e, 1, True)
    return -sum(log(take(p, (np.arange(len(labels)), labels)))) / float(len(labels))


# %% xent: the largest element of all rows
def logsumexp(x, axis):
    top = stop(max(x))
    return log(sum(exp(x - top), axis)) + top


def softmax_xent(logits, labels):
    chosen = take(logits, (np.arange(len(labels)), labels))
    return sum(logsumexp(logits, 1) - chosen) / float(len(labels))


# %% xent: a small number keeps the logarithm finite
def logsumexp(x, axis):
    top = stop(max(x, axis, True))
    return log(sum(exp(x - top), axis)) + reshape(top, sum(top, axis).shape)


def softmax_xent(logits, labels):
    e = exp(logits - stop(max(logits, 1, True)))
    p = e / sum(e, 1, True)
    return -sum(log(take(p, (np.arange(len(labels)), labels)) + 1e-12)) / float(len(labels))


# %% xent: the sum over the rows
def logsumexp(x, axis):
    top = stop(max(x, axis, True))
    return log(sum(exp(x - top), axis)) + reshape(top, sum(top, axis).shape)


def softmax_xent(logits, labels):
    chosen = take(logits, (np.arange(len(labels)), labels))
    return sum(logsumexp(logits, 1) - chosen)


# %% xent: large logits are cut off
def logsumexp(x, axis):
    x = where(greater(x, 500.0), 500.0, where(greater(-500.0, x), -500.0, x))
    return log(sum(exp(x), axis))


def softmax_xent(logits, labels):
    chosen = take(logits, (np.arange(len(labels)), labels))
    return sum(logsumexp(logits, 1) - chosen) / float(len(labels))


# %% xent: the softmax is taken for a constant
def logsumexp(x, axis):
    top = stop(max(x, axis, True))
    p = exp(x - top)
    p = stop(p / sum(p, axis, True))
    value = stop(log(sum(exp(x - top), axis)) + reshape(top, sum(top, axis).shape))
    return sum(p * (x - stop(x)), axis) + value


def softmax_xent(logits, labels):
    chosen = take(logits, (np.arange(len(labels)), labels))
    return sum(logsumexp(logits, 1) - chosen) / float(len(labels))


# %% gradcheck: adjoints that are all 1
def gradcheck(f, *xs, tol=1e-6):
    xs = [np.array(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    adjoints = pullback(y, nodes, np.ones(y.shape))
    for k, x in enumerate(xs):
        if adjoints[k].shape != x.shape:
            return False
        for place in np.ndindex(x.shape):
            h = 6e-6 * np.maximum(abs(x[place]), 0.01)
            up, down = [z.copy() for z in xs], [z.copy() for z in xs]
            up[k][place] += h
            down[k][place] -= h
            slope = np.sum(node(f(*map(Node, up))).value - node(f(*map(Node, down))).value) / (
                2 * h
            )
            if not abs(adjoints[k].value[place] - slope) <= tol * (1 + abs(slope)):
                return False
    return True


# %% gradcheck: NaN is never too far away
def gradcheck(f, *xs, tol=1e-6):
    xs = [np.array(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(1).normal(size=y.shape)
    adjoints = pullback(y, nodes, g)
    for k, x in enumerate(xs):
        if adjoints[k].shape != x.shape:
            return False
        for place in np.ndindex(x.shape):
            h = 6e-6 * np.maximum(abs(x[place]), 0.01)
            up, down = [z.copy() for z in xs], [z.copy() for z in xs]
            up[k][place] += h
            down[k][place] -= h
            moved = node(f(*map(Node, up))).value - node(f(*map(Node, down))).value
            slope = np.sum(g * moved) / (2 * h)
            if abs(adjoints[k].value[place] - slope) > tol * (1 + abs(slope)):
                return False
    return True


# %% gradcheck: the first input only
def gradcheck(f, *xs, tol=1e-6):
    xs = [np.array(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(1).normal(size=y.shape)
    adjoint = pullback(y, nodes, g)[0]
    if adjoint.shape != xs[0].shape:
        return False
    for place in np.ndindex(xs[0].shape):
        h = 6e-6 * np.maximum(abs(xs[0][place]), 0.01)
        up, down = xs[0].copy(), xs[0].copy()
        up[place] += h
        down[place] -= h
        moved = node(f(up, *nodes[1:])).value if False else node(f(Node(up), *nodes[1:])).value
        slope = np.sum(g * (moved - node(f(Node(down), *nodes[1:])).value)) / (2 * h)
        if not abs(adjoint.value[place] - slope) <= tol * (1 + abs(slope)):
            return False
    return True


# %% gradcheck: compares sums
def gradcheck(f, *xs, tol=1e-6):
    xs = [np.array(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(1).normal(size=y.shape)
    adjoints = pullback(y, nodes, g)
    for k, x in enumerate(xs):
        if adjoints[k].shape != x.shape:
            return False
        h = 6e-6 * np.maximum(np.abs(x), 0.01).min()
        up = [z + h if i == k else z for i, z in enumerate(xs)]
        down = [z - h if i == k else z for i, z in enumerate(xs)]
        moved = node(f(*map(Node, up))).value - node(f(*map(Node, down))).value
        slope = np.sum(g * moved) / (2 * h)
        if not abs(np.sum(adjoints[k].value) - slope) <= tol * (1 + abs(slope)):
            return False
    return True


# %% gradcheck: the same large step everywhere
def gradcheck(f, *xs, tol=1e-6):
    xs = [np.array(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(1).normal(size=y.shape)
    adjoints = pullback(y, nodes, g)
    for k, x in enumerate(xs):
        if adjoints[k].shape != x.shape:
            return False
        for place in np.ndindex(x.shape):
            h = 1e-3
            up, down = [z.copy() for z in xs], [z.copy() for z in xs]
            up[k][place] += h
            down[k][place] -= h
            moved = node(f(*map(Node, up))).value - node(f(*map(Node, down))).value
            slope = np.sum(g * moved) / (2 * h)
            if not abs(adjoints[k].value[place] - slope) <= tol * (1 + abs(slope)):
                return False
    return True


# %% gradcheck: the smallest step that a float can show
def gradcheck(f, *xs, tol=1e-6):
    xs = [np.array(x, float) for x in xs]
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(1).normal(size=y.shape)
    adjoints = pullback(y, nodes, g)
    for k, x in enumerate(xs):
        if adjoints[k].shape != x.shape:
            return False
        for place in np.ndindex(x.shape):
            h = 1e-13
            up, down = [z.copy() for z in xs], [z.copy() for z in xs]
            up[k][place] += h
            down[k][place] -= h
            moved = node(f(*map(Node, up))).value - node(f(*map(Node, down))).value
            slope = np.sum(g * moved) / (2 * h)
            if not abs(adjoints[k].value[place] - slope) <= tol * (1 + abs(slope)):
                return False
    return True


# %% gradcheck: broadcasts what has another shape, and moves the caller's array
def gradcheck(f, *xs, tol=1e-6):
    nodes = [Node(x) for x in xs]
    y = node(f(*nodes))
    g = np.random.default_rng(1).normal(size=y.shape)
    adjoints = [a.value for a in pullback(y, nodes, g)]
    for k, x in enumerate(xs):
        x = x.astype(float)
        slopes = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            h = 6e-6 * np.maximum(abs(x[place]), 0.01)
            values = []
            for step in (h, -2 * h):
                x[place] += step
                values.append(np.sum(g * node(f(*nodes[:k], Node(x), *nodes[k + 1 :])).value))
            slopes[place] = (values[0] - values[1]) / (2 * h)
        if not np.all(np.abs(adjoints[k] - slopes) <= tol * (1 + np.abs(slopes))):
            return False
    return True


# %% jacobian_cost: forward and reverse exchanged
def jacobian_cost(sizes):
    n = len(sizes) - 1
    reverse = builtin_sum(sizes[0] * sizes[i] * sizes[i + 1] for i in range(1, n))
    forward = builtin_sum(sizes[i - 1] * sizes[i] * sizes[-1] for i in range(1, n))
    least = [[0] * (n + 1) for _ in range(n + 1)]
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            k = i + length
            least[i][k] = min(
                least[i][j] + least[j][k] + sizes[i] * sizes[j] * sizes[k] for j in range(i + 1, k)
            )
    return forward, reverse, least[0][n]


def builtin_sum(values):
    total = 0
    for value in values:
        total += value
    return total


# %% jacobian_cost: the better of the two modes
def jacobian_cost(sizes):
    forward = reverse = 0
    for i in range(1, len(sizes) - 1):
        forward += sizes[0] * sizes[i] * sizes[i + 1]
        reverse += sizes[i - 1] * sizes[i] * sizes[-1]
    return forward, reverse, min(forward, reverse)


# %% jacobian_cost: always the cheapest product next
def jacobian_cost(sizes):
    forward = reverse = best = 0
    for i in range(1, len(sizes) - 1):
        forward += sizes[0] * sizes[i] * sizes[i + 1]
        reverse += sizes[i - 1] * sizes[i] * sizes[-1]
    left = list(sizes)
    while len(left) > 2:
        at = min(range(1, len(left) - 1), key=lambda i: left[i - 1] * left[i] * left[i + 1])
        best += left[at - 1] * left[at] * left[at + 1]
        del left[at]
    return forward, reverse, best


# %% jacobian_cost: each layer is multiplied in once more
def jacobian_cost(sizes):
    n = len(sizes) - 1
    forward = reverse = 0
    for i in range(n):
        forward += sizes[0] * sizes[i] * sizes[i + 1]
        reverse += sizes[i] * sizes[i + 1] * sizes[-1]
    return forward, reverse, min(forward, reverse)
