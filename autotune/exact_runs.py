"""Runs exact attention on the target where that is this machine: the rival that sampling has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from truffle.autotune.baselines import ON_CPU, ON_GPU, Baseline
from truffle.autotune.measuring import Bench, MeasureError
from truffle.model.config import DecodeConfig, DenseParameters, Execution


def measured_ways(ways: list[Baseline], bench: Bench, threads: int, say: Callable[[str], None]) -> list[Baseline]:
    """The ways, those that keep everything in one place as run here; offloading stays estimated, in its favour."""
    return [_way(way, bench, threads, say) if way.fits and way.name in (ON_GPU, ON_CPU) else way for way in ways]


def _way(way: Baseline, bench: Bench, threads: int, say: Callable[[str], None]) -> Baseline:
    say(f"measuring exact attention, {way.name}")
    return measured(way, bench, threads)


def measured(way: Baseline, bench: Bench, threads: int) -> Baseline:
    """The way at batches up to its largest, or as far as memory lasts, at the fastest of them."""
    assert way.batch_size is not None
    batches = [batch for batch in (1 << power for power in range(10)) if batch < way.batch_size] + [way.batch_size]
    best = replace(way, fits=False, reason=None, tokens_per_s=None, step=None, step_s=None)
    for batch in batches:
        execution = Execution(threads=threads, batch_size=batch)
        try:
            found = bench.measure(DecodeConfig(parameters=DenseParameters(), execution=execution), "throughput")
        except MeasureError as error:
            best = best if best.fits else replace(best, reason=f"failed when it was run: {error}")
            break
        rate = found.figures["tokens_per_s"]
        if best.fits and rate <= (best.tokens_per_s or 0.0):
            break
        best = replace(way, batch_size=batch, tokens_per_s=rate, step=None, step_s=batch / rate, kind="measured")
    return best
