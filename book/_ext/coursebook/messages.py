"""The messages of a page: what of its source is words for a reader, and so can be translated.

A message is a paragraph, an item of a list, a heading, a row of a table, a title, a caption or an
alternative text, each as one line of Markdown.  Code, labels and directives are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import yaml

Say = Callable[[str, int], "str | None"]
"""Gives the translation of a message that stands in a line (from 1), or None to keep it."""

PROSE = {"objectives", "remember", "pitfall", "case", "law", "lab", "margin", "exercise"}
PROSE |= {"solution", "solution-start", "solution-end", "div", "note", "tip", "warning"}
PROSE |= {"important", "glossary", "list-table", "figure", "admonition", "prf:algorithm"}
PROSE |= {"prf:theorem", "prf:proof", "prf:lemma", "prf:definition"}
TITLED = {"margin", "exercise", "case", "pitfall", "admonition", "note", "tip", "list-table"}
TITLED |= {"objectives", "remember", "prf:algorithm", "prf:theorem", "prf:lemma"}
SPOKEN = {"title", "alt", "caption"}
"""Options whose values are words; those of laws belong to the law sheet, which has them all."""
FENCE = re.compile(
    r"^\s*(?P<mark>`{3,}|:{3,})(?:\{(?P<name>[\w:-]+)\} ?(?P<rest>.*)|(?P<info>.*))$"
)
OPTION = re.compile(r"^(?P<lead>\s*:(?P<key>[\w-]+):) ?(?P<value>.*)$")
SCALAR = re.compile(r"^(?P<lead>:?\s+(?:caption|alt):) (?P<value>.*)$")
MARKER = re.compile(r"^(?P<indent>\s*)(?P<mark>(?:[*+-] +|\d+[.)] +|: +)*)")
ASIDE = re.compile(r"^(\([\w:-]+\)=|%.*|-{3,}|\+\+\+.*|<.*)$")
WORDS = re.compile(r"\\text\{[^}]*[A-Za-z]{2}")
HEADING = re.compile(r"^(#+) +(.*)$")


def rewrite(text: str, say: Say) -> str:
    """The page with every message that `say` translates replaced.

    Headings of sections are asked for too, and kept: references find them by their words, so they
    are translated when the page has been read (`translation.Titles`).
    """
    return "\n".join(_Rewriter(text, say).run())


def collect(text: str) -> list[tuple[str, int]]:
    """The messages of a page with their lines, each once, in their order."""
    found: dict[str, int] = {}
    rewrite(text, lambda message, line: found.setdefault(message, line) and None)
    return list(found.items())


class _Rewriter:
    """Goes through the lines of a page once; `out` is the page as it will be read."""

    def __init__(self, text: str, say: Say) -> None:
        self.lines = text.split("\n")
        self.say = say
        self.at = 0
        self.out: list[str] = []
        self.open: list[tuple[str, str]] = []  # mark and name of the fences around this line

    def run(self) -> list[str]:
        if self.lines[0] == "---":
            self.front_matter()
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if fence := FENCE.match(line):
                self.fence(line, fence)
            elif not line.strip() or ASIDE.match(line.strip()) or self.is_term(line):
                self.copy()
            elif line.strip().startswith("$$"):
                self.formula()
            elif heading := HEADING.match(line):
                self.heading(heading)
            elif line.startswith("|"):
                self.row(line)
            else:
                self.paragraph(line)
        return self.out

    def copy(self) -> None:
        self.out.append(self.lines[self.at])
        self.at += 1

    def ask(self, message: str) -> str | None:
        return self.say(message, self.at + 1) if re.search("[A-Za-z]", message) else None

    def front_matter(self) -> None:
        self.copy()
        while self.lines[self.at] != "---":
            found = re.match(r"description: (.*)$", self.lines[self.at])
            said = (
                self.ask(str(yaml.safe_load(self.lines[self.at])["description"])) if found else None
            )
            if said is not None:
                self.out.append(f"description: {json.dumps(said, ensure_ascii=False)}")
                self.at += 1
            else:
                self.copy()
        self.copy()

    def fence(self, line: str, fence: re.Match[str]) -> None:
        mark, name = fence["mark"], fence["name"]
        if name is None and not fence["info"].strip() and self.open:
            mark_open = self.open[-1][0]
            if mark[0] == mark_open[0] and len(mark) >= len(mark_open):
                self.open.pop()
                self.copy()
                return
        if name == "code-cell":
            self.cell(mark)
        elif name in PROSE:
            rest = fence["rest"].strip()
            said = self.ask(rest) if rest and name in TITLED else None
            if said is None:
                self.copy()
            else:
                self.out.append(line[: fence.start("rest")] + said)
                self.at += 1
            self.open.append((mark, name))
            self.options()
        else:
            self.verbatim(mark)

    def is_closing(self, line: str, mark: str) -> bool:
        bare = line.strip()
        return len(bare) >= len(mark) and set(bare) == {mark[0]}

    def verbatim(self, mark: str) -> None:
        self.copy()
        while self.at < len(self.lines) and not self.is_closing(self.lines[self.at], mark):
            self.copy()
        if self.at < len(self.lines):
            self.copy()

    def options(self) -> None:
        while self.at < len(self.lines) and (option := OPTION.match(self.lines[self.at])):
            spoken = option["key"] in SPOKEN and self.open[-1][1] != "law"
            said = self.ask(option["value"]) if spoken else None
            if said is None:
                self.copy()
            else:
                self.out.append(f"{option['lead']} {said}")
                self.at += 1

    def cell(self, mark: str) -> None:
        """A cell: only its figure's caption and alternative text are words."""
        self.copy()
        dashed = self.lines[self.at] == "---"
        if dashed:
            self.copy()
        while self.lines[self.at] != "---" if dashed else self.lines[self.at].startswith(":"):
            if scalar := SCALAR.match(self.lines[self.at]):
                self.scalar(scalar)
            else:
                self.copy()
        self.verbatim(mark)

    def scalar(self, scalar: re.Match[str]) -> None:
        """A caption or an alternative text in the YAML of a cell."""
        first, value = self.at, scalar["value"]
        after = first + 1
        if value in ("|", ">"):
            depth = len(scalar["lead"]) - len(scalar["lead"].lstrip(": "))
            prefix = re.compile(rf"^:?\s{{{depth + 1},}}\S|^:?\s*$")
            while prefix.match(self.lines[after]) and self.lines[after] != "---":
                after += 1
            value = " ".join(line.lstrip(":").strip() for line in self.lines[first + 1 : after])
        elif value[:1] in "\"'":
            value = str(yaml.safe_load(value))
        said = self.ask(value.strip())
        if said is None:
            self.out += self.lines[first:after]
        else:
            indent = re.match(r":?\s+", scalar["lead"])
            assert indent
            self.out += [f"{scalar['lead']} |", f"{indent[0]}  {said}"]
        self.at = after

    def formula(self) -> None:
        """A formula of its own; it is a message when it contains words."""
        first = self.at
        after = first + 1
        if self.lines[first].count("$$") < 2:
            while "$$" not in self.lines[after]:
                after += 1
            after += 1
        block = self.lines[first:after]
        whole = " ".join(line.strip() for line in block)
        said = self.ask(whole) if WORDS.search(whole) else None
        if said is None:
            self.out += block
        else:
            indent = re.match(r"\s*", block[0])
            assert indent
            body, _, label = said.strip().removeprefix("$$").rpartition("$$")
            self.out += [f"{indent[0]}{part}" for part in ("$$", body.strip(), f"$${label}")]
        self.at = after

    def heading(self, heading: re.Match[str]) -> None:
        said = self.ask(heading[2])
        if self.open and said is not None:
            self.out.append(f"{heading[1]} {said}")
            self.at += 1
        else:
            self.copy()

    def row(self, line: str) -> None:
        rule = re.fullmatch(r"[|:\s-]+", line)
        said = None if rule else self.ask(line.strip())
        if said is None:
            self.copy()
        else:
            self.out.append(said)
            self.at += 1

    def is_term(self, line: str) -> bool:
        """Terms of the glossary are names, by which pages refer to them."""
        return bool(self.open) and self.open[-1][1] == "glossary" and not line.startswith(" ")

    def paragraph(self, line: str) -> None:
        """A paragraph or an item of a list, to the line where it ends."""
        marker = MARKER.match(line)
        assert marker
        after = self.at + 1
        while after < len(self.lines) and not self.ends(self.lines[after], bool(marker["mark"])):
            after += 1
        block = self.lines[self.at : after]
        parts = [block[0][marker.end() :], *block[1:]]
        said = self.ask(" ".join(part.strip() for part in parts))
        if said is None:
            self.out += block
        else:
            self.out.append(marker[0] + said)
        self.at = after

    def ends(self, line: str, in_list: bool) -> bool:
        if not line.strip() or FENCE.match(line) or line.strip().startswith("$$"):
            return True
        if HEADING.match(line) or line.startswith("|") or ASIDE.match(line.strip()):
            return True
        mark = MARKER.match(line)
        assert mark
        numbered = re.match(r"\d+", mark["mark"])
        return bool(mark["mark"]) and (not numbered or numbered[0] == "1" or in_list)


def fences(text: str, name: str) -> list[tuple[int, str, str]]:
    """The options of every fence of a name: (line, option, value)."""
    found = []
    inside = False
    for number, line in enumerate(text.split("\n"), 1):
        fence, option = FENCE.match(line), OPTION.match(line)
        if fence:
            inside = fence["name"] == name
        elif inside and option:
            value = option["value"]
            value = str(yaml.safe_load(value)) if value[:1] in "'\"" else value
            found.append((number, option["key"], value))
        else:
            inside = False
    return found
