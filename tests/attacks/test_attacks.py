"""What a submission may try, each as a test: nothing is gained, nobody else is hurt.

The numbers are the rows of the project's list of attacks on nbgrader; letters are our own.  All are
handed in by one class and graded in one run, beside honest submissions, which come out as they
should.  Rows 31 and 32 (receipts and archives) concern `collect`, and are tested with it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_under_attack import POINTS, RIGHT, SECRET, WRONG, Hand, make_course

from autograder.engine.trials import Limits
from autograder.feedback import write_feedback
from autograder.grading import Outcome, grade

pytestmark = pytest.mark.sandbox
Attack = Callable[[Hand], object]
SHELL = "ip = get_ipython()\n"


def skip_tag(hand: Hand) -> None:
    for cell in hand.notebook["cells"]:
        cell["metadata"]["tags"] = ["skip-execution"]


def flip_solution_flag(hand: Hand) -> None:
    hand.cell("written-why")["metadata"]["nbgrader"]["solution"] = False


def forged_result(hand: Hand) -> None:
    hand.with_code(
        SHELL + "ip.events.register('pre_run_cell', lambda info=None: ip.displayhook('ok'))"
    )


def displayed_nan(hand: Hand) -> None:
    hand.with_code(
        SHELL + "ip.events.register('pre_run_cell', lambda i=None: ip.displayhook(float('nan')))"
    )


def run_cell_replaced(hand: Hand) -> None:
    hand.with_code(
        SHELL
        + """
kind = type(ip)
class Fine:
    success, result, error_in_exec, error_before_exec = True, None, None, None
kind.run_cell = lambda self, *a, **k: Fine()
import autograder.engine.executor as executor
executor.run_test = lambda shell, cell, source, seconds: executor.CellResult(cell, "passed", 0.0)
executor._evaluate = lambda *a: None
import sys
world = sys.modules.get("autograder.engine.world")
if world:
    world.run_test = executor.run_test
"""
    )


def ast_transformer(hand: Hand) -> None:
    hand.with_code(
        SHELL
        + """
import ast
class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
    def visit_Expr(self, node):
        return ast.Pass()
