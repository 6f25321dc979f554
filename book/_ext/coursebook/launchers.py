"""The line of a lab's box that opens it elsewhere, once the repository is public."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes

from .translation import say


def line(root: Path, slug: str) -> list[nodes.Node]:
    """Links to Colab and Binder; nothing unless `course.toml` in `root` names the repository."""
    from autograder import launch
    from autograder.course import open_course
    from autograder.settings import read_settings

    links = launch.links(read_settings(open_course(root), of_class=False), slug)
    if not links:
        return []
    shown = nodes.paragraph("", say("Open it in the browser: "), classes=["lab-links"])
    for number, (service, address) in enumerate(links.items()):
        shown += nodes.Text(say(" or ") if number else "")
        shown += nodes.reference("", service, refuri=address)
    return [shown]
