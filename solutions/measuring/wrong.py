# Answers that people really give and that must lose their task's points.

# %% bench: times the warm-up too
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    if repeats < 1 or inner < 1 or warmup < 0:
        raise ValueError("no samples")
    times = []
    for _ in range(warmup + repeats):
        began = now()
        for _ in range(inner):
            fn()
        times.append((now() - began) / inner)
    times = times[:repeats]
    n, ordered = repeats, sorted(times)
    total, k = 0.0, 0
    while total + math.comb(n, k) * 0.5**n <= 0.025:
        total += math.comb(n, k) * 0.5**n
        k += 1
    ends = (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)
    p95 = ordered[math.ceil(0.95 * n) - 1]
    return Stats(tuple(times), ordered[0], float(np.median(times)), p95, *ends)


# %% bench: the mean for the median
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    if repeats < 1 or inner < 1 or warmup < 0:
        raise ValueError("no samples")
    for _ in range(warmup):
        fn()
    times = []
    for _ in range(repeats):
        began = now()
        for _ in range(inner):
            fn()
        times.append((now() - began) / inner)
    mean, spread = np.mean(times), 1.96 * np.std(times) / math.sqrt(repeats)
    return Stats(
        tuple(times), min(times), mean, np.percentile(times, 95), mean - spread, mean + spread
    )


# %% bench: the percentile is one rank too high
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    if repeats < 1 or inner < 1 or warmup < 0:
        raise ValueError("no samples")
    for _ in range(warmup):
        fn()
    times = []
    for _ in range(repeats):
        began = now()
        for _ in range(inner):
            fn()
        times.append((now() - began) / inner)
    n, ordered = repeats, sorted(times)
    total, k = 0.0, 0
    while total + math.comb(n, k) * 0.5**n <= 0.025:
        total += math.comb(n, k) * 0.5**n
        k += 1
    ends = (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)
    return Stats(tuple(times), ordered[0], float(np.median(times)), ordered[int(0.95 * n)], *ends)


# %% bench: reads the clock around every call
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    if repeats < 1 or inner < 1 or warmup < 0:
        raise ValueError("no samples")
    for _ in range(warmup):
        fn()
    times = []
    for _ in range(repeats):
        spent = 0.0
        for _ in range(inner):
            began = now()
            fn()
            spent += now() - began
        times.append(spent / inner)
    n, ordered = repeats, sorted(times)
    total, k = 0.0, 0
    while total + math.comb(n, k) * 0.5**n <= 0.025:
        total += math.comb(n, k) * 0.5**n
        k += 1
    ends = (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)
    p95 = ordered[math.ceil(0.95 * n) - 1]
    return Stats(tuple(times), ordered[0], float(np.median(times)), p95, *ends)


# %% bench: the interval is one rank too narrow
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    if repeats < 1 or inner < 1 or warmup < 0:
        raise ValueError("no samples")
    for _ in range(warmup):
        fn()
    times = []
    for _ in range(repeats):
        began = now()
        for _ in range(inner):
            fn()
        times.append((now() - began) / inner)
    n, ordered = repeats, sorted(times)
    total, k = 0.0, 0
    while total + math.comb(n, k) * 0.5**n <= 0.025:
        total += math.comb(n, k) * 0.5**n
        k += 1
    ends = (ordered[k], ordered[n - k - 1]) if k else (-math.inf, math.inf)
    p95 = ordered[math.ceil(0.95 * n) - 1]
    return Stats(tuple(times), ordered[0], float(np.median(times)), p95, *ends)


