"""What has been executed need not be executed again: results by the content of what was run.

An entry belongs to the code of a notebook without its tests, in one environment; it holds the
result of each test beside a digest of the test, so that a changed test is run anew and the others
are not graded by an old one.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache as once
from pathlib import Path

from autograder.authoring import Lab
from autograder.engine.executor import CellResult
from autograder.engine.trials import Limits, Trial, Verdicts

PACKAGE = Path(__file__).resolve().parent.parent


def fingerprint(lab: Lab, files: Sequence[Path], limits: Limits, level: str) -> str:
    """A digest of all that bears on a result beside the notebook's own cells."""
    parts = [
        level,
        asdict(limits),
        lab.imports,
        _environment(),
        [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@once
def _environment() -> list[str]:
    """The interpreter, the installed packages and the source of engine and harness."""
    sources = hashlib.sha256()
    for folder in ("engine", "labkit"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            sources.update(path.read_bytes())
    packages = sorted(
        f"{dist.metadata['Name']}=={dist.version}" for dist in importlib.metadata.distributions()
    )
    return [platform.python_version(), platform.machine(), sources.hexdigest(), *packages]


class Cache:
    """Executed notebooks in `folder`, one compressed file each."""

    def __init__(self, folder: Path, environment: str) -> None:
        self.folder, self.environment = folder, environment

    def _path(self, trial: Trial) -> Path:
        cells = [(cell, "" if cell in trial.tests else source) for cell, source in trial.cells]
        key = hashlib.sha256(json.dumps([self.environment, cells]).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json.gz"

    def holds(self, trial: Trial) -> bool:
        """Whether the code of the trial has run before, whatever its tests were."""
        return self._path(trial).is_file()

    def get(self, trial: Trial) -> tuple[Verdicts | None, Trial]:
        """What is known of the trial, and what of it is left to run.

        None is known of code that has not run yet.  Where only some tests have changed, the code
        with these tests is left; nothing is left when the second has no cells.
        """
        try:
            with gzip.open(self._path(trial), "rt", encoding="utf-8") as file:
                entry = json.load(file)
        except (OSError, ValueError, EOFError):
            return None, trial
        known = entry["tests"]
        stale = {cell for cell, digest in _digests(trial).items() if known.get(cell) != digest}
        left = [cell for cell in trial.cells if cell[0] not in trial.tests or cell[0] in stale]
        verdicts = Verdicts(
            trial=trial,
            cells={name: CellResult(**cell) for name, cell in entry["cells"].items()},
            seconds=entry["seconds"],
            left_behind=tuple(entry["left_behind"]),
            evidence=tuple(entry["evidence"]),
        )
        return verdicts, replace(trial, cells=tuple(left) if stale else ())

    def put(self, verdicts: Verdicts) -> None:
        """Keep results, unless the machinery and not the student's code brought them about."""
        if verdicts.broken:
            return
        path = self._path(verdicts.trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "tests": _digests(verdicts.trial),
            "cells": {name: asdict(cell) for name, cell in verdicts.cells.items()},
            "seconds": verdicts.seconds,
            "left_behind": verdicts.left_behind,
            "evidence": verdicts.evidence,
        }
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with gzip.open(scratch, "wt", encoding="utf-8", compresslevel=3) as file:
                json.dump(entry, file)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _digests(trial: Trial) -> dict[str, str]:
    return {
        cell: hashlib.sha256(source.encode()).hexdigest()
        for cell, source in trial.cells
        if cell in trial.tests
    }
