"""What students handed in is taken in whole, once, and only where it belongs."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_lab import blank, make_course, save, solved

from autograder import collect as collecting
from autograder import intake
from autograder.collect import Row, collect
from autograder.course import Course, CourseError, MachineryError
from autograder.platforms import parse_time, senders
from autograder.roster import read_roster, safe_id

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LABS = ("two", "parameter_server")


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return make_course(tmp_path / "course")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def text(notebook: dict[str, Any] | None = None) -> bytes:
    return json.dumps(notebook or solved()).encode()


def put(path: Path, data: bytes | None = None, when: datetime = NOON) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text() if data is None else data)
    os.utime(path, (when.timestamp(), when.timestamp()))
    return path


def zipped(path: Path, members: dict[str, bytes | None], when: datetime = NOON) -> Path:
    path.write_bytes(zip_bytes(members, when))
    return path


def zip_bytes(members: dict[str, bytes | None], when: datetime = NOON) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, when.astimezone().timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text() if data is None else data)
    return buffer.getvalue()


def verdicts(rows: list[Row]) -> dict[str, str]:
    return {row.origin: row.verdict for row in rows}


def reason(rows: list[Row], origin: str) -> str:
    return next(row.reason for row in rows if row.origin == origin)


def handed_in(course: Course) -> list[str]:
    return sorted(str(p.relative_to(course.submitted)) for p in course.submitted.rglob("*.ipynb"))


@pytest.mark.parametrize(
    "place",
    [
        "ada/two.ipynb",
        "ada/two/two.ipynb",
        "ada/two/homework.ipynb",
        "ada_two.ipynb",
        "two_ada.ipynb",
        "two-ada.ipynb",
        "ada two (1).ipynb",
        "ada/two-Copy1.ipynb",
        "week 3/ada_two/answer.ipynb",
        "ada/final.ipynb",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_usual_layouts(course: Course, inbox: Path, place: str, packed: bool) -> None:
    if packed:
        source = zipped(inbox / "all.zip", {place: None})
    else:
        put(inbox / place)
        source = inbox
    [row] = collect(course, source)
    assert (row.verdict, row.student, row.lab) == ("taken", "ada", "two"), row.reason
    assert handed_in(course) == ["ada/two/two.ipynb"]
    assert (row.received, row.clock) == (NOON, "zip entry" if packed else "file")
    stamp = course.submitted / "ada/two/timestamp.txt"
    assert stamp.read_text() == "2026-03-01 12:00:00.000000 UTC\n"


def test_nbgrader_reads_the_timestamp(course: Course, inbox: Path) -> None:
    from nbgrader.utils import parse_utc

    put(inbox / "ada/two.ipynb")
    collect(course, inbox)
    read = parse_utc((course.submitted / "ada/two/timestamp.txt").read_text().strip())
    assert read == NOON.replace(tzinfo=None)


def test_twice_is_once(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb")
    collect(course, inbox)
    before = {p: p.stat().st_mtime_ns for p in course.submitted.rglob("*")}
    [row] = collect(course, inbox)
    assert (row.verdict, row.reason) == ("skipped", "already there")
    assert {p: p.stat().st_mtime_ns for p in course.submitted.rglob("*")} == before


def test_a_later_submission_replaces_an_earlier_one_and_never_the_other_way(
    course: Course, inbox: Path
) -> None:
    early, late = text(blank()), text(solved())
    put(inbox / "monday/ada_two.ipynb", early, NOON)
    put(inbox / "tuesday/ada_two.ipynb", late, NOON.replace(day=3))
    collect(course, inbox / "monday")
    [row] = collect(course, inbox / "tuesday")
    assert (row.verdict, row.reason) == ("replaced", "the one of 2026-03-01 12:00:00 UTC")
    [row] = collect(course, inbox / "monday")
    assert (row.verdict, row.reason) == ("skipped", "one of 2026-03-03 12:00:00 UTC is there")
    assert (course.submitted / "ada/two/two.ipynb").read_bytes() == late


def test_of_two_in_one_source_the_later_counts(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb", text(solved()), NOON.replace(hour=13))
    put(inbox / "ada/two (1).ipynb", text(blank()), NOON)
    put(inbox / "ada_two.ipynb", text(blank()), NOON.replace(hour=11))
    rows = collect(course, inbox)
    assert (course.submitted / "ada/two/two.ipynb").read_bytes() == text(solved())
    assert verdicts(rows)["ada_two.ipynb"] == "skipped"


def test_zips_within_zips_are_folders(course: Course, inbox: Path) -> None:
    inner = zip_bytes({"two.ipynb": None})
    deep = zip_bytes({"a.zip": zip_bytes({"b.zip": zip_bytes({"two.ipynb": None})})})
    source = zipped(inbox / "all.zip", {"ada.zip": inner, "bob_two.zip": inner, "eve.zip": deep})
    rows = collect(course, source)
    assert handed_in(course) == ["ada/two/two.ipynb", "bob/two/two.ipynb"]
    assert reason(rows, "eve/a/b.zip") == "zips within zips, more than 3 deep"
    put(inbox / "folder/carl.zip", inner)
    [row] = collect(course, inbox / "folder")
    assert (row.verdict, row.student) == ("taken", "carl")


def test_names_in_other_scripts(course: Course, inbox: Path) -> None:
    put(inbox / "张伟/two.ipynb")
    put(inbox / "Zoe\u0308 Müller_two.ipynb")
    collect(course, inbox)
    assert handed_in(course) == ["Zoë_Müller/two/two.ipynb", "张伟/two/two.ipynb"]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8"])
def test_chinese_names_in_a_zip_without_the_utf8_flag(
    course: Course, inbox: Path, encoding: str
) -> None:
    raw = "张伟_two.ipynb".encode(encoding)
    written = zip_bytes({"x" * (len(raw) - 6) + ".ipynb": None})
    (inbox / "win.zip").write_bytes(written.replace(b"x" * (len(raw) - 6) + b".ipynb", raw))
    [row] = collect(course, inbox / "win.zip")
    assert (row.verdict, row.student) == ("taken", "张伟")


def test_what_is_not_a_submission_is_listed(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb")
    put(inbox / "ada/data.csv", b"1,2")
    put(inbox / "ada/.ipynb_checkpoints/two-checkpoint.ipynb")
    put(inbox / "__MACOSX/two.ipynb")
    rows = collect(course, inbox)
    assert verdicts(rows) == {"ada/two.ipynb": "taken", "ada/data.csv": "skipped"}


@pytest.mark.parametrize(
    ("place", "data", "why"),
    [
        ("two.ipynb", None, "its name does not say whose it is"),
        ("ada/essay.ipynb", b'{"cells": [], "metadata": {}}', "neither its name nor its metadata"),
        ("ada/essay.ipynb", b"not json", "not a notebook: it is not valid JSON (line 1), and its"),
        ("ada/two.ipynb", text({"cells": [], "metadata": {"course": {"lab": "three"}}}), "another"),
        ("ada/parameter_server.ipynb", None, "its name says parameter_server, it is the notebook"),
        ("../two.ipynb", None, "its name leads out of the zip"),
        ("/ada/two.ipynb", None, "its name leads out of the zip"),
        ("..\\ada\\two.ipynb", None, "its name leads out of the zip"),
        ("C:/ada/two.ipynb", None, "its name leads out of the zip"),
    ],
)
def test_what_is_refused_says_why(
    course: Course, inbox: Path, place: str, data: bytes | None, why: str
) -> None:
    (course.solutions / "parameter_server").mkdir()
    (course.solutions / "parameter_server" / "lab.py").touch()
    rows = collect(course, zipped(inbox / "all.zip", {place: data, "bob/two.ipynb": None}))
    assert handed_in(course) == ["bob/two/two.ipynb"]
    assert why in reason(rows, place)


def test_an_unreadable_notebook_is_a_submission_all_the_same(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb", b'{"cells": [')
    assert collect(course, inbox)[0].verdict == "taken"


def test_links_pipes_sockets_and_devices_are_refused(course: Course, inbox: Path) -> None:
    secret = put(inbox.parent / "gradebook.ipynb")
    (inbox / "ada").mkdir()
    (inbox / "ada/two.ipynb").symlink_to(secret)
    (inbox / "bob").symlink_to(inbox.parent)
    os.mkfifo(inbox / "eve_two.ipynb")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(inbox / "s_two.ipynb"))
    server.close()
    put(inbox / "zoe/two.ipynb")
    rows = collect(course, inbox)
    assert handed_in(course) == ["zoe/two/two.ipynb"]
    assert {row.origin for row in rows if row.verdict == "refused"} == {
        "ada/two.ipynb", "bob", "eve_two.ipynb", "s_two.ipynb",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(course: Course, inbox: Path, kind: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("ada/two.ipynb")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("bob/two.ipynb", text())
    (inbox / "all.zip").write_bytes(buffer.getvalue())
    rows = collect(course, inbox / "all.zip")
    assert verdicts(rows) == {"ada/two.ipynb": "refused", "bob/two.ipynb": "taken"}


def test_bombs_are_refused_and_the_rest_is_taken(course: Course, inbox: Path) -> None:
    zeros = bytes(30_000_000)
    source = zipped(inbox / "all.zip", {"ada/two.ipynb": zeros, "bob/two.ipynb": None})
    rows = collect(course, source)
    assert "a zip bomb" in reason(rows, "ada/two.ipynb")
    assert verdicts(rows)["bob/two.ipynb"] == "taken"


def test_a_header_that_understates_the_size_is_seen_through(
    course: Course, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_BYTES", 50_000)
    data = bytes(range(256)) * 1000
    written = zip_bytes({"ada/two.ipynb": data, "bob/two.ipynb": None})
    lie = written.replace(len(data).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lie != written
    (inbox / "all.zip").write_bytes(lie)
    rows = collect(course, inbox / "all.zip")
    assert verdicts(rows) == {"ada/two.ipynb": "refused", "bob/two.ipynb": "taken"}


@pytest.mark.parametrize(("cap", "value"), [("MAX_MEMBERS", 2), ("MAX_TOTAL", 100)])
def test_a_zip_of_too_much_is_refused(
    course: Course, inbox: Path, monkeypatch: pytest.MonkeyPatch, cap: str, value: int
) -> None:
    monkeypatch.setattr(intake, cap, value)
    source = zipped(inbox / "all.zip", dict.fromkeys([f"s{n}/two.ipynb" for n in range(4)]))
    rows = collect(course, source)
    assert {row.verdict for row in rows} == {"refused"}
    assert "zip bomb" in rows[0].reason


def test_a_huge_notebook_is_refused(
    course: Course, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_BYTES", 1000)
    put(inbox / "ada/two.ipynb")
    [row] = collect(course, inbox)
    assert (row.verdict, row.reason[:9]) == ("refused", "too large")


def test_damaged_and_encrypted_members_are_refused(course: Course, inbox: Path) -> None:
    whole = zip_bytes({"ada/two.ipynb": None, "bob/two.ipynb": None})
    damaged = bytearray(whole)
    damaged[60:90] = bytes(30)
    (inbox / "all.zip").write_bytes(damaged)
    rows = collect(course, inbox / "all.zip")
    assert verdicts(rows) == {"ada/two.ipynb": "refused", "bob/two.ipynb": "taken"}
    locked = bytearray(zip_bytes({"eve/two.ipynb": None}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    (inbox / "locked.zip").write_bytes(locked)
    assert collect(course, inbox / "locked.zip")[0].reason == "encrypted"
    (inbox / "cut").mkdir()
    (inbox / "cut/ada.zip").write_bytes(whole[:100])
    assert "a damaged zip" in collect(course, inbox / "cut")[0].reason


def test_sources_that_are_none(course: Course, inbox: Path) -> None:
    for source, why in [
        (inbox / "none.zip", "no such file or folder"),
        (put(inbox / "notes.txt", b"text"), "neither a folder nor a zip"),
        (course.class_dir, "the collected submissions themselves"),
    ]:
        course.submitted.mkdir(parents=True, exist_ok=True)
        if why.startswith("the coll"):
            source = course.submitted
        with pytest.raises(CourseError, match=why):
            collect(course, source)


def test_two_names_are_never_one_student(course: Course, inbox: Path) -> None:
    put(inbox / "Wang Li/two.ipynb")
    put(inbox / "Wang_Li/two.ipynb")
    rows = collect(course, inbox)
    assert verdicts(rows) == {"Wang Li/two.ipynb": "taken", "Wang_Li/two.ipynb": "refused"}


@given(st.text())
def test_an_id_is_a_safe_file_name(name: str) -> None:
    student = safe_id(name)
    assert safe_id(student) == student
    assert "/" not in student and student not in (".", "..")
    assert not any(character.isspace() for character in student)
    assert len(student.encode()) <= 255 + 65


# Platforms


@pytest.mark.parametrize(
    ("place", "student", "lab"),
    [
        ("doejane_1234_567890_two.ipynb", "doejane_1234", "two"),
        ("doejane_LATE_1234_567890_two-2.ipynb", "doejane_1234", "two"),
        ("张伟_88_991_parameter_server.ipynb", "张伟_88", "parameter_server"),
        ("Jane Doe_1234_assignsubmission_file_/two.ipynb", "Jane Doe", "two"),
        ("Jane Doe_1234_assignsubmission_file/two.ipynb", "Jane Doe", "two"),
        ("HW-two/Jane Doe_1234_assignsubmission_file_two.ipynb", "Jane Doe", "two"),
        ("ada+two+2026-03-01 12:00:00.5 UTC+x1y2/two.ipynb", "ada", "two"),
    ],
)
def test_the_names_of_platforms(place: str, student: str, lab: str) -> None:
    [told] = senders(tuple(place.split("/")), LABS, {})
    assert (told.student, told.lab) == (student, lab)


def test_canvas_says_what_is_late(course: Course, inbox: Path) -> None:
    source = zipped(
        inbox / "submissions.zip",
        {"doejane_LATE_1234_5678_two.ipynb": None, "leeyong_1235_5679_two-1.ipynb": text(blank())},
    )
    rows = collect(course, source)
    assert handed_in(course) == ["doejane_1234/two/two.ipynb", "leeyong_1235/two/two.ipynb"]
    assert [row.reason for row in rows] == ["Canvas marks it late", ""]


def test_of_canvas_attempts_of_one_time_the_last_counts(course: Course, inbox: Path) -> None:
    names = [f"doejane_1234_{500 + n}_two-{n}.ipynb" for n in (2, 10)]
    source = zipped(inbox / "submissions.zip", {names[0]: text(blank()), names[1]: text()})
    for _ in range(2):
        collect(course, source)
        assert (course.submitted / "doejane_1234/two/two.ipynb").read_bytes() == text()


def test_gradescope_tells_who_and_when(course: Course, inbox: Path) -> None:
    export = inbox / "assignment_77_export"
    put(export / "submission_101/two.ipynb")
    put(export / "submission_102/two.ipynb", text(blank()))
    put(
        export / "submission_metadata.yml",
        b"submission_101:\n"
        b"  :submitters:\n"
        b"  - :name: Jane Doe\n"
        b"    :sid: '0042'\n"
        b"    :email: jane@example.edu\n"
        b"  - :name: Lee Yong\n"
        b"  :created_at: 2026-03-02 09:38:43.574000000 Z\n"
        b"  :score: 0.0\n"
        b"submission_102:\n"
        b"  :submitters:\n"
        b"  - :name: Zhang Wei\n"
        b"    :sid: ''\n"
        b"    :email: zw@example.edu\n"
        b"  :created_at: 2026-03-02 10:00:00 -05:00\n",
    )
    rows = collect(course, inbox)
    assert [(row.student, row.clock, row.reason) for row in rows] == [
        ("0042", "Gradescope", "handed in by 2 together"),
        ("Lee_Yong", "Gradescope", "handed in by 2 together"),
        ("zw@example.edu", "Gradescope", ""),
    ]
    assert rows[0].received == datetime(2026, 3, 2, 9, 38, 43, 574000, tzinfo=UTC)
    assert rows[2].received == datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


def test_the_inbound_folder_of_nbgraders_exchange(course: Course, inbox: Path) -> None:
    put(inbox / "ada+two+2026-03-01 12:00:00.500000 UTC+abc/two.ipynb", text(blank()))
    put(inbox / "ada+two+2026-03-02 12:00:00.500000 UTC+def/two.ipynb")
    rows = collect(course, inbox)
    assert [row.verdict for row in rows] == ["taken", "replaced"]
    assert rows[1].clock == "nbgrader's exchange"
    assert (course.submitted / "ada/two/two.ipynb").read_bytes() == text()


METADATA = b"submission_9:\n  :submitters:\n  - :sid: bob\n  :created_at: 2020-01-01 00:00:00 Z\n"


@pytest.mark.parametrize(
    ("place", "members"),
    [
        ("x_1_2_my.zip", {"bob_7_8_two.ipynb": None}),
        ("x_1_2_my.zip", {"Bob_3_assignsubmission_file_/two.ipynb": None}),
        ("x_1.zip", {"bob_two.ipynb": None}),
        ("x_1.zip", {"bob/two.ipynb": None}),
        ("x_1.zip", {"bob+two+2020-01-01 00:00:00 UTC/two.ipynb": None}),
        ("x_1.zip", {"submission_9/two.ipynb": None, "submission_metadata.yml": METADATA}),
        ("x_1_3_assignsubmission_file_/a.zip", {"bob/two.ipynb": None}),
        ("x_1/two.zip", {"two.ipynb": None, "timestamp.txt": b"2020-01-01 00:00:00 UTC"}),
        ("x_1/two.zip", {"two.ipynb": None, "old/bob_two.ipynb": text(blank())}),
        ("x_1/two.zip", {"two.ipynb": None, "two-Copy1.ipynb": text(blank())}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_a_student_packs_is_never_another_students_nor_earlier(
    course: Course, inbox: Path, place: str, members: dict[str, bytes | None], packed: bool
) -> None:
    inner = zip_bytes(members, NOON.replace(year=2021))
    if packed:
        rows = collect(course, zipped(inbox / "all.zip", {place: inner}))
    else:
        put(inbox / place, inner)
        rows = collect(course, inbox)
    assert [row.student for row in rows if row.verdict == "taken"] == ["x_1"]
    assert [row.received for row in rows if row.received] == [NOON]


def test_a_gradescope_submission_cannot_bring_its_own_metadata(course: Course, inbox: Path) -> None:
    listed = METADATA.replace(b"submission_9", b"submission_1").replace(b"bob", b"x_1")
    put(inbox / "submission_metadata.yml", listed)
    put(inbox / "submission_1" / "submission_metadata.yml", METADATA)
    put(inbox / "submission_1" / "submission_9" / "two.ipynb")
    assert [row.student for row in collect(course, inbox)] == ["x_1"]


def test_a_class_packed_within_the_source_is_not_taken_for_one_student(
    course: Course, inbox: Path
) -> None:
    put(inbox / "week3.zip", zip_bytes({"ada_two.ipynb": None, "bob_two.ipynb": None}))
    rows = collect(course, inbox)
    assert {row.verdict for row in rows} == {"refused"}
    assert "is collected by itself" in rows[0].reason
    assert len(collect(course, inbox / "week3.zip")) == 2


def test_a_timestamp_beside_the_notebook_counts(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two/two.ipynb")
    put(inbox / "ada/two/timestamp.txt", b"2026-02-28 08:00:00.000000 UTC")
    [row] = collect(course, inbox)
    assert (row.clock, row.received) == ("timestamp.txt", datetime(2026, 2, 28, 8, tzinfo=UTC))


def test_a_roster_maps_names_to_ids_and_lists_strangers(course: Course, inbox: Path) -> None:
    roster = inbox / "roster.csv"
    roster.write_text(
        "\ufeffID,Name,Email,Canvas\n"
        "s01,Jane Doe,jane@example.edu,1234\n"
        "s02,张伟,zw@example.edu,\n"
        's03,"Lee, Yong",lee@example.edu,\n',
        encoding="utf-8",
    )
    source = zipped(
        inbox / "all.zip",
        {
            "x_1234_5_two.ipynb": None,
            "leeyong_9_6_two.ipynb": None,
            "张伟_7_assignsubmission_file_/two.ipynb": None,
            "stranger_8_7_two.ipynb": None,
        },
    )
    rows = collect(course, source, read_roster(roster))
    assert {row.student: row.reason for row in rows} == {
        "s01": "",
        "s02": "",
        "s03": "",
        "stranger_8": "not in the roster",
    }


@pytest.mark.parametrize(
    ("text_of_it", "why"),
    [
        ("name\nJane", "needs a column id"),
        ("id,name\n,Jane", ":2: no id"),
        ("id\nada\nada", ":3: ada stands there twice"),
    ],
)
def test_a_bad_roster_is_told_by_its_line(tmp_path: Path, text_of_it: str, why: str) -> None:
    (tmp_path / "r.csv").write_text(text_of_it)
    with pytest.raises(CourseError, match=why):
        read_roster(tmp_path / "r.csv")


def test_a_name_of_two_students_means_neither(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,name\n1,Li Na\n2,Na Li\n")
    assert read_roster(tmp_path / "r.csv").find(["lina", "2"]) == "2"
    assert read_roster(tmp_path / "r.csv").find(["Li Na"]) is None


@pytest.mark.parametrize(
    "told", ["2026-03-01 12:00:00.000000 UTC", "2026-03-01T12:00:00Z", "2026-03-01 14:00:00 +0200"]
)
def test_times(told: str) -> None:
    assert parse_time(told) == NOON


@pytest.mark.parametrize("told", ["", "yesterday", "2026-13-01 12:00:00 UTC", "2026-03-01"])
def test_no_times(told: str) -> None:
    assert parse_time(told) is None


# What goes wrong on the way


def test_an_interrupted_replacement_is_put_right(
    course: Course, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(inbox / "ada/two.ipynb", text(blank()))
    collect(course, inbox)
    put(inbox / "ada/two.ipynb", text(solved()), NOON.replace(hour=13))
    real = Path.rename

    def power_cut(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            os._exit(9)
        return real(self, target)

    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(Path, "rename", power_cut)
        collect(course, inbox)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert handed_in(course) == []
    collecting._put_right(course)
    assert (course.submitted / "ada/two/two.ipynb").read_bytes() == text(blank())
    assert collect(course, inbox)[0].verdict == "replaced"
    assert [p.name for p in (course.class_dir / ".incoming").iterdir()] == ["lock"]


def test_only_one_collects_at_a_time(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb")
    with collecting._alone(course), pytest.raises(MachineryError, match="another collect"):
        collect(course, inbox)


@pytest.mark.sandbox
def test_a_full_disk_costs_one_line_and_nothing_is_half_written(
    course: Course, inbox: Path
) -> None:
    put(inbox / "ada/two.ipynb")
    put(inbox / "bob/two.ipynb", text({**solved(), "x": "x" * 100_000}))
    small = course.root / "small"
    small.mkdir()
    command = f"'{sys.executable}' -m autograder collect '{inbox}' --class small/class"
    script = f"{command}; echo status $?; find small -type f | sort"
    box = ["bwrap", "--bind", "/", "/", "--size", "65536", "--tmpfs", str(small)]
    done = subprocess.run(
        [*box, "sh", "-c", script],
        cwd=course.root,
        capture_output=True,
        text=True,
    )
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert done.stdout.splitlines() == [
        "status 3",
        "small/class/.incoming/lock",
        "small/class/submitted/ada/two/timestamp.txt",
        "small/class/submitted/ada/two/two.ipynb",
    ]


def test_a_class_that_cannot_be_written_costs_one_line(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb")
    in_the_way = inbox.parent / "class"
    in_the_way.write_text("a file")
    done = run_command(course, str(inbox), "--class", str(in_the_way / "term"))
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "cannot be written" in done.stderr


def run_command(course: Course, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autograder", "collect", *arguments],
        cwd=course.root,
        capture_output=True,
        text=True,
    )


def test_the_command_prints_a_table_and_the_status(course: Course, inbox: Path) -> None:
    put(inbox / "ada/two.ipynb")
    done = run_command(course, str(inbox))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 taken, 0 replaced, 0 refused, 0 skipped" in done.stdout.replace("\n", " ")
    save(blank(), inbox / "two.ipynb")
    assert run_command(course, str(inbox)).returncode == 1
    assert run_command(course, str(inbox / "none")).returncode == 2