ip.ast_transformers.append(NoAsserts())
"""
    )


def numpy_testing_patched(hand: Hand) -> None:
    hand.with_code(
        "np.testing.assert_allclose = lambda *a, **k: None\n"
        "import sys, autograder.labkit as k\n"
        "e = sys.modules['autograder.labkit.expect']\n"
        "for m in (k, e):\n"
        "    m.expect_equal = m.expect_close = m.expect = lambda *a, **k: None\n"
    )


def names_shadowed(hand: Hand) -> None:
    hand.with_code("expect = expect_equal = expect_close = lambda *a, **k: None")


def codes_swapped(hand: Hand) -> None:
    hand.with_code(
        "import sys\n"
        "e = sys.modules['autograder.labkit.expect']\n"
        "def nothing(*a, **k): pass\n"
        "for f in (e.expect_equal, e.expect_close, e.expect):\n"
        "    f.__code__, f.__kwdefaults__ = nothing.__code__, None\n"
    )


def agrees_with_everything(hand: Hand) -> None:
    hand.answer(
        square="class Yes(int):\n"
        "    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n"
        "    __hash__ = None\n    __abs__ = __sub__ = __rsub__ = lambda s, *o: 0.0\n"
        "def square(x):\n    return Yes()",
        scale="class Yes(np.ndarray):\n"
        "    __eq__ = lambda s, o: np.True_\n    __ne__ = lambda s, o: np.False_\n"
        "    __sub__ = __rsub__ = lambda s, o: np.zeros(s.shape)\n"
        "    __array_ufunc__ = lambda s, *a, **k: np.zeros(s.shape)\n"
        "def scale(values, factor):\n    return np.ones(len(values)).view(Yes)",
    )


def partial_credit_hidden(hand: Hand) -> None:
    hand.with_code(
        SHELL
        + "ip.displayhook.__class__.__call__ = lambda self, result=None: None\n"
        + "from IPython.display import clear_output\n"
        + "ip.events.register('post_run_cell', lambda r=None: clear_output())\n"
    )


def quiet_traceback(hand: Hand) -> None:
    hand.with_code(
        SHELL
        + "ip.showtraceback = lambda *a, **k: None\n"
        + "ip.set_custom_exc((Exception,), lambda *a, **k: None)\n"
        + "import builtins\nbuiltins.AssertionError = ValueError\n"
    )


def own_numpy(hand: Hand) -> None:
    hand.folder.mkdir(parents=True, exist_ok=True)
    (hand.folder / "numpy.py").write_text("class testing:\n    assert_allclose = print\n")
    (hand.folder / "sitecustomize.py").write_text("print('mine')")


def deletes_tests(hand: Hand) -> None:
    hand.remove("test-square", "hidden-square", "test-scale", "hidden-scale")


def edits_tests(hand: Hand) -> None:
    for name in ("test-square", "hidden-square", "hidden-share"):
        hand.cell(name)["source"] = "70"
        hand.cell(name)["metadata"]["nbgrader"]["points"] = 10_000
    hand.cell("test-scale")["cell_type"] = "markdown"


def locked_flags_flipped(hand: Hand) -> None:
    for name in ("test-square", "hidden-square"):
        hand.cell(name)["metadata"]["nbgrader"].update(grade=False, solution=True, locked=False)


def graded_cell_twice(hand: Hand) -> None:
    hand.duplicate("test-square").duplicate("square").duplicate("hidden-scale")


def no_metadata(hand: Hand) -> None:
    hand.cell("test-square")["metadata"]["nbgrader"] = {}
    hand.cell("hidden-scale")["metadata"]["nbgrader"]["schema_version"] = 2
    hand.cell("test-scale")["metadata"]["nbgrader"]["schema_version"] = 99


def reads_hidden_tests(hand: Hand) -> None:
    """Looks for what the judged test holds, in its own process, and answers with what it finds."""
    hand.answer(
        scale="""
import gc, sys
def scale(values, factor):
    seen = str(In) + str([o for o in gc.get_objects() if type(o) is str and "hidden-word" in o])
    frame = sys._getframe()
    while frame:
        seen += str(frame.f_locals)
        frame = frame.f_back
    print("FOUND" if "seven-times-the-" + "hidden-word apart" in seen else "nothing found")
    raise ValueError("found it" if "seven-times-the-" + "hidden-word apart" in seen else "no")
"""
    )


def reads_files(hand: Hand) -> None:
    course = hand.course
    places = [course.root, course.class_dir, course.solutions, course.submitted]
    hand.with_code(
        f"""
import os
for place in {[str(place) for place in places]}:
    print(place, os.path.exists(place))
    if os.path.exists(place):
        raise SystemExit("I can see " + place)
print("sees nothing")
"""
    )


def writes_grades(hand: Hand) -> None:
    hand.with_code(
        f"""
import subprocess, sys
code = '''
import sqlite3, time
time.sleep(1)
db = sqlite3.connect({str(hand.course.gradebook)!r})
db.execute("update grade set auto_score = 99, manual_score = 99")
db.commit()
'''
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
"""
    )


def leaves_a_profile(hand: Hand) -> None:
    hand.with_code(
        """
import os
for home in (os.path.expanduser("~"), os.getcwd(), "/tmp"):
    place = os.path.join(home, ".ipython/profile_default/startup")
    os.makedirs(place, exist_ok=True)
    with open(os.path.join(place, "00-mine.py"), "w") as file:
        file.write("square = lambda x: x * x")
    with open(os.path.join(home, "usercustomize.py"), "w") as file:
        file.write("square = lambda x: x * x")
"""
    )


def looks_around(hand: Hand) -> None:
    hand.with_code(
        """
