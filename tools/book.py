"""Build the book into _build/html: run the chapters in parallel, then set the pages.

Nothing is done when nothing changed.  A cell that raises, a warning or a broken reference ends the
build with status 1 and a line that names the page.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT), str(ROOT / "tools")]

import book_editions  # noqa: E402
import book_run  # noqa: E402
from coursebook import chapters, vendor  # noqa: E402
from coursebook.translation import EDITIONS  # noqa: E402

BUILD = ROOT / "_build"
SIDE_PAGES = [
    "reference/glossary",
    "reference/bibliography",
    "reference/laws",
    "reference/notation",
]
UNRESOLVED = re.compile(
    r"\[(myst\.xref\w*|ref\.\w+|myst\.iref\w*|coursebook\.lab)\]|reference target not found"
    r"|undefined label|unknown document|term not in glossary|not in any toctree|toc\.\w+"
)
WARNING = re.compile(
    r"^(?P<where>\S*?)(?::(?P<line>\d+))?:? ?(?P<kind>WARNING|ERROR|CRITICAL): (?P<what>.*)"
)


class BookError(Exception):
    """Ends the build; the message is all that the person at the terminal sees."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python tools/book.py\n"
        "  python tools/book.py --page book/training/parameter_server.md --out /tmp/ps",
    )
    parser.add_argument("--page", type=Path, help="build this page only, outside _build/html")
    parser.add_argument("--out", type=Path, help="folder of --page (a folder under _build/pages)")
    parser.add_argument("--cold", action="store_true", help="forget all earlier results first")
    parser.add_argument(
        "--language", choices=list(EDITIONS)[1:], help="build this edition too, into the same site"
    )
    parser.add_argument(
        "--zip", type=Path, metavar="FILE", help="also pack the site, for offline use"
    )
    parser.add_argument("--jobs", type=int, default=2, help="chapters that run at a time (2)")
    options = parser.parse_args(arguments)
    if options.out and not options.page:
        parser.error("--out belongs to --page")
    try:
        if options.page:
            build_page(options.page, options.out, cold=options.cold)
        else:
            build_book(jobs=options.jobs, cold=options.cold)
            if options.language:
                build_edition(options.language)
            if options.zip:
                pack(BUILD / "html", options.zip)
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    return 0


def build_book(*, jobs: int, cold: bool) -> None:
    """The whole site, unless it is there already."""
    started = time.monotonic()
    write_root_toc()
    with lock(BUILD / "book.lock"):
        stamp = BUILD / "html.stamp"
        if cold:
            for folder in (BUILD / "html", BUILD / ".doctrees", BUILD / ".jupyter_cache"):
                shutil.rmtree(folder, ignore_errors=True)
            stamp.unlink(missing_ok=True)
        digest = fingerprint()
        if (
            stamp.is_file()
            and stamp.read_text() == digest
            and (BUILD / "html/index.html").is_file()
        ):
            print("The book is up to date: _build/html/index.html")
            return
        stamp.unlink(missing_ok=True)
        pages = [
            BOOK / f"{name}.md" for name in chapters.listed_pages(chapters.table_of_contents())
        ]
        check_listed(pages)
        run_chapters(pages, BUILD / ".jupyter_cache", jobs)
        problems = sphinx(BOOK, ROOT / "_config.yml", BOOK / "_toc.yml", ROOT)
        if problems:
            shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
            raise BookError("\n".join(problems))
        index_words(BUILD / "html")
        book_editions.join(BUILD / "html")
        stamp.write_text(digest)
    print(f"The book is built in {time.monotonic() - started:.1f} s: _build/html/index.html")


