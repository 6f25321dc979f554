# Answers that people really give and that must lose their task's points.

# %% qparams: clamps the zero-point instead of widening the range
def qparams(lo, hi, bits=8, symmetric=False):
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not 2 <= bits <= 8 or not np.all(np.isfinite([lo, hi])) or np.any(lo > hi):
        raise ValueError("not a range")
    qmax = 2 ** (bits - 1) - 1
    qmin = -qmax if symmetric else -qmax - 1
    if symmetric:
        scale = np.maximum(np.abs(lo), np.abs(hi)) / qmax
        scale = np.where(scale > 0, scale, 1.0)
        return scale, np.zeros(scale.shape, np.int64), qmin, qmax
    scale = np.where(hi > lo, (hi - lo) / (qmax - qmin), 1.0)
    zero = np.clip(np.rint(qmin - lo / scale), qmin, qmax)
    return scale, zero.astype(np.int64), qmin, qmax


# %% qparams: a constant gets scale 1
def qparams(lo, hi, bits=8, symmetric=False):
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not 2 <= bits <= 8 or not np.all(np.isfinite([lo, hi])) or np.any(lo > hi):
        raise ValueError("not a range")
    constant = lo == hi
    lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    qmax = 2 ** (bits - 1) - 1
    qmin = -qmax if symmetric else -qmax - 1
    span = np.maximum(-lo, hi) / qmax if symmetric else (hi - lo) / (qmax - qmin)
    scale = np.where(constant, 1.0, np.where(span > 0, span, 1.0))
    zero = np.where(constant | symmetric, 0, np.rint(qmin - lo / scale))
    return scale, zero.astype(np.int64), qmin, qmax


# %% qparams: as many steps as codes
def qparams(lo, hi, bits=8, symmetric=False):
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not 2 <= bits <= 8 or not np.all(np.isfinite([lo, hi])) or np.any(lo > hi):
        raise ValueError("not a range")
    lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    qmax = 2 ** (bits - 1) - 1
    qmin = -qmax if symmetric else -qmax - 1
    span = np.maximum(-lo, hi) / (qmax + 1) if symmetric else (hi - lo) / 2**bits
    scale = np.where(span > 0, span, 1.0)
    zero = np.where(symmetric | (span <= 0), 0, np.rint(qmin - lo / scale))
    return scale, np.clip(zero, qmin, qmax).astype(np.int64), qmin, qmax


# %% qparams: zero-point in floats
def qparams(lo, hi, bits=8, symmetric=False):
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not 2 <= bits <= 8 or not np.all(np.isfinite([lo, hi])) or np.any(lo > hi):
        raise ValueError("not a range")
    lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    qmax = 2 ** (bits - 1) - 1
    qmin = -qmax if symmetric else -qmax - 1
    span = np.maximum(-lo, hi) / qmax if symmetric else (hi - lo) / (qmax - qmin)
    scale = np.where(span > 0, span, 1.0)
    return scale, np.where(symmetric | (span <= 0), 0.0, qmin - lo / scale), qmin, qmax


# %% quantise: three bits
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN")
    coarse = (qmax - qmin) / 7
    code = np.rint((x / stretch(scale, x, axis) + stretch(zero, x, axis) - qmin) / coarse)
    return (np.clip(code, 0, 7) * coarse + qmin).astype(np.int8)


def dequantise(q, scale, zero, axis=None):
    q = np.asarray(q, np.float64)
    return (stretch(scale, q, axis) * (q - stretch(zero, q, axis))).astype(np.float32)


def stretch(values, like, axis):
    shape = [1] * like.ndim
    if axis is not None:
        shape[axis] = -1
    return np.asarray(values) if axis is None else np.reshape(values, shape)


# %% quantise: subtracts the zero-point in eight bits
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN")
    code = np.rint(x / stretch(scale, x, axis)) + stretch(zero, x, axis)
    return np.clip(code, qmin, qmax).astype(np.int8)