# %% accounting: a multiply-add is one operation
def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    size = sum(math.prod(shape) for shape in shapes)
    if op == "gemm":
        (m, k), (k2, n) = shapes
        if k != k2:
            raise ValueError("inner lengths differ")
        return m * n * k, (size + m * n) * itemsize
    if op == "conv2d":
        (n, c, h, w), (o, cg, kh, kw) = shapes
        oh, ow = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
        return n * o * oh * ow * cg * kh * kw, (size + n * o * oh * ow) * itemsize
    if op == "softmax":
        return 5 * size, 2 * size * itemsize
    if op == "layernorm":
        return 7 * size, 2 * (size + shapes[0][-1]) * itemsize
    if op == "attention":
        (b, h, n, d), (_, _, m, _), (_, _, _, e) = shapes
        return b * h * n * m * (d + e), (size + b * h * n * e) * itemsize
    raise ValueError(op)


def training_flops(widths, batch):
    w = [m * n for m, n in zip(widths, widths[1:])]
    return 3 * batch * sum(w) - batch * w[0]


# %% accounting: counts elements instead of bytes
def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    size = sum(math.prod(shape) for shape in shapes)
    if op == "gemm":
        (m, k), (k2, n) = shapes
        if k != k2:
            raise ValueError("inner lengths differ")
        return 2 * m * n * k, size + m * n
    if op == "conv2d":
        (n, c, h, w), (o, cg, kh, kw) = shapes
        oh, ow = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
        return 2 * n * o * oh * ow * cg * kh * kw, size + n * o * oh * ow
    if op == "softmax":
        return 5 * size, 2 * size
    if op == "layernorm":
        return 7 * size, 2 * (size + shapes[0][-1])
    if op == "attention":
        (b, h, n, d), (_, _, m, _), (_, _, _, e) = shapes
        return 2 * b * h * n * m * (d + e), size + b * h * n * e
    raise ValueError(op)


def training_flops(widths, batch):
    w = [m * n for m, n in zip(widths, widths[1:])]
    return 6 * batch * sum(w) - 2 * batch * w[0]


# %% accounting: a convolution of the input's size, whatever stride and padding
def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    size = sum(math.prod(shape) for shape in shapes)
    if op == "gemm":
        (m, k), (k2, n) = shapes
        if k != k2:
            raise ValueError("inner lengths differ")
        return 2 * m * n * k, (size + m * n) * itemsize
    if op == "conv2d":
        (n, c, h, w), (o, cg, kh, kw) = shapes
        return 2 * n * o * h * w * cg * kh * kw, (size + n * o * h * w) * itemsize
    if op == "softmax":
        return 5 * size, 2 * size * itemsize
    if op == "layernorm":
        return 7 * size, 2 * (size + shapes[0][-1]) * itemsize
    if op == "attention":
        (b, h, n, d), (_, _, m, _), (_, _, _, e) = shapes
        return 2 * b * h * n * m * (d + e), (size + b * h * n * e) * itemsize
    raise ValueError(op)


def training_flops(widths, batch):
    w = [m * n for m, n in zip(widths, widths[1:])]
    return 6 * batch * sum(w) - 2 * batch * w[0]


# %% accounting: all input channels though there are groups
def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    size = sum(math.prod(shape) for shape in shapes)
    if op == "gemm":
        (m, k), (k2, n) = shapes
        if k != k2:
            raise ValueError("inner lengths differ")
        return 2 * m * n * k, (size + m * n) * itemsize
    if op == "conv2d":
        (n, c, h, w), (o, cg, kh, kw) = shapes
        oh, ow = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
        return 2 * n * o * oh * ow * c * kh * kw, (size + n * o * oh * ow) * itemsize
    if op == "softmax":
        return 5 * size, 2 * size * itemsize
    if op == "layernorm":
        return 7 * size, 2 * (size + shapes[0][-1]) * itemsize
    if op == "attention":
        (b, h, n, d), (_, _, m, _), (_, _, _, e) = shapes
        return 2 * b * h * n * m * (d + e), (size + b * h * n * e) * itemsize
    raise ValueError(op)


def training_flops(widths, batch):
    w = [m * n for m, n in zip(widths, widths[1:])]
    return 6 * batch * sum(w) - 2 * batch * w[0]