import os, signal
print(sorted(os.environ))
seen = [name for name in os.environ if "TOKEN" in name or "SECRET" in name]
others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]
killed = []
for pid in [os.getppid(), *range(2, 3000)]:
    if pid not in (0, 1, os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        except OSError:
            pass
print("SEEN", seen, "OTHERS", others, "KILLED", killed)
"""
    )


def calls_out(hand: Hand) -> None:
    hand.with_code(
        """
import socket
for host, port in (("192.0.2.1", 80), ("10.0.0.1", 22), ("8.8.8.8", 53)):
    try:
        socket.create_connection((host, port), timeout=1)
        print("REACHED", host)
    except OSError as error:
        print(error)
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()[:2])
print("own loopback works")
"""
    )


def exits(hand: Hand) -> None:
    hand.before("test-scale", "import os\nos._exit(0)")


def exits_politely(hand: Hand) -> None:
    hand.before("test-scale", "import sys\nsys.exit(0)")


def loops_for_ever(hand: Hand) -> None:
    hand.answer(scale="def scale(values, factor):\n    while True:\n        pass")


def swallows_interrupts(hand: Hand) -> None:
    hand.with_code(
        """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""
    )


def forks(hand: Hand) -> None:
    hand.with_code(
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(100)\n"
    )


def eats_memory(hand: Hand) -> None:
    hand.with_code("hog = []\nwhile True:\n    hog.append(bytearray(1 << 26))")


def eats_memory_in_children(hand: Hand) -> None:
    hand.with_code(
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        hog = bytearray(b'x') * (200 << 20)\n"
        "        time.sleep(100)\n"
        "time.sleep(100)\n"
    )


def fills_the_disk(hand: Hand) -> None:
    hand.with_code(
        "for place in ('/tmp/big', 'big', '/dev/shm/big'):\n"
        "    try:\n"
        "        with open(place, 'wb') as file:\n"
        "            while True:\n"
        "                file.write(bytes(1 << 24))\n"
        "    except OSError as error:\n"
        "        print(error)\n"
    )


def prints_without_end(hand: Hand) -> None:
    hand.with_code("print('x' * 30_000_000)\nfor _ in range(100_000):\n    print('y' * 100)")


def scripts_in_text(hand: Hand) -> None:
    hand.cell("written-why")["source"] = (
        "<script>alert(1)</script> <img src=x onerror=alert(2)> [x](javascript:alert(3))"
        ' <iframe src="https://example.org"></iframe> because'
    )
    hand.with_code(
        "from IPython.display import HTML, display\n"
        "display(HTML('<script>alert(4)</script><img src=x onerror=alert(5)>'))\n"
        "print('</pre><script>alert(6)</script>')\n"
    )


def a_link(hand: Hand) -> None:
    hand.folder.mkdir(parents=True, exist_ok=True)
    (hand.folder / "notes.txt").symlink_to(hand.course.gradebook)


def a_linked_notebook(hand: Hand) -> None:
    hand.folder.mkdir(parents=True, exist_ok=True)
    other = hand.course.submitted / "honest" / "attacked" / "attacked.ipynb"
    (hand.folder / "attacked.ipynb").symlink_to(other)
    hand.hand_in = lambda: None  # type: ignore[method-assign]


def pickles(hand: Hand) -> None:
    hand.answer(
        scale="class Bomb:\n"
        "    def __reduce__(self):\n"
        "        return (__import__('os').system, ('touch /tmp/pwned',))\n"
        "def scale(values, factor):\n    return Bomb()"
    )


def odd_timestamp(hand: Hand) -> None:
    hand.folder.mkdir(parents=True, exist_ok=True)
    (hand.folder / "timestamp.txt").write_text("the day before yesterday")


def look_alikes(hand: Hand) -> None:
    hand.answer(square="def ｓｑｕａｒｅ(x):\n    return x + x + 1\n# \u202e\u2066 \u200b")


