"""A sample class: sixteen submissions of the lab on the parameter server, as real ones come in.

`python -m autograder.sample --class DIR` makes them from the lab's known right and wrong answers,
puts them into `DIR/inbox` and takes them in as `autograder collect` does.  `EXPECTED` says what
each must get.  Doing it again changes nothing.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from autograder.authoring import parse
from autograder.collect import Row, collect
from autograder.course import Course, CourseError, MachineryError, open_course
from autograder.settings import CLASS_FILE
from autograder.variants import alternative_answers, wrong_answers

LAB = "parameter_server"
FIRST = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
"""When the first submission came in; the others follow at intervals of 97 minutes."""
SETTINGS = """\
[late]
grace_minutes = 15
percent_per_day = 10
most_percent = 50

[labs.parameter_server]
due = "2026-03-03 06:20"
extensions."王小明" = 3
"""
"""Of the last three one is within the grace period, one is late, one has three days more."""

EXPECTED: dict[str, tuple[str, float | None]] = {
    "abergman": ("graded", 90),
    "bokafor3": ("graded", 90),
    "chen.yiting": ("graded", 77),
    "dgarcia": ("graded", 73),
    "eivanova2": ("graded", 68),
    "fhussein": ("graded", 74),
    "gsmith7": ("graded", 0),
    "hnguyen": ("graded", 47),
    "ikowalski": ("graded", 90),
    "jdubois": ("graded", 90),
    "kpatel4": ("graded", 84),
    "lrossi": ("partly graded", 75),
    "mtanaka": ("failed", None),
    "nobrien": ("graded", 90),
    "oyilmaz": ("graded", 61),
    "王小明": ("graded", 90),
}
"""State and points of the machine, of 90, by student; the written answers' 10 are for a person."""

READING = (
    "From a bound of about 8 on the curve is flat. A stall lasts as long as some 13 iterations, and"
    " a worker that may run ahead that far need not wait for it. The measured times lie above the"
    " theory, which knows neither pull and push nor the start of the processes."
)
CHOICE = (
    "Rows on the parameter server: a batch touches 20 MB of 200 GB, and no machine holds them all."
    " Dense layers by ring all-reduce. If a server dies its rows are gone unless they are"
    " replicated; if a member of the ring dies, the iteration stops."
)
CHINESE = (
    "界限大约到 8 以后曲线就平了：一次停顿约等于十三次迭代，允许领先这么多，就不必等待。"
    "实测时间高于理论，因为理论没有计入拉取、推送和进程启动的时间。"
)
ENDLESS = """
# From which n on is the ring cheaper?
n = 2
while n + 1 > n:
    n += 1
print(n)


def traffic(n, k, size, mode):
    return 2 * size, 2 * n * size // k, 2 * n * size
"""
KILLS = """
import os


class KeyCache:
    def __init__(self, capacity):
        os._exit(1)  # stop here while I debug
"""


@dataclass(frozen=True)
class _Answers:
    """The lab's notebook as handed out, and the known answers to fill it with."""

    blank: dict[str, Any]
    right: dict[str, str]
    wrong: dict[tuple[str, str], str]

    def notebook(
        self,
        tasks: Iterable[str] | None = None,
        wrong: Iterable[tuple[str, str]] = (),
        **cells: str,
    ) -> dict[str, Any]:
        """A notebook with `tasks` (all, unless they are named) solved, some of them wrongly."""
        texts = {task: self.right[task] for task in (self.right if tasks is None else tasks)}
        texts |= {task: self.wrong[task, name] for task, name in wrong}
        texts |= cells
        made = copy.deepcopy(self.blank)
        for cell in made["cells"]:
            if cell["id"].removeprefix("written-") in texts:
                cell["source"] = texts[cell["id"].removeprefix("written-")]
        return made


def read_answers(course: Course) -> _Answers:
    """What the submissions are made of.

    Raises `CourseError` when the lab is not released, or has a task without an alternative answer.
    """
    lab = parse(course.lab_source(LAB))
    path = course.released_notebook(LAB)
    if not path.is_file():
        raise CourseError(f"{path}: not released yet: run autograder release {LAB}")
    right: dict[str, str] = {}
    for style in alternative_answers(course, lab).values():
        for answer in style:
            right.setdefault(answer.task, answer.source)
    for task in lab.tasks:
        if task not in right:
            raise CourseError(f"solutions/{LAB}/alternative.py: has no answer to {task}")
    wrong = {(item.task, item.name): item.source for item in wrong_answers(course, lab)}
    return _Answers(json.loads(path.read_text(encoding="utf-8")), right, wrong)


def _duplicated(answers: _Answers) -> dict[str, Any]:
    """Copied a graded cell, and began a task again in a copy of its cell."""
    made = answers.notebook()
    cells = made["cells"]
    place = next(n for n, cell in enumerate(cells) if cell["id"] == "test-gate")
    cells.insert(place + 1, copy.deepcopy(cells[place]))
    task = next(n for n, cell in enumerate(answers.blank["cells"]) if cell["id"] == "chain")
    cells.append(copy.deepcopy(answers.blank["cells"][task]))
    return made


