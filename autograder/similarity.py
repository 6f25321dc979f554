"""Which solutions are suspiciously alike: fingerprints of tokens, by winnowing.

Text is read as tokens: names, numbers and strings lose their spelling, comments, docstrings and
layout disappear, keywords and built-in names stay.  Of all runs of `GRAM` tokens winnowing keeps
those whose hash is the least in a window of `WINDOW` (Schleimer, Wilkerson and Aiken, *Winnowing:
local algorithms for document fingerprinting*, SIGMOD 2003), so every run of `GRAM + WINDOW - 1`
tokens that two texts share is found, and none shorter than `GRAM`.  What the hand-out contains, and
what more than `COMMON` different texts share, says nothing and is left out.  An inverted index from
fingerprint to texts makes the work proportional to what is shared, not to the number of pairs.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

GRAM, WINDOW = 12, 9
COMMON = 10
"""A run of tokens in more different texts than this is taken for a common way to write it."""
LEAST_SHARED, LEAST_SHARE = 10, 0.4
"""Fingerprints, and share of the smaller text's, from which on a pair is reported."""
TOKEN = re.compile(
    r"""\#[^\n]*
      | [rRbBfFuU]{0,2}(?:\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z))
      | [rRbBfFuU]{0,2}(?:"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)
      | ,\s*[)\]}]
      | [^\W\d]\w*
      | \d[\w.]*
      | \*\*=? | //=? | <<=? | >>=? | -> | := | [-+*/%@&|^=<>!]=? | [~.,:;()\[\]{}]
    """,
    re.X | re.S,
)
KEPT = frozenset(keyword.kwlist) | {name for name in dir(builtins) if name.islower()}

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class _Kinds(dict[str, int]):
    """The number of each token's kind; 0 for what does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}

    def __missing__(self, token: str) -> int:
        bare = token.lstrip("rRbBfFuU")
        if token[0] == "#" or bare[:3] in ('"""', "'''"):
            kind = ""
        elif bare[:1] in ('"', "'"):
            kind = "text"
        elif token[0] == ",":  # one before a closing bracket is layout
            kind = token[-1]
        elif token[0].isdigit():
            kind = "number"
        elif (token[0].isalpha() or token[0] == "_") and token not in KEPT:
            kind = "name"
        else:
            kind = token
        self[token] = number = self.numbers.setdefault(kind, len(self.numbers) + 1) if kind else 0
        return number


def _mix(values: Hashes) -> Hashes:
    """Scramble 64 bits, so that the least hash is any hash (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


POWERS = np.cumprod(np.full(GRAM, 0x9E3779B97F4A7C15, dtype=np.uint64), dtype=np.uint64)


def _grams(kinds: Hashes) -> Hashes:
    """The hash of each run of `GRAM` tokens."""
    if len(kinds) < GRAM:
        return np.empty(0, np.uint64)
    runs = sliding_window_view(_mix(kinds), GRAM)
    return _mix((runs * POWERS).sum(axis=1, dtype=np.uint64))


def _winnowed(grams: Hashes) -> Hashes:
    """The least hash of each window, the rightmost of equal ones; each once, in order of size."""
    if len(grams) <= WINDOW:
        return np.unique(grams[grams == grams.min()]) if len(grams) else grams
    windows = sliding_window_view(grams[::-1], WINDOW)
    places = windows.argmin(axis=1) + np.arange(len(windows))
    return np.unique(grams[::-1][np.unique(places)])


class Reader:
    """Turns texts into fingerprints; a text that it has seen is not read again."""

    def __init__(self) -> None:
        self._kinds = _Kinds()
        self._known: dict[str, Hashes] = {}

    def kinds(self, text: str) -> Hashes:
        """The numbers of the tokens that count."""
        plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
        numbers = map(self._kinds.__getitem__, TOKEN.findall(plain))
        found = np.fromiter(numbers, dtype=np.uint64)
        return found[found > 0]

    def grams(self, text: str) -> Hashes:
        """All runs of tokens of a text."""
        return np.unique(_grams(self.kinds(text)))

    def fingerprints(self, text: str) -> Hashes:
        """The runs that winnowing keeps."""
        if text not in self._known:
            self._known[text] = _winnowed(_grams(self.kinds(text)))
        return self._known[text]

    def lines(self, text: str, shared: frozenset[int]) -> list[tuple[str, bool]]:
        """The lines of a text, each with whether it belongs to a shared run."""
        plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
        tokens = [found for found in TOKEN.finditer(plain) if self._kinds[found[0]]]
        numbers = np.array([self._kinds[found[0]] for found in tokens], dtype=np.uint64)
        marked: set[int] = set()
        for place, gram in enumerate(_grams(numbers).tolist()):
            if gram in shared:
                first = plain.count("\n", 0, tokens[place].start())
                last = plain.count("\n", 0, tokens[place + GRAM - 1].end())
                marked.update(range(first, last + 1))
        return [(line, number in marked) for number, line in enumerate(plain.split("\n"))]


@dataclass(frozen=True)
class Pair:
    """Two texts that share much, each with all the students who handed it in.

    `shared` counts fingerprints, `share` is their part of the smaller text's; `runs` are the shared
    ones.  Where both are the same text but for names, comments and layout, `right` is empty.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    shared: int
    share: float
    runs: frozenset[int]

    @property
    def two(self) -> tuple[str, str]:
        """The students whose texts stand side by side."""
        return self.left[0], (self.right or self.left[1:])[0]


