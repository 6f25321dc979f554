"""The code reads well: formatted, linted, typed; the labs are released from their sources; what is
pinned installs on the Python of Debian 12."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

COMMANDS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "labs are current": ["autograder", "release", "--check"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_passes(root: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_pin_admits_the_oldest_python(root: Path) -> None:
    oldest = re.search(r'OLDEST_PYTHON = "(.+)"', (root / "tools" / "pins.py").read_text())
    assert oldest
    pins = re.findall(r"^([\w.-]+)==", (root / "requirements.txt").read_text(), re.M)
    assert len(pins) > 100
    asked: dict[str, str] = {}
    for name in pins:
        try:
            asked[name] = metadata(name).get("Requires-Python") or ""
        except PackageNotFoundError:  # pinned for another system
            continue
    assert len(asked) > 100
    assert [n for n, what in asked.items() if not SpecifierSet(what).contains(oldest[1])] == []