# %% accounting: attention with 4 N^2 d and its scores in memory, and 6 Psi D to the letter
def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    size = sum(math.prod(shape) for shape in shapes)
    if op == "gemm":
        (m, k), (k2, n) = shapes
        if k != k2:
            raise ValueError("inner lengths differ")
        return 2 * m * n * k, (size + m * n) * itemsize
    if op == "conv2d":
        (n, c, h, w), (o, cg, kh, kw) = shapes
        oh, ow = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
        return 2 * n * o * oh * ow * cg * kh * kw, (size + n * o * oh * ow) * itemsize
    if op == "softmax":
        return 5 * size, 2 * size * itemsize
    if op == "layernorm":
        return 7 * size, 2 * (size + shapes[0][-1]) * itemsize
    if op == "attention":
        b, h, n, d = shapes[0]
        return 4 * b * h * n * n * d, (size + b * h * n * (d + n)) * itemsize
    raise ValueError(op)


def training_flops(widths, batch):
    return 6 * batch * sum(m * n for m, n in zip(widths, widths[1:]))


# %% roofline: the ridge upside down
def attainable(intensity, peak, bandwidth):
    return np.minimum(peak, intensity * bandwidth)


def ridge(peak, bandwidth):
    return bandwidth / peak


def step_time(flops, moved, sent, machine):
    parts = [flops / machine["peak"], moved / machine["bandwidth"], sent / machine["link"]]
    return max(parts) + machine["overhead"], sum(parts) + machine["overhead"]


def limited_by(flops, moved, sent, machine):
    parts = {
        flops / machine["peak"]: "compute",
        moved / machine["bandwidth"]: "memory",
        sent / machine["link"]: "network",
        machine["overhead"]: "overhead",
    }
    return parts[max(parts)]


# %% roofline: the shortest time lets the overhead hide
def attainable(intensity, peak, bandwidth):
    return np.minimum(peak, intensity * bandwidth)


def ridge(peak, bandwidth):
    return peak / bandwidth


def step_time(flops, moved, sent, machine):
    parts = [flops / machine["peak"], moved / machine["bandwidth"], sent / machine["link"]]
    parts.append(machine["overhead"])
    return max(parts), sum(parts)


def limited_by(flops, moved, sent, machine):
    parts = [flops / machine["peak"], moved / machine["bandwidth"], sent / machine["link"]]
    parts.append(machine["overhead"])
    return ("compute", "memory", "network", "overhead")[parts.index(max(parts))]


# %% roofline: only memory or compute can limit
def attainable(intensity, peak, bandwidth):
    return np.minimum(peak, intensity * bandwidth)


def ridge(peak, bandwidth):
    return peak / bandwidth


def step_time(flops, moved, sent, machine):
    parts = [flops / machine["peak"], moved / machine["bandwidth"], sent / machine["link"]]
    return max(parts) + machine["overhead"], sum(parts) + machine["overhead"]


def limited_by(flops, moved, sent, machine):
    return "memory" if flops / moved < ridge(machine["peak"], machine["bandwidth"]) else "compute"


# %% roofline: a roof that is rounded at the ridge
def attainable(intensity, peak, bandwidth):
    return peak / (1 + peak / (intensity * bandwidth + 1e-300))


def ridge(peak, bandwidth):
    return peak / bandwidth


def step_time(flops, moved, sent, machine):
    parts = [flops / machine["peak"], moved / machine["bandwidth"], sent / machine["link"]]
    return max(parts) + machine["overhead"], sum(parts) + machine["overhead"]


def limited_by(flops, moved, sent, machine):
    parts = [flops / machine["peak"], moved / machine["bandwidth"], sent / machine["link"]]
    parts.append(machine["overhead"])
    return ("compute", "memory", "network", "overhead")[parts.index(max(parts))]