def find_pairs(
    texts: Mapping[str, Mapping[str, str]], template: Iterable[str], reader: Reader | None = None
) -> list[Pair]:
    """The pairs among `texts` (student to cell to code) that are alike, the most alike first.

    `template` are the texts that everybody was given.
    """
    reader = reader or Reader()
    given = np.unique(
        np.concatenate([np.empty(0, np.uint64), *(reader.grams(text) for text in template)])
    )
    groups: dict[bytes, list[str]] = {}
    prints: dict[bytes, Hashes] = {}
    for student in sorted(texts):
        found = [reader.fingerprints(text) for text in texts[student].values()]
        own = np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
        own = own[~np.isin(own, given)]
        if len(own) >= LEAST_SHARED:
            key = own.tobytes()
            groups.setdefault(key, []).append(student)
            prints[key] = own
    members = [tuple(group) for group in groups.values()]
    documents = [prints[key] for key in groups]
    pairs = [
        Pair(group, (), len(own), 1.0, frozenset(own.tolist()))
        for group, own in zip(members, documents, strict=True)
        if len(group) > 1
    ]
    pairs += _across(members, documents)
    return sorted(pairs, key=lambda pair: (-pair.share * pair.shared, pair.left, pair.right))


def _across(members: Sequence[tuple[str, ...]], documents: Sequence[Hashes]) -> list[Pair]:
    """The pairs of different texts, by way of the index from fingerprint to texts."""
    if len(documents) < 2:
        return []
    prints = np.concatenate(documents)
    owners = np.repeat(np.arange(len(documents)), [len(own) for own in documents])
    order = np.argsort(prints, kind="stable")
    prints, owners = prints[order], owners[order]
    starts = np.flatnonzero(np.concatenate([[True], prints[1:] != prints[:-1]]))
    sizes = np.diff(np.append(starts, len(prints)))
    rare = np.repeat(sizes <= COMMON, sizes)
    own_rare = np.bincount(owners[rare], minlength=len(documents))
    keys = [np.empty(0, np.int64)]
    for size in range(2, COMMON + 1):
        rows = owners[starts[sizes == size][:, None] + np.arange(size)]
        keys += [
            rows[:, one] * len(documents) + rows[:, other]
            for one, other in itertools.combinations(range(size), 2)
        ]
    numbers, counts = np.unique(np.concatenate(keys), return_counts=True)
    numbers = numbers[counts >= LEAST_SHARED]
    pairs = []
    for number, shared in zip(numbers, counts[counts >= LEAST_SHARED], strict=True):
        one, other = divmod(int(number), len(documents))
        share = float(shared / min(own_rare[one], own_rare[other]))
        if share >= LEAST_SHARE:
            runs = frozenset(np.intersect1d(documents[one], documents[other]).tolist())
            pairs.append(Pair(members[one], members[other], int(shared), share, runs))
    return pairs
