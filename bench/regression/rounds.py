"""Rounds of three fresh processes that take turns: base, candidate, and base again as a control."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from truffle.bench.regression.arm import Arm
from truffle.bench.regression.rule import Turn

ARMS = ("base", "candidate", "control")
TREE_OF = {"base": "base", "candidate": "candidate", "control": "base"}
TURNS = 5
TURN_S = 0.02
FEWEST_CALLS, MOST_CALLS = 3, 200


@dataclass
class Times:
    """What rounds gave: turns in seconds by benchmark and round, and errors by benchmark and arm."""

    streams: dict[str, list[list[Turn]]] = field(default_factory=dict)
    broken: dict[str, dict[str, str]] = field(default_factory=dict)


@contextmanager
def arms(trees: Mapping[str, Path]) -> Iterator[dict[str, Arm]]:
    """One fresh process an arm."""
    started: dict[str, Arm] = {}
    try:
        for name in ARMS:
            started[name] = Arm(trees[TREE_OF[name]])
        yield started
    finally:
        for arm in started.values():
            arm.close()


def measure(trees: Mapping[str, Path], names: Sequence[str], rounds: int, say: Callable[[str], None]) -> Times:
    """Times of `rounds` rounds; a benchmark that breaks in one arm is timed no more."""
    shuffled, times = random.SystemRandom(), Times({name: [] for name in names})
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {', '.join(times.streams)}")
        with arms(trees) as running:
            _round(running, times, shuffled)
    return times


def _round(running: dict[str, Arm], times: Times, shuffled: random.Random) -> None:
    calls = {name: found for name in list(times.streams) if (found := _calls(running, name, times))}
    turns: dict[str, list[Turn]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name in shuffled.sample(list(turns), len(turns)):
            turn = _turn(running, name, calls[name], times, shuffled)
            turns[name].append(turn) if turn else turns.pop(name)
    for name, taken in turns.items():
        times.streams[name].append(taken)


def _calls(running: dict[str, Arm], name: str, times: Times) -> int:
    """Calls a turn, for base to take TURN_S; none where one arm cannot make the benchmark."""
    answers = ask_all(running, do="time", name=name, calls=1)
    if not _sound(name, answers, times):
        return 0
    return min(MOST_CALLS, max(FEWEST_CALLS, round(TURN_S / answers["base"]["seconds"])))


def _turn(running: dict[str, Arm], name: str, calls: int, times: Times, shuffled: random.Random) -> Turn | None:
    order = shuffled.sample(ARMS, len(ARMS))
    answers = {arm: running[arm].ask(do="time", name=name, calls=calls) for arm in order}
    if not _sound(name, answers, times):
        return None
    base, candidate, control = (answers[arm]["seconds"] for arm in ARMS)
    return base, candidate, control


def ask_all(running: dict[str, Arm], **question: Any) -> dict[str, dict[str, Any]]:
    """Every arm's answer to one question, worked out at the same time."""
    for arm in running.values():
        arm.send(**question)
    return {name: arm.receive() for name, arm in running.items()}


def _sound(name: str, answers: dict[str, dict[str, Any]], times: Times) -> bool:
    errors = {arm: answer["error"] for arm, answer in answers.items() if "error" in answer}
    if errors:
        times.broken[name] = errors
        times.streams.pop(name, None)
    return not errors
