"""Where the book's things lie, whichever of the two source folders Sphinx was started in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BOOK = Path(__file__).resolve().parents[2]
ROOT = BOOK.parent
BUILD = ROOT / "_build"

PARTS = {
    "foundations": "Foundations",
    "compilers": "Compilers",
    "training": "Training systems",
    "inference": "Inference and serving",
    "platforms": "Platforms",
}


def prefix(app: Any) -> str:
    """What a document name begins with: "book/" when the source folder is the repository."""
    return "book/" if Path(app.srcdir).resolve() == ROOT else ""


def short_name(docname: str) -> str:
    """The document name as `jupyter-book build book/` has it."""
    return docname.removeprefix("book/")
