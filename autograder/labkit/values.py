"""Values that may cross between a student's code and a test: by value, as JSON and npy bytes.

`encode` turns a value into something `json.dumps` takes, `decode` turns it back.  Nothing is ever
unpickled, and the type is part of the value: a subclass of `int` or of `ndarray` does not pass for
one.  A tensor crosses as a NumPy array and arrives as a tensor.
"""

from __future__ import annotations

import base64
import io
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_DEPTH = 50
NUMERIC = "biufc"
"""Kinds of NumPy types that cross: booleans, integers, floats, complex numbers."""


class NotAValue(TypeError):
    """Raised for something that cannot cross by value."""


def encode(value: Any, hold: Callable[[Any], Any] | None = None, depth: int = 0) -> Any:
    """`value` as JSON data; `hold` is asked about what is no plain value (and may refuse).

    Raises `NotAValue` for anything else, and for nesting deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise NotAValue(f"nested more than {MAX_DEPTH} deep")

    def each(items: Any) -> list[Any]:
        return [encode(item, hold, depth + 1) for item in items]

    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < 2**53 else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if kind in (bytes, bytearray, memoryview):
        return {kind.__name__: base64.b64encode(bytes(value)).decode("ascii")}
    if kind is list:
        return each(value)
    if kind in (tuple, set, frozenset):
        return {kind.__name__: each(value)}
    if kind is dict:
        return {"dict": [each(pair) for pair in value.items()]}
    if kind is slice:
        return {"slice": each((value.start, value.stop, value.step))}
    if kind is np.ndarray or isinstance(value, np.generic):
        if value.dtype.kind not in NUMERIC:
            raise NotAValue(f"an array of {value.dtype} does not cross by value")
        return {"scalar" if isinstance(value, np.generic) else "ndarray": _npy(np.asarray(value))}
    torch = sys.modules.get("torch")
    if torch is not None and kind in (torch.Tensor, torch.nn.Parameter):
        return {"tensor": _npy(value.detach().cpu().numpy())}
    if hold is not None:
        return hold(value)
    raise NotAValue(f"{kind.__module__}.{kind.__qualname__} does not cross by value")


def decode(data: Any, held: Callable[[Any], Any] | None = None) -> Any:
    """The value that `encode` was given; `held` is asked for what `hold` had answered."""
    if not isinstance(data, dict | list):
        return data
    if isinstance(data, list):
        return [decode(item, held) for item in data]
    (tag, body), *rest = data.items()
    if rest:
        raise ValueError(f"not an encoded value: {sorted(data)}")
    if tag == "handle" and held is not None:
        return held(body)
    if tag not in _DECODERS:
        raise ValueError(f"not an encoded value: {tag}")
    return _DECODERS[tag](body, held)


def _npy(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _array(text: str) -> np.ndarray:
    loaded: np.ndarray = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return loaded


def _tensor(text: str) -> Any:
    import torch

    return torch.from_numpy(_array(text))


def _items(body: Any, held: Callable[[Any], Any] | None) -> list[Any]:
    return [decode(item, held) for item in body]


_DECODERS: dict[str, Callable[[Any, Callable[[Any], Any] | None], Any]] = {
    "int": lambda body, held: int(body, 16),
    "float": lambda body, held: float(body),
    "complex": lambda body, held: complex(float(body[0]), float(body[1])),
    "bytes": lambda body, held: base64.b64decode(body),
    "bytearray": lambda body, held: bytearray(base64.b64decode(body)),
    "memoryview": lambda body, held: memoryview(base64.b64decode(body)),
    "tuple": lambda body, held: tuple(_items(body, held)),
    "set": lambda body, held: set(_items(body, held)),
    "frozenset": lambda body, held: frozenset(_items(body, held)),
    "slice": lambda body, held: slice(*_items(body, held)),
    "dict": lambda body, held: {decode(k, held): decode(v, held) for k, v in body},
    "ndarray": lambda body, held: _array(body),
    "scalar": lambda body, held: _array(body)[()],
    "tensor": lambda body, held: _tensor(body),
}
