"""The drawings of a report, by matplotlib, as SVG that stands in the page and follows its colours.

Text stays text, and the colours of ink, rule and marks become CSS variables of the page.  What is
told by colour is also told by shape or filling.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from markupsafe import Markup

INK, RULE, ONE, TWO = "#010203", "#d8d6d1", "#0b5c7e", "#d1712b"
VARIABLES = {INK: "var(--ink)", RULE: "var(--rule)", ONE: "var(--one)", TWO: "var(--two)"}
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
}
WIDTH = 5.2


def distribution(scores: Sequence[float], most: float) -> Markup:
    """A histogram of the scores, with the median."""
    middle = median(scores)
    end = max(most, *scores)  # extra credit may go beyond the lab's points

    def paint(figure: Any, axes: Any) -> None:
        axes.hist(scores, bins=[end * step / 20 for step in range(21)], color=ONE, rwidth=0.9)
        axes.axvline(middle, color=TWO, linestyle="--", label=f"median {middle:g}")
        axes.set_xlim(0, end)
        axes.set_xlabel(f"points, of {most:g}")
        axes.set_ylabel("submissions")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper left")

    return _drawn(
        "scores",
        2.3,
        paint,
        f"A histogram of {len(scores)} scores between {min(scores):g} and {max(scores):g} of"
        f" {most:g} points; the median is {middle:g}.",
    )


def pass_rates(tasks: Sequence[str], visible: Sequence[float], hidden: Sequence[float]) -> Markup:
    """For each task the share of submissions that pass its visible and its hidden test."""
    places = range(len(tasks))
    above, below = [place - 0.2 for place in places], [place + 0.2 for place in places]
    outline = {"facecolor": "none", "edgecolor": TWO, "hatch": "////"}

    def paint(figure: Any, axes: Any) -> None:
        axes.barh(above, visible, 0.36, color=ONE, label="visible test")
        axes.barh(below, hidden, 0.36, label="hidden test", **outline)
        axes.set_yticks(list(places), tasks)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 100)
        axes.set_xlabel("submissions that pass (%)")
        figure.legend(loc="outside upper right", ncols=2)

    said = ", ".join(
        f"{task} {one:.0f} and {two:.0f} %"
        for task, one, two in zip(tasks, visible, hidden, strict=True)
    )
    alt = f"The shares of submissions that pass the visible and the hidden test: {said}."
    return _drawn("rates", 0.9 + 0.42 * len(tasks), paint, alt)


def item_map(points: Sequence[tuple[str, float, float]]) -> Markup:
    """The tasks by difficulty (share of points reached, in per cent) and discrimination."""
    lowest = min(-0.1, *(y - 0.15 for *_, y in points)) if points else -0.1

    def paint(figure: Any, axes: Any) -> None:
        axes.axhline(0.2, color=INK, linestyle=":", linewidth=0.8)
        axes.plot([x for _, x, _ in points], [y for *_, y in points], "o", color=ONE)
        for number, (name, x, y) in enumerate(points):
            up = number % 2 == 0
            where = {"ha": "center", "va": "bottom" if up else "top"}
            offset = (0, 6 if up else -6)
            axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", **where)
        axes.set_xlim(-8, 108)
        axes.set_ylim(lowest, 1.15)
        axes.set_xlabel("points reached (%): hard tasks to the left")
        axes.set_ylabel("discrimination")

    said = "; ".join(f"{name} {x:.0f} %, {y:.2f}" for name, x, y in points)
    alt = f"Each task by the share of its points reached and its discrimination: {said}."
    return _drawn("items", 2.9, paint, alt)


def times(seconds: Sequence[float]) -> Markup:
    """How long the notebooks ran: the share that was done by then."""
    ordered = sorted(seconds)
    shares = [100 * (place + 1) / len(ordered) for place in range(len(ordered))]

    def paint(figure: Any, axes: Any) -> None:
        axes.step([0, *ordered], [0, *shares], where="post", color=ONE)
        axes.set_xlim(0, None)
        axes.set_ylim(0, 103)
        axes.set_xlabel("time that all cells of a notebook took (s)")
        axes.set_ylabel("submissions (%)")

    alt = (
        f"The share of notebooks that ran within a time: half within {median(ordered):.1f} s, all"
        f" within {ordered[-1]:.1f} s."
    )
    return _drawn("times", 2.1, paint, alt)


def _drawn(key: str, height: float, paint: Callable[[Any, Any], None], alt: str) -> Markup:
    """The SVG of what `paint` draws; `key` begins every id in it."""
    import matplotlib
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure, figure.subplots())
        nothing = {"Date": None, "Creator": None}
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    head, rest = body.split(">", 1)
    view = re.search(r'viewBox="([^"]+)"', head)
    assert view
    label = html.escape(alt)
    return Markup(f'<svg class="plot" role="img" aria-label="{label}" viewBox="{view[1]}">{rest}')
