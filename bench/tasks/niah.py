"""Needles in a haystack: numbers or identifiers kept for names, among text or among other needles."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from truffle.bench.tasks import filler, words
from truffle.bench.tasks.sample import Draft, Task

DEPTHS = 40
KINDS = {"number": lambda rng, count: words.numbers(rng, count, 7), "code": words.uuids}
TOKENS = {"number": 16, "code": 48}
COUNTS = {1: "", 4: "four "}  # said in words, or small models stop after the first

INTRODUCTION = "A few secret {kind}s are written down in the text below. Keep them in mind: you will be asked.\n\n"
NEEDLE = "The secret {kind} for {key} is: {value}."


@dataclass(frozen=True)
class Niah:
    """One variant of RULER's needle in a haystack.

    Attributes:
        haystack: needles are lines among the same line, sentences of an essay, or lines among other needles.
        names: what names a needle: two words, or an identifier.
        kind: what it keeps: seven digits, or an identifier.
        keys: names in the text; queries: of these, asked for; values: for each name.
    """

    haystack: Literal["noise", "essay", "needles"]
    names: Literal["words", "code"] = "words"
    kind: Literal["number", "code"] = "number"
    keys: int = 1
    queries: int = 1
    values: Literal[1, 4] = 1

    def __call__(self, rng: random.Random, size: int, context: int) -> Draft:
        """A draft with `size` lines or sentences beside the needles asked about and their rivals."""
        rivals = size if self.haystack == "needles" else 0
        names = (words.uuids if self.names == "code" else words.names)(rng, self.keys + rivals)
        kept = KINDS[self.kind](rng, len(names) * self.values)
        needles = [
            NEEDLE.format(kind=self.kind, key=name, value=value)
            for at, name in enumerate(names)
            for value in kept[at * self.values : (at + 1) * self.values]
        ]
        asked = names[: self.queries]
        return Draft(
            INTRODUCTION.format(kind=self.kind) + self._hidden(rng, needles, size),
            self._question(asked),
            tuple(kept[: self.queries * self.values]),
        )

    def _hidden(self, rng: random.Random, needles: list[str], size: int) -> str:
        if self.haystack == "needles":
            rng.shuffle(needles)
            return "\n".join(needles)
        if self.haystack == "noise":
            return "\n".join(_scattered(filler.noise(size), needles, rng.sample(range(size + 1), len(needles))))
        rng.shuffle(needles)
        depths = [depth * size // (DEPTHS - 1) for depth in rng.sample(range(DEPTHS), len(needles))]
        return " ".join(_scattered(filler.essay(rng, size), needles, depths))

    def _question(self, asked: list[str]) -> str:
        listed = asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])}, and {asked[-1]}"
        be, plural = ("are", "s") if self.queries * self.values > 1 else ("is", "")
        count, what = COUNTS[self.values], f"secret {self.kind}{plural} for {listed}"
        question = f"\n\nQuestion: Going by the text above, what {be} {f'all {count}' if count else 'the '}{what}?"
        return f"{question}\nAnswer: The {count}{what} {be}:"


def _scattered(lines: list[str], needles: list[str], depths: list[int]) -> list[str]:
    """The lines with a needle before line `depth` each, in that order."""
    at = sorted(zip(depths, needles, strict=True), reverse=True)
    for depth, needle in at:
        lines.insert(depth, needle)
    return lines


def _task(name: str, variant: Niah) -> Task:
    answers = variant.queries * variant.values
    return Task(name, 16 + TOKENS[variant.kind] * answers, variant, smallest=max(variant.keys * variant.values, 1))


VARIANTS = {
    "niah_single_1": Niah("noise"),
    "niah_single_2": Niah("essay"),
    "niah_single_3": Niah("essay", kind="code"),
    "niah_multikey_1": Niah("essay", keys=4),
    "niah_multikey_2": Niah("needles"),
    "niah_multikey_3": Niah("needles", names="code", kind="code"),
    "niah_multivalue": Niah("essay", values=4),
    "niah_multiquery": Niah("essay", keys=4, queries=4),
}
NIAH = [_task(name, variant) for name, variant in VARIANTS.items()]
