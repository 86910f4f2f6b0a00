"""What a decode step of the suites' small model reads, holds and misses: figures that are the same at every run."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from truffle.bench import suite
from truffle.bench.allocations import allocated_bytes
from truffle.model.generate import DensityMeter
from truffle.model.llama import Decoder
from truffle.model.methods.base import LayerCache

STORED = ("lsh", "scan")


def decode_facts(method: str, threads: int) -> dict[str, Any]:
    """Figures of one step.

    bytes_moved: weights once, and the distinct rows read by every key/value head; what indexes and codes take to read
    is not in it. error: ||l' - l|| / ||l|| of logits l from those of exact attention. index_bytes: of all that the
    layers keep, keys and values too.
    """
    made, exact = suite.decoder(method, threads), suite.decoder("dense", threads)
    made.observer = meter = DensityMeter()
    logits, wanted = suite.next_logits(made).float(), suite.next_logits(exact).float()
    made.observer = None
    return {
        "bytes_moved": _weight_bytes(made) + sum(map(partial(_row_bytes, made), made.caches)),
        "density": meter.density,
        "error": float((logits - wanted).norm() / wanted.norm()),
        "index_bytes": sum(cache.memory_bytes for cache in made.caches),
        "allocated_bytes": allocated_bytes(partial(suite.next_logits, made)),
    }


def _weight_bytes(made: Decoder) -> int:
    return suite.SHAPE.parameters * made.weights.dtype.itemsize


def _row_bytes(made: Decoder, cache: LayerCache) -> int:
    """Of the keys and values that a layer read; tables and codes lead to rows of a store, all else keeps its own."""
    store = getattr(torch, made.config.execution.store_format)
    stored = made.config.parameters.method in STORED and cache.usage() is not None
    dtype = store if stored else made.weights.dtype
    return int(cache.rows().sum()) * 2 * suite.SHAPE.head_dim * dtype.itemsize
