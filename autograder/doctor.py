"""What of this machine works, and how to mend what does not.

Every check gives one `Finding`, also when it could not be made.  In a student's bundle only what a
student needs is looked at; in the course itself the sandbox, Chromium, the class and its gradebook
too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autograder.course import Course

State = Literal["works", "differs", "missing"]
LOW_DISK, NO_DISK = 2 * 10**9, 100 * 10**6
LOW_MEMORY = 3 * 2**30
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """One thing of the machine: what was found, and how to mend it where that is needed.

    `essential` says that a student cannot work, or a class cannot be graded, without it.
    """

    what: str
    state: State
    found: str
    mend: str = ""
    essential: bool = True

    @property
    def fatal(self) -> bool:
        return self.essential and self.state == "missing"


def examine(course: Course) -> Iterator[Finding]:
    """Look at everything there is to look at; a check that fails itself is a finding."""
    checks: list[Callable[[Course], Finding]] = [
        python,
        packages,
        kernel,
        notebook,
        memory,
        loopback,
        disk,
    ]
    if course.solutions.is_dir():
        checks += [sandbox, chromium, class_folder, gradebook]
    for look in checks:
        name = look.__name__.replace("_", " ")
        try:
            yield look(course)
        except Exception as error:
            yield Finding(name, "missing", f"{type(error).__name__}: {error}".splitlines()[0])


def python(course: Course) -> Finding:
    """The version is enough: with an older one than 3.11 the package does not install."""
    return Finding("python", "works", f"{platform.python_version()}, {sys.executable}")


def packages(course: Course) -> Finding:
    """The installed packages against requirements.txt: pins in the course, ranges in a bundle."""
    from packaging.requirements import InvalidRequirement, Requirement

    path = course.root / "requirements.txt"
    mend = (
        "make install" if course.solutions.is_dir() else "pip install -e . in the course's folder"
    )
    if not path.is_file():
        return Finding("packages", "differs", f"{path}: no such file", essential=False)
    absent, other, count = [], [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        text = re.split(r"\s#|\s\\$|\s--hash", line.strip())[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            other.append(f"{text}: cannot be read")
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        count += 1
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(wanted.name)
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            other.append(f"{wanted.name} {version} instead of {wanted.specifier}")
    if absent:
        return Finding("packages", "missing", f"not installed: {_some(absent)}", mend)
    if other:
        return Finding("packages", "differs", _some(other), mend, essential=False)
    return Finding("packages", "works", f"{count} as in {path.name}")


def _some(items: list[str], most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def kernel(course: Course) -> Finding:
    """Whether Jupyter can start the kernel that the labs name, python3."""
    if not importlib.util.find_spec("ipykernel"):
        return Finding("kernel", "missing", "ipykernel is not installed", "pip install jupyterlab")
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding(
            "kernel",
            "missing",
            "there is no kernel python3",
            f"{sys.executable} -m ipykernel install --sys-prefix",
        )
    ours = {"python", "python3", "python{}.{}".format(*sys.version_info)}
    if program not in ours and not shutil.which(program):  # Jupyter starts its own for those
        return Finding("kernel", "missing", f"kernel python3 names {program}, which is not there")
    return Finding("kernel", "works", f"python3: {program}")


def notebook(course: Course) -> Finding:
    """Whether a cell that imports what the labs import runs as it does in `check`."""
    from autograder.runner import run

    source = "import numpy, cloudpickle, matplotlib.pyplot\nfrom autograder import labkit"
    result = run([("probe", source)], cell_seconds=60).get("probe")
    if result is None or result.status != "passed":
        why = result.message if result else "it was not run"
        return Finding("notebook", "missing", f"a first cell does not run: {why}")
    return Finding("notebook", "works", f"a first cell runs ({result.seconds:.1f} s)")


def memory(course: Course) -> Finding:
    import psutil

    total, cores = psutil.virtual_memory().total, os.cpu_count()
    found = f"{total / 2**30:.1f} GiB, {cores} cores"
    if total < LOW_MEMORY:
        return Finding("memory", "differs", found, "3 GiB or more are advised", essential=False)
    return Finding("memory", "works", found)


def loopback(course: Course) -> Finding:
    """The labs' processes talk over sockets of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address, timeout=5):
            return Finding("loopback", "works", "a socket of this machine answers")


def disk(course: Course) -> Finding:
    places = {"class": _existing(course.class_dir), "scratch": Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(place).free for name, place in places.items()}
    found = ", ".join(f"{name} {size / 1e9:.1f} GB free" for name, size in free.items())
    if min(free.values()) < NO_DISK:
        return Finding("disk", "missing", found, "free some space, or set TMPDIR")
    if min(free.values()) < LOW_DISK:
        return Finding("disk", "differs", found, "2 GB or more are advised", essential=False)
    return Finding("disk", "works", found)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def sandbox(course: Course) -> Finding:
    """Submissions are locked up in bubblewrap while they run; it needs user namespaces."""
    module = importlib.import_module("autograder.engine" + ".sandbox")
    if why := module.missing():
        reason, _, mend = why.partition(": ")
        return Finding("sandbox", "missing", reason, mend, essential=False)
    version = subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout
    return Finding("sandbox", "works", f"{version.strip()}; user namespaces are permitted")


def chromium(course: Course) -> Finding:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        return Finding(
            "chromium",
            "missing",
            "not installed; the tests of the pages are skipped",
            "apt-get install chromium",
            essential=False,
        )
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30)
    return Finding("chromium", "works", done.stdout.strip() or program)


def class_folder(course: Course) -> Finding:
    place = _existing(course.class_dir)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(
            "class folder",
            "missing",
            f"{place}: cannot be written: {error.strerror}",
            "name another with --class DIR, or change its owner",
        )
    there = course.class_dir.is_dir()
    return Finding("class folder", "works", str(course.class_dir) + ("" if there else " (new)"))


def gradebook(course: Course) -> Finding:
    if os.environ.get("AUTOGRADER_DB"):
        from sqlalchemy import create_engine

        with create_engine(course.db_url).connect():
            return Finding("gradebook", "works", "the database of AUTOGRADER_DB answers")
    path = course.gradebook
    if not path.is_file():
        return Finding("gradebook", "works", f"{path}: none yet, the first grading makes it")
    restore = "restore it from a copy, or move it away and grade again"
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as connection:
            [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
            [students] = connection.execute("SELECT COUNT(*) FROM student").fetchone()
    except sqlite3.Error as error:
        return Finding("gradebook", "missing", f"{path}: {error}", restore)
    if verdict != "ok":
        return Finding("gradebook", "missing", f"{path}: {verdict}", restore)
    return Finding("gradebook", "works", f"{path}: {students} students")
