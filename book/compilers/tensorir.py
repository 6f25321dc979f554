"""What the chapter on tensor programs asks of TVM, in one place: its names have moved before.

`FOUND` is false where `apache-tvm` is not installed; the page then says so in place of its results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import tvm
    from tvm import te
except ImportError:
    tvm = te = None

FOUND = tvm is not None
VERSION = tvm.__version__ if FOUND else ""


def product(n: int) -> Any:
    """A schedule of the product of two `n` by `n` float32 matrices, still as it was written."""
    a, b = (te.placeholder((n, n), name=name) for name in "AB")
    k = te.reduce_axis((0, n), name="k")
    c = te.compute((n, n), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    return tvm.s_tir.Schedule(te.create_prim_func([a, b, c]))


def text(schedule: Any) -> str:
    """The program that a schedule has reached, in TVMScript, from its first loop on."""
    lines = schedule.mod.script().splitlines()
    first = next(at for at, line in enumerate(lines) if line.lstrip().startswith("for "))
    return "\n".join(line.removeprefix("        ") for line in lines[first:]).rstrip()


def machine_code(
    schedule: Any, a: np.ndarray, b: np.ndarray
) -> tuple[Callable[[], None], Callable[[], np.ndarray]]:
    """The product of `a` and `b` as LLVM compiles it for this processor: to run, and its result."""
    cpu = str(tvm.target.codegen.llvm_get_system_cpu())
    library = tvm.compile(schedule.mod, target=tvm.target.Target({"kind": "llvm", "mcpu": cpu}))
    arrays = [tvm.runtime.tensor(array) for array in (a, b, np.zeros_like(a))]
    return lambda: library(*arrays), arrays[2].numpy
