"""Take the picture of the first page that the README shows, from the built book."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/book_front.py"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "book" / "_static" / "front.png")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    options = parser.parse_args()
    page = ROOT / "_build" / "html" / "index.html"
    for needed, command in (
        (page, "make book"),
        (Path(options.chromium), "apt-get install chromium"),
    ):
        if not needed.is_file():
            print(f"{needed}: not there; run: {command}", file=sys.stderr)
            return 2
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        window = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        window.goto(page.as_uri())
        window.wait_for_function("document.fonts.size === 0 || document.fonts.status === 'loaded'")
        window.screenshot(path=options.out)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