def dequantise(q, scale, zero, axis=None):
    q = np.asarray(q, np.int8)
    moved = q - stretch(zero, q, axis).astype(np.int8)
    return (stretch(scale, q, axis) * moved).astype(np.float32)


def stretch(values, like, axis):
    shape = [1] * like.ndim
    if axis is not None:
        shape[axis] = -1
    return np.asarray(values) if axis is None else np.reshape(values, shape)


# %% quantise: converts before it clips
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN")
    code = np.rint(np.clip(x / stretch(scale, x, axis), -1e9, 1e9)) + stretch(zero, x, axis)
    return np.clip(code.astype(np.int64).astype(np.int8), qmin, qmax).astype(np.int8)


def dequantise(q, scale, zero, axis=None):
    q = np.asarray(q, np.int32)
    return (stretch(scale, q, axis) * (q - stretch(zero, q, axis))).astype(np.float32)


def stretch(values, like, axis):
    shape = [1] * like.ndim
    if axis is not None:
        shape[axis] = -1
    return np.asarray(values) if axis is None else np.reshape(values, shape)


# %% quantise: always the last axis
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN")
    code = np.rint(x / np.asarray(scale)) + np.asarray(zero)
    return np.clip(code, qmin, qmax).astype(np.int8)


def dequantise(q, scale, zero, axis=None):
    return (np.asarray(scale) * (np.asarray(q, np.int32) - zero)).astype(np.float32)


# %% quantise: cuts off instead of rounding
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN")
    code = np.trunc(x / stretch(scale, x, axis)) + stretch(zero, x, axis)
    return np.clip(code, qmin, qmax).astype(np.int8)


def dequantise(q, scale, zero, axis=None):
    q = np.asarray(q, np.int32)
    return (stretch(scale, q, axis) * (q - stretch(zero, q, axis))).astype(np.float32)


def stretch(values, like, axis):
    shape = [1] * like.ndim
    if axis is not None:
        shape[axis] = -1
    return np.asarray(values) if axis is None else np.reshape(values, shape)


# %% quantise: adds the zero-point before it rounds
def quantise(x, scale, zero, qmin, qmax, axis=None):
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("NaN")
    code = np.rint(x / stretch(scale, x, axis) + stretch(zero, x, axis))
    return np.clip(code, qmin, qmax).astype(np.int8)


def dequantise(q, scale, zero, axis=None):
    q = np.asarray(q, np.int32)
    return (stretch(scale, q, axis) * (q - stretch(zero, q, axis))).astype(np.float32)


def stretch(values, like, axis):
    shape = [1] * like.ndim
    if axis is not None:
        shape[axis] = -1
    return np.asarray(values) if axis is None else np.reshape(values, shape)


# %% calibrate: keeps every sample
class Calibrator:
    def __init__(self):
        self.pieces = []

    def add(self, x):
        self.pieces.append(np.asarray(x, np.float64).ravel())

    def limits(self, method, bits=8, keep=0.999):
        if not self.pieces:
            raise ValueError("nothing")
        x = np.sort(np.concatenate(self.pieces))
        lo, hi = min(x[0], 0.0), max(x[-1], 0.0)
        if method == "minmax":
            return lo, hi
        if method == "percentile":
            out = int((1 - keep) / 2 * len(x))
            return min(x[out], 0.0), max(x[len(x) - 1 - out], 0.0)
        if method == "mse":

            def error(f):
                step = (hi - lo) * f / (2**bits - 1)
                code = np.clip(np.rint((x - f * lo) / step), 0, 2**bits - 1)
                return np.mean((f * lo + step * code - x) ** 2)

            best = min(np.arange(1, 101) / 100, key=error)
            return best * lo, best * hi
        raise ValueError(method)