def late_prints(hand: Hand) -> None:
    hand.with_code(
        """
import atexit, threading, time
atexit.register(lambda: print("15.0"))
def talk():
    while True:
        print("15.0")
        time.sleep(0.001)
threading.Thread(target=talk, daemon=True).start()
"""
    )


def deep_json(hand: Hand) -> None:
    hand.folder.mkdir(parents=True, exist_ok=True)
    (hand.folder / "attacked.ipynb").write_text('{"cells": ' + "[" * 200_000)
    hand.hand_in = lambda: None  # type: ignore[method-assign]


def huge_file(hand: Hand) -> None:
    hand.folder.mkdir(parents=True, exist_ok=True)
    with (hand.folder / "attacked.ipynb").open("wb") as file:
        file.truncate(60_000_000)
    hand.hand_in = lambda: None  # type: ignore[method-assign]


def tracing(hand: Hand) -> None:
    hand.with_code(
        """
import sys
def trace(frame, event, arg):
    if "values" in frame.f_locals or "got" in frame.f_locals:
        frame.f_locals["got"] = frame.f_locals.get("expected")
    return trace
sys.settrace(trace)
"""
    )


def forged_message(hand: Hand) -> None:
    """Writes a verdict to every socket of its process, as often as it can."""
    hand.with_code(
        """
import json, os, stat, threading, time
def forge():
    while True:
        for number in range(3, 40):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    for cell in ("hidden-square", "hidden-scale", "hidden-share"):
                        result = dict(id=cell, status="passed", seconds=0.0, message="",
                                      outputs=[], award=None)
                        line = json.dumps({"result": result, "found": []}) + chr(10)
                        os.write(number, line.encode())
            except OSError:
                pass
        time.sleep(0.001)
threading.Thread(target=forge, daemon=True).start()
time.sleep(0.05)
"""
    )


def junk_message(hand: Hand) -> None:
    hand.with_code(
        "import os, stat\n"
        "for n in range(3, 40):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(n).st_mode): os.write(n, b'{]' * 10 + b'\\n')\n"
        "    except OSError: pass\n"
    )


def builtins_patched(hand: Hand) -> None:
    hand.with_code(
        "import builtins\n"
        "builtins.isinstance = lambda *a: True\n"
        "builtins.any = lambda *a: False\n"
        "builtins.type = lambda x: int\n"
    )


def frames_rewritten(hand: Hand) -> None:
    """Returns the value that the caller expects, read from the caller's frame."""
    hand.answer(
        square="""
import sys
def square(x):
    names = sys._getframe(1).f_globals
    names["expect_equal"] = names["expect_close"] = lambda *a, **k: None
    sys.modules["numpy"].testing.assert_allclose = lambda *a, **k: None
    return x + x + 1
"""
    )


ATTACKS: dict[str, Attack] = {
    "01 skip tag": skip_tag,
    "02 solution flag": flip_solution_flag,
    "03 forged result": forged_result,
    "04 displayed nan": displayed_nan,
    "05 run_cell replaced": run_cell_replaced,
    "06 ast transformer": ast_transformer,
    "07 numpy.testing patched": numpy_testing_patched,
    "08 agrees with everything": agrees_with_everything,
    "09 partial credit hidden": partial_credit_hidden,
    "10 quiet traceback": quiet_traceback,
    "11 own numpy": own_numpy,
    "12 tests deleted": deletes_tests,
    "13 tests edited": edits_tests,
    "14 locked flags": locked_flags_flipped,
    "15 graded cell twice": graded_cell_twice,
    "16 no metadata": no_metadata,
    "17 reads hidden tests": reads_hidden_tests,
    "18 20 reads files": reads_files,
    "19 writes grades": writes_grades,
    "21 leaves a profile": leaves_a_profile,
    "22 looks around": looks_around,
    "23 calls out": calls_out,
    "24 exits": exits,
    "24 exits politely": exits_politely,
    "25 loops": loops_for_ever,
    "25 swallows interrupts": swallows_interrupts,
    "26 forks": forks,
    "26 eats memory": eats_memory,
    "26 memory in children": eats_memory_in_children,
    "27 prints": prints_without_end,
    "28 scripts": scripts_in_text,
    "29 link": a_link,
    "29 linked notebook": a_linked_notebook,
    "30 pickles": pickles,
    "33 look-alikes": look_alikes,
    "34 late prints": late_prints,
    "35 deep json": deep_json,
    "35 huge file": huge_file,
    "35 odd timestamp": odd_timestamp,
    "a names shadowed": names_shadowed,
    "b codes swapped": codes_swapped,
    "c tracing": tracing,
    "d forged message": forged_message,
    "e junk message": junk_message,
    "f builtins patched": builtins_patched,
    "g frames rewritten": frames_rewritten,
    "h fills the disk": fills_the_disk,
}
LIMITS = Limits(cell_seconds=3.0, total_seconds=30.0, memory=700 * 2**20, processes=100)


