"""Grading a class: from `submitted/` to the gradebook.

For each submission: rebuild it from the trusted source, look its code up among what has been
executed, execute what is new, record the grades, and note what became of it in `results/`.  That
note is written last, so a run that was killed goes on where it was, and a second run finds nothing
to do.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nbformat import NotebookNode

from autograder import late
from autograder.authoring import Lab, parse
from autograder.course import Course, CourseError
from autograder.engine.cache import Cache, fingerprint
from autograder.engine.cluster import ClusterEngine
from autograder.engine.executor import CellResult
from autograder.engine.host import Engine
from autograder.engine.jupyter import JupyterEngine
from autograder.engine.trials import Limits, SandboxChoice, Trial, Verdicts
from autograder.rebuild import Rebuilt, Unreadable, rebuild
from autograder.record import NOT_RUN, Recorder, Score, settle, write_whole
from autograder.settings import read_settings

State = Literal["graded", "partly graded", "needs review", "failed"]
AnyEngine = Engine | ClusterEngine | JupyterEngine


@dataclass(frozen=True)
class Outcome:
    """What became of one submission.

    `score` of `max_score` are the points given by machine (None where there are none), `to_read`
    counts the answers that wait for a person, `notes` say what was mended, `evidence` why a person
    should look, `sandbox` the isolation that its code ran in, `done` says that it is as an earlier
    run left it.  `penalty` are points that lateness takes off the score, manual points included.
    """

    student: str
    lab: str
    state: State
    score: float | None = None
    max_score: float = 0.0
    to_read: int = 0
    reason: str = ""
    notes: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    tasks: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    sandbox: str = ""
    done: bool = False
    hours_late: float = 0.0
    penalty: float = 0.0


@dataclass(frozen=True)
class Submission:
    """A handed-in notebook: whose, where, when it came in, and, if it can be read, its contents."""

    student: str
    path: Path
    timestamp: str = ""
    data: bytes = b""
    problem: str = ""


@dataclass
class Work:
    """A submission that can be run: rebuilt, with the mark by which a later run knows it again."""

    submission: Submission
    rebuilt: Rebuilt
    mark: str
    trial: Trial


def grade(
    course: Course,
    labs: Sequence[str] = (),
    students: Sequence[str] = (),
    *,
    force: bool = False,
    jobs: int = 1,
    sandbox: SandboxChoice = "auto",
    limits: Limits | None = None,
    scheduler: str = "",
    kernel: bool = False,
    on_start: Callable[[str, int], None] = lambda lab, count: None,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Grade what is new or changed, or, with `force`, everything; one outcome a submission.

    `scheduler` is the address of a Dask scheduler whose workers do it in place of this machine;
    `kernel` takes a cold Jupyter kernel for each notebook, as stock nbgrader does.

    Raises `CourseError` for an unknown lab or student and for a lab whose source is not sound,
    `MachineryError` when gradebook, disk or sandbox fail.  What was recorded until then stays.
    """
    names = course.select(tuple(labs))
    read_settings(course)
    if not course.submitted.is_dir():
        raise CourseError(f"{course.submitted}: no submissions there; collect some first")
    known = {path.name for path in course.submitted.iterdir() if path.is_dir()}
    for student in students:
        if student not in known:
            raise CourseError(f"{student}: no such student in {course.submitted}")
    outcomes: list[Outcome] = []
    for name in names:
        found = list(find_submissions(course, name, set(students)))
        if not found and not labs:
            continue
        on_start(name, len(found))
        lab = parse(course.lab_source(name))
        mine: list[Outcome] = []
        for outcome in _grade_lab(
            course,
            lab,
            found,
            force,
            lambda imports: open_engine(scheduler, kernel, sandbox, limits, imports, jobs),
        ):
            on_done(outcome)
            mine.append(outcome)
        late.settle(course, name)
        lateness = late.read_lateness(course, name)
        outcomes += [_with_lateness(outcome, lateness) for outcome in mine]
    return sorted(outcomes, key=lambda outcome: (outcome.lab, outcome.student))