def build_edition(language: str) -> None:
    """The site in another language, beside the English one; no cell runs again."""
    started = time.monotonic()
    folder = BUILD / language
    with lock(BUILD / "book.lock"):
        stamp, digest = folder / "html.stamp", fingerprint()
        place = book_editions.folder(BUILD / "html", language)
        if stamp.is_file() and stamp.read_text() == digest and (place / "index.html").is_file():
            print(f"The edition {language} is up to date: {place.relative_to(ROOT)}/index.html")
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        config["execute"]["cache"] = str(BUILD / ".jupyter_cache")
        config["sphinx"]["local_extensions"] = {"coursebook": str(BOOK / "_ext")}
        config["sphinx"]["config"]["language"] = language
        (folder / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        problems = sphinx(BOOK, folder / "_config.yml", BOOK / "_toc.yml", folder)
        if problems:
            raise BookError("\n".join(problems))
        index_words(folder / "_build" / "html")
        book_editions.install(folder / "_build" / "html", BUILD / "html", language)
        book_editions.join(BUILD / "html")
        stamp.write_text(digest)
    seconds = time.monotonic() - started
    print(
        f"The edition {language} is built in {seconds:.1f} s: {place.relative_to(ROOT)}/index.html"
    )


def pack(site: Path, target: Path) -> None:
    """Pack the site into one zip; its index.html works from the folder that it is unpacked to."""
    part = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(file for file in site.rglob("*") if file.is_file()):
                archive.write(path, Path("mlsys-book") / path.relative_to(site))
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BookError(f"{target}: cannot be written: {error.strerror}") from error
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def build_page(page: Path, out: Path | None, *, cold: bool) -> None:
    """One page with the glossary, the bibliography and the law sheet beside it."""
    path = page.resolve()
    if not path.is_file() or BOOK not in path.parents or path.suffix != ".md":
        raise BookError(f"{page}: not a page of the book (a .md file under book/)")
    name = path.relative_to(BOOK).with_suffix("").as_posix()
    folder = (out or BUILD / "pages" / path.stem).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / "book.lock"):
        if cold:
            shutil.rmtree(folder / "_build", ignore_errors=True)
        run_chapters([path], folder / "_build" / ".jupyter_cache", 1)
        side = [{"file": other} for other in SIDE_PAGES if other != name]
        toc = {
            "format": "jb-book",
            "root": name,
            "parts": [{"caption": "Beside", "chapters": side}],
        }
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        config["sphinx"]["local_extensions"] = {"coursebook": str(BOOK / "_ext")}
        (folder / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
        (folder / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        problems = sphinx(BOOK, folder / "_config.yml", folder / "_toc.yml", folder)
        beside = tuple(f"book/{other}.md" for other in SIDE_PAGES)
        own = [line for line in problems if not UNRESOLVED.search(line)]
        for line in problems:
            if line not in own and (name in line or "coursebook" in line):
                print(f"not an error here: {line}")
        own = [line for line in own if not line.startswith(beside)]
        if own:
            shutil.rmtree(folder / "_build" / ".doctrees", ignore_errors=True)
            raise BookError("\n".join(own))
    print(folder / "_build" / "html" / f"{name}.html")


def write_root_toc() -> None:
    """Keep the table of contents that `jupyter-book build .` reads equal to the book's own."""
    lines = []
    for line in (BOOK / "_toc.yml").read_text(encoding="utf-8").splitlines():
        lines.append(re.sub(r"^(\s*(?:- )?(?:root|file): )", r"\1book/", line))
    text = "# Written from book/_toc.yml by `make book`.\n" + "\n".join(lines) + "\n"
    target = ROOT / "_toc.yml"
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def check_listed(pages: list[Path]) -> None:
    """Every page of the table of contents must be there."""
    for page in pages:
        if not page.is_file():
            raise BookError(f"book/_toc.yml: lists {page.relative_to(BOOK)}, which is not there")


def run_chapters(pages: list[Path], cache: Path, jobs: int) -> None:
    """Execute what the cache does not know yet; a line of progress for each page."""
    failed = []
    executed = [page for page in pages if book_run.is_notebook(page)]
    for number, result in enumerate(book_run.run(executed, cache, jobs), 1):
        where = result.page.relative_to(BOOK)
        how = "unchanged, took" if result.cached else "executed in"
        if result.error:
            how = "FAILED after"
            failed.append(f"book/{where}: {result.error}")
        print(f"[{number}/{len(executed)}] {where} {how} {result.seconds:.1f} s", flush=True)
    if failed:
        raise BookError("\n".join(failed))


def sphinx(source: Path, config: Path, toc: Path, out: Path) -> list[str]:
    """Run Jupyter Book; returns its warnings and errors, each on one line."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(source)]
    command += ["--config", str(config), "--toc", str(toc), "--path-output", str(out)]
    command += ["-n", "-W", "--keep-going", "--quiet"]
    fetch_vendored()
    surroundings = environment()
    if (out == ROOT or out.name in EDITIONS) and has_pagefind():
        surroundings["COURSEBOOK_PAGEFIND"] = "1"
    log = out / "_build" / "book.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    status = run_logged(command, log, surroundings)
    text = strip_colour(log.read_text(encoding="utf-8", errors="replace"))
    problems = [clean(line) for line in text.splitlines() if WARNING.match(line)]
    causes = re.findall(r"^[\w.]+(?:Error|Exception): .+", text, re.M)[:1]
    if status and (causes or not problems):
        problems += causes or [f"Jupyter Book ended with status {status}"]
        problems.append(f"its whole output: {log}")
    return list(dict.fromkeys(problems))


def fetch_vendored() -> None:
    """Fetch fonts, styles and the Python of cells that run in the page, or do without."""
    look, cells = "its fonts and styles", "cells that run in the page"
    for pin, lost in {
        vendor.KATEX: look,
        vendor.SERIF: look,
        vendor.SANS: look,
        vendor.PYODIDE: cells,
        vendor.NUMPY: cells,
    }.items():
        try:
            vendor.package(pin)
        except vendor.VendorError as error:
            print(f"without {lost}: {error}", flush=True)


def run_logged(command: list[str], log: Path, surroundings: dict[str, str]) -> int:
    """Run to the end with all output in `log`; nothing that it started is left behind."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=surroundings, stdout=file, stderr=file, start_new_session=True
        )
        try:
            return process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def index_words(site: Path) -> None:
    """Pagefind's index, which the search field uses where the site is served over HTTP."""
    if not has_pagefind():
        print("pagefind is not installed: the search field opens the search page instead")
        return
    parts = sorted(path.name for path in BOOK.iterdir() if path.is_dir())
    pages = f"{{*.html,{{{','.join(parts)}}}/**/*.html}}"
    command = [sys.executable, "-m", "pagefind", "--site", str(site), "--quiet", "--glob", pages]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"pagefind: {strip_colour(done.stderr or done.stdout).strip()}")
    for name in ("pagefind-*ui*", "pagefind-highlight.js", "pagefind-component*"):
        for path in (site / "pagefind").glob(name):
            path.unlink()


def has_pagefind() -> bool:
    return importlib.util.find_spec("pagefind") is not None


def environment() -> dict[str, str]:
    """What Jupyter Book runs in: no colours, a clock that does not change what is written."""
    return {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}


def strip_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def clean(line: str) -> str:
    """A warning of Sphinx with a path that one can type."""
    return line.replace(f"{ROOT}/", "").strip()


def fingerprint() -> str:
    """A hash of everything that the site is made of: texts, extension, labs, versions."""
    digest = hashlib.sha256(json.dumps(book_run.versions(), sort_keys=True).encode())
    digest.update(os.environ.get("BOOK_URL", "").encode())
    roots = [BOOK, ROOT / "labs", ROOT / "solutions", ROOT / "tools", ROOT / "_config.yml"]
    for path in sorted(
        file for root in roots for file in ([root] if root.is_file() else root.rglob("*"))
    ):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
            digest.update("/".join(parts).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file; says so when another build has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another build is at work; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
