"""What the tests share: a missing system package skips visibly, and never in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {
    "browser": ("chromium", "apt-get install chromium"),
    "sandbox": ("bwrap", "apt-get install bubblewrap"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, (program, command) in NEEDS.items():
        if item.get_closest_marker(mark) and not shutil.which(program):
            pytest.skip(f"{program} is missing; to run this test: {command}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI nothing may be skipped: what is missing there must be installed by `.ci/run`."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"{len(skipped)} skipped: in CI that is a failure", red=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
