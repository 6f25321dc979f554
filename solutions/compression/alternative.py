# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% qparams: loops
def qparams(lo, hi, bits=8, symmetric=False):
    if bits not in range(2, 9):
        raise ValueError("2 to 8 bits")
    shape = np.shape(lo)
    pairs = [one_range(a, b, bits, symmetric) for a, b in zip(np.ravel(lo), np.ravel(hi))]
    scale = np.array([pair[0] for pair in pairs]).reshape(shape)
    zero = np.array([pair[1] for pair in pairs], np.int64).reshape(shape)
    top = 2 ** (bits - 1) - 1
    return scale, zero, -top if symmetric else -top - 1, top


def one_range(lo, hi, bits, symmetric):
    lo, hi = float(lo), float(hi)
    if not -math.inf < lo <= hi < math.inf:
        raise ValueError(f"{lo} to {hi}")
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        return 1.0, 0
    if symmetric:
        return max(-lo, hi) / (2 ** (bits - 1) - 1), 0
    scale = (hi - lo) / (2**bits - 1)
    return scale, round(-lo / scale) - 2 ** (bits - 1)


# %% quantise: loops
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.array(x, np.float64)
    if np.any(x != x):
        raise ValueError("not a number")
    if axis is None:
        return np.minimum(np.maximum(np.round(x / scale) + zero, qmin), qmax).astype(np.int8)
    moved = np.moveaxis(x, axis, 0)
    parts = [quantise(part, s, z, qmin, qmax) for part, s, z in zip(moved, scale, zero)]
    return np.moveaxis(np.stack(parts), 0, axis)


def dequantise(q, scale, zero, axis=None):
    if axis is None:
        return np.float32(np.asarray(q, np.float64) * scale - float(zero) * float(scale))
    moved = np.moveaxis(np.asarray(q), axis, 0)
    parts = [
        (float(s) * (part.astype(int) - int(z))).astype(np.float32)
        for part, s, z in zip(moved, scale, zero)
    ]
    return np.moveaxis(np.stack(parts), 0, axis)


