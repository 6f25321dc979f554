# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% bench: numpy
def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    for value, least in ((warmup, 0), (repeats, 1), (inner, 1)):
        if value < least:
            raise ValueError(f"{value} is too small")
    for _ in range(warmup):
        fn()
    marks = np.empty((repeats, 2))
    for row in marks:
        row[0] = now()
        for _ in range(inner):
            fn()
        row[1] = now()
    times = np.diff(marks, axis=1)[:, 0] / inner
    chances = np.array([math.comb(repeats, i) for i in range(repeats + 1)], float) / 2.0**repeats
    k = int(np.sum(np.cumsum(chances) <= 0.025))
    ranked = np.sort(times)
    low, high = (ranked[k - 1], ranked[repeats - k]) if k else (-np.inf, np.inf)
    return Stats(tuple(times), ranked[0], np.median(times), np.percentile(times, 95), low, high)


# %% accounting: numpy
FLOPS = {
    "gemm": lambda a, b, out: 2 * a[1] * np.prod(out),
    "conv2d": lambda x, w, out: 2 * np.prod(w[1:]) * np.prod(out),
    "softmax": lambda x, out: 5 * np.prod(out),
    "layernorm": lambda x, out: 7 * np.prod(out),
    "attention": lambda q, k, v, out: 2 * np.prod(q[:3]) * k[2] * (k[3] + v[3]),
}


