"""What an instructor may set: where the repository is, when labs are due, what lateness costs.

`course.toml` in the course's folder and `class.toml` in the class's take the same keys, and both
may be absent; where both give a key, the class's counts.  Whatever is wrong is one `CourseError`
that names the file and the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from autograder.course import Course, CourseError

COURSE_FILE, CLASS_FILE = "course.toml", "class.toml"
DAY = 86_400
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
RULE_KEYS = ("grace_minutes", "percent_per_day", "most_percent")


@dataclass(frozen=True)
class LateRule:
    """What lateness costs: a share of the points reached, for each day begun.

    Within the grace period it costs nothing; after it, days count from the due date.
    """

    grace_minutes: float = 0.0
    percent_per_day: float = 0.0
    most_percent: float = 100.0

    def percent(self, seconds_late: float) -> float:
        """The share that is taken off, in per cent."""
        if seconds_late <= 60 * self.grace_minutes:
            return 0.0
        return min(self.percent_per_day * math.ceil(seconds_late / DAY), self.most_percent)

    def penalty(self, score: float, seconds_late: float) -> float:
        """The points that are taken off `score`."""
        return score * self.percent(seconds_late) / 100


@dataclass(frozen=True)
class LabDates:
    """When a lab is due, for whom later, and what lateness costs; all times are aware, in UTC.

    `governed` says that the settings speak of it; otherwise dates and penalties are not ours.
    """

    due: datetime | None = None
    extensions: dict[str, datetime] = field(default_factory=dict)
    rule: LateRule = LateRule()
    governed: bool = False


@dataclass(frozen=True)
class Settings:
    """The settings of a course and a class; `repository` is `owner/name`, or empty."""

    repository: str = ""
    branch: str = "main"
    rule: LateRule = LateRule()
    labs: dict[str, LabDates] = field(default_factory=dict)

    def lab(self, name: str) -> LabDates:
        return self.labs.get(name, LabDates(rule=self.rule))


@dataclass(frozen=True)
class _Entry:
    """One value of a file, and the place that a complaint names."""

    value: Any
    path: Path
    key: tuple[str, ...]

    def wrong(self, what: str) -> CourseError:
        return CourseError(f"{self.path}: {'.'.join(self.key)}: {what}")

    def number(self, most: float = math.inf) -> float:
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise self.wrong(f"{value!r} is not a number")
        if not 0 <= value <= most:
            limits = f"between 0 and {most:g}" if most < math.inf else "0 or more"
            raise self.wrong(f"{value!r} is not {limits}")
        return float(value)

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.wrong(f"{self.value!r} is not a text in quotes")
        return self.value.strip()

    def moment(self, zone: ZoneInfo) -> datetime:
        """A date and time; without an offset it is local time, without a time the day's end."""
        value = self.value
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
                if re.fullmatch(r"[\d-]+", self.value.strip()):
                    value = value.date()
            except ValueError:
                raise self.wrong(f"{self.value!r} is no date like 2026-03-09 23:59") from None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time(23, 59, 59))
        if not isinstance(value, datetime):
            raise self.wrong(f"{value!r} is no date like 2026-03-09 23:59")
        return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)


def read_settings(course: Course, *, of_class: bool = True) -> Settings:
    """What both files say, or, without `of_class`, the course's alone.

    Raises `CourseError` naming file and key for what is no TOML, an unknown key or lab, and a value
    that cannot be.
    """
    entries: dict[tuple[str, ...], _Entry] = {}
    paths = [course.root / COURSE_FILE]
    if of_class:
        paths.append(course.class_dir / CLASS_FILE)
    for path in paths:
        entries |= {entry.key: entry for entry in _entries(path)}
    zone = _zone(entries.pop(("time_zone",), None))
    settings = Settings()
    if entry := entries.pop(("repository",), None):
        named = GITHUB.fullmatch(entry.text())
        if not named:
            raise entry.wrong(f"{entry.value!r} is no address like https://github.com/owner/name")
        settings = replace(settings, repository=named[1])
    if entry := entries.pop(("branch",), None):
        if not re.fullmatch(r"[\w./-]+", entry.text()):
            raise entry.wrong(f"{entry.value!r} is no name of a branch")
        settings = replace(settings, branch=entry.text())
    spoken = {key[:3] if key[0] == "labs" else key[:1] for key in entries}
    rule = _rule(entries, ("late",), LateRule())
    known = course.lab_names()
    for key, entry in entries.items():
        if key[0] == "labs" and len(key) > 1 and key[1] not in known:
            raise _Entry(None, entry.path, key[:2]).wrong(
                f"no such lab; there are: {', '.join(known) or 'none'}"
            )
    labs = {}
    for lab in known:
        own = {("late",), ("labs", lab, "late"), ("labs", lab, "due")}
        labs[lab] = replace(_dates(entries, lab, zone, rule), governed=bool(own & spoken))
    for entry in entries.values():
        raise entry.wrong(
            "no such key; there are: repository, branch, time_zone, late.*, labs.LAB.due,"
            f" labs.LAB.late.*, labs.LAB.extensions.STUDENT (late: {', '.join(RULE_KEYS)})"
        )
    return replace(settings, rule=rule, labs=labs)


def _entries(path: Path) -> Iterator[_Entry]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise CourseError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CourseError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{path}: not TOML: {error}") from None
    yield from _leaves(path, (), data)


def _leaves(path: Path, key: tuple[str, ...], data: dict[str, Any]) -> Iterator[_Entry]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(path, (*key, name), value)
        else:
            yield _Entry(value, path, (*key, name))


def _zone(entry: _Entry | None) -> ZoneInfo:
    if entry is None:
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(entry.text())
    except (OSError, ValueError, KeyError):
        raise entry.wrong(f"{entry.value!r} is no time zone like Europe/Berlin") from None


def _rule(
    entries: dict[tuple[str, ...], _Entry], table: tuple[str, ...], rule: LateRule
) -> LateRule:
    for name in RULE_KEYS:
        if entry := entries.pop((*table, name), None):
            most = math.inf if name == "grace_minutes" else 100.0
            rule = replace(rule, **{name: entry.number(most)})
    return rule


def _dates(
    entries: dict[tuple[str, ...], _Entry], lab: str, zone: ZoneInfo, rule: LateRule
) -> LabDates:
    table = ("labs", lab)
    entry = entries.pop((*table, "due"), None)
    due = entry.moment(zone) if entry else None
    extensions: dict[str, datetime] = {}
    for key in [key for key in entries if key[:3] == (*table, "extensions") and key[3:]]:
        entry = entries.pop(key)
        if due is None:
            raise entry.wrong(f"there is no labs.{lab}.due to extend")
        if isinstance(entry.value, int | float):
            later = due + timedelta(days=entry.number())
        else:
            later = entry.moment(zone)
        if later < due:
            raise entry.wrong(f"{entry.value!r} is before the due date")
        extensions[".".join(key[3:])] = later
    return LabDates(due, extensions, _rule(entries, (*table, "late"), rule))
