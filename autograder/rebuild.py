"""A submission is data: from the bytes of a handed-in notebook to a notebook that can be trusted.

`read_submission` takes the bytes and gives the cells that matter, as plain text; `rebuild` puts the
text of the student's solution cells, and the cells that they added, into the trusted source.
Nothing else crosses: no metadata, outputs, attachments, kernel or ids.  What was off is noted for
the instructor, and mended where it is innocent.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

MAX_BYTES = 50_000_000
"""A larger notebook is not read."""
MAX_CELLS = 2_000
MAX_SOURCE = 1_000_000
"""Characters of source that one cell may have."""
OWN_WORK = ("task", "written")
FREE = ("code", "measure")
"""Kinds of ungraded cells that students may change and that are run as they left them."""


class Unreadable(Exception):
    """The submission is no notebook of this lab; its text says why, for the instructor."""


@dataclass(frozen=True)
class SubmittedCell:
    """One cell as handed in: what it claims to be, and its text."""

    claim: str
    kind: str
    source: str


@dataclass(frozen=True)
class Rebuilt:
    """A notebook made of trusted cells and the student's own text, and what was mended for it.

    `answered` names the tasks and written questions whose text differs from the release.
    """

    notebook: NotebookNode
    notes: tuple[str, ...]
    answered: frozenset[str]


def read_submission(data: bytes) -> tuple[str, list[SubmittedCell]]:
    """The lab that a notebook says it belongs to (or ""), and its cells in order.

    Raises `Unreadable` for what is no notebook of format 4, and for one of absurd size or depth.
    """
    if len(data) > MAX_BYTES:
        raise Unreadable(f"{len(data)} bytes; {MAX_BYTES} are read at most")
    try:
        notebook = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from None
    except RecursionError:
        raise Unreadable("its JSON is nested too deeply") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("JSON, but not a notebook of format 4: it has no list of cells")
    if len(cells) > MAX_CELLS:
        raise Unreadable(f"{len(cells)} cells; {MAX_CELLS} are read at most")
    lab = _dig(notebook, "metadata", "course", "lab")
    return lab if isinstance(lab, str) else "", [_submitted(cell) for cell in cells]


def _submitted(cell: Any) -> SubmittedCell:
    if not isinstance(cell, dict):
        return SubmittedCell("", "", "")
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str):
        source = ""
    claim = _dig(cell, "metadata", "nbgrader", "grade_id") or cell.get("id")
    kind = cell.get("cell_type")
    return SubmittedCell(
        claim if isinstance(claim, str) else "",
        kind if kind in ("code", "markdown") else "",
        source.encode("utf-8", "replace").decode("utf-8"),
    )


def _dig(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def rebuild(data: bytes, lab: str, source: NotebookNode, released: NotebookNode) -> Rebuilt:
    """Put the student's text into the trusted `source`, with `released` for what is unanswered.

    Raises `Unreadable` when the bytes are no notebook or hold nothing of this lab.
    """
    named, submitted = read_submission(data)
    known = {cell.id: cell for cell in released.cells}
    kinds = {cell.id: cell.metadata.course.kind for cell in source.cells}
    own = {cell for cell, kind in kinds.items() if kind in OWN_WORK}
    if not own & {cell.claim for cell in submitted}:
        other = f"; it says that it belongs to lab {named!r}" if named and named != lab else ""
        raise Unreadable(f"it holds no answer cell of lab {lab}{other}")
    notes: list[str] = []
    taken = _own_text(submitted, own, known, notes)
    free = {
        cell.claim: cell.source
        for cell in submitted
        if kinds.get(cell.claim) in FREE and cell.kind == "code"
    }
    _note_locked(submitted, kinds, known, notes)
    added = _added(submitted, known, notes)

    notebook = nbformat.v4.new_notebook(metadata=dict(source.metadata))
    notebook.cells = list(added.get("", []))
    for cell in source.cells:
        fresh = copy.deepcopy(cell)
        if cell.id in own:
            fresh.source = taken.get(cell.id, known[cell.id].source)
        elif cell.id in free:
            fresh.source = free[cell.id]
        notebook.cells += [fresh, *added.get(cell.id, [])]
    answered = {
        name.removeprefix("written-")
        for name, text in taken.items()
        if text.strip() != known[name].source.strip()
    }
    return Rebuilt(notebook, tuple(notes), frozenset(answered))


def _own_text(
    submitted: list[SubmittedCell],
    own: set[str],
    known: dict[str, NotebookNode],
    notes: list[str],
) -> dict[str, str]:
    """The text of each answer cell; of duplicates the last one that is not the blank stub."""
    versions: dict[str, list[str]] = {}
    for cell in submitted:
        if cell.claim in own:
            versions.setdefault(cell.claim, []).append(cell.source)
    taken: dict[str, str] = {}
    for name, texts in versions.items():
        stub = known[name].source.strip()
        worked = [text for text in texts if text.strip() != stub] or texts
        taken[name] = worked[-1]
        if len(texts) > 1:
            which = "the last that was worked on counts" if len(set(texts)) > 1 else "all alike"
            notes.append(f"answer cell {name} stands there {len(texts)} times; {which}")
        if len(taken[name]) > MAX_SOURCE:
            notes.append(f"answer cell {name} has {len(taken[name])} characters; left out")
            taken[name] = known[name].source
    for name in sorted(own - set(versions)):
        notes.append(f"answer cell {name} is missing; put back blank")
    return taken


def _note_locked(
    submitted: list[SubmittedCell],
    kinds: dict[str, str],
    known: dict[str, NotebookNode],
    notes: list[str],
) -> None:
    locked = [cell for cell, kind in kinds.items() if kind in ("given", "test", "hidden")]
    for name in locked:
        texts = [cell.source.strip() for cell in submitted if cell.claim == name]
        if not texts:
            notes.append(f"cell {name} is missing; put back")
        elif any(text != known[name].source.strip() for text in texts):
            notes.append(f"cell {name} was changed; the original is used")
        elif len(texts) > 1:
            notes.append(f"cell {name} stands there {len(texts)} times; once is used")


def _added(
    submitted: list[SubmittedCell], known: dict[str, NotebookNode], notes: list[str]
) -> dict[str, list[NotebookNode]]:
    """The student's own cells, by the known cell that they follow ("" for the head)."""
    added: dict[str, list[NotebookNode]] = {}
    place, count = "", 0
    for cell in submitted:
        if cell.claim in known:
            place = cell.claim
            continue
        if not cell.kind or not cell.source.strip():
            continue
        if len(cell.source) > MAX_SOURCE:
            notes.append(f"an added cell of {len(cell.source)} characters is left out")
            continue
        count += 1
        new = nbformat.v4.new_code_cell if cell.kind == "code" else nbformat.v4.new_markdown_cell
        node = new(cell.source, id=f"added-{count}")
        node.metadata["course"] = {"kind": "added"}
        added.setdefault(place, []).append(node)
    return added


def code_cells(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """The cells that are run, in order."""
    return (cell for cell in notebook.cells if cell.cell_type == "code")
