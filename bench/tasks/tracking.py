"""Variable tracking: which variables hold a value that is passed on from one to the next."""

from __future__ import annotations

import random

from truffle.bench.tasks import filler, words
from truffle.bench.tasks.sample import Draft, Task

HOPS = 4
EXAMPLE_LINES = 10

INTRODUCTION = "The text below passes values from variable to variable. Follow who gets which.\n\n"
QUESTION = "\n\nQuestion: Which variables hold the value {value} in the text above?"
ANSWER = "\nAnswer: The {count} variables that hold the value {value} in the text above are: VAR"


def chain(names: list[str], value: str) -> list[str]:
    """The lines that give the first variable the value and each later one that of the one before it."""
    return [f"VAR {name} = {given}" for name, given in zip(names, [value, *(f"VAR {n}" for n in names)], strict=False)]


def vt(rng: random.Random, size: int, context: int) -> Draft:
    """A worked example with names of three letters, then `size` lines of noise with a chain of five-letter names."""
    number, example_number = words.numbers(rng, 2, 5)
    shown = _variables(rng, "cvc")
    solved = _asked(example_number) + f" {', VAR '.join(shown)}\n\n\n"
    example = _text(rng, shown, example_number, EXAMPLE_LINES) + solved
    names = _variables(rng, "cvcvc")
    return Draft(example + _text(rng, names, number, size), _asked(number), tuple(names))


def _variables(rng: random.Random, pattern: str) -> list[str]:
    return [name.upper() for name in words.coded(rng, HOPS + 1, pattern)]


def _text(rng: random.Random, names: list[str], value: str, size: int) -> str:
    lines = filler.noise(size)
    places = sorted(rng.sample(range(size + 1), len(names)))
    for place, line in reversed(list(zip(places, chain(names, value), strict=True))):
        lines.insert(place, line)
    return INTRODUCTION + "\n".join(lines)


def _asked(value: str) -> str:
    return QUESTION.format(value=value) + ANSWER.format(value=value, count=HOPS + 1)


TRACKING = [Task("vt", 48, vt, smallest=HOPS)]
