"""Formulas are set when the book is built: KaTeX in node, its styles and fonts beside the pages.

Where KaTeX's fonts cannot be had (they come from a pinned npm package), formulas become MathML,
which needs neither styles nor fonts; the build says so in one line.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.util import logging
from sphinxcontrib import katex

from .vendor import KATEX, VendorError, node, package

LOGGER = logging.getLogger(__name__)
STYLES = "katex/katex.css"
PATIENCE = 60.0  # seconds for node to start or to answer on a busy machine


def set_up(app: Any, config: Any) -> None:
    """Point sphinxcontrib-katex at the node of this environment and at local styles."""
    katex.NODEJS_BINARY = str(node())
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = PATIENCE
    katex.KATEX_DEFAULT_OPTIONS = {"throwOnError": True, "strict": "ignore"}
    config.katex_css_path = STYLES
    try:
        app.katex_dist = package(KATEX) / "dist"
    except VendorError as error:
        app.katex_dist = None
        katex.KATEX_DEFAULT_OPTIONS["output"] = "mathml"
        LOGGER.info("formulas are set in MathML, without KaTeX's fonts: %s", error)


def copy_styles(app: Any, exception: Exception | None) -> None:
    """Put KaTeX's styles and the WOFF2 fonts that they name into `_static/katex`."""
    if exception or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "katex"
    target.mkdir(parents=True, exist_ok=True)
    if app.katex_dist is None:
        (target / "katex.css").write_text("", encoding="utf-8")
        return
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
