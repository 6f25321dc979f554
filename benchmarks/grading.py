"""How fast a class is graded, beside stock nbgrader on the same submissions, in one run.

Prints what was measured and what is asked for, line by line as it comes and as a table at the end,
and exits 1 when a row falls short.  `--quick` takes fewer submissions, for a look.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from autograder.authoring import parse, release, write_source
from autograder.course import Course, open_course
from autograder.engine.trials import Limits
from autograder.grading import Outcome, grade
from autograder.record import Recorder
from autograder.variants import alternative_answers

ROOT = Path(__file__).resolve().parent.parent
SMALL = """\
# ---
# title: A small lab that imports much
# hours: 1
# imports: [numpy, torch, matplotlib.pyplot]
# ---

# %% [markdown]
# # A small lab

# %% given
import matplotlib.pyplot as plt
import numpy as np
import torch

# %% task total
def total(values):
    ### BEGIN SOLUTION
    return float(torch.as_tensor(np.asarray(values, float)).sum())
    ### END SOLUTION

# %% test total 20
assert total([1.0, 2.0]) == 3.0

# %% hidden total 80
for count in range(5):
    assert total(np.ones(count)) == count
"""


def small_course(folder: Path) -> Course:
    source = folder / "solutions" / "small" / "lab.py"
    source.parent.mkdir(parents=True)
    source.write_text(SMALL)
    course = open_course(folder, folder / "class")
    release(course, ["small"])
    return course


def hand_in(course: Course, lab: str, student: str, answers: dict[str, str]) -> None:
    notebook: dict[str, Any] = json.loads(course.released_notebook(lab).read_text())
    for cell in notebook["cells"]:
        cell["source"] = answers.get(cell["id"], cell["source"])
    path = course.submitted / student / lab / f"{lab}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook))


def fill_small(course: Course, count: int) -> None:
    """Submissions that all differ, so that nothing is taken from what was executed before."""
    for number in range(count):
        answer = f"def total(values):\n    return float(np.sum(values)) + {number % 2}  # {number}"
        hand_in(course, "small", f"s{number:05}", {"total": answer})


def timed(course: Course, lab: str, jobs: int) -> tuple[float, list[Outcome]]:
    """Seconds to grade everything, and the outcomes; nothing but the lab is in the gradebook.

    The lab is entered beforehand, as stock nbgrader's `generate_assignment` does it.
    """
    shutil.rmtree(course.results, ignore_errors=True)
    course.gradebook.unlink(missing_ok=True)
    Recorder(course, parse(course.lab_source(lab))).close()
    began = time.monotonic()
    outcomes = grade(course, [lab], jobs=jobs, sandbox="required", limits=Limits())
    return time.monotonic() - began, outcomes


def stock(course: Course, lab: str, root: Path) -> tuple[float, dict[str, float]]:
    """Seconds that stock `nbgrader autograde` takes for the same in `root`, and its scores."""
    from nbgrader.api import Gradebook

    write_source(course, lab)
    shutil.copytree(course.submitted, root / "submitted")
    shutil.copytree(course.source_dir / lab, root / "source" / lab)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def call(*words: str) -> None:
        line = [sys.executable, "-m", "nbgrader", *words, "--course-dir", str(root)]
        subprocess.run(line, check=True, cwd=root, env=env, capture_output=True)

    call("generate_assignment", lab)
    began = time.monotonic()
    call("autograde", lab, "--Execute.timeout=60")
    seconds = time.monotonic() - began
    with Gradebook(f"sqlite:///{root}/gradebook.db") as book:
        scores = {
            entry.student.id: sum(g.auto_score or 0.0 for n in entry.notebooks for g in n.grades)
            for entry in book.assignment_submissions(lab)
        }
    return seconds, scores


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/grading.py --quick"
    )
    parser.add_argument("--quick", action="store_true", help="fewer submissions")
    quick = parser.parse_args().quick
    count, many, styles = (10, 300, 2) if quick else (40, 5000, 8)
    table = Table("what", "measured", "asked for", "")
    short = 0

    def row(what: str, measured: str, asked: str, fine: bool) -> None:
        nonlocal short
        short += not fine
        table.add_row(what, measured, asked, "" if fine else "short")
        print(f"{what}: {measured}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        course = small_course(Path(folder) / "small")
        fill_small(course, count)
        reference, scores = stock(course, "small", Path(folder) / "stock" / "small")
        row(f"stock nbgrader, {count} small submissions", f"{reference:.1f} s", "", True)
        for jobs, asked in ((1, 25), (2, 45)):
            seconds, outcomes = timed(course, "small", jobs)
            equal = {outcome.student: outcome.score for outcome in outcomes} == scores
            gain = reference / seconds
            row(f"the same, {jobs} at a time", f"{gain:.0f} x", f"{asked} x", gain >= asked)
            row("scores equal to stock nbgrader's", str(equal), "True", equal)

        lab = "parameter_server"
        real = open_course(ROOT, Path(folder) / "real")
        text = parse(real.lab_source(lab))
        right = {v.task: v.source for s in alternative_answers(real, text).values() for v in s}
        for number in range(styles):
            answers = {task: f"# {number}\n{source}" for task, source in right.items()}
            hand_in(real, lab, f"s{number}", answers)
        one, _ = timed(real, lab, 1)
        two, outcomes = timed(real, lab, 2)
        cells = sum(outcome.seconds for outcome in outcomes) / 2
        row(
            f"{lab}, {styles} submissions, 2 against 1",
            f"{one / two:.2f} x",
            "1.9 x",
            one / two >= 1.9,
        )
        row("its wall time / (cell times / 2)", f"{two / cells:.2f}", "1.25", two / cells <= 1.25)

        for lab in real.lab_names() if not quick else ():
            each = open_course(ROOT, Path(folder) / lab)
            styles_of = alternative_answers(each, parse(each.lab_source(lab)))
            right = {v.task: v.source for style in styles_of.values() for v in style}
            hand_in(each, lab, "honest", right)
            hand_in(each, lab, "blank", {})
            ours = {o.student: o.score for o in grade(each, [lab], jobs=1, sandbox="required")}
            _, scores = stock(each, lab, Path(folder) / "stock" / lab)
            row(
                f"{lab}: scores equal to stock nbgrader's",
                str(ours == scores),
                "True",
                ours == scores,
            )

        course = small_course(Path(folder) / "many")
        fill_small(course, many)
        marks: list[float] = []
        peak = 0
        began = time.monotonic()

        def note(outcome: Outcome) -> None:
            nonlocal peak
            marks.append(time.monotonic())
            if len(marks) % 50 == 0:
                peak = max(peak, psutil.Process().memory_info().rss)

        outcomes = grade(course, ["small"], jobs=2, sandbox="required", on_done=note)
        seconds = time.monotonic() - began
        tenth = many // 10
        rates = [tenth / (marks[tenth * (n + 1) - 1] - marks[tenth * n]) for n in (0, 9)]
        overhead = (2 * seconds - sum(outcome.seconds for outcome in outcomes)) / many
        row(f"{many} small submissions", f"{seconds:.0f} s, {many / seconds:.1f} /s", "", True)
        change = abs(rates[1] / rates[0] - 1)
        row("rate, last tenth against first", f"{change:.0%} apart", "20%", change <= 0.2)
        row("memory of the grader", f"{peak / 2**20:.0f} MiB", "1536 MiB", peak < 1.5 * 2**30)
        row(
            "a worker's time for each, without its cells'",
            f"{overhead * 1e3:.0f} ms",
            "120 ms",
            overhead < 0.12,
        )
    Console(width=100).print(table)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
