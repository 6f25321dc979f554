"""The Chinese edition: its catalogues, its pages, and reading it in a real Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from babel.messages.pofile import read_po
from test_book import LISTED, ROOT, SITE, Page, Reader, build
from test_book_browser import browser, open_page, server  # noqa: F401

sys.path.insert(0, str(ROOT / "tools"))
import book_words
from coursebook import live, messages, translation

CHINESE = "zh_CN"
ENOUGH = 0.9
"""A required page may lack so much before this fails: whoever edits an English sentence is not
asked for Chinese. The page says that it is partly English, and `make words` lists the gaps."""


@cache
def edition() -> Path:
    """The Chinese edition, built unless it is up to date."""
    build()
    done = subprocess.run(
        [sys.executable, "tools/book.py", "--language", CHINESE],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert not re.search("executed in", done.stdout), "a chapter ran a second time"
    return SITE / "zh"


@cache
def read(name: str) -> tuple[str, Page]:
    text = (edition() / f"{name}.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    return text, reader.page


@pytest.mark.parametrize("page", book_words.WHOLE)
def test_a_required_page_is_translated(page: str) -> None:
    asked = book_words.messages_of_the_book()[page]
    lacking = book_words.gaps(CHINESE).get(page, [])
    for file, line, message in lacking:
        warnings.warn(f"{file}:{line}: not translated: {message[:80]}", stacklevel=1)
    assert len(lacking) <= (1 - ENOUGH) * len(asked)


def test_catalogues_hold_what_the_markup_needs() -> None:
    """A translation keeps the roles, links and formulas of its message."""
    for path in sorted((translation.LOCALE / CHINESE).rglob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=CHINESE):
                if message.id and message.string and not message.fuzzy:
                    english, chinese = targets(str(message.id)), targets(str(message.string))
                    assert chinese == english, (path.name, message.id)
                    assert re.search("[\u4e00-\u9fff]", str(message.string)), message.id


def targets(text: str) -> dict[str, list[str]]:
    """What a message refers to, by the kind of reference."""
    found: dict[str, list[str]] = {}
    for role, inner in re.findall(r"\{([\w:]+)\}`([^`]+)`", text):
        target = re.sub(r".*<(.+)>", r"\1", inner).lower()
        found.setdefault(role, []).append(target)
    found["link"] = re.findall(r"\]\(([^)\s]+)\)", text)
    found["field"] = re.findall(
        r"(?<!\\)\{\w+(?::\w+)?\}(?!`)", "" if "$" in text or "\\" in text else text
    )
    return {kind: sorted(set(names)) for kind, names in found.items()}


def test_all_pages_are_there_and_their_links_hold() -> None:
    broken = []
    for name in LISTED:
        _, page = read(name)
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = PurePosixPath("zh") / f"{name}.html"
            if parts.path:
                target = PurePosixPath(os.path.normpath(target.parent / unquote(parts.path)))
            if not (SITE / target).is_file():
                broken.append((name, link))
            elif parts.fragment and target.parts[0] == "zh" and target.suffix == ".html":
                other = target.relative_to("zh").with_suffix("").as_posix()
                if unquote(parts.fragment) not in read(other)[1].ids:
                    broken.append((name, link))
    assert not broken


def test_ids_are_those_of_the_english_page() -> None:
    """So that a link to a section leads to the same section in either language."""
    english = (SITE / "training/parameter_server.html").read_text(encoding="utf-8")
    chinese, page = read("training/parameter_server")
    assert set(re.findall(r'<section id="([^"]+)"', english)) <= set(page.ids)
    assert "这个键归谁？" in chinese
    assert '<html lang="zh-CN"' in chinese


def test_whatever_is_not_translated_says_so() -> None:
    for name in LISTED:
        text, _ = read(name)
        source = (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")
        known = translation.catalogue(name, CHINESE)
        asked = [message for message, _ in messages.collect(source)]
        lacking = sum(message not in known for message in asked)
        assert ('class="untranslated' in text) == (lacking > 0), name


def test_buttons_and_calculators_speak_chinese() -> None:
    """Also what their scripts say later: the page carries every word of theirs."""
    text, _ = read("training/memory")
    box = re.search(
        r'data-calculator="zero"(.*?)<script[^>]* class="calculator-words">(.*?)</script>',
        text,
        re.DOTALL,
    )
    assert box is not None
    for words in ("Try it", "Given", "devices", "optimiser", "billion", "Stage", "fits"):
        assert words not in box[1]
    script = (live.BOOK / "_static" / "calculators.js").read_text(encoding="utf-8")
    assert set(json.loads(box[2])) == {
        found["words"] for found in translation.SAID.finditer(script)
    }
    if 'class="live"' not in text:
        pytest.skip("Python for the page cannot be had, so there are no buttons")
    assert re.findall(r'class="live-\w+"(?: hidden)?>(.*?)<', text)[:4] == [
        "运行", "编辑", "停止", "还原",
    ]  # fmt: skip
    assert "Loading Python …&quot;: &quot;正在加载" in text


def test_every_page_leads_to_the_same_page_in_the_other_language() -> None:
    for name in [*LISTED, "search"]:
        chinese, _ = read(name)
        english = (SITE / f"{name}.html").read_text(encoding="utf-8")
        up = "../" * name.count("/")
        assert f'hreflang="en" lang="en" href="{up}../{name}.html">English</a>' in chinese
        assert f'hreflang="zh-CN" lang="zh-CN" href="{up}zh/{name}.html">中文</a>' in english
        for page in (english, chinese):
            assert page.count('<link rel="alternate" hreflang=') == 3


def test_an_edited_sentence_becomes_a_listed_gap() -> None:
    source = "# One\n\nA sentence that\nruns on.\n\n- item\n\n```{code-cell} ipython3\nx = 1\n```\n"
    known = {"A sentence that runs on.": "一句话。", "item": "项", "One": "一"}
    assert messages.rewrite(source, lambda message, line: known.get(message)) == (
        "# One\n\n一句话。\n\n- 项\n\n```{code-cell} ipython3\nx = 1\n```\n"
    )
    edited = source.replace("runs on", "ends")
    assert "A sentence that\nends." in messages.rewrite(edited, lambda m, line: known.get(m))
    assert messages.collect(edited)[1] == ("A sentence that ends.", 3)


def test_figures_boxes_and_options_are_messages_and_code_is_none() -> None:
    source = (
        "---\ndescription: About it\n---\n"
        "```{code-cell} ipython3\n:mystnb:\n:  figure:\n:    caption: |\n"
        ":      Two\n:      lines.\n"
        ':  image:\n:    alt: "With: a colon"\nprint("no message")\n```\n'
        ":::{pitfall} A *trap*\nText with $x$.\n:::\n$$ a_{\\text{fast}} $$ (eq-a)\n$$ b $$\n"
        "Term\n: What it is\n  about.\n"
    )
    assert [message for message, _ in messages.collect(source)] == [
        "About it",
        "Two lines.",
        "With: a colon",
        "A *trap*",
        "Text with $x$.",
        "$$ a_{\\text{fast}} $$ (eq-a)",
        "Term",
        "What it is about.",
    ]


@pytest.mark.browser
@pytest.mark.parametrize("phrase", ["内存带宽", "参数服务器", "陈旧度上界"])
def test_search_finds_a_phrase(open_page: Any, phrase: str) -> None:  # noqa: F811
    """From a file, where Sphinx's index is searched."""
    page = open_page(f"{(edition() / 'search.html').as_uri()}?q={phrase}")
    page.wait_for_selector("#search-results li a")
    page.wait_for_load_state("networkidle")


@pytest.mark.browser
def test_the_search_field_finds_a_phrase(server: str, open_page: Any) -> None:  # noqa: F811
    """Over HTTP, where Pagefind's index is searched; its extended build segments Chinese."""
    edition()
    page = open_page(f"{server}/zh/index.html")
    page.keyboard.press("/")
    page.keyboard.insert_text("一致性哈希")
    page.wait_for_selector(".found a")
    page.locator(".found a").first.click()
    page.wait_for_load_state("networkidle")
    assert "/zh/" in page.url


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_quiet_and_leads_to_the_other_language(
    server: str,  # noqa: F811
    open_page: Any,  # noqa: F811
    width: int,
) -> None:
    edition()
    size = {"width": width, "height": 844}
    page = open_page(f"{server}/zh/training/parameter_server.html#hot-keys", size=size)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("a.edition").click()
    page.wait_for_url("**/training/parameter_server.html#hot-keys")
    assert "/zh/" not in page.url
