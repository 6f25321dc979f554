"""What a chapter says about itself in its front matter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .places import BOOK, PARTS
from .translation import said

WORDS_PER_MINUTE = 180
CODE_LINES_PER_MINUTE = 12


@dataclass(frozen=True)
class Chapter:
    """One chapter: `docname` is "part/slug", the rest is front matter and what the text tells."""

    docname: str
    title: str
    lab: str | None
    prerequisites: tuple[str, ...]
    description: str
    minutes: int

    @property
    def slug(self) -> str:
        return self.docname.rpartition("/")[2]

    @property
    def part(self) -> str:
        return self.docname.partition("/")[0]


def front_matter(text: str) -> dict[str, Any]:
    """The YAML between the two `---` lines at the head of a page; empty where there is none."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.S)
    data = yaml.safe_load(found[1]) if found else None
    return data if isinstance(data, dict) else {}


def reading_minutes(text: str) -> int:
    """Minutes that a careful reader takes: prose at 180 words, code at 12 lines a minute.

    Worked answers are left out: they are hidden until one asks for them.
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"^(`{3,}|:{3,})\{solution.*?^\1\s*$", "", text, flags=re.S | re.M)
    text = re.sub(r"^`{3,}\{solution-start\}.*?\{solution-end\}", "", text, flags=re.S | re.M)
    code = re.findall(r"^```\{code-cell\}.*?^```", text, flags=re.S | re.M)
    lines = sum(len([ln for ln in cell.splitlines()[1:-1] if ln.strip()]) for cell in code)
    prose = re.sub(r"^```\{code-cell\}.*?^```", "", text, flags=re.S | re.M)
    words = len(re.findall(r"[^\W\d_][\w'’-]*", prose))
    return max(1, round(words / WORDS_PER_MINUTE + lines / CODE_LINES_PER_MINUTE))


def read(path: Path) -> Chapter:
    """Read one chapter's head; a list or a name may stand for `prerequisites`."""
    text = path.read_text(encoding="utf-8")
    meta = front_matter(text)
    title = re.search(r"^# (.+)$", text, re.M)
    needs = meta.get("prerequisites") or ()
    docname = path.relative_to(BOOK).with_suffix("").as_posix()
    return Chapter(
        docname=docname,
        title=said(docname, title[1].strip()) if title else path.stem,
        lab=meta.get("lab"),
        prerequisites=(needs,) if isinstance(needs, str) else tuple(needs),
        description=said(docname, str(meta.get("description", ""))),
        minutes=reading_minutes(text),
    )


def table_of_contents(path: Path = BOOK / "_toc.yml") -> dict[str, Any]:
    """The table of contents as Jupyter Book reads it."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def listed_pages(toc: dict[str, Any]) -> list[str]:
    """Document names in reading order, the root first."""
    pages = [toc["root"]]
    for part in toc.get("parts", []):
        pages += [entry["file"] for entry in part.get("chapters", [])]
    return pages


def chapters() -> list[Chapter]:
    """The chapters that the table of contents lists, in its order."""
    names = listed_pages(table_of_contents())
    return [read(BOOK / f"{name}.md") for name in names if name.partition("/")[0] in PARTS]
