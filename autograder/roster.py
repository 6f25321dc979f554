"""Who is in the class, and what the platforms call them.

A roster is a CSV with a header.  The column `id` (also `student`, `student_id`) holds the id that
the gradebook uses; `name` and `email` are known by these names; every other column is what a
platform calls the student (`canvas`, `moodle`, `gradescope`, a student number), and serves to
recognise them.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autograder.course import CourseError

ID_COLUMNS = ("id", "student", "student_id", "student id")
MAX_PARTS = 4
"""Parts of a name that are tried in every order."""


@dataclass(frozen=True)
class Roster:
    """The students by id, each with the cells of their row, and the words that tell them apart."""

    rows: dict[str, dict[str, str]]
    known_as: dict[str, str] = field(default_factory=dict)

    def find(self, words: Iterable[str]) -> str | None:
        """The id of the only student whom one of `words` means, the first that does so."""
        for word in words:
            if found := self.known_as.get(_key(word)):
                return found
        return None

    def cell(self, student: str, *columns: str) -> str:
        """The first of the columns that is filled for a student, or an empty text."""
        row = self.rows.get(student, {})
        return next((row[column] for column in columns if row.get(column)), "")


def safe_id(name: str) -> str:
    """A student's id as a file name: NFC, letters and digits of any script, `_ - . @`.

    Everything else, spaces too, becomes `_`; what is left may be empty.
    """
    text = re.sub(r"[^\w.@-]+", "_", unicodedata.normalize("NFC", name).strip())
    return text.strip("._")[:80]


def read_roster(path: Path) -> Roster:
    """The roster in a CSV file (UTF-8, with or without a byte order mark).

    Raises `CourseError` naming the line for a missing, unusable or repeated id.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CourseError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{path}: not UTF-8: save the roster as CSV UTF-8") from error
    reader = csv.DictReader(io.StringIO(text))
    columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    named = next((column for column in ID_COLUMNS if column in columns), None)
    if named is None:
        raise CourseError(f"{path}:1: a roster needs a column id; it has: {', '.join(columns)}")
    rows: dict[str, dict[str, str]] = {}
    for row in reader:
        cells = {column: (row.get(column) or "").strip() for column in columns}
        student = safe_id(cells[named])
        if not student and not any(cells.values()):
            continue
        if not student:
            raise CourseError(f"{path}:{reader.line_num}: no id")
        if student in rows:
            raise CourseError(f"{path}:{reader.line_num}: {student} stands there twice")
        rows[student] = cells
    return Roster(rows, _known_as(rows))


def _known_as(rows: dict[str, dict[str, str]]) -> dict[str, str]:
    """What means whom; a word that means several students means nobody."""
    meant: dict[str, set[str]] = {}
    for student, cells in rows.items():
        words = {student, *cells.values(), *_orders(cells.get("name", ""))}
        if "@" in cells.get("email", ""):
            words.add(cells["email"].partition("@")[0])
        for word in words:
            meant.setdefault(_key(word), set()).add(student)
    return {word: next(iter(who)) for word, who in meant.items() if word and len(who) == 1}


def _orders(name: str) -> set[str]:
    """A name with its parts in every order, run together as Canvas does."""
    parts = [part for part in re.split(r"[\s,]+", name) if part]
    if len(parts) > MAX_PARTS:
        return {"".join(parts), "".join([parts[-1], *parts[:-1]])}
    return {"".join(order) for order in itertools.permutations(parts)}


def _key(word: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", word)).casefold()