# %% calibrate: the edges of the first batch
class Calibrator:
    def __init__(self):
        self.edges = None

    def add(self, x):
        x = np.asarray(x, np.float64).ravel()
        if self.edges is None:
            self.edges = np.linspace(min(x.min(), 0), max(x.max(), 0) + 1e-12, BINS + 1)
            self.counts = np.zeros(BINS)
            self.low, self.high = min(x.min(), 0.0), max(x.max(), 0.0)
        self.low, self.high = min(self.low, x.min()), max(self.high, x.max())
        inside = np.clip(x, self.edges[0], self.edges[-1])
        self.counts += np.histogram(inside, self.edges)[0]

    def limits(self, method, bits=8, keep=0.999):
        if self.edges is None:
            raise ValueError("nothing")
        lo, hi = self.low, self.high
        if method == "minmax":
            return lo, hi
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            tail = (1 - keep) / 2
            low = self.edges[np.searchsorted(share, tail, "right")]
            high = self.edges[np.searchsorted(share, 1 - tail) + 1]
            return min(low, 0.0), max(high, 0.0)
        if method == "mse":
            middle = (self.edges[1:] + self.edges[:-1]) / 2

            def error(f):
                step = max((hi - lo) * f / (2**bits - 1), 1e-300)
                code = np.clip(np.rint((middle - f * lo) / step), 0, 2**bits - 1)
                return self.counts @ (f * lo + step * code - middle) ** 2

            best = min(np.arange(1, 101) / 100, key=error)
            return best * lo, best * hi
        raise ValueError(method)


# %% calibrate: a moving average of minimum and maximum
class Calibrator:
    def __init__(self):
        self.low = None

    def add(self, x):
        low, high = float(np.min(x)), float(np.max(x))
        if self.low is None:
            self.low, self.high = low, high
        self.low, self.high = 0.9 * self.low + 0.1 * low, 0.9 * self.high + 0.1 * high

    def limits(self, method, bits=8, keep=0.999):
        if self.low is None or method not in ("minmax", "percentile", "mse"):
            raise ValueError(method)
        return min(self.low, 0.0), max(self.high, 0.0)


# %% calibrate: mse is minmax
class Calibrator:
    def __init__(self):
        self.power = -30
        self.counts = np.zeros(BINS, np.int64)
        self.low = None

    def add(self, x):
        x = np.asarray(x, np.float64).ravel()
        self.low = x.min() if self.low is None else min(self.low, x.min())
        self.high = max(getattr(self, "high", -np.inf), x.max())
        while np.abs(x).max() >= 2.0**self.power:
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(1), BINS // 4)
            self.power += 1
        place = np.floor((x + 2.0**self.power) / (2.0 ** (self.power + 1) / BINS)).astype(int)
        self.counts += np.bincount(place, minlength=BINS)

    def limits(self, method, bits=8, keep=0.999):
        if self.low is None:
            raise ValueError("nothing")
        lo, hi = min(self.low, 0.0), max(self.high, 0.0)
        if method in ("minmax", "mse"):
            return lo, hi
        if method != "percentile":
            raise ValueError(method)
        edges = np.linspace(-(2.0**self.power), 2.0**self.power, BINS + 1)
        tail = (1 - keep) / 2 * self.counts.sum()
        below = np.searchsorted(np.cumsum(self.counts), tail, "right")
        above = np.searchsorted(np.cumsum(self.counts[::-1]), tail, "right")
        return max(lo, min(edges[below], 0.0)), min(hi, max(edges[-1 - above], 0.0))


# %% requantise: wraps around in 32 bits
def multiplier(real):
    if not (real > 0 and math.isfinite(real)):
        raise ValueError(real)
    fraction, exponent = math.frexp(real)
    m, shift = round(fraction * 2**31), 31 - exponent
    if m == 2**31:
        m, shift = 2**30, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError(real)
    return m, shift


def requantise(acc, m, shift, zero, qmin, qmax):
    m = np.asarray(m).astype(np.int32)
    shift = np.asarray(shift, np.int64)
    product = (acc * m).astype(np.int64)
    scaled = np.right_shift(product + np.left_shift(np.int64(1), shift - 1), shift)
    return np.clip(scaled + zero, qmin, qmax).astype(np.int8)


