"""The code reads well: formatted, linted, typed; the labs are released from their sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