def _with_lateness(outcome: Outcome, lateness: dict[str, late.Lateness]) -> Outcome:
    found = lateness.get(outcome.student)
    if found is None or outcome.score is None:
        return outcome
    return replace(outcome, hours_late=found.hours, penalty=found.penalty)


def open_engine(
    scheduler: str,
    kernel: bool,
    sandbox: SandboxChoice,
    limits: Limits | None,
    imports: Sequence[str],
    jobs: int,
) -> AnyEngine:
    """The engine of this machine, that of a cluster, or the reference."""
    if kernel:
        return JupyterEngine(limits or Limits(), jobs)
    if scheduler:
        return ClusterEngine(scheduler, sandbox, limits or Limits(), imports)
    return Engine(sandbox, limits or Limits(), imports, jobs)


def find_submissions(course: Course, lab: str, students: set[str]) -> Iterator[Submission]:
    """What was handed in for a lab, by student; a problem in place of contents that do not read."""
    for folder in sorted(course.submitted.iterdir()):
        if folder.name.startswith(".") or (students and folder.name not in students):
            continue
        if not (folder / lab).exists() and not (folder / lab).is_symlink():
            continue
        yield read_submission(folder.name, folder / lab, lab)


def read_submission(student: str, folder: Path, lab: str) -> Submission:
    """Read the notebook and the time of receipt in `folder`; links are not followed."""
    path = folder / f"{lab}.ipynb"
    try:
        for place in (folder.parent, folder):
            if not stat.S_ISDIR(place.lstat().st_mode):
                return Submission(student, path, problem=f"{place.name} is not a folder")
        if not path.exists() and not path.is_symlink():
            others = sorted(other.name for other in folder.glob("*.ipynb"))
            there = f"; there is {', '.join(others)}" if others else ""
            return Submission(student, path, problem=f"{path.name} is not there{there}")
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a link or a device"
            return Submission(student, path, problem=f"{path.name} is {kind}, not a file")
        stamp = folder / "timestamp.txt"
        plain = stamp.exists() and stat.S_ISREG(stamp.lstat().st_mode)
        timestamp = _timestamp(stamp.read_text(errors="replace")) if plain else ""
        return Submission(student, path, timestamp, path.read_bytes())
    except OSError as error:
        return Submission(student, path, problem=f"{path.name} cannot be read: {error.strerror}")


def _timestamp(text: str) -> str:
    """The time in nbgrader's form; "" for a text that is no time."""
    from nbgrader.utils import parse_utc

    try:
        return str(parse_utc(text.strip())) if text.strip() else ""
    except (ValueError, OverflowError):
        return ""


def _grade_lab(
    course: Course,
    lab: Lab,
    submissions: list[Submission],
    force: bool,
    start: Callable[[Sequence[str]], AnyEngine],
) -> Iterator[Outcome]:
    files = course.handout_files(lab.slug)
    with (
        closing(Recorder(course, lab)) as recorder,
        closing(start(lab.imports)) as engine,
    ):
        in_book = recorder.students()
        cache = open_cache(course, lab, files, engine)
        work: list[Work] = []
        for submission in submissions:
            prepared = _prepare(course, lab, recorder, cache, submission, files)
            if isinstance(prepared, Outcome):
                yield prepared
            elif (
                not force
                and submission.student in in_book
                and (old := _as_before(course, lab, prepared))
            ):
                yield old
            else:
                work.append(prepared)
                if isinstance(engine, Engine) and (force or not cache.holds(prepared.trial)):
                    engine.prepare()
        for item, verdicts in executed(course, lab, engine, cache, work, force=force):
            yield _record(course, lab, recorder, item, verdicts, engine.level)


def open_cache(course: Course, lab: Lab, files: Sequence[Path], engine: AnyEngine) -> Cache:
    """What has been executed of a lab, in the environment of this engine."""
    return Cache(
        course.results / lab.slug / "executed",
        fingerprint(lab, files, engine.limits, engine.level),
    )