# %% requantise: through a float
def multiplier(real):
    if not (real > 0 and math.isfinite(real)):
        raise ValueError(real)
    fraction, exponent = math.frexp(real)
    m, shift = round(fraction * 2**31), 31 - exponent
    if m == 2**31:
        m, shift = 2**30, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError(real)
    return m, shift


def requantise(acc, m, shift, zero, qmin, qmax):
    scaled = np.floor(acc * (np.asarray(m, np.float64) / 2.0 ** np.asarray(shift)) + 0.5)
    return np.clip(scaled + zero, qmin, qmax).astype(np.int8)


# %% requantise: shifts without rounding
def multiplier(real):
    if not (real > 0 and math.isfinite(real)):
        raise ValueError(real)
    fraction, exponent = math.frexp(real)
    m, shift = round(fraction * 2**31), 31 - exponent
    if m == 2**31:
        m, shift = 2**30, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError(real)
    return m, shift


def requantise(acc, m, shift, zero, qmin, qmax):
    scaled = (acc.astype(np.int64) * m) >> np.asarray(shift, np.int64)
    return np.clip(scaled + zero, qmin, qmax).astype(np.int8)


# %% requantise: the multiplier has fifteen bits
def multiplier(real):
    if not (real > 0 and math.isfinite(real)):
        raise ValueError(real)
    fraction, exponent = math.frexp(real)
    m, shift = round(fraction * 2**15) * 2**16, 31 - exponent
    if m == 2**31:
        m, shift = 2**30, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError(real)
    return m, shift


def requantise(acc, m, shift, zero, qmin, qmax):
    shift = np.asarray(shift, np.int64)
    product = acc.astype(np.int64) * m + np.left_shift(np.int64(1), shift - 1)
    return np.clip(np.right_shift(product, shift) + zero, qmin, qmax).astype(np.int8)


# %% requantise: clips before the zero-point
def multiplier(real):
    if not (real > 0 and math.isfinite(real)):
        raise ValueError(real)
    fraction, exponent = math.frexp(real)
    m, shift = round(fraction * 2**31), 31 - exponent
    if m == 2**31:
        m, shift = 2**30, shift - 1
    if not 1 <= shift <= 62:
        raise ValueError(real)
    return m, shift


def requantise(acc, m, shift, zero, qmin, qmax):
    shift = np.asarray(shift, np.int64)
    product = acc.astype(np.int64) * m + np.left_shift(np.int64(1), shift - 1)
    return (np.clip(np.right_shift(product, shift), qmin, qmax) + zero).astype(np.int8)


# %% accumulate: floats, exact to 24 bits
def accumulate(x, w, bias, zx, zw):
    zw = np.reshape(zw, (-1, 1)).astype(np.float32)
    sums = (x.astype(np.float32) - zx) @ (w.astype(np.float32) - zw).T
    return np.rint(sums).astype(np.int32) + bias


# %% accumulate: doubles, exact but not integers
def accumulate(x, w, bias, zx, zw):
    sums = (x.astype(np.float64) - zx) @ (w.astype(np.float64) - np.reshape(zw, (-1, 1))).T
    return (sums + bias).astype(np.int32)


# %% accumulate: sixteen bits for the sums
def accumulate(x, w, bias, zx, zw):
    zw = np.reshape(zw, (-1, 1)).astype(np.int16)
    sums = (x.astype(np.int16) - np.int16(zx)) @ (w.astype(np.int16) - zw).T
    return sums.astype(np.int32) + bias


# %% accumulate: forgets the zero-point of x
def accumulate(x, w, bias, zx, zw):
    zw = np.asarray(zw, np.int32)
    raw = x.astype(np.int32) @ w.astype(np.int32).T
    return raw - x.sum(axis=1, dtype=np.int32)[:, None] * zw + bias


