# Correct answers in another style: each name after the colon is one style, applied as a whole.

# %% fold: torch's helper
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_conv_bn(gm):
    folded = copy.deepcopy(gm)
    module_of = {}
    for node in folded.graph.nodes:
        if node.op == "call_module":
            module_of[node] = folded.get_submodule(node.target)

    def foldable(node):
        bn = module_of.get(node)
        if type(bn) is not nn.BatchNorm2d or bn.training or bn.running_var is None:
            return False
        (before,) = node.all_input_nodes
        conv = module_of.get(before)
        called = [n for n, module in module_of.items() if module is conv]
        return isinstance(conv, nn.Conv2d) and set(before.users) == {node} and called == [before]

    for node in [node for node in module_of if foldable(node)]:
        before = node.args[0]
        new = fuse_conv_bn_eval(module_of[before].eval(), module_of[node])
        folded.set_submodule(before.target, new)
        node.replace_all_uses_with(before)
        folded.graph.erase_node(node)
    folded.recompile()
    return folded


# %% layouts: elimination of leaves
def select_layouts(nodes, cost, transform):
    """Remove leaves one by one; each hands its neighbour a row of least costs."""
    layouts = sorted({layout for options in cost.values() for layout in options})
    rows = {
        name: np.array([options.get(layout, np.inf) for layout in layouts], float)
        for name, options in cost.items()
    }
    matrix = np.array(
        [[0.0 if a == b else transform.get((a, b), np.inf) for b in layouts] for a in layouts]
    )
    links = {name: {} for name, _, _ in nodes}
    for name, inputs, size in nodes:
        for source in inputs:
            own = next(s for n, _, s in nodes if n == source) if len(nodes) < 50 else None
            links[source][name] = links[name][source] = own
    size_of = {name: size for name, _, size in nodes}
    price = {}
    for name, inputs, _ in nodes:
        for source in inputs:
            with np.errstate(invalid="ignore"):
                table = np.where(np.isinf(matrix), np.inf, matrix * size_of[source])
            price[source, name], price[name, source] = table, table.T

    degree = {name: len(near) for name, near in links.items()}
    ready = [name for name in links if degree[name] <= 1]
    gone, handed = set(), []
    for leaf in ready:
        others = [other for other in links[leaf] if other not in gone]
        gone.add(leaf)
        if others:
            (other,) = others
            sums = rows[leaf][:, None] + price[leaf, other]
            rows[other] = rows[other] + sums.min(axis=0)
            handed.append((leaf, other, sums.argmin(axis=0)))
            degree[other] -= 1
            if degree[other] == 1 and other not in ready:
                ready.append(other)
        else:
            handed.append((leaf, None, None))
    chosen, total = {}, 0.0
    for name, other, best in reversed(handed):
        if other is None:
            chosen[name] = int(rows[name].argmin())
            total += float(rows[name].min())
        else:
            chosen[name] = int(best[chosen[other]])
    if not np.isfinite(total):
        raise ValueError("some value cannot be turned into a layout that its consumer has")
    return {name: layouts[index] for name, index in chosen.items()}, total


# %% fuse: bit masks
def fuse(nodes):
    """Sets as integers; a merge is legal when nothing outside lies between the two groups."""
    index = {name: i for i, (name, *_) in enumerate(nodes)}
    count = len(nodes)
    groups = [1 << i for i in range(count)]
    preds = [0] * count
    whole = []
    for i, (_, _, _, inputs) in enumerate(nodes):
        for source, how in inputs:
            preds[i] |= 1 << index[source]
            if how == "whole":
                whole.append(1 << i | 1 << index[source])

    def bits(mask):
        while mask:
            yield (mask & -mask).bit_length() - 1
            mask &= mask - 1

    def needs(group):
        mask = 0
        for i in bits(group):
            mask |= preds[i]
        return mask & ~group

    def fine(mask):
        kinds = [nodes[i][1] for i in bits(mask)]
        if "opaque" in kinds or kinds.count("anchor") > 1:
            return False
        if len({nodes[i][2] for i in bits(mask)}) > 1:
            return False
        return not any(pair & mask == pair for pair in whole)

    def order(some):
        """The groups in an executable order, or None."""
        done, rest, found = 0, list(some), []
        while rest:
            ready = [group for group in rest if needs(group) & ~done == 0]
            if not ready:
                return None
            for group in ready:
                found.append(group)
                done |= group
                rest.remove(group)
        return found

    changed = True
    while changed:
        changed = False
        for one in groups:
            for other in groups:
                if needs(other) & one and fine(one | other):
                    trial = [g for g in groups if g not in (one, other)] + [one | other]
                    if order(trial) is not None:
                        groups, changed = trial, True
                        break
            if changed:
                break
    return [[nodes[i][0] for i in bits(group)] for group in order(groups)]