def executed(
    course: Course,
    lab: Lab,
    engine: AnyEngine,
    cache: Cache,
    work: Sequence[Work],
    *,
    force: bool = False,
) -> Iterator[tuple[Work, Verdicts]]:
    """The verdicts on each piece of work, from the cache or by running what is not in it.

    What took long the last time is started first.
    """
    fresh: list[tuple[Work, Verdicts | None, Trial]] = []
    for item in work:
        known, left = (None, item.trial) if force else cache.get(item.trial)
        if known is not None and not left.cells:
            yield item, known
        else:
            fresh.append((item, known, left))
    fresh.sort(key=lambda work: -_earlier_seconds(course, lab, work[0].submission.student))
    for number, verdicts in engine.run(left for _, _, left in fresh):
        item, known, _ = fresh[number]
        verdicts = _joined(item.trial, known, verdicts)
        cache.put(verdicts)
        yield item, verdicts


def _joined(trial: Trial, known: Verdicts | None, new: Verdicts) -> Verdicts:
    """New results over those that are known of the same code under other tests."""
    if known is None:
        return new
    return replace(
        new,
        trial=trial,
        cells={**known.cells, **new.cells},
        evidence=tuple(dict.fromkeys((*known.evidence, *new.evidence))),
    )


def _prepare(
    course: Course,
    lab: Lab,
    recorder: Recorder,
    cache: Cache,
    submission: Submission,
    files: Sequence[Path],
) -> Work | Outcome:
    try:
        return rebuilt_work(lab, recorder.source, recorder.released, cache, submission, files)
    except Unreadable as error:
        recorder.forget(submission.student)
        outcome = Outcome(
            submission.student, lab.slug, "failed", None, _machine_points(lab), 0, str(error)
        )
        _note(course, outcome, mark="")
        return outcome


def rebuilt_work(
    lab: Lab,
    source: NotebookNode,
    released: NotebookNode,
    cache: Cache,
    submission: Submission,
    files: Sequence[Path],
) -> Work:
    """A submission, rebuilt from the trusted source; raises `Unreadable` with the reason."""
    if submission.problem:
        raise Unreadable(submission.problem)
    try:
        rebuilt = rebuild(submission.data, lab.slug, source, released)
    except Unreadable as error:
        raise Unreadable(f"{submission.path.name}: {error}") from None
    trial = trial_of(submission.student, lab, rebuilt.notebook, files)
    text = [(cell.id, cell.source) for cell in rebuilt.notebook.cells]
    points = [(cell.id, cell.points) for cell in lab.graded]
    mark = hashlib.sha256(
        json.dumps([cache.environment, text, points, submission.timestamp]).encode()
    ).hexdigest()
    return Work(submission, rebuilt, mark, trial)


def trial_of(name: str, lab: Lab, notebook: NotebookNode, files: Sequence[Path] = ()) -> Trial:
    """The code cells of a rebuilt notebook, as the engine takes them."""
    outside = frozenset(cell.id for cell in lab.cells if cell.outside)
    return Trial(
        name,
        tuple((cell.id, cell.source) for cell in notebook.cells if cell.cell_type == "code"),
        tests=frozenset(cell.id for cell in lab.graded if cell.is_code),
        outside=outside,
        files=tuple(files),
    )


def settled(work: Work, verdicts: Verdicts) -> dict[str, CellResult]:
    """What became of each code cell; the rebuilt notebook gets the outputs that say so."""
    results: dict[str, CellResult] = {}
    for cell in work.rebuilt.notebook.cells:
        if cell.cell_type == "code":
            results[cell.id] = verdicts.cells.get(cell.id) or replace(NOT_RUN, id=cell.id)
            settle(cell, results[cell.id])
    return results


