"""Read what was handed in, from a folder or a zip, as if every file were meant to do harm.

`files` goes through a source and gives each regular file as a `Found`, with its bytes, or says as a
`Refused` why it is not read: links, devices, names that lead elsewhere, bombs, what is encrypted or
damaged.  Zips within are opened as if they were folders.  Nothing is unpacked to disk, and only
the files that are wanted are read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from autograder.course import CourseError
from autograder.notebooks import MAX_BYTES

MAX_ARCHIVE = 1_000_000_000
"""Bytes of a zip inside a zip."""
MAX_TOTAL = 4_000_000_000
"""Bytes that one source may unpack to, zips within included."""
MAX_MEMBERS = 20_000
MAX_DEPTH = 3
MAX_RATIO, RATIO_FROM = 100, 20_000_000
"""A member that unpacks to `RATIO_FROM` bytes and to `MAX_RATIO` times its own size is a bomb."""
IGNORED = re.compile(r"\.|__MACOSX$|__pycache__$|Thumbs\.db$|desktop\.ini$")


@dataclass(frozen=True)
class Found:
    """A file: its place in the source (a zip counts as a folder), its time, its bytes.

    What lies in a zip within the source was packed by a student: `outer` counts the parts up to and
    with that zip, which are not theirs to choose (0 elsewhere), and the time is that of the zip.
    """

    parts: tuple[str, ...]
    time: datetime
    data: bytes
    clock: str = "file"
    outer: int = 0

    @property
    def origin(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True)
class Refused:
    """A file that is not taken in, and why."""

    origin: str
    reason: str


@dataclass(frozen=True)
class _Place:
    """Where a zip stands: as a folder, by its name, and, unless it is the source, its time."""

    parts: tuple[str, ...]
    origin: str
    outer: int = 0
    time: datetime | None = None
    clock: str = "zip entry"


class _Reading:
    """Which files of a source are wanted, by name, and what it may still unpack to."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self.wanted = wanted
        self.bytes, self.members = MAX_TOTAL, MAX_MEMBERS


def files(source: Path, wanted: Callable[[str], bool]) -> Iterator[Found | Refused]:
    """Everything in the folder or zip `source`, in the order of its names.

    A file whose name is not `wanted` is listed with its time and without its bytes.  Raises
    `CourseError` when the source is neither a folder nor a zip.
    """
    reading = _Reading(wanted)
    if source.is_dir():
        yield from _folder(source, (), reading)
    elif not source.exists():
        raise CourseError(f"{source}: no such file or folder")
    elif source.is_file() and zipfile.is_zipfile(source):
        with source.open("rb") as stream:
            yield from _zip(stream, _Place((), source.name), reading, 1)
    else:
        raise CourseError(f"{source}: neither a folder nor a zip")


def _folder(folder: Path, parts: tuple[str, ...], reading: _Reading) -> Iterator[Found | Refused]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Refused("/".join(parts) or str(folder), f"cannot be read: {error.strerror}")
        return
    for entry in entries:
        here = (*parts, entry.name)
        if IGNORED.match(entry.name):
            continue
        if entry.is_symlink():
            yield Refused("/".join(here), "a link")
        elif entry.is_dir(follow_symlinks=False):
            yield from _folder(Path(entry.path), here, reading)
        else:
            yield from _file(Path(entry.path), here, reading)


def _file(path: Path, parts: tuple[str, ...], reading: _Reading) -> Iterator[Found | Refused]:
    origin = "/".join(parts)
    try:
        # Not through a link, and without waiting for somebody to write into a named pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                yield Refused(origin, "a device, a pipe or a socket")
                return
            if path.suffix.lower() == ".zip":
                moment = datetime.fromtimestamp(status.st_mtime, UTC)
                inside = (*parts[:-1], path.stem)
                place = _Place(inside, origin, len(inside), moment, "file")
                yield from _zip(stream, place, reading, 1)
                return
            wanted = reading.wanted(path.name)
            if wanted and (refused := _too_large(origin, status.st_size, 0, MAX_BYTES)):
                yield refused
                return
            data = stream.read(MAX_BYTES + 1) if wanted else b""
    except OSError as error:
        yield Refused(origin, f"cannot be read: {error.strerror}")
        return
    yield Found(parts, datetime.fromtimestamp(status.st_mtime, UTC), data)


