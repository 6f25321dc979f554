"""Take in what students handed in: any download in, `submitted/<student>/<lab>/` out.

Each submission is taken whole or not at all, a newer one is never replaced by an older, and doing
it twice changes nothing.  One `Row` says of every file what became of it, and why.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from autograder import notebooks
from autograder.course import Course, CourseError, MachineryError
from autograder.intake import Found, Refused, files
from autograder.platforms import STAMP, Sender, lab_of, parse_time, senders
from autograder.roster import Roster, safe_id

Verdict = Literal["taken", "replaced", "skipped", "refused"]
METADATA = "submission_metadata.yml"
"""Gradescope's list of who handed in what, and when."""
STAMP_FILE = "timestamp.txt"
MAX_TIMES = 20_000_000
ATTEMPT = re.compile(r"-(\d+)(?:\.\w+)?$")
"""The number that Canvas adds to the name of a file that is handed in again."""


@dataclass(frozen=True)
class Row:
    """What became of one file of the source; `clock` says whose time `received` is."""

    verdict: Verdict
    origin: str
    reason: str = ""
    student: str = ""
    lab: str = ""
    received: datetime | None = None
    clock: str = ""


def collect(course: Course, source: Path, roster: Roster | None = None) -> list[Row]:
    """Take the submissions in `source`, a folder or a zip, into the class.

    Raises `CourseError` when `source` is neither, or is the class itself, and `MachineryError` when
    the class cannot be written to or another run is taking submissions in.
    """
    if not course.lab_names():
        raise CourseError(f"{course.root}: this course has no labs to collect")
    if source.exists() and course.submitted.resolve() in (
        source.resolve(),
        *source.resolve().parents,
    ):
        raise CourseError(f"{source}: these are the collected submissions themselves")
    with _alone(course):
        desk = _Desk(course, roster)
        for item in files(source, lambda name: name in (METADATA, STAMP_FILE)):
            desk.look_at(item)
        rows = [row for item in files(source, _is_notebook) for row in desk.take(item)]
    return sorted(rows, key=lambda row: (row.student, row.lab, row.origin))


def _is_notebook(name: str) -> bool:
    return name.lower().endswith(".ipynb")


