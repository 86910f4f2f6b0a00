"""Arguments at workload size of the operations that make an index and look keys up in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from truffle.bench.layer_data import LayerData
from truffle.kernels.collision import TABLE_CELLS
from truffle.kernels.quantise import as_stored
from truffle.kernels.store import empty_segment

PROBES = 8  # buckets a table for direct_probes, where the sizes name no other number


def hash_codes(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Of all keys."""
    s = data.sizes
    keys = as_stored(data.keys_and_values[0], s.dtype).contiguous()
    codes = torch.empty(keys.shape[0], s.L, keys.shape[1], dtype=torch.uint16)
    return {"x": keys, "planes": data.planes, "center": data.center, "codes": codes, "K": s.K}


def build_tables(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Of the first segment's codes."""
    s, codes = data.sizes, data.segment_codes[0]
    segment = empty_segment(0, codes.shape[0], s.K, s.L, codes.shape[2])
    return {"codes": codes, "offsets": segment.offsets, "ids": segment.ids, "K": s.K}


def direct_probes(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """For PROBES buckets a table where the queries do not direct theirs."""
    s, q = data.sizes, data.queries(draw).float()
    buckets = s.probing.amount if s.probing.kind == "directed" else min(PROBES, 1 << s.K)
    margins = (torch.nn.functional.normalize(q, dim=-1) @ data.planes).view(s.batch, s.heads, s.L, s.K)
    return {
        "margins": margins,
        "query_codes": torch.empty(*margins.shape[:3], buckets, dtype=torch.uint16),
        "log_u": torch.empty(s.batch * s.heads, TABLE_CELLS + 1),
        "min_hits": s.min_hits,
    }


def retrieve(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Outputs not yet filled."""
    s, rows = data.sizes, data.sizes.batch * data.sizes.heads
    return {
        "tables": [data.segments] * s.batch,
        "query_codes": data.query_codes(draw),
        "ids": torch.empty(rows, s.context, dtype=torch.int32),
        "count": torch.empty(rows, dtype=torch.int32),
        "min_hits": s.min_hits,
    }


TABLES: dict[str, Callable[[LayerData, int], dict[str, Any]]] = {
    "hash_codes": hash_codes,
    "build_tables": build_tables,
    "direct_probes": direct_probes,
    "retrieve": retrieve,
}
