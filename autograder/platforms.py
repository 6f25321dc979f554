"""Whose file is it, and of which lab?  What the names in a download tell.

Each learning platform has its own way of naming: Canvas, Moodle, Gradescope, nbgrader's exchange
and plain folders are told apart by the names themselves.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
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

    `student` is the id without a roster; `time` is None unless the platform gives it.
    """

    student: str = ""
    words: tuple[str, ...] = ()
    lab: str = ""
    time: datetime | None = None
    clock: str = ""
    remark: str = ""


def sender(parts: tuple[str, ...], labs: Collection[str], gradescope: dict[str, Any]) -> Sender:
    """Read the place of a file in a download; `gradescope` is the content of its metadata file."""
    *folders, name = parts
    stem = name.rpartition(".")[0] or name
    if match := CANVAS.fullmatch(stem):
        remark = "Canvas marks it late" if match["late"] else ""
        return Sender(
            student=f"{match['name']}_{match['user']}",
            words=(match["user"], match["name"]),
            lab=_lab_of(match["file"], labs),
            remark=remark,
        )
    for piece in (*reversed(folders), stem):
        if match := MOODLE.fullmatch(piece):
            lab = _lab_of(match["file"] or stem, labs)
            return Sender(
                match["name"], (match["name"], match["number"]), lab or _lab_of(stem, labs)
            )
        if match := EXCHANGE.fullmatch(piece):
            time = parse_time(match["time"])
            lab = match["lab"] if match["lab"] in labs else ""
            clock = "nbgrader's exchange" if time else ""
            return Sender(match["student"], (match["student"],), lab, time, clock)
        if GRADESCOPE.fullmatch(piece) and piece in gradescope:
            return _gradescope(gradescope[piece], _lab_of(stem, labs))
    return _plain(folders, stem, labs)


def _plain(folders: list[str], stem: str, labs: Collection[str]) -> Sender:
    """`<student>/<lab>/<lab>`, `<student>/<lab>`, `<student>_<lab>`, `<lab>_<student>`, ..."""
    lab = student = ""
    for piece in (stem, *reversed(folders)):
        found, rest = _split(piece, labs)
        if found and lab and found != lab:
            break
        lab = lab or found
        if found and not rest:
            continue
        if found:
            student = rest
            break
        if piece is not stem:
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


def _lab_of(name: str, labs: Collection[str]) -> str:
    return _split(re.sub(r"\.ipynb$", "", name, flags=re.I), labs)[0]


def _gradescope(entry: Any, lab: str) -> Sender:
    entry = entry if isinstance(entry, dict) else {}
    people = entry.get(":submitters") or [{}]
    first = people[0] if isinstance(people, list) and isinstance(people[0], dict) else {}
    told = [str(first.get(key) or "") for key in (":sid", ":email", ":name")]
    words = tuple(word for word in told if word)
    time = parse_time(str(entry.get(":created_at") or ""))
    others = len(people) - 1 if isinstance(people, list) else 0
    return Sender(
        student=words[0] if words else "",
        words=words,
        lab=lab,
        time=time,
        clock="Gradescope" if time else "",
        remark=f"handed in with {others} more" if others > 0 else "",
    )


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
