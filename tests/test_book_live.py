"""Cells that run in the page, calculators, and what the audit says of its figures."""

# ruff: noqa: F811 (fixtures are imported by name and asked for by name)

from __future__ import annotations

import ast
import itertools
import math
import re
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from test_book import BOOK, CHAPTERS, LISTED, ROOT, build
from test_book_browser import PHONE, browser, open_page, server  # noqa: F401

sys.path.insert(0, str(ROOT / "tools"))
import book_audit
import book_run
from coursebook import live, vendor

LIVE = re.compile(r'class="live"')
RUN_LIMIT = 90_000
CALCULATORS = BOOK / "_static" / "calculators.js"


# ---------------------------------------------------------------- cells that run in the page


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import torch", "imports torch"),
        ("import threading", "imports threading"),
        ("print(rng)", "uses rng"),
        ("%timeit 1", "not plain Python"),
        (
            "import numpy as np, time\nfrom os import path\ndef f(x, *a): return [y for y in a]",
            "",
        ),
        ("with open('x') as g:\n    for k, v in {}.items(): print(np.pi * math.e, g, k, v)", ""),
        ("try: pass\nexcept OSError as error: print(error)\nlambda z: z", ""),
    ],
)
def test_an_author_is_told_why_a_cell_cannot_run_in_the_page(code: str, problem: str) -> None:
    told, _ = live.judge(code, set(live.GIVEN))
    assert (problem in told) if problem else told == ""


def test_a_cell_may_use_what_live_cells_before_it_define() -> None:
    _, defined = live.judge("def f(x): return x", set(live.GIVEN))
    assert live.judge("print(f(1))", set(live.GIVEN) | defined)[0] == ""


def needs_python() -> None:
    try:
        live.packed()
    except vendor.VendorError as error:
        import os

        if os.environ.get("CI"):
            raise
        pytest.skip(f"Python for the page cannot be had: {error}")


@cache
def with_live_cells() -> list[str]:
    return [name for name in CHAPTERS if "tags: [live" in (BOOK / f"{name}.md").read_text("utf-8")]


def run_cell(page: Any, cell: Any) -> str:
    """Press Run and wait for the end; gives what the cell printed."""
    cell.locator(".live-run").click()
    state = cell.locator(".live-state")
    page.wait_for_function(
        "(state) => /^(Done|Ended|Stopped|Python could)/.test(state.textContent)",
        arg=state.element_handle(),
        timeout=RUN_LIMIT,
    )
    return str(cell.locator(".live-output pre").text_content())


@pytest.mark.browser
@pytest.mark.parametrize("name", with_live_cells())
def test_live_cells_print_in_the_page_what_they_printed_in_the_build(
    server: str, open_page: Any, name: str
) -> None:
    needs_python()
    page = open_page(f"{server}/{name}.html")
    asked = len(page.visit.fetched)
    cells = page.locator(".cell.tag_live")
    assert cells.count()
    for number in range(cells.count()):
        cell = cells.nth(number)
        built = cell.locator(".cell_output:not(.live-output) pre")
        expected = built.first.text_content() if built.count() else ""
        assert run_cell(page, cell) == expected
    assert [one for one in page.visit.fetched[asked:] if "/_static/live/numpy" in one]


