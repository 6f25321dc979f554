"""Figures as part of the page: SVG inlined, text as text, colours that follow the theme.

Matplotlib writes the fixed colours of `matplotlibrc`; here they become `currentColor` and CSS
variables, ids are made unique within the page, and coordinates lose decimals that no screen shows.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)

INK = ("#1c1f23", "#000000", "black")
NAMED = {
    "#d8d6d0": "var(--fig-grid)",
    "#0b5c7d": "var(--fig-1)",
    "#d1712a": "var(--fig-2)",
    "#4d8f5b": "var(--fig-3)",
    "#8c3b6e": "var(--fig-4)",
    "#b8961f": "var(--fig-5)",
    "#6b7280": "var(--fig-6)",
    "#808080": "var(--fig-6)",
    "#ffffff": "var(--fig-paper)",
    **dict.fromkeys(INK, "currentColor"),
}
COLOUR = re.compile(r"(?<![\w&#-])(#[0-9a-fA-F]{6}|black)(?=[;\"'\s])")
NUMBER = re.compile(r"(\d+\.\d{2})\d+")
SCALE = 1.3


def inline_svg(text: str, key: str, alt: str, source: str = "") -> str:
    """The `<svg>` element of an SVG file, ready to stand in a page.

    `key` begins every id within it, `source` is the address of the file within the site.
    Raises ValueError for text without an `<svg>` element.
    """
    start = text.find("<svg")
    if start < 0:
        raise ValueError("no <svg> element")
    body = text[start : text.rindex("</svg>") + 6]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<style[^>]*>\s*\*\{[^}]*\}\s*</style>", "", body)
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = COLOUR.sub(lambda found: NAMED.get(found[1].lower(), found[1]), body)
    body = re.sub(
        r"\b(d|points|transform|x|y|style|clip-path|x1|x2|y1|y2)=\"[^\"]*\"", _shorter, body
    )
    body = re.sub(r"\bid=\"([^\"]+)\"", rf'id="{key}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", body)
    body = re.sub(r"(xlink:)?href=\"#([^\"]+)\"", rf'href="#{key}-\2"', body)
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    return _head(body, alt, source)


def _shorter(found: re.Match[str]) -> str:
    return NUMBER.sub(r"\1", found[0])


def _head(body: str, alt: str, source: str) -> str:
    end = body.index(">")
    view = re.search(r'viewBox="([^"]+)"', body[:end])
    width = re.search(r'\swidth="([\d.]+)(pt|px)?"', body[:end])
    height = re.search(r'\sheight="([\d.]+)(pt|px)?"', body[:end])
    if view:
        wide, high = (float(number) for number in view[1].split()[2:])
    elif width and height:
        wide, high = float(width[1]), float(height[1])
    else:
        raise ValueError("an SVG figure needs a viewBox, or a width and a height")
    pixels = wide * (4 / 3 if width and width[2] == "pt" else 1) * SCALE
    box = view[1] if view else f"0 0 {wide:g} {high:g}"
    attributes = {
        "class": "fig",
        "role": "img",
        "aria-label": alt,
        "data-src": source,
        "viewBox": box,
        "fill": "currentColor",
        "style": f"width:{pixels:.0f}px;aspect-ratio:{wide:g}/{high:g}",
    }
    written = (f' {name}="{html.escape(value)}"' for name, value in attributes.items() if value)
    return f"<svg{''.join(written)}>{body[end + 1 :]}"


def visit_image(translator: Any, node: nodes.image) -> None:
    """Inline an SVG image; leave every other to Sphinx."""
    path = _svg_path(translator.builder, node)
    if path is None:
        type(translator).visit_image(translator, node)
        return
    docname = getattr(translator.builder, "current_docname", "page")
    translator.figure_count = getattr(translator, "figure_count", 0) + 1
    key = f"f{translator.figure_count}"
    alt = node.get("alt", "")
    try:
        name = translator.builder.images.get(node["uri"], "")
        drawn = inline_svg(path.read_text(encoding="utf-8"), key, alt, name and f"_images/{name}")
    except ValueError as error:
        raise ValueError(f"{docname}: {path.name}: {error}") from error
    translator.body.append(drawn + "\n")
    raise nodes.SkipNode


def depart_image(translator: Any, node: nodes.image) -> None:
    """What Sphinx does after an image that is not SVG."""
    type(translator).depart_image(translator, node)


def _svg_path(builder: Any, node: nodes.image) -> Path | None:
    uri = node.get("uri", "")
    if not uri.lower().endswith(".svg") or "://" in uri:
        return None
    for candidate in (Path(builder.srcdir) / uri, Path(uri)):
        if candidate.is_file():
            return candidate
    return None


def require_alt(app: Any, doctree: nodes.document, docname: str) -> None:
    """An image without alternative text is a warning, and so an error of the build."""
    for number, image in enumerate(doctree.findall(nodes.image), 1):
        if not image.get("alt", "").strip():
            names = image.parent.get("ids", ()) if image.parent else ()
            LOGGER.warning(
                "%s without alternative text: give it `image: {alt: ...}`",
                names[0] if names else f"figure {number} of the page",
                location=docname,
                type="coursebook",
                subtype="alt",
            )
