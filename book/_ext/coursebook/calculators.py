"""`{calculator} NAME`: a law that moves with a slider, drawn at its first values by node.

Arithmetic, drawing and words are all in `_static/calculators.js`, which moves them in the page, so
that a page without scripts shows what a page with them begins with.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .places import BOOK
from .translation import said_by
from .vendor import node

SCRIPT = BOOK / "_static" / "calculators.js"
DRAW = """
globalThis.coursebookWords = JSON.parse(process.argv[2] || "{}");
const { calculators, render } = require(process.argv[1]);
const names = Object.keys(calculators);
process.stdout.write(JSON.stringify(Object.fromEntries(names.map((name) => [name, render(name)]))));
"""
MARK = "data-calculator="


class Calculator(SphinxDirective):
    """`{calculator} zero`: sliders, a drawing, a table and a sentence."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(SCRIPT))
        known = drawn(self.env)
        name = self.arguments[0]
        if name not in known:
            message = f"{name}: no such calculator; there are {', '.join(sorted(known))}"
            return [self.state.document.reporter.warning(message, line=self.lineno)]
        return [nodes.raw("", known[name], format="html")]


def drawn(env: Any) -> dict[str, str]:
    """The HTML of every calculator at its first values; node is asked once in a build."""
    if not hasattr(env.app, "coursebook_calculators"):
        words = said_by(SCRIPT)
        done = subprocess.run(
            [str(node()), "-e", DRAW, str(SCRIPT), words],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        handed = f'<script type="application/json" class="calculator-words">{words}</script>'
        env.app.coursebook_calculators = {
            name: text + (handed if words else "") for name, text in json.loads(done.stdout).items()
        }
    result: dict[str, str] = env.app.coursebook_calculators
    return result