def _record(
    course: Course,
    lab: Lab,
    recorder: Recorder,
    work: Work,
    verdicts: Verdicts,
    level: str,
) -> Outcome:
    """Enter the grades, then note the outcome; the note is what makes it done."""
    if verdicts.broken:
        reason = f"{verdicts.broken}; grade again"
        return Outcome(work.submission.student, lab.slug, "failed", reason=reason, sandbox=level)
    results = settled(work, verdicts)
    score = recorder.record(
        work.submission.student, work.rebuilt.notebook, work.submission.timestamp
    )
    tests = [cell.id for cell in lab.graded if cell.is_code]
    state, reason = _state(results, tests, verdicts)
    outcome = Outcome(
        student=work.submission.student,
        lab=lab.slug,
        state=state,
        score=score.points,
        max_score=score.max_points,
        to_read=score.to_read,
        reason=reason,
        notes=(*work.rebuilt.notes, *_left(verdicts)),
        evidence=verdicts.evidence,
        tasks=_by_task(lab, work.rebuilt.notebook, score),
        seconds=round(sum(result.seconds for result in results.values()), 3),
        sandbox=level,
    )
    _note(course, outcome, mark=work.mark, results=results)
    return outcome


def _left(verdicts: Verdicts) -> Iterator[str]:
    for line in verdicts.left_behind:
        yield f"a process was still running at the end and was ended: {line}"


def _state(
    results: dict[str, CellResult], tests: list[str], verdicts: Verdicts
) -> tuple[State, str]:
    if verdicts.evidence:
        return "needs review", verdicts.evidence[0]
    missing = [test for test in tests if results[test].status == "not executed"]
    if missing:
        last = [result for result in results.values() if result.status != "not executed"][-1:]
        why = f"{last[0].id}: {last[0].message}; " if last else ""
        return "partly graded", f"{why}{len(missing)} of {len(tests)} tests did not run"
    return "graded", ""


def _by_task(lab: Lab, notebook: NotebookNode, score: Score) -> dict[str, float]:
    from nbgrader.utils import determine_grade

    points: dict[str, float] = dict.fromkeys((cell.name for cell in lab.graded), 0.0)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            points[cell.metadata.course.task] += determine_grade(cell)[0] or 0.0
    return points


def _result_path(course: Course, lab: str, student: str) -> Path:
    return course.results / lab / "students" / f"{student}.json"


def _note(
    course: Course, outcome: Outcome, *, mark: str, results: dict[str, CellResult] | None = None
) -> None:
    cells = {
        cell: {
            "status": result.status,
            "seconds": round(result.seconds, 4),
            "message": result.message,
        }
        for cell, result in (results or {}).items()
    }
    data = {"mark": mark, "outcome": asdict(outcome), "cells": cells}
    path = _result_path(course, outcome.lab, outcome.student)
    write_whole(path, json.dumps(data, ensure_ascii=False, indent=1))


def read_note(course: Course, lab: str, student: str) -> dict[str, Any]:
    """What `results/` holds of a submission: its mark, outcome and cells; empty without any."""
    path = _result_path(course, lab, student)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _as_before(course: Course, lab: Lab, work: Work) -> Outcome | None:
    note = read_note(course, lab.slug, work.submission.student)
    if not note or note.get("mark") != work.mark:
        return None
    return replace(outcome_of(note), done=True)


def outcome_of(note: dict[str, Any]) -> Outcome:
    """The outcome that a note of `results/` holds."""
    fields = dict(note["outcome"])
    for name in ("notes", "evidence"):
        fields[name] = tuple(fields[name])
    return Outcome(**fields)


def _earlier_seconds(course: Course, lab: Lab, student: str) -> float:
    """How long the student's last version took; what is unknown counts as long, to start early."""
    note = read_note(course, lab.slug, student)
    return float(note["outcome"]["seconds"]) if note else float("inf")


def _machine_points(lab: Lab) -> float:
    """The points that tests decide."""
    return float(sum(cell.points for cell in lab.graded if cell.is_code))
