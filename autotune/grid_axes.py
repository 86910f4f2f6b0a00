"""Which settings a grid is recorded of: few enough for a minute or two on the machine at hand."""

from __future__ import annotations

from truffle.autotune.grid import Value
from truffle.autotune.host_choices import thread_counts
from truffle.autotune.record import ON_GPU
from truffle.autotune.space import STORE_FORMATS
from truffle.model.config import FUSED

Axes = dict[str, tuple[Value, ...]]
SMALL_HOST, MOST_COUNTS = 2, 4
HITS: Axes = {"min_hits": (1, 2), "probing": ("none", "ball 1")}


def parts_for(cpus: int, gpu: str | None) -> dict[str, Axes]:
    """The parts of a grid for a host of `cpus`, and a card or none.

    Two cores leave room for more tables; more of them, and cards, have choices of their own.
    """
    threads = thread_counts(cpus)[-MOST_COUNTS:]
    if gpu:
        batches, tables = (1, 4, 8), {"K": (9, 10, 11), "L": (75, 150, 220)}
        host: Axes = {**tables, "min_hits": HITS["min_hits"], "batch_size": batches, "attend_with": (FUSED,)}
        card: Axes = {**tables, **HITS, "batch_size": batches, "attend_with": (ON_GPU,)}
        return {"host": {**host, "threads": (threads[-2], threads[-1])}, "card": card}
    tables = {"K": (10, 11, 12, 13), "L": (60, 100, 150, 220)}
    if cpus > SMALL_HOST:
        tables = {"K": (10, 11, 12), "L": (100, 150, 220)}
    run: Axes = {"store_format": STORE_FORMATS, "threads": threads}
    scan: Axes = {"method": ("scan",), "scan.bits": (1, 2, 4), "scan.budget": (0.005, 0.01, 0.02, 0.04)}
    return {"lsh": {**tables, **HITS, "attend_with": (FUSED,), **run}, "scan": {**scan, **run}}
