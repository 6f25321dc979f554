"""Translated editions: the words of a page are replaced by its catalogue's before it is read.

A catalogue is a gettext file, `book/locale/<language>/LC_MESSAGES/<page>.po`; `interface.po` has
the words of the site itself, `labs.po` the titles of labs.  What a catalogue lacks stays English,
and the page says how much of it is translated.  Code is never touched, so nothing runs twice.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from babel.messages.pofile import read_po
from docutils import nodes
from sphinx.search import SearchLanguage
from sphinx.transforms import SphinxTransform

from .messages import rewrite
from .places import BOOK, short_name

LOCALE = BOOK / "locale"
SOURCE = "en"
EDITIONS = {"en": ("", "English"), "zh_CN": ("zh/", "中文")}
"""Language to the folder of the edition within the site and its own name for itself."""

HALF = 0.5
"""A page with a smaller share of translated messages counts as not translated."""

SAID = re.compile(r"""\bsay\(\s*(?P<q>["'])(?P<words>(?:(?!(?P=q))[^\\]|\\.)*)(?P=q)""")
"""A message in code or in a template: what is handed to `say`."""

current = SOURCE


def set_up(app: Any, config: Any) -> None:
    """Take over the language of this build, and name figures and equations in it."""
    global current
    current = config.language or SOURCE
    if current == SOURCE:
        return
    config.numfig_format = {kind: say(form) for kind, form in config.numfig_format.items()}
    config.math_eqref_format = say(config.math_eqref_format)
    config.nb_code_prompt_show = say(config.nb_code_prompt_show)
    config.nb_code_prompt_hide = say(config.nb_code_prompt_hide)
    config.html_title = say(config.html_title)


def catalogue_path(page: str, language: str) -> Path:
    """Where the translations of a page lie."""
    return LOCALE / language / "LC_MESSAGES" / f"{page}.po"


@cache
def catalogue(page: str, language: str) -> dict[str, str]:
    """Finished translations of a page: no fuzzy one, no empty one."""
    path = catalogue_path(page, language)
    if language == SOURCE or not path.is_file():
        return {}
    with path.open("rb") as file:
        return {
            str(message.id): str(message.string)
            for message in read_po(file, locale=language)
            if message.id and message.string and not message.fuzzy
        }


def said(page: str, text: str) -> str:
    """A text of a page in the language of this build."""
    return catalogue(page, current).get(text, text)


def say(text: str) -> str:
    """A text of the site itself in the language of this build."""
    return said("interface", text)


def said_by(script: Path) -> str:
    """The messages of a script in the language of this build, as JSON; nothing for English."""
    if current == SOURCE:
        return ""
    messages = [found["words"] for found in SAID.finditer(script.read_text(encoding="utf-8"))]
    return json.dumps({text: say(text) for text in messages}, ensure_ascii=False)


def translate(app: Any, docname: str, source: list[str]) -> None:
    """Replace the words of a page that is about to be read."""
    if current == SOURCE:
        return
    page = short_name(docname)
    known = catalogue(page, current)
    app.env.note_dependency(str(catalogue_path(page, current)))
    asked, missing = set(), set()

    def look_up(message: str, line: int) -> str | None:
        asked.add(message)
        if message not in known:
            missing.add(message)
        return known.get(message)

    source[0] = rewrite(source[0], look_up)
    share = 1 - len(missing) / len(asked) if asked else 1.0
    shares(app.env)[docname] = share


def translated(page: str, text: str) -> str:
    """The source of a page in the language of this build."""
    known = catalogue(page, current)
    return rewrite(text, lambda message, line: known.get(message)) if known else text


def shares(env: Any) -> dict[str, float]:
    """How much of each page is translated, from 0 to 1."""
    if not hasattr(env, "coursebook_shares"):
        env.coursebook_shares = {}
    result: dict[str, float] = env.coursebook_shares
    return result


def mark(app: Any, doctree: nodes.document, docname: str) -> None:
    """Say under the title of a page that it is not translated, or not wholly."""
    share = shares(app.env).get(docname, 1.0)
    section = next(iter(doctree.findall(nodes.section)), None)
    if current == SOURCE or share == 1 or section is None or app.builder.format != "html":
        return
    if share < HALF:
        words = say("This page is not translated yet; it is shown in English.")
    else:
        words = say("Some sentences of this page are not translated yet.")
    place = next(i for i, node in enumerate(section) if isinstance(node, nodes.title))
    note = nodes.container(classes=["untranslated"])
    note += nodes.paragraph("", words)
    section.insert(place + 1, note)


def is_original(app: Any, docname: str) -> bool:
    """Whether a page of a translated edition still has the English text."""
    return current != SOURCE and shares(app.env).get(docname, 1.0) < HALF


class Titles(SphinxTransform):
    """Translates headings of sections, after references by their English words were noted."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        known = catalogue(short_name(self.env.docname), current)
        if not known:
            return
        plain = {re.sub(r"\{\w+\}|`", "", english): chinese for english, chinese in known.items()}
        slugs = getattr(self.document, "myst_slugs", {})
        for section in self.document.findall(nodes.section):
            title = section[0] if section.children else None
            words = plain.get(title.astext()) if isinstance(title, nodes.title) else None
            if words is None:
                continue
            title.clear()
            for number, part in enumerate(words.split("`")):
                title += nodes.literal("", part) if number % 2 else nodes.Text(part)
            if (slug := section.get("slug")) in slugs:
                line, name, _ = slugs[slug]
                slugs[slug] = (line, name, title.astext())


class Bigrams(SearchLanguage):
    """Search without a dictionary: runs of Chinese are cut into pairs, in pages and in queries."""

    lang = "zh_CN"
    language_name = "Chinese"
    js_splitter_code = """
function splitQuery(query) {
  const found = query.toLowerCase().match(/[\\u3400-\\u9fff]+|[^\\W\\u3400-\\u9fff]+/gu) || [];
  return found.flatMap((run) => /[\\u3400-\\u9fff]/.test(run) && run.length > 2
    ? [...Array(run.length - 1).keys()].map((at) => run.slice(at, at + 2)) : [run]);
}
"""

    def split(self, input: str) -> list[str]:
        """Words of Latin letters as they are; of Chinese, single characters and pairs."""
        found: list[str] = []
        for run in re.findall(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+", input):
            if re.match(r"[\u3400-\u9fff]", run):
                found += list(run)
                found += [run[at : at + 2] for at in range(len(run) - 1)]
            else:
                found.append(run)
        return found


def words_of_scripts() -> str:
    """Attributes of `<html>` from which `book.js` takes its words, where they are not English."""
    if current == SOURCE:
        return ""
    words = {"copy": say("Copy"), "copied": say("Copied"), "nothing": say("Nothing found.")}
    return "".join(
        f" data-say-{key}={json.dumps(text, ensure_ascii=False)}" for key, text in words.items()
    )
