"""Each chapter as a notebook that opens and runs anywhere: plain Markdown, its code, its outputs.

Made when the pages are written, from a chapter's source; what a reference says (Figure 5.1, a
title) is taken from the written page.  Whatever the site makes of a directive becomes bold text,
a quotation or a table.
"""

from __future__ import annotations

import ast
import html
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import yaml
from docutils import nodes
from sphinx.util import logging

from . import boxes, chapters
from .chapters import front_matter
from .messages import FENCE, OPTION
from .places import BOOK, PARTS, ROOT, short_name
from .translation import say, translated

LOGGER = logging.getLogger(__name__)
FOLDER = "notebooks"
HOME = "http://localhost:8000"
"""Where the book is when nobody says otherwise: `make serve` puts it there."""
RECORD = "application/papermill.record/"
SETUP = """\
# The book's site keeps numbers for its prose with `glue`; a notebook can do without it.
import sys
import types

try:
    import myst_nb
except ImportError:
    sys.modules["myst_nb"] = types.SimpleNamespace(glue=lambda *names, **options: None)\
"""
ROLE = re.compile(r"\{(?P<role>[\w:.-]+)\}(?P<tick>`+)(?P<text>.+?)(?P=tick)(?!`)", re.S)
LINK = re.compile(r"\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s]+)\)")
LABEL = re.compile(r"\((?P<label>[\w:-]+)\)=$")
QUOTED = {"objectives", "law", "case", "pitfall", "remember", "lab", "margin", "note", "tip"}
QUOTED |= {"warning", "important", "admonition", "prf:algorithm", "prf:theorem", "prf:lemma"}
QUOTED |= {"prf:proof", "prf:definition"}
OPEN = {"div", "exercise", "solution", "solution-start", "solution-end"}


def address(page: str = "") -> str:
    """The address of a page of the published book."""
    return f"{os.environ.get('BOOK_URL', HOME).rstrip('/')}/{page}"


def write(app: Any, exception: Exception | None) -> None:
    """Write `notebooks/<chapter>.ipynb` for every chapter of the site."""
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    cache = Cache(
        Path(app.config.nb_execution_cache_path or Path(app.outdir).parent / ".jupyter_cache")
    )
    for docname in sorted(app.env.found_docs):
        part, _, slug = short_name(docname).partition("/")
        page = Path(app.outdir) / f"{docname}.html"
        if part in PARTS and page.is_file():
            made = make(f"{part}/{slug}", page.read_text(encoding="utf-8"), cache)
            nbformat.write(made, folder / f"{slug}.ipynb")


def offer(app: Any, doctree: nodes.document, docname: str) -> None:
    """A link to the notebook in the line under a chapter's title."""
    for box in doctree.findall(nodes.container):
        if "chapter-head" in box["classes"]:
            slug = short_name(docname).rpartition("/")[2]
            up = "../" * docname.count("/")
            facts = box[0]
            facts += nodes.Text(" · ")
            facts += nodes.reference(
                "", say("notebook"), refuri=f"{up}{FOLDER}/{slug}.ipynb", classes=["notebook"]
            )
            return


class Cache:
    """Outputs of executed chapters, as `tools/book_run.py` or myst-nb left them."""

    def __init__(self, folder: Path) -> None:
        from jupyter_cache import get_cache

        self.cache = get_cache(str(folder)) if folder.is_dir() else None

    def outputs(self, notebook: Any) -> list[list[Any]]:
        """The outputs of every code cell; none where the chapter was never executed."""
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        if self.cache is not None:
            try:
                record = self.cache.match_cache_notebook(notebook)
            except KeyError:
                pass
            else:
                ran = self.cache.get_cache_bundle(record.pk).nb
                return [cell.outputs for cell in ran.cells if cell.cell_type == "code"]
        return [[] for _ in code]


