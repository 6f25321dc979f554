"""A cell means in the grader what it means in a notebook."""

from __future__ import annotations

import builtins

import pytest

from autograder.engine.executor import new_shell, run_cell, run_test

ANNOTATED = "def f(x: int): ...\nassert f.__annotations__ == {'x': int}"


def test_annotations_are_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "input", builtins.input)
    shell = new_shell()
    assert run_test(shell, "test", ANNOTATED, 10.0).status == "passed"
    assert run_cell(shell, "cell", ANNOTATED, 10.0).status == "passed"
