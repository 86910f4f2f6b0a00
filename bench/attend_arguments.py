"""Arguments at workload size of the operations that attend, and of the one that merges what they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from truffle.bench.layer_data import LayerData
from truffle.bench.table_arguments import retrieve
from truffle.kernels import registry


def sparse_attend(data: LayerData, draw: int = 0, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """Over the keys that the tables sample, or over `found`, the ids and count of a retrieve to come."""
    s = data.sizes
    found = found or _found(data, draw)
    return {
        "q": data.queries(draw),
        "stores": [data.store] * s.batch,
        "ids": found["ids"],
        "count": found["count"],
        "center": data.center.expand(s.batch, -1, -1).contiguous(),
        "law": data.probes(draw)[1],
        "log_weight": None,
        "out": torch.empty(s.batch, s.heads, s.head_dim),
        "lse": torch.empty(s.batch, s.heads),
        "scale": s.head_dim**-0.5,
    }


def retrieve_attend(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Outputs not yet filled."""
    found = retrieve(data, draw)
    attend = sparse_attend(data, draw, found)
    return {name: value for name, value in (found | attend).items() if name not in ("ids", "log_weight")}


def dense_attend(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Over the whole context."""
    s = data.sizes
    keys, values = (part.expand(s.batch, -1, -1, -1).contiguous() for part in data.keys_and_values)
    return {
        "q": data.queries(draw),
        "keys": keys,
        "values": values,
        "lengths": torch.full((s.batch,), s.context, dtype=torch.int32),
        "out": torch.empty(s.batch, s.heads, s.head_dim),
        "lse": torch.empty(s.batch, s.heads),
        "scale": s.head_dim**-0.5,
    }


def merge_states(data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Of two parts."""
    s = data.sizes
    generator = torch.Generator().manual_seed(s.seed + draw)
    return {
        "outs": torch.randn(2, s.batch, s.heads, s.head_dim, generator=generator),
        "lses": torch.randn(2, s.batch, s.heads, generator=generator),
        "out": torch.empty(s.batch, s.heads, s.head_dim),
        "lse": torch.empty(s.batch, s.heads),
    }


def _found(data: LayerData, draw: int) -> dict[str, Any]:
    """What retrieve finds, in no more room than it takes."""
    found = retrieve(data, draw)
    registry.get("retrieve")(**found, threads=data.threads)
    longest = max(int(found["count"].max()), 1)
    return {"ids": found["ids"][:, :longest].contiguous(), "count": found["count"]}


ATTENDING: dict[str, Callable[[LayerData, int], dict[str, Any]]] = {
    "sparse_attend": sparse_attend,
    "retrieve_attend": retrieve_attend,
    "dense_attend": dense_attend,
    "merge_states": merge_states,
}
