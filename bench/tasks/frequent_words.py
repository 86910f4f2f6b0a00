"""Frequent words: which three coded words a text with Zipf's frequencies has most of."""

from __future__ import annotations

import math
import random

from truffle.bench.tasks import words
from truffle.bench.tasks.sample import Draft, Task

DOTS = "..."
ALPHA = 2.0
ZETA = math.pi**2 / 6  # of ALPHA
ASKED = slice(1, 4)
TOKENS_A_WORD = 50
SMALLEST = 73  # from here on ranks 1 to 5 all differ in frequency

INTRODUCTION = "The text below is in code. Take note of how often each coded word comes up in it.\n\n"
QUESTION = f"\n\nQuestion: Leaving aside the dots '{DOTS}', which three coded words come up most often above?"
ANSWER = "\nAnswer: Leaving aside the dots, the three coded words that come up most often above are"


def frequencies(total: int, vocabulary: int) -> list[int]:
    """How often each rank's word comes up among about `total`: ``total rank^-alpha / zeta(alpha)``, rounded down."""
    return [int(total * rank**-ALPHA / ZETA) for rank in range(1, vocabulary + 1)]


def fwe(rng: random.Random, size: int, context: int) -> Draft:
    """About `size` words in random order; the most frequent are dots, and the three ranks below are asked for."""
    vocabulary = max(context // TOKENS_A_WORD, ASKED.stop + 1)
    ranked = [DOTS, *words.coded(rng, vocabulary - 1, "cvcvcv")]
    counts = frequencies(size, vocabulary)
    text = [word for word, count in zip(ranked, counts, strict=True) for _ in range(count)]
    rng.shuffle(text)
    return Draft(INTRODUCTION + " ".join(text), QUESTION + ANSWER, tuple(ranked[ASKED]))


FREQUENT_WORDS = [Task("fwe", 50, fwe, SMALLEST)]