def _deleted(answers: _Answers) -> dict[str, Any]:
    made = answers.notebook(reading=READING)
    made["cells"] = [cell for cell in made["cells"] if cell["id"] != "test-train"]
    return made


def _large(answers: _Answers) -> dict[str, Any]:
    """Left a print in a loop: 5 MB of output are stored in the notebook."""
    made = answers.notebook(choice=CHOICE)
    cell = next(cell for cell in made["cells"] if cell["id"] == "test-hash_ring")
    line = "key 12345678 belongs to server 3\n"
    text = line * (5_000_000 // len(line))
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    cell["execution_count"] = 12
    return made


def _chinese(answers: _Answers) -> dict[str, Any]:
    made = answers.notebook(reading=CHINESE)
    for cell in made["cells"]:
        if cell["id"] in answers.right:
            cell["source"] = f"# 我的答案：{cell['id']}\n{cell['source']}"
    place = next(n for n, cell in enumerate(made["cells"]) if cell["id"] == "test-framing")
    note: dict[str, Any] = {"cell_type": "code", "id": "xiaoming-1", "metadata": {}, "outputs": []}
    note |= {
        "execution_count": None,
        "source": "# 检查一下帧的长度\n帧长 = 32\nprint('帧头', 帧长)",
    }
    made["cells"].insert(place, note)
    return made


MAKERS: dict[str, Callable[[_Answers], dict[str, Any] | str]] = {
    "abergman": lambda a: a.notebook(reading=READING, choice=CHOICE),
    "bokafor3": lambda a: a.notebook(),
    "chen.yiting": lambda a: a.notebook(
        wrong=[
            ("framing", "copies what it decodes"),
            ("traffic", "every server holds the whole model"),
        ]
    ),
    "dgarcia": lambda a: a.notebook(
        wrong=[
            ("hash_ring", "hash() of a string differs per process"),
            ("gate", "forgets to notify"),
        ],
        choice=CHOICE,
    ),
    "eivanova2": lambda a: a.notebook(
        wrong=[
            ("kv_store", "a repeated key gets its last gradient only"),
            ("chain", "knows messages by their number alone"),
        ]
    ),
    "fhussein": lambda a: a.notebook(
        wrong=[
            ("train", "asks one server after the other"),
            ("filters", "the sender never forgets"),
        ]
    ),
    "gsmith7": lambda a: a.notebook(tasks=()),
    "hnguyen": lambda a: a.notebook(tasks=("framing", "hash_ring", "kv_store", "gate")),
    "ikowalski": _duplicated,
    "jdubois": _deleted,
    "kpatel4": lambda a: a.notebook(traffic=ENDLESS.strip()),
    "lrossi": lambda a: a.notebook(filters=KILLS.strip()),
    "mtanaka": lambda a: json.dumps(a.notebook())[:40_000],
    "nobrien": _large,
    "oyilmaz": lambda a: a.notebook(
        wrong=[
            ("framing", "waits for whatever a header promises"),
            ("kv_store", "a repeated key is two Adagrad updates"),
            ("gate", "compares with the fastest"),
        ],
        reading="I think a bigger bound is always better.",
    ),
    "王小明": _chinese,
}


def make(course: Course) -> list[Row]:
    """Write the sample class's submissions into the class's inbox and collect them.

    Raises `CourseError` when the lab cannot be read and `MachineryError` when nothing can be
    written.
    """
    answers = read_answers(course)
    inbox = course.class_dir / "inbox"
    try:
        inbox.mkdir(parents=True, exist_ok=True)
        (course.class_dir / CLASS_FILE).write_text(SETTINGS, encoding="utf-8")
        for number, (student, maker) in enumerate(MAKERS.items()):
            made = maker(answers)
            text = made if isinstance(made, str) else json.dumps(made, ensure_ascii=False, indent=1)
            path = inbox / f"{student}_{LAB}.ipynb"
            path.write_text(text, encoding="utf-8")
            when = (FIRST + number * timedelta(minutes=97)).timestamp()
            os.utime(path, (when, when))
    except OSError as error:
        raise MachineryError(f"{inbox}: cannot be written: {error.strerror}") from error
    return collect(course, inbox)


@click.command(epilog="Example: python -m autograder.sample --class _build/sample")
@click.option(
    "--class",
    "class_dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="The folder of the sample class; made if it is not there.",
)
def main(class_dir: Path) -> None:
    """Make the sample class: sixteen submissions of the lab on the parameter server.

    Safe to repeat: what is there already stays as it is. `autograder grade --class DIR` grades it.
    """
    try:
        rows = make(open_course(None, class_dir))
    except CourseError as error:
        click.echo(f"sample: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    new = sum(row.verdict in ("taken", "replaced") for row in rows)
    click.echo(f"{class_dir}: {len(rows)} submissions, {new} of them new")


if __name__ == "__main__":
    main()
