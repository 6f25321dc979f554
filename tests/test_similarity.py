"""Solutions that were copied are found, however disguised; honest ones are not, however many."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.similarity import (
    COMMON,
    GRAM,
    LEAST_SHARED,
    WINDOW,
    Pair,
    Reader,
    find_pairs,
)

COPIED = '''\
def encode(key, values, epoch=0):
    """Pack a message."""
    header = struct.pack("<IQ", len(values), key)
    body = bytearray()
    for position, value in enumerate(values):
        if value < 0 and position % 2 == 0:
            body += struct.pack("<d", -value)  # negative ones at even places
        elif value > 100.0:
            body += struct.pack("<f", value / 2)
        else:
            body.extend(round(value).to_bytes(8, "little"))
    checksum = sum(body) & 0xFFFF
    while checksum > 255:
        checksum = (checksum >> 8) ^ (checksum & 0xFF)
    return header + bytes(body) + checksum.to_bytes(2, "little"), epoch + 1
'''
DISGUISED = '''\
# my own work!
def my_encoder(k, numbers, generation=0):
    h = struct.pack(
        '<IQ',
        len(numbers),
        k,
    )
    out = bytearray()
    for i, n in enumerate(numbers):
        if n < 0 and i % 2 == 0:

            out += struct.pack('<d', -n)
        elif n > 99.5:
            out += struct.pack('<f', n / 2)
        else:
            out.extend(round(n).to_bytes(8, 'big'))
    check = sum(out) & 0xffff
    while check > 0xff:
        check = (check >> 8) ^ (check & 255)
    """Return it."""
    return h + bytes(out) + check.to_bytes(2, 'big'), generation + 1
'''
OTHER = """\
def encode(key, values, epoch=0):
    parts = [struct.pack("<IQ", len(values), key)]
    parts += [pack_one(place, value) for place, value in zip(range(len(values)), values)]
    return b"".join(parts + [tail(parts)]), epoch + 1


def pack_one(place, value):
    small = {True: lambda: struct.pack("<d", abs(value)), False: lambda: big(value)}
    return small[value < 0 and not place % 2]()


def big(value):
    try:
        half = struct.pack("<f", value / 2)
        return half if value > 100.0 else int(value + 0.5).to_bytes(8, "little")
    except OverflowError:
        raise ValueError(f"{value} is too large") from None


def tail(parts):
    total = functools.reduce(lambda so_far, byte: so_far + byte, itertools.chain(*parts[1:]))
    return min(total & 0xFFFF, 255).to_bytes(2, "little")
