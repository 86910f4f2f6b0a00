"""Places for words beside lines of a figure, so that they cover neither one another nor, where it can be, the lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

DISTANCES, ANGLES = (7, 13, 22, 34, 48, 64, 84), np.arange(24) * np.pi / 12
OUTSIDE, ON_WORDS, ON_MARKS, ON_LINES, NEAR_LINES, ON_THREAD = 1e4, 1e3, 20.0, 3.0, 1.0, 5.0
PER_DISTANCE, PER_END = 0.5, 4.0
NEAR, NEAR_MARKS, GAP, STEP, ROUNDS = 5.0, 11.0, 1.5, 4.0, 3


@dataclass(frozen=True)
class Words:
    """What is to be placed: [m, 2] ends to which it may be tied, the best first, and its width and height."""

    ends: np.ndarray
    width: float
    height: float


@dataclass(frozen=True)
class Place:
    """The middle of words, and the end of their line to which they belong, `distance` away from their edge."""

    x: float
    y: float
    end: tuple[float, float]
    distance: float


def free_places(
    words: Sequence[Words], marks: np.ndarray, lines: np.ndarray, frame: Sequence[float], taken: Iterable = ()
) -> list[Place]:
    """A place for each, chosen one after the other and then again, knowing the others'.

    Args:
        marks, lines: [m, 2] points that are better not covered, of marks and along lines.
        frame: left, right, low and high edge; taken: such boxes that are not free. All in one unit, such as points.
    """
    found: list[Place | None] = [None] * len(words)
    for _ in range(ROUNDS):
        for at, own in enumerate(words):
            others = [_box(words[i], p.x, p.y) for i, p in enumerate(found) if p and i != at]
            foreign = marks[~(marks[:, None] == own.ends).all(-1).any(-1)]
            found[at] = _best(own, foreign, lines, frame, [*others, *taken])
    return [place for place in found if place]


def _candidates(words: Words) -> Iterable[Place]:
    for x, y in words.ends.tolist():
        for distance in DISTANCES:
            for across, along in zip(np.cos(ANGLES).tolist(), np.sin(ANGLES).tolist(), strict=True):
                middle = (x + across * (distance + words.width / 2), y + along * (distance + words.height / 2))
                yield Place(*middle, (x, y), distance)


def _best(words: Words, marks: np.ndarray, lines: np.ndarray, frame: Sequence[float], taken: list) -> Place:
    """The candidate that costs least; threads, which take longest to judge, only where they may still decide."""
    priced = [(_cost(words, place, marks, lines, frame, taken), place) for place in _candidates(words)]
    best, least = None, np.inf
    for cost, place in sorted(priced, key=lambda one: one[0]):
        if best and cost >= least:
            break
        if (cost := cost + _thread_cost(place, marks, lines, taken)) < least:
            best, least = place, cost
    assert best
    return best


def _box(words: Words, x: float, y: float) -> tuple[float, float, float, float]:
    across, along = words.width / 2 + GAP, words.height / 2 + GAP
    return x - across, x + across, y - along, y + along


def _cost(words: Words, place: Place, marks: np.ndarray, lines: np.ndarray, frame, taken: list) -> float:
    left, right, low, high = box = _box(words, place.x, place.y)
    outside = left < frame[0] or right > frame[1] or low < frame[2] or high > frame[3]
    overlaps = sum(left < b[1] and b[0] < right and low < b[3] and b[2] < high for b in taken)
    near, by_marks = ((left - by, right + by, low - by, high + by) for by in (NEAR, NEAR_MARKS))
    return (
        OUTSIDE * outside + ON_WORDS * overlaps
        + ON_MARKS * _inside(marks, by_marks).sum() + ON_LINES * _inside(lines, box).sum()
        + NEAR_LINES * _inside(lines, near).sum() + PER_DISTANCE * place.distance
        + PER_END * (place.end != tuple(words.ends[0]))
    )  # fmt: skip


def _thread_cost(place: Place, marks: np.ndarray, lines: np.ndarray, taken: list) -> float:
    """What ties far words to their end should not run through others' words, nor over lines."""
    thread = np.linspace(place.end, (place.x, place.y), 2 + int(place.distance / STEP))[1:]
    crossed = sum(_inside(thread, box).any() for box in taken)
    touched = (np.abs(thread[1:, None] - lines).max(-1) < STEP / 2).any(-1).sum()
    hit = (np.abs(thread[:, None] - marks).max(-1) < STEP).any(0).sum()
    return ON_WORDS * crossed + ON_MARKS * hit + ON_THREAD * touched


def _inside(points: np.ndarray, box) -> np.ndarray:
    x, y = points.T
    return (box[0] <= x) & (x <= box[1]) & (box[2] <= y) & (y <= box[3])
