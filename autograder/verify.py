"""The quality gate of the labs: does a lab grade what it claims to grade?

For each lab: the reference solution passes every test, again and again; the blank release passes
none; each answer in `wrong.py` loses the points of its task; each style in `alternative.py` keeps
them all; each task is graded by itself, with every other task left blank; nothing secret stands in
`labs/` or in the book; nothing that a trial started outlives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from autograder.authoring import (
    Lab,
    parse,
    release,
    released_notebook,
    source_notebook,
)
from autograder.course import Course, CourseError
from autograder.engine.host import open_engine
from autograder.engine.trials import Limits, Trial, Verdicts
from autograder.variants import alternative_answers, leaks, wrong_answers

MIN_WRONG = 5
MIN_STYLES = 2
REFERENCE_SECONDS = 90.0
LIMITS = Limits(cell_seconds=60.0)

Progress = Callable[[str, Verdicts], None]


@dataclass
class LabReport:
    """What the gate found out about one lab; it is sound when `misses` is empty."""

    lab: str
    points: int = 0
    reference_runs: int = 0
    reference_seconds: float = 0.0
    slowest: tuple[str, float] = ("", 0.0)
    wrong: int = 0
    styles: int = 0
    misses: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Case:
    """A trial and what must hold of it afterwards."""

    trial: Trial
    judge: Callable[[Verdicts, LabReport], None]


def verify(
    course: Course,
    names: list[str],
    *,
    repeat: int = 1,
    jobs: int = 1,
    cascade: bool = False,
    progress: Progress = lambda lab, verdicts: None,
) -> list[LabReport]:
    """Put each lab through the gate.

    `repeat` runs the reference that often; `cascade` runs every test after each wrong answer, and
    not only those of its task.  `progress` is told of each trial as it ends.
    """
    return [
        verify_lab(course, name, repeat=repeat, jobs=jobs, cascade=cascade, progress=progress)
        for name in names
    ]


def verify_lab(
    course: Course,
    name: str,
    *,
    repeat: int = 1,
    jobs: int = 1,
    cascade: bool = False,
    progress: Progress = lambda lab, verdicts: None,
) -> LabReport:
    report = LabReport(name)
    try:
        lab = parse(course.lab_source(name))
        cases = _cases(course, lab, repeat, cascade)
    except CourseError as error:
        report.misses.append(str(error))
        return report
    report.points = lab.points
    report.wrong = len(wrong_answers(course, lab))
    report.styles = len(alternative_answers(course, lab))
    _check_supply(course, lab, report)
    _check_secrets(course, lab, report)
    # Wall-clock properties of the reference are judged with the machine to itself.
    alone = [case for case in cases if case.trial.name.startswith("reference")]
    together = [case for case in cases if case not in alone]
    for group, width in ((alone, 1), (together, jobs)):
        with open_engine("auto", LIMITS, lab.imports, width) as engine:
            misses: dict[int, list[str]] = {}
            for number, verdicts in engine.run(case.trial for case in group):
                progress(name, verdicts)
                misses[number] = _judged(group[number], verdicts, report)
            report.misses += [miss for number in sorted(misses) for miss in misses[number]]
    return report


def _judged(case: _Case, verdicts: Verdicts, report: LabReport) -> list[str]:
    """What is wrong with a trial; the reference's figures go into the report."""
    trial = verdicts.trial.name
    found = LabReport(report.lab)
    case.judge(verdicts, found)
    report.reference_runs += found.reference_runs
    report.reference_seconds = max(report.reference_seconds, found.reference_seconds)
    report.slowest = max(report.slowest, found.slowest, key=lambda item: item[1])
    found.misses += [f"{trial}: left a process behind: {line}" for line in verdicts.left_behind]
    found.misses += [f"{trial}: is taken for tampering: {what}" for what in verdicts.evidence]
    if verdicts.broken:
        found.misses.append(f"{trial}: {verdicts.broken}")
    return found.misses


def _check_supply(course: Course, lab: Lab, report: LabReport) -> None:
    wrong = wrong_answers(course, lab)
    for task in sorted(set(lab.tasks) - {variant.task for variant in wrong}):
        report.misses.append(f"wrong.py: has no wrong answer to {task}")
    if len(wrong) < MIN_WRONG:
        report.misses.append(f"wrong.py: {len(wrong)} wrong answers, {MIN_WRONG} are asked for")
    styles = alternative_answers(course, lab)
    if len(styles) < MIN_STYLES:
        report.misses.append(f"alternative.py: {len(styles)} styles, {MIN_STYLES} are asked for")
    if lab.points != 100:
        report.misses.append(f"lab.py: the points add up to {lab.points}, not to 100")


