# Answers that people really give and that must lose their task's points.

# %% fold: ε is forgotten
def fold_conv_bn(gm):
    gm = copy.deepcopy(gm)
    modules = dict(gm.named_modules())
    targets = [modules[n.target] for n in gm.graph.nodes if n.op == "call_module"]
    for node in list(gm.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        bn, source = modules[node.target], node.args[0]
        conv = modules.get(source.target) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or bn.training or bn.running_mean is None:
            continue
        if len(source.users) > 1 or targets.count(conv) > 1:
            continue
        gamma = bn.weight if bn.affine else torch.ones_like(bn.running_var)
        beta = bn.bias if bn.affine else torch.zeros_like(bn.running_var)
        scale = gamma / torch.sqrt(bn.running_var)
        old = conv.bias if conv.bias is not None else 0
        conv.weight = nn.Parameter((conv.weight * scale.view(-1, 1, 1, 1)).detach())
        conv.bias = nn.Parameter(((old - bn.running_mean) * scale + beta).detach())
        node.replace_all_uses_with(source)
        gm.graph.erase_node(node)
    gm.recompile()
    return gm


# %% fold: the old bias is not scaled
def fold_conv_bn(gm):
    gm = copy.deepcopy(gm)
    modules = dict(gm.named_modules())
    targets = [modules[n.target] for n in gm.graph.nodes if n.op == "call_module"]
    for node in list(gm.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        bn, source = modules[node.target], node.args[0]
        conv = modules.get(source.target) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or bn.training or bn.running_mean is None:
            continue
        if len(source.users) > 1 or targets.count(conv) > 1:
            continue
        gamma = bn.weight if bn.affine else torch.ones_like(bn.running_var)
        beta = bn.bias if bn.affine else torch.zeros_like(bn.running_var)
        scale = gamma / torch.sqrt(bn.running_var + bn.eps)
        old = conv.bias if conv.bias is not None else 0
        conv.weight = nn.Parameter((conv.weight * scale.view(-1, 1, 1, 1)).detach())
        conv.bias = nn.Parameter((old - bn.running_mean * scale + beta).detach())
        node.replace_all_uses_with(source)
        gm.graph.erase_node(node)
    gm.recompile()
    return gm


# %% fold: every normalisation after a convolution, whatever else uses it
def fold_conv_bn(gm):
    gm = copy.deepcopy(gm)
    modules = dict(gm.named_modules())
    for node in list(gm.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        bn, source = modules[node.target], node.args[0]
        conv = modules.get(source.target) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or bn.training or bn.running_mean is None:
            continue
        gamma = bn.weight if bn.affine else torch.ones_like(bn.running_var)
        beta = bn.bias if bn.affine else torch.zeros_like(bn.running_var)
        scale = gamma / torch.sqrt(bn.running_var + bn.eps)
        old = conv.bias if conv.bias is not None else 0
        conv.weight = nn.Parameter((conv.weight * scale.view(-1, 1, 1, 1)).detach())
        conv.bias = nn.Parameter(((old - bn.running_mean) * scale + beta).detach())
        node.replace_all_uses_with(source)
        gm.graph.erase_node(node)
    gm.recompile()
    return gm


# %% fold: torch's own helper on the graph that was passed in
def fold_conv_bn(gm):
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    modules = dict(gm.named_modules())
    targets = [modules[n.target] for n in gm.graph.nodes if n.op == "call_module"]
    for node in list(gm.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        bn, source = modules[node.target], node.args[0]
        conv = modules.get(source.target) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or bn.training or bn.running_mean is None:
            continue
        if len(source.users) > 1 or targets.count(conv) > 1:
            continue
        gm.set_submodule(source.target, fuse_conv_bn_eval(conv, bn))
        node.replace_all_uses_with(source)
        gm.graph.erase_node(node)
    gm.recompile()
    return gm


# %% layouts: each node takes the cheapest given its inputs
def select_layouts(nodes, cost, transform):
    choice, total = {}, 0.0
    sizes = {name: size for name, _, size in nodes}
    for name, inputs, _ in nodes:
        options = {}
        for layout, own in cost[name].items():
            for source in inputs:
                if choice[source] != layout:
                    pair = (choice[source], layout)
                    own += transform.get(pair, math.inf) * sizes[source]
            options[layout] = own
        choice[name] = min(options, key=options.get)
        total += options[choice[name]]
    if math.isinf(total):
        raise ValueError("impossible")
    return choice, total


# %% layouts: ignores all edges into a join but the first
def select_layouts(nodes, cost, transform):
    sizes = {name: size for name, _, size in nodes}
    children = {name: [] for name in sizes}
    roots = []
    for name, inputs, _ in nodes:
        if inputs:
            children[inputs[0]].append(name)
        else:
            roots.append(name)
    best, picked = {}, {}
    for name, _, size in reversed(nodes):
        best[name] = {}
        for layout, own in cost[name].items():
            for child in children[name]:
                options = {
                    theirs: value
                    + (0 if theirs == layout else transform.get((layout, theirs), math.inf) * size)
                    for theirs, value in best[child].items()
                }
                picked[name, layout, child] = min(options, key=options.get)
                own += min(options.values())
            best[name][layout] = own
    choice, total = {}, 0.0
    for name in roots:
        choice[name] = min(best[name], key=best[name].get)
        total += best[name][choice[name]]
    for name, _, _ in nodes:
        for child in children[name]:
            choice[child] = picked[name, choice[name], child]
    if math.isinf(total):
        raise ValueError("impossible")
    return choice, total


# %% layouts: a transform costs the same both ways
def select_layouts(nodes, cost, transform):
    sizes = {name: size for name, _, size in nodes}
    near = {name: [] for name in sizes}
    for name, inputs, _ in nodes:
        for source in inputs:
            near[name].append((source, sizes[source]))
            near[source].append((name, sizes[source]))

    choice, total, seen = {}, 0.0, set()
    for root in sizes:
        if root in seen:
            continue
        order, parent = [root], {root: None}
        for name in order:
            for other, _ in near[name]:
                if other != parent[name]:
                    parent[other] = name
                    order.append(other)
        seen |= set(order)
        best, picked = {}, {}
        for name in reversed(order):
            best[name] = {}
            for layout, own in cost[name].items():
                for other, size in near[name]:
                    if other != parent[name]:
                        options = {
                            theirs: value
                            + (
                                0
                                if theirs == layout
                                else transform.get((layout, theirs), math.inf) * size
                            )
                            for theirs, value in best[other].items()
                        }
                        picked[name, layout, other] = min(options, key=options.get)
                        own += min(options.values())
                best[name][layout] = own
        choice[root] = min(best[root], key=best[root].get)
        total += best[root][choice[root]]
        for name in order[1:]:
            choice[name] = picked[parent[name], choice[parent[name]], name]
    if math.isinf(total):
        raise ValueError("impossible")
    return choice, total


# %% layouts: tries all assignments
def select_layouts(nodes, cost, transform):
    names = [name for name, _, _ in nodes]
    sizes = {name: size for name, _, size in nodes}
    if len(names) > 12:
        choice = {name: min(cost[name], key=cost[name].get) for name in names}
        options = [tuple(choice.values())]
    else:
        options = itertools.product(*(cost[name] for name in names))
    best = (math.inf, None)
    for pick in options:
        choice = dict(zip(names, pick))
        total = sum(cost[name][choice[name]] for name in names)
        for name, inputs, _ in nodes:
            for source in inputs:
                if choice[source] != choice[name]:
                    pair = (choice[source], choice[name])
                    total += transform.get(pair, math.inf) * sizes[source]
        best = min(best, (total, choice), key=lambda found: found[0])
    if best[1] is None:
        raise ValueError("impossible")
    return best[1], best[0]


# %% fuse: no look at cycles
def fuse(nodes):
    facts = {name: (kind, rows) for name, kind, rows, _ in nodes}
    edges = [(source, name, how) for name, _, _, inputs in nodes for source, how in inputs]
    group = {name: [name] for name in facts}
    again = True
    while again:
        again = False
        for source, name, how in edges:
            if group[source] is group[name]:
                continue
            both = group[source] + group[name]
            kinds = [facts[n][0] for n in both]
            if "opaque" in kinds or kinds.count("anchor") > 1:
                continue
            if len({facts[n][1] for n in both}) > 1:
                continue
            if any(h == "whole" and s in both and t in both for s, t, h in edges):
                continue
            for n in both:
                group[n] = both
            again = True
    place = {name: index for index, name in enumerate(facts)}
    groups = {id(g): sorted(g, key=place.get) for g in group.values()}
    return sorted(groups.values(), key=lambda g: place[g[-1]])


# %% fuse: every node a kernel of its own
def fuse(nodes):
    return [[name] for name, *_ in nodes]


# %% fuse: only chains with a single consumer
def fuse(nodes):
    facts = {name: (kind, rows) for name, kind, rows, _ in nodes}
    users = {name: [] for name in facts}
    for name, _, _, inputs in nodes:
        for source, how in inputs:
            users[source].append((name, how))
    groups, where = [], {}
    for name, kind, rows, inputs in nodes:
        for source, how in inputs:
            group = where[source]
            kinds = [facts[n][0] for n in group] + [kind]
            if (
                how == "rows"
                and len(users[source]) == 1
                and group[-1] == source
                and facts[source][1] == rows
                and "opaque" not in kinds
                and kinds.count("anchor") <= 1
                and len(inputs) == 1
            ):
                group.append(name)
                where[name] = group
                break
        else:
            where[name] = [name]
            groups.append(where[name])
    return groups


# %% fuse: whole inputs are taken for rows
def fuse(nodes):
    facts = {name: (kind, rows) for name, kind, rows, _ in nodes}
    edges = [(source, name) for name, _, _, inputs in nodes for source, _ in inputs]
    group = {name: name for name in facts}
    again = True
    while again:
        again = False
        for source, name in edges:
            a, b = group[source], group[name]
            both = [n for n in facts if group[n] in (a, b)]
            kinds = [facts[n][0] for n in both]
            if a == b or "opaque" in kinds or kinds.count("anchor") > 1:
                continue
            if len({facts[n][1] for n in both}) > 1:
                continue
            after = {}
            for s, t in edges:
                if group[s] != group[t]:
                    after.setdefault(group[s], set()).add(group[t])
            front = list((after.get(a, set()) | after.get(b, set())) - {a, b})
            seen = set(front)
            while front:
                new = after.get(front.pop(), set()) - seen
                front += new
                seen |= new
            if not seen & {a, b}:
                group = {n: a if g == b else g for n, g in group.items()}
                again = True
    place = {name: index for index, name in enumerate(facts)}
    waits = {g: {group[s] for s, t in edges if group[t] == g} - {g} for g in group.values()}
    order = []
    while waits:
        ready = min((g for g in waits if not waits[g] & waits.keys()), key=place.get)
        order.append([n for n in facts if group[n] == ready])
        del waits[ready]
    return order


# %% emit: the last block is left out
def emit(kernel, block):
    lines = [
        f"def {kernel.name}({', '.join([*(n for n, _ in kernel.inputs), *kernel.outputs])}, scratch):",
        f"    for r in range(0, {kernel.rows // block * block}, {block}):",
    ]
    seen, used = {}, 0
    for name, how in kernel.inputs:
        seen[name] = f"{name}[r:r + {block}]" if how == "rows" else name
    for name, op, args, width in kernel.steps:
        if name in kernel.outputs:
            seen[name] = f"{name}[r:r + {block}]"
        else:
            seen[name] = f"scratch[{used}:{used + block * width}].reshape({block}, {width})"
            used += block * width
        places = [seen[a] if isinstance(a, str) else repr(a) for a in args]
        lines.append("        " + TEMPLATES[op].format(*places, out=seen[name]))
    return "\n".join(lines), used


# %% emit: one block of all rows
def emit(kernel, block):
    block = kernel.rows
    lines = [
        f"def {kernel.name}({', '.join([*(n for n, _ in kernel.inputs), *kernel.outputs])}, scratch):"
    ]
    seen, used = {}, 0
    for name, _ in kernel.inputs:
        seen[name] = name
    for name, op, args, width in kernel.steps:
        seen[name] = name
        if name not in kernel.outputs:
            seen[name] = f"scratch[{used}:{used + block * width}].reshape({block}, {width})"
            used += block * width
        places = [seen[a] if isinstance(a, str) else repr(a) for a in args]
        lines.append("    " + TEMPLATES[op].format(*places, out=seen[name]))
    return "\n".join(lines), used


# %% emit: intermediates are new arrays
def emit(kernel, block):
    lines = [
        f"def {kernel.name}({', '.join([*(n for n, _ in kernel.inputs), *kernel.outputs])}, scratch):",
        f"    for r in range(0, {kernel.rows}, {block}):",
        f"        n = min({block}, {kernel.rows} - r)",
    ]
    seen = {name: f"{name}[r:r+n]" if how == "rows" else name for name, how in kernel.inputs}
    for name, op, args, width in kernel.steps:
        seen[name] = f"{name}[r:r+n]" if name in kernel.outputs else f"{name}_"
        if name not in kernel.outputs:
            lines.append(f"        {name}_ = np.empty((n, {width}), np.float32)")
        places = [seen[a] if isinstance(a, str) else repr(a) for a in args]
        lines.append("        " + TEMPLATES[op].format(*places, out=seen[name]))
    return "\n".join(lines), 0


# %% emit: the tail block takes its rows from the wrong end of the scratch
def emit(kernel, block):
    lines = [
        f"def {kernel.name}({', '.join([*(n for n, _ in kernel.inputs), *kernel.outputs])}, scratch):",
        f"    for r in range(0, {kernel.rows}, {block}):",
        f"        n = min({block}, {kernel.rows} - r)",
    ]
    seen = {name: f"{name}[r:r+n]" if how == "rows" else name for name, how in kernel.inputs}
    used = 0
    for name, op, args, width in kernel.steps:
        seen[name] = f"{name}[r:r+n]"
        if name not in kernel.outputs:
            seen[name] = f"scratch[{used} + r:{used} + r + n * {width}].reshape(n, {width})"
            used += block * width
        places = [seen[a] if isinstance(a, str) else repr(a) for a in args]
        lines.append("        " + TEMPLATES[op].format(*places, out=seen[name]))
    return "\n".join(lines), used


# %% lifetimes: the last reader is not counted
def liveness(schedule, views, outputs):
    def base(name):
        return base(views[name]) if name in views else name

    lives = {}
    for number, (reads, writes, _) in enumerate(schedule):
        for name in map(base, reads):
            if name in lives:
                lives[name] = (lives[name][0], max(lives[name][0], number - 1))
        lives.update((name, (number, number)) for name in writes)
    for name in map(base, outputs):
        if name in lives:
            lives[name] = (lives[name][0], len(schedule))
    return lives


def in_place(schedule, views, sizes, outputs):
    return {}


# %% lifetimes: views are values of their own
def liveness(schedule, views, outputs):
    lives = {}
    for number, (reads, writes, _) in enumerate(schedule):
        for name in reads:
            if name in lives:
                lives[name] = (lives[name][0], number)
        lives.update((name, (number, number)) for name in writes)
    for name in outputs:
        if name in lives:
            lives[name] = (lives[name][0], len(schedule))
    return lives


def in_place(schedule, views, sizes, outputs):
    lives, taken = liveness(schedule, views, outputs), {}
    for number, (_, writes, may) in enumerate(schedule):
        for name in may:
            if name in lives and lives[name][1] == number and sizes[name] == sizes[writes[0]]:
                taken[writes[0]] = name
                break
    return taken


# %% lifetimes: in place into the residual input
def liveness(schedule, views, outputs):
    def base(name):
        return base(views[name]) if name in views else name

    lives = {}
    for number, (reads, writes, _) in enumerate(schedule):
        for name in map(base, reads):
            if name in lives:
                lives[name] = (lives[name][0], number)
        lives.update((name, (number, number)) for name in writes)
    for name in map(base, outputs):
        if name in lives:
            lives[name] = (lives[name][0], len(schedule))
    return lives


def in_place(schedule, views, sizes, outputs):
    lives, taken = liveness(schedule, views, outputs), {}
    for _, writes, may in schedule:
        for name in may:
            if name in lives and name not in views and sizes[name] == sizes[writes[0]]:
                taken[writes[0]] = name
                break
    return taken


# %% lifetimes: in place into the caller's input
def liveness(schedule, views, outputs):
    def base(name):
        return base(views[name]) if name in views else name

    lives = {}
    for number, (reads, writes, _) in enumerate(schedule):
        for name in map(base, reads):
            if name in lives:
                lives[name] = (lives[name][0], number)
        lives.update((name, (number, number)) for name in writes)
    for name in map(base, outputs):
        if name in lives:
            lives[name] = (lives[name][0], len(schedule))
    return lives


def in_place(schedule, views, sizes, outputs):
    taken, last = {}, {}
    for number, (reads, _, _) in enumerate(schedule):
        for name in reads:
            while name in views:
                name = views[name]
            last[name] = number
    kept = set(outputs) | {views.get(name) for name in outputs}
    for number, (_, writes, may) in enumerate(schedule):
        for name in may:
            if name not in views and name not in kept and last.get(name) == number:
                if sizes[name] == sizes[writes[0]]:
                    taken[writes[0]] = name
                    break
    return taken


# %% lifetimes: only the direct view of an output is followed
def liveness(schedule, views, outputs):
    lives = {}
    for number, (reads, writes, _) in enumerate(schedule):
        for name in reads:
            name = views.get(name, name)
            if name in lives:
                lives[name] = (lives[name][0], number)
        lives.update((name, (number, number)) for name in writes)
    for name in outputs:
        name = views.get(name, name)
        if name in lives:
            lives[name] = (lives[name][0], len(schedule))
    return lives


def in_place(schedule, views, sizes, outputs):
    lives, taken = liveness(schedule, views, outputs), {}
    for number, (_, writes, may) in enumerate(schedule):
        for name in may:
            if name in lives and lives[name][1] == number and name not in views:
                if sizes[name] == sizes[writes[0]]:
                    taken[writes[0]] = name
                    break
    return taken


# %% plan: the end of an interval is not included
def plan(intervals, align=64):
    sizes = [-(-size // align) * align for _, _, size in intervals]
    at = {}
    for order in [sorted(range(len(sizes)), key=lambda i: -sizes[i])]:
        for i in order:
            taken = sorted(
                (at[j], at[j] + sizes[j])
                for j in at
                if intervals[i][0] < intervals[j][1] and intervals[j][0] < intervals[i][1]
            )
            spot = 0
            for start, end in taken:
                if spot + sizes[i] <= start:
                    break
                spot = max(spot, end)
            at[i] = spot
    return [at[i] for i in range(len(sizes))], max((at[i] + sizes[i] for i in at), default=0)


# %% plan: alignment is ignored
def plan(intervals, align=64):
    sizes = [size for _, _, size in intervals]
    best = None
    for order in itertools.islice(itertools.permutations(range(len(sizes))), 5040):
        at = {}
        for i in order:
            spot = 0
            for start, end in sorted(
                (at[j], at[j] + sizes[j])
                for j in at
                if intervals[i][0] <= intervals[j][1] and intervals[j][0] <= intervals[i][1]
            ):
                if spot + sizes[i] <= start:
                    break
                spot = max(spot, end)
            at[i] = spot
        peak = max((at[i] + sizes[i] for i in at), default=0)
        if best is None or peak < best[1]:
            best = [at[i] for i in range(len(sizes))], peak
        if len(sizes) > 7:
            break
    return best


# %% plan: a bump allocator that never gives back
def plan(intervals, align=64):
    offsets, top = [], 0
    for _, _, size in intervals:
        offsets.append(top)
        top += -(-size // align) * align
    return offsets, top


# %% plan: first fit in the order of the schedule
def plan(intervals, align=64):
    sizes = [-(-size // align) * align for _, _, size in intervals]
    at = {}
    for i in sorted(range(len(sizes)), key=lambda i: intervals[i][0]):
        spot = 0
        for start, end in sorted(
            (at[j], at[j] + sizes[j]) for j in at if intervals[j][1] >= intervals[i][0]
        ):
            if spot + sizes[i] <= start:
                break
            spot = max(spot, end)
        at[i] = spot
    return [at[i] for i in range(len(sizes))], max((at[i] + sizes[i] for i in at), default=0)


# %% plan: greedy by size, once
def plan(intervals, align=64):
    sizes = [-(-size // align) * align for _, _, size in intervals]
    at = {}
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        spot = 0
        for start, end in sorted(
            (at[j], at[j] + sizes[j])
            for j in at
            if intervals[i][0] <= intervals[j][1] and intervals[j][0] <= intervals[i][1]
        ):
            if spot + sizes[i] <= start:
                break
            spot = max(spot, end)
        at[i] = spot
    return [at[i] for i in range(len(sizes))], max((at[i] + sizes[i] for i in at), default=0)


# %% compile: an array for every value
def compile_program(program, passes, budget=2**19):
    kernels = describe(program, passes.fuse(fusion_nodes(program)))
    arrays = dict(program.constants)
    for step in program.steps:
        arrays[step.name] = np.empty(step.shape, np.float32)
    names, sources, scratch = {"np": np}, [], 0
    for kernel in kernels:
        if not kernel.library:
            text, floats = passes.emit(kernel, min(kernel.rows, block_rows(kernel, budget)))
            exec(text, names)
            sources.append(text)
            scratch = max(scratch, floats)
    room = np.empty(scratch, np.float32)

    def run(*inputs):
        for (name, shape), array in zip(program.inputs.items(), inputs):
            if array.dtype != np.float32 or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(name)
            arrays[name] = array
        for k in kernels:
            if k.library:
                args = [
                    resolve(a, arrays, program.views) if isinstance(a, str) else a
                    for a in k.library.args
                ]
                LIBRARY[k.library.op](*args, out=arrays[k.outputs[0]])
                continue
            args = [resolve(n, arrays, program.views) for n, _ in k.inputs]
            args = [
                a.reshape(k.rows, -1) if how == "rows" else a for a, (_, how) in zip(args, k.inputs)
            ]
            names[k.name](*args, *(arrays[n].reshape(k.rows, -1) for n in k.outputs), room)
        return [resolve(n, arrays, program.views) for n in program.outputs]

    total = sum(arrays[step.name].nbytes for step in program.steps)
    return Compiled(run, "\n\n".join(sources), total + 4 * scratch, kernels)


# %% compile: bound to zeros, and inputs are copied once
def compile_program(program, passes, budget=2**19):
    first = {}

    def run(*inputs):
        for (name, shape), array in zip(program.inputs.items(), inputs):
            if array.dtype != np.float32 or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(name)
            first.setdefault(name, array)
        return interpret(program, *first.values())

    kernels = describe(program, passes.fuse(fusion_nodes(program)))
    return Compiled(
        run, "\n".join(passes.emit(k, 8)[0] for k in kernels if not k.library), 0, kernels
    )


# %% compile: calls the interpreter
def compile_program(program, passes, budget=2**19):
    def run(*inputs):
        for (name, shape), array in zip(program.inputs.items(), inputs):
            if array.dtype != np.float32 or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(name)
        return interpret(program, *inputs)

    kernels = describe(program, passes.fuse(fusion_nodes(program)))
    return Compiled(
        run, "\n".join(passes.emit(k, 8)[0] for k in kernels if not k.library), 0, kernels
    )


# %% compile: a value that takes memory over does not prolong its owner's life
def compile_program(program, passes, budget=2**19):
    kernels = describe(program, passes.fuse(fusion_nodes(program)))
    schedule = schedule_of(kernels)
    views = {name: base for name, (base, _, _) in program.views.items()}
    shapes = {step.name: step.shape for step in program.steps}
    sizes = {name: 4 * math.prod(shape) for name, shape in shapes.items()}
    sizes |= {name: 4 * math.prod(shape) for name, shape in program.inputs.items()}
    lives = passes.liveness(schedule, views, program.outputs)
    taken = passes.in_place(schedule, views, sizes, program.outputs)
    own = [name for name in lives if name not in taken]
    offsets, peak = passes.plan([(*lives[name], sizes[name]) for name in own])
    at = dict(zip(own, offsets))
    for name in lives:
        if name in taken:
            at[name] = at[taken[name]]
    arena = np.empty(peak, np.uint8)
    arrays = dict(program.constants)
    for name in lives:
        arrays[name] = (
            arena[at[name] : at[name] + sizes[name]].view(np.float32).reshape(shapes[name])
        )
    names, sources, scratch = {"np": np}, [], 0
    for kernel in kernels:
        if not kernel.library:
            text, floats = passes.emit(kernel, min(kernel.rows, block_rows(kernel, budget)))
            exec(text, names)
            sources.append(text)
            scratch = max(scratch, floats)
    room = np.empty(scratch, np.float32)

    def run(*inputs):
        for (name, shape), array in zip(program.inputs.items(), inputs):
            if array.dtype != np.float32 or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(name)
            arrays[name] = array
        for k in kernels:
            if k.library:
                args = [
                    resolve(a, arrays, program.views) if isinstance(a, str) else a
                    for a in k.library.args
                ]
                LIBRARY[k.library.op](*args, out=arrays[k.outputs[0]])
                continue
            args = [resolve(n, arrays, program.views) for n, _ in k.inputs]
            args = [
                a.reshape(k.rows, -1) if how == "rows" else a for a, (_, how) in zip(args, k.inputs)
            ]
            names[k.name](*args, *(arrays[n].reshape(k.rows, -1) for n in k.outputs), room)
        return [resolve(n, arrays, program.views) for n in program.outputs]

    return Compiled(run, "\n\n".join(sources), peak + 4 * scratch, kernels)
