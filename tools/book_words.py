"""Keep the catalogues of a translated edition in step with the English text, and list the gaps.

Every message of every page is written to `book/locale/<language>/LC_MESSAGES/<page>.po`.  Where a
sentence changed, its old translation stays as a fuzzy proposal, which no build uses.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
EXTENSION = BOOK / "_ext" / "coursebook"
sys.path[:0] = [str(BOOK / "_ext"), str(ROOT)]

import yaml  # noqa: E402
from coursebook import boxes, chapters, laws, overview, site, translation  # noqa: E402
from coursebook.messages import WORDS, collect, fences  # noqa: E402
from coursebook.places import PARTS  # noqa: E402

WHOLE = ["interface", "labs", "index", "reference/laws", "reference/glossary"]
WHOLE += ["training/parameter_server"]
"""What a translated edition has completely; of other pages it has at least the title."""
Found = list[tuple[str, str, int]]
"""Messages with the file and the line where they stand."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python tools/book_words.py\n  python tools/book_words.py --list",
    )
    parser.add_argument("--language", default="zh_CN", choices=list(translation.EDITIONS)[1:])
    parser.add_argument("--list", action="store_true", help="only list the gaps, write nothing")
    parser.add_argument("--page", help="begin a page, such as training/collectives")
    options = parser.parse_args()
    for page, messages in messages_of_the_book().items():
        if not options.list:
            begun = page == options.page or is_begun(page, messages, options.language)
            update(page, messages if begun else required(page, messages), options.language)
    missing = gaps(options.language)
    for page, lacking in missing.items():
        for file, line, message in lacking:
            print(f"{file}:{line}: {message[:100]}")
        print(f"{page}: {len(lacking)} of {len(messages_of_the_book()[page])} not translated")
    if not missing:
        print(f"{options.language}: {', '.join(WHOLE)} are translated")
    return 0


@cache
def messages_of_the_book() -> dict[str, Found]:
    """All messages by page, `interface` and `labs` among them."""
    names = chapters.listed_pages(chapters.table_of_contents())
    found = {"interface": interface(), "labs": labs()}
    for name in names:
        file = f"book/{name}.md"
        text = (BOOK / f"{name}.md").read_text(encoding="utf-8")
        found[name] = [(message, file, line) for message, line in collect(text)]
    found["reference/laws"] += sheet(names)
    return {page: once(messages) for page, messages in found.items()}


def once(messages: Found) -> Found:
    """Each message at its first place only."""
    return list(
        {message: (message, file, line) for message, file, line in reversed(messages)}.values()
    )[::-1]


def interface() -> Found:
    """Words of the site itself: what code, templates and scripts hand to `say`, and fixed lists."""
    found: Found = []
    code = [*EXTENSION.glob("*.py"), *EXTENSION.glob("templates/*.html")]
    for path in sorted([*code, *(BOOK / "_static").glob("*.js")]):
        file, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        for said in translation.SAID.finditer(text):
            found.append((said["words"], file, text.count("\n", 0, said.start()) + 1))
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    settings = config["sphinx"]["config"]
    toc = chapters.table_of_contents()
    fixed = [config["title"], *settings["numfig_format"].values(), settings["math_eqref_format"]]
    fixed += [settings["nb_code_prompt_show"], settings["nb_code_prompt_hide"]]
    fixed += [part["caption"] for part in toc["parts"]]
    fixed += [*PARTS.values(), *boxes.PLAIN.values(), *site.FOOTER.values()]
    fixed += [overview.MAP_TITLE, overview.MAP_CAPTION]
    return found + [(words, "_config.yml", 1) for words in fixed]


def labs() -> Found:
    """Titles of all labs, and of the tasks of labs whose chapters are translated."""
    whole = {name.rpartition("/")[2] for name in WHOLE}
    found: Found = []
    for name in chapters.listed_pages(chapters.table_of_contents()):
        slug = name.rpartition("/")[2]
        source = ROOT / "solutions" / slug / "lab.py"
        if name.partition("/")[0] in PARTS and source.is_file():
            lab = boxes.read_lab(source)
            titles = [lab["title"], *(title for title, _ in lab["tasks"] if slug in whole)]
            found += [(title, f"solutions/{slug}/lab.py", 1) for title in titles]
    return found


def sheet(names: list[str]) -> Found:
    """Words of the laws: in `laws.yml` and in the options of `{law}`."""
    found: Found = []

    def add(text: str, file: str, line: int, key: str) -> None:
        if key in ("title", "when") or (key == "form" and WORDS.search(text)):
            found.append((text, file, line))

    for law in laws.read_laws().values():
        for key, text in law.items():
            add(text, "book/reference/laws.yml", 1, key)
    for name in names:
        text = (BOOK / f"{name}.md").read_text(encoding="utf-8")
        for line, key, value in fences(text, "law"):
            add(value, f"book/{name}.md", line, key)
    return found


def required(page: str, messages: Found) -> Found:
    """What must be translated of a page: all of it, or its title and description."""
    if page in WHOLE:
        return messages
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    title = re.search(r"^# (.+)$", text, re.M)
    head = {str(chapters.front_matter(text).get("description", "")), title[1] if title else ""}
    return [message for message in messages if message[0] in head]


def gaps(language: str) -> dict[str, list[tuple[str, int, str]]]:
    """Untranslated messages of what must be translated: page to (file, line, message)."""
    result = {}
    for page, messages in messages_of_the_book().items():
        known = translation.catalogue(page, language)
        lacking = [
            (file, line, message)
            for message, file, line in required(page, messages)
            if message not in known
        ]
        if lacking:
            result[page] = lacking
    return result


def is_begun(page: str, messages: Found, language: str) -> bool:
    """Whether somebody translates the whole page."""
    head = {message for message, _, _ in required(page, messages)}
    return page in WHOLE or not set(translation.catalogue(page, language)) <= head


def update(page: str, messages: Found, language: str) -> None:
    """Bring a page's catalogue up to date; translations that are still right stay as they are."""
    path = translation.catalogue_path(page, language)
    template = Catalog(locale=language, project="mlsys-course", fuzzy=False)
    for message, file, line in messages:
        template.add(message, locations=[(file, line)])
    if path.is_file():
        with path.open("rb") as file:
            catalogue = read_po(file, locale=language)
        catalogue.update(template)
        catalogue.obsolete.clear()
    else:
        catalogue = template
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(chunks(catalogue)))


def chunks(catalogue: Catalog) -> Iterator[bytes]:
    """The file without a date, so that it changes only with its words."""
    buffer = io.BytesIO()
    write_po(
        buffer, catalogue, width=100, omit_header=True, include_previous=True, include_lineno=False
    )
    head = f'msgid ""\nmsgstr ""\n"Language: {catalogue.locale}\\n"\n'
    head += '"Content-Type: text/plain; charset=utf-8\\n"\n\n'
    yield head.encode()
    yield buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
