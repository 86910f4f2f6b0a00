"""Where the words beside the marks of the Pareto figure go, so that they cover as little as possible."""

from itertools import pairwise

from .front import pareto_front, roles
from .kl_axis import KlAxis
from .record import Study, Trial

# Corners only: error bars and the front run straight up, down and sideways from a mark.
SIDES = {"top left": (-1, 1), "bottom right": (1, -1), "top right": (1, 1), "bottom left": (-1, -1)}
LETTER_WIDTH, LINE_HEIGHT, NEAR = 0.009, 0.05, 0.015  # shares of the frame, between a phone's and a desk's
LETTERS = 28


def short_name(study: Study, trial: Trial) -> str:
    """What stands beside a trial's mark; empty for the trials of the search."""
    kinds = roles(study)[trial.number]
    lead = ", ".join(role for role in ("chosen", "default") if role in kinds)
    if lead:
        return lead
    if {"paper", "method"} & set(kinds):
        return _short(trial.name.removeprefix("lsh "))
    return _short(trial.name.removeprefix("dense: ")) if {"exact", "front"} <= set(kinds) else ""


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1].rstrip() + "…"


def label_sides(study: Study, axis: KlAxis, top: float) -> dict[int, str]:
    """Trial number to a corner of its mark, chosen one after the other; `top` is the highest tokens/s shown.

    A trial whose label would cover another's is left out: what is chosen and the default come first.
    """
    shown = sorted(
        (t for t in study.trials if t.plotted), key=lambda t: t is not study.chosen and t.origin != "default"
    )
    marks = {t.number: _share(axis, top, axis.at(t.kl), t.tokens_per_s) for t in shown}
    lines = [_share(axis, top, at, t.tokens_per_s) for t in shown for at in _along_bar(axis, t)]
    lines += [_share(axis, top, axis.at(b.kl), a.tokens_per_s) for a, b in pairwise(pareto_front(shown))]
    taken: list[tuple] = []
    sides = {}
    for trial in shown:
        letters, others = len(short_name(study, trial)), [at for n, at in marks.items() if n != trial.number]
        boxes = {side: _box(marks[trial.number], *corner, letters) for side, corner in SIDES.items()}
        side = min(boxes, key=lambda side, b=boxes, o=others: _covered(b[side], o, lines, taken))
        if letters and _overlaps(boxes[side], taken):
            continue
        sides[trial.number] = side
        taken += [boxes[side]] if letters else []
    return sides


def _share(axis: KlAxis, top: float, at: float, tokens_per_s: float) -> tuple[float, float]:
    return (at - axis.start) / (axis.high - axis.start), tokens_per_s / top


def _along_bar(axis: KlAxis, trial: Trial) -> list[float]:
    at, (left, right) = axis.at(trial.kl), axis.spread(trial.kl, trial.kl_low, trial.kl_high)
    return [at - left, at - left / 2, at + right / 2, at + right]


def _box(mark: tuple, across: int, along: int, letters: int) -> tuple[float, float, float, float]:
    x, y = mark[0] + 0.01 * across, mark[1] + 0.01 * along
    left, right = sorted((x, x + across * letters * LETTER_WIDTH))
    low, high = sorted((y, y + along * LINE_HEIGHT))
    return left, right, low, high


def _covered(box: tuple, marks: list[tuple], lines: list[tuple], taken: list[tuple]) -> int:
    left, right, low, high = box
    outside = left < 0 or right > 1 or low < 0 or high > 1
    overlaps = _overlaps(box, taken)
    # A label close above or below another mark would read as that mark's.
    mistaken = sum(left - NEAR <= x <= right + NEAR and low - NEAR <= y <= high + NEAR for x, y in marks)
    return 10 * outside + 6 * overlaps + 3 * mistaken + sum(left <= x <= right and low <= y <= high for x, y in lines)


def _overlaps(box: tuple, taken: list[tuple]) -> int:
    left, right, low, high = box
    return sum(left < b[1] and b[0] < right and low < b[3] and b[2] < high for b in taken)
