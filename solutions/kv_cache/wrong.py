# Answers that people really give and that must lose their task's points.

# %% rope_attention: neighbouring elements are a pair
def rope(x, positions, base=10000.0):
    """Rotate each pair (i, i + d/2) of each head by position * base**(-2i/d)."""
    half = x.shape[-1] // 2
    turn = np.asarray(positions, np.float64)[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    a, b = x[..., ::2], x[..., 1::2]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(np.float32)


def causal_attention(q, k, v):
    """Attention of the last n tokens over all m, several query heads to a head of keys."""
    (n, heads, d), (m, groups) = q.shape, k.shape[:2]
    if heads % groups or m < n:
        raise ValueError(f"{heads} heads on {groups}, {n} queries on {m} keys")
    grouped = q.reshape(n, groups, heads // groups, d).transpose(1, 2, 0, 3)
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / math.sqrt(d)
    unseen = np.arange(m) > np.arange(m - n, m)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v.transpose(1, 0, 2)[:, None]
    return out.transpose(2, 0, 1, 3).reshape(n, heads, d).astype(np.float32)


# %% rope_attention: the mask of equal numbers of queries and keys
def rope(x, positions, base=10000.0):
    """Rotate each pair (i, i + d/2) of each head by position * base**(-2i/d)."""
    half = x.shape[-1] // 2
    turn = np.asarray(positions, np.float64)[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(np.float32)


def causal_attention(q, k, v):
    """Attention of the last n tokens over all m, several query heads to a head of keys."""
    (n, heads, d), (m, groups) = q.shape, k.shape[:2]
    if heads % groups or m < n:
        raise ValueError(f"{heads} heads on {groups}, {n} queries on {m} keys")
    grouped = q.reshape(n, groups, heads // groups, d).transpose(1, 2, 0, 3)
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / math.sqrt(d)
    unseen = np.arange(m) > np.arange(n)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v.transpose(1, 0, 2)[:, None]
    return out.transpose(2, 0, 1, 3).reshape(n, heads, d).astype(np.float32)


# %% rope_attention: head h uses key head h modulo G
def rope(x, positions, base=10000.0):
    """Rotate each pair (i, i + d/2) of each head by position * base**(-2i/d)."""
    half = x.shape[-1] // 2
    turn = np.asarray(positions, np.float64)[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(np.float32)


def causal_attention(q, k, v):
    """Attention of the last n tokens over all m, several query heads to a head of keys."""
    (n, heads, d), (m, groups) = q.shape, k.shape[:2]
    if heads % groups or m < n:
        raise ValueError(f"{heads} heads on {groups}, {n} queries on {m} keys")
    grouped = q.reshape(n, heads // groups, groups, d).transpose(2, 1, 0, 3)
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / math.sqrt(d)
    unseen = np.arange(m) > np.arange(m - n, m)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v.transpose(1, 0, 2)[:, None]
    return out.transpose(2, 1, 0, 3).reshape(n, heads, d).astype(np.float32)


# %% rope_attention: exp of large scores
def rope(x, positions, base=10000.0):
    """Rotate each pair (i, i + d/2) of each head by position * base**(-2i/d)."""
    half = x.shape[-1] // 2
    turn = np.asarray(positions, np.float64)[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(np.float32)


def causal_attention(q, k, v):
    """Attention of the last n tokens over all m, several query heads to a head of keys."""
    (n, heads, d), (m, groups) = q.shape, k.shape[:2]
    if heads % groups or m < n:
        raise ValueError(f"{heads} heads on {groups}, {n} queries on {m} keys")
    grouped = q.reshape(n, groups, heads // groups, d).transpose(1, 2, 0, 3)
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / math.sqrt(d)
    unseen = np.arange(m) > np.arange(m - n, m)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores)
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v.transpose(1, 0, 2)[:, None]
    return out.transpose(2, 0, 1, 3).reshape(n, heads, d).astype(np.float32)


# %% rope_attention: positions counted from zero
def rope(x, positions, base=10000.0):
    """Rotate each pair (i, i + d/2) of each head by position * base**(-2i/d)."""
    half = x.shape[-1] // 2
    turn = np.arange(len(x), dtype=np.float64)[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(np.float32)


def causal_attention(q, k, v):
    """Attention of the last n tokens over all m, several query heads to a head of keys."""
    (n, heads, d), (m, groups) = q.shape, k.shape[:2]
    if heads % groups or m < n:
        raise ValueError(f"{heads} heads on {groups}, {n} queries on {m} keys")
    grouped = q.reshape(n, groups, heads // groups, d).transpose(1, 2, 0, 3)
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / math.sqrt(d)
    unseen = np.arange(m) > np.arange(m - n, m)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v.transpose(1, 0, 2)[:, None]
    return out.transpose(2, 0, 1, 3).reshape(n, heads, d).astype(np.float32)


# %% rope_attention: angles in half of the frequencies
def rope(x, positions, base=10000.0):
    """Rotate each pair (i, i + d/2) of each head by position * base**(-2i/d)."""
    half = x.shape[-1] // 2
    turn = np.asarray(positions, np.float64)[:, None] * base ** (-np.arange(half) / (2 * half))
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(np.float32)


def causal_attention(q, k, v):
    """Attention of the last n tokens over all m, several query heads to a head of keys."""
    (n, heads, d), (m, groups) = q.shape, k.shape[:2]
    if heads % groups or m < n:
        raise ValueError(f"{heads} heads on {groups}, {n} queries on {m} keys")
    grouped = q.reshape(n, groups, heads // groups, d).transpose(1, 2, 0, 3)
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / math.sqrt(d)
    unseen = np.arange(m) > np.arange(m - n, m)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v.transpose(1, 0, 2)[:, None]
    return out.transpose(2, 0, 1, 3).reshape(n, heads, d).astype(np.float32)


# %% sizes: forgets that keys and values are two
def kv_bytes(layers, groups, d, tokens, width=2):
    """Bytes of the keys and values of `tokens` tokens."""
    return layers * groups * d * tokens * width


def wasted(lengths, block):
    """The share of the slots handed out that holds no token."""
    slots = sum(-(-length // block) * block for length in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    """How many sequences of `tokens` tokens fit beside the weights."""
    blocks = max(0, memory - weights) // (block * per_token)
    return blocks // -(-tokens // block)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    """The least time of one decoding step."""
    return max((params * width + batch * kv) / bandwidth, 2 * params * batch / flops)


# %% sizes: memory as if blocks could be cut
def kv_bytes(layers, groups, d, tokens, width=2):
    """Bytes of the keys and values of `tokens` tokens."""
    return 2 * layers * groups * d * tokens * width


def wasted(lengths, block):
    """The share of the slots handed out that holds no token."""
    slots = sum(-(-length // block) * block for length in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    """How many sequences of `tokens` tokens fit beside the weights."""
    return max(0, memory - weights) // (tokens * per_token)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    """The least time of one decoding step."""
    return max((params * width + batch * kv) / bandwidth, 2 * params * batch / flops)


# %% sizes: a full last block counts as one more
def kv_bytes(layers, groups, d, tokens, width=2):
    """Bytes of the keys and values of `tokens` tokens."""
    return 2 * layers * groups * d * tokens * width


def wasted(lengths, block):
    """The share of the slots handed out that holds no token."""
    slots = sum((length // block + 1) * block for length in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    """How many sequences of `tokens` tokens fit beside the weights."""
    blocks = max(0, memory - weights) // (block * per_token)
    return blocks // -(-tokens // block)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    """The least time of one decoding step."""
    return max((params * width + batch * kv) / bandwidth, 2 * params * batch / flops)


# %% sizes: waste as a share of the tokens
def kv_bytes(layers, groups, d, tokens, width=2):
    """Bytes of the keys and values of `tokens` tokens."""
    return 2 * layers * groups * d * tokens * width


def wasted(lengths, block):
    """The share of the slots handed out that holds no token."""
    slots = sum(-(-length // block) * block for length in lengths)
    return slots / sum(lengths) - 1 if slots else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    """How many sequences of `tokens` tokens fit beside the weights."""
    blocks = max(0, memory - weights) // (block * per_token)
    return blocks // -(-tokens // block)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    """The least time of one decoding step."""
    return max((params * width + batch * kv) / bandwidth, 2 * params * batch / flops)


# %% sizes: weights are read for each sequence
def kv_bytes(layers, groups, d, tokens, width=2):
    """Bytes of the keys and values of `tokens` tokens."""
    return 2 * layers * groups * d * tokens * width


def wasted(lengths, block):
    """The share of the slots handed out that holds no token."""
    slots = sum(-(-length // block) * block for length in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    """How many sequences of `tokens` tokens fit beside the weights."""
    blocks = max(0, memory - weights) // (block * per_token)
    return blocks // -(-tokens // block)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    """The least time of one decoding step."""
    return max(batch * (params * width + kv) / bandwidth, 2 * params * batch / flops)


# %% sizes: negative room
def kv_bytes(layers, groups, d, tokens, width=2):
    """Bytes of the keys and values of `tokens` tokens."""
    return 2 * layers * groups * d * tokens * width


def wasted(lengths, block):
    """The share of the slots handed out that holds no token."""
    slots = sum(-(-length // block) * block for length in lengths)
    return 1 - sum(lengths) / slots if slots else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    """How many sequences of `tokens` tokens fit beside the weights."""
    blocks = (memory - weights) // (block * per_token)
    return blocks // -(-tokens // block)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    """The least time of one decoding step."""
    return max((params * width + batch * kv) / bandwidth, 2 * params * batch / flops)


# %% allocator: no copy on write
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = False
        new = -(-(length + n) // self.block_size) - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: free hands back shared blocks
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = -(-(length + n) // self.block_size) - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.count[block] = 0
            if block not in self.unused:
                self.unused.append(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: copies even when nobody shares
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size
        new = -(-(length + n) // self.block_size) - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: the old block keeps the reference of the copier
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = -(-(length + n) // self.block_size) - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: a refused append has taken blocks
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = -(-(length + n) // self.block_size) - len(table)
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        if not self.unused:
            raise MemoryError("no free block")
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: forgets the block for the copy
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = -(-(length + n) // self.block_size) - len(table)
        if new > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: a fork owns the very table of its parent
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = -(-(length + n) // self.block_size) - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(self.tables[seq], self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: one block more when the last is just full
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq, self.next = self.next, self.next + 1
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = (length + n) // self.block_size + 1 - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% allocator: numbers of sequences are used again
class BlockAllocator:
    """Blocks of slots for sequences that grow, fork and end."""

    def __init__(self, blocks, block_size):
        self.block_size = block_size
        self.count = [0] * blocks
        self.unused = list(range(blocks))
        self.tables, self.lengths = {}, {}
        self.next = 0

    def start(self, shared=()):
        if any(self.count[block] == 0 for block in shared):
            raise ValueError("a shared block is free")
        return self._enter(list(shared), len(shared) * self.block_size)

    def _enter(self, table, length):
        for block in table:
            self.count[block] += 1
        seq = next(number for number in range(10**6) if number not in self.tables)
        self.tables[seq], self.lengths[seq] = table, length
        return seq

    def append(self, seq, n):
        table, length = self.tables[seq], self.lengths[seq]
        copy = n > 0 and length % self.block_size and self.count[table[-1]] > 1
        new = -(-(length + n) // self.block_size) - len(table)
        if new + bool(copy) > len(self.unused):
            raise MemoryError(f"{new + bool(copy)} blocks asked, {len(self.unused)} free")
        copies = []
        if copy:
            old, table[-1] = table[-1], self._take()
            self.count[old] -= 1
            copies.append((old, table[-1]))
        table.extend(self._take() for _ in range(new))
        self.lengths[seq] = length + n
        places = (divmod(at, self.block_size) for at in range(length, length + n))
        return [table[i] * self.block_size + offset for i, offset in places], copies

    def _take(self):
        block = self.unused.pop()
        self.count[block] = 1
        return block

    def fork(self, seq):
        return self._enter(list(self.tables[seq]), self.lengths[seq])

    def free(self, seq):
        for block in self.tables.pop(seq):
            self.release(block)
        del self.lengths[seq]

    def hold(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] += 1

    def release(self, block):
        if self.count[block] == 0:
            raise ValueError(f"block {block} is free")
        self.count[block] -= 1
        if self.count[block] == 0:
            self.unused.append(block)

    def table(self, seq):
        return list(self.tables[seq])

    def length(self, seq):
        return self.lengths[seq]

    def refs(self, block):
        return self.count[block]

    def available(self):
        return len(self.unused)


# %% paged_attention: one slot too many
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = tables[s][: -(-length // size)]
        keys = kpool[blocks].reshape(-1, groups, d)[: length + 1]
        values = vpool[blocks].reshape(-1, groups, d)[: length + 1]
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% paged_attention: masks what it should not read
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = tables[s][: -(-length // size)]
        keys = kpool[blocks].reshape(-1, groups, d)
        values = vpool[blocks].reshape(-1, groups, d)
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        scores[..., length:] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% paged_attention: takes the whole row of the table
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = tables[s] % len(kpool)
        keys = kpool[blocks].reshape(-1, groups, d)
        values = vpool[blocks].reshape(-1, groups, d)
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% paged_attention: full blocks only
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = tables[s][: max(1, length // size)]
        keys = kpool[blocks].reshape(-1, groups, d)[:length]
        values = vpool[blocks].reshape(-1, groups, d)[:length]
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% paged_attention: blocks in the order of the pool
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = np.sort(tables[s][: -(-length // size)])
        keys = kpool[blocks].reshape(-1, groups, d)[:length]
        values = vpool[blocks].reshape(-1, groups, d)[:length]
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% paged_attention: forgets the newest token
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = tables[s][: -(-length // size)]
        keys = kpool[blocks].reshape(-1, groups, d)[: max(1, length - 1)]
        values = vpool[blocks].reshape(-1, groups, d)[: max(1, length - 1)]
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% paged_attention: exp of large scores
def paged_attention(q, kpool, vpool, tables, lens):
    """Attention of each sequence's newest token over its keys and values in the pool."""
    size, groups, d = kpool.shape[1:]
    out = np.empty_like(q)
    for s, length in enumerate(lens):
        blocks = tables[s][: -(-length // size)]
        keys = kpool[blocks].reshape(-1, groups, d)[:length]
        values = vpool[blocks].reshape(-1, groups, d)[:length]
        grouped = q[s].reshape(groups, -1, d)
        scores = grouped @ keys.transpose(1, 2, 0) / math.sqrt(d)
        weights = np.exp(scores)
        weights /= weights.sum(-1, keepdims=True)
        out[s] = (weights @ values.transpose(1, 0, 2)).reshape(-1, d)
    return out


# %% prefix_cache: the key is the piece alone
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        found = []
        for piece in self._pieces(tokens):
            same = [node for node in self.nodes.values() if node["piece"] == piece]
            if not same:
                break
            same[0]["used"] = self.clock
            found.append(same[0]["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [
                node
                for block, node in self.nodes.items()
                if not node["children"] and block not in in_use
            ]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: half-full blocks are remembered
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            node["used"] = self.clock
            found.append(node["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = -(-len(tokens) // size)
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [
                node
                for block, node in self.nodes.items()
                if not node["children"] and block not in in_use
            ]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: evicts what is in use
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            node["used"] = self.clock
            found.append(node["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [node for block, node in self.nodes.items() if not node["children"]]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: evicts inner blocks
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            node["used"] = self.clock
            found.append(node["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [node for block, node in self.nodes.items() if block not in in_use]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: first in, first out
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            found.append(node["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                child["used"] = self.clock
                new.append(block)
            node = node["children"][piece]
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [
                node
                for block, node in self.nodes.items()
                if not node["children"] and block not in in_use
            ]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: match uses the last block of the path only
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            found.append(node["block"])
        if found:
            self.nodes[found[-1]]["used"] = self.clock
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [
                node
                for block, node in self.nodes.items()
                if not node["children"] and block not in in_use
            ]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: the newer block takes the place of the old
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            node["used"] = self.clock
            found.append(node["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            known = node["children"].get(piece)
            if known is not None and known["block"] != block:
                self.nodes[block] = self.nodes.pop(known["block"])
                known["block"] = block
                new.append(block)
            if known is None:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
                new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [
                node
                for block, node in self.nodes.items()
                if not node["children"] and block not in in_use
            ]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefix_cache: lists all blocks, known or not
class PrefixCache:
    """Which block holds which piece of text, after which beginning."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.root = {"children": {}}
        self.clock = 0
        self.nodes = {}

    def match(self, tokens):
        self.clock += 1
        node, found = self.root, []
        for piece in self._pieces(tokens):
            node = node["children"].get(piece)
            if node is None:
                break
            node["used"] = self.clock
            found.append(node["block"])
        return found

    def _pieces(self, tokens):
        size = self.block_size
        whole = len(tokens) // size
        return [tuple(map(int, tokens[i * size : (i + 1) * size])) for i in range(whole)]

    def insert(self, tokens, blocks):
        self.clock += 1
        node, new = self.root, []
        for piece, block in zip(self._pieces(tokens), blocks):
            if piece not in node["children"]:
                child = {"children": {}, "parent": node, "piece": piece, "block": block}
                node["children"][piece] = self.nodes[block] = child
            new.append(block)
            node = node["children"][piece]
            node["used"] = self.clock
        return new

    def evict(self, n, in_use):
        gone = []
        while len(gone) < n:
            leaves = [
                node
                for block, node in self.nodes.items()
                if not node["children"] and block not in in_use
            ]
            if not leaves:
                break
            node = min(leaves, key=lambda leaf: leaf["used"])
            del node["parent"]["children"][node["piece"]], self.nodes[node["block"]]
            gone.append(node["block"])
        return gone

    def __len__(self):
        return len(self.nodes)


# %% prefill: positions begin again in every chunk
def extend(model, cache, seq, tokens, attention):
    """Append tokens to a sequence; the logits of the last."""
    start = cache.length(seq)
    slots = cache.room(seq, len(tokens))
    positions = np.arange(len(tokens))
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        x = model.finish(layer, x, attention(q, *cache.read(layer, seq)))
    return model.logits(x[-1:])[0]


def prefill(model, cache, seq, tokens, chunk, attention):
    """Append tokens in pieces of at most `chunk`; the logits of the last."""
    for at in range(0, len(tokens), chunk):
        logits = extend(model, cache, seq, tokens[at : at + chunk], attention)
    return logits


# %% prefill: a chunk sees only itself
def extend(model, cache, seq, tokens, attention):
    """Append tokens to a sequence; the logits of the last."""
    start = cache.length(seq)
    slots = cache.room(seq, len(tokens))
    positions = np.arange(start, start + len(tokens))
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        x = model.finish(layer, x, attention(q, k, v))
    return model.logits(x[-1:])[0]


def prefill(model, cache, seq, tokens, chunk, attention):
    """Append tokens in pieces of at most `chunk`; the logits of the last."""
    for at in range(0, len(tokens), chunk):
        logits = extend(model, cache, seq, tokens[at : at + chunk], attention)
    return logits


# %% prefill: a chunk ignores its size
def extend(model, cache, seq, tokens, attention):
    """Append tokens to a sequence; the logits of the last."""
    start = cache.length(seq)
    slots = cache.room(seq, len(tokens))
    positions = np.arange(start, start + len(tokens))
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        x = model.finish(layer, x, attention(q, *cache.read(layer, seq)))
    return model.logits(x[-1:])[0]


def prefill(model, cache, seq, tokens, chunk, attention):
    """Append tokens in pieces of at most `chunk`; the logits of the last."""
    return extend(model, cache, seq, tokens, attention)


# %% prefill: logits of all tokens
def extend(model, cache, seq, tokens, attention):
    """Append tokens to a sequence; the logits of the last."""
    start = cache.length(seq)
    slots = cache.room(seq, len(tokens))
    positions = np.arange(start, start + len(tokens))
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        x = model.finish(layer, x, attention(q, *cache.read(layer, seq)))
    return model.logits(x)[-1]


def prefill(model, cache, seq, tokens, chunk, attention):
    """Append tokens in pieces of at most `chunk`; the logits of the last."""
    for at in range(0, len(tokens), chunk):
        logits = extend(model, cache, seq, tokens[at : at + chunk], attention)
    return logits


# %% prefill: leaves the last, smaller chunk out
def extend(model, cache, seq, tokens, attention):
    """Append tokens to a sequence; the logits of the last."""
    start = cache.length(seq)
    slots = cache.room(seq, len(tokens))
    positions = np.arange(start, start + len(tokens))
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        x = model.finish(layer, x, attention(q, *cache.read(layer, seq)))
    return model.logits(x[-1:])[0]


def prefill(model, cache, seq, tokens, chunk, attention):
    """Append tokens in pieces of at most `chunk`; the logits of the last."""
    for at in range(0, max(1, len(tokens) - chunk + 1), chunk):
        logits = extend(model, cache, seq, tokens[at : at + chunk], attention)
    return logits


# %% decode: positions after the new token
def decode_step(model, cache, seqs, tokens, paged):
    """Append one token to each sequence; the logits of the new tokens."""
    positions = np.array([cache.length(seq) for seq in seqs])
    slots = [cache.room(seq, 1)[0] for seq in seqs]
    tables = [cache.table(seq) for seq in seqs]
    padded = np.zeros((len(seqs), max(map(len, tables))), int)
    for row, table in zip(padded, tables):
        row[: len(table)] = table
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions + 1)
        cache.write(layer, slots, k, v)
        attended = paged(q, cache.k[layer], cache.v[layer], padded, positions + 1)
        x = model.finish(layer, x, attended)
    return model.logits(x)


# %% decode: positions restart
def decode_step(model, cache, seqs, tokens, paged):
    """Append one token to each sequence; the logits of the new tokens."""
    positions = np.array([cache.length(seq) for seq in seqs])
    slots = [cache.room(seq, 1)[0] for seq in seqs]
    tables = [cache.table(seq) for seq in seqs]
    padded = np.zeros((len(seqs), max(map(len, tables))), int)
    for row, table in zip(padded, tables):
        row[: len(table)] = table
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, 0 * positions)
        cache.write(layer, slots, k, v)
        attended = paged(q, cache.k[layer], cache.v[layer], padded, positions + 1)
        x = model.finish(layer, x, attended)
    return model.logits(x)


# %% decode: the new token does not see itself
def decode_step(model, cache, seqs, tokens, paged):
    """Append one token to each sequence; the logits of the new tokens."""
    positions = np.array([cache.length(seq) for seq in seqs])
    slots = [cache.room(seq, 1)[0] for seq in seqs]
    tables = [cache.table(seq) for seq in seqs]
    padded = np.zeros((len(seqs), max(map(len, tables))), int)
    for row, table in zip(padded, tables):
        row[: len(table)] = table
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        attended = paged(q, cache.k[layer], cache.v[layer], padded, np.maximum(1, positions))
        x = model.finish(layer, x, attended)
    return model.logits(x)


# %% decode: tables from before the room was made
def decode_step(model, cache, seqs, tokens, paged):
    """Append one token to each sequence; the logits of the new tokens."""
    positions = np.array([cache.length(seq) for seq in seqs])
    tables = [cache.table(seq) or [0] for seq in seqs]
    slots = [cache.room(seq, 1)[0] for seq in seqs]
    padded = np.zeros((len(seqs), max(map(len, tables))), int)
    for row, table in zip(padded, tables):
        row[: len(table)] = table
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, positions)
        cache.write(layer, slots, k, v)
        attended = paged(q, cache.k[layer], cache.v[layer], padded, positions + 1)
        x = model.finish(layer, x, attended)
    return model.logits(x)


# %% decode: one length for all
def decode_step(model, cache, seqs, tokens, paged):
    """Append one token to each sequence; the logits of the new tokens."""
    positions = np.array([cache.length(seq) for seq in seqs])
    slots = [cache.room(seq, 1)[0] for seq in seqs]
    tables = [cache.table(seq) for seq in seqs]
    padded = np.zeros((len(seqs), max(map(len, tables))), int)
    for row, table in zip(padded, tables):
        row[: len(table)] = table
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, np.full_like(positions, positions.max()))
        cache.write(layer, slots, k, v)
        attended = paged(q, cache.k[layer], cache.v[layer], padded, positions + 1)
        x = model.finish(layer, x, attended)
    return model.logits(x)


# %% decode: one sequence after the other
def decode_step(model, cache, seqs, tokens, paged):
    """Append one token to each sequence; the logits of the new tokens."""
    rows = []
    for seq, token in zip(seqs, tokens):
        position = cache.length(seq)
        slots = cache.room(seq, 1)
        table = np.array([cache.table(seq)])
        x = model.embed([token])
        for layer in range(model.layers):
            q, k, v = model.qkv(layer, x, np.array([position]))
            cache.write(layer, slots, k, v)
            attended = paged(q, cache.k[layer], cache.v[layer], table, np.array([position + 1]))
            x = model.finish(layer, x, attended)
        rows.append(model.logits(x)[0])
    return np.stack(rows)
