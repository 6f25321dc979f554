"""The chapter on tensor programs reaches TVM through one module, and does without it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def module(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tensorir", root / "book/compilers/tensorir.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_without_tvm_it_says_so(root: Path) -> None:
    code = "import sys; sys.modules['tvm'] = None; import tensorir; print(tensorir.FOUND)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root / "book/compilers", capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr


def test_a_schedule_computes_what_numpy_computes(root: Path) -> None:
    pytest.importorskip("tvm")
    tensorir = module(root)
    left, right = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    schedule = tensorir.product(32)
    i, j, k = schedule.get_loops(schedule.get_sblock("C"))
    outer, inner = schedule.split(j, [None, 8])
    schedule.reorder(i, outer, k, inner)
    schedule.vectorize(inner)
    assert "T.vectorized(8)" in tensorir.text(schedule)
    run, result = tensorir.machine_code(schedule, left, right)
    run()
    np.testing.assert_allclose(result(), left @ right, rtol=1e-4, atol=1e-4)
