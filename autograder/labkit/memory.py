"""How much memory a computation holds, and what it does with its arrays."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np


def peak_bytes(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result of `call` and the most bytes that it held at one time beyond what was there.

    Counts Python objects and NumPy arrays (which report to tracemalloc); tensors of PyTorch do not.
    """
    gc.collect()
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        value = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not running:
            tracemalloc.stop()
    return value, max(0, peak - before)


def live_bytes(kind: type) -> int:
    """Bytes of all reachable objects of `kind` that own their memory.

    `numpy.ndarray` and `torch.Tensor` count their data (a view, or a second tensor on one storage,
    adds nothing); anything else counts as `sys.getsizeof`.
    """
    gc.collect()
    seen: dict[int, int] = {}
    for item in _reachable(kind):
        if isinstance(item, np.ndarray):
            if item.base is None:
                seen[id(item)] = item.nbytes
        elif hasattr(item, "untyped_storage"):
            storage = item.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        else:
            seen[id(item)] = sys.getsizeof(item)
    return sum(seen.values())


def _reachable(kind: type) -> list[Any]:
    """Objects of `kind`, also those that the collector does not track, through their holders."""
    found: dict[int, Any] = {}
    for holder in gc.get_objects():
        if type(holder) is kind:
            found[id(holder)] = holder
        for item in gc.get_referents(holder):
            if type(item) is kind:
                found[id(item)] = item
    return list(found.values())


class CountingArray(np.ndarray):
    """An array that counts the NumPy operations done with it, by name, and the types they ran in.

    Make one with `CountingArray.of(array)`; results are counting arrays of the same tally.
    """

    tally: Counter[str]
    dtypes: set[str]

    @classmethod
    def of(cls, array: np.ndarray) -> CountingArray:
        new = np.asarray(array).view(cls)
        new.tally, new.dtypes = Counter(), set()
        return new

    def __array_finalize__(self, source: Any) -> None:
        counts = isinstance(source, CountingArray) and hasattr(source, "tally")
        self.tally = source.tally if counts else Counter()
        self.dtypes = source.dtypes if counts else set()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [np.asarray(item) if isinstance(item, CountingArray) else item for item in inputs]
        if out := kwargs.get("out"):
            kwargs["out"] = tuple(
                np.asarray(item) if isinstance(item, CountingArray) else item for item in out
            )
        result = getattr(ufunc, method)(*plain, **kwargs)
        self.tally[ufunc.__name__] += 1
        self.dtypes.add(str(np.asarray(result).dtype))
        if not isinstance(result, np.ndarray):
            return result
        counted = result.view(CountingArray)
        counted.tally, counted.dtypes = self.tally, self.dtypes
        return counted
