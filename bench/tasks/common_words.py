"""Common words: which ten of a numbered list's words come up most often."""

from __future__ import annotations

import random

from truffle.bench.tasks import words
from truffle.bench.tasks.sample import Draft, Task

COMMON = 10
SHORT, LONG = 4096, 8192

INTRODUCTION = "Here is a numbered list of words. Some of them come up far more often than the others.\n\n"
QUESTION = f"\n\nQuestion: Which {COMMON} words come up most often in the list above?"
ANSWER = f"\nAnswer: The {COMMON} words that come up most often in the list above are:"


def cwe(rng: random.Random, size: int, context: int) -> Draft:
    """A worked example, then a list in which ten words come up 30 times each and `size` others 3 times.

    In a context below 4,096 tokens it is 6 times and once. Above 8,192 ordinary words would run out: all are coded.
    """
    often, seldom, shown, shown_often = (6, 1, 20, 3) if context < SHORT else (30, 3, 40, 10)
    count = shown + COMMON + size
    chosen = words.plain(rng, count) if context <= LONG else words.coded(rng, count, "cvcvcv")
    example, rest = chosen[:shown], chosen[shown:]
    before = _list(rng, example, shown_often, seldom) + QUESTION + ANSWER + _numbered(example[:COMMON]) + "\n\n\n"
    return Draft(before + _list(rng, rest, often, seldom), QUESTION + ANSWER, tuple(rest[:COMMON]))


def _list(rng: random.Random, chosen: list[str], often: int, seldom: int) -> str:
    entries = chosen[:COMMON] * often + chosen[COMMON:] * seldom
    rng.shuffle(entries)
    return INTRODUCTION + _numbered(entries).lstrip()


def _numbered(entries: list[str]) -> str:
    return "".join(f" {number}. {word}" for number, word in enumerate(entries, 1))


COMMON_WORDS = [Task("cwe", 120, cwe)]