# %% probes: the triad as one writes it
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    b, c = torch.ones(n, dtype=dtype), torch.ones(n, dtype=dtype)
    stats = bench(lambda: b + 3 * c)
    return 3 * n * b.element_size() / stats.min


def matmul_peak(n, dtype=torch.float32, bench=bench):
    a, b = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    return 2 * n**3 / bench(lambda: a @ b).min


def dispatch_overhead(bench=bench):
    x, y, z = torch.ones(3, 1)
    return bench(lambda: torch.add(x, y, out=z), inner=1000).min


# %% probes: by the median
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    a, b, c = torch.ones(3, n, dtype=dtype).unbind()
    a, b, c = a.clone(), b.clone(), c.clone()
    stats = bench(lambda: torch.add(b, c, alpha=3, out=a))
    return 3 * n * b.element_size() / stats.median


def matmul_peak(n, dtype=torch.float32, bench=bench):
    a, b = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    return 2 * n**3 / bench(lambda: a @ b).median


def dispatch_overhead(bench=bench):
    x, y, z = torch.ones(1), torch.ones(1), torch.ones(1)
    return bench(lambda: torch.add(x, y, out=z), inner=1000).median


# %% probes: zeros that nobody has written
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    a, b, c = (torch.zeros(n, dtype=dtype) for _ in range(3))
    return 3 * n * a.element_size() / bench(lambda: torch.add(b, c, alpha=3, out=a)).min


def matmul_peak(n, dtype=torch.float32, bench=bench):
    a, b = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    return 2 * n**3 / bench(lambda: a @ b).min


def dispatch_overhead(bench=bench):
    x, y, z = torch.ones(1), torch.ones(1), torch.ones(1)
    return bench(lambda: torch.add(x, y, out=z), inner=1000).min


# %% probes: always four bytes an element
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    a, b, c = (torch.full((n,), 2.0) for _ in range(3))
    return 12 * n / bench(lambda: torch.add(b, c, alpha=3, out=a)).min


def matmul_peak(n, dtype=torch.float32, bench=bench):
    a, b = torch.ones(n, n), torch.ones(n, n)
    return 2 * n**3 / bench(lambda: a @ b).min


def dispatch_overhead(bench=bench):
    x, y, z = torch.ones(1), torch.ones(1), torch.ones(1)
    return bench(lambda: torch.add(x, y, out=z), inner=1000).min


# %% probes: divides by inner a second time
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    a, b, c = (torch.full((n,), 2.0, dtype=dtype) for _ in range(3))
    return 3 * a.element_size() * n / bench(lambda: torch.add(b, c, alpha=3, out=a)).min


def matmul_peak(n, dtype=torch.float32, bench=bench):
    a, b = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    return n**3 * 2 / bench(lambda: a @ b).min


def dispatch_overhead(bench=bench):
    x, y, z = torch.ones(1), torch.ones(1), torch.ones(1)
    return bench(lambda: torch.add(x, y, out=z), inner=1000).min / 1000


# %% scaling: the serial part taken for the parallel one
def amdahl(n, f):
    return 1 / (f + (1 - f) / n)


def gustafson(n, f):
    return f + (1 - f) * n


def usl(n, sigma, kappa):
    return n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def fit_usl(ns, xs):
    ns, xs = np.asarray(ns, float), np.asarray(xs, float)
    if len(set(ns.tolist())) < 3:
        raise ValueError("too few")
    w = xs / ns
    a = np.stack([w, w * (ns - 1), w * ns * (ns - 1)], axis=1)
    r, s, k = np.linalg.lstsq(a, np.ones(len(ns)), rcond=None)[0]
    s, k = max(0.0, s / r), max(0.0, k / r)
    return s, k, max(1.0, math.sqrt(max(0, 1 - s) / k)) if k else math.inf


# %% scaling: relative to the first measurement
def amdahl(n, f):
    return 1 / ((1 - f) + f / n)