# %% emit: scratch is cut up before the loop
def emit(kernel, block):
    write, place, total = [], {}, 0
    for name, how in kernel.inputs:
        place[name] = f"{name}[begin:stop]" if how == "rows" else name
    for name, _, _, width in kernel.steps:
        if name in kernel.outputs:
            place[name] = f"{name}[begin:stop]"
        else:
            write.append(
                f"{name} = scratch[{total}:{total + block * width}].reshape({block}, {width})"
            )
            total += block * width
            place[name] = f"{name}[:stop - begin]"
    text = f"def {kernel.name}("
    text += ", ".join([name for name, _ in kernel.inputs] + list(kernel.outputs)) + ", scratch):\n"
    text += "".join(f"    {line}\n" for line in write)
    text += f"    begin = 0\n    while begin < {kernel.rows}:\n"
    text += f"        stop = min(begin + {block}, {kernel.rows})\n"
    for name, op, args, _ in kernel.steps:
        given = (place.get(arg, arg) if isinstance(arg, str) else repr(arg) for arg in args)
        text += f"        {TEMPLATES[op].format(*given, out=place[name])}\n"
    return text + "        begin = stop\n", total


# %% lifetimes: from the back
def liveness(schedule, views, outputs):
    root = dict(views)
    for name in root:
        while root[name] in root:
            root[name] = root[root[name]]
    last, found = {}, {}
    for name in outputs:
        last[root.get(name, name)] = len(schedule)
    for number in range(len(schedule) - 1, -1, -1):
        reads, writes, _ = schedule[number]
        for name in writes:
            found[name] = (number, last.get(name, number))
        for name in reads:
            last.setdefault(root.get(name, name), number)
    return found


def in_place(schedule, views, sizes, outputs):
    lives = liveness(schedule, views, outputs)
    ending = [
        {name for name, (_, last) in lives.items() if last == number}
        for number in range(len(schedule))
    ]
    result = {}
    for (_, writes, may), dying in zip(schedule, ending):
        for name in reversed(may):
            if name in dying and sizes[name] == sizes[writes[0]]:
                result[writes[0]] = name
    return result


# %% plan: depth first and hill climbing
def plan(intervals, align=64):
    n = len(intervals)
    need = [math.ceil(size / align) * align for _, _, size in intervals]
    clash = [[max(a[0], b[0]) <= min(a[1], b[1]) for b in intervals] for a in intervals]
    least = busiest(intervals, align)

    def drop(i, placed):
        blocks = sorted((at, at + need[j]) for j, at in placed.items() if clash[i][j])
        spot = 0
        for low, high in blocks:
            if low - spot >= need[i]:
                return spot
            spot = max(spot, high)
        return spot

    def lay(order):
        placed, top = {}, 0
        for i in order:
            placed[i] = drop(i, placed)
            top = max(top, placed[i] + need[i])
        return top, placed

    best = lay(sorted(range(n), key=lambda i: (-need[i], intervals[i][0])))
    if n <= 7:

        def search(placed, top):
            nonlocal best
            if top >= best[0]:
                return
            if len(placed) == n:
                best = (top, placed)
                return
            for i in set(range(n)) - placed.keys():
                spot = drop(i, placed)
                search({**placed, i: spot}, max(top, spot + need[i]))

        search({}, 0)
    else:
        order = sorted(range(n), key=lambda i: (-need[i], intervals[i][0]))
        random = np.random.default_rng(1)
        for _ in range(600):
            if best[0] == least:
                break
            trial = list(order)
            i, j = random.integers(0, n, 2)
            trial.insert(int(i), trial.pop(int(j)))
            found = lay(trial)
            if found[0] <= best[0]:
                best, order = found, trial
    return [best[1][i] for i in range(n)], best[0]