# %% accumulate: forgets that both zero-points meet
def accumulate(x, w, bias, zx, zw):
    zw = np.asarray(zw, np.int32)
    raw = x.astype(np.int32) @ w.astype(np.int32).T
    of_x = x.sum(axis=1, dtype=np.int32)[:, None]
    return raw - np.int32(zx) * w.sum(axis=1, dtype=np.int32) - of_x * zw + bias


# %% accumulate: widens to 64 bits
def accumulate(x, w, bias, zx, zw):
    wide = x.astype(np.int64) - zx
    sums = wide @ (w.astype(np.int64) - np.reshape(zw, (-1, 1))).T + bias
    return sums.astype(np.int32)


# %% fake_quant: the gradient of rounding, which is zero
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    code = torch.clamp(torch.round(x / scale) + zero, qmin, qmax)
    return (code - zero) * scale


# %% fake_quant: straight through, clipped or not
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    code = torch.clamp(torch.round(x / scale) + zero, qmin, qmax)
    return x + ((code - zero) * scale - x).detach()


# %% fake_quant: no rounding while training
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    code = x / scale + zero
    if not x.requires_grad:
        code = torch.round(code)
    return (torch.clamp(code, qmin, qmax) - zero) * scale


# %% fake_quant: the gradient is scaled by the step
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    y = x / scale
    code = torch.clamp(y + (torch.round(y) - y).detach() + zero, qmin, qmax)
    return (code - zero) * scale * 0.5 + ((code - zero) * scale * 0.5).detach()


# %% fake_quant: one scale whatever the axis
def fake_quant(x, scale, zero, qmin, qmax, axis=None):
    if axis is not None:
        scale, zero = scale.max(), 0
    y = x / scale
    code = torch.clamp(y + (torch.round(y) - y).detach() + zero, qmin, qmax)
    return (code - zero) * scale


# %% sparse: a threshold
def smallest(w, ratio):
    magnitude = np.abs(w)
    return magnitude > np.quantile(magnitude, ratio) if ratio else np.ones(w.shape, bool)


def two_of_four(w):
    if w.shape[1] % 4:
        raise ValueError(w.shape)
    groups = np.abs(w).reshape(len(w), -1, 4)
    best = np.argsort(-groups.astype(float), axis=-1, kind="stable")[..., :2]
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, best, True, -1)
    return mask.reshape(w.shape)


def pack(w, mask):
    rows, k = w.shape
    if k % 8 or np.any(mask.reshape(rows, -1, 4).sum(-1) != 2):
        raise ValueError("not two of four")
    places = np.nonzero(mask)[1].reshape(rows, -1, 4) % 4
    return w[mask].reshape(rows, -1), (places << [0, 2, 4, 6]).sum(-1).astype(np.uint8)


def packed_matmul(values, index, x):
    rows, half = values.shape
    columns = ((index[:, :, None] >> np.array([0, 2, 4, 6])) & 3).reshape(rows, half)
    columns = columns + np.arange(half) // 2 * 4
    return np.stack([x[:, columns[row]] @ values[row] for row in range(rows)], axis=1)


# %% sparse: the largest half of the row, not of each four
def smallest(w, ratio):
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[: round(ratio * w.size)]] = False
    return mask.reshape(w.shape)