def gustafson(n, f):
    return (1 - f) + f * n


def usl(n, sigma, kappa):
    return n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def fit_usl(ns, xs):
    ns, xs = np.asarray(ns, float), np.asarray(xs, float)
    if len(set(ns.tolist())) < 3:
        raise ValueError("too few")
    relative = xs / xs[0]
    y = ns / relative - 1
    a = np.stack([ns - 1, ns * (ns - 1)], axis=1)
    s, k = (max(0.0, float(v)) for v in np.linalg.lstsq(a, y, rcond=None)[0])
    return s, k, max(1.0, math.sqrt(max(0, 1 - s) / k)) if k else math.inf


# %% scaling: the fit may promise more than linear
def amdahl(n, f):
    return 1 / ((1 - f) + f / n)


def gustafson(n, f):
    return (1 - f) + f * n


def usl(n, sigma, kappa):
    return n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def fit_usl(ns, xs):
    ns, xs = np.asarray(ns, float), np.asarray(xs, float)
    if len(set(ns.tolist())) < 3:
        raise ValueError("too few")
    w = xs / ns
    a = np.stack([w, w * (ns - 1), w * ns * (ns - 1)], axis=1)
    r, s, k = np.linalg.lstsq(a, np.ones(len(ns)), rcond=None)[0]
    return s / r, k / r, max(1.0, math.sqrt(abs((1 - s / r) / (k / r))))


# %% scaling: usl without the n in its last term
def amdahl(n, f):
    return 1 / ((1 - f) + f / n)


def gustafson(n, f):
    return (1 - f) + f * n


def usl(n, sigma, kappa):
    return n / (1 + sigma * (n - 1) + kappa * (n - 1) ** 2)


def fit_usl(ns, xs):
    ns, xs = np.asarray(ns, float), np.asarray(xs, float)
    if len(set(ns.tolist())) < 3:
        raise ValueError("too few")
    w = xs / ns
    a = np.stack([w, w * (ns - 1), w * (ns - 1) ** 2], axis=1)
    r, s, k = np.linalg.lstsq(a, np.ones(len(ns)), rcond=None)[0]
    s, k = max(0.0, s / r), max(0.0, k / r)
    return s, k, max(1.0, math.sqrt(max(0, 1 - s) / k)) if k else math.inf


# %% tail: rounds small probabilities away
def fanout(p, k):
    return 1 - (1 - p) ** k


def leaf_budget(p, k):
    return 1 - (1 - p) ** (1 / k)


def cutoff_for(times, load):
    ordered = sorted(times)
    return min(t for t in ordered if sum(x > t for x in ordered) <= load * len(ordered))


def hedged(first, second, cutoff):
    first, second = np.asarray(first), np.asarray(second)
    late = first > cutoff
    return np.where(late, np.minimum(first, cutoff + second), first), float(late.mean())


# %% tail: adds probabilities
def fanout(p, k):
    return min(1.0, k * p)


def leaf_budget(p, k):
    return p / k


def cutoff_for(times, load):
    ordered = sorted(times)
    return min(t for t in ordered if sum(x > t for x in ordered) <= load * len(ordered))


def hedged(first, second, cutoff):
    first, second = np.asarray(first), np.asarray(second)
    late = first > cutoff
    return np.where(late, np.minimum(first, cutoff + second), first), float(late.mean())


# %% tail: the copy starts with the request
def fanout(p, k):
    return -math.expm1(k * math.log1p(-p))


def leaf_budget(p, k):
    return -math.expm1(math.log1p(-p) / k)


def cutoff_for(times, load):
    ordered = sorted(times)
    return min(t for t in ordered if sum(x > t for x in ordered) <= load * len(ordered))


def hedged(first, second, cutoff):
    first, second = np.asarray(first), np.asarray(second)
    late = first > cutoff
    return np.where(late, np.minimum(first, second), first), float(late.mean())