def make(docname: str, page: str, cache: Cache) -> Any:
    """The notebook of a chapter, given its written page."""
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    source = (BOOK / f"{docname}.md").read_text(encoding="utf-8")
    text = translated(docname, source)
    read = read_myst_markdown_notebook(text, config=MdParserConfig(), add_source_map=True)
    outputs = cache.outputs(read)
    written = Written(docname, page, glued(outputs))
    plain = Plain(written)
    cells = [nbformat.v4.new_code_cell(SETUP, metadata={"jupyter": {"source_hidden": True}})]
    ran = iter(outputs)
    for cell in read.cells:
        if cell.cell_type == "markdown":
            body = plain.convert(cell.source).strip()
            if body:
                cells.append(nbformat.v4.new_markdown_cell(body))
            continue
        tags = set(cell.metadata.get("tags", ()))
        made = nbformat.v4.new_code_cell(cell.source, outputs=shown(next(ran)))
        if tags & {"hide-input", "remove-cell", "remove-input", "hide-cell"}:
            made.metadata["jupyter"] = {"source_hidden": True}
        cells.append(made)
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            caption = plain.inline(" ".join(str(figure.get("caption", "")).split()))
            number = written.number(figure.get("name", ""))
            cells.append(
                nbformat.v4.new_markdown_cell(f"**{number}** {caption}".replace("****", ""))
            )
    head = next(n for n, cell in enumerate(cells) if cell.cell_type == "markdown")
    cells.insert(0, introduced(cells.pop(head), docname))
    for number, cell in enumerate(cells):
        cell.id = f"{docname.rpartition('/')[2].replace('_', '-')}-{number}"
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.metadata.language_info = {"name": "python"}
    nbformat.validate(made)
    return made


def introduced(cell: Any, docname: str) -> Any:
    """The first cell, with a line under its title that says where the notebook is from."""
    title, _, rest = cell.source.partition("\n")
    where = say("A chapter of [{book}]({home}). The page with its lab, notes and answers: {page}")
    book = front_matter((ROOT / "_config.yml").read_text(encoding="utf-8")).get("title")
    book = book or yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    page = address(f"{docname}.html")
    line = where.format(book=say(book), home=address(), page=f"<{page}>")
    cell.source = f"{title}\n\n*{line}*\n{rest}"
    return cell


def glued(outputs: list[list[Any]]) -> dict[str, Any]:
    """Numbers and strings that the chapter's cells keep for its prose."""
    found = {}
    for output in (output for cell in outputs for output in cell):
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        if name:
            data = output.get("data", {})
            text = data.get("text/plain") or data.get(f"{RECORD}text/plain") or ""
            try:
                found[name] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                found[name] = text
    return found


def shown(outputs: list[Any]) -> list[Any]:
    """Outputs that a reader sees: no glue, nothing that only this book's site can show."""
    return [
        output
        for output in outputs
        if not any(kind.startswith(RECORD) for kind in output.get("data", {}))
        and not (output.output_type == "stream" and output.name == "stderr")
    ]


class Written:
    """What the written page says: the words of references, numbers, titles."""

    def __init__(self, docname: str, page: str, numbers: dict[str, Any]) -> None:
        self.docname = docname
        self.page = page
        self.glue = numbers
        self.words: dict[str, str] = {}
        article = page.partition("<article")[2]
        for href, inner in re.findall(
            r'<a class="reference internal"[^>]*href="([^"]+)"[^>]*>(.*?)</a>', article, re.S
        ):
            target = href.partition("#")[2] or href
            self.words.setdefault(target, words_of(inner))

    def number(self, name: str) -> str:
        """The number of a figure, a table, an equation or an exercise, as the page writes it."""
        place = self.page.partition(f'id="{name}"')[2]
        found = re.search(r'<span class="caption-number">(.*?)</span>', place, re.S)
        return words_of(found[1]) if found else ""

    def equation(self, label: str) -> str:
        found = re.search(
            rf'id="equation-{re.escape(label)}"><span class="eqno">\(([^<)]+)', self.page
        )
        return found[1] if found else ""

    def heading(self, anchor: str) -> str:
        found = re.search(rf'href="#{re.escape(anchor)}"[^>]*>(.*?)</a>', self.page, re.S)
        return words_of(found[1]) if found else anchor.replace("-", " ")

    def link(self, words: str, anchor: str = "", page: str = "") -> str:
        """A Markdown link to a place of the site."""
        target = address(f"{page or self.docname}.html") + (f"#{anchor}" if anchor else "")
        return f"[{words}]({target})"


