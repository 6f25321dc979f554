"""A lab of two tasks and a written question, and the notebooks that students make of it."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from autograder.authoring import release
from autograder.course import Course, open_course

LAB = """\
# ---
# title: Two tasks
# hours: 1
# imports: [itertools]
# ---

# %% [markdown]
# # Two tasks

# %% given
import itertools

# %% task total
def total(values):
    ### BEGIN SOLUTION
    running_sum_of_everything = 0
    for one_value_of_the_list in values:
        running_sum_of_everything += one_value_of_the_list
    return running_sum_of_everything
    ### END SOLUTION

# %% test total 10
assert total([1, 2]) == 3, f"total([1, 2]) is 3, got {total([1, 2])}"

# %% hidden total 40
for numbers_of_the_hidden_test in ([5, -3, 11, 0], [-7, 2], []):
    assert total(numbers_of_the_hidden_test) == sum(numbers_of_the_hidden_test)
    assert isinstance(total(numbers_of_the_hidden_test), int)

# %% hints total [markdown]
# 1. What is the total of an empty list?
# 2. Add one value at a time.
# 3. `for value in values: ...`

# %% task mean
def mean(values):
    ### BEGIN SOLUTION
    how_many_values_there_are = len(values)
    return sum(values) / how_many_values_there_are
    ### END SOLUTION

# %% test mean 10
assert mean([1, 3]) == 2, "mean([1, 3]) is 2"

# %% hidden mean 30
for numbers_of_the_other_hidden_test in ([1, 2, 6], [2.5], [-1, 1]):
    expected = sum(numbers_of_the_other_hidden_test) / len(numbers_of_the_other_hidden_test)
    assert mean(numbers_of_the_other_hidden_test) == expected

# %% measure
print("measured", mean([total([1]), 1]))

# %% written why 10 [markdown]
# Why is the empty list different?
#
# ### BEGIN SOLUTION
# The empty list has a total, which is nought, but a division by nought gives no mean.
# ### END SOLUTION
"""
RIGHT = {
    "total": "def total(values):\n    return sum(values)",
    "mean": "def mean(values):\n    return sum(values) / len(values)",
}


def make_course(root: Path) -> Course:
    """A course with the lab `two`, released."""
    folder = root / "solutions" / "two"
    folder.mkdir(parents=True)
    (folder / "lab.py").write_text(LAB, encoding="utf-8")
    target = root / "labs" / "two"
    target.mkdir(parents=True)
    (target / "two.ipynb").write_text(json.dumps(_released()), encoding="utf-8")
    return open_course(root)


@cache
def _released() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "solutions" / "two" / "lab.py"
        source.parent.mkdir(parents=True)
        source.write_text(LAB, encoding="utf-8")
        release(open_course(Path(folder)), ["two"])
        return json.loads((Path(folder) / "labs/two/two.ipynb").read_text(encoding="utf-8"))


def blank() -> dict[str, Any]:
    """The notebook as it was handed out, to be changed."""
    return copy.deepcopy(_released())


def solved(**answers: str) -> dict[str, Any]:
    """A notebook with both tasks solved; `answers` replace the text of cells by id."""
    notebook = blank()
    for name, source in {**RIGHT, **answers}.items():
        cell_of(notebook, name)["source"] = source
    return notebook


def cell_of(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def index_of(notebook: dict[str, Any], name: str) -> int:
    return notebook["cells"].index(cell_of(notebook, name))


def code(source: str) -> dict[str, Any]:
    """A cell as a student adds it."""
    return {
        "cell_type": "code",
        "id": f"x{abs(hash(source)):x}"[:12],
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def save(notebook: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    return path