class _Desk:
    """Where one run puts each file, and what it knows of the source as a whole."""

    def __init__(self, course: Course, roster: Roster | None) -> None:
        self.course, self.roster = course, roster
        self.labs = course.lab_names()
        self.gradescope: dict[tuple[str, ...], dict[str, Any]] = {}
        self.stamps: dict[tuple[str, ...], datetime] = {}
        self.packed: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        self.names: dict[str, str] = {}
        self.attempts: dict[tuple[str, str], int] = {}

    def look_at(self, item: Found | Refused) -> None:
        """Keep what other files need: times, Gradescope's metadata, what a student's zip holds.

        Neither times nor metadata are believed where a student has packed them.
        """
        if isinstance(item, Refused):
            return
        name = item.parts[-1]
        if item.outer:
            if _is_notebook(name):
                self.packed.setdefault(item.parts[: item.outer], []).append(item.parts)
        elif name == METADATA and len(item.data) <= MAX_TIMES:
            import yaml

            with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError):
                loaded = yaml.load(item.data.decode("utf-8", "replace"), Loader=yaml.BaseLoader)
                if isinstance(loaded, dict):
                    self.gradescope[item.parts[:-1]] = loaded
        elif name == STAMP_FILE and (time := parse_time(item.data.decode("utf-8", "replace"))):
            self.stamps[item.parts[:-1]] = time

    def take(self, item: Found | Refused) -> Iterator[Row]:
        """Store one file, for each who handed it in; nothing for a file that served the others."""
        if isinstance(item, Refused):
            yield Row("refused", item.origin, item.reason)
            return
        if item.parts[-1] in (METADATA, STAMP_FILE):
            return
        if not _is_notebook(item.parts[-1]):
            yield Row("skipped", item.origin, "not a notebook")
            return
        if item.outer and (row := self._choose(item)):
            yield row
            return
        parts = tuple(unicodedata.normalize("NFC", part) for part in item.parts)
        for told in senders(parts, self.labs, self.gradescope, item.outer):
            yield self._store_for(item, told)

    def _choose(self, item: Found) -> Row | None:
        """What a zip within the source holds is one student's: which of its notebooks counts.

        That nearest to its top, and of several there the one that is named as its lab.
        """
        inside = self.packed.get(item.parts[: item.outer], [])
        top = min(map(len, inside), default=0)
        if len(item.parts) > top:
            return Row("skipped", item.origin, "lies deeper in its zip than another notebook")
        stem = item.parts[-1].rpartition(".")[0]
        others = [parts[-1].rpartition(".")[0] for parts in inside if len(parts) == top]
        alike = [other for other in others if self._lab_in(other) == self._lab_in(stem)]
        exact = [other for other in alike if other in self.labs]
        if len(alike) == 1 or exact == [stem]:
            return None
        if len(exact) == 1:
            return Row("skipped", item.origin, f"{exact[0]}.ipynb lies beside it")
        why = (
            "its zip holds several notebooks of one lab; a whole class's zip is collected by itself"
        )
        return Row("refused", item.origin, why)

    def _lab_in(self, stem: str) -> str:
        return lab_of(stem, self.labs)

    def _store_for(self, item: Found, told: Sender) -> Row:
        lab, problem = self._lab(item, told)
        if problem:
            return Row("refused", item.origin, problem)
        student, remark = self._student(told)
        if not student:
            return Row("refused", item.origin, remark, lab=lab)
        received, clock = item.time, item.clock
        if not told.platform and item.parts[:-1] in self.stamps:
            received, clock = self.stamps[item.parts[:-1]], STAMP_FILE
        if told.time:
            received, clock = told.time, told.platform
        told_by = item.parts[item.outer - 1] if item.outer else item.parts[-1]
        again = ATTEMPT.search(told_by) if told.platform == "Canvas" else None
        attempt = int(again[1]) if again else 0
        verdict, reason = self._store(student, lab, item.data, received, attempt)
        reasons = "; ".join(filter(None, [reason, remark, told.remark]))
        return Row(verdict, item.origin, reasons, student, lab, received, clock)

    def _lab(self, item: Found, told: Sender) -> tuple[str, str]:
        """The lab of a notebook, or why it cannot be taken."""
        known = ", ".join(self.labs)
        try:
            says = notebooks.parse(Path(item.origin), item.data).lab
        except CourseError as error:
            why = str(error).partition(": ")[2]
            return told.lab, "" if told.lab else f"{why}, and its name tells no lab ({known})"
        if says and says not in self.labs:
            return "", f"it is of another course or lab: {says}"
        if says and told.lab and says != told.lab:
            return "", f"its name says {told.lab}, it is the notebook of {says}"
        lab = says or told.lab
        return lab, "" if lab else f"neither its name nor its metadata tell a lab ({known})"

    def _student(self, told: Sender) -> tuple[str, str]:
        """The id under which a submission is kept and a remark, or nothing and why."""
        if self.roster and (student := self.roster.find(told.words)):
            return student, ""
        student = safe_id(told.student)
        if not student:
            return "", "its name does not say whose it is"
        other = self.names.setdefault(student, told.student)
        if other != told.student:
            return "", f"{told.student!r} and {other!r} would both be {student}: use a roster"
        return student, "not in the roster" if self.roster else ""

    def _store(
        self, student: str, lab: str, data: bytes, received: datetime, attempt: int
    ) -> tuple[Verdict, str]:
        """Keep what is newer; of equal times in one source the later attempt."""
        target = self.course.submitted / student / lab
        notebook = target / f"{lab}.ipynb"
        if notebook.is_file():
            earlier = received_at(target)
            if notebook.read_bytes() == data:
                self.attempts[student, lab] = attempt
                return "skipped", "already there"
            later_attempt = attempt > self.attempts.get((student, lab), attempt)
            if earlier and (earlier > received or (earlier == received and not later_attempt)):
                return "skipped", f"one of {_shown(earlier)} is there"
            _write(self.course, target, data, received)
            self.attempts[student, lab] = attempt
            return "replaced", f"the one of {_shown(earlier)}" if earlier else "an earlier one"
        _write(self.course, target, data, received)
        self.attempts[student, lab] = attempt
        return "taken", ""


def received_at(folder: Path) -> datetime | None:
    """When the submission in a folder came in, as its timestamp.txt says."""
    try:
        return parse_time((folder / STAMP_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _incoming(course: Course) -> Path:
    return course.class_dir / ".incoming"


def _write(course: Course, target: Path, data: bytes, received: datetime) -> None:
    """Put a submission in place whole: written beside, then moved, the older one out of the way."""
    name = f"{target.parent.name}+{target.name}"
    fresh, old = _incoming(course) / f"{name}.new", _incoming(course) / f"{name}.old"
    try:
        fresh.mkdir()
        (fresh / f"{target.name}.ipynb").write_bytes(data)
        (fresh / STAMP_FILE).write_text(f"{received:{STAMP}} UTC\n", encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except OSError as error:
        raise MachineryError(
            f"{target}: cannot be written: {error.strerror};"
            " what was taken before is there, run it again for the rest"
        ) from error


@contextlib.contextmanager
def _alone(course: Course) -> Iterator[None]:
    """Hold the class's door for one run, and first put right what an interrupted one left."""
    folder = _incoming(course)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise MachineryError(f"{course.class_dir}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MachineryError(f"{course.class_dir}: another collect is at work there") from None
        _put_right(course)
        try:
            yield
        finally:
            _put_right(course)


def _put_right(course: Course) -> None:
    """Move back what was moved out of the way for a submission that never came; clear the rest."""
    for old in _incoming(course).glob("*.old"):
        student, _, lab = old.name.removesuffix(".old").rpartition("+")
        target = course.submitted / student / lab
        if not target.exists():
            old.rename(target)
    for left in _incoming(course).iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
