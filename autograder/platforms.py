"""Whose file is it, and of which lab?  What the names in a download tell.

Each learning platform has its own way of naming: Canvas, Moodle, Gradescope, nbgrader's exchange
and plain folders are told apart by the names themselves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

COPY = re.compile(r"(-Copy\d+|[ _]?\(\d+\)|-\d+)+$")
"""What Jupyter, browsers and Canvas add to the name of a second copy."""
CANVAS = re.compile(r"(?P<name>[^_/]+)_(?P<late>LATE_)?(?P<user>\d+)_(?P<sent>\d+)_(?P<file>.+)")
MOODLE = re.compile(r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_(?P<kind>[a-z]+)_?(?P<file>.*)")
EXCHANGE = re.compile(r"(?P<student>[^+]+)\+(?P<lab>[^+]+)\+(?P<time>\d{4}-\d\d-\d\d [^+]+)(\+.*)?")
GRADESCOPE = re.compile(r"submission_\d+")
STAMP = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True)
class Sender:
    """What the names say: who (best word first), which lab, when, and what else to tell.

    `student` is the id without a roster; `time` is None unless the platform gives it; `platform` is
    empty for files that somebody has laid out by hand.
    """

    student: str = ""
    words: tuple[str, ...] = ()
    lab: str = ""
    time: datetime | None = None
    platform: str = ""
    remark: str = ""


Metadata = Mapping[tuple[str, ...], Mapping[str, Any]]
"""Gradescope's metadata files by the folder in which they lie."""


def senders(
    parts: tuple[str, ...], labs: Collection[str], gradescope: Metadata, outer: int = 0
) -> list[Sender]:
    """Read the place of a file in a download: whose it is, several people's if they work together.

    The outermost name that tells it counts, for what lies below is the students' to choose; `outer`
    are the parts down to a zip that a student has packed (see `intake.Found`).
    """
    *folders, name = parts
    stem = name.rpartition(".")[0] or name
    lab = lab_of(stem, labs)
    pieces = list(parts[:outer]) if outer else [*folders, stem]
    for depth, piece in enumerate(pieces):
        if depth == len(pieces) - 1 and (match := CANVAS.fullmatch(piece)):
            remark = "Canvas marks it late" if match["late"] else ""
            who, words = f"{match['name']}_{match['user']}", (match["user"], match["name"])
            lab = lab_of(match["file"], labs) or lab
            return [Sender(who, words, lab, platform="Canvas", remark=remark)]
        if match := MOODLE.fullmatch(piece):
            lab = lab_of(match["file"], labs) or lab
            words = (match["name"], match["number"])
            return [Sender(match["name"], words, lab, platform="Moodle")]
        if match := EXCHANGE.fullmatch(piece):
            lab = match["lab"] if match["lab"] in labs else ""
            time, student = parse_time(match["time"]), match["student"]
            return [Sender(student, (student,), lab, time, "nbgrader's exchange")]
        entry = gradescope.get(tuple(parts[:depth]), {}).get(piece)
        if GRADESCOPE.fullmatch(piece) and entry is not None:
            return _gradescope(entry, lab)
    if outer:
        told = _plain(pieces, "", labs)
        return [replace(told, lab=told.lab or lab)]
    return [_plain(folders, stem, labs)]


def _plain(folders: list[str], stem: str, labs: Collection[str]) -> Sender:
    """`<student>/<lab>/<lab>`, `<student>/<lab>`, `<student>_<lab>`, `<lab>_<student>`, ..."""
    lab = student = ""
    for depth, piece in enumerate((stem, *reversed(folders))):
        found, rest = _split(piece, labs)
        if found and lab and found != lab:
            break
        lab = lab or found
        if found and not rest:
            continue
        if found:
            student = rest
            break
        if depth:
            student = piece
            break
    return Sender(student, (student,), lab)


def _split(piece: str, labs: Collection[str]) -> tuple[str, str]:
    """The lab that a name begins or ends with, and what else it says."""
    bare = COPY.sub("", piece)
    for lab in sorted(labs, key=len, reverse=True):
        if bare.casefold() == lab:
            return lab, ""
        if match := re.fullmatch(rf"(.+?)[_\-. ]+{lab}|{lab}[_\-. ]+(.+)", bare, re.I):
            return lab, (match[1] or match[2]).strip("_-. ")
    return "", ""


def lab_of(name: str, labs: Collection[str]) -> str:
    """The lab that the name of a file tells, or an empty text."""
    return _split(re.sub(r"\.ipynb$", "", name, flags=re.I), labs)[0]


def _gradescope(entry: Any, lab: str) -> list[Sender]:
    entry = entry if isinstance(entry, dict) else {}
    people = entry.get(":submitters")
    people = [who for who in people if isinstance(who, dict)] if isinstance(people, list) else []
    time = parse_time(str(entry.get(":created_at") or ""))
    found = []
    for who in people or [{}]:
        told = [str(who.get(key) or "") for key in (":sid", ":email", ":name")]
        words = tuple(word for word in told if word)
        remark = f"handed in by {len(people)} together" if len(people) > 1 else ""
        student = words[0] if words else ""
        found.append(Sender(student, words, lab, time, "Gradescope", remark))
    return found


def parse_time(text: str) -> datetime | None:
    """A moment as nbgrader and Gradescope write it (UTC or an offset), or None."""
    match = re.match(
        r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?\s*(UTC|Z|[+-]\d\d:?\d\d)?\s*$", text.strip()
    )
    if not match:
        return None
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "UTC", "Z") else zone
    try:
        return datetime.fromisoformat(
            f"{day}T{clock}{(fraction or '.0')[:7]:0<7}{zone}"
        ).astimezone(UTC)
    except ValueError:
        return None
