"""The reference solution, as hidden tests see it.

A hidden test of one task must not suffer from a mistake in another, so it takes everything else
from the reference.  The authoring tool embeds the sources in the hidden cell; nothing of this
reaches a released notebook.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence


def loader(sources: Sequence[str]) -> Callable[[], types.ModuleType]:
    """A function that executes `sources` in order in a fresh module and returns that module.

    The module is not registered in `sys.modules`, so that cloudpickle carries its functions to a
    fresh interpreter by value.
    """

    def reference() -> types.ModuleType:
        module = types.ModuleType("reference")
        for number, source in enumerate(sources, start=1):
            code = compile(source, f"<reference {number}>", "exec", dont_inherit=True)
            exec(code, module.__dict__)
        return module

    return reference