# %% calibrate: magnitudes by exponent
class Calibrator:
    """Starts with the power that the first samples need; a dictionary of bins."""

    def __init__(self):
        self.bins = {}
        self.power = None
        self.ends = (math.inf, -math.inf)

    def add(self, x):
        x = np.asarray(x, np.float64)
        if x.size == 0:
            return
        self.ends = min(self.ends[0], float(x.min())), max(self.ends[1], float(x.max()))
        needed = math.frexp(max(abs(self.ends[0]), abs(self.ends[1]), 1e-30))[1]
        if self.power is None:
            self.power = needed
        while self.power < needed:
            old, self.bins = self.bins, {}
            for place, count in old.items():
                self.bins[place // 2] = self.bins.get(place // 2, 0) + count
            self.power += 1
        places, counts = np.unique(np.floor(x / self.step()), return_counts=True)
        for place, count in zip(places.astype(int).tolist(), counts.tolist()):
            self.bins[place] = self.bins.get(place, 0) + count

    def step(self):
        return 2.0**self.power * 2 / BINS

    def limits(self, method, bits=8, keep=0.999):
        if self.power is None:
            raise ValueError("no samples yet")
        lo, hi = min(self.ends[0], 0.0), max(self.ends[1], 0.0)
        if method == "percentile":
            allowed = sum(self.bins.values()) * (1 - keep) / 2
            low = self.walk(sorted(self.bins), allowed) * self.step()
            high = (self.walk(sorted(self.bins, reverse=True), allowed) + 1) * self.step()
            return max(lo, min(low, 0.0)), min(hi, max(high, 0.0))
        if method == "mse":
            places = np.array(sorted(self.bins))
            x = (places + 0.5) * self.step()
            weight = np.array([self.bins[place] for place in places.tolist()])
            best, least = 1.0, math.inf
            for f in (hundredths / 100 for hundredths in range(100, 0, -1)):
                levels = np.linspace(f * lo, f * hi, 2**bits)
                between = (levels[1:] + levels[:-1]) / 2
                off = (levels[np.searchsorted(between, x)] - x) ** 2 @ weight
                if off < least:
                    best, least = f, off
            return best * lo, best * hi
        if method == "minmax":
            return lo, hi
        raise ValueError(f"{method}?")

    def walk(self, places, allowed):
        passed = 0
        for place in places:
            passed += self.bins[place]
            if passed > allowed:
                return place
        return 0


# %% requantise: Python integers
def multiplier(real):
    if not 0 < real < math.inf:
        raise ValueError("positive and finite, please")
    shift = 0
    m = Fraction(real)
    while m < 2**30:
        m, shift = m * 2, shift + 1
        if shift > 62:
            raise ValueError("too small")
    if shift == 0:
        raise ValueError("too large")
    m = math.floor(m + Fraction(1, 2))
    if m == 2**31:
        m, shift = 2**30, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError("out of range")
    return m, shift


def requantise(acc, m, shift, zero, qmin, qmax):
    factors = np.broadcast_to(m, acc.shape).ravel().tolist()
    shifts = np.broadcast_to(shift, acc.shape).ravel().tolist()
    codes = []
    for a, factor, by in zip(acc.ravel().tolist(), factors, shifts):
        code = (a * factor + (1 << (by - 1)) >> by) + int(zero)
        codes.append(min(qmax, max(qmin, code)))
    return np.array(codes, np.int8).reshape(acc.shape)


from fractions import Fraction


# %% accumulate: subtracts first
def accumulate(x, w, bias, zx, zw):
    left = x.astype(np.int32)
    left -= np.int32(zx)
    right = w.astype(np.int32)
    right -= np.reshape(zw, (-1, 1)).astype(np.int32)
    return left @ right.T + bias


# %% accumulate: blocks in torch
def accumulate(x, w, bias, zx, zw):
    total = torch.tensor(np.asarray(bias), dtype=torch.int32).repeat(len(x), 1)
    zeros = np.broadcast_to(np.reshape(zw, (-1, 1)), (len(w), 1)).astype(np.int16)
    for start in range(0, x.shape[1], 512):
        a = torch.from_numpy(np.asarray(x)[:, start : start + 512].astype(np.int16)) - int(zx)
        b = torch.from_numpy(np.asarray(w)[:, start : start + 512].astype(np.int16) - zeros)
        total += a.int() @ b.int().T
    return total.numpy()


# %% fake_quant: detached
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    if axis is not None:
        where = [None] * x.ndim
        where[axis] = slice(None)
        scale, zero = scale[tuple(where)], zero[tuple(where)]
    low, high = (qmin - zero) * scale, (qmax - zero) * scale
    inside = torch.minimum(
        torch.maximum(x, torch.as_tensor(low, dtype=x.dtype)), torch.as_tensor(high, dtype=x.dtype)
    )
    rounded = (torch.clamp(torch.round(x / scale) + zero, qmin, qmax) - zero) * scale
    return inside + (rounded - inside).detach()


# %% sparse: loops
def smallest(w, ratio):
    order = sorted(range(w.size), key=lambda place: abs(float(w.flat[place])))
    mask = np.full(w.size, True)
    for place in order[: int(round(ratio * w.size))]:
        mask[place] = False
    return mask.reshape(w.shape)


def two_of_four(w):
    if w.shape[1] % 4 != 0:
        raise ValueError("groups of four")
    mask = np.zeros(w.shape, bool)
    for row, weights in enumerate(np.abs(w.astype(float)).tolist()):
        for start in range(0, len(weights), 4):
            four = weights[start : start + 4]
            first = four.index(max(four))
            four[first] = -1.0
            mask[row, [start + first, start + four.index(max(four))]] = True
    return mask


def pack(w, mask):
    rows, k = w.shape
    if k % 8 or not all(sum(mask[r, s : s + 4]) == 2 for r in range(rows) for s in range(0, k, 4)):
        raise ValueError("not a 2:4 pattern")
    values = np.zeros((rows, k // 2), w.dtype)
    index = np.zeros((rows, k // 8), np.uint8)
    for row in range(rows):
        for j, column in enumerate(np.flatnonzero(mask[row]).tolist()):
            values[row, j] = w[row, column]
            index[row, j // 4] |= column % 4 << 2 * (j % 4)
    return values, index


def packed_matmul(values, index, x):
    rows, half = values.shape
    w = np.zeros((rows, 2 * half), np.result_type(values, x))
    for row in range(rows):
        for j in range(half):
            place = int(index[row, j // 4]) >> 2 * (j % 4) & 3
            w[row, j // 2 * 4 + place] = values[row, j]
    return x @ w.T


# %% smooth: loops
def smooth(x, w, alpha=0.5):
    x2, w2 = np.array(x, np.float64), np.array(w, np.float64)
    s = np.ones(x2.shape[1])
    for j in range(len(s)):
        of_x, of_w = abs(x2[:, j]).max(), abs(w2[:, j]).max()
        if of_x > 0 and of_w > 0:
            s[j] = of_x**alpha * of_w ** (alpha - 1)
        x2[:, j] /= s[j]
        w2[:, j] *= s[j]
    return x2, w2, s
