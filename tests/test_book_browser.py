"""The built book in a real Chromium that cannot reach any network."""

from __future__ import annotations

import functools
import gzip
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from test_book import CHAPTERS, LISTED, ROOT, build

sys.path.insert(0, str(ROOT / "tools"))
from coursebook import vendor
from serve import Quiet

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
BUDGET = 400_000
SMALLEST_TEXT = 7.0
KINDS = ["index", "reference/laws", "reference/glossary", "reference/gallery", "guides/author"]
KINDS += ["reference/where", "search", *CHAPTERS[-1:]]

SHIFT = """() => new Promise((tell) => {
  let sum = 0;
  const add = (list) => list.getEntries().forEach((entry) => { sum += entry.value; });
  new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => tell(sum), 100);
})"""


@dataclass
class Visit:
    """What happened while a page was open."""

    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing was asked of another host, nothing failed, the console is silent."""
        assert not self.outside
        assert not self.failed
        assert not self.console


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(build()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens an address in a context of its own; the visit is checked when the test ends."""
    opened: list[tuple[Any, Visit]] = []

    def go(url: str, *, size: dict[str, int] = DESKTOP, check: bool = True, **options: Any) -> Any:
        context = browser.new_context(viewport=size, **options)
        visit = Visit()
        home = urlsplit(url).netloc

        def gate(route: Any) -> None:
            address = route.request.url
            if urlsplit(address).netloc == home or address.startswith(("data:", "blob:")):
                visit.fetched.append(address)
                route.continue_()
            else:
                visit.outside.append(address)
                route.abort()

        context.route("**/*", gate)
        page = context.new_page()
        page.on("requestfailed", lambda request: visit.failed.append(request.url))
        page.on("pageerror", lambda error: visit.console.append(str(error)))
        page.on(
            "console",
            lambda said: said.type in ("error", "warning") and visit.console.append(said.text),
        )
        page.goto(url)
        page.visit = visit
        opened.append((context, visit if check else Visit()))
        return page

    yield go
    for context, visit in opened:
        context.close()
        visit.check()


def compressed(site: Path, address: str) -> int:
    """Bytes that a server which compresses text sends for an address."""
    path = site / unquote(urlsplit(address).path).lstrip("/")
    data = (path / "index.html" if path.is_dir() else path).read_bytes()
    packed = path.suffix in (".woff2", ".png", ".wasm", ".pf_meta", ".pf_index", ".pagefind")
    return len(data) if packed else len(gzip.compress(data, 6))


@pytest.mark.parametrize("name", [*LISTED, "search", "404"])
def test_a_page_is_quiet_and_fits_a_phone(server: str, open_page: Any, name: str) -> None:
    page = open_page(f"{server}/{name}.html", size=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true })")
    page.add_style_tag(content="* { content-visibility: visible !important }")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"]
    small = page.evaluate(
        """() => [...document.querySelectorAll("figure[id] svg.fig")].map((svg) => {
             const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
             const sizes = [...svg.querySelectorAll("text")]
               .map((text) => parseFloat(getComputedStyle(text).fontSize) * scale);
             return [svg.closest("figure").id, Math.min(99, ...sizes)];
           })"""
    )
    assert [figure for figure in small if figure[1] < SMALLEST_TEXT] == []


@pytest.mark.parametrize("name", ["index", *CHAPTERS])
def test_a_page_is_light_and_holds_still(server: str, open_page: Any, name: str) -> None:
    page = open_page(f"{server}/{name}.html")
    page.wait_for_load_state("networkidle")
    weight = sum(compressed(build(), address) for address in page.visit.fetched)
    assert weight <= BUDGET, f"{weight} bytes: {page.visit.fetched}"
    shift = page.evaluate(SHIFT)
    assert shift < 0.03


@pytest.mark.parametrize("name", ["index", "reference/laws", *CHAPTERS[:1]])
def test_a_page_works_from_a_file(open_page: Any, name: str) -> None:
    page = open_page((build() / f"{name}.html").as_uri())
    assert page.locator("h1").count() == 1
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("word", ["staleness", "Roofline"])
def test_search_finds_a_term(server: str, open_page: Any, word: str) -> None:
    for base in (server, build().as_uri()):
        page = open_page(f"{base}/search.html?q={word}")
        page.wait_for_selector("#search-results li a")
        page.wait_for_load_state("networkidle")


def test_the_search_field_answers_as_one_types(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("glossary", delay=20)
    page.wait_for_selector(".found a")
    page.locator(".found a").first.click()
    page.wait_for_load_state("networkidle")
    assert "/index.html" not in page.url


def test_the_theme_is_the_system_s_until_one_chooses(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/index.html", color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.locator("button.theme").click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light


def test_a_keyboard_reaches_everything(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/guides/author.html", size=PHONE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    menu = page.locator("a.menu")
    menu.focus()
    page.keyboard.press("Enter")
    assert menu.get_attribute("aria-expanded") == "true"
    assert page.locator("#contents").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#contents").is_visible()


@pytest.mark.parametrize("name", CHAPTERS[:1])
def test_a_term_explains_itself_and_an_answer_opens(server: str, open_page: Any, name: str) -> None:
    page = open_page(f"{server}/{name}.html")
    page.locator("article a[href*='glossary.html#term-']").first.focus()
    assert page.locator("#tip").is_visible()
    assert len(page.locator("#tip").inner_text()) > 10
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    answer = page.locator("details.solution").first
    answer.locator("summary").focus()
    page.keyboard.press("Enter")
    assert answer.get_attribute("open") is not None


@pytest.mark.parametrize("name", CHAPTERS[:1])
def test_paper_shows_the_text_and_cuts_no_line(server: str, open_page: Any, name: str) -> None:
    page = open_page(f"{server}/{name}.html")
    page.emulate_media(media="print")
    assert not page.locator(".contents").is_visible()
    assert not page.locator(".top").is_visible()
    wrap = page.evaluate("getComputedStyle(document.querySelector('pre')).whiteSpace")
    assert wrap == "pre-wrap"


def test_motion_stops_for_those_who_ask(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/index.html", reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_an_unknown_address_leads_back(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/nowhere/at/all.html", check=False)
    page.get_by_role("link", name="The first page of the book").click()
    assert page.title() == "Machine Learning Systems"
    assert not page.visit.outside


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        return (vendor.package(vendor.AXE) / "axe.min.js").read_text(encoding="utf-8")
    except vendor.VendorError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"axe-core cannot be had: {error}")


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_nothing(
    server: str, open_page: Any, axe: str, name: str, scheme: str, size: dict[str, int]
) -> None:
    page = open_page(f"{server}/{name}.html", size=size, color_scheme=scheme)
    page.wait_for_selector("html.settled")
    page.evaluate(axe)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then((r) => r.violations)")
    told = [
        (one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found
    ]
    assert not told