def _check_secrets(course: Course, lab: Lab, report: LabReport) -> None:
    if release(course, [lab.slug], check=True):
        report.misses.append(f"labs/{lab.slug}: is not the release of its source: run release")
    places = [path for path in (course.labs_dir / lab.slug).rglob("*") if path.is_file()]
    places += (course.root / "book").rglob("*.md")
    for path in sorted(places):
        if path.suffix in (".ipynb", ".md", ".py", ".txt"):
            report.misses += leaks(lab, path)


def _cases(course: Course, lab: Lab, repeat: int, cascade: bool) -> list[_Case]:
    source = {cell.id: cell.source for cell in source_notebook(lab).cells}
    blank = {cell.id: cell.source for cell in released_notebook(course, lab.slug).cells}
    wrong = wrong_answers(course, lab)
    styles = alternative_answers(course, lab)
    tests = [cell.id for cell in lab.graded if cell.is_code]
    everything = [cell.id for cell in lab.cells if cell.is_code]
    graded = [cell.id for cell in lab.cells if cell.kind in ("given", "task", "test", "hidden")]
    handout = course.handout(lab.slug)
    files = tuple(sorted(handout.glob("*"))) if handout.is_dir() else ()
    stubs = {task: blank[task] for task in lab.tasks}

    def trial(name: str, cells: Iterable[str], replaced: dict[str, str]) -> Trial:
        return Trial(
            name,
            tuple((cell, replaced.get(cell, source[cell])) for cell in cells),
            tests=frozenset(tests),
            outside=frozenset(cell.id for cell in lab.cells if cell.outside),
            files=files,
        )

    def own(task: str) -> list[str]:
        return [f"test-{task}", f"hidden-{task}"]

    def needed_for(task: str) -> list[str]:
        return [cell for cell in graded if cell not in tests or cell in own(task)]

    cases = [
        _Case(trial(f"reference {n}", everything, {}), _reference_passes(tests))
        for n in range(1, repeat + 1)
    ]
    cases.append(_Case(trial("blank", graded, stubs), _none_passes(tests)))
    for task in lab.tasks:
        others = {name: stub for name, stub in stubs.items() if name != task}
        cases.append(_Case(trial(f"{task} alone", needed_for(task), others), _all_pass(own(task))))
    for variant in wrong:
        cells = graded if cascade else needed_for(variant.task)
        spared = [
            cell
            for cell in tests
            if cascade and cell not in own(variant.task) and cell.split("-", 1)[1] in lab.tasks
        ]
        cases.append(
            _Case(
                trial(
                    f"wrong {variant.task}: {variant.name}", cells, {variant.task: variant.source}
                ),
                _loses(f"hidden-{variant.task}", spared),
            )
        )
    for style, variants in styles.items():
        replaced = {variant.task: variant.source for variant in variants}
        cases.append(_Case(trial(f"alternative: {style}", graded, replaced), _all_pass(tests)))
    return cases


def _reference_passes(tests: list[str]) -> Callable[[Verdicts, LabReport], None]:
    def judge(verdicts: Verdicts, report: LabReport) -> None:
        report.reference_runs += 1
        report.reference_seconds = max(report.reference_seconds, verdicts.seconds)
        for cell, result in verdicts.cells.items():
            if result.seconds > report.slowest[1]:
                report.slowest = (cell, result.seconds)
            if result.status != "passed" and cell not in tests:
                report.misses.append(
                    f"{verdicts.trial.name}: cell {cell}: {verdicts.message(cell)}"
                )
        if verdicts.seconds > REFERENCE_SECONDS:
            report.misses.append(
                f"{verdicts.trial.name}: took {verdicts.seconds:.0f} s;"
                f" {REFERENCE_SECONDS:.0f} s are allowed"
            )
        _all_pass(tests)(verdicts, report)

    return judge


def _all_pass(tests: list[str]) -> Callable[[Verdicts, LabReport], None]:
    def judge(verdicts: Verdicts, report: LabReport) -> None:
        report.misses += [
            f"{verdicts.trial.name}: {cell} does not pass: {verdicts.message(cell)}"
            for cell in tests
            if not verdicts.passed(cell)
        ]

    return judge


def _none_passes(tests: list[str]) -> Callable[[Verdicts, LabReport], None]:
    def judge(verdicts: Verdicts, report: LabReport) -> None:
        report.misses += [
            f"{verdicts.trial.name}: {cell} passes though nothing is solved"
            for cell in tests
            if verdicts.passed(cell)
        ]

    return judge


def _loses(cell: str, spared: list[str]) -> Callable[[Verdicts, LabReport], None]:
    def judge(verdicts: Verdicts, report: LabReport) -> None:
        if verdicts.passed(cell):
            report.misses.append(f"{verdicts.trial.name}: {cell} passes all the same")
        _all_pass(spared)(verdicts, report)

    return judge
