"""Measure the built book against what it promises, print the table, and fail on a miss.

Weight, speed and movement of the first view, Lighthouse's scores, what axe and HTML_CodeSniffer
(pa11y's runner) find, overflow on a phone, and how long builds take.  The site is served with
compression; Chromium can reach nothing else.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "tools")]

from book_front import FLAGS  # noqa: E402
from coursebook import chapters, vendor  # noqa: E402
from coursebook.places import PARTS  # noqa: E402
from serve import Quiet  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TEXT = (".html", ".css", ".js", ".svg", ".json", ".txt", ".xml", ".ipynb")
PARTS_OF_AUDIT = ("pages", "findings", "lighthouse", "builds")
SCORES = {"performance": 95, "accessibility": 100, "best-practices": 100, "seo": 100}
PATIENCE = 180
MOVED = """() => new Promise((tell) => {
  let sum = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { sum += entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => setTimeout(() => tell(sum)));
})"""
AXE = """axe.run({ exclude: [".katex-html"] }, { resultTypes: ["violations"] })
  .then((r) => r.violations.map((v) => v.id))"""
SHOW_ALL = "* { content-visibility: visible !important }"
SLOWER = 4
"""How much slower than this machine a phone is taken to be, as Lighthouse does."""
LONG = 50
"""Milliseconds from which on a task blocks."""
SNIFF = """() => new Promise((tell) => HTMLCS.process("WCAG2AA", document, () => tell(
  HTMLCS.getMessages().filter((m) => m.type === HTMLCS.ERROR).map((m) => m.code))))"""


class AuditError(Exception):
    """The audit cannot go on; the message is one line that says what to do."""


@dataclass(frozen=True)
class Figure:
    """One measured figure: its bound, the worst value, and where that was."""

    name: str
    bound: float
    value: float
    unit: str = ""
    where: str = ""
    least: bool = False

    @property
    def kept(self) -> bool:
        return self.value >= self.bound if self.least else self.value <= self.bound

    def row(self) -> tuple[str, str, str, str, str]:
        """Name, bound, value, verdict and place, as the table shows them."""
        sign = "≥" if self.least else "≤"
        bound, value = (f"{number:g}{self.unit}" for number in (self.bound, self.value))
        return self.name, f"{sign} {bound}", value, "ok" if self.kept else "MISS", self.where


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python tools/book_audit.py --only lighthouse --page training/memory",
    )
    parser.add_argument("--only", choices=PARTS_OF_AUDIT, action="append", help="these parts only")
    parser.add_argument("--page", action="append", metavar="NAME", help="these pages only")
    parser.add_argument("--runs", type=int, default=5, help="Lighthouse's runs on a page (5)")
    options = parser.parse_args(arguments)
    wanted = options.only or PARTS_OF_AUDIT
    figures: list[Figure] = []
    try:
        for needed, command in (
            (SITE / "index.html", "make book"),
            (Path(CHROMIUM), "apt-get install chromium"),
        ):
            if not needed.is_file():
                raise AuditError(f"{needed}: not there; run: {command}")
        listed = chapters.listed_pages(chapters.table_of_contents())
        pages = options.page or [*listed, "search"]
        heavy = options.page or [
            name for name in listed if name.partition("/")[0] in {"index", *PARTS}
        ]
        if unknown := [name for name in pages if not (SITE / f"{name}.html").is_file()]:
            raise AuditError(f"{unknown[0]}: no such page in {SITE}")
        with served(SITE) as base:
            if {"pages", "findings"} & set(wanted):
                figures += look(base, pages, heavy, checkers() if "findings" in wanted else {})
            if "lighthouse" in wanted:
                figures += lighthouse(base, heavy, options.runs)
        if "builds" in wanted:
            figures += builds()
    except (AuditError, vendor.VendorError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(figures))
    return 0 if all(figure.kept for figure in figures) else 1


def table(figures: list[Figure]) -> str:
    """The figures as aligned text, and a line that sums them up."""
    rows = [("figure", "bound", "worst", "", "where"), *(figure.row() for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip() for row in rows]
    missed = sum(not figure.kept for figure in figures)
    return "\n".join([*lines, f"{len(figures) - missed} kept, {missed} missed"])


def worst(
    name: str, bound: float, found: dict[str, float], unit: str = "", *, least: bool = False
) -> Figure:
    """The figure of the page that is furthest from keeping the bound."""
    where = (min if least else max)(found, key=lambda page: found[page])
    return Figure(name, bound, found[where], unit, where, least)


class Packed(Quiet):
    """Serves text compressed, as any host of static sites does."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        if path.suffix not in TEXT or not path.is_file():
            super().do_GET()
            return
        body = packed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(body)


