# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% rope_attention: torch
import torch


def rope(x, positions, base=10000.0):
    x = torch.as_tensor(np.asarray(x), dtype=torch.float64)
    d = x.shape[-1]
    angle = torch.outer(
        torch.as_tensor(np.asarray(positions)).double(),
        base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d),
    )
    point = torch.complex(x[..., : d // 2].contiguous(), x[..., d // 2 :].contiguous())
    point = point * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat([point.real, point.imag], -1).float().numpy()


def causal_attention(q, k, v):
    n, m = len(q), len(k)
    if m < n or q.shape[1] % k.shape[1]:
        raise ValueError("shapes do not fit")
    heads_first = [torch.as_tensor(np.asarray(a)).float().transpose(0, 1) for a in (q, k, v)]
    seen = torch.ones(n, m, dtype=torch.bool).tril(m - n)
    out = torch.nn.functional.scaled_dot_product_attention(
        *heads_first, attn_mask=seen, enable_gqa=True
    )
    return out.transpose(0, 1).contiguous().numpy()


# %% rope_attention: loops
def rope(x, positions, base=10000.0):
    d = x.shape[-1]
    out = np.empty(x.shape, np.float32)
    for i in range(d // 2):
        angle = np.array([float(p) * base ** (-2 * i / d) for p in positions])[:, None]
        out[..., i] = x[..., i] * np.cos(angle) - x[..., i + d // 2] * np.sin(angle)
        out[..., i + d // 2] = x[..., i] * np.sin(angle) + x[..., i + d // 2] * np.cos(angle)
    return out


def causal_attention(q, k, v):
    n, heads, d = q.shape
    m, groups, _ = k.shape
    if m < n or heads % groups != 0:
        raise ValueError("no")
    out = np.zeros(q.shape, np.float32)
    for h in range(heads):
        g = h // (heads // groups)
        for i in range(n):
            end = m - n + i + 1
            scores = (k[:end, g].astype(np.float64) @ q[i, h]) / d**0.5
            weights = np.exp(scores - np.max(scores))
            out[i, h] = weights @ v[:end, g] / weights.sum()
    return out


# %% sizes: loops
def kv_bytes(layers, groups, d, tokens, width=2):
    keys = width * d * groups
    values = keys
    return layers * tokens * (keys + values)


def wasted(lengths, block):
    empty = total = 0
    for length in lengths:
        empty += -length % block
        total += length + -length % block
    return empty / total if total else 0.0


def max_sequences(memory, weights, per_token, tokens, block):
    room = memory - weights
    if room <= 0:
        return 0
    return room // (per_token * block) // math.ceil(tokens / block)


def step_seconds(params, width, kv, batch, bandwidth, flops):
    reading = params * width / bandwidth + batch * kv / bandwidth
    computing = 2 * params * batch / flops
    return reading if reading > computing else computing


# %% allocator: sets of owners
class BlockAllocator:
    """Every block knows its owners: sequences, and numbered holds."""

    def __init__(self, blocks, block_size):
        self.size = block_size
        self.owners = {block: [] for block in range(blocks)}
        self.text = {}
        self.started = 0

    def _new(self, blocks, tokens):
        self.started += 1
        name = f"s{self.started}"
        self.text[name] = [list(blocks), tokens]
        for block in blocks:
            self.owners[block].append(name)
        return self.started

    def _of(self, seq):
        return self.text[f"s{seq}"]

    def start(self, shared=()):
        for block in shared:
            if not self.owners[block]:
                raise ValueError(block)
        return self._new(shared, self.size * len(shared))

    def fork(self, seq):
        blocks, tokens = self._of(seq)
        return self._new(blocks, tokens)

    def append(self, seq, n):
        entry, name = self._of(seq), f"s{seq}"
        blocks, tokens = entry
        plan, copies = list(blocks), []
        free = [block for block, owners in self.owners.items() if not owners]
        try:
            if n and tokens % self.size and len(self.owners[plan[-1]]) > 1:
                copies.append((plan[-1], free.pop(0)))
                plan[-1] = copies[0][1]
            while len(plan) * self.size < tokens + n:
                plan.append(free.pop(0))
        except IndexError:
            raise MemoryError("full") from None
        for old, _ in copies:
            self.owners[old].remove(name)
        for block in plan:
            if name not in self.owners[block]:
                self.owners[block].append(name)
        entry[:] = [plan, tokens + n]
        slots = [block * self.size + offset for block in plan for offset in range(self.size)]
        return slots[tokens : tokens + n], copies

    def free(self, seq):
        blocks, _ = self.text.pop(f"s{seq}")
        for block in blocks:
            self.owners[block].remove(f"s{seq}")

    def hold(self, block):
        if not self.owners[block]:
            raise ValueError("nobody has it")
        self.owners[block].append("hold")

    def release(self, block):
        if not self.owners[block]:
            raise ValueError("nobody has it")
        self.owners[block].remove("hold")

    def table(self, seq):
        return list(self._of(seq)[0])

    def length(self, seq):
        return self._of(seq)[1]

    def refs(self, block):
        return len(self.owners[block])

    def available(self):
        return sum(not owners for owners in self.owners.values())


# %% paged_attention: online softmax
def paged_attention(q, kpool, vpool, tables, lens):
    size = kpool.shape[1]
    b, heads, d = q.shape
    of = np.arange(heads) // (heads // kpool.shape[2])
    out = np.zeros((b, heads, d))
    for s in range(b):
        top, total = np.full(heads, -np.inf), np.zeros(heads)
        for number in range(math.ceil(int(lens[s]) / size)):
            block, last = int(tables[s, number]), min(size, int(lens[s]) - number * size)
            keys, values = kpool[block, :last][:, of], vpool[block, :last][:, of]
            scores = np.einsum("hd,thd->ht", q[s], keys) / np.sqrt(d)
            new = np.maximum(top, scores.max(1))
            weights, shrink = np.exp(scores - new[:, None]), np.exp(top - new)
            out[s] = out[s] * shrink[:, None] + np.einsum("ht,thd->hd", weights, values)
            total, top = total * shrink + weights.sum(1), new
        out[s] /= total[:, None]
    return out.astype(np.float32)


# %% paged_attention: torch
def paged_attention(q, kpool, vpool, tables, lens):
    size = kpool.shape[1]
    rows = []
    for query, table, length in zip(q, tables.tolist(), lens.tolist()):
        slots = [table[i // size] * size + i % size for i in range(length)]
        keys, values = (
            torch.from_numpy(pool.reshape(-1, *pool.shape[2:])[slots]).transpose(0, 1)
            for pool in (kpool, vpool)
        )
        rows.append(
            torch.nn.functional.scaled_dot_product_attention(
                torch.from_numpy(query)[:, None], keys, values, enable_gqa=True
            )[:, 0]
        )
    return torch.stack(rows).numpy()


# %% prefix_cache: hash chain
import hashlib


class PrefixCache:
    """A dictionary from the digest of (digest of the parent, piece) to block; newest use last."""

    def __init__(self, block_size):
        self.size = block_size
        self.block, self.parent, self.children = {}, {}, {}
        self.used, self.turn = {}, 0

    def chain(self, tokens):
        digest = b""
        for at in range(0, len(tokens) - self.size + 1, self.size):
            piece = ",".join(str(int(token)) for token in tokens[at : at + self.size])
            parent, digest = digest, hashlib.sha256(digest + piece.encode()).digest()
            yield parent, digest

    def match(self, tokens):
        self.turn += 1
        found = []
        for _, digest in self.chain(tokens):
            if digest not in self.block:
                return found
            self.used[digest] = self.turn
            found.append(self.block[digest])
        return found

    def insert(self, tokens, blocks):
        self.turn += 1
        added = []
        for (parent, digest), block in zip(self.chain(tokens), blocks):
            if digest not in self.block:
                self.block[digest], self.parent[digest] = block, parent
                self.children[digest] = 0
                if parent:
                    self.children[parent] += 1
                added.append(block)
            self.used[digest] = self.turn
        return added

    def evict(self, n, in_use):
        out = []
        for _ in range(n):
            ready = [
                (self.used[digest], digest)
                for digest, children in self.children.items()
                if children == 0 and self.block[digest] not in in_use
            ]
            if not ready:
                break
            _, digest = min(ready)
            out.append(self.block.pop(digest))
            parent = self.parent.pop(digest)
            del self.children[digest], self.used[digest]
            if parent:
                self.children[parent] -= 1
        return out

    def __len__(self):
        return len(self.block)


# %% prefill: recursion
def extend(model, cache, seq, tokens, attention):
    n = len(tokens)
    slots = cache.room(seq, n)
    end = cache.length(seq)
    x = model.embed(tokens)
    for layer in range(model.layers):
        q, k, v = model.qkv(layer, x, range(end - n, end))
        cache.write(layer, slots, k, v)
        flat = np.array(
            [
                block * cache.block_size + offset
                for block in cache.table(seq)
                for offset in range(cache.block_size)
            ]
        )[:end]
        keys, values = (
            pool[layer].reshape(-1, *pool.shape[3:])[flat] for pool in (cache.k, cache.v)
        )
        x = model.finish(layer, x, attention(q, keys, values))
    return model.logits(x[n - 1 :]).ravel()


def prefill(model, cache, seq, tokens, chunk, attention):
    if len(tokens) <= chunk:
        return extend(model, cache, seq, tokens, attention)
    extend(model, cache, seq, tokens[:chunk], attention)
    return prefill(model, cache, seq, tokens[chunk:], chunk, attention)


# %% decode: lengths after
def decode_step(model, cache, seqs, tokens, paged):
    slots = np.concatenate([cache.room(seq, 1) for seq in seqs])
    lens = np.array([cache.length(seq) for seq in seqs])
    most = max(len(cache.table(seq)) for seq in seqs)
    tables = np.array([(cache.table(seq) + [-1] * most)[:most] for seq in seqs])
    x = model.embed(tokens)
    for layer, (kpool, vpool) in enumerate(zip(cache.k, cache.v)):
        q, k, v = model.qkv(layer, x, lens - 1)
        cache.write(layer, slots, k, v)
        x = model.finish(layer, x, paged(q, kpool, vpool, tables, lens))
    return model.logits(x)
