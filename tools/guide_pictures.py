"""Take the pictures of the guides: what the commands and pages show of the sample class.

Everything is made anew in a scratch folder: the sample class, two students who share a solution, a
mended test.  A browser draws what the terminal would show.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGS = ROOT / "book" / "guides" / "figs"
LAB = "parameter_server"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
COLOURS = 48
TERMINAL = """\
<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #14181d; }
pre { display: inline-block; margin: 0; padding: 14px 18px; color: #e6e9ee;
      font: 14px/1.3 "DejaVu Sans Mono", monospace; }
b { color: #6cb8dc; }
</style><pre>%s</pre>
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/guide_pictures.py --only report"
    )
    parser.add_argument("--out", type=Path, default=FIGS)
    parser.add_argument("--only", default="", help="the picture of this name")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    options = parser.parse_args()
    if not options.chromium:
        print("no Chromium: apt-get install chromium", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="guide-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        for name, picture in pictures(Path(folder), browser):
            if options.only in ("", name):
                save(picture, options.out / f"{name}.png")
        browser.close()
    return 0


def save(picture: bytes, path: Path) -> None:
    """Keep a picture with few colours: text needs no more."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def pictures(folder: Path, browser: Any) -> Iterator[tuple[str, bytes]]:
    course = make_course(folder)
    yield "bundle", terminal(browser, course, "autograder bundle -o course.zip")
    check = "autograder check student.ipynb --task kv_store --hint"
    yield "check", terminal(browser, course, check)
    released = course / "labs" / LAB / f"{LAB}.ipynb"
    kept = released.read_bytes()
    shutil.copy(course / "student.ipynb", released)
    yield "progress", terminal(browser, course, "autograder progress")
    yield "lab", in_jupyterlab(browser, course)
    released.write_bytes(kept)
    yield "collect", terminal(browser, course, "autograder collect inbox", head=12)
    yield "grade", terminal(browser, course, "autograder grade")
    yield "formgrader", in_formgrader(browser, course)
    yield "export", terminal(browser, course, "autograder export --format csv", head=8)
    run(course, "autograder report")
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.goto((course / "class/report" / f"{LAB}.html").as_uri())
    yield "report", page.screenshot()
    page.set_viewport_size({"width": 1000, "height": 560})
    page.evaluate("document.querySelectorAll('details').forEach((pair) => { pair.open = false })")
    pair = page.locator("details", has_text="hnguyen").first
    pair.evaluate("(pair) => { pair.open = true; pair.scrollIntoView() }")
    yield "alike", page.screenshot()
    run(course, "autograder feedback")
    page.set_viewport_size({"width": 1000, "height": 640})
    page.goto((course / "class/feedback/oyilmaz" / LAB / f"{LAB}.html").as_uri())
    yield "feedback", page.screenshot()
    mend(course)
    yield "regrade", terminal(browser, course, f"autograder regrade {LAB} --preview")


def make_course(folder: Path) -> Path:
    """A course of one lab with the sample class, late ones and two who share their work."""
    course = folder / "course"
    for place in ("solutions", "labs"):
        for lab in ("measuring", "collectives", LAB):
            shutil.copytree(ROOT / place / lab, course / place / lab)
    shutil.copytree(ROOT / "requirements", course / "requirements")
    shutil.copy(ROOT / "LICENSE", course)
    make = f"{sys.executable} -m autograder.sample --class class"
    subprocess.run(make.split(), cwd=course, check=True, capture_output=True)
    inbox = course / "inbox"
    shutil.move(course / "class/inbox", inbox)
    shutil.rmtree(course / "class/submitted")
    disguise(inbox / f"eivanova2_{LAB}.ipynb", inbox / f"hnguyen_{LAB}.ipynb")
    shutil.copy(inbox / f"hnguyen_{LAB}.ipynb", course / "student.ipynb")
    return course


def disguise(source: Path, target: Path) -> None:
    """Hand in another's answers with another name for `self`, other comments and layout."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["metadata"].get("course", {}).get("kind") == "task":
            text = re.sub(r"\bself\b", "this", "".join(cell["source"]))
            text = re.sub(r"^( *)return ", r"\1# and back\n\1return ", text, flags=re.M)
            cell["source"] = f"# {cell['id']}, my own way\n{text}"
    times = target.stat()
    target.write_text(json.dumps(notebook), encoding="utf-8")
    os.utime(target, (times.st_atime, times.st_mtime))


def mend(course: Path) -> None:
    """Leave the hidden test of one task with nothing to ask, so that some gain."""
    source = course / "solutions" / LAB / "lab.py"
    text = source.read_text(encoding="utf-8")
    head, rest = text.split("# %% hidden gate", 1)
    first, body = rest.split("\n", 1)
    end = body.index("# %%")
    source.write_text(f"{head}# %% hidden gate{first}\npass\n\n{body[end:]}", encoding="utf-8")
    run(course, f"autograder release {LAB}")


def run(course: Path, command: str) -> str:
    program, *words = command.split()
    line = [str(Path(sys.executable).with_name(program)), *words]
    done = subprocess.run(line, cwd=course, capture_output=True, text=True)
    if done.returncode > 1:
        raise SystemExit(f"{command}: {done.stderr}")
    return done.stdout


def terminal(browser: Any, course: Path, command: str, head: int = 0) -> bytes:
    """A picture of a command and of what it prints, or of the first `head` lines of that."""
    lines = run(course, command).replace(str(course), "~/course").splitlines()
    if head and len(lines) > head + 2:
        lines = [*lines[:head], "...", lines[-1]]
    shown = html.escape("\n".join(lines))
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_content(TERMINAL % f"<b>$ {html.escape(command)}</b>\n{shown}")
    picture: bytes = page.locator("pre").screenshot()
    page.close()
    return picture


def in_jupyterlab(browser: Any, course: Path) -> bytes:
    """The last cell of a lab in JupyterLab, which shows the check."""
    path = course / "labs" / LAB / f"{LAB}.ipynb"
    notebook = json.loads((course / "student.ipynb").read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "mine", "metadata": {}, "outputs": []}
    cell |= {"execution_count": None, "source": "from autograder import check\n\ncheck.here()"}
    notebook["cells"] = [*notebook["cells"], cell]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with jupyterlab(course) as address:
        page = browser.new_page(viewport={"width": 1100, "height": 620})
        page.set_default_timeout(120_000)
        page.goto(f"{address}/lab/tree/labs/{LAB}/{LAB}.ipynb?reset")
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        idle.wait_for()
        page.keyboard.press("Control+b")
        page.locator(".jp-Notebook").click()
        page.keyboard.press("Escape")
        page.keyboard.press("End")
        last = page.locator(".jp-Cell", has_text="check.here()").last
        last.scroll_into_view_if_needed()
        last.click()
        page.keyboard.press("Control+Enter")
        page.locator(".jp-OutputArea-output", has_text="Visible tests:").wait_for()
        page.add_style_tag(content=".Toastify { display: none }")
        page.evaluate("document.activeElement.blur()")
        last.scroll_into_view_if_needed()
        picture: bytes = page.screenshot()
        page.close()
        return picture


def in_formgrader(browser: Any, course: Path) -> bytes:
    """A written answer in nbgrader's formgrader, with points and a comment of a person."""
    from nbgrader.api import Gradebook

    shutil.copy(ROOT / "nbgrader_config.py", course)
    with Gradebook(f"sqlite:///{course}/class/gradebook.db") as book:
        submission = book.find_submission_notebook(LAB, LAB, "abergman").id
    with jupyterlab(course) as address:
        page = browser.new_page(viewport={"width": 1100, "height": 700})
        page.set_default_timeout(120_000)
        page.goto(f"{address}/formgrader/submissions/{submission}")
        page.locator('input.score[id^="written-"]').first.fill("4")
        comment = page.locator('textarea[id^="written-"]').first
        comment.fill("Right, and well measured. Say what the law predicts, too.")
        comment.scroll_into_view_if_needed()
        picture: bytes = page.screenshot()
        page.close()
        return picture


@contextmanager
def jupyterlab(course: Path) -> Iterator[str]:
    """The address of a JupyterLab in the course's folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    options = ["--no-browser", "--allow-root", f"--port={address.rpartition(':')[2]}"]
    options += ["--IdentityProvider.token=", "--LabApp.news_url=None"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        cwd=course,
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(course / ".jupyter")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=30)
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