@functools.cache
def packed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 6)


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of the site while it is served."""
    handler = functools.partial(Packed, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def checkers() -> dict[str, tuple[str, str]]:
    """The tools that look for what keeps readers out: script, and how to ask it."""
    axe = vendor.package(vendor.AXE) / "axe.min.js"
    sniffer = vendor.package(vendor.HTMLCS) / "build" / "HTMLCS.js"
    return {
        "axe": (axe.read_text(encoding="utf-8"), AXE),
        "pa11y's runner": (sniffer.read_text(encoding="utf-8"), SNIFF),
    }


def look(
    base: str, pages: list[str], heavy: list[str], tools: dict[str, tuple[str, str]]
) -> list[Figure]:
    """What Chromium itself tells of every page: weight, movement, overflow, and findings."""
    from playwright.sync_api import sync_playwright

    weight: dict[str, float] = {}
    moved: dict[str, float] = {}
    over: dict[str, float] = {}
    outside: dict[str, float] = {}
    busy: dict[str, float] = {}
    found: dict[str, dict[str, float]] = {tool: {} for tool in tools}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for number, name in enumerate(pages, 1):
            told: list[str] = []
            if name in heavy:
                busy[name] = blocked(chromium, f"{base}/{name}.html")
            for size in (DESKTOP, PHONE):
                for scheme in ("light", "dark"):
                    page = chromium.new_page(viewport=size, color_scheme=scheme)
                    answers: list[Any] = []
                    page.on("response", lambda answer, kept=answers: kept.append(answer))
                    page.goto(f"{base}/{name}.html", wait_until="networkidle")
                    page.wait_for_selector("html.settled")
                    key = f"{name} {size['width']} {scheme}"
                    moved[key] = round(page.evaluate(MOVED), 3)
                    page.add_style_tag(content=SHOW_ALL)
                    width = page.evaluate("document.documentElement.scrollWidth")
                    outside[key] = sum(not answer.url.startswith(base) for answer in answers)
                    if size is PHONE:
                        over[key] = width - size["width"]
                    if name in heavy and scheme == "light":
                        weight[key] = round(sum(map(received, answers)) / 1000)
                    for tool, (script, ask) in tools.items():
                        page.evaluate(script)
                        codes = page.evaluate(ask)
                        found[tool][key] = len(codes)
                        told += [f"  {key}: {tool}: {code}" for code in sorted(set(codes))]
                    page.close()
            print(f"[{number}/{len(pages)}] {name} looked at", *told, sep="\n", flush=True)
        chromium.close()
    return [
        *([worst("first view of a chapter, compressed", 400, weight, " kB")] if weight else []),
        *([worst("blocking time on a phone, by processor time", 50, busy, " ms")] if busy else []),
        worst("layout shift", 0.03, moved),
        worst("wider than a phone of 390 px by", 0, over, " px"),
        worst("requests to elsewhere", 0, outside),
        *(
            worst(f"findings of {tool}, light and dark, 1280 and 390 px", 0, pages)
            for tool, pages in found.items()
        ),
    ]


def blocked(chromium: Any, address: str) -> float:
    """Milliseconds over 50 of each task after the first paint, on a processor four times slower.

    Processor time is the same on a busy machine, which Lighthouse's figures are not.
    """
    page = chromium.new_page(viewport=PHONE, device_scale_factor=1.75, is_mobile=True)
    chromium.start_tracing(page=page, categories=["toplevel", "loading"])
    page.goto(address, wait_until="networkidle")
    page.wait_for_selector("html.settled")
    events = json.loads(chromium.stop_tracing())["traceEvents"]
    page.close()
    painted = [event for event in events if event["name"] == "firstContentfulPaint"][-1]
    tasks = {
        event["ts"]: event.get("tdur", 0)
        for event in events
        if event["name"].endswith("RunTask")
        and (event["pid"], event["tid"]) == (painted["pid"], painted["tid"])
        and event["ts"] + event.get("dur", 0) > painted["ts"]
    }
    return round(sum(max(0, SLOWER * spent / 1000 - LONG) for spent in tasks.values()))


def received(answer: Any) -> int:
    """Bytes of an answer as they were sent, with its head."""
    sizes = answer.request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


def lighthouse(base: str, pages: list[str], runs: int) -> list[Figure]:
    """Lighthouse on an emulated phone: the median of the runs for speed, one for the rest."""
    program = tree() / "node_modules" / "lighthouse" / "cli" / "index.js"
    scores: dict[str, dict[str, float]] = {name: {} for name in SCORES}
    blocked: dict[str, float] = {}
    shifted: dict[str, float] = {}
    for number, name in enumerate(pages, 1):
        reports = [
            report(program, f"{base}/{name}.html", [*SCORES] if run == 0 else ["performance"])
            for run in range(runs)
        ]
        for score in SCORES:
            given = [r["categories"][score]["score"] for r in reports if score in r["categories"]]
            scores[score][name] = round(100 * statistics.median(map(float, given)))
        blocked[name] = round(median_of(reports, "total-blocking-time"))
        shifted[name] = round(median_of(reports, "cumulative-layout-shift"), 3)
        speeds = [round(100 * r["categories"]["performance"]["score"]) for r in reports]
        print(f"[{number}/{len(pages)}] {name}: performance {speeds}", flush=True)
        for audit in reports[0]["audits"].values():
            if audit.get("score") == 0 and audit.get("scoreDisplayMode") == "binary":
                print(f"  {audit['id']}: {audit['title']}")
    return [
        *(
            worst(f"Lighthouse on a phone, {name}", bound, scores[name], least=True)
            for name, bound in SCORES.items()
        ),
        worst("total blocking time, a phone", 50, blocked, " ms"),
        worst("layout shift, a phone", 0.03, shifted),
    ]


def median_of(reports: list[Any], audit: str) -> float:
    return statistics.median(r["audits"][audit]["numericValue"] for r in reports)


def report(program: Path, address: str, categories: list[str]) -> Any:
    """One run of Lighthouse as its JSON."""
    flags = " ".join(["--headless=new", *FLAGS])
    command = [str(vendor.node()), str(program), address, "--output=json", "--quiet"]
    command += [f"--only-categories={','.join(categories)}", f"--chrome-flags={flags}"]
    environment = {**os.environ, "CHROME_PATH": CHROMIUM}
    for _ in range(2):  # a trace is lost now and then on a busy machine
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode == 0:
            result = json.loads(done.stdout)
            if not result.get("runtimeError"):
                return result
    raise AuditError(f"lighthouse {address}: {(done.stderr or done.stdout).strip()[-300:]}")


def tree() -> Path:
    """The packages of `tools/audit/package-lock.json`, installed with its hashes; kept."""
    source = ROOT / "tools" / "audit"
    lock = (source / "package-lock.json").read_bytes()
    target = vendor.VENDOR / f"audit-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not target.is_dir():
        vendor.VENDOR.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=vendor.VENDOR) as name:
            folder = Path(name) / "audit"
            shutil.copytree(source, folder)
            command = [*vendor.npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise AuditError(f"npm ci of tools/audit: {done.stderr.strip()[-300:]}")
            folder.rename(target)
    return target


def builds() -> list[Figure]:
    """Times of a first build, an unchanged one, and one after an edit, in a copy of the tree."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "book"
        copy.mkdir()
        for folder in ("book", "labs", "solutions", "autograder", "tools"):
            shutil.copytree(
                ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "_config.yml", copy)
        (copy / "_build").mkdir()
        (copy / "_build" / "vendor").symlink_to(vendor.VENDOR)
        first = timed(copy)
        unchanged = timed(copy)
        page = max((copy / "book").glob("*/*.md"), key=lambda path: path.stat().st_size)
        page.write_text(
            page.read_text(encoding="utf-8") + "\nOne sentence more.\n", encoding="utf-8"
        )
        edited = timed(copy)
    return [
        Figure("first build of the book", 360, first, " s"),
        Figure("build when nothing changed", 8, unchanged, " s"),
        Figure("build when one page was edited", 10, edited, " s", page.stem),
    ]


def timed(copy: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "tools/book.py"], cwd=copy, capture_output=True, text=True
    )
    if done.returncode:
        raise AuditError(f"the book does not build: {done.stderr.strip()[-500:]}")
    return round(time.monotonic() - began, 1)


if __name__ == "__main__":
    sys.exit(main())