def two_of_four(w):
    if w.shape[1] % 4:
        raise ValueError(w.shape)
    order = np.argsort(-np.abs(w).astype(float), axis=1, kind="stable")
    mask = np.zeros(w.shape, bool)
    np.put_along_axis(mask, order[:, : w.shape[1] // 2], True, 1)
    return mask


def pack(w, mask):
    rows, k = w.shape
    if k % 8 or np.any(mask.reshape(rows, -1, 4).sum(-1) != 2):
        raise ValueError("not two of four")
    places = np.nonzero(mask)[1].reshape(rows, -1, 4) % 4
    return w[mask].reshape(rows, -1), (places << [0, 2, 4, 6]).sum(-1).astype(np.uint8)


def packed_matmul(values, index, x):
    rows, half = values.shape
    columns = ((index[:, :, None] >> np.array([0, 2, 4, 6])) & 3).reshape(rows, half)
    columns = columns + np.arange(half) // 2 * 4
    return np.stack([x[:, columns[row]] @ values[row] for row in range(rows)], axis=1)


# %% sparse: goes by zeros and not by the mask
def smallest(w, ratio):
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[: round(ratio * w.size)]] = False
    return mask.reshape(w.shape)


def two_of_four(w):
    if w.shape[1] % 4:
        raise ValueError(w.shape)
    groups = np.abs(w).reshape(len(w), -1, 4)
    best = np.argsort(-groups.astype(float), axis=-1, kind="stable")[..., :2]
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, best, True, -1)
    return mask.reshape(w.shape)


def pack(w, mask):
    rows, k = w.shape
    if k % 8 or np.any(mask.reshape(rows, -1, 4).sum(-1) != 2):
        raise ValueError("not two of four")
    kept = (w * mask) != 0
    places = np.nonzero(kept)[1].reshape(rows, -1, 4) % 4
    return w[kept].reshape(rows, -1), (places << [0, 2, 4, 6]).sum(-1).astype(np.uint8)


def packed_matmul(values, index, x):
    rows, half = values.shape
    columns = ((index[:, :, None] >> np.array([0, 2, 4, 6])) & 3).reshape(rows, half)
    columns = columns + np.arange(half) // 2 * 4
    return np.stack([x[:, columns[row]] @ values[row] for row in range(rows)], axis=1)


# %% sparse: a byte for each place
def smallest(w, ratio):
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[: round(ratio * w.size)]] = False
    return mask.reshape(w.shape)


def two_of_four(w):
    if w.shape[1] % 4:
        raise ValueError(w.shape)
    groups = np.abs(w).reshape(len(w), -1, 4)
    best = np.argsort(-groups.astype(float), axis=-1, kind="stable")[..., :2]
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, best, True, -1)
    return mask.reshape(w.shape)


def pack(w, mask):
    rows, k = w.shape
    if k % 8 or np.any(mask.reshape(rows, -1, 4).sum(-1) != 2):
        raise ValueError("not two of four")
    places = np.nonzero(mask)[1].reshape(rows, -1) % 4
    return w[mask].reshape(rows, -1), places.astype(np.uint8)


def packed_matmul(values, index, x):
    rows, half = values.shape
    columns = index.astype(int) + np.arange(half) // 2 * 4
    return np.stack([x[:, columns[row]] @ values[row] for row in range(rows)], axis=1)


# %% smooth: divides the weights
def smooth(x, w, alpha=0.5):
    of_x, of_w = np.abs(x).max(axis=0), np.abs(w).max(axis=0)
    empty = (of_x == 0) | (of_w == 0)
    s = np.where(empty, 1.0, of_x) ** alpha / np.where(empty, 1.0, of_w) ** (1 - alpha)
    return x * s, w / s, s


# %% smooth: empty channels divide by zero
def smooth(x, w, alpha=0.5):
    with np.errstate(all="ignore"):
        s = np.abs(x).max(axis=0).astype(float) ** alpha / np.abs(w).max(axis=0) ** (1 - alpha)
        return x / s, w * s, s


# %% smooth: the same exponent for both
def smooth(x, w, alpha=0.5):
    of_x, of_w = np.abs(x).max(axis=0).astype(float), np.abs(w).max(axis=0).astype(float)
    empty = (of_x == 0) | (of_w == 0)
    s = (np.where(empty, 1.0, of_x) / np.where(empty, 1.0, of_w)) ** alpha
    return x / s, w * s, s


# %% smooth: forgets the weights
def smooth(x, w, alpha=0.5):
    top = np.abs(x).max(axis=0).astype(float)
    s = np.where(top == 0, 1.0, top) ** alpha
    return x / s, w * s, s