# %% compile: one generated program
def compile_program(program, passes, budget=2**19):
    """Every value a name in one generated function; scratch is one more interval in the arena."""
    kernels = describe(program, passes.fuse(fusion_nodes(program)))
    bases = {name: base for name, (base, _, _) in program.views.items()}
    shape = {step.name: tuple(step.shape) for step in program.steps} | dict(program.inputs)
    size = {name: 4 * int(np.prod(s)) for name, s in shape.items()}
    timeline = schedule_of(kernels)
    lives = passes.liveness(timeline, bases, program.outputs)
    parent = passes.in_place(timeline, bases, size, program.outputs)

    def owner(name):
        while name in parent:
            name = parent[name]
        return name

    spans = {}
    for name, (first, last) in lives.items():
        old = spans.get(owner(name), (first, last, size[name]))
        spans[owner(name)] = (min(old[0], first), max(old[1], last), size[name])

    texts, functions = [], {"np": np}
    for number, kernel in enumerate(kernels):
        if kernel.library is None:
            rows = min(block_rows(kernel, budget), kernel.rows)
            text, floats = passes.emit(kernel, rows)
            exec(compile(text, kernel.name, "exec"), functions)
            texts.append(text)
            if floats:
                spans["scratch of " + kernel.name] = (number, number, 4 * floats)
    offsets, peak = passes.plan(list(spans.values()), 64)
    at = dict(zip(spans, offsets))
    memory = np.zeros(peak // 4 + 1, np.float32)

    def piece(name, count):
        return memory[at[name] // 4 : at[name] // 4 + count]

    values = {name: piece(owner(name), size[name] // 4).reshape(shape[name]) for name in lives}
    values |= program.constants

    def run(*inputs):
        if len(inputs) != len(program.inputs):
            raise ValueError("as many arrays as the program has inputs, please")
        for name, array in zip(program.inputs, inputs):
            if (
                not isinstance(array, np.ndarray)
                or array.dtype != np.float32
                or array.shape != tuple(program.inputs[name])
                or not array.flags["C_CONTIGUOUS"]
            ):
                raise ValueError(
                    f"{name}: not a contiguous float32 array of {program.inputs[name]}"
                )
        now = values | dict(zip(program.inputs, inputs))
        for kernel in kernels:
            out = now[kernel.outputs[0]]
            if kernel.library is not None:
                args = [
                    resolve(arg, now, program.views) if isinstance(arg, str) else arg
                    for arg in kernel.library.args
                ]
                LIBRARY[kernel.library.op](*args, out=out)
                continue
            args = []
            for name, how in kernel.inputs:
                array = resolve(name, now, program.views)
                args.append(array.reshape(kernel.rows, -1) if how == "rows" else array)
            args += [now[name].reshape(kernel.rows, -1) for name in kernel.outputs]
            key = "scratch of " + kernel.name
            room = piece(key, spans[key][2] // 4) if key in spans else memory[:0]
            functions[kernel.name](*args, room)
        return [resolve(name, now, program.views) for name in program.outputs]

    return Compiled(run, "\n".join(texts), memory.nbytes, kernels)


# %% fuse: forward, then to a fixed point
def fuse(nodes):
    """Join each node to the latest group of an input that takes it; then merge what is left."""
    info = {
        name: (kind, rows, dict.fromkeys(s for s, _ in inputs), inputs)
        for name, kind, rows, inputs in nodes
    }
    groups, home = {}, {}

    def allowed(names):
        kinds = [info[n][0] for n in names]
        inside = set(names)
        return (
            "opaque" not in kinds
            and kinds.count("anchor") < 2
            and len({info[n][1] for n in names}) == 1
            and not any(
                how == "whole" and source in inside for n in names for source, how in info[n][3]
            )
        )

    def inputs_of(label):
        return {home[s] for n in groups[label] for s in info[n][2]} - {label}

    def upstream(label, avoid):
        """Groups that come before `label` by a path that does not begin with `avoid`."""
        stack, seen = [g for g in inputs_of(label) if g != avoid], set()
        while stack:
            group = stack.pop()
            if group not in seen:
                seen.add(group)
                stack.extend(inputs_of(group))
        return seen

    for number, name in enumerate(info):
        groups[number], home[name] = [name], number
        for source in reversed(info[name][2]):
            label = home[source]
            if label != number and allowed(groups[label] + [name]):
                if label not in upstream(number, label):
                    groups[label].append(name)
                    del groups[number]
                    home[name] = label
                    break
    again = True
    while again:
        again = False
        for b in list(groups):
            for a in inputs_of(b):
                if allowed(groups[a] + groups[b]) and a not in upstream(b, a):
                    groups[a] += groups.pop(b)
                    home.update(dict.fromkeys(groups[a], a))
                    again = True
                    break
            if again:
                break
    place = {name: i for i, name in enumerate(info)}
    result, done = [], set()
    while len(result) < len(groups):
        label = next(g for g in groups if g not in done and inputs_of(g) <= done)
        done.add(label)
        result.append(sorted(groups[label], key=place.get))
    return result


# %% emit: forward, then to a fixed point
def emit(kernel, block):
    """Full blocks in a loop, and the rest by the same body once more."""
    widths = {name: width for name, _, _, width in kernel.steps if name not in kernel.outputs}
    starts, total = {}, 0
    for name, width in widths.items():
        starts[name], total = total, total + block * width

    def body(rows):
        by_rows = {name for name, how in kernel.inputs if how == "rows"} | set(kernel.outputs)

        def at(name):
            if name in by_rows:
                return f"{name}[r:r + {rows}]"
            if name in starts:
                end = starts[name] + rows * widths[name]
                return f"scratch[{starts[name]}:{end}].reshape({rows}, {widths[name]})"
            return name

        return [
            TEMPLATES[op].format(*(at(a) if isinstance(a, str) else a for a in args), out=at(name))
            for name, op, args, _ in kernel.steps
        ]

    full, rest = divmod(kernel.rows, block)
    names = ", ".join([*dict(kernel.inputs), *kernel.outputs, "scratch"])
    lines = [f"def {kernel.name}({names}):"]
    if full:
        lines.append(f"    for r in range(0, {full * block}, {block}):")
        lines += ["        " + line for line in body(block)]
    if rest:
        lines.append(f"    r = {full * block}")
        lines += ["    " + line for line in body(rest)]
    return "\n".join(lines), total
