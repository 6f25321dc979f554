"""Formulas are set when the book is built: KaTeX in node, its styles and fonts beside the pages.

Where KaTeX's fonts cannot be had (they come from a pinned npm package), formulas become MathML,
which needs neither styles nor fonts; the build says so in one line.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import sphinxcontrib.katex
from docutils import nodes
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from .vendor import KATEX, VendorError, node, package

LOGGER = logging.getLogger(__name__)
PUNCTUATION = tuple(",.;:!?)’”'")
WORD_JOINER = "&#8288;"
SCRIPT = """
const katex = require(process.argv[1]);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { tex, options } = JSON.parse(line);
  let answer;
  try { answer = { html: katex.renderToString(tex, options) }; }
  catch (error) { answer = { error: error.message }; }
  process.stdout.write(JSON.stringify(answer) + "\\n");
});
"""


class Setter:
    """A node process that sets one formula after another; it ends with this process."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.known: dict[tuple[str, bool], str] = {}
        self.output = "htmlAndMathml"

    def set(self, tex: str, *, display: bool) -> str:
        """HTML of a formula; raises ValueError with KaTeX's words where it has a mistake."""
        key = (tex, display)
        if key not in self.known:
            self.known[key] = self._ask(tex, display)
        return self.known[key]

    def _ask(self, tex: str, display: bool) -> str:
        if self.process is None:
            script = Path(sphinxcontrib.katex.__file__).with_name("katex.min.js")
            self.process = subprocess.Popen(
                [str(node()), "-e", SCRIPT, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
            atexit.register(self.process.kill)
        options = {"displayMode": display, "strict": "ignore", "output": self.output}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"tex": tex, "options": options}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise VendorError("node ended while it set a formula")
        result = json.loads(answer)
        if "error" in result:
            raise ValueError(result["error"])
        return str(result["html"])


SETTER = Setter()


def set_up(app: Any, config: Any) -> None:
    """Fetch KaTeX's styles and fonts, or do without them."""
    SETTER.output = "htmlAndMathml"
    try:
        app.katex_dist = package(KATEX) / "dist"
    except VendorError as error:
        app.katex_dist = None
        SETTER.output = "mathml"
        LOGGER.info("formulas are set in MathML, without KaTeX's fonts: %s", error)


def visit_inline(translator: Any, formula: nodes.math) -> None:
    """A formula within a line."""
    translator.body.append(f'<span class="math">{_set(formula, display=False)}</span>')
    beside = formula.next_node(nodes.Text, descend=False, siblings=True)
    if beside is not None and beside[:1] in PUNCTUATION:
        translator.body.append(WORD_JOINER)
    raise nodes.SkipNode


def visit_block(translator: Any, formula: nodes.math_block) -> None:
    """A formula of its own, with its number."""
    translator.body.append(translator.starttag(formula, "div", "", CLASS="math"))
    if formula["number"]:
        number = get_node_equation_number(translator, formula)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(formula, _("Permalink to this equation"))
        translator.body.append("</span>")
    translator.body.append(_set(formula, display=True) + "</div>\n")
    raise nodes.SkipNode


def _set(formula: nodes.Element, *, display: bool) -> str:
    try:
        return SETTER.set(formula.astext(), display=display)
    except ValueError as error:
        LOGGER.warning("%s", error, location=formula, type="coursebook", subtype="math")
        return ""


def copy_styles(app: Any, exception: Exception | None) -> None:
    """Put KaTeX's styles and the WOFF2 fonts that they name into `_static/katex`."""
    if exception or app.builder.format != "html" or app.katex_dist is None:
        return
    target = Path(app.outdir) / "_static" / "katex"
    target.mkdir(parents=True, exist_ok=True)
    styles = (app.katex_dist / "katex.min.css").read_text(encoding="utf-8")
    styles = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("(?:woff|truetype)"\)', "", styles)
    styles = styles.replace("font-display:block", "font-display:swap")
    (target / "katex.css").write_text(styles, encoding="utf-8")
    shutil.copytree(
        app.katex_dist / "fonts",
        target / "fonts",
        ignore=shutil.ignore_patterns("*.ttf", "*.woff"),
        dirs_exist_ok=True,
    )
    shutil.copy(app.katex_dist.parent / "LICENSE", target / "LICENSE")