def words_of(markup: str) -> str:
    """The words of a piece of HTML."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", "", markup).split())).replace("\u2060", "")


class Plain:
    """Turns MyST Markdown into Markdown that Jupyter and Colab show."""

    def __init__(self, written: Written) -> None:
        self.written = written
        self.authors: dict[str, str] | None = None
        self.roles: dict[str, Callable[[str, str], str]] = {
            "term": lambda text, target: text,
            "glue:text": lambda text, target: self.value(target),
            "cite:t": lambda text, target: self.cited(target, "{} ({})"),
            "cite:p": lambda text, target: "(" + self.cited(target, "{}, {}", "; ") + ")",
            "doc": self.doc,
            "eq": lambda text, target: self.reference(text, target, f"equation-{target}"),
            "numref": lambda text, target: self.reference(text, target, target),
            "ref": lambda text, target: self.reference(text, target, target),
            "prf:ref": lambda text, target: self.reference(text, target, target),
        }

    def inline(self, text: str) -> str:
        """A text with its roles and links resolved."""
        return LINK.sub(self.link, ROLE.sub(self.role, text))

    def role(self, found: re.Match[str]) -> str:
        text = found["text"].strip()
        explicit = re.fullmatch(r"(.*?)\s*<([^<>]+)>", text, re.S)
        words, target = (explicit[1], explicit[2]) if explicit else ("", text)
        convert = self.roles.get(found["role"])
        return convert(words or target, target) if convert else (words or target)

    def value(self, target: str) -> str:
        key, _, form = target.partition(":")
        value = self.written.glue.get(key)
        if value is None:
            LOGGER.warning("%s: no value for {glue:text}`%s`", self.written.docname, key)
        return format(value, form) if form else str(value)

    def cited(self, keys: str, form: str, between: str = ", ") -> str:
        if self.authors is None:
            self.authors = read_authors()
        known = [
            self.authors.get(key.strip(), f"{key.strip()}|").split("|") for key in keys.split(",")
        ]
        return between.join(form.format(*one) for one in known)

    def doc(self, text: str, target: str) -> str:
        base = (BOOK / f"{self.written.docname}.md").parent
        path = Path(os.path.normpath(base / target))
        if path.with_suffix(".md").is_file():
            page = path.relative_to(BOOK).as_posix()
            words = chapters.read(path.with_suffix(".md")).title if text == target else text
            return self.written.link(words, page=page)
        return text

    def reference(self, text: str, target: str, anchor: str) -> str:
        words = text if text != target else self.written.words.get(anchor.replace("_", "-").lower())
        return words or self.written.words.get(anchor) or self.written.number(target) or target

    def link(self, found: re.Match[str]) -> str:
        text, target = found["text"], found["target"]
        if target.startswith("#"):
            anchor = target[1:]
            return self.written.link(text or self.written.heading(anchor), anchor)
        if "://" in target or target.startswith("attachment:"):
            return found[0]
        path, _, anchor = target.partition("#")
        base = (BOOK / f"{self.written.docname}.md").parent
        page = Path(os.path.normpath(base / path)).with_suffix("")
        inside = BOOK in page.parents and page.with_suffix(".md").is_file()
        name = page.relative_to(BOOK).as_posix() if inside else ""
        return self.written.link(text, anchor, name) if inside else text

    def convert(self, text: str) -> str:
        """A whole Markdown cell."""
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
        self.lines = text.split("\n")
        self.at = 0
        self.open: list[tuple[str, str]] = []
        self.out: list[str] = []
        while self.at < len(self.lines):
            self.step(self.lines[self.at])
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self.out))

    @property
    def quote(self) -> str:
        return "> " if any(name in QUOTED for _, name in self.open) else ""

    def put(self, *lines: str) -> None:
        self.out += [f"{self.quote}{line}".rstrip() if self.quote else line for line in lines]

    def step(self, line: str) -> None:
        fence = FENCE.match(line)
        bare = fence and fence["name"] is None and not fence["info"].strip()
        if fence and bare and self.open and fence["mark"].startswith(self.open[-1][0]):
            self.open.pop()
            self.out.append("")
            self.at += 1
            return
        if fence and fence["name"]:
            self.directive(fence)
        elif fence:
            self.block(fence["mark"])
        elif LABEL.match(line.strip()) or line.strip().startswith("%"):
            self.at += 1
        elif line.strip().startswith("$$"):
            self.formula()
        else:
            self.paragraph()

    def paragraph(self) -> None:
        """Lines up to the next thing that is not prose; roles may run over their ends."""
        first = self.at
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if FENCE.match(line) or line.strip().startswith("$$") or LABEL.match(line.strip()):
                break
            self.at += 1
            if not line.strip():
                break
        text = self.inline("\n".join(self.lines[first : self.at]))
        text = re.sub(r"(?m)^(?!\s)([^\n:].*)\n: ", r"**\1.** ", text)
        self.put(*text.split("\n"))

    def block(self, mark: str) -> None:
        """Code that is not run."""
        first = self.at
        self.at += 1
        while self.at < len(self.lines) and self.lines[self.at].strip() != mark:
            self.at += 1
        self.at += 1
        self.put(*self.lines[first : self.at])

    def formula(self) -> None:
        first = self.at
        self.at += 1
        if self.lines[first].count("$$") < 2:
            while "$$" not in self.lines[self.at]:
                self.at += 1
            self.at += 1
        whole = "\n".join(line.strip() for line in self.lines[first : self.at])
        body, _, label = whole.strip().removeprefix("$$").rpartition("$$")
        number = self.written.equation(label.strip(" ()"))
        tag = f" \\tag{{{number}}}" if number else ""
        self.put("", "$$", *f"{body.strip()}{tag}".split("\n"), "$$", "")

    def options(self) -> dict[str, str]:
        found = {}
        while self.at < len(self.lines) and (option := OPTION.match(self.lines[self.at])):
            found[option["key"]] = option["value"]
            self.at += 1
        return found

    def directive(self, fence: re.Match[str]) -> None:
        name, rest, mark = fence["name"], fence["rest"].strip(), fence["mark"]
        self.at += 1
        options = self.options()
        if name == "list-table":
            self.table(mark, rest, options)
        elif name in QUOTED or name in OPEN:
            if name in QUOTED and self.out and self.out[-1]:
                self.out.append("")
            self.open.append((mark, name))
            title = self.title(name, rest, options)
            if title:
                self.put(*([] if name in QUOTED else [""]), f"**{title}**", "")
        else:
            while self.at < len(self.lines) and self.lines[self.at].strip() != mark:
                self.at += 1
            self.at += 1

    def title(self, name: str, rest: str, options: dict[str, str]) -> str:
        """What stands in bold at the head of a box."""
        if name == "law":
            from .laws import read_laws

            known = read_laws().get(rest, {})
            return f"{say('Law')}: {options.get('title') or known.get('title', rest)}"
        if name == "lab":
            source = ROOT / "solutions" / rest / "lab.py"
            lab = boxes.read_lab(source)["title"] if source.is_file() else rest
            return f"{say('Lab')}: {self.written.link(lab, page=self.written.docname)}"
        if name == "exercise":
            number = self.written.number(options.get("label", ""))
            return f"{number}. {self.inline(rest)}" if rest else number
        if name in ("solution", "solution-start"):
            return f"{say('Answer')}: {self.written.number(rest)}"
        if name in boxes.PLAIN:
            label = say(boxes.PLAIN[name])
            return f"{label}: {self.inline(rest)}" if rest else label
        return "" if name in OPEN else self.inline(rest) or name.rpartition(":")[2].title()

    def table(self, mark: str, title: str, options: dict[str, str]) -> None:
        """A list-table as a Markdown table."""
        rows: list[list[str]] = []
        while self.at < len(self.lines) and self.lines[self.at].strip() != mark:
            line = self.lines[self.at]
            first, more = re.match(r"[*] - ?(.*)", line), re.match(r"\s+- ?(.*)", line)
            if first:
                rows.append([first[1]])
            elif more:
                rows[-1].append(more[1])
            elif line.strip():
                rows[-1][-1] += " " + line.strip()
            self.at += 1
        self.at += 1
        caption = f"**{self.written.number(options.get('name', ''))}** {self.inline(title)}"
        written = [[self.inline(cell).replace("|", "\\|") for cell in row] for row in rows]
        lines = ["| " + " | ".join(row) + " |" for row in written]
        self.put(
            "",
            caption.replace("**** ", ""),
            "",
            lines[0],
            "|" + " --- |" * len(rows[0]),
            *lines[1:],
            "",
        )


def read_authors() -> dict[str, str]:
    """Author and year of every entry of the bibliography, as "Li et al.|2014"."""
    from pybtex.database import parse_file

    found = {}
    for key, entry in parse_file(str(BOOK / "references.bib")).entries.items():
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [
            " ".join([*p.prelast_names, *p.last_names]).replace("{", "").replace("}", "")
            for p in people
        ]
        who = names[0] if names else key
        if len(names) == 2:
            who = f"{names[0]} and {names[1]}"
        elif len(names) > 2:
            who = f"{names[0]} et al."
        found[key] = f"{who}|{entry.fields.get('year', '')}"
    return found
