"""What keeps a test honest that shares a process with the code it tests.

`Pristine` remembers, before any of the student's code has run, the functions that tests lean on; it
puts back what was replaced and tells of it.  `canaries` are cells that must fail, or have a value,
in a known and unguessable way; one that does not is evidence of tampering.  Both detect; neither
can prevent, which is why a test that can be is run in a process of its own.
"""

from __future__ import annotations

import random
import sys
import threading
import types
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from autograder.engine.executor import CellResult

WATCHED: dict[str, tuple[str, ...]] = {
    "builtins": (),
    "numpy": (),
    "numpy.testing": (),
    "numpy.linalg": (),
    "torch": ("allclose", "equal", "isclose"),
    "torch.testing": (),
    "autograder.labkit": (),
    "autograder.labkit.expect": (),
    "autograder.labkit.links": (),
    "autograder.labkit.memory": (),
    "autograder.labkit.workers": (),
    "autograder.labkit.reference": (),
    "autograder.labkit.outside": (),
}
"""Modules whose functions tests lean on, and which of them: all, where none is named.

PyTorch puts functions of its own into `torch` when it first needs them, so only those count there
by which a test compares.
"""
ASSERTIONS = ("expect", "expect_close", "expect_equal", "expect_raises", "within")


class Pristine:
    """The functions and types of the watched modules, as they were when this was made."""

    def __init__(self) -> None:
        self.modules: dict[str, types.ModuleType] = {
            name: sys.modules[name] for name in WATCHED if name in sys.modules
        }
        self.members: dict[str, dict[str, Any]] = {
            name: {
                key: value
                for key, value in vars(module).items()
                if callable(value) and not key.startswith("_") and key in (WATCHED[name] or (key,))
            }
            for name, module in self.modules.items()
        }
        self.codes = {
            id(member): member.__code__
            for members in self.members.values()
            for member in members.values()
            if isinstance(member, types.FunctionType)
        }

    def restore(self, names: MutableMapping[str, Any]) -> list[str]:
        """Put back what was replaced, in the modules and among `names`; what that was."""
        found = []
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                found.append(f"module {name} was replaced")
            current = vars(module)
            for key, member in self.members[name].items():
                if current.get(key) is not member:
                    current[key] = member
                    found.append(f"{name}.{key} was replaced")
                if type(member) is types.FunctionType and (
                    member.__code__ is not self.codes[id(member)]
                ):
                    member.__code__ = self.codes[id(member)]
                    found.append(f"the code of {name}.{key} was replaced")
        if sys.gettrace() or sys.getprofile():
            sys.settrace(None)
            sys.setprofile(None)
            threading.settrace(None)
            threading.setprofile(None)
            found.append("a tracing function was set")
        for key in ASSERTIONS:
            if key in names and "autograder.labkit" in self.members:
                names[key] = self.members["autograder.labkit"][key]
        return found


@cache
def pristine() -> Pristine:
    """What was there when this was first asked, in this process or in one that it is a fork of."""
    return Pristine()


@dataclass(frozen=True)
class Canary:
    """A cell whose result is known beforehand."""

    id: str
    source: str
    token: str
    award: float | None

    def complaint(self, result: CellResult) -> str:
        """What the result betrays; empty when it is as it must be."""
        if self.award is not None:
            if result.status == "passed" and result.award == self.award:
                return ""
            return f"a cell with the value {self.award} was reported as {_came(result)}"
        if result.status in ("failed", "error") and self.token in result.message:
            return ""
        return f"a check that must fail was reported as {_came(result)}"


def _came(result: CellResult) -> str:
    return result.status if result.award is None else f"{result.status} with {result.award}"


FAILING = """\
import numpy
from autograder import labkit
{name} = 0
for {name}_check in (
    lambda: labkit.expect(False, "{token}"),
    lambda: labkit.expect_equal({low}, {high}, "{token}"),
    lambda: labkit.expect_close({low}.0, {high}.0, "{token}"),
    lambda: labkit.expect_raises(ValueError, lambda: None, "{token}"),
    lambda: numpy.testing.assert_allclose({low}.0, {high}.0),
    lambda: numpy.testing.assert_array_equal([{low}], [{high}]),
):
    try:
        {name}_check()
    except AssertionError:
        {name} += 1
assert {name} != 6, "{token}"
"""


def canaries(dice: random.Random) -> list[Canary]:
    """One canary of each kind, with names and numbers that no code can know beforehand."""

    def word() -> str:
        return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=10))

    made = []
    for source in (
        FAILING,
        "assert {low} == {high}, '{token}'",
        "raise RuntimeError('{token}')",
    ):
        token, low = word(), dice.randrange(1, 10**6)
        text = source.format(
            name=f"_{word()}", token=token, low=low, high=low + dice.randrange(1, 99)
        )
        made.append(Canary(f"test-{word()}", text, token, None))
    value = dice.randrange(1, 10**6) / 1024
    made.append(Canary(f"test-{word()}", f"{value!r}", "", value))
    return made
