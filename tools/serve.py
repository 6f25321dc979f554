"""Serve the built book on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).resolve().parent.parent / "_build" / "html"


class Quiet(SimpleHTTPRequestHandler):
    """A file server that reports failures only and answers unknown paths with the book's page."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code)[:1] in "45":
            super().log_request(code, size)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/serve.py --port 8080"
    )
    parser.add_argument("--port", type=int, default=8000, help="port on localhost (8000)")
    port = parser.parse_args().port
    if not (SITE / "index.html").is_file():
        print(f"{SITE}: no book there yet; run: make book", file=sys.stderr)
        return 2
    handler = functools.partial(Quiet, directory=str(SITE))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        print(
            f"port {port}: {error.strerror}; choose another: make serve PORT={port + 1}",
            file=sys.stderr,
        )
        return 2
    print(f"The book is at http://localhost:{port} and what lies where at")
    print(f"http://localhost:{port}/reference/where.html; Ctrl-C stops the server.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
