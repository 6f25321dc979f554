"""A small lab with every kind of test, wrong answers to it, and a class to grade them in."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.authoring import release
from autograder.course import Course, open_course

SECRET = "seven-times-the-hidden-word"
LAB = f'''\
# ---
# title: Under attack
# hours: 1
# imports: [numpy, autograder.labkit]
# ---

# %% [markdown]
# # Under attack

# %% given
import numpy as np

from autograder.labkit import expect, expect_close, expect_equal

# %% task square
def square(x):
    ### BEGIN SOLUTION
    return x * x
    ### END SOLUTION

# %% test square 5
expect_equal(square(2), 4, "square(2)")

# %% hidden square 20
word = "{SECRET} shared"
for number in (3, -5, 11):
    expect_equal(square(number), number * number, f"square({{number}})")
np.testing.assert_allclose(square(np.arange(4.0)), np.arange(4.0) ** 2)
if square(2) != 4:
    raise ValueError("square(2) is not 4")

# %% task scale
def scale(values, factor):
    ### BEGIN SOLUTION
    return np.asarray(values) * factor
    ### END SOLUTION

# %% test scale 5
expect_close(scale([1.0, 2.0], 3.0), [3.0, 6.0], "scale([1, 2], 3)")

# %% hidden scale 20 outside
import numpy as np
from autograder.labkit import expect_close

word = "{SECRET} apart"
for factor in (2.0, -1.5):
    expect_close(
        student.scale(np.arange(5.0), factor), np.arange(5.0) * factor, f"scale by {{factor}}"
    )

# %% task share
def share(n):
    ### BEGIN SOLUTION
    return n
    ### END SOLUTION

# %% test share 5
expect_equal(share(1), 1, "share(1)")

# %% hidden share 15
15 * sum(type(share(n)) is int and share(n) == n for n in range(1, 6)) / 5

# %% written why 10 [markdown]
# Why?
#
# ### BEGIN SOLUTION
# Because.
# ### END SOLUTION
'''
RIGHT = {
    "square": "def square(x):\n    return x * x",
    "scale": "def scale(values, factor):\n    return np.asarray(values) * factor",
    "share": "def share(n):\n    return n",
}
WRONG = {
    "square": "def square(x):\n    return x + x + 1",
    "scale": "def scale(values, factor):\n    return np.asarray(values) + factor",
    "share": "def share(n):\n    return None",
}
POINTS = 70.0


def make_course(root: Path) -> Course:
    folder = root / "solutions" / "attacked"
    folder.mkdir(parents=True)
    (folder / "lab.py").write_text(LAB, encoding="utf-8")
    course = open_course(root, root / "class")
    release(course, ["attacked"])
    return course


@dataclass
class Hand:
    """One student's submission in the making."""

    course: Course
    student: str
    notebook: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        path = self.course.released_notebook("attacked")
        self.notebook = json.loads(path.read_text(encoding="utf-8"))
        self.answer(**WRONG)

    @property
    def folder(self) -> Path:
        return self.course.submitted / self.student / "attacked"

    def cell(self, name: str) -> dict[str, Any]:
        return next(cell for cell in self.notebook["cells"] if cell["id"] == name)

    def answer(self, **sources: str) -> Hand:
        """Put text into solution cells."""
        for name, source in sources.items():
            self.cell(name)["source"] = source
        return self

    def before(self, name: str, source: str) -> Hand:
        """Add a code cell before another."""
        at = self.notebook["cells"].index(self.cell(name))
        cell = {"cell_type": "code", "id": f"new-{at}", "metadata": {}, "source": source}
        self.notebook["cells"].insert(at, {**cell, "outputs": [], "execution_count": None})
        return self

    def with_code(self, source: str) -> Hand:
        """Put code behind the first answer, where honest students put their helpers."""
        return self.answer(square=f"{self.cell('square')['source']}\n\n{source}")

    def duplicate(self, name: str) -> Hand:
        at = self.notebook["cells"].index(self.cell(name))
        self.notebook["cells"].insert(at, copy.deepcopy(self.cell(name)))
        return self

    def remove(self, *names: str) -> Hand:
        self.notebook["cells"] = [c for c in self.notebook["cells"] if c["id"] not in names]
        return self

    def hand_in(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "attacked.ipynb"
        path.write_text(json.dumps(self.notebook, ensure_ascii=False), encoding="utf-8")