def _too_large(origin: str, size: int, packed: int, limit: int) -> Refused | None:
    if packed and size >= RATIO_FROM and size > MAX_RATIO * packed:
        return Refused(origin, f"a zip bomb: {packed} bytes unpack to {size}")
    if size > limit:
        return Refused(origin, f"too large: {size / 1e6:.0f} MB, {limit / 1e6:.0f} are taken")
    return None


def _zip(
    stream: IO[bytes], place: _Place, reading: _Reading, depth: int
) -> Iterator[Found | Refused]:
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        yield Refused(place.origin, f"a damaged zip: {error}")
        return
    with archive:
        members = archive.infolist()
        reading.members -= len(members)
        if reading.members < 0:
            yield Refused(place.origin, f"a zip bomb: more than {MAX_MEMBERS} members")
            return
        for member in sorted(members, key=lambda member: member.filename):
            yield from _member(archive, member, place, reading, depth)


def _member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    place: _Place,
    reading: _Reading,
    depth: int,
) -> Iterator[Found | Refused]:
    name = member_name(member)
    origin = "/".join((*place.parts, name))
    pieces = tuple(piece for piece in re.split(r"[/\\]", name) if piece not in ("", "."))
    if refused := _unsafe(member, name, pieces, origin):
        yield refused
        return
    if name.endswith(("/", "\\")) or not pieces or any(map(IGNORED.match, pieces)):
        return
    time = place.time or _member_time(member)
    parts = (*place.parts, *pieces)
    inner = pieces[-1].lower().endswith(".zip")
    if not inner and not reading.wanted(pieces[-1]):
        yield Found(parts, time, b"", place.clock, place.outer)
        return
    limit = MAX_ARCHIVE if inner else MAX_BYTES
    if refused := _too_large(origin, member.file_size, member.compress_size or 1, limit):
        yield refused
        return
    try:
        with archive.open(member) as packed:
            data = packed.read(min(limit, reading.bytes) + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        yield Refused(origin, f"damaged: {error}")
        return
    reading.bytes -= len(data)
    if len(data) > limit or reading.bytes < 0:
        yield Refused(origin, "a zip bomb: it unpacks to more than it says, or than is taken")
    elif not inner:
        yield Found(parts, time, data, place.clock, place.outer)
    elif depth >= MAX_DEPTH:
        yield Refused(origin, f"zips within zips, more than {MAX_DEPTH} deep")
    else:
        inside = (*parts[:-1], pieces[-1][:-4])
        outer = place.outer or len(inside)
        within = _Place(inside, origin, outer, time, place.clock)
        yield from _zip(io.BytesIO(data), within, reading, depth + 1)


def _unsafe(
    member: zipfile.ZipInfo, name: str, pieces: tuple[str, ...], origin: str
) -> Refused | None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if ".." in pieces or re.match(r"[/\\]|[A-Za-z]:", name) or "\0" in name:
        return Refused(origin, "its name leads out of the zip")
    if kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "a device, a pipe or a socket"
        return Refused(origin, what)
    return Refused(origin, "encrypted") if member.flag_bits & 1 else None


def member_name(member: zipfile.ZipInfo) -> str:
    """The name of a member; without the UTF-8 flag it may still be UTF-8, or GBK as on Windows."""
    name = member.filename
    if member.flag_bits & 0x800 or name.isascii():
        return name
    raw = name.encode("cp437", "replace")
    for encoding in ("utf-8", "gb18030"):
        with contextlib.suppress(UnicodeDecodeError):
            read = raw.decode(encoding)
            if encoding == "utf-8" or re.fullmatch(r"[\x00-\x7f\u3000-\u9fff\uff00-\uffef]+", read):
                return read
    return name


def _member_time(member: zipfile.ZipInfo) -> datetime:
    """A zip keeps local time, and may hold a date that does not exist."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime(*member.date_time).astimezone(UTC)
    return datetime(1980, 1, 1, tzinfo=UTC)