@pytest.mark.browser
@pytest.mark.parametrize("base", ["served", "file"])
def test_code_is_changed_run_stopped_and_reset(server: str, open_page: Any, base: str) -> None:
    needs_python()
    name = with_live_cells()[0]
    where = server if base == "served" else build().as_uri()
    page = open_page(f"{where}/{name}.html", size=PHONE, color_scheme="dark")
    cell = page.locator(".cell.tag_live").first
    original = cell.locator(".cell_input pre").text_content()
    cell.locator(".live-edit").focus()
    page.keyboard.press("Enter")
    editor = cell.locator("textarea")
    assert editor.evaluate("(box) => box === document.activeElement")

    editor.fill("print(np.arange(3) + 40)\n'last'")
    page.keyboard.press("Control+Enter")
    state = cell.locator(".live-state")
    page.wait_for_function(
        "(s) => s.textContent.startsWith('Done')", arg=state.element_handle(), timeout=RUN_LIMIT
    )
    assert cell.locator(".live-output pre").text_content() == "[40 41 42]\n'last'\n"

    editor.fill("def f(x):\n    return x[9]\nf([1])")
    told = run_cell(page, cell)
    assert 'File "cell 1", line 3' in told and "IndexError: list index out of range" in told
    assert "pyodide" not in told

    editor.fill("while True: pass")
    cell.locator(".live-run").click()
    cell.locator(".live-stop").click(timeout=RUN_LIMIT)
    page.wait_for_function("(s) => s.textContent.startsWith('Stopped')", arg=state.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    cell.locator(".live-reset").click()
    assert cell.locator(".cell_input pre").text_content() == original
    assert not cell.locator(".live-output").is_visible()


@pytest.mark.browser
def test_a_page_loads_nothing_of_python_before_one_asks(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/{with_live_cells()[0]}.html")
    page.wait_for_load_state("networkidle")
    assert not [address for address in page.visit.fetched if "live" in address]


# ---------------------------------------------------------------- calculators


@cache
def source_of(chapter: str, name: str) -> str:
    for cell in book_run.read(BOOK / f"{chapter}.md").cells:
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return ast.unparse(node)
    raise LookupError(f"{chapter} defines no {name}")


def chapter_function(chapter: str, name: str, **given: Any) -> Any:
    """A function that a chapter defines, in a scope that has what is given."""
    scope = {"np": np, "math": math, **given}
    exec(source_of(chapter, name), scope)
    return scope[name]


@pytest.fixture(scope="module")
def compute(browser: Any) -> Any:
    """Ask the page's own arithmetic: compute(name, values) in Chromium."""
    page = browser.new_page()
    page.add_script_tag(path=CALCULATORS)
    ask = "([name, values]) => coursebookCalculators[name].compute(values)"
    yield lambda name, **values: page.evaluate(ask, [name, values])
    page.close()


def points(**choices: list[Any]) -> list[dict[str, Any]]:
    """All combinations of the choices."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


@pytest.mark.browser
def test_the_roofline_agrees_with_the_chapter(compute: Any) -> None:
    product = chapter_function("foundations/measuring", "product")
    for at in points(
        m=[1, 64, 8192], d=[64, 4096], w=[1, 4], peak=[5e10, 312e12], bandwidth=[1e10, 2.04e12]
    ):
        operations, moved = product(at["m"], at["d"], at["d"], at["w"])
        found = compute("roofline", **at)
        assert (found["operations"], found["bytes"]) == (operations, moved)
        speed = min(at["peak"], operations / moved * at["bandwidth"])
        assert found["speed"] == pytest.approx(speed)
        assert found["seconds"] == pytest.approx(
            max(operations / at["peak"], moved / at["bandwidth"])
        )


@pytest.mark.browser
def test_zero_agrees_with_the_chapter(compute: Any) -> None:
    state = chapter_function("training/memory", "state")
    for at in points(psi=[1e8, 7.5e9, 1e12], n=[1, 64, 1024], memory=[80e9]):
        found = compute("zero", **at)
        assert found["state"] == pytest.approx(
            [state(at["psi"], at["n"], stage) for stage in range(4)]
        )
        assert [sum(parts) for parts in found["parts"]] == pytest.approx(found["state"])
        once = 2 * at["psi"] * (at["n"] - 1) / at["n"]
        assert found["sent"] == pytest.approx([2 * once, 2 * once, 2 * once, 3 * once])


@pytest.mark.browser
def test_the_kv_cache_agrees_with_the_chapter(compute: Any) -> None:
    for at in points(
        params=[6.74e9, 70e9], layers=[32, 80], heads=[1, 32], tokens=[128, 131072],
        batch=[1, 120], width=[0.5, 2], memory=[24e9, 640e9],
    ):  # fmt: skip
        weights = 2 * at["params"]
        per_token = 2 * at["layers"] * at["heads"] * 128 * at["width"]
        step = chapter_function(
            "inference/kv_cache", "step", weights=weights, per_token=per_token,
            bandwidth=2.04e12, flops=312e12, params=at["params"],
        )  # fmt: skip
        found = compute("kv", **at)
        assert found["cache"] == pytest.approx(per_token * at["tokens"] * at["batch"])
        assert found["step"] == pytest.approx(step(at["batch"], at["tokens"]))
        assert found["rate"] == pytest.approx(at["batch"] / step(at["batch"], at["tokens"]))
        fits = found["fits"]
        each = per_token * at["tokens"]
        assert fits == 0 or weights + fits * each <= at["memory"]
        assert weights + (fits + 1) * each > at["memory"]


def stalls(workers: int, q: float, stall: float) -> np.ndarray:
    """The calculator's stalls: its hash of worker and iteration, in 32 bits."""

    def chance(worker: int, iteration: int) -> float:
        h = ((worker + 1) * 0x9E3779B1 + (iteration + 1) * 0x85EBCA77) % 2**32
        h = (h ^ h >> 15) * 0x2C1B3C6D % 2**32
        h = (h ^ h >> 12) * 0x297A2D39 % 2**32
        return (h ^ h >> 15) / 2**32

    return np.array(
        [[stall if chance(i, t) < q else 1.0 for t in range(60)] for i in range(workers)]
    )


@pytest.mark.browser
def test_staleness_agrees_with_the_chapter(compute: Any) -> None:
    predict = chapter_function("training/parameter_server", "predict")
    critical = chapter_function("training/parameter_server", "critical")
    for at in points(workers=[2, 8, 32], q=[0, 0.1], stall=[5, 20], bound=[0, 4, math.inf]):
        pauses = stalls(at["workers"], at["q"], at["stall"])
        found = compute("staleness", **at)
        assert found["time"] == pytest.approx(predict(pauses, at["bound"]))
        assert found["curve"][0] == pytest.approx(pauses.max(axis=0).sum())
        assert found["curve"][-1] == pytest.approx(pauses.sum(axis=1).max())
    assert abs((stalls(32, 0.1, 2) == 2).mean() - 0.1) < 0.02
    rate = compute("staleness", workers=4, q=0.1, stall=13, bound=0)["rate"]
    assert rate == pytest.approx(critical(3), abs=0.01)


@pytest.mark.browser
def test_the_bubble_agrees_with_a_pipeline_played_through(compute: Any) -> None:
    for at in points(p=[1, 2, 4, 16], m=[1, 3, 8, 128]):
        p, m = at["p"], at["m"]
        forward = np.zeros((p, m))
        for stage, batch in np.ndindex(p, m):
            ready = forward[stage - 1, batch] if stage else 0
            forward[stage, batch] = max(ready, forward[stage, batch - 1] if batch else 0) + 1
        backward = np.zeros((p, m))
        for stage in reversed(range(p)):
            for batch in range(m):
                ready = backward[stage + 1, batch] if stage < p - 1 else forward[-1, -1]
                before = backward[stage, batch - 1] if batch else forward[stage, -1]
                backward[stage, batch] = max(ready, before) + 2
        busy = 3 * m / backward.max()
        found = compute("bubble", **at)
        assert found["bubble"] == pytest.approx(1 - busy)
        assert found["speedup"] == pytest.approx(p * busy)


@pytest.mark.browser
def test_a_slider_moves_by_keyboard_and_tells_what_it_does(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/training/memory.html", size=PHONE)
    box = page.locator("[data-calculator=zero]")
    before = box.locator(".calculator-result").inner_text()
    slider = box.get_by_label("devices, N")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "8"
    assert box.locator(".calculator-result").inner_text() != before
    page.wait_for_function(
        "() => document.querySelector('.calculator-say').textContent === "
        "document.querySelector('.calculator-result svg').getAttribute('aria-label')"
    )


@pytest.mark.browser
def test_without_scripts_a_calculator_is_a_table(server: str, open_page: Any) -> None:
    page = open_page(f"{server}/training/memory.html", java_script_enabled=False)
    box = page.locator("[data-calculator=zero]")
    assert box.locator("tr").count() == 4
    assert "7.5 billion" in box.inner_text()
    assert not box.locator("input").first.is_visible()
    assert not page.locator(".live").first.is_visible()


def test_every_calculator_stands_on_a_page() -> None:
    text = "".join((BOOK / f"{name}.md").read_text(encoding="utf-8") for name in LISTED)
    for name in ("roofline", "zero", "kv", "bubble", "staleness"):
        assert f"{{calculator}} {name}" in text


# ---------------------------------------------------------------- the audit's table


def test_the_audit_shows_the_worst_page_and_what_was_missed() -> None:
    kept = book_audit.worst("weight", 400, {"a": 120, "b": 390}, " kB")
    missed = book_audit.worst("speed", 95, {"a": 99, "b": 94}, least=True)
    assert (kept.where, kept.kept, missed.where, missed.kept) == ("b", True, "b", False)
    shown = book_audit.table([kept, missed]).splitlines()
    assert shown[1].split() == ["weight", "≤", "400", "kB", "390", "kB", "ok", "b"]
    assert shown[2].split() == ["speed", "≥", "95", "94", "MISS", "b"]
    assert shown[3] == "1 kept, 1 missed"