def student_of(attack: str) -> str:
    return attack.replace(" ", "-")


class Class:
    """The graded class: outcomes by student, and what lies in its folders."""

    def __init__(self, root: Path) -> None:
        os.environ["JUPYTERHUB_API_TOKEN"] = "not for students"
        self.course = make_course(root)
        for student in ("honest", "zz-honest-and-last"):
            Hand(self.course, student).answer(**RIGHT).hand_in()
        Hand(self.course, "wrong").hand_in()
        first = Hand(self.course, student_of("12 tests deleted")).answer(**RIGHT)
        first.hand_in()
        self.before = self.grade()
        for name, attack in ATTACKS.items():
            hand = Hand(self.course, student_of(name))
            attack(hand)
            hand.hand_in()
        self.outcomes = self.grade()
        time.sleep(1.5)  # the detached process of row 19 has had its chance

    def grade(self) -> dict[str, Outcome]:
        outcomes = grade(self.course, ["attacked"], jobs=2, sandbox="required", limits=LIMITS)
        return {outcome.student: outcome for outcome in outcomes}

    def text(self, student: str) -> str:
        """All that the student's cells have shown."""
        path = self.course.autograded / student / "attacked" / "attacked.ipynb"
        notebook = json.loads(path.read_text())
        return "".join(
            "".join(output.get("text", "")) + str(output.get("evalue", ""))
            for cell in notebook["cells"]
            for output in cell.get("outputs", [])
        )


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Class:
    return Class(tmp_path_factory.mktemp("attacks"))


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_gained(graded: Class, name: str) -> None:
    outcome = graded.outcomes[student_of(name)]
    if outcome.state == "needs review":
        assert outcome.evidence
    else:
        assert (outcome.score or 0.0) == 0.0, outcome


def test_the_honest_get_what_they_deserve(graded: Class) -> None:
    for student in ("honest", "zz-honest-and-last"):
        outcome = graded.outcomes[student]
        assert (outcome.state, outcome.score) == ("graded", POINTS), outcome
    assert graded.outcomes["wrong"].state == "graded"
    assert graded.outcomes["wrong"].score == 0


def test_every_submission_has_an_outcome(graded: Class) -> None:
    assert set(graded.outcomes) == {student_of(name) for name in ATTACKS} | {
        "honest",
        "zz-honest-and-last",
        "wrong",
    }


@pytest.mark.parametrize(
    "name",
    [
        "05 run_cell replaced",
        "07 numpy.testing patched",
        "b codes swapped",
        "d forged message",
        "e junk message",
    ],
)
def test_tampering_is_for_a_person_to_judge(graded: Class, name: str) -> None:
    outcome = graded.outcomes[student_of(name)]
    assert outcome.state == "needs review", outcome
    assert outcome.evidence


def test_an_earlier_grade_does_not_survive(graded: Class) -> None:
    student = student_of("12 tests deleted")
    assert graded.before[student].score == POINTS
    assert graded.outcomes[student].score == 0


