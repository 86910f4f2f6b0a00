"""Side-by-side timing: contenders take turns in random order, so that drift hits all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

WARM_UP_CALLS = 2
TURN_CALLS = 16


def interleaved_s(
    contenders: Mapping[str, Callable[[], object]],
    seconds: float,
    settle: Callable[[], object] = lambda: None,
    min_rounds: int = 5,
    turn_calls: int = TURN_CALLS,
) -> dict[str, list[float]]:
    """Durations in seconds of each contender, a few a round, until `seconds` are spent.

    In a round every contender has a turn, in an order drawn anew: fixed orders alias with periodic preemption. A turn
    is `settle` and one call, both untimed, then `turn_calls` timed ones: a decoder's layers follow one another, and a
    call after a rest pays for cores that have gone to sleep. Contenders that launch work elsewhere must wait for it
    themselves.
    """
    order = list(contenders)
    for call in contenders.values():
        for _ in range(WARM_UP_CALLS):
            call()
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    shuffle = random.Random(0).shuffle
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[order[0]]) < min_rounds * turn_calls:
        shuffle(order)
        for name in order:
            settle()
            contenders[name]()
            samples[name] += [_duration_s(contenders[name]) for _ in range(turn_calls)]
    return samples


def sequence_s(
    calls: Mapping[str, Callable[[], object]], pause_s: float, seconds: float, min_rounds: int = 20
) -> dict[str, list[float]]:
    """Durations in seconds of calls that follow one another in every round, until `seconds` are spent.

    Before each round this thread looks at the clock for `pause_s`, as a decoder's does at what its device has done.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < min_rounds + WARM_UP_CALLS:
        resume = time.perf_counter() + pause_s
        while time.perf_counter() < resume:
            pass
        for name, call in calls.items():
            samples[name].append(_duration_s(call))
        rounds += 1
    return {name: times[WARM_UP_CALLS:] for name, times in samples.items()}


def _duration_s(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def layers_beyond_cache(layer_bytes: int) -> int:
    """Layers to walk in turn, so that one is out of the CPU's caches again when it comes round.

    A step walks all layers; one layer called again and again would find its rows and weights still in cache. Three
    times the last-level cache is taken to be beyond it.
    """
    from truffle.kernels import hardware

    cache_bytes = hardware.detect().cpu.last_level_cache_bytes or 64 << 20
    return max(1, -(-3 * cache_bytes // layer_bytes))


def quantiles_us(samples_s: list[float]) -> dict[str, float]:
    """median_us, p20_us and p80_us of durations in seconds."""
    p20, median, p80 = np.quantile(samples_s, [0.2, 0.5, 0.8]) * 1e6
    return {"median_us": float(median), "p20_us": float(p20), "p80_us": float(p80)}


def microseconds(samples_s: Sequence[float] | np.ndarray) -> list[float]:
    """Durations in seconds as a record keeps them."""
    return [round(1e6 * seconds, 1) for seconds in samples_s]


def median_ci95(samples: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """Percentile bootstrap 95% interval of the median."""
    medians = np.median(np.random.default_rng(0).choice(samples, (draws, len(samples))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def ratio_ci95(slower: np.ndarray, faster: np.ndarray, draws: int = 1000) -> tuple[float, float, float]:
    """Ratio of the medians, and its percentile bootstrap 95% interval."""
    generator = np.random.default_rng(0)
    drawn = [np.median(generator.choice(part, (draws, len(part))), axis=1) for part in (slower, faster)]
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    return float(np.median(slower) / np.median(faster)), float(low), float(high)
