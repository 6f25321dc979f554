"""A student's names as an `outside` test sees them: called by value, never touched.

Under stock nbgrader both sides live in one process; the engine puts a process boundary between them
(`reach_through`) and leaves the test as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.labkit.values import decode, encode


class Store:
    """The objects that stay on the student's side, by the number under which they are known."""

    def __init__(self) -> None:
        self.objects: dict[int, Any] = {}

    def hold(self, value: Any) -> dict[str, int]:
        number = len(self.objects)
        self.objects[number] = value
        return {"handle": number}

    def get(self, number: int) -> Any:
        return self.objects[number]


Ask = Callable[[dict[str, Any]], Any]


class Handle:
    """Something on the student's side: call it, read its attributes, index it, take its length."""

    __slots__ = ("_ask", "_number")

    def __init__(self, ask: Ask, number: int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_number", number)

    def _do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return self._ask(
            {
                "verb": verb,
                "on": self._number,
                "args": encode(list(args), _number_of),
                "kwargs": encode(kwargs, _number_of),
            }
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._do("call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._do("getattr", name)

    def __getitem__(self, key: Any) -> Any:
        return self._do("getitem", key)

    def __len__(self) -> int:
        return int(self._do("len"))

    def __repr__(self) -> str:
        return str(self._do("repr"))


def _number_of(value: Any) -> dict[str, int]:
    if type(value) is Handle:
        return {"handle": value._number}
    raise TypeError(f"{type(value).__name__} cannot be handed to the student's code by value")


class Student:
    """The names that the student's notebook defines."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask({"verb": "name", "name": name})


def answer(request: dict[str, Any], names: dict[str, Any], store: Store) -> Any:
    """Do on the student's side what a test asked for; the result is encoded, not the object.

    Whatever the student's code raises comes out of here as it is.
    """
    if request["verb"] == "name":
        if request["name"] not in names:
            raise NameError(f"name {request['name']!r} is not defined")
        return encode(names[request["name"]], store.hold)
    target = store.get(request["on"])
    args = decode(request["args"], store.get)
    kwargs = decode(request["kwargs"], store.get)
    verbs: dict[str, Callable[[], Any]] = {
        "call": lambda: target(*args, **kwargs),
        "getattr": lambda: getattr(target, args[0]),
        "getitem": lambda: target[args[0]],
        "len": lambda: len(target),
        "repr": lambda: repr(target)[:2000],
    }
    return encode(verbs[request["verb"]](), store.hold)


def local(names: dict[str, Any]) -> Student:
    """The student's side: in this very process, reached by value all the same, or where
    `reach_through` has said that it is."""
    store = Store()

    def ask_here(request: dict[str, Any]) -> Any:
        return answer(request, names, store)

    return _student(_elsewhere or ask_here)


_elsewhere: Ask | None = None


def reach_through(ask: Ask) -> None:
    """Have every later `local` reach the student through `ask`, which gives encoded values."""
    global _elsewhere
    _elsewhere = ask


def _student(raw: Ask) -> Student:
    def ask(request: dict[str, Any]) -> Any:
        return decode(raw(request), lambda number: Handle(ask, number))

    return Student(ask)
