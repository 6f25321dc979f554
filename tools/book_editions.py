"""What joins the editions of the site: links from each page to the same page in other languages."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from coursebook.translation import EDITIONS

ALTERNATES = re.compile(r"<!-- alternates -->.*?<!-- /alternates -->", re.S)
SWITCH = re.compile(r"<!-- editions -->.*?<!-- /editions -->", re.S)
APART = ("pagefind", "_static", "_images", "_downloads", "_sources", "live", "notebooks")


def tag(language: str) -> str:
    """The name of a language as HTML wants it."""
    return language.replace("_", "-")


def folder(site: Path, language: str) -> Path:
    """Where an edition lies within the site."""
    return site / EDITIONS[language][0]


def present(site: Path) -> list[str]:
    """The languages whose editions are built, English first."""
    return [language for language in EDITIONS if (folder(site, language) / "index.html").is_file()]


def pages(site: Path, language: str) -> dict[str, Path]:
    """Pages of an edition by their path within it."""
    home = folder(site, language)
    others = {prefix.strip("/") for prefix, _ in EDITIONS.values() if prefix}
    apart = set(APART) | (others if home == site or language == "en" else set())
    found = {}
    for path in sorted(home.rglob("*.html")):
        name = path.relative_to(home).as_posix()
        if name.partition("/")[0] not in apart:
            found[name] = path
    return found


def install(built: Path, site: Path, language: str) -> None:
    """Put an edition that was built elsewhere into the site."""
    target = folder(site, language)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(built, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def join(site: Path) -> None:
    """Write into every page the links to its counterparts; a page without any has none."""
    languages = present(site)
    by_language = {language: pages(site, language) for language in languages}
    base = os.environ.get("BOOK_URL", "").rstrip("/")
    for language in languages:
        for name, path in by_language[language].items():
            there = [other for other in languages if name in by_language[other]]
            alternates, switch = "", ""
            if len(there) > 1 and name != "404.html":
                alternates = _alternates(path, name, there, site, base)
                switch = _switch(path, name, language, there, site)
            text = path.read_text(encoding="utf-8")
            joined = ALTERNATES.sub(
                lambda _, new=alternates: f"<!-- alternates -->{new}<!-- /alternates -->", text
            )
            joined = SWITCH.sub(
                lambda _, new=switch: f"<!-- editions -->{new}<!-- /editions -->", joined
            )
            if joined != text:
                path.write_text(joined, encoding="utf-8")


def _address(start: Path, name: str, language: str, site: Path, base: str = "") -> str:
    if base:
        return f"{base}/{EDITIONS[language][0]}{name}"
    target = os.path.relpath(folder(site, language) / name, start.parent)
    return Path(target).as_posix()


def _alternates(path: Path, name: str, there: list[str], site: Path, base: str) -> str:
    links = {tag(language): _address(path, name, language, site, base) for language in there}
    links["x-default"] = links["en"]
    return "".join(
        f'<link rel="alternate" hreflang="{name}" href="{href}">' for name, href in links.items()
    )


def _switch(path: Path, name: str, language: str, there: list[str], site: Path) -> str:
    return "".join(
        f'<a class="edition" hreflang="{tag(other)}" lang="{tag(other)}"'
        f' href="{_address(path, name, other, site)}">{EDITIONS[other][1]}</a>'
        for other in there
        if other != language
    )