def output_shape(op, shapes, stride, padding):
    first = shapes[0]
    if op == "gemm":
        if first[1] != shapes[1][0]:
            raise ValueError("these do not fit")
        return first[0], shapes[1][1]
    if op == "conv2d":
        ends = [(first[i] - shapes[1][i] + 2 * padding + stride) // stride for i in (2, 3)]
        return (first[0], shapes[1][0], *ends)
    if op == "attention":
        return (*first[:3], shapes[2][3])
    return first


def flops_bytes(op, shapes, itemsize=4, stride=1, padding=0):
    if op not in FLOPS:
        raise ValueError(f"unknown operator {op}")
    out = output_shape(op, shapes, stride, padding)
    tensors = [*shapes, out]
    if op == "layernorm":
        tensors += [shapes[0][-1:]] * 2
    moved = sum(int(np.prod(shape)) for shape in tensors)
    return int(FLOPS[op](*shapes, out)), moved * itemsize


def training_flops(widths, batch):
    total = 0
    for layer in range(len(widths) - 1):
        passes = 2 if layer == 0 else 3
        total += passes * 2 * batch * widths[layer] * widths[layer + 1]
    return total


# %% roofline: numpy
def attainable(intensity, peak, bandwidth):
    return np.where(np.asarray(intensity) < ridge(peak, bandwidth), intensity * bandwidth, peak)


def ridge(peak, bandwidth):
    return 1 / (bandwidth / peak)


def step_time(flops, moved, sent, machine):
    speeds = np.array([machine[name] for name in ("peak", "bandwidth", "link")])
    times = np.array([flops, moved, sent]) / speeds
    return [times.max() + machine["overhead"], times.sum() + machine["overhead"]]


def limited_by(flops, moved, sent, machine):
    times = [
        flops / machine["peak"],
        moved / machine["bandwidth"],
        sent / machine["link"],
        machine["overhead"],
    ]
    return ["compute", "memory", "network", "overhead"][int(np.argmax(times))]


# %% probes: numpy
def triad_bandwidth(n, dtype=torch.float32, bench=bench):
    three = torch.tensor(3, dtype=dtype)
    a, b, c = torch.empty(n, dtype=dtype), torch.randn(n).to(dtype), torch.randn(n).to(dtype)

    def triad():
        torch.addcmul(b, c, three, out=a)

    best = bench(triad, repeats=30).min
    return (a.nbytes + b.nbytes + c.nbytes) / best


def matmul_peak(n, dtype=torch.float32, bench=bench):
    x = torch.randn(n, n).to(dtype)
    y = torch.randn(n, n).to(dtype)
    return 2.0 * n * n * n / bench(lambda: x @ y, warmup=2).min


def dispatch_overhead(bench=bench):
    x = torch.zeros(1)
    y = torch.zeros(1)
    z = torch.empty(1)
    stats = bench(lambda: torch.add(x, y, out=z), warmup=100, inner=1000)
    return stats[1]


# %% scaling: numpy
from itertools import combinations


def amdahl(n, f):
    return n / (n * (1 - f) + f)


def gustafson(n, f):
    return n + (1 - f) * (1 - n)


def usl(n, sigma, kappa):
    return 1 / (1 / n + sigma * (1 - 1 / n) + kappa * (n - 1))


def fit_usl(ns, xs):
    ns, xs = np.array(ns, dtype=float), np.array(xs, dtype=float)
    if len(set(ns)) <= 2:
        raise ValueError("not enough data")
    # The normal equations of relative errors, for each set of columns that may be at work.
    y = ns / xs
    columns = np.stack([np.ones_like(ns), ns - 1, ns * (ns - 1)], axis=1)
    norms = np.linalg.norm(columns / y[:, None], axis=0)
    design = columns / y[:, None] / norms
    gram, target = design.T @ design, design.T @ np.ones_like(y)
    best, coefficients = np.inf, None
    for size in (3, 2, 1):
        for kept in combinations(range(3), size):
            if 0 not in kept:
                continue
            part = list(kept)
            solved = np.linalg.solve(gram[np.ix_(part, part)], target[part])
            if (solved < 0).any():
                continue
            loss = len(y) - 2 * solved @ target[part] + solved @ gram[np.ix_(part, part)] @ solved
            if loss < best - 1e-12:
                best, coefficients = loss, np.zeros(3)
                coefficients[part] = solved / norms[part]
    rate, contention, crosstalk = coefficients
    sigma, kappa = contention / rate, crosstalk / rate
    if kappa == 0:
        return float(sigma), 0.0, math.inf
    return float(sigma), float(kappa), float(max(1, np.sqrt(max(1 - sigma, 0) / kappa)))


# %% tail: numpy
def fanout(p, k):
    return -np.expm1(k * np.log1p(-p))


def leaf_budget(p, k):
    return -np.expm1(np.log1p(-p) / k)


def cutoff_for(times, load):
    ranked = np.sort(np.asarray(times))[::-1]
    allowed = int(load * len(ranked) + 1e-9)
    return ranked[min(allowed, len(ranked) - 1)]


def hedged(first, second, cutoff):
    copies = np.where(first > cutoff, cutoff + second, np.inf)
    return np.minimum(first, copies), np.isfinite(copies).sum() / len(first)


# %% speedup: numpy
def speedup_ci(before, after, B=2000, seed=0):
    random = np.random.default_rng([seed, 17])

    def log_medians(times):
        ranked = np.sort(times)
        picks = np.sort(random.integers(0, len(ranked), (B, len(ranked))), axis=1)
        middle = [(len(ranked) - 1) // 2, len(ranked) // 2]
        return np.log(ranked[picks[:, middle]].mean(axis=1))

    gains = np.sort(log_medians(before) - log_medians(after))
    low, high = gains[int(0.025 * B)], gains[min(B - 1, int(0.975 * B))]
    return np.exp(low), np.exp(high)


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B=B, seed=seed)
    if low <= 1 <= high:
        return "not shown"
    return "faster" if low > 1 else "slower"


# %% bench: plain Python
import statistics


def bench(fn, warmup=3, repeats=20, inner=1, now=time.perf_counter):
    if warmup < 0 or min(repeats, inner) < 1:
        raise ValueError("bad arguments")

    def sample():
        start = now()
        for _ in range(inner):
            fn()
        return (now() - start) / inner

    for _ in range(warmup):
        fn()
    times = [sample() for _ in range(repeats)]
    ranks = sorted(times)
    k = max(
        (
            j
            for j in range(1, repeats + 1)
            if sum(math.comb(repeats, i) for i in range(j)) * 40 <= 2**repeats
        ),
        default=0,
    )
    return Stats(
        tuple(times),
        min(times),
        statistics.median(times),
        next(t for t in ranks if 100 * sum(u <= t for u in times) >= 95 * repeats),
        ranks[k - 1] if k else -math.inf,
        ranks[repeats - k] if k else math.inf,
    )


# %% scaling: plain Python
def amdahl(n, f):
    return 1 / (1 - f + f / n)


def gustafson(n, f):
    return 1 + f * (n - 1)


def usl(n, sigma, kappa):
    return n / (1 + (n - 1) * (sigma + kappa * n))


def fit_usl(ns, xs):
    ns, xs = [float(n) for n in ns], [float(x) for x in xs]
    if len(set(ns)) < 3:
        raise ValueError("at least three")

    def loss(sigma, kappa):
        """Squared error of the logarithms, with the best rate."""
        gaps = [math.log(x) - math.log(usl(n, sigma, kappa)) for n, x in zip(ns, xs)]
        mean = sum(gaps) / len(gaps)
        return sum((gap - mean) ** 2 for gap in gaps)

    sigma, kappa, step_s, step_k = 0.05, 0.001, 0.02, 0.0005
    here = loss(sigma, kappa)
    while step_s > 1e-9:
        moves = [
            (max(0.0, sigma + a * step_s), max(0.0, kappa + b * step_k))
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
        ]
        best = min(moves, key=lambda move: loss(*move))
        if loss(*best) < here:
            sigma, kappa = best
            here = loss(*best)
        else:
            step_s, step_k = step_s / 2, step_k / 2
    return sigma, kappa, max(1.0, math.sqrt(max(0.0, 1 - sigma) / kappa)) if kappa else math.inf


# %% tail: plain Python
def fanout(p, k):
    return -math.expm1(math.log1p(-p) * k)


def leaf_budget(p, k):
    return -math.expm1(math.log1p(-p) / k)


def cutoff_for(times, load):
    for candidate in sorted(float(t) for t in times):
        if sum(t > candidate for t in times) <= load * len(times) + 1e-9:
            return candidate


def hedged(first, second, cutoff):
    times, copies = [], 0
    for a, b in zip(first, second):
        if a <= cutoff:
            times.append(a)
        else:
            copies += 1
            times.append(min(a, cutoff + b))
    return np.array(times), copies / len(times)


# %% speedup: plain Python
import random as dice
import statistics


def speedup_ci(before, after, B=2000, seed=0):
    source = dice.Random(seed)
    before, after = list(before), list(after)
    ratios = sorted(
        statistics.median(source.choices(before, k=len(before)))
        / statistics.median(source.choices(after, k=len(after)))
        for _ in range(B)
    )
    return ratios[round(0.025 * (B - 1))], ratios[round(0.975 * (B - 1))]


def verdict(before, after, B=2000, seed=0):
    low, high = speedup_ci(before, after, B, seed)
    for answer, holds in (("faster", low > 1), ("slower", high < 1)):
        if holds:
            return answer
    return "not shown"
