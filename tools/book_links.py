"""Ask every address outside the book that its pages link to whether it is still there."""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import re
import socket
import sys
import urllib.error
import urllib.request
from html import unescape
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
AGENT = "Mozilla/5.0 (compatible; link check of a textbook)"
PATIENCE = 20
SHY = {401, 403, 405, 406, 418, 429, 503, 999}
"""Answers of servers that turn programs away: the page may well be there."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/book_links.py --jobs 4"
    )
    parser.add_argument("--site", type=Path, default=SITE, help="the built book")
    parser.add_argument("--jobs", type=int, default=8, help="addresses asked at a time (8)")
    options = parser.parse_args()
    if not (options.site / "index.html").is_file():
        print(f"{options.site}: no book there yet; run: make book", file=sys.stderr)
        return 2
    links = addresses(options.site)
    hosts = {urlsplit(address).hostname for address in links}
    if hosts and not any(reachable(host) for host in sorted(hosts)[:5] if host):
        print("no network: the links to elsewhere cannot be checked now", file=sys.stderr)
        return 2
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        answers = dict(zip(links, pool.map(ask, links), strict=True))
    dead = {address: said for address, said in answers.items() if said and said not in SHY}
    for address, said in sorted(dead.items()):
        print(f"{', '.join(sorted(links[address]))}: {address}: {said}")
    shy = sum(said in SHY for said in answers.values())
    print(f"{len(links)} addresses: {len(dead)} dead, {shy} turn programs away")
    return 1 if dead else 0


def addresses(site: Path) -> dict[str, set[str]]:
    """Addresses outside the site, each with the pages that link to it."""
    found: dict[str, set[str]] = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        for link in re.findall(r'<a[^>]*\bhref="(https?://[^"]+)"', path.read_text("utf-8")):
            address = urldefrag(unescape(link)).url
            if urlsplit(address).hostname not in (None, "localhost", "127.0.0.1"):
                found.setdefault(address, set()).add(name)
    return found


def reachable(host: str) -> bool:
    """Whether the machine can reach a host at all, itself or through a proxy."""
    if urllib.request.getproxies():
        return True
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def ask(address: str) -> int | str:
    """0 when the address answers well, else its status or the reason of the failure."""
    for method in ("HEAD", "GET"):
        request = urllib.request.Request(address, method=method, headers={"User-Agent": AGENT})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                return 0
        except urllib.error.HTTPError as error:
            answer: int | str = error.code
        except (OSError, http.client.HTTPException, ValueError) as error:
            answer = str(getattr(error, "reason", error)) or type(error).__name__
    return answer


if __name__ == "__main__":
    sys.exit(main())