def test_mended_cells_are_told(graded: Class) -> None:
    notes = " ".join(graded.outcomes[student_of("15 graded cell twice")].notes)
    assert "test-square stands there 2 times" in notes
    assert "answer cell square stands there 2 times" in notes
    notes = " ".join(graded.outcomes[student_of("12 tests deleted")].notes)
    assert "cell hidden-square is missing; put back" in notes


def test_a_judged_test_cannot_be_read(graded: Class) -> None:
    text = graded.text(student_of("17 reads hidden tests"))
    assert "nothing found" in text
    assert "FOUND" not in text
    assert "found it" not in text


def test_nothing_of_the_course_is_on_disk(graded: Class) -> None:
    assert "sees nothing" in graded.text(student_of("18 20 reads files"))


def test_the_gradebook_is_out_of_reach(graded: Class) -> None:
    book = sqlite3.connect(graded.course.gradebook)
    (worst,) = book.execute("select max(coalesce(auto_score, 0)) from grade").fetchone()
    (manual,) = book.execute("select count(manual_score) from grade").fetchone()
    assert worst <= 20
    assert manual == 0


def test_no_environment_no_neighbours_no_network(graded: Class) -> None:
    assert "SEEN [] OTHERS [] KILLED []" in graded.text(student_of("22 looks around"))
    text = graded.text(student_of("23 calls out"))
    assert "REACHED" not in text
    assert "own loopback works" in text


def test_a_dead_process_keeps_what_it_had_earned(graded: Class) -> None:
    outcome = graded.outcomes[student_of("24 exits")]
    assert outcome.state == "partly graded"
    assert "did not run" in outcome.reason
    assert graded.outcomes[student_of("24 exits politely")].state == "graded"


@pytest.mark.parametrize("name", ["25 swallows interrupts", "26 forks", "26 memory in children"])
def test_what_oversteps_is_ended(graded: Class, name: str) -> None:
    outcome = graded.outcomes[student_of(name)]
    assert outcome.state == "partly graded", outcome
    assert "stopped" in outcome.reason


def test_output_is_bounded(graded: Class) -> None:
    path = graded.course.autograded / student_of("27 prints") / "attacked" / "attacked.ipynb"
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("name", ["29 linked notebook", "35 deep json", "35 huge file"])
def test_what_cannot_be_read_fails_with_a_reason(graded: Class, name: str) -> None:
    outcome = graded.outcomes[student_of(name)]
    assert outcome.state == "failed"
    assert "attacked.ipynb" in outcome.reason


def test_no_file_of_the_student_crosses(graded: Class) -> None:
    for name in ("29 link", "11 own numpy"):
        folder = graded.course.autograded / student_of(name) / "attacked"
        assert {path.name for path in folder.iterdir()} <= {"attacked.ipynb", "timestamp.txt"}
    assert not Path("/tmp/pwned").exists()


def test_feedback_runs_no_script_and_tells_no_test(graded: Class) -> None:
    for path in write_feedback(graded.course, ["attacked"]):
        page = path.read_text()
        assert SECRET not in page
        assert "<script" not in page
        assert "onerror=" not in page.replace("onerror=alert", "", 0) or "&lt;" in page
        assert "javascript:" not in page or "href" not in page.split("javascript:")[0][-20:]
        assert "default-src 'none'" in page


def test_no_process_is_left(graded: Class) -> None:
    assert "a process was still running" in " ".join(
        graded.outcomes[student_of("19 writes grades")].notes
    )


def test_grading_again_changes_nothing(graded: Class) -> None:
    again = graded.grade()
    for student, outcome in graded.outcomes.items():
        assert again[student].score == outcome.score
        assert again[student].done or outcome.state == "failed"


def test_wrong_answers_are_really_wrong() -> None:
    assert set(WRONG) == set(RIGHT)