"""


def program(seed: int, statements: int = 24) -> str:
    """A function that nobody else would write."""
    dice = random.Random(seed)
    operators = ["+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", "<", ">=", "==", "is"]
    known = ["len", "sum", "min", "max", "abs", "sorted", "list", "zip", "map", "any", "range"]

    def value(depth: int) -> str:
        name = f"name{dice.randrange(6)}"
        if depth == 0:
            return dice.choice([name, "1", "'x'", "None", f"{name}[0]", f"{name}.size"])
        one, other = value(depth - 1), value(dice.randrange(depth))
        forms = [f"({one} {dice.choice(operators)} {other})", f"{dice.choice(known)}({one})"]
        forms += [f"[{one}, {other}]", f"({one} if {other} else {name})", f"{{{one}: {other}}}"]
        return dice.choice(forms)

    def statement() -> str:
        name = f"name{dice.randrange(6)}"
        forms = [f"{name} = {value(2)}", f"if {value(1)}: return {value(1)}", f"assert {value(2)}"]
        forms += [f"for {name} in {value(1)}: print({value(1)})", f"{name}.append({value(2)})"]
        return dice.choice(forms)

    lines = [f"    {statement()}" for _ in range(statements)]
    return "\n".join(["def answer(name0, name1):", *lines])


def renamed(text: str) -> str:
    return "# mine\n" + text.replace("name", "variable_").replace("answer", "solve")


def found(pairs: list[Pair]) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    return {(pair.left, pair.right) for pair in pairs}


def test_a_disguised_copy_is_the_same_text() -> None:
    pairs = find_pairs({"ada": {"t": COPIED}, "bob": {"t": DISGUISED}, "cleo": {"t": OTHER}}, [])
    assert found(pairs) == {(("ada", "bob"), ())}
    assert pairs[0].share == 1.0


def test_half_a_copy_is_found_and_shown() -> None:
    half = "\n".join(DISGUISED.splitlines()[:13])
    mixed = f"{half}\n\n{program(1, 6)}"
    (pair,) = find_pairs({"ada": {"t": COPIED}, "bob": {"u": mixed}}, [])
    assert (pair.left, pair.right) == (("ada",), ("bob",))
    reader = Reader()
    marked = [line.strip() for line, shared in reader.lines(mixed, pair.runs) if shared]
    assert "for i, n in enumerate(numbers):" in marked
    assert "def answer(name0, name1):" not in marked
    assert "def encode(key, values, epoch=0):" in [
        line for line, shared in reader.lines(COPIED, pair.runs) if shared
    ]


def test_what_was_handed_out_does_not_count() -> None:
    texts = {"ada": {"t": COPIED}, "bob": {"t": DISGUISED}}
    assert find_pairs(texts, [COPIED]) == []


def test_what_everybody_writes_does_not_count() -> None:
    common = {f"s{number:02}": {"t": f"{COPIED}\n{program(number)}"} for number in range(30)}
    assert find_pairs(common, []) == []
    few = {name: common[name] for name in sorted(common)[:COMMON]}
    assert find_pairs({**few, "zoe": {"t": renamed(COPIED + program(3))}}, [])


def test_short_answers_are_never_suspicious() -> None:
    text = "def total(values):\n    return sum(values)\n"
    assert find_pairs({"ada": {"t": text}, "bob": {"t": text}}, []) == []


@settings(max_examples=30, deadline=None)
@given(
    shared=st.integers(0, 10_000),
    before=st.integers(0, 10_000),
    after=st.integers(0, 10_000),
)
def test_every_shared_run_of_the_promised_length_is_found(
    shared: int, before: int, after: int
) -> None:
    """The guarantee of winnowing: a shared run of GRAM + WINDOW - 1 tokens shares a fingerprint."""
    reader = Reader()
    run = program(shared, 6).split("\n", 1)[1]
    left = f"{program(20_000 + before, 3)}\n{run}"
    right = f"{run}\n{program(40_000 + after, 3)}"
    assert len(reader.kinds(run)) >= GRAM + WINDOW - 1
    assert len(np.intersect1d(reader.fingerprints(left), reader.fingerprints(right)))


@pytest.mark.parametrize(
    "text", ["", "'", '"""', "def f(:\n  '", "é = 'ß' # ü", "\0\x01", "０１２", "x" * 10_000, "'\\"]
)
def test_any_text_can_be_read(text: str) -> None:
    reader = Reader()
    assert len(reader.fingerprints(text)) <= 1
    assert "\n".join(line for line, _ in reader.lines(text, frozenset())).count("\n") == text.count(
        "\n"
    )


def test_look_alike_letters_do_not_hide_a_copy() -> None:
    fancy = COPIED.replace("values", "ｖａｌｕｅｓ").replace("return", "ｒｅｔｕｒｎ")
    assert len(find_pairs({"ada": {"t": COPIED}, "bob": {"t": fancy}}, [])) == 1


def test_five_thousand_submissions_take_seconds() -> None:
    """Work grows with what is shared: five thousand texts and twenty planted copies."""
    texts = {f"s{number:04}": {"t": program(number)} for number in range(5000)}
    planted = {}
    for number in range(20):
        thief, victim = f"s{4999 - number:04}", f"s{number:04}"
        texts[thief] = {"t": renamed(texts[victim]["t"])}
        planted[thief] = victim
    began = time.process_time()
    pairs = find_pairs(texts, [program(1_000_000)])
    spent = time.process_time() - began
    assert {tuple(sorted(pair.left + pair.right)) for pair in pairs if pair.share > 0.9} == {
        tuple(sorted(pair)) for pair in planted.items()
    }
    assert all(pair.shared >= LEAST_SHARED for pair in pairs)
    assert spent < 60
