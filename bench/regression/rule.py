"""When times say that a revision is slower: a pure function of the times of paired rounds.

A round is three fresh processes: base, candidate, and base again as a control. They take turns, in an order drawn anew
each time; a turn's time is the median of a few calls. A round gives two figures, medians over its turns:

    shift   = ln candidate - ln base      what the candidate does to the time
    control = ln control - ln base        what nothing at all does to it (A/A)

Turns of one round share their processes' luck (memory layout, page colours), so rounds are what is counted. Where
nothing changed, base and candidate could be exchanged, so that the sign of a shift is a fair coin whatever the noise
is. Bounds of the median are therefore order statistics, as in the sign test: bursts and heavy tails widen them and
cannot fool them. With t = ln(1 + threshold), and both bounds one-sided:

    slower      the lower bound is above 0, and the median is at least t and beyond whatever the control reaches
    same        the upper bound is below t, and the control's own median is within t
    uncertain   neither: too much noise for so few rounds

The lower bound is that of level FALSE_ALARM / benchmarks (Bonferroni): of unchanged benchmarks, however many, one or
more is called slower in at most 5% of runs. The upper bound is that of level MISS: what is slower by the threshold or
more is called the same with that probability at most, in each of two stages.
`tests/bench/regression/test_rule.py` holds the rule to both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

FALSE_ALARM = 0.05
MISS = 0.025
SCREENING_ROUNDS = 6  # enough to clear a benchmark, not to convict one of many
TRIAL_ROUNDS = 15  # or more

BASE, CANDIDATE, CONTROL = range(3)
Turn = tuple[float, float, float]  # of base, candidate and control, in any one unit of time
Streams = Mapping[str, Sequence[Sequence[Turn]]]  # turns by benchmark and round


@dataclass(frozen=True)
class Verdict:
    """What the times of one benchmark say.

    Attributes:
        call: "slower", "same" or "uncertain".
        ratio, low, high: candidate's time over base's, and its bounds.
        control_low, control_high: bounds of the control's time over base's.
        rounds: how many there were.
    """

    call: str
    ratio: float
    low: float
    high: float
    control_low: float
    control_high: float
    rounds: int


def in_two_stages(
    names: Sequence[str], measure: Callable[[Sequence[str], int], Streams], threshold: float
) -> tuple[dict[str, Verdict], dict[str, Sequence[Sequence[Turn]]]]:
    """Verdicts, and the rounds they rest on: a screening of all, then a trial of those it did not clear.

    The trial has rounds of its own, and only these count in it: whoever was unlucky in the screening is not judged by
    that. It has as many as it takes to convict all who are in it, TRIAL_ROUNDS at least. `measure` times benchmarks
    for a number of rounds.
    """
    streams = dict(measure(names, SCREENING_ROUNDS))
    verdicts = judge(streams, threshold)
    suspects = [name for name, verdict in verdicts.items() if verdict.call != "same"]
    if suspects:
        again = measure(suspects, max(TRIAL_ROUNDS, rounds_to_convict(len(suspects))))
        streams, verdicts = streams | dict(again), verdicts | judge(again, threshold)
    return verdicts, streams


def judge(streams: Streams, threshold: float) -> dict[str, Verdict]:
    """A verdict a benchmark, of its turns by round; `threshold` is a share, such as 0.1."""
    return {name: _verdict(rounds, threshold, FALSE_ALARM / len(streams)) for name, rounds in streams.items()}


def _verdict(rounds: Sequence[Sequence[Turn]], threshold: float, false_alarm: float) -> Verdict:
    shifts, controls = (
        [statistics.median(math.log(turn[arm] / turn[BASE]) for turn in turns) for turns in rounds]
        for arm in (CANDIDATE, CONTROL)
    )
    least = math.log1p(threshold)
    middle, nothing = statistics.median(shifts), statistics.median(controls)
    low, high = bounds(shifts, false_alarm)[0], bounds(shifts, MISS)[1]
    control_low, control_high = bounds(controls, MISS)
    call = "uncertain"
    if low > 0 and middle >= max(least, -control_low, control_high):
        call = "slower"
    elif high < least and abs(nothing) < least:
        call = "same"
    ratio, low, high = math.exp(middle), math.exp(low), math.exp(high)
    return Verdict(call, ratio, low, high, math.exp(control_low), math.exp(control_high), len(rounds))


def bounds(values: Sequence[float], level: float) -> tuple[float, float]:
    """One-sided bounds of the median, each wrong with probability `level` at most; infinite where there are too few."""
    ordered, count = sorted(values), len(values)
    tail, below = 0.0, 0  # the k-th smallest exceeds the median with probability P(Binomial(count, 1/2) < k)
    while below < count and (tail := tail + math.comb(count, below) / 2**count) <= level:
        below += 1
    return (ordered[below - 1], ordered[count - below]) if below else (-math.inf, math.inf)


def rounds_to_convict(benchmarks: int, spare: int = 1) -> int:
    """Fewest rounds in which so many benchmarks can be called slower, although `spare` rounds say otherwise."""
    count = 1
    while sum(math.comb(count, k) for k in range(spare + 1)) / 2**count > FALSE_ALARM / benchmarks:
        count += 1
    return count