# %% tail: gives the first answer up at the cutoff
def fanout(p, k):
    return -math.expm1(k * math.log1p(-p))


def leaf_budget(p, k):
    return -math.expm1(math.log1p(-p) / k)


def cutoff_for(times, load):
    ordered = sorted(times)
    return min(t for t in ordered if sum(x > t for x in ordered) <= load * len(ordered))


def hedged(first, second, cutoff):
    first, second = np.asarray(first), np.asarray(second)
    late = first > cutoff
    return np.where(late, cutoff + second, first), float(late.mean())


# %% tail: counts only copies that won
def fanout(p, k):
    return -math.expm1(k * math.log1p(-p))


def leaf_budget(p, k):
    return -math.expm1(math.log1p(-p) / k)


def cutoff_for(times, load):
    ordered = sorted(times)
    return min(t for t in ordered if sum(x > t for x in ordered) <= load * len(ordered))


def hedged(first, second, cutoff):
    first, second = np.asarray(first), np.asarray(second)
    times = np.where(first > cutoff, np.minimum(first, cutoff + second), first)
    return times, float(np.mean(times < first))


# %% tail: the cutoff is one rank too high
def fanout(p, k):
    return -math.expm1(k * math.log1p(-p))


def leaf_budget(p, k):
    return -math.expm1(math.log1p(-p) / k)


def cutoff_for(times, load):
    ordered = np.sort(times)
    return float(ordered[min(len(ordered) - 1, int((1 - load) * len(ordered)))])


def hedged(first, second, cutoff):
    first, second = np.asarray(first), np.asarray(second)
    late = first > cutoff
    return np.where(late, np.minimum(first, cutoff + second), first), float(late.mean())


# %% speedup: the ratio of means
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng(seed)
    b = random.choice(before, (B, len(before))).mean(axis=1)
    a = random.choice(after, (B, len(after))).mean(axis=1)
    return tuple(np.percentile(b / a, [2.5, 97.5]).tolist())


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B, seed)
    return "faster" if low > 1 else "slower" if high < 1 else "not shown"


# %% speedup: the difference instead of the ratio
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng(seed)
    b = np.median(random.choice(before, (B, len(before))), axis=1)
    a = np.median(random.choice(after, (B, len(after))), axis=1)
    return tuple((1 + np.percentile(b - a, [2.5, 97.5])).tolist())


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B, seed)
    return "faster" if low > 1 else "slower" if high < 1 else "not shown"


# %% speedup: ratios of single times
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng(seed)
    ratios = random.choice(before, B) / random.choice(after, B)
    return tuple(np.percentile(ratios, [2.5, 97.5]).tolist())


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B, seed)
    return "faster" if low > 1 else "slower" if high < 1 else "not shown"


# %% speedup: after divided by before
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng(seed)
    b = np.median(random.choice(before, (B, len(before))), axis=1)
    a = np.median(random.choice(after, (B, len(after))), axis=1)
    return tuple(np.percentile(a / b, [2.5, 97.5]).tolist())


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B, seed)
    return "faster" if high < 1 else "slower" if low > 1 else "not shown"


# %% speedup: draws ten times as many as there are
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng(seed)
    b = np.median(random.choice(before, (B, 10 * len(before))), axis=1)
    a = np.median(random.choice(after, (B, 10 * len(after))), axis=1)
    return tuple(np.percentile(b / a, [2.5, 97.5]).tolist())


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B, seed)
    return "faster" if low > 1 else "slower" if high < 1 else "not shown"


# %% speedup: trusts the medians
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng(seed)
    b = np.median(random.choice(before, (B, len(before))), axis=1)
    a = np.median(random.choice(after, (B, len(after))), axis=1)
    return tuple(np.percentile(b / a, [2.5, 97.5]).tolist())


def verdict(before, after, B=2000, seed=0):
    return "faster" if np.median(before) > np.median(after) else "slower"
