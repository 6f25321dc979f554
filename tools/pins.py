"""Compile requirements/direct.in to requirements.txt with uv, which is installed when missing.

What is pinned installs on the oldest Python that the course supports, that of Debian 12.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11.2"
HEAD = "# Compiled from requirements/direct.in by `make pins`; do not edit by hand.\n"


def main() -> int:
    if len(sys.argv) > 1:
        print(f"{__doc__}\n\nexample: python tools/pins.py")
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    compiled = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"]
        + ["--python-version", OLDEST_PYTHON]
        + ["--no-emit-index-url", "--no-emit-find-links"]
        + [word for link in links for word in ("--find-links", link)]
        + ["requirements/direct.in"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    pins = re.sub(r"^(torch==[\d.]+)\+cpu$", r"\1", compiled, flags=re.M)
    (ROOT / "requirements.txt").write_text(HEAD + pins, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
