"""Assertions whose failures teach: which property broke, on which input, and where to look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

SHOWN = 300
"""Characters of a value that a message shows."""


class TaskFailed(AssertionError):
    """A property does not hold; its message is all that a notebook shows of it."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def expect(condition: Any, broken: str, look: str = "") -> None:
    """Fail with `broken`, and `look` as advice, unless `condition` holds."""
    if not bool(condition):
        raise TaskFailed(_text(broken, look))


def expect_equal(got: Any, expected: Any, what: str, look: str = "") -> None:
    """Fail unless `got` is `expected`: same kind of value, same shape, same elements."""
    if isinstance(expected, np.ndarray):
        _same_shape(got, expected, what, look)
        different = np.argwhere(np.asarray(got) != expected)
        if len(different):
            _differs(got, expected, tuple(different[0]), len(different), what, look)
        return
    if type(got) is not type(expected) and not (_is_number(got) and _is_number(expected)):
        raise TaskFailed(
            _text(f"{what}: expected {_with_kind(expected)}, got {_with_kind(got)}", look)
        )
    if isinstance(expected, list | tuple) and len(got) == len(expected) > 8:
        for place, (came, wanted) in enumerate(zip(got, expected, strict=True)):
            expect_equal(came, wanted, f"{what}, element {place} of {len(expected)}", look)
    if not _same(got, expected):
        raise TaskFailed(_text(f"{what}: expected {_show(expected)}, got {_show(got)}", look))


def expect_close(
    got: Any, expected: Any, what: str, *, rtol: float = 1e-6, atol: float = 0.0, look: str = ""
) -> None:
    """Fail unless all elements are within `atol + rtol * |expected|`; NaN never is."""
    wanted = np.asarray(expected)
    _same_shape(got, wanted, what, look)
    off = ~(np.abs(np.asarray(got) - wanted) <= atol + rtol * np.abs(wanted))
    if np.any(off):
        where = tuple(np.argwhere(np.atleast_1d(off))[0])
        _differs(got, wanted, where, int(np.count_nonzero(off)), what, look)


def expect_raises(
    error: type[BaseException], call: Callable[[], Any], what: str, look: str = ""
) -> None:
    """Fail unless `call` raises `error`."""
    try:
        value = call()
    except error:
        return
    except Exception as other:
        came = f"{type(other).__name__}: {other}"
    else:
        came = f"no error, but {_show(value)}"
    raise TaskFailed(_text(f"{what}: expected {error.__name__}, got {came}", look))


def within(seconds: float, call: Callable[[], Any], what: str, look: str = "") -> Any:
    """The result of `call`, which runs in a thread; fail when it is not back after `seconds`."""
    done: dict[str, Any] = {}

    def run() -> None:
        try:
            done["value"] = call()
        except BaseException as error:
            done["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TaskFailed(_text(f"{what}: still not back after {seconds:g} s", look))
    if "error" in done:
        raise done["error"]
    return done["value"]


def _same_shape(got: Any, expected: np.ndarray, what: str, look: str) -> None:
    try:
        shape = np.shape(got)
    except (TypeError, ValueError):
        shape = None
    if shape != expected.shape:
        came = f"shape {shape}" if shape else _with_kind(got)
        raise TaskFailed(_text(f"{what}: expected shape {expected.shape}, got {came}", look))
    if np.asarray(got).dtype.kind not in "biufc":
        raise TaskFailed(_text(f"{what}: expected numbers, got {_with_kind(got)}", look))


def _differs(
    got: Any, expected: Any, where: tuple[int, ...], count: int, what: str, look: str
) -> None:
    wanted, came = np.atleast_1d(expected)[where], np.atleast_1d(got)[where]
    index = ", ".join(str(int(i)) for i in where)
    place = f" at [{index}]" if np.ndim(expected) else ""
    more = f" ({count} of {np.size(expected)} elements differ)" if np.size(expected) > 1 else ""
    raise TaskFailed(_text(f"{what}: expected {wanted!s}{place}, got {came!s}{more}", look))


def _with_kind(value: Any) -> str:
    return "None" if value is None else f"{_kind(value)} {_show(value)}"


def _is_number(value: Any) -> bool:
    """Whether it is a number of Python or NumPy themselves, not of a class derived from them."""
    kind = type(value)
    return kind in (int, float) or (
        issubclass(kind, np.integer | np.floating) and kind.__module__ == "numpy"
    )


def _same(got: Any, expected: Any) -> bool:
    """Equality that asks only types that it knows: an object may claim to equal everything."""
    if _is_number(got) and _is_number(expected):
        return bool(got == expected)
    if type(got) is not type(expected):
        return False
    if isinstance(expected, np.ndarray):
        return got.shape == expected.shape and bool(np.all(got == expected))
    if isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(_same, got, expected))
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(_same(got[key], expected[key]) for key in got)
    return bool(got == expected)


def _kind(value: Any) -> str:
    return type(value).__name__


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{_kind(value)}>"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _text(broken: str, look: str) -> str:
    return f"{broken}\nLook at: {look}" if look else broken
